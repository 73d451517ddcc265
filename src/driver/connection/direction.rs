//! `Direction`: what a connection keeps for reads, and for writes. Its turn is the right of one caller to use the
//! direction. Later callers wait here.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::call_timer::{CallTimer, Elapsed};
use super::predictor::BlockPredictor;
use super::{Connection, ConnectionState, Monitor, StateGuard};
use crate::driver::event_loop::{self, Command, LoopHandle, Urgency};
use crate::driver::sys::clock;
use crate::driver::sys::wake::{Side, WakeHandle};
use crate::error::{Error, Result, TimerKind};
use crate::machine::Input;

/// State of one direction, shared by the threads that use it.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    /// Whether a thread has the turn. Only that thread makes system calls in this direction.
    pub(crate) turn_held: bool,
    /// Whether the thread that has the turn waits in `parker`.
    pub(crate) parked: bool,
    pub(crate) predictor: BlockPredictor,
    /// Whether the event loop saw the wire ready since the last call.
    pub(crate) ready: bool,
    /// Whether the thread at the wire knows that the wire has failed, but not why.
    pub(crate) cause_unknown: bool,
    pub(crate) parker: Weak<WakeHandle>,
}

impl Direction {
    pub(crate) fn parker_to_wake(&self) -> Option<Arc<WakeHandle>> {
        if self.parked { self.parker.upgrade() } else { None }
    }
}

impl Connection {
    /// Waits for the turn until the call's limit passes or `check` returns an error. A passed deadline wins over a
    /// free turn, but not over such an error.
    #[inline(always)]
    pub(crate) fn acquire_turn(
        &self,
        side: Side,
        timer: &mut CallTimer,
        check: impl Fn(&ConnectionState) -> Option<Error>,
    ) -> Result<StateGuard<'_>> {
        let mut state = self.state();
        let left = if state.has_no_limits() {
            Ok(None)
        } else {
            timer.left_at_start(state.call_limit(side))
        };
        let upgrading = state.upgrading && side == Side::Write;
        if left.is_ok() && !upgrading && !state.direction(side).turn_held {
            state.direction(side).turn_held = true;
            return Ok(state);
        }
        self.acquire_turn_slow(state, side, timer, left, &check)
    }

    #[cold]
    fn acquire_turn_slow<'a>(
        &'a self,
        mut state: StateGuard<'a>,
        side: Side,
        timer: &mut CallTimer,
        mut left: Result<Option<Duration>, Elapsed>,
        check: &dyn Fn(&ConnectionState) -> Option<Error>,
    ) -> Result<StateGuard<'a>> {
        // Writes that began before the upgrade go first; later writes wait for it.
        let began_before = !(state.upgrading && side == Side::Write);
        let waiting = u32::from(began_before && side == Side::Write);
        state.writers_waiting += waiting;
        let result = loop {
            if left.is_ok()
                && !state.direction(side).turn_held
                && (began_before || !state.upgrading)
            {
                break Ok(());
            }
            if let Some(error) = check(&state) {
                break Err(error);
            }
            let (Ok(limit), Ok(())) = (left, event_loop::check_may_block()) else {
                break Err(side.timeout_error());
            };
            timer.start();
            state = self.wait_changed(state, limit);
            left = timer.left(state.call_limit(side));
        };
        state.writers_waiting -= waiting;
        match result {
            Ok(()) => {
                state.direction(side).turn_held = true;
                Ok(state)
            }
            Err(error) => {
                if state.upgrading {
                    self.notify_waiters(&state);
                }
                Err(error)
            }
        }
    }

    /// Releases the turn. For the reading turn, also queues the socket for monitoring.
    #[inline(always)]
    pub(crate) fn release_turn(
        self: &Arc<Self>,
        mut state: StateGuard<'_>,
        side: Side,
        result: Result<usize>,
    ) -> Result<usize> {
        state.direction(side).turn_held = false;
        if !planted!(TurnReleasedSilently) {
            self.notify_waiters(&state);
        }
        if side == Side::Read {
            state.reads_done = state.reads_done.wrapping_add(1);
            let is_queued = matches!(state.monitor, Monitor::Queued(_)) || planted!(NoRelist);
            if !is_queued && state.needs_monitor() {
                self.requeue_monitor(state);
            }
        }
        result
    }

    /// Has the event loop monitor the socket later. If it did so now, all incoming data would wake it.
    #[cold]
    fn requeue_monitor(self: &Arc<Self>, mut state: StateGuard<'_>) {
        let Ok(loop_handle) = LoopHandle::get() else { return };
        let is_registered = matches!(state.monitor, Monitor::Full | Monitor::ErrorsOnly);
        let scan_idle = self.queue_for_monitoring(&mut state, loop_handle);
        drop(state);
        if is_registered {
            loop_handle.post(Command::UpdateInterest(self.loop_source()), Urgency::Soon);
        }
        if scan_idle {
            loop_handle.post(Command::ScanIdle, Urgency::Soon);
        }
    }

    pub(crate) fn fail_timed_out(
        self: &Arc<Self>,
        state: StateGuard<'_>,
        side: Side,
    ) -> Result<usize> {
        self.release_turn(state, side, Err(side.timeout_error()))
    }

    /// Reports the machine's close timer. The threads that wait for it check it themselves.
    pub(crate) fn handle_close_timer<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
    ) -> StateGuard<'a> {
        match state.machine.next_timer() {
            Some((at, TimerKind::Close)) if at <= clock::now() => {
                self.handle_input(state, Input::TimerExpired)
            }
            Some(_) | None => state,
        }
    }
}
