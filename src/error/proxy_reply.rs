//! `ProxyReply`: why a proxy did not accept a connection.

use std::borrow::Cow;
use std::io;

/// Why a proxy did not accept a connection, or why a PROXY header was rejected. Returned by
/// [`Error::proxy_reply`](crate::Error::proxy_reply).
///
/// Parentheses give the [`io::ErrorKind`] that reads and writes carry; it is `Other` for other values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyReply {
    /// An HTTP status other than 2xx. 407 means that the credentials are missing or wrong; the message names the
    /// offered schemes. (`PermissionDenied` for 403 and 407, `HostUnreachable` for 502 and 504.)
    Http(u16),
    /// A reply code of SOCKS 5 (RFC 1928, section 6). (`PermissionDenied` for 2, `NetworkUnreachable` for 3,
    /// `HostUnreachable` for 4, `ConnectionRefused` for 5.)
    Socks5(u8),
    /// No common authentication method (255; RFC 1928, section 3), or a status of RFC 1929, section 2.
    /// (`PermissionDenied`.)
    Socks5Auth(u8),
    /// A reply code of SOCKS 4, 91 to 93.
    Socks4(u8),
    /// Not a reply or header of this protocol, or too long. (`InvalidData`.)
    Malformed,
    /// The connection ended or was reset before the reply or header was complete. (`UnexpectedEof`.)
    Disconnected,
}

impl ProxyReply {
    pub(super) fn io_kind(self) -> io::ErrorKind {
        match self {
            ProxyReply::Http(403 | 407) | ProxyReply::Socks5(2) | ProxyReply::Socks5Auth(_) => {
                io::ErrorKind::PermissionDenied
            }
            ProxyReply::Http(502 | 504) | ProxyReply::Socks5(4) => io::ErrorKind::HostUnreachable,
            ProxyReply::Socks5(3) => io::ErrorKind::NetworkUnreachable,
            ProxyReply::Socks5(5) => io::ErrorKind::ConnectionRefused,
            ProxyReply::Malformed => io::ErrorKind::InvalidData,
            ProxyReply::Disconnected => io::ErrorKind::UnexpectedEof,
            ProxyReply::Http(_) | ProxyReply::Socks5(_) | ProxyReply::Socks4(_) => {
                io::ErrorKind::Other
            }
        }
    }

    /// Returns what the proxy did, without details of its answer. The proxy's name precedes it.
    pub(crate) fn words(self) -> Cow<'static, str> {
        match self {
            ProxyReply::Http(407) => "requires valid credentials: 407".into(),
            ProxyReply::Http(status) => format!("refused: {status}").into(),
            ProxyReply::Socks5(code) => {
                let meaning = match code {
                    1 => "general failure",
                    2 => "not allowed by its rules",
                    3 => "network unreachable",
                    4 => "host unreachable",
                    5 => "connection refused",
                    6 => "TTL expired",
                    7 => "command not supported",
                    8 => "address type not supported",
                    _ => "unknown failure",
                };
                format!("replied: {meaning} (SOCKS 5 reply {code})").into()
            }
            ProxyReply::Socks5Auth(255) => "accepts none of the offered ways to authenticate \
                 (SOCKS 5 method 255)"
                .into(),
            ProxyReply::Socks5Auth(status) => {
                format!("requires other credentials (SOCKS 5 authentication status {status})")
                    .into()
            }
            ProxyReply::Socks4(code) => {
                let meaning = match code {
                    91 => "request rejected or failed",
                    92 => "the proxy cannot reach identd on this host",
                    93 => "the user ID differs from that of identd",
                    _ => "unknown failure",
                };
                format!("replied: {meaning} (SOCKS 4 reply {code})").into()
            }
            ProxyReply::Malformed => "sent a malformed reply".into(),
            ProxyReply::Disconnected => "disconnected before its reply was complete".into(),
        }
    }
}
