//! Tests of a server's options.

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, ProtocolVersion, SupportedCipherSuite};

use super::super::identity::Identity;
use super::super::testing::{Authority, Chain, crypto};
use super::*;
use crate::error::ErrorKind;

#[test]
fn invalid_options_are_named_in_the_error() {
    let new = options;
    refused(new().alpn([""]), "is 0 bytes long");
    refused(new().client_auth(ClientAuth::Optional), "no root was added");
    refused(new().client_auth(ClientAuth::Required), "no root was added");
    refused(
        new().min_version(TlsVersion::Tls13).max_version(TlsVersion::Tls12),
        "min_version is TLS 1.3, above max_version, which is TLS 1.2",
    );
    refused(new().cipher_suites([0x1301, 0xbeef]), "does not have the cipher suite 0xbeef");
    refused(new().cipher_suites([0x1301]), "leaves TLS 1.2 without any cipher suite");
    refused(new().cipher_suites([]), "leaves TLS 1.2 without any cipher suite");
    refused(new().key_exchange_groups([0xbeef]), "does not have the key exchange group 0xbeef");
    refused(new().key_exchange_groups([]), "without any key exchange group");
    accepted(new().cipher_suites([0x1301]).min_version(TlsVersion::Tls13));
    accepted(new().cipher_suites([0xc02b, 0xc02b]).max_version(TlsVersion::Tls12));
    accepted(new().key_exchange_groups([29]));
}

#[test]
fn the_configuration_has_the_suites_groups_and_versions_in_order() {
    let config = accepted(
        options()
            .cipher_suites([0x1303, 0x1301])
            .key_exchange_groups([24, 29])
            .min_version(TlsVersion::Tls13),
    );
    let provider = config.crypto_provider();
    let suites: Vec<u16> =
        provider.cipher_suites.iter().map(|suite| suite.suite().into()).collect();
    assert_eq!(suites, [0x1303, 0x1301]);
    assert!(provider.cipher_suites.iter().all(|it| matches!(it, SupportedCipherSuite::Tls13(_))));
    let groups: Vec<u16> = provider.kx_groups.iter().map(|group| group.name().into()).collect();
    assert_eq!(groups, [24, 29]);
    assert!(config.ignore_client_order && accepted(options()).ignore_client_order);
    assert!(provider.kx_groups[0].usable_for_version(ProtocolVersion::TLSv1_3));
}

#[test]
fn clones_share_one_configuration_and_a_setter_begins_another() {
    let first = options();
    let config = accepted(first.clone());
    assert!(Arc::ptr_eq(&config, &accepted(first.clone())));
    assert!(Arc::ptr_eq(&config, &accepted(first.clone().require_close_notify(false))));
    assert!(!Arc::ptr_eq(&config, &accepted(first.clone().alpn(["h2"]))));
    assert!(!Arc::ptr_eq(&config, &accepted(first.resumption(true))));
    assert_eq!(accepted(options().resumption(false)).send_tls13_tickets, 0);
    assert_eq!((config.max_early_data_size, config.send_half_rtt_data), (0, false));
    if cfg!(any(feature = "aws-lc-rs", feature = "ring")) {
        assert!(config.ticketer.enabled());
        assert_eq!(config.ticketer.lifetime(), 12 * 60 * 60, "twice the rotation");
    }
}

#[test]
fn debug_shows_the_settings_but_never_a_key() {
    let authority = Authority::new("debug");
    let leaf = authority.leaf(["a.test"]);
    let identity = Identity::from_pem(leaf.pem(), leaf.key_pem()).unwrap();
    let options = ServerTlsOptions::new(identity)
        .alpn(["h2"])
        .add_client_root_pem(authority.pem())
        .unwrap()
        .add_client_verifier(|_| Ok(()));
    let shown = format!("{options:?}");
    for part in ["a.test", "client_roots: 1", "client_verifiers: 1", "alpn: [\"h2\"]"] {
        assert!(shown.contains(part), "{shown}");
    }
    let key = leaf.key.serialize_der();
    let digits: String = key.iter().map(|byte| format!("{byte}, ")).collect();
    assert!(!shown.contains(&digits[..60]) && !shown.contains("PRIVATE"), "{shown}");
}

#[test]
fn an_invalid_root_or_list_is_named_by_its_position() {
    crypto();
    let good = Authority::new("roots").pem();
    let add = |pem: &str| options().add_client_root_pem(pem);
    fails(add(""), "no certificate in the PEM text");
    fails(add(&(good.clone() + &good.replace("MII", "!!!"))), "certificate 2 of the PEM text");
    let list = |pem: &str| options().add_client_crl_pem(pem);
    fails(list(""), "no revocation list in the PEM text");
    fails(list(&good), "no revocation list in the PEM text");
    let broken = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    fails(list(broken), "revocation list 1 can't be used");
    fails(list(&broken.replace("AAAA", "!!!!")), "revocation list 1 of the PEM text is broken");
    let chain = Chain::of_client();
    let two = chain.root.revocation_list(&[], 2100) + broken;
    fails(list(&two), "revocation list 2 can't be used");
}

#[test]
fn every_certificate_but_the_root_must_be_covered_by_a_current_list() {
    let chain = Chain::of_client();
    let root = |revoked: &[u64], until| chain.root.revocation_list(revoked, until);
    let middle = |revoked: &[u64], until| chain.middle.revocation_list(revoked, until);
    let verdict = |lists: &str| verify(&chain, lists);
    assert_eq!(verdict(""), Ok(()));
    assert_eq!(verdict(&(root(&[], 2100) + &middle(&[], 2100))), Ok(()));
    let revoked = Err(CertificateError::Revoked);
    assert_eq!(verdict(&(root(&[], 2100) + &middle(&[3], 2100))), revoked, "the leaf");
    assert_eq!(verdict(&(root(&[2], 2100) + &middle(&[], 2100))), revoked, "the intermediate");
    let unknown = Err(CertificateError::UnknownRevocationStatus);
    assert_eq!(verdict(&root(&[], 2100)), unknown, "the leaf is not covered");
    assert_eq!(verdict(&middle(&[], 2100)), unknown, "the intermediate is not covered");
    let expired = verdict(&(root(&[], 2100) + &middle(&[], 2020)));
    assert!(
        matches!(
            expired,
            Err(CertificateError::ExpiredRevocationList
                | CertificateError::ExpiredRevocationListContext { .. })
        ),
        "{expired:?}"
    );
}

#[cfg(feature = "rustls-0_23")]
#[test]
fn a_complete_configuration_combines_only_with_close_notify() {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    let whole = ServerTlsOptions::from_rustls_0_23_config(Arc::new(config));
    accepted(whole.clone().require_close_notify(false));
    accepted(whole.clone().key_log_from_env(false).resumption(true));
    let root = Authority::new("whole").pem();
    let chain = Chain::of_client();
    for (options, name) in [
        (whole.clone().alpn(["h2"]), "alpn"),
        (whole.clone().client_auth(ClientAuth::Optional), "client_auth"),
        (whole.clone().add_client_root_pem(&root).unwrap(), "add_client_root_pem"),
        (
            whole.clone().add_client_crl_pem(chain.root.revocation_list(&[], 2100)).unwrap(),
            "add_client_crl_pem",
        ),
        (whole.clone().add_client_verifier(|_| Ok(())), "add_client_verifier"),
        (whole.clone().resumption(false), "resumption"),
        (whole.clone().min_version(TlsVersion::Tls12), "min_version"),
        (whole.clone().max_version(TlsVersion::Tls13), "max_version"),
        (whole.clone().cipher_suites([0x1301]), "cipher_suites"),
        (whole.clone().key_exchange_groups([29]), "key_exchange_groups"),
        (whole.clone().key_log_from_env(true), "key_log_from_env"),
    ] {
        refused(options, &format!("{name} can't be combined with from_rustls_0_23_config"));
    }
}

/// Verifies the leaf with revocation lists.
fn verify(chain: &Chain, lists: &str) -> std::result::Result<(), CertificateError> {
    let mut settings = ServerSettings {
        client_auth: ClientAuth::Required,
        client_roots: vec![chain.root.der().clone()],
        ..ServerSettings::default()
    };
    if !lists.is_empty() {
        settings.client_crls = pem::revocation_lists(lists.as_bytes()).unwrap();
    }
    let provider = provider().unwrap();
    let roots = Arc::new(server_config::client_roots(&settings).unwrap());
    let webpki = server_config::client_verifier(&settings, &roots, &provider).unwrap();
    let verifier: &dyn ClientCertVerifier = &*webpki;
    let others: [CertificateDer<'_>; 1] = [chain.middle.der().clone()];
    match verifier.verify_client_cert(chain.leaf.der(), &others, UnixTime::now()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InvalidCertificate(error)) => Err(error),
        Err(error) => panic!("{error:?}"),
    }
}

fn options() -> ServerTlsOptions {
    crypto();
    let leaf = Authority::new("server").leaf(["a.test"]);
    ServerTlsOptions::new(Identity::from_pem(leaf.pem(), leaf.key_pem()).unwrap())
}

fn accepted(options: ServerTlsOptions) -> Arc<ServerConfig> {
    options.config().unwrap_or_else(|error| panic!("{error}"))
}

fn refused(options: ServerTlsOptions, says: &str) {
    fails(options.config(), says);
}

fn fails<T>(outcome: Result<T>, says: &str) {
    let Err(error) = outcome else { panic!("accepted, not refused with {says:?}") };
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains(says), "{error}, not {says:?}");
}
