//! HTTP CONNECT (RFC 9110, section 9.3.6).

use std::fmt;

use super::secrets::Secrets;
use super::{Answer, Destination, Refusal, refuse};
use crate::error::ProxyReply;
use crate::proxy::Proxy;

/// The maximum length of all heads together, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// The maximum number of bytes of a line that are kept.
const MAX_LINE: usize = 256;
/// The maximum length of a reason in a message, in characters.
const MAX_REASON: usize = 120;
/// The maximum number of authentication schemes in a message.
const MAX_SCHEMES: usize = 8;
/// The maximum length of the name of an authentication scheme, in bytes.
const MAX_SCHEME: usize = 32;

/// Returns the request.
pub(super) fn request(proxy: &Proxy, destination: Destination<'_>) -> Vec<u8> {
    let authority = match destination {
        Destination::Name(host, port) => format!("{host}:{port}"),
        Destination::Address(address) => address.to_string(),
    };
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    let mut header = |name: &str, value: &str| {
        for part in [name, ": ", value, "\r\n"] {
            request.push_str(part);
        }
    };
    if let Some(credentials) = proxy.own_credentials().filter(|_| !has_own_authorization(proxy)) {
        header(AUTHORIZATION, &credentials.basic());
    }
    for (name, value) in proxy.headers() {
        header(name, value);
    }
    request.push_str("\r\n");
    request.into_bytes()
}

const AUTHORIZATION: &str = "Proxy-Authorization";

fn has_own_authorization(proxy: &Proxy) -> bool {
    proxy.headers().any(|(name, _)| name.eq_ignore_ascii_case(AUTHORIZATION))
}

/// The parser of the proxy's answer: heads with 1xx, then one with the final status.
#[derive(Clone)]
pub(in super::super) struct ConnectReply {
    secrets: Secrets,
    /// Whether the request has credentials.
    is_authorized: bool,
    /// The length of all heads so far, in bytes.
    length: usize,
    /// The first bytes of the current line.
    line: Vec<u8>,
    /// Whether the last byte was CR.
    has_cr: bool,
    /// The status of the current head. `None` in its first line.
    status: Option<Status>,
}

#[derive(Clone, Debug)]
struct Status {
    code: u16,
    reason: Box<str>,
    schemes: Vec<Box<str>>,
}

impl ConnectReply {
    pub(super) fn new(proxy: &Proxy) -> Self {
        ConnectReply {
            secrets: Secrets::of(proxy),
            is_authorized: proxy.own_credentials().is_some() || has_own_authorization(proxy),
            length: 0,
            line: Vec::new(),
            has_cr: false,
            status: None,
        }
    }

    pub(super) fn advance(&mut self, seen: &[u8]) -> (usize, Answer) {
        for (at, &byte) in seen.iter().enumerate() {
            match self.push(byte, &seen[at + 1..]) {
                Answer::Incomplete => {}
                answer => return (at + 1, answer),
            }
        }
        (seen.len(), Answer::Incomplete)
    }

    /// Handles the next byte; `rest` follows it.
    fn push(&mut self, byte: u8, rest: &[u8]) -> Answer {
        self.length += 1;
        if self.length > MAX_HEAD {
            let words = format!("sent a head longer than {} KiB", MAX_HEAD / 1024);
            return refuse(ProxyReply::Malformed, words);
        }
        if byte == b'\n' {
            self.has_cr = false;
            return self.end_line(rest);
        }
        let had_cr = std::mem::replace(&mut self.has_cr, byte == b'\r');
        // They have no place in a head (RFC 9112, section 2.2; RFC 9110, section 5.5).
        let is_foreign = byte == 0 || had_cr;
        if is_foreign && self.status.is_some() {
            let words = "sent a head with NUL, or with CR inside a line";
            return refuse(ProxyReply::Malformed, words);
        }
        if self.has_cr && !had_cr {
            return Answer::Incomplete;
        }
        if self.line.len() < MAX_LINE {
            self.line.push(byte);
        }
        if self.status.is_none() && (is_foreign || !is_status_prefix(&self.line)) {
            return self.malformed(rest);
        }
        Answer::Incomplete
    }

    /// Handles the end of a line.
    fn end_line(&mut self, rest: &[u8]) -> Answer {
        let line = std::mem::take(&mut self.line);
        let Some(status) = &mut self.status else {
            self.status = parse_status(&line, &self.secrets);
            if self.status.is_none() {
                self.line = line;
                return self.malformed(rest);
            }
            return Answer::Incomplete;
        };
        if !line.is_empty() {
            if status.code == 407 {
                status.add_schemes(&line, &self.secrets);
            }
            return Answer::Incomplete;
        }
        match self.status.take() {
            // A switch to another protocol was not asked for.
            Some(Status { code: 100 | 102..=199, .. }) | None => Answer::Incomplete,
            Some(Status { code: 200..=299, .. }) => Answer::Accepted,
            Some(status) => refuse(ProxyReply::Http(status.code), status.words(self.is_authorized)),
        }
    }

    fn malformed(&self, rest: &[u8]) -> Answer {
        Refusal::malformed("HTTP", self.secrets.is_empty(), &self.line, rest)
    }
}

/// Omits the answer, which may be an echo of the request.
impl fmt::Debug for ConnectReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectReply")
            .field("len", &self.length)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Status {
    /// Adds the schemes of a `Proxy-Authenticate` header (RFC 9110, section 11.7.1).
    fn add_schemes(&mut self, line: &[u8], secrets: &Secrets) {
        let line = String::from_utf8_lossy(line);
        let Some((name, challenges)) = line.split_once(':') else { return };
        if !name.eq_ignore_ascii_case("Proxy-Authenticate") {
            return;
        }
        // A comma separates challenges, and parameters of one challenge. A parameter has an equals sign.
        for part in without_quoted(challenges).split(',') {
            let mut words = part.split_whitespace();
            let word = words.next().unwrap_or_default();
            let is_parameter = words.next().is_some_and(|next| next.starts_with('='));
            let is_scheme = !is_parameter
                && (1..=MAX_SCHEME).contains(&word.len())
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            let is_new = self.schemes.len() < MAX_SCHEMES
                && !self.schemes.iter().any(|known| known.eq_ignore_ascii_case(word));
            if is_scheme && is_new && !secrets.are_in(word.as_bytes()) {
                self.schemes.push(word.into());
            }
        }
    }

    fn words(&self, is_authorized: bool) -> String {
        let Status { code, reason, schemes } = self;
        let other = if is_authorized { "other " } else { "" };
        match (code, &schemes[..], &**reason) {
            (407, [], _) => format!("requires {other}credentials: 407"),
            (407, schemes, _) => {
                format!("requires {other}credentials: 407, it offers {}", schemes.join(", "))
            }
            (code, _, "") => format!("refused: {code}"),
            (code, _, reason) => format!("refused: {code} {reason}"),
        }
    }
}

/// Removes quoted strings (RFC 9110, section 5.6.4), which may have commas.
fn without_quoted(text: &str) -> String {
    let (mut in_quotes, mut is_escaped) = (false, false);
    let is_outside = |&character: &char| {
        let was_outside = !in_quotes;
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = in_quotes,
            '"' => in_quotes = !in_quotes,
            _ => {}
        }
        was_outside && !in_quotes
    };
    text.chars().filter(is_outside).collect()
}

/// Returns whether these bytes may begin a status line, so that another protocol is noticed at once.
fn is_status_prefix(line: &[u8]) -> bool {
    line.iter().zip(b"HTTP/1.").all(|(byte, expected)| byte == expected)
}

/// Parses a status line (RFC 9112, section 4). Drops a reason that repeats a secret.
fn parse_status(line: &[u8], secrets: &Secrets) -> Option<Status> {
    let (minor, rest) = line.strip_prefix(b"HTTP/1.")?.split_first()?;
    let (code, reason) = rest.strip_prefix(b" ")?.split_at_checked(3)?;
    let is_code = minor.is_ascii_digit() && code.iter().all(u8::is_ascii_digit);
    if !is_code || !(reason.is_empty() || reason.starts_with(b" ")) {
        return None;
    }
    let code = std::str::from_utf8(code).ok()?.parse().ok().filter(|code| *code >= 100)?;
    let reason = if secrets.are_in(reason) { &[] } else { reason };
    let reason = String::from_utf8_lossy(reason);
    let reason: String = reason.trim().chars().take(MAX_REASON).collect();
    let reason = reason.escape_debug().to_string().into();
    Some(Status { code, reason, schemes: Vec::new() })
}
