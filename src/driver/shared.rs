//! One socket, as its handles, the loop and the threads at its wire see it: the machine under its
//! lock, and what carries out what the machine wants.
//!
//! Every change goes the same way: under the lock the machine takes notice and its outputs are
//! gathered as [`Deeds`]; waiters whose answer changed are noted and the counters they compare are
//! bumped; then, with the lock released, they are woken and the wire is dealt with. Where that
//! has a result at once, such as an attempt that failed, it goes round again.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use mio::Token;

use super::dial::{self, Dialled};
use super::resolve::Submitted;
use super::wait::{Side, WakeHandle};
use super::wire::{Drained, Wire};
use super::{Driver, Job, Urgency, fork};
use crate::address::SocketAddress;
use crate::error::{Deadline, Error, Fault, Result};
use crate::info::{Endpoints, Phase, SocketInfo, Stats, Timings};
use crate::machine::{AttemptId, Input, Machine, Output, Outputs, Plan, Release, Target, Watch};
use crate::options::{SocketOptions, TcpOptions};

/// What is dropped of what had come in before a close, before the close returns, and then in all.
pub(super) const LINGER_BYTES: usize = 1024 * 1024;

/// The part of a socket that its handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Guards the state. Held for moments only, never over a system call; no other lock is taken under
    /// it.
    core: Mutex<Core>,
    /// With `core`: any change that a waiter may be interested in.
    changed: Condvar,
    /// Handles of the user: with the last one the socket closes.
    handles: AtomicU32,
    requested: SocketAddress,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) machine: Machine,
    /// The connection, from when it is made until it is let go of.
    pub(super) wire: Option<Arc<Wire>>,
    error: Option<Error>,
    pub(super) reading: Lane,
    pub(super) writing: Lane,
    endpoints: Option<Endpoints>,
    timings: Timings,
    dialling: Option<Box<Dialling>>,
    /// Threads that wait for `changed`.
    waiters: u32,
    /// Threads that are carrying something out on the wire.
    performing: u32,
    pub(super) watching: Watching,
    /// The loop's registration of the wire.
    pub(super) registration: Option<Token>,
    /// The loop reports readiness to both directions, for waits by condition variable.
    pub(super) attended: bool,
}

/// One direction, as the threads see it that want to use it.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Somebody has the turn: only they make system calls in this direction.
    pub(super) busy: bool,
    /// Who has the turn waits, by `sleeper`.
    pub(super) asleep: bool,
    /// The last call took all there was: the next would block.
    pub(super) dry: bool,
    /// The loop saw the wire ready since the last call.
    pub(super) ready: bool,
    /// Ended turns.
    pub(super) turns: u32,
    pub(super) sleeper: Weak<WakeHandle>,
    pub(super) limit: CallLimit,
}

/// The user's limits on the calls of one direction: the earlier counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CallLimit {
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Instant>,
}

/// What is needed only until the connection is made.
#[derive(Debug)]
pub(super) struct Dialling {
    tcp: TcpOptions,
    /// What the loop holds for it.
    pub(super) tokens: Vec<Token>,
    resolver: Option<io::Error>,
}

/// Who looks for the peer's end while nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watching {
    /// Nobody: the one who has the turn asks the loop when they leave.
    Off,
    /// The loop will begin when the turn has been free for a while.
    Listed,
    /// The loop.
    Armed,
}

pub(super) type Guard<'a> = MutexGuard<'a, Core>;

/// How an attempt ended.
pub(super) type Connected = Result<(Arc<Wire>, Endpoints), Fault>;

impl Shared {
    /// A socket that begins to connect, with one handle.
    pub(crate) fn connect(requested: SocketAddress, options: SocketOptions) -> Result<Arc<Self>> {
        fork::check()?;
        let now = Instant::now();
        let target = match requested.literal() {
            Some(address) => Target::Address(address),
            None => Target::Name,
        };
        let machine = Machine::new(
            Plan {
                target,
                bind: options.tcp.bind,
                allow_half_open: options.allow_half_open,
                connect_timeout: options.connect_timeout,
                close_timeout: options.close_timeout,
            },
            now,
        );
        let lane =
            |timeout| Lane { limit: CallLimit { timeout, deadline: None }, ..Lane::default() };
        let shared = Arc::new(Shared {
            core: Mutex::new(Core {
                machine,
                wire: None,
                error: None,
                reading: lane(options.read_timeout),
                writing: lane(options.write_timeout),
                endpoints: None,
                timings: Timings::default(),
                dialling: Some(Box::new(Dialling {
                    tcp: options.tcp,
                    tokens: Vec::new(),
                    resolver: None,
                })),
                waiters: 0,
                performing: 0,
                watching: Watching::Off,
                registration: None,
                attended: false,
            }),
            changed: Condvar::new(),
            handles: AtomicU32::new(1),
            requested,
        });
        let mut core = shared.lock();
        let deeds = Deeds::of(core.machine.start());
        let core = shared.settle(core, deeds);
        // What could not be done at once is the loop's, and so is its limit.
        let limit = core.machine.deadline().filter(|_| core.machine.phase() == Phase::Connecting);
        drop(core);
        if let (Some((at, _)), Ok(driver)) = (limit, Driver::running()) {
            driver.post(Job::Limit(Arc::clone(&shared), at), Urgency::Now);
        }
        Ok(shared)
    }

    pub(crate) fn requested(&self) -> &SocketAddress {
        &self.requested
    }

    // ------------------------------------------------------------- handles

    pub(crate) fn add_handle(&self) {
        // Overflow takes more handles than memory could hold.
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// With the last handle the socket closes, as by `close`, and nobody waits for it.
    pub(crate) fn drop_handle(self: &Arc<Self>) {
        if self.handles.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        if fork::in_child() {
            return self.let_go();
        }
        let core = self.lock();
        drop(self.tell(core, Input::Close));
    }

    // ------------------------------------------------------------- waits

    pub(crate) fn opened(&self, limit: Option<Duration>) -> Result<SocketInfo> {
        fork::check()?;
        let until = limit.map(Until::after);
        let mut core = self.lock();
        loop {
            match core.machine.opened() {
                Some(Ok(())) => {
                    let endpoints = core.endpoints.expect("an open socket has endpoints");
                    let timings = core.timings;
                    drop(core);
                    return Ok(SocketInfo::new(self.requested.clone(), endpoints, timings));
                }
                Some(Err(fault)) => return Err(core.error_for(fault)),
                None => core = self.wait_until(core, until, Deadline::Opened)?,
            }
        }
    }

    pub(crate) fn closed(&self, limit: Option<Duration>) -> Result<()> {
        fork::check()?;
        let until = limit.map(Until::after);
        let mut core = self.lock();
        loop {
            match core.machine.outcome() {
                Some(Ok(())) => return Ok(()),
                Some(Err(fault)) => return Err(core.error_for(fault)),
                None => core = self.wait_until(core, until, Deadline::Closed)?,
            }
        }
    }

    /// Waits for a change, for a call that has a limit of its own.
    fn wait_until<'a>(
        &'a self,
        core: Guard<'a>,
        until: Option<Until>,
        limit: Deadline,
    ) -> Result<Guard<'a>> {
        let left = match until {
            Some(until) => Some(until.left().ok_or_else(|| Error::call_timed_out(limit))?),
            None => None,
        };
        Ok(self.wait_change(core, left))
    }

    /// Waits for any change, at most for `limit`.
    pub(super) fn wait_change<'a>(
        &'a self,
        mut core: Guard<'a>,
        limit: Option<Duration>,
    ) -> Guard<'a> {
        core.waiters += 1;
        let mut core = match limit {
            Some(limit) => {
                self.changed.wait_timeout(core, limit).unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.changed.wait(core).unwrap_or_else(PoisonError::into_inner),
        };
        core.waiters -= 1;
        core
    }

    // ------------------------------------------------------------- commands

    pub(crate) fn close(self: &Arc<Self>) -> Result<()> {
        if let Err(error) = fork::check() {
            self.let_go();
            return Err(error);
        }
        let mut core = self.lock();
        core = self.tell(core, Input::Close);
        loop {
            match core.machine.outcome() {
                Some(outcome) if core.performing == 0 => {
                    return match outcome {
                        Err(fault @ Fault::TimedOut(Deadline::Close)) => Err(core.error_for(fault)),
                        Ok(()) | Err(_) => Ok(()),
                    };
                }
                Some(_) | None => {}
            }
            core = self.wait_or_expire(core);
        }
    }

    /// Waits for a change, at most until the machine's own limit, of which it then takes notice.
    fn wait_or_expire<'a>(self: &'a Arc<Self>, core: Guard<'a>) -> Guard<'a> {
        let Some((at, _)) = core.machine.deadline() else { return self.wait_change(core, None) };
        let now = Instant::now();
        if at <= now {
            return self.tell(core, Input::Deadline);
        }
        self.wait_change(core, Some(at - now))
    }

    pub(crate) fn abort(self: &Arc<Self>, input: Input<'static>) {
        if fork::in_child() {
            return self.let_go();
        }
        let core = self.lock();
        drop(self.tell(core, input));
    }

    pub(crate) fn cancel_reading(self: &Arc<Self>) {
        if !fork::in_child() {
            let core = self.lock();
            drop(self.tell(core, Input::CancelReading));
        }
    }

    /// In a forked child: the descriptor is closed here, and nothing is done on the connection. Where
    /// the fork happened while another thread had the lock, nobody will ever release it here.
    fn let_go(&self) {
        if let Ok(mut core) = self.core.try_lock() {
            core.wire = None;
        }
    }

    pub(crate) fn set_timeout(&self, side: Side, timeout: Option<Duration>) {
        self.change_limit(&[side], |limit| limit.timeout = timeout);
    }

    pub(crate) fn set_deadline(&self, sides: &[Side], deadline: Option<Instant>) {
        self.change_limit(sides, |limit| limit.deadline = deadline);
    }

    /// Changes what limits calls, and has those that wait look at it again.
    fn change_limit(&self, sides: &[Side], change: impl Fn(&mut CallLimit)) {
        if fork::in_child() {
            return;
        }
        let mut core = self.lock();
        let mut wake = [const { None }; 2];
        for (side, wake) in sides.iter().zip(&mut wake) {
            let lane = core.lane(*side);
            change(&mut lane.limit);
            *wake = lane.whom_to_wake();
        }
        self.notify(&core);
        drop(core);
        wake.into_iter().flatten().for_each(|handle| handle.wake());
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lock().machine.phase()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.lock().machine.stats()
    }

    // ------------------------------------------------------------- what the loop tells

    pub(super) fn is_connecting(&self) -> bool {
        self.lock().machine.phase() == Phase::Connecting
    }

    pub(super) fn resolved(self: &Arc<Self>, answer: io::Result<Vec<SocketAddr>>) {
        let mut core = self.lock();
        let (addresses, fault) = match answer {
            Ok(addresses) => (addresses, None),
            Err(error) => {
                if let Some(dialling) = &mut core.dialling {
                    dialling.resolver = Some(error);
                }
                (Vec::new(), Some(Fault::Resolve))
            }
        };
        let answer = match fault {
            None => Ok(&addresses[..]),
            Some(fault) => Err(fault),
        };
        drop(self.tell(core, Input::Resolved(answer)));
    }

    pub(super) fn attempted(
        self: &Arc<Self>,
        id: AttemptId,
        result: Connected,
    ) {
        let core = self.lock();
        let (core, deeds) = self.take_attempt(core, id, result);
        drop(self.settle(core, deeds));
    }

    /// The instant of the machine's limit has come.
    pub(super) fn expire(self: &Arc<Self>) {
        let core = self.lock();
        drop(self.tell(core, Input::Deadline));
    }

    // ------------------------------------------------------------- the way of every change

    pub(super) fn lock(&self) -> Guard<'_> {
        // A panic under the lock is a bug of this crate; what it left is consistent, as the machine's
        // transitions have no half-way.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the machine take notice, and carries out what it wants.
    pub(super) fn tell<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        input: Input<'_>,
    ) -> Guard<'a> {
        let deeds = Deeds::of(core.machine.handle(input, Instant::now()));
        self.settle(core, deeds)
    }

    /// Carries out what the machine wants, until it wants nothing more. Releases the lock meanwhile.
    pub(super) fn settle<'a>(self: &'a Arc<Self>, mut core: Guard<'a>, deeds: Deeds) -> Guard<'a> {
        let mut next = Some(deeds);
        while let Some(deeds) = next.take() {
            if deeds.is_nothing() {
                break;
            }
            let prepared = core.prepare(deeds, &self.requested);
            core.performing += 1;
            self.notify(&core);
            drop(core);
            prepared.wake();
            let answer = self.perform(prepared);
            core = self.lock();
            core.performing -= 1;
            if core.performing == 0 {
                self.notify(&core);
            }
            if let Some((id, result)) = answer {
                let (back, deeds) = self.take_attempt(core, id, result);
                core = back;
                next = Some(deeds);
            }
        }
        core
    }

    /// Tells the machine how an attempt ended; the wire is adopted before anyone hears of it.
    fn take_attempt<'a>(
        self: &'a Arc<Self>,
        mut guard: Guard<'a>,
        id: AttemptId,
        result: Connected,
    ) -> (Guard<'a>, Deeds) {
        let core = &mut *guard;
        let (wire, result) = match result {
            Ok((wire, endpoints)) => (Some(wire), Ok(endpoints)),
            Err(fault) => (None, Err(fault)),
        };
        let deeds = Deeds::of(core.machine.handle(Input::Attempted { id, result }, Instant::now()));
        if let (Some(timings), Ok(endpoints)) = (deeds.adopt, result) {
            core.wire = wire;
            core.endpoints = Some(endpoints);
            core.timings = timings;
        }
        (guard, deeds)
    }

    pub(super) fn notify(&self, core: &Core) {
        if core.waiters > 0 {
            self.changed.notify_all();
        }
    }

    /// Does what needs system calls. An attempt that ended at once is the answer.
    fn perform(
        self: &Arc<Self>,
        deeds: Prepared,
    ) -> Option<(AttemptId, Connected)> {
        let Prepared { deeds, wire, registration, forget, tcp, wake: _ } = deeds;
        if let Some(wire) = &wire {
            if deeds.shutdown_write {
                wire.shutdown_write();
            }
        }
        if let Some(how) = deeds.release {
            if let (Some(wire), Some(_), Ok(driver)) = (&wire, registration, Driver::running()) {
                wire.deregister(driver.registry());
            }
            if let Some(wire) = wire {
                release(wire, how);
            }
        }
        if !forget.is_empty() {
            if let Ok(driver) = Driver::running() {
                driver.post(Job::Forget(forget), Urgency::Now);
            }
        }
        if let Some(token) = registration {
            if let Ok(driver) = Driver::running() {
                driver.post(Job::Forget(vec![token]), Urgency::Soon);
            }
        }
        if deeds.adopt.is_some() {
            if let Ok(driver) = Driver::running() {
                driver.post(Job::Watch(Arc::clone(self)), Urgency::Soon);
            }
        }
        if deeds.discard {
            if let Ok(driver) = Driver::running() {
                driver.post(Job::Arm(Arc::clone(self)), Urgency::Now);
            }
        }
        if deeds.resolve {
            self.submit();
        }
        let (id, address) = deeds.attempt?;
        self.dial(id, address, &tcp?).map(|result| (id, result))
    }

    fn submit(self: &Arc<Self>) {
        let submitted = match Driver::running() {
            Ok(driver) => match driver.names().submit(self, Instant::now()) {
                Submitted::Queued => {
                    driver.post(Job::Names, Urgency::Soon);
                    return;
                }
                Submitted::Full => {
                    driver.post(Job::Resolve(Arc::clone(self)), Urgency::Soon);
                    return;
                }
                Submitted::Failed(fault) => fault,
            },
            Err(fault) => fault,
        };
        self.not_looked_up(submitted);
    }

    /// The look-up could not even be begun.
    pub(super) fn not_looked_up(self: &Arc<Self>, fault: Fault) {
        let core = self.lock();
        drop(self.tell(core, Input::Resolved(Err(fault))));
    }

    fn dial(
        self: &Arc<Self>,
        id: AttemptId,
        address: SocketAddr,
        tcp: &TcpOptions,
    ) -> Option<Connected> {
        let driver = match Driver::running() {
            Ok(driver) => driver,
            Err(fault) => return Some(Err(fault)),
        };
        let mut dialled = dial::dial(address, tcp);
        // What lingers may go where something is to live.
        if matches!(dialled, Err(Fault::Io(_))) && driver.lingering().shed() {
            dialled = dial::dial(address, tcp);
        }
        match dialled {
            Ok(Dialled::Open(wire)) => {
                let endpoints = dial::endpoints(&wire, address);
                Some(Ok((wire, endpoints)))
            }
            Ok(Dialled::Pending(wire)) => {
                let shared = Arc::clone(self);
                driver.post(Job::Pending { shared, id, address, wire }, Urgency::Now);
                None
            }
            Err(fault) => Some(Err(fault)),
        }
    }
}

/// Lets go of a wire of which nothing more is wanted.
fn release(wire: Arc<Wire>, how: Release) {
    match how {
        Release::Done => {}
        Release::Reset => wire.reset(),
        Release::Linger => {
            let mut left = LINGER_BYTES;
            match (wire.drain(&mut left), Driver::running()) {
                (Drained::Empty, Ok(driver)) => driver.lingering().add(driver, wire, left),
                (Drained::Empty | Drained::More | Drained::End | Drained::Failed(_), _) => {}
            }
        }
    }
}

/// What the machine wants, gathered.
#[derive(Debug, Default)]
pub(super) struct Deeds {
    resolve: bool,
    attempt: Option<(AttemptId, SocketAddr)>,
    adopt: Option<Timings>,
    abandon: bool,
    shutdown_write: bool,
    discard: bool,
    release: Option<Release>,
    opened: bool,
    readable: bool,
    writable: bool,
    closed: bool,
}

impl Deeds {
    pub(super) fn of(outputs: Outputs<'_>) -> Self {
        let mut deeds = Deeds::default();
        for output in outputs {
            match output {
                Output::Resolve => deeds.resolve = true,
                Output::Attempt { id, address } => deeds.attempt = Some((id, address)),
                Output::Adopt { timings, .. } => deeds.adopt = Some(timings),
                Output::Abandon => deeds.abandon = true,
                Output::ShutdownWrite => deeds.shutdown_write = true,
                Output::Discard => deeds.discard = true,
                Output::Release(how) => deeds.release = Some(how),
                Output::Opened => deeds.opened = true,
                Output::Readable => deeds.readable = true,
                Output::Writable => deeds.writable = true,
                Output::Closed => deeds.closed = true,
            }
        }
        deeds
    }

    fn is_nothing(&self) -> bool {
        let Deeds {
            resolve,
            attempt,
            adopt,
            abandon,
            shutdown_write,
            discard,
            release,
            opened,
            readable,
            writable,
            closed,
        } = self;
        let flags = [resolve, abandon, shutdown_write, discard, opened, readable, writable, closed];
        !flags.into_iter().any(|flag| *flag)
            && attempt.is_none()
            && adopt.is_none()
            && release.is_none()
    }
}

/// What is left to do once the lock is released.
#[derive(Debug)]
struct Prepared {
    deeds: Deeds,
    wake: [Option<Arc<WakeHandle>>; 2],
    wire: Option<Arc<Wire>>,
    registration: Option<Token>,
    /// What the loop held for connecting.
    forget: Vec<Token>,
    tcp: Option<TcpOptions>,
}

impl Prepared {
    fn wake(&self) {
        self.wake.iter().flatten().for_each(|handle| handle.wake());
    }
}

impl Core {
    /// Does what concerns the state only.
    fn prepare(&mut self, deeds: Deeds, requested: &SocketAddress) -> Prepared {
        let mut wake = [None, None];
        if deeds.readable {
            wake[0] = self.reading.whom_to_wake();
        }
        if deeds.writable {
            wake[1] = self.writing.whom_to_wake();
        }
        if deeds.adopt.is_some() {
            self.watching = Watching::Listed;
        }
        let mut resolver = None;
        let mut forget = Vec::new();
        if self.machine.phase() != Phase::Connecting {
            if let Some(dialling) = self.dialling.take() {
                resolver = dialling.resolver;
                forget = dialling.tokens;
            }
        }
        if self.error.is_none() {
            if let Some(Err(fault)) = self.machine.opened() {
                let attempts = self.machine.attempts();
                self.error = Some(Error::from_connecting(fault, requested, attempts, resolver));
            } else if let Some(Err(fault)) = self.machine.outcome() {
                self.error = Some(Error::from_fault(fault));
            }
        }
        let (wire, registration) = match deeds.release {
            Some(_) => (self.wire.take(), self.registration.take()),
            None => (self.wire.clone(), None),
        };
        let tcp = match (&deeds.attempt, &self.dialling) {
            (Some(_), Some(dialling)) => Some(dialling.tcp.clone()),
            _ => None,
        };
        Prepared { deeds, wake, wire, registration, forget, tcp }
    }

    pub(super) fn lane(&mut self, side: Side) -> &mut Lane {
        match side {
            Side::Read => &mut self.reading,
            Side::Write => &mut self.writing,
        }
    }

    /// The one error that all waiters get.
    pub(super) fn error_for(&self, fault: Fault) -> Error {
        match &self.error {
            Some(error) if error.kind() == fault.kind() => error.clone(),
            Some(_) | None => Error::from_fault(fault),
        }
    }

    pub(super) fn dialling(&mut self) -> Option<&mut Dialling> {
        self.dialling.as_deref_mut()
    }

    pub(super) fn wants_watch(&self) -> bool {
        match self.machine.watch() {
            Watch::End | Watch::Failure => true,
            Watch::Nothing | Watch::Discard => false,
        }
    }
}

impl Lane {
    fn whom_to_wake(&self) -> Option<Arc<WakeHandle>> {
        if self.asleep { self.sleeper.upgrade() } else { None }
    }
}

/// The end of a wait: `None` inside where it is too far away to be an instant.
#[derive(Clone, Copy, Debug)]
struct Until(Option<Instant>);

impl Until {
    fn after(limit: Duration) -> Self {
        Until(Instant::now().checked_add(limit))
    }

    /// `None` when it has come.
    fn left(self) -> Option<Duration> {
        match self.0 {
            Some(at) => Some(at.saturating_duration_since(Instant::now())).filter(|d| !d.is_zero()),
            None => Some(Duration::MAX),
        }
    }
}
