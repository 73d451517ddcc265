//! Records of TLS 1.3 that no server's library sends, sealed by hand with the keys of a session.

use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{
    ConnectionTrafficSecrets, ContentType, ProtocolVersion, ServerConnection, SupportedCipherSuite,
};

/// The content types of records.
pub const HANDSHAKE: u8 = 22;
pub const DATA: u8 = 23;

/// The most plaintext that one record carries.
const RECORD: usize = 16 * 1024;

/// Seals records in place of a server's session.
pub struct Forge {
    encrypter: Box<dyn MessageEncrypter>,
    next: u64,
}

impl Forge {
    /// Goes on behind what the session has sent. Its handshake has to be done.
    pub fn new(session: ServerConnection) -> Forge {
        let Some(SupportedCipherSuite::Tls13(suite)) = session.negotiated_cipher_suite() else {
            panic!("TLS 1.3 is spoken");
        };
        let secrets = session.dangerous_extract_secrets().expect("the configuration allows it");
        let (next, keys) = secrets.tx;
        let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = keys
        else {
            panic!("keys of a suite that these tests don't know");
        };
        Forge { encrypter: suite.aead_alg.encrypter(key, iv), next }
    }

    /// One record of this type.
    pub fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let message = OutboundPlainMessage {
            typ: ContentType::from(kind),
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(content),
        };
        let sealed = self.encrypter.encrypt(message, self.next).expect("there are numbers left");
        self.next += 1;
        sealed.encode()
    }

    /// A record of no data, and this much padding.
    pub fn padding(&mut self, zeros: usize) -> Vec<u8> {
        // What looks like the type is the last byte of the padding (RFC 8446, section 5.4).
        let mut content = vec![0; zeros];
        content[0] = DATA;
        self.record(0, &content)
    }

    /// Handshake messages in as few records as they fit.
    pub fn handshake(&mut self, messages: &[u8]) -> Vec<u8> {
        messages.chunks(RECORD).flat_map(|part| self.record(HANDSHAKE, part)).collect()
    }
}

/// The message of a session ticket of this length.
pub fn ticket(length: usize) -> Vec<u8> {
    let mut body = vec![0, 0, 0x1c, 0x20, 1, 2, 3, 4, 1, 7];
    body.extend(u16::try_from(length).expect("no ticket is longer").to_be_bytes());
    body.resize(body.len() + length, 0xa5);
    body.extend([0, 0]);
    message(4, &body)
}

/// A handshake message of this type.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("it is short").to_be_bytes();
    [&[kind], &length[1..], body].concat()
}
