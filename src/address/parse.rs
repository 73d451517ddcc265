//! Parses text into a host and a port, or into the one fault that helps most.
//!
//! The parser first searches the whole text for characters of URLs and other foreign ones. Then it splits the text at
//! its colon or bracket, and checks host and port separately. So for a URL the message names the scheme, and does not
//! say that the port is `//example.com`.
//!
//! Messages quote the input, shortened and escaped. They never quote text before an `@`, which may be a password.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use crate::error::{Error, ErrorKind, Result};

/// Maximum length of a host in bytes (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 255;
/// Maximum number of input characters that a message quotes.
const MAX_QUOTED: usize = 64;

/// The fault, as text that follows `invalid address "…": `.
type Fault = Cow<'static, str>;

/// Splits and checks `host:port`. The returned host has no brackets.
pub(super) fn split_host_port(text: &str) -> Result<(&str, u16)> {
    split(text).map_err(|fault| invalid(text, &fault))
}

/// Checks a host without a port, and removes its brackets.
pub(super) fn host(text: &str) -> Result<&str> {
    bare_host(text).map_err(|fault| invalid(text, &fault))
}

/// Returns the error for port 0 in `address`.
pub(super) fn port_zero(address: &str) -> Error {
    invalid(address, PORT_ZERO)
}

const PORT_ZERO: &str = "port 0 cannot be connected to";

fn split(text: &str) -> Result<(&str, u16), Fault> {
    if text.is_empty() {
        return Err("the text is empty: write host:port".into());
    }
    not_host_port(text)?;
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, rest) = rest.split_once(']').ok_or("the opening bracket is never closed")?;
        let host = parse_bracketed(inside)?;
        return match rest.strip_prefix(':') {
            Some(digits) => Ok((host, port(digits)?)),
            None if rest.is_empty() => Err("the port is missing after the brackets".into()),
            None => Err("only a colon and the port may follow the closing bracket".into()),
        };
    }
    stray_bracket(text)?;
    let Some((host, digits)) = text.rsplit_once(':') else {
        return Err("the port is missing: write host:port".into());
    };
    if host.contains(':') {
        return Err(check_colons(text, host, digits));
    }
    name(host)?;
    Ok((host, port(digits)?))
}

/// Checks a text that is only a host. Returns the host without brackets, or the fault.
pub(crate) fn bare_host(text: &str) -> Result<&str, Fault> {
    not_host_port(text)?;
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((inside, "")) => parse_bracketed(inside),
            Some(_) => Err("nothing may follow the closing bracket of a host".into()),
            None => Err("the opening bracket is never closed".into()),
        };
    }
    stray_bracket(text)?;
    if text.contains(':') {
        if text.parse::<Ipv6Addr>().is_err() {
            zone(text)?;
            return Err("the host has a colon and is not an IPv6 address".into());
        }
        return Ok(text);
    }
    name(text)?;
    Ok(text)
}

/// Refuses characters that no part of an address can have. The fault names what the first one indicates.
fn not_host_port(text: &str) -> Result<(), Fault> {
    for (at, c) in text.char_indices() {
        let (before, after) = text.split_at(at);
        return Err(match c {
            '/' if after.starts_with("//") && before.is_empty() => {
                "it begins with slashes, as in a URL: write host:port".into()
            }
            '/' if after.starts_with("//") && before.ends_with(':') => {
                "it has a scheme, as in a URL: write host:port".into()
            }
            '/' => "it has a path, as in a URL: write host:port".into(),
            '?' => "it has a query, as in a URL: write host:port".into(),
            '#' => "it has a fragment, as in a URL: write host:port".into(),
            '@' => "it has user information before an @: write host:port".into(),
            '\0' => "it has a NUL character".into(),
            c if c.is_whitespace() => format!("it has white space, the character {c:?}").into(),
            c if c.is_control() => format!("it has the control character {c:?}").into(),
            _ => continue,
        });
    }
    Ok(())
}

/// Checks a host that was in brackets.
fn parse_bracketed(inside: &str) -> Result<&str, Fault> {
    if inside.is_empty() {
        return Err("the host is empty".into());
    }
    zone(inside)?;
    match inside.parse::<Ipv6Addr>() {
        Ok(_) => Ok(inside),
        Err(_) => Err("brackets may hold nothing but an IPv6 address".into()),
    }
}

/// Refuses an IPv6 address with a zone. The zone's name means nothing to other machines, and its number comes with a
/// numeric address.
fn zone(host: &str) -> Result<(), Fault> {
    match host.split_once('%') {
        Some((ip, _)) if ip.parse::<Ipv6Addr>().is_ok() => {
            Err("it has an IPv6 zone, which only a std::net::SocketAddr can carry".into())
        }
        _ => Ok(()),
    }
}

/// Refuses brackets in a text that does not begin with one.
fn stray_bracket(text: &str) -> Result<(), Fault> {
    match text.find(['[', ']']) {
        Some(at) if text[at..].starts_with('[') => {
            Err("a bracket may only be opened at the beginning, around an IPv6 address".into())
        }
        Some(_) => Err("the closing bracket was never opened".into()),
        None => Ok(()),
    }
}

/// Returns the fault of a text with more than one colon and no brackets. `host` and `digits` are its parts around the
/// last colon.
fn check_colons(text: &str, host: &str, digits: &str) -> Fault {
    if let Err(fault) = zone(text) {
        return fault;
    }
    if host.parse::<Ipv6Addr>().is_ok() {
        return match port(digits) {
            Ok(port) => format!("an IPv6 address needs brackets: write [{host}]:{port}").into(),
            Err(_) => format!("an IPv6 address needs brackets: write [{host}]:port").into(),
        };
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return format!("an IPv6 address needs brackets and a port: write [{text}]:port").into();
    }
    "it has more than one colon: write host:port, and an IPv6 address in brackets".into()
}

/// Checks a host that is a name or an IPv4 literal.
fn name(host: &str) -> Result<(), Fault> {
    if host.is_empty() {
        return Err("the host is empty".into());
    }
    if host.len() > MAX_HOST {
        let length = host.len();
        return Err(format!("the host has {length} bytes, more than {MAX_HOST}").into());
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match host.chars().find(|&c| !allowed(c)) {
        None => Ok(()),
        Some('%') => Err("the host has a percent sign, and percent-encoding is not decoded".into()),
        Some(c) if !c.is_ascii() => {
            let hint = "an international name is written in its ASCII form (xn--)";
            Err(format!("the host has the non-ASCII character {c:?}: {hint}").into())
        }
        Some(c) => {
            let hint = "only letters, digits and . - _ are allowed";
            Err(format!("the host has the character {c:?}: {hint}").into())
        }
    }
}

fn port(digits: &str) -> Result<u16, Fault> {
    if digits.is_empty() {
        return Err("the port after the colon is empty".into());
    }
    if digits.starts_with(['+', '-']) {
        return Err("the port has a sign".into());
    }
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("the port {} is not a decimal number", quote(digits)).into());
    }
    match digits.trim_start_matches('0') {
        "" => Err(PORT_ZERO.into()),
        // Only digits are left, so a value that does not fit is too large, whatever its length.
        digits => digits.parse().map_err(|_| "the port is greater than 65535".into()),
    }
}

fn invalid(input: &str, fault: &str) -> Error {
    let message = format!("invalid address {}: {fault}", quote(input));
    Error::with_message(ErrorKind::InvalidAddress, message)
}

/// Quotes the input: escaped, shortened, and without user information.
pub(crate) fn quote(input: &str) -> String {
    let (hidden, shown) = match input.rsplit_once('@') {
        Some((_, host)) => ("...@", host),
        None => ("", input),
    };
    let mut chars = shown.chars();
    let start: String = chars.by_ref().take(MAX_QUOTED).collect();
    let rest = if chars.next().is_some() { "..." } else { "" };
    format!("\"{hidden}{}{rest}\"", start.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::SocketAddress;

    #[test]
    fn host_and_port_are_split_and_kept_as_written() {
        let longest = format!("{}:1", "a".repeat(255));
        for (text, hostname, port) in [
            ("127.0.0.1:80", "127.0.0.1", 80),
            ("example.com:65535", "example.com", 65535),
            ("GOOD.Test.:1", "GOOD.Test.", 1),
            ("under_score.test:70", "under_score.test", 70),
            ("xn--bcher-kva.test:70", "xn--bcher-kva.test", 70),
            ("[::1]:80", "::1", 80),
            ("[0:0:0:0:0:0:0:1]:80", "0:0:0:0:0:0:0:1", 80),
            ("[::ffff:127.0.0.1]:80", "::ffff:127.0.0.1", 80),
            ("[FE80::A]:80", "FE80::A", 80),
            ("127.0.0.1:080", "127.0.0.1", 80),
            ("127.0.0.1:02000", "127.0.0.1", 2000),
            ("127.0.0.1:000002000", "127.0.0.1", 2000),
            ("127.1:80", "127.1", 80),
            ("0x7f.0.0.1:80", "0x7f.0.0.1", 80),
            ("2130706433:80", "2130706433", 80),
            ("127.0.0.1.:80", "127.0.0.1.", 80),
            ("unix:4567", "unix", 4567),
            ("-:80", "-", 80),
            (&longest, &longest[..255], 1),
        ] {
            let address: SocketAddress = text.parse().unwrap();
            assert_eq!((address.hostname(), address.port()), (hostname, port), "{text}");
        }
    }

    #[test]
    fn every_fault_of_an_address_is_named() {
        check("", "the text is empty");
        check("example.com", "the port is missing");
        check("8080", "the port is missing");
        check("[::1]", "the port is missing");
        check("example.com:", "the port after the colon is empty");
        check("[::1]:", "the port after the colon is empty");
        check("example.com:0", "port 0");
        check("example.com:0000", "port 0");
        check("example.com:65536", "greater than 65535");
        check("example.com:0065536", "greater than 65535");
        check("example.com:4294967376", "greater than 65535");
        check(&format!("example.com:{}", "9".repeat(100_000)), "greater than 65535");
        check("example.com:+80", "the port has a sign");
        check("example.com:-1", "the port has a sign");
        check("[::1]:+80", "the port has a sign");
        check("example.com:http", "the port \"http\" is not a decimal number");
        check("example.com:0x50", "is not a decimal number");
        check("example.com:80\u{ff10}", "is not a decimal number");
        check("tcp://example.com:80", "scheme");
        check("https://example.com", "scheme");
        check("//example.com:80", "begins with slashes");
        check("example.com:80/path", "path");
        check("example.com:80//path", "path");
        check("/run/socket", "path");
        check("example.com:80?x=1", "query");
        check("example.com:80#x", "fragment");
        check("user@example.com:80", "user information");
        check("user:secret@example.com:80", "user information");
        check(" example.com:80", "white space, the character ' '");
        check("example.com:80 ", "white space");
        check("example.com: 80", "white space");
        check("example.com:80\n", "white space, the character '\\n'");
        check("example\u{a0}.com:80", "white space");
        check("example\u{3000}.com:80", "white space");
        check("bad address", "white space");
        check("exam\0ple.com:80", "NUL");
        check("exam\u{1b}ple.com:80", "control character '\\u{1b}'");
        check("exam\u{85}ple.com:80", "white space");
        check("exam\u{9f}ple.com:80", "control character");
        check("[fe80::1%eth0]:80", "zone");
        check("[fe80::1%25eth0]:80", "zone");
        check("fe80::1%2:80", "zone");
        check("good%2etest:80", "percent");
        check("b\u{fc}cher.test:80", "non-ASCII character 'ü'");
        check("\u{ff11}\u{ff12}\u{ff17}.0.0.1:80", "non-ASCII");
        check(":80", "the host is empty");
        check("[]:80", "the host is empty");
        check(&format!("{}:80", "a".repeat(256)), "has 256 bytes, more than 255");
        check("*:80", "the character '*'");
        check("exam\\ple.com:80", "the character '\\\\'");
        check("exam\"ple.com:80", "the character");
        check("127.0.0.1:1:80", "more than one colon");
        check("1:2:3:x", "more than one colon");
        check("::80:x", "write [::80]:port");
        check("::1:80", "write [::1]:80");
        check("2001:db8::1:http", "write [2001:db8::1]:port");
        check("2001:db8::", "write [2001:db8::]:port");
        check("1:2:3:4:5:6:7:8", "needs brackets and a port");
        check("[::1:80", "never closed");
        check("::1]:80", "never opened");
        check("a[::1]:80", "only be opened at the beginning");
        check("[::1]80", "only a colon and the port may follow");
        check("[::1]]:80", "only a colon and the port may follow");
        check("[[::1]]:80", "nothing but an IPv6 address");
        check("[127.0.0.1]:80", "nothing but an IPv6 address");
        check("[example.com]:80", "nothing but an IPv6 address");
        check("[1::2::3]:80", "nothing but an IPv6 address");
    }

    #[test]
    fn every_fault_of_a_lone_host_is_named() {
        check_host("", "the host is empty");
        check_host("[]", "the host is empty");
        check_host("127.0.0.1/x", "path");
        check_host(" 127.0.0.1", "white space");
        check_host("http://example.com", "scheme");
        check_host("user@example.com", "user information");
        check_host("b\u{fc}cher.test", "non-ASCII");
        check_host(&"a".repeat(256), "has 256 bytes");
        check_host("example.com:80", "has a colon");
        check_host("[::1]:80", "nothing may follow");
        check_host("[::1", "never closed");
        check_host("::1]", "never opened");
        check_host("[127.0.0.1]", "nothing but an IPv6 address");
        check_host("fe80::1%eth0", "zone");
        check_host("[fe80::1%eth0]", "zone");
        check_host("good%2etest", "percent");
        check_host("*", "the character '*'");
    }

    #[test]
    fn messages_are_short_and_escaped_and_omit_passwords() {
        let text = format!("\u{202e}\u{1b}[31m{}", "long".repeat(1000));
        let message = text.parse::<SocketAddress>().unwrap_err().to_string();
        assert!(message.len() < 250, "{message}");
        assert!(message.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{message}");
        for text in ["tcp://me:secret@example.com:80", "me:sec@ret@example.com:80"] {
            let message = text.parse::<SocketAddress>().unwrap_err().to_string();
            assert!(message.starts_with("invalid address \"...@example.com:80\": "), "{message}");
        }
    }

    #[test]
    fn any_text_is_refused_or_round_trips() {
        let pieces: Vec<&str> =
            "[ ] : :: % / ? # @ . - _ + \0 \n \\ a Z 0 1 80 00 255 65535 65536 fe80 127.0.0.1 \
            [::1] ::1 x.y // http:// %25 [fe80::1%1] ü \u{202e} \u{a0} \u{1f41f} e\u{301}"
                .split(' ')
                .collect();
        let mut random = fastrand::Rng::with_seed(7);
        let mut taken = 0;
        for _ in 0..100_000 {
            let text: String =
                (0..random.usize(..8)).filter_map(|_| random.choice(&pieces).copied()).collect();
            let port = random.u16(..);
            for address in [text.parse(), SocketAddress::new(text.as_str(), port)] {
                match address {
                    Ok(address) => {
                        taken += 1;
                        assert_eq!(address.to_string().parse::<SocketAddress>().unwrap(), address);
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidAddress),
                }
            }
        }
        assert!(taken > 1000, "only {taken} texts were addresses");
    }

    fn check(text: &str, fault: &str) {
        check_error(&text.parse::<SocketAddress>().unwrap_err(), fault);
    }

    fn check_host(text: &str, fault: &str) {
        check_error(&SocketAddress::new(text, 80).unwrap_err(), fault);
    }

    fn check_error(error: &Error, fault: &str) {
        assert_eq!(error.kind(), ErrorKind::InvalidAddress);
        let message = error.to_string();
        assert!(message.contains(fault), "{message:?} does not name {fault:?}");
        assert!(
            message.starts_with("invalid address \"") && !message.ends_with('.'),
            "{message:?}"
        );
    }
}
