//! The answers of each state to the machine's queries.

use std::net::SocketAddr;
use std::time::Instant;

use super::super::actions::AttemptId;
use super::super::input::{Background, UpgradeError};
use super::{Closed, ConnectFailed, Half, ProxyPart, ReadEnd, State};
use crate::error::{FailedAttempt, Fault, Step, TimerKind};
use crate::info::{Phase, Timings};

impl State {
    /// Returns the fault of a read that begins now, if it would fail.
    pub(in super::super) fn read_error(&self) -> Option<Fault> {
        match self {
            State::Connecting(_)
            | State::Preamble(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(..)
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
    pub(in super::super) fn write_error(&self) -> Option<Fault> {
        match self {
            State::Connecting(_)
            | State::Preamble(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(..)
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
    pub(in super::super) fn upgrade_error(&self) -> Option<UpgradeError> {
        match self {
            State::Connecting(connecting) => connecting.upgrade_error(),
            State::Preamble(preamble) => preamble.upgrade_error(),
            State::Open(pipe) if pipe.is_plaintext() => None,
            State::Handshaking(_) | State::Open(_) => Some(UpgradeError::AlreadyTls),
            State::UpgradePending(..) if planted!(UpgradesTwice) => None,
            State::UpgradePending(..) => Some(UpgradeError::Upgraded),
            State::HalfClosed(_, Half::ReadOnly) => Some(UpgradeError::HalfClosed),
            State::HalfClosed(_, Half::Discarding) => Some(UpgradeError::ReadCancelled),
            State::HalfClosed(_, Half::WriteOnly | Half::Finishing(_)) => {
                Some(UpgradeError::PeerEnded)
            }
            State::Closed(closed) => Some(closed.upgrade_error()),
            State::Poisoned => Some(UpgradeError::Failed(Fault::Internal)),
        }
    }

    pub(in super::super) fn is_upgrade_pending(&self) -> bool {
        matches!(self, State::UpgradePending(..))
    }

    pub(in super::super) fn is_idle_for_upgrade(&self) -> bool {
        match self {
            State::UpgradePending(pipe, _) => {
                let sends = pipe.tls.as_ref().is_some_and(|tls| tls.transmit_in_flight());
                !pipe.receiving && !sends
            }
            _ => false,
        }
    }

    pub(in super::super) fn next_timer(&self) -> Option<(Instant, TimerKind)> {
        match self {
            State::Connecting(connecting) => connecting.next_timer(),
            State::Preamble(preamble) => preamble.next_timer(),
            State::Handshaking(handshaking) => handshaking.next_timer(),
            State::HalfClosed(_, Half::Finishing(at)) => Some((*at, TimerKind::Close)),
            State::Closed(Closed::Flushing(flushing)) => Some((flushing.timer, TimerKind::Close)),
            State::Open(_)
            | State::UpgradePending(..)
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

    pub(in super::super) fn phase(&self) -> Phase {
        match self {
            State::Connecting(_) | State::Preamble(_) => Phase::Connecting,
            State::Handshaking(handshaking) => handshaking.phase(),
            State::Open(_) | State::UpgradePending(..) => Phase::Open,
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

    pub(in super::super) fn opened(&self) -> Option<Result<(), Fault>> {
        match self {
            State::Connecting(_) | State::Preamble(_) | State::Handshaking(_) => None,
            State::Open(_)
            | State::UpgradePending(..)
            | State::HalfClosed(..)
            | State::Closed(
                Closed::Flushing(_) | Closed::Ended { .. } | Closed::Upgraded | Closed::Detached,
            ) => Some(Ok(())),
            State::Closed(Closed::ConnectFailed(failed)) => Some(Err(failed.fault)),
            State::Poisoned => Some(Err(Fault::Internal)),
        }
    }

    pub(in super::super) fn outcome(&self) -> Option<Result<(), Fault>> {
        match self {
            State::Connecting(_)
            | State::Preamble(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(..)
            | State::HalfClosed(..)
            | State::Closed(Closed::Flushing(_)) => None,
            State::Closed(Closed::Ended { outcome, .. }) => Some(*outcome),
            State::Closed(Closed::Upgraded | Closed::Detached) => Some(Ok(())),
            State::Closed(Closed::ConnectFailed(failed)) => Some(failed.outcome),
            State::Poisoned => Some(Err(Fault::Internal)),
        }
    }

    pub(in super::super) fn background(&self) -> Background {
        match self {
            State::Preamble(preamble) if preamble.is_tls() => Background::Ingest,
            State::Preamble(_) => Background::Preamble,
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
            | State::UpgradePending(..)
            | State::HalfClosed(_, Half::Discarding)
            | State::Closed(_)
            | State::Poisoned => Background::Nothing,
        }
    }

    /// Returns the current step of connecting or closing, or the one that failed.
    pub(in super::super) fn step(&self) -> Option<Step> {
        match self {
            State::Connecting(connecting) => connecting.step(),
            State::Preamble(_) => Some(Step::Proxy),
            State::Handshaking(_) => Some(Step::Handshake),
            State::HalfClosed(_, Half::Finishing(_)) | State::Closed(Closed::Flushing(_)) => {
                Some(Step::Close)
            }
            State::Closed(Closed::ConnectFailed(failed)) => failed.step,
            State::Open(_)
            | State::UpgradePending(..)
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
            | State::Preamble(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(..)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned => None,
        }
    }

    pub(in super::super) fn timings(&self) -> Option<Timings> {
        self.connect_failed().map(|failed| failed.timings)
    }

    pub(in super::super) fn is_attempt_pending(&self, id: AttemptId) -> bool {
        matches!(self, State::Connecting(connecting) if connecting.is_attempt_pending(id))
    }

    pub(in super::super) fn attempts(&self) -> &[FailedAttempt] {
        self.connect_failed().map_or(&[], |failed| &failed.attempts)
    }

    /// Returns whether the lookup in progress is that of the target behind a proxy.
    pub(in super::super) fn resolves_target(&self) -> bool {
        matches!(self, State::Connecting(connecting) if connecting.resolves_target())
    }

    /// Returns the address that a proxy is to get.
    pub(in super::super) fn destination(&self) -> Option<SocketAddr> {
        match self {
            State::Connecting(connecting) => connecting.destination(),
            _ => None,
        }
    }

    pub(in super::super) fn is_proxy_unreachable(&self) -> bool {
        let failed = self.connect_failed();
        failed.is_some_and(|failed| matches!(failed.proxy, ProxyPart::Unreachable))
    }

    pub(in super::super) fn proxy_answer(&self) -> Option<&str> {
        match &self.connect_failed()?.proxy {
            ProxyPart::Answered(words) => Some(words),
            ProxyPart::None | ProxyPart::Unreachable => None,
        }
    }
}
