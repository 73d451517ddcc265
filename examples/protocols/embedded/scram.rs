//! The server's side of SCRAM-SHA-256 (RFC 5802 and 7677), for the one client of an example.

use std::io;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

const ROUNDS: usize = 4096;
const SALT: &[u8] = b"sixteen of these";

/// Returns the reply to the client's first message.
pub fn challenge(first: &str) -> io::Result<String> {
    let (_, nonce) = first.split_once(",r=").ok_or_else(|| io::Error::other("no nonce"))?;
    Ok(format!("r={nonce}salmon,s={},i={ROUNDS}", BASE64_STANDARD.encode(SALT)))
}

/// Returns the reply to the last message if that proves that the client knows the password.
pub fn verify(password: &str, first: &str, challenge: &str, last: &str) -> io::Result<String> {
    // The prefix says that the client uses no channel binding.
    let bare = first.strip_prefix("n,,").ok_or_else(|| io::Error::other("bound to a channel"))?;
    let (unproven, proof) = last.split_once(",p=").ok_or_else(|| io::Error::other("no proof"))?;
    let exchange = format!("{bare},{challenge},{unproven}");

    let salted = salt(password.as_bytes());
    let client_key = hmac(&salted, b"Client Key");
    let signature = hmac(&Sha256::digest(client_key), exchange.as_bytes());
    let mut expected = client_key;
    expected.iter_mut().zip(signature).for_each(|(byte, other)| *byte ^= other);
    if BASE64_STANDARD.encode(expected) != proof {
        return Err(io::Error::other("the password is wrong"));
    }
    let server_key = hmac(&salted, b"Server Key");
    Ok(format!("v={}", BASE64_STANDARD.encode(hmac(&server_key, exchange.as_bytes()))))
}

fn salt(password: &[u8]) -> [u8; 32] {
    let mut last = hmac(password, &[SALT, &1_u32.to_be_bytes()].concat());
    let mut salted = last;
    for _ in 1..ROUNDS {
        last = hmac(password, &last);
        salted.iter_mut().zip(last).for_each(|(byte, other)| *byte ^= other);
    }
    salted
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key may be of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}
