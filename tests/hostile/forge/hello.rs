//! The hello messages: a parser for the client's, a builder for the server's.

use super::records::{extension, handshake, message, vec8, vec16};

pub const X25519: u16 = 29;
pub const SECP256R1: u16 = 23;

const KEY_SHARE: u16 = 51;
const SUPPORTED_VERSIONS: u16 = 43;
const COOKIE: u16 = 44;
const EXTENDED_MASTER_SECRET: u16 = 23;

/// The random of a HelloRetryRequest (RFC 8446, section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// The fields of a ClientHello that the server needs.
#[derive(Clone, Default)]
pub struct ClientHello {
    /// The whole message.
    pub bytes: Vec<u8>,
    pub random: Vec<u8>,
    pub session_id: Vec<u8>,
    /// The client's share for X25519.
    pub share: Option<Vec<u8>>,
}

impl ClientHello {
    pub fn parse(bytes: &[u8]) -> Option<ClientHello> {
        let mut rest = Unread(bytes.get(6..)?);
        let random = rest.take(32)?.to_vec();
        let session_id = rest.vec8()?.to_vec();
        rest.vec16()?;
        rest.vec8()?;
        let mut extensions = Unread(rest.vec16()?);
        let mut share = None;
        while let Some(kind) = extensions.u16() {
            let body = extensions.vec16()?;
            if kind == KEY_SHARE {
                let mut shares = Unread(Unread(body).vec16()?);
                while let Some(group) = shares.u16() {
                    let key = shares.vec16()?;
                    if group == X25519 {
                        share = Some(key.to_vec());
                    }
                }
            }
        }
        Some(ClientHello { bytes: bytes.to_vec(), random, session_id, share })
    }
}

struct Unread<'a>(&'a [u8]);

impl<'a> Unread<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vec8(&mut self) -> Option<&'a [u8]> {
        let len = self.take(1)?[0];
        self.take(len.into())
    }

    fn vec16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(len.into())
    }
}

/// A ServerHello or a HelloRetryRequest. A script may set every field.
#[derive(Clone)]
pub struct ServerHello {
    pub version: u16,
    pub random: [u8; 32],
    pub session_id: Vec<u8>,
    pub suite: u16,
    pub compression: u8,
    pub extensions: Vec<(u16, Vec<u8>)>,
    /// Bytes after the extensions, inside the message.
    pub trailing: Vec<u8>,
}

impl ServerHello {
    /// Returns a correct answer to `client` with this key share.
    pub fn tls13(client: &ClientHello, share: &[u8]) -> ServerHello {
        let mut hello = ServerHello {
            version: 0x0303,
            random: [7; 32],
            session_id: client.session_id.clone(),
            suite: 0x1301,
            compression: 0,
            extensions: Vec::new(),
            trailing: Vec::new(),
        };
        hello.set_version(0x0304);
        hello.set_share(X25519, share);
        hello
    }

    pub fn tls12() -> ServerHello {
        ServerHello {
            version: 0x0303,
            random: [7; 32],
            // Without an id the session is not resumable.
            session_id: Vec::new(),
            // ECDHE-ECDSA with AES-128-GCM and SHA-256.
            suite: 0xc02b,
            compression: 0,
            extensions: vec![(EXTENDED_MASTER_SECRET, Vec::new())],
            trailing: Vec::new(),
        }
    }

    /// Returns a HelloRetryRequest for a share of this group.
    pub fn retry(client: &ClientHello, group: u16) -> ServerHello {
        let mut hello = ServerHello::retry_for_nothing(client);
        hello.set(KEY_SHARE, group.to_be_bytes().to_vec());
        hello
    }

    /// Returns a HelloRetryRequest with a cookie of `len` bytes.
    pub fn retry_with_cookie(client: &ClientHello, len: usize) -> ServerHello {
        let mut cookie = Vec::new();
        vec16(&mut cookie, &vec![9; len]);
        let mut hello = ServerHello::retry_for_nothing(client);
        hello.set(COOKIE, cookie);
        hello
    }

    /// Returns a HelloRetryRequest that changes nothing.
    pub fn retry_for_nothing(client: &ClientHello) -> ServerHello {
        let mut hello = ServerHello::tls13(client, &[]);
        hello.random = RETRY;
        hello.extensions.retain(|(kind, _)| *kind != KEY_SHARE);
        hello
    }

    pub fn is_retry(&self) -> bool {
        self.random == RETRY
    }

    pub fn set_share(&mut self, group: u16, share: &[u8]) {
        let mut body = group.to_be_bytes().to_vec();
        vec16(&mut body, share);
        self.set(KEY_SHARE, body);
    }

    pub fn set_version(&mut self, version: u16) {
        self.set(SUPPORTED_VERSIONS, version.to_be_bytes().to_vec());
    }

    pub fn drop_share(&mut self) {
        self.extensions.retain(|(kind, _)| *kind != KEY_SHARE);
    }

    pub fn drop_version(&mut self) {
        self.extensions.retain(|(kind, _)| *kind != SUPPORTED_VERSIONS);
    }

    pub fn set(&mut self, kind: u16, body: Vec<u8>) {
        self.extensions.retain(|(other, _)| *other != kind);
        self.extensions.push((kind, body));
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend(self.random);
        vec8(&mut body, &self.session_id);
        body.extend(self.suite.to_be_bytes());
        body.push(self.compression);
        let all: Vec<u8> =
            self.extensions.iter().flat_map(|(kind, body)| extension(*kind, body)).collect();
        vec16(&mut body, &all);
        body.extend(&self.trailing);
        handshake(message::SERVER_HELLO, &body)
    }
}
