//! Copies what a read would return, and leaves it unread.

use std::sync::Arc;

use super::read::RecvResult;
use super::retry::{CallStep, LastCall, PendingCall};
use crate::driver::connection::call_timer::{CallTimer, Elapsed};
use crate::driver::connection::{Connection, Turn};
use crate::driver::sys::clock;
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::Wire;
use crate::error::Result;
use crate::machine::{ReadStep, RecvPermit};

impl Connection {
    /// Waits as a read does, and copies the data.
    pub(crate) fn peek(self: &Arc<Self>, buf: &mut [u8]) -> Result<usize> {
        self.check_process()?;
        if buf.is_empty() {
            return self.read_empty();
        }
        let mut timer = CallTimer::default();
        let mut turn = self.acquire_turn(Side::Read, &mut timer, |state| {
            state.machine.read_error().map(|fault| state.error_for(fault))
        })?;
        let mut is_first = true;
        loop {
            let next = match turn.machine.read() {
                // The peer may send records without data for ever, and then no wait would notice the limit.
                ReadStep::Recv(permit) | ReadStep::Ingest(permit)
                    if !is_first && timer.left(turn.call_limit(Side::Read)) == Err(Elapsed) =>
                {
                    turn.cancel_recv(permit);
                    return Err(Side::Read.timeout_error());
                }
                ReadStep::Recv(permit) => turn.peek_wire(permit, buf, &mut timer),
                ReadStep::Ingest(permit) => turn.recv_tls(permit, &mut timer),
                ReadStep::TakePlaintext(permit) => {
                    let (bytes, actions) = turn.machine.peek_plaintext(permit, buf, clock::now);
                    turn.apply(actions);
                    match bytes {
                        0 => CallStep::AskAgain,
                        bytes => CallStep::Return(Ok(bytes)),
                    }
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
            is_first = false;
            turn.lend(|connection, state| connection.yield_state(state));
        }
    }
}

impl Turn<'_> {
    /// Peeks at the wire with a permit, in plaintext.
    fn peek_wire(&mut self, permit: RecvPermit, buf: &mut [u8], timer: &mut CallTimer) -> CallStep {
        let (wire, poll_first) = self.begin_call(Side::Read);
        let last = LastCall::None(self.take_state());
        let pending = PendingCall { wire, poll_first, last };
        let make = &mut |wire: &Wire, blocking| wire.peek_maybe_blocking(buf, blocking);
        // Whatever was seen is still there for the next call.
        match self.recv_call(pending, permit, make, &|_| false, timer) {
            RecvResult::Bytes { permit, bytes, wire } => {
                self.checkin_wire(wire);
                // After the start of an upgrade, or if reading was cancelled, they do not belong to a reader.
                let is_permitted = self.machine.permits_recv(&permit);
                self.cancel_recv(permit);
                match is_permitted {
                    true => CallStep::Return(Ok(bytes)),
                    false => CallStep::AskAgain,
                }
            }
            RecvResult::Ended(next) => next,
        }
    }
}
