//! Where the TLS session of a state is, what is left of one that is over, and who may feed it.

use super::super::RecvPass;
use super::super::flow::Holder;
use super::super::tls::{Discarded, Remains, Session};
use super::{Closed, Half, Reads, State};
use crate::info::Agreed;
use crate::tls::Failure;

impl State {
    /// The session, where there is one and something is wanted of it.
    pub(in super::super) fn tls(&self) -> Option<&Session> {
        match self {
            State::Securing(securing) => securing.pipe().tls.as_deref(),
            State::Open(pipe) | State::HalfClosed(pipe, _) => pipe.tls.as_deref(),
            State::Closed(Closed::Ended {
                reads: Reads::Residue(pipe) | Reads::Decrypted(pipe),
                ..
            }) => pipe.tls.as_deref(),
            State::Closed(Closed::Draining(draining)) => draining.pipe.tls.as_deref(),
            State::Connecting(_)
            | State::Yielding(_)
            | State::Closed(Closed::Ended { .. } | Closed::Upgraded | Closed::Never(_))
            | State::Poisoned => None,
        }
    }

    pub(in super::super) fn tls_mut(&mut self) -> Option<&mut Session> {
        match self {
            State::Securing(securing) => securing.pipe_mut().tls.as_deref_mut(),
            State::Open(pipe) | State::HalfClosed(pipe, _) => pipe.tls.as_deref_mut(),
            State::Closed(Closed::Ended {
                reads: Reads::Residue(pipe) | Reads::Decrypted(pipe),
                ..
            }) => pipe.tls.as_deref_mut(),
            State::Closed(Closed::Draining(draining)) => draining.pipe.tls.as_deref_mut(),
            State::Connecting(_)
            | State::Yielding(_)
            | State::Closed(Closed::Ended { .. } | Closed::Upgraded | Closed::Never(_))
            | State::Poisoned => None,
        }
    }

    fn remains(&self) -> Option<&Remains> {
        match self {
            State::Closed(Closed::Ended { remains, .. }) => remains.as_deref(),
            State::Closed(Closed::Never(never)) => never.remains.as_deref(),
            State::Connecting(_)
            | State::Securing(_)
            | State::Open(_)
            | State::Yielding(_)
            | State::HalfClosed(..)
            | State::Closed(Closed::Draining(_) | Closed::Upgraded)
            | State::Poisoned => None,
        }
    }

    pub(in super::super) fn agreed(&self) -> Option<Agreed> {
        match self.tls() {
            Some(tls) => tls.agreed(),
            None => self.remains()?.agreed.clone(),
        }
    }

    pub(in super::super) fn failure(&self) -> Option<&Failure> {
        match self.tls() {
            Some(tls) => tls.failure(),
            None => self.remains()?.failure.as_ref(),
        }
    }

    /// What is to be sent at the very end, once.
    pub(in super::super) fn take_farewell(&mut self) -> Vec<u8> {
        match self {
            State::Closed(Closed::Ended {
                reads: Reads::Residue(pipe) | Reads::Decrypted(pipe),
                ..
            }) => pipe.tls.as_mut().map(|tls| tls.take_farewell()).unwrap_or_default(),
            State::Closed(Closed::Ended { remains: Some(remains), .. }) => {
                std::mem::take(&mut remains.farewell)
            }
            State::Closed(Closed::Never(never)) => never
                .remains
                .as_mut()
                .map(|remains| std::mem::take(&mut remains.farewell))
                .unwrap_or_default(),
            State::Connecting(_)
            | State::Securing(_)
            | State::Open(_)
            | State::Yielding(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned => Vec::new(),
        }
    }

    /// Whether there is something whose drop may run foreign code.
    pub(in super::super) fn has_discarded(&self) -> bool {
        let setup = match self {
            State::Connecting(connecting) => connecting.runs_foreign_code(),
            State::Securing(_)
            | State::Open(_)
            | State::Yielding(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned => false,
        };
        setup || self.remains().is_some_and(|remains| remains.discarded.is_some())
    }

    /// What may run foreign code when it is dropped, once.
    pub(in super::super) fn take_discarded(&mut self) -> Option<Discarded> {
        match self {
            State::Closed(Closed::Ended { remains: Some(remains), .. }) => remains.discarded.take(),
            State::Closed(Closed::Never(never)) => never.remains.as_mut()?.discarded.take(),
            State::Connecting(_)
            | State::Securing(_)
            | State::Open(_)
            | State::Yielding(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned => None,
        }
    }

    /// Leave to receive for who does it while no reader does: `None` where nothing is wanted, or a
    /// reader is at it.
    pub(in super::super) fn attend(&mut self) -> Option<RecvPass> {
        let pipe = match self {
            State::Securing(securing) => securing.pipe_mut(),
            State::Open(pipe) | State::HalfClosed(pipe, Half::ReadOnly | Half::Discarding) => pipe,
            State::Closed(Closed::Ended {
                reads: Reads::Residue(pipe) | Reads::Decrypted(pipe),
                ..
            }) => pipe,
            State::Connecting(_)
            | State::Yielding(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned => return None,
        };
        let tls = pipe.tls.as_mut()?;
        if pipe.receiving || tls.has_unread() || !tls.is_fed() || tls.puts_off() {
            return None;
        }
        pipe.receiving = true;
        Some(RecvPass(Holder::Attendant))
    }
}
