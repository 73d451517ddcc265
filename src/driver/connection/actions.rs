//! Executes the actions that the machine wants.
//!
//! Every change of a socket takes the same steps. Under the lock, the machine handles an input, and its outputs are
//! collected as an [`ActionSet`]. Still under the lock, `commit` updates the state and notes the threads to wake.
//! After the lock is released, these threads are woken and the system calls are made. If a call has a result at once,
//! such as a failed attempt, the steps repeat.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::connected_info::ConnectedInfo;
use super::lookup::LookupRequest;
use super::{
    AttemptResult, Connection, ConnectionState, Establishing, Monitor, SocketRegistry, StateGuard,
    start_next,
};
use crate::address::SocketAddress;
use crate::driver::connect::adopt::AdoptedStream;
use crate::driver::connect::dial::{self, DialResult};
use crate::driver::event_loop::idle_list::IdleSlot;
use crate::driver::event_loop::workers::drop_off_loop;
use crate::driver::event_loop::{Command, LoopHandle, Urgency};
use crate::driver::sys::clock;
use crate::driver::sys::errno::os_code;
use crate::driver::sys::io_bufs::SendBufs;
use crate::driver::sys::sync::mio::Token;
use crate::driver::sys::wake::WakeHandle;
use crate::driver::sys::wire::{DrainResult, Wire};
use crate::egress::{EgressRules, is_local};
use crate::error::{Error, Fault, LookupError};
use crate::info::Timings;
use crate::machine::{Actions, Attempt, AttemptId, Background, Discarded, Input, Release};
use crate::options::TcpOptions;
use crate::resolver::Resolver;

/// Maximum number of incoming bytes that are dropped after a close.
const MAX_LINGER_BYTES: usize = 1024 * 1024;

/// Longer than the event loop takes to scan a queued socket.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);

impl Connection {
    /// Passes the input to the machine and executes the resulting actions.
    pub(crate) fn handle_input<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        input: Input<'_>,
    ) -> StateGuard<'a> {
        let actions = ActionSet::collect(state.machine.handle(input, clock::now()));
        self.apply(state, actions)
    }

    /// Executes actions until the machine wants no more. Releases the lock in between.
    #[inline]
    pub(crate) fn apply<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        actions: Option<ActionSet>,
    ) -> StateGuard<'a> {
        // The case of nearly every read and write.
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
            let is_lookup = matches!(after.lookup, Some(LookupRequest::Submit(..)));
            let event = state.log_event(actions, is_lookup);
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
            // This may close descriptors.
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
        // Dropping these runs user code, which nothing here waits for.
        drop(state);
        user_objects.into_iter().for_each(drop_off_loop);
        self.state()
    }

    /// Sets the event loop's timer to the machine's next instant.
    pub(crate) fn update_timer<'a>(
        self: &'a Arc<Self>,
        mut guard: StateGuard<'a>,
    ) -> StateGuard<'a> {
        let state = &mut *guard;
        let at = state.machine.next_timer().map(|(at, _)| at);
        if at.is_some() && state.establishing.is_none() {
            state.establishing = Some(Box::default());
        }
        let Some(establishing) = &mut state.establishing else { return guard };
        if establishing.timer == at {
            return guard;
        }
        // If a caller drives the handshake, it usually ends before the event loop scans the socket.
        let is_queued = matches!(state.monitor, Monitor::Queued(_));
        let is_driven = is_queued && state.machine.background() == Background::Ingest;
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

    /// Passes the result of an attempt to the machine. Attaches the wire before any other thread learns of it.
    pub(crate) fn finish_attempt<'a>(
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
            // Closed after the lock is released.
            actions.get_or_insert_default().late_wire = wire;
        }
        (guard, actions)
    }

    /// Executes the actions that need system calls. Returns the result of an attempt that ended at once.
    fn execute(
        self: &Arc<Self>,
        actions: &ActionSet,
        after: &mut AfterUnlock,
    ) -> Option<(AttemptId, AttemptResult)> {
        start_next(after.next_queued.take());
        if let Some(wire) = &after.wire {
            if !after.final_records.is_empty() {
                // Sent at once or not at all, because nothing waits for it.
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
        if let Some(request) = after.lookup.take() {
            self.look_up(request);
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
            Some(rules) if rules.needs_local_check(address) => check_not_local(address, &tcp),
            Some(_) | None => Ok(()),
        };
        match allowed {
            Ok(()) => self.dial(id, address, &tcp).map(|result| (id, result)),
            Err(fault) => Some((id, Err(fault))),
        }
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
        // Lingering wires give up their descriptors to new ones.
        if matches!(dialled, Err(Fault::Io(_))) && loop_handle.linger_queue().close_all() {
            dialled = dial::dial(address, tcp);
        }
        self.begin_attempt(id, address, dialled)
    }

    /// Takes over a dialled connection. Returns the result of the attempt if it is known already.
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

/// Denies an own listener that accepts connections on every local address. Only the kernel knows whether the address
/// is local. Denies also if the kernel's answer is not definite.
fn check_not_local(address: SocketAddr, tcp: &TcpOptions) -> Result<(), Fault> {
    let mut local = is_local(address, tcp.bind);
    // As for an attempt, lingering wires are closed if that frees a descriptor.
    if local.is_err() && LoopHandle::get()?.linger_queue().close_all() {
        local = is_local(address, tcp.bind);
    }
    match local {
        Ok(false) => Ok(()),
        Ok(true) => Err(Fault::OwnListener),
        Err(error) => Err(Fault::LocalityUnknown(os_code(&error))),
    }
}

/// Releases a wire that is no longer needed.
fn release_wire(wire: Arc<Wire>, how: Release) {
    match how {
        Release::Close => {}
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

/// The actions that the machine wants, collected from its outputs.
#[derive(Debug, Default)]
pub(crate) struct ActionSet {
    pub(crate) resolve: bool,
    pub(crate) attempt: Option<(AttemptId, SocketAddr)>,
    attach: Option<Timings>,
    cancel_attempt: Option<AttemptId>,
    cancel_attempts: bool,
    pub(crate) shutdown_write: bool,
    drive_recv: bool,
    begin_handshake: bool,
    transmit: bool,
    release: Option<Release>,
    pub(crate) opened: bool,
    readable: bool,
    writable: bool,
    pub(crate) closed: bool,
    /// A connection that was established too late, or that the machine rejected.
    late_wire: Option<Arc<Wire>>,
}

impl ActionSet {
    /// Collects the outputs. There are usually none.
    #[inline]
    pub(crate) fn collect(actions: Actions) -> Option<Self> {
        if actions.is_empty() { None } else { Some(ActionSet::collect_nonempty(actions)) }
    }

    #[inline(never)]
    fn collect_nonempty(actions: Actions) -> Self {
        let Actions {
            attach,
            wake,
            cancel_attempts,
            cancel_attempt,
            resolve,
            attempt,
            begin_handshake,
            transmit,
            shutdown_write,
            release,
            drive_recv,
        } = actions;
        ActionSet {
            resolve,
            attempt: attempt.map(|Attempt { id, address }| (id, address)),
            attach: attach.map(|attach| attach.timings),
            cancel_attempt,
            cancel_attempts,
            shutdown_write,
            drive_recv,
            begin_handshake,
            transmit,
            release,
            opened: wake.opened,
            readable: wake.readable,
            writable: wake.writable,
            closed: wake.closed,
            late_wire: None,
        }
    }
}

/// Work that is left once the lock is released.
#[derive(Debug)]
struct AfterUnlock {
    wake: [Option<Arc<WakeHandle>>; 2],
    wire: Option<Arc<Wire>>,
    token: Option<Token>,
    /// The entry in the idle list, if there was one.
    idle_slot: Option<IdleSlot>,
    /// State of the finished establishing. It may own a resolver, which is user code.
    establishing: Option<Box<Establishing>>,
    /// Tokens of the attempts and timers that the event loop is to drop.
    dropped_tokens: Vec<Token>,
    method: Option<ConnectMethod>,
    lookup: Option<LookupRequest>,
    /// Records to send before the wire is released.
    final_records: Vec<u8>,
    /// The queued socket that gets the freed slot.
    next_queued: Option<Weak<Connection>>,
    /// Remaining TLS state, if it may hold user code.
    discarded: Option<Discarded>,
}

/// Values that may hold user code and are no longer needed.
type UserObjects = (Option<Arc<dyn Resolver>>, Option<LookupError>, Option<Discarded>);

/// How to make a connection.
#[derive(Debug)]
enum ConnectMethod {
    /// By dialling. With rules, first check whether the address is local if they require it.
    Dial(TcpOptions, Option<Arc<EgressRules>>),
    /// By adopting an existing one.
    Adopt(AdoptedStream),
}

impl AfterUnlock {
    fn take_user_objects(&mut self) -> Option<UserObjects> {
        // A resolver that is still here was never asked.
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
    /// Executes the part of the actions that concerns only the state.
    fn commit(
        &mut self,
        actions: &ActionSet,
        requested: &SocketAddress,
        registry: &SocketRegistry,
    ) -> AfterUnlock {
        let mut wake = [None, None];
        if actions.readable {
            wake[0] = self.recv.parker_to_wake();
        }
        if actions.writable {
            wake[1] = self.send.parker_to_wake();
        }
        // A running timer still needs this state.
        let finished = self.machine.next_timer().is_none() && !self.is_opening();
        let mut finished = if finished { self.establishing.take() } else { None };
        let mut dropped_tokens = Vec::new();
        if let Some(establishing) = &mut finished {
            dropped_tokens.append(&mut establishing.attempts);
            dropped_tokens.append(&mut establishing.timers);
        } else if let (true, Some(establishing)) = (actions.cancel_attempts, &mut self.establishing)
        {
            // The attempts are over, but the handshake still has its timeout.
            dropped_tokens.append(&mut establishing.attempts);
        }
        if self.error.is_none() {
            if let Some(failure) = self.machine.failure() {
                let opening = matches!(self.machine.opened(), Some(Err(_)));
                let error = Error::from_tls(
                    failure.message(),
                    failure.source(),
                    opening.then_some(requested as _),
                );
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
                let denied = |address| Some(egress?.denied_by(address)?.text());
                let error = Error::from_connect(fault, requested, attempts, resolver, denied);
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
            Some(_) if actions.transmit => self.machine.take_final_records(),
            Some(_) | None => Vec::new(),
        };
        let how = match (&actions.attempt, &mut self.establishing) {
            (Some(_), Some(establishing)) => Some(match establishing.adopted.take() {
                Some(adopted) => ConnectMethod::Adopt(adopted),
                None => ConnectMethod::Dial(establishing.tcp.clone(), establishing.egress.clone()),
            }),
            _ => None,
        };
        let lookup = if actions.resolve { self.lookup_request() } else { None };
        // Before any other thread learns of the outcome.
        let next = if planted!(FreesSlotLate) { None } else { self.free_slot(registry) };
        let discarded = match (actions.release, actions.closed) {
            (None, false) => None,
            (Some(_), _) | (_, true) => self.machine.take_discarded(),
        };
        // Last, so that after a panic the wire is still there to be reset.
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
            lookup,
            final_records,
            next_queued: next,
            discarded,
        }
    }

    /// Frees the slot once the outcome is known. Returns the queued socket that gets the slot, for the caller to
    /// start.
    pub(crate) fn free_slot(&mut self, registry: &SocketRegistry) -> Option<Weak<Connection>> {
        self.machine
            .outcome()
            .and_then(|_| self.slot.take())
            .and_then(|slot| registry.remove(slot, self.totals()))
    }

    /// Adds the failed step of connecting, and the time that each step took, to an error.
    fn with_step(&self, error: Error) -> Error {
        let Some(timings) = self.machine.timings() else { return error };
        let error = error.during(self.machine.step());
        match &self.info {
            Some(info) => error.after(Timings { handshake: timings.handshake, ..info.timings() }),
            None => error.after(timings),
        }
    }

    pub(crate) fn take_idle_slot(&mut self) -> Option<IdleSlot> {
        match std::mem::replace(&mut self.monitor, Monitor::Off) {
            Monitor::Queued(idle_slot) => Some(idle_slot),
            Monitor::Off | Monitor::Full | Monitor::ErrorsOnly => None,
        }
    }
}
