//! A socket as the event loop sees it.

use std::sync::Arc;
use std::time::Instant;

use super::Connection;
use crate::driver::event_loop::ready_queue::Readiness;
use crate::driver::event_loop::source::IdleSlot;
use crate::driver::event_loop::source::{
    AttemptResult, LoopSource, LoopTicket, NextStep, Registration,
};
use crate::driver::event_loop::{Command, LoopHandle, Urgency};
use crate::driver::sys::clock;
use crate::driver::sys::listen::Registrable;
use crate::driver::sys::sync::mio::Token;
use crate::driver::sys::wire::{REGISTRATION_IS_PERMANENT, Wire};
use crate::error::Fault;
use crate::machine::{AttemptId, Input};

impl Connection {
    pub(crate) fn loop_source(self: &Arc<Self>) -> Arc<dyn LoopSource> {
        Arc::clone(self) as Arc<dyn LoopSource>
    }
}

impl LoopSource for Connection {
    fn registration(&self) -> Option<Registration> {
        let state = self.state();
        let wire = state.wire.cloned()?;
        let wire = Registrable::Wire(wire);
        Some(Registration { wire, token: state.token.get(), interest: state.interest() })
    }

    fn on_registered(&self, token: Token) -> bool {
        let mut state = self.state();
        if state.wire.is_none() {
            return false;
        }
        state.token.set(token);
        // A permanent registration covers both directions.
        state.reports_readiness |= REGISTRATION_IS_PERMANENT;
        true
    }

    fn take_token(&self) -> Option<Token> {
        let mut state = self.state();
        if state.interest().is_some() {
            return None;
        }
        state.stop_monitor();
        state.token.take()
    }

    /// Without a registration, nothing detects the peer's EOF. Tries again later if that is the only loss, and
    /// otherwise fails the socket.
    fn on_register_failed(self: Arc<Self>, fault: Fault) {
        let mut state = self.state();
        state.stop_monitor();
        state.token.take();
        if state.reports_readiness
            || state.want_writable
            || state.machine.background().drives_opening()
        {
            // A thread that waits for the event loop would wait forever.
            drop(self.handle_input(state, Input::WireFailed(fault)));
        } else if let (true, Ok(loop_handle)) = (state.needs_monitor(), LoopHandle::get()) {
            if self.queue_for_monitoring(&mut state, loop_handle) {
                drop(state);
                loop_handle.post(Command::ScanIdle, Urgency::Soon);
            }
        }
    }

    fn on_event(self: Arc<Self>, readiness: Readiness, until: Instant) -> NextStep {
        self.handle_event(readiness, until)
    }

    fn on_idle(self: Arc<Self>, slot: IdleSlot, reads_seen: u32) -> bool {
        self.poll_idle(slot, reads_seen)
    }

    fn on_timer(self: Arc<Self>) {
        let mut state = self.state();
        if let Some(establishing) = &mut state.establishing {
            if establishing.timer.is_some_and(|at| at > clock::now()) {
                // An earlier timer fired. The later one is set again.
                establishing.timer = None;
            }
        }
        drop(self.handle_input(state, Input::TimerExpired));
    }

    fn on_start(self: Arc<Self>) {
        let mut state = self.state();
        let actions = state.machine.start(clock::now());
        drop(self.apply(state, actions));
    }

    fn accept_attempt(&self, id: AttemptId) -> Option<LoopTicket> {
        let mut state = self.state();
        // Once another attempt has won, this one is unwanted, although the handshake may still be running.
        if !state.machine.is_attempt_pending(id) {
            return None;
        }
        let establishing = state.establishing_mut()?;
        establishing.attempts += 1;
        establishing.ticket()
    }

    fn on_attempt(
        self: Arc<Self>,
        id: AttemptId,
        result: AttemptResult,
        token: Option<Token>,
    ) -> bool {
        let mut state = self.state();
        if let Some(establishing) = state.establishing_mut() {
            establishing.attempts = establishing.attempts.saturating_sub(1);
        }
        let (actions, connected) = state.handle_attempted(id, result);
        let took = actions.attach.is_some();
        // Another attempt may have won in the same iteration of the loop. Its token stays.
        if let (true, Some(token)) = (took, token) {
            state.token.set(token);
            state.reports_readiness = true;
        }
        drop(self.run_actions(state, actions, connected));
        took
    }

    fn on_panic(&self) {
        self.fail_on_unwind();
    }

    fn resets_attempt(&self, wire: &Wire) -> bool {
        self.state().resets_unattached(wire)
    }
}
