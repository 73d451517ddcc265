//! Transitions of a TLS handshake, on a connection that is established.

use std::time::{Duration, Instant};

use super::super::tls::{Session, SessionState, Summary};
use super::super::{
    Actions, Config, Fault, Input, Policy, ReadStep, RecvEvent, Release, Step, TimerKind,
};
use super::new_session::{new_session_through, start_handshake};
use super::opening::{ReadIntent, announce_connect_failed, connect_timer, open};
use super::{Closed, ConnectFailed, Pipe, ProxyPart, State};
use crate::info::{Phase, Timings};
use crate::tls::TlsSetup;

/// A connection with a TLS handshake in progress.
#[derive(Debug)]
pub(in super::super) struct Handshaking {
    pipe: Pipe,
    handshake: HandshakeKind,
    started_at: Instant,
    timer: Option<Instant>,
    read_intent: ReadIntent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandshakeKind {
    /// TLS from the start.
    Initial,
    /// A connection that existed already, not yet started: with TLS from the start, or in plaintext.
    InitialNotStarted,
    /// An upgrade of a plaintext connection, not yet started.
    UpgradeNotStarted,
    Upgrade,
}

impl Handshaking {
    /// Begins the handshake of TLS from the start, through the session with a proxy if there is one.
    pub(super) fn begin(
        setup: TlsSetup,
        outer: Option<Box<Session>>,
        timer: Option<Instant>,
        read_intent: ReadIntent,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match new_session_through(outer, setup, &[]) {
            Ok(session) => {
                start_handshake(&session, actions);
                State::Handshaking(Box::new(Handshaking {
                    pipe: Pipe { tls: Some(session), ..Pipe::default() },
                    handshake: HandshakeKind::Initial,
                    started_at: now,
                    timer,
                    read_intent,
                }))
            }
            Err(summary) => {
                actions.transmit = !summary.final_records.is_empty();
                actions.release_wire(Release::Close);
                announce_connect_failed(
                    handshake_failed(Fault::Tls, Err(Fault::Tls), Duration::ZERO, *summary),
                    actions,
                )
            }
        }
    }

    /// Creates the handshake of an upgrade, on an established connection.
    pub(super) fn upgrade(
        setup: &TlsSetup,
        preface: &[u8],
        outer: Option<Box<Session>>,
        deadline: Option<Instant>,
        now: Instant,
    ) -> State {
        let session = new_session_through(outer, setup.clone(), preface).map(Some);
        Handshaking::not_started(session, HandshakeKind::UpgradeNotStarted, deadline, now)
    }

    /// Creates the state of a connection that exists already.
    pub(super) fn established(config: Config, now: Instant) -> State {
        let timer = connect_timer(&config, now);
        let session = config.tls.map(|setup| new_session_through(None, setup, &[])).transpose();
        Handshaking::not_started(session, HandshakeKind::InitialNotStarted, timer, now)
    }

    fn not_started(
        session: Result<Option<Box<Session>>, Box<Summary>>,
        handshake: HandshakeKind,
        timer: Option<Instant>,
        now: Instant,
    ) -> State {
        match session {
            Ok(tls) => State::Handshaking(Box::new(Handshaking {
                pipe: Pipe { tls, ..Pipe::default() },
                handshake,
                started_at: now,
                timer,
                read_intent: ReadIntent::Wanted,
            })),
            Err(summary) => {
                let failed =
                    handshake_failed(Fault::Tls, Err(Fault::Tls), Duration::ZERO, *summary);
                State::Closed(Closed::ConnectFailed(Box::new(ConnectFailed {
                    announced: false,
                    ..failed
                })))
            }
        }
    }

    pub(super) fn start(
        mut self: Box<Self>,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        self.handshake = match self.handshake {
            HandshakeKind::UpgradeNotStarted => HandshakeKind::Upgrade,
            HandshakeKind::InitialNotStarted => HandshakeKind::Initial,
            HandshakeKind::Initial | HandshakeKind::Upgrade => return State::Handshaking(self),
        };
        match &self.pipe.tls {
            Some(tls) => {
                start_handshake(tls, actions);
                // The session with a proxy may have had input for it.
                self.on_session_progress(policy, now, actions)
            }
            None => open(self.pipe, self.read_intent, actions),
        }
    }

    pub(super) fn handle(
        mut self: Box<Self>,
        input: Input<'_>,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match input {
            Input::TimerExpired if self.timer.is_some_and(|at| at <= now) => {
                self.close_outer(actions);
                let fault = Fault::TimedOut(TimerKind::Handshake);
                self.connect_failed(fault, Err(fault), Release::Close, now, actions)
            }
            Input::Close => {
                self.close_outer(actions);
                actions.shutdown_write = true;
                self.connect_failed(Fault::Closed, Ok(()), Release::Linger, now, actions)
            }
            Input::Abort | Input::AbortWrite => self.connect_failed(
                Fault::Aborted,
                Err(Fault::Aborted),
                Release::Reset,
                now,
                actions,
            ),
            Input::CancelRead => {
                self.read_intent = ReadIntent::Cancelled;
                actions.wake.readable = true;
                State::Handshaking(self)
            }
            Input::WireFailed(fault) => self.fail(fault, now, actions),
            Input::WireEof => self.handle_recv_event(RecvEvent::Eof, policy, now, actions),
            Input::PartialResolved(_)
            | Input::Resolved(_)
            | Input::Attempted { .. }
            | Input::TimerExpired
            | Input::CloseWrite
            | Input::AllowHalfOpen
            | Input::StartTls { .. }
            | Input::UpgradeReady
            | Input::UnexpectedPlaintext { .. }
            | Input::Detach => State::Handshaking(self),
        }
    }

    pub(super) fn handle_recv_event(
        mut self: Box<Self>,
        what: RecvEvent,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match what {
            RecvEvent::Cancelled => State::Handshaking(self),
            RecvEvent::Eof => {
                if let Some(tls) = &mut self.pipe.tls {
                    tls.eof();
                }
                self.on_session_progress(policy, now, actions)
            }
            RecvEvent::Failed(fault) => self.fail(fault, now, actions),
        }
    }

    /// Handles a failure of the wire.
    pub(super) fn fail(self, fault: Fault, now: Instant, actions: &mut Actions) -> State {
        self.connect_failed(fault, Err(fault), Release::Close, now, actions)
    }

    pub(super) fn on_session_progress(
        mut self: Box<Self>,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        let Some(tls) = &mut self.pipe.tls else { return State::Handshaking(self) };
        match tls.state() {
            SessionState::Handshaking => State::Handshaking(self),
            // The handshake ended after its limit.
            _ if self.timer.is_some_and(|at| at <= now) => {
                match tls.goes_through_proxy() {
                    // Its records go out before its end: the outer session has numbered them.
                    true => self.close_outer(actions),
                    false => tls.discard_unsent(),
                }
                let fault = Fault::TimedOut(TimerKind::Handshake);
                self.connect_failed(fault, Err(fault), Release::Close, now, actions)
            }
            SessionState::Failed => {
                actions.transmit = true;
                actions.shutdown_write = true;
                self.connect_failed(Fault::Tls, Err(Fault::Tls), Release::Linger, now, actions)
            }
            SessionState::Established | SessionState::Ended | SessionState::Truncated => {
                let Handshaking { mut pipe, read_intent, started_at, .. } = *self;
                if let Some(tls) = &mut pipe.tls {
                    tls.set_handshake_time(now.saturating_duration_since(started_at));
                }
                // Data or EOF may have arrived with the end of the handshake.
                open(pipe, read_intent, actions).on_session_progress(policy, now, actions)
            }
        }
    }

    /// Ends this side of the session with a proxy, if there is one, as far as the wire still takes it.
    fn close_outer(&mut self, actions: &mut Actions) {
        if let Some(tls) = &mut self.pipe.tls {
            actions.transmit |= tls.close_outer();
        }
    }

    fn connect_failed(
        self,
        fault: Fault,
        outcome: Result<(), Fault>,
        release: Release,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        actions.release_wire(release);
        let summary = self.pipe.tls.map(|tls| tls.into_summary()).unwrap_or_default();
        let took = now.saturating_duration_since(self.started_at);
        announce_connect_failed(handshake_failed(fault, outcome, took, summary), actions)
    }

    pub(super) fn pipe(&self) -> &Pipe {
        &self.pipe
    }

    pub(super) fn pipe_mut(&mut self) -> &mut Pipe {
        &mut self.pipe
    }

    #[cfg(test)]
    pub(super) fn is_started(&self) -> bool {
        matches!(self.handshake, HandshakeKind::Initial | HandshakeKind::Upgrade)
    }

    pub(super) fn read(&self) -> ReadStep {
        self.read_intent.step()
    }

    pub(super) fn phase(&self) -> Phase {
        match self.handshake {
            HandshakeKind::Initial | HandshakeKind::InitialNotStarted => Phase::Connecting,
            HandshakeKind::UpgradeNotStarted | HandshakeKind::Upgrade => Phase::Upgrading,
        }
    }

    pub(super) fn next_timer(&self) -> Option<(Instant, TimerKind)> {
        self.timer.map(|at| (at, TimerKind::Handshake))
    }
}

/// Creates the data of a failed handshake.
fn handshake_failed(
    fault: Fault,
    outcome: Result<(), Fault>,
    handshake: Duration,
    summary: Summary,
) -> ConnectFailed {
    ConnectFailed {
        fault,
        outcome,
        step: Some(Step::Handshake),
        timings: Timings { handshake, ..Timings::default() },
        attempts: Vec::new(),
        summary: Some(Box::new(summary)),
        proxy: ProxyPart::None,
        announced: true,
    }
}
