//! Waits for a socket to open or to end, closes and aborts it, and sets its limits.

use std::sync::{Arc, TryLockError};
use std::time::{Duration, Instant};

use crate::driver::connection::call_timer::WaitLimit;
use crate::driver::connection::{CallLimit, Connection, StateGuard};
use crate::driver::event_loop;
use crate::driver::sys::clock;
use crate::driver::sys::wake::Side;
use crate::error::{Error, Fault, Result, TimerKind};
use crate::info::SocketInfo;
use crate::machine::Input;

impl Connection {
    pub(crate) fn opened(self: &Arc<Self>, limit: Option<Duration>) -> Result<SocketInfo> {
        self.check_process()?;
        let until = limit.map(WaitLimit::after);
        let mut state = self.state();
        state.users.add_this_thread();
        loop {
            match state.machine.opened() {
                Some(Ok(())) => {
                    let info = state.info.as_ref().expect("an open connection has its info");
                    let (endpoints, timings) = (info.endpoints(), info.timings());
                    let (proxy, unix) = (info.proxy(), info.unix_peer());
                    let negotiated = state.machine.negotiated();
                    drop(state);
                    let requested = self.requested().as_socket_address().clone();
                    let ends = (endpoints, proxy, unix);
                    return Ok(SocketInfo::new(requested, ends, timings, negotiated));
                }
                Some(Err(fault)) => return Err(state.error_for(fault)),
                None => state = self.wait_until(state, until, TimerKind::Opened)?,
            }
        }
    }

    pub(crate) fn closed(self: &Arc<Self>, limit: Option<Duration>) -> Result<()> {
        self.check_process()?;
        let until = limit.map(WaitLimit::after);
        let mut state = self.state();
        state.users.add_this_thread();
        loop {
            let is_over = until.is_some_and(|until| until.left().is_none());
            // A clean end that is still being executed is known when the limit passes.
            let result = if is_over { state.machine.outcome() } else { state.closed_result() };
            match result {
                Some(Ok(())) => return Ok(()),
                Some(Err(fault)) => return Err(state.error_for(fault)),
                None => state = self.wait_until(state, until, TimerKind::Closed)?,
            }
        }
    }

    /// Waits until the connection is registered, or has failed. With TLS its handshake may follow. Returns at once on the
    /// event loop's thread.
    pub(crate) fn wait_connected(&self) {
        let mut state = self.state();
        while state.info.is_none()
            && state.machine.opened().is_none()
            && !event_loop::is_loop_thread()
        {
            state = self.wait_changed(state, None);
        }
    }

    /// Waits for a change, in a call that has its own limit.
    fn wait_until<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        until: Option<WaitLimit>,
        limit: TimerKind,
    ) -> Result<StateGuard<'a>> {
        event_loop::check_may_block()?;
        let left = match until {
            Some(until) => Some(
                until.left().ok_or_else(|| Error::timed_out_call(limit).during(state.step()))?,
            ),
            None => None,
        };
        Ok(self.wait_or_handshake(state, left))
    }

    // ------------------------------------------------------------- commands

    pub(crate) fn close(self: &Arc<Self>) -> Result<()> {
        if let Err(error) = self.check_process() {
            self.close_fd_only();
            return Err(error);
        }
        self.begin_close();
        if !self.wait_closed_and_flushed(None) {
            return Err(event_loop::would_block_error());
        }
        let state = self.state();
        match state.machine.outcome() {
            Some(Err(fault @ Fault::TimedOut(TimerKind::Close))) => Err(state.error_for(fault)),
            Some(_) | None => Ok(()),
        }
    }

    /// Starts to close the socket, and does not wait for its data to reach the kernel.
    pub(crate) fn begin_close(self: &Arc<Self>) {
        let state = self.state_soon();
        drop(self.handle_input(state, Input::Close));
    }

    /// Waits until the socket has closed and no thread is executing its actions. Returns false if `until` passes
    /// first, and at once on the event loop's thread, which must not wait.
    pub(crate) fn wait_closed_and_flushed(self: &Arc<Self>, until: Option<WaitLimit>) -> bool {
        let mut state = self.state();
        loop {
            let executed = state.executors == 0 || planted!(CloseReturnsEarly);
            if state.machine.outcome().is_some() && executed {
                return true;
            }
            if event_loop::is_loop_thread() {
                return false;
            }
            let left = match until.map(WaitLimit::left) {
                Some(None) => return false,
                Some(left) => left,
                None => None,
            };
            state = self.wait_or_handle_timer(state, left);
        }
    }

    /// Waits for a change, for at most `left`. Stops at the machine's timer too, and then reports it to the machine.
    fn wait_or_handle_timer<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        left: Option<Duration>,
    ) -> StateGuard<'a> {
        let Some((at, _)) = state.machine.next_timer() else {
            return self.wait_changed(state, left);
        };
        let now = clock::now();
        if at <= now {
            return self.handle_input(state, Input::TimerExpired);
        }
        let due = at - now;
        self.wait_changed(state, Some(left.map_or(due, |left| left.min(due))))
    }

    /// Checks whether the close timeout passed and the connection was reset.
    pub(crate) fn close_timed_out(&self) -> bool {
        self.state().machine.outcome() == Some(Err(Fault::TimedOut(TimerKind::Close)))
    }

    /// Aborts the socket unless it has closed. Returns whether accepted data had not reached the kernel.
    pub(crate) fn abort_reporting_loss(self: &Arc<Self>) -> bool {
        let state = self.state();
        let owed = state.machine.outcome().is_none() && state.machine.has_undelivered_data();
        drop(self.handle_input(state, Input::Abort));
        owed
    }

    pub(crate) fn abort(self: &Arc<Self>, input: Input<'static>) {
        if self.is_forked() {
            return self.close_fd_only();
        }
        if planted!(ResetsBeforeState) {
            let wire = self.state().wire.cloned();
            wire.inspect(|wire| wire.reset());
        }
        let state = self.state_soon();
        drop(self.handle_input(state, input));
    }

    pub(crate) fn cancel_read(self: &Arc<Self>) {
        if !self.is_forked() {
            let state = self.state_soon();
            drop(self.handle_input(state, Input::CancelRead));
        }
    }

    /// Closes the descriptor in a forked child and leaves the connection alone. Does nothing if another thread held
    /// the lock during the fork, because no thread of the child will release it.
    pub(crate) fn close_fd_only(&self) {
        let wire = match self.state.try_lock() {
            Ok(mut state) => state.wire.take(),
            Err(TryLockError::Poisoned(state)) => state.into_inner().wire.take(),
            Err(TryLockError::WouldBlock) => None,
        };
        // Without the lock: a listener of the child may wait for the descriptor.
        drop(wire);
    }

    pub(crate) fn set_timeout(&self, side: Side, timeout: Option<Duration>) -> Result<()> {
        self.check_process()?;
        self.update_call_limit(&[side], |limit| limit.timeout = timeout);
        Ok(())
    }

    pub(crate) fn set_deadline(&self, sides: &[Side], deadline: Option<Instant>) {
        self.update_call_limit(sides, |limit| limit.deadline = deadline);
    }

    /// Changes a limit on calls, and wakes the waiting calls so that they apply it.
    fn update_call_limit(&self, sides: &[Side], change: impl Fn(&mut CallLimit)) {
        if self.is_forked() {
            return;
        }
        let mut state = self.state_soon();
        state.users.add_this_thread();
        let mut wake = [const { None }; 2];
        for (side, wake) in sides.iter().zip(&mut wake) {
            state.change_call_limit(*side, &change);
            *wake = match side {
                Side::Read => state.reader_to_wake(),
                Side::Write => state.send.parker_to_wake(),
            };
        }
        self.notify_waiters(&state);
        drop(state);
        if !planted!(DeadlineWakesNobody) {
            wake.into_iter().flatten().for_each(|handle| handle.wake());
        }
    }
}
