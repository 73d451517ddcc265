//! The handshake of TLS 1.3 (RFC 8446) in steps.

use std::io;

use super::crypto::{Own, Sealer, expand_label, mac, sha256};
use super::hello::ServerHello;
use super::records::{
    self, CHANGE_CIPHER_SPEC, DATA, HANDSHAKE, MAX_RECORD, handshake, message, vec8, vec16, vec24,
};
use super::server::Server;

/// The signature scheme of the server's key.
pub const ECDSA_SECP256R1_SHA256: u16 = 0x0403;

impl Server {
    pub(super) fn open13(&mut self) -> io::Result<()> {
        self.greet()?;
        self.say_flight()?;
        self.finish()
    }

    /// Reads the ClientHello, sends a correct ServerHello, and switches to the handshake keys.
    pub fn greet(&mut self) -> io::Result<()> {
        self.hear()?;
        let hello = self.right_hello()?;
        self.answer(&hello)
    }

    /// Returns a correct ServerHello and keeps its shared secret.
    pub fn right_hello(&mut self) -> io::Result<ServerHello> {
        let share = self.client.share.as_ref().ok_or(io::ErrorKind::InvalidData)?;
        let own = Own::new()?;
        let hello = ServerHello::tls13(&self.client, own.share());
        self.secret = own.agree(share)?;
        Ok(hello)
    }

    /// Sends this ServerHello and switches to the handshake keys.
    pub fn answer(&mut self, hello: &ServerHello) -> io::Result<()> {
        let message = hello.encode();
        self.transcript.extend(&message);
        self.plain(HANDSHAKE, &message)?;
        self.plain(CHANGE_CIPHER_SPEC, &[1])?;
        self.use_handshake_keys();
        Ok(())
    }

    pub fn use_handshake_keys(&mut self) {
        let early = mac(&[0; 32], &[0; 32]);
        let secret = mac(&derived(&early), &self.secret);
        self.traffic = expand_label(&secret, "s hs traffic", &sha256(&self.transcript), 32);
        self.sealer = Some(Sealer::tls13(self.traffic.clone()));
        self.secret = secret;
    }

    /// Sends a HelloRetryRequest and reads the second ClientHello.
    pub fn retry(&mut self, make: impl FnOnce(&Server) -> ServerHello) -> io::Result<()> {
        let hello = make(self);
        assert!(hello.is_retry());
        let first = sha256(&self.transcript);
        self.transcript = handshake(message::MESSAGE_HASH, &first);
        let bytes = hello.encode();
        self.transcript.extend(&bytes);
        self.plain(HANDSHAKE, &bytes)?;
        self.hear()
    }

    pub fn client(&self) -> &super::hello::ClientHello {
        &self.client
    }

    // ---------------------------------------------------------------- the sealed part

    /// Sends a handshake message and adds it to the transcript.
    pub fn say(&mut self, message: &[u8]) -> io::Result<()> {
        self.transcript.extend(message);
        for part in message.chunks(MAX_RECORD) {
            self.sealed(HANDSHAKE, part)?;
        }
        Ok(())
    }

    /// Sends the rest of the server's flight correctly.
    pub fn say_flight(&mut self) -> io::Result<()> {
        self.say(&encrypted_extensions(&[]))?;
        self.say_certificate()?;
        self.say(&self.finished())
    }

    /// Sends Certificate and CertificateVerify.
    pub fn say_certificate(&mut self) -> io::Result<()> {
        self.say_only_certificate()?;
        self.say(&self.certificate_verify())
    }

    pub fn say_only_certificate(&mut self) -> io::Result<()> {
        self.say(&certificate(&self.identity.chain))
    }

    pub fn certificate_verify(&self) -> Vec<u8> {
        let content =
            [&[0x20; 64][..], b"TLS 1.3, server CertificateVerify\0", &sha256(&self.transcript)]
                .concat();
        certificate_verify(ECDSA_SECP256R1_SHA256, &self.identity.sign(&content))
    }

    pub fn finished(&self) -> Vec<u8> {
        let key = expand_label(&self.traffic, "finished", &[], 32);
        handshake(message::FINISHED, &mac(&key, &sha256(&self.transcript)))
    }

    /// Switches to the application keys and waits for the client's Finished.
    pub fn finish(&mut self) -> io::Result<()> {
        self.use_data_keys();
        // A ChangeCipherSpec may come first.
        while self.read_record()?.0 != DATA {}
        Ok(())
    }

    pub fn use_data_keys(&mut self) {
        let secret = mac(&derived(&self.secret), &[0; 32]);
        self.traffic = expand_label(&secret, "s ap traffic", &sha256(&self.transcript), 32);
        self.sealer = Some(Sealer::tls13(self.traffic.clone()));
        self.secret = secret;
    }

    // ---------------------------------------------------------------- after the handshake

    /// Sends a KeyUpdate and switches to the next key. With `ask` the client must update too.
    pub fn update_keys(&mut self, ask: bool) -> io::Result<()> {
        let record = self.key_update_record(ask);
        self.raw(&record)
    }

    pub fn key_update_record(&mut self, ask: bool) -> Vec<u8> {
        let record = self.seal(HANDSHAKE, &key_update(u8::from(ask)));
        self.sealer().update_keys();
        record
    }
}

fn derived(secret: &[u8]) -> Vec<u8> {
    expand_label(secret, "derived", &sha256(&[]), 32)
}

pub fn encrypted_extensions(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let all: Vec<u8> =
        extensions.iter().flat_map(|(kind, body)| records::extension(*kind, body)).collect();
    let mut body = Vec::new();
    vec16(&mut body, &all);
    handshake(message::ENCRYPTED_EXTENSIONS, &body)
}

pub fn certificate(chain: &[Vec<u8>]) -> Vec<u8> {
    certificate_with(&[], chain, &[])
}

/// Returns a Certificate message with this context, and these extensions for every certificate.
pub fn certificate_with(context: &[u8], chain: &[Vec<u8>], extensions: &[u8]) -> Vec<u8> {
    let mut list = Vec::new();
    for certificate in chain {
        vec24(&mut list, certificate);
        vec16(&mut list, extensions);
    }
    let mut body = Vec::new();
    vec8(&mut body, context);
    vec24(&mut body, &list);
    handshake(message::CERTIFICATE, &body)
}

pub fn certificate_verify(scheme: u16, signature: &[u8]) -> Vec<u8> {
    let mut body = scheme.to_be_bytes().to_vec();
    vec16(&mut body, signature);
    handshake(message::CERTIFICATE_VERIFY, &body)
}

/// Returns a CertificateRequest with this context.
pub fn certificate_request(context: &[u8]) -> Vec<u8> {
    const SIGNATURE_ALGORITHMS: u16 = 13;
    let mut schemes = Vec::new();
    vec16(&mut schemes, &ECDSA_SECP256R1_SHA256.to_be_bytes());
    let mut body = Vec::new();
    vec8(&mut body, context);
    vec16(&mut body, &records::extension(SIGNATURE_ALGORITHMS, &schemes));
    handshake(message::CERTIFICATE_REQUEST, &body)
}

/// Returns a NewSessionTicket with a ticket of `len` bytes.
pub fn ticket(len: usize) -> Vec<u8> {
    let mut body = 3600_u32.to_be_bytes().to_vec();
    body.extend(1_u32.to_be_bytes());
    vec8(&mut body, &[3; 8]);
    vec16(&mut body, &vec![4; len]);
    vec16(&mut body, &[]);
    handshake(message::NEW_SESSION_TICKET, &body)
}

pub fn key_update(request: u8) -> Vec<u8> {
    handshake(message::KEY_UPDATE, &[request])
}
