//! From where this side has closed, or nothing is left to do: the first outcome stays.

use std::time::Instant;

use super::super::tls::SessionState;
use super::super::{
    Action, Actions, Fault, Input, RecvEvent, Release, SendEvent, TimerKind, UpgradeError,
};
use super::{Closed, EndedBy, Flushing, Pipe, ReadEnd, State, ended};

impl Closed {
    pub(super) fn handle(
        self,
        input: Input<'_>,
        now: Instant,
        actions: &mut Actions<'_>,
    ) -> Closed {
        match (self, input) {
            (Closed::Flushing(flushing), Input::TimerExpired) if flushing.timer <= now => {
                actions.push(Action::Release(Release::Reset));
                actions.push(Action::Closed);
                ended(flushing.pipe, flushing.read_end, Err(Fault::TimedOut(TimerKind::Close)))
            }
            (Closed::Flushing(flushing), Input::Abort | Input::AbortWrite) => {
                actions.push(Action::Release(Release::Reset));
                actions.push(Action::Closed);
                ended(flushing.pipe, flushing.read_end, Err(Fault::Aborted))
            }
            (Closed::Flushing(flushing), Input::WireFailed(fault)) => flushing.fail(fault, actions),
            // Nobody wants the rest.
            (
                Closed::Ended { read_end: ReadEnd::Undrained(pipe), outcome, .. },
                Input::Close | Input::Abort | Input::AbortWrite | Input::CancelRead,
            ) => {
                actions.push(Action::Release(Release::Close));
                actions.push(Action::Readable);
                ended(*pipe, ReadEnd::from_outcome(outcome), outcome)
            }
            (
                Closed::Ended { read_end: ReadEnd::Buffered(pipe), outcome, .. },
                Input::Close | Input::Abort | Input::AbortWrite | Input::CancelRead,
            ) => {
                actions.push(Action::Readable);
                ended(*pipe, ReadEnd::from_outcome(outcome), outcome)
            }
            (
                closed @ (Closed::Flushing(_)
                | Closed::Ended { .. }
                | Closed::Upgraded
                | Closed::ConnectFailed(_)),
                Input::PartialResolved(_)
                | Input::Resolved(_)
                | Input::Attempted { .. }
                | Input::TimerExpired
                | Input::WireEof
                | Input::WireFailed(_)
                | Input::Close
                | Input::Abort
                | Input::AbortWrite
                | Input::CloseWrite
                | Input::CancelRead
                | Input::StartTls
                | Input::UpgradeReady
                | Input::UnexpectedPlaintext,
            ) => closed,
        }
    }

    /// What was accepted before the close went out, or could not.
    pub(super) fn handle_send_event(self, what: SendEvent, actions: &mut Actions<'_>) -> Closed {
        match (self, what) {
            (Closed::Flushing(mut flushing), SendEvent::Cancelled) => {
                flushing.pipe.queue_close_notify(actions);
                if flushing.pipe.has_unsent_or_permit() {
                    return Closed::Flushing(flushing);
                }
                actions.push(Action::ShutdownWrite);
                actions.push(Action::Release(flushing.release));
                actions.push(Action::Closed);
                ended(flushing.pipe, flushing.read_end, Ok(()))
            }
            (Closed::Flushing(flushing), SendEvent::Failed(fault)) => flushing.fail(fault, actions),
            (
                closed @ (Closed::Ended { .. } | Closed::Upgraded | Closed::ConnectFailed(_)),
                SendEvent::Cancelled | SendEvent::Failed(_),
            ) => closed,
        }
    }

    /// A session that is only read to the end may have come to it.
    pub(super) fn on_session_progress(self, actions: &mut Actions<'_>) -> Closed {
        let (pipe, outcome, release) = match self {
            Closed::Ended { read_end: ReadEnd::Undrained(pipe), outcome, .. } => {
                (pipe, outcome, true)
            }
            Closed::Ended { read_end: ReadEnd::Buffered(pipe), outcome, .. } => {
                (pipe, outcome, false)
            }
            Closed::Flushing(_)
            | Closed::Ended { .. }
            | Closed::Upgraded
            | Closed::ConnectFailed(_) => {
                return self;
            }
        };
        let unread = pipe.tls.as_ref().is_some_and(|tls| tls.has_unread());
        let read_end = match pipe.session_state() {
            SessionState::Handshaking | SessionState::Established => None,
            SessionState::Failed if unread => None,
            // All that the peer had to say has come, whatever happened to the connection then.
            SessionState::Ended => Some(ReadEnd::Eof(EndedBy::Peer)),
            SessionState::Truncated | SessionState::Failed => Some(ReadEnd::from_outcome(outcome)),
        };
        match (read_end, release) {
            (Some(read_end), true) => {
                actions.push(Action::Release(Release::Close));
                ended(*pipe, read_end, outcome)
            }
            (Some(read_end), false) => ended(*pipe, read_end, outcome),
            (None, true) => {
                Closed::Ended { read_end: ReadEnd::Undrained(pipe), outcome, summary: None }
            }
            (None, false) => {
                Closed::Ended { read_end: ReadEnd::Buffered(pipe), outcome, summary: None }
            }
        }
    }

    pub(super) fn upgrade_error(&self) -> UpgradeError {
        match self {
            Closed::Upgraded => UpgradeError::Upgraded,
            Closed::Flushing(_)
            | Closed::Ended { read_end: ReadEnd::Eof(EndedBy::Local), outcome: Ok(()), .. }
            | Closed::Ended {
                read_end: ReadEnd::Undrained(_) | ReadEnd::Buffered(_) | ReadEnd::Fail(_),
                outcome: Ok(()),
                ..
            } => UpgradeError::Closed,
            Closed::Ended { read_end: ReadEnd::Eof(EndedBy::Peer), outcome: Ok(()), .. } => {
                UpgradeError::PeerEnded
            }
            Closed::Ended { outcome: Err(fault), .. } => UpgradeError::from_fault(*fault),
            Closed::ConnectFailed(failed) => UpgradeError::from_fault(failed.fault),
        }
    }
}

impl Flushing {
    /// The wire failed. Where only this side's own end was yet to be sent, all was handed over.
    fn fail(self, fault: Fault, actions: &mut Actions<'_>) -> Closed {
        actions.push(Action::Release(Release::Close));
        actions.push(Action::Closed);
        let outcome = if self.pipe.has_undelivered_data() { Err(fault) } else { Ok(()) };
        ended(self.pipe, self.read_end, outcome)
    }
}

impl UpgradeError {
    fn from_fault(fault: Fault) -> Self {
        match fault {
            Fault::Closed | Fault::Aborted | Fault::TimedOut(TimerKind::Close) => {
                UpgradeError::Closed
            }
            fault => UpgradeError::Failed(fault),
        }
    }
}

impl ReadEnd {
    /// Why writes fail after an end without a failure.
    pub(super) fn write_error(&self) -> Fault {
        match self {
            ReadEnd::Eof(EndedBy::Peer) => Fault::PeerEnded,
            ReadEnd::Eof(EndedBy::Local)
            | ReadEnd::Undrained(_)
            | ReadEnd::Buffered(_)
            | ReadEnd::Fail(_) => Fault::Closed,
        }
    }

    /// What reads give after a failure and all that came before it.
    fn from_outcome(outcome: Result<(), Fault>) -> ReadEnd {
        match outcome {
            Ok(()) => ReadEnd::Eof(EndedBy::Peer),
            Err(fault) => ReadEnd::Fail(fault),
        }
    }
}

/// A receive of what came before a failure met the end of it.
pub(super) fn undrained_done(
    pipe: Pipe,
    what: RecvEvent,
    outcome: Result<(), Fault>,
    actions: &mut Actions<'_>,
) -> State {
    actions.push(Action::Release(Release::Close));
    let complete = pipe.tls.is_none() && what == RecvEvent::Eof;
    let read_end = match outcome {
        Err(Fault::ResetAfterEnd(_)) if complete => ReadEnd::Eof(EndedBy::Peer),
        outcome => ReadEnd::from_outcome(outcome),
    };
    State::Closed(ended(pipe, read_end, outcome))
}
