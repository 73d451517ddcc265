//! The steps of a relay between two sockets: reads and writes whose limit is not that of the socket. In plaintext the
//! bytes can move through a pipe, without a copy to this process.

use std::sync::Arc;
use std::time::Instant;

use super::read::RecvResult;
use super::retry::{CallStep, LastCall, PendingCall};
use crate::driver::connection::call_timer::CallTimer;
use crate::driver::connection::{Connection, Turn};
use crate::driver::sys::clock;
use crate::driver::sys::io_bufs::{RecvBufs, SendBufs};
use crate::driver::sys::splice::Pipe;
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::Wire;
use crate::error::{Error, Fault, Result};
use crate::machine::{Input, ReadStep, WriteStep};

impl Connection {
    /// From now on, the peer's end no longer ends the write side. Returns whether that had ended before.
    pub(crate) fn allow_half_open(self: &Arc<Self>) -> bool {
        let mut state = self.state_soon();
        drop(state.machine.handle(Input::AllowHalfOpen, clock::now()));
        !state.is_opening() && !state.machine.is_write_open()
    }

    /// Prepares an open socket for a relay. Returns whether bytes can move through a pipe.
    pub(crate) fn begin_relay(self: &Arc<Self>) -> Result<bool> {
        self.check_process()?;
        let state = self.state_soon();
        let is_plaintext = !state.machine.is_tls();
        let wire = state.wire.cloned();
        drop(state);
        // splice(2) waits if the descriptor does.
        Ok(is_plaintext && wire.is_some_and(|wire| wire.disable_blocking_recv().is_ok()))
    }

    /// Reads, until the limit.
    pub(crate) fn relay_read(
        self: &Arc<Self>,
        buf: &mut [u8],
        end: Option<Instant>,
    ) -> Result<usize> {
        let timer = CallTimer::until(end);
        let (mut turn, timer) = self.relay_turn(Side::Read, timer)?;
        let step = turn.machine.read();
        turn.read_loop(step, &mut RecvBufs::One(buf), timer)
    }

    /// Writes some of the bytes, until the limit.
    pub(crate) fn relay_write(self: &Arc<Self>, buf: &[u8], end: Option<Instant>) -> Result<usize> {
        let timer = CallTimer::until(end);
        let (mut turn, timer) = self.relay_turn(Side::Write, timer)?;
        let step = turn.machine.write();
        turn.write_loop(step, &SendBufs::One(buf), timer)
    }

    /// Half-closes, until the limit.
    pub(crate) fn relay_end(self: &Arc<Self>, end: Option<Instant>) -> Result<()> {
        self.close_write_within(CallTimer::until(end))
    }

    /// Moves available bytes of a plaintext socket to the pipe, which is empty. 0 is the peer's end.
    pub(crate) fn relay_to_pipe(
        self: &Arc<Self>,
        pipe: &Pipe,
        end: Option<Instant>,
    ) -> Result<usize> {
        let (mut turn, mut timer) = self.relay_turn(Side::Read, CallTimer::until(end))?;
        loop {
            let next = match turn.machine.read() {
                ReadStep::Recv(permit) => {
                    let (wire, poll_first) = turn.begin_call(Side::Read);
                    let last = LastCall::None(turn.take_state());
                    let pending = PendingCall { wire, poll_first, last };
                    let make = &mut |wire: &Wire, _| pipe.receive(wire);
                    // Whether these were all bytes is not known: the pipe has room for a number of pieces.
                    match turn.recv_call(pending, permit, make, &|_| false, &mut timer) {
                        RecvResult::Bytes { permit, bytes, wire } => {
                            return self.finish_recv(turn.into_state(), permit, bytes, wire);
                        }
                        RecvResult::Ended(next) => next,
                    }
                }
                ReadStep::Ingest(permit) | ReadStep::TakePlaintext(permit) => {
                    turn.cancel_recv(permit);
                    return Err(Error::from_fault(Fault::Internal));
                }
                ReadStep::Eof => return Ok(0),
                ReadStep::Fail(fault) => return Err(turn.error_for(fault)),
                ReadStep::Wait => {
                    turn.wait_or_handshake(&mut timer)?;
                    CallStep::AskAgain
                }
            };
            if let CallStep::Return(result) = next {
                return result;
            }
            turn.lend(|connection, state| connection.yield_state(state));
        }
    }

    /// Moves some of `len` bytes from the pipe to a plaintext socket.
    pub(crate) fn relay_from_pipe(
        self: &Arc<Self>,
        pipe: &Pipe,
        len: usize,
        end: Option<Instant>,
    ) -> Result<usize> {
        let (mut turn, mut timer) = self.relay_turn(Side::Write, CallTimer::until(end))?;
        loop {
            let next = match turn.machine.write() {
                WriteStep::Send(permit) => {
                    let (wire, poll_first) = turn.begin_call(Side::Write);
                    let last = LastCall::None(turn.take_state());
                    let pending = PendingCall { wire, poll_first, last };
                    let make = &mut |wire: &Wire, _| pipe.send(wire, len);
                    turn.send_call(pending, permit, make, &|bytes| bytes < len, &mut timer)
                }
                WriteStep::Seal(permit) => {
                    turn.cancel_send(permit);
                    return Err(Error::from_fault(Fault::Internal));
                }
                WriteStep::Fail(fault) => return Err(turn.error_for(fault)),
                WriteStep::Wait => {
                    turn.wait_or_handshake(&mut timer)?;
                    CallStep::AskAgain
                }
            };
            if let CallStep::Return(result) = next {
                return result;
            }
            turn.lend(|connection, state| connection.yield_state(state));
        }
    }

    fn relay_turn(
        self: &Arc<Self>,
        side: Side,
        mut timer: CallTimer,
    ) -> Result<(Turn<'_>, CallTimer)> {
        self.check_process()?;
        let turn = self.acquire_turn(side, &mut timer, |state| {
            let fault = match side {
                Side::Read => state.machine.read_error(),
                Side::Write => state.machine.write_error(),
            };
            fault.map(|fault| state.error_for(fault))
        })?;
        Ok((turn, timer))
    }
}
