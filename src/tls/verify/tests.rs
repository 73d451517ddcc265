//! Tests of the verifiers of servers.

use std::time::Duration;

use rcgen::{BasicConstraints, IsCa};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, version};

use crate::tls::testing::{Authority, Leaf, leaf_params, server_verifier};
use rustls::OtherError;

use super::super::untrusted::is_authority_as_leaf;
use super::*;

#[test]
fn a_trusted_chain_is_accepted() {
    let root = Authority::new("Root");
    let middle = root.below("Middle");
    let leaf = middle.leaf(["a.test"]);
    let verdict = verify(&[&root], &leaf, &[middle.der()], "a.test");
    assert!(verdict.is_ok(), "{verdict:?}");
}

#[test]
fn a_self_signed_certificate_is_reported_as_such() {
    let root = Authority::new("Root");
    let leaf = Leaf::self_signed(&leaf_params(&["a.test"]));
    assert_eq!(reason(&[&root], &leaf, &[]), UntrustedReason::SelfSigned);
    assert_eq!(reason(&[&root], &leaf, &[root.der()]), UntrustedReason::SelfSigned);
    let mut params = leaf_params(&["a.test"]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(reason(&[&root], &Leaf::self_signed(&params), &[]), UntrustedReason::SelfSigned);
}

#[test]
fn a_trusted_authority_used_as_a_server_is_not_reported_as_self_signed() {
    let root = Authority::new("a.test");
    let verdict = verify_der(&[&root], root.der(), &[], "a.test").unwrap_err();
    let Error::InvalidCertificate(CertificateError::Other(OtherError(error))) = verdict else {
        panic!("{verdict:?}");
    };
    assert!(is_authority_as_leaf(error.as_ref()), "{error}");
}

#[test]
fn an_issuer_that_was_not_sent_is_named() {
    let (trusted, other) = (Authority::new("Trusted"), Authority::new("Other Root"));
    let middle = trusted.below("Middle");
    let leaf = middle.leaf(["a.test"]);
    let incomplete = |issuer: &str| UntrustedReason::Incomplete { issuer: issuer.to_owned() };
    assert_eq!(reason(&[&trusted], &leaf, &[]), incomplete("Middle"));
    assert_eq!(reason(&[&trusted], &leaf, &[other.der()]), incomplete("Middle"));
    assert_eq!(reason(&[&other], &leaf, &[middle.der()]), incomplete("Trusted"));
}

#[test]
fn a_chain_that_ends_at_an_untrusted_root_has_an_unknown_issuer() {
    let (trusted, other) = (Authority::new("Trusted"), Authority::new("Other Root"));
    let middle = other.below("Middle");
    let leaf = middle.leaf(["a.test"]);
    let unknown = Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
    let verdict = verify(&[&trusted], &leaf, &[middle.der(), other.der()], "a.test");
    assert_eq!(verdict.map(drop), unknown);
}

#[test]
fn other_errors_are_those_of_webpki() {
    let root = Authority::new("Root");
    let wrong_name = verify(&[&root], &root.leaf(["a.test"]), &[], "b.test").unwrap_err();
    assert!(
        matches!(
            &wrong_name,
            Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })
        ),
        "{wrong_name:?}"
    );
    let mut params = leaf_params(&["a.test"]);
    params.not_after = rcgen::date_time_ymd(2001, 2, 3);
    let expired = verify(&[&root], &root.leaf_of(params), &[], "a.test").unwrap_err();
    assert!(
        matches!(&expired, Error::InvalidCertificate(CertificateError::ExpiredContext { .. })),
        "{expired:?}"
    );
}

#[test]
fn certificates_with_too_many_paths_are_refused_without_a_search() {
    let root = Authority::new("Maze");
    let maze: Vec<_> = (0..20).map(|_| root.below("Maze")).collect();
    let others: Vec<_> = maze.iter().map(Authority::der).collect();
    let leaf = maze[19].leaf(["a.test"]);
    // One path is valid.
    assert!(verify(&[&root], &leaf, &others[19..], "a.test").is_ok());
    assert_eq!(reason(&[&root], &leaf, &others), UntrustedReason::Tangled);
}

#[test]
fn without_verification_any_certificate_is_accepted_but_only_with_its_key() {
    let (leaf, other) = (
        Leaf::self_signed(&leaf_params(&["other.test"])),
        Leaf::self_signed(&leaf_params(&["other.test"])),
    );
    for version in [&version::TLS12, &version::TLS13] {
        let accept = || Arc::new(server_verifier(ChainCheck::Nothing));
        assert_eq!(handshake(accept(), &leaf, &leaf, version), Ok(()));
        assert_eq!(
            handshake(accept(), &leaf, &other, version),
            Err(Error::InvalidCertificate(CertificateError::BadSignature))
        );
    }
}

#[test]
fn signatures_are_verified_as_webpki_does() {
    let root = Authority::new("Root");
    let (leaf, other) = (root.leaf(["a.test"]), root.leaf(["a.test"]));
    for version in [&version::TLS12, &version::TLS13] {
        let verifier = || Arc::new(verifier(&[&root]));
        assert_eq!(handshake(verifier(), &leaf, &leaf, version), Ok(()));
        assert_eq!(
            handshake(verifier(), &leaf, &other, version),
            Err(Error::InvalidCertificate(CertificateError::BadSignature))
        );
    }
    let ours = verifier(&[&root]);
    let ChainCheck::WebPki { webpki, .. } = &ours.chain else { unreachable!("it checks chains") };
    assert_eq!(ours.supported_verify_schemes(), webpki.supported_verify_schemes());
    assert_eq!(ours.requires_raw_public_keys(), webpki.requires_raw_public_keys());
    assert!(ours.root_hint_subjects().is_none() && webpki.root_hint_subjects().is_none());
}

fn reason(
    roots: &[&Authority],
    leaf: &Leaf,
    others: &[&CertificateDer<'static>],
) -> UntrustedReason {
    let error = verify(roots, leaf, others, "a.test").unwrap_err();
    let Error::InvalidCertificate(CertificateError::Other(OtherError(error))) = error else {
        panic!("{error:?}");
    };
    error.downcast_ref::<UntrustedReason>().unwrap_or_else(|| panic!("{error:?}")).clone()
}

fn verify(
    roots: &[&Authority],
    leaf: &Leaf,
    others: &[&CertificateDer<'static>],
    name: &str,
) -> Result<ServerCertVerified, Error> {
    verify_der(roots, leaf.der(), others, name)
}

fn verify_der(
    roots: &[&Authority],
    leaf: &CertificateDer<'static>,
    others: &[&CertificateDer<'static>],
    name: &str,
) -> Result<ServerCertVerified, Error> {
    let others: Vec<_> = others.iter().map(|&other| other.clone()).collect();
    let name = ServerName::try_from(name).unwrap();
    // rcgen's certificates are valid from 1975 to 4096.
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000));
    verifier(roots).verify_server_cert(leaf, &others, &name, &[], now)
}

fn verifier(trusted: &[&Authority]) -> ServerVerifier {
    let mut roots = RootCertStore::empty();
    for root in trusted {
        roots.add(root.der().clone()).unwrap();
    }
    let roots = Arc::new(roots);
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), ring());
    server_verifier(ChainCheck::WebPki { webpki: webpki.build().unwrap(), roots, any_name: false })
}

fn ring() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Runs a handshake with a server that presents one certificate and signs with the key of another.
fn handshake(
    verifier: Arc<dyn ServerCertVerifier>,
    shown: &Leaf,
    signs: &Leaf,
    version: &'static rustls::SupportedProtocolVersion,
) -> Result<(), Error> {
    let client = ClientConfig::builder_with_provider(ring())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let key = ring().key_provider.load_private_key(signs.key_der()).unwrap();
    let certified = rustls::sign::CertifiedKey::new(vec![shown.der().clone()], key);
    let server = ServerConfig::builder_with_provider(ring())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    let name = ServerName::try_from("a.test").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}
