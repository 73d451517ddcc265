//! Plaintext writes, on the caller's own thread, and the calls that end or flush the writing side.

use std::io;
use std::sync::Arc;

use super::io_call::{CallResult, LastCall, PendingCall, begin_call};
use super::wait::WaitResult;
use crate::driver::connection::call_timer::{CallTimer, Elapsed};
use crate::driver::connection::wire_refs::drop_wire;
use crate::driver::connection::{Connection, ConnectionState, StateGuard};
use crate::driver::sys::errno::{Failure, classify};
use crate::driver::sys::io_bufs::SendBufs;
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::Wire;
use crate::error::{Error, Fault, Result};
use crate::machine::{Input, SendEvent, SendPermit, WriteStep};

impl Connection {
    /// Writes as soon as the wire accepts data.
    pub(crate) fn write(self: &Arc<Self>, bufs: &SendBufs<'_, '_>) -> Result<usize> {
        self.check_process()?;
        if bufs.is_empty() {
            return self.write_empty();
        }
        let mut timer = CallTimer::default();
        let mut state = self.acquire_turn(Side::Write, &mut timer, |state| {
            // A refused write does not wait for the one that has the turn.
            state.machine.write_error().map(|fault| state.error_for(fault))
        })?;
        let permit = match state.machine.write() {
            WriteStep::Send(permit) => permit,
            step => return self.write_loop(state, step, bufs, timer),
        };
        match self.try_send(state, bufs) {
            Ok((state, wire, accepted)) => self.finish_send(state, permit, accepted, wire),
            Err(pending) => self.write_slow(pending, permit, bufs, timer),
        }
    }

    /// Continues a write whose first system call did not finish it.
    #[inline(never)]
    fn write_slow<'a>(
        self: &'a Arc<Self>,
        pending: PendingCall<'a>,
        permit: SendPermit,
        bufs: &SendBufs<'_, '_>,
        mut timer: CallTimer,
    ) -> Result<usize> {
        match self.send_loop(pending, permit, bufs, &mut timer) {
            CallResult::Done(result) => result,
            CallResult::Retry(mut state) => {
                let step = state.machine.write();
                self.write_loop(state, step, bufs, timer)
            }
        }
    }

    /// Follows the machine's steps until one gives a result.
    #[inline(never)]
    fn write_loop<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        mut step: WriteStep,
        bufs: &SendBufs<'_, '_>,
        mut timer: CallTimer,
    ) -> Result<usize> {
        let mut again = false;
        loop {
            // As in a read, every round checks the limit.
            let over = std::mem::replace(&mut again, true)
                && timer.left(state.call_limit(Side::Write)) == Err(Elapsed);
            let result = match step {
                WriteStep::Send(permit) | WriteStep::Seal(permit) if over => {
                    return self.fail_send_timed_out(state, permit);
                }
                WriteStep::Send(permit) => match self.try_send(state, bufs) {
                    Ok((state, wire, accepted)) => {
                        return self.finish_send(state, permit, accepted, wire);
                    }
                    Err(pending) => self.send_loop(pending, permit, bufs, &mut timer),
                },
                WriteStep::Seal(permit) => self.write_tls(state, permit, bufs, &mut timer),
                WriteStep::Fail(fault) => {
                    let error = state.error_for(fault);
                    return self.release_turn(state, Side::Write, Err(error));
                }
                WriteStep::Wait => match timer.left(state.call_limit(Side::Write)) {
                    Ok(left) => CallResult::Retry(self.wait_or_handshake(state, left)),
                    Err(Elapsed) => return self.fail_timed_out(state, Side::Write),
                },
            };
            match result {
                CallResult::Done(result) => return result,
                CallResult::Retry(back) => state = self.yield_state(back),
            }
            step = state.machine.write();
        }
    }

    /// Makes the first system call of a permit unless it has to wait first. That call is usually the only one.
    #[inline(always)]
    fn try_send<'a>(
        &'a self,
        state: StateGuard<'a>,
        bufs: &SendBufs<'_, '_>,
    ) -> Result<(StateGuard<'a>, Arc<Wire>, usize), PendingCall<'a>> {
        let (mut state, wire, poll_first) = begin_call(state, Side::Write);
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
            result => Err(PendingCall {
                wire,
                poll_first,
                last: LastCall::Made { result, blocking: false },
            }),
        }
    }

    /// Ends a permit that sent bytes.
    #[inline(always)]
    fn finish_send<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        permit: SendPermit,
        accepted: usize,
        wire: Arc<Wire>,
    ) -> Result<usize> {
        let late_wire = state.wire.checkin(Side::Write, wire);
        let result = match state.machine.handle_send_if_open(permit, accepted) {
            Ok(()) => self.release_turn(state, Side::Write, Ok(accepted)),
            Err(permit) => self.finish_send_slow(state, permit, accepted),
        };
        if let Some(wire) = late_wire {
            drop_wire(wire);
        }
        result
    }

    #[cold]
    fn finish_send_slow<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        permit: SendPermit,
        accepted: usize,
    ) -> Result<usize> {
        let actions = state.machine.handle_send(permit, accepted);
        state = self.apply(state, actions);
        self.release_turn(state, Side::Write, Ok(accepted))
    }

    /// Sends with a permit, which is used up, after a first system call that did not finish, or after a wait.
    #[inline(never)]
    fn send_loop<'a>(
        self: &'a Arc<Self>,
        pending: PendingCall<'a>,
        permit: SendPermit,
        bufs: &SendBufs<'_, '_>,
        timer: &mut CallTimer,
    ) -> CallResult<'a> {
        let PendingCall { wire, mut poll_first, mut last } = pending;
        let mut waited = poll_first;
        let (mut state, what) = loop {
            let result = match last {
                LastCall::Made { result, .. } => result,
                LastCall::None(mut state) => {
                    if poll_first {
                        match self.wait_ready(state, &wire, Side::Write, timer) {
                            WaitResult::Ready => {}
                            WaitResult::Recheck(back) => {
                                state = self.handle_close_timer(back);
                                if state.machine.permits_send(&permit) {
                                    last = LastCall::None(state);
                                    continue;
                                }
                                break (state, SendEvent::Cancelled);
                            }
                            WaitResult::Failed(state, fault) => {
                                return CallResult::Done(self.fail_send(state, permit, fault));
                            }
                            WaitResult::Elapsed(state) => {
                                return CallResult::Done(self.fail_send_timed_out(state, permit));
                            }
                        }
                    } else {
                        state.send.ready = false;
                        drop(state);
                    }
                    wire.send(bufs)
                }
            };
            timer.invalidate();
            let mut state = self.state();
            state.send.parked = false;
            match result {
                Ok(accepted) => {
                    state.send.predictor.on_progress(accepted < bufs.len(), waited);
                    return CallResult::Done(self.finish_send(state, permit, accepted, wire));
                }
                Err(error) => match classify(&error) {
                    Failure::WouldBlock => {
                        if !waited {
                            state.send.predictor.on_would_block();
                            waited = true;
                        }
                        poll_first = !state.send.ready;
                    }
                    Failure::Interrupted => poll_first = false,
                    Failure::Call(fault) => {
                        return CallResult::Done(self.fail_send(state, permit, fault));
                    }
                    Failure::Connection(fault) => {
                        // EPIPE names no cause.
                        if error.kind() == io::ErrorKind::BrokenPipe {
                            state = self.wait_for_cause(state, Side::Read, Some(Side::Write));
                        }
                        break (state, SendEvent::Failed(fault));
                    }
                },
            }
            if !state.machine.permits_send(&permit) {
                break (state, SendEvent::Cancelled);
            }
            last = LastCall::None(state);
        };
        let actions = state.machine.handle_send_event(permit, what);
        CallResult::Retry(self.apply_and_drop(state, actions, wire))
    }

    /// Ends a permit whose call has reached its limit.
    pub(crate) fn fail_send_timed_out<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        permit: SendPermit,
    ) -> Result<usize> {
        let actions = state.machine.handle_send_event(permit, SendEvent::Cancelled);
        state = self.apply(state, actions);
        self.fail_timed_out(state, Side::Write)
    }

    /// Ends a permit whose call failed for a local reason; the connection stays up.
    #[cold]
    fn fail_send<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        permit: SendPermit,
        fault: Fault,
    ) -> Result<usize> {
        let actions = state.machine.handle_send_event(permit, SendEvent::Cancelled);
        state = self.apply(state, actions);
        self.release_turn(state, Side::Write, Err(Error::from_fault(fault)))
    }

    /// Half-closes the connection, after it is established and earlier writes have ended.
    pub(crate) fn close_write(self: &Arc<Self>) -> Result<()> {
        self.check_process()?;
        let state = self.state();
        if !state.is_opening() && !state.machine.is_write_open() {
            return state.check_failed();
        }
        drop(state);
        let mut timer = CallTimer::default();
        let mut state = self.acquire_turn(Side::Write, &mut timer, |state| {
            // An upgrade has the turn.
            state
                .machine
                .write_error()
                .filter(|fault| fault.is_transfer())
                .map(|fault| state.error_for(fault))
        })?;
        while state.is_opening() {
            match timer.left(state.call_limit(Side::Write)) {
                Ok(left) => state = self.wait_or_handshake(state, left),
                Err(Elapsed) => {
                    let _ = self.release_turn(state, Side::Write, Ok(0));
                    return Err(Side::Write.timeout_error());
                }
            }
        }
        if let Some(fault) = state.machine.write_error().filter(|fault| fault.is_transfer()) {
            let error = state.error_for(fault);
            return self.release_turn(state, Side::Write, Err(error)).map(drop);
        }
        // Accepted data goes first; until it is sent, the side stays open. Then `close_notify` and FIN follow.
        state = match self.wait_flushed(state, &mut timer) {
            Ok(state) => self.handle_input(state, Input::CloseWrite),
            Err(state) => return self.fail_timed_out(state, Side::Write).map(drop),
        };
        state = match self.wait_flushed(state, &mut timer) {
            Ok(state) => state,
            Err(state) => return self.fail_timed_out(state, Side::Write).map(drop),
        };
        let result = state.check_failed();
        self.release_turn(state, Side::Write, Ok(0))?;
        result
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
        let state = self.acquire_turn(Side::Write, &mut timer, |_| None)?;
        match self.wait_flushed(state, &mut timer) {
            Ok(state) => {
                let result = state.check_failed();
                self.release_turn(state, Side::Write, Ok(0))?;
                result
            }
            Err(state) => self.fail_timed_out(state, Side::Write).map(drop),
        }
    }

    #[cold]
    fn write_empty(&self) -> Result<usize> {
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

impl ConnectionState {
    /// Returns the error of a failed socket.
    fn check_failed(&self) -> Result<()> {
        let fault = match (self.machine.opened(), self.machine.outcome()) {
            (Some(Err(fault)), _) | (_, Some(Err(fault))) => fault,
            (Some(Ok(())) | None, Some(Ok(())) | None) => return Ok(()),
        };
        Err(self.error_for(fault))
    }
}
