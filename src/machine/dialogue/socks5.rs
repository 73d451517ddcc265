//! SOCKS 5 (RFC 1928), with username and password (RFC 1929).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Answer, Destination, Refusal, refuse, take};
use crate::error::ProxyReply;
use crate::proxy::Credentials;

const VERSION: u8 = 5;
/// The version of the authentication by username and password.
const AUTHENTICATION_VERSION: u8 = 1;
const NO_AUTHENTICATION: u8 = 0;
const USERNAME_AND_PASSWORD: u8 = 2;
const NO_COMMON_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;

const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// The dialogue: a choice of the method, perhaps an authentication, and the reply to the request.
#[derive(Clone)]
pub(in super::super) struct Socks5 {
    stage: Stage,
    /// The bytes of the current answer.
    answer: Vec<u8>,
    has_credentials: bool,
    /// The message with username and password, if the program has set them.
    authentication: Option<Arc<[u8]>>,
    request: Arc<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Method,
    Authentication,
    Reply,
}

impl Socks5 {
    /// Begins the dialogue. Returns it and the greeting.
    pub(super) fn new(
        credentials: Option<&Credentials>,
        destination: Destination<'_>,
    ) -> (Self, Vec<u8>) {
        let greeting = match credentials {
            Some(_) => vec![VERSION, 2, NO_AUTHENTICATION, USERNAME_AND_PASSWORD],
            None => vec![VERSION, 1, NO_AUTHENTICATION],
        };
        let dialogue = Socks5 {
            stage: Stage::Method,
            answer: Vec::new(),
            has_credentials: credentials.is_some(),
            authentication: credentials.map(authentication),
            request: request(destination),
        };
        (dialogue, greeting)
    }

    pub(super) fn advance(&mut self, seen: &[u8]) -> (usize, Answer) {
        let mut consumed = 0;
        loop {
            let wanted = self.wanted();
            consumed += take(&mut self.answer, wanted, &seen[consumed..]);
            if let Some(refusal) = self.early_refusal(&seen[consumed..]) {
                return (consumed, refusal);
            }
            if self.answer.len() < wanted {
                return (consumed, Answer::Incomplete);
            }
            // The length of a reply depends on its beginning.
            if self.wanted() == wanted {
                return (consumed, self.complete());
            }
        }
    }

    /// Returns the length of the current answer, as far as it is known.
    fn wanted(&self) -> usize {
        match (self.stage, &self.answer[..]) {
            (Stage::Method | Stage::Authentication, _) => 2,
            // Head, address, port.
            (Stage::Reply, [_, _, _, IPV4, ..]) => 4 + 4 + 2,
            (Stage::Reply, [_, _, _, IPV6, ..]) => 4 + 16 + 2,
            (Stage::Reply, [_, _, _, NAME, length, ..]) => 4 + 1 + usize::from(*length) + 2,
            (Stage::Reply, [_, _, _, NAME]) => 5,
            (Stage::Reply, _) => 4,
        }
    }

    /// Returns the refusal as soon as the answer shows it; `rest` follows the answer.
    fn early_refusal(&self, rest: &[u8]) -> Option<Answer> {
        // After the first answer, the peer may have the credentials.
        let quotes = self.stage == Stage::Method || !self.has_credentials;
        let malformed = || Some(Refusal::malformed("SOCKS 5", quotes, &self.answer, rest));
        match (self.stage, &self.answer[..]) {
            (Stage::Method | Stage::Reply, [VERSION, ..])
            | (Stage::Authentication, [AUTHENTICATION_VERSION, ..])
            | (_, []) => {}
            (Stage::Method | Stage::Reply | Stage::Authentication, _) => return malformed(),
        }
        let code = *self.answer.get(1)?;
        let reply = match (self.stage, code) {
            (Stage::Method, NO_COMMON_METHOD) => ProxyReply::Socks5Auth(code),
            (Stage::Method, NO_AUTHENTICATION) => return None,
            (Stage::Method, USERNAME_AND_PASSWORD) if self.authentication.is_some() => return None,
            (Stage::Method, _) => {
                let words = format!("chose method {code} of SOCKS 5, which was not offered");
                return Some(refuse(ProxyReply::Malformed, words));
            }
            (Stage::Authentication | Stage::Reply, 0) => {
                return match self.answer.get(3) {
                    None | Some(&(IPV4 | NAME | IPV6)) => None,
                    Some(_) => malformed(),
                };
            }
            (Stage::Authentication, _) => ProxyReply::Socks5Auth(code),
            (Stage::Reply, _) => ProxyReply::Socks5(code),
        };
        Some(refuse(reply, reply.words()))
    }

    /// Handles a complete answer that refuses nothing.
    fn complete(&mut self) -> Answer {
        let method = self.answer.get(1).copied();
        self.answer.clear();
        let wants_authentication =
            (self.stage, method) == (Stage::Method, Some(USERNAME_AND_PASSWORD));
        let authentication = self.authentication.take().filter(|_| wants_authentication);
        match (self.stage, authentication) {
            (Stage::Reply, _) => Answer::Accepted,
            (Stage::Method, Some(message)) => {
                self.stage = Stage::Authentication;
                Answer::Send(message.to_vec())
            }
            (Stage::Method | Stage::Authentication, _) => {
                self.stage = Stage::Reply;
                Answer::Send(self.request.to_vec())
            }
        }
    }
}

/// Returns the message of RFC 1929, section 2.
fn authentication(credentials: &Credentials) -> Arc<[u8]> {
    let mut message = vec![AUTHENTICATION_VERSION];
    push_text(&mut message, credentials.username());
    push_text(&mut message, credentials.password());
    message.into()
}

/// Returns the request of RFC 1928, section 4.
fn request(destination: Destination<'_>) -> Arc<[u8]> {
    let mut request = vec![VERSION, CONNECT, 0];
    let port = match destination {
        Destination::Name(host, port) => {
            request.push(NAME);
            push_text(&mut request, host);
            port
        }
        Destination::Address(address) => {
            push_ip(&mut request, address);
            address.port()
        }
    };
    request.extend_from_slice(&port.to_be_bytes());
    request.into()
}

fn push_ip(request: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            request.push(IPV4);
            request.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            request.push(IPV6);
            request.extend_from_slice(&ip.octets());
        }
    }
}

/// Appends a text of at most 255 bytes, which its origin ensures, after its length.
fn push_text(message: &mut Vec<u8>, text: &str) {
    message.push(u8::try_from(text.len()).expect("hosts and credentials have at most 255 bytes"));
    message.extend_from_slice(text.as_bytes());
}

/// Omits the credentials.
impl std::fmt::Debug for Socks5 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socks5").field("stage", &self.stage).finish_non_exhaustive()
    }
}
