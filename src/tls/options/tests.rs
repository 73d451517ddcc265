//! Tests of a client's TLS options.

use super::*;
use crate::error::ErrorKind;
use crate::tls::testing::{Authority, crypto};

#[test]
fn invalid_options_are_named_in_the_error() {
    let new = TlsOptions::new;
    refused(new().server_name("").check(), "server_name \"\"");
    refused(new().server_name("a b").check(), "server_name \"a b\"");
    refused(new().server_name("127.1").check(), "not a DNS name");
    refused(new().alpn([""]).check(), "is 0 bytes long");
    refused(new().alpn([vec![b'x'; 256]]).check(), "is 256 bytes long");
    refused(new().alpn(vec!["http/1.1"; 4000]).check(), "more than 16384");
    assert!(new().server_name("Example.COM.").alpn([vec![0; 255]]).check().is_ok());
    assert!(new().server_name("::1").check().is_ok());
}

#[test]
fn an_invalid_root_is_named_by_its_position() {
    let good = Authority::new("roots").pem();
    let broken = good.replace("MII", "!!!");
    let add = |pem: &str| TlsOptions::new().add_root_pem(pem);
    refused(add(""), "no certificate in the PEM text");
    let list = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----";
    refused(add(list), "no certificate in the PEM text: it holds a revocation list");
    refused(add(&broken), "certificate 1 of the PEM text is broken: its base64");
    refused(add(&(good.clone() + &broken)), "certificate 2 of the PEM text is broken");
    refused(add(good.trim_end().trim_end_matches('-')), "its END line is malformed");
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    refused(
        add(&(good.clone() + no_certificate)),
        "certificate 2 of the PEM text is broken: it is not well-formed",
    );
    assert_eq!(add(&(good.clone() + &good)).unwrap().settings.trust.added_roots.len(), 2);
}

#[test]
fn client_auth_errors_say_whether_certificate_or_key_is_at_fault() {
    crypto();
    let authority = Authority::new("clients");
    let (leaf, other) = (authority.leaf(["a.test"]), authority.leaf(["b.test"]));
    let auth = |chain: &str, key: &str| TlsOptions::new().client_auth_pem(chain, key);
    refused(auth("", &leaf.key_pem()), "no certificate in the PEM text");
    refused(auth(&leaf.pem(), ""), "no private key in the PEM text");
    refused(auth(&leaf.pem(), &leaf.pem()), "no private key in the PEM text");
    refused(auth(&leaf.pem(), &other.key_pem()), "does not belong to the client certificate");
    let encrypted = leaf.key_pem().replace("PRIVATE", "ENCRYPTED PRIVATE");
    refused(auth(&leaf.pem(), &encrypted), "the private key is encrypted");
    let broken = leaf.key_pem().replace("MI", "!!");
    refused(auth(&leaf.pem(), &broken), "private key 1 of the PEM text is broken");
    let wrong = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    refused(auth(&leaf.pem(), wrong), "the private key can't be used");
    let both = leaf.pem() + &leaf.key_pem();
    assert!(auth(&both, &both).is_ok());
}

#[test]
fn debug_shows_the_settings_but_never_the_key() {
    crypto();
    let leaf = Authority::new("debug").leaf(["a.test"]);
    let options = TlsOptions::new()
        .server_name("a.test")
        .alpn([b"h2".to_vec(), b"\x00\xff".to_vec()])
        .client_auth_pem(leaf.pem(), leaf.key_pem())
        .unwrap();
    assert_eq!(
        format!("{options:?}"),
        "TlsOptions { server_name: Some(\"a.test\"), alpn: [\"h2\", \"\\\\x00\\\\xff\"], \
         roots: WebPki, added_roots: 0, trusted_only: 0, revocation_lists: 0, pins: 0, verifiers: 0, \
         replaced_verifier: \"none\", client_auth: \"set\", accept_any_name: false, \
         accept_invalid_certs: false, key_log_from_env: false, rustls_config: \"none\", \
         require_close_notify: true, .. }"
    );
}

#[test]
fn changing_a_clone_does_not_change_the_original() {
    let first = TlsOptions::new().alpn(["h2"]);
    let second = first.clone();
    assert!(first.settings.is_same(&second.settings));
    let second = second.only_added_roots();
    assert!(!first.settings.is_same(&second.settings));
    assert!(first.settings.trust.roots == Roots::WebPki);
    assert_eq!(second.settings.alpn, [b"h2"]);
}

#[cfg(feature = "rustls-0_23")]
#[test]
fn a_complete_configuration_combines_only_with_server_name_and_close_notify() {
    crypto();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let whole = TlsOptions::new().rustls_0_23_config(Arc::new(config));
    assert!(whole.clone().server_name("a.test").require_close_notify(false).check().is_ok());
    assert!(whole.clone().danger_accept_invalid_certs(false).check().is_ok());
    let authority = Authority::new("whole");
    let leaf = authority.leaf(["a.test"]);
    for (options, name) in [
        (whole.clone().alpn(["h2"]), "alpn"),
        (whole.clone().only_added_roots(), "only_added_roots"),
        (whole.clone().danger_accept_invalid_certs(true), "danger_accept_invalid_certs"),
        (whole.clone().key_log_from_env(true), "key_log_from_env"),
        (whole.clone().revocation(RevocationPolicy::Leaf), "revocation"),
        (whole.clone().add_crl_pem(authority.revocation_list(&[], 4000)).unwrap(), "add_crl_pem"),
        (whole.clone().trust_only_pem(leaf.pem()).unwrap(), "trust_only_pem"),
        (whole.clone().pin_spki_sha256([0; 32]), "pin_spki_sha256"),
        (whole.clone().add_verifier(|_| Ok(())), "add_verifier"),
        (whole.clone().danger_replace_verifier(|_| Ok(())), "danger_replace_verifier"),
        (whole.clone().danger_accept_any_name(true), "danger_accept_any_name"),
        (whole.clone().min_version(TlsVersion::Tls12), "min_version"),
        (whole.clone().max_version(TlsVersion::Tls13), "max_version"),
        (whole.clone().cipher_suites([0x1301]), "cipher_suites"),
        (whole.clone().key_exchange_groups([29]), "key_exchange_groups"),
        (whole.clone().resumption(false), "resumption"),
        (whole.clone().add_root_pem(leaf.pem()).unwrap(), "add_root_pem"),
        (whole.clone().client_auth_pem(leaf.pem(), leaf.key_pem()).unwrap(), "client_auth_pem"),
    ] {
        refused(options.check(), &format!("{name} can't be combined with rustls_0_23_config"));
    }
}

fn refused<T>(outcome: Result<T>, says: &str) {
    let Err(error) = outcome else { panic!("accepted, not refused with {says:?}") };
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains(says), "{error}, not {says:?}");
}
