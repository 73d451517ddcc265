//! Where a socket is in its life, and every way from there.
//!
//! ```text
//!                 attempt won
//!   Connecting ----------------> Open ---- one direction ends ----> HalfClosed
//!       |                         |                                     |
//!       | lost, late,             | close, abort,                       | the other ends too,
//!       | close, abort            | failure, both end                   | close, abort, failure
//!       v                         v                                     v
//!     Closed <------------------------------------------------------- Closed
//!    (Never)                 (Draining, while a send pass is out)      (Ended)
//! ```
//!
//! A variant owns the data that make sense in it and nothing else, and a transition consumes the old
//! state and returns the new one.

use std::net::SocketAddr;
use std::time::Instant;

use super::race::{Race, Step};
use super::{
    Deadline, Fault, Input, Output, Outputs, Plan, ReadStep, Received, RecvPass, Release, Rules,
    SendPass, Sent, Watch, WriteStep,
};
use crate::info::Phase;

#[derive(Debug)]
pub(super) enum State {
    Connecting(Box<Connecting>),
    Open(Pipe),
    HalfClosed(Pipe, Half),
    Closed(Closed),
}

#[derive(Debug)]
pub(super) struct Connecting {
    race: Race,
    deadline: Option<Instant>,
    reading: Reading,
}

/// Whether anyone will want what the peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Wanted,
    Cancelled,
}

/// An established connection: which passes are out.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    receiving: bool,
    sending: bool,
}

/// Which direction still works.
#[derive(Clone, Copy, Debug)]
pub(super) enum Half {
    /// The write side was closed.
    ReadOnly,
    /// The peer has ended.
    WriteOnly,
    /// The read side was cancelled; the peer has not ended.
    Discarding,
    /// The peer has ended, and the write that was being made may end too, for so long. No other
    /// begins.
    Finishing(Instant),
}

#[derive(Debug)]
pub(super) enum Closed {
    /// This side closed while a send pass was out, whose bytes precede the FIN.
    Draining {
        pipe: Pipe,
        deadline: Instant,
        /// How to let go of the wire then.
        release: Release,
        /// What reads give.
        reads: Reads,
    },
    /// An established connection that is over.
    Ended { reads: Reads, outcome: Result<(), Fault> },
    /// A connection that never came to be.
    Never(Box<Never>),
}

#[derive(Debug)]
pub(super) struct Never {
    fault: Fault,
    outcome: Result<(), Fault>,
    attempts: Vec<(SocketAddr, Fault)>,
}

/// What reads of a closed socket give.
#[derive(Debug)]
pub(super) enum Reads {
    /// What came before the failure and is still with the system.
    Residue(Pipe),
    /// The clean end.
    End,
    /// The failure.
    Fail(Fault),
}

impl State {
    pub(super) fn connecting(plan: &Plan, now: Instant) -> Self {
        State::Connecting(Box::new(Connecting {
            race: Race::new(plan, now),
            // A limit too far away to be an instant is none.
            deadline: plan.connect_timeout.and_then(|limit| now.checked_add(limit)),
            reading: Reading::Wanted,
        }))
    }

    /// What stands in while a transition has the state.
    pub(super) fn moved() -> Self {
        State::Closed(Closed::Ended { reads: Reads::End, outcome: Ok(()) })
    }

    pub(super) fn start(&mut self, now: Instant, outputs: &mut Outputs<'_>) {
        if let State::Connecting(connecting) = self {
            connecting.race.start(now, outputs);
        }
    }

    pub(super) fn handle(
        self,
        input: Input<'_>,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        match self {
            State::Connecting(connecting) => connecting.handle(input, now, outputs),
            State::Open(pipe) => pipe.handle(input, rules, now, outputs),
            State::HalfClosed(pipe, half) => half.handle(pipe, input, rules, now, outputs),
            State::Closed(closed) => State::Closed(closed.handle(input, now, outputs)),
        }
    }

    /// A receive pass came back without bytes.
    pub(super) fn received(
        self,
        what: Received,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        match (self, what) {
            // Who discards from here on finds it too.
            (state @ State::HalfClosed(_, Half::Discarding), _) => state,
            (State::Open(pipe), Received::Eof) => pipe.peer_ended(rules, now, outputs),
            (State::Open(pipe), Received::Failed(fault)) => pipe.broken(fault, outputs),
            (State::HalfClosed(_, Half::ReadOnly), Received::Eof) => end(Release::Done, outputs),
            (State::HalfClosed(pipe, Half::ReadOnly), Received::Failed(fault)) => {
                pipe.broken(fault, outputs)
            }
            (
                State::Closed(Closed::Ended {
                    reads: Reads::Residue(_),
                    outcome: outcome @ Err(Fault::ResetAfterEnd(_)),
                }),
                Received::Eof,
            ) => {
                outputs.push(Output::Release(Release::Done));
                State::Closed(Closed::Ended { reads: Reads::End, outcome })
            }
            (
                State::Closed(Closed::Ended { reads: Reads::Residue(_), outcome }),
                Received::Eof | Received::Failed(_),
            ) => {
                outputs.push(Output::Release(Release::Done));
                State::Closed(Closed::Ended { reads: Reads::failing(outcome), outcome })
            }
            (
                state @ (State::Connecting(_)
                | State::Open(_)
                | State::HalfClosed(
                    _,
                    Half::ReadOnly | Half::WriteOnly | Half::Finishing(_),
                )
                | State::Closed(_)),
                Received::Nothing | Received::Eof | Received::Failed(_),
            ) => state,
        }
    }

    /// A send pass came back.
    pub(super) fn sent(self, what: Sent, outputs: &mut Outputs<'_>) -> State {
        match (self, what) {
            (State::Open(pipe), Sent::Failed(fault)) => pipe.failed_with_residue(fault, outputs),
            (State::HalfClosed(pipe, Half::Discarding | Half::WriteOnly), Sent::Failed(fault)) => {
                pipe.broken(fault, outputs)
            }
            (State::HalfClosed(_, Half::Finishing(_)), Sent::Nothing) => {
                outputs.push(Output::ShutdownWrite);
                end(Release::Done, outputs)
            }
            (State::HalfClosed(pipe, Half::Finishing(_)), Sent::Failed(fault)) => {
                pipe.broken(fault, outputs)
            }
            (State::Closed(Closed::Draining { release, reads, .. }), Sent::Nothing) => {
                outputs.push(Output::ShutdownWrite);
                outputs.push(Output::Release(release));
                outputs.push(Output::Closed);
                State::Closed(Closed::Ended { reads, outcome: Ok(()) })
            }
            (State::Closed(Closed::Draining { reads, .. }), Sent::Failed(fault)) => {
                outputs.push(Output::Release(Release::Done));
                outputs.push(Output::Closed);
                State::Closed(Closed::Ended { reads, outcome: Err(fault) })
            }
            (
                state @ (State::Connecting(_)
                | State::Open(_)
                | State::HalfClosed(..)
                | State::Closed(Closed::Ended { .. } | Closed::Never(_))),
                Sent::Nothing | Sent::Failed(_),
            ) => state,
        }
    }

    pub(super) fn read(&mut self) -> ReadStep {
        if let Some(fault) = self.refuses_read() {
            return ReadStep::Fail(fault);
        }
        match self {
            State::Connecting(connecting) => match connecting.reading {
                Reading::Wanted => ReadStep::Wait,
                Reading::Cancelled => ReadStep::End,
            },
            State::Open(pipe)
            | State::HalfClosed(pipe, Half::ReadOnly)
            | State::Closed(Closed::Ended { reads: Reads::Residue(pipe), .. }) => pipe.read(),
            State::HalfClosed(_, Half::WriteOnly | Half::Discarding | Half::Finishing(_))
            | State::Closed(_) => ReadStep::End,
        }
    }

    pub(super) fn write(&mut self) -> WriteStep {
        if let Some(fault) = self.refuses_write() {
            return WriteStep::Fail(fault);
        }
        match self {
            State::Open(pipe) | State::HalfClosed(pipe, _) => pipe.write(),
            State::Connecting(_) | State::Closed(_) => WriteStep::Wait,
        }
    }

    /// Why a read that begins now fails.
    pub(super) fn refuses_read(&self) -> Option<Fault> {
        match self {
            State::Connecting(_)
            | State::Open(_)
            | State::HalfClosed(..)
            | State::Closed(
                Closed::Ended { reads: Reads::End | Reads::Residue(_), .. }
                | Closed::Draining { reads: Reads::End, .. },
            ) => None,
            State::Closed(
                Closed::Ended { reads: Reads::Fail(fault), .. }
                | Closed::Draining { reads: Reads::Fail(fault), .. },
            ) => Some(*fault),
            State::Closed(Closed::Draining { reads: Reads::Residue(_), .. }) => Some(Fault::Closed),
            State::Closed(Closed::Never(never)) => Some(never.fault),
        }
    }

    /// Why a write that begins now fails.
    pub(super) fn refuses_write(&self) -> Option<Fault> {
        match self {
            State::Connecting(_)
            | State::Open(_)
            | State::HalfClosed(_, Half::WriteOnly | Half::Discarding) => None,
            State::HalfClosed(_, Half::ReadOnly | Half::Finishing(_))
            | State::Closed(Closed::Draining { .. } | Closed::Ended { outcome: Ok(()), .. }) => {
                Some(Fault::Closed)
            }
            State::Closed(Closed::Ended { outcome: Err(fault), .. }) => Some(*fault),
            State::Closed(Closed::Never(never)) => Some(never.fault),
        }
    }

    /// Notes that the receive pass is back.
    pub(super) fn give_back_recv(&mut self, RecvPass(()): RecvPass, outputs: &mut Outputs<'_>) {
        match self {
            State::HalfClosed(pipe, Half::Discarding) => {
                pipe.receiving = false;
                // Nobody else is at the wire any more.
                outputs.push(Output::Discard);
            }
            State::Open(pipe)
            | State::HalfClosed(pipe, Half::ReadOnly | Half::WriteOnly | Half::Finishing(_))
            | State::Closed(
                Closed::Draining { pipe, .. } | Closed::Ended { reads: Reads::Residue(pipe), .. },
            ) => pipe.receiving = false,
            State::Connecting(_) | State::Closed(Closed::Ended { .. } | Closed::Never(_)) => {}
        }
    }

    /// Notes that the send pass is back, and says whether something waited for that.
    pub(super) fn give_back_send(&mut self, SendPass(()): SendPass) -> bool {
        match self {
            State::Open(pipe) | State::HalfClosed(pipe, _) => pipe.sending = false,
            State::Closed(Closed::Draining { pipe, .. }) => pipe.sending = false,
            State::Connecting(_) | State::Closed(Closed::Ended { .. } | Closed::Never(_)) => {}
        }
        matches!(
            self,
            State::HalfClosed(_, Half::Finishing(_)) | State::Closed(Closed::Draining { .. })
        )
    }

    pub(super) fn may_receive(&self) -> bool {
        match self {
            State::Open(_)
            | State::HalfClosed(_, Half::ReadOnly)
            | State::Closed(Closed::Ended { reads: Reads::Residue(_), .. }) => true,
            State::Connecting(_) | State::HalfClosed(..) | State::Closed(_) => false,
        }
    }

    pub(super) fn may_send(&self) -> bool {
        match self {
            State::Open(_)
            | State::HalfClosed(_, Half::WriteOnly | Half::Discarding | Half::Finishing(_)) => true,
            State::Connecting(_) | State::HalfClosed(_, Half::ReadOnly) | State::Closed(_) => false,
        }
    }

    pub(super) fn sends(&self) -> bool {
        self.may_send()
    }

    pub(super) fn deadline(&self) -> Option<(Instant, Deadline)> {
        match self {
            State::Connecting(connecting) => {
                let limit = connecting.deadline.map(|at| (at, connecting.race.limited()));
                let due = connecting.race.due();
                limit.into_iter().chain(due).min_by_key(|&(at, _)| at)
            }
            State::HalfClosed(_, Half::Finishing(at))
            | State::Closed(Closed::Draining { deadline: at, .. }) => Some((*at, Deadline::Close)),
            State::Open(_)
            | State::HalfClosed(_, Half::ReadOnly | Half::WriteOnly | Half::Discarding)
            | State::Closed(Closed::Ended { .. } | Closed::Never(_)) => None,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self {
            State::Connecting(_) => Phase::Connecting,
            State::Open(_) => Phase::Open,
            // A close that is still handing over has not settled.
            State::HalfClosed(..) | State::Closed(Closed::Draining { .. }) => Phase::HalfClosed,
            State::Closed(Closed::Ended { .. } | Closed::Never(_)) => Phase::Closed,
        }
    }

    pub(super) fn opened(&self) -> Option<Result<(), Fault>> {
        match self {
            State::Connecting(_) => None,
            State::Open(_)
            | State::HalfClosed(..)
            | State::Closed(Closed::Draining { .. } | Closed::Ended { .. }) => Some(Ok(())),
            State::Closed(Closed::Never(never)) => Some(Err(never.fault)),
        }
    }

    pub(super) fn outcome(&self) -> Option<Result<(), Fault>> {
        match self {
            State::Connecting(_)
            | State::Open(_)
            | State::HalfClosed(..)
            | State::Closed(Closed::Draining { .. }) => None,
            State::Closed(Closed::Ended { outcome, .. }) => Some(*outcome),
            State::Closed(Closed::Never(never)) => Some(never.outcome),
        }
    }

    pub(super) fn watch(&self) -> Watch {
        match self {
            State::Open(_) | State::HalfClosed(_, Half::ReadOnly) => Watch::End,
            State::HalfClosed(_, Half::WriteOnly | Half::Finishing(_)) => Watch::Failure,
            State::HalfClosed(pipe, Half::Discarding) if !pipe.receiving => Watch::Discard,
            State::Connecting(_) | State::HalfClosed(_, Half::Discarding) | State::Closed(_) => {
                Watch::Nothing
            }
        }
    }

    pub(super) fn attempts(&self) -> &[(SocketAddr, Fault)] {
        match self {
            State::Closed(Closed::Never(never)) => &never.attempts,
            State::Connecting(_) | State::Open(_) | State::HalfClosed(..) | State::Closed(_) => &[],
        }
    }
}

impl Connecting {
    fn handle(
        mut self: Box<Self>,
        input: Input<'_>,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        match input {
            Input::Answered(addresses) => {
                let step = self.race.resolved(Ok(addresses), false, now, outputs);
                self.advance(step, outputs)
            }
            Input::Resolved(answer) => {
                let step = self.race.resolved(answer, true, now, outputs);
                self.advance(step, outputs)
            }
            Input::Attempted { id, result } => {
                let step = self.race.attempted(id, result, now, outputs);
                match step {
                    Step::Won(timings) => {
                        outputs.push(Output::Adopt { id, timings });
                        self.open(outputs)
                    }
                    Step::On | Step::Lost(_) => self.advance(step, outputs),
                }
            }
            Input::Deadline => match self.deadline {
                Some(at) if at <= now => {
                    let fault = Fault::TimedOut(self.race.limited());
                    self.never(fault, Err(fault), outputs)
                }
                Some(_) | None => {
                    self.race.expired(now, outputs);
                    State::Connecting(self)
                }
            },
            Input::Close => self.never(Fault::Closed, Ok(()), outputs),
            Input::Abort | Input::AbortWriting => {
                self.never(Fault::Aborted, Err(Fault::Aborted), outputs)
            }
            Input::CancelReading => {
                self.reading = Reading::Cancelled;
                outputs.push(Output::Readable);
                State::Connecting(self)
            }
            // There is no wire yet, and who half-closes waits for it.
            Input::WireEof | Input::WireFailed(_) | Input::FinishWriting => State::Connecting(self),
        }
    }

    fn advance(self: Box<Self>, step: Step, outputs: &mut Outputs<'_>) -> State {
        match step {
            Step::On | Step::Won(_) => State::Connecting(self),
            Step::Lost(fault) => {
                let attempts = self.race.into_failed(fault);
                never(fault, Err(fault), attempts, outputs)
            }
        }
    }

    fn open(self, outputs: &mut Outputs<'_>) -> State {
        outputs.push(Output::Opened);
        outputs.push(Output::Readable);
        outputs.push(Output::Writable);
        match self.reading {
            Reading::Wanted => State::Open(Pipe::default()),
            Reading::Cancelled => {
                outputs.push(Output::Discard);
                State::HalfClosed(Pipe::default(), Half::Discarding)
            }
        }
    }

    /// Gives up while something is still pending.
    fn never(self, fault: Fault, outcome: Result<(), Fault>, outputs: &mut Outputs<'_>) -> State {
        outputs.push(Output::Abandon);
        let attempts = self.race.into_failed(fault);
        never(fault, outcome, attempts, outputs)
    }
}

fn never(
    fault: Fault,
    outcome: Result<(), Fault>,
    attempts: Vec<(SocketAddr, Fault)>,
    outputs: &mut Outputs<'_>,
) -> State {
    outputs.push(Output::Opened);
    tell_end(outputs);
    State::Closed(Closed::Never(Box::new(Never { fault, outcome, attempts })))
}

impl Pipe {
    fn read(&mut self) -> ReadStep {
        if std::mem::replace(&mut self.receiving, true) {
            return ReadStep::Wait;
        }
        ReadStep::Receive(RecvPass(()))
    }

    fn write(&mut self) -> WriteStep {
        if std::mem::replace(&mut self.sending, true) {
            return WriteStep::Wait;
        }
        WriteStep::Send(SendPass(()))
    }

    fn handle(
        self,
        input: Input<'_>,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        match input {
            Input::Close => {
                self.close(Release::Linger, Reads::Fail(Fault::Closed), rules, now, outputs)
            }
            Input::Abort | Input::AbortWriting => abort(outputs),
            Input::FinishWriting if self.sending => State::Open(self),
            Input::FinishWriting => {
                outputs.push(Output::ShutdownWrite);
                outputs.push(Output::Writable);
                State::HalfClosed(self, Half::ReadOnly)
            }
            Input::CancelReading => {
                outputs.push(Output::Readable);
                // A reader that is still at the wire starts the discarding when it leaves.
                if !self.receiving {
                    outputs.push(Output::Discard);
                }
                State::HalfClosed(self, Half::Discarding)
            }
            Input::WireFailed(fault) => self.failed_with_residue(fault, outputs),
            Input::Answered(_)
            | Input::Resolved(_)
            | Input::Attempted { .. }
            | Input::Deadline
            | Input::WireEof => State::Open(self),
        }
    }

    /// The peer has ended, and all that it sent was delivered.
    fn peer_ended(self, rules: Rules, now: Instant, outputs: &mut Outputs<'_>) -> State {
        if rules.allow_half_open {
            outputs.push(Output::Readable);
            return State::HalfClosed(self, Half::WriteOnly);
        }
        if self.sending {
            outputs.push(Output::Readable);
            // Its pass stands, but now there is a limit.
            outputs.push(Output::Writable);
            return State::HalfClosed(self, Half::Finishing(rules.close_timeout.after(now)));
        }
        outputs.push(Output::ShutdownWrite);
        end(Release::Done, outputs)
    }

    fn close(
        self,
        release: Release,
        reads: Reads,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        if self.sending {
            outputs.push(Output::Readable);
            outputs.push(Output::Writable);
            let deadline = rules.close_timeout.after(now);
            return State::Closed(Closed::Draining { pipe: self, deadline, release, reads });
        }
        outputs.push(Output::ShutdownWrite);
        outputs.push(Output::Release(release));
        tell_end(outputs);
        State::Closed(Closed::Ended { reads, outcome: Ok(()) })
    }

    /// The wire failed where nothing can be left to read.
    fn broken(self, fault: Fault, outputs: &mut Outputs<'_>) -> State {
        outputs.push(Output::Release(Release::Done));
        tell_end(outputs);
        State::Closed(Closed::Ended { reads: Reads::Fail(fault), outcome: Err(fault) })
    }

    /// The wire failed, but what came before may still be with the system.
    fn failed_with_residue(self, fault: Fault, outputs: &mut Outputs<'_>) -> State {
        tell_end(outputs);
        State::Closed(Closed::Ended { reads: Reads::Residue(self), outcome: Err(fault) })
    }
}

impl Half {
    fn handle(
        self,
        pipe: Pipe,
        input: Input<'_>,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        match (self, input) {
            (Half::ReadOnly, Input::Close) => {
                outputs.push(Output::Release(Release::Linger));
                tell_end(outputs);
                let reads = Reads::Fail(Fault::Closed);
                State::Closed(Closed::Ended { reads, outcome: Ok(()) })
            }
            (Half::ReadOnly, Input::CancelReading) => end(Release::Linger, outputs),
            (Half::ReadOnly, Input::WireFailed(fault)) => pipe.failed_with_residue(fault, outputs),
            (Half::WriteOnly | Half::Finishing(_), Input::Close) => {
                pipe.close(Release::Done, Reads::Fail(Fault::Closed), rules, now, outputs)
            }
            (Half::Discarding, Input::Close) => {
                pipe.close(Release::Linger, Reads::Fail(Fault::Closed), rules, now, outputs)
            }
            (Half::WriteOnly | Half::Discarding, Input::FinishWriting) if !pipe.sending => {
                outputs.push(Output::ShutdownWrite);
                end(
                    match self {
                        Half::Discarding => Release::Linger,
                        Half::ReadOnly | Half::WriteOnly | Half::Finishing(_) => Release::Done,
                    },
                    outputs,
                )
            }
            (Half::Discarding, Input::WireEof) => pipe.peer_ended(rules, now, outputs),
            (
                Half::WriteOnly | Half::Discarding | Half::Finishing(_),
                Input::WireFailed(fault),
            ) => pipe.broken(fault, outputs),
            // The write that was to end has not: it gives its pass back and tells what it took.
            (Half::Finishing(at), Input::Deadline) if at <= now => {
                pipe.close(Release::Done, Reads::End, rules, now, outputs)
            }
            (Half::ReadOnly | Half::WriteOnly | Half::Discarding | Half::Finishing(_), Input::Abort)
            | (Half::WriteOnly | Half::Discarding | Half::Finishing(_), Input::AbortWriting) => {
                abort(outputs)
            }
            // The write side has ended well.
            (Half::ReadOnly, Input::AbortWriting | Input::FinishWriting)
            // A second time, or while a write is being made.
            | (Half::WriteOnly | Half::Discarding | Half::Finishing(_), Input::FinishWriting)
            | (Half::WriteOnly | Half::Discarding | Half::Finishing(_), Input::CancelReading)
            // Not awaited here.
            | (Half::ReadOnly | Half::WriteOnly | Half::Finishing(_), Input::WireEof)
            | (
                Half::ReadOnly | Half::WriteOnly | Half::Discarding | Half::Finishing(_),
                Input::Answered(_)
                | Input::Resolved(_)
                | Input::Attempted { .. }
                | Input::Deadline,
            ) => State::HalfClosed(pipe, self),
        }
    }
}

impl Closed {
    fn handle(self, input: Input<'_>, now: Instant, outputs: &mut Outputs<'_>) -> Closed {
        match (self, input) {
            (Closed::Draining { deadline, reads, .. }, Input::Deadline) if deadline <= now => {
                outputs.push(Output::Release(Release::Reset));
                outputs.push(Output::Closed);
                let outcome = Err(Fault::TimedOut(Deadline::Close));
                Closed::Ended { reads, outcome }
            }
            (Closed::Draining { reads, .. }, Input::Abort | Input::AbortWriting) => {
                outputs.push(Output::Release(Release::Reset));
                outputs.push(Output::Closed);
                Closed::Ended { reads, outcome: Err(Fault::Aborted) }
            }
            // Nobody wants the rest.
            (
                Closed::Ended { reads: Reads::Residue(_), outcome },
                Input::Close | Input::Abort | Input::AbortWriting | Input::CancelReading,
            ) => {
                outputs.push(Output::Release(Release::Done));
                outputs.push(Output::Readable);
                Closed::Ended { reads: Reads::failing(outcome), outcome }
            }
            (
                closed @ (Closed::Draining { .. } | Closed::Ended { .. } | Closed::Never(_)),
                Input::Answered(_)
                | Input::Resolved(_)
                | Input::Attempted { .. }
                | Input::Deadline
                | Input::WireEof
                | Input::WireFailed(_)
                | Input::Close
                | Input::Abort
                | Input::AbortWriting
                | Input::FinishWriting
                | Input::CancelReading,
            ) => closed,
        }
    }
}

impl Reads {
    /// What reads give after a failure and all that came before it.
    fn failing(outcome: Result<(), Fault>) -> Reads {
        match outcome {
            Ok(()) => Reads::End,
            Err(fault) => Reads::Fail(fault),
        }
    }
}

/// Both directions ended well.
fn end(release: Release, outputs: &mut Outputs<'_>) -> State {
    outputs.push(Output::Release(release));
    tell_end(outputs);
    State::Closed(Closed::Ended { reads: Reads::End, outcome: Ok(()) })
}

fn abort(outputs: &mut Outputs<'_>) -> State {
    outputs.push(Output::Release(Release::Reset));
    tell_end(outputs);
    let reads = Reads::Fail(Fault::Aborted);
    State::Closed(Closed::Ended { reads, outcome: Err(Fault::Aborted) })
}

fn tell_end(outputs: &mut Outputs<'_>) {
    outputs.push(Output::Readable);
    outputs.push(Output::Writable);
    outputs.push(Output::Closed);
}
