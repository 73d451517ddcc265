//! The options of one socket, and the checks of their values.

mod accept_when;
mod blocking_receive;
mod secure_transport;
mod tcp;
mod unix;

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::tls::{ServerTlsOptions, TlsOptions};

pub use self::accept_when::AcceptWhen;
pub use self::blocking_receive::BlockingReceive;
pub use self::secure_transport::SecureTransport;
pub(crate) use self::secure_transport::{TlsSide, client_setup};
pub(crate) use self::tcp::check_busy_poll;
pub use self::tcp::{Keepalive, TcpOptions};

/// Default connect timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Default close timeout.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Options of one socket. Each setter takes and returns `self`.
///
/// ```
/// use std::time::Duration;
/// use sockeye::{SocketOptions, TcpOptions};
///
/// let options = SocketOptions::new()
///     .allow_half_open(true)
///     .connect_timeout(Duration::from_secs(3))
///     .tcp(TcpOptions::new().nodelay(false));
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let port = listener.local_addr()?.port();
/// let socket = sockeye::connect_with(("127.0.0.1", port), options)?;
/// # socket.opened()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SocketOptions {
    pub(crate) secure_transport: SecureTransport,
    /// TLS settings; `None` if the user passed none.
    pub(crate) tls: Option<TlsOptions>,
    /// TLS settings of the server role; `None` in the client role.
    pub(crate) server_tls: Option<ServerTlsOptions>,
    /// `None` if the user has not chosen.
    pub(crate) allow_half_open: Option<bool>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) connect_deadline: Option<Instant>,
    pub(crate) close_timeout: Duration,
    pub(crate) read_timeout: Option<Duration>,
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) bypass_proxy: bool,
    pub(crate) tcp: TcpOptions,
}

impl SocketOptions {
    /// Returns the defaults, which [`connect`](crate::connect) uses too.
    #[must_use]
    pub fn new() -> Self {
        SocketOptions {
            secure_transport: SecureTransport::Off,
            tls: None,
            server_tls: None,
            allow_half_open: None,
            connect_timeout: Some(CONNECT_TIMEOUT),
            connect_deadline: None,
            close_timeout: CLOSE_TIMEOUT,
            read_timeout: None,
            write_timeout: None,
            bypass_proxy: false,
            tcp: TcpOptions::new(),
        }
    }

    /// Sets whether the connection is plaintext, TLS from the start, or plaintext that can be upgraded. Default
    /// [`Off`](SecureTransport::Off).
    #[must_use]
    #[doc(alias("secureTransport"))]
    pub fn secure_transport(mut self, mode: SecureTransport) -> Self {
        self.secure_transport = mode;
        self
    }

    /// Sets the TLS settings. [`SecureTransport::On`] uses them at once,
    /// [`Socket::start_tls`](crate::Socket::start_tls) when it is called. Default [`TlsOptions::new`]. With
    /// [`SecureTransport::Off`], [`connect_with`](crate::connect_with) fails with
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    #[must_use]
    pub fn tls(mut self, tls: TlsOptions) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Makes this end the TLS server, with these settings, even if it dialled. [`SecureTransport::On`] uses them at
    /// once, [`Socket::start_tls`](crate::Socket::start_tls) when it is called.
    ///
    /// Accepted and [adopted](crate::Connector::adopt) sockets usually are servers. A dialled socket can be one too
    /// ("call home", RFC 8071). Together with [`tls`](Self::tls), or with [`SecureTransport::Off`],
    /// [`connect_with`](crate::connect_with) fails with [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    ///
    /// ```
    /// # let key = rcgen::KeyPair::generate()?;
    /// # let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])?.self_signed(&key)?;
    /// # let (chain, key) = (certificate.pem(), key.serialize_pem());
    /// # use sockeye::TlsOptions;
    /// use sockeye::{Identity, ListenOptions, SecureTransport, ServerTlsOptions, SocketOptions, listen_with};
    ///
    /// let tls = ServerTlsOptions::new(Identity::from_pem(&chain, &key)?);
    /// let options = SocketOptions::new().secure_transport(SecureTransport::On).server_tls(tls);
    ///
    /// let listener = listen_with("127.0.0.1:0", ListenOptions::new().socket(options))?;
    /// # let address = listener.local_address().unwrap();
    /// # let client = SocketOptions::new()
    /// #     .secure_transport(SecureTransport::On)
    /// #     .tls(TlsOptions::new().add_root_pem(&chain)?.server_name("localhost"));
    /// # let client = sockeye::connect_with(address, client)?;
    /// # let client = std::thread::spawn(move || client.opened().map(|_| client));
    /// let socket = listener.accept()?;
    /// assert_eq!(socket.opened()?.server_name(), Some("localhost"));
    /// # client.join().unwrap()?.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[doc(alias("TLSSocket.isServer", "accept", "SSL_accept"))]
    pub fn server_tls(mut self, tls: ServerTlsOptions) -> Self {
        self.server_tls = Some(tls);
        self
    }

    /// Sets whether the write side stays open after the peer has ended. Default `false`: when the peer has ended and
    /// nothing is unread, the socket flushes and closes its write side, even if no thread reads. Over TLS, session
    /// tickets and other records without application data are not unread data.
    #[must_use]
    #[doc(alias("allowHalfOpen"))]
    pub fn allow_half_open(mut self, allow: bool) -> Self {
        self.allow_half_open = Some(allow);
        self
    }

    /// Sets the TCP settings. Default [`TcpOptions::new`].
    #[must_use]
    pub fn tcp(mut self, tcp: TcpOptions) -> Self {
        self.tcp = tcp;
        self
    }

    /// Bounds name lookup, every connection attempt and the TLS handshake together. An upgrade's handshake gets a
    /// fresh timeout that starts at [`start_tls`](crate::Socket::start_tls). Default 30 s. `None` leaves the limit to
    /// the operating system. If it is zero, [`connect_with`](crate::connect_with) fails with
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    #[must_use]
    pub fn connect_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.connect_timeout = limit.into();
        self
    }

    /// Sets the instant after which connecting fails. It bounds name lookup, connection attempts and TLS handshake
    /// together. The earlier of this and the [`connect_timeout`](Self::connect_timeout) applies. Default none.
    ///
    /// If the instant is in the past, [`opened`](crate::Socket::opened) fails with
    /// [`TimedOut`](crate::ErrorKind::TimedOut) before anything is looked up or sent. The deadline does not apply to
    /// the handshake of an upgrade, which has only its `connect_timeout`.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use sockeye::SocketOptions;
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let (first, second) = (listener.local_addr()?, listener.local_addr()?);
    /// // The second connection gets only the time that the first one left.
    /// let options = SocketOptions::new().connect_deadline(Instant::now() + Duration::from_secs(5));
    /// sockeye::connect_with(first, options.clone())?.opened()?;
    /// sockeye::connect_with(second, options)?.opened()?;
    ///
    /// let options = SocketOptions::new().connect_deadline(Instant::now());
    /// let error = sockeye::connect_with(first, options)?.opened().unwrap_err();
    /// assert_eq!(error.kind(), sockeye::ErrorKind::TimedOut);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[doc(alias("timeout", "WithDeadline", "Dialer.Deadline"))]
    pub fn connect_deadline(mut self, at: impl Into<Option<Instant>>) -> Self {
        self.connect_deadline = at.into();
        self
    }

    /// Bounds a graceful close. Default 5 s. If it is zero, [`connect_with`](crate::connect_with) fails with
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    #[must_use]
    pub fn close_timeout(mut self, limit: Duration) -> Self {
        self.close_timeout = limit;
        self
    }

    /// Sets the initial value of [`Socket::set_read_timeout`](crate::Socket::set_read_timeout). Default none. If it
    /// is zero, [`connect_with`](crate::connect_with) fails with [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    #[must_use]
    pub fn read_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.read_timeout = limit.into();
        self
    }

    /// Sets the initial value of [`Socket::set_write_timeout`](crate::Socket::set_write_timeout). Default none. If it
    /// is zero, [`connect_with`](crate::connect_with) fails with [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    #[must_use]
    pub fn write_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.write_timeout = limit.into();
        self
    }

    /// Dials directly, ignoring the connector's [proxy rules](crate::ConnectorBuilder::proxy). Default `false`.
    #[must_use]
    pub fn bypass_proxy(mut self, bypass: bool) -> Self {
        self.bypass_proxy = bypass;
        self
    }

    /// Refuses invalid values before anything is sent.
    pub(crate) fn check(&self) -> Result<()> {
        check_limit("connect_timeout", self.connect_timeout)?;
        check_limit("close_timeout", Some(self.close_timeout))?;
        check_limit("read_timeout", self.read_timeout)?;
        check_limit("write_timeout", self.write_timeout)?;
        self.tcp.check()?;
        match (&self.tls, &self.server_tls, self.secure_transport) {
            (None, None, _) => Ok(()),
            (Some(_), Some(_), _) => {
                Err(Error::invalid_options("tls and server_tls are set: a socket has one role"))
            }
            (Some(_), None, SecureTransport::Off) => {
                Err(Error::invalid_options("tls options are set, but secure_transport is off"))
            }
            (None, Some(_), SecureTransport::Off) => Err(Error::invalid_options(
                "server_tls options are set, but secure_transport is off",
            )),
            (Some(tls), None, SecureTransport::On | SecureTransport::StartTls) => tls.check(),
            (None, Some(tls), SecureTransport::On | SecureTransport::StartTls) => tls.check(),
        }
    }

    /// Returns the TLS settings, with those of a client by default.
    pub(crate) fn tls_side(&self) -> TlsSide {
        match (&self.server_tls, &self.tls) {
            (Some(tls), _) => TlsSide::Server(tls.clone()),
            (None, Some(tls)) => TlsSide::Client(tls.clone()),
            (None, None) => TlsSide::Client(TlsOptions::new()),
        }
    }
}

impl Default for SocketOptions {
    fn default() -> Self {
        SocketOptions::new()
    }
}

/// Refuses a limit of zero, which would end every call before it began.
pub(crate) fn check_limit(name: &str, limit: Option<Duration>) -> Result<()> {
    match limit {
        Some(Duration::ZERO) => {
            Err(Error::invalid_options(format!("{name} is zero: no call could succeed")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn invalid_limits_are_refused_by_name() {
        let zero = Duration::ZERO;
        let new = SocketOptions::new;
        check(new().connect_timeout(zero), "connect_timeout");
        check(new().close_timeout(zero), "close_timeout");
        check(new().read_timeout(zero), "read_timeout");
        check(new().write_timeout(zero), "write_timeout");
        check(new().tcp(TcpOptions::new().recv_buffer_size(0)), "recv_buffer_size");
    }

    /// Sockets that are not dialled may have another default.
    #[test]
    fn a_chosen_half_open_differs_from_none() {
        let new = SocketOptions::new;
        assert_eq!(new().allow_half_open, None);
        assert_eq!(new().allow_half_open(false).allow_half_open, Some(false));
        assert_eq!(new().allow_half_open(true).allow_half_open, Some(true));
    }

    fn check(options: SocketOptions, names: &str) {
        let error = options.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains(names), "{error}");
    }
}
