//! Waits until a wire is ready. A thread waits in poll(2) with its wake handle, or on the condition variable while
//! the event loop watches the wire.

use std::sync::Arc;
use std::time::Duration;

use crate::driver::connection::call_timer::CallTimer;
use crate::driver::connection::{Connection, StateGuard};
use crate::driver::event_loop::{Command, LoopHandle, Urgency};
use crate::driver::sys::clock;
use crate::driver::sys::wake::{PollResult, Side, WakeHandle};
use crate::driver::sys::wire::Wire;
use crate::error::{Fault, TimerKind};

/// Reason why a wait for the wire ended.
pub(crate) enum WaitResult<'a> {
    /// The wire is ready.
    Ready,
    /// The state may have changed.
    Recheck(StateGuard<'a>),
    /// The call's limit passed.
    Elapsed(StateGuard<'a>),
    /// Neither poll(2) nor the event loop is able to wait. Says nothing about the connection.
    Failed(StateGuard<'a>, Fault),
}

impl Connection {
    pub(crate) fn wait_ready<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        wire: &Wire,
        side: Side,
        timer: &mut CallTimer,
    ) -> WaitResult<'a> {
        let mut left = match timer.left(state.call_limit(side)) {
            Ok(left) => left,
            Err(_) if planted!(IgnoresCallTimer) => None,
            Err(_) => return WaitResult::Elapsed(state),
        };
        if let (Side::Write, Some((at, TimerKind::Close))) = (side, state.machine.next_timer()) {
            let until = at.saturating_duration_since(clock::now());
            left = Some(left.map_or(until, |left| left.min(until)));
        }
        match WakeHandle::current() {
            Some(handle) => self.park_in_poll(state, &handle, wire, side, left),
            None => self.park_on_condvar(state, side, left),
        }
    }

    fn park_in_poll<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        handle: &Arc<WakeHandle>,
        wire: &Wire,
        side: Side,
        left: Option<Duration>,
    ) -> WaitResult<'a> {
        if planted!(AnnouncesWaitLate) {
            drop(state);
            state = self.state();
        }
        let direction = state.direction(side);
        direction.parked = true;
        if direction.parker.as_ptr() != Arc::as_ptr(handle) {
            direction.parker = Arc::downgrade(handle);
        }
        drop(state);
        match handle.wait(wire, side, left) {
            // The next call clears `parked`.
            Ok(PollResult::Ready) => WaitResult::Ready,
            Ok(PollResult::Recheck) => {
                let mut state = self.state();
                state.direction(side).parked = false;
                WaitResult::Recheck(state)
            }
            // Such as when RLIMIT_NOFILE is lower than the number of polled descriptors.
            Err(_) => {
                let mut state = self.state();
                state.direction(side).parked = false;
                self.park_on_condvar(state, side, left)
            }
        }
    }

    fn park_on_condvar<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        side: Side,
        left: Option<Duration>,
    ) -> WaitResult<'a> {
        if !state.reports_readiness {
            state.reports_readiness = true;
            drop(state);
            match LoopHandle::get() {
                Ok(loop_handle) => {
                    loop_handle.post(Command::UpdateInterest(self.loop_source()), Urgency::Now)
                }
                Err(fault) => return WaitResult::Failed(self.state(), fault),
            }
            return WaitResult::Recheck(self.state());
        }
        if !state.direction(side).ready {
            state = self.wait_changed(state, left);
        }
        // If reading has ended since, the wire's readiness is no longer for a reader.
        let ended = side == Side::Read && !state.machine.can_recv();
        if !ended && std::mem::take(&mut state.direction(side).ready) {
            WaitResult::Ready
        } else {
            WaitResult::Recheck(state)
        }
    }
}
