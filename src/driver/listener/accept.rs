//! Accepts connections on the caller's thread, and waits for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::take::{AcceptResult, Taken};
use super::uses::HeldSlot;
use super::{ListenerInner, StateGuard};
use crate::driver::connection::call_timer::{CallTimer, Elapsed};
use crate::driver::connection::{CallLimit, Connection, start_next};
use crate::driver::event_loop::{self, Command, LoopHandle, Urgency};
use crate::driver::registry::ScopeId;
use crate::driver::sys::listen::Accepted;
use crate::driver::sys::wake::WakeHandle;
use crate::driver::sys::wire::REGISTRATION_IS_PERMANENT;
use crate::driver::sys::{self, clock};
use crate::error::{Error, ErrorKind, Fault, Result, TimerKind};
use crate::machine::AcceptorInput;
use crate::poll::Ready;

/// The number of clients of either kind, gone or refused, after which a call checks its limit.
const MAX_TRIES: u32 = 64;

/// The limits of one accept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AcceptLimit {
    pub(crate) timeout: Option<Duration>,
    /// Whether the listener's deadline does not apply.
    pub(crate) ignores_deadline: bool,
}

/// One call that accepts.
struct AcceptCall {
    timer: CallTimer,
    limit: AcceptLimit,
    scope: Option<ScopeId>,
    /// Whether the call counts as one of the threads that accept.
    is_counted: bool,
}

impl AcceptCall {
    fn limit(&self, deadline: Option<Instant>) -> CallLimit {
        let deadline = deadline.filter(|_| !self.limit.ignores_deadline);
        CallLimit { timeout: self.limit.timeout, deadline }
    }

    /// Returns the time left for a wait.
    fn left(&mut self, deadline: Option<Instant>) -> Result<Option<Duration>> {
        event_loop::check_may_block()?;
        let limit = self.limit(deadline);
        self.timer.left(limit).map_err(|Elapsed| Error::timed_out_call(TimerKind::Accept))
    }

    /// Fails if the deadline has passed, which wins over a connection that is ready.
    fn check_deadline(&self, deadline: Option<Instant>) -> Result<()> {
        match self.limit(deadline).deadline {
            Some(at) if at <= clock::now() => Err(Error::timed_out_call(TimerKind::Accept)),
            Some(_) | None => Ok(()),
        }
    }
}

impl ListenerInner {
    /// Waits for a connection.
    pub(crate) fn accept(
        self: &Arc<Self>,
        limit: AcceptLimit,
        scope: Option<ScopeId>,
    ) -> Result<Arc<Connection>> {
        self.check_process()?;
        let timer = CallTimer::default();
        let mut call = AcceptCall { timer, limit, scope, is_counted: true };
        if limit.timeout.is_some() {
            call.timer.start();
        }
        let mut state = self.state();
        state.accepters += 1;
        let result = self.accept_call(state, &mut call);
        if call.is_counted {
            self.leave_accepters();
        }
        if let Ok(connection) = &result {
            self.await_registration(connection);
        }
        result
    }

    /// Waits until the event loop has registered a connection, where it has to do that first. So `accept` returns
    /// connected sockets on every system, and open ones without TLS. A failure is one of the socket.
    fn await_registration(&self, connection: &Arc<Connection>) {
        if REGISTRATION_IS_PERMANENT && self.settings.header_nets.is_empty() {
            connection.wait_connected();
        }
    }

    fn accept_call<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        call: &mut AcceptCall,
    ) -> Result<Arc<Connection>> {
        let mut refused = 0_u32;
        loop {
            call.check_deadline(state.deadline)?;
            if let Some(connection) = state.ready.pop_front() {
                self.after_take(state);
                if let Some(id) = call.scope {
                    connection.enter_scope(id);
                }
                return Ok(connection);
            }
            if let Some(outcome) = state.end() {
                // There is nothing to pass on, and many threads may be here at once.
                state.accepters -= 1;
                call.is_counted = false;
                drop(state);
                return Err(end_error(outcome));
            }
            if state.turn_held || self.settings.when_opened || state.acceptor.is_closing() {
                let left = call.left(state.deadline)?;
                state = self.wait_on(&self.turn_free, state, left);
                continue;
            }
            state.turn_held = true;
            let turn = AcceptTurn(self);
            let Some((accepted, slot)) = self.accept_with_turn(turn, state, call)? else {
                state = self.state();
                continue;
            };
            if let Some(connection) = self.admit(accepted, slot, call.scope) {
                return Ok(connection);
            }
            state = self.state();
            refused = refused.wrapping_add(1);
            if refused % MAX_TRIES == 0 {
                call.left(state.deadline)?;
            }
            state.accepters += 1;
            call.is_counted = true;
        }
    }

    /// Ends a call that has not accepted.
    fn leave_accepters(self: &Arc<Self>) {
        let mut state = self.state();
        state.accepters -= 1;
        // This thread may have been the one that was woken.
        self.turn_free.notify_one();
        // A poller that waits for a client needs the slot.
        let is_awaited = state.watches.as_ref().is_some_and(|it| it.awaited().has(Ready::READABLE));
        let idle = state.accepters == 0 && !is_awaited && !planted!(ListenerKeepsSlot);
        let slot = if idle { self.leave_slot_queue(&mut state) } else { None };
        drop(state);
        start_next(slot.and_then(|slot| self.registry.cancel(slot)));
    }

    /// Makes room for connections that wait, after one was taken out of the list.
    fn after_take(self: &Arc<Self>, state: StateGuard<'_>) {
        if !state.ready.is_empty() {
            self.turn_free.notify_one();
        }
        self.notify_end(&state);
        let had_no_room = state.pending() + 1 >= self.settings.max_pending;
        let resume = self.settings.when_opened && had_no_room && !state.acceptor.is_closing();
        drop(state);
        if resume {
            self.resume_on_loop();
        }
    }

    /// Accepts one connection, while the caller has the turn, and passes the turn on. Returns `None` if another thread
    /// accepts from now on. The lock comes after the turn, so that it is dropped first: the turn's drop takes it.
    fn accept_with_turn<'a>(
        self: &'a Arc<Self>,
        turn: AcceptTurn<'a>,
        mut state: StateGuard<'a>,
        call: &mut AcceptCall,
    ) -> Result<Option<(Accepted, HeldSlot<'a>)>> {
        // The event loop reports only changes, so a call that would block has to come first.
        let mut poll_first = !state.reports_readiness && state.predictor.predicts_block();
        let mut waited = false;
        let mut tries = 0_u32;
        loop {
            if !state.ready.is_empty() || state.acceptor.is_closing() {
                return Ok(None);
            }
            if !state.acceptor.may_accept() {
                state = self.wait_until_able(state, call)?;
                continue;
            }
            // Every call tries once, also one that may not wait. The system does not report a client that a poller has
            // taken.
            let poll_first_now = poll_first && state.next_clients.is_empty();
            if poll_first_now && (tries > 0 || call.left(state.deadline).is_ok()) {
                (state, waited) = self.wait_for_connection(state, call)?;
                poll_first = false;
                continue;
            }
            state.is_readable = false;
            tries = tries.wrapping_add(1);
            let (back, result) = self.try_accept(state);
            state = back;
            match result {
                AcceptResult::Connection(Taken { accepted, slot, socket_use }) => {
                    // This thread returns it, so no other one has to wait for it.
                    socket_use.end(&mut state);
                    state.predictor.on_progress(false, waited);
                    state.accepters -= 1;
                    call.is_counted = false;
                    turn.release(state);
                    return Ok(Some((accepted, slot)));
                }
                AcceptResult::WouldBlock => {
                    if !waited {
                        state.predictor.on_would_block();
                    }
                    poll_first = true;
                }
                AcceptResult::TryAgain if tries % MAX_TRIES == 0 => {
                    call.left(state.deadline)?;
                }
                AcceptResult::TryAgain | AcceptResult::NotNow => {}
            }
        }
    }

    /// Waits until the acceptor may accept again: for a slot, for a descriptor, or for its timer.
    fn wait_until_able<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        call: &mut AcceptCall,
    ) -> Result<StateGuard<'a>> {
        let mut pause = None;
        if let Some(at) = state.acceptor.next_timer() {
            let now = clock::now();
            if at <= now {
                return Ok(self.input(state, AcceptorInput::TimerExpired));
            }
            pause = Some(at - now);
        }
        let left = call.left(state.deadline)?;
        let left = left.into_iter().chain(pause).min();
        state = self.wait_on(&self.changed, state, left);
        Ok(state)
    }

    /// Waits until a connection may be complete. Returns whether the wait was for that.
    fn wait_for_connection<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        call: &mut AcceptCall,
    ) -> Result<(StateGuard<'a>, bool)> {
        let left = call.left(state.deadline)?;
        if let Some(handle) = WakeHandle::current() {
            let Some(mut socket_use) = self.use_socket(&mut state) else {
                return Ok((state, false));
            };
            state.parked = true;
            if state.parker.as_ptr() != Arc::as_ptr(&handle) {
                state.parker = Arc::downgrade(&handle);
            }
            drop(state);
            let polled = handle.wait_for_connection(socket_use.socket(), left);
            // Another thread may have ended the listener, so this may close the socket.
            socket_use.drop_socket();
            state = self.state();
            state.parked = false;
            socket_use.end(&mut state);
            if polled.is_ok() {
                return Ok((state, true));
            }
            // Such as when RLIMIT_NOFILE is lower than the number of polled descriptors.
        }
        if !state.reports_readiness {
            state.reports_readiness = true;
            drop(state);
            let loop_handle = LoopHandle::get().map_err(Error::from_fault)?;
            let source = self.source();
            loop_handle.post(Command::UpdateInterest(source), Urgency::Now);
            return Ok((self.state(), true));
        }
        if !state.is_readable {
            state = self.wait_on(&self.changed, state, left);
        }
        Ok((state, true))
    }
}

/// The turn to accept. Dropping it passes the turn on.
struct AcceptTurn<'a>(&'a ListenerInner);

impl AcceptTurn<'_> {
    fn release(self, mut state: StateGuard<'_>) {
        state.turn_held = false;
        if state.accepters > 0 && !planted!(AcceptTurnLost) {
            self.0.turn_free.notify_one();
        }
        state.touch_watches(Ready::READABLE);
        drop(state);
        std::mem::forget(self);
    }
}

impl Drop for AcceptTurn<'_> {
    fn drop(&mut self) {
        // In a forked child, a thread of the parent may have the lock for ever.
        if sys::is_run_failing() || self.0.registry.is_forked() {
            return;
        }
        let mut state = self.0.state();
        state.turn_held = false;
        if state.accepters > 1 {
            self.0.turn_free.notify_one();
        }
        state.touch_watches(Ready::READABLE);
    }
}

/// Returns the error of an accept after the end.
fn end_error(outcome: std::result::Result<(), Fault>) -> Error {
    match outcome {
        Ok(()) => Error::with_message(ErrorKind::Closed, "the listener was closed"),
        Err(fault) => Error::from_fault(fault),
    }
}
