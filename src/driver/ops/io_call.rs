//! Types and helpers that reads and writes share. `read` and `write` hold the calls themselves, and `tls` those over
//! TLS.
//!
//! A call takes the turn of its direction, asks the machine for a permit, and makes the system call. If that would
//! block, it waits and tries again. It waits in poll(2) with the wake handle of its thread, or on the condition
//! variable. Only in the second case does the event loop take part: it reports when the wire is ready.
//!
//! The first system call is usually the only one. That path is forced inline, to be one straight stretch of code, and
//! everything after a would-block is outlined. The number of cache lines that a call touches matters more than its
//! number of instructions.
//!
//! No wake-up is lost. A thread that is about to wait checks, under the state lock, every condition that could end
//! its wait, and announces the wait there. A thread that changes one of these conditions does so under the lock too,
//! sees the announcement, and wakes the waiter.

use std::io;
use std::sync::Arc;

use crate::driver::connection::{Connection, ConnectionState, StateGuard};
use crate::driver::event_loop;
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::Wire;
use crate::error::{Error, Fault, Result, TimerKind};
use crate::machine::Actions;

impl Connection {
    /// Applies the actions, and drops the wire outside the lock, because that may close its descriptor.
    pub(crate) fn apply_and_drop<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        actions: Actions,
        wire: Arc<Wire>,
    ) -> StateGuard<'a> {
        drop(self.apply(state, actions));
        drop(wire);
        self.state()
    }
}

impl ConnectionState {
    /// Checks whether to poll before the first call. The event loop reports only changes. So a thread that relies on
    /// it must first have a call that would block, or no change may follow.
    fn should_poll_first(&mut self, side: Side) -> bool {
        !self.reports_readiness && self.direction(side).predictor.predicts_block()
    }

    /// Returns the fault that an established connection failed with.
    #[inline(never)]
    pub(crate) fn failure(&self) -> Option<Fault> {
        self.machine.outcome().and_then(Result::err)
    }
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
    /// No call was made.
    None(StateGuard<'a>),
    /// A call was made, with this result; the thread does not hold the lock.
    Made { result: io::Result<usize>, blocking: bool },
}

/// Returns what the first call of a permit needs: the wire, and whether to wait first.
#[inline(always)]
pub(crate) fn begin_call(
    mut state: StateGuard<'_>,
    side: Side,
) -> (StateGuard<'_>, Arc<Wire>, bool) {
    let wire = state.wire.checkout(side).expect("a permit implies a wire");
    // A failed connection has only earlier data left, which needs no waiting.
    let poll_first = state.should_poll_first(side) && state.failure().is_none();
    (state, wire, poll_first)
}

/// Result of using a permit.
pub(crate) enum CallResult<'a> {
    /// The call has its result and has released its turn.
    Done(Result<usize>),
    /// The caller has to ask the machine again.
    Retry(StateGuard<'a>),
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
