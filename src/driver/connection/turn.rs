//! `Turn`: the right of one caller to use one direction of a socket. Later callers wait for it.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use super::call_timer::{CallTimer, Elapsed};
use super::direction::TurnState;
use super::{Connection, ConnectionState, Monitor, StateGuard};
use crate::driver::event_loop::{self, Command, LoopHandle, Urgency};
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::Wire;
use crate::driver::sys::{self, clock};
use crate::error::{Error, Fault, Result, TimerKind};
use crate::machine::{Actions, Input};

/// The turn of one direction. Only its holder makes system calls there. Dropping it frees the turn and wakes the callers
/// that wait for it.
///
/// It also holds the state lock, except while its holder makes a system call or waits. It dereferences to the state, and
/// only while it holds the lock.
pub(crate) struct Turn<'a> {
    connection: &'a Arc<Connection>,
    side: Side,
    /// `None` while the lock is released.
    state: Option<StateGuard<'a>>,
}

impl<'a> Turn<'a> {
    /// Takes a turn that is free.
    pub(crate) fn take(
        connection: &'a Arc<Connection>,
        mut state: StateGuard<'a>,
        side: Side,
    ) -> Self {
        state.direction(side).turn = TurnState::Held;
        Turn::resume(connection, Some(state), side)
    }

    /// Puts a guard around a turn that the calling thread [has](Connection::enter_turn).
    #[inline]
    pub(crate) fn resume(
        connection: &'a Arc<Connection>,
        state: Option<StateGuard<'a>>,
        side: Side,
    ) -> Self {
        Turn { connection, side, state }
    }

    /// Removes the guard. The calling thread still has the turn, and the lock.
    #[inline]
    pub(crate) fn into_state(mut self) -> StateGuard<'a> {
        let state = self.take_state();
        mem::forget(self);
        state
    }

    /// Takes the lock out of the guard, for the caller to [put back](Self::put_state).
    #[inline]
    pub(crate) fn take_state(&mut self) -> StateGuard<'a> {
        self.state.take().expect(LOCKED)
    }

    pub(crate) fn put_state(&mut self, state: StateGuard<'a>) {
        self.state = Some(state);
    }

    pub(crate) fn connection(&self) -> &'a Arc<Connection> {
        self.connection
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// Releases the lock and keeps the turn.
    #[inline]
    pub(crate) fn unlock(&mut self) {
        self.state = None;
    }

    /// Takes the lock, unless the turn holds it already.
    pub(crate) fn lock(&mut self) {
        if self.state.is_none() {
            self.state = Some(self.connection.state());
        }
    }

    /// Lends the lock to `work`, which may release it in between.
    #[inline]
    pub(crate) fn lend(
        &mut self,
        work: impl FnOnce(&'a Arc<Connection>, StateGuard<'a>) -> StateGuard<'a>,
    ) {
        let state = self.take_state();
        self.state = Some(work(self.connection, state));
    }

    #[inline]
    pub(crate) fn apply(&mut self, actions: Actions) {
        // The case of nearly every read and write.
        if !actions.is_empty() || self.establishing.is_some() {
            self.lend(|connection, state| connection.apply(state, actions));
        }
    }

    pub(crate) fn handle_input(&mut self, input: Input<'_>) {
        self.lend(|connection, state| connection.handle_input(state, input));
    }

    pub(crate) fn wait_changed(&mut self, limit: Option<Duration>) {
        self.lend(|connection, state| connection.wait_changed(state, limit));
    }

    /// Returns a borrowed wire.
    #[inline(always)]
    pub(crate) fn checkin_wire(&mut self, wire: Arc<Wire>) {
        let side = self.side;
        if let Some(wire) = self.wire.checkin(side, wire) {
            self.drop_wire_unlocked(wire);
        }
    }

    /// Drops a wire outside the lock, because that may close its descriptor.
    #[cold]
    fn drop_wire_unlocked(&mut self, wire: Arc<Wire>) {
        self.unlock();
        drop(wire);
        self.lock();
    }

    /// Reports the machine's close timer. The threads that wait for it check it themselves.
    pub(crate) fn handle_close_timer(&mut self) {
        if let Some((at, TimerKind::Close)) = self.machine.next_timer() {
            if at <= clock::now() {
                self.handle_input(Input::TimerExpired);
            }
        }
    }

    /// Frees the turn. Does the same as a drop, but inlined, for the end of most calls.
    #[inline]
    pub(crate) fn release(self) {
        let (connection, side) = (self.connection, self.side);
        connection.free_turn(self.into_state(), side);
    }

    /// Frees a turn in which nothing was read or written, and keeps the lock.
    pub(crate) fn release_unused(self) -> StateGuard<'a> {
        let (connection, side) = (self.connection, self.side);
        let mut state = self.into_state();
        state.direction(side).turn = TurnState::Free;
        connection.notify_waiters(&state);
        state
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // In a forked child, a thread of the parent may have the lock for ever.
        if sys::is_run_failing() || self.state.is_none() && self.connection.is_forked() {
            return;
        }
        let state = self.state.take().unwrap_or_else(|| self.connection.state());
        self.connection.free_turn(state, self.side);
    }
}

const LOCKED: &str = "the holder of the turn has the lock";

impl Deref for Turn<'_> {
    type Target = ConnectionState;

    #[inline(always)]
    fn deref(&self) -> &ConnectionState {
        self.state.as_ref().expect(LOCKED)
    }
}

impl DerefMut for Turn<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut ConnectionState {
        self.state.as_mut().expect(LOCKED)
    }
}

impl Connection {
    /// Waits for the turn until the call's limit passes or `check` returns an error. A passed deadline wins over a
    /// free turn, but not over such an error.
    pub(crate) fn acquire_turn(
        self: &Arc<Self>,
        side: Side,
        timer: &mut CallTimer,
        check: impl Fn(&ConnectionState) -> Option<Error>,
    ) -> Result<Turn<'_>> {
        Ok(Turn::resume(self, Some(self.enter_turn(side, timer, check)?), side))
    }

    /// [Acquires](Self::acquire_turn) the turn without a guard, for the fast path of a read or write. A guard costs 80
    /// instructions of a round trip's 690 there. The caller frees the turn, or continues with a [`Turn`].
    #[inline(always)]
    pub(crate) fn enter_turn(
        &self,
        side: Side,
        timer: &mut CallTimer,
        check: impl Fn(&ConnectionState) -> Option<Error>,
    ) -> Result<StateGuard<'_>> {
        let mut state = self.state();
        state.users.add_this_thread();
        let left = if state.has_no_limits() && !timer.has_own_end() {
            Ok(None)
        } else {
            timer.left_at_start(state.call_limit(side))
        };
        let upgrading = state.is_upgrading() && side == Side::Write;
        if left.is_ok() && !upgrading && !state.direction(side).turn.is_held() {
            state.direction(side).turn = TurnState::Held;
            return Ok(state);
        }
        self.enter_turn_slow(state, side, timer, left, &check)
    }

    #[cold]
    fn enter_turn_slow<'a>(
        &'a self,
        mut state: StateGuard<'a>,
        side: Side,
        timer: &mut CallTimer,
        mut left: Result<Option<Duration>, Elapsed>,
        check: &dyn Fn(&ConnectionState) -> Option<Error>,
    ) -> Result<StateGuard<'a>> {
        // Writes that began before the upgrade go first; later writes wait for it.
        let began_before = !(state.is_upgrading() && side == Side::Write);
        let waiting = u32::from(began_before && side == Side::Write);
        state.writers_waiting += waiting;
        let result = loop {
            if left.is_ok()
                && !state.direction(side).turn.is_held()
                && (began_before || !state.is_upgrading())
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
                state.direction(side).turn = TurnState::Held;
                Ok(state)
            }
            Err(error) => {
                if state.is_upgrading() {
                    self.notify_waiters(&state);
                }
                Err(error)
            }
        }
    }

    /// Frees the turn, and wakes the callers that wait for it. For the reading turn, also queues the socket for
    /// monitoring.
    #[inline(always)]
    pub(crate) fn free_turn(self: &Arc<Self>, mut state: StateGuard<'_>, side: Side) {
        state.direction(side).turn = TurnState::Free;
        if !planted!(TurnReleasedSilently) {
            self.notify_waiters(&state);
        }
        if side == Side::Read {
            state.reads_done = state.reads_done.wrapping_add(1);
            let is_queued = matches!(state.monitor, Monitor::Queued(_)) || planted!(NoRelist);
            if !is_queued && state.needs_monitor() || state.is_watched() {
                self.requeue_monitor(state);
            }
        } else if state.is_watched() {
            self.end_watched_turn(state, side);
        }
    }

    /// Has the event loop monitor the socket later. If it did so now, all incoming data would wake it.
    #[cold]
    fn requeue_monitor(self: &Arc<Self>, mut state: StateGuard<'_>) {
        if state.is_watched() {
            return self.end_watched_turn(state, Side::Read);
        }
        let Ok(loop_handle) = LoopHandle::get() else { return };
        let is_registered = matches!(state.monitor, Monitor::Full { .. } | Monitor::ErrorsOnly);
        let scan_idle = self.queue_for_monitoring(&mut state, loop_handle);
        drop(state);
        if is_registered {
            loop_handle.post(Command::UpdateInterest(self.loop_source()), Urgency::Soon);
        }
        if scan_idle {
            loop_handle.post(Command::ScanIdle, Urgency::Soon);
        }
    }
}

impl ConnectionState {
    /// Returns what the first call of a permit needs: the wire, and whether to wait first.
    #[inline(always)]
    pub(crate) fn begin_call(&mut self, side: Side) -> (Arc<Wire>, bool) {
        let wire = self.wire.checkout(side).expect("a permit implies a wire");
        // A failed connection has only earlier data left, which needs no waiting.
        let poll_first = self.should_poll_first(side) && self.failure().is_none();
        (wire, poll_first)
    }

    /// Checks whether to poll before the first call. The event loop reports only changes. So a thread that relies on
    /// it must first have a call that would block, or no change may follow.
    fn should_poll_first(&mut self, side: Side) -> bool {
        !self.reports_readiness && self.direction(side).predictor.predicts_block()
    }

    /// Checks whether the next receive may block for a moment.
    pub(crate) fn may_block_in_recv(&self, timer: &mut CallTimer) -> bool {
        self.recv.predictor.prefers_blocking_recv()
            && self.users.allow_blocking_recv()
            && !self.reports_readiness
            && (self.has_no_limits() && !timer.has_own_end()
                || timer.exceeds_tick(self.call_limit(Side::Read)))
            && !event_loop::is_loop_thread()
            && self.extras.busy_poll().spin_limit().is_none()
    }

    /// Returns whether a thread is reading, or has read since `reads_done` reading turns had ended. What a look at the wire
    /// found in that time may be gone.
    pub(crate) fn was_read_since(&self, reads_done: u16) -> bool {
        self.recv.turn.is_held() || self.reads_done != reads_done
    }

    /// Returns the fault that an established connection failed with.
    #[inline(never)]
    pub(crate) fn failure(&self) -> Option<Fault> {
        self.machine.outcome().and_then(Result::err)
    }
}
