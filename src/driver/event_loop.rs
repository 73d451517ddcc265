//! The loop itself: one turn after another, each of which takes the jobs, the events and what has come
//! due, and then sleeps until the next.
//!
//! A turn is short, whatever there is to do: what is not done in it is kept for the next. So a timer or a
//! job of one socket waits for a bounded piece of others' work, however much of that there is.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::clock::{self, Timers};
use super::errno::code;
use super::linger::{LOOK_EVERY, Lingers};
use super::ready::{Readiness, Ready, Turn};
use super::shared::Shared;
use super::sync::mio::{Events, Interest, Poll, Token};
use super::sync::thread_local;
use super::table::Table;
use super::watch::{Look, QUIET};
use super::wire::Wire;
use super::young::{KEPT_CAPACITY, Taken};
use super::{Driver, Job, Sleep, dial, harmless, say};
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::machine::AttemptId;
use crate::process::ForkMark;

/// No slot of the table has it.
pub(super) const WAKER: Token = Token(usize::MAX);

/// A wire is registered by its attempt, and then for good: see [`Wire::register`].
pub(super) const REGISTERED_ONCE: bool = cfg!(not(all(unix, not(sockeye_condvar))));
/// The most events that one poll reports.
const EVENTS_MOST: usize = 256;
/// How long a socket may take to serve without being called busy: much longer than one record takes.
const BUSY: Duration = Duration::from_micros(100);
/// The most timers of one turn.
const TIMERS_MOST: usize = 256;
/// How often look-ups that wait are looked after.
const NAMES_EVERY: Duration = Duration::from_millis(50);

thread_local! {
    /// In the loop's thread, the process whose loop it is.
    static IS_LOOP: RefCell<Option<ForkMark>> = const { RefCell::new(None) };
}

/// Whether it is the loop that asks.
pub(super) fn is_this_thread() -> bool {
    // The copy of it in a forked child is an ordinary thread.
    IS_LOOP
        .try_with(|own| own.borrow().as_ref().is_some_and(|mark| !mark.is_forked()))
        .unwrap_or(false)
}

/// Has this thread pass for the loop's.
#[cfg(test)]
pub(super) fn pretend<R>(work: impl FnOnce() -> R) -> R {
    IS_LOOP.set(ForkMark::new().ok());
    let result = work();
    IS_LOOP.set(None);
    result
}

/// Fails where the loop asks, for a call that would wait: it would wait for the thread that it is on.
pub(super) fn may_wait() -> Result<()> {
    if is_this_thread() { Err(would_block()) } else { Ok(()) }
}

/// The error of a call that would have to wait on the loop's thread.
#[cold]
pub(super) fn would_block() -> Error {
    Error::with_message(ErrorKind::InvalidState, "this call would block the event loop")
}

/// Runs for the rest of the process.
pub(super) fn run(poll: Poll, driver: &'static Driver, mark: ForkMark) {
    IS_LOOP.with(|own| *own.borrow_mut() = Some(mark.clone()));
    let mut this = EventLoop {
        driver,
        poll,
        table: Table::new(),
        timers: Timers::default(),
        young_at: None,
        glanced_at: Vec::with_capacity(KEPT_CAPACITY),
        more_young: false,
        jobs: VecDeque::new(),
        ready: Ready::default(),
        names_at: None,
        linger_at: None,
    };
    let mut events = Events::with_capacity(EVENTS_MOST);
    loop {
        guarded(|| this.turn(&mut events));
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
    driver: &'static Driver,
    poll: Poll,
    table: Table<Entry>,
    timers: Timers,
    /// When to look at the sockets that are listed to be watched, where there are any.
    young_at: Option<Instant>,
    /// What was taken out of that list and not looked at yet. It keeps its room: nothing is to be allocated
    /// while sockets are just read.
    glanced_at: Vec<Taken>,
    /// There were more in the list than one look takes out.
    more_young: bool,
    /// Jobs that were taken and not done yet, in their order.
    jobs: VecDeque<Job>,
    /// Sockets to be looked at.
    ready: Ready,
    names_at: Option<Instant>,
    linger_at: Option<Instant>,
}

/// What has a token.
#[cfg_attr(sockeye_shuttle, derive(Debug))]
enum Entry {
    /// A socket whose wire is registered.
    Socket {
        shared: Arc<Shared>,
        interest: Interest,
        /// It is among those that are to be looked at, and why.
        ready: Option<Readiness>,
        /// A timer is set to look at it again.
        later: bool,
        /// The last time it was served took long: it waits behind those that had less to do.
        busy: bool,
    },
    /// An attempt that is pending.
    Attempt(Box<PendingAttempt>),
    /// The limit of a socket that connects.
    Limit(Box<(Arc<Shared>, Instant)>),
}

#[cfg_attr(sockeye_shuttle, derive(Debug))]
struct PendingAttempt {
    shared: Arc<Shared>,
    id: AttemptId,
    address: SocketAddr,
    wire: Arc<Wire>,
}

impl EventLoop {
    /// At the end of a run nothing is left of its sockets.
    #[cfg(sockeye_shuttle)]
    fn assert_idle(mut self) {
        self.wake_up();
        while let Some(job) = self.jobs.pop_front() {
            self.job(job, clock::now());
        }
        assert!(self.table.is_empty(), "the loop still holds {:?}", self.table);
        assert_eq!(self.timers.next(), None);
    }

    fn turn(&mut self, events: &mut Events) {
        let timeout = self.sleep_for(clock::now());
        let polled = self.poll.poll(events, timeout);
        self.wake_up();
        match polled {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(error) => {
                events.clear();
                say(format_args!("the event loop could not poll: {error}"));
            }
        }
        let now = clock::now();
        let mut turn = Turn::begin(now);
        self.work_off(&turn);
        for event in events.iter() {
            let readiness = Readiness::of(event);
            guarded(|| self.event(event.token(), readiness));
        }
        let now = clock::now();
        for _ in 0..TIMERS_MOST {
            let Some(token) = self.timers.due(now) else { break };
            guarded(|| self.expire(token));
        }
        self.glance_at_young(now, &turn);
        self.tend_names(now);
        self.tend_lingering(now, &turn);
        turn.end_at(self.timers.next());
        while let Some(token) = self.ready.next(&mut turn) {
            guarded(|| self.serve(token, &turn));
            if self.has_been_posted() {
                turn.end_at(Some(now));
            }
        }
    }

    /// Does what others asked for, in its order; the rest in the next turn.
    fn work_off(&mut self, turn: &Turn) {
        while let Some(job) = self.jobs.pop_front() {
            guarded(|| self.job(job, clock::now()));
            if turn.is_over() {
                break;
            }
        }
    }

    fn has_been_posted(&self) -> bool {
        !self.driver.inbox.lock().unwrap_or_else(PoisonError::into_inner).jobs.is_empty()
    }

    /// How long there is nothing to do, which it also tells those who have jobs.
    fn sleep_for(&mut self, now: Instant) -> Option<Duration> {
        let next = [self.timers.next(), self.young_at, self.names_at, self.linger_at];
        let next = next.into_iter().flatten().min();
        let mut timeout = next.map(|at| at.saturating_duration_since(now));
        let mut inbox = self.driver.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let queued = !inbox.jobs.is_empty() && !planted!(LoopLosesCommand);
        if queued || !self.jobs.is_empty() || !self.ready.is_empty() {
            timeout = Some(Duration::ZERO);
        }
        inbox.sleep = match timeout {
            Some(timeout) if timeout <= QUIET => Sleep::Nap,
            Some(_) | None => Sleep::Sound,
        };
        timeout
    }

    fn wake_up(&mut self) {
        let mut inbox = self.driver.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.sleep = Sleep::Awake;
        let posted = std::mem::take(&mut inbox.jobs);
        drop(inbox);
        self.jobs.extend(posted);
    }

    fn job(&mut self, job: Job, now: Instant) {
        match job {
            Job::Young => {
                self.young_at.get_or_insert(now + QUIET);
            }
            Job::Register(shared) => shared.fail_on_panic(|| self.register(&shared)),
            Job::Adopt(token, shared) => self.adopt(token, shared),
            Job::Limit(shared, at) => {
                let entry = Entry::Limit(Box::new((Arc::clone(&shared), at)));
                let token = self.table.insert(entry);
                self.timers.set(at, token);
                if !shared.hold_timer(token) {
                    self.forget(token);
                }
            }
            Job::Pending { shared, id, address, wire } => {
                self.await_attempt(shared, id, address, wire);
            }
            Job::GiveUp(shared, id) => self.give_up(&shared, id),
            Job::Forget(tokens) => {
                for token in tokens {
                    self.forget(token);
                }
            }
            Job::Admit(socket) => {
                if let Some(shared) = socket.upgrade() {
                    shared.fail_on_panic(|| shared.admitted());
                }
            }
            Job::Names => {
                self.names_at.get_or_insert(now + NAMES_EVERY);
            }
            Job::Linger => {
                self.linger_at.get_or_insert(now + LOOK_EVERY);
            }
        }
    }

    fn event(&mut self, token: Token, readiness: Readiness) {
        match self.table.get_mut(token) {
            Some(Entry::Socket { ready, busy, .. }) => {
                match ready {
                    Some(known) => *known = known.and(readiness),
                    None => {
                        *ready = Some(readiness);
                        if *busy { self.ready.add_unfinished(token) } else { self.ready.add(token) }
                    }
                };
            }
            Some(Entry::Attempt(_)) => self.judge(token),
            // The waker, or what has been forgotten since.
            Some(Entry::Limit(_)) | None => {}
        }
    }

    /// Looks at a socket whose turn it is.
    fn serve(&mut self, token: Token, turn: &Turn) {
        let Some(Entry::Socket { ready, .. }) = self.table.get_mut(token) else { return };
        let Some(readiness) = ready.take() else { return };
        let begun = clock::now();
        self.look(token, readiness, turn.until());
        if let Some(Entry::Socket { busy, .. }) = self.table.get_mut(token) {
            *busy = clock::now() - begun >= BUSY;
        }
    }

    // ------------------------------------------------------------- connecting

    fn await_attempt(
        &mut self,
        shared: Arc<Shared>,
        id: AttemptId,
        address: SocketAddr,
        mut wire: Arc<Wire>,
    ) {
        let registry = self.poll.registry();
        let mut registered = Ok(());
        let token = self.table.insert_with(|token| {
            registered = wire.register(registry, token, Interest::WRITABLE);
            let shared = Arc::clone(&shared);
            Entry::Attempt(Box::new(PendingAttempt { shared, id, address, wire }))
        });
        if let Err(error) = registered {
            self.table.remove(token);
            shared.fail_on_panic(|| shared.attempted(id, Err(Fault::Io(code(&error)))));
        } else if !shared.hold_attempt(token, id) {
            self.forget(token);
        }
    }

    /// Drops one attempt of a socket that goes on connecting.
    fn give_up(&mut self, shared: &Shared, id: AttemptId) {
        let mut core = shared.lock();
        let Some(errand) = core.errand() else { return };
        let is_it = |token: &Token| matches!(self.table.get(*token), Some(Entry::Attempt(attempt)) if attempt.id == id);
        let Some(place) = errand.attempts.iter().position(is_it) else { return };
        let token = errand.attempts.swap_remove(place);
        drop(core);
        self.forget(token);
    }

    fn judge(&mut self, token: Token) {
        let Some(Entry::Attempt(attempt)) = self.table.get(token) else { return };
        let Some(verdict) = dial::verdict(&attempt.wire, attempt.address) else { return };
        let keep = REGISTERED_ONCE && verdict.is_ok();
        let socket = Entry::Socket {
            shared: Arc::clone(&attempt.shared),
            interest: Interest::READABLE | Interest::WRITABLE,
            ready: None,
            busy: false,
            later: false,
        };
        let entry = if keep { self.table.replace(token, socket) } else { self.table.remove(token) };
        let Some(Entry::Attempt(attempt)) = entry else { return };
        let PendingAttempt { shared, id, wire, .. } = *attempt;
        shared.release(token);
        if keep {
            shared.attended_by(token);
        } else {
            wire.deregister(self.poll.registry());
        }
        shared.fail_on_panic(|| {
            shared.attempted(id, verdict.map(|endpoints| (wire, endpoints)));
        });
        if keep && shared.to_register().is_none() && !shared.is_upgraded() {
            // It came too late. One that was upgraded meanwhile has given it on.
            self.table.remove(token);
        }
    }

    fn expire(&mut self, token: Token) {
        if let Some(Entry::Socket { later, .. }) = self.table.get_mut(token) {
            *later = false;
            return self.look_soon(token);
        }
        if let Some(Entry::Limit(limit)) = self.table.remove(token) {
            let (shared, _) = *limit;
            shared.release(token);
            shared.fail_on_panic(|| shared.expire());
        }
    }

    fn forget(&mut self, token: Token) {
        match self.table.remove(token) {
            Some(Entry::Attempt(attempt)) => {
                attempt.wire.deregister(self.poll.registry());
                attempt.wire.cancel();
            }
            Some(Entry::Limit(limit)) => self.timers.cancel(limit.1, token),
            Some(Entry::Socket { .. }) | None => {}
        }
    }

    // ------------------------------------------------------------- watching

    /// Registers the socket's wire for what is wanted of it, which reports its present state, or takes
    /// the registration back.
    fn register(&mut self, shared: &Arc<Shared>) {
        let Some((mut wire, interest)) = shared.to_register() else { return };
        let Some(interest) = interest else { return self.unregister(shared, &wire) };
        let held = shared.lock().registration.token();
        let token = held.unwrap_or_else(|| {
            let shared = Arc::clone(shared);
            self.table.insert(Entry::Socket {
                shared,
                interest,
                ready: None,
                later: false,
                busy: false,
            })
        });
        if let Err(error) = wire.register(self.poll.registry(), token, interest) {
            say(format_args!("a socket could not be watched: {error}"));
            self.table.remove(token);
            shared.unwatched(Fault::Io(code(&error)));
            return;
        }
        if let Some(Entry::Socket { interest: registered, .. }) = self.table.get_mut(token) {
            *registered = interest;
        }
        let mut core = shared.lock();
        if core.wire.is_some() {
            core.registration.set(token);
            drop(core);
            if REGISTERED_ONCE {
                // There is no event for what was there before.
                self.look_soon(token);
            }
            return;
        }
        // It was let go of meanwhile.
        drop(core);
        wire.deregister(self.poll.registry());
        self.table.remove(token);
    }

    fn unregister(&mut self, shared: &Arc<Shared>, wire: &Wire) {
        let Some(token) = shared.take_registration() else { return };
        self.table.remove(token);
        wire.deregister(self.poll.registry());
    }

    /// Registers it anew where it is registered for something else than is wanted.
    fn recheck(&mut self, shared: &Arc<Shared>, token: Token) {
        let wanted = shared.to_register().and_then(|(_, interest)| interest);
        match self.table.get(token) {
            Some(Entry::Socket { interest, .. }) if Some(*interest) == wanted => {}
            Some(_) | None => self.register(shared),
        }
    }

    /// Where a wire is registered once, its events are another socket's from now on.
    fn adopt(&mut self, token: Token, shared: Arc<Shared>) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let entry = Entry::Socket {
            shared: Arc::clone(&shared),
            interest,
            ready: None,
            later: false,
            busy: false,
        };
        if self.table.get(token).is_some() {
            self.table.replace(token, entry);
            shared.attended_by(token);
            if shared.to_register().is_none() {
                // It has ended meanwhile, and did not know that there was something to forget.
                self.table.remove(token);
                return;
            }
            self.look_soon(token);
        }
    }

    /// Looks without an event, in its turn.
    fn look_soon(&mut self, token: Token) {
        self.event(token, Readiness::UNKNOWN);
    }

    fn look(&mut self, token: Token, readiness: Readiness, until: Instant) {
        let Some(Entry::Socket { shared, .. }) = self.table.get(token) else { return };
        let shared = Arc::clone(shared);
        match shared.fail_on_panic(|| shared.look(readiness, until)) {
            Look::Keep => {}
            Look::Again => {
                if let Some(Entry::Socket { ready, .. }) = self.table.get_mut(token) {
                    *ready = Some(Readiness::UNKNOWN);
                    self.ready.add_unfinished(token);
                }
            }
            Look::Later => self.look_later(token),
            Look::Recheck | Look::FailuresOnly => self.recheck(&shared, token),
        }
    }

    fn look_later(&mut self, token: Token) {
        if let Some(Entry::Socket { later, .. }) = self.table.get_mut(token) {
            if !std::mem::replace(later, true) {
                self.timers.set(clock::now() + QUIET, token);
            }
        }
    }

    /// Registers listed sockets that have been quiet.
    fn glance_at_young(&mut self, now: Instant, turn: &Turn) {
        if self.young_at.is_none_or(|at| at > now) {
            return;
        }
        if self.glanced_at.is_empty() {
            self.more_young = self.driver.young().look(&mut self.glanced_at);
        }
        while let Some(Taken { socket, spot, turns }) = self.glanced_at.pop() {
            let Some(shared) = socket.upgrade() else { continue };
            guarded(|| {
                shared.fail_on_panic(|| {
                    if shared.glance(spot, turns, self.driver) {
                        self.register(&shared);
                    }
                });
            });
            if turn.is_over() {
                break;
            }
        }
        if self.more_young || !self.glanced_at.is_empty() {
            self.young_at = Some(now);
            return;
        }
        self.glanced_at.shrink_to(KEPT_CAPACITY);
        self.young_at = self.driver.young().is_awaited().then(|| now + QUIET);
    }

    /// Drops what came in on wires that linger.
    fn tend_lingering(&mut self, now: Instant, turn: &Turn) {
        if self.linger_at.is_none_or(|at| at > now) {
            return;
        }
        self.linger_at = match self.driver.lingering().look(|| turn.is_over()) {
            Lingers::Nothing => None,
            Lingers::Unfinished => Some(now),
            Lingers::Something => Some(now + LOOK_EVERY),
        };
    }

    // ------------------------------------------------------------- names

    fn tend_names(&mut self, now: Instant) {
        if self.names_at.is_none_or(|at| at > now) {
            return;
        }
        let waits = self.driver.names().tend(now);
        self.names_at = waits.then(|| now + NAMES_EVERY);
    }
}

fn guarded(work: impl FnOnce()) {
    if harmless(work).is_none() {
        say(format_args!("a panic in the event loop"));
    }
}
