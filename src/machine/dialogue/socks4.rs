//! SOCKS 4, and 4a with a name in place of an address.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use super::{Answer, Destination, Refusal, refuse, take};
use crate::error::ProxyReply;

const VERSION: u8 = 4;
const CONNECT: u8 = 1;
const GRANTED: u8 = 90;
const REPLY_LENGTH: usize = 8;
/// An address that says that a name follows.
const NAME_FOLLOWS: Ipv4Addr = Ipv4Addr::new(0, 0, 0, 1);

/// Returns the request.
pub(super) fn request(user: &str, destination: Destination<'_>) -> Vec<u8> {
    let (ip, port, name) = match destination {
        Destination::Name(host, port) => (NAME_FOLLOWS, port, Some(host)),
        Destination::Address(SocketAddr::V4(address)) => (*address.ip(), address.port(), None),
        Destination::Address(SocketAddr::V6(_)) => {
            unreachable!("IPv6 addresses are refused before, because SOCKS 4 cannot express them")
        }
    };
    let mut request = vec![VERSION, CONNECT];
    request.extend_from_slice(&port.to_be_bytes());
    request.extend_from_slice(&ip.octets());
    for text in [Some(user), name].into_iter().flatten() {
        request.extend_from_slice(text.as_bytes());
        request.push(0);
    }
    request
}

/// The parser of the proxy's reply.
#[derive(Clone)]
pub(in super::super) struct Socks4Reply {
    answer: Vec<u8>,
    /// Whether the request had a user ID.
    has_user: bool,
}

impl Socks4Reply {
    pub(super) fn new(has_user: bool) -> Self {
        Socks4Reply { answer: Vec::new(), has_user }
    }

    pub(super) fn advance(&mut self, seen: &[u8]) -> (usize, Answer) {
        let consumed = take(&mut self.answer, REPLY_LENGTH, seen);
        let answer = match self.answer[..] {
            [] | [0] | [0, GRANTED, ..] => match self.answer.len() {
                REPLY_LENGTH => Answer::Accepted,
                _ => Answer::Incomplete,
            },
            [0, code @ 91..=93, ..] => {
                let reply = ProxyReply::Socks4(code);
                refuse(reply, reply.words())
            }
            _ => {
                let rest = &seen[consumed..];
                Refusal::malformed("SOCKS 4", !self.has_user, &self.answer, rest)
            }
        };
        (consumed, answer)
    }
}

/// Omits the answer, which may be an echo of the user ID.
impl fmt::Debug for Socks4Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socks4Reply").field("len", &self.answer.len()).finish_non_exhaustive()
    }
}
