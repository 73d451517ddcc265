//! One socket, as its handles, the loop and the threads at its wire see it: the machine under its
//! lock, beside what those who wait for it need.
//!
//! Whoever waits for something looks at all that could end the wait, and announces the wait, under the
//! lock; whoever changes any of it does so under the lock too, and wakes those that have announced
//! themselves. So no wake-up is lost.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::clock;
use super::deeds::Deeds;
use super::facts::Facts;
use super::forecast::Forecast;
use super::given::Given;
use super::handles::HandleCount;
use super::resolve::{self, LookupKind};
use super::roster::{Joined, Life, Place, Roster, ScopeId};
use super::sync::mio::Token;
use super::sync::{Condvar, Mutex, MutexGuard};
use super::wait::{Side, WakeHandle};
use super::wire::Wire;
use super::wires::Wires;
use super::workers::discard;
use super::young::Spot;
use super::{Driver, Job, Urgency, event_loop};
use crate::address::SocketAddress;
use crate::egress::EgressRules;
use crate::error::{Deadline, Error, Fault, Result, Step, Unresolved};
use crate::info::{Endpoints, Phase, Stats};
use crate::machine::{AttemptId, Input, Machine, Plan, Refusal, Target, TlsSetup, Watch};
use crate::options::{SecureTransport, SocketOptions, TcpOptions};
use crate::resolver::Resolver;
use crate::tls::TlsOptions;

/// The part of a socket that its handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Guards the state. Held for moments only, never over a system call; no other lock is taken under
    /// it.
    pub(super) core: Mutex<Core>,
    /// With `core`: any change that a waiter may be interested in.
    pub(super) changed: Condvar,
    /// Handles of the user: with the last one the socket closes.
    handles: HandleCount,
    requested: SocketAddress,
    /// Where it is listed, if it is.
    roster: Arc<Roster>,
    /// Where the mode is [`SecureTransport::StartTls`].
    upgrade: Option<Box<UpgradePlan>>,
}

/// What an upgrade goes by.
#[derive(Debug)]
pub(super) struct UpgradePlan {
    pub(super) tls: TlsOptions,
    pub(super) connect_timeout: Option<Duration>,
    /// For the machine that comes.
    pub(super) plan: Plan,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) machine: Machine,
    /// The connection, from when it is made until it is let go of.
    pub(super) wire: Wires,
    pub(super) error: Option<Error>,
    pub(super) reading: Lane,
    pub(super) writing: Lane,
    pub(super) facts: Option<Facts>,
    /// The limits on reads and on writes, where there ever were any.
    limits: Option<Box<[CallLimit; 2]>>,
    pub(super) errand: Option<Box<Errand>>,
    /// Threads that wait for `changed`.
    pub(super) waiters: u32,
    /// Threads that are carrying something out on the wire. Far fewer than it counts: each has outputs of the
    /// machine, which are not given twice.
    pub(super) performing: u16,
    pub(super) watching: Watching,
    /// Reading turns that have ended.
    pub(super) turns: u32,
    /// The loop's registration of the wire.
    pub(super) registration: Registration,
    /// The loop reports readiness to both directions, for waits by condition variable.
    pub(super) attended: bool,
    /// The loop sends what could not be sent at once, when there is room.
    pub(super) flushing: bool,
    /// It is TLS from its start.
    pub(super) secure: bool,
    /// The loop asks the wire for a failure, or a worker is about to.
    pub(super) looking: bool,
    /// What a worker thread is to do for it.
    pub(super) handed: Handed,
    /// Somebody is about to upgrade: writes that begin now wait for that.
    pub(super) claimed: bool,
    /// Writes that wait for the turn, and began before that.
    pub(super) queued: u32,
    /// Where it is listed, until its outcome is known.
    pub(super) place: Option<Place>,
}

/// Where a socket's connection comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// What was asked for is looked up, if it is a name, and dialled.
    Dial,
    /// These addresses are dialled, as if they had been looked up.
    Known(Vec<SocketAddr>),
    /// It is there already.
    Given(Given),
}

/// What a socket is opened by, beside its options.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// The operating system's where there is none.
    pub(crate) resolver: Option<&'a Arc<dyn Resolver>>,
    /// Nothing is refused where there are none.
    pub(crate) egress: Option<&'a Arc<EgressRules>>,
    pub(crate) roster: &'a Arc<Roster>,
    pub(crate) scope: Option<ScopeId>,
}

/// One direction, as the threads see it that want to use it.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Somebody has the turn: only they make system calls in this direction.
    pub(super) busy: bool,
    /// Who has the turn waits, by `sleeper`.
    pub(super) asleep: bool,
    pub(super) forecast: Forecast,
    /// The loop saw the wire ready since the last call.
    pub(super) ready: bool,
    /// Who is at the wire knows that it has failed, and not by what.
    pub(super) clueless: bool,
    pub(super) sleeper: Weak<WakeHandle>,
}

/// The user's limits on the calls of one direction: the earlier counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CallLimit {
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Instant>,
}

/// The token of the loop's registration, if there is one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registration(Token);

impl Registration {
    const NONE: Registration = Registration(event_loop::WAKER);

    pub(super) fn set(&mut self, token: Token) {
        self.0 = token;
    }

    pub(super) fn token(self) -> Option<Token> {
        if self.0 == event_loop::WAKER { None } else { Some(self.0) }
    }

    pub(super) fn take(&mut self) -> Option<Token> {
        std::mem::replace(self, Registration::NONE).token()
    }
}

/// What is needed only while the loop has something to do for a socket that ends by itself or by a limit:
/// to connect it, to secure it, to hand over what it still has to send.
#[derive(Default)]
pub(super) struct Errand {
    /// How to dial.
    pub(super) tcp: TcpOptions,
    /// What there is already, in place of all dialling.
    pub(super) given: Option<Given>,
    /// What the look-up would find, in place of it.
    pub(super) known: Option<Vec<SocketAddr>>,
    /// For the one question about an address that only the system can answer.
    pub(super) egress: Option<Arc<EgressRules>>,
    /// The attempts that the loop watches for it.
    pub(super) attempts: Vec<Token>,
    /// The timers that the loop holds for it.
    pub(super) timers: Vec<Token>,
    /// When the loop tells the machine the time.
    pub(super) timer: Option<Instant>,
    /// The operating system's where there is none.
    pub(super) resolver: Option<Arc<dyn Resolver>>,
    pub(super) lookup: LookupProgress,
    /// Why the name did not resolve.
    pub(super) unresolved: Option<Unresolved>,
}

/// What became of the lookup of a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LookupProgress {
    /// There is none yet, or it waits for a thread.
    #[default]
    Waits,
    /// The same, and a thread that looks names up asked for it.
    WaitsNested,
    /// A thread has begun it.
    Begun,
}

impl Errand {
    /// Tells a limit that passed during a lookup from one that passed before it began.
    pub(super) fn explain(&self, fault: Fault) -> Fault {
        match (fault, self.lookup) {
            (Fault::TimedOut(Deadline::LookUp), progress) if progress != LookupProgress::Begun => {
                Fault::TimedOut(Deadline::LookupQueue)
            }
            _ => fault,
        }
    }
}

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errand").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

/// Who looks for the peer's end while nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watching {
    /// Nobody: the one who has the turn asks the loop when they leave.
    Off,
    /// The loop will begin when the turn has been free for a while.
    Listed(Spot),
    /// The loop.
    Armed,
    /// The loop, for failures only: something is unread.
    Narrowed,
}

/// Whether a worker thread has the socket, to begin its handshake or to take in what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handed {
    Nothing,
    /// It does so, or is going to.
    Once,
    /// Something has come since: it has to look once more.
    Again,
}

pub(super) type Guard<'a> = MutexGuard<'a, Core>;

/// How an attempt ended.
pub(super) type Connected = Result<(Arc<Wire>, Endpoints), Fault>;

impl Shared {
    /// A socket that begins to connect, or goes by the connection that is given, with one handle.
    pub(crate) fn connect(
        requested: SocketAddress,
        options: SocketOptions,
        source: Source,
        terms: Terms<'_>,
    ) -> Result<Arc<Self>> {
        let now = clock::now();
        let target = match (&source, requested.literal()) {
            (Source::Dial | Source::Given(_), Some(address)) => Target::Address(address),
            (Source::Dial | Source::Given(_), None) | (Source::Known(_), _) => Target::Name,
        };
        let (given, known) = match source {
            Source::Dial => (None, None),
            Source::Known(addresses) => (None, Some(addresses)),
            Source::Given(given) => (Some(given), None),
        };
        let setup = match options.secure_transport {
            SecureTransport::Off => None,
            // What can't be is told before anything is sent, of an upgrade too.
            SecureTransport::On | SecureTransport::StartTls => {
                let tls = options.tls.clone().unwrap_or_default();
                Some(TlsSetup::new(&tls, requested.hostname())?)
            }
        };
        let mut plan = Plan {
            target,
            bind: options.tcp.bind,
            egress: terms.egress.cloned(),
            tls: None,
            allow_half_open: options.allow_half_open,
            connect_timeout: options.connect_timeout,
            connect_deadline: None,
            close_timeout: options.close_timeout,
        };
        let upgrade = (options.secure_transport == SecureTransport::StartTls).then(|| {
            Box::new(UpgradePlan {
                tls: options.tls.unwrap_or_default(),
                connect_timeout: options.connect_timeout,
                plan: plan.clone(),
            })
        });
        // An upgrade has none.
        plan.connect_deadline = options.connect_deadline;
        if options.secure_transport == SecureTransport::On {
            plan.tls = setup;
        }
        let shared = Arc::new(Shared {
            core: Mutex::new(Core {
                errand: Some(Box::new(Errand {
                    tcp: options.tcp,
                    given,
                    known,
                    egress: terms.egress.cloned(),
                    // It is the user's, and may have to be dropped on a thread of its own.
                    resolver: terms.resolver.filter(|_| target == Target::Name).cloned(),
                    lookup: match resolve::is_nested() {
                        true => LookupProgress::WaitsNested,
                        false => LookupProgress::Waits,
                    },
                    ..Errand::default()
                })),
                secure: options.secure_transport == SecureTransport::On,
                ..Core::new(Machine::new(plan, now))
            }),
            changed: Condvar::new(),
            handles: HandleCount::one(),
            requested,
            roster: Arc::clone(terms.roster),
            upgrade,
        });
        let timeouts = [(Side::Read, options.read_timeout), (Side::Write, options.write_timeout)];
        shared.fail_on_panic(|| shared.join(terms, timeouts, now))?;
        Ok(shared)
    }

    /// Lists a socket, and starts it where it has a place at once.
    fn join(
        self: &Arc<Self>,
        terms: Terms<'_>,
        timeouts: [(Side, Option<Duration>); 2],
        now: Instant,
    ) -> Result<()> {
        let mut core = self.lock();
        // Under the lock: once it is listed, others may want it to end.
        let (place, joined) = terms.roster.join(Arc::downgrade(self), terms.scope)?;
        core.place = Some(place);
        for (side, timeout) in timeouts {
            if timeout.is_some() {
                core.limit_mut(side).timeout = timeout;
            }
        }
        let deeds = match joined {
            Joined::Placed => Deeds::of(core.machine.start(now)),
            // From the loop it gets its place, and its time.
            Joined::Queued => match Driver::running() {
                Ok(_) => None,
                Err(fault) => return Err(Error::from_fault(fault)),
            },
        };
        drop(self.settle(core, deeds));
        Ok(())
    }

    /// There is a place for it now.
    pub(super) fn admitted(self: &Arc<Self>) {
        let mut core = self.lock();
        let deeds = Deeds::of(core.machine.start(clock::now()));
        drop(self.settle(core, deeds));
    }

    /// The socket that takes over the connection of one that was upgraded, with one handle.
    pub(super) fn secured(&self, core: Core) -> Arc<Self> {
        Arc::new(Shared {
            core: Mutex::new(core),
            changed: Condvar::new(),
            handles: HandleCount::one(),
            requested: self.requested.clone(),
            roster: Arc::clone(&self.roster),
            upgrade: None,
        })
    }

    /// The mode it was opened with.
    pub(crate) fn mode(&self) -> SecureTransport {
        match &self.upgrade {
            Some(_) => SecureTransport::StartTls,
            None if self.glimpse().is_some_and(|core| core.secure) => SecureTransport::On,
            None => SecureTransport::Off,
        }
    }

    pub(super) fn upgrade_plan(&self) -> Option<&UpgradePlan> {
        self.upgrade.as_deref()
    }

    /// Whether another socket has the connection.
    pub(crate) fn is_upgraded(&self) -> bool {
        self.glimpse().is_some_and(|core| {
            core.error.is_none()
                && core.machine.outcome().is_some()
                && core.machine.refuses_upgrade() == Some(Refusal::Upgraded)
        })
    }

    /// Whether this process is a forked child of the one that opened it.
    #[inline]
    pub(super) fn is_forked(&self) -> bool {
        self.roster.is_forked()
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    pub(crate) fn requested(&self) -> &SocketAddress {
        &self.requested
    }

    /// Whom it reached, where it has.
    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.glimpse()?.facts.as_ref()?.endpoints().known_remote()
    }

    // ------------------------------------------------------------- handles

    pub(crate) fn add_handle(&self) {
        self.handles.add();
    }

    /// With the last handle the socket closes, as by `close`, and nobody waits for it.
    pub(crate) fn drop_handle(self: &Arc<Self>) {
        let left = self.handles.remove();
        if left != 0 && !(planted!(ClosesOneHandleEarly) && left == 1) {
            return;
        }
        if self.is_forked() {
            return self.let_go();
        }
        let core = self.lock();
        drop(self.tell(core, Input::Close));
    }

    // ------------------------------------------------------------- what it is

    /// In a forked child a closed one, where the state can't be had.
    pub(crate) fn phase(&self) -> Phase {
        self.glimpse().map_or(Phase::Closed, |core| core.machine.phase())
    }

    pub(crate) fn stats(&self) -> Stats {
        self.glimpse().map_or_else(Stats::default, |core| core.machine.stats())
    }

    /// What there is to count of it.
    pub(super) fn life(&self) -> Life {
        self.glimpse().map_or_else(Life::default, |core| core.life())
    }

    /// The state, for those who only look: in a forked child somebody may have the lock who is not
    /// there.
    pub(super) fn glimpse(&self) -> Option<Guard<'_>> {
        if self.is_forked() { self.core.try_lock().ok() } else { Some(self.lock_soon()) }
    }

    // ------------------------------------------------------------- what the loop tells

    pub(super) fn is_connecting(&self) -> bool {
        self.lock().machine.phase() == Phase::Connecting
    }

    /// Which threads look the name up.
    pub(super) fn lookup_kind(&self) -> LookupKind {
        match self.lock().errand() {
            Some(errand) if errand.lookup == LookupProgress::WaitsNested => LookupKind::Nested,
            Some(errand) if errand.resolver.is_some() => LookupKind::Own,
            Some(_) | None => LookupKind::System,
        }
    }

    /// Notes that a thread has the lookup now. Returns the resolver to ask, or none for the operating system's. It
    /// belongs to the program, so it is handed over, to be dropped where that can do no harm.
    pub(super) fn begin_lookup(&self) -> Option<Arc<dyn Resolver>> {
        let mut core = self.lock();
        let errand = core.errand()?;
        errand.lookup = LookupProgress::Begun;
        errand.resolver.take()
    }

    pub(super) fn resolved(self: &Arc<Self>, answer: Result<Vec<SocketAddr>, (Fault, Unresolved)>) {
        let mut core = self.lock();
        let mut late = None;
        match answer {
            Ok(addresses) => core = self.tell(core, Input::Resolved(Ok(&addresses))),
            Err((fault, unresolved)) => {
                match &mut core.errand {
                    Some(errand) => errand.unresolved = Some(unresolved),
                    None => late = Some(unresolved),
                }
                core = self.tell(core, Input::Resolved(Err(fault)));
            }
        }
        drop(core);
        // The user's error, which nobody waits for any more.
        drop(late);
    }

    pub(super) fn attempted(self: &Arc<Self>, id: AttemptId, result: Connected) {
        let core = self.lock();
        let (core, deeds) = self.take_attempt(core, id, result);
        drop(self.settle(core, deeds));
    }

    /// Notes an attempt that the loop watches. Returns whether it is wanted: it may have been given up before
    /// it was posted, and once another one has won it is not, although the handshake may still go on.
    pub(super) fn hold_attempt(&self, token: Token, id: AttemptId) -> bool {
        let mut core = self.lock();
        let is_wanted = core.machine.awaits(id);
        match core.errand() {
            Some(errand) if is_wanted => errand.attempts.push(token),
            Some(_) | None => return false,
        }
        true
    }

    /// Notes a timer that the loop holds. Returns whether it is wanted.
    pub(super) fn hold_timer(&self, token: Token) -> bool {
        let mut core = self.lock();
        let Some(errand) = core.errand() else { return false };
        errand.timers.push(token);
        true
    }

    /// The loop does not hold this attempt or this timer any more.
    pub(super) fn release(&self, token: Token) {
        if let Some(errand) = self.lock().errand() {
            errand.attempts.retain(|held| *held != token);
            errand.timers.retain(|held| *held != token);
        }
    }

    /// The loop has the wire registered for both directions, and will report on it.
    pub(super) fn attended_by(&self, token: Token) {
        let mut core = self.lock();
        core.registration.set(token);
        core.attended = true;
    }

    /// The instant of the machine's limit has come.
    pub(super) fn expire(self: &Arc<Self>) {
        let core = self.lock();
        drop(self.tell(core, Input::Deadline));
    }

    /// After a panic under the lock the socket has failed: see `poison`.
    #[inline]
    pub(super) fn lock(&self) -> Guard<'_> {
        match self.core.lock() {
            Ok(core) => core,
            Err(poisoned) => self.fail_internally(poisoned.into_inner()),
        }
    }

    /// [`lock`](Self::lock) in the middle of a call that took it before, on the straight way of a read or
    /// write: whether there was a panic since, the next call asks.
    #[inline]
    pub(super) fn lock_again(&self) -> Guard<'_> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notify(&self, core: &Core) {
        if core.waiters > 0 {
            self.changed.notify_all();
        }
    }
}

/// One that ends without an outcome still gives its place back.
impl Drop for Shared {
    fn drop(&mut self) {
        if self.is_forked() {
            return;
        }
        let core = self.core.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = core.place.take() {
            admit(self.roster.leave(place, core.life()));
        }
        if event_loop::is_this_thread() {
            let foreign = core.error.as_ref().is_some_and(Error::may_be_foreign)
                || core.machine.holds_foreign_code();
            let upgrade = self.upgrade.take_if(|upgrade| upgrade.tls.runs_foreign_code());
            if foreign {
                discard(std::mem::replace(core, Core::new(Machine::over())));
            }
            if upgrade.is_some() {
                discard(upgrade);
            }
        }
    }
}

/// The loop begins for who waited for a place: whoever gave it back has other things to do, and who begins
/// may end at once and give it back in turn.
pub(super) fn admit(next: Option<Weak<Shared>>) {
    if let (Some(next), Ok(driver)) = (next, Driver::running()) {
        driver.post(Job::Admit(next), Urgency::Now);
    }
}

impl Core {
    pub(super) fn new(machine: Machine) -> Self {
        Core {
            machine,
            wire: Wires::default(),
            error: None,
            reading: Lane::default(),
            writing: Lane::default(),
            facts: None,
            limits: None,
            errand: None,
            waiters: 0,
            performing: 0,
            watching: Watching::Off,
            turns: 0,
            registration: Registration::NONE,
            attended: false,
            flushing: false,
            secure: false,
            looking: false,
            handed: Handed::Nothing,
            claimed: false,
            queued: 0,
            place: None,
        }
    }

    pub(super) fn lane(&mut self, side: Side) -> &mut Lane {
        match side {
            Side::Read => &mut self.reading,
            Side::Write => &mut self.writing,
        }
    }

    /// Whether there was never a limit on calls.
    #[inline]
    pub(super) fn is_unlimited(&self) -> bool {
        self.limits.is_none()
    }

    /// The user's limit on the calls of one direction.
    #[inline(never)]
    pub(super) fn limit(&self, side: Side) -> CallLimit {
        self.limits.as_ref().map_or_else(CallLimit::default, |limits| limits[side as usize])
    }

    pub(super) fn limit_mut(&mut self, side: Side) -> &mut CallLimit {
        &mut self.limits.get_or_insert_default()[side as usize]
    }

    /// The one error that all waiters get.
    pub(super) fn error_for(&self, fault: Fault) -> Error {
        match &self.error {
            Some(error) if error.kind() == fault.kind() => error.clone(),
            Some(_) | None => Error::from_fault(fault),
        }
    }

    pub(super) fn life(&self) -> Life {
        Life { opened: self.machine.opened(), passed: self.machine.stats() }
    }

    /// The step at which connecting is.
    pub(super) fn step(&self) -> Option<Step> {
        let waits = |errand: &Errand| errand.lookup != LookupProgress::Begun;
        match self.machine.step() {
            Some(Step::Lookup) if self.errand.as_deref().is_some_and(waits) => {
                Some(Step::WaitForLookup)
            }
            step => step,
        }
    }

    pub(super) fn errand(&mut self) -> Option<&mut Errand> {
        self.errand.as_deref_mut()
    }

    pub(super) fn wants_watch(&self) -> bool {
        match self.machine.watch() {
            Watch::End | Watch::Failure => true,
            Watch::Nothing | Watch::Discard | Watch::Ingest => false,
        }
    }

    /// Whether the connection is still being made, or secured.
    pub(super) fn is_opening(&self) -> bool {
        self.machine.opened().is_none()
    }

    /// The user's limits, for the socket that takes over.
    pub(super) fn limits(&self) -> Option<Box<[CallLimit; 2]>> {
        self.limits.clone()
    }

    pub(super) fn set_limits(&mut self, limits: Option<Box<[CallLimit; 2]>>) {
        self.limits = limits;
    }
}

impl Lane {
    pub(super) fn whom_to_wake(&self) -> Option<Arc<WakeHandle>> {
        if self.asleep { self.sleeper.upgrade() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle socket costs is mostly this: a change that makes it larger should be meant.
    #[test]
    fn the_state_of_a_socket_is_small() {
        assert!(size_of::<Shared>() <= 264, "{}", size_of::<Shared>());
    }
}
