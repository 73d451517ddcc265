//! Parses the server name that a certificate must match.

use std::net::IpAddr;

use rustls::pki_types::{DnsName, ServerName};

/// Parses a DNS name, or an IP address with or without brackets. Lower-cases a name and removes one trailing dot.
/// Returns `None` if no certificate can match the text, as with legacy spellings of IPv4 addresses.
pub(super) fn parse_name(text: &str) -> Option<ServerName<'static>> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
        return Some(ServerName::from(address));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.ends_with('.') {
        // The parser would accept and remove a second trailing dot.
        return None;
    }
    DnsName::try_from(name.to_ascii_lowercase()).ok().map(ServerName::DnsName)
}

/// Returns the reason why no certificate can match the text, and the beginning of the text.
pub(super) fn explain_invalid(text: &str) -> (&'static str, String) {
    let reason = match text.is_ascii() {
        true => "is not a DNS name or an IP address",
        false => "is not ASCII: write each Unicode label as its A-label, which begins with xn--",
    };
    (reason, text.chars().take(MAX_NAME_IN_MESSAGE).collect())
}

/// The maximum length of an invalid name in a message, in characters.
pub(super) const MAX_NAME_IN_MESSAGE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_case_and_one_trailing_dot() {
        check("Example.COM", Some("example.com"));
        check("example.com.", Some("example.com"));
        check("localhost", Some("localhost"));
        check("_sip.example.com", Some("_sip.example.com"));
        check("xn--bcher-kva.example", Some("xn--bcher-kva.example"));
    }

    #[test]
    fn addresses_are_accepted_with_and_without_brackets() {
        check("192.0.2.1", Some("192.0.2.1"));
        check("[192.0.2.1]", Some("192.0.2.1"));
        check("2001:DB8::1", Some("2001:db8::1"));
        check("[2001:db8:0::1]", Some("2001:db8::1"));
    }

    #[test]
    fn texts_that_no_certificate_can_match_are_refused() {
        for text in ["", ".", "a..", "a..b", ".a", "-a.b", "a b", "a\0", "bücher.example", "*.a.b"]
        {
            check(text, None);
        }
        for text in
            ["127.1", "0177.0.0.1", "127.0.0.1.", "[::1", "::1]", "[]", "[a.b]", "fe80::1%1"]
        {
            check(text, None);
        }
        check(&"a".repeat(64), None);
        check(&"a.".repeat(127), Some(&"a.".repeat(127)[..253]));
        check(&"a.".repeat(128), None);
    }

    #[test]
    fn a_name_in_unicode_is_told_from_others() {
        assert_eq!(explain_invalid("a b").0, "is not a DNS name or an IP address");
        let (reason, text) = explain_invalid("bücher.example");
        assert!(reason.contains("begins with xn--"), "{reason}");
        assert_eq!(text, "bücher.example");
        assert_eq!(explain_invalid(&"ü".repeat(100)).1.chars().count(), 64);
    }

    fn check(text: &str, expected: Option<&str>) {
        let name = parse_name(text);
        assert_eq!(name.as_ref().map(ServerName::to_str).as_deref(), expected, "{text:?}");
    }
}
