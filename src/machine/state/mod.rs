//! The states of a socket, and all transitions between them.
//!
//! ```text
//!              attempt won                         one direction ends
//!   Connecting ------------------------------> Open ------------------> HalfClosed
//!       |    \                             _/  |  \                       |
//!       |     \ TLS from the start       _/    |   \ start_tls           |
//!       |      v                   _____/      |    v                      |
//!       |    Handshaking _________/            |   UpgradePending          |
//!       |      |  ^   handshake done           |    |                      |
//!       |      |  `--- a machine that          |    | the wire is another  |
//!       |      |       start_tls made          |    | machine's            |
//!       |      |                               |    |                      |
//!       | lost, late, close, abort             |    |                      |
//!       v      v                               v    v                      v
//!     Closed(ConnectFailed)    Closed(Flushing | Ended | Upgraded | Detached) <'
//!                       (Flushing, while accepted data is yet to be sent)
//! ```
//!
//! A variant owns only the data that is valid in it, and a transition consumes the old state and returns the new one.
//! The transitions are in `connecting`, `open` and `closed`, by their initial state. `tls_access` gives access to the
//! TLS session of a state.

use std::time::Instant;

mod closed;
mod connecting;
mod open;
mod tls_access;
#[cfg(test)]
mod transition_table;

use self::connecting::{Connecting, Handshaking};
use super::io_step::Holder;
use super::tls::{Session, SessionState, Summary};
use super::{
    Actions, AttemptId, Background, Config, FailedAttempt, Fault, Input, Policy, ReadStep,
    RecvEvent, RecvPermit, Release, SendEvent, SendPermit, Step, TimerKind, UpgradeError,
    WriteStep,
};
use crate::info::{Phase, Timings};
use crate::tls::TlsSetup;

#[derive(Debug)]
pub(super) enum State {
    /// The lookup or attempts are in progress.
    Connecting(Box<Connecting>),
    /// The connection is established, and the TLS handshake is in progress.
    Handshaking(Box<Handshaking>),
    Open(Pipe),
    /// A plaintext connection that is about to be upgraded: no thread may read or write, and a byte from the peer
    /// ends it.
    UpgradePending(Pipe),
    HalfClosed(Pipe, Half),
    Closed(Closed),
    /// A panic interrupted a transition or the driver, so the state is unknown.
    Poisoned,
}

/// An established connection: the permits in use, and its TLS session.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    receiving: bool,
    sending: bool,
    fin: Fin,
    tls: Option<Box<Session>>,
}

/// Whether this side has sent FIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fin {
    #[default]
    Pending,
    Sent,
}

/// The direction that still works.
#[derive(Clone, Copy, Debug)]
pub(super) enum Half {
    /// This side closed its write side.
    ReadOnly,
    /// The peer sent EOF.
    WriteOnly,
    /// Reading was cancelled, and the peer has not sent EOF.
    Discarding,
    /// The peer sent EOF while a write was in progress. That write may finish until this instant; no other begins.
    Finishing(Instant),
}

#[derive(Debug)]
pub(super) enum Closed {
    /// This side closed while a send permit was in use or ciphertext was queued; these go before the FIN.
    Flushing(Box<Flushing>),
    /// An established connection that is over.
    Ended { read_end: ReadEnd, outcome: Result<(), Fault>, summary: Option<Box<Summary>> },
    /// The connection belongs to another machine.
    Upgraded,
    /// The connection belongs to the program.
    Detached,
    /// The connection was not established.
    ConnectFailed(Box<ConnectFailed>),
}

#[derive(Debug)]
pub(super) struct Flushing {
    pipe: Pipe,
    timer: Instant,
    /// The way to release the wire afterwards.
    release: Release,
    /// The result of reads.
    read_end: ReadEnd,
}

#[derive(Debug)]
pub(super) struct ConnectFailed {
    fault: Fault,
    outcome: Result<(), Fault>,
    /// The step that failed.
    step: Option<Step>,
    /// The duration of each step, except those that [`Actions::attach`] reported.
    timings: Timings,
    attempts: Vec<FailedAttempt>,
    /// The remains of a failed handshake.
    summary: Option<Box<Summary>>,
    /// Whether the actions have reported the failure. If an upgrade fails at its creation, `start` reports it.
    announced: bool,
}

/// The result of reads on a closed socket.
#[derive(Debug)]
pub(super) enum ReadEnd {
    /// Data that the kernel still holds from before the failure.
    Undrained(Box<Pipe>),
    /// Data that the session still holds from before a TLS failure.
    Buffered(Box<Pipe>),
    /// A clean EOF.
    Eof(EndedBy),
    /// A failure.
    Fail(Fault),
}

/// The side that caused a clean end of both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndedBy {
    /// The peer: this side followed its EOF.
    Peer,
    /// This side: it closed a direction itself.
    Local,
}

impl State {
    pub(super) fn connecting(config: Config, now: Instant) -> Self {
        State::Connecting(Box::new(Connecting::new(config, now)))
    }

    pub(super) fn upgrading(setup: &TlsSetup, deadline: Option<Instant>, now: Instant) -> Self {
        Handshaking::upgrade(setup, deadline, now)
    }

    pub(super) fn start(self, now: Instant, actions: &mut Actions) -> State {
        match self {
            State::Connecting(connecting) => connecting.start(now, actions),
            State::Handshaking(mut handshaking) => {
                handshaking.start(actions);
                State::Handshaking(handshaking)
            }
            // An upgrade whose handshake could not begin.
            State::Closed(Closed::ConnectFailed(mut failed)) if !failed.announced => {
                actions.release_wire(Release::Close);
                actions.wake.opened = true;
                actions.wake_all_at_end();
                failed.announced = true;
                State::Closed(Closed::ConnectFailed(failed))
            }
            state @ (State::Open(_)
            | State::UpgradePending(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned) => state,
        }
    }

    pub(super) fn handle(
        self,
        input: Input<'_>,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match self {
            State::Connecting(connecting) => connecting.handle(input, now, actions),
            State::Handshaking(handshaking) => handshaking.handle(input, policy, now, actions),
            State::Open(pipe) => pipe.handle(input, policy, now, actions),
            State::UpgradePending(pipe) => pipe.handle_upgrade_pending(input, policy, now, actions),
            State::HalfClosed(pipe, half) => half.handle(pipe, input, policy, now, actions),
            State::Closed(closed) => State::Closed(closed.handle(input, now, actions)),
            State::Poisoned => State::Poisoned,
        }
    }

    /// Handles the return of a receive permit without bytes.
    pub(super) fn handle_recv_event(
        self,
        what: RecvEvent,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match (self, what) {
            (state, RecvEvent::Cancelled) => state,
            (State::Handshaking(handshaking), what) => {
                handshaking.handle_recv_event(what, policy, now, actions)
            }
            (State::Open(pipe), RecvEvent::Eof) if pipe.tls.is_none() => {
                pipe.on_peer_eof(policy, now, actions)
            }
            (State::UpgradePending(pipe), RecvEvent::Eof) => {
                pipe.peer_ended_before_upgrade(policy, now, actions)
            }
            (State::Open(pipe) | State::UpgradePending(pipe), RecvEvent::Failed(fault)) => {
                pipe.fail(fault, actions)
            }
            // In plaintext, the driver discards from now on and will see the event itself.
            (state @ State::HalfClosed(Pipe { tls: None, .. }, Half::Discarding), _) => state,
            (State::HalfClosed(pipe, Half::ReadOnly), RecvEvent::Eof) if pipe.tls.is_none() => {
                end(pipe, EndedBy::Local, Release::Close, actions)
            }
            (
                State::HalfClosed(pipe, Half::ReadOnly | Half::Discarding),
                RecvEvent::Failed(fault),
            ) => pipe.fail(fault, actions),
            (
                State::Closed(Closed::Ended {
                    read_end: ReadEnd::Undrained(pipe), outcome, ..
                }),
                RecvEvent::Eof | RecvEvent::Failed(_),
            ) => closed::undrained_done(*pipe, what, outcome, actions),
            (
                mut state @ (State::Open(_)
                | State::HalfClosed(_, Half::ReadOnly | Half::Discarding)),
                RecvEvent::Eof,
            ) => {
                if let Some(tls) = state.tls_mut() {
                    tls.eof();
                }
                state.on_session_progress(policy, now, actions)
            }
            (
                state @ (State::Connecting(_)
                | State::HalfClosed(_, Half::WriteOnly | Half::Finishing(_))
                | State::Closed(_)
                | State::Poisoned),
                RecvEvent::Eof | RecvEvent::Failed(_),
            ) => state,
        }
    }

    /// Returns whether the connection is open and its session has neither ended nor failed.
    pub(super) fn is_fully_open(&self) -> bool {
        let State::Open(pipe) = self else { return false };
        matches!(pipe.session_state(), SessionState::Handshaking | SessionState::Established)
    }

    /// Handles a change of the session: new input, or data that was read.
    pub(super) fn on_session_progress(
        self,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match self {
            State::Handshaking(handshaking) => {
                handshaking.on_session_progress(policy, now, actions)
            }
            State::Open(pipe) => match pipe.session_state() {
                SessionState::Ended => pipe.on_peer_eof(policy, now, actions),
                SessionState::Truncated => pipe.fail(Fault::Truncated, actions),
                SessionState::Failed => pipe.fail_tls(actions),
                SessionState::Handshaking | SessionState::Established => State::Open(pipe),
            },
            State::HalfClosed(pipe, half) => half.on_session_progress(pipe, policy, now, actions),
            State::Closed(closed) => State::Closed(closed.on_session_progress(actions)),
            state @ (State::Connecting(_) | State::UpgradePending(_) | State::Poisoned) => state,
        }
    }

    /// Returns whether the end of a transmit can change the state.
    pub(super) fn can_end_on_send(&self) -> bool {
        matches!(self, State::HalfClosed(..) | State::Closed(_))
    }

    /// Handles the return of a send permit or a transmit buffer.
    pub(super) fn handle_send_event(self, what: SendEvent, actions: &mut Actions) -> State {
        match (self, what) {
            (State::Open(pipe), SendEvent::Failed(fault)) => pipe.fail_undrained(fault, actions),
            (State::HalfClosed(pipe, half), what) => half.handle_send_event(pipe, what, actions),
            (State::Closed(closed @ Closed::Flushing(_)), what) => {
                State::Closed(closed.handle_send_event(what, actions))
            }
            (
                state @ (State::Connecting(_)
                | State::Handshaking(_)
                | State::Open(_)
                | State::UpgradePending(_)
                | State::Closed(
                    Closed::Ended { .. }
                    | Closed::Upgraded
                    | Closed::Detached
                    | Closed::ConnectFailed(_),
                )
                | State::Poisoned),
                SendEvent::Cancelled | SendEvent::Failed(_),
            ) => state,
        }
    }

    /// Handles a transmit buffer that could not be sent.
    pub(super) fn transmit_failed(
        self,
        fault: Fault,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match self {
            State::Handshaking(handshaking) => handshaking.fail(fault, now, actions),
            state @ (State::Connecting(_)
            | State::Open(_)
            | State::UpgradePending(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned) => state.handle_send_event(SendEvent::Failed(fault), actions),
        }
    }

    #[inline]
    pub(super) fn read(&mut self) -> ReadStep {
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
            State::Handshaking(handshaking) => handshaking.read(),
            State::UpgradePending(_) => ReadStep::Wait,
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
    pub(super) fn write(&mut self) -> WriteStep {
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
            | State::Handshaking(_)
            | State::UpgradePending(_)
            | State::Closed(_) => WriteStep::Wait,
            State::Poisoned => WriteStep::Fail(Fault::Internal),
        }
    }

    /// Returns the fault of a read that begins now, if it would fail.
    pub(super) fn read_error(&self) -> Option<Fault> {
        match self {
            State::Connecting(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(_)
            | State::HalfClosed(..)
            | State::Closed(Closed::Ended {
                read_end: ReadEnd::Eof(_) | ReadEnd::Undrained(_) | ReadEnd::Buffered(_),
                ..
            }) => None,
            State::Closed(Closed::Flushing(flushing)) => match flushing.read_end {
                ReadEnd::Eof(_) => None,
                ReadEnd::Fail(fault) => Some(fault),
                ReadEnd::Undrained(_) | ReadEnd::Buffered(_) => Some(Fault::Closed),
            },
            State::Closed(Closed::Ended { read_end: ReadEnd::Fail(fault), .. }) => Some(*fault),
            State::Closed(Closed::Upgraded) => Some(Fault::Upgraded),
            State::Closed(Closed::Detached) => Some(Fault::Detached),
            State::Closed(Closed::ConnectFailed(failed)) => Some(failed.fault),
            State::Poisoned => Some(Fault::Internal),
        }
    }

    /// Returns the fault of a write that begins now, if it would fail.
    pub(super) fn write_error(&self) -> Option<Fault> {
        match self {
            State::Connecting(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(_)
            | State::HalfClosed(_, Half::WriteOnly | Half::Discarding) => None,
            State::HalfClosed(_, Half::Finishing(_)) => Some(Fault::PeerEnded),
            State::HalfClosed(_, Half::ReadOnly) => Some(Fault::Closed),
            State::Closed(Closed::Flushing(flushing)) => Some(flushing.read_end.write_error()),
            State::Closed(Closed::Ended { read_end, outcome: Ok(()), .. }) => {
                Some(read_end.write_error())
            }
            // Even if the close could not hand over all data.
            State::Closed(Closed::Ended { read_end: ReadEnd::Fail(Fault::Closed), .. }) => {
                Some(Fault::Closed)
            }
            State::Closed(Closed::Ended { outcome: Err(fault), .. }) => Some(*fault),
            State::Closed(Closed::Upgraded) => Some(Fault::Upgraded),
            State::Closed(Closed::Detached) => Some(Fault::Detached),
            State::Closed(Closed::ConnectFailed(failed)) => Some(failed.fault),
            State::Poisoned => Some(Fault::Internal),
        }
    }

    /// Returns the reason why an upgrade can't begin, now or later.
    pub(super) fn upgrade_error(&self) -> Option<UpgradeError> {
        match self {
            State::Connecting(connecting) => connecting.upgrade_error(),
            State::Open(Pipe { tls: None, .. }) => None,
            State::Handshaking(_) | State::Open(_) => Some(UpgradeError::AlreadyTls),
            State::UpgradePending(_) if planted!(UpgradesTwice) => None,
            State::UpgradePending(_) => Some(UpgradeError::Upgraded),
            State::HalfClosed(_, Half::ReadOnly) => Some(UpgradeError::HalfClosed),
            State::HalfClosed(_, Half::Discarding) => Some(UpgradeError::ReadCancelled),
            State::HalfClosed(_, Half::WriteOnly | Half::Finishing(_)) => {
                Some(UpgradeError::PeerEnded)
            }
            State::Closed(closed) => Some(closed.upgrade_error()),
            State::Poisoned => Some(UpgradeError::Failed(Fault::Internal)),
        }
    }

    /// Takes the receive permit back if the connection is open, where nothing else has to be done. Returns whether it
    /// did.
    #[inline]
    pub(super) fn return_recv_if_open(&mut self) -> bool {
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
    pub(super) fn return_send_if_open(&mut self) -> bool {
        match self {
            State::Open(pipe) => {
                pipe.sending = false;
                true
            }
            _ => false,
        }
    }

    /// Takes the receive permit back.
    pub(super) fn return_recv(&mut self, RecvPermit(holder): RecvPermit, actions: &mut Actions) {
        match self {
            State::HalfClosed(pipe, Half::Discarding) => {
                pipe.receiving = false;
                if holder == Holder::Reader {
                    // The reader has left the wire, so that the driver can discard.
                    actions.drive_recv = true;
                }
            }
            State::UpgradePending(pipe) => {
                pipe.receiving = false;
                // The upgrading thread waits for the permit.
                actions.wake.readable = true;
            }
            State::Open(pipe)
            | State::HalfClosed(pipe, Half::ReadOnly | Half::WriteOnly | Half::Finishing(_)) => {
                pipe.receiving = false;
            }
            State::Closed(Closed::Ended {
                read_end: ReadEnd::Undrained(pipe) | ReadEnd::Buffered(pipe),
                ..
            }) => {
                pipe.receiving = false;
            }
            State::Closed(Closed::Flushing(flushing)) => flushing.pipe.receiving = false,
            State::Handshaking(handshaking) => handshaking.pipe_mut().receiving = false,
            State::Connecting(_)
            | State::Closed(
                Closed::Ended { .. }
                | Closed::Upgraded
                | Closed::Detached
                | Closed::ConnectFailed(_),
            )
            | State::Poisoned => {}
        }
    }

    /// Takes the send permit back. Returns whether a transition waits for that.
    pub(super) fn return_send(&mut self, SendPermit(()): SendPermit) -> bool {
        match self {
            State::Open(pipe) | State::UpgradePending(pipe) | State::HalfClosed(pipe, _) => {
                pipe.sending = false;
            }
            State::Closed(Closed::Flushing(flushing)) => flushing.pipe.sending = false,
            State::Connecting(_)
            | State::Handshaking(_)
            | State::Closed(
                Closed::Ended { .. }
                | Closed::Upgraded
                | Closed::Detached
                | Closed::ConnectFailed(_),
            )
            | State::Poisoned => {}
        }
        matches!(
            self,
            State::HalfClosed(_, Half::Finishing(_)) | State::Closed(Closed::Flushing(_))
        )
    }

    /// Returns whether a send permit is in use.
    pub(super) fn send_in_flight(&self) -> bool {
        match self {
            State::Open(pipe) | State::HalfClosed(pipe, _) => pipe.sending,
            State::Connecting(_)
            | State::Handshaking(_)
            | State::UpgradePending(_)
            | State::Closed(_)
            | State::Poisoned => false,
        }
    }

    pub(super) fn recv_in_flight(&self) -> bool {
        match self {
            State::Handshaking(handshaking) => handshaking.pipe().receiving,
            State::Open(pipe) | State::UpgradePending(pipe) | State::HalfClosed(pipe, _) => {
                pipe.receiving
            }
            State::Closed(Closed::Ended {
                read_end: ReadEnd::Undrained(pipe) | ReadEnd::Buffered(pipe),
                ..
            }) => pipe.receiving,
            State::Connecting(_) | State::Closed(_) | State::Poisoned => false,
        }
    }

    pub(super) fn is_upgrade_pending(&self) -> bool {
        matches!(self, State::UpgradePending(_))
    }

    pub(super) fn is_idle_for_upgrade(&self) -> bool {
        matches!(self, State::UpgradePending(Pipe { receiving: false, .. }))
    }

    /// Fails an upgrade because plaintext arrived.
    pub(super) fn reject_plaintext(self, actions: &mut Actions) -> State {
        match self {
            State::UpgradePending(pipe) => pipe.reject_plaintext(actions),
            state @ (State::Connecting(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned) => state,
        }
    }

    /// Returns whether a receive permit of this holder is valid.
    pub(super) fn can_recv_as(&self, holder: Holder) -> bool {
        match self {
            // Readers have to stop; the driver discards incoming data.
            State::HalfClosed(_, Half::Discarding) => holder == Holder::Background,
            State::Handshaking(_)
            | State::Open(_)
            | State::HalfClosed(_, Half::ReadOnly)
            | State::Closed(Closed::Ended {
                read_end: ReadEnd::Undrained(_) | ReadEnd::Buffered(_),
                ..
            }) => true,
            State::Connecting(_)
            | State::UpgradePending(_)
            | State::HalfClosed(_, Half::WriteOnly | Half::Finishing(_))
            | State::Closed(_)
            | State::Poisoned => false,
        }
    }

    pub(super) fn can_send(&self) -> bool {
        match self {
            State::Open(_)
            | State::HalfClosed(_, Half::WriteOnly | Half::Discarding | Half::Finishing(_)) => true,
            State::Connecting(_)
            | State::Handshaking(_)
            | State::UpgradePending(_)
            | State::HalfClosed(_, Half::ReadOnly)
            | State::Closed(_)
            | State::Poisoned => false,
        }
    }

    /// Returns whether this side has not sent FIN.
    pub(super) fn is_write_open(&self) -> bool {
        match self {
            State::Handshaking(_) | State::UpgradePending(_) => true,
            State::HalfClosed(pipe, Half::ReadOnly) => pipe.has_unsent_or_permit(),
            State::Connecting(_)
            | State::Open(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned => self.can_send(),
        }
    }

    // ------------------------------------------------------------- queries

    pub(super) fn next_timer(&self) -> Option<(Instant, TimerKind)> {
        match self {
            State::Connecting(connecting) => connecting.next_timer(),
            State::Handshaking(handshaking) => handshaking.next_timer(),
            State::HalfClosed(_, Half::Finishing(at)) => Some((*at, TimerKind::Close)),
            State::Closed(Closed::Flushing(flushing)) => Some((flushing.timer, TimerKind::Close)),
            State::Open(_)
            | State::UpgradePending(_)
            | State::HalfClosed(_, Half::ReadOnly | Half::WriteOnly | Half::Discarding)
            | State::Closed(
                Closed::Ended { .. }
                | Closed::Upgraded
                | Closed::Detached
                | Closed::ConnectFailed(_),
            )
            | State::Poisoned => None,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self {
            State::Connecting(_) => Phase::Connecting,
            State::Handshaking(handshaking) => handshaking.phase(),
            State::Open(_) | State::UpgradePending(_) => Phase::Open,
            // A close that still flushes is not settled.
            State::HalfClosed(..) | State::Closed(Closed::Flushing(_)) => Phase::HalfClosed,
            State::Closed(
                Closed::Ended { .. }
                | Closed::Upgraded
                | Closed::Detached
                | Closed::ConnectFailed(_),
            )
            | State::Poisoned => Phase::Closed,
        }
    }

    pub(super) fn opened(&self) -> Option<Result<(), Fault>> {
        match self {
            State::Connecting(_) | State::Handshaking(_) => None,
            State::Open(_)
            | State::UpgradePending(_)
            | State::HalfClosed(..)
            | State::Closed(
                Closed::Flushing(_) | Closed::Ended { .. } | Closed::Upgraded | Closed::Detached,
            ) => Some(Ok(())),
            State::Closed(Closed::ConnectFailed(failed)) => Some(Err(failed.fault)),
            State::Poisoned => Some(Err(Fault::Internal)),
        }
    }

    pub(super) fn outcome(&self) -> Option<Result<(), Fault>> {
        match self {
            State::Connecting(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(_)
            | State::HalfClosed(..)
            | State::Closed(Closed::Flushing(_)) => None,
            State::Closed(Closed::Ended { outcome, .. }) => Some(*outcome),
            State::Closed(Closed::Upgraded | Closed::Detached) => Some(Ok(())),
            State::Closed(Closed::ConnectFailed(failed)) => Some(failed.outcome),
            State::Poisoned => Some(Err(Fault::Internal)),
        }
    }

    pub(super) fn background(&self) -> Background {
        match self {
            State::Handshaking(_) => Background::Ingest,
            State::Open(pipe) | State::HalfClosed(pipe, Half::ReadOnly) => match &pipe.tls {
                Some(tls) if tls.has_unread() => Background::WatchErrors,
                Some(_) | None => Background::WatchEof,
            },
            State::HalfClosed(_, Half::WriteOnly | Half::Finishing(_)) => Background::WatchErrors,
            State::HalfClosed(pipe, Half::Discarding) if !pipe.receiving => match &pipe.tls {
                Some(_) => Background::Ingest,
                None => Background::Discard,
            },
            State::Connecting(_)
            | State::UpgradePending(_)
            | State::HalfClosed(_, Half::Discarding)
            | State::Closed(_)
            | State::Poisoned => Background::Nothing,
        }
    }

    /// Returns the current step of connecting or closing, or the one that failed.
    pub(super) fn step(&self) -> Option<Step> {
        match self {
            State::Connecting(connecting) => connecting.step(),
            State::Handshaking(_) => Some(Step::Handshake),
            State::HalfClosed(_, Half::Finishing(_)) | State::Closed(Closed::Flushing(_)) => {
                Some(Step::Close)
            }
            State::Closed(Closed::ConnectFailed(failed)) => failed.step,
            State::Open(_)
            | State::UpgradePending(_)
            | State::HalfClosed(_, Half::ReadOnly | Half::WriteOnly | Half::Discarding)
            | State::Closed(Closed::Ended { .. } | Closed::Upgraded | Closed::Detached)
            | State::Poisoned => None,
        }
    }

    /// Returns the data of a failed connect.
    fn connect_failed(&self) -> Option<&ConnectFailed> {
        match self {
            State::Closed(Closed::ConnectFailed(failed)) => Some(failed),
            State::Connecting(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned => None,
        }
    }

    pub(super) fn timings(&self) -> Option<Timings> {
        self.connect_failed().map(|failed| failed.timings)
    }

    pub(super) fn is_attempt_pending(&self, id: AttemptId) -> bool {
        matches!(self, State::Connecting(connecting) if connecting.is_attempt_pending(id))
    }

    pub(super) fn attempts(&self) -> &[FailedAttempt] {
        self.connect_failed().map_or(&[], |failed| &failed.attempts)
    }
}

/// Ends the connection after both directions ended cleanly.
fn end(pipe: Pipe, ended_by: EndedBy, release: Release, actions: &mut Actions) -> State {
    actions.release_wire(release);
    actions.wake_all_at_end();
    State::Closed(ended(pipe, ReadEnd::Eof(ended_by), Ok(())))
}

fn abort(pipe: Pipe, actions: &mut Actions) -> State {
    actions.release_wire(Release::Reset);
    actions.wake_all_at_end();
    State::Closed(ended(pipe, ReadEnd::Fail(Fault::Aborted), Err(Fault::Aborted)))
}

/// Creates the final state of a connection, and drops its session.
fn ended(pipe: Pipe, read_end: ReadEnd, outcome: Result<(), Fault>) -> Closed {
    let summary = pipe.tls.map(|tls| Box::new(tls.into_summary()));
    Closed::Ended { read_end, outcome, summary }
}
