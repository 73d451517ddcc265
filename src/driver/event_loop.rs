//! The loop itself: one turn after another, each of which takes the commands, the events and what has come
//! due, and then sleeps until the next.
//!
//! A turn is short, whatever there is to do: what is not done in it is kept for the next. So a timer or a
//! command of one socket waits for a bounded piece of others' work, however much of that there is.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::clock::{self, Timers};
use super::errno::os_code;
use super::linger::{LingerState, POLL_INTERVAL};
use super::ready::{Iteration, Readiness, ReadyQueue};
use super::shared::Connection;
use super::sync::mio::{Events, Interest, Poll, Token};
use super::sync::thread_local;
use super::table::Slab;
use super::watch::{IDLE_DELAY, NextStep};
use super::wire::Wire;
use super::young::{RETAINED_CAPACITY, Taken};
use super::{Command, LoopHandle, LoopState, catch_panic, dial, log_debug};
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::machine::AttemptId;
use crate::process::ForkMark;

/// No slot of the table has it.
pub(super) const WAKER_TOKEN: Token = Token(usize::MAX);

/// A wire is registered by its attempt, and then for good: see [`Wire::register`].
pub(super) const REGISTRATION_IS_PERMANENT: bool = cfg!(not(all(unix, not(sockeye_condvar))));
/// The most events that one poll reports.
const MAX_EVENTS: usize = 256;
/// How long a socket may take to serve without being called busy: much longer than one record takes.
const BUSY_FROM: Duration = Duration::from_micros(100);
/// The most timers of one turn.
const MAX_TIMERS: usize = 256;
/// How often look-ups that wait are looked after.
const RESOLVER_POLL_INTERVAL: Duration = Duration::from_millis(50);

thread_local! {
    /// In the loop's thread, the process whose loop it is.
    static IS_LOOP_THREAD: RefCell<Option<ForkMark>> = const { RefCell::new(None) };
}

/// Whether it is the loop that asks.
pub(super) fn is_loop_thread() -> bool {
    // The copy of it in a forked child is an ordinary thread.
    IS_LOOP_THREAD
        .try_with(|own| own.borrow().as_ref().is_some_and(|mark| !mark.is_forked()))
        .unwrap_or(false)
}

/// Has this thread pass for the loop's.
#[cfg(test)]
pub(super) fn run_as_loop_thread<R>(work: impl FnOnce() -> R) -> R {
    IS_LOOP_THREAD.set(ForkMark::new().ok());
    let result = work();
    IS_LOOP_THREAD.set(None);
    result
}

/// Fails where the loop asks, for a call that would wait: it would wait for the thread that it is on.
pub(super) fn check_may_block() -> Result<()> {
    if is_loop_thread() { Err(would_block_error()) } else { Ok(()) }
}

/// The error of a call that would have to wait on the loop's thread.
#[cold]
pub(super) fn would_block_error() -> Error {
    Error::with_message(ErrorKind::InvalidState, "this call would block the event loop")
}

/// Runs for the rest of the process.
pub(super) fn run(poll: Poll, loop_handle: &'static LoopHandle, mark: ForkMark) {
    IS_LOOP_THREAD.with(|own| *own.borrow_mut() = Some(mark.clone()));
    let mut this = EventLoop {
        loop_handle,
        poll,
        slab: Slab::new(),
        timers: Timers::default(),
        idle_scan_at: None,
        scan_buffer: Vec::with_capacity(RETAINED_CAPACITY),
        scan_again: false,
        commands: VecDeque::new(),
        ready_queue: ReadyQueue::default(),
        resolver_poll_at: None,
        linger_poll_at: None,
    };
    let mut events = Events::with_capacity(MAX_EVENTS);
    loop {
        catch_and_log(|| this.run_once(&mut events));
        if mark.is_forked() {
            // A logger has forked, and its child returned here: the sockets are the parent's.
            return;
        }
        #[cfg(sockeye_shuttle)]
        if super::model::is_over() {
            return this.assert_idle();
        }
    }
}

struct EventLoop {
    loop_handle: &'static LoopHandle,
    poll: Poll,
    slab: Slab<LoopEntry>,
    timers: Timers,
    /// When to look at the sockets that are listed to be watched, where there are any.
    idle_scan_at: Option<Instant>,
    /// What was taken out of that list and not looked at yet. It keeps its room: nothing is to be allocated
    /// while sockets are just read.
    scan_buffer: Vec<Taken>,
    /// There were more in the list than one look takes out.
    scan_again: bool,
    /// Jobs that were taken and not done yet, in their order.
    commands: VecDeque<Command>,
    /// Sockets to be looked at.
    ready_queue: ReadyQueue,
    resolver_poll_at: Option<Instant>,
    linger_poll_at: Option<Instant>,
}

/// What has a token.
#[cfg_attr(sockeye_shuttle, derive(Debug))]
enum LoopEntry {
    /// A socket whose wire is registered.
    Socket {
        connection: Arc<Connection>,
        interest: Interest,
        /// It is among those that are to be looked at, and why.
        ready: Option<Readiness>,
        /// A timer is set to look at it again.
        run_scheduled: bool,
        /// The last time it was served took long: it waits behind those that had less to do.
        busy: bool,
    },
    /// An attempt that is pending.
    Attempt(Box<PendingAttempt>),
    /// The limit of a socket that connects.
    Timer(Box<(Arc<Connection>, Instant)>),
}

#[cfg_attr(sockeye_shuttle, derive(Debug))]
struct PendingAttempt {
    connection: Arc<Connection>,
    id: AttemptId,
    address: SocketAddr,
    wire: Arc<Wire>,
}

impl EventLoop {
    /// At the end of a run nothing is left of its sockets.
    #[cfg(sockeye_shuttle)]
    fn assert_idle(mut self) {
        self.take_commands();
        while let Some(command) = self.commands.pop_front() {
            self.execute(command, clock::now());
        }
        assert!(self.slab.is_empty(), "the loop still holds {:?}", self.slab);
        assert_eq!(self.timers.next(), None);
    }

    fn run_once(&mut self, events: &mut Events) {
        let timeout = self.poll_timeout(clock::now());
        let polled = self.poll.poll(events, timeout);
        self.take_commands();
        match polled {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(error) => {
                events.clear();
                log_debug(format_args!("the event loop could not poll: {error}"));
            }
        }
        let now = clock::now();
        let mut iteration = Iteration::start(now);
        self.run_commands(&iteration);
        for event in events.iter() {
            let readiness = Readiness::from_event(event);
            catch_and_log(|| self.dispatch(event.token(), readiness));
        }
        let now = clock::now();
        for _ in 0..MAX_TIMERS {
            let Some(token) = self.timers.pop_due(now) else { break };
            catch_and_log(|| self.fire_timer(token));
        }
        self.scan_idle(now, &iteration);
        self.poll_resolver(now);
        self.poll_lingering(now, &iteration);
        iteration.end_by(self.timers.next());
        while let Some(token) = self.ready_queue.next(&mut iteration) {
            catch_and_log(|| self.run_if_ready(token, &iteration));
            if self.has_new_commands() {
                iteration.end_by(Some(now));
            }
        }
    }

    /// Does what others asked for, in its order; the rest in the next turn.
    fn run_commands(&mut self, iteration: &Iteration) {
        while let Some(command) = self.commands.pop_front() {
            catch_and_log(|| self.execute(command, clock::now()));
            if iteration.is_over() {
                break;
            }
        }
    }

    fn has_new_commands(&self) -> bool {
        !self.loop_handle.queue.lock().unwrap_or_else(PoisonError::into_inner).commands.is_empty()
    }

    /// How long there is nothing to do, which it also tells those who have commands.
    fn poll_timeout(&mut self, now: Instant) -> Option<Duration> {
        let next =
            [self.timers.next(), self.idle_scan_at, self.resolver_poll_at, self.linger_poll_at];
        let next = next.into_iter().flatten().min();
        let mut timeout = next.map(|at| at.saturating_duration_since(now));
        let mut queue = self.loop_handle.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let queued = !queue.commands.is_empty() && !planted!(LoopLosesCommand);
        if queued || !self.commands.is_empty() || !self.ready_queue.is_empty() {
            timeout = Some(Duration::ZERO);
        }
        queue.state = match timeout {
            Some(timeout) if timeout <= IDLE_DELAY => LoopState::ShortPoll,
            Some(_) | None => LoopState::Blocked,
        };
        timeout
    }

    fn take_commands(&mut self) {
        let mut queue = self.loop_handle.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.state = LoopState::Running;
        let posted = std::mem::take(&mut queue.commands);
        drop(queue);
        self.commands.extend(posted);
    }

    fn execute(&mut self, command: Command, now: Instant) {
        match command {
            Command::ScanIdle => {
                self.idle_scan_at.get_or_insert(now + IDLE_DELAY);
            }
            Command::UpdateInterest(connection) => {
                connection.fail_on_panic(|| self.update_interest(&connection))
            }
            Command::TransferToken(token, connection) => self.transfer_token(token, connection),
            Command::SetTimer(connection, at) => {
                let entry = LoopEntry::Timer(Box::new((Arc::clone(&connection), at)));
                let token = self.slab.insert(entry);
                self.timers.set(at, token);
                if !connection.track_timer(token) {
                    self.drop_token(token);
                }
            }
            Command::WatchConnect { connection, id, address, wire } => {
                self.watch_connect(connection, id, address, wire);
            }
            Command::CancelAttempt(connection, id) => self.cancel_attempt(&connection, id),
            Command::DropTokens(tokens) => {
                for token in tokens {
                    self.drop_token(token);
                }
            }
            Command::StartQueued(socket) => {
                if let Some(connection) = socket.upgrade() {
                    connection.fail_on_panic(|| connection.start());
                }
            }
            Command::PollResolver => {
                self.resolver_poll_at.get_or_insert(now + RESOLVER_POLL_INTERVAL);
            }
            Command::PollLingering => {
                self.linger_poll_at.get_or_insert(now + POLL_INTERVAL);
            }
        }
    }

    fn dispatch(&mut self, token: Token, readiness: Readiness) {
        match self.slab.get_mut(token) {
            Some(LoopEntry::Socket { ready, busy, .. }) => {
                match ready {
                    Some(known) => *known = known.union(readiness),
                    None => {
                        *ready = Some(readiness);
                        if *busy {
                            self.ready_queue.add_unfinished(token)
                        } else {
                            self.ready_queue.add(token)
                        }
                    }
                };
            }
            Some(LoopEntry::Attempt(_)) => self.finish_connect(token),
            // The waker, or what has been forgotten since.
            Some(LoopEntry::Timer(_)) | None => {}
        }
    }

    /// Looks at a socket whose turn it is.
    fn run_if_ready(&mut self, token: Token, iteration: &Iteration) {
        let Some(LoopEntry::Socket { ready, .. }) = self.slab.get_mut(token) else { return };
        let Some(readiness) = ready.take() else { return };
        let started_at = clock::now();
        self.run_source(token, readiness, iteration.ends_at());
        if let Some(LoopEntry::Socket { busy, .. }) = self.slab.get_mut(token) {
            *busy = clock::now() - started_at >= BUSY_FROM;
        }
    }

    // ------------------------------------------------------------- connecting

    fn watch_connect(
        &mut self,
        connection: Arc<Connection>,
        id: AttemptId,
        address: SocketAddr,
        mut wire: Arc<Wire>,
    ) {
        let registry = self.poll.registry();
        let mut registered = Ok(());
        let token = self.slab.insert_with(|token| {
            registered = wire.register(registry, token, Interest::WRITABLE);
            let connection = Arc::clone(&connection);
            LoopEntry::Attempt(Box::new(PendingAttempt { connection, id, address, wire }))
        });
        if let Err(error) = registered {
            self.slab.remove(token);
            connection
                .fail_on_panic(|| connection.handle_attempt(id, Err(Fault::Io(os_code(&error)))));
        } else if !connection.track_attempt(token, id) {
            self.drop_token(token);
        }
    }

    /// Drops one attempt of a socket that goes on connecting.
    fn cancel_attempt(&mut self, connection: &Connection, id: AttemptId) {
        let mut state = connection.state();
        let Some(establishing) = state.establishing_mut() else { return };
        let is_attempt = |token: &Token| matches!(self.slab.get(*token), Some(LoopEntry::Attempt(attempt)) if attempt.id == id);
        let Some(index) = establishing.attempts.iter().position(is_attempt) else { return };
        let token = establishing.attempts.swap_remove(index);
        drop(state);
        self.drop_token(token);
    }

    fn finish_connect(&mut self, token: Token) {
        let Some(LoopEntry::Attempt(attempt)) = self.slab.get(token) else { return };
        let Some(verdict) = dial::finish_connect(&attempt.wire, attempt.address) else { return };
        let keep = REGISTRATION_IS_PERMANENT && verdict.is_ok();
        let socket = LoopEntry::Socket {
            connection: Arc::clone(&attempt.connection),
            interest: Interest::READABLE | Interest::WRITABLE,
            ready: None,
            busy: false,
            run_scheduled: false,
        };
        let entry = if keep { self.slab.replace(token, socket) } else { self.slab.remove(token) };
        let Some(LoopEntry::Attempt(attempt)) = entry else { return };
        let PendingAttempt { connection, id, wire, .. } = *attempt;
        connection.untrack(token);
        if keep {
            connection.on_registered(token);
        } else {
            wire.deregister(self.poll.registry());
        }
        connection.fail_on_panic(|| {
            connection.handle_attempt(id, verdict.map(|endpoints| (wire, endpoints)));
        });
        if keep && connection.wire_and_interest().is_none() && !connection.is_upgraded() {
            // It came too late. One that was upgraded meanwhile has given it on.
            self.slab.remove(token);
        }
    }

    fn fire_timer(&mut self, token: Token) {
        if let Some(LoopEntry::Socket { run_scheduled: later, .. }) = self.slab.get_mut(token) {
            *later = false;
            return self.schedule_run(token);
        }
        if let Some(LoopEntry::Timer(limit)) = self.slab.remove(token) {
            let (connection, _) = *limit;
            connection.untrack(token);
            connection.fail_on_panic(|| connection.handle_timer());
        }
    }

    fn drop_token(&mut self, token: Token) {
        match self.slab.remove(token) {
            Some(LoopEntry::Attempt(attempt)) => {
                attempt.wire.deregister(self.poll.registry());
                attempt.wire.cancel_attempt();
            }
            Some(LoopEntry::Timer(limit)) => self.timers.cancel(limit.1, token),
            Some(LoopEntry::Socket { .. }) | None => {}
        }
    }

    // ------------------------------------------------------------- watching

    /// Registers the socket's wire for what is wanted of it, which reports its present state, or takes
    /// the registration back.
    fn update_interest(&mut self, connection: &Arc<Connection>) {
        let Some((mut wire, interest)) = connection.wire_and_interest() else { return };
        let Some(interest) = interest else { return self.deregister(connection, &wire) };
        let held = connection.state().token.get();
        let token = held.unwrap_or_else(|| {
            let connection = Arc::clone(connection);
            self.slab.insert(LoopEntry::Socket {
                connection,
                interest,
                ready: None,
                run_scheduled: false,
                busy: false,
            })
        });
        if let Err(error) = wire.register(self.poll.registry(), token, interest) {
            log_debug(format_args!("a socket could not be watched: {error}"));
            self.slab.remove(token);
            connection.on_register_failed(Fault::Io(os_code(&error)));
            return;
        }
        if let Some(LoopEntry::Socket { interest: registered, .. }) = self.slab.get_mut(token) {
            *registered = interest;
        }
        let mut state = connection.state();
        if state.wire.is_some() {
            state.token.set(token);
            drop(state);
            if REGISTRATION_IS_PERMANENT {
                // There is no event for what was there before.
                self.schedule_run(token);
            }
            return;
        }
        // It was let go of meanwhile.
        drop(state);
        wire.deregister(self.poll.registry());
        self.slab.remove(token);
    }

    fn deregister(&mut self, connection: &Arc<Connection>, wire: &Wire) {
        let Some(token) = connection.take_token() else { return };
        self.slab.remove(token);
        wire.deregister(self.poll.registry());
    }

    /// Registers it anew where it is registered for something else than is wanted.
    fn reregister_if_changed(&mut self, connection: &Arc<Connection>, token: Token) {
        let wanted = connection.wire_and_interest().and_then(|(_, interest)| interest);
        match self.slab.get(token) {
            Some(LoopEntry::Socket { interest, .. }) if Some(*interest) == wanted => {}
            Some(_) | None => self.update_interest(connection),
        }
    }

    /// Where a wire is registered once, its events are another socket's from now on.
    fn transfer_token(&mut self, token: Token, connection: Arc<Connection>) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let entry = LoopEntry::Socket {
            connection: Arc::clone(&connection),
            interest,
            ready: None,
            run_scheduled: false,
            busy: false,
        };
        if self.slab.get(token).is_some() {
            self.slab.replace(token, entry);
            connection.on_registered(token);
            if connection.wire_and_interest().is_none() {
                // It has ended meanwhile, and did not know that there was something to forget.
                self.slab.remove(token);
                return;
            }
            self.schedule_run(token);
        }
    }

    /// Looks without an event, in its turn.
    fn schedule_run(&mut self, token: Token) {
        self.dispatch(token, Readiness::UNKNOWN);
    }

    fn run_source(&mut self, token: Token, readiness: Readiness, until: Instant) {
        let Some(LoopEntry::Socket { connection, .. }) = self.slab.get(token) else { return };
        let connection = Arc::clone(connection);
        match connection.fail_on_panic(|| connection.on_event(readiness, until)) {
            NextStep::Keep => {}
            NextStep::RunAgain => {
                if let Some(LoopEntry::Socket { ready, .. }) = self.slab.get_mut(token) {
                    *ready = Some(Readiness::UNKNOWN);
                    self.ready_queue.add_unfinished(token);
                }
            }
            NextStep::RunLater => self.schedule_run_later(token),
            NextStep::UpdateInterest | NextStep::ErrorsOnly => {
                self.reregister_if_changed(&connection, token)
            }
        }
    }

    fn schedule_run_later(&mut self, token: Token) {
        if let Some(LoopEntry::Socket { run_scheduled: later, .. }) = self.slab.get_mut(token) {
            if !std::mem::replace(later, true) {
                self.timers.set(clock::now() + IDLE_DELAY, token);
            }
        }
    }

    /// Registers listed sockets that have been quiet.
    fn scan_idle(&mut self, now: Instant, iteration: &Iteration) {
        if self.idle_scan_at.is_none_or(|at| at > now) {
            return;
        }
        if self.scan_buffer.is_empty() {
            self.scan_again = self.loop_handle.idle_list().take_idle(&mut self.scan_buffer);
        }
        while let Some(Taken { socket, slot: spot, reads_seen: turns }) = self.scan_buffer.pop() {
            let Some(connection) = socket.upgrade() else { continue };
            catch_and_log(|| {
                connection.fail_on_panic(|| {
                    if connection.poll_idle(spot, turns, self.loop_handle) {
                        self.update_interest(&connection);
                    }
                });
            });
            if iteration.is_over() {
                break;
            }
        }
        if self.scan_again || !self.scan_buffer.is_empty() {
            self.idle_scan_at = Some(now);
            return;
        }
        self.scan_buffer.shrink_to(RETAINED_CAPACITY);
        self.idle_scan_at =
            self.loop_handle.idle_list().is_scan_scheduled().then(|| now + IDLE_DELAY);
    }

    /// Drops what came in on wires that linger.
    fn poll_lingering(&mut self, now: Instant, iteration: &Iteration) {
        if self.linger_poll_at.is_none_or(|at| at > now) {
            return;
        }
        self.linger_poll_at = match self.loop_handle.linger_queue().poll_all(|| iteration.is_over())
        {
            LingerState::Empty => None,
            LingerState::Unfinished => Some(now),
            LingerState::Waiting => Some(now + POLL_INTERVAL),
        };
    }

    // ------------------------------------------------------------- names

    fn poll_resolver(&mut self, now: Instant) {
        if self.resolver_poll_at.is_none_or(|at| at > now) {
            return;
        }
        let waits = self.loop_handle.resolver_pool().spawn_if_stalled(now);
        self.resolver_poll_at = waits.then(|| now + RESOLVER_POLL_INTERVAL);
    }
}

fn catch_and_log(work: impl FnOnce()) {
    if catch_panic(work).is_none() {
        log_debug(format_args!("a panic in the event loop"));
    }
}
