//! Nets: address ranges with a common prefix, in the notation of RFC 4632 and RFC 4291.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::quote;
use crate::error::{Error, Result};

/// The addresses that share the first `prefix` bits of a network address, whose other bits are zero.
///
/// A net contains addresses of its own family only. There are no nets of IPv4-mapped addresses: they are IPv4 nets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Net {
    V4(Ipv4Addr, u8),
    V6(Ipv6Addr, u8),
}

impl Net {
    /// Creates an IPv4 net; the caller ensures that there are no bits beyond the prefix.
    pub(super) const fn v4(octets: [u8; 4], prefix: u8) -> Self {
        let [a, b, c, d] = octets;
        Net::V4(Ipv4Addr::new(a, b, c, d), prefix)
    }

    /// Creates an IPv6 net; the caller ensures that there are no bits beyond the prefix.
    pub(super) const fn v6(groups: [u16; 8], prefix: u8) -> Self {
        let [a, b, c, d, e, f, g, h] = groups;
        Net::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
    }

    /// Returns the net with this prefix length that contains an address.
    pub(super) fn enclosing(ip: IpAddr, prefix: u8) -> Self {
        match ip {
            IpAddr::V4(ip) => {
                let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
                Net::V4(Ipv4Addr::from_bits(ip.to_bits() & !host), prefix)
            }
            IpAddr::V6(ip) => {
                let host = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
                Net::V6(Ipv6Addr::from_bits(ip.to_bits() & !host), prefix)
            }
        }
    }

    /// Parses a net, such as `10.0.0.0/8` or `fd00::/8`, or a single address, which becomes a net of its own.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        parse(text).map_err(|fault| {
            let message = format!("invalid net {}: {fault}", quote(text));
            Error::invalid_options(message)
        })
    }

    pub(crate) fn contains(self, ip: IpAddr) -> bool {
        match (self, ip) {
            // A shift by the full width gives None: with prefix 0, every address matches.
            (Net::V4(network, prefix), IpAddr::V4(ip)) => (network.to_bits() ^ ip.to_bits())
                .checked_shr(u32::from(32 - prefix))
                .is_none_or(|differing| differing == 0),
            (Net::V6(network, prefix), IpAddr::V6(ip)) => (network.to_bits() ^ ip.to_bits())
                .checked_shr(u32::from(128 - prefix))
                .is_none_or(|differing| differing == 0),
            (Net::V4(..), IpAddr::V6(_)) | (Net::V6(..), IpAddr::V4(_)) => false,
        }
    }

    pub(super) fn prefix(self) -> u8 {
        match self {
            Net::V4(_, prefix) | Net::V6(_, prefix) => prefix,
        }
    }

    fn network(self) -> IpAddr {
        match self {
            Net::V4(network, _) => network.into(),
            Net::V6(network, _) => network.into(),
        }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix())
    }
}

fn parse(text: &str) -> Result<Net, String> {
    let (address, digits) = match text.split_once('/') {
        Some((address, digits)) => (address, Some(digits)),
        None => (text, None),
    };
    let ip = address.parse().map_err(|_| address_fault(address))?;
    let max = match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let prefix = match digits {
        Some(digits) => parse_prefix(digits, max)?,
        None => max,
    };
    let net = Net::enclosing(ip, prefix);
    if net.network() != ip {
        return Err(format!("{ip} has bits beyond the prefix: {net} may be meant"));
    }
    Ok(canonical_net(net))
}

fn address_fault(address: &str) -> String {
    if address.is_empty() {
        return "the address is empty".to_owned();
    }
    if let Some(c) = address.chars().find(|c| c.is_whitespace()) {
        return format!("it has white space, the character {c:?}");
    }
    match address.split_once('%') {
        Some((ip, _)) if ip.parse::<Ipv6Addr>().is_ok() => "it has a zone".to_owned(),
        _ => format!("{} is not an IPv4 or IPv6 address", quote(address)),
    }
}

fn parse_prefix(digits: &str, max: u8) -> Result<u8, String> {
    if digits.is_empty() {
        return Err("the prefix after the slash is empty".to_owned());
    }
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("the prefix {} is not a decimal number", quote(digits)));
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return Err("the prefix has leading zeros".to_owned());
    }
    // The text has digits only, so a parse error means that the number is too large.
    match digits.parse() {
        Ok(prefix) if prefix <= max => Ok(prefix),
        _ => Err(format!("the prefix is greater than {max}")),
    }
}

/// Converts a net of IPv4-mapped addresses to the IPv4 net.
fn canonical_net(net: Net) -> Net {
    match net {
        Net::V6(network, prefix @ 96..) => match network.to_ipv4_mapped() {
            Some(network) => Net::V4(network, prefix - 96),
            None => net,
        },
        _ => net,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_net_is_an_address_with_or_without_a_prefix() {
        check("10.0.0.0/8", "10.0.0.0/8");
        check("0.0.0.0/0", "0.0.0.0/0");
        check("10.1.2.3", "10.1.2.3/32");
        check("10.1.2.3/32", "10.1.2.3/32");
        check("fd00::/8", "fd00::/8");
        check("FD00:0::/8", "fd00::/8");
        check("::/0", "::/0");
        check("::1", "::1/128");
        check("2001:db8::1/128", "2001:db8::1/128");
        check("64:ff9b::10.0.0.0/104", "64:ff9b::a00:0/104");
    }

    #[test]
    fn a_net_of_mapped_addresses_is_the_ipv4_net() {
        check("::ffff:0:0/96", "0.0.0.0/0");
        check("::ffff:10.0.0.0/104", "10.0.0.0/8");
        check("::ffff:a00:1", "10.0.0.1/32");
        check("::/80", "::/80");
        check("::ffff:0:0:0/96", "::ffff:0:0:0/96");
    }

    #[test]
    fn malformed_nets_are_refused_with_the_reason() {
        refuse("", "the address is empty");
        refuse("/8", "the address is empty");
        refuse("10.0.0.0/", "the prefix after the slash is empty");
        refuse("10.0.0.0/33", "the prefix is greater than 32");
        refuse("10.0.0.0/256", "the prefix is greater than 32");
        refuse("fd00::/129", "the prefix is greater than 128");
        refuse(&format!("fd00::/{}", "9".repeat(100_000)), "the prefix is greater than 128");
        refuse("10.0.0.0/08", "the prefix has leading zeros");
        refuse("0.0.0.0/00", "the prefix has leading zeros");
        refuse("10.0.0.0/+8", "the prefix \"+8\" is not a decimal number");
        refuse("10.0.0.0/-8", "is not a decimal number");
        refuse("10.0.0.0/ 8", "is not a decimal number");
        refuse("10.0.0.0/8 ", "is not a decimal number");
        refuse("10.0.0.0/0x8", "is not a decimal number");
        refuse("10.0.0.0/\u{ff18}", "is not a decimal number");
        refuse("10.0.0.0/255.0.0.0", "is not a decimal number");
        refuse("10.0.0.0/8/8", "is not a decimal number");
        refuse(" 10.0.0.0/8", "it has white space, the character ' '");
        refuse("10.0.0.0\n/8", "it has white space, the character '\\n'");
        refuse("10.0.0/8", "\"10.0.0\" is not an IPv4 or IPv6 address");
        refuse("010.0.0.0/8", "is not an IPv4 or IPv6 address");
        refuse("0x0a.0.0.0/8", "is not an IPv4 or IPv6 address");
        refuse("167772160/8", "is not an IPv4 or IPv6 address");
        refuse("256.0.0.0/8", "is not an IPv4 or IPv6 address");
        refuse("[fd00::]/8", "is not an IPv4 or IPv6 address");
        refuse("fd00:::/8", "is not an IPv4 or IPv6 address");
        refuse("example.com", "is not an IPv4 or IPv6 address");
        refuse("10.0.0.0-10.0.0.255", "is not an IPv4 or IPv6 address");
        refuse("*", "is not an IPv4 or IPv6 address");
        refuse("fe80::1%eth0", "it has a zone");
        refuse("banana%eth0", "is not an IPv4 or IPv6 address");
        refuse("fe80::%1/10", "it has a zone");
    }

    #[test]
    fn bits_beyond_the_prefix_are_refused_with_a_suggestion() {
        refuse("10.0.0.1/8", "10.0.0.1 has bits beyond the prefix: 10.0.0.0/8 may be meant");
        refuse("0.0.0.1/0", "0.0.0.0/0 may be meant");
        refuse("10.1.2.3/31", "10.1.2.2/31 may be meant");
        refuse("fd12:3456::/8", "fd00::/8 may be meant");
        refuse("::1/0", "::/0 may be meant");
        refuse("::1/127", "::/127 may be meant");
        refuse("::ffff:10.0.0.1/104", "::ffff:10.0.0.0/104 may be meant");
    }

    #[test]
    fn a_net_contains_addresses_of_its_family_with_its_prefix() {
        for (net, within, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.0.0.0/8", "10.0.0.0", "9.255.255.255"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.2"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("0.0.0.0/0", "0.0.0.0", "::ffff:0.0.0.0"),
            ("128.0.0.0/1", "128.0.0.0", "127.255.255.255"),
            ("fd00::/8", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe00::"),
            ("::/0", "ffff::", "0.0.0.0"),
            ("::1", "::1", "::"),
        ] {
            let net = Net::parse(net).unwrap();
            assert!(net.contains(within.parse().unwrap()), "{net} {within}");
            assert!(!net.contains(outside.parse().unwrap()), "{net} {outside}");
        }
    }

    #[test]
    fn messages_are_short_and_escaped() {
        let text = format!("\u{202e}\u{1b}[31m{}", "long".repeat(1000));
        let message = Net::parse(&text).unwrap_err().to_string();
        assert!(message.len() < 300, "{message}");
        assert!(message.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{message}");
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(Net::parse(text).unwrap().to_string(), expected, "{text}");
    }

    fn refuse(text: &str, fault: &str) {
        let error = Net::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{text:.80}");
        let message = error.to_string();
        assert!(message.starts_with("invalid net \""), "{message}");
        assert!(message.contains(fault), "{message}");
    }
}
