//! Errors: [`Error`] for users, [`Fault`] for the state machine.
//!
//! A [`Fault`] is small, copyable data. When a socket fails, an [`Error`] is made of it once, with the text, the
//! source and the attempts that a person needs. Every waiter gets a clone of that error.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

mod attempt;
mod fault;
mod kind;
mod message;
mod proxy_reply;
#[cfg(test)]
mod tests;
mod tls_failure;

use crate::timings::Timings;

pub use self::attempt::Attempt;
pub use self::fault::{FailedAttempt, Fault, Step, TcpOption, TimerKind};
pub use self::kind::ErrorKind;
pub(crate) use self::message::{DENIED_MESSAGE, DenialText, ProxyBlame};
pub use self::proxy_reply::ProxyReply;
pub use self::tls_failure::TlsFailure;

/// The result type of every fallible call of this crate, except [`Read`](io::Read) and [`Write`](io::Write).
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of a socket. Cheap to clone; every waiter gets the same error.
///
/// `Display` prints one line: what failed, then why. The [source](std::error::Error::source) is the underlying cause,
/// such as an error of the operating system, the resolver or rustls. The line does not repeat the source, so print
/// the whole chain to see everything.
///
/// ```
/// use std::error::Error as _;
///
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let address = listener.local_addr()?;
/// # drop(listener);
/// let error = sockeye::connect(address)?.opened().unwrap_err();
/// assert_eq!(error.to_string(), format!("cannot connect to {address}: the connection was refused"));
/// assert!(error.source().is_some());
/// # Ok::<(), sockeye::Error>(())
/// ```
///
/// `Read` and `Write` wrap it in an [`io::Error`] of the matching [kind](ErrorKind); [`Error::from_io`] returns it.
///
/// ```
/// use sockeye::{ErrorKind, SocketAddress};
///
/// let error = "example.com:http".parse::<SocketAddress>().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidAddress);
///
/// let error = std::io::Error::from(error);
/// assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
/// assert_eq!(sockeye::Error::from_io(&error).unwrap().kind(), ErrorKind::InvalidAddress);
/// ```
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    retryable: bool,
    transient: bool,
    io_kind: io::ErrorKind,
    step: Option<Step>,
    timings: Option<Timings>,
    tls_failure: Option<TlsFailure>,
    proxy_reply: Option<ProxyReply>,
    source: Option<Cause>,
    attempts: Vec<Attempt>,
}

/// Underlying cause of an error.
#[derive(Clone)]
enum Cause {
    Io(Arc<io::Error>),
    /// An error of rustls.
    Tls(Arc<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Returns the kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Returns whether only this call's limit passed and the socket lives on. The call can be repeated.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.inner.retryable
    }

    /// Returns whether the lookup failed in a way that may pass, such as a silent or failing name server.
    ///
    /// The socket has failed for good, so [`is_retryable`](Self::is_retryable) is `false`. A new connect may succeed.
    ///
    /// ```
    /// use sockeye::Connector;
    ///
    /// let silent = |_: &str| Err(std::io::ErrorKind::TimedOut.into());
    /// let connector = Connector::builder().resolver(silent).build()?;
    /// let error = connector.connect("db.test:5432")?.opened().unwrap_err();
    /// assert!(error.is_transient() && !error.is_retryable());
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.inner.transient
    }

    /// Returns the connection attempts in the order in which they began, each with its own error. Attempts that are
    /// still pending when a limit passes are [`ErrorKind::TimedOut`]. Includes up to 64 addresses that the egress
    /// rules denied. Empty if nothing was dialled or denied.
    ///
    /// Of a connection through a [proxy](crate::Proxy), they are those to addresses of the target that this side knows:
    /// denied ones, and those that the proxy got. Attempts to the proxy follow if they all failed. So there are none if a
    /// proxy that got a name refused it.
    #[must_use]
    pub fn attempts(&self) -> &[Attempt] {
        &self.inner.attempts
    }

    /// Returns the step that failed or timed out, if the error has one.
    ///
    /// The error of a read, write or close has that step. If the connection never opened, it has the failed step of
    /// connecting. If a wait for the connection times out, as in
    /// [`Socket::opened_timeout`](crate::Socket::opened_timeout), the error has the current step of connecting. The
    /// end of an established connection, as [`Socket::closed`](crate::Socket::closed) returns it, has none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sockeye::{SocketOptions, Step};
    ///
    /// # let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = silent.local_addr()?;
    /// let options = SocketOptions::new().read_timeout(Duration::from_millis(10));
    /// let socket = sockeye::connect_with(address, options)?;
    /// let error = std::io::Read::read(&mut &socket, &mut [0; 64]).unwrap_err();
    /// let error = sockeye::Error::from_io(&error).unwrap();
    /// assert_eq!(error.step(), Some(Step::Read));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        self.inner.step
    }

    /// Returns how long each step took until the failure. `None` if the connection had opened.
    ///
    /// Includes the failed step. Steps that were not reached are zero. Excludes the wait for a slot.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sockeye::{SocketOptions, Step};
    ///
    /// # let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = silent.local_addr()?;
    /// // A server that accepts the connection and never speaks TLS.
    /// let options = SocketOptions::new()
    ///     .secure_transport(sockeye::SecureTransport::On)
    ///     .connect_timeout(Duration::from_millis(200));
    /// let error = sockeye::connect_with(address, options)?.opened().unwrap_err();
    /// assert_eq!(error.step(), Some(Step::Handshake));
    /// let timings = error.timings().unwrap();
    /// assert!(timings.handshake > timings.connect);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn timings(&self) -> Option<Timings> {
        self.inner.timings
    }

    /// Returns the kind of a TLS failure. `None` unless this error's kind is [`Tls`](ErrorKind::Tls).
    ///
    /// ```no_run
    /// use sockeye::{SecureTransport, SocketOptions, TlsFailure};
    ///
    /// let options = SocketOptions::new().secure_transport(SecureTransport::On);
    /// let error = sockeye::connect_with("expired.badssl.com:443", options)?.opened().unwrap_err();
    /// assert_eq!(error.tls_failure(), Some(TlsFailure::CertificateExpired));
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    #[must_use]
    pub fn tls_failure(&self) -> Option<TlsFailure> {
        self.inner.tls_failure
    }

    /// Returns the proxy's reply. `None` unless this error's kind is [`Proxy`](ErrorKind::Proxy).
    ///
    /// ```no_run
    /// use sockeye::{Connector, Proxy, ProxyReply};
    ///
    /// let connector = Connector::builder().proxy(Proxy::http("proxy.corp.example:3128")?).build()?;
    /// let error = connector.connect("example.com:80")?.opened().unwrap_err();
    /// if error.proxy_reply() == Some(ProxyReply::Http(407)) {
    ///     eprintln!("the proxy wants credentials: {error}");
    /// }
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    #[must_use]
    pub fn proxy_reply(&self) -> Option<ProxyReply> {
        self.inner.proxy_reply
    }

    /// Returns the error inside an [`io::Error`] that came from this crate.
    #[must_use]
    pub fn from_io(error: &io::Error) -> Option<&Error> {
        error.get_ref()?.downcast_ref()
    }

    /// Creates an error from its kind and message alone.
    pub(crate) fn with_message(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Error::build(Inner::new(kind, message))
    }

    /// Creates the error of an invalid option.
    pub(crate) fn invalid_options(message: impl Into<Cow<'static, str>>) -> Self {
        Error::with_message(ErrorKind::InvalidOptions, message)
    }

    /// Creates an error of kind `Io` with its own message.
    pub(crate) fn with_io_source(message: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        Error::build(Inner {
            io_kind: fault::io_kind(ErrorKind::Io, &source),
            source: Some(Cause::Io(Arc::new(source))),
            ..Inner::new(ErrorKind::Io, message)
        })
    }

    /// Creates the error of a limit that passed for one call only; the socket lives on.
    pub(crate) fn timed_out_call(limit: TimerKind) -> Self {
        Error::build(Inner {
            retryable: true,
            step: limit.step(),
            ..Inner::new(ErrorKind::TimedOut, limit.message())
        })
    }

    /// Creates the error of an established connection.
    pub(crate) fn from_fault(fault: Fault) -> Self {
        let source = fault.code().map(io::Error::from_raw_os_error);
        let message = match fault {
            // These messages include the operating system's text; the source has the number.
            Fault::Connect(code) | Fault::Io(code) | Fault::Option(_, code) => {
                Cow::Owned(format!("{}: {}", fault.message(), fault::words(code)))
            }
            Fault::Proxy(_) => fault.reason(),
            _ => Cow::Borrowed(fault.message()),
        };
        let step = match fault {
            Fault::TimedOut(limit) => limit.step(),
            _ => None,
        };
        Error::build(Inner {
            io_kind: fault.io_kind(source.as_ref()),
            proxy_reply: fault.proxy_reply(),
            step,
            source: source.map(|source| Cause::Io(Arc::new(source))),
            ..Inner::new(fault.kind(), message)
        })
    }

    /// Creates the error of a connection whose TLS failed. During a handshake, `requested` is the peer. `proxy` is the
    /// proxy if it is TLS with that.
    pub(crate) fn from_tls(
        failure: TlsFailure,
        message: &str,
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
        requested: Option<&dyn fmt::Display>,
        proxy: Option<&dyn fmt::Display>,
    ) -> Self {
        let message = match (requested, proxy) {
            (Some(requested), None) => {
                format!("cannot secure the connection to {requested}: {message}")
            }
            (Some(requested), Some(proxy)) => format!(
                "cannot connect to {requested}: cannot secure the connection to proxy {proxy}: {message}"
            ),
            (None, Some(proxy)) => format!("TLS with proxy {proxy} failed: {message}"),
            (None, None) => message.to_owned(),
        };
        Error::build(Inner {
            tls_failure: Some(failure),
            source: source.map(|source| Cause::Tls(source.into())),
            ..Inner::new(ErrorKind::Tls, message)
        })
    }

    /// Creates the error of a denied host, port or address.
    pub(crate) fn from_denial(denial: &DenialText, requested: &dyn fmt::Display) -> Self {
        let message = message::denied(&denial.reason, denial.platform_message, requested);
        Error::with_message(ErrorKind::Denied, message).during(Step::Connect)
    }

    /// Creates the error of a connection that never opened. It has the requested address, every attempt, and the
    /// resolver's error if there is one. `proxy` is the proxy if the connection was to use one. `denied` explains why the
    /// egress rules denied an address.
    pub(crate) fn from_connect(
        fault: Fault,
        requested: &dyn fmt::Display,
        proxy: Option<ProxyBlame<'_>>,
        failed: &[FailedAttempt],
        resolver: Option<LookupError>,
        denied: impl Fn(SocketAddr) -> Option<DenialText>,
    ) -> Self {
        let denials: Vec<Option<DenialText>> = failed
            .iter()
            .map(|attempt| (attempt.fault == Fault::Denied).then(|| denied(attempt.address))?)
            .collect();
        let attempt =
            |(&FailedAttempt { address, fault, elapsed }, denial): (_, &Option<DenialText>)| {
                let error = match denial {
                    Some(denial) => Error::with_message(ErrorKind::Denied, denial.to_string()),
                    None => Error::from_fault(fault),
                };
                Attempt { address, error: error.during(Step::Connect), elapsed }
            };
        let message = message::connect_failed(fault, requested, proxy, failed, &denials);
        let (transient, source) = match resolver {
            Some(LookupError { is_transient: passing, error }) => {
                (passing && fault == Fault::Resolve, Some(error))
            }
            None => (false, fault.code().map(io::Error::from_raw_os_error)),
        };
        Error::build(Inner {
            transient,
            proxy_reply: fault.proxy_reply(),
            io_kind: fault.io_kind(source.as_ref()),
            source: source.map(|source| Cause::Io(Arc::new(source))),
            attempts: failed.iter().zip(&denials).map(attempt).collect(),
            ..Inner::new(fault.kind(), message)
        })
    }

    /// Creates the error of an address on which the system does not let the program listen.
    pub(crate) fn from_listen(address: &dyn fmt::Display, error: io::Error) -> Self {
        let reason = error.raw_os_error().map_or_else(|| error.to_string(), fault::words);
        Error::build(Inner {
            io_kind: fault::io_kind(ErrorKind::Io, &error),
            source: Some(Cause::Io(Arc::new(error))),
            ..Inner::new(ErrorKind::Io, format!("cannot listen on {address}: {reason}"))
        })
    }

    /// Records the step that failed, unless one is recorded already.
    #[must_use]
    pub(crate) fn during(mut self, step: impl Into<Option<Step>>) -> Self {
        if let (None, Some(step)) = (self.inner.step, step.into()) {
            Arc::make_mut(&mut self.inner).step = Some(step);
        }
        self
    }

    /// Records how long the steps of connecting took.
    #[must_use]
    pub(crate) fn after(mut self, timings: Timings) -> Self {
        Arc::make_mut(&mut self.inner).timings = Some(timings);
        self
    }

    /// Returns whether a part of the error may belong to the program, so that dropping it may run the program's code.
    pub(crate) fn may_be_foreign(&self) -> bool {
        match &self.inner.source {
            Some(Cause::Io(error)) => error.get_ref().is_some(),
            Some(Cause::Tls(_)) => true,
            None => false,
        }
    }

    fn build(inner: Inner) -> Self {
        Error { inner: Arc::new(inner) }
    }
}

impl Inner {
    fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Inner {
            kind,
            message: message.into(),
            retryable: false,
            transient: false,
            io_kind: kind.io_kind(),
            step: None,
            timings: None,
            tls_failure: None,
            proxy_reply: None,
            source: None,
            attempts: Vec::new(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.inner.kind).field("message", &self.inner.message);
        if let Some(step) = &self.inner.step {
            out.field("step", step);
        }
        if let Some(source) = &self.inner.source {
            match source {
                Cause::Io(error) => out.field("source", error),
                Cause::Tls(error) => out.field("source", error),
            };
        }
        if !self.inner.attempts.is_empty() {
            out.field("attempts", &self.inner.attempts);
        }
        out.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.inner.source.as_ref()? {
            Cause::Io(error) => Some(&**error),
            Cause::Tls(error) => Some(&**error),
        }
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Returns the crate's own error if `error` carries one, as those of reads and writes do. Otherwise returns an error
/// of kind [`Io`](ErrorKind::Io) with `error` as its source. So `?` works on both in functions that return
/// [`Result`].
///
/// ```
/// use std::io::Read;
///
/// fn greeting(socket: &sockeye::Socket) -> sockeye::Result<String> {
///     let mut text = String::new();
///     socket.reader().take(100).read_to_string(&mut text)?;
///     Ok(text)
/// }
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let socket = sockeye::connect(listener.local_addr()?)?;
/// socket.close()?;
/// assert_eq!(greeting(&socket).unwrap_err().kind(), sockeye::ErrorKind::Closed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(own) => own,
            Err(error) => {
                // The source has the number.
                let code = error.raw_os_error();
                let message = code.map_or_else(|| error.to_string(), fault::words);
                Error::build(Inner {
                    io_kind: fault::io_kind(ErrorKind::Io, &error),
                    source: Some(Cause::Io(Arc::new(error))),
                    ..Inner::new(ErrorKind::Io, message)
                })
            }
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::new(error.inner.io_kind, error)
    }
}

/// A resolver's error, with what the driver needs of it. The error belongs to the program, so its code runs only
/// where it can do no harm.
#[derive(Debug)]
pub(crate) struct LookupError {
    /// Whether another lookup may succeed.
    pub(crate) is_transient: bool,
    pub(crate) error: io::Error,
}
