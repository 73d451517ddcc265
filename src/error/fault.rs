//! What went wrong and when, as small data.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::ErrorKind;

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
    NoAddressOfFamily,
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
    TimedOut(TimerKind),
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
    /// The attempt was given up for the next address, as many were under way.
    Superseded,
    /// The address may be a listener of this program: the system did not tell whether it is local.
    LocalityUnknown(i32),
    /// A bug of this crate: a panic interrupted the work on the socket.
    Internal,
}

impl Fault {
    /// The kind of the error that this fault becomes.
    #[must_use]
    pub fn kind(self) -> ErrorKind {
        match self {
            Fault::Closed | Fault::Aborted | Fault::PeerEnded => ErrorKind::Closed,
            Fault::Resolve | Fault::NoAddress => ErrorKind::Resolve,
            Fault::NoAddressOfFamily | Fault::SelfConnected | Fault::Connect(_) => {
                ErrorKind::Connect
            }
            Fault::Denied => ErrorKind::Denied,
            Fault::OwnListener | Fault::Loop => ErrorKind::Loop,
            Fault::TimedOut(_) | Fault::Superseded => ErrorKind::TimedOut,
            Fault::Reset(_) | Fault::ResetAfterEnd(_) => ErrorKind::Reset,
            Fault::Tls => ErrorKind::Tls,
            Fault::Truncated => ErrorKind::Truncated,
            Fault::UnreadPlaintext => ErrorKind::UnreadPlaintext,
            Fault::Upgraded => ErrorKind::Upgraded,
            Fault::Lost(_) => ErrorKind::Lost,
            Fault::Io(_) | Fault::LocalityUnknown(_) | Fault::Internal => ErrorKind::Io,
        }
    }

    /// Whether an address was not dialled, because it must not be.
    pub(crate) fn is_denial(self) -> bool {
        matches!(self.kind(), ErrorKind::Denied | ErrorKind::Loop)
    }

    /// Whether an address was not dialled for want of something on this side, such as a descriptor.
    pub(crate) fn is_resource_exhaustion(self) -> bool {
        matches!(self, Fault::Io(_) | Fault::LocalityUnknown(_))
    }

    pub(super) fn code(self) -> Option<i32> {
        match self {
            Fault::Connect(code)
            | Fault::ResetAfterEnd(code)
            | Fault::Lost(code)
            | Fault::Io(code)
            | Fault::LocalityUnknown(code) => Some(code),
            Fault::Reset(code) => code,
            Fault::Closed
            | Fault::Aborted
            | Fault::PeerEnded
            | Fault::Resolve
            | Fault::NoAddress
            | Fault::NoAddressOfFamily
            | Fault::Denied
            | Fault::OwnListener
            | Fault::Loop
            | Fault::SelfConnected
            | Fault::Superseded
            | Fault::TimedOut(_)
            | Fault::Tls
            | Fault::Truncated
            | Fault::UnreadPlaintext
            | Fault::Upgraded
            | Fault::Internal => None,
        }
    }

    /// What failed and why, in words that are not the system's: the source has those.
    pub(super) fn reason(self) -> Cow<'static, str> {
        match self {
            Fault::Connect(code) => connect_reason(code),
            Fault::Io(code) => Cow::Owned(format!("{}: {}", self.message(), words(code))),
            other => Cow::Borrowed(other.message()),
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Fault::Denied => "the egress rules deny the address",
            Fault::OwnListener => "TCP Loop detected: the address is a listener of this program",
            Fault::Closed => "the socket was closed by this side",
            Fault::Aborted => "the connection was aborted by this side",
            Fault::PeerEnded => "the peer has ended the connection",
            Fault::Resolve => "the name did not resolve",
            Fault::NoAddress => "the name resolved to no address",
            Fault::NoAddressOfFamily => {
                "the name has no address of the family that the socket is bound to"
            }
            Fault::Loop => "TCP Loop detected: the socket is bound to the address that it dials",
            Fault::Superseded => {
                "no answer came before the attempt was given up for the next address"
            }
            Fault::SelfConnected => "nothing listens on that port: the socket connected to itself",
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
            Fault::Lost(_) => "connection lost: the peer is unreachable",
            Fault::Io(_) => "the operating system failed",
            Fault::Internal => "internal error: please report",
            Fault::LocalityUnknown(_) => {
                "the system did not tell whether the address is a listener of this program"
            }
        }
    }

    pub(super) fn io_kind(self, source: Option<&io::Error>) -> io::ErrorKind {
        match (self.kind(), source) {
            (ErrorKind::Resolve, None) if self == Fault::NoAddress => io::ErrorKind::NotFound,
            // A file that does not exist is no name that does not.
            (ErrorKind::Resolve, Some(source))
                if source.kind() == io::ErrorKind::NotFound && source.raw_os_error().is_some() =>
            {
                io::ErrorKind::Other
            }
            (kind @ (ErrorKind::Connect | ErrorKind::Io | ErrorKind::Resolve), Some(source)) => {
                io_kind(kind, source)
            }
            (kind, _) => kind.io_kind(),
        }
    }
}

/// The kind that the system's own error gives an error of this kind.
pub(super) fn io_kind(kind: ErrorKind, source: &io::Error) -> io::ErrorKind {
    match source.kind() {
        // They ask for the same call again, as std's `write_all` makes it, and would for ever.
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => kind.io_kind(),
        other => other,
    }
}

/// What the system calls a failure, without its number.
pub(super) fn words(code: i32) -> String {
    let text = io::Error::from_raw_os_error(code).to_string();
    match text.strip_suffix(&format!(" (os error {code})")) {
        Some(words) => words.to_owned(),
        None => text,
    }
}

/// Why an attempt failed, in words of our own.
fn connect_reason(code: i32) -> Cow<'static, str> {
    Cow::Borrowed(match io::Error::from_raw_os_error(code).kind() {
        io::ErrorKind::ConnectionRefused => "the connection was refused",
        io::ErrorKind::ConnectionReset => "the peer reset the attempt",
        io::ErrorKind::ConnectionAborted => "the attempt was aborted on the way",
        io::ErrorKind::HostUnreachable => "the host is unreachable",
        io::ErrorKind::NetworkUnreachable => "there is no route to the network",
        io::ErrorKind::NetworkDown => "the network interface is off",
        io::ErrorKind::TimedOut => "nobody answered for as long as the system waits",
        io::ErrorKind::AddrInUse => "the local address is taken",
        io::ErrorKind::AddrNotAvailable => "no local address or port can be had for it",
        io::ErrorKind::PermissionDenied => "this system forbids it",
        io::ErrorKind::InvalidInput => "this system has no such way",
        _ => return Cow::Owned(format!("this system could not dial it (code {code})")),
    })
}

/// A limit in time, named by what it limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimerKind {
    /// The connect timeout, while all places for open sockets were taken.
    Slot,
    /// The connect timeout, while the name was looked up, or the lookup waited to begin.
    Lookup,
    /// The connect timeout, while addresses were dialled.
    Connect,
    /// The connect timeout, while the TLS handshake was made.
    Handshake,
    /// The connect timeout of an upgrade, while it waited to begin.
    Upgrade,
    /// The time between two attempts: nothing fails by it.
    NextAttempt,
    /// The time that IPv4 addresses wait for IPv6 ones: nothing fails by it.
    OtherFamilyDelay,
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
    /// The connect timeout, while the lookup waited for others of its connector. Only the driver, which runs
    /// lookups, tells this from [`LookUp`](Self::Lookup).
    LookupQueue,
    /// The connect timeout or deadline, before connecting began.
    Start,
}

impl TimerKind {
    /// The step that fails when this limit passes, if that is always the same.
    pub(crate) fn step(self) -> Option<Step> {
        match self {
            TimerKind::Slot => Some(Step::WaitForSlot),
            TimerKind::Lookup => Some(Step::Lookup),
            TimerKind::LookupQueue => Some(Step::WaitForLookup),
            TimerKind::Connect | TimerKind::NextAttempt | TimerKind::OtherFamilyDelay => {
                Some(Step::Connect)
            }
            TimerKind::Handshake => Some(Step::Handshake),
            TimerKind::Close => Some(Step::Close),
            // It depends on the call and on where the socket is.
            TimerKind::Upgrade
            | TimerKind::Read
            | TimerKind::Write
            | TimerKind::Opened
            | TimerKind::Closed
            | TimerKind::Start => None,
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            TimerKind::Slot => {
                "the connect timeout passed while as many sockets as there may be were open"
            }
            TimerKind::Lookup => "the connect timeout passed during the name lookup",
            TimerKind::LookupQueue => {
                "the connect timeout passed while the name lookup waited for others to end"
            }
            TimerKind::Connect => "the connect timeout passed before an address answered",
            TimerKind::Handshake => "the connect timeout passed during the TLS handshake",
            TimerKind::Upgrade => {
                "the connect timeout passed before the upgrade to TLS could begin"
            }
            TimerKind::NextAttempt => "the next attempt was due",
            TimerKind::OtherFamilyDelay => "the wait for addresses of the other family was over",
            TimerKind::Close => "the close timeout passed before everything was handed over",
            TimerKind::Read => "the read timeout or deadline passed",
            TimerKind::Write => "the write timeout or deadline passed",
            TimerKind::Opened => "the limit of this wait passed before the connection opened",
            TimerKind::Closed => "the limit of this wait passed before the socket was closed",
            TimerKind::Start => "the connect deadline had passed before connecting began",
        }
    }
}

/// What a socket was doing when it failed: [`Error::step`](crate::Error::step).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Waiting for a slot at [`max_open_sockets`](crate::ConnectorBuilder::max_open_sockets).
    WaitForSlot,
    /// Waiting for one of the connector's lookups to finish.
    WaitForLookup,
    /// The name lookup.
    Lookup,
    /// The connection attempts, and the check of an address by the egress rules.
    Connect,
    /// The dialogue with a proxy. No error has it yet.
    Proxy,
    /// The TLS handshake, also that of an upgrade.
    Handshake,
    /// A read.
    Read,
    /// A write or a flush.
    Write,
    /// Closing the socket or its write side.
    Close,
}

/// An attempt of a connection that never came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// The address.
    pub address: SocketAddr,
    /// Why it failed. If the whole connection failed first, that failure.
    pub fault: Fault,
    /// The time from its beginning to its failure. Zero for an address that was refused.
    pub elapsed: Duration,
}
