//! Transitions of a dialogue over TLS: the handshake with an `https` proxy, its answer, and a failure of its TLS.

use std::time::Instant;

use super::super::super::dialogue::{Answer, Refusal};
use super::super::super::tls::{SessionState, Summary};
use super::super::super::{Actions, Fault, Policy, Release};
use super::super::{Pipe, ProxyPart, State};
use super::{Preamble, Purpose, Stage};

impl Preamble {
    /// Handles a change of the TLS session with the proxy.
    pub(in super::super) fn on_session_progress(
        mut self: Box<Self>,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        let Preamble { pipe: Pipe { tls: Some(tls), .. }, dialogue, stage, .. } = &mut *self else {
            return State::Preamble(self);
        };
        if tls.is_lent() || tls.state() == SessionState::Handshaking {
            return State::Preamble(self);
        }
        match stage {
            Stage::Handshake => match tls.state() {
                SessionState::Established => return self.ask(now, actions),
                SessionState::Ended | SessionState::Truncated if planted!(AsksEndedProxy) => {
                    return self.ask(now, actions);
                }
                SessionState::Ended | SessionState::Truncated => return self.end(now, actions),
                SessionState::Handshaking | SessionState::Failed => {}
            },
            Stage::Dialogue => {
                let seen = tls.unread();
                if !seen.is_empty() {
                    let (own, answer) = dialogue.advance(seen);
                    tls.skip(own);
                    let is_followed = tls.has_unread();
                    if answer != Answer::Incomplete {
                        let state = self.answered(answer, is_followed, now, actions);
                        return state.after_preamble(policy, now, actions);
                    }
                }
            }
            Stage::Accepted => {
                let is_followed = tls.has_unread();
                let is_whole = !tls.has_partial_record() && tls.state() != SessionState::Failed;
                if is_followed || is_whole {
                    let state = self.answered(Answer::Accepted, is_followed, now, actions);
                    return state.after_preamble(policy, now, actions);
                }
            }
        }
        match self.pipe.session_state() {
            SessionState::Handshaking | SessionState::Established => State::Preamble(self),
            SessionState::Ended | SessionState::Truncated => self.end(now, actions),
            SessionState::Failed => {
                actions.transmit = true;
                actions.shutdown_write = true;
                self.fail_tls(Summary::default(), Release::Linger, now, actions)
            }
        }
    }

    /// Begins the dialogue, after the TLS handshake with the proxy.
    fn ask(mut self: Box<Self>, now: Instant, actions: &mut Actions) -> State {
        // The timeout covers all of it.
        if self.timer.is_some_and(|at| at <= now) {
            return self.time_out(now, actions);
        }
        let Preamble { pipe, dialogue, purpose, .. } = &mut *self;
        let (Some(tls), Purpose::Target { routing, .. }) = (&mut pipe.tls, purpose) else {
            return State::Preamble(self);
        };
        if tls.has_unread() {
            return self.refused(Refusal::unasked(), now, actions);
        }
        let (begun, request) = routing.dialogue();
        *dialogue = begun;
        self.stage = Stage::Dialogue;
        self.send(&request);
        actions.transmit = true;
        actions.drive_recv = true;
        State::Preamble(self)
    }

    /// Returns whether the handshake with the target has to wait for the rest of a record, which may have plaintext.
    pub(super) fn awaits_record(&self) -> bool {
        let has_part = self.pipe.tls.as_ref().is_some_and(|tls| tls.has_partial_record());
        self.next_is_client() && has_part
    }

    /// Returns whether the proxy has sent nothing in answer to a long ClientHello.
    pub(super) fn is_unanswered(&self) -> bool {
        self.pipe.tls.as_ref().is_some_and(|tls| tls.is_unanswered())
    }

    pub(super) fn send(&mut self, message: &[u8]) {
        match &mut self.pipe.tls {
            None => self.send_queue.push(message),
            Some(tls) => tls.queue(message),
        }
    }

    /// Fails because TLS with the proxy did. `summary` is that of a session that never was.
    pub(super) fn fail_tls(
        self,
        summary: Summary,
        release: Release,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        let fault = Fault::Tls;
        let (outcome, part) = (Err(fault), ProxyPart::Unreachable);
        self.fail_with_summary(fault, outcome, part, release, summary, now, actions)
    }
}

impl State {
    /// Handles what came with the end of a preamble over TLS.
    pub(super) fn after_preamble(
        self,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match self {
            state @ (State::Handshaking(_) | State::Open(_) | State::HalfClosed(..)) => {
                state.on_session_progress(policy, now, actions)
            }
            state @ (State::Connecting(_)
            | State::Preamble(_)
            | State::UpgradePending(..)
            | State::Closed(_)
            | State::Poisoned) => state,
        }
    }
}
