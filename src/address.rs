//! The address to connect to: a host and a port, checked before anything is sent.
//!
//! The host is a name or an IP literal, and is kept as it was written. Lookups and egress rules are elsewhere. The
//! `parse` module has the text form and its errors.

mod parse;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::str::FromStr;

use crate::error::{Error, Result};

pub(crate) use parse::{bare_host, quote};

/// A host (DNS name or IP literal) and a port. Text form: `host:port`; IPv6 as `[::1]:80`.
///
/// The host is kept as it was written, including upper case and a trailing dot. The resolver and
/// [`SocketInfo::requested`](crate::SocketInfo::requested) get it in this form. It is an IP literal if the standard
/// library parses it as one, which is the strict form of [RFC 6943, section 3.1.1]. Legacy IPv4 spellings such as
/// `127.1`, `0177.0.0.1` or `2130706433` are names: they go to the resolver like any other.
///
/// A host has 1 to 255 bytes. All of them are ASCII letters, digits, `.`, `-` or `_`, unless it is an IPv6 literal. A
/// port is a decimal number from 1 to 65535; leading zeros are ignored. There is no default port. Of a URL, only host
/// and port are accepted.
///
/// Create an address from text with [`str::parse`], or from a host and a port with [`SocketAddress::new`]. [`From`]
/// and [`TryFrom`] convert everything that [`connect`](crate::connect) takes: `&str`, `String`, `(&str, u16)`,
/// `(String, u16)`, `(IpAddr, u16)`, `(Ipv4Addr, u16)`, `(Ipv6Addr, u16)`, `([u8; 4], u16)`, [`SocketAddr`],
/// [`SocketAddrV4`] and [`SocketAddrV6`].
///
/// ```
/// use sockeye::SocketAddress;
///
/// let address: SocketAddress = "gopher.floodgap.com:70".parse()?;
/// assert_eq!(address.hostname(), "gopher.floodgap.com");
/// assert_eq!(address.port(), 70);
///
/// let address = SocketAddress::new("::1", 5432)?;
/// assert_eq!(address.to_string(), "[::1]:5432");
///
/// let error = SocketAddress::try_from("tcp://example.com:80").unwrap_err();
/// assert!(error.to_string().contains("scheme"), "{error}");
/// # Ok::<(), sockeye::Error>(())
/// ```
///
/// # Errors
///
/// Every fallible conversion returns [`ErrorKind::InvalidAddress`](crate::ErrorKind::InvalidAddress) with a message
/// that names the fault:
/// - a scheme, user information, path, query, fragment or zone;
/// - white space, a control character, or any other character that is not allowed in a host;
/// - an empty host, or one longer than 255 bytes;
/// - a colon outside an IPv6 literal, unbalanced brackets, or brackets around anything but IPv6;
/// - a port that is missing, empty, signed, not a number, 0, or greater than 65535.
///
/// [RFC 6943, section 3.1.1]: https://www.rfc-editor.org/rfc/rfc6943#section-3.1.1
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[doc(alias("SocketAddr", "ToSocketAddrs", "hostname", "HostPort", "Addr"))]
pub struct SocketAddress {
    /// The host, without brackets.
    hostname: Box<str>,
    port: u16,
    /// The zone of a link-local IPv6 address that was passed as a number; 0 if there is none.
    scope_id: u32,
}

impl SocketAddress {
    /// Creates an address from a host and a port. Accepts IPv6 hosts with or without brackets.
    ///
    /// ```
    /// use sockeye::SocketAddress;
    ///
    /// assert_eq!(SocketAddress::new("example.com", 80)?.to_string(), "example.com:80");
    /// assert_eq!(SocketAddress::new("::1", 80)?, SocketAddress::new("[::1]", 80)?);
    /// assert!(SocketAddress::new("example.com:80", 80).is_err());
    /// assert!(SocketAddress::new("example.com", 0).is_err());
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidAddress`](crate::ErrorKind::InvalidAddress) if the host is invalid or the port is 0.
    pub fn new(hostname: impl Into<String>, port: u16) -> Result<Self> {
        let written: String = hostname.into();
        let host = parse::host(&written)?;
        // The lengths differ only by brackets. Otherwise the text itself is the host and needs no copy.
        let hostname = if host.len() == written.len() { written.into() } else { host.into() };
        let address = SocketAddress { hostname, port, scope_id: 0 };
        address.check_port()?;
        Ok(address)
    }

    /// Returns the host as it was written; an IPv6 literal without its brackets.
    ///
    /// ```
    /// let address: sockeye::SocketAddress = "[::1]:80".parse()?;
    /// assert_eq!(address.hostname(), "::1");
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    #[must_use]
    #[doc(alias("host", "ip"))]
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Returns the port. It is 0 only in an address converted from numbers, which [`connect`](crate::connect) then
    /// refuses.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the numeric address if the host is an IP literal, which needs no lookup.
    pub(crate) fn as_socket_addr(&self) -> Option<SocketAddr> {
        Some(match self.hostname.parse().ok()? {
            IpAddr::V4(ip) => SocketAddr::from((ip, self.port)),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, self.port, 0, self.scope_id).into(),
        })
    }

    /// Creates the address that stands for a Unix-domain one, which no connect accepts.
    pub(crate) fn unreachable_localhost() -> Self {
        SocketAddress { hostname: "localhost".into(), port: 0, scope_id: 0 }
    }

    /// Refuses port 0, which the conversions from numbers accept.
    pub(crate) fn check_port(&self) -> Result<()> {
        match self.port {
            0 => Err(parse::port_zero(&self.to_string())),
            _ => Ok(()),
        }
    }
}

/// Parses `host:port`. Errors: see [`SocketAddress`].
impl FromStr for SocketAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (host, port) = parse::split_host_port(text)?;
        Ok(SocketAddress { hostname: host.into(), port, scope_id: 0 })
    }
}

/// Parses `host:port`. Errors: see [`SocketAddress`].
impl TryFrom<&str> for SocketAddress {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        text.parse()
    }
}

/// Parses `host:port`. Errors: see [`SocketAddress`].
impl TryFrom<String> for SocketAddress {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// Parses `host:port`. Errors: see [`SocketAddress`].
impl TryFrom<&String> for SocketAddress {
    type Error = Error;

    fn try_from(text: &String) -> Result<Self> {
        text.parse()
    }
}

/// Converts like [`SocketAddress::new`], with its errors.
impl TryFrom<(&str, u16)> for SocketAddress {
    type Error = Error;

    fn try_from((hostname, port): (&str, u16)) -> Result<Self> {
        SocketAddress::new(hostname, port)
    }
}

/// Converts like [`SocketAddress::new`], with its errors.
impl TryFrom<(String, u16)> for SocketAddress {
    type Error = Error;

    fn try_from((hostname, port): (String, u16)) -> Result<Self> {
        SocketAddress::new(hostname, port)
    }
}

/// Accepts any port; [`connect`](crate::connect) refuses 0.
impl From<(IpAddr, u16)> for SocketAddress {
    fn from((ip, port): (IpAddr, u16)) -> Self {
        let hostname = match ip {
            IpAddr::V4(ip) => dotted(ip),
            IpAddr::V6(ip) => ip.to_string().into(),
        };
        SocketAddress { hostname, port, scope_id: 0 }
    }
}

/// Accepts any port; [`connect`](crate::connect) refuses 0.
impl From<(Ipv4Addr, u16)> for SocketAddress {
    fn from((ip, port): (Ipv4Addr, u16)) -> Self {
        SocketAddress::from((IpAddr::V4(ip), port))
    }
}

/// Accepts any port; [`connect`](crate::connect) refuses 0.
impl From<(Ipv6Addr, u16)> for SocketAddress {
    fn from((ip, port): (Ipv6Addr, u16)) -> Self {
        SocketAddress::from((IpAddr::V6(ip), port))
    }
}

/// Accepts any port; [`connect`](crate::connect) refuses 0.
///
/// ```
/// use sockeye::SocketAddress;
///
/// assert_eq!(SocketAddress::from(([127, 0, 0, 1], 80)).to_string(), "127.0.0.1:80");
/// ```
impl From<([u8; 4], u16)> for SocketAddress {
    fn from((octets, port): ([u8; 4], u16)) -> Self {
        SocketAddress::from((IpAddr::from(octets), port))
    }
}

/// Accepts any port; [`connect`](crate::connect) refuses 0.
impl From<SocketAddrV4> for SocketAddress {
    fn from(address: SocketAddrV4) -> Self {
        SocketAddress::from(SocketAddr::V4(address))
    }
}

/// Keeps the scope id, like the conversion from [`SocketAddr`]. Accepts any port; [`connect`](crate::connect) refuses
/// 0.
impl From<SocketAddrV6> for SocketAddress {
    fn from(address: SocketAddrV6) -> Self {
        SocketAddress::from(SocketAddr::V6(address))
    }
}

/// Returns the text of an IPv4 address. Every socket that is created from one needs it, and `Display` takes ten times
/// as long.
fn dotted(ip: Ipv4Addr) -> Box<str> {
    let mut text = [0; 15];
    let mut len = 0;
    let mut push = |byte| {
        text[len] = byte;
        len += 1;
    };
    for (place, octet) in ip.octets().into_iter().enumerate() {
        if place > 0 {
            push(b'.');
        }
        if octet >= 100 {
            push(b'0' + octet / 100);
        }
        if octet >= 10 {
            push(b'0' + octet / 10 % 10);
        }
        push(b'0' + octet % 10);
    }
    std::str::from_utf8(&text[..len]).expect("digits and dots are ASCII").into()
}

/// Keeps the IPv6 scope: it is dialled and compared, but not printed. A proxy cannot get one. Accepts any port;
/// [`connect`](crate::connect) refuses 0.
///
/// ```
/// use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
/// use sockeye::SocketAddress;
///
/// let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// let on = |interface| SocketAddr::from(SocketAddrV6::new(link_local, 80, 0, interface));
/// assert_eq!(SocketAddress::from(on(2)).to_string(), "[fe80::1]:80");
/// assert_ne!(SocketAddress::from(on(2)), SocketAddress::from(on(3)));
/// ```
impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        let scope_id = match address {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(v6) => v6.scope_id(),
        };
        SocketAddress { scope_id, ..SocketAddress::from((address.ip(), address.port())) }
    }
}

impl From<&SocketAddress> for SocketAddress {
    fn from(address: &SocketAddress) -> Self {
        address.clone()
    }
}

/// Prints `host:port`, with an IPv6 host in brackets. Parsing the text returns an equal address, except that an IPv6
/// scope id is not printed.
impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only an IPv6 literal has colons.
        if self.hostname.contains(':') {
            write!(f, "[{}]:{}", self.hostname, self.port)
        } else {
            write!(f, "{}:{}", self.hostname, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_as_small_as_its_parts() {
        let size = size_of::<Box<str>>() + size_of::<(u16, u32)>();
        assert_eq!(size_of::<SocketAddress>(), size);
        assert_eq!(size_of::<Option<SocketAddress>>(), size);
    }

    #[test]
    fn ipv4_text_equals_that_of_the_standard_library() {
        for octet in 0..=u8::MAX {
            let ip = Ipv4Addr::new(octet, u8::MAX - octet, octet / 3, octet.wrapping_mul(7));
            assert_eq!(*dotted(ip), ip.to_string());
        }
    }

    #[test]
    fn a_new_address_accepts_ipv6_with_or_without_brackets() {
        for host in ["::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "fe80::AbCd"] {
            let bare = SocketAddress::new(host, 80).unwrap();
            let bracketed = SocketAddress::new(format!("[{host}]"), 80).unwrap();
            assert_eq!(bare, bracketed);
            assert_eq!(bare.hostname(), host);
            assert_eq!(bare.to_string(), format!("[{host}]:80"));
            assert_eq!(bare.to_string().parse::<SocketAddress>().unwrap(), bare);
        }
    }

    #[test]
    fn port_0_is_refused_with_the_same_message_everywhere() {
        let parsed = "127.0.0.1:0".parse::<SocketAddress>().unwrap_err();
        let made = SocketAddress::new("127.0.0.1", 0).unwrap_err();
        let numeric = SocketAddr::from(([127, 0, 0, 1], 0));
        let converted = SocketAddress::from(numeric).check_port().unwrap_err();
        assert_eq!(parsed.to_string(), made.to_string());
        assert_eq!(parsed.to_string(), converted.to_string());
        assert!(SocketAddress::from((numeric.ip(), 1)).check_port().is_ok());
    }

    #[test]
    fn every_conversion_makes_the_same_address() {
        let expected = SocketAddress::new("127.0.0.1", 80).unwrap();
        let ip = IpAddr::from([127, 0, 0, 1]);
        let made = [
            SocketAddress::try_from("127.0.0.1:80").unwrap(),
            SocketAddress::try_from(String::from("127.0.0.1:80")).unwrap(),
            SocketAddress::try_from(&String::from("127.0.0.1:80")).unwrap(),
            SocketAddress::try_from(("127.0.0.1", 80)).unwrap(),
            SocketAddress::try_from((String::from("127.0.0.1"), 80)).unwrap(),
            SocketAddress::from((ip, 80)),
            SocketAddress::from(SocketAddr::from((ip, 80))),
            SocketAddress::from((Ipv4Addr::LOCALHOST, 80)),
            SocketAddress::from(([127, 0, 0, 1], 80)),
            SocketAddress::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80)),
            SocketAddress::from(&expected),
        ];
        for address in made {
            assert_eq!(address, expected);
        }
        let expected = SocketAddress::new("::1", 80).unwrap();
        let scoped = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, 7);
        for address in [
            SocketAddress::from((Ipv6Addr::LOCALHOST, 80)),
            SocketAddress::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, 0)),
        ] {
            assert_eq!(address, expected);
        }
        assert_eq!(SocketAddress::from(scoped), SocketAddress::from(SocketAddr::V6(scoped)));
        assert_ne!(SocketAddress::from(scoped), expected);
    }

    #[test]
    fn only_ip_addresses_of_the_standard_library_are_literals() {
        let as_socket_addr = |host: &str| SocketAddress::new(host, 80).unwrap().as_socket_addr();
        assert_eq!(as_socket_addr("127.0.0.1"), Some("127.0.0.1:80".parse().unwrap()));
        assert_eq!(as_socket_addr("0:0:0:0:0:0:0:1"), Some("[::1]:80".parse().unwrap()));
        assert_eq!(
            as_socket_addr("[::ffff:7f00:1]"),
            Some("[::ffff:127.0.0.1]:80".parse().unwrap())
        );
        let names = ["localhost", "127.1", "0x7f.0.0.1", "0177.0.0.1", "127.0.0.01", "2130706433"];
        for name in names.into_iter().chain(["127.0.0.1.", "127.0.0.1.1", "256.0.0.1", "unix"]) {
            assert_eq!(as_socket_addr(name), None, "{name}");
        }
    }

    #[test]
    fn an_ipv6_scope_is_dialled_and_compared_but_not_printed() {
        let ip = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let scoped = SocketAddr::from(SocketAddrV6::new(ip, 80, 0, 7));
        let address = SocketAddress::from(scoped);
        assert_eq!(address.as_socket_addr(), Some(scoped));
        assert_eq!(address.to_string(), "[fe80::1]:80");
        assert_ne!(address, "[fe80::1]:80".parse().unwrap());
    }
}
