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
use super::deeds::ActionSet;
use super::facts::ConnectedInfo;
use super::forecast::BlockPredictor;
use super::given::AdoptedStream;
use super::handles::HandleCount;
use super::resolve::{self, LookupKind};
use super::roster::{Admission, Registry, ScopeId, SlotId, SocketTotals};
use super::sync::mio::Token;
use super::sync::{Condvar, Mutex, MutexGuard};
use super::wait::{Side, WakeHandle};
use super::wire::Wire;
use super::wires::WireRefs;
use super::workers::drop_off_loop;
use super::young::IdleSlot;
use super::{Command, LoopHandle, Urgency, event_loop};
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
pub(crate) struct Connection {
    /// Guards the state. Held for moments only, never over a system call; no other lock is taken under
    /// it.
    pub(super) state: Mutex<ConnectionState>,
    /// With `core`: any change that a waiter may be interested in.
    pub(super) changed: Condvar,
    /// Handles of the user: with the last one the socket closes.
    handles: HandleCount,
    requested: SocketAddress,
    /// Where it is listed, if it is.
    registry: Arc<Registry>,
    /// Where the mode is [`SecureTransport::StartTls`].
    upgrade: Option<Box<UpgradeConfig>>,
}

/// What an upgrade goes by.
#[derive(Debug)]
pub(super) struct UpgradeConfig {
    pub(super) tls: TlsOptions,
    pub(super) connect_timeout: Option<Duration>,
    /// For the machine that comes.
    pub(super) config: Plan,
}

#[derive(Debug)]
pub(super) struct ConnectionState {
    pub(super) machine: Machine,
    /// The connection, from when it is made until it is let go of.
    pub(super) wire: WireRefs,
    pub(super) error: Option<Error>,
    pub(super) recv: Direction,
    pub(super) send: Direction,
    pub(super) info: Option<ConnectedInfo>,
    /// The limits on reads and on writes, where there ever were any.
    call_limits: Option<Box<[CallLimit; 2]>>,
    pub(super) establishing: Option<Box<Establishing>>,
    /// Threads that wait for `changed`.
    pub(super) waiters: u32,
    /// Threads that are carrying something out on the wire. Far fewer than it counts: each has outputs of the
    /// machine, which are not given twice.
    pub(super) executors: u16,
    pub(super) monitor: Monitor,
    /// Reading turns that have ended.
    pub(super) reads_done: u32,
    /// The loop's registration of the wire.
    pub(super) token: LoopToken,
    /// The loop reports readiness to both directions, for waits by condition variable.
    pub(super) reports_readiness: bool,
    /// The loop sends what could not be sent at once, when there is room.
    pub(super) want_writable: bool,
    /// It is TLS from its start.
    pub(super) is_tls: bool,
    /// The loop asks the wire for a failure, or a worker is about to.
    pub(super) error_probe: bool,
    /// What a worker thread is to do for it.
    pub(super) worker_task: WorkerTask,
    /// Somebody is about to upgrade: writes that begin now wait for that.
    pub(super) upgrading: bool,
    /// Writes that wait for the turn, and began before that.
    pub(super) writers_waiting: u32,
    /// Where it is listed, until its outcome is known.
    pub(super) slot: Option<SlotId>,
}

/// Where a socket's connection comes from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// What was asked for is looked up, if it is a name, and dialled.
    Dial,
    /// These addresses are dialled, as if they had been looked up.
    Addresses(Vec<SocketAddr>),
    /// It is there already.
    Adopted(AdoptedStream),
}

/// What a socket is opened by, beside its options.
#[derive(Clone, Copy)]
pub(crate) struct ConnectContext<'a> {
    /// The operating system's where there is none.
    pub(crate) resolver: Option<&'a Arc<dyn Resolver>>,
    /// Nothing is refused where there are none.
    pub(crate) egress: Option<&'a Arc<EgressRules>>,
    pub(crate) registry: &'a Arc<Registry>,
    pub(crate) scope: Option<ScopeId>,
}

/// One direction, as the threads see it that want to use it.
#[derive(Debug, Default)]
pub(super) struct Direction {
    /// Somebody has the turn: only they make system calls in this direction.
    pub(super) turn_held: bool,
    /// Who has the turn waits, by `parker`.
    pub(super) parked: bool,
    pub(super) predictor: BlockPredictor,
    /// The loop saw the wire ready since the last call.
    pub(super) ready: bool,
    /// Who is at the wire knows that it has failed, and not by what.
    pub(super) cause_unknown: bool,
    pub(super) parker: Weak<WakeHandle>,
}

/// The user's limits on the calls of one direction: the earlier counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CallLimit {
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Instant>,
}

/// The token of the loop's registration, if there is one.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoopToken(Token);

impl LoopToken {
    const NONE: LoopToken = LoopToken(event_loop::WAKER_TOKEN);

    pub(super) fn set(&mut self, token: Token) {
        self.0 = token;
    }

    pub(super) fn get(self) -> Option<Token> {
        if self.0 == event_loop::WAKER_TOKEN { None } else { Some(self.0) }
    }

    pub(super) fn take(&mut self) -> Option<Token> {
        std::mem::replace(self, LoopToken::NONE).get()
    }
}

/// What is needed only while the loop has something to do for a socket that ends by itself or by a limit:
/// to connect it, to secure it, to hand over what it still has to send.
#[derive(Default)]
pub(super) struct Establishing {
    /// How to dial.
    pub(super) tcp: TcpOptions,
    /// What there is already, in place of all dialling.
    pub(super) adopted: Option<AdoptedStream>,
    /// What the look-up would find, in place of it.
    pub(super) addresses: Option<Vec<SocketAddr>>,
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
    pub(super) lookup_error: Option<Unresolved>,
}

/// What became of the lookup of a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LookupProgress {
    /// There is none yet, or it waits for a thread.
    #[default]
    Queued,
    /// The same, and a thread that looks names up asked for it.
    QueuedNested,
    /// A thread has begun it.
    Started,
}

impl Establishing {
    /// Tells a limit that passed during a lookup from one that passed before it began.
    pub(super) fn refine_fault(&self, fault: Fault) -> Fault {
        match (fault, self.lookup) {
            (Fault::TimedOut(Deadline::LookUp), progress)
                if progress != LookupProgress::Started =>
            {
                Fault::TimedOut(Deadline::LookupQueue)
            }
            _ => fault,
        }
    }
}

impl fmt::Debug for Establishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Establishing").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

/// Who looks for the peer's end while nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Monitor {
    /// Nobody: the one who has the turn asks the loop when they leave.
    Off,
    /// The loop will begin when the turn has been free for a while.
    Queued(IdleSlot),
    /// The loop.
    Full,
    /// The loop, for failures only: something is unread.
    ErrorsOnly,
}

/// Whether a worker thread has the socket, to begin its handshake or to take in what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerTask {
    None,
    /// It does so, or is going to.
    Queued,
    /// Something has come since: it has to look once more.
    Rerun,
}

pub(super) type StateGuard<'a> = MutexGuard<'a, ConnectionState>;

/// How an attempt ended.
pub(super) type AttemptResult = Result<(Arc<Wire>, Endpoints), Fault>;

impl Connection {
    /// A socket that begins to connect, or goes by the connection that is given, with one handle.
    pub(crate) fn connect(
        requested: SocketAddress,
        options: SocketOptions,
        source: Origin,
        context: ConnectContext<'_>,
    ) -> Result<Arc<Self>> {
        let now = clock::now();
        let target = match (&source, requested.literal()) {
            (Origin::Dial | Origin::Adopted(_), Some(address)) => Target::Address(address),
            (Origin::Dial | Origin::Adopted(_), None) | (Origin::Addresses(_), _) => Target::Name,
        };
        let (adopted, addresses) = match source {
            Origin::Dial => (None, None),
            Origin::Addresses(addresses) => (None, Some(addresses)),
            Origin::Adopted(adopted) => (Some(adopted), None),
        };
        let setup = match options.secure_transport {
            SecureTransport::Off => None,
            // What can't be is told before anything is sent, of an upgrade too.
            SecureTransport::On | SecureTransport::StartTls => {
                let tls = options.tls.clone().unwrap_or_default();
                Some(TlsSetup::new(&tls, requested.hostname())?)
            }
        };
        let mut config = Plan {
            target,
            bind: options.tcp.bind,
            egress: context.egress.cloned(),
            tls: None,
            allow_half_open: options.allow_half_open,
            connect_timeout: options.connect_timeout,
            connect_deadline: None,
            close_timeout: options.close_timeout,
        };
        let upgrade = (options.secure_transport == SecureTransport::StartTls).then(|| {
            Box::new(UpgradeConfig {
                tls: options.tls.unwrap_or_default(),
                connect_timeout: options.connect_timeout,
                config: config.clone(),
            })
        });
        // An upgrade has none.
        config.connect_deadline = options.connect_deadline;
        if options.secure_transport == SecureTransport::On {
            config.tls = setup;
        }
        let connection = Arc::new(Connection {
            state: Mutex::new(ConnectionState {
                establishing: Some(Box::new(Establishing {
                    tcp: options.tcp,
                    adopted,
                    addresses,
                    egress: context.egress.cloned(),
                    // It is the user's, and may have to be dropped on a thread of its own.
                    resolver: context.resolver.filter(|_| target == Target::Name).cloned(),
                    lookup: match resolve::is_nested() {
                        true => LookupProgress::QueuedNested,
                        false => LookupProgress::Queued,
                    },
                    ..Establishing::default()
                })),
                is_tls: options.secure_transport == SecureTransport::On,
                ..ConnectionState::new(Machine::new(config, now))
            }),
            changed: Condvar::new(),
            handles: HandleCount::one(),
            requested,
            registry: Arc::clone(context.registry),
            upgrade,
        });
        let timeouts = [(Side::Read, options.read_timeout), (Side::Write, options.write_timeout)];
        connection.fail_on_panic(|| connection.register(context, timeouts, now))?;
        Ok(connection)
    }

    /// Lists a socket, and starts it where it has a place at once.
    fn register(
        self: &Arc<Self>,
        context: ConnectContext<'_>,
        timeouts: [(Side, Option<Duration>); 2],
        now: Instant,
    ) -> Result<()> {
        let mut state = self.state();
        // Under the lock: once it is listed, others may want it to end.
        let (slot, admission) = context.registry.admit(Arc::downgrade(self), context.scope)?;
        state.slot = Some(slot);
        for (side, timeout) in timeouts {
            if timeout.is_some() {
                state.call_limit_mut(side).timeout = timeout;
            }
        }
        let actions = match admission {
            Admission::Admitted => ActionSet::collect(state.machine.start(now)),
            // From the loop it gets its place, and its time.
            Admission::Queued => match LoopHandle::get() {
                Ok(_) => None,
                Err(fault) => return Err(Error::from_fault(fault)),
            },
        };
        drop(self.apply(state, actions));
        Ok(())
    }

    /// There is a place for it now.
    pub(super) fn start(self: &Arc<Self>) {
        let mut state = self.state();
        let actions = ActionSet::collect(state.machine.start(clock::now()));
        drop(self.apply(state, actions));
    }

    /// The socket that takes over the connection of one that was upgraded, with one handle.
    pub(super) fn new_upgraded(&self, state: ConnectionState) -> Arc<Self> {
        Arc::new(Connection {
            state: Mutex::new(state),
            changed: Condvar::new(),
            handles: HandleCount::one(),
            requested: self.requested.clone(),
            registry: Arc::clone(&self.registry),
            upgrade: None,
        })
    }

    /// The mode it was opened with.
    pub(crate) fn mode(&self) -> SecureTransport {
        match &self.upgrade {
            Some(_) => SecureTransport::StartTls,
            None if self.try_state().is_some_and(|state| state.is_tls) => SecureTransport::On,
            None => SecureTransport::Off,
        }
    }

    pub(super) fn upgrade_config(&self) -> Option<&UpgradeConfig> {
        self.upgrade.as_deref()
    }

    /// Whether another socket has the connection.
    pub(crate) fn is_upgraded(&self) -> bool {
        self.try_state().is_some_and(|state| {
            state.error.is_none()
                && state.machine.outcome().is_some()
                && state.machine.refuses_upgrade() == Some(Refusal::Upgraded)
        })
    }

    /// Whether this process is a forked child of the one that opened it.
    #[inline]
    pub(super) fn is_forked(&self) -> bool {
        self.registry.is_forked()
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn requested(&self) -> &SocketAddress {
        &self.requested
    }

    /// Whom it reached, where it has.
    pub(crate) fn remote_address(&self) -> Option<SocketAddr> {
        self.try_state()?.info.as_ref()?.endpoints().known_remote()
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
            return self.close_fd_only();
        }
        let state = self.state();
        drop(self.handle_input(state, Input::Close));
    }

    // ------------------------------------------------------------- what it is

    /// In a forked child a closed one, where the state can't be had.
    pub(crate) fn phase(&self) -> Phase {
        self.try_state().map_or(Phase::Closed, |state| state.machine.phase())
    }

    pub(crate) fn stats(&self) -> Stats {
        self.try_state().map_or_else(Stats::default, |state| state.machine.stats())
    }

    /// What there is to count of it.
    pub(super) fn totals(&self) -> SocketTotals {
        self.try_state().map_or_else(SocketTotals::default, |state| state.totals())
    }

    /// The state, for those who only look: in a forked child somebody may have the lock who is not
    /// there.
    pub(super) fn try_state(&self) -> Option<StateGuard<'_>> {
        if self.is_forked() { self.state.try_lock().ok() } else { Some(self.state_soon()) }
    }

    // ------------------------------------------------------------- what the loop tells

    pub(super) fn is_connecting(&self) -> bool {
        self.state().machine.phase() == Phase::Connecting
    }

    /// Which threads look the name up.
    pub(super) fn lookup_kind(&self) -> LookupKind {
        match self.state().establishing_mut() {
            Some(establishing) if establishing.lookup == LookupProgress::QueuedNested => {
                LookupKind::Nested
            }
            Some(establishing) if establishing.resolver.is_some() => LookupKind::Custom,
            Some(_) | None => LookupKind::System,
        }
    }

    /// Notes that a thread has the lookup now. Returns the resolver to ask, or none for the operating system's. It
    /// belongs to the program, so it is handed over, to be dropped where that can do no harm.
    pub(super) fn start_lookup(&self) -> Option<Arc<dyn Resolver>> {
        let mut state = self.state();
        let establishing = state.establishing_mut()?;
        establishing.lookup = LookupProgress::Started;
        establishing.resolver.take()
    }

    pub(super) fn handle_resolved(
        self: &Arc<Self>,
        answer: Result<Vec<SocketAddr>, (Fault, Unresolved)>,
    ) {
        let mut state = self.state();
        let mut late = None;
        match answer {
            Ok(addresses) => state = self.handle_input(state, Input::Resolved(Ok(&addresses))),
            Err((fault, lookup_error)) => {
                match &mut state.establishing {
                    Some(establishing) => establishing.lookup_error = Some(lookup_error),
                    None => late = Some(lookup_error),
                }
                state = self.handle_input(state, Input::Resolved(Err(fault)));
            }
        }
        drop(state);
        // The user's error, which nobody waits for any more.
        drop(late);
    }

    pub(super) fn handle_attempt(self: &Arc<Self>, id: AttemptId, result: AttemptResult) {
        let state = self.state();
        let (state, actions) = self.finish_attempt(state, id, result);
        drop(self.apply(state, actions));
    }

    /// Notes an attempt that the loop watches. Returns whether it is wanted: it may have been given up before
    /// it was posted, and once another one has won it is not, although the handshake may still go on.
    pub(super) fn track_attempt(&self, token: Token, id: AttemptId) -> bool {
        let mut state = self.state();
        let is_wanted = state.machine.awaits(id);
        match state.establishing_mut() {
            Some(establishing) if is_wanted => establishing.attempts.push(token),
            Some(_) | None => return false,
        }
        true
    }

    /// Notes a timer that the loop holds. Returns whether it is wanted.
    pub(super) fn track_timer(&self, token: Token) -> bool {
        let mut state = self.state();
        let Some(establishing) = state.establishing_mut() else { return false };
        establishing.timers.push(token);
        true
    }

    /// The loop does not hold this attempt or this timer any more.
    pub(super) fn untrack(&self, token: Token) {
        if let Some(establishing) = self.state().establishing_mut() {
            establishing.attempts.retain(|held| *held != token);
            establishing.timers.retain(|held| *held != token);
        }
    }

    /// The loop has the wire registered for both directions, and will report on it.
    pub(super) fn on_registered(&self, token: Token) {
        let mut state = self.state();
        state.token.set(token);
        state.reports_readiness = true;
    }

    /// The instant of the machine's limit has come.
    pub(super) fn handle_timer(self: &Arc<Self>) {
        let state = self.state();
        drop(self.handle_input(state, Input::Deadline));
    }

    /// After a panic under the lock the socket has failed: see `poison`.
    #[inline]
    pub(super) fn state(&self) -> StateGuard<'_> {
        match self.state.lock() {
            Ok(state) => state,
            Err(poisoned) => self.fail_internally(poisoned.into_inner()),
        }
    }

    /// [`state`](Self::state) in the middle of a call that took it before, on the straight way of a read or
    /// write: whether there was a panic since, the next call asks.
    #[inline]
    pub(super) fn state_after_call(&self) -> StateGuard<'_> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notify_waiters(&self, state: &ConnectionState) {
        if state.waiters > 0 {
            self.changed.notify_all();
        }
    }
}

/// One that ends without an outcome still gives its place back.
impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_forked() {
            return;
        }
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = state.slot.take() {
            start_next(self.registry.remove(slot, state.totals()));
        }
        if event_loop::is_loop_thread() {
            let foreign = state.error.as_ref().is_some_and(Error::may_be_foreign)
                || state.machine.holds_foreign_code();
            let upgrade = self.upgrade.take_if(|upgrade| upgrade.tls.runs_foreign_code());
            if foreign {
                drop_off_loop(std::mem::replace(state, ConnectionState::new(Machine::over())));
            }
            if upgrade.is_some() {
                drop_off_loop(upgrade);
            }
        }
    }
}

/// The loop begins for who waited for a place: whoever gave it back has other things to do, and who begins
/// may end at once and give it back in turn.
pub(super) fn start_next(next: Option<Weak<Connection>>) {
    if let (Some(next), Ok(loop_handle)) = (next, LoopHandle::get()) {
        loop_handle.post(Command::StartQueued(next), Urgency::Now);
    }
}

impl ConnectionState {
    pub(super) fn new(machine: Machine) -> Self {
        ConnectionState {
            machine,
            wire: WireRefs::default(),
            error: None,
            recv: Direction::default(),
            send: Direction::default(),
            info: None,
            call_limits: None,
            establishing: None,
            waiters: 0,
            executors: 0,
            monitor: Monitor::Off,
            reads_done: 0,
            token: LoopToken::NONE,
            reports_readiness: false,
            want_writable: false,
            is_tls: false,
            error_probe: false,
            worker_task: WorkerTask::None,
            upgrading: false,
            writers_waiting: 0,
            slot: None,
        }
    }

    pub(super) fn direction(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Read => &mut self.recv,
            Side::Write => &mut self.send,
        }
    }

    /// Whether there was never a limit on calls.
    #[inline]
    pub(super) fn has_no_limits(&self) -> bool {
        self.call_limits.is_none()
    }

    /// The user's limit on the calls of one direction.
    #[inline(never)]
    pub(super) fn call_limit(&self, side: Side) -> CallLimit {
        self.call_limits
            .as_ref()
            .map_or_else(CallLimit::default, |call_limits| call_limits[side as usize])
    }

    pub(super) fn call_limit_mut(&mut self, side: Side) -> &mut CallLimit {
        &mut self.call_limits.get_or_insert_default()[side as usize]
    }

    /// The one error that all waiters get.
    pub(super) fn error_for(&self, fault: Fault) -> Error {
        match &self.error {
            Some(error) if error.kind() == fault.kind() => error.clone(),
            Some(_) | None => Error::from_fault(fault),
        }
    }

    pub(super) fn totals(&self) -> SocketTotals {
        SocketTotals { opened: self.machine.opened(), bytes: self.machine.stats() }
    }

    /// The step at which connecting is.
    pub(super) fn step(&self) -> Option<Step> {
        let is_queued =
            |establishing: &Establishing| establishing.lookup != LookupProgress::Started;
        match self.machine.step() {
            Some(Step::Lookup) if self.establishing.as_deref().is_some_and(is_queued) => {
                Some(Step::WaitForLookup)
            }
            step => step,
        }
    }

    pub(super) fn establishing_mut(&mut self) -> Option<&mut Establishing> {
        self.establishing.as_deref_mut()
    }

    pub(super) fn needs_monitor(&self) -> bool {
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
    pub(super) fn call_limits(&self) -> Option<Box<[CallLimit; 2]>> {
        self.call_limits.clone()
    }

    pub(super) fn set_call_limits(&mut self, call_limits: Option<Box<[CallLimit; 2]>>) {
        self.call_limits = call_limits;
    }
}

impl Direction {
    pub(super) fn parker_to_wake(&self) -> Option<Arc<WakeHandle>> {
        if self.parked { self.parker.upgrade() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle socket costs is mostly this: a change that makes it larger should be meant.
    #[test]
    fn the_state_of_a_socket_is_small() {
        assert!(size_of::<Connection>() <= 264, "{}", size_of::<Connection>());
    }
}
