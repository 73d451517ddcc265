//! The dialogues with proxies, as pure parsers of their answers and of the headers that they send.
//!
//! A dialogue sees the bytes at the front of the wire, before they are consumed, and says how many of them are its own.
//! Bytes that follow its own belong to the target. If the end of an answer is not in sight, everything in sight is part
//! of it, so that an answer in many pieces costs linear time. Only the parts that matter are kept.

mod http;
mod proxy_header;
mod secrets;
mod socks4;
mod socks5;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use self::http::ConnectReply;
use self::proxy_header::ProxyHeader;
use self::socks4::Socks4Reply;
use self::socks5::Socks5;
use crate::error::ProxyReply;
use crate::proxy::{Protocol, Proxy};

/// The maximum number of bytes of an unexpected answer that a message quotes.
const MAX_QUOTED: usize = 16;

/// A dialogue with a proxy.
#[derive(Clone, Debug)]
pub(super) enum Dialogue {
    Connect(ConnectReply),
    Socks5(Socks5),
    Socks4(Socks4Reply),
    ProxyHeader(ProxyHeader),
}

/// The destination that the proxy gets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Destination<'a> {
    /// A name, which the proxy resolves.
    Name(&'a str, u16),
    Address(SocketAddr),
}

/// The result of bytes from the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The answer is not complete.
    Incomplete,
    /// This is to be sent next.
    Send(Vec<u8>),
    /// The proxy has connected to the target.
    Accepted,
    /// The PROXY header is complete, and names this client or none.
    Header(Option<SocketAddr>),
    Refused(Refusal),
}

/// The reason why the proxy did not accept, as a code and in words that follow the proxy's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reply: ProxyReply,
    pub(super) words: Box<str>,
}

impl Dialogue {
    /// Begins the dialogue. Returns it and the first bytes to send.
    pub(super) fn new(proxy: &Proxy, destination: Destination<'_>) -> (Self, Vec<u8>) {
        match proxy.protocol() {
            Protocol::Http => {
                let request = http::request(proxy, destination);
                (Dialogue::Connect(ConnectReply::new(proxy)), request)
            }
            Protocol::Socks5 => {
                let (dialogue, greeting) = Socks5::new(proxy.own_credentials(), destination);
                (Dialogue::Socks5(dialogue), greeting)
            }
            Protocol::Socks4 => {
                let user = proxy.own_credentials().map_or("", |credentials| credentials.username());
                let reply = Socks4Reply::new(!user.is_empty());
                (Dialogue::Socks4(reply), socks4::request(user, destination))
            }
        }
    }

    /// Awaits the PROXY header of a connection that was accepted.
    pub(super) fn proxy_header() -> Self {
        Dialogue::ProxyHeader(ProxyHeader::default())
    }

    /// Handles bytes at the front of the wire. Returns how many of them belong to the dialogue, and the result.
    pub(super) fn advance(&mut self, seen: &[u8]) -> (usize, Answer) {
        match self {
            Dialogue::Connect(reply) => reply.advance(seen),
            Dialogue::Socks5(dialogue) => dialogue.advance(seen),
            Dialogue::Socks4(reply) => reply.advance(seen),
            Dialogue::ProxyHeader(header) => header.advance(seen),
        }
    }
}

impl Refusal {
    /// Creates the refusal of bytes that came before the request.
    pub(super) fn unasked() -> Self {
        let words = "answered before it was asked".into();
        Refusal { reply: ProxyReply::Malformed, words }
    }

    /// Creates the refusal of an answer that is none of the protocol. The answer begins with `first`, and `rest` is in
    /// sight after that. `quotes` says whether the message may quote it: not if it may be an echo of secrets.
    fn malformed(protocol: &str, quotes: bool, first: &[u8], rest: &[u8]) -> Answer {
        let answer: Vec<u8> = first.iter().chain(rest).copied().take(MAX_QUOTED).collect();
        let line = answer.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let shown = &answer[..line.unwrap_or(answer.len())];
        let guess = match &answer[..] {
            [] => None,
            b if b.starts_with(b"HTTP/") || b"HTTP/".starts_with(b) => Some("an HTTP"),
            [5, ..] => Some("a SOCKS 5"),
            [0 | 4, ..] => Some("a SOCKS 4"),
            [21 | 22, ..] => Some("an https"),
            _ => None,
        };
        let mut words = format!("does not speak {protocol}");
        if quotes {
            let shown = String::from_utf8_lossy(shown);
            words.push_str(&format!(": it answered \"{}\"", shown.escape_debug()));
        }
        if let Some(guess) = guess.filter(|guess| !guess.ends_with(protocol)) {
            words.push_str(&format!(" (is it {guess} proxy?)"));
        }
        refuse(ProxyReply::Malformed, words)
    }
}

fn refuse(reply: ProxyReply, words: impl Into<Box<str>>) -> Answer {
    Answer::Refused(Refusal { reply, words: words.into() })
}

/// Appends the next bytes of an answer whose length is `wanted`. Returns their number.
fn take(answer: &mut Vec<u8>, wanted: usize, seen: &[u8]) -> usize {
    let bytes = seen.len().min(wanted.saturating_sub(answer.len()));
    answer.extend_from_slice(&seen[..bytes]);
    bytes
}
