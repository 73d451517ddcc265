//! Reads up to a delimiter, and takes not one byte more from the connection.
//!
//! In plaintext the bytes after the delimiter must stay in the kernel, where the check of an upgrade sees them. So this
//! peeks, and then receives exactly the bytes that belong to the line. If the delimiter is not in sight, everything
//! seen belongs to the line and is taken. Each byte is peeked once, however slowly the line arrives.

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use super::read::RecvResult;
use super::retry::{CallStep, LastCall, PendingCall};
use crate::driver::connection::call_timer::{CallTimer, Elapsed};
use crate::driver::connection::{Connection, Turn};
use crate::driver::sys::clock;
use crate::driver::sys::io_bufs::RecvBufs;
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::Wire;
use crate::error::{Fault, Result};
use crate::machine::{ReadStep, RecvPermit};

/// The maximum number of bytes that one system call takes.
const CHUNK: usize = 4096;

/// The line that a call collects.
struct Line<'a> {
    delimiter: u8,
    buf: &'a mut Vec<u8>,
    start: usize,
    max: usize,
}

impl Line<'_> {
    fn len(&self) -> usize {
        self.buf.len() - self.start
    }

    fn left(&self) -> usize {
        self.max - self.len()
    }

    fn is_complete(&self) -> bool {
        self.len() > 0 && self.buf.last() == Some(&self.delimiter)
    }
}

impl Connection {
    /// Appends the bytes up to and including `delimiter` to `buf`, and returns their number: fewer without the
    /// delimiter at EOF. Returns `None` after `max` bytes without it.
    pub(crate) fn read_until(
        self: &Arc<Self>,
        delimiter: u8,
        buf: &mut Vec<u8>,
        max: usize,
    ) -> Result<Option<usize>> {
        self.check_process()?;
        let mut timer = CallTimer::default();
        let state = self.enter_turn(Side::Read, &mut timer, |state| {
            state.machine.read_error().map(|fault| state.error_for(fault))
        })?;
        let mut turn = Turn::resume(self, Some(state), Side::Read);
        let start = buf.len();
        let mut line = Line { delimiter, buf, start, max };
        let mut is_first = true;
        let mut grew = false;
        loop {
            if line.is_complete() {
                return Ok(Some(line.len()));
            }
            if line.left() == 0 {
                return Ok(None);
            }
            let before = line.len();
            let limit = turn.call_limit(Side::Read);
            // A peer that always sends would let no wait notice the limit. A thread that must not wait may go on while
            // the line grows.
            let mut is_over = || match grew {
                true => timer.left_at_start(limit) == Err(Elapsed),
                false => timer.left(limit) == Err(Elapsed),
            };
            let next = match turn.machine.read() {
                ReadStep::Recv(permit) | ReadStep::Ingest(permit) if !is_first && is_over() => {
                    turn.cancel_recv(permit);
                    return Err(Side::Read.timeout_error());
                }
                ReadStep::Recv(permit) => turn.recv_line(permit, &mut line, &mut timer),
                ReadStep::Ingest(permit) => turn.recv_tls(permit, &mut timer),
                ReadStep::TakePlaintext(permit) => {
                    let (taken, actions) = turn.machine.take_plaintext_until(
                        permit,
                        line.delimiter,
                        line.left(),
                        clock::now,
                    );
                    line.buf.extend_from_slice(&taken);
                    turn.apply(actions);
                    CallStep::AskAgain
                }
                ReadStep::Eof => return Ok(Some(line.len())),
                ReadStep::Fail(fault) => return Err(turn.error_for(fault)),
                ReadStep::Wait => {
                    turn.wait_or_handshake(&mut timer)?;
                    CallStep::AskAgain
                }
            };
            if let CallStep::Return(Err(error)) = next {
                return Err(error);
            }
            is_first = false;
            grew = line.len() > before;
            if grew {
                // The timeout applies to each wait.
                timer = CallTimer::default();
            }
            // Also while data flows, which may be for as long as the peer likes.
            turn.lend(|connection, state| connection.yield_state(state));
        }
    }
}

impl<'a> Turn<'a> {
    /// Receives a part of the line with a permit, in plaintext.
    fn recv_line(
        &mut self,
        permit: RecvPermit,
        line: &mut Line<'_>,
        timer: &mut CallTimer,
    ) -> CallStep {
        let mut chunk = [0; CHUNK];
        let len = line.left().min(CHUNK);
        let delimiter = line.delimiter;
        let (wire, poll_first) = self.begin_call(Side::Read);
        let last = LastCall::None(self.take_state());
        let pending = PendingCall { wire, poll_first, last };
        let seen = Cell::new(0);
        let make = &mut |wire: &Wire, blocking| {
            // Waiting takes nothing from the wire.
            seen.set(wire.peek_maybe_blocking(&mut chunk[..len], blocking)?);
            recv_line(wire, &mut chunk[..seen.get()], delimiter)
        };
        let took_all = &|bytes| bytes == seen.get() && bytes < len;
        match self.recv_call(pending, permit, make, took_all, timer) {
            RecvResult::Bytes { permit, bytes, wire } => {
                self.checkin_wire(wire);
                let actions = self.machine.handle_recv(permit, bytes);
                self.apply(actions);
                // During an upgrade these bytes do not belong to the reader.
                let is_late = self.machine.read_error() == Some(Fault::UnreadPlaintext);
                if !is_late || planted!(ReaderKeepsLateLine) {
                    line.buf.extend_from_slice(&chunk[..bytes]);
                }
                CallStep::AskAgain
            }
            RecvResult::Ended(next) => next,
        }
    }
}

/// Receives the bytes that were seen on the wire, up to and including the delimiter.
fn recv_line(wire: &Wire, seen: &mut [u8], delimiter: u8) -> io::Result<usize> {
    if seen.is_empty() {
        return Ok(0);
    }
    let line = seen.iter().position(|&byte| byte == delimiter).map_or(seen.len(), |at| at + 1);
    // The turn keeps other threads from receiving in between.
    wire.recv(&mut RecvBufs::One(&mut seen[..line]))
}
