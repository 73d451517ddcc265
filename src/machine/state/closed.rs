//! From where this side has closed, or nothing is left to do: the first outcome stays.

use std::time::Instant;

use super::super::tls::Progress;
use super::super::{Deadline, Fault, Input, Output, Outputs, Received, Refusal, Release, Sent};
use super::{Closed, Draining, Ender, Pipe, Reads, State, ended};

impl Closed {
    pub(super) fn handle(
        self,
        input: Input<'_>,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> Closed {
        match (self, input) {
            (Closed::Draining(draining), Input::Deadline) if draining.deadline <= now => {
                outputs.push(Output::Release(Release::Reset));
                outputs.push(Output::Closed);
                ended(draining.pipe, draining.reads, Err(Fault::TimedOut(Deadline::Close)))
            }
            (Closed::Draining(draining), Input::Abort | Input::AbortWriting) => {
                outputs.push(Output::Release(Release::Reset));
                outputs.push(Output::Closed);
                ended(draining.pipe, draining.reads, Err(Fault::Aborted))
            }
            (Closed::Draining(draining), Input::WireFailed(fault)) => {
                draining.failed(fault, outputs)
            }
            // Nobody wants the rest.
            (
                Closed::Ended { reads: Reads::Residue(pipe), outcome, .. },
                Input::Close | Input::Abort | Input::AbortWriting | Input::CancelReading,
            ) => {
                outputs.push(Output::Release(Release::Done));
                outputs.push(Output::Readable);
                ended(*pipe, Reads::failing(outcome), outcome)
            }
            (
                Closed::Ended { reads: Reads::Decrypted(pipe), outcome, .. },
                Input::Close | Input::Abort | Input::AbortWriting | Input::CancelReading,
            ) => {
                outputs.push(Output::Readable);
                ended(*pipe, Reads::failing(outcome), outcome)
            }
            (
                closed @ (Closed::Draining(_)
                | Closed::Ended { .. }
                | Closed::Upgraded
                | Closed::Never(_)),
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
                | Input::CancelReading
                | Input::StartTls
                | Input::HandOver
                | Input::Unread,
            ) => closed,
        }
    }

    /// What was accepted before the close went out, or could not.
    pub(super) fn sent(self, what: Sent, outputs: &mut Outputs<'_>) -> Closed {
        match (self, what) {
            (Closed::Draining(mut draining), Sent::Nothing) => {
                draining.pipe.say_goodbye(outputs);
                if draining.pipe.is_sending() {
                    return Closed::Draining(draining);
                }
                outputs.push(Output::ShutdownWrite);
                outputs.push(Output::Release(draining.release));
                outputs.push(Output::Closed);
                ended(draining.pipe, draining.reads, Ok(()))
            }
            (Closed::Draining(draining), Sent::Failed(fault)) => draining.failed(fault, outputs),
            (
                closed @ (Closed::Ended { .. } | Closed::Upgraded | Closed::Never(_)),
                Sent::Nothing | Sent::Failed(_),
            ) => closed,
        }
    }

    /// A session that is only read to the end may have come to it.
    pub(super) fn progressed(self, outputs: &mut Outputs<'_>) -> Closed {
        let (pipe, outcome, whole) = match self {
            Closed::Ended { reads: Reads::Residue(pipe), outcome, .. } => (pipe, outcome, true),
            Closed::Ended { reads: Reads::Decrypted(pipe), outcome, .. } => (pipe, outcome, false),
            Closed::Draining(_) | Closed::Ended { .. } | Closed::Upgraded | Closed::Never(_) => {
                return self;
            }
        };
        let unread = pipe.tls.as_ref().is_some_and(|tls| tls.has_unread());
        let reads = match pipe.progress() {
            Progress::Handshaking | Progress::Established => None,
            Progress::Failed if unread => None,
            // All that the peer had to say has come, whatever happened to the connection then.
            Progress::Ended => Some(Reads::End(Ender::Peer)),
            Progress::Truncated | Progress::Failed => Some(Reads::failing(outcome)),
        };
        match (reads, whole) {
            (Some(reads), true) => {
                outputs.push(Output::Release(Release::Done));
                ended(*pipe, reads, outcome)
            }
            (Some(reads), false) => ended(*pipe, reads, outcome),
            (None, true) => Closed::Ended { reads: Reads::Residue(pipe), outcome, remains: None },
            (None, false) => {
                Closed::Ended { reads: Reads::Decrypted(pipe), outcome, remains: None }
            }
        }
    }

    pub(super) fn refuses_upgrade(&self) -> Refusal {
        match self {
            Closed::Upgraded => Refusal::Upgraded,
            Closed::Draining(_)
            | Closed::Ended { reads: Reads::End(Ender::This), outcome: Ok(()), .. }
            | Closed::Ended {
                reads: Reads::Residue(_) | Reads::Decrypted(_) | Reads::Fail(_),
                outcome: Ok(()),
                ..
            } => Refusal::Closed,
            Closed::Ended { reads: Reads::End(Ender::Peer), outcome: Ok(()), .. } => {
                Refusal::PeerEnded
            }
            Closed::Ended { outcome: Err(fault), .. } => Refusal::of(*fault),
            Closed::Never(never) => Refusal::of(never.fault),
        }
    }
}

impl Draining {
    /// The wire failed. Where only this side's own end was yet to be sent, all was handed over.
    fn failed(self, fault: Fault, outputs: &mut Outputs<'_>) -> Closed {
        outputs.push(Output::Release(Release::Done));
        outputs.push(Output::Closed);
        let outcome = if self.pipe.owes_data() { Err(fault) } else { Ok(()) };
        ended(self.pipe, self.reads, outcome)
    }
}

impl Refusal {
    fn of(fault: Fault) -> Self {
        match fault {
            Fault::Closed | Fault::Aborted | Fault::TimedOut(Deadline::Close) => Refusal::Closed,
            fault => Refusal::Failed(fault),
        }
    }
}

impl Reads {
    /// Why writes fail after an end without a failure.
    pub(super) fn refuses_write(&self) -> Fault {
        match self {
            Reads::End(Ender::Peer) => Fault::PeerEnded,
            Reads::End(Ender::This) | Reads::Residue(_) | Reads::Decrypted(_) | Reads::Fail(_) => {
                Fault::Closed
            }
        }
    }

    /// What reads give after a failure and all that came before it.
    fn failing(outcome: Result<(), Fault>) -> Reads {
        match outcome {
            Ok(()) => Reads::End(Ender::Peer),
            Err(fault) => Reads::Fail(fault),
        }
    }
}

/// A receive of what came before a failure met the end of it.
pub(super) fn residue_over(
    pipe: Pipe,
    what: Received,
    outcome: Result<(), Fault>,
    outputs: &mut Outputs<'_>,
) -> State {
    outputs.push(Output::Release(Release::Done));
    let complete = pipe.tls.is_none() && what == Received::Eof;
    let reads = match outcome {
        Err(Fault::ResetAfterEnd(_)) if complete => Reads::End(Ender::Peer),
        outcome => Reads::failing(outcome),
    };
    State::Closed(ended(pipe, reads, outcome))
}
