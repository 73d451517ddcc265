//! The permits of each state: which are valid, and what their return does at once.

use super::super::actions::Actions;
use super::super::io_step::{Holder, ReadStep, RecvPermit, SendPermit, WriteStep};
use super::{Closed, Half, Pipe, ReadEnd, State};
use crate::error::Fault;

impl State {
    #[inline]
    pub(in super::super) fn read(&mut self) -> ReadStep {
        match self {
            State::Open(pipe) => pipe.read(),
            other => other.read_slow(),
        }
    }

    fn read_slow(&mut self) -> ReadStep {
        if let Some(fault) = self.read_error() {
            return ReadStep::Fail(fault);
        }
        match self {
            State::Connecting(connecting) => connecting.read(),
            State::Preamble(preamble) => preamble.read(),
            State::Handshaking(handshaking) => handshaking.read(),
            State::UpgradePending(..) => ReadStep::Wait,
            State::Open(pipe) | State::HalfClosed(pipe, Half::ReadOnly) => pipe.read(),
            State::Closed(Closed::Ended {
                read_end: ReadEnd::Undrained(pipe) | ReadEnd::Buffered(pipe),
                ..
            }) => pipe.read(),
            State::HalfClosed(_, Half::WriteOnly | Half::Discarding | Half::Finishing(_))
            | State::Closed(_) => ReadStep::Eof,
            State::Poisoned => ReadStep::Fail(Fault::Internal),
        }
    }

    #[inline]
    pub(in super::super) fn write(&mut self) -> WriteStep {
        match self {
            State::Open(pipe) => pipe.write(),
            other => other.write_slow(),
        }
    }

    fn write_slow(&mut self) -> WriteStep {
        if let Some(fault) = self.write_error() {
            return WriteStep::Fail(fault);
        }
        match self {
            State::Open(pipe) | State::HalfClosed(pipe, _) => pipe.write(),
            State::Connecting(_)
            | State::Preamble(_)
            | State::Handshaking(_)
            | State::UpgradePending(..)
            | State::Closed(_) => WriteStep::Wait,
            State::Poisoned => WriteStep::Fail(Fault::Internal),
        }
    }

    /// Returns the connection, while it is still in use.
    pub(super) fn pipe(&self) -> Option<&Pipe> {
        match self {
            State::Preamble(preamble) => Some(preamble.pipe()),
            State::Handshaking(handshaking) => Some(handshaking.pipe()),
            State::Open(pipe) | State::UpgradePending(pipe, _) | State::HalfClosed(pipe, _) => {
                Some(pipe)
            }
            State::Closed(closed) => closed.pipe(),
            State::Connecting(_) | State::Poisoned => None,
        }
    }

    pub(super) fn pipe_mut(&mut self) -> Option<&mut Pipe> {
        match self {
            State::Preamble(preamble) => Some(preamble.pipe_mut()),
            State::Handshaking(handshaking) => Some(handshaking.pipe_mut()),
            State::Open(pipe) | State::UpgradePending(pipe, _) | State::HalfClosed(pipe, _) => {
                Some(pipe)
            }
            State::Closed(closed) => closed.pipe_mut(),
            State::Connecting(_) | State::Poisoned => None,
        }
    }

    /// Takes the receive permit back if the connection is open, where nothing else has to be done. Returns whether it
    /// did.
    #[inline]
    pub(in super::super) fn return_recv_if_open(&mut self) -> bool {
        match self {
            State::Open(pipe) => {
                pipe.receiving = false;
                true
            }
            _ => false,
        }
    }

    /// Takes the send permit back if the connection is open, where nothing else has to be done. Returns whether it did.
    #[inline]
    pub(in super::super) fn return_send_if_open(&mut self) -> bool {
        match self {
            State::Open(pipe) => {
                pipe.sending = false;
                true
            }
            _ => false,
        }
    }

    /// Takes the receive permit back.
    pub(in super::super) fn return_recv(
        &mut self,
        RecvPermit(holder): RecvPermit,
        actions: &mut Actions,
    ) {
        if let Some(pipe) = self.pipe_mut() {
            pipe.receiving = false;
        }
        match self {
            // The reader has left the wire, so that the driver can discard.
            State::HalfClosed(_, Half::Discarding) => {
                actions.drive_recv |= holder == Holder::Reader;
            }
            // The upgrading thread waits for the permit.
            State::UpgradePending(..) => actions.wake.readable = true,
            State::Connecting(_)
            | State::Preamble(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::HalfClosed(_, Half::ReadOnly | Half::WriteOnly | Half::Finishing(_))
            | State::Closed(_)
            | State::Poisoned => {}
        }
    }

    /// Takes the send permit back. Returns whether a transition waits for that.
    pub(in super::super) fn return_send(&mut self, SendPermit(()): SendPermit) -> bool {
        if let Some(pipe) = self.pipe_mut() {
            pipe.sending = false;
        }
        matches!(
            self,
            State::HalfClosed(_, Half::Finishing(_)) | State::Closed(Closed::Flushing(_))
        )
    }

    /// Returns whether a send permit is in use.
    pub(in super::super) fn send_in_flight(&self) -> bool {
        match self {
            State::Open(pipe) | State::HalfClosed(pipe, _) => pipe.sending,
            State::Connecting(_)
            | State::Preamble(_)
            | State::Handshaking(_)
            | State::UpgradePending(..)
            | State::Closed(_)
            | State::Poisoned => false,
        }
    }

    pub(in super::super) fn recv_in_flight(&self) -> bool {
        match self {
            State::Preamble(preamble) => preamble.pipe().receiving,
            State::Handshaking(handshaking) => handshaking.pipe().receiving,
            State::Open(pipe) | State::UpgradePending(pipe, _) | State::HalfClosed(pipe, _) => {
                pipe.receiving
            }
            State::Closed(Closed::Ended {
                read_end: ReadEnd::Undrained(pipe) | ReadEnd::Buffered(pipe),
                ..
            }) => pipe.receiving,
            State::Connecting(_) | State::Closed(_) | State::Poisoned => false,
        }
    }

    /// Returns whether a receive permit of this holder is valid.
    pub(in super::super) fn can_recv_as(&self, holder: Holder) -> bool {
        match self {
            // Readers have to stop; the driver discards incoming data.
            State::HalfClosed(_, Half::Discarding) => holder == Holder::Background,
            // Before an upgrade, the driver receives what is unread.
            State::UpgradePending(pipe, _) => pipe.tls.is_some() && holder == Holder::Background,
            State::Preamble(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::HalfClosed(_, Half::ReadOnly)
            | State::Closed(Closed::Ended {
                read_end: ReadEnd::Undrained(_) | ReadEnd::Buffered(_),
                ..
            }) => true,
            State::Connecting(_)
            | State::HalfClosed(_, Half::WriteOnly | Half::Finishing(_))
            | State::Closed(_)
            | State::Poisoned => false,
        }
    }

    pub(in super::super) fn can_send(&self) -> bool {
        match self {
            State::Open(_)
            | State::HalfClosed(_, Half::WriteOnly | Half::Discarding | Half::Finishing(_)) => true,
            State::Connecting(_)
            | State::Preamble(_)
            | State::Handshaking(_)
            | State::UpgradePending(..)
            | State::HalfClosed(_, Half::ReadOnly)
            | State::Closed(_)
            | State::Poisoned => false,
        }
    }

    /// Returns whether this side has not sent FIN.
    pub(in super::super) fn is_write_open(&self) -> bool {
        match self {
            State::Preamble(_) | State::Handshaking(_) | State::UpgradePending(..) => true,
            State::HalfClosed(pipe, Half::ReadOnly) => pipe.has_unsent_or_permit(),
            State::Connecting(_)
            | State::Open(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned => self.can_send(),
        }
    }
}

impl Closed {
    fn pipe(&self) -> Option<&Pipe> {
        match self {
            Closed::Flushing(flushing) => Some(&flushing.pipe),
            Closed::Ended {
                read_end: ReadEnd::Undrained(pipe) | ReadEnd::Buffered(pipe), ..
            } => Some(pipe),
            Closed::Ended { .. }
            | Closed::Upgraded
            | Closed::Detached
            | Closed::ConnectFailed(_) => None,
        }
    }

    fn pipe_mut(&mut self) -> Option<&mut Pipe> {
        match self {
            Closed::Flushing(flushing) => Some(&mut flushing.pipe),
            Closed::Ended {
                read_end: ReadEnd::Undrained(pipe) | ReadEnd::Buffered(pipe), ..
            } => Some(pipe),
            Closed::Ended { .. }
            | Closed::Upgraded
            | Closed::Detached
            | Closed::ConnectFailed(_) => None,
        }
    }
}
