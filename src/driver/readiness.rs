//! How a call waits until its wire is ready: by poll(2) with the wake handle of its thread, or by the condition
//! variable while the loop watches the wire.

use std::sync::Arc;
use std::time::Duration;

use super::clock;
use super::patience::Patience;
use super::shared::{Guard, Shared};
use super::wait::{Side, Waited, WakeHandle};
use super::wire::Wire;
use super::{Driver, Job, Urgency};
use crate::error::{Deadline, Fault};

/// Why a wait for the wire ended.
pub(super) enum Ended<'a> {
    /// The wire is ready.
    Ready,
    /// Something may have changed.
    Look(Guard<'a>),
    /// The call's limit passed.
    Passed(Guard<'a>),
    /// Neither the system can wait, nor the loop. It says nothing of the connection.
    Broken(Guard<'a>, Fault),
}

impl Shared {
    pub(super) fn wait_ready<'a>(
        self: &'a Arc<Self>,
        core: Guard<'a>,
        wire: &Wire,
        side: Side,
        patience: &mut Patience,
    ) -> Ended<'a> {
        let mut left = match patience.left(core.limit(side)) {
            Ok(left) => left,
            Err(_) if planted!(IgnoresCallTimer) => None,
            Err(_) => return Ended::Passed(core),
        };
        if let (Side::Write, Some((at, Deadline::Close))) = (side, core.machine.deadline()) {
            let until = at.saturating_duration_since(clock::now());
            left = Some(left.map_or(until, |left| left.min(until)));
        }
        match WakeHandle::of_this_thread() {
            Some(handle) => self.wait_by_poll(core, &handle, wire, side, left),
            None => self.wait_by_condvar(core, side, left),
        }
    }

    fn wait_by_poll<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        handle: &Arc<WakeHandle>,
        wire: &Wire,
        side: Side,
        left: Option<Duration>,
    ) -> Ended<'a> {
        if planted!(AnnouncesWaitLate) {
            drop(core);
            core = self.lock();
        }
        let lane = core.lane(side);
        lane.asleep = true;
        if lane.sleeper.as_ptr() != Arc::as_ptr(handle) {
            lane.sleeper = Arc::downgrade(handle);
        }
        drop(core);
        match handle.wait(wire, side, left) {
            // Whoever makes the call next takes the announcement back.
            Ok(Waited::Ready) => Ended::Ready,
            Ok(Waited::Look) => {
                let mut core = self.lock();
                core.lane(side).asleep = false;
                Ended::Look(core)
            }
            // Such as where the program has no leave to have as many descriptors as are waited for.
            Err(_) => {
                let mut core = self.lock();
                core.lane(side).asleep = false;
                self.wait_by_condvar(core, side, left)
            }
        }
    }

    fn wait_by_condvar<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        side: Side,
        left: Option<Duration>,
    ) -> Ended<'a> {
        if !core.attended {
            core.attended = true;
            drop(core);
            match Driver::running() {
                Ok(driver) => driver.post(Job::Register(Arc::clone(self)), Urgency::Now),
                Err(fault) => return Ended::Broken(self.lock(), fault),
            }
            return Ended::Look(self.lock());
        }
        if !core.lane(side).ready {
            core = self.wait_change(core, left);
        }
        // Where reading has ended meanwhile, what is at the wire is no reader's any more.
        let ended = side == Side::Read && !core.machine.receives();
        if !ended && std::mem::take(&mut core.lane(side).ready) {
            Ended::Ready
        } else {
            Ended::Look(core)
        }
    }
}
