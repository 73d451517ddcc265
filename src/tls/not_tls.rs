//! Says what the first bytes of a client look like if they are not TLS.

use std::fmt::Write;

use super::der::sanitize_text;

/// Returns the message about a client that did not begin with TLS, or `None` if its bytes may be TLS.
pub(super) fn describe_plaintext(input: &[u8]) -> Option<String> {
    if is_record(input) {
        return None;
    }
    if let Some((_, protocol)) = BEGINNINGS.iter().find(|(begin, _)| input.starts_with(begin)) {
        let shown = match printable(input) {
            Some(text) => format!(" (\"{text}\")"),
            None => String::new(),
        };
        return Some(format!("the client sent {protocol}{shown}, not TLS"));
    }
    if is_ssl2(input) {
        return Some(String::from("the client offers SSL 2.0, which is not supported"));
    }
    if let Some(text) = printable(input) {
        return Some(format!("the client sent plaintext (\"{text}\"), not TLS"));
    }
    let mut bytes = String::new();
    for byte in input.iter().take(MAX_BYTES) {
        // Writing to a string does not fail.
        let _ = write!(bytes, " {byte:02x}");
    }
    Some(format!("the client did not begin with TLS, but with the bytes{bytes}"))
}

/// Returns whether this is the header of a TLS record (RFC 8446, section 5.1).
fn is_record(input: &[u8]) -> bool {
    matches!(input, [20..=23, 3, ..] | [20..=23])
}

/// Returns whether this is a ClientHello of SSL 2.0: a length with its highest bit set, and the message type.
fn is_ssl2(input: &[u8]) -> bool {
    matches!(input, [length, _, 1, ..] if *length >= 0x80)
}

/// Returns the first line, up to [`MAX_TEXT`] characters, if its first bytes are printable.
fn printable(input: &[u8]) -> Option<String> {
    let line = input.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let line = &line[..line.len().min(MAX_TEXT)];
    let is_text = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    if line.len() < MIN_TEXT || !line[..MIN_TEXT].iter().all(is_text) {
        return None;
    }
    Some(sanitize_text(&String::from_utf8_lossy(line)))
}

/// The minimum number of printable bytes of a text.
const MIN_TEXT: usize = 3;
/// The maximum length of a text in a message, in bytes.
const MAX_TEXT: usize = 24;
/// The maximum number of bytes in a message.
const MAX_BYTES: usize = 8;

/// The first bytes of protocols that clients speak to the wrong port.
const BEGINNINGS: [(&[u8], &str); 21] = [
    (b"GET ", "HTTP"),
    (b"POST ", "HTTP"),
    (b"HEAD ", "HTTP"),
    (b"PUT ", "HTTP"),
    (b"DELETE ", "HTTP"),
    (b"OPTIONS ", "HTTP"),
    (b"PATCH ", "HTTP"),
    (b"CONNECT ", "HTTP"),
    (b"PRI * HTTP/2", "HTTP/2"),
    (b"SSH-", "SSH"),
    (b"EHLO ", "SMTP"),
    (b"HELO ", "SMTP"),
    (b"USER ", "a login command"),
    (b"<?xml", "XML"),
    (b"<stream", "XMPP"),
    (b"PROXY ", "a PROXY header"),
    (b"\r\n\r\n\0\r\nQUIT\n", "a PROXY header (version 2)"),
    (b"\0\0\0\x08\x04\xd2\x16\x2f", "a PostgreSQL SSLRequest"),
    (b"\x05\x01", "a SOCKS request"),
    (b"\x04\x01", "a SOCKS request"),
    (b"\x30\x0c\x02\x01", "LDAP"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_what_the_bytes_look_like() {
        check(
            b"GET / HTTP/1.1\r\nHost: a\r\n",
            "the client sent HTTP (\"GET / HTTP/1.1\"), not TLS",
        );
        check(b"EHLO a.test\r\n", "the client sent SMTP (\"EHLO a.test\"), not TLS");
        check(
            b"PROXY TCP4 1.2.3.4",
            "the client sent a PROXY header (\"PROXY TCP4 1.2.3.4\"), not TLS",
        );
        check(b"\r\n\r\n\0\r\nQUIT\n!", "the client sent a PROXY header (version 2), not TLS");
        check(b"\0\0\0\x08\x04\xd2\x16\x2f", "the client sent a PostgreSQL SSLRequest, not TLS");
        check(b"hello there", "the client sent plaintext (\"hello there\"), not TLS");
        check(b"\x80\x2e\x01\x03", "the client offers SSL 2.0, which is not supported");
        check(&[0, 1, 2], "the client did not begin with TLS, but with the bytes 00 01 02");
        check(
            &[7; 100],
            "the client did not begin with TLS, but with the bytes 07 07 07 07 07 07 07 07",
        );
    }

    #[test]
    fn a_hostile_text_is_truncated_and_sanitised() {
        let message = describe_plaintext(&[b"GET /\x1b[31m".as_slice(), &[0xff; 900]].concat());
        let message = message.expect("this is not TLS");
        assert!(message.len() < 120 && !message.contains('\x1b'), "{message}");
    }

    #[test]
    fn a_record_is_not_described() {
        for record in [&[22][..], &[22, 3], &[22, 3, 1, 0, 5], &[21, 3, 3, 0, 2], &[20, 3]] {
            assert_eq!(describe_plaintext(record), None);
        }
    }

    fn check(input: &[u8], expected: &str) {
        assert_eq!(describe_plaintext(input).as_deref(), Some(expected));
    }
}
