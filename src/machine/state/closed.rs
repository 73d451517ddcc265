//! Transitions of a closed socket: flushing accepted data, and reading the rest. The first outcome stays.

use std::time::Instant;

use super::super::tls::SessionState;
use super::super::{Actions, Fault, Input, RecvEvent, Release, SendEvent, TimerKind, UpgradeError};
use super::{Closed, EndedBy, Flushing, Pipe, ReadEnd, State, ended};

impl Closed {
    pub(super) fn handle(self, input: Input<'_>, now: Instant, actions: &mut Actions) -> Closed {
        match (self, input) {
            (Closed::Flushing(flushing), Input::TimerExpired) if flushing.timer <= now => {
                actions.release_wire(Release::Reset);
                actions.wake.closed = true;
                ended(flushing.pipe, flushing.read_end, Err(Fault::TimedOut(TimerKind::Close)))
            }
            (Closed::Flushing(flushing), Input::Abort | Input::AbortWrite) => {
                actions.release_wire(Release::Reset);
                actions.wake.closed = true;
                ended(flushing.pipe, flushing.read_end, Err(Fault::Aborted))
            }
            (Closed::Flushing(flushing), Input::WireFailed(fault)) => flushing.fail(fault, actions),
            // The user does not want the rest.
            (
                Closed::Ended { read_end: ReadEnd::Undrained(pipe), outcome, .. },
                Input::Close | Input::Abort | Input::AbortWrite | Input::CancelRead,
            ) => {
                actions.release_wire(Release::Close);
                actions.wake.readable = true;
                ended(*pipe, ReadEnd::from_outcome(outcome), outcome)
            }
            (
                Closed::Ended { read_end: ReadEnd::Buffered(pipe), outcome, .. },
                Input::Close | Input::Abort | Input::AbortWrite | Input::CancelRead,
            ) => {
                actions.wake.readable = true;
                ended(*pipe, ReadEnd::from_outcome(outcome), outcome)
            }
            (
                closed @ (Closed::Flushing(_)
                | Closed::Ended { .. }
                | Closed::Upgraded
                | Closed::Detached
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
                | Input::AllowHalfOpen
                | Input::StartTls { .. }
                | Input::UpgradeReady
                | Input::UnexpectedPlaintext { .. }
                | Input::Detach,
            ) => closed,
        }
    }

    /// Handles the end of a send: data accepted before the close was sent, or failed.
    pub(super) fn handle_send_event(self, what: SendEvent, actions: &mut Actions) -> Closed {
        match (self, what) {
            (Closed::Flushing(mut flushing), SendEvent::Cancelled) => {
                flushing.pipe.queue_close_notify(actions);
                if flushing.pipe.has_unsent_or_permit() {
                    return Closed::Flushing(flushing);
                }
                actions.shutdown_write = true;
                actions.release_wire(flushing.release);
                actions.wake.closed = true;
                ended(flushing.pipe, flushing.read_end, Ok(()))
            }
            (Closed::Flushing(flushing), SendEvent::Failed(fault)) => flushing.fail(fault, actions),
            (
                closed @ (Closed::Ended { .. }
                | Closed::Upgraded
                | Closed::Detached
                | Closed::ConnectFailed(_)),
                SendEvent::Cancelled | SendEvent::Failed(_),
            ) => closed,
        }
    }

    /// Handles a change of a session that is only read to its end.
    pub(super) fn on_session_progress(self, actions: &mut Actions) -> Closed {
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
            | Closed::Detached
            | Closed::ConnectFailed(_) => {
                return self;
            }
        };
        let unread = pipe.tls.as_ref().is_some_and(|tls| tls.has_unread());
        let read_end = match pipe.session_state() {
            SessionState::Handshaking | SessionState::Established => None,
            SessionState::Failed if unread => None,
            // The peer's data is complete, whatever happened to the connection afterwards.
            SessionState::Ended => Some(ReadEnd::Eof(EndedBy::Peer)),
            SessionState::Truncated | SessionState::Failed => Some(ReadEnd::from_outcome(outcome)),
        };
        match (read_end, release) {
            (Some(read_end), true) => {
                actions.release_wire(Release::Close);
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
            Closed::Detached => UpgradeError::Detached,
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
    /// Handles a failure of the wire. If only close_notify was left to send, all data was handed over.
    fn fail(self, fault: Fault, actions: &mut Actions) -> Closed {
        actions.release_wire(Release::Close);
        actions.wake.closed = true;
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
    /// Returns the fault of writes after an end without a failure.
    pub(super) fn write_error(&self) -> Fault {
        match self {
            ReadEnd::Eof(EndedBy::Peer) => Fault::PeerEnded,
            ReadEnd::Eof(EndedBy::Local)
            | ReadEnd::Undrained(_)
            | ReadEnd::Buffered(_)
            | ReadEnd::Fail(_) => Fault::Closed,
        }
    }

    /// Returns the result of reads after a failure, once all data before it was read.
    fn from_outcome(outcome: Result<(), Fault>) -> ReadEnd {
        match outcome {
            Ok(()) => ReadEnd::Eof(EndedBy::Peer),
            Err(fault) => ReadEnd::Fail(fault),
        }
    }
}

/// Ends the reading of data from before a failure.
pub(super) fn undrained_done(
    pipe: Pipe,
    what: RecvEvent,
    outcome: Result<(), Fault>,
    actions: &mut Actions,
) -> State {
    actions.release_wire(Release::Close);
    let complete = pipe.tls.is_none() && what == RecvEvent::Eof;
    let read_end = match outcome {
        Err(Fault::ResetAfterEnd(_)) if complete => ReadEnd::Eof(EndedBy::Peer),
        outcome => ReadEnd::from_outcome(outcome),
    };
    State::Closed(ended(pipe, read_end, outcome))
}
