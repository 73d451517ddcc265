//! Waits until a wire is ready. A thread waits in poll(2) with its wake handle, or on the condition variable while
//! the event loop watches the wire.

use std::sync::Arc;
use std::time::Duration;

use crate::driver::connection::Turn;
use crate::driver::connection::call_timer::{CallTimer, Elapsed};
use crate::driver::event_loop::{Command, LoopHandle, Urgency};
use crate::driver::sys::clock;
use crate::driver::sys::wake::{PollResult, Side, WakeHandle};
use crate::driver::sys::wire::Wire;
use crate::error::{Fault, TimerKind};

/// The time after which a send is repeated that failed for lack of memory.
const MEMORY_PAUSE: Duration = Duration::from_millis(10);

/// Reason why a wait for the wire ended.
pub(crate) enum WaitResult {
    /// The wire is ready. The lock is released.
    Ready,
    /// The state may have changed.
    Recheck,
    /// The call's limit passed.
    Elapsed,
    /// Neither poll(2) nor the event loop is able to wait. Says nothing about the connection.
    Failed(Fault),
}

impl Turn<'_> {
    /// Waits until the wire is ready in the direction of the turn.
    pub(crate) fn wait_ready(&mut self, wire: &Wire, timer: &mut CallTimer) -> WaitResult {
        let side = self.side();
        let mut left = match timer.left(self.call_limit(side)) {
            Ok(left) => left,
            Err(_) if planted!(IgnoresCallTimer) => None,
            Err(_) => return WaitResult::Elapsed,
        };
        if let (Side::Write, Some((at, TimerKind::Close))) = (side, self.machine.next_timer()) {
            let until = at.saturating_duration_since(clock::now());
            left = Some(left.map_or(until, |left| left.min(until)));
        }
        match WakeHandle::current() {
            Some(handle) => self.park_in_poll(&handle, wire, left),
            None => self.park_on_condvar(left),
        }
    }

    /// Waits until the kernel may have memory to send again, which it does not report.
    #[cold]
    pub(crate) fn pause_for_memory(&mut self, timer: &mut CallTimer) -> Result<(), Elapsed> {
        let left = timer.left(self.call_limit(Side::Write))?;
        self.wait_changed(Some(left.map_or(MEMORY_PAUSE, |left| left.min(MEMORY_PAUSE))));
        self.handle_close_timer();
        Ok(())
    }

    fn park_in_poll(
        &mut self,
        handle: &Arc<WakeHandle>,
        wire: &Wire,
        left: Option<Duration>,
    ) -> WaitResult {
        if planted!(AnnouncesWaitLate) {
            self.unlock();
            self.lock();
        }
        let side = self.side();
        let direction = self.direction(side);
        direction.parked = true;
        if direction.parker.as_ptr() != Arc::as_ptr(handle) {
            direction.parker = Arc::downgrade(handle);
        }
        self.unlock();
        match handle.wait(wire, side, left) {
            // The next call clears `parked`.
            Ok(PollResult::Ready) => WaitResult::Ready,
            Ok(PollResult::Recheck) => {
                self.lock();
                self.direction(side).parked = false;
                WaitResult::Recheck
            }
            // Such as when RLIMIT_NOFILE is lower than the number of polled descriptors.
            Err(_) => {
                self.lock();
                self.direction(side).parked = false;
                self.park_on_condvar(left)
            }
        }
    }

    fn park_on_condvar(&mut self, left: Option<Duration>) -> WaitResult {
        let side = self.side();
        if !self.reports_readiness {
            self.reports_readiness = true;
            self.unlock();
            let posted = LoopHandle::get().map(|loop_handle| {
                let source = self.connection().loop_source();
                loop_handle.post(Command::UpdateInterest(source), Urgency::Now);
            });
            self.lock();
            return match posted {
                Ok(()) => WaitResult::Recheck,
                Err(fault) => WaitResult::Failed(fault),
            };
        }
        if !self.direction(side).ready {
            self.wait_changed(left);
        }
        // If reading has ended since, the wire's readiness is no longer for a reader.
        let ended = side == Side::Read && !self.machine.can_recv();
        if !ended && std::mem::take(&mut self.direction(side).ready) {
            self.unlock();
            WaitResult::Ready
        } else {
            WaitResult::Recheck
        }
    }
}
