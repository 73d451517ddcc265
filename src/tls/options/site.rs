//! Servers for the tests of what the options trust.

use std::ops::Deref;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConnection, HandshakeKind, ServerConfig, ServerConnection, SupportedProtocolVersion,
};

use super::super::config::shared_config;
use super::super::der::{INTEGER, Reader, SEQUENCE, VERSION};
use super::super::error_message::Failure;
use super::super::failure_kind::Stage;
use super::super::peer_certificates::spki_sha256;
use super::super::role::Role;
use super::super::testing::{Chain, Leaf, encode_base64, leaf_params};
use super::TlsOptions;
use crate::error::TlsFailure;

pub(super) const VERSIONS: [&SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

/// The certificates of a.test.
pub(super) struct World(Chain);

impl Deref for World {
    type Target = Chain;

    fn deref(&self) -> &Chain {
        &self.0
    }
}

impl World {
    pub(super) fn new() -> Self {
        World(Chain::new(leaf_params(&["a.test"])))
    }

    pub(super) fn trusting(&self) -> TlsOptions {
        TlsOptions::new().add_root_pem(self.root.pem()).unwrap().only_added_roots()
    }

    pub(super) fn leaf_pin(&self) -> [u8; 32] {
        spki_sha256(self.leaf.der(), &rustls::crypto::ring::default_provider()).unwrap()
    }

    /// Returns lists of the root and of the intermediate.
    pub(super) fn lists(&self, by_root: &[u64], by_middle: &[u64]) -> String {
        self.root.revocation_list(by_root, 4000) + &self.middle.revocation_list(by_middle, 4000)
    }
}

/// A server.
pub(super) struct Site(Arc<ServerConfig>);

impl Site {
    pub(super) fn new(
        version: &'static SupportedProtocolVersion,
        leaf: &Leaf,
        others: &[&CertificateDer<'static>],
    ) -> Self {
        let chain: Vec<_> = std::iter::once(leaf.der()).chain(others.iter().copied()).collect();
        Site::signing(version, &chain, leaf)
    }

    /// A server that presents a chain and signs with a key that may be another's.
    pub(super) fn signing(
        version: &'static SupportedProtocolVersion,
        chain: &[&CertificateDer<'static>],
        signer: &Leaf,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key: PrivateKeyDer<'static> = signer.key_der();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let chain = chain.iter().map(|&it| it.clone()).collect();
        let certified = CertifiedKey::new(chain, key);
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        Site(Arc::new(config))
    }

    /// Connects to a.test. Reads the server's tickets.
    pub(super) fn connect(&self, options: &TlsOptions) -> Result<HandshakeKind, rustls::Error> {
        let config = shared_config(options.settings()).unwrap_or_else(|error| panic!("{error}"));
        let name = ServerName::try_from("a.test").unwrap();
        let mut client = ClientConnection::new(config, name)?;
        let mut server = ServerConnection::new(Arc::clone(&self.0))?;
        for _ in 0..8 {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let mut unread = bytes.as_slice();
            while !unread.is_empty() {
                server.read_tls(&mut unread).unwrap();
                server.process_new_packets()?;
            }
            bytes.clear();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut unread = bytes.as_slice();
            while !unread.is_empty() {
                client.read_tls(&mut unread).unwrap();
                client.process_new_packets()?;
            }
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok(client.handshake_kind().expect("the handshake is complete"))
    }

    #[track_caller]
    pub(super) fn refuses(&self, options: &TlsOptions, kind: TlsFailure, says: &str) {
        let error = self.connect(options).expect_err(says);
        let failure = Failure::new(error, Role::Server, Stage::Handshake);
        assert!(failure.message().contains(says), "{}, not {says:?}", failure.message());
        assert_eq!(failure.kind(), kind, "{}", failure.message());
    }
}

/// Returns a certificate without version and extensions. Its signature does not match any more.
pub(super) fn version_1(certificate: &[u8]) -> CertificateDer<'static> {
    let mut outer = Reader(Reader(certificate).expect(SEQUENCE).unwrap());
    let mut inner = Reader(outer.expect(SEQUENCE).unwrap());
    let mut kept = Vec::new();
    loop {
        let before = inner.0;
        let Some((tag, _)) = inner.next() else { break };
        if tag == VERSION {
            continue;
        }
        if tag != SEQUENCE && tag != INTEGER {
            break;
        }
        kept.extend_from_slice(&before[..before.len() - inner.0.len()]);
    }
    let body = [sequence(&kept), outer.0.to_vec()].concat();
    CertificateDer::from(sequence(&body))
}

fn sequence(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    // DER wants the shortest form.
    let header: &[u8] = match length {
        [0, short @ ..0x80] => &[SEQUENCE, short],
        [0, short] => &[SEQUENCE, 0x81, short],
        [high, low] => &[SEQUENCE, 0x82, high, low],
    };
    [header, content].concat()
}

pub(super) fn section(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", encode_base64(der))
}
