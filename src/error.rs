//! What can go wrong: [`Error`] for users, [`Fault`] for the machine.
//!
//! A [`Fault`] is small copyable data, which is all that the state machine handles. An [`Error`] is
//! made of it once, when a socket fails, with the text, the source and the attempts that a person
//! needs; from then on every waiter gets a clone of that one error.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

mod fault;
mod message;
#[cfg(test)]
mod tests;

use crate::egress::EgressRules;
use crate::info::Timings;
use crate::tls::Failure;

pub use self::fault::{FailedAttempt, Fault, Step, TimerKind};
pub(crate) use crate::resolver::Unresolved;

/// The result of every fallible call of this crate but those of [`Read`](io::Read) and
/// [`Write`](io::Write).
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a socket failed: cheap to clone, every waiter gets the same.
///
/// `Display` says what failed and why in one line. The [source](std::error::Error::source) is the cause below it, such
/// as the system's error, the resolver's or that of rustls, and the line does not repeat what it says: print the
/// whole chain to see all.
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
/// `Read` and `Write` wrap it in an [`io::Error`] of the fitting [kind](ErrorKind), from which
/// [`Error::from_io`] gives it back.
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
    source: Option<Source>,
    attempts: Vec<Attempt>,
}

/// What a failure came from.
#[derive(Clone)]
enum Source {
    Io(Arc<io::Error>),
    /// An error of rustls.
    Tls(Arc<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Returns whether only this call's limit passed and the socket lives on. The call can be repeated.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.inner.retryable
    }

    /// Returns whether the lookup failed in a way that may pass, such as a name server that is silent or fails itself.
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

    /// The connection attempts made, in the order in which they began, each with its own error; those
    /// still pending when a limit struck are [`ErrorKind::TimedOut`]. With them are the addresses that were
    /// refused, up to 64. Empty where nothing was dialled or refused.
    #[must_use]
    pub fn attempts(&self) -> &[Attempt] {
        &self.inner.attempts
    }

    /// Returns the step that failed or timed out, if the error has one.
    ///
    /// An error of a read, a write or a close has that step, unless the connection never opened: then it has the
    /// step of connecting that failed. A wait for the connection that timed out, such as
    /// [`Socket::opened_timeout`](crate::Socket::opened_timeout), has the step at which connecting was. The
    /// end of an established connection, as [`Socket::closed`](crate::Socket::closed) gives it, has none.
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

    /// Returns how long each step took until the failure, if the connection never opened. Otherwise `None`.
    ///
    /// The step that failed is included. Steps that were not reached took no time. The wait for a slot is
    /// not part of it.
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

    /// The error inside an [`io::Error`] that came from this crate.
    #[must_use]
    pub fn from_io(error: &io::Error) -> Option<&Error> {
        error.get_ref()?.downcast_ref()
    }

    /// An error that is told by its kind and its text alone.
    pub(crate) fn with_message(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Error::build(Inner::new(kind, message))
    }

    /// A limit that passed for one call only: the socket lives on.
    pub(crate) fn call_timed_out(limit: TimerKind) -> Self {
        Error::build(Inner {
            retryable: true,
            step: limit.step(),
            ..Inner::new(ErrorKind::TimedOut, limit.message())
        })
    }

    /// The error of an established connection.
    pub(crate) fn from_fault(fault: Fault) -> Self {
        let source = fault.code().map(io::Error::from_raw_os_error);
        let message = match fault {
            // They are told by what the system calls them; the number is the source's.
            Fault::Connect(code) | Fault::Io(code) => {
                Cow::Owned(format!("{}: {}", fault.message(), fault::words(code)))
            }
            _ => Cow::Borrowed(fault.message()),
        };
        let step = match fault {
            Fault::TimedOut(limit) => limit.step(),
            _ => None,
        };
        Error::build(Inner {
            io_kind: fault.io_kind(source.as_ref()),
            step,
            source: source.map(|source| Source::Io(Arc::new(source))),
            ..Inner::new(fault.kind(), message)
        })
    }

    /// The error of a connection whose TLS failed, in the handshake where `requested` says with whom.
    pub(crate) fn from_tls(failure: &Failure, requested: Option<&dyn fmt::Display>) -> Self {
        let message = match requested {
            Some(requested) => {
                format!("cannot secure the connection to {requested}: {}", failure.message())
            }
            None => failure.message().to_owned(),
        };
        Error::build(Inner {
            source: failure.source().map(|source| Source::Tls(source.into())),
            ..Inner::new(ErrorKind::Tls, message)
        })
    }

    /// The error of a host, a port or an address that must not be dialled: the rule's reason, then what the page of
    /// the platform says.
    pub(crate) fn from_denial(
        reason: &dyn fmt::Display,
        page: &str,
        requested: &dyn fmt::Display,
    ) -> Self {
        let message = message::denied(reason, page, requested);
        Error::with_message(ErrorKind::Denied, message).during(Step::Connect)
    }

    /// The error of a connection that never came to be: what was asked for, every attempt, what the resolver
    /// said where it failed, and which of the egress rules denied an address.
    pub(crate) fn from_connecting(
        fault: Fault,
        requested: &dyn fmt::Display,
        failed: &[FailedAttempt],
        resolver: Option<Unresolved>,
        egress: Option<&EgressRules>,
    ) -> Self {
        let attempt = |&FailedAttempt { address, fault, elapsed }| {
            let denial = match fault {
                Fault::Denied => egress.and_then(|rules| rules.denial(address)),
                _ => None,
            };
            let error = match denial {
                Some(denial) => Error::with_message(ErrorKind::Denied, denial.to_string()),
                None => Error::from_fault(fault),
            };
            Attempt { address, error: error.during(Step::Connect), elapsed }
        };
        let message = message::unconnected(fault, requested, failed, egress);
        let (transient, source) = match resolver {
            Some(Unresolved { passing, error }) => {
                (passing && fault == Fault::Resolve, Some(error))
            }
            None => (false, fault.code().map(io::Error::from_raw_os_error)),
        };
        Error::build(Inner {
            transient,
            io_kind: fault.io_kind(source.as_ref()),
            source: source.map(|source| Source::Io(Arc::new(source))),
            attempts: failed.iter().map(attempt).collect(),
            ..Inner::new(fault.kind(), message)
        })
    }

    /// Notes the step that failed, unless one is known.
    #[must_use]
    pub(crate) fn during(mut self, step: impl Into<Option<Step>>) -> Self {
        if let (None, Some(step)) = (self.inner.step, step.into()) {
            Arc::make_mut(&mut self.inner).step = Some(step);
        }
        self
    }

    /// Notes how long the steps of connecting took.
    #[must_use]
    pub(crate) fn after(mut self, timings: Timings) -> Self {
        Arc::make_mut(&mut self.inner).timings = Some(timings);
        self
    }

    /// Whether a part of it may be the program's, so that to drop it may run code of the program.
    pub(crate) fn may_be_foreign(&self) -> bool {
        match &self.inner.source {
            Some(Source::Io(error)) => error.get_ref().is_some(),
            Some(Source::Tls(_)) => true,
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
                Source::Io(error) => out.field("source", error),
                Source::Tls(error) => out.field("source", error),
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
            Source::Io(error) => Some(&**error),
            Source::Tls(error) => Some(&**error),
        }
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// The crate's own error if `error` carries one, as those of reads and writes do; otherwise one of kind
/// [`Io`](ErrorKind::Io) with `error` as its source. So `?` works on both in functions that return
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
                // The number is the source's.
                let code = error.raw_os_error();
                let message = code.map_or_else(|| error.to_string(), fault::words);
                Error::build(Inner {
                    io_kind: fault::io_kind(ErrorKind::Io, &error),
                    source: Some(Source::Io(Arc::new(error))),
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

/// The sorts of failure. In parentheses: the [`io::ErrorKind`] that reads and writes carry. It is never
/// `Interrupted` or `WouldBlock`, whatever the system or a resolver said: to call again is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The address is not `host:port`, or its host or port can't be (`InvalidInput`).
    InvalidAddress,
    /// An option has a value that can't be, or that this system does not offer (`InvalidInput`).
    InvalidOptions,
    /// Misuse of the call order by the program, never caused by a peer (`InvalidInput`).
    InvalidState,
    /// Refused by the egress rules (`PermissionDenied`).
    Denied,
    /// The connection would come back to this program: its address is a listener of its own, or the
    /// socket is bound to the very address it dials (`PermissionDenied`).
    Loop,
    /// Too many open sockets (`ResourceBusy`).
    Limit,
    /// The name did not resolve, or the resolver panicked. `NotFound` only if it is known that there is no such
    /// name, or no address of it; otherwise `Other`, or what the resolver said. If the failure may pass, the error
    /// [is transient](Error::is_transient).
    Resolve,
    /// No address accepted the connection (`ConnectionRefused`, `HostUnreachable`, … of the last).
    Connect,
    /// Handshake, certificate or record failure, also the peer's end within a handshake; the
    /// [source](std::error::Error::source) is the `rustls::Error` where there is one (`InvalidData`).
    Tls,
    /// Plaintext was waiting when the upgrade began (`InvalidData`).
    UnreadPlaintext,
    /// TLS data ended without `close_notify` (`UnexpectedEof`).
    Truncated,
    /// A limit of this crate passed (`TimedOut`).
    TimedOut,
    /// The system gave the peer up: keepalive, user timeout or retransmission; final
    /// (`ConnectionAborted`).
    Lost,
    /// The peer reset the connection, also seen as a broken pipe (`ConnectionReset`).
    Reset,
    /// This side closed or aborted, or the peer has ended and this side writes (`NotConnected`). The message
    /// says which side it was.
    Closed,
    /// The socket was upgraded, so use the new one, or its connection was detached (`NotConnected`).
    Upgraded,
    /// Any other failure of the operating system, such as being out of descriptors (its own kind). The message has
    /// the system's words, and the [source](std::error::Error::source) its error.
    Io,
}

impl ErrorKind {
    /// The kind that reads and writes carry, where the failure itself names none.
    fn io_kind(self) -> io::ErrorKind {
        match self {
            ErrorKind::InvalidAddress | ErrorKind::InvalidOptions | ErrorKind::InvalidState => {
                io::ErrorKind::InvalidInput
            }
            ErrorKind::Denied | ErrorKind::Loop => io::ErrorKind::PermissionDenied,
            ErrorKind::Limit => io::ErrorKind::ResourceBusy,
            // Not `NotFound`, which is only for what is known.
            ErrorKind::Resolve => io::ErrorKind::Other,
            ErrorKind::Connect => io::ErrorKind::ConnectionRefused,
            ErrorKind::Tls | ErrorKind::UnreadPlaintext => io::ErrorKind::InvalidData,
            ErrorKind::Truncated => io::ErrorKind::UnexpectedEof,
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::Lost => io::ErrorKind::ConnectionAborted,
            ErrorKind::Reset => io::ErrorKind::ConnectionReset,
            ErrorKind::Closed | ErrorKind::Upgraded => io::ErrorKind::NotConnected,
            ErrorKind::Io => io::ErrorKind::Other,
        }
    }
}

/// One connection attempt: which address, and how it failed.
#[derive(Clone, Debug)]
pub struct Attempt {
    address: SocketAddr,
    error: Error,
    elapsed: Duration,
}

impl Attempt {
    /// The address that was dialled.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How this attempt failed.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Returns how long the attempt lasted: from its beginning until it failed, or until the whole connection
    /// did. Zero for an address that was not dialled.
    ///
    /// ```no_run
    /// let socket = sockeye::connect("example.com:443")?;
    /// if let Err(error) = socket.opened() {
    ///     for attempt in error.attempts() {
    ///         eprintln!("{attempt}, after {:?}", attempt.elapsed());
    ///     }
    /// }
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.error)
    }
}
