//! Transitions from the start to an open connection: the race of the addresses, and the TLS handshake.

use std::time::{Duration, Instant};

use super::super::happy_eyeballs::{HappyEyeballs, RaceStep};
use super::super::tls::{Session, SessionState, Summary};
use super::super::{
    Actions, Attach, AttemptId, Config, Fault, Input, Policy, ReadStep, RecvEvent, Release, Step,
    TimerKind, UpgradeError,
};
use super::new_session::{discard_setup, new_session, start_handshake};
use super::{Closed, ConnectFailed, Half, Pipe, State};
use crate::info::{Phase, Timings};
use crate::tls::{Failure, TlsSetup};

#[derive(Debug)]
pub(in super::super) struct Connecting {
    happy_eyeballs: HappyEyeballs,
    timer: Option<Instant>,
    read_intent: ReadIntent,
    /// The setup for TLS from the start.
    setup: Option<TlsSetup>,
}

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

/// Whether the user will read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadIntent {
    Wanted,
    Cancelled,
}

impl Connecting {
    pub(super) fn new(config: Config, now: Instant) -> Self {
        Connecting {
            happy_eyeballs: HappyEyeballs::new(&config, now),
            timer: connect_timer(&config, now),
            read_intent: ReadIntent::Wanted,
            setup: config.tls,
        }
    }

    /// Starts to connect, unless the deadline has passed.
    pub(super) fn start(mut self: Box<Self>, now: Instant, actions: &mut Actions) -> State {
        if self.timer.is_some_and(|at| at <= now) {
            self.happy_eyeballs.start_too_late(now);
            let fault = Fault::TimedOut(TimerKind::Start);
            return self.cancel(fault, Err(fault), now, actions);
        }
        let step = self.happy_eyeballs.start(now, actions);
        self.apply_race_step(step, now, actions)
    }

    pub(super) fn handle(
        mut self: Box<Self>,
        input: Input<'_>,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match input {
            Input::PartialResolved(addresses) => {
                let step = self.happy_eyeballs.on_resolved(Ok(addresses), false, now, actions);
                self.apply_race_step(step, now, actions)
            }
            Input::Resolved(answer) => {
                let step = self.happy_eyeballs.on_resolved(answer, true, now, actions);
                self.apply_race_step(step, now, actions)
            }
            Input::Attempted { id, result } => {
                let step = self.happy_eyeballs.on_attempted(id, result, now, actions);
                match step {
                    RaceStep::Won(timings) => {
                        actions.attach = Some(Attach { id, timings });
                        self.connected(now, actions)
                    }
                    RaceStep::Continue | RaceStep::Lost(_) => {
                        self.apply_race_step(step, now, actions)
                    }
                }
            }
            Input::TimerExpired => match self.timer {
                Some(at) if at <= now => {
                    let fault = Fault::TimedOut(self.happy_eyeballs.timer_kind());
                    self.cancel(fault, Err(fault), now, actions)
                }
                Some(_) | None => {
                    self.happy_eyeballs.on_timer(now, actions);
                    State::Connecting(self)
                }
            },
            Input::Close => self.cancel(Fault::Closed, Ok(()), now, actions),
            Input::Abort | Input::AbortWrite => {
                self.cancel(Fault::Aborted, Err(Fault::Aborted), now, actions)
            }
            Input::CancelRead => {
                self.read_intent = ReadIntent::Cancelled;
                actions.wake.readable = true;
                State::Connecting(self)
            }
            // There is no wire yet; a half-close or an upgrade waits for it.
            Input::WireEof
            | Input::WireFailed(_)
            | Input::CloseWrite
            | Input::StartTls { .. }
            | Input::UpgradeReady
            | Input::UnexpectedPlaintext { .. }
            | Input::Detach => State::Connecting(self),
        }
    }

    fn apply_race_step(
        self: Box<Self>,
        step: RaceStep,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match step {
            RaceStep::Continue | RaceStep::Won(_) => State::Connecting(self),
            RaceStep::Lost(fault) => self.connect_failed(fault, Err(fault), now, actions),
        }
    }

    fn connected(self, now: Instant, actions: &mut Actions) -> State {
        let Some(setup) = self.setup else {
            return open(Pipe::default(), self.read_intent, actions);
        };
        match new_session(setup, &[]) {
            Ok(session) => {
                start_handshake(&session, actions);
                State::Handshaking(Box::new(Handshaking {
                    pipe: Pipe { tls: Some(session), ..Pipe::default() },
                    handshake: HandshakeKind::Initial,
                    started_at: now,
                    timer: self.timer,
                    read_intent: self.read_intent,
                }))
            }
            Err(failure) => {
                actions.release_wire(Release::Close);
                let summary = Summary { failure: Some(failure), ..Summary::default() };
                announce_connect_failed(
                    handshake_failed(Fault::Tls, Err(Fault::Tls), Duration::ZERO, summary),
                    actions,
                )
            }
        }
    }

    /// Fails while the lookup or attempts are pending, and cancels them.
    fn cancel(
        self,
        fault: Fault,
        outcome: Result<(), Fault>,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        actions.cancel_attempts = true;
        self.connect_failed(fault, outcome, now, actions)
    }

    fn connect_failed(
        self,
        fault: Fault,
        outcome: Result<(), Fault>,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        let (step, timings) = (self.happy_eyeballs.step(), self.happy_eyeballs.timings(now));
        let attempts = self.happy_eyeballs.into_failed(fault, now);
        let summary = discard_setup(self.setup);
        let failed =
            ConnectFailed { fault, outcome, step, timings, attempts, summary, announced: true };
        announce_connect_failed(failed, actions)
    }

    pub(super) fn step(&self) -> Option<Step> {
        self.happy_eyeballs.step()
    }

    pub(super) fn runs_foreign_code(&self) -> bool {
        self.setup.as_ref().is_some_and(TlsSetup::runs_foreign_code)
    }

    pub(super) fn is_attempt_pending(&self, id: AttemptId) -> bool {
        self.happy_eyeballs.is_pending(id)
    }

    pub(super) fn read(&self) -> ReadStep {
        self.read_intent.step()
    }

    pub(super) fn upgrade_error(&self) -> Option<UpgradeError> {
        match self.read_intent {
            ReadIntent::Wanted => None,
            ReadIntent::Cancelled => Some(UpgradeError::ReadCancelled),
        }
    }

    pub(super) fn next_timer(&self) -> Option<(Instant, TimerKind)> {
        let limit = self.timer.map(|at| (at, self.happy_eyeballs.timer_kind()));
        let due = self.happy_eyeballs.next_timer();
        limit.into_iter().chain(due).min_by_key(|&(at, _)| at)
    }
}

impl Handshaking {
    /// Creates the handshake of an upgrade, on an established connection.
    pub(super) fn upgrade(
        setup: &TlsSetup,
        preface: &[u8],
        deadline: Option<Instant>,
        now: Instant,
    ) -> State {
        let session = new_session(setup.clone(), preface).map(Some);
        Handshaking::not_started(session, HandshakeKind::UpgradeNotStarted, deadline, now)
    }

    /// Creates the state of a connection that exists already.
    pub(super) fn established(config: Config, now: Instant) -> State {
        let timer = connect_timer(&config, now);
        let session = config.tls.map(|setup| new_session(setup, &[])).transpose();
        Handshaking::not_started(session, HandshakeKind::InitialNotStarted, timer, now)
    }

    fn not_started(
        session: Result<Option<Box<Session>>, Failure>,
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
            Err(failure) => {
                let summary = Summary { failure: Some(failure), ..Summary::default() };
                let failed = handshake_failed(Fault::Tls, Err(Fault::Tls), Duration::ZERO, summary);
                State::Closed(Closed::ConnectFailed(Box::new(ConnectFailed {
                    announced: false,
                    ..failed
                })))
            }
        }
    }

    pub(super) fn start(mut self: Box<Self>, actions: &mut Actions) -> State {
        self.handshake = match self.handshake {
            HandshakeKind::UpgradeNotStarted => HandshakeKind::Upgrade,
            HandshakeKind::InitialNotStarted => HandshakeKind::Initial,
            HandshakeKind::Initial | HandshakeKind::Upgrade => return State::Handshaking(self),
        };
        match &self.pipe.tls {
            Some(tls) => {
                start_handshake(tls, actions);
                State::Handshaking(self)
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
                let fault = Fault::TimedOut(TimerKind::Handshake);
                self.connect_failed(fault, Err(fault), Release::Close, now, actions)
            }
            Input::Close => {
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
                tls.discard_unsent();
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

/// Returns the instant at which connecting fails.
fn connect_timer(config: &Config, now: Instant) -> Option<Instant> {
    // A timeout beyond the range of Instant is no limit.
    let timeout = config.connect_timeout.and_then(|limit| now.checked_add(limit));
    timeout.into_iter().chain(config.connect_deadline).min()
}

impl ReadIntent {
    fn step(self) -> ReadStep {
        match self {
            ReadIntent::Wanted => ReadStep::Wait,
            ReadIntent::Cancelled => ReadStep::Eof,
        }
    }
}

fn open(pipe: Pipe, read_intent: ReadIntent, actions: &mut Actions) -> State {
    actions.wake.opened = true;
    actions.wake.readable = true;
    actions.wake.writable = true;
    match read_intent {
        ReadIntent::Wanted => State::Open(pipe),
        ReadIntent::Cancelled => {
            actions.drive_recv = true;
            State::HalfClosed(pipe, Half::Discarding)
        }
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
        announced: true,
    }
}

fn announce_connect_failed(failed: ConnectFailed, actions: &mut Actions) -> State {
    actions.wake.opened = true;
    actions.wake_all_at_end();
    State::Closed(Closed::ConnectFailed(Box::new(failed)))
}
