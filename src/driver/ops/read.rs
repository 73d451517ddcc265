//! Plaintext reads, on the caller's own thread, and the receive that TLS reads use too.

use std::sync::Arc;

use super::io_call::{CallResult, LastCall, PendingCall, begin_call};
use super::wait::WaitResult;
use crate::driver::connection::call_timer::{CallTimer, Elapsed};
use crate::driver::connection::eof::Observer;
use crate::driver::connection::wire_refs::drop_wire;
use crate::driver::connection::{Connection, ConnectionState, StateGuard};
use crate::driver::event_loop;
use crate::driver::sys::clock;
use crate::driver::sys::errno::{Failure, classify};
use crate::driver::sys::io_bufs::RecvBufs;
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::{EofKind, Wire};
use crate::error::{Error, Fault, Result};
use crate::machine::{ReadStep, RecvEvent, RecvPermit};

/// Result of receiving with a permit.
pub(crate) enum RecvResult<'a> {
    /// Bytes were received, and the permit is still open.
    Bytes { state: StateGuard<'a>, permit: RecvPermit, bytes: usize, wire: Arc<Wire> },
    /// The permit is used up.
    Ended(CallResult<'a>),
}

impl Connection {
    /// Reads as soon as data is available.
    pub(crate) fn read(self: &Arc<Self>, bufs: &mut RecvBufs<'_, '_>) -> Result<usize> {
        self.check_process()?;
        if bufs.is_empty() {
            return self.read_empty();
        }
        let mut timer = CallTimer::default();
        let mut state = self.acquire_turn(Side::Read, &mut timer, |state| {
            state.machine.read_error().map(|fault| state.error_for(fault))
        })?;
        let permit = match state.machine.read() {
            ReadStep::Recv(permit) => permit,
            step => return self.read_loop(state, step, bufs, timer),
        };
        match self.try_recv(state, bufs, &mut timer) {
            Ok((state, wire, bytes)) => self.finish_recv(state, permit, bytes, wire),
            Err(pending) => self.read_slow(pending, permit, bufs, timer),
        }
    }

    /// Continues a read whose first system call did not finish it.
    #[inline(never)]
    fn read_slow<'a>(
        self: &'a Arc<Self>,
        pending: PendingCall<'a>,
        permit: RecvPermit,
        bufs: &mut RecvBufs<'_, '_>,
        mut timer: CallTimer,
    ) -> Result<usize> {
        match self.recv_loop(pending, permit, bufs, &mut timer) {
            RecvResult::Bytes { state, permit, bytes, wire } => {
                self.finish_recv(state, permit, bytes, wire)
            }
            RecvResult::Ended(CallResult::Done(result)) => result,
            RecvResult::Ended(CallResult::Retry(mut state)) => {
                let step = state.machine.read();
                self.read_loop(state, step, bufs, timer)
            }
        }
    }

    /// Follows the machine's steps until one gives a result.
    #[inline(never)]
    fn read_loop<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        mut step: ReadStep,
        bufs: &mut RecvBufs<'_, '_>,
        mut timer: CallTimer,
    ) -> Result<usize> {
        let mut checked = false;
        loop {
            // The last receive brought no data. The peer may send such records without end, and then no wait would
            // notice the limit.
            let again = std::mem::replace(&mut checked, true);
            let result = match step {
                ReadStep::Recv(permit) | ReadStep::Ingest(permit)
                    if again && timer.left(state.call_limit(Side::Read)) == Err(Elapsed) =>
                {
                    return self.fail_recv_timed_out(state, permit);
                }
                ReadStep::Recv(permit) => {
                    let (state, wire, poll_first) = begin_call(state, Side::Read);
                    let pending = PendingCall { wire, poll_first, last: LastCall::None(state) };
                    match self.recv_loop(pending, permit, bufs, &mut timer) {
                        RecvResult::Bytes { state, permit, bytes, wire } => {
                            return self.finish_recv(state, permit, bytes, wire);
                        }
                        RecvResult::Ended(result) => result,
                    }
                }
                ReadStep::Ingest(permit) => self.recv_tls(state, permit, &mut timer),
                ReadStep::TakePlaintext(permit) => return self.read_plaintext(state, permit, bufs),
                ReadStep::Eof => return self.release_turn(state, Side::Read, Ok(0)),
                ReadStep::Fail(fault) => {
                    let error = state.error_for(fault);
                    return self.release_turn(state, Side::Read, Err(error));
                }
                ReadStep::Wait => match timer.left(state.call_limit(Side::Read)) {
                    Ok(left) => CallResult::Retry(self.wait_or_handshake(state, left)),
                    Err(Elapsed) => return self.fail_timed_out(state, Side::Read),
                },
            };
            match result {
                CallResult::Done(result) => return result,
                // The next step takes the data and ends the call.
                CallResult::Retry(back) if back.machine.has_unread() => state = back,
                CallResult::Retry(back) => state = self.yield_state(back),
            }
            step = state.machine.read();
        }
    }

    /// Ends a permit that received bytes.
    #[inline(always)]
    fn finish_recv<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        permit: RecvPermit,
        bytes: usize,
        wire: Arc<Wire>,
    ) -> Result<usize> {
        let late_wire = state.wire.checkin(Side::Read, wire);
        let result = match state.machine.handle_recv_if_open(permit, bytes) {
            Ok(()) => self.release_turn(state, Side::Read, Ok(bytes)),
            Err(permit) => self.finish_recv_slow(state, permit, bytes),
        };
        if let Some(wire) = late_wire {
            drop_wire(wire);
        }
        result
    }

    #[cold]
    fn finish_recv_slow<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        permit: RecvPermit,
        bytes: usize,
    ) -> Result<usize> {
        let actions = state.machine.handle_recv(permit, bytes);
        let state = self.apply(state, actions);
        // During an upgrade these bytes do not belong to the reader.
        let result = match state.machine.read_error() {
            Some(fault @ Fault::UnreadPlaintext) => Err(state.error_for(fault)),
            Some(_) | None => Ok(bytes),
        };
        self.release_turn(state, Side::Read, result)
    }

    /// Makes the first system call of a permit unless it has to wait first. That call is usually the only one.
    #[inline(always)]
    fn try_recv<'a>(
        &'a self,
        state: StateGuard<'a>,
        bufs: &mut RecvBufs<'_, '_>,
        timer: &mut CallTimer,
    ) -> Result<(StateGuard<'a>, Arc<Wire>, usize), PendingCall<'a>> {
        let (mut state, wire, poll_first) = begin_call(state, Side::Read);
        let blocking = state.may_block_in_recv(timer);
        if poll_first && !blocking {
            return Err(PendingCall { wire, poll_first, last: LastCall::None(state) });
        }
        state.recv.ready = false;
        drop(state);
        let result = wire.recv_maybe_blocking(bufs, blocking);
        match result {
            Ok(bytes @ 1..) => {
                timer.invalidate();
                let mut state = self.state_after_call();
                state.recv.predictor.on_progress(bytes < bufs.len(), poll_first);
                Ok((state, wire, bytes))
            }
            result => {
                Err(PendingCall { wire, poll_first, last: LastCall::Made { result, blocking } })
            }
        }
    }

    /// Receives with a permit, which is used up if nothing was received.
    #[inline(always)]
    pub(crate) fn recv_with<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        permit: RecvPermit,
        bufs: &mut RecvBufs<'_, '_>,
        timer: &mut CallTimer,
    ) -> RecvResult<'a> {
        match self.try_recv(state, bufs, timer) {
            Ok((state, wire, bytes)) => RecvResult::Bytes { state, permit, bytes, wire },
            Err(pending) => self.recv_loop(pending, permit, bufs, timer),
        }
    }

    /// Receives after a first system call that did not finish, or after a wait.
    #[inline(never)]
    fn recv_loop<'a>(
        self: &'a Arc<Self>,
        pending: PendingCall<'a>,
        permit: RecvPermit,
        bufs: &mut RecvBufs<'_, '_>,
        timer: &mut CallTimer,
    ) -> RecvResult<'a> {
        let PendingCall { wire, mut poll_first, mut last } = pending;
        let mut waited = poll_first;
        let (mut state, what) = loop {
            let (result, blocking) = match last {
                LastCall::Made { result, blocking } => (result, blocking),
                LastCall::None(mut state) => {
                    let blocking = state.may_block_in_recv(timer);
                    if poll_first && !blocking {
                        match self.wait_ready(state, &wire, Side::Read, timer) {
                            WaitResult::Ready => {}
                            WaitResult::Recheck(state) => {
                                if state.machine.permits_recv(&permit) {
                                    poll_first = state.failure().is_none();
                                    last = LastCall::None(state);
                                    continue;
                                }
                                break (state, RecvEvent::Cancelled);
                            }
                            WaitResult::Failed(state, fault) => {
                                return RecvResult::Ended(CallResult::Done(
                                    self.fail_recv(state, permit, fault),
                                ));
                            }
                            WaitResult::Elapsed(state) => {
                                return RecvResult::Ended(CallResult::Done(
                                    self.fail_recv_timed_out(state, permit),
                                ));
                            }
                        }
                    } else {
                        state.recv.ready = false;
                        drop(state);
                    }
                    (wire.recv_maybe_blocking(bufs, blocking), blocking)
                }
            };
            let wait = if poll_first && !blocking { timer.elapsed() } else { None };
            timer.invalidate();
            let ended = matches!(result, Ok(0)) && !planted!(BelievesZeroRead);
            let end = if ended { wire.classify_eof() } else { EofKind::Fin };
            let mut state = self.state();
            state.recv.parked = false;
            match result {
                Ok(0) => break self.judge_eof(state, end, Observer::Reader),
                Ok(bytes) => {
                    state.recv.predictor.on_progress(bytes < bufs.len(), waited);
                    if let Some(wait) = wait {
                        state.recv.predictor.on_waited(wait);
                    }
                    return RecvResult::Bytes { state, permit, bytes, wire };
                }
                Err(error) => match classify(&error) {
                    Failure::WouldBlock => {
                        if let (Some(fault), true) =
                            (state.failure(), state.machine.permits_recv(&permit))
                        {
                            break (state, RecvEvent::Failed(fault));
                        }
                        if !waited {
                            state.recv.predictor.on_would_block();
                            waited = true;
                        }
                        if blocking {
                            state.recv.predictor.on_blocking_timeout();
                        }
                        // The wire may have become ready since.
                        poll_first = !state.recv.ready || planted!(ForgetsReadiness);
                        if planted!(ForgetsReadiness) {
                            state.recv.ready = false;
                        }
                    }
                    Failure::Interrupted => poll_first = false,
                    Failure::Call(fault) => {
                        return RecvResult::Ended(CallResult::Done(
                            self.fail_recv(state, permit, fault),
                        ));
                    }
                    Failure::Connection(fault) => break (state, RecvEvent::Failed(fault)),
                },
            }
            if !state.machine.permits_recv(&permit) {
                break (state, RecvEvent::Cancelled);
            }
            last = LastCall::None(state);
        };
        let actions = state.machine.handle_recv_event(permit, what, clock::now());
        RecvResult::Ended(CallResult::Retry(self.apply_and_drop(state, actions, wire)))
    }

    /// Ends a permit whose call has reached its limit.
    fn fail_recv_timed_out<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        permit: RecvPermit,
    ) -> Result<usize> {
        let actions = state.machine.handle_recv_event(permit, RecvEvent::Cancelled, clock::now());
        state = self.apply(state, actions);
        self.fail_timed_out(state, Side::Read)
    }

    /// Ends a permit whose call failed for a local reason; the connection stays up.
    #[cold]
    fn fail_recv<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        permit: RecvPermit,
        fault: Fault,
    ) -> Result<usize> {
        let actions = state.machine.handle_recv_event(permit, RecvEvent::Cancelled, clock::now());
        state = self.apply(state, actions);
        self.release_turn(state, Side::Read, Err(Error::from_fault(fault)))
    }

    #[cold]
    fn read_empty(&self) -> Result<usize> {
        let mut state = self.state();
        match state.machine.read() {
            ReadStep::Recv(permit) | ReadStep::Ingest(permit) | ReadStep::TakePlaintext(permit) => {
                let actions =
                    state.machine.handle_recv_event(permit, RecvEvent::Cancelled, clock::now());
                drop(actions);
                Ok(0)
            }
            ReadStep::Wait | ReadStep::Eof => Ok(0),
            ReadStep::Fail(fault) => Err(state.error_for(fault)),
        }
    }
}

impl ConnectionState {
    /// Checks whether the next receive may block for a moment.
    fn may_block_in_recv(&self, timer: &mut CallTimer) -> bool {
        self.recv.predictor.prefers_blocking_recv()
            && !self.reports_readiness
            && (self.has_no_limits() || timer.exceeds_tick(self.call_limit(Side::Read)))
            && !event_loop::is_loop_thread()
    }
}
