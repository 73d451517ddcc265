//! Reads the names and the validity of a certificate of this side.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use super::calendar::days_from_civil;
use super::der::{Reader, SEQUENCE, behind_serial_number, extension_parts};
use super::hello::normalize_server_name;

/// The details of a certificate that its owner asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeafDetails {
    /// The DNS names, in lower case, and the IP addresses.
    pub(super) names: Vec<String>,
    pub(super) not_after: SystemTime,
}

impl LeafDetails {
    /// Reads an X.509 certificate (RFC 5280, section 4.1).
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let mut inner = behind_serial_number(certificate)?;
        let _algorithm = inner.expect(SEQUENCE)?;
        let _issuer = inner.expect(SEQUENCE)?;
        let mut validity = Reader(inner.expect(SEQUENCE)?);
        let _not_before = validity.next()?;
        let (tag, text) = validity.next()?;
        let not_after = time(tag, text)?;
        let mut names = Vec::new();
        while let Some((tag, content)) = inner.next() {
            if tag == EXTENSIONS {
                names = alternative_names(content).unwrap_or_default();
            }
        }
        Some(LeafDetails { names, not_after })
    }
}

fn alternative_names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut list = Reader(Reader(extensions).expect(SEQUENCE)?);
    while let Some(extension) = list.expect(SEQUENCE) {
        let (identifier, content) = extension_parts(extension)?;
        if identifier != SUBJECT_ALT_NAME {
            continue;
        }
        let mut names = Vec::new();
        let mut entries = Reader(Reader(content).expect(SEQUENCE)?);
        while let Some((tag, value)) = entries.next() {
            names.extend(name(tag, value));
        }
        return Some(names);
    }
    None
}

fn name(tag: u8, value: &[u8]) -> Option<String> {
    match tag {
        DNS_NAME => Some(normalize_server_name(std::str::from_utf8(value).ok()?)),
        IP_ADDRESS => {
            let v4 = || <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from).map(IpAddr::V4);
            let v6 = || <[u8; 16]>::try_from(value).ok().map(Ipv6Addr::from).map(IpAddr::V6);
            v4().or_else(v6).map(|address| address.to_string())
        }
        _ => None,
    }
}

/// Parses a UTCTime or a GeneralizedTime (RFC 5280, section 4.1.2.5).
pub(super) fn time(tag: u8, text: &[u8]) -> Option<SystemTime> {
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = number(text, 2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => number(text, 4)?,
        _ => return None,
    };
    let (month, rest) = number(rest, 2)?;
    let (day, rest) = number(rest, 2)?;
    let (hour, rest) = number(rest, 2)?;
    let (minute, rest) = number(rest, 2)?;
    let (second, rest) = number(rest, 2)?;
    let is_valid = year > 0 && (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24;
    if !is_valid || minute > 59 || second > 59 || rest != b"Z" {
        return None;
    }
    let (days, before_1970) = days_from_civil(year, month, day);
    let of_day = Duration::from_secs(hour * 3_600 + minute * 60 + second);
    let days = Duration::from_secs(days * 86_400);
    match before_1970 {
        false => SystemTime::UNIX_EPOCH.checked_add(days + of_day),
        true => SystemTime::UNIX_EPOCH.checked_sub(days)?.checked_add(of_day),
    }
}

/// Parses a number of `digits` digits.
fn number(text: &[u8], digits: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    let value = number.iter().try_fold(0, |value, digit| {
        digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0'))
    })?;
    Some((value, rest))
}

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Explicitly tagged with 3.
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.17.
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 29, 17];
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, leaf_params};
    use super::*;

    #[test]
    fn names_and_validity_are_those_of_the_certificate() {
        let authority = Authority::new("Details");
        let mut params = leaf_params(&["A.test", "*.B.test", "192.0.2.1", "2001:db8::1"]);
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let details = LeafDetails::of(authority.leaf_of(params).der()).expect("it is well-formed");
        assert_eq!(details.names, ["a.test", "*.b.test", "192.0.2.1", "2001:db8::1"]);
        assert_eq!(seconds(details.not_after), 1_927_843_200);
        let bare = LeafDetails::of(authority.der()).expect("it is well-formed");
        assert!(bare.names.is_empty());
    }

    #[test]
    fn both_kinds_of_time_are_read() {
        let check = |tag, text: &str, expected: Option<u64>| {
            assert_eq!(time(tag, text.as_bytes()).map(seconds), expected, "{text}");
        };
        check(UTC_TIME, "700101000000Z", Some(0));
        check(UTC_TIME, "491231235959Z", Some(2_524_607_999));
        check(GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000));
        check(GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799));
        for text in
            ["700101000000", "700101000000+", "701301000000Z", "7001010000Z", "", "70a101000000Z"]
        {
            check(UTC_TIME, text, None);
        }
        let before = time(UTC_TIME, b"691231235959Z").expect("it is valid");
        assert_eq!(SystemTime::UNIX_EPOCH.duration_since(before).unwrap(), Duration::from_secs(1));
    }

    #[test]
    fn truncated_and_corrupted_certificates_do_not_panic() {
        let der = Authority::new("Broken").leaf(["a.test", "192.0.2.1"]).der().to_vec();
        for length in 0..der.len() {
            let _ = LeafDetails::of(&der[..length]);
        }
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut changed = der.clone();
            for _ in 0..random.usize(1..8) {
                let place = random.usize(..changed.len());
                changed[place] = random.u8(..);
            }
            let _ = LeafDetails::of(&changed);
        }
    }

    fn seconds(time: SystemTime) -> u64 {
        time.duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970").as_secs()
    }
}
