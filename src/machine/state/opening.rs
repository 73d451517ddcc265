//! The parts that all states have in common in which a socket opens.

use std::net::SocketAddr;
use std::time::Instant;

use super::super::{Actions, Config, ReadStep, UpgradeError};
use super::routing::Routing;
use super::{Closed, ConnectFailed, Half, Pipe, State};
use crate::tls::TlsSetup;

/// Whether the user will read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadIntent {
    Wanted,
    Cancelled,
}

/// What another connection to a proxy needs, for another address of the target.
#[derive(Debug)]
pub(super) struct ProxyAgain {
    pub(super) routing: Box<Routing>,
    /// The address of the proxy.
    pub(super) proxy: SocketAddr,
    /// The number of attempts before.
    pub(super) next_id: usize,
    pub(super) timer: Option<Instant>,
    pub(super) read_intent: ReadIntent,
    pub(super) setup: Option<TlsSetup>,
}

/// Returns the instant at which connecting fails.
pub(super) fn connect_timer(config: &Config, now: Instant) -> Option<Instant> {
    // A timeout beyond the range of Instant is no limit.
    let timeout = config.connect_timeout.and_then(|limit| now.checked_add(limit));
    timeout.into_iter().chain(config.connect_deadline).min()
}

impl ReadIntent {
    /// Returns why an upgrade cannot begin once the socket is open.
    pub(super) fn upgrade_error(self) -> Option<UpgradeError> {
        match self {
            ReadIntent::Wanted => None,
            ReadIntent::Cancelled => Some(UpgradeError::ReadCancelled),
        }
    }

    /// Returns the step of a read before the socket is open.
    pub(super) fn step(self) -> ReadStep {
        match self {
            ReadIntent::Wanted => ReadStep::Wait,
            ReadIntent::Cancelled => ReadStep::Eof,
        }
    }
}

/// Opens the socket.
pub(super) fn open(pipe: Pipe, read_intent: ReadIntent, actions: &mut Actions) -> State {
    actions.wake.opened = true;
    actions.wake.readable = true;
    actions.wake.writable = true;
    match read_intent {
        ReadIntent::Wanted => State::Open(pipe),
        ReadIntent::Cancelled => {
            actions.drive_recv = true;
            State::HalfClosed(pipe, Half::Discarding)
        }
    }
}

/// Fails before the socket is open.
pub(super) fn announce_connect_failed(failed: ConnectFailed, actions: &mut Actions) -> State {
    actions.wake.opened = true;
    actions.wake_all_at_end();
    State::Closed(Closed::ConnectFailed(Box::new(failed)))
}
