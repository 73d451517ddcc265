//! The timer that the event loop keeps for a socket: the machine's next instant.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Connection, ConnectionState, Monitor, StateGuard};
use crate::driver::event_loop::source::LoopTicket;
use crate::driver::event_loop::{Command, LoopHandle, Urgency};
use crate::driver::sys::clock;

/// Longer than the event loop takes to scan a queued socket.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);

/// A timer to post to the event loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer {
    ticket: LoopTicket,
    at: Instant,
}

impl ConnectionState {
    /// Records the machine's next instant. Returns the timer to post, if the event loop needs another one.
    pub(crate) fn plan_timer(&mut self) -> Option<Timer> {
        let at = self.machine.next_timer().map(|(at, _)| at);
        if at.is_some() && self.establishing.is_none() {
            self.establishing = Some(Box::default());
        }
        let establishing = self.establishing.as_mut()?;
        if establishing.timer == at {
            return None;
        }
        // If a caller drives the handshake, it usually ends before the event loop scans the socket.
        let is_queued = matches!(self.monitor, Monitor::Queued(_));
        let is_driven = is_queued && self.machine.background().drives_opening();
        if is_driven && at.is_some_and(|at| at > clock::now() + HANDSHAKE_GRACE) {
            return None;
        }
        let Some(at) = at else {
            establishing.timer = None;
            return None;
        };
        let ticket = establishing.ticket()?;
        establishing.timer = Some(at);
        Some(Timer { ticket, at })
    }
}

impl Connection {
    /// Sets the event loop's timer to the machine's next instant.
    pub(crate) fn update_timer<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
    ) -> StateGuard<'a> {
        let Some(timer) = state.plan_timer() else { return state };
        drop(state);
        self.post_timer(timer);
        self.confirm_timer(self.state(), timer)
    }

    /// Posts a timer. Once the caller has the lock again, it must [confirm](Self::confirm_timer) the timer.
    pub(crate) fn post_timer(self: &Arc<Self>, Timer { ticket, at }: Timer) {
        if let Ok(loop_handle) = LoopHandle::get() {
            let source = self.loop_source();
            loop_handle.post(Command::SetTimer { source, ticket, at }, Urgency::Now);
        }
    }

    /// Has the event loop forget a timer that was posted after another thread had ended its period.
    pub(crate) fn confirm_timer<'a>(
        &'a self,
        state: StateGuard<'a>,
        Timer { ticket, .. }: Timer,
    ) -> StateGuard<'a> {
        let current = state.establishing.as_ref().and_then(|establishing| establishing.ticket);
        if current == Some(ticket) {
            return state;
        }
        drop(state);
        if let Ok(loop_handle) = LoopHandle::get() {
            loop_handle.post(Command::Forget(ticket), Urgency::Soon);
        }
        self.state()
    }
}
