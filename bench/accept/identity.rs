//! The server's certificate and the settings of both ends, for TLS 1.3.
//!
//! Every handshake is a full one: the client keeps no sessions, and no server sends tickets.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as cryptography;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring as cryptography;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use sockeye::{ListenOptions, SecureTransport, ServerTlsOptions, SocketOptions, TlsVersion};

const NAME: &str = "localhost";
const CERTIFICATE: &str = "SOCKEYE_BENCH_CERTIFICATE";
const KEY: &str = "SOCKEYE_BENCH_KEY";

/// The server's certificate and key as PEM.
pub struct Identity {
    certificate: String,
    key: String,
}

impl Identity {
    pub fn make() -> Result<Self, Box<dyn Error>> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        Ok(Identity { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() })
    }

    /// Reads the identity that the parent passed.
    pub fn inherited() -> Result<Self, std::env::VarError> {
        Ok(Identity { certificate: std::env::var(CERTIFICATE)?, key: std::env::var(KEY)? })
    }

    pub fn variables(&self) -> [(&str, &str); 2] {
        [(CERTIFICATE, &self.certificate), (KEY, &self.key)]
    }

    fn certificate(&self) -> Result<CertificateDer<'static>, Box<dyn Error>> {
        Ok(CertificateDer::from_pem_slice(self.certificate.as_bytes())?)
    }

    pub fn client(&self) -> Result<Arc<ClientConfig>, Box<dyn Error>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate()?)?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    pub fn server(&self) -> Result<Arc<ServerConfig>, Box<dyn Error>> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate()?], key)?;
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    pub fn listen_options(&self) -> Result<ListenOptions, Box<dyn Error>> {
        // If the crate is built without a provider, it uses the one that the program installed.
        if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
            cryptography::default_provider().install_default().ok();
        }
        let identity = sockeye::Identity::from_pem(&self.certificate, &self.key)?;
        let tls = ServerTlsOptions::new(identity).min_version(TlsVersion::Tls13).resumption(false);
        let socket = SocketOptions::new().secure_transport(SecureTransport::On).server_tls(tls);
        Ok(ListenOptions::new().socket(socket))
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(cryptography::default_provider())
}

/// Returns the client's end of a connection.
pub fn client_connection(config: &Arc<ClientConfig>) -> io::Result<ClientConnection> {
    let name = ServerName::try_from(NAME).expect("the constant is a DNS name");
    ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)
}
