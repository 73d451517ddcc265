//! `Fault`, the machine's small error type, with the timer that expired and the step that failed.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::kind::ErrorKind;
use super::proxy_reply::ProxyReply;

/// The reason of a failure, as the state machine knows it: small, copyable data.
///
/// A code is that of the operating system, as [`io::Error::raw_os_error`] returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// This side closed the socket.
    Closed,
    /// This side aborted the connection.
    Aborted,
    /// The peer has ended the connection, and this side's writing has ended with it.
    PeerEnded,
    /// The name did not resolve.
    Resolve,
    /// The name resolved to no address.
    NoAddress,
    /// The socket is bound to one address family, and the name has addresses of the other one only.
    NoAddressOfFamily,
    /// The proxy supports no address of the name: SOCKS 4 supports IPv4 only.
    NoAddressForProxy,
    /// The egress rules deny the address.
    Denied,
    /// The ingress rules deny the client that a PROXY header names.
    ClientDenied,
    /// The client that a PROXY header names has as many open sockets as the ingress rules allow.
    ClientLimit,
    /// The address is a listener of this program.
    OwnListener,
    /// The socket is bound to the very address that it dialled.
    Loop,
    /// Nothing listens on the port, and by chance the socket connected to itself.
    SelfConnected,
    /// The attempt was refused, or could not reach its address.
    Connect(i32),
    /// The queue of a Unix-domain listener is full. The machine tries again.
    Busy,
    /// A timer fired.
    TimedOut(TimerKind),
    /// TLS failed; [`Machine::tls_failure`](crate::machine::Machine::tls_failure) has the details.
    Tls,
    /// TLS data ended without close_notify.
    Truncated,
    /// Bytes from the peer were unread when an upgrade began.
    UnreadPlaintext,
    /// The socket was upgraded, and another one has its connection.
    Upgraded,
    /// The socket was detached, and the program has its connection.
    Detached,
    /// The peer reset the connection. There is no code if only the state of the wire shows it.
    Reset(Option<i32>),
    /// The peer reset the connection after its FIN, or a write met a Unix-domain peer that had closed. If an EOF follows
    /// what it sent before, that is complete.
    ResetAfterEnd(i32),
    /// The operating system gave up on the peer.
    Lost(i32),
    /// Any other failure of the operating system.
    Io(i32),
    /// The attempt was cancelled in favour of the next address, because too many were pending.
    Superseded,
    /// The address may be a listener of this program: the kernel did not report whether it is local.
    LocalityUnknown(i32),
    /// A proxy refused the connection, or a PROXY header was wrong.
    Proxy(ProxyReply),
    /// A bug of this crate: a panic interrupted the work on the socket.
    Internal,
    /// An option of the socket could not be set.
    Option(TcpOption, i32),
}

impl Fault {
    /// Returns the kind of the error that this fault becomes.
    #[must_use]
    pub fn kind(self) -> ErrorKind {
        match self {
            Fault::Closed | Fault::Aborted | Fault::PeerEnded => ErrorKind::Closed,
            Fault::Resolve | Fault::NoAddress => ErrorKind::Resolve,
            Fault::NoAddressOfFamily
            | Fault::NoAddressForProxy
            | Fault::SelfConnected
            | Fault::Connect(_)
            | Fault::Busy => ErrorKind::Connect,
            Fault::Denied | Fault::ClientDenied | Fault::ClientLimit => ErrorKind::Denied,
            Fault::OwnListener | Fault::Loop => ErrorKind::Loop,
            Fault::TimedOut(_) | Fault::Superseded => ErrorKind::TimedOut,
            Fault::Reset(_) | Fault::ResetAfterEnd(_) => ErrorKind::Reset,
            Fault::Proxy(_) => ErrorKind::Proxy,
            Fault::Tls => ErrorKind::Tls,
            Fault::Truncated => ErrorKind::Truncated,
            Fault::UnreadPlaintext => ErrorKind::UnreadPlaintext,
            Fault::Upgraded | Fault::Detached => ErrorKind::Upgraded,
            Fault::Lost(_) => ErrorKind::Lost,
            Fault::Io(_) | Fault::Option(..) | Fault::LocalityUnknown(_) | Fault::Internal => {
                ErrorKind::Io
            }
        }
    }

    /// Checks whether an address was not dialled because the rules deny it.
    pub(crate) fn is_denial(self) -> bool {
        matches!(self.kind(), ErrorKind::Denied | ErrorKind::Loop)
    }

    /// Checks whether this side ended the socket.
    pub(crate) fn is_own_end(self) -> bool {
        matches!(self, Fault::Closed | Fault::Aborted)
    }

    /// Checks whether the connection has passed to another owner.
    pub(crate) fn is_transfer(self) -> bool {
        matches!(self, Fault::Upgraded | Fault::Detached)
    }

    /// Checks whether an address was not dialled because this side lacked a resource, such as a descriptor.
    pub(crate) fn is_resource_exhaustion(self) -> bool {
        matches!(self, Fault::Io(_) | Fault::LocalityUnknown(_))
    }

    pub(super) fn proxy_reply(self) -> Option<ProxyReply> {
        match self {
            Fault::Proxy(reply) => Some(reply),
            _ => None,
        }
    }

    pub(super) fn code(self) -> Option<i32> {
        match self {
            Fault::Connect(code)
            | Fault::ResetAfterEnd(code)
            | Fault::Lost(code)
            | Fault::Io(code)
            | Fault::Option(_, code)
            | Fault::LocalityUnknown(code) => Some(code),
            Fault::Reset(code) => code,
            Fault::Closed
            | Fault::Aborted
            | Fault::PeerEnded
            | Fault::Resolve
            | Fault::NoAddress
            | Fault::NoAddressOfFamily
            | Fault::NoAddressForProxy
            | Fault::Denied
            | Fault::ClientDenied
            | Fault::ClientLimit
            | Fault::OwnListener
            | Fault::Loop
            | Fault::SelfConnected
            | Fault::Superseded
            | Fault::Busy
            | Fault::TimedOut(_)
            | Fault::Tls
            | Fault::Truncated
            | Fault::UnreadPlaintext
            | Fault::Upgraded
            | Fault::Detached
            | Fault::Proxy(_)
            | Fault::Internal => None,
        }
    }

    /// Returns what failed and why, without the operating system's text, which the source has.
    pub(super) fn reason(self) -> Cow<'static, str> {
        match self {
            Fault::Connect(code) => connect_reason(code),
            Fault::Io(code) | Fault::Option(_, code) => {
                Cow::Owned(format!("{}: {}", self.message(), words(code)))
            }
            Fault::Proxy(reply) => Cow::Owned(format!("the proxy {}", reply.words())),
            other => Cow::Borrowed(other.message()),
        }
    }

    /// Returns what failed.
    pub(crate) fn text(self) -> &'static str {
        self.message()
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Fault::Denied => "the egress rules deny the address",
            Fault::ClientDenied => "the ingress rules deny the client",
            Fault::ClientLimit => "the client has max_per_client sockets open",
            Fault::OwnListener => "TCP Loop detected: the address is a listener of this program",
            Fault::Closed => "this side closed the socket",
            Fault::Aborted => "this side aborted the connection",
            Fault::PeerEnded => "the peer has closed the connection",
            Fault::Resolve => "the name did not resolve",
            Fault::NoAddress => "the name resolved to no address",
            Fault::NoAddressOfFamily => {
                "the name has no address of the family that the socket is bound to"
            }
            Fault::NoAddressForProxy => {
                "the name has no IPv4 address that SOCKS 4 can express, and it supports no others"
            }
            Fault::Loop => "TCP Loop detected: the socket is bound to the address that it dials",
            Fault::Superseded => "no answer before the attempt was cancelled for the next address",
            Fault::SelfConnected => "nothing listens on that port: the socket connected to itself",
            Fault::Connect(_) => "the connection failed",
            Fault::Busy => "the queue of the listener is full",
            Fault::TimedOut(limit) => limit.message(),
            Fault::Tls => "TLS failed",
            Fault::Truncated => {
                "the peer closed the connection without close_notify: the data may be truncated"
            }
            Fault::UnreadPlaintext => {
                "plaintext from the peer was unread when the upgrade to TLS began: an attacker may have \
                 injected it"
            }
            Fault::Upgraded => {
                "the socket was upgraded to TLS: use the one that start_tls returned"
            }
            Fault::Detached => "the connection was detached: use the stream that detach returned",
            Fault::Reset(_) => "the peer reset the connection",
            Fault::ResetAfterEnd(_) => {
                "the peer has closed the connection, and did not receive everything"
            }
            Fault::Lost(_) => "connection lost: the peer is unreachable",
            Fault::Io(_) => "the operating system reported an error",
            Fault::Option(option, _) => option.message(),
            Fault::Proxy(_) => "the proxy did not accept the connection",
            Fault::Internal => "internal error: please report",
            Fault::LocalityUnknown(_) => {
                "cannot determine whether the address is a listener of this program"
            }
        }
    }

    pub(super) fn io_kind(self, source: Option<&io::Error>) -> io::ErrorKind {
        if let Fault::Proxy(reply) = self {
            return reply.io_kind();
        }
        match (self.kind(), source) {
            (ErrorKind::Resolve, None) if self == Fault::NoAddress => io::ErrorKind::NotFound,
            // A missing file does not mean that the name does not exist.
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

/// Returns the kind of an error whose source is `source`.
pub(super) fn io_kind(kind: ErrorKind, source: &io::Error) -> io::ErrorKind {
    match source.kind() {
        // These kinds ask for the same call again. `write_all` of std would repeat it forever.
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => kind.io_kind(),
        other => other,
    }
}

/// Returns the operating system's text for a code, without the number.
pub(super) fn words(code: i32) -> String {
    let text = io::Error::from_raw_os_error(code).to_string();
    match text.strip_suffix(&format!(" (os error {code})")) {
        Some(words) => words.to_owned(),
        None => text,
    }
}

/// Returns the reason why an attempt failed, in this crate's words.
fn connect_reason(code: i32) -> Cow<'static, str> {
    Cow::Borrowed(match io::Error::from_raw_os_error(code).kind() {
        io::ErrorKind::ConnectionRefused => "the connection was refused",
        io::ErrorKind::ConnectionReset => "the peer reset the attempt",
        io::ErrorKind::ConnectionAborted => "the attempt was aborted",
        io::ErrorKind::HostUnreachable => "the host is unreachable",
        io::ErrorKind::NetworkUnreachable => "there is no route to the network",
        io::ErrorKind::NetworkDown => "the network interface is down",
        io::ErrorKind::TimedOut => "no answer within the time limit of the operating system",
        io::ErrorKind::AddrInUse => "the local address is in use",
        io::ErrorKind::AddrNotAvailable => "no local address or port is available",
        io::ErrorKind::PermissionDenied => "the operating system forbids it",
        io::ErrorKind::InvalidInput => "the operating system rejects the address",
        // Only for a path.
        io::ErrorKind::NotFound => "the path does not exist",
        _ => return Cow::Owned(format!("the operating system reported error {code}")),
    })
}

/// An option of a TCP socket, as in [`TcpOptions`](crate::TcpOptions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TcpOption {
    /// `TCP_NODELAY`.
    Nodelay,
    /// `SO_KEEPALIVE` and its times.
    Keepalive,
    /// `TCP_USER_TIMEOUT`.
    UserTimeout,
    /// `SO_RCVBUF`.
    RecvBufferSize,
    /// `SO_SNDBUF`.
    SendBufferSize,
    /// `SO_BINDTODEVICE` or `IP_BOUND_IF`.
    BindDevice,
    /// `SO_MARK`.
    Mark,
    /// `IP_TOS` or `IPV6_TCLASS`.
    Dscp,
}

impl TcpOption {
    pub(crate) fn message(self) -> &'static str {
        match self {
            TcpOption::Nodelay => "cannot set nodelay",
            TcpOption::Keepalive => "cannot set keepalive",
            TcpOption::UserTimeout => "cannot set user_timeout",
            TcpOption::RecvBufferSize => "cannot set recv_buffer_size",
            TcpOption::SendBufferSize => "cannot set send_buffer_size",
            TcpOption::BindDevice => "cannot bind to the network interface of bind_device",
            TcpOption::Mark => "cannot set mark, which needs CAP_NET_ADMIN",
            TcpOption::Dscp => "cannot set dscp",
        }
    }
}

/// A timer of the machine, named after what it limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimerKind {
    /// The connect timeout, during the wait for a free socket slot.
    Slot,
    /// The connect timeout, during the lookup or the wait for it to begin.
    Lookup,
    /// The connect timeout, during the connection attempts.
    Connect,
    /// The connect timeout, during the dialogue with a proxy.
    Proxy,
    /// The handshake timeout of a listener, before the PROXY header was complete.
    ProxyHeader,
    /// The connect timeout, during the TLS handshake.
    Handshake,
    /// The connect timeout of an upgrade, during the wait until it can begin.
    Upgrade,
    /// The delay between two attempts. Not a failure.
    NextAttempt,
    /// The delay of IPv4 addresses after IPv6 ones. Not a failure.
    OtherFamilyDelay,
    /// The close timeout.
    Close,
    /// The read timeout or deadline of one call.
    Read,
    /// The write timeout or deadline of one call.
    Write,
    /// The limit of one wait for the connection to open.
    Opened,
    /// The limit of one wait for the socket to close.
    Closed,
    /// The connect timeout, while the lookup waited for others of its connector. Only the driver, which runs lookups,
    /// distinguishes this from [`Lookup`](Self::Lookup).
    LookupQueue,
    /// The connect timeout, while a server answered nothing to a ClientHello with a post-quantum key. Only the driver
    /// distinguishes this from [`Handshake`](Self::Handshake).
    FirstAnswer,
    /// The connect timeout or deadline, before connecting began.
    Start,
    /// The limit of one accept.
    Accept,
}

impl TimerKind {
    /// Returns the step that fails when this timer fires, if that is always the same one.
    pub(crate) fn step(self) -> Option<Step> {
        match self {
            TimerKind::Slot => Some(Step::WaitForSlot),
            TimerKind::Lookup => Some(Step::Lookup),
            TimerKind::LookupQueue => Some(Step::WaitForLookup),
            TimerKind::Connect | TimerKind::NextAttempt | TimerKind::OtherFamilyDelay => {
                Some(Step::Connect)
            }
            TimerKind::Proxy | TimerKind::ProxyHeader => Some(Step::Proxy),
            TimerKind::Handshake | TimerKind::FirstAnswer => Some(Step::Handshake),
            TimerKind::Close => Some(Step::Close),
            // It depends on the call and on the state of the socket.
            TimerKind::Upgrade
            | TimerKind::Read
            | TimerKind::Write
            | TimerKind::Opened
            | TimerKind::Closed
            | TimerKind::Start
            | TimerKind::Accept => None,
        }
    }

    pub(crate) fn message(self) -> &'static str {
        match self {
            TimerKind::Slot => "the connect timeout passed while waiting for a free socket slot",
            TimerKind::Lookup => "the connect timeout passed during the name lookup",
            TimerKind::LookupQueue => {
                "the connect timeout passed while the name lookup waited for other lookups"
            }
            TimerKind::Connect => "the connect timeout passed before an address answered",
            TimerKind::Proxy => "the connect timeout passed during the dialogue with the proxy",
            TimerKind::ProxyHeader => {
                "the handshake timeout passed before the PROXY header was complete"
            }
            TimerKind::Handshake => "the connect timeout passed during the TLS handshake",
            TimerKind::FirstAnswer => {
                "the connect timeout passed during the TLS handshake, in which the server answered \
                 nothing. Some servers and firewalls drop a ClientHello with a post-quantum key: \
                 try key_exchange_groups without 4588"
            }
            TimerKind::Upgrade => {
                "the connect timeout passed before the upgrade to TLS could begin"
            }
            TimerKind::NextAttempt => "the next attempt is due",
            TimerKind::OtherFamilyDelay => "the delay of the other address family has passed",
            TimerKind::Close => "the close timeout passed before all data reached the kernel",
            TimerKind::Read => "the read timeout or deadline passed",
            TimerKind::Write => "the write timeout or deadline passed",
            TimerKind::Opened => "the wait timed out before the connection opened",
            TimerKind::Closed => "the wait timed out before the socket closed",
            TimerKind::Accept => "the accept timeout or deadline passed",
            TimerKind::Start => "the connect deadline had passed before connecting began",
        }
    }
}

/// Step in which a socket failed, returned by [`Error::step`](crate::Error::step).
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
    /// The dialogue with a proxy, or the wait for its PROXY header.
    Proxy,
    /// The TLS handshake, including that of an upgrade.
    Handshake,
    /// A read.
    Read,
    /// A write or a flush.
    Write,
    /// Closing the socket or its write side.
    Close,
}

/// An attempt of a connection that never opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// The address of the attempt.
    pub address: SocketAddr,
    /// Its failure. If the whole connection failed first, that failure.
    pub fault: Fault,
    /// The time from its beginning to its failure. Zero for a denied address.
    pub elapsed: Duration,
}
