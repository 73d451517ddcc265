//! Reads and writes that never wait. Where a read or write would wait, nothing changes, and `None` is the result.
//!
//! They take a turn only if it is free, make system calls that do not block, and know no limits. They do not even wait
//! for the cause of a failure that another thread is about to record: the next call returns it.
//!
//! A read after the event of a poller finds the data. In plaintext the event loop and pollers take no turn while data is
//! there, and over TLS no thread ingests records while data is unread.

use std::io;
use std::sync::Arc;

use super::retry::CallStep;
use super::transmit::UnknownCause;
use crate::driver::connection::buffers;
use crate::driver::connection::eof::{Observer, may_be_known};
use crate::driver::connection::{Connection, Turn};
use crate::driver::sys::clock;
use crate::driver::sys::errno::{Failure, classify, is_send_shortage};
use crate::driver::sys::io_bufs::{RecvBufs, SendBufs};
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::{EofKind, Wire};
use crate::error::{Error, Result};
use crate::machine::{ReadStep, RecvEvent, RecvPermit, SendEvent, SendPermit, WriteStep};

/// Maximum number of receives of one call over TLS. A peer may send records without data for ever.
const MAX_RECEIVES: usize = 8;

/// Maximum number of sends of one call. A second one only finds the failure that ended the first.
const MAX_SENDS: usize = 2;

/// What follows from a system call that did not wait.
enum TryStep {
    /// The call returns this.
    Return(Result<usize>),
    /// The call asks the machine again.
    AskAgain,
    /// The call would have to wait.
    WouldBlock,
}

/// Result of receiving with a permit.
enum TryRecv {
    /// Bytes were received, and the permit is still open.
    Bytes { permit: RecvPermit, bytes: usize, wire: Arc<Wire> },
    /// The permit is used up.
    Ended(TryStep),
}

impl Connection {
    /// Reads what is available. Returns `None` if a read would wait, or if another thread is reading.
    pub(crate) fn try_read(self: &Arc<Self>, buf: &mut [u8]) -> Result<Option<usize>> {
        self.check_process()?;
        if buf.is_empty() {
            return self.read_empty().map(Some);
        }
        let mut state = self.state();
        state.users.add_this_thread();
        if state.recv.turn.is_held() {
            // The end and a failure are nothing that a thread could take.
            return match state.machine.read() {
                ReadStep::Recv(permit)
                | ReadStep::Ingest(permit)
                | ReadStep::TakePlaintext(permit) => {
                    let unused = RecvEvent::Cancelled;
                    drop(state.machine.handle_recv_event(permit, unused, clock::now()));
                    Ok(None)
                }
                ReadStep::Wait => Ok(None),
                ReadStep::Eof => Ok(Some(0)),
                ReadStep::Fail(fault) => Err(state.error_for(fault)),
            };
        }
        let mut turn = Turn::take(self, state, Side::Read);
        for _ in 0..=MAX_RECEIVES {
            let next = match turn.machine.read() {
                ReadStep::Recv(permit) => {
                    match turn.recv_now(permit, &mut RecvBufs::One(&mut *buf)) {
                        TryRecv::Bytes { permit, bytes, wire } => {
                            let state = turn.into_state();
                            return self.finish_recv(state, permit, bytes, wire).map(Some);
                        }
                        TryRecv::Ended(next) => next,
                    }
                }
                ReadStep::Ingest(permit) => turn.recv_tls_now(permit),
                ReadStep::TakePlaintext(permit) => {
                    return turn.read_plaintext(permit, &mut RecvBufs::One(buf)).map(Some);
                }
                ReadStep::Wait => TryStep::WouldBlock,
                ReadStep::Eof => TryStep::Return(Ok(0)),
                ReadStep::Fail(fault) => TryStep::Return(Err(turn.error_for(fault))),
            };
            match next {
                TryStep::Return(result) => return result.map(Some),
                TryStep::WouldBlock => return Ok(None),
                TryStep::AskAgain => {}
            }
        }
        // Records without data may be in front of some with data.
        turn.note_missed();
        Ok(None)
    }

    /// Copies what is available. Returns `None` if a read would wait, or if another thread is reading.
    pub(crate) fn try_peek(self: &Arc<Self>, buf: &mut [u8]) -> Result<Option<usize>> {
        self.check_process()?;
        if buf.is_empty() {
            return self.read_empty().map(Some);
        }
        let state = self.state();
        if state.recv.turn.is_held() {
            return match state.machine.read_error() {
                Some(fault) => Err(state.error_for(fault)),
                None => Ok(None),
            };
        }
        let mut turn = Turn::take(self, state, Side::Read);
        for _ in 0..=MAX_RECEIVES {
            let next = match turn.machine.read() {
                ReadStep::Recv(permit) => {
                    match turn.call_now(permit, &mut |wire| wire.peek(buf), None) {
                        TryRecv::Bytes { permit, bytes, wire } => {
                            turn.checkin_wire(wire);
                            let is_permitted = turn.machine.permits_recv(&permit);
                            turn.cancel_recv(permit);
                            match is_permitted {
                                true => TryStep::Return(Ok(bytes)),
                                false => TryStep::AskAgain,
                            }
                        }
                        TryRecv::Ended(next) => next,
                    }
                }
                ReadStep::Ingest(permit) => turn.recv_tls_now(permit),
                ReadStep::TakePlaintext(permit) => {
                    let (bytes, actions) = turn.machine.peek_plaintext(permit, buf, clock::now);
                    turn.apply(actions);
                    match bytes {
                        0 => TryStep::AskAgain,
                        bytes => TryStep::Return(Ok(bytes)),
                    }
                }
                ReadStep::Wait => TryStep::WouldBlock,
                ReadStep::Eof => TryStep::Return(Ok(0)),
                ReadStep::Fail(fault) => TryStep::Return(Err(turn.error_for(fault))),
            };
            match next {
                TryStep::Return(result) => return result.map(Some),
                TryStep::WouldBlock => return Ok(None),
                TryStep::AskAgain => {}
            }
        }
        // As after a read.
        turn.note_missed();
        Ok(None)
    }

    /// Writes what is accepted at once. Returns `None` if a write would wait, or if another thread is writing.
    pub(crate) fn try_write(self: &Arc<Self>, buf: &[u8]) -> Result<Option<usize>> {
        self.check_process()?;
        if buf.is_empty() {
            return self.write_empty().map(Some);
        }
        let mut state = self.state();
        state.users.add_this_thread();
        if let Some(fault) = state.machine.write_error() {
            return Err(state.error_for(fault));
        }
        // Later writes wait for an upgrade.
        if state.send.turn.is_held() || state.is_upgrading() {
            return Ok(None);
        }
        let bufs = SendBufs::One(buf);
        let mut turn = Turn::take(self, state, Side::Write);
        for _ in 0..MAX_SENDS {
            let next = match turn.machine.write() {
                WriteStep::Send(permit) => turn.send_now(permit, &bufs),
                WriteStep::Seal(permit) => turn.write_tls_now(permit, &bufs),
                WriteStep::Fail(fault) => TryStep::Return(Err(turn.error_for(fault))),
                WriteStep::Wait => TryStep::WouldBlock,
            };
            match next {
                TryStep::Return(result) => return result.map(Some),
                TryStep::WouldBlock => return Ok(None),
                // The machine knows of a failure now.
                TryStep::AskAgain => {}
            }
        }
        Ok(None)
    }
}

impl Turn<'_> {
    /// Makes one receive with a permit.
    fn recv_now(&mut self, permit: RecvPermit, bufs: &mut RecvBufs<'_, '_>) -> TryRecv {
        let len = bufs.len();
        self.call_now(permit, &mut |wire| wire.recv(bufs), Some(len))
    }

    /// Makes one call with a permit, to receive at most `len` bytes or to peek.
    fn call_now(
        &mut self,
        permit: RecvPermit,
        call: &mut dyn FnMut(&Wire) -> io::Result<usize>,
        len: Option<usize>,
    ) -> TryRecv {
        let wire = self.wire.checkout(Side::Read).expect("a permit implies a wire");
        self.recv.ready = false;
        // If not, data may come between the call and the failure.
        let failed_before = self.failure().is_some() || planted!(BelievesOldReceive);
        self.unlock();
        let received = uninterrupted(|| call(&wire));
        let end = if matches!(received, Ok(0)) { wire.classify_eof() } else { EofKind::Fin };
        self.lock();
        if let Ok(bytes @ 1..) = received {
            let took_all = len.is_some_and(|len| bytes < len);
            self.recv.predictor.on_progress(took_all, false);
            return TryRecv::Bytes { permit, bytes, wire };
        }
        self.checkin_wire(wire);
        let mut next = TryStep::AskAgain;
        let what = match received {
            Ok(_) => {
                let is_write_open = self.machine.is_write_open();
                // The writer has the cause, and is about to record it.
                if may_be_known(end, is_write_open) && self.may_have_cause(Side::Write) {
                    next = TryStep::WouldBlock;
                    RecvEvent::Cancelled
                } else {
                    let mut event = RecvEvent::Eof;
                    self.lend(|connection, state| {
                        let judged = connection.judge_eof(state, end, Observer::Sender(None));
                        event = judged.1;
                        judged.0
                    });
                    event
                }
            }
            Err(error) => match classify(&error) {
                Failure::WouldBlock | Failure::Interrupted => match self.failure() {
                    Some(_) if !failed_before => RecvEvent::Cancelled,
                    // No data is left before the failure.
                    Some(fault) if self.machine.permits_recv(&permit) => RecvEvent::Failed(fault),
                    Some(_) | None => {
                        self.recv.predictor.on_refused();
                        next = TryStep::WouldBlock;
                        RecvEvent::Cancelled
                    }
                },
                Failure::Call(fault) => {
                    next = TryStep::Return(Err(Error::from_fault(fault)));
                    RecvEvent::Cancelled
                }
                Failure::Connection(fault) => RecvEvent::Failed(fault),
            },
        };
        let actions = self.machine.handle_recv_event(permit, what, clock::now());
        self.apply(actions);
        TryRecv::Ended(next)
    }

    /// Receives ciphertext, using up the permit.
    fn recv_tls_now(&mut self, permit: RecvPermit) -> TryStep {
        let mut buffers = buffers::borrow();
        let recv_buf = &mut buffers.get().recv;
        match self.recv_now(permit, &mut RecvBufs::One(recv_buf.spare_mut())) {
            TryRecv::Bytes { permit, bytes, wire } => {
                recv_buf.advance(bytes);
                self.lend(|connection, state| {
                    let (state, actions) = connection.ingest(state, permit, recv_buf);
                    connection.apply(state, actions)
                });
                self.checkin_wire(wire);
                TryStep::AskAgain
            }
            TryRecv::Ended(next) => next,
        }
    }

    /// Makes one send with a permit, using it up.
    fn send_now(&mut self, permit: SendPermit, bufs: &SendBufs<'_, '_>) -> TryStep {
        let wire = self.wire.checkout(Side::Write).expect("a permit implies a wire");
        self.send.ready = false;
        self.unlock();
        let sent = uninterrupted(|| wire.send(bufs));
        let sent = sent.map_err(|error| (wire.classify_send(&error), error));
        self.lock();
        self.checkin_wire(wire);
        let (what, next) = match sent {
            Ok(bytes) => {
                self.send.predictor.on_progress(bytes < bufs.len(), false);
                let actions = self.machine.handle_send(permit, bytes);
                self.apply(actions);
                return TryStep::Return(Ok(bytes));
            }
            Err((failure, error)) => match failure {
                Failure::WouldBlock | Failure::Interrupted => {
                    self.send.predictor.on_would_block();
                    self.send.predictor.on_refused();
                    (SendEvent::Cancelled, TryStep::WouldBlock)
                }
                Failure::Call(_) if is_send_shortage(&error) => {
                    (SendEvent::Cancelled, TryStep::WouldBlock)
                }
                Failure::Call(fault) => {
                    (SendEvent::Cancelled, TryStep::Return(Err(Error::from_fault(fault))))
                }
                // EPIPE names no cause. The reader has it, and is about to record it.
                Failure::Connection(_)
                    if error.kind() == io::ErrorKind::BrokenPipe
                        && self.may_have_cause(Side::Read) =>
                {
                    (SendEvent::Cancelled, TryStep::WouldBlock)
                }
                Failure::Connection(fault) => (SendEvent::Failed(fault), TryStep::AskAgain),
            },
        };
        let actions = self.machine.handle_send_event(permit, what);
        self.apply(actions);
        next
    }

    /// Encrypts data if the queue has room, using up the permit, and sends what the kernel accepts at once.
    fn write_tls_now(&mut self, permit: SendPermit, bufs: &SendBufs<'_, '_>) -> TryStep {
        if self.machine.permits_send(&permit) && !self.machine.can_seal() {
            self.lend(|connection, state| connection.transmit_locked(state, UnknownCause::Defer));
            if self.machine.permits_send(&permit) && !self.machine.can_seal() {
                self.cancel_send(permit);
                return TryStep::WouldBlock;
            }
        }
        match self.seal_and_send(permit, bufs, UnknownCause::Defer) {
            CallStep::Return(result) => TryStep::Return(result),
            CallStep::AskAgain => TryStep::AskAgain,
        }
    }
}

/// Repeats a system call that a signal interrupted.
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
