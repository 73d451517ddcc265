//! Plaintext reads, on the caller's own thread, and the receive that TLS reads use too.

use std::io;
use std::sync::Arc;

use super::retry::{CallMade, CallStep, LastCall, PendingCall, RetryResult, SystemCall};
use crate::driver::connection::call_timer::{CallTimer, Elapsed};
use crate::driver::connection::wire_refs::drop_wire;
use crate::driver::connection::{Connection, StateGuard, Turn};
use crate::driver::sys::clock;
use crate::driver::sys::io_bufs::RecvBufs;
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::Wire;
use crate::error::{Error, Fault, Result};
use crate::machine::{Machine, ReadStep, RecvEvent, RecvPermit};

/// Result of receiving with a permit.
pub(crate) enum RecvResult {
    /// Bytes were received, and the permit is still open.
    Bytes { permit: RecvPermit, bytes: usize, wire: Arc<Wire> },
    /// The permit is used up.
    Ended(CallStep),
}

impl Connection {
    /// Reads as soon as data is available.
    pub(crate) fn read(self: &Arc<Self>, bufs: &mut RecvBufs<'_, '_>) -> Result<usize> {
        self.check_process()?;
        if bufs.is_empty() {
            return self.read_empty();
        }
        let mut timer = CallTimer::default();
        let mut state = self.enter_turn(Side::Read, &mut timer, |state| {
            state.machine.read_error().map(|fault| state.error_for(fault))
        })?;
        let permit = match state.machine.read() {
            ReadStep::Recv(permit) => permit,
            step => {
                let turn = Turn::resume(self, Some(state), Side::Read);
                return turn.read_loop(step, bufs, timer);
            }
        };
        match self.try_recv(state, bufs, &mut timer) {
            Ok((state, wire, bytes)) => self.finish_recv(state, permit, bytes, wire),
            Err(pending) => {
                let turn = Turn::resume(self, None, Side::Read);
                turn.read_slow(pending, permit, bufs, timer)
            }
        }
    }

    /// Makes the first system call of a permit unless it has to wait first. That call is usually the only one.
    #[inline(always)]
    fn try_recv<'a>(
        &'a self,
        mut state: StateGuard<'a>,
        bufs: &mut RecvBufs<'_, '_>,
        timer: &mut CallTimer,
    ) -> Result<(StateGuard<'a>, Arc<Wire>, usize), PendingCall<'a>> {
        let (wire, poll_first) = state.begin_call(Side::Read);
        let blocking = state.may_block_in_recv(timer);
        if poll_first && !blocking {
            return Err(PendingCall { wire, poll_first, last: LastCall::None(state) });
        }
        let begun = if blocking { state.blocking_recv_begins() } else { None };
        state.recv.ready = false;
        drop(state);
        let result = wire.recv_maybe_blocking(bufs, blocking);
        match result {
            Ok(bytes @ 1..) => {
                timer.invalidate();
                let mut state = self.state_after_call();
                state.recv.predictor.on_progress(bytes < bufs.len(), poll_first);
                if begun.is_some() {
                    state.count_blocking_recv(begun);
                }
                Ok((state, wire, bytes))
            }
            result => {
                let last = LastCall::Made(CallMade { result, blocking, begun });
                Err(PendingCall { wire, poll_first, last })
            }
        }
    }

    /// Ends a permit that received bytes.
    #[inline(always)]
    pub(super) fn finish_recv<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        permit: RecvPermit,
        bytes: usize,
        wire: Arc<Wire>,
    ) -> Result<usize> {
        let late_wire = state.wire.checkin(Side::Read, wire);
        let result = match state.machine.handle_recv_if_open(permit, bytes) {
            Ok(()) => {
                self.free_turn(state, Side::Read);
                Ok(bytes)
            }
            Err(permit) => {
                Turn::resume(self, Some(state), Side::Read).finish_recv_slow(permit, bytes)
            }
        };
        if let Some(wire) = late_wire {
            drop_wire(wire);
        }
        result
    }

    #[cold]
    pub(super) fn read_empty(&self) -> Result<usize> {
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

impl<'a> Turn<'a> {
    #[cold]
    fn finish_recv_slow(mut self, permit: RecvPermit, bytes: usize) -> Result<usize> {
        let actions = self.machine.handle_recv(permit, bytes);
        self.apply(actions);
        // During an upgrade these bytes do not belong to the reader.
        match self.machine.read_error() {
            Some(fault @ Fault::UnreadPlaintext) => Err(self.error_for(fault)),
            Some(_) | None => Ok(bytes),
        }
    }

    /// Continues a read whose first system call did not finish it.
    #[inline(never)]
    fn read_slow(
        mut self,
        pending: PendingCall<'a>,
        permit: RecvPermit,
        bufs: &mut RecvBufs<'_, '_>,
        mut timer: CallTimer,
    ) -> Result<usize> {
        match self.recv_slow(pending, permit, bufs, &mut timer) {
            RecvResult::Bytes { permit, bytes, wire } => {
                self.connection().finish_recv(self.into_state(), permit, bytes, wire)
            }
            RecvResult::Ended(CallStep::Return(result)) => result,
            RecvResult::Ended(CallStep::AskAgain) => {
                let step = self.machine.read();
                self.read_loop(step, bufs, timer)
            }
        }
    }

    /// Follows the machine's steps until one gives a result.
    #[inline(never)]
    pub(super) fn read_loop(
        mut self,
        mut step: ReadStep,
        bufs: &mut RecvBufs<'_, '_>,
        mut timer: CallTimer,
    ) -> Result<usize> {
        let mut checked = false;
        loop {
            // The last receive brought no data. The peer may send such records without end, and then no wait would
            // notice the limit.
            let again = std::mem::replace(&mut checked, true);
            let next = match step {
                ReadStep::Recv(permit) | ReadStep::Ingest(permit)
                    if again && timer.left(self.call_limit(Side::Read)) == Err(Elapsed) =>
                {
                    self.cancel_recv(permit);
                    return Err(Side::Read.timeout_error());
                }
                ReadStep::Recv(permit) => {
                    let (wire, poll_first) = self.begin_call(Side::Read);
                    let last = LastCall::None(self.take_state());
                    let pending = PendingCall { wire, poll_first, last };
                    match self.recv_slow(pending, permit, bufs, &mut timer) {
                        RecvResult::Bytes { permit, bytes, wire } => {
                            let connection = self.connection();
                            return connection.finish_recv(self.into_state(), permit, bytes, wire);
                        }
                        RecvResult::Ended(next) => next,
                    }
                }
                ReadStep::Ingest(permit) => self.recv_tls(permit, &mut timer),
                ReadStep::TakePlaintext(permit) => return self.read_plaintext(permit, bufs),
                ReadStep::Eof => return Ok(0),
                ReadStep::Fail(fault) => return Err(self.error_for(fault)),
                ReadStep::Wait => {
                    self.wait_or_handshake(&mut timer)?;
                    CallStep::AskAgain
                }
            };
            if let CallStep::Return(result) = next {
                return result;
            }
            // With unread data, the next step ends the call.
            if !self.machine.has_unread() {
                self.lend(|connection, state| connection.yield_state(state));
            }
            step = self.machine.read();
        }
    }

    /// Receives with a permit, which is used up if nothing was received.
    #[inline(always)]
    pub(crate) fn recv_with(
        &mut self,
        permit: RecvPermit,
        bufs: &mut RecvBufs<'_, '_>,
        timer: &mut CallTimer,
    ) -> RecvResult {
        let state = self.take_state();
        match self.connection().try_recv(state, bufs, timer) {
            Ok((state, wire, bytes)) => {
                self.put_state(state);
                RecvResult::Bytes { permit, bytes, wire }
            }
            Err(pending) => self.recv_slow(pending, permit, bufs, timer),
        }
    }

    /// Receives after a first system call that did not finish, or after a wait.
    #[inline(never)]
    fn recv_slow(
        &mut self,
        pending: PendingCall<'a>,
        permit: RecvPermit,
        bufs: &mut RecvBufs<'_, '_>,
        timer: &mut CallTimer,
    ) -> RecvResult {
        let len = bufs.len();
        let make = &mut |wire: &Wire, blocking| wire.recv_maybe_blocking(bufs, blocking);
        self.recv_call(pending, permit, make, &|bytes| bytes < len, timer)
    }

    /// Makes the call of a permit. `took_all` says whether it received all bytes that were available.
    #[inline]
    pub(crate) fn recv_call(
        &mut self,
        pending: PendingCall<'a>,
        permit: RecvPermit,
        make: &mut dyn FnMut(&Wire, bool) -> io::Result<usize>,
        took_all: &dyn Fn(usize) -> bool,
        timer: &mut CallTimer,
    ) -> RecvResult {
        let mut pending = pending.resume(self);
        let is_permitted = &|machine: &Machine| machine.permits_recv(&permit);
        let call = SystemCall { make, took_all, is_permitted };
        let result = self.retry(&mut pending, call, timer);
        let wire = pending.wire;
        if let RetryResult::Bytes(bytes) = result {
            return RecvResult::Bytes { permit, bytes, wire };
        }
        // Before the actions, so that no reference keeps a released wire open.
        self.checkin_wire(wire);
        let what = match result {
            RetryResult::Eof(end) => self.judge_eof(end),
            RetryResult::Revoked | RetryResult::Bytes(_) => RecvEvent::Cancelled,
            RetryResult::Failed(fault) => RecvEvent::Failed(fault),
            RetryResult::CallFailed(fault) => {
                self.cancel_recv(permit);
                return RecvResult::Ended(CallStep::Return(Err(Error::from_fault(fault))));
            }
            RetryResult::Elapsed => {
                self.cancel_recv(permit);
                return RecvResult::Ended(CallStep::Return(Err(Side::Read.timeout_error())));
            }
        };
        let actions = self.machine.handle_recv_event(permit, what, clock::now());
        self.apply(actions);
        RecvResult::Ended(CallStep::AskAgain)
    }

    /// Ends a permit that received nothing; the connection stays up.
    pub(crate) fn cancel_recv(&mut self, permit: RecvPermit) {
        let actions = self.machine.handle_recv_event(permit, RecvEvent::Cancelled, clock::now());
        self.apply(actions);
    }
}
