//! What the driver reports to a machine, and what the machine says about the wire.

use std::net::SocketAddr;

use super::actions::AttemptId;
use crate::error::Fault;
use crate::info::Endpoints;

/// An event, or a request of the user, that the driver reports to the machine.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// The resolver returned some addresses, best first. More may follow.
    PartialResolved(&'a [SocketAddr]),
    /// The lookup is complete: the remaining addresses, best first, or the reason why it failed.
    Resolved(Result<&'a [SocketAddr], Fault>),
    /// A connection attempt is complete.
    Attempted {
        /// The attempt's identifier from [`Actions::attempt`](super::Actions::attempt).
        id: AttemptId,
        /// Both addresses of the connection, or the reason why the attempt failed. With
        /// [`Target::Unix`](super::Target::Unix) there are none, and [`Fault::Busy`] asks for another attempt at
        /// [`next_timer`](super::Machine::next_timer).
        result: Result<Endpoints, Fault>,
    },
    /// The instant of [`Machine::next_timer`](super::Machine::next_timer) may have passed.
    TimerExpired,
    /// The driver saw the peer's EOF without a permit: while it discarded data, or when it polled the wire before
    /// an upgrade.
    WireEof,
    /// The driver saw a failure of the wire without a permit.
    WireFailed(Fault),
    /// Closes both directions gracefully.
    Close,
    /// Closes both directions at once, with a reset.
    Abort,
    /// Same as [`Abort`](Self::Abort), but has no effect after the write side has ended cleanly.
    AbortWrite,
    /// Closes the write side (half-close). Has no effect while a send permit is in use.
    CloseWrite,
    /// Closes the read side. Further data from the peer is discarded.
    CancelRead,
    /// From now on, the write side stays open after the peer's EOF, as with
    /// [`allow_half_open`](super::Config::allow_half_open). An EOF that was handled before stays handled.
    AllowHalfOpen,
    /// Begins an upgrade to TLS and revokes a receive permit in use. Has no effect if
    /// [`upgrade_error`](super::Machine::upgrade_error) returns an error, or while a send permit is in use.
    StartTls {
        /// Whether bytes that are unread then may be the peer's ClientHello. If not, they end the connection.
        accepts_hello: bool,
    },
    /// Completes the upgrade: no receive permit is in use, and no data of the peer was on the wire. From now on,
    /// the wire belongs to another machine, made by [`Machine::upgraded`](super::Machine::upgraded).
    UpgradeReady,
    /// The driver found data of the peer on the wire before the upgrade. If it may be a ClientHello, and
    /// [`StartTls`](Self::StartTls) accepts one, the upgrade continues.
    UnexpectedPlaintext {
        /// The first byte, which stays on the wire.
        first: u8,
    },
    /// Ends the socket without its connection: from now on, the wire belongs to the program. Has no effect unless the
    /// connection is open in plaintext and no permit is in use.
    Detach,
}

/// The events that the driver monitors the wire for while no caller reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Background {
    /// None.
    Nothing,
    /// Incoming data, to receive and drop it. The driver reports EOF as [`Input::WireEof`], and a failure as
    /// [`Input::WireFailed`].
    Discard,
    /// Incoming data, to [ingest](super::Machine::ingest) it.
    Ingest,
    /// Incoming data, to peek at it: see [`handle_preamble`](super::Machine::handle_preamble).
    Preamble,
    /// Failures only.
    WatchErrors,
    /// Failures, and an EOF with no unread data before it. To check for it, the driver needs a
    /// [`RecvPermit`](super::RecvPermit). Over TLS, the driver [ingests](super::Machine::ingest) incoming data until some
    /// is unread.
    WatchEof,
}

impl Background {
    /// Returns whether the received data drives the socket on until it is open: in a preamble or a handshake.
    pub(crate) fn drives_opening(self) -> bool {
        matches!(self, Background::Preamble | Background::Ingest)
    }
}

/// The reason why a connection can't be upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The connection uses TLS already.
    AlreadyTls,
    /// The connection was upgraded, or an upgrade has begun.
    Upgraded,
    /// The connection was detached.
    Detached,
    /// This side closed its write side.
    HalfClosed,
    /// Reading was cancelled.
    ReadCancelled,
    /// This side closed or aborted the connection.
    Closed,
    /// The peer sent EOF.
    PeerEnded,
    /// The connection failed.
    Failed(Fault),
}
