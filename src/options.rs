//! What a user may choose for one socket, and the check that it can be.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::tls::TlsOptions;

/// How long connecting may take unless told otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a graceful close may take unless told otherwise.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What Linux takes as a user timeout: it is an `int` of milliseconds there.
const USER_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_millis(i32::MAX as u64);

/// Options of one socket; each setter takes and returns `self`.
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
    /// None were given where there are none.
    pub(crate) tls: Option<TlsOptions>,
    pub(crate) allow_half_open: bool,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) connect_deadline: Option<Instant>,
    pub(crate) close_timeout: Duration,
    pub(crate) read_timeout: Option<Duration>,
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) tcp: TcpOptions,
}

impl SocketOptions {
    /// The defaults, which [`connect`](crate::connect) uses too.
    #[must_use]
    pub fn new() -> Self {
        SocketOptions {
            secure_transport: SecureTransport::Off,
            tls: None,
            allow_half_open: false,
            connect_timeout: Some(CONNECT_TIMEOUT),
            connect_deadline: None,
            close_timeout: CLOSE_TIMEOUT,
            read_timeout: None,
            write_timeout: None,
            tcp: TcpOptions::new(),
        }
    }

    /// Whether the connection is plaintext, TLS from the start, or plaintext that can be upgraded.
    /// Default [`Off`](SecureTransport::Off).
    #[must_use]
    #[doc(alias("secureTransport"))]
    pub fn secure_transport(mut self, mode: SecureTransport) -> Self {
        self.secure_transport = mode;
        self
    }

    /// TLS settings, used by [`SecureTransport::On`] at once and by
    /// [`Socket::start_tls`](crate::Socket::start_tls). Default: [`TlsOptions::new`]. With
    /// [`SecureTransport::Off`] they are [`ErrorKind::InvalidOptions`] from
    /// [`connect_with`](crate::connect_with).
    #[must_use]
    pub fn tls(mut self, tls: TlsOptions) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Whether the writable side stays open when the peer ends. Default `false`: when the peer has
    /// ended and nothing is unread, whether or not anyone reads, the write side is flushed and
    /// closed, and with it the socket. Over TLS, session tickets and other records without application
    /// data are not unread data.
    #[must_use]
    #[doc(alias("allowHalfOpen"))]
    pub fn allow_half_open(mut self, allow: bool) -> Self {
        self.allow_half_open = allow;
        self
    }

    /// TCP level settings. Default: [`TcpOptions::new`].
    #[must_use]
    pub fn tcp(mut self, tcp: TcpOptions) -> Self {
        self.tcp = tcp;
        self
    }

    /// Bounds the name lookup, every connection attempt and the TLS handshake together; the handshake of
    /// an upgrade has a new span, which begins at [`start_tls`](crate::Socket::start_tls). Default 30 s;
    /// `None` waits for the operating system. Zero is [`ErrorKind::InvalidOptions`] from
    /// [`connect_with`](crate::connect_with).
    #[must_use]
    pub fn connect_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.connect_timeout = limit.into();
        self
    }

    /// Sets the instant after which connecting fails: name lookup, connection attempts and TLS handshake
    /// together. The earlier of this and the [`connect_timeout`](Self::connect_timeout) counts. An instant in
    /// the past fails with [`ErrorKind::TimedOut`] from [`opened`](crate::Socket::opened) before anything is
    /// looked up or sent. The handshake of an upgrade has no deadline, only its `connect_timeout`. Default
    /// none.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use sockeye::SocketOptions;
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let (first, second) = (listener.local_addr()?, listener.local_addr()?);
    /// // Whatever the first one takes is missing to the second.
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

    /// Bounds a graceful close. Default 5 s. Zero is [`ErrorKind::InvalidOptions`] from
    /// [`connect_with`](crate::connect_with).
    #[must_use]
    pub fn close_timeout(mut self, limit: Duration) -> Self {
        self.close_timeout = limit;
        self
    }

    /// First value of [`Socket::set_read_timeout`](crate::Socket::set_read_timeout). Default none.
    #[must_use]
    pub fn read_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.read_timeout = limit.into();
        self
    }

    /// First value of [`Socket::set_write_timeout`](crate::Socket::set_write_timeout). Default none.
    #[must_use]
    pub fn write_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.write_timeout = limit.into();
        self
    }

    /// Refuses what can't be, before anything is sent.
    pub(crate) fn check(&self) -> Result<()> {
        check_limit("connect_timeout", self.connect_timeout)?;
        check_limit("close_timeout", Some(self.close_timeout))?;
        check_limit("read_timeout", self.read_timeout)?;
        check_limit("write_timeout", self.write_timeout)?;
        self.tcp.check()?;
        match (&self.tls, self.secure_transport) {
            (None, _) => Ok(()),
            (Some(_), SecureTransport::Off) => {
                Err(invalid("tls options are given, but secure_transport is off"))
            }
            (Some(tls), SecureTransport::On | SecureTransport::StartTls) => tls.check(),
        }
    }
}

impl Default for SocketOptions {
    fn default() -> Self {
        SocketOptions::new()
    }
}

/// When a connection is secured by TLS. Its text forms are `off`, `on` and `starttls`.
///
/// ```
/// use sockeye::SecureTransport;
///
/// assert_eq!("starttls".parse::<SecureTransport>()?, SecureTransport::StartTls);
/// assert_eq!(SecureTransport::On.to_string(), "on");
/// # Ok::<(), sockeye::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[doc(alias("secureTransport"))]
pub enum SecureTransport {
    /// Never.
    #[default]
    Off,
    /// From the start: the connection opens when the handshake is done.
    On,
    /// From when [`Socket::start_tls`](crate::Socket::start_tls) is called on.
    StartTls,
}

impl fmt::Display for SecureTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl SecureTransport {
    fn name(self) -> &'static str {
        match self {
            SecureTransport::Off => "off",
            SecureTransport::On => "on",
            SecureTransport::StartTls => "starttls",
        }
    }
}

impl FromStr for SecureTransport {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [SecureTransport::Off, SecureTransport::On, SecureTransport::StartTls]
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| invalid(format!("secure_transport {text:?} is not off, on or starttls")))
    }
}

/// A limit of zero would end every call before it began.
pub(crate) fn check_limit(name: &str, limit: Option<Duration>) -> Result<()> {
    match limit {
        Some(Duration::ZERO) => Err(invalid(format!("{name} is zero: no call could succeed"))),
        _ => Ok(()),
    }
}

/// TCP level settings, applied before the connection attempt.
#[derive(Clone, Debug)]
pub struct TcpOptions {
    pub(crate) nodelay: bool,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) user_timeout: Option<Duration>,
    pub(crate) bind: Option<SocketAddr>,
    pub(crate) recv_buffer_size: Option<usize>,
    pub(crate) send_buffer_size: Option<usize>,
}

impl TcpOptions {
    /// The defaults: no delay of small segments, all else as the system has it.
    #[must_use]
    pub fn new() -> Self {
        TcpOptions {
            nodelay: true,
            keepalive: None,
            user_timeout: None,
            bind: None,
            recv_buffer_size: None,
            send_buffer_size: None,
        }
    }

    /// Whether small segments are sent at once (`TCP_NODELAY`). Default `true`.
    #[must_use]
    #[doc(alias("TCP_NODELAY", "setNoDelay"))]
    pub fn nodelay(mut self, on: bool) -> Self {
        self.nodelay = on;
        self
    }

    /// Probes an idle connection (`SO_KEEPALIVE`). Default: no probes. A peer that does not answer
    /// them ends the connection with [`ErrorKind::Lost`].
    #[must_use]
    #[doc(alias("SO_KEEPALIVE", "setKeepAlive"))]
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.keepalive = Some(keepalive);
        self
    }

    /// How long sent data may stay unacknowledged before the connection ends with
    /// [`ErrorKind::Lost`] (`TCP_USER_TIMEOUT`, RFC 5482). From 1 ms to 2,147,483,647 ms (24.8 days),
    /// parts of a millisecond are dropped. Default: as the system has it. Linux only: elsewhere
    /// [`connect_with`](crate::connect_with) gives [`ErrorKind::InvalidOptions`].
    #[must_use]
    #[doc(alias("TCP_USER_TIMEOUT"))]
    pub fn user_timeout(mut self, limit: Duration) -> Self {
        self.user_timeout = Some(limit);
        self
    }

    /// Local address and port to connect from. Addresses of the other family are skipped; with a port
    /// other than 0 attempts run one after another. Default: as the system chooses.
    ///
    /// With port 0 the system chooses the port. On Linux it does so when it connects
    /// (`IP_BIND_ADDRESS_NO_PORT`), so that connections to different peers may have the same one. Other
    /// systems choose it before: each connection that is bound then has a port that no other connection of
    /// this address can have, and there are some 16,000 to 28,000 of them.
    #[must_use]
    pub fn bind(mut self, local: SocketAddr) -> Self {
        self.bind = Some(local);
        self
    }

    /// Size of the kernel's receive buffer, in bytes, from 1 to 2,147,483,647 (`SO_RCVBUF`). Linux doubles
    /// it and takes `net.core.rmem_max` for more than that; BSD systems and macOS refuse more than
    /// `kern.ipc.maxsockbuf`, and the connection fails with [`ErrorKind::Io`]. Default: as the system has
    /// it, which grows by need.
    #[must_use]
    #[doc(alias("SO_RCVBUF"))]
    pub fn recv_buffer_size(mut self, bytes: usize) -> Self {
        self.recv_buffer_size = Some(bytes);
        self
    }

    /// Size of the kernel's send buffer, in bytes, from 1 to 2,147,483,647 (`SO_SNDBUF`), bounded as
    /// [`recv_buffer_size`](Self::recv_buffer_size) is, by `net.core.wmem_max` on Linux. Default: as the
    /// system has it, which grows by need.
    #[must_use]
    #[doc(alias("SO_SNDBUF"))]
    pub fn send_buffer_size(mut self, bytes: usize) -> Self {
        self.send_buffer_size = Some(bytes);
        self
    }

    fn check(&self) -> Result<()> {
        if let Some(keepalive) = self.keepalive {
            keepalive.check()?;
        }
        if let Some(limit) = self.user_timeout {
            if !cfg!(any(target_os = "linux", target_os = "android")) {
                return Err(invalid("user_timeout is not offered by this operating system"));
            }
            if !USER_TIMEOUTS.contains(&limit) {
                let range = "1 ms to 2147483647 ms (24.8 days)";
                return Err(invalid(format!("user_timeout {limit:?} is not in {range}")));
            }
        }
        check_size("recv_buffer_size", self.recv_buffer_size)?;
        check_size("send_buffer_size", self.send_buffer_size)
    }
}

impl Default for TcpOptions {
    fn default() -> Self {
        TcpOptions::new()
    }
}

fn check_size(name: &str, bytes: Option<usize>) -> Result<()> {
    match bytes {
        Some(bytes) if bytes == 0 || i32::try_from(bytes).is_err() => {
            Err(invalid(format!("{name} {bytes} is not in 1 to 2147483647 bytes")))
        }
        _ => Ok(()),
    }
}

/// Keepalive probing (RFC 1122, section 4.2.3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe: 1 s to 32,767 s, parts of a second are rounded up.
    pub idle: Duration,
    /// Time between probes: 1 s to 32,767 s, parts of a second are rounded up.
    pub interval: Duration,
    /// Number of unanswered probes after which the connection is lost: 1 to 127.
    pub retries: u32,
}

impl Keepalive {
    fn check(self) -> Result<()> {
        for (name, time) in [("idle", self.idle), ("interval", self.interval)] {
            if time < Duration::from_secs(1) || time > Duration::from_secs(32_767) {
                return Err(invalid(format!("keepalive {name} {time:?} is not in 1 s to 32767 s")));
            }
        }
        match self.retries {
            1..=127 => Ok(()),
            retries => Err(invalid(format!("keepalive retries {retries} is not in 1 to 127"))),
        }
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::with_message(ErrorKind::InvalidOptions, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_sizes_that_cannot_be_are_refused_by_name() {
        let zero = Duration::ZERO;
        let keepalive = Keepalive {
            idle: Duration::from_secs(10),
            interval: Duration::from_secs(1),
            retries: 3,
        };
        let new = SocketOptions::new;
        check(new().connect_timeout(zero), "connect_timeout");
        check(new().close_timeout(zero), "close_timeout");
        check(new().read_timeout(zero), "read_timeout");
        check(new().write_timeout(zero), "write_timeout");
        let tcp = |tcp| new().tcp(tcp);
        check(tcp(TcpOptions::new().recv_buffer_size(0)), "recv_buffer_size");
        check(tcp(TcpOptions::new().send_buffer_size(usize::MAX)), "send_buffer_size");
        check(tcp(TcpOptions::new().user_timeout(zero)), "user_timeout");
        check(tcp(TcpOptions::new().keepalive(Keepalive { retries: 0, ..keepalive })), "retries");
        check(tcp(TcpOptions::new().keepalive(Keepalive { idle: zero, ..keepalive })), "idle");
        check(
            tcp(TcpOptions::new().keepalive(Keepalive { interval: Duration::MAX, ..keepalive })),
            "interval",
        );
        assert!(tcp(TcpOptions::new().keepalive(keepalive)).check().is_ok());
    }

    /// What lies just beyond each end. That the system takes the ends themselves, a test of sockets shows.
    #[test]
    fn a_value_just_beyond_its_range_is_refused() {
        let second = Duration::from_secs(1);
        let nano = Duration::from_nanos(1);
        let tcp = |tcp| SocketOptions::new().tcp(tcp);
        if cfg!(any(target_os = "linux", target_os = "android")) {
            let most = Duration::from_millis(2_147_483_647);
            for limit in [Duration::from_millis(1), most] {
                tcp(TcpOptions::new().user_timeout(limit)).check().unwrap();
            }
            for limit in [Duration::from_millis(1) - nano, most + nano, 30 * 86_400 * second] {
                check(tcp(TcpOptions::new().user_timeout(limit)), "user_timeout");
            }
        }
        for bytes in [0, 1 << 31, usize::MAX] {
            check(tcp(TcpOptions::new().recv_buffer_size(bytes)), "recv_buffer_size");
            check(tcp(TcpOptions::new().send_buffer_size(bytes)), "send_buffer_size");
        }
        let good = Keepalive { idle: second, interval: second, retries: 1 };
        for time in [second - nano, 32_767 * second + nano] {
            check(tcp(TcpOptions::new().keepalive(Keepalive { idle: time, ..good })), "idle");
            check(
                tcp(TcpOptions::new().keepalive(Keepalive { interval: time, ..good })),
                "interval",
            );
        }
        for retries in [0, 128, u32::MAX] {
            check(tcp(TcpOptions::new().keepalive(Keepalive { retries, ..good })), "retries");
        }
    }

    fn check(options: SocketOptions, names: &str) {
        let error = options.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains(names), "{error}");
    }
}
