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

use crate::egress::{EgressRules, REFUSED};
use crate::tls::Failure;

/// The result of every fallible call of this crate but those of [`Read`](io::Read) and
/// [`Write`](io::Write).
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a socket failed: cheap to clone, every waiter gets the same.
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

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    retryable: bool,
    io_kind: io::ErrorKind,
    source: Option<Source>,
    attempts: Vec<Attempt>,
}

/// What a failure came from.
enum Source {
    Io(io::Error),
    /// An error of rustls.
    Tls(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Whether only this call's limit passed and the socket lives on: a read, a write or a wait that
    /// timed out can be repeated.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.inner.retryable
    }

    /// The connection attempts made, in the order in which they began, each with its own error; those
    /// still pending when a limit struck are [`ErrorKind::TimedOut`]. Empty where nothing was dialled.
    #[must_use]
    pub fn attempts(&self) -> &[Attempt] {
        &self.inner.attempts
    }

    /// The error inside an [`io::Error`] that came from this crate.
    #[must_use]
    pub fn from_io(error: &io::Error) -> Option<&Error> {
        error.get_ref()?.downcast_ref()
    }

    /// An error that is told by its kind and its text alone.
    pub(crate) fn with_message(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Error::build(Inner {
            kind,
            message: message.into(),
            retryable: false,
            io_kind: kind.io_kind(),
            source: None,
            attempts: Vec::new(),
        })
    }

    /// A limit that passed for one call only: the socket lives on.
    pub(crate) fn call_timed_out(limit: Deadline) -> Self {
        Error::build(Inner {
            kind: ErrorKind::TimedOut,
            message: Cow::Borrowed(limit.message()),
            retryable: true,
            io_kind: io::ErrorKind::TimedOut,
            source: None,
            attempts: Vec::new(),
        })
    }

    /// The error of an established connection.
    pub(crate) fn from_fault(fault: Fault) -> Self {
        let source = fault.code().map(io::Error::from_raw_os_error);
        let message = match &source {
            Some(source) => Cow::Owned(format!("{}: {source}", fault.message())),
            None => Cow::Borrowed(fault.message()),
        };
        Error::build(Inner {
            kind: fault.kind(),
            message,
            retryable: false,
            io_kind: fault.io_kind(source.as_ref()),
            source: source.map(Source::Io),
            attempts: Vec::new(),
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
            kind: ErrorKind::Tls,
            message: Cow::Owned(message),
            retryable: false,
            io_kind: ErrorKind::Tls.io_kind(),
            source: failure.source().map(Source::Tls),
            attempts: Vec::new(),
        })
    }

    /// The error of a host or a port that must not be dialled.
    pub(crate) fn from_denial(denial: &dyn fmt::Display, requested: &dyn fmt::Display) -> Self {
        let message = format!("cannot connect to {requested}: {denial}");
        Error::with_message(ErrorKind::Denied, message)
    }

    /// The error of a connection that never came to be: what was asked for, every attempt, what the resolver
    /// said where it failed, and which of the egress rules denied an address.
    pub(crate) fn from_connecting(
        fault: Fault,
        requested: &dyn fmt::Display,
        failed: &[(SocketAddr, Fault)],
        resolver: Option<Unresolved>,
        egress: Option<&EgressRules>,
    ) -> Self {
        let attempt = |&(address, fault)| {
            let denial = match fault {
                Fault::Denied => egress.and_then(|rules| rules.denial(address)),
                _ => None,
            };
            let error = match denial {
                Some(denial) => Error::with_message(ErrorKind::Denied, denial.to_string()),
                None => Error::from_fault(fault),
            };
            Attempt { address, error }
        };
        let attempts: Vec<Attempt> = failed.iter().map(attempt).collect();
        let (text, source) = match resolver {
            Some(Unresolved { text, error }) => (Some(text), Some(error)),
            None => {
                let source = fault.code().map(io::Error::from_raw_os_error);
                (source.as_ref().map(io::Error::to_string), source)
            }
        };
        let mut message = format!("cannot connect to {requested}");
        // Where attempts were made they say more than "could not be made", or that one was refused.
        let general = fault.kind() == ErrorKind::Connect || fault.is_refusal();
        if attempts.is_empty() || !general {
            message.push_str(": ");
            message.push_str(fault.message());
        }
        if let (true, Some(text)) = (attempts.is_empty(), text) {
            message.push_str(&format!(": {text}"));
        }
        for (place, attempt) in attempts.iter().take(ATTEMPTS_IN_MESSAGE).enumerate() {
            let separator = if place == 0 { ":" } else { ";" };
            message.push_str(&format!("{separator} {attempt}"));
        }
        if attempts.len() > ATTEMPTS_IN_MESSAGE {
            message.push_str(&format!("; and {} more", attempts.len() - ATTEMPTS_IN_MESSAGE));
        }
        Error::build(Inner {
            kind: fault.kind(),
            message: Cow::Owned(message),
            retryable: false,
            io_kind: fault.io_kind(source.as_ref()),
            source: source.map(Source::Io),
            attempts,
        })
    }

    fn build(inner: Inner) -> Self {
        Error { inner: Arc::new(inner) }
    }
}

/// What a resolver said, whose text was taken when it could do no harm: it is the user's.
#[derive(Debug)]
pub(crate) struct Unresolved {
    pub(crate) text: String,
    pub(crate) error: io::Error,
}

/// How many attempts the message of a failed connection lists; [`Error::attempts`] has them all.
const ATTEMPTS_IN_MESSAGE: usize = 4;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.inner.kind).field("message", &self.inner.message);
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
            Source::Io(error) => Some(error),
            Source::Tls(error) => Some(&**error),
        }
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
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
    /// The name did not resolve, or the resolver panicked (`NotFound`, or as the resolver said).
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
    /// Any other failure of the operating system, such as being out of descriptors; its text is part
    /// of the message and its error the source (its own kind).
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
            ErrorKind::Resolve => io::ErrorKind::NotFound,
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
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error.inner.source {
            Some(Source::Io(source)) => write!(f, "{}: {source}", self.address),
            Some(Source::Tls(_)) | None => write!(f, "{}: {}", self.address, self.error),
        }
    }
}

/// What went wrong, as the state machine knows it: small copyable data.
///
/// A code is the operating system's, as [`io::Error::raw_os_error`] gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// This side closed the socket.
    Closed,
    /// This side aborted the connection.
    Aborted,
    /// The peer has ended the connection, and with it this side's writing.
    PeerEnded,
    /// The name did not resolve.
    Resolve,
    /// The name resolved to no address at all.
    NoAddress,
    /// The socket is bound to one family, and the name has addresses of the other only.
    NoLocalAddress,
    /// The egress rules refuse the address.
    Denied,
    /// The address is a listener of this program.
    OwnListener,
    /// The socket is bound to the very address that it dialled.
    Loop,
    /// By chance the attempt led back to the socket itself, because nobody listens there.
    SelfConnected,
    /// An attempt was refused, or could not reach its address.
    Connect(i32),
    /// A limit passed.
    TimedOut(Deadline),
    /// TLS failed: [`Machine::tls_failure`](crate::machine::Machine::tls_failure) tells how.
    Tls,
    /// TLS data ended without close_notify.
    Truncated,
    /// Bytes of the peer were unread when an upgrade began.
    UnreadPlaintext,
    /// The socket was upgraded, and another has its connection.
    Upgraded,
    /// The peer reset the connection. There is no code where only the state of the wire tells it.
    Reset(Option<i32>),
    /// The peer reset the connection after its end: all that it sent before is complete.
    ResetAfterEnd(i32),
    /// The system gave the peer up.
    Lost(i32),
    /// Any other failure of the operating system.
    Io(i32),
}

impl Fault {
    /// The kind of the error that this fault becomes.
    #[must_use]
    pub fn kind(self) -> ErrorKind {
        match self {
            Fault::Closed | Fault::Aborted | Fault::PeerEnded => ErrorKind::Closed,
            Fault::Resolve | Fault::NoAddress => ErrorKind::Resolve,
            Fault::NoLocalAddress | Fault::SelfConnected | Fault::Connect(_) => ErrorKind::Connect,
            Fault::Denied => ErrorKind::Denied,
            Fault::OwnListener | Fault::Loop => ErrorKind::Loop,
            Fault::TimedOut(_) => ErrorKind::TimedOut,
            Fault::Reset(_) | Fault::ResetAfterEnd(_) => ErrorKind::Reset,
            Fault::Tls => ErrorKind::Tls,
            Fault::Truncated => ErrorKind::Truncated,
            Fault::UnreadPlaintext => ErrorKind::UnreadPlaintext,
            Fault::Upgraded => ErrorKind::Upgraded,
            Fault::Lost(_) => ErrorKind::Lost,
            Fault::Io(_) => ErrorKind::Io,
        }
    }

    /// Whether an address was not dialled, because it must not be.
    pub(crate) fn is_refusal(self) -> bool {
        matches!(self.kind(), ErrorKind::Denied | ErrorKind::Loop)
    }

    fn code(self) -> Option<i32> {
        match self {
            Fault::Connect(code)
            | Fault::ResetAfterEnd(code)
            | Fault::Lost(code)
            | Fault::Io(code) => Some(code),
            Fault::Reset(code) => code,
            Fault::Closed
            | Fault::Aborted
            | Fault::PeerEnded
            | Fault::Resolve
            | Fault::NoAddress
            | Fault::NoLocalAddress
            | Fault::Denied
            | Fault::OwnListener
            | Fault::Loop
            | Fault::SelfConnected
            | Fault::TimedOut(_)
            | Fault::Tls
            | Fault::Truncated
            | Fault::UnreadPlaintext
            | Fault::Upgraded => None,
        }
    }

    fn message(self) -> &'static str {
        match self {
            Fault::Denied => REFUSED,
            Fault::OwnListener => "TCP Loop detected: the address is a listener of this program",
            Fault::Closed => "the socket was closed by this side",
            Fault::Aborted => "the connection was aborted by this side",
            Fault::PeerEnded => "the peer has ended the connection",
            Fault::Resolve => "the name did not resolve",
            Fault::NoAddress => "the name resolved to no address",
            Fault::NoLocalAddress => {
                "the name has no address of the family that the socket is bound to"
            }
            Fault::Loop => "TCP Loop detected: the socket is bound to the address that it dials",
            Fault::SelfConnected => "nobody listens there, and the attempt led back to itself",
            Fault::Connect(_) => "the connection could not be made",
            Fault::TimedOut(limit) => limit.message(),
            Fault::Tls => "TLS failed",
            Fault::Truncated => {
                "the peer ended the connection without close_notify: what it sent may be cut short"
            }
            Fault::UnreadPlaintext => {
                "plaintext of the peer was unread when the upgrade to TLS began: somebody may have \
                 injected it"
            }
            Fault::Upgraded => {
                "the socket was upgraded to TLS: use the one that start_tls returned"
            }
            Fault::Reset(_) => "the peer reset the connection",
            Fault::ResetAfterEnd(_) => "the peer reset the connection after its end",
            Fault::Lost(_) => "the system gave the peer up",
            Fault::Io(_) => "the operating system failed",
        }
    }

    fn io_kind(self, source: Option<&io::Error>) -> io::ErrorKind {
        match (self.kind(), source) {
            (kind @ (ErrorKind::Connect | ErrorKind::Io | ErrorKind::Resolve), Some(source)) => {
                match source.kind() {
                    // They ask for the same call again, as std's `write_all` makes it, and would for ever.
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => kind.io_kind(),
                    other => other,
                }
            }
            (kind, _) => kind.io_kind(),
        }
    }
}

/// A limit in time, named by what it limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deadline {
    /// The connect timeout, while all places for open sockets were taken.
    Place,
    /// The connect timeout, while the name was looked up.
    LookUp,
    /// The connect timeout, while addresses were dialled.
    Connect,
    /// The connect timeout, while the TLS handshake was made.
    Handshake,
    /// The connect timeout of an upgrade, while it waited to begin.
    Upgrade,
    /// The time between two attempts: nothing fails by it.
    NextAttempt,
    /// The time that IPv4 addresses wait for IPv6 ones: nothing fails by it.
    OtherFamily,
    /// The close timeout.
    Close,
    /// The read timeout or deadline of one call.
    Read,
    /// The write timeout or deadline of one call.
    Write,
    /// The limit of one wait for the connection to open.
    Opened,
    /// The limit of one wait for the socket to be closed.
    Closed,
}

impl Deadline {
    fn message(self) -> &'static str {
        match self {
            Deadline::Place => {
                "the connect timeout passed while as many sockets as there may be were open"
            }
            Deadline::LookUp => "the connect timeout passed during the name look-up",
            Deadline::Connect => "the connect timeout passed before an address answered",
            Deadline::Handshake => "the connect timeout passed during the TLS handshake",
            Deadline::Upgrade => "the connect timeout passed before the upgrade to TLS could begin",
            Deadline::NextAttempt => "the next attempt was due",
            Deadline::OtherFamily => "the wait for addresses of the other family was over",
            Deadline::Close => "the close timeout passed before everything was handed over",
            Deadline::Read => "the read timeout or deadline passed",
            Deadline::Write => "the write timeout or deadline passed",
            Deadline::Opened => "the limit of this wait passed before the connection opened",
            Deadline::Closed => "the limit of this wait passed before the socket was closed",
        }
    }
}
