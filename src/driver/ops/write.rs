//! Plaintext writes, on the caller's own thread, and the calls that end or flush the writing side.

use std::io;
use std::sync::Arc;

use super::retry::{CallMade, CallStep, LastCall, PendingCall, RetryResult, SystemCall};
use crate::driver::connection::call_timer::{CallTimer, Elapsed};
use crate::driver::connection::wire_refs::drop_wire;
use crate::driver::connection::{Connection, ConnectionState, StateGuard, Turn};
use crate::driver::sys::io_bufs::SendBufs;
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::Wire;
use crate::error::{Error, Result};
use crate::machine::{Input, SendEvent, SendPermit, WriteStep};

impl Connection {
    /// Writes as soon as the wire accepts data.
    pub(crate) fn write(self: &Arc<Self>, bufs: &SendBufs<'_, '_>) -> Result<usize> {
        self.check_process()?;
        if bufs.is_empty() {
            return self.write_empty();
        }
        let mut timer = CallTimer::default();
        let mut state = self.enter_turn(Side::Write, &mut timer, |state| {
            // A refused write does not wait for the one that has the turn.
            state.machine.write_error().map(|fault| state.error_for(fault))
        })?;
        let permit = match state.machine.write() {
            WriteStep::Send(permit) => permit,
            step => {
                let turn = Turn::resume(self, Some(state), Side::Write);
                return turn.write_loop(step, bufs, timer);
            }
        };
        match self.try_send(state, bufs) {
            Ok((state, wire, accepted)) => self.finish_send(state, permit, accepted, wire),
            Err(pending) => {
                let turn = Turn::resume(self, None, Side::Write);
                turn.write_slow(pending, permit, bufs, timer)
            }
        }
    }

    /// Makes the first system call of a permit unless it has to wait first. That call is usually the only one.
    #[inline(always)]
    fn try_send<'a>(
        &'a self,
        mut state: StateGuard<'a>,
        bufs: &SendBufs<'_, '_>,
    ) -> Result<(StateGuard<'a>, Arc<Wire>, usize), PendingCall<'a>> {
        let (wire, poll_first) = state.begin_call(Side::Write);
        if poll_first {
            return Err(PendingCall { wire, poll_first, last: LastCall::None(state) });
        }
        state.send.ready = false;
        drop(state);
        match wire.send(bufs) {
            Ok(accepted) => {
                let mut state = self.state_after_call();
                state.send.predictor.on_progress(accepted < bufs.len(), poll_first);
                Ok((state, wire, accepted))
            }
            result => {
                let last = LastCall::Made(CallMade { result, blocking: false, begun: None });
                Err(PendingCall { wire, poll_first, last })
            }
        }
    }

    /// Ends a permit that sent bytes.
    #[inline(always)]
    pub(super) fn finish_send<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        permit: SendPermit,
        accepted: usize,
        wire: Arc<Wire>,
    ) -> Result<usize> {
        let late_wire = state.wire.checkin(Side::Write, wire);
        match state.machine.handle_send_if_open(permit, accepted) {
            Ok(()) => self.free_turn(state, Side::Write),
            Err(permit) => {
                Turn::resume(self, Some(state), Side::Write).finish_send_slow(permit, accepted);
            }
        }
        if let Some(wire) = late_wire {
            drop_wire(wire);
        }
        Ok(accepted)
    }

    /// Half-closes the connection, after it is established and earlier writes have ended.
    pub(crate) fn close_write(self: &Arc<Self>) -> Result<()> {
        self.close_write_within(CallTimer::default())
    }

    pub(super) fn close_write_within(self: &Arc<Self>, mut timer: CallTimer) -> Result<()> {
        self.check_process()?;
        let state = self.state();
        if !state.is_opening() && !state.machine.is_write_open() {
            return state.check_failed();
        }
        drop(state);
        let mut turn = self.acquire_turn(Side::Write, &mut timer, |state| {
            // An upgrade has the turn.
            state
                .machine
                .write_error()
                .filter(|fault| fault.is_transfer())
                .map(|fault| state.error_for(fault))
        })?;
        while turn.is_opening() {
            turn.wait_or_handshake(&mut timer)?;
        }
        if let Some(fault) = turn.machine.write_error().filter(|fault| fault.is_transfer()) {
            return Err(turn.error_for(fault));
        }
        // Accepted data goes first; until it is sent, the side stays open. Then `close_notify` and FIN follow.
        turn.wait_flushed(&mut timer)?;
        turn.handle_input(Input::CloseWrite);
        turn.wait_flushed(&mut timer)?;
        turn.check_failed()
    }

    /// Waits until the kernel has all accepted data. In plaintext that is always so.
    pub(crate) fn flush(self: &Arc<Self>) -> Result<()> {
        self.check_process()?;
        let state = self.state();
        if !state.machine.has_unsent() {
            return state.check_failed();
        }
        drop(state);
        let mut timer = CallTimer::default();
        let mut turn = self.acquire_turn(Side::Write, &mut timer, |_| None)?;
        turn.wait_flushed(&mut timer)?;
        turn.check_failed()
    }

    #[cold]
    pub(super) fn write_empty(&self) -> Result<usize> {
        let mut state = self.state();
        match state.machine.write() {
            WriteStep::Send(permit) | WriteStep::Seal(permit) => {
                drop(state.machine.handle_send_event(permit, SendEvent::Cancelled));
                Ok(0)
            }
            WriteStep::Wait => Ok(0),
            WriteStep::Fail(fault) => Err(state.error_for(fault)),
        }
    }
}

impl<'a> Turn<'a> {
    #[cold]
    fn finish_send_slow(mut self, permit: SendPermit, accepted: usize) {
        let actions = self.machine.handle_send(permit, accepted);
        self.apply(actions);
    }

    /// Continues a write whose first system call did not finish it.
    #[inline(never)]
    fn write_slow(
        mut self,
        pending: PendingCall<'a>,
        permit: SendPermit,
        bufs: &SendBufs<'_, '_>,
        mut timer: CallTimer,
    ) -> Result<usize> {
        match self.send_slow(pending, permit, bufs, &mut timer) {
            CallStep::Return(result) => result,
            CallStep::AskAgain => {
                let step = self.machine.write();
                self.write_loop(step, bufs, timer)
            }
        }
    }

    /// Follows the machine's steps until one gives a result.
    #[inline(never)]
    pub(super) fn write_loop(
        mut self,
        mut step: WriteStep,
        bufs: &SendBufs<'_, '_>,
        mut timer: CallTimer,
    ) -> Result<usize> {
        let mut checked = false;
        loop {
            // As in a read, every round checks the limit.
            let is_over = std::mem::replace(&mut checked, true)
                && timer.left(self.call_limit(Side::Write)) == Err(Elapsed);
            let next = match step {
                WriteStep::Send(permit) | WriteStep::Seal(permit) if is_over => {
                    self.cancel_send(permit);
                    return Err(Side::Write.timeout_error());
                }
                WriteStep::Send(permit) => {
                    let (connection, state) = (self.connection(), self.take_state());
                    match connection.try_send(state, bufs) {
                        Ok((state, wire, accepted)) => {
                            self.put_state(state);
                            return connection.finish_send(
                                self.into_state(),
                                permit,
                                accepted,
                                wire,
                            );
                        }
                        Err(pending) => self.send_slow(pending, permit, bufs, &mut timer),
                    }
                }
                WriteStep::Seal(permit) => self.write_tls(permit, bufs, &mut timer),
                WriteStep::Fail(fault) => return Err(self.error_for(fault)),
                WriteStep::Wait => {
                    self.wait_or_handshake(&mut timer)?;
                    CallStep::AskAgain
                }
            };
            if let CallStep::Return(result) = next {
                self.release();
                return result;
            }
            self.lend(|connection, state| connection.yield_state(state));
            step = self.machine.write();
        }
    }

    /// Sends with a permit, which is used up, after a first system call that did not finish, or after a wait.
    #[inline(never)]
    fn send_slow(
        &mut self,
        pending: PendingCall<'a>,
        permit: SendPermit,
        bufs: &SendBufs<'_, '_>,
        timer: &mut CallTimer,
    ) -> CallStep {
        let len = bufs.len();
        self.send_call(pending, permit, &mut |wire, _| wire.send(bufs), &|bytes| bytes < len, timer)
    }

    /// Makes the call of a permit, which is used up. `took_all` says whether it sent all that the kernel accepts.
    #[inline]
    pub(super) fn send_call(
        &mut self,
        pending: PendingCall<'a>,
        permit: SendPermit,
        make: &mut dyn FnMut(&Wire, bool) -> io::Result<usize>,
        took_all: &dyn Fn(usize) -> bool,
        timer: &mut CallTimer,
    ) -> CallStep {
        let mut pending = pending.resume(self);
        let call =
            SystemCall { make, took_all, is_permitted: &|machine| machine.permits_send(&permit) };
        let result = self.retry(&mut pending, call, timer);
        // Before the actions, so that no reference keeps a released wire open.
        self.checkin_wire(pending.wire);
        let (actions, next) = match result {
            RetryResult::Bytes(bytes) => {
                (self.machine.handle_send(permit, bytes), CallStep::Return(Ok(bytes)))
            }
            RetryResult::Failed(fault) => {
                let what = SendEvent::Failed(fault);
                (self.machine.handle_send_event(permit, what), CallStep::AskAgain)
            }
            RetryResult::Revoked | RetryResult::Eof(_) => {
                let what = SendEvent::Cancelled;
                (self.machine.handle_send_event(permit, what), CallStep::AskAgain)
            }
            RetryResult::CallFailed(fault) => {
                let what = SendEvent::Cancelled;
                let error = Error::from_fault(fault);
                (self.machine.handle_send_event(permit, what), CallStep::Return(Err(error)))
            }
            RetryResult::Elapsed => {
                let what = SendEvent::Cancelled;
                let error = Side::Write.timeout_error();
                (self.machine.handle_send_event(permit, what), CallStep::Return(Err(error)))
            }
        };
        self.apply(actions);
        next
    }

    /// Ends a permit that sent nothing; the connection stays up.
    pub(crate) fn cancel_send(&mut self, permit: SendPermit) {
        let actions = self.machine.handle_send_event(permit, SendEvent::Cancelled);
        self.apply(actions);
    }
}

impl ConnectionState {
    /// Returns the error of a failed socket.
    pub(super) fn check_failed(&self) -> Result<()> {
        let fault = match (self.machine.opened(), self.machine.outcome()) {
            (Some(Err(fault)), _) | (_, Some(Err(fault))) => fault,
            (Some(Ok(())) | None, Some(Ok(())) | None) => return Ok(()),
        };
        Err(self.error_for(fault))
    }
}
