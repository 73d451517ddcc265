//! The kinds of errors, and the kinds of `std::io` that reads and writes carry.

use std::io;

/// The kind of an [`Error`](crate::Error). Parentheses give the [`io::ErrorKind`] that reads and writes carry. That is never
/// `Interrupted` or `WouldBlock`, because repeating the call would not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The address is not `host:port`, or its host or port is invalid (`InvalidInput`).
    InvalidAddress,
    /// An option has an invalid value, or one that this system does not support (`InvalidInput`).
    InvalidOptions,
    /// The program misused the call order; a peer never causes this (`InvalidInput`).
    InvalidState,
    /// The egress rules refused the connection, or the [ingress rules](crate::IngressRules) the client that a PROXY header
    /// names (`PermissionDenied`).
    Denied,
    /// The connection would come back to this program (`PermissionDenied`). Its address is an
    /// [`own_listener`](crate::EgressRules::own_listener), or the socket is bound to the very address that it dials.
    Loop,
    /// Too many sockets are open (`ResourceBusy`).
    Limit,
    /// The name did not resolve, or the resolver panicked. `NotFound` only if the name is known not to exist or to
    /// have no address; otherwise `Other`, or the resolver's own kind. If the failure may pass, the error
    /// [is transient](crate::Error::is_transient).
    Resolve,
    /// No address accepted the connection (`ConnectionRefused`, `HostUnreachable`, … of the last attempt).
    Connect,
    /// A proxy refused the connection, sent a malformed reply, or disconnected; or a PROXY header was rejected (the kind
    /// of the [`ProxyReply`](crate::ProxyReply), which [`proxy_reply`](crate::Error::proxy_reply) returns).
    Proxy,
    /// Handshake, certificate or record failure, including the peer's FIN during a handshake (`InvalidData`). The
    /// [source](std::error::Error::source) is the `rustls::Error` if there is one.
    Tls,
    /// Plaintext was waiting when the upgrade began (`InvalidData`).
    UnreadPlaintext,
    /// TLS data ended without `close_notify` (`UnexpectedEof`).
    Truncated,
    /// A time limit of this crate passed (`TimedOut`).
    TimedOut,
    /// The operating system gave up on the peer: keepalive, user timeout or retransmission. Final
    /// (`ConnectionAborted`).
    Lost,
    /// The peer reset the connection. A broken pipe is reported as this too (`ConnectionReset`).
    Reset,
    /// This side closed or aborted, or the peer has ended and this side writes (`NotConnected`). The message names
    /// the side.
    Closed,
    /// The socket was upgraded, so use the new one; or its connection was detached (`NotConnected`).
    Upgraded,
    /// Any other failure of the operating system, such as running out of descriptors (its own kind). The message
    /// includes the system's text, and the [source](std::error::Error::source) is its error.
    Io,
}

impl ErrorKind {
    /// Returns the kind that reads and writes carry if the failure itself has none.
    pub(super) fn io_kind(self) -> io::ErrorKind {
        match self {
            ErrorKind::InvalidAddress | ErrorKind::InvalidOptions | ErrorKind::InvalidState => {
                io::ErrorKind::InvalidInput
            }
            ErrorKind::Denied | ErrorKind::Loop => io::ErrorKind::PermissionDenied,
            ErrorKind::Limit => io::ErrorKind::ResourceBusy,
            // `NotFound` is reserved for names that are known not to exist.
            ErrorKind::Resolve => io::ErrorKind::Other,
            ErrorKind::Connect => io::ErrorKind::ConnectionRefused,
            ErrorKind::Tls | ErrorKind::UnreadPlaintext => io::ErrorKind::InvalidData,
            ErrorKind::Truncated => io::ErrorKind::UnexpectedEof,
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::Lost => io::ErrorKind::ConnectionAborted,
            ErrorKind::Reset => io::ErrorKind::ConnectionReset,
            ErrorKind::Closed | ErrorKind::Upgraded => io::ErrorKind::NotConnected,
            // A reply has its own kind.
            ErrorKind::Proxy | ErrorKind::Io => io::ErrorKind::Other,
        }
    }
}
