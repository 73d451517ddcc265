//! The handshake of TLS 1.2 (RFC 5246) in steps, with ECDHE and an extended master secret.

use std::io;

use super::crypto::{Own, Sealer, prf, sha256};
use super::hello::{ServerHello, X25519};
use super::records::{
    CHANGE_CIPHER_SPEC, HANDSHAKE, MAX_RECORD, handshake, message, vec8, vec16, vec24,
};
use super::server::Server;
use super::tls13::ECDSA_SECP256R1_SHA256;

/// The curve type `named_curve` (RFC 8422, section 5.4).
const NAMED_CURVE: u8 = 3;

/// The content of a ServerKeyExchange.
#[derive(Clone)]
pub struct Exchange {
    pub curve_type: u8,
    pub group: u16,
    pub share: Vec<u8>,
    pub scheme: u16,
    /// The signature covers other bytes.
    pub forged: bool,
}

impl Default for Exchange {
    fn default() -> Exchange {
        Exchange {
            curve_type: NAMED_CURVE,
            group: X25519,
            share: Vec::new(),
            scheme: ECDSA_SECP256R1_SHA256,
            forged: false,
        }
    }
}

impl Server {
    pub(super) fn open12(&mut self) -> io::Result<()> {
        self.greet12()?;
        self.exchange_keys()?;
        self.finish12()
    }

    /// Exchanges everything between the ServerHello and the Finished correctly.
    pub fn exchange_keys(&mut self) -> io::Result<()> {
        self.say_certificate12()?;
        let exchange = self.begin_exchange()?;
        self.say_exchange(&exchange.0)?;
        self.say_done()?;
        self.hear_keys(exchange.1)
    }

    /// Sends ChangeCipherSpec and Finished.
    pub fn finish12(&mut self) -> io::Result<()> {
        self.change_ciphers()?;
        let finished = self.finished12();
        self.sealed(HANDSHAKE, &finished)
    }

    /// Reads the ClientHello and answers in TLS 1.2.
    pub fn greet12(&mut self) -> io::Result<()> {
        self.hear()?;
        self.say_plain(&ServerHello::tls12().encode())
    }

    /// Sends a handshake message in the clear.
    pub fn say_plain(&mut self, message: &[u8]) -> io::Result<()> {
        self.transcript.extend(message);
        for part in message.chunks(MAX_RECORD) {
            self.plain(HANDSHAKE, part)?;
        }
        Ok(())
    }

    pub fn say_certificate12(&mut self) -> io::Result<()> {
        self.say_plain(&certificate12(&self.identity.chain))
    }

    /// Returns a correct exchange and its private key.
    pub fn begin_exchange(&self) -> io::Result<(Exchange, Own)> {
        let own = Own::new()?;
        Ok((Exchange { share: own.share().to_vec(), ..Exchange::default() }, own))
    }

    pub fn say_exchange(&mut self, exchange: &Exchange) -> io::Result<()> {
        let mut params = vec![exchange.curve_type];
        params.extend(exchange.group.to_be_bytes());
        vec8(&mut params, &exchange.share);
        let mut signed = [&self.client.random[..], &[7; 32], &params].concat();
        signed[0] ^= u8::from(exchange.forged);
        let mut body = params;
        body.extend(exchange.scheme.to_be_bytes());
        vec16(&mut body, &self.identity.sign(&signed));
        self.say_plain(&handshake(message::SERVER_KEY_EXCHANGE, &body))
    }

    pub fn say_done(&mut self) -> io::Result<()> {
        self.say_plain(&handshake(message::SERVER_HELLO_DONE, &[]))
    }

    /// Reads the client's share and its Finished, and derives the master secret.
    pub fn hear_keys(&mut self, own: Own) -> io::Result<()> {
        let (kind, content) = self.read_record()?;
        let share = content.get(5..).ok_or(io::ErrorKind::InvalidData)?;
        if kind != HANDSHAKE || content[0] != message::CLIENT_KEY_EXCHANGE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let shared = own.agree(share)?;
        self.transcript.extend(&content);
        self.secret = prf(&shared, "extended master secret", &sha256(&self.transcript), 48);
        // The client's Finished is computed, not decrypted.
        let verify = prf(&self.secret, "client finished", &sha256(&self.transcript), 12);
        self.transcript.extend(handshake(message::FINISHED, &verify));
        while self.read_record()?.0 != HANDSHAKE {}
        Ok(())
    }

    /// Sends ChangeCipherSpec and switches to the new write key.
    pub fn change_ciphers(&mut self) -> io::Result<()> {
        self.plain(CHANGE_CIPHER_SPEC, &[1])?;
        let seed = [&[7; 32][..], &self.client.random].concat();
        let block = prf(&self.secret, "key expansion", &seed, 40);
        self.sealer = Some(Sealer::tls12(&block[16..32], &block[36..40]));
        Ok(())
    }

    pub fn finished12(&self) -> Vec<u8> {
        let verify = prf(&self.secret, "server finished", &sha256(&self.transcript), 12);
        handshake(message::FINISHED, &verify)
    }
}

pub fn certificate12(chain: &[Vec<u8>]) -> Vec<u8> {
    let mut list = Vec::new();
    for certificate in chain {
        vec24(&mut list, certificate);
    }
    let mut body = Vec::new();
    vec24(&mut body, &list);
    handshake(message::CERTIFICATE, &body)
}
