//! The workloads over TLS: what clients and servers share. Every connection is TLS 1.3 with AES-256-GCM,
//! because the server offers nothing else, in a full handshake, because the server gives no tickets. Both
//! clients use the crate's default cryptography, with the default groups, and trust the one certificate
//! that the harness made for this run.

pub mod client;
pub mod server;

use std::io;
use std::process::Command;

#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as cryptography;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring as cryptography;

/// The name in the certificate, wherever the server listens.
pub const SERVER_NAME: &str = "localhost";

/// What a server proves its name with and its clients trust, as PEM. The harness makes it once and leaves
/// it to its children in their environment.
pub struct Identity {
    certificate: String,
    key: String,
}

impl Identity {
    pub fn make() -> io::Result<Self> {
        let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()]);
        let made = made.map_err(io::Error::other)?;
        Ok(Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() })
    }

    /// What [`Identity::make`] made in the parent process.
    fn inherited() -> io::Result<Self> {
        let var = |name| std::env::var(name).map_err(io::Error::other);
        Ok(Self { certificate: var(CERTIFICATE)?, key: var(KEY)? })
    }

    pub fn leave_to(&self, child: &mut Command) {
        child.env(CERTIFICATE, &self.certificate).env(KEY, &self.key);
    }
}

const CERTIFICATE: &str = "VERSUS_CERTIFICATE";
const KEY: &str = "VERSUS_KEY";

/// The crate's own where it has one.
fn provider() -> rustls::crypto::CryptoProvider {
    cryptography::default_provider()
}
