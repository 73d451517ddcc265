//! The event loop. Each iteration polls, and then executes commands, handles events and fires due timers.
//!
//! An iteration is short even under load. Work that it does not finish stays queued for the next one. So a timer or a
//! command of one socket waits only for a bounded amount of other sockets' work.

pub(crate) mod handle;
pub(crate) mod idle_list;
pub(crate) mod linger;
pub(crate) mod ready_queue;
pub(crate) mod slab;
pub(crate) mod timers;
pub(crate) mod workers;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use self::idle_list::{RETAINED_CAPACITY, Taken};
use self::linger::{LingerState, POLL_INTERVAL};
use self::ready_queue::{Iteration, Readiness, ReadyQueue};
use self::slab::Slab;
use self::timers::Timers;
use crate::driver::connect::dial;
use crate::driver::connection::Connection;
use crate::driver::connection::monitor::{IDLE_DELAY, NextStep};
use crate::driver::sys::errno::os_code;
use crate::driver::sys::log::log_debug;
use crate::driver::sys::loop_thread::mark_loop_thread;
use crate::driver::sys::sync::mio::{Events, Interest, Poll, Token};
use crate::driver::sys::wire::{REGISTRATION_IS_PERMANENT, Wire};
use crate::driver::sys::{self, clock};
use crate::error::Fault;
use crate::machine::AttemptId;
use crate::panic::catch_panic;
use crate::process::ForkMark;

pub(crate) use self::handle::{Command, LoopHandle, LoopState, Urgency};
#[cfg(test)]
pub(crate) use crate::driver::sys::loop_thread::run_as_loop_thread;
pub(crate) use crate::driver::sys::loop_thread::{
    check_may_block, is_loop_thread, would_block_error,
};

/// The token of the waker. The slab never produces it.
pub(crate) const WAKER_TOKEN: Token = Token(usize::MAX);

/// The maximum number of events that one poll reports.
const MAX_EVENTS: usize = 256;
/// The service time from which a socket is considered busy. It is much longer than one TLS record takes.
const BUSY_FROM: Duration = Duration::from_micros(100);
/// The maximum number of timers that fire in one iteration.
const MAX_TIMERS: usize = 256;
/// The interval at which the loop polls the resolver pool while lookups wait.
const RESOLVER_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs the event loop until the process exits.
pub(crate) fn run(poll: Poll, loop_handle: &'static LoopHandle, mark: ForkMark) {
    mark_loop_thread(mark.clone());
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
            // A logger forked, and its child returned here. The sockets belong to the parent.
            return;
        }
        if sys::is_run_over() {
            return this.assert_idle();
        }
    }
}

struct EventLoop {
    loop_handle: &'static LoopHandle,
    poll: Poll,
    slab: Slab<LoopEntry>,
    timers: Timers,
    /// The time of the next scan of the idle list, if one is scheduled.
    idle_scan_at: Option<Instant>,
    /// Sockets that were taken from the idle list and not yet processed. The buffer keeps its capacity, because reads
    /// must not cause allocations.
    scan_buffer: Vec<Taken>,
    /// Whether the last scan left idle sockets in the list.
    scan_again: bool,
    /// Commands that were taken from the queue and not yet executed, in order.
    commands: VecDeque<Command>,
    /// Sockets to run.
    ready_queue: ReadyQueue,
    resolver_poll_at: Option<Instant>,
    linger_poll_at: Option<Instant>,
}

/// An object that has a token.
#[derive(Debug)]
enum LoopEntry {
    /// A socket whose wire is registered.
    Socket {
        connection: Arc<Connection>,
        interest: Interest,
        /// The reported readiness. `Some` if the socket is in the ready queue.
        ready: Option<Readiness>,
        /// Whether a timer is set to run the socket again.
        run_scheduled: bool,
        /// Whether the socket's last run took at least [`BUSY_FROM`]. Busy sockets run after the others.
        busy: bool,
    },
    /// A pending connection attempt.
    Attempt(Box<PendingAttempt>),
    /// The timer of a connecting socket.
    Timer(Box<(Arc<Connection>, Instant)>),
}

#[derive(Debug)]
struct PendingAttempt {
    connection: Arc<Connection>,
    id: AttemptId,
    address: SocketAddr,
    wire: Arc<Wire>,
}

impl EventLoop {
    /// Checks that no socket is left when a model run ends.
    fn assert_idle(mut self) {
        self.loop_handle.workers().wait_idle();
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
                log_debug(format_args!("the event loop cannot poll: {error}"));
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

    /// Executes commands in order until the iteration is over. The next iteration executes the rest.
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

    /// Returns the timeout of the next poll. Also publishes the loop's state, from which other threads know if they
    /// must wake it.
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
            // The waker, or an entry that was removed after the event.
            Some(LoopEntry::Timer(_)) | None => {}
        }
    }

    /// Runs a socket from the ready queue.
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

    /// Cancels one attempt of a socket that is still connecting.
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
            // The connection came too late. If the socket was upgraded, the new socket has the token.
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

    // ------------------------------------------------------------- monitoring

    /// Registers the socket's wire for the interest that the socket wants now, or deregisters it. Registering makes the
    /// kernel report the current state.
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
            log_debug(format_args!("cannot register a socket with the event loop: {error}"));
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
                // A permanent registration does not report the current state again.
                self.schedule_run(token);
            }
            return;
        }
        // The socket released its wire in the meantime.
        drop(state);
        wire.deregister(self.poll.registry());
        self.slab.remove(token);
    }

    fn deregister(&mut self, connection: &Arc<Connection>, wire: &Wire) {
        let Some(token) = connection.take_token() else { return };
        self.slab.remove(token);
        wire.deregister(self.poll.registry());
    }

    /// Updates the registration if the wanted interest has changed.
    fn reregister_if_changed(&mut self, connection: &Arc<Connection>, token: Token) {
        let wanted = connection.wire_and_interest().and_then(|(_, interest)| interest);
        match self.slab.get(token) {
            Some(LoopEntry::Socket { interest, .. }) if Some(*interest) == wanted => {}
            Some(_) | None => self.update_interest(connection),
        }
    }

    /// Assigns a permanent registration to the socket that took over the connection.
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
                // The socket ended before it knew of the token, so it cannot have asked to drop it.
                self.slab.remove(token);
                return;
            }
            self.schedule_run(token);
        }
    }

    /// Queues the socket to run without an event.
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

    /// Starts to monitor sockets that have been idle since they were queued.
    fn scan_idle(&mut self, now: Instant, iteration: &Iteration) {
        if self.idle_scan_at.is_none_or(|at| at > now) {
            return;
        }
        if self.scan_buffer.is_empty() {
            self.scan_again = self.loop_handle.idle_list().take_idle(&mut self.scan_buffer);
        }
        while let Some(Taken { socket, slot, reads_seen }) = self.scan_buffer.pop() {
            let Some(connection) = socket.upgrade() else { continue };
            catch_and_log(|| {
                connection.fail_on_panic(|| {
                    if connection.poll_idle(slot, reads_seen, self.loop_handle) {
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

    /// Drains lingering wires.
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

    // ------------------------------------------------------------- name lookups

    fn poll_resolver(&mut self, now: Instant) {
        if self.resolver_poll_at.is_none_or(|at| at > now) {
            return;
        }
        let waits =
            crate::driver::connect::resolver_pool::ResolverPool::get().spawn_if_stalled(now);
        self.resolver_poll_at = waits.then(|| now + RESOLVER_POLL_INTERVAL);
    }
}

fn catch_and_log(work: impl FnOnce()) {
    if catch_panic(work).is_none() {
        log_debug(format_args!("a panic occurred in the event loop"));
    }
}
