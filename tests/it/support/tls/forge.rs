//! TLS 1.3 records that no server library sends, sealed by hand with the keys of a session.

use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{
    ConnectionTrafficSecrets, ContentType, ProtocolVersion, ServerConnection, SupportedCipherSuite,
};

/// The content types of records.
pub const HANDSHAKE: u8 = 22;
pub const DATA: u8 = 23;

/// The maximum plaintext of one record, in bytes.
const RECORD: usize = 16 * 1024;

/// A sealer of records that takes the place of a server's session.
pub struct Forge {
    encrypter: Box<dyn MessageEncrypter>,
    next: u64,
}

impl Forge {
    /// Takes over from a session whose handshake is complete, after its last record.
    pub fn new(session: ServerConnection) -> Forge {
        let Some(SupportedCipherSuite::Tls13(suite)) = session.negotiated_cipher_suite() else {
            panic!("the session uses TLS 1.3");
        };
        let secrets = session.dangerous_extract_secrets().expect("the configuration allows it");
        let (next, keys) = secrets.tx;
        let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = keys
        else {
            panic!("unexpected cipher suite");
        };
        Forge { encrypter: suite.aead_alg.encrypter(key, iv), next }
    }

    /// Seals one record of this type.
    pub fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let message = OutboundPlainMessage {
            typ: ContentType::from(kind),
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(content),
        };
        let sealed = self.encrypter.encrypt(message, self.next).expect("sequence numbers are left");
        self.next += 1;
        sealed.encode()
    }

    /// Seals a record with no data and this much padding.
    pub fn padding(&mut self, zeros: usize) -> Vec<u8> {
        // RFC 8446, section 5.4: the type is the last non-zero byte, here that of the padding.
        let mut content = vec![0; zeros];
        content[0] = DATA;
        self.record(0, &content)
    }

    /// Seals handshake messages in as few records as possible.
    pub fn handshake(&mut self, messages: &[u8]) -> Vec<u8> {
        messages.chunks(RECORD).flat_map(|part| self.record(HANDSHAKE, part)).collect()
    }
}

/// Returns a session ticket message of this length.
pub fn ticket(length: usize) -> Vec<u8> {
    let mut body = vec![0, 0, 0x1c, 0x20, 1, 2, 3, 4, 1, 7];
    body.extend(
        u16::try_from(length).expect("no ticket is longer than 65,535 bytes").to_be_bytes(),
    );
    body.resize(body.len() + length, 0xa5);
    body.extend([0, 0]);
    message(4, &body)
}

/// Returns a handshake message of this type.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("the message is short").to_be_bytes();
    [&[kind], &length[1..], body].concat()
}
