//! Host patterns of egress rules: a name, an address, or every name below a name.

use std::fmt;
use std::net::IpAddr;

use crate::address::{bare_host, quote};
use crate::error::{Error, Result};

/// The maximum length of a domain name, in bytes (RFC 1035, section 2.3.4).
const MAX_PATTERN: usize = 255;

/// The pattern of a host rule. Names are in lower case, without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pattern {
    /// This name.
    Name(Box<str>),
    /// Every name with this suffix, at any depth; the suffix begins with a dot.
    Under(Box<str>),
    /// This address in any notation; an IPv4-mapped address is the IPv4 address.
    Address(IpAddr),
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self> {
        parse(text).map_err(|fault| {
            let message = format!("invalid host pattern {}: {fault}", quote(text));
            Error::invalid_options(message)
        })
    }

    pub(super) fn matches(&self, host: &Host<'_>) -> bool {
        match (self, host) {
            (Pattern::Name(name), Host::Name(host)) => host.eq_ignore_ascii_case(name),
            // The name must have something before the dot, so it is longer than the suffix.
            (Pattern::Under(end), Host::Name(host)) if host.len() > end.len() => {
                let start = host.len() - end.len();
                host.as_bytes()[start..].eq_ignore_ascii_case(end.as_bytes())
            }
            (Pattern::Address(ip), Host::Address(host)) => ip == host,
            (Pattern::Name(_) | Pattern::Under(_), _) | (Pattern::Address(_), Host::Name(_)) => {
                false
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Name(name) => f.write_str(name),
            Pattern::Under(end) => write!(f, "*{end}"),
            Pattern::Address(ip) => ip.fmt(f),
        }
    }
}

/// A host to match against patterns.
pub(super) enum Host<'a> {
    /// A name in any case, without a trailing dot.
    Name(&'a str),
    Address(IpAddr),
}

impl<'a> Host<'a> {
    /// Parses a host without brackets.
    pub(super) fn new(hostname: &'a str) -> Self {
        let host = hostname.strip_suffix('.').unwrap_or(hostname);
        match host.parse::<IpAddr>() {
            Ok(ip) => Host::Address(ip.to_canonical()),
            Err(_) => Host::Name(host),
        }
    }
}

fn parse(text: &str) -> Result<Pattern, String> {
    let (under, rest) = match text.strip_prefix("*.") {
        Some("") => return Err("no name follows the star and the dot".to_owned()),
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if text == "*" {
        return Err("a star is not a host: for every host use allow_all or deny_all".to_owned());
    }
    if rest.contains('*') {
        return Err("a star may only stand before the first dot, as in *.example.com".to_owned());
    }
    if rest.contains('/') {
        return Err("a host has no slash: for nets use allow_net or deny_net".to_owned());
    }
    if text.len() > MAX_PATTERN {
        return Err(format!("it has {} bytes, more than {MAX_PATTERN}", text.len()));
    }
    match Host::new(bare_host(rest)?) {
        Host::Address(_) if under => Err("no name is under an address".to_owned()),
        Host::Address(ip) => Ok(Pattern::Address(ip)),
        Host::Name(name) if name.split('.').any(str::is_empty) => {
            Err("it has a dot with nothing before it".to_owned())
        }
        Host::Name(name) if under => {
            Ok(Pattern::Under(format!(".{}", name.to_ascii_lowercase()).into()))
        }
        Host::Name(name) => Ok(Pattern::Name(name.to_ascii_lowercase().into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_name_matches_itself_in_any_case_with_or_without_a_trailing_dot() {
        for pattern in ["example.com", "Example.COM", "example.com."] {
            matches(pattern, &["example.com", "EXAMPLE.com", "example.com."]);
            misses(pattern, &["a.example.com", "example.co", "example.comm", "xexample.com"]);
            misses(pattern, &["com", "", ".", "example.com..", ".example.com", "93.184.216.34"]);
        }
        matches("localhost", &["LOCALHOST", "localhost."]);
        matches("_sip.a-b.test", &["_sip.a-b.test"]);
        matches("127.1", &["127.1", "127.1."]);
        misses("127.1", &["127.0.0.1"]);
    }

    #[test]
    fn a_star_matches_every_name_below_a_name_but_not_the_name_itself() {
        for pattern in ["*.example.com", "*.EXAMPLE.com", "*.example.com."] {
            matches(pattern, &["a.example.com", "a.b.example.com", "A.Example.Com."]);
            misses(pattern, &["example.com", "example.com.", ".example.com", "aexample.com"]);
            misses(pattern, &["a.example.com.test", "com", "", "a.example.com.."]);
        }
        matches("*.com", &["example.com"]);
        misses("*.0.0.1", &["127.0.0.1", "127.0.0.1."]);
    }

    #[test]
    fn an_address_matches_itself_in_any_notation() {
        matches("127.0.0.1", &["127.0.0.1", "127.0.0.1.", "::ffff:127.0.0.1", "::ffff:7f00:1"]);
        matches("::ffff:127.0.0.1", &["127.0.0.1"]);
        matches("2001:DB8::1", &["2001:db8::1", "2001:db8:0:0::0:1"]);
        matches("[2001:db8::1]", &["2001:db8::1"]);
        misses("127.0.0.1", &["127.0.0.2", "127.1", "2130706433", "localhost", "127.0.0.01"]);
        misses("127.0.0.1", &["::127.0.0.1", "64:ff9b::127.0.0.1"]);
    }

    #[test]
    fn malformed_patterns_are_refused_with_the_reason() {
        refuse("", "the host is empty");
        refuse(".", "nothing before it");
        refuse("..", "nothing before it");
        refuse("*", "a star is not a host");
        refuse("*.", "no name follows");
        refuse("*..", "nothing before it");
        refuse("**", "a star may only stand before the first dot");
        refuse("*.*", "a star may only stand before the first dot");
        refuse("*.*.com", "a star may only stand before the first dot");
        refuse("a.*.com", "a star may only stand before the first dot");
        refuse("*foo.com", "a star may only stand before the first dot");
        refuse("a*.com", "a star may only stand before the first dot");
        refuse("example.*", "a star may only stand before the first dot");
        refuse("10.0.0.*", "a star may only stand before the first dot");
        refuse(".example.com", "nothing before it");
        refuse("a..example.com", "nothing before it");
        refuse("example.com..", "nothing before it");
        refuse("*..example.com", "nothing before it");
        refuse("*.10.0.0.1", "no name is under an address");
        refuse("*.::1", "no name is under an address");
        refuse("*.[::1]", "no name is under an address");
        refuse("10.0.0.0/8", "for nets use allow_net or deny_net");
        refuse("https://example.com", "a host has no slash");
        refuse("example.com:80", "has a colon");
        refuse("[::1]:80", "nothing may follow the closing bracket");
        refuse("[::1", "never closed");
        refuse("[example.com]", "nothing but an IPv6 address");
        refuse("fe80::1%eth0", "zone");
        refuse("b\u{fc}cher.test", "non-ASCII character 'ü'");
        refuse("*.b\u{fc}cher.test", "non-ASCII character 'ü'");
        refuse(" example.com", "white space");
        refuse("example.com\n", "white space");
        refuse("exam\0ple.com", "NUL");
        refuse("user@example.com", "user information");
        refuse("exam!ple.com", "the character '!'");
        refuse("a,b", "the character ','");
        refuse("good%2etest", "percent");
    }

    #[test]
    fn a_pattern_has_at_most_255_bytes() {
        let name = |bytes| "a".repeat(bytes);
        matches(&name(255), &[&name(255)]);
        refuse(&name(256), "it has 256 bytes, more than 255");
        assert!(Pattern::parse(&format!("*.{}", name(253))).is_ok());
        refuse(&format!("*.{}", name(254)), "it has 256 bytes, more than 255");
    }

    #[test]
    fn a_pattern_is_displayed_in_canonical_form() {
        for (text, shown) in [
            ("Example.COM.", "example.com"),
            ("*.Example.COM", "*.example.com"),
            ("[::FFFF:10.0.0.1]", "10.0.0.1"),
            ("[2001:DB8:0::1]", "2001:db8::1"),
        ] {
            assert_eq!(Pattern::parse(text).unwrap().to_string(), shown);
        }
    }

    fn matches(pattern: &str, hosts: &[&str]) {
        for host in hosts {
            assert!(Pattern::parse(pattern).unwrap().matches(&Host::new(host)), "{pattern} {host}");
        }
    }

    fn misses(pattern: &str, hosts: &[&str]) {
        for host in hosts {
            assert!(
                !Pattern::parse(pattern).unwrap().matches(&Host::new(host)),
                "{pattern} {host}"
            );
        }
    }

    fn refuse(text: &str, fault: &str) {
        let error = Pattern::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{text}");
        let message = error.to_string();
        assert!(message.starts_with("invalid host pattern \""), "{message}");
        assert!(message.contains(fault), "{message}");
    }
}
