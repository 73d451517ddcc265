//! `Connection`: one socket's machine under its lock, and the data that waiting threads need. The handles, the event
//! loop and worker threads share it.
//!
//! No wake-up is lost. A thread that waits checks, under the lock, every condition that could end its wait, and
//! announces the wait there. A thread that changes one of these conditions does so under the lock too, and wakes the
//! announced waiters.

pub(crate) mod actions;
pub(crate) mod buffers;
pub(crate) mod call_timer;
pub(crate) mod callbacks;
pub(crate) mod connected_info;
pub(crate) mod fairness;
pub(crate) mod fork;
pub(crate) mod handle_count;
pub(crate) mod log_event;
pub(crate) mod monitor;
pub(crate) mod poison;
pub(crate) mod predictor;
pub(crate) mod turn;
pub(crate) mod wire_refs;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use self::actions::ActionSet;
use self::connected_info::ConnectedInfo;
use self::handle_count::HandleCount;
use self::predictor::BlockPredictor;
use self::wire_refs::WireRefs;
use crate::address::SocketAddress;
use crate::driver::connect::adopt::AdoptedStream;
use crate::driver::connect::resolver_pool::{self, LookupKind};
use crate::driver::event_loop::idle_list::IdleSlot;
use crate::driver::event_loop::workers::drop_off_loop;
use crate::driver::event_loop::{self, Command, LoopHandle, Urgency};
use crate::driver::registry::{Admission, Registry, ScopeId, SlotId, SocketTotals};
use crate::driver::sys::clock;
use crate::driver::sys::sync::mio::Token;
use crate::driver::sys::sync::{Condvar, Mutex, MutexGuard};
use crate::driver::sys::wake::{Side, WakeHandle};
use crate::driver::sys::wire::Wire;
use crate::egress::EgressRules;
use crate::error::{Error, Fault, LookupError, Result, Step, TimerKind};
use crate::info::{Endpoints, Phase, Stats};
use crate::machine::{
    AttemptId, Background, Config, Input, Machine, Target, TlsSetup, UpgradeError,
};
use crate::options::{SecureTransport, SocketOptions, TcpOptions};
use crate::resolver::Resolver;
use crate::tls::TlsOptions;

/// The part of a socket that its handles share.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The state. Held only briefly and never during a system call; no other lock is taken under it.
    pub(crate) state: Mutex<ConnectionState>,
    /// Condition variable for `state`: notified on any change that a waiter may be interested in.
    pub(crate) changed: Condvar,
    /// Number of the user's handles. The socket closes when the last one is dropped.
    handles: HandleCount,
    requested: SocketAddress,
    /// The registry that this socket's slot belongs to.
    registry: Arc<Registry>,
    /// Settings of the upgrade; `Some` if the mode is [`SecureTransport::StartTls`].
    upgrade: Option<Box<UpgradeConfig>>,
}

/// Settings of a later upgrade.
#[derive(Debug)]
pub(crate) struct UpgradeConfig {
    pub(crate) tls: TlsOptions,
    pub(crate) connect_timeout: Option<Duration>,
    /// Configuration of the upgraded socket's machine.
    pub(crate) config: Config,
}

#[derive(Debug)]
pub(crate) struct ConnectionState {
    pub(crate) machine: Machine,
    /// The connection, from its creation until it is released.
    pub(crate) wire: WireRefs,
    pub(crate) error: Option<Error>,
    pub(crate) recv: Direction,
    pub(crate) send: Direction,
    pub(crate) info: Option<ConnectedInfo>,
    /// Limits on reads and on writes; `None` until the user sets one.
    call_limits: Option<Box<[CallLimit; 2]>>,
    pub(crate) establishing: Option<Box<Establishing>>,
    /// Number of threads that wait for `changed`.
    pub(crate) waiters: u32,
    /// Number of threads that are executing actions. It cannot overflow: each of these threads holds actions of the
    /// machine, which the machine gives out only once.
    pub(crate) executors: u16,
    pub(crate) monitor: Monitor,
    /// Number of reading turns that have ended.
    pub(crate) reads_done: u32,
    /// Token of the event loop's registration of the wire.
    pub(crate) token: LoopToken,
    /// Whether the event loop reports readiness to both directions, for threads that wait on the condition variable.
    pub(crate) reports_readiness: bool,
    /// Whether the event loop sends the queued ciphertext when the wire becomes writable.
    pub(crate) want_writable: bool,
    /// Whether the socket used TLS from its start.
    pub(crate) is_tls: bool,
    /// Whether the event loop is reading the wire's pending error, or a worker is about to.
    pub(crate) error_probe: bool,
    /// The socket's work on a worker thread.
    pub(crate) worker_task: WorkerTask,
    /// Whether a caller is about to upgrade. Writes that begin now wait for the upgrade.
    pub(crate) upgrading: bool,
    /// Number of writes that wait for the turn and began before the upgrade.
    pub(crate) writers_waiting: u32,
    /// The slot in the registry, until the outcome is known.
    pub(crate) slot: Option<SlotId>,
}

/// Source of a socket's connection.
#[derive(Debug)]
pub(crate) enum Origin {
    /// Resolve the requested address if it is a name, then dial.
    Dial,
    /// Dial these addresses without a lookup.
    Addresses(Vec<SocketAddr>),
    /// Use this existing connection.
    Adopted(AdoptedStream),
}

/// Everything that opening a socket needs besides its options.
#[derive(Clone, Copy)]
pub(crate) struct ConnectContext<'a> {
    /// Resolver; `None` means that of the operating system.
    pub(crate) resolver: Option<&'a Arc<dyn Resolver>>,
    /// Egress rules; `None` allows everything.
    pub(crate) egress: Option<&'a Arc<EgressRules>>,
    pub(crate) registry: &'a Arc<Registry>,
    pub(crate) scope: Option<ScopeId>,
}

/// State of one direction, shared by the threads that use it.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    /// Whether a thread has the turn. Only that thread makes system calls in this direction.
    pub(crate) turn_held: bool,
    /// Whether the thread that has the turn waits in `parker`.
    pub(crate) parked: bool,
    pub(crate) predictor: BlockPredictor,
    /// Whether the event loop saw the wire ready since the last call.
    pub(crate) ready: bool,
    /// Whether the thread at the wire knows that the wire has failed, but not why.
    pub(crate) cause_unknown: bool,
    pub(crate) parker: Weak<WakeHandle>,
}

/// The user's limits on the calls of one direction; the earlier one applies.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallLimit {
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Option<Instant>,
}

/// The token of the event loop's registration, if there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoopToken(Token);

impl LoopToken {
    const NONE: LoopToken = LoopToken(event_loop::WAKER_TOKEN);

    pub(crate) fn set(&mut self, token: Token) {
        self.0 = token;
    }

    pub(crate) fn get(self) -> Option<Token> {
        if self.0 == event_loop::WAKER_TOKEN { None } else { Some(self.0) }
    }

    pub(crate) fn take(&mut self) -> Option<Token> {
        std::mem::replace(self, LoopToken::NONE).get()
    }
}

/// State that is needed only while the event loop has bounded work for a socket: connecting, the handshake, or
/// sending the remaining data.
#[derive(Default)]
pub(crate) struct Establishing {
    /// Socket options for dialling.
    pub(crate) tcp: TcpOptions,
    /// Existing connection, which replaces all dialling.
    pub(crate) adopted: Option<AdoptedStream>,
    /// Addresses that replace the result of the lookup.
    pub(crate) addresses: Option<Vec<SocketAddr>>,
    /// Egress rules for the one check of an address that only the kernel can answer.
    pub(crate) egress: Option<Arc<EgressRules>>,
    /// Tokens of the attempts that the event loop watches for this socket.
    pub(crate) attempts: Vec<Token>,
    /// Tokens of the timers that the event loop holds for this socket.
    pub(crate) timers: Vec<Token>,
    /// Time at which the event loop fires the machine's timer.
    pub(crate) timer: Option<Instant>,
    /// Resolver; `None` means that of the operating system.
    pub(crate) resolver: Option<Arc<dyn Resolver>>,
    pub(crate) lookup: LookupProgress,
    /// Reason why the name did not resolve.
    pub(crate) lookup_error: Option<LookupError>,
}

/// Progress of a name's lookup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LookupProgress {
    /// No lookup was requested, or it waits for a thread.
    #[default]
    Queued,
    /// Like `Queued`, but a resolver thread requested the lookup.
    QueuedNested,
    /// A thread is working on it.
    Started,
}

impl Establishing {
    /// Distinguishes a timeout during a lookup from one that passed before the lookup began.
    pub(crate) fn refine_fault(&self, fault: Fault) -> Fault {
        match (fault, self.lookup) {
            (Fault::TimedOut(TimerKind::Lookup), progress)
                if progress != LookupProgress::Started =>
            {
                Fault::TimedOut(TimerKind::LookupQueue)
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

/// Whether the event loop watches for the peer's EOF while no caller reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Monitor {
    /// Not at all: the thread that has the turn queues the socket when it releases the turn.
    Off,
    /// The event loop will start when the turn has been free for a while.
    Queued(IdleSlot),
    /// For readable data and failures.
    Full,
    /// For failures only, because data is unread.
    ErrorsOnly,
}

/// The socket's work on a worker thread: starting its handshake, or ingesting received data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerTask {
    None,
    /// A worker is doing the work, or is going to.
    Queued,
    /// More arrived since: the worker has to run once more.
    Rerun,
}

pub(crate) type StateGuard<'a> = MutexGuard<'a, ConnectionState>;

/// Result of a connection attempt.
pub(crate) type AttemptResult = Result<(Arc<Wire>, Endpoints), Fault>;

impl Connection {
    /// Creates a socket with one handle, which starts to connect or adopts the given connection.
    pub(crate) fn connect(
        requested: SocketAddress,
        options: SocketOptions,
        source: Origin,
        context: ConnectContext<'_>,
    ) -> Result<Arc<Self>> {
        let now = clock::now();
        let target = match (&source, requested.as_socket_addr()) {
            (Origin::Dial | Origin::Adopted(_), Some(address)) => Target::Address(address),
            (Origin::Dial | Origin::Adopted(_), None) | (Origin::Addresses(_), _) => Target::Host,
        };
        let (adopted, addresses) = match source {
            Origin::Dial => (None, None),
            Origin::Addresses(addresses) => (None, Some(addresses)),
            Origin::Adopted(adopted) => (Some(adopted), None),
        };
        let setup = match options.secure_transport {
            SecureTransport::Off => None,
            // Invalid settings fail before anything is sent, also those of a later upgrade.
            SecureTransport::On | SecureTransport::StartTls => {
                let tls = options.tls.clone().unwrap_or_default();
                Some(TlsSetup::new(&tls, requested.hostname())?)
            }
        };
        let mut config = Config {
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
        // The connect deadline does not apply to an upgrade.
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
                    // User code: it may have to be dropped on a thread of its own.
                    resolver: context.resolver.filter(|_| target == Target::Host).cloned(),
                    lookup: match resolver_pool::is_nested() {
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

    /// Adds the socket to the registry, and starts it if it is admitted at once.
    fn register(
        self: &Arc<Self>,
        context: ConnectContext<'_>,
        timeouts: [(Side, Option<Duration>); 2],
        now: Instant,
    ) -> Result<()> {
        let mut state = self.state();
        // Under the lock, because other threads may close the socket as soon as the registry lists it.
        let (slot, admission) = context.registry.admit(Arc::downgrade(self), context.scope)?;
        state.slot = Some(slot);
        for (side, timeout) in timeouts {
            if timeout.is_some() {
                state.call_limit_mut(side).timeout = timeout;
            }
        }
        let actions = match admission {
            Admission::Admitted => ActionSet::collect(state.machine.start(now)),
            // The event loop will start it when a slot is free, and fires its timer.
            Admission::Queued => match LoopHandle::get() {
                Ok(_) => None,
                Err(fault) => return Err(Error::from_fault(fault)),
            },
        };
        drop(self.apply(state, actions));
        Ok(())
    }

    /// Starts a queued socket that has been admitted.
    pub(crate) fn start(self: &Arc<Self>) {
        let mut state = self.state();
        let actions = ActionSet::collect(state.machine.start(clock::now()));
        drop(self.apply(state, actions));
    }

    /// Creates the socket, with one handle, that takes over the connection of an upgraded one.
    pub(crate) fn new_upgraded(&self, state: ConnectionState) -> Arc<Self> {
        Arc::new(Connection {
            state: Mutex::new(state),
            changed: Condvar::new(),
            handles: HandleCount::one(),
            requested: self.requested.clone(),
            registry: Arc::clone(&self.registry),
            upgrade: None,
        })
    }

    /// Returns the mode that the socket was opened with.
    pub(crate) fn mode(&self) -> SecureTransport {
        match &self.upgrade {
            Some(_) => SecureTransport::StartTls,
            None if self.try_state().is_some_and(|state| state.is_tls) => SecureTransport::On,
            None => SecureTransport::Off,
        }
    }

    pub(crate) fn upgrade_config(&self) -> Option<&UpgradeConfig> {
        self.upgrade.as_deref()
    }

    /// Checks whether another socket has taken over the connection.
    pub(crate) fn is_upgraded(&self) -> bool {
        self.try_state().is_some_and(|state| {
            state.error.is_none()
                && state.machine.outcome().is_some()
                && state.machine.upgrade_error() == Some(UpgradeError::Upgraded)
        })
    }

    /// Checks whether this process is a forked child of the one that opened the socket.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.registry.is_forked()
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn requested(&self) -> &SocketAddress {
        &self.requested
    }

    /// Returns the peer's address if the socket has connected.
    pub(crate) fn remote_address(&self) -> Option<SocketAddr> {
        self.try_state()?.info.as_ref()?.endpoints().known_remote()
    }

    // ------------------------------------------------------------- handles

    pub(crate) fn add_handle(&self) {
        self.handles.add();
    }

    /// Drops a handle. The last one closes the socket like `close`, but does not wait.
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

    // ------------------------------------------------------------- queries

    /// Returns the phase; `Closed` in a forked child if the state is locked.
    pub(crate) fn phase(&self) -> Phase {
        self.try_state().map_or(Phase::Closed, |state| state.machine.phase())
    }

    pub(crate) fn stats(&self) -> Stats {
        self.try_state().map_or_else(Stats::default, |state| state.machine.stats())
    }

    /// Returns the counts that the registry adds up.
    pub(crate) fn totals(&self) -> SocketTotals {
        self.try_state().map_or_else(SocketTotals::default, |state| state.totals())
    }

    /// Locks the state for a query. Returns `None` in a forked child if a thread that exists only in the parent holds
    /// the lock.
    pub(crate) fn try_state(&self) -> Option<StateGuard<'_>> {
        if self.is_forked() { self.state.try_lock().ok() } else { Some(self.state_soon()) }
    }

    // ------------------------------------------------------------- reports from the event loop

    pub(crate) fn is_connecting(&self) -> bool {
        self.state().machine.phase() == Phase::Connecting
    }

    /// Returns the kind of thread that has to resolve the name.
    pub(crate) fn lookup_kind(&self) -> LookupKind {
        match self.state().establishing_mut() {
            Some(establishing) if establishing.lookup == LookupProgress::QueuedNested => {
                LookupKind::Nested
            }
            Some(establishing) if establishing.resolver.is_some() => LookupKind::Custom,
            Some(_) | None => LookupKind::System,
        }
    }

    /// Records that a thread has started the lookup. Returns the resolver to ask, or `None` for that of the operating
    /// system. The caller drops the resolver, which is user code, outside the lock.
    pub(crate) fn start_lookup(&self) -> Option<Arc<dyn Resolver>> {
        let mut state = self.state();
        let establishing = state.establishing_mut()?;
        establishing.lookup = LookupProgress::Started;
        establishing.resolver.take()
    }

    pub(crate) fn handle_resolved(
        self: &Arc<Self>,
        answer: Result<Vec<SocketAddr>, (Fault, LookupError)>,
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
        // The user's error, which nothing waits for any more.
        drop(late);
    }

    pub(crate) fn handle_attempt(self: &Arc<Self>, id: AttemptId, result: AttemptResult) {
        let state = self.state();
        let (state, actions) = self.finish_attempt(state, id, result);
        drop(self.apply(state, actions));
    }

    /// Records an attempt that the event loop watches. Returns whether the machine still wants it. The attempt may
    /// have been cancelled before the command ran. Once another attempt has won it is unwanted, although the
    /// handshake may still be running.
    pub(crate) fn track_attempt(&self, token: Token, id: AttemptId) -> bool {
        let mut state = self.state();
        let is_wanted = state.machine.is_attempt_pending(id);
        match state.establishing_mut() {
            Some(establishing) if is_wanted => establishing.attempts.push(token),
            Some(_) | None => return false,
        }
        true
    }

    /// Records a timer that the event loop holds. Returns whether the timer is still wanted.
    pub(crate) fn track_timer(&self, token: Token) -> bool {
        let mut state = self.state();
        let Some(establishing) = state.establishing_mut() else { return false };
        establishing.timers.push(token);
        true
    }

    /// Forgets an attempt or a timer that the event loop no longer holds.
    pub(crate) fn untrack(&self, token: Token) {
        if let Some(establishing) = self.state().establishing_mut() {
            establishing.attempts.retain(|held| *held != token);
            establishing.timers.retain(|held| *held != token);
        }
    }

    /// Records that the event loop has registered the wire for both directions and will report its readiness.
    pub(crate) fn on_registered(&self, token: Token) {
        let mut state = self.state();
        state.token.set(token);
        state.reports_readiness = true;
    }

    /// Tells the machine that its timer fired.
    pub(crate) fn handle_timer(self: &Arc<Self>) {
        let state = self.state();
        drop(self.handle_input(state, Input::TimerExpired));
    }

    /// Locks the state. If a thread panicked under the lock, the socket has failed: see `poison`.
    #[inline]
    pub(crate) fn state(&self) -> StateGuard<'_> {
        match self.state.lock() {
            Ok(state) => state,
            Err(poisoned) => self.fail_internally(poisoned.into_inner()),
        }
    }

    /// Locks the [state](Self::state) again during a call that locked it before, on the fast path of a read or write.
    /// Does not check for a panic since then; the next call does.
    #[inline]
    pub(crate) fn state_after_call(&self) -> StateGuard<'_> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notify_waiters(&self, state: &ConnectionState) {
        if state.waiters > 0 {
            self.changed.notify_all();
        }
    }
}

/// A connection that is dropped without an outcome still gives its slot back.
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
                drop_off_loop(std::mem::replace(state, ConnectionState::new(Machine::inert())));
            }
            if upgrade.is_some() {
                drop_off_loop(upgrade);
            }
        }
    }
}

/// Has the event loop start the socket that was waiting for a slot. The thread that freed the slot has other work,
/// and the started socket may end at once and free the slot again.
pub(crate) fn start_next(next: Option<Weak<Connection>>) {
    if let (Some(next), Ok(loop_handle)) = (next, LoopHandle::get()) {
        loop_handle.post(Command::StartQueued(next), Urgency::Now);
    }
}

impl ConnectionState {
    pub(crate) fn new(machine: Machine) -> Self {
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

    pub(crate) fn direction(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Read => &mut self.recv,
            Side::Write => &mut self.send,
        }
    }

    /// Checks whether the user never set a limit on calls.
    #[inline]
    pub(crate) fn has_no_limits(&self) -> bool {
        self.call_limits.is_none()
    }

    /// Returns the user's limit on the calls of one direction.
    #[inline(never)]
    pub(crate) fn call_limit(&self, side: Side) -> CallLimit {
        self.call_limits
            .as_ref()
            .map_or_else(CallLimit::default, |call_limits| call_limits[side as usize])
    }

    pub(crate) fn call_limit_mut(&mut self, side: Side) -> &mut CallLimit {
        &mut self.call_limits.get_or_insert_default()[side as usize]
    }

    /// Returns the error for a fault; all waiters get the same one.
    pub(crate) fn error_for(&self, fault: Fault) -> Error {
        match &self.error {
            Some(error) if error.kind() == fault.kind() => error.clone(),
            Some(_) | None => Error::from_fault(fault),
        }
    }

    pub(crate) fn totals(&self) -> SocketTotals {
        SocketTotals { opened: self.machine.opened(), bytes: self.machine.stats() }
    }

    /// Returns the current step of connecting.
    pub(crate) fn step(&self) -> Option<Step> {
        let is_queued =
            |establishing: &Establishing| establishing.lookup != LookupProgress::Started;
        match self.machine.step() {
            Some(Step::Lookup) if self.establishing.as_deref().is_some_and(is_queued) => {
                Some(Step::WaitForLookup)
            }
            step => step,
        }
    }

    pub(crate) fn establishing_mut(&mut self) -> Option<&mut Establishing> {
        self.establishing.as_deref_mut()
    }

    pub(crate) fn needs_monitor(&self) -> bool {
        match self.machine.background() {
            Background::WatchEof | Background::WatchErrors => true,
            Background::Nothing | Background::Discard | Background::Ingest => false,
        }
    }

    /// Checks whether the connection is still being established, including the handshake.
    pub(crate) fn is_opening(&self) -> bool {
        self.machine.opened().is_none()
    }

    /// Returns the user's limits, for the socket that takes over the connection.
    pub(crate) fn call_limits(&self) -> Option<Box<[CallLimit; 2]>> {
        self.call_limits.clone()
    }

    pub(crate) fn set_call_limits(&mut self, call_limits: Option<Box<[CallLimit; 2]>>) {
        self.call_limits = call_limits;
    }
}

impl Direction {
    pub(crate) fn parker_to_wake(&self) -> Option<Arc<WakeHandle>> {
        if self.parked { self.parker.upgrade() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This size dominates the memory of an idle socket. A change that increases it should be deliberate.
    #[test]
    fn the_state_of_a_socket_is_small() {
        assert!(size_of::<Connection>() <= 264, "{}", size_of::<Connection>());
    }
}
