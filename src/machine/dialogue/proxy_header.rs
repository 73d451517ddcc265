//! The PROXY header of the HAProxy PROXY protocol: version 1 (section 2.1) and version 2 (section 2.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Answer, MAX_QUOTED, refuse};
use crate::error::ProxyReply;

const PREFIX_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The maximum length of version 1, with its CR LF.
const MAX_V1: usize = 107;
/// The maximum length of version 2, with its fields.
const MAX_V2: usize = 4 * 1024;
/// The length of the fixed part of version 2.
const HEAD_V2: usize = 16;

const LOCAL: u8 = 0;
const PROXY: u8 = 1;

/// The parser of a PROXY header.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct ProxyHeader {
    /// The first bytes, up to [`MAX_V1`].
    kept: Vec<u8>,
    length: usize,
}

impl ProxyHeader {
    pub(super) fn advance(&mut self, seen: &[u8]) -> (usize, Answer) {
        for (at, &byte) in seen.iter().enumerate() {
            self.length += 1;
            if self.kept.len() < MAX_V1 {
                self.kept.push(byte);
            }
            let answer = match self.kept.first() {
                Some(b'P') => self.check_v1(&seen[at + 1..]),
                _ => self.check_v2(&seen[at + 1..]),
            };
            if answer != Answer::Incomplete {
                return (at + 1, answer);
            }
        }
        (seen.len(), Answer::Incomplete)
    }

    /// Checks version 1, whose last byte so far is new. `rest` follows it.
    fn check_v1(&self, rest: &[u8]) -> Answer {
        let kept = &self.kept[..];
        if !begins_like(kept, PREFIX_V1) {
            return self.missing(rest);
        }
        match kept {
            [line @ .., b'\r', b'\n'] => match parse_v1(&line[PREFIX_V1.len()..]) {
                Some(client) => Answer::Header(client),
                None => malformed("the PROXY header of version 1 is malformed"),
            },
            [.., b'\n'] | [.., b'\r', _] => {
                malformed("the PROXY header of version 1 has CR or LF inside the line")
            }
            _ if self.length == MAX_V1 => {
                malformed(format!("the PROXY header of version 1 is longer than {MAX_V1} bytes"))
            }
            _ => Answer::Incomplete,
        }
    }

    /// Checks version 2, as soon as each part is there.
    fn check_v2(&self, rest: &[u8]) -> Answer {
        let kept = &self.kept[..];
        if !begins_like(kept, SIGNATURE_V2) {
            return self.missing(rest);
        }
        let Some(&version) = kept.get(12) else { return Answer::Incomplete };
        if !matches!((version >> 4, version & 15), (2, LOCAL | PROXY)) {
            let words = format!("the PROXY header has an unknown version or command: {version:#x}");
            return malformed(words);
        }
        let Some(&family) = kept.get(13) else { return Answer::Incomplete };
        // The rest of `LOCAL` is ignored.
        let is_local = version & 15 == LOCAL;
        let Some(shape) = Shape::new(family).or(is_local.then_some(Shape::None)) else {
            return malformed(format!("the PROXY header has an unknown family: {family:#x}"));
        };
        let Some(&[high, low]) = kept.get(14..16) else { return Answer::Incomplete };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if HEAD_V2 + length > MAX_V2 {
            return malformed(format!("the PROXY header is longer than {} KiB", MAX_V2 / 1024));
        }
        if length < shape.length() && !is_local {
            return malformed("the PROXY header is too short for its addresses");
        }
        if self.length < HEAD_V2 + length {
            return Answer::Incomplete;
        }
        let client = shape.source(&kept[HEAD_V2..]).filter(|_| !is_local);
        Answer::Header(client)
    }

    fn missing(&self, rest: &[u8]) -> Answer {
        let quoted: Vec<u8> = self.kept.iter().chain(rest).copied().take(MAX_QUOTED).collect();
        let line = quoted.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let shown = String::from_utf8_lossy(&quoted[..line.unwrap_or(quoted.len())]);
        let guess = if quoted.starts_with(&[22, 3]) { ", which looks like TLS" } else { "" };
        let shown = shown.escape_debug();
        malformed(format!("no PROXY header came first, but \"{shown}\"{guess}"))
    }
}

/// What follows the fixed part of version 2.
#[derive(Clone, Copy)]
enum Shape {
    /// Nothing that this side understands.
    None,
    V4,
    V6,
    /// Two paths of Unix-domain sockets.
    Unix,
}

impl Shape {
    /// Returns the shape for a family and transport protocol that the specification lists.
    fn new(family: u8) -> Option<Self> {
        match family {
            0x00 => Some(Shape::None),
            // A relay may have got datagrams.
            0x11 | 0x12 => Some(Shape::V4),
            0x21 | 0x22 => Some(Shape::V6),
            0x31 | 0x32 => Some(Shape::Unix),
            _ => None,
        }
    }

    fn length(self) -> usize {
        match self {
            Shape::None => 0,
            Shape::V4 => 12,
            Shape::V6 => 36,
            Shape::Unix => 216,
        }
    }

    /// Returns the source, which comes first: two addresses, then two ports.
    fn source(self, addresses: &[u8]) -> Option<SocketAddr> {
        let (ip, port): (IpAddr, _) = match self {
            Shape::None | Shape::Unix => return None,
            Shape::V4 => {
                let (ip, rest) = addresses.split_first_chunk::<4>()?;
                (Ipv4Addr::from(*ip).into(), rest.get(4..6)?)
            }
            Shape::V6 => {
                let (ip, rest) = addresses.split_first_chunk::<16>()?;
                (Ipv6Addr::from(*ip).into(), rest.get(16..18)?)
            }
        };
        let port = u16::from_be_bytes(port.try_into().ok()?);
        Some(SocketAddr::new(ip.to_canonical(), port))
    }
}

/// Parses what follows `PROXY ` in version 1. Returns the source, or `Some(None)` if it is unknown.
fn parse_v1(line: &[u8]) -> Option<Option<SocketAddr>> {
    let line = std::str::from_utf8(line).ok()?;
    let (family, rest) = line.split_once(' ').unwrap_or((line, ""));
    if family == "UNKNOWN" {
        // Whatever follows is to be ignored.
        return Some(None);
    }
    let mut words = rest.split(' ');
    let mut next = || words.next();
    let mut ip = || -> Option<IpAddr> {
        let text = next()?;
        match family {
            "TCP4" => Some(text.parse::<Ipv4Addr>().ok()?.into()),
            "TCP6" => Some(text.parse::<Ipv6Addr>().ok()?.into()),
            _ => None,
        }
    };
    let (source, _) = (ip()?, ip()?);
    let (port, _) = (parse_port(next()?)?, parse_port(next()?)?);
    match next() {
        Some(_) => None,
        None => Some(Some(SocketAddr::new(source.to_canonical(), port))),
    }
}

/// Parses a port without a sign or leading zeros.
fn parse_port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let has_zeros = text.len() > 1 && text.starts_with('0');
    if is_plain && !has_zeros { text.parse().ok() } else { None }
}

/// Returns whether one of both begins with the other.
fn begins_like(bytes: &[u8], expected: &[u8]) -> bool {
    bytes.iter().zip(expected).all(|(byte, expected)| byte == expected)
}

fn malformed(words: impl Into<Box<str>>) -> Answer {
    refuse(ProxyReply::Malformed, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLLOWS: [&[u8]; 4] = [b"", b"x", b"GET / HTTP/1.1\r\n", b"PROXY TCP4 \r\n"];

    /// Delivers the bytes in these pieces, as a driver does. Returns how many were consumed, and the answer.
    fn deliver(pieces: &[&[u8]]) -> (usize, Answer) {
        let mut header = ProxyHeader::default();
        let mut consumed = 0;
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            let (own, answer) = header.advance(piece);
            assert!((1..=piece.len()).contains(&own));
            consumed += own;
            if answer != Answer::Incomplete {
                return (consumed, answer);
            }
            assert_eq!(own, piece.len());
        }
        (consumed, Answer::Incomplete)
    }

    fn v2(version: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [SIGNATURE_V2, &[version, family], &length, addresses].concat()
    }

    /// Addresses and ports of version 2: the source is 192.0.2.1 or 2001:db8::1, port 258.
    fn addresses(family: u8) -> Vec<u8> {
        let mut all = match family >> 4 {
            1 => vec![192, 0, 2, 1, 10, 0, 0, 1],
            2 => {
                let ends = ["2001:db8::1", "2001:db8::2"].map(|ip| ip.parse::<Ipv6Addr>().unwrap());
                ends.map(|ip| ip.octets()).concat()
            }
            _ => return vec![b'/'; 216],
        };
        all.extend([1, 2, 3, 4]);
        all
    }

    #[test]
    fn exactly_the_header_is_consumed_in_every_cut() {
        let v4: SocketAddr = "192.0.2.1:258".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:258".parse().unwrap();
        let extended = |family| [addresses(family), vec![1, 0, 3, b'h', b'/', b'2']].concat();
        let unknown_longest =
            format!("PROXY UNKNOWN {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":")).into_bytes();
        assert_eq!(unknown_longest.len(), MAX_V1);
        let longest = [addresses(0x11), vec![0; MAX_V2 - HEAD_V2 - 12]].concat();
        for (header, client) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 258 772\r\n".to_vec(), Some(v4)),
            (b"PROXY TCP6 2001:db8::1 ::1 258 0\r\n".to_vec(), Some(v6)),
            (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 258 65535\r\n".to_vec(), Some(v4)),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN 1.2.3.4 x\xc3\xa4\r\n".to_vec(), None),
            (unknown_longest, None),
            (v2(0x21, 0x11, &addresses(0x11)), Some(v4)),
            (v2(0x21, 0x12, &addresses(0x12)), Some(v4)),
            (v2(0x21, 0x21, &addresses(0x21)), Some(v6)),
            (v2(0x21, 0x22, &extended(0x22)), Some(v6)),
            (v2(0x21, 0x11, &extended(0x11)), Some(v4)),
            (v2(0x21, 0x31, &addresses(0x31)), None),
            (v2(0x21, 0x00, b""), None),
            (v2(0x21, 0x00, b"anything"), None),
            (v2(0x20, 0x00, b""), None),
            (v2(0x20, 0x11, &addresses(0x11)), None),
            // The family of `LOCAL` is ignored.
            (v2(0x20, 0xff, b"x"), None),
            (v2(0x20, 0x11, b"x"), None),
            (v2(0x21, 0x11, &longest), Some(v4)),
        ] {
            let expected = (header.len(), Answer::Header(client));
            for follows in FOLLOWS {
                let wire = [&header, follows].concat();
                assert_eq!(deliver(&[&wire]), expected, "{}", wire.escape_ascii());
                for cut in 1..wire.len().min(300) {
                    assert_eq!(deliver(&[&wire[..cut], &wire[cut..]]), expected, "cut at {cut}");
                }
                for size in (1..=60).chain([107, 108, 4095]) {
                    let pieces: Vec<_> = wire.chunks(size).collect();
                    assert_eq!(deliver(&pieces), expected, "pieces of {size}");
                }
            }
            for length in 0..header.len() {
                let (consumed, answer) = deliver(&[&header[..length]]);
                assert_eq!((consumed, answer), (length, Answer::Incomplete));
            }
        }
    }

    #[test]
    fn whatever_is_no_header_is_refused() {
        let long_v1 = [&b"PROXY UNKNOWN "[..], &[b'x'; 100]].concat();
        let short = |family: u8| {
            let all = addresses(family);
            v2(0x21, family, &all[..all.len() - 1])
        };
        let too_long = [SIGNATURE_V2, &[0x21, 0x11], &4081_u16.to_be_bytes()].concat();
        for (wire, words) in [
            (b"GET / HTTP/1.1\r\n".to_vec(), "no PROXY header came first, but \"GET / HTTP/1.1\""),
            (b"PROXZ ".to_vec(), "no PROXY header came first, but \"PROXZ \""),
            (b"proxy TCP4 ".to_vec(), "no PROXY header came first, but \"proxy TCP4 \""),
            (
                b"\x16\x03\x01\x02".to_vec(),
                "no PROXY header came first, but \"\\u{16}\\u{3}\\u{1}\\u{2}\", which looks like TLS",
            ),
            (b"\r\n\r\nx".to_vec(), "no PROXY header came first, but \"\""),
            (long_v1, "the PROXY header of version 1 is longer than 107 bytes"),
            (v2(0x31, 0x11, b""), "the PROXY header has an unknown version or command: 0x31"),
            (v2(0x22, 0x11, b""), "the PROXY header has an unknown version or command: 0x22"),
            (v2(0x11, 0x11, b""), "the PROXY header has an unknown version or command: 0x11"),
            (v2(0x21, 0x13, b""), "the PROXY header has an unknown family: 0x13"),
            (v2(0x21, 0x01, b""), "the PROXY header has an unknown family: 0x1"),
            (v2(0x21, 0x41, b""), "the PROXY header has an unknown family: 0x41"),
            (short(0x11), "the PROXY header is too short for its addresses"),
            (short(0x21), "the PROXY header is too short for its addresses"),
            (short(0x31), "the PROXY header is too short for its addresses"),
            (too_long, "the PROXY header is longer than 4 KiB"),
        ] {
            let (_, whole) = deliver(&[&wire]);
            let Answer::Refused(refusal) = whole else { panic!("{}", wire.escape_ascii()) };
            assert_eq!((refusal.reply, &*refusal.words), (ProxyReply::Malformed, words));
            let (_, bytewise) = deliver(&wire.chunks(1).collect::<Vec<_>>());
            let Answer::Refused(refusal) = bytewise else { panic!("{}", wire.escape_ascii()) };
            assert_eq!(refusal.reply, ProxyReply::Malformed);
        }
        for line in [
            "PROXY ",
            "PROXY \t",
            "PROXY TCP4",
            "PROXY TCP5 1.2.3.4 1.2.3.4 1 1",
            "PROXY  TCP4 1.2.3.4 1.2.3.4 1 1",
            "PROXY TCP4  1.2.3.4 1.2.3.4 1 1",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 ",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 1",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 1",
            "PROXY TCP4 1.2.3.4 1.2.3.4  1",
            "PROXY TCP4 01.2.3.4 1.2.3.4 1 1",
            "PROXY TCP4 256.2.3.4 1.2.3.4 1 1",
            "PROXY TCP4 1.2.3 1.2.3.4 1 1",
            "PROXY TCP4 ::1 ::1 1 1",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 1",
            "PROXY TCP6 ::1%1 ::1 1 1",
            "PROXY TCP6 [::1] ::1 1 1",
            "PROXY TCP6 12345::1 ::1 1 1",
            "PROXY tcp4 1.2.3.4 1.2.3.4 1 1",
            "PROXY UNKNOWNX",
            "PROXY TCP4 1.2.3.4 example.com 1 1",
            "PROXY TCP4 1.2.3.4\0 1.2.3.4 1 1",
        ] {
            let (_, answer) = deliver(&[format!("{line}\r\n").as_bytes()]);
            assert!(matches!(answer, Answer::Refused(_)), "{line:?}: {answer:?}");
        }
        for end in ["\n", "\r", "\r\r\n", "\rx\r\n"] {
            let wire = format!("PROXY TCP4 192.0.2.1 10.0.0.1 258 772{end}x");
            let (_, answer) = deliver(&[wire.as_bytes()]);
            assert!(matches!(answer, Answer::Refused(_)), "{end:?}: {answer:?}");
        }
    }
}
