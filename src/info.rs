//! Types that describe a socket: its phase, health, addresses, timings and byte counts.

use std::net::SocketAddr;
use std::time::Duration;

use crate::address::SocketAddress;
use crate::error::{Error, Fault};
use crate::tls::TlsInfo;
use crate::unix::SharedPeer;
#[cfg(unix)]
use crate::unix::{PeerCredentials, UnixAddress};

pub use crate::timings::Timings;

/// Phase of a socket. It only advances, in the order below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Lookup, connection attempts, or the handshake of a socket that was opened with
    /// [`SecureTransport::On`](crate::SecureTransport::On). Includes the wait for a slot at the limit.
    Connecting,
    /// The handshake after [`Socket::start_tls`](crate::Socket::start_tls). The socket that it returns starts in this
    /// phase.
    Upgrading,
    /// Both directions are open.
    Open,
    /// Exactly one direction has ended: the peer's end was delivered, or the program called
    /// [`Reader::cancel`](crate::Reader::cancel) or [`Writer::close`](crate::Writer::close).
    HalfClosed,
    /// [`Socket::closed`](crate::Socket::closed) has settled. After a reset, earlier bytes may still be readable.
    /// Also the old socket after an upgrade.
    Closed,
}

/// Result of [`Socket::health`](crate::Socket::health).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Health {
    /// Connecting, in a TLS handshake, or about to be upgraded.
    Opening,
    /// Open in both directions with nothing unread, as a pooled connection should be.
    Idle,
    /// Bytes from the peer are unread. In a pool, these are an unsolicited reply, or the unread rest of one. The peer
    /// may have ended after them.
    Unread,
    /// At least one direction has ended without a failure. Either the peer has ended with nothing unread, or this
    /// side closed, half-closed, cancelled reading or upgraded.
    Ended,
    /// The socket failed with the error that [`Socket::closed`](crate::Socket::closed) returns. Examples are a reset,
    /// an end without close_notify, and [`Closed`](crate::ErrorKind::Closed) after an abort.
    Failed(Error),
}

impl Health {
    /// Returns whether this is [`Idle`](Self::Idle).
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self, Health::Idle)
    }
}

/// Details of an established connection.
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
    proxy: Option<SocketAddr>,
    #[cfg_attr(not(unix), allow(dead_code, reason = "only Unix systems have such sockets"))]
    unix: SharedPeer,
    timings: Timings,
    negotiated: Option<Negotiated>,
}

/// Result of a handshake.
#[derive(Clone, Debug)]
pub(crate) struct Negotiated {
    pub(crate) tls: TlsInfo,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) server_name: Option<Box<str>>,
    pub(crate) handshake: Duration,
}

impl SocketInfo {
    pub(crate) fn new(
        requested: SocketAddress,
        (endpoints, proxy, unix): (Endpoints, Option<SocketAddr>, SharedPeer),
        timings: Timings,
        negotiated: Option<Negotiated>,
    ) -> Self {
        SocketInfo { requested, endpoints, proxy, unix, timings, negotiated }
    }

    /// Returns the peer's numeric address. For an accepted socket, that of the client that a
    /// [PROXY header](crate::ListenOptions::proxy_protocol_from) names. `None` behind a proxy that was dialled, which does
    /// not reveal it, for a Unix-domain socket, and for a connection that had ended before it was
    /// [adopted](crate::Connector::adopt), because the kernel no longer knows it.
    #[must_use]
    #[doc(alias("remoteAddress", "peer_addr", "RemoteAddr"))]
    pub fn remote_address(&self) -> Option<SocketAddr> {
        self.endpoints.remote
    }

    /// Returns the numeric address of the proxy that was dialled, or that sent a
    /// [PROXY header](crate::ListenOptions::proxy_protocol_from). `None` for a direct connection.
    #[must_use]
    pub fn proxy_address(&self) -> Option<SocketAddr> {
        self.proxy
    }

    /// Returns this end's numeric address. `None` if the kernel did not report it, and for a Unix-domain socket.
    #[must_use]
    #[doc(alias("localAddress", "local_addr", "LocalAddr"))]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.endpoints.local
    }

    /// Returns the requested address, with its host as it was written. For a socket that was not dialled, it is the peer's;
    /// if a PROXY header came, the proxy's.
    #[must_use]
    pub fn requested(&self) -> &SocketAddress {
        &self.requested
    }

    /// Returns the address of the peer of a Unix-domain socket, as the kernel reported it when the connection was made.
    /// `None` if the peer is not bound, as most clients are not, and for TCP.
    #[cfg(unix)]
    #[must_use]
    #[doc(alias("peer_addr"))]
    pub fn unix_address(&self) -> Option<UnixAddress> {
        self.unix.as_ref()?.address.clone()
    }

    /// Returns the credentials of the process at the other end of a Unix-domain socket when the connection was made
    /// (`SO_PEERCRED`, `LOCAL_PEERCRED`). For a client, that is the process that called listen(2). `None` for TCP, and on
    /// illumos and Solaris.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use sockeye::{ListenOptions, SocketOptions, UnixAddress};
    ///
    /// # let name = format!("sockeye-doc-{}", std::process::id());
    /// let address = UnixAddress::from_abstract_name(name)?;
    /// let listener = sockeye::listen_unix(address.clone(), ListenOptions::new())?;
    /// let client = sockeye::connect_unix(address, SocketOptions::new())?;
    /// let server = client.opened()?.peer_credentials().unwrap();
    /// assert_eq!(server.pid, Some(std::process::id() as i32));
    /// # }
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    #[cfg(unix)]
    #[must_use]
    #[doc(alias("SO_PEERCRED", "LOCAL_PEERCRED", "getpeereid", "peer_cred", "ucred"))]
    pub fn peer_credentials(&self) -> Option<PeerCredentials> {
        self.unix.as_ref()?.credentials
    }

    /// Returns the protocol negotiated by ALPN (RFC 7301). `None` in plaintext, if none was offered, or if the peer
    /// chose none.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.negotiated.as_ref()?.alpn.as_deref()
    }

    /// Returns the server name that the client asked for (SNI; RFC 6066, section 3), in lower case and without a
    /// trailing dot. `None` on the client side, in plaintext, and if the client sent no name, as it does for an IP
    /// address.
    #[must_use]
    #[doc(alias("SNI", "servername", "ServerName"))]
    pub fn server_name(&self) -> Option<&str> {
        self.negotiated.as_ref()?.server_name.as_deref()
    }

    /// Returns version, cipher suite, certificates and resumption of TLS with the peer. `None` in plaintext. TLS with an
    /// [`https` proxy](crate::Proxy::https) does not count.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsInfo> {
        Some(&self.negotiated.as_ref()?.tls)
    }

    /// Returns the channel binding `tls-server-end-point` (RFC 5929, section 4), which SCRAM-SHA-256-PLUS uses. It is
    /// the hash of the server's certificate, computed with the hash function of the certificate's signature. SHA-256
    /// replaces MD5 and SHA-1.
    ///
    /// Returns `None`:
    /// - in plaintext;
    /// - if the RFC defines no binding, because the signature uses no hash function of its own, such as Ed25519, or
    ///   two;
    /// - if the cryptography provider lacks the hash function: SHA-224 always, and SHA-512 without the
    ///   [features](crate#features) `aws-lc-rs` and `ring`.
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

    /// Returns how long lookup, connection, dialogue with a proxy and handshake took.
    #[must_use]
    pub fn timings(&self) -> Timings {
        let handshake =
            self.negotiated.as_ref().map_or(Duration::ZERO, |negotiated| negotiated.handshake);
        Timings { handshake, ..self.timings }
    }
}

/// Bytes of application data, counted as they are accepted and delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes that reads delivered.
    pub bytes_read: u64,
    /// Bytes that writes accepted.
    pub bytes_written: u64,
}

/// Counts of the sockets of a [`Connector`](crate::Connector), returned by
/// [`Connector::stats`](crate::Connector::stats). An upgraded connection counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectorStats {
    /// Connections that were established since the connector was built. With TLS from the start, the handshake has
    /// succeeded too.
    pub opened: u64,
    /// Connections that could not be established. Excludes those that this side closed first.
    pub failed: u64,
    /// Connections that the egress rules denied by host, port or address; and those of a listener that shares the
    /// connector whose PROXY header named a client that the ingress rules deny.
    pub denied: u64,
    /// Connects that failed with [`Limit`](crate::ErrorKind::Limit).
    pub over_limit: u64,
    /// Sockets that are connecting, open or closing now, as in
    /// [`Connector::open_sockets`](crate::Connector::open_sockets).
    pub open: usize,
    /// Sockets that wait for a slot now.
    pub waiting: usize,
    /// Bytes of application data that reads delivered, including the live sockets. Excludes bytes that were read from
    /// a socket after it failed.
    pub bytes_read: u64,
    /// Bytes of application data that writes accepted.
    pub bytes_written: u64,
}

/// Counts of a listener, returned by [`Listener::stats`](crate::Listener::stats): totals since it began, and current
/// numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerStats {
    /// Connections taken from the system. One that cannot become a socket, because of invalid TLS settings or a shutdown,
    /// is counted only here.
    pub accepted: u64,
    /// Connections that opened. With TLS from the start, the handshake has succeeded too.
    pub opened: u64,
    /// Connections that failed before they opened: in the PROXY header or the TLS handshake, by the handshake timeout, or to make room at
    /// [`max_pending`](crate::ListenOptions::max_pending).
    pub failed: u64,
    /// Connections that the [ingress rules](crate::IngressRules) denied.
    pub denied: u64,
    /// Connections that were reset at `max_open_sockets`.
    pub over_limit: u64,
    /// Connections that were gone before they could be taken, as far as the system reports it.
    pub lost: u64,
    /// Times that a connection could not be taken for lack of a descriptor or memory, or could not be watched.
    pub starved: u64,
    /// Connections that are opening now, returned by `accept` or not, and those that are open and wait for an `accept`.
    pub pending: usize,
    /// Sockets that are open, opening or closing now.
    pub open: usize,
    /// Bytes of application data that reads delivered.
    pub bytes_read: u64,
    /// Bytes of application data that writes accepted.
    pub bytes_written: u64,
}

impl ConnectorStats {
    /// Adds the counts of a connection, or of one of its two sockets if it is upgraded.
    pub(crate) fn add_socket(&mut self, opened: Option<Result<(), Fault>>, bytes: Stats) {
        match opened {
            Some(Ok(())) => self.opened += 1,
            Some(Err(Fault::Closed | Fault::Aborted)) | None => {}
            Some(Err(fault)) if fault.is_denial() => self.denied += 1,
            Some(Err(_)) => self.failed += 1,
        }
        self.bytes_read += bytes.bytes_read;
        self.bytes_written += bytes.bytes_written;
    }
}

/// Both ends of an established connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoints {
    /// The peer's address; `None` if it is unknown.
    pub remote: Option<SocketAddr>,
    /// This end's address; `None` if the kernel did not report it.
    pub local: Option<SocketAddr>,
}

impl Endpoints {
    /// Creates the endpoints from the peer's address and this end's, as far as they are known.
    #[must_use]
    pub fn new(
        remote: impl Into<Option<SocketAddr>>,
        local: impl Into<Option<SocketAddr>>,
    ) -> Self {
        Endpoints { remote: remote.into(), local: local.into() }
    }
}
