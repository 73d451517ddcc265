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
use super::deeds::Deeds;
use super::event_loop;
use super::shared::{Core, Guard, Shared};
use super::wait::Side;
use super::wire::Wire;
use crate::error::{Deadline, Error, Fault, Result};

/// How long a party at the wire waits for what the other one may have been told. It is much longer than
/// that takes.
const HEARSAY: Duration = Duration::from_millis(10);

impl Shared {
    /// Settles, and lets go of the wire, which may close its descriptor, outside the lock.
    pub(super) fn settle_without<'a>(
        self: &'a Arc<Self>,
        core: Guard<'a>,
        deeds: Option<Deeds>,
        wire: Arc<Wire>,
    ) -> Guard<'a> {
        drop(self.settle(core, deeds));
        drop(wire);
        self.lock()
    }

    /// Waits for what who is at the wire in the other direction may have been told of its failure, and
    /// has not said yet. The failure wakes them too. Who was told nothing themselves says so by `own`: nobody
    /// waits for them then, and so no two for each other.
    pub(super) fn await_hearsay<'a>(
        &'a self,
        mut core: Guard<'a>,
        other: Side,
        own: Option<Side>,
    ) -> Guard<'a> {
        let until = clock::now() + HEARSAY;
        if let Some(own) = own {
            core.lane(own).clueless = true;
            self.notify(&core);
        }
        while core.may_know(other) && core.machine.outcome().is_none() {
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                break;
            }
            core = self.wait_change(core, Some(left));
        }
        if let Some(own) = own {
            core.lane(own).clueless = false;
        }
        core
    }
}

impl Core {
    /// Whether somebody is at the wire in this direction, or was just now, and may have been told of a failure.
    fn may_know(&mut self, side: Side) -> bool {
        let at_work = match side {
            Side::Read => self.looking || self.machine.is_received_from(),
            Side::Write => self.machine.is_transmitting(),
        };
        let lane = self.lane(side);
        (lane.busy || at_work) && !lane.clueless
    }

    /// Whether to wait before the first try. The loop reports changes only, so where it is waited for,
    /// only a call that would have blocked makes sure that there is one to come.
    fn waits_first(&mut self, side: Side) -> bool {
        !self.attended && self.lane(side).forecast.waits()
    }

    /// What an established connection has failed by.
    #[inline(never)]
    pub(super) fn failure(&self) -> Option<Fault> {
        self.machine.outcome().and_then(Result::err)
    }
}

/// A pass that the first call did not end.
pub(super) struct Tried<'a> {
    pub(super) wire: Arc<Wire>,
    /// Whether to wait before the first call, or before the next.
    pub(super) wait_first: bool,
    pub(super) last: Last<'a>,
}

/// The last call of a pass.
pub(super) enum Last<'a> {
    /// None was made.
    None(Guard<'a>),
    /// What came of it; its thread does not have the lock.
    Made { result: io::Result<usize>, brisk: bool },
}

/// What the first call of a pass needs: the wire, and whether to wait before.
#[inline(always)]
pub(super) fn begin(mut core: Guard<'_>, side: Side) -> (Guard<'_>, Arc<Wire>, bool) {
    let wire = core.wire.lend(side).expect("who has a pass has a wire");
    // Of a connection that has failed only what came before that is left, for which nobody waits.
    let wait_first = core.waits_first(side) && core.failure().is_none();
    (core, wire, wait_first)
}

/// What came of a pass.
pub(super) enum Called<'a> {
    /// The call has its result, and has left.
    Done(Result<usize>),
    /// The machine has to be asked again.
    Ask(Guard<'a>),
}

impl Side {
    pub(super) fn timed_out(self) -> Error {
        // There nothing may wait at all.
        if event_loop::is_this_thread() {
            return event_loop::would_block();
        }
        Error::call_timed_out(match self {
            Side::Read => Deadline::Read,
            Side::Write => Deadline::Write,
        })
    }
}
