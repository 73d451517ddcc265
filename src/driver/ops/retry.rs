//! The loop that reads and writes share: makes the system call of a permit until it has a result.
//!
//! A call takes the turn of its direction, asks the machine for a permit, and makes the system call. If that would
//! block, it waits and tries again. It waits in poll(2) with the wake handle of its thread, or on the condition
//! variable. Only in the second case does the event loop take part: it reports when the wire is ready.
//!
//! The first system call is usually the only one. That path is forced inline, to be one straight stretch of code, and
//! everything after a would-block is outlined, as here. The number of cache lines that a call touches matters more than
//! its number of instructions.
//!
//! No wake-up is lost. A thread that is about to wait checks, under the state lock, every condition that could end
//! its wait, and announces the wait there. A thread that changes one of these conditions does so under the lock too,
//! sees the announcement, and wakes the waiter.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::spin::SpinResult;
use super::wait::WaitResult;
use crate::driver::connection::call_timer::{CallTimer, Elapsed};
use crate::driver::connection::{StateGuard, Turn};
use crate::driver::event_loop;
use crate::driver::sys::errno::{Failure, classify, is_send_shortage};
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::{EofKind, Wire};
use crate::error::{Error, Fault, Result, TimerKind};
use crate::machine::Machine;

/// What follows from the use of a permit.
pub(crate) enum CallStep {
    /// The call returns this.
    Return(Result<usize>),
    /// The call asks the machine again.
    AskAgain,
}

/// A permitted call whose first system call did not finish it.
pub(crate) struct PendingCall<'a> {
    pub(crate) wire: Arc<Wire>,
    /// Whether to wait before the next system call.
    pub(crate) poll_first: bool,
    pub(crate) last: LastCall<'a>,
}

/// The last system call of a permit.
pub(crate) enum LastCall<'a> {
    /// No call was made, and the thread has the lock.
    None(StateGuard<'a>),
    /// A call was made, and the thread does not have the lock.
    Made(CallMade),
}

/// A system call that was made.
pub(crate) struct CallMade {
    pub(crate) result: io::Result<usize>,
    /// Whether it was allowed to block in the kernel.
    pub(crate) blocking: bool,
    /// When it began, if it was allowed to block and its length matters.
    pub(crate) begun: Option<Instant>,
}

/// The system call of a permit.
pub(crate) struct SystemCall<'c> {
    /// Makes the call, which may block in the kernel for a moment if the argument is `true`.
    pub(crate) make: &'c mut dyn FnMut(&Wire, bool) -> io::Result<usize>,
    /// Whether a call that moved this many bytes moved all that were available.
    pub(crate) took_all: &'c dyn Fn(usize) -> bool,
    /// Whether the machine still permits the call.
    pub(crate) is_permitted: &'c dyn Fn(&Machine) -> bool,
}

/// The result of the system call of a permit. The turn holds the lock again.
pub(crate) enum RetryResult {
    /// Bytes were moved.
    Bytes(usize),
    /// A receive returned nothing, and the wire says this about it.
    Eof(EofKind),
    /// The machine has revoked the permit.
    Revoked,
    /// The connection has failed.
    Failed(Fault),
    /// Only this call has failed.
    CallFailed(Fault),
    /// The limit of the call has passed.
    Elapsed,
}

/// A call to continue, without the lock.
pub(crate) struct Continued {
    pub(crate) wire: Arc<Wire>,
    pub(crate) poll_first: bool,
    pub(crate) made: Option<CallMade>,
}

impl<'a> PendingCall<'a> {
    /// Puts the lock back into the turn, if the thread has it.
    pub(crate) fn resume(self, turn: &mut Turn<'a>) -> Continued {
        let PendingCall { wire, poll_first, last } = self;
        let made = match last {
            LastCall::None(state) => {
                turn.put_state(state);
                None
            }
            LastCall::Made(made) => Some(made),
        };
        Continued { wire, poll_first, made }
    }
}

impl Turn<'_> {
    /// Makes the call after a first one that did not finish, or after a wait.
    #[inline(never)]
    pub(crate) fn retry(
        &mut self,
        pending: &mut Continued,
        call: SystemCall<'_>,
        timer: &mut CallTimer,
    ) -> RetryResult {
        let Continued { wire, poll_first, made } = pending;
        let wire: &Wire = wire;
        let side = self.side();
        let mut waited = *poll_first;
        // A thread that must not wait finds out only by a call.
        let mut poll_first = waited && !event_loop::is_loop_thread();
        let mut may_spin = side == Side::Read;
        let mut spun = false;
        // Whether the connection had failed before the call. If not, data may come between the call and the failure.
        let mut failed_before = false;
        loop {
            let CallMade { result, blocking, begun } = match made.take() {
                Some(made) => made,
                None => {
                    failed_before = side == Side::Read && self.failure().is_some();
                    let blocking =
                        side == Side::Read && !failed_before && self.may_block_in_recv(timer);
                    let begun = if blocking { self.blocking_recv_begins() } else { None };
                    if poll_first && std::mem::take(&mut may_spin) {
                        match self.spin(wire, &mut *call.make, timer) {
                            SpinResult::Off => {}
                            SpinResult::Made(result) => {
                                *made = Some(CallMade { result, blocking: false, begun: None });
                                poll_first = false;
                                spun = true;
                                continue;
                            }
                            SpinResult::Nothing => {
                                poll_first = self.failure().is_none();
                                if !(call.is_permitted)(&self.machine) {
                                    return RetryResult::Revoked;
                                }
                                continue;
                            }
                        }
                    }
                    if poll_first && !blocking {
                        match self.wait_ready(wire, timer) {
                            WaitResult::Ready => {}
                            WaitResult::Recheck => {
                                match side {
                                    Side::Read => poll_first = self.failure().is_none(),
                                    Side::Write => self.handle_close_timer(),
                                }
                                if (call.is_permitted)(&self.machine) {
                                    continue;
                                }
                                return RetryResult::Revoked;
                            }
                            WaitResult::Failed(fault) => return RetryResult::CallFailed(fault),
                            WaitResult::Elapsed => return RetryResult::Elapsed,
                        }
                    } else {
                        self.direction(side).ready = false;
                        self.unlock();
                    }
                    CallMade { result: (call.make)(wire, blocking), blocking, begun }
                }
            };
            let is_timed = side == Side::Read && poll_first && !blocking;
            let wait = if is_timed { timer.elapsed() } else { None };
            timer.invalidate();
            let is_eof = side == Side::Read && matches!(result, Ok(0));
            let end = match is_eof && !planted!(BelievesZeroRead) {
                true => wire.classify_eof(),
                false => EofKind::Fin,
            };
            self.lock();
            self.direction(side).parked = false;
            if std::mem::take(&mut spun) {
                self.count_spin_made(&result);
            }
            match result {
                Ok(_) if is_eof => return RetryResult::Eof(end),
                Ok(bytes) => {
                    let predictor = &mut self.direction(side).predictor;
                    predictor.on_progress((call.took_all)(bytes), waited);
                    if let Some(wait) = wait {
                        predictor.on_waited(wait);
                        if let Some(busy_poll) = self.extras.busy_poll_mut() {
                            busy_poll.on_waited(wait);
                        }
                    }
                    self.count_blocking_recv(begun);
                    return RetryResult::Bytes(bytes);
                }
                Err(error) => match classify_for(wire, side, &error) {
                    Failure::WouldBlock => {
                        if let (Side::Read, Some(fault)) = (side, self.failure()) {
                            if !(call.is_permitted)(&self.machine) {
                                return RetryResult::Revoked;
                            }
                            if failed_before || planted!(BelievesOldReceive) {
                                // No data is left before the failure.
                                return RetryResult::Failed(fault);
                            }
                            poll_first = false;
                            continue;
                        }
                        let direction = self.direction(side);
                        if !waited {
                            direction.predictor.on_would_block();
                            waited = true;
                        }
                        if blocking {
                            direction.predictor.on_blocking_timeout();
                        }
                        // The wire may have become ready since.
                        poll_first = !direction.ready;
                        if planted!(ForgetsReadiness) && side == Side::Read {
                            direction.ready = false;
                            poll_first = true;
                        }
                    }
                    Failure::Interrupted => poll_first = false,
                    Failure::Call(_) if side == Side::Write && is_send_shortage(&error) => {
                        if self.pause_for_memory(timer) == Err(Elapsed) {
                            return RetryResult::Elapsed;
                        }
                        poll_first = false;
                    }
                    Failure::Call(fault) => return RetryResult::CallFailed(fault),
                    Failure::Connection(fault) => {
                        // EPIPE names no cause.
                        if error.kind() == io::ErrorKind::BrokenPipe && side == Side::Write {
                            self.lend(|connection, state| {
                                connection.wait_for_cause(state, Side::Read, Some(Side::Write))
                            });
                        }
                        return RetryResult::Failed(fault);
                    }
                },
            }
            if !(call.is_permitted)(&self.machine) {
                return RetryResult::Revoked;
            }
        }
    }
}

fn classify_for(wire: &Wire, side: Side, error: &io::Error) -> Failure {
    match side {
        Side::Read => classify(error),
        Side::Write => wire.classify_send(error),
    }
}

impl Side {
    pub(crate) fn timeout_error(self) -> Error {
        // Calls on the event loop's thread must not wait at all.
        if event_loop::is_loop_thread() {
            return event_loop::would_block_error();
        }
        Error::timed_out_call(match self {
            Side::Read => TimerKind::Read,
            Side::Write => TimerKind::Write,
        })
    }
}
