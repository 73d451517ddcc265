//! Finds the TLS session of a state, or the summary that an ended session left.

use super::super::RecvPermit;
use super::super::io_step::Holder;
use super::super::tls::{Discarded, Session, Summary};
use super::{Closed, Half, Preamble, ReadEnd, State};
use crate::info::Negotiated;
use crate::tls::Failure;

impl State {
    /// Returns the session that is still in use, if any.
    pub(in super::super) fn tls(&self) -> Option<&Session> {
        self.pipe()?.tls.as_deref()
    }

    pub(in super::super) fn tls_mut(&mut self) -> Option<&mut Session> {
        self.pipe_mut()?.tls.as_deref_mut()
    }

    fn summary(&self) -> Option<&Summary> {
        match self {
            State::Closed(Closed::Ended { summary, .. }) => summary.as_deref(),
            State::Closed(Closed::ConnectFailed(failed)) => failed.summary.as_deref(),
            State::Connecting(_)
            | State::Preamble(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(..)
            | State::HalfClosed(..)
            | State::Closed(Closed::Flushing(_) | Closed::Upgraded | Closed::Detached)
            | State::Poisoned => None,
        }
    }

    pub(in super::super) fn negotiated(&self) -> Option<Negotiated> {
        match self.tls() {
            Some(tls) => tls.negotiated(),
            None => self.summary()?.negotiated.clone(),
        }
    }

    /// Returns whether it is TLS with a proxy that failed.
    pub(in super::super) fn failed_with_proxy(&self) -> bool {
        match self.tls() {
            Some(tls) => tls.failed_with_proxy(),
            None => self.summary().is_some_and(|summary| summary.failed_with_proxy),
        }
    }

    /// Takes the session with a proxy out of a connection that is about to be upgraded.
    pub(in super::super) fn take_proxy_session(&mut self) -> Option<Box<Session>> {
        match self {
            State::UpgradePending(pipe, _) => pipe.tls.take(),
            State::Connecting(_)
            | State::Preamble(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned => None,
        }
    }

    pub(in super::super) fn hello_was_unanswered(&self) -> bool {
        self.summary().is_some_and(|summary| summary.is_unanswered)
    }

    pub(in super::super) fn failure(&self) -> Option<&Failure> {
        match self.tls() {
            Some(tls) => tls.failure(),
            None => self.summary()?.failure.as_ref(),
        }
    }

    /// Takes the last records to send.
    pub(in super::super) fn take_final_records(&mut self) -> Vec<u8> {
        match self {
            State::Closed(Closed::Ended {
                read_end: ReadEnd::Undrained(pipe) | ReadEnd::Buffered(pipe),
                ..
            }) => pipe.tls.as_mut().map(|tls| tls.take_final_records()).unwrap_or_default(),
            State::Closed(Closed::Ended { summary: Some(summary), .. }) => {
                std::mem::take(&mut summary.final_records)
            }
            State::Closed(Closed::ConnectFailed(failed)) => failed
                .summary
                .as_mut()
                .map(|summary| std::mem::take(&mut summary.final_records))
                .unwrap_or_default(),
            State::Connecting(connecting) => connecting
                .ended_mut()
                .map(|summary| std::mem::take(&mut summary.final_records))
                .unwrap_or_default(),
            State::Preamble(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(..)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned => Vec::new(),
        }
    }

    /// Returns whether it holds objects that may run the program's code when they are dropped.
    pub(in super::super) fn has_discarded(&self) -> bool {
        let setup = match self {
            State::Connecting(connecting) => connecting.runs_foreign_code(),
            State::Preamble(preamble) => preamble.runs_foreign_code(),
            State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(..)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned => false,
        };
        setup || self.summary().is_some_and(|summary| summary.discarded.is_some())
    }

    /// Takes the objects that may run the program's code when they are dropped.
    pub(in super::super) fn take_discarded(&mut self) -> Option<Discarded> {
        match self {
            State::Closed(Closed::Ended { summary: Some(summary), .. }) => summary.discarded.take(),
            State::Closed(Closed::ConnectFailed(failed)) => {
                failed.summary.as_mut()?.discarded.take()
            }
            State::Connecting(connecting) => connecting.ended_mut()?.discarded.take(),
            State::Preamble(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(..)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned => None,
        }
    }

    /// Returns a permit to receive while no caller reads. Returns `None` if the session needs no data, or if a permit
    /// is in use.
    pub(in super::super) fn begin_background_recv(&mut self) -> Option<RecvPermit> {
        let pipe = match self {
            State::Preamble(preamble) => return preamble.begin_recv(),
            State::Handshaking(handshaking) => handshaking.pipe_mut(),
            State::Open(pipe) | State::HalfClosed(pipe, Half::ReadOnly | Half::Discarding) => pipe,
            State::Closed(Closed::Ended {
                read_end: ReadEnd::Undrained(pipe) | ReadEnd::Buffered(pipe),
                ..
            }) => pipe,
            // What is unread has to be known before an upgrade.
            State::UpgradePending(pipe, _) => pipe,
            State::Connecting(_) | State::HalfClosed(..) | State::Closed(_) | State::Poisoned => {
                return None;
            }
        };
        let tls = pipe.tls.as_mut()?;
        if pipe.receiving || tls.has_unread() || !tls.can_read_tls() || tls.defers_recv() {
            return None;
        }
        pipe.receiving = true;
        Some(RecvPermit(Holder::Background))
    }

    pub(in super::super) fn preamble_mut(&mut self) -> Option<&mut Preamble> {
        match self {
            State::Preamble(preamble) => Some(preamble),
            State::Connecting(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(..)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned => None,
        }
    }

    pub(in super::super) fn preamble(&self) -> Option<&Preamble> {
        match self {
            State::Preamble(preamble) => Some(preamble),
            State::Connecting(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(..)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned => None,
        }
    }
}
