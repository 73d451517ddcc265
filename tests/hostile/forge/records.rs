//! Records and handshake messages as bytes, right or wrong.

pub const CHANGE_CIPHER_SPEC: u8 = 20;
pub const ALERT: u8 = 21;
pub const HANDSHAKE: u8 = 22;
pub const DATA: u8 = 23;
pub const HEARTBEAT: u8 = 24;

pub const WARNING: u8 = 1;
pub const FATAL: u8 = 2;
pub const CLOSE_NOTIFY: u8 = 0;

/// The most plaintext of a record (RFC 8446, section 5.1).
pub const MAX_RECORD: usize = 16 * 1024;

/// The types of handshake messages.
pub mod message {
    pub const HELLO_REQUEST: u8 = 0;
    pub const CLIENT_HELLO: u8 = 1;
    pub const SERVER_HELLO: u8 = 2;
    pub const NEW_SESSION_TICKET: u8 = 4;
    pub const END_OF_EARLY_DATA: u8 = 5;
    pub const ENCRYPTED_EXTENSIONS: u8 = 8;
    pub const CERTIFICATE: u8 = 11;
    pub const SERVER_KEY_EXCHANGE: u8 = 12;
    pub const CERTIFICATE_REQUEST: u8 = 13;
    pub const SERVER_HELLO_DONE: u8 = 14;
    pub const CERTIFICATE_VERIFY: u8 = 15;
    pub const CLIENT_KEY_EXCHANGE: u8 = 16;
    pub const FINISHED: u8 = 20;
    pub const CERTIFICATE_STATUS: u8 = 22;
    pub const KEY_UPDATE: u8 = 24;
    pub const COMPRESSED_CERTIFICATE: u8 = 25;
    pub const MESSAGE_HASH: u8 = 254;
}

pub fn header(kind: u8, len: usize) -> Vec<u8> {
    let len = u16::try_from(len).expect("a record's length has two bytes");
    [&[kind, 3, 3][..], &len.to_be_bytes()].concat()
}

/// Returns a record in the clear.
pub fn plain(kind: u8, content: &[u8]) -> Vec<u8> {
    [&header(kind, content.len())[..], content].concat()
}

/// Returns a handshake message.
pub fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    vec24(&mut bytes, body);
    bytes
}

/// Returns the header of a handshake message that claims this length.
pub fn handshake_header(kind: u8, len: u32) -> Vec<u8> {
    [&[kind], &len.to_be_bytes()[1..]].concat()
}

pub fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    vec16(&mut bytes, body);
    bytes
}

/// Appends a length of one byte and then the bytes.
pub fn vec8(to: &mut Vec<u8>, bytes: &[u8]) {
    to.push(u8::try_from(bytes.len()).expect("the length has one byte"));
    to.extend(bytes);
}

pub fn vec16(to: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).expect("the length has two bytes");
    to.extend(len.to_be_bytes());
    to.extend(bytes);
}

pub fn vec24(to: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("the length has three bytes");
    to.extend(&len.to_be_bytes()[1..]);
    to.extend(bytes);
}
