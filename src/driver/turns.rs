//! Whose turn it is to make calls in a direction, and what they do when they leave.

use std::sync::Arc;
use std::time::Duration;

use super::clock;
use super::patience::{Passed, Patience};
use super::shared::{Core, Guard, Shared, Watching};
use super::wait::Side;
use super::{Driver, Job, Urgency, event_loop};
use crate::error::{Deadline, Error, Result};
use crate::machine::Input;

impl Shared {
    /// Waits for the turn, at most as long as the call may, and as long as nothing refuses it. A deadline
    /// in the past wins over all but that.
    #[inline(always)]
    pub(super) fn take_turn(
        &self,
        side: Side,
        patience: &mut Patience,
        refused: impl Fn(&Core) -> Option<Error>,
    ) -> Result<Guard<'_>> {
        let mut core = self.lock();
        let left = if core.is_unlimited() { Ok(None) } else { patience.start(core.limit(side)) };
        let claimed = core.claimed && side == Side::Write;
        if left.is_ok() && !claimed && !core.lane(side).busy {
            core.lane(side).busy = true;
            return Ok(core);
        }
        self.await_turn(core, side, patience, left, &refused)
    }

    #[cold]
    fn await_turn<'a>(
        &'a self,
        mut core: Guard<'a>,
        side: Side,
        patience: &mut Patience,
        mut left: Result<Option<Duration>, Passed>,
        refused: &dyn Fn(&Core) -> Option<Error>,
    ) -> Result<Guard<'a>> {
        // One that began before an upgrade goes before it, and any other behind.
        let elder = !(core.claimed && side == Side::Write);
        let queued = u32::from(elder && side == Side::Write);
        core.queued += queued;
        let result = loop {
            if left.is_ok() && !core.lane(side).busy && (elder || !core.claimed) {
                break Ok(());
            }
            if let Some(error) = refused(&core) {
                break Err(error);
            }
            let (Ok(limit), Ok(())) = (left, event_loop::may_wait()) else {
                break Err(side.timed_out());
            };
            patience.begin();
            core = self.wait_change(core, limit);
            left = patience.left(core.limit(side));
        };
        core.queued -= queued;
        match result {
            Ok(()) => {
                core.lane(side).busy = true;
                Ok(core)
            }
            Err(error) => {
                if core.claimed {
                    self.notify(&core);
                }
                Err(error)
            }
        }
    }

    /// Gives the turn back. Whoever leaves the reading turn has the loop look after the peer's end.
    #[inline(always)]
    pub(super) fn leave(
        self: &Arc<Self>,
        mut core: Guard<'_>,
        side: Side,
        result: Result<usize>,
    ) -> Result<usize> {
        core.lane(side).busy = false;
        if !planted!(TurnReleasedSilently) {
            self.notify(&core);
        }
        if side == Side::Read {
            core.turns = core.turns.wrapping_add(1);
            let listed = matches!(core.watching, Watching::Listed(_)) || planted!(NoRelist);
            if !listed && core.wants_watch() {
                self.relist(core);
            }
        }
        result
    }

    /// Has the loop watch again later, and not now, as it would be woken for all that comes.
    #[cold]
    fn relist(self: &Arc<Self>, mut core: Guard<'_>) {
        let Ok(driver) = Driver::running() else { return };
        let armed = matches!(core.watching, Watching::Armed | Watching::Narrowed);
        let tell = self.list(&mut core, driver);
        drop(core);
        if armed {
            driver.post(Job::Register(Arc::clone(self)), Urgency::Soon);
        }
        if tell {
            driver.post(Job::Young, Urgency::Soon);
        }
    }

    pub(super) fn time_out(self: &Arc<Self>, core: Guard<'_>, side: Side) -> Result<usize> {
        self.leave(core, side, Err(side.timed_out()))
    }

    /// The machine's limit on a close is looked after by those who wait for it.
    pub(super) fn expire_if_due<'a>(self: &'a Arc<Self>, core: Guard<'a>) -> Guard<'a> {
        match core.machine.deadline() {
            Some((at, Deadline::Close)) if at <= clock::now() => self.tell(core, Input::Deadline),
            Some(_) | None => core,
        }
    }
}
