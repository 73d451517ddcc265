//! Tests of the sessions that a server resumes, and of what it believes of a client's certificate.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, SignatureAlgorithm, SignatureScheme};

use super::VERSIONS;
use super::site::{as_server, client_config, machine_config, server_options, site};
use super::wire::Wire;
use crate::machine::TlsSetup;
use crate::{ClientAuth, Identities, Identity, ServerTlsOptions};

/// Opens a connection, and lets the client take its tickets.
fn open(options: &ServerTlsOptions, client: &ClientConfig, seed: u64) -> Wire {
    let mut config = machine_config();
    config.tls = Some(TlsSetup::server(options).unwrap());
    let mut wire = Wire::with_client(config, client.clone(), seed);
    wire.shake_hands(usize::MAX);
    wire.exchange(10);
    wire
}

fn resumed(wire: &Wire) -> bool {
    wire.machine.negotiated().expect("it is open").tls.resumed()
}

#[test]
fn a_session_is_resumed_only_with_the_certificate_that_it_began_with() {
    as_server(|| {
        let other = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let other = other.self_signed(&site().key).unwrap();
        let identity = |certificate: &rcgen::Certificate| {
            Identity::from_pem(certificate.pem(), site().key.serialize_pem()).unwrap()
        };
        for version in VERSIONS {
            for seed in [0, 1] {
                let identities = Identities::new(identity(&site().certificate));
                let options = ServerTlsOptions::new(identities.clone());
                let mut roots = RootCertStore::empty();
                roots.add(site().certificate.der().clone()).unwrap();
                roots.add(other.der().clone()).unwrap();
                let client = ClientConfig::builder_with_provider(Arc::new(
                    rustls::crypto::ring::default_provider(),
                ))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
                assert!(!resumed(&open(&options, &client, seed)));
                let wire = open(&options, &client, seed);
                assert!(resumed(&wire), "nothing has changed");
                let before = wire.machine.negotiated().unwrap().tls.server_end_point();

                identities.set_default(identity(&other));
                let wire = open(&options, &client, seed);
                assert!(!resumed(&wire), "{version:?}: the identity was replaced");
                assert_eq!(wire.peer.peer_certificates().unwrap(), [other.der().clone()]);
                assert_ne!(wire.machine.negotiated().unwrap().tls.server_end_point(), before);
                let wire = open(&options, &client, seed);
                assert!(resumed(&wire), "the new identity has tickets of its own");
                assert_eq!(wire.peer.peer_certificates().unwrap(), [other.der().clone()]);
            }
        }
    });
}

#[test]
fn a_handshake_in_progress_keeps_its_identity() {
    as_server(|| {
        let key = &site().key;
        let other = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let other = other.self_signed(key).unwrap();
        let identity = |certificate: &rcgen::Certificate| {
            Identity::from_pem(certificate.pem(), key.serialize_pem()).unwrap()
        };
        for version in VERSIONS {
            let identities = Identities::new(identity(&site().certificate));
            let mut config = machine_config();
            config.tls =
                Some(TlsSetup::server(&ServerTlsOptions::new(identities.clone())).unwrap());
            let mut wire = Wire::with_client(config, client_config(version), 0);
            wire.serve();
            wire.deliver(usize::MAX);
            assert_eq!(wire.machine.opened(), None, "the client has only sent its ClientHello");
            identities.set_default(identity(&other));
            wire.shake_hands(usize::MAX);
            assert_eq!(wire.peer.peer_certificates().unwrap(), [site().certificate.der().clone()]);
            let binding = wire.machine.negotiated().unwrap().tls.server_end_point();
            let unchanged = open(server_options(), &client_config(version), 0);
            assert_eq!(binding, unchanged.machine.negotiated().unwrap().tls.server_end_point());
        }
    });
}

/// Returns a client certificate whose extension has this size, and its key.
fn client_identity(size: usize) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
    let padding = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![0; size]);
    params.custom_extensions.push(padding);
    (params.self_signed(&key).unwrap(), key)
}

fn with_certificate(mut client: ClientConfig, certified: CertifiedKey) -> ClientConfig {
    client.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    client
}

fn certified(certificate: &rcgen::Certificate, key: &KeyPair) -> CertifiedKey {
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).unwrap()
}

#[test]
fn a_client_with_long_certificates_gets_no_ticket_that_the_server_would_refuse() {
    as_server(|| {
        for (size, resumes) in [(100, true), (5_000, false), (20_000, false)] {
            let (certificate, key) = client_identity(size);
            let options = server_options()
                .clone()
                .client_auth(ClientAuth::Required)
                .add_client_root_pem(certificate.pem())
                .unwrap();
            for version in VERSIONS {
                let client =
                    with_certificate(client_config(version), certified(&certificate, &key));
                assert!(!resumed(&open(&options, &client, 0)));
                assert_eq!(resumed(&open(&options, &client, 0)), resumes, "{size}, {version:?}");
            }
        }
    });
}

/// A key that makes wrong signatures.
#[derive(Debug)]
struct WrongKey(Arc<dyn SigningKey>);

impl SigningKey for WrongKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        self.0.choose_scheme(offered).map(|signer| Box::new(WrongSigner(signer)) as _)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

#[derive(Debug)]
struct WrongSigner(Box<dyn Signer>);

impl Signer for WrongSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.0.sign(&[message, b"?"].concat())
    }

    fn scheme(&self) -> SignatureScheme {
        self.0.scheme()
    }
}

#[test]
fn a_verifier_runs_only_for_a_client_that_has_its_key() {
    as_server(|| {
        let (certificate, key) = client_identity(10);
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let options = server_options()
            .clone()
            .client_auth(ClientAuth::Required)
            .add_client_root_pem(certificate.pem())
            .unwrap()
            .add_client_verifier(move |peer| {
                assert_eq!((peer.iter().len(), peer.server_name()), (1, None));
                counted.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
        for version in VERSIONS {
            let honest = certified(&certificate, &key);
            let wrong = Arc::new(WrongKey(Arc::clone(&honest.key)));
            let impostor = CertifiedKey::new(honest.cert.clone(), wrong);
            let mut config = machine_config();
            config.tls = Some(TlsSetup::server(&options).unwrap());
            let client = with_certificate(client_config(version), impostor);
            let mut wire = Wire::with_client(config, client, 0);
            for _ in 0..10 {
                wire.serve();
                wire.deliver(usize::MAX);
                wire.transmit(usize::MAX);
            }
            let why = wire.machine.tls_failure().expect("the signature is wrong");
            assert!(why.contains("did not prove that it has the key"), "{why}");
            assert_eq!(calls.swap(0, Ordering::Relaxed), 0, "{version:?}");

            let client = with_certificate(client_config(version), honest);
            assert!(!resumed(&open(&options, &client, 0)));
            assert_eq!(calls.swap(0, Ordering::Relaxed), 1, "{version:?}");
        }
    });
}
