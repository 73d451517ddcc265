//! Executes the actions that the machine wants.
//!
//! Every change of a socket takes the same steps. Under the lock, the machine handles an input and returns its
//! [`Actions`]. Still under the lock, `commit` updates the state and collects what the effects need. After the lock is
//! released, `execute` wakes threads and makes the system calls, in the order of the fields. If an attempt ends at
//! once, the steps repeat with its result.

use std::net::SocketAddr;
use std::sync::Arc;

use super::commit::{AfterUnlock, ConnectMethod, Connected};
use super::lookup::LookupRequest;
use super::transfer::{NewOwner, TakenWire};
use super::{Connection, StateGuard, start_next};
use crate::driver::connect::dial::{self, DialResult};
use crate::driver::event_loop::handle::drop_off_loop;
use crate::driver::event_loop::source::AttemptResult;
use crate::driver::event_loop::{Command, LoopHandle, Urgency};
use crate::driver::sys::clock;
use crate::driver::sys::errno::os_code;
use crate::driver::sys::io_bufs::SendBufs;
use crate::driver::sys::unix_domain::file_of;
use crate::driver::sys::wire::{DrainResult, Wire};
use crate::egress::{EgressRules, is_local};
use crate::error::Fault;
use crate::machine::{Actions, Attempt, AttemptId, Input, Release};
use crate::options::TcpOptions;

/// Maximum number of incoming bytes that are dropped after a close.
const MAX_LINGER_BYTES: usize = 1024 * 1024;

/// What is known at once of an attempt.
enum Attempted {
    Ended(AttemptId, AttemptResult),
    /// The address that a proxy is to get is denied. The proxy was not dialled.
    Denied(AttemptId, Fault),
}

impl Connection {
    /// Passes the input to the machine and executes the resulting actions.
    pub(crate) fn handle_input<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        input: Input<'_>,
    ) -> StateGuard<'a> {
        let actions = state.machine.handle(input, clock::now());
        self.apply(state, actions)
    }

    /// Executes actions until the machine wants no more. Releases the lock in between.
    #[inline]
    pub(crate) fn apply<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        actions: Actions,
    ) -> StateGuard<'a> {
        // The case of nearly every read and write.
        if actions.is_empty() && state.establishing.is_none() {
            state
        } else {
            self.run_actions(state, actions, None)
        }
    }

    #[inline(never)]
    pub(crate) fn run_actions<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        mut actions: Actions,
        mut connected: Option<Connected>,
    ) -> StateGuard<'a> {
        let mut user_objects = Vec::new();
        let mut posted = None;
        while !actions.is_empty() || connected.is_some() {
            let mut after = state.commit(&actions, connected, self.requested(), self.registry());
            after.scan_idle =
                !planted!(LeavesHandshakeUnmonitored) && self.queue_if_unmonitored(&mut state);
            if matches!(after.lookup, Some(LookupRequest::Submit(..))) {
                // A lookup never ends at once, so its timer need not wait for its result.
                after.timer = state.plan_timer();
            }
            posted = posted.or(after.timer);
            state.executors += 1;
            self.notify_waiters(&state);
            drop(state);
            let guard = self.executor_guard();
            let attempted = self.execute(&actions, &mut after);
            user_objects.extend(after.take_user_objects());
            // This may close descriptors.
            drop(after);
            std::mem::forget(guard);
            state = self.state();
            if planted!(FreesSlotLate) {
                start_next(state.free_slot(self.registry()));
            }
            state.executors -= 1;
            if state.executors == 0 && !planted!(NoExecutorNotice) {
                self.notify_waiters(&state);
            }
            if state.is_watched() && !planted!(PollerMissesTransitions) {
                state = self.follow_watched(state);
            }
            (actions, connected) = match attempted {
                Some(Attempted::Ended(id, result)) => state.handle_attempted(id, result),
                Some(Attempted::Denied(id, fault)) => {
                    (state.machine.deny_destination(id, fault, clock::now()), None)
                }
                None => break,
            };
        }
        let mut state = self.update_timer(state);
        if let Some(timer) = posted {
            state = self.confirm_timer(state, timer);
        }
        if user_objects.is_empty() {
            return state;
        }
        // Dropping these runs user code, which nothing here waits for.
        drop(state);
        user_objects.into_iter().for_each(drop_off_loop);
        self.state()
    }

    /// Executes the actions without the lock. Returns the result of an attempt that ended at once.
    ///
    /// The pattern lists every field, so that an action that nothing executes does not compile.
    fn execute(self: &Arc<Self>, actions: &Actions, after: &mut AfterUnlock) -> Option<Attempted> {
        let &Actions {
            // Under the lock, `commit` attached the wire, and found the threads to wake and the attempts to cancel. Threads
            // that wait for other changes were notified there too.
            attach: _,
            preamble: _,
            wake: _,
            cancel_attempts: _,
            cancel_attempt: _,
            resolve,
            attempt,
            drive_recv,
            begin_handshake,
            transmit,
            shutdown_write,
            release,
        } = actions;
        // Before the logger and the system calls, so that woken threads wait for none of them.
        if !planted!(NoWake) {
            after.wake();
        }
        if let Some(event) = after.event.take() {
            event.log(self.requested());
        }
        if let Some(listener) = after.acceptance.take().and_then(|listener| listener.upgrade()) {
            listener.on_opened(self);
        }
        let loop_handle = LoopHandle::get();
        if let (true, Ok(loop_handle)) = (after.scan_idle, loop_handle) {
            loop_handle.post(Command::ScanIdle, Urgency::Soon);
        }
        start_next(after.next_queued.take());
        if let (Some(ticket), Ok(loop_handle)) = (after.forget, loop_handle) {
            loop_handle.post(Command::Forget(ticket), Urgency::Now);
        }
        if let Some(timer) = after.timer {
            self.post_timer(timer);
        }
        if let (Some(ticket), Ok(loop_handle)) = (after.cancel_attempts, loop_handle) {
            loop_handle.post(Command::CancelAttempts(ticket), Urgency::Now);
        }
        if let (Some((ticket, id)), Ok(loop_handle)) = (after.cancel_attempt, loop_handle) {
            loop_handle.post(Command::CancelAttempt(ticket, id), Urgency::Now);
        }
        // Closes its descriptor before another one may be needed.
        if let Some(wire) = after.late_wire.take() {
            if after.resets_late_wire {
                wire.reset_and_close();
            }
        }
        if let (true, Some(request)) = (resolve, after.lookup.take()) {
            self.look_up(request);
        }
        let attempted = match (attempt, after.method.take()) {
            (Some(attempt), Some(method)) => self.start_attempt(attempt, method),
            (Some(_), None) | (None, _) => None,
        };
        // Before the transmission, which plans the timer: a socket on the idle list needs none yet.
        if drive_recv {
            match loop_handle {
                Ok(loop_handle) => self.schedule_handshake(loop_handle),
                Err(fault) => drop(self.handle_input(self.state(), Input::WireFailed(fault))),
            }
        }
        if begin_handshake {
            self.defer_to_workers();
        }
        if transmit && release.is_none() {
            self.transmit();
        } else if let (false, Some(wire)) = (after.final_records.is_empty(), &after.taken.wire) {
            // Sent at once or not at all, because nothing waits for it.
            let _ = wire.send(&SendBufs::One(&after.final_records));
        }
        if let (true, Some(wire)) = (shutdown_write, &after.taken.wire) {
            wire.shutdown_write();
        }
        if let Some(how) = release {
            let taken = std::mem::replace(&mut after.taken, TakenWire::kept(None));
            if let Some(wire) = self.transfer(taken, NewOwner::Caller) {
                release_wire(wire, how);
            }
        }
        attempted
    }

    /// Starts an attempt. Returns its result if it is known at once.
    fn start_attempt(
        self: &Arc<Self>,
        attempt: Attempt,
        method: ConnectMethod,
    ) -> Option<Attempted> {
        let Attempt { id, address } = attempt;
        let result = match (method, address) {
            (ConnectMethod::Dial { tcp, egress, destination }, Some(address)) => {
                let check = |address: SocketAddr, tcp: &TcpOptions| match &egress {
                    None => Ok(()),
                    Some(rules) => check_not_own(rules, address, tcp),
                };
                let denied = destination.and_then(|it| check(it, &TcpOptions::new()).err());
                if let Some(fault) = denied {
                    return Some(Attempted::Denied(id, fault));
                }
                match check(address, &tcp) {
                    Ok(()) => self.dial(id, Some(address), || dial::dial(address, &tcp)),
                    Err(fault) => Some(Err(fault)),
                }
            }
            (ConnectMethod::DialUnix { tcp, egress, address }, _) => {
                let denies =
                    |rules: &EgressRules| rules.denies_live_unix_listener(&address, file_of);
                if egress.as_deref().is_some_and(denies) {
                    Some(Err(Fault::OwnListener))
                } else {
                    self.dial(id, None, || dial::dial_unix(&address, &tcp))
                }
            }
            (ConnectMethod::Adopt(adopted), address) => {
                self.begin_attempt(id, address, Ok(adopted.into_dial_result()))
            }
            (ConnectMethod::Dial { .. }, None) => {
                unreachable!("only a machine for a Unix-domain address dials none")
            }
        };
        result.map(|result| Attempted::Ended(id, result))
    }

    fn dial(
        self: &Arc<Self>,
        id: AttemptId,
        address: Option<SocketAddr>,
        dial: impl Fn() -> Result<DialResult, Fault>,
    ) -> Option<AttemptResult> {
        let loop_handle = match LoopHandle::get() {
            Ok(loop_handle) => loop_handle,
            Err(fault) => return Some(Err(fault)),
        };
        let mut dialled = dial();
        // Lingering wires give up their descriptors to new ones.
        if matches!(dialled, Err(Fault::Io(_))) && loop_handle.linger_queue().close_all() {
            dialled = dial();
        }
        self.begin_attempt(id, address, dialled)
    }

    /// Takes over a dialled connection. Returns the result of the attempt if it is known already.
    fn begin_attempt(
        self: &Arc<Self>,
        id: AttemptId,
        address: Option<SocketAddr>,
        dialled: Result<DialResult, Fault>,
    ) -> Option<AttemptResult> {
        match dialled {
            Ok(DialResult::Connected(wire)) => {
                let endpoints = wire.endpoints(address);
                Some(Ok((wire, endpoints)))
            }
            Ok(DialResult::Pending(wire)) => {
                let source = self.loop_source();
                match LoopHandle::get() {
                    Ok(loop_handle) => {
                        loop_handle.post(
                            Command::WatchConnect { source, id, address, wire },
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

/// Denies an address if a listener of this program has it.
fn check_not_own(rules: &EgressRules, address: SocketAddr, tcp: &TcpOptions) -> Result<(), Fault> {
    if rules.denies_live_listener(address) {
        return Err(Fault::OwnListener);
    }
    if rules.needs_local_check(address) { check_not_local(address, tcp) } else { Ok(()) }
}

/// Denies an own listener that accepts connections on every local address. Only the kernel knows whether the address
/// is local. Denies also if the kernel's answer is not definite.
fn check_not_local(address: SocketAddr, tcp: &TcpOptions) -> Result<(), Fault> {
    let mut local = is_local(address, tcp);
    // As for an attempt, lingering wires are closed if that frees a descriptor.
    if local.is_err() && LoopHandle::get()?.linger_queue().close_all() {
        local = is_local(address, tcp);
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
        Release::Reset => wire.reset_and_close(),
        Release::Linger if planted!(NeverLingers) => {}
        Release::Linger => {
            let mut left = MAX_LINGER_BYTES;
            let drained = wire.drain(&mut left);
            if let (DrainResult::Empty | DrainResult::Unable, Ok(loop_handle)) =
                (drained, LoopHandle::get())
            {
                if loop_handle.linger_queue().add(wire, left) {
                    loop_handle.post(Command::PollLingering, Urgency::Soon);
                }
            }
        }
    }
}
