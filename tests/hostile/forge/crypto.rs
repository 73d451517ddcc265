//! The server's cryptography: HKDF, the PRF of TLS 1.2, and record protection that a script may misuse.

use std::io;

use ring::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey};
use ring::rand::SystemRandom;
use ring::{aead, digest, hmac};

use super::records::{self, DATA};

pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

pub fn mac(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes).as_ref().to_vec()
}

/// Computes HKDF-Expand-Label, for at most one block (RFC 8446, section 7.1).
pub fn expand_label(secret: &[u8], label: &str, context: &[u8], len: u8) -> Vec<u8> {
    let mut info = vec![0, len];
    records::vec8(&mut info, format!("tls13 {label}").as_bytes());
    records::vec8(&mut info, context);
    info.push(1);
    let mut block = mac(secret, &info);
    block.truncate(len.into());
    block
}

/// Computes the pseudorandom function of TLS 1.2 (RFC 5246, section 5).
pub fn prf(secret: &[u8], label: &str, seed: &[u8], len: usize) -> Vec<u8> {
    let seed = [label.as_bytes(), seed].concat();
    let mut bytes = Vec::new();
    let mut a = seed.clone();
    while bytes.len() < len {
        a = mac(secret, &a);
        bytes.extend(mac(secret, &[&a[..], &seed].concat()));
    }
    bytes.truncate(len);
    bytes
}

/// Seals records with AES-128-GCM. A script may set the sequence number.
pub struct Sealer {
    key: aead::LessSafeKey,
    iv: Vec<u8>,
    /// The traffic secret, in TLS 1.3.
    secret: Option<Vec<u8>>,
    pub sequence: u64,
}

impl Sealer {
    pub fn tls13(secret: Vec<u8>) -> Sealer {
        let key = gcm(&expand_label(&secret, "key", &[], 16));
        let iv = expand_label(&secret, "iv", &[], 12);
        Sealer { key, iv, secret: Some(secret), sequence: 0 }
    }

    pub fn tls12(key: &[u8], iv: &[u8]) -> Sealer {
        Sealer { key: gcm(key), iv: iv.to_vec(), secret: None, sequence: 0 }
    }

    /// Switches to the next traffic secret (RFC 8446, section 7.2).
    pub fn update_keys(&mut self) {
        let secret = self.secret.as_ref().expect("TLS 1.3 only");
        *self = Sealer::tls13(expand_label(secret, "traffic upd", &[], 32));
    }

    /// Returns a sealed record of this type with this content.
    pub fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        match self.secret {
            Some(_) => self.seal_inner([content, &[kind]].concat()),
            None => self.seal_tls12(kind, content),
        }
    }

    /// Returns a record of TLS 1.3 with this inner plaintext: content, type and padding (RFC 8446, section 5.2).
    pub fn seal_inner(&mut self, inner: Vec<u8>) -> Vec<u8> {
        let header = records::header(DATA, inner.len() + 16);
        let mut nonce = self.iv.clone();
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        let sealed = self.encrypt(&nonce, &header, inner);
        [header, sealed].concat()
    }

    fn seal_tls12(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let number = self.sequence.to_be_bytes();
        let header = records::header(kind, content.len());
        let nonce = [&self.iv[..], &number].concat();
        let sealed = self.encrypt(&nonce, &[&number[..], &header].concat(), content.to_vec());
        [&records::header(kind, 8 + sealed.len())[..], &number, &sealed].concat()
    }

    fn encrypt(&mut self, nonce: &[u8], aad: &[u8], mut bytes: Vec<u8>) -> Vec<u8> {
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).expect("it has 12 bytes");
        let aad = aead::Aad::from(aad);
        self.key.seal_in_place_append_tag(nonce, aad, &mut bytes).expect("it is not too long");
        self.sequence += 1;
        bytes
    }
}

fn gcm(key: &[u8]) -> aead::LessSafeKey {
    let key = aead::UnboundKey::new(&aead::AES_128_GCM, key).expect("it has 16 bytes");
    aead::LessSafeKey::new(key)
}

/// The server's private X25519 key of one exchange.
pub struct Own {
    key: EphemeralPrivateKey,
    share: Vec<u8>,
}

impl Own {
    pub fn new() -> io::Result<Own> {
        let key = EphemeralPrivateKey::generate(&agreement::X25519, &SystemRandom::new());
        let key = key.map_err(|_| io::ErrorKind::InvalidData)?;
        let share = key.compute_public_key().map_err(|_| io::ErrorKind::InvalidData)?;
        let share = share.as_ref().to_vec();
        Ok(Own { key, share })
    }

    pub fn share(&self) -> &[u8] {
        &self.share
    }

    /// Returns the secret shared with the sender of `share`.
    pub fn agree(self, share: &[u8]) -> io::Result<Vec<u8>> {
        let peer = UnparsedPublicKey::new(&agreement::X25519, share);
        agreement::agree_ephemeral(self.key, &peer, <[u8]>::to_vec)
            .map_err(|_| io::ErrorKind::InvalidData.into())
    }
}
