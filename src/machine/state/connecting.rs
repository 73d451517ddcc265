//! From the start to where a connection is open: the race of the addresses, and the TLS handshake.

use std::time::{Duration, Instant};

use super::super::race::{Race, RaceStep};
use super::super::tls::{Discarded, Progress, Remains, Session};
use super::super::{
    AttemptId, Deadline, Fault, Input, Output, Outputs, Plan, ReadStep, Received, Refusal, Release,
    Rules, Step,
};
use super::{Closed, Half, Never, Pipe, State, tell_end};
use crate::info::{Phase, Timings};
use crate::tls::{Failure, TlsSetup};

#[derive(Debug)]
pub(in super::super) struct Connecting {
    race: Race,
    deadline: Option<Instant>,
    reading: Reading,
    /// For TLS from the start.
    setup: Option<TlsSetup>,
}

/// A connection that is being secured.
#[derive(Debug)]
pub(in super::super) struct Securing {
    pipe: Pipe,
    handshake: Handshake,
    begun: Instant,
    deadline: Option<Instant>,
    reading: Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    /// From the start.
    First,
    /// Of a connection that was in plaintext before, about to be begun.
    UpgradeToCome,
    Upgrade,
}

/// Whether anyone will want what the peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Wanted,
    Cancelled,
}

impl Connecting {
    pub(super) fn new(plan: Plan, now: Instant) -> Self {
        // A limit too far away to be an instant is none.
        let timeout = plan.connect_timeout.and_then(|limit| now.checked_add(limit));
        Connecting {
            race: Race::new(&plan, now),
            deadline: timeout.into_iter().chain(plan.connect_deadline).min(),
            reading: Reading::Wanted,
            setup: plan.tls,
        }
    }

    /// Begins to connect, unless it is too late for that.
    pub(super) fn start(mut self: Box<Self>, now: Instant, outputs: &mut Outputs<'_>) -> State {
        if self.deadline.is_some_and(|at| at <= now) {
            self.race.start_too_late(now);
            let fault = Fault::TimedOut(Deadline::Start);
            return self.never(fault, Err(fault), now, outputs);
        }
        let step = self.race.start(now, outputs);
        self.advance(step, now, outputs)
    }

    pub(super) fn handle(
        mut self: Box<Self>,
        input: Input<'_>,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        match input {
            Input::Answered(addresses) => {
                let step = self.race.resolved(Ok(addresses), false, now, outputs);
                self.advance(step, now, outputs)
            }
            Input::Resolved(answer) => {
                let step = self.race.resolved(answer, true, now, outputs);
                self.advance(step, now, outputs)
            }
            Input::Attempted { id, result } => {
                let step = self.race.attempted(id, result, now, outputs);
                match step {
                    RaceStep::Won(timings) => {
                        outputs.push(Output::Adopt { id, timings });
                        self.won(now, outputs)
                    }
                    RaceStep::On | RaceStep::Lost(_) => self.advance(step, now, outputs),
                }
            }
            Input::Deadline => match self.deadline {
                Some(at) if at <= now => {
                    let fault = Fault::TimedOut(self.race.limited());
                    self.never(fault, Err(fault), now, outputs)
                }
                Some(_) | None => {
                    self.race.expired(now, outputs);
                    State::Connecting(self)
                }
            },
            Input::Close => self.never(Fault::Closed, Ok(()), now, outputs),
            Input::Abort | Input::AbortWriting => {
                self.never(Fault::Aborted, Err(Fault::Aborted), now, outputs)
            }
            Input::CancelReading => {
                self.reading = Reading::Cancelled;
                outputs.push(Output::Readable);
                State::Connecting(self)
            }
            // There is no wire yet, and who half-closes or upgrades waits for it.
            Input::WireEof
            | Input::WireFailed(_)
            | Input::FinishWriting
            | Input::StartTls
            | Input::HandOver
            | Input::Unread => State::Connecting(self),
        }
    }

    fn advance(self: Box<Self>, step: RaceStep, now: Instant, outputs: &mut Outputs<'_>) -> State {
        match step {
            RaceStep::On | RaceStep::Won(_) => State::Connecting(self),
            RaceStep::Lost(fault) => self.lost(fault, Err(fault), now, outputs),
        }
    }

    fn won(self, now: Instant, outputs: &mut Outputs<'_>) -> State {
        let Some(setup) = self.setup else {
            return open(Pipe::default(), self.reading, outputs);
        };
        match session(setup) {
            Ok(session) => {
                begin(&session, outputs);
                State::Securing(Box::new(Securing {
                    pipe: Pipe { tls: Some(session), ..Pipe::default() },
                    handshake: Handshake::First,
                    begun: now,
                    deadline: self.deadline,
                    reading: self.reading,
                }))
            }
            Err(failure) => {
                outputs.push(Output::Release(Release::Done));
                let remains = Remains { failure: Some(failure), ..Remains::default() };
                never_opened(
                    unsecured(Fault::Tls, Err(Fault::Tls), Duration::ZERO, remains),
                    outputs,
                )
            }
        }
    }

    /// Gives up while something is still pending.
    fn never(
        self,
        fault: Fault,
        outcome: Result<(), Fault>,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        outputs.push(Output::Abandon);
        self.lost(fault, outcome, now, outputs)
    }

    fn lost(
        self,
        fault: Fault,
        outcome: Result<(), Fault>,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        let (step, timings) = (self.race.step(), self.race.timings(now));
        let attempts = self.race.into_failed(fault, now);
        let remains = discard(self.setup);
        let never = Never { fault, outcome, step, timings, attempts, remains, told: true };
        never_opened(never, outputs)
    }

    pub(super) fn step(&self) -> Option<Step> {
        self.race.step()
    }

    pub(super) fn runs_foreign_code(&self) -> bool {
        self.setup.as_ref().is_some_and(TlsSetup::runs_foreign_code)
    }

    pub(super) fn awaits(&self, id: AttemptId) -> bool {
        self.race.awaits(id)
    }

    pub(super) fn read(&self) -> ReadStep {
        self.reading.step()
    }

    pub(super) fn refuses_upgrade(&self) -> Option<Refusal> {
        match self.reading {
            Reading::Wanted => None,
            Reading::Cancelled => Some(Refusal::Cancelled),
        }
    }

    pub(super) fn deadline(&self) -> Option<(Instant, Deadline)> {
        let limit = self.deadline.map(|at| (at, self.race.limited()));
        let due = self.race.due();
        limit.into_iter().chain(due).min_by_key(|&(at, _)| at)
    }
}

impl Securing {
    /// The handshake of an upgrade, on a connection that is there already.
    pub(in super::super) fn upgrade(
        setup: &TlsSetup,
        deadline: Option<Instant>,
        now: Instant,
    ) -> State {
        match session(setup.clone()) {
            Ok(session) => State::Securing(Box::new(Securing {
                pipe: Pipe { tls: Some(session), ..Pipe::default() },
                handshake: Handshake::UpgradeToCome,
                begun: now,
                deadline,
                reading: Reading::Wanted,
            })),
            Err(failure) => {
                let remains = Remains { failure: Some(failure), ..Remains::default() };
                let never = unsecured(Fault::Tls, Err(Fault::Tls), Duration::ZERO, remains);
                State::Closed(Closed::Never(Box::new(Never { told: false, ..never })))
            }
        }
    }

    pub(super) fn start(&mut self, outputs: &mut Outputs<'_>) {
        match self.handshake {
            Handshake::UpgradeToCome => {
                self.handshake = Handshake::Upgrade;
                if let Some(tls) = &self.pipe.tls {
                    begin(tls, outputs);
                }
            }
            Handshake::First | Handshake::Upgrade => {}
        }
    }

    pub(super) fn handle(
        mut self: Box<Self>,
        input: Input<'_>,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        match input {
            Input::Deadline if self.deadline.is_some_and(|at| at <= now) => {
                let fault = Fault::TimedOut(Deadline::Handshake);
                self.never(fault, Err(fault), Release::Done, now, outputs)
            }
            Input::Close => {
                outputs.push(Output::ShutdownWrite);
                self.never(Fault::Closed, Ok(()), Release::Linger, now, outputs)
            }
            Input::Abort | Input::AbortWriting => {
                self.never(Fault::Aborted, Err(Fault::Aborted), Release::Reset, now, outputs)
            }
            Input::CancelReading => {
                self.reading = Reading::Cancelled;
                outputs.push(Output::Readable);
                State::Securing(self)
            }
            Input::WireFailed(fault) => self.failed(fault, now, outputs),
            Input::WireEof => self.received(Received::Eof, rules, now, outputs),
            Input::Answered(_)
            | Input::Resolved(_)
            | Input::Attempted { .. }
            | Input::Deadline
            | Input::FinishWriting
            | Input::StartTls
            | Input::HandOver
            | Input::Unread => State::Securing(self),
        }
    }

    pub(super) fn received(
        mut self: Box<Self>,
        what: Received,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        match what {
            Received::Nothing => State::Securing(self),
            Received::Eof => {
                if let Some(tls) = &mut self.pipe.tls {
                    tls.eof();
                }
                self.progressed(rules, now, outputs)
            }
            Received::Failed(fault) => self.failed(fault, now, outputs),
        }
    }

    /// The wire failed.
    pub(super) fn failed(self, fault: Fault, now: Instant, outputs: &mut Outputs<'_>) -> State {
        self.never(fault, Err(fault), Release::Done, now, outputs)
    }

    pub(super) fn progressed(
        mut self: Box<Self>,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        let Some(tls) = &mut self.pipe.tls else { return State::Securing(self) };
        match tls.progress() {
            Progress::Handshaking => State::Securing(self),
            // It came to this too late, whatever took so long.
            _ if self.deadline.is_some_and(|at| at <= now) => {
                tls.stop_sending();
                let fault = Fault::TimedOut(Deadline::Handshake);
                self.never(fault, Err(fault), Release::Done, now, outputs)
            }
            Progress::Failed => {
                outputs.push(Output::Transmit);
                outputs.push(Output::ShutdownWrite);
                self.never(Fault::Tls, Err(Fault::Tls), Release::Linger, now, outputs)
            }
            Progress::Established | Progress::Ended | Progress::Truncated => {
                let Securing { mut pipe, reading, begun, .. } = *self;
                if let Some(tls) = &mut pipe.tls {
                    tls.secured(now.saturating_duration_since(begun));
                }
                // More may have come with the end of the handshake.
                open(pipe, reading, outputs).progressed(rules, now, outputs)
            }
        }
    }

    fn never(
        self,
        fault: Fault,
        outcome: Result<(), Fault>,
        release: Release,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        outputs.push(Output::Release(release));
        let remains = self.pipe.tls.map(|tls| tls.into_remains()).unwrap_or_default();
        let took = now.saturating_duration_since(self.begun);
        never_opened(unsecured(fault, outcome, took, remains), outputs)
    }

    pub(super) fn pipe(&self) -> &Pipe {
        &self.pipe
    }

    pub(super) fn pipe_mut(&mut self) -> &mut Pipe {
        &mut self.pipe
    }

    pub(super) fn read(&self) -> ReadStep {
        self.reading.step()
    }

    pub(super) fn phase(&self) -> Phase {
        match self.handshake {
            Handshake::First => Phase::Connecting,
            Handshake::UpgradeToCome | Handshake::Upgrade => Phase::Upgrading,
        }
    }

    pub(super) fn deadline(&self) -> Option<(Instant, Deadline)> {
        self.deadline.map(|at| (at, Deadline::Handshake))
    }
}

impl Reading {
    fn step(self) -> ReadStep {
        match self {
            Reading::Wanted => ReadStep::Wait,
            Reading::Cancelled => ReadStep::End,
        }
    }
}

/// The session of a connection. Where that may run foreign code, somebody else begins it.
fn session(setup: TlsSetup) -> Result<Box<Session>, Failure> {
    if setup.runs_foreign_code() { Ok(Session::to_begin(setup)) } else { Session::new(&setup) }
}

/// A handshake begins with this side's first message.
fn begin(session: &Session, outputs: &mut Outputs<'_>) {
    if session.awaits_begin() {
        outputs.push(Output::Begin);
    } else {
        outputs.push(Output::Transmit);
        outputs.push(Output::Attend);
    }
}

/// Settings that are not used, where to drop them may run foreign code.
fn discard(setup: Option<TlsSetup>) -> Option<Box<Remains>> {
    let setup = setup.filter(TlsSetup::runs_foreign_code)?;
    Some(Box::new(Remains { discarded: Some(Discarded::setup(setup)), ..Remains::default() }))
}

fn open(pipe: Pipe, reading: Reading, outputs: &mut Outputs<'_>) -> State {
    outputs.push(Output::Opened);
    outputs.push(Output::Readable);
    outputs.push(Output::Writable);
    match reading {
        Reading::Wanted => State::Open(pipe),
        Reading::Cancelled => {
            outputs.push(Output::Attend);
            State::HalfClosed(pipe, Half::Discarding)
        }
    }
}

/// A connection that was made and not secured.
fn unsecured(
    fault: Fault,
    outcome: Result<(), Fault>,
    handshake: Duration,
    remains: Remains,
) -> Never {
    Never {
        fault,
        outcome,
        step: Some(Step::Handshake),
        timings: Timings { handshake, ..Timings::default() },
        attempts: Vec::new(),
        remains: Some(Box::new(remains)),
        told: true,
    }
}

fn never_opened(never: Never, outputs: &mut Outputs<'_>) -> State {
    outputs.push(Output::Opened);
    tell_end(outputs);
    State::Closed(Closed::Never(Box::new(never)))
}
