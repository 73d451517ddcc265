//! What a socket tells of itself: where it is in its life, whom it reached, how much passed.

use std::net::SocketAddr;
use std::time::Duration;

use crate::address::SocketAddress;

/// Where a socket is in its life.
///
/// A phase only ever advances, from the first to the last in the order below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Looking up the name, or dialling.
    Connecting,
    /// Both directions work.
    Open,
    /// Exactly one direction has ended: the peer's end was delivered, or
    /// [`Reader::cancel`](crate::Reader::cancel), or [`Writer::close`](crate::Writer::close).
    HalfClosed,
    /// [`Socket::closed`](crate::Socket::closed) has settled. After a reset, bytes that came before
    /// it may still be readable.
    Closed,
}

/// What is known of an established connection.
///
/// ```
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let port = listener.local_addr()?.port();
/// let socket = sockeye::connect(("127.0.0.1", port))?;
/// let info = socket.opened()?;
/// assert_eq!(info.remote_address(), Some(listener.local_addr()?));
/// assert_eq!(info.requested().hostname(), "127.0.0.1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SocketInfo {
    requested: SocketAddress,
    endpoints: Endpoints,
    timings: Timings,
}

impl SocketInfo {
    pub(crate) fn new(requested: SocketAddress, endpoints: Endpoints, timings: Timings) -> Self {
        SocketInfo { requested, endpoints, timings }
    }

    /// The peer's numeric address.
    #[must_use]
    #[doc(alias("remoteAddress", "peer_addr", "RemoteAddr"))]
    pub fn remote_address(&self) -> Option<SocketAddr> {
        Some(self.endpoints.remote)
    }

    /// This end's numeric address. `None` where the system did not tell.
    #[must_use]
    #[doc(alias("localAddress", "local_addr", "LocalAddr"))]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.endpoints.local
    }

    /// The address that was asked for, with its host as it was written.
    #[must_use]
    pub fn requested(&self) -> &SocketAddress {
        &self.requested
    }

    /// How long the look-up and the connection took.
    #[must_use]
    pub fn timings(&self) -> Timings {
        self.timings
    }
}

/// How long the steps of connecting took. A step that was not needed took no time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// The name look-up.
    pub resolve: Duration,
    /// The connection attempts, up to and with the one that succeeded.
    pub connect: Duration,
}

/// Bytes of application data that passed, counted as they are accepted and delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes that reads delivered.
    pub bytes_read: u64,
    /// Bytes that writes accepted.
    pub bytes_written: u64,
}

/// Both ends of an established connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The peer's address.
    pub remote: SocketAddr,
    /// This end's address, where the system told it.
    pub local: Option<SocketAddr>,
}
