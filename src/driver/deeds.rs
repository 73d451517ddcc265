//! How what the machine wants is done.
//!
//! Every change of a socket goes the same way: under the lock the machine takes notice and its outputs
//! are gathered as [`ActionSet`]; what concerns the state is done there, and whom to wake is noted; then,
//! with the lock released, they are woken and the wire is dealt with. Where that has a result at once,
//! such as an attempt that failed, it goes round again.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::clock;
use super::dial::{self, DialResult};
use super::errno::os_code;
use super::facts::ConnectedInfo;
use super::given::AdoptedStream;
use super::pool::SubmitResult;
use super::roster::Registry;
use super::shared::{
    AttemptResult, Connection, ConnectionState, Establishing, Monitor, StateGuard, start_next,
};
use super::slices::SendBufs;
use super::sync::mio::Token;
use super::wait::WakeHandle;
use super::wire::{DrainResult, Wire};
use super::workers::drop_off_loop;
use super::young::IdleSlot;
use super::{Command, LoopHandle, Urgency};
use crate::address::SocketAddress;
use crate::egress::{EgressRules, is_local};
use crate::error::{Error, Fault, Unresolved};
use crate::info::Timings;
use crate::machine::{AttemptId, Discarded, Input, Output, Outputs, Release, Watch};
use crate::options::TcpOptions;
use crate::resolver::Resolver;

/// What is dropped at most of what comes in after a close.
const MAX_LINGER_BYTES: usize = 1024 * 1024;

/// Longer than it takes until the loop looks at a socket that is listed.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);

impl Connection {
    /// Has the machine take notice, and carries out what it wants.
    pub(super) fn handle_input<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        input: Input<'_>,
    ) -> StateGuard<'a> {
        let actions = ActionSet::collect(state.machine.handle(input, clock::now()));
        self.apply(state, actions)
    }

    /// Carries out what the machine wants, until it wants nothing more. Releases the lock meanwhile.
    #[inline]
    pub(super) fn apply<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        actions: Option<ActionSet>,
    ) -> StateGuard<'a> {
        // So it is with nearly every read and write.
        if actions.is_none() && state.establishing.is_none() {
            state
        } else {
            self.run_actions(state, actions)
        }
    }

    #[inline(never)]
    fn run_actions<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        mut next: Option<ActionSet>,
    ) -> StateGuard<'a> {
        let mut user_objects = Vec::new();
        while let Some(actions) = &mut next {
            let mut after = state.commit(actions, self.requested(), self.registry());
            let event = state.log_event(actions, after.addresses.is_none());
            let scan_idle =
                !planted!(LeavesHandshakeUnmonitored) && self.queue_if_unmonitored(&mut state);
            state.executors += 1;
            self.notify_waiters(&state);
            drop(state);
            let guard = self.executor_guard();
            if !planted!(NoWake) {
                after.wake();
            }
            if let Some(event) = event {
                event.log(self.requested());
            }
            if let (true, Ok(loop_handle)) = (scan_idle, LoopHandle::get()) {
                loop_handle.post(Command::ScanIdle, Urgency::Soon);
            }
            let answer = self.execute(actions, &mut after);
            user_objects.extend(after.take_user_objects());
            // Which may close descriptors.
            drop((after, actions.late_wire.take()));
            std::mem::forget(guard);
            state = self.state();
            if planted!(FreesSlotLate) {
                start_next(state.free_slot(self.registry()));
            }
            state.executors -= 1;
            if state.executors == 0 && !planted!(NoExecutorNotice) {
                self.notify_waiters(&state);
            }
            match answer {
                Some((id, result)) => (state, next) = self.finish_attempt(state, id, result),
                None => next = None,
            }
        }
        let state = self.update_timer(state);
        if user_objects.is_empty() {
            return state;
        }
        // It is the user's, and so is what happens when it is dropped. Nobody waits for that.
        drop(state);
        user_objects.into_iter().for_each(drop_off_loop);
        self.state()
    }

    /// The loop keeps the machine's time.
    pub(super) fn update_timer<'a>(
        self: &'a Arc<Self>,
        mut guard: StateGuard<'a>,
    ) -> StateGuard<'a> {
        let state = &mut *guard;
        let at = state.machine.deadline().map(|(at, _)| at);
        if at.is_some() && state.establishing.is_none() {
            state.establishing = Some(Box::default());
        }
        let Some(establishing) = &mut state.establishing else { return guard };
        if establishing.timer == at {
            return guard;
        }
        // A handshake that a caller makes is mostly over before the loop has to look.
        let is_queued = matches!(state.monitor, Monitor::Queued(_));
        let is_driven = is_queued && state.machine.watch() == Watch::Ingest;
        if is_driven && at.is_some_and(|at| at > clock::now() + HANDSHAKE_GRACE) {
            return guard;
        }
        establishing.timer = at;
        drop(guard);
        if let (Some(at), Ok(loop_handle)) = (at, LoopHandle::get()) {
            loop_handle.post(Command::SetTimer(Arc::clone(self), at), Urgency::Now);
        }
        self.state()
    }

    /// Tells the machine how an attempt ended; the wire is adopted before anyone hears of it.
    pub(super) fn finish_attempt<'a>(
        self: &'a Arc<Self>,
        mut guard: StateGuard<'a>,
        id: AttemptId,
        result: AttemptResult,
    ) -> (StateGuard<'a>, Option<ActionSet>) {
        let state = &mut *guard;
        let (wire, result) = match result {
            Ok((wire, endpoints)) => (Some(wire), Ok(endpoints)),
            Err(fault) => (None, Err(fault)),
        };
        let mut actions =
            ActionSet::collect(state.machine.handle(Input::Attempted { id, result }, clock::now()));
        let attached = actions.as_ref().and_then(|actions| actions.attach);
        if let (Some(timings), Ok(endpoints)) = (attached, result) {
            if let Some(wire) = wire {
                state.wire.attach(wire);
            }
            state.info = Some(ConnectedInfo::new(endpoints, timings));
        } else if planted!(LeaksLateConnection) {
            std::mem::forget(wire);
        } else if wire.is_some() {
            // Closed once the lock is released.
            actions.get_or_insert_default().late_wire = wire;
        }
        (guard, actions)
    }

    /// Does what needs system calls. An attempt that ended at once is the answer.
    fn execute(
        self: &Arc<Self>,
        actions: &ActionSet,
        after: &mut AfterUnlock,
    ) -> Option<(AttemptId, AttemptResult)> {
        start_next(after.next_queued.take());
        if let Some(wire) = &after.wire {
            if !after.final_records.is_empty() {
                // It goes at once or not at all: nobody waits for it.
                let _ = wire.send(&SendBufs::One(&after.final_records));
            }
            if actions.shutdown_write {
                wire.shutdown_write();
            }
        }
        if let Some(how) = actions.release {
            if let Some(wire) = after.wire.take() {
                if let (Some(_), Ok(loop_handle)) = (after.token, LoopHandle::get()) {
                    wire.deregister(loop_handle.registry());
                }
                release_wire(wire, how);
            }
        }
        if !after.dropped_tokens.is_empty() {
            if let Ok(loop_handle) = LoopHandle::get() {
                let dropped_tokens = std::mem::take(&mut after.dropped_tokens);
                loop_handle.post(Command::DropTokens(dropped_tokens), Urgency::Now);
            }
        }
        if let Some(token) = after.token {
            if let Ok(loop_handle) = LoopHandle::get() {
                loop_handle.post(Command::DropTokens(vec![token]), Urgency::Soon);
            }
        }
        if let (Some(idle_slot), Ok(loop_handle)) = (after.idle_slot, LoopHandle::get()) {
            loop_handle.idle_list().remove(idle_slot, self);
        }
        if actions.drive_recv {
            match LoopHandle::get() {
                Ok(loop_handle) => self.schedule_handshake(loop_handle),
                Err(fault) => drop(self.handle_input(self.state(), Input::WireFailed(fault))),
            }
        }
        if actions.begin_handshake {
            self.defer_to_workers();
        }
        if actions.transmit && actions.release.is_none() {
            self.transmit();
        }
        if actions.resolve {
            match after.addresses.take() {
                Some(addresses) => self.handle_resolved(Ok(addresses)),
                None => self.submit_lookup(),
            }
        }
        if let (Some(id), Ok(loop_handle)) = (actions.cancel_attempt, LoopHandle::get()) {
            loop_handle.post(Command::CancelAttempt(Arc::clone(self), id), Urgency::Now);
        }
        let (id, address) = actions.attempt?;
        let (tcp, egress) = match after.method.take()? {
            ConnectMethod::Dial(tcp, egress) => (tcp, egress),
            ConnectMethod::Adopt(adopted) => {
                return self
                    .begin_attempt(id, address, Ok(adopted.into_dial_result()))
                    .map(|result| (id, result));
            }
        };
        let allowed = match egress {
            Some(rules) if rules.asks_whether_local(address) => check_not_local(address, &tcp),
            Some(_) | None => Ok(()),
        };
        match allowed {
            Ok(()) => self.dial(id, address, &tcp).map(|result| (id, result)),
            Err(fault) => Some((id, Err(fault))),
        }
    }

    fn submit_lookup(self: &Arc<Self>) {
        let submitted = match LoopHandle::get() {
            Ok(loop_handle) => match loop_handle.resolver_pool().submit(self, clock::now()) {
                Ok(SubmitResult::Started) => return,
                Ok(SubmitResult::Queued) => {
                    return loop_handle.post(Command::PollResolver, Urgency::Soon);
                }
                Ok(SubmitResult::Failed(fault)) => fault,
                Err(refused) => return self.handle_resolved(Err((Fault::Resolve, refused))),
            },
            Err(fault) => fault,
        };
        // The lookup could not even be begun.
        let state = self.state();
        drop(self.handle_input(state, Input::Resolved(Err(submitted))));
    }

    fn dial(
        self: &Arc<Self>,
        id: AttemptId,
        address: SocketAddr,
        tcp: &TcpOptions,
    ) -> Option<AttemptResult> {
        let loop_handle = match LoopHandle::get() {
            Ok(loop_handle) => loop_handle,
            Err(fault) => return Some(Err(fault)),
        };
        let mut dialled = dial::dial(address, tcp);
        // What lingers may go where something is to live.
        if matches!(dialled, Err(Fault::Io(_))) && loop_handle.linger_queue().close_all() {
            dialled = dial::dial(address, tcp);
        }
        self.begin_attempt(id, address, dialled)
    }

    /// The answer to an attempt, where it is there already.
    fn begin_attempt(
        self: &Arc<Self>,
        id: AttemptId,
        address: SocketAddr,
        dialled: Result<DialResult, Fault>,
    ) -> Option<AttemptResult> {
        match dialled {
            Ok(DialResult::Connected(wire)) => {
                let endpoints = dial::endpoints(&wire, address);
                Some(Ok((wire, endpoints)))
            }
            Ok(DialResult::Pending(wire)) => {
                let connection = Arc::clone(self);
                match LoopHandle::get() {
                    Ok(loop_handle) => {
                        loop_handle.post(
                            Command::WatchConnect { connection, id, address, wire },
                            Urgency::Now,
                        );
                        None
                    }
                    Err(fault) => Some(Err(fault)),
                }
            }
            Err(fault) => Some(Err(fault)),
        }
    }
}

/// Refuses an own listener on every address of this machine: whether the address is one, only the system
/// knows. Refuses too if it does not tell.
fn check_not_local(address: SocketAddr, tcp: &TcpOptions) -> Result<(), Fault> {
    let mut local = is_local(address, tcp.bind);
    // As for an attempt, the wires that linger may go if that gives a descriptor.
    if local.is_err() && LoopHandle::get()?.linger_queue().close_all() {
        local = is_local(address, tcp.bind);
    }
    match local {
        Ok(false) => Ok(()),
        Ok(true) => Err(Fault::OwnListener),
        Err(error) => Err(Fault::LocalityUnknown(os_code(&error))),
    }
}

/// Lets go of a wire of which nothing more is wanted.
fn release_wire(wire: Arc<Wire>, how: Release) {
    match how {
        Release::Done => {}
        Release::Reset => wire.reset(),
        Release::Linger if planted!(NeverLingers) => {}
        Release::Linger => {
            let mut left = MAX_LINGER_BYTES;
            let drained = wire.drain(&mut left);
            if let (DrainResult::Empty | DrainResult::Unable, Ok(loop_handle)) =
                (drained, LoopHandle::get())
            {
                loop_handle.linger_queue().add(loop_handle, wire, left);
            }
        }
    }
}

/// What the machine wants, gathered.
#[derive(Debug, Default)]
pub(super) struct ActionSet {
    pub(super) resolve: bool,
    pub(super) attempt: Option<(AttemptId, SocketAddr)>,
    attach: Option<Timings>,
    cancel_attempt: Option<AttemptId>,
    cancel_attempts: bool,
    pub(super) shutdown_write: bool,
    drive_recv: bool,
    begin_handshake: bool,
    transmit: bool,
    release: Option<Release>,
    pub(super) opened: bool,
    readable: bool,
    writable: bool,
    pub(super) closed: bool,
    /// A connection that came too late, or led nowhere.
    late_wire: Option<Arc<Wire>>,
}

impl ActionSet {
    /// Mostly there are none.
    #[inline]
    pub(super) fn collect(outputs: Outputs<'_>) -> Option<Self> {
        if outputs.is_empty() { None } else { Some(ActionSet::collect_nonempty(&outputs)) }
    }

    #[inline(never)]
    fn collect_nonempty(outputs: &Outputs<'_>) -> Self {
        let mut set = ActionSet::default();
        for output in outputs.as_slice() {
            match *output {
                Output::Resolve => set.resolve = true,
                Output::Attempt { id, address } => set.attempt = Some((id, address)),
                Output::Adopt { timings, .. } => set.attach = Some(timings),
                Output::GiveUp { id } => set.cancel_attempt = Some(id),
                Output::Abandon => set.cancel_attempts = true,
                Output::ShutdownWrite => set.shutdown_write = true,
                Output::Attend => set.drive_recv = true,
                Output::Transmit => set.transmit = true,
                Output::Release(how) => set.release = Some(how),
                Output::Opened => set.opened = true,
                Output::Readable => set.readable = true,
                Output::Writable => set.writable = true,
                Output::Closed => set.closed = true,
                Output::Begin => set.begin_handshake = true,
            }
        }
        set
    }
}

/// What is left to do once the lock is released.
#[derive(Debug)]
struct AfterUnlock {
    wake: [Option<Arc<WakeHandle>>; 2],
    wire: Option<Arc<Wire>>,
    token: Option<Token>,
    /// Where it is listed to be watched.
    idle_slot: Option<IdleSlot>,
    /// What was needed for connecting, which is over. A resolver may go with it, which is the user's.
    establishing: Option<Box<Establishing>>,
    /// The attempts and timers that the loop is to forget.
    dropped_tokens: Vec<Token>,
    method: Option<ConnectMethod>,
    /// What the look-up that is wanted would find.
    addresses: Option<Vec<SocketAddr>>,
    /// What is sent before the wire is let go of.
    final_records: Vec<u8>,
    /// Who has its place now.
    next_queued: Option<Weak<Connection>>,
    /// What is left of TLS, where it may be of the user's.
    discarded: Option<Discarded>,
}

/// What was the user's, and is wanted no more.
type UserObjects = (Option<Arc<dyn Resolver>>, Option<Unresolved>, Option<Discarded>);

/// How to make a connection.
#[derive(Debug)]
enum ConnectMethod {
    /// By dialling, unless the rules ask for a look at the system first.
    Dial(TcpOptions, Option<Arc<EgressRules>>),
    /// It was given.
    Adopt(AdoptedStream),
}

impl AfterUnlock {
    fn take_user_objects(&mut self) -> Option<UserObjects> {
        // A resolver that is still here was not asked.
        let (resolver, lookup_error) = match &mut self.establishing {
            Some(finished) => (finished.resolver.take(), finished.lookup_error.take()),
            None => (None, None),
        };
        let some = resolver.is_some() || lookup_error.is_some() || self.discarded.is_some();
        some.then(|| (resolver, lookup_error, self.discarded.take()))
    }

    fn wake(&self) {
        self.wake.iter().flatten().for_each(|handle| handle.wake());
    }
}

impl ConnectionState {
    /// Does what concerns the state only.
    fn commit(
        &mut self,
        actions: &ActionSet,
        requested: &SocketAddress,
        registry: &Registry,
    ) -> AfterUnlock {
        let mut wake = [None, None];
        if actions.readable {
            wake[0] = self.recv.parker_to_wake();
        }
        if actions.writable {
            wake[1] = self.send.parker_to_wake();
        }
        // While a limit runs the loop keeps it.
        let finished = self.machine.deadline().is_none() && !self.is_opening();
        let mut finished = if finished { self.establishing.take() } else { None };
        let mut dropped_tokens = Vec::new();
        if let Some(establishing) = &mut finished {
            dropped_tokens.append(&mut establishing.attempts);
            dropped_tokens.append(&mut establishing.timers);
        } else if let (true, Some(establishing)) = (actions.cancel_attempts, &mut self.establishing)
        {
            // The race is over, and the handshake's limit is not.
            dropped_tokens.append(&mut establishing.attempts);
        }
        if self.error.is_none() {
            if let Some(failure) = self.machine.failure() {
                let opening = matches!(self.machine.opened(), Some(Err(_)));
                let error = Error::from_tls(failure, opening.then_some(requested as _));
                self.error = Some(self.with_step(error));
            } else if let Some(Err(fault)) = self.machine.opened() {
                let fault = finished
                    .as_ref()
                    .map_or(fault, |establishing| establishing.refine_fault(fault));
                let attempts = self.machine.attempts();
                let resolver =
                    finished.as_mut().and_then(|establishing| establishing.lookup_error.take());
                let egress =
                    finished.as_ref().and_then(|establishing| establishing.egress.as_deref());
                let error = Error::from_connecting(fault, requested, attempts, resolver, egress);
                let error = match fault {
                    Fault::TimedOut(limit) => error.during(limit.step()),
                    _ => error,
                };
                self.error = Some(self.with_step(error));
            } else if let Some(Err(fault)) = self.machine.outcome() {
                self.error = Some(Error::from_fault(fault));
            }
        }
        let final_records = match actions.release {
            Some(_) if actions.transmit => self.machine.take_farewell(),
            Some(_) | None => Vec::new(),
        };
        let how = match (&actions.attempt, &mut self.establishing) {
            (Some(_), Some(establishing)) => Some(match establishing.adopted.take() {
                Some(adopted) => ConnectMethod::Adopt(adopted),
                None => ConnectMethod::Dial(establishing.tcp.clone(), establishing.egress.clone()),
            }),
            _ => None,
        };
        let addresses = match (actions.resolve, &mut self.establishing) {
            (true, Some(establishing)) => establishing.addresses.take(),
            _ => None,
        };
        // Before anyone hears of the end.
        let next = if planted!(FreesSlotLate) { None } else { self.free_slot(registry) };
        let discarded = match (actions.release, actions.closed) {
            (None, false) => None,
            (Some(_), _) | (_, true) => self.machine.take_discarded(),
        };
        // Last: after a panic the wire is still there to be reset.
        let (wire, token, idle_slot) = match actions.release {
            Some(_) => (self.wire.take(), self.token.take(), self.take_idle_slot()),
            None => (self.wire.cloned(), None, None),
        };
        AfterUnlock {
            wake,
            wire,
            token,
            idle_slot,
            establishing: finished,
            dropped_tokens,
            method: how,
            addresses,
            final_records,
            next_queued: next,
            discarded,
        }
    }

    /// Gives its place up once its outcome is known. The socket that has it now is to be admitted.
    pub(super) fn free_slot(&mut self, registry: &Registry) -> Option<Weak<Connection>> {
        self.machine
            .outcome()
            .and_then(|_| self.slot.take())
            .and_then(|slot| registry.remove(slot, self.totals()))
    }

    /// Notes on an error at which step connecting failed, and how long each took.
    fn with_step(&self, error: Error) -> Error {
        let Some(timings) = self.machine.timings() else { return error };
        let error = error.during(self.machine.step());
        match &self.info {
            Some(info) => error.after(Timings { handshake: timings.handshake, ..info.timings() }),
            None => error.after(timings),
        }
    }

    pub(super) fn take_idle_slot(&mut self) -> Option<IdleSlot> {
        match std::mem::replace(&mut self.monitor, Monitor::Off) {
            Monitor::Queued(idle_slot) => Some(idle_slot),
            Monitor::Off | Monitor::Full | Monitor::ErrorsOnly => None,
        }
    }
}
