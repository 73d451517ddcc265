//! What a socket tells of itself: where it is in its life, whom it reached, how much passed.

use std::net::SocketAddr;
use std::time::Duration;

use crate::address::SocketAddress;
use crate::error::{Error, Fault};
use crate::tls::TlsInfo;

/// Where a socket is in its life.
///
/// A phase only ever advances, from the first to the last in the order below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Looking up the name, or dialling, or in the TLS handshake of a socket that was opened with
    /// [`SecureTransport::On`](crate::SecureTransport::On).
    Connecting,
    /// In the handshake after [`Socket::start_tls`](crate::Socket::start_tls): the phase in which the
    /// socket begins that it returned.
    Upgrading,
    /// Both directions work.
    Open,
    /// Exactly one direction has ended: the peer's end was delivered, or
    /// [`Reader::cancel`](crate::Reader::cancel), or [`Writer::close`](crate::Writer::close).
    HalfClosed,
    /// [`Socket::closed`](crate::Socket::closed) has settled. After a reset, bytes that came before
    /// it may still be readable. Also a socket that was upgraded: another one has its connection.
    Closed,
}

/// What a look at a socket finds that nobody may be reading: [`Socket::health`](crate::Socket::health).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Health {
    /// Still connecting, or in a TLS handshake, or about to be upgraded.
    Opening,
    /// Open both ways, and nothing is unread: as a connection should be that waits in a pool.
    Idle,
    /// Bytes of the peer wait to be read. In a pool that is an answer which nobody asked for, or the rest of
    /// one that was not read. An end may be behind them.
    Unread,
    /// A direction has ended, or both have, and nothing has failed: the peer has ended with nothing unread before
    /// it, or this side closed or half-closed it, cancelled its reading, or upgraded it.
    Ended,
    /// It failed, by what [`Socket::closed`](crate::Socket::closed) gives: a reset, an end without
    /// close_notify, [`Closed`](crate::ErrorKind::Closed) after an abort.
    Failed(Error),
}

impl Health {
    /// Whether it is [`Idle`](Self::Idle).
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self, Health::Idle)
    }
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
    negotiated: Option<Negotiated>,
}

/// What a handshake led to.
#[derive(Clone, Debug)]
pub(crate) struct Negotiated {
    pub(crate) tls: TlsInfo,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) handshake: Duration,
}

impl SocketInfo {
    pub(crate) fn new(
        requested: SocketAddress,
        endpoints: Endpoints,
        timings: Timings,
        negotiated: Option<Negotiated>,
    ) -> Self {
        SocketInfo { requested, endpoints, timings, negotiated }
    }

    /// The peer's numeric address. `None` for a connection that had ended before it was
    /// [adopted](crate::Connector::adopt): then the system no longer tells.
    #[must_use]
    #[doc(alias("remoteAddress", "peer_addr", "RemoteAddr"))]
    pub fn remote_address(&self) -> Option<SocketAddr> {
        self.endpoints.known_remote()
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

    /// The protocol that ALPN agreed on (RFC 7301). `None` in plaintext, and where none was offered or
    /// the peer chose none.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.negotiated.as_ref()?.alpn.as_deref()
    }

    /// Version, cipher suite, certificates, resumption; `None` in plaintext.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsInfo> {
        Some(&self.negotiated.as_ref()?.tls)
    }

    /// The channel binding `tls-server-end-point` (RFC 5929, section 4), as of SCRAM-SHA-256-PLUS: the hash of
    /// the server's certificate by the hash of the certificate's own signature, and by SHA-256 in place of MD5
    /// and SHA-1.
    ///
    /// `None` in plaintext; where the RFC defines none, for a signature without a hash of its own, such as Ed25519,
    /// or with two; and where the cryptography lacks the hash: that is so for SHA-224, and for SHA-512 with
    /// neither of the [features](crate#features) `aws-lc-rs` and `ring`.
    ///
    /// ```no_run
    /// # fn saslprep(_: &[u8]) {}
    /// # let options = sockeye::SocketOptions::new();
    /// let info = sockeye::connect_with("db.example.com:5432", options)?.start_tls()?.opened()?;
    /// match info.tls_server_end_point() {
    ///     Some(binding) => saslprep(&[b"p=tls-server-end-point,,", &binding[..]].concat()),
    ///     None => saslprep(b"n,,"),
    /// }
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    #[must_use]
    #[doc(alias("channel_binding", "channelBinding"))]
    pub fn tls_server_end_point(&self) -> Option<Vec<u8>> {
        self.tls()?.server_end_point()
    }

    /// How long lookup, connection and handshake took.
    #[must_use]
    pub fn timings(&self) -> Timings {
        let handshake =
            self.negotiated.as_ref().map_or(Duration::ZERO, |negotiated| negotiated.handshake);
        Timings { handshake, ..self.timings }
    }
}

/// How long the steps of connecting took. A step that was not needed took no time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// The name lookup.
    pub resolve: Duration,
    /// The connection attempts, up to and with the one that succeeded.
    pub connect: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
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

/// What became of the sockets of a [`Connector`](crate::Connector) since it was built, and how many there are:
/// [`Connector::stats`](crate::Connector::stats). A connection counts once, also where it is upgraded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectorStats {
    /// Connections that were established, and secured where they are TLS from the start.
    pub opened: u64,
    /// Those that could not be. Not those that this side ended first.
    pub failed: u64,
    /// Refused by the egress rules, whether by the host, the port or the address.
    pub denied: u64,
    /// Refused with [`Limit`](crate::ErrorKind::Limit).
    pub over_limit: u64,
    /// Connecting, open or closing now: [`Connector::open_sockets`](crate::Connector::open_sockets).
    pub open: usize,
    /// Waiting now for a place.
    pub waiting: usize,
    /// Bytes of application data that reads delivered, the sockets that live counted as they are now. Of one that
    /// has failed, not what was read afterwards.
    pub bytes_read: u64,
    /// Bytes of application data that writes accepted.
    pub bytes_written: u64,
}

impl ConnectorStats {
    /// Counts a connection, or a part of its life.
    pub(crate) fn count(&mut self, opened: Option<Result<(), Fault>>, passed: Stats) {
        match opened {
            Some(Ok(())) => self.opened += 1,
            Some(Err(Fault::Closed | Fault::Aborted)) | None => {}
            Some(Err(fault)) if fault.is_denial() => self.denied += 1,
            Some(Err(_)) => self.failed += 1,
        }
        self.bytes_read += passed.bytes_read;
        self.bytes_written += passed.bytes_written;
    }
}

/// Both ends of an established connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The peer's address. One with port 0 is none: the system did not tell.
    pub remote: SocketAddr,
    /// This end's address, where the system told it.
    pub local: Option<SocketAddr>,
}

impl Endpoints {
    /// The peer's address, if the system told it.
    pub(crate) fn known_remote(&self) -> Option<SocketAddr> {
        Some(self.remote).filter(|remote| remote.port() != 0)
    }
}
