//! What clients and servers over TLS share. Every connection is TLS 1.3 with AES-256-GCM, because the server offers
//! nothing else. Every handshake is a full one, because the server sends no tickets. Both clients use the crate's
//! default provider and groups, and trust only the certificate that the harness made for this run.

pub mod client;
pub mod server;

use std::io;
use std::process::Command;

#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as cryptography;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring as cryptography;

/// The name in the certificate, regardless of the server's address.
pub const SERVER_NAME: &str = "localhost";

/// The server's certificate and key as PEM. The harness makes them once and passes them to its children in environment
/// variables.
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

    /// Returns the identity that [`Identity::make`] made in the parent process.
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

/// Returns the crate's own provider if it has one.
fn provider() -> rustls::crypto::CryptoProvider {
    cryptography::default_provider()
}
