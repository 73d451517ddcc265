//! Reading and writing, by the caller's own thread: straight into or out of the caller's buffer.
//!
//! This is what both have in common; each has a module of its own, and TLS has `sealed`.
//!
//! A call takes the turn of its direction, asks the machine for a pass, and makes the system call. When
//! that would block it waits, by poll(2) with the wake handle of its thread, or else by the condition
//! variable, and tries again. The loop takes no part in the first; in the second it reports when the
//! wire is ready.
//!
//! Mostly the first call is all. That way is written, and forced inline, so that it is one stretch of code, and
//! what follows on a first call in vain is in functions of its own: how many lines of the cache a call runs
//! through counts for more than its instructions.
//!
//! No wake-up is lost: a thread announces under the state lock that it is going to wait, having
//! looked there at all that could end its wait; whoever changes one of these does so under the lock
//! too, sees the announcement, and wakes it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::clock;
use super::deeds::ActionSet;
use super::event_loop;
use super::shared::{Connection, ConnectionState, StateGuard};
use super::wait::Side;
use super::wire::Wire;
use crate::error::{Deadline, Error, Fault, Result};

/// How long a party at the wire waits for what the other one may have been told. It is much longer than
/// that takes.
const CAUSE_GRACE: Duration = Duration::from_millis(10);

impl Connection {
    /// Settles, and lets go of the wire, which may close its descriptor, outside the lock.
    pub(super) fn apply_and_drop<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        actions: Option<ActionSet>,
        wire: Arc<Wire>,
    ) -> StateGuard<'a> {
        drop(self.apply(state, actions));
        drop(wire);
        self.state()
    }

    /// Waits for what who is at the wire in the other direction may have been told of its failure, and
    /// has not said yet. The failure wakes them too. Who was told nothing themselves says so by `own`: nobody
    /// waits for them then, and so no two for each other.
    pub(super) fn wait_for_cause<'a>(
        &'a self,
        mut state: StateGuard<'a>,
        other: Side,
        own: Option<Side>,
    ) -> StateGuard<'a> {
        let until = clock::now() + CAUSE_GRACE;
        if let Some(own) = own {
            state.direction(own).cause_unknown = true;
            self.notify_waiters(&state);
        }
        while state.may_have_cause(other) && state.machine.outcome().is_none() {
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                break;
            }
            state = self.wait_changed(state, Some(left));
        }
        if let Some(own) = own {
            state.direction(own).cause_unknown = false;
        }
        state
    }
}

impl ConnectionState {
    /// Whether somebody is at the wire in this direction, or was just now, and may have been told of a failure.
    fn may_have_cause(&mut self, side: Side) -> bool {
        let at_work = match side {
            Side::Read => self.error_probe || self.machine.is_received_from(),
            Side::Write => self.machine.is_transmitting(),
        };
        let direction = self.direction(side);
        (direction.turn_held || at_work) && !direction.cause_unknown
    }

    /// Whether to wait before the first try. The loop reports changes only, so where it is waited for,
    /// only a call that would have blocked makes sure that there is one to come.
    fn should_poll_first(&mut self, side: Side) -> bool {
        !self.reports_readiness && self.direction(side).predictor.predicts_block()
    }

    /// What an established connection has failed by.
    #[inline(never)]
    pub(super) fn failure(&self) -> Option<Fault> {
        self.machine.outcome().and_then(Result::err)
    }
}

/// A pass that the first call did not end.
pub(super) struct PendingCall<'a> {
    pub(super) wire: Arc<Wire>,
    /// Whether to wait before the first call, or before the next.
    pub(super) poll_first: bool,
    pub(super) last: LastCall<'a>,
}

/// The last call of a pass.
pub(super) enum LastCall<'a> {
    /// None was made.
    None(StateGuard<'a>),
    /// What came of it; its thread does not have the lock.
    Made { result: io::Result<usize>, blocking: bool },
}

/// What the first call of a pass needs: the wire, and whether to wait before.
#[inline(always)]
pub(super) fn begin_call(
    mut state: StateGuard<'_>,
    side: Side,
) -> (StateGuard<'_>, Arc<Wire>, bool) {
    let wire = state.wire.checkout(side).expect("who has a pass has a wire");
    // Of a connection that has failed only what came before that is left, for which nobody waits.
    let poll_first = state.should_poll_first(side) && state.failure().is_none();
    (state, wire, poll_first)
}

/// What came of a pass.
pub(super) enum CallResult<'a> {
    /// The call has its result, and has left.
    Done(Result<usize>),
    /// The machine has to be asked again.
    Retry(StateGuard<'a>),
}

impl Side {
    pub(super) fn timeout_error(self) -> Error {
        // There nothing may wait at all.
        if event_loop::is_loop_thread() {
            return event_loop::would_block_error();
        }
        Error::call_timed_out(match self {
            Side::Read => Deadline::Read,
            Side::Write => Deadline::Write,
        })
    }
}
