//! Tests of what the options trust, in handshakes with rustls' own server.

use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, IsCa, date_time_ymd};
use rustls::HandshakeKind;

use super::super::config::shared_config;
use super::super::testing::{Leaf, leaf_params};
use super::site::{Site, VERSIONS, World};
use super::*;
use crate::error::TlsFailure;

#[test]
fn pins_are_checked_besides_everything_else() {
    let world = World::new();
    let hash = world.leaf_pin();
    let pinned = |options: TlsOptions| options.pin_spki_sha256([1; 32]).pin_spki_sha256(hash);
    let wrong = |options: TlsOptions| options.pin_spki_sha256([1; 32]);
    for version in VERSIONS {
        let site = Site::new(version, &world.leaf, &[world.middle.der()]);
        assert_eq!(site.connect(&pinned(world.trusting())), Ok(HandshakeKind::Full));
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        site.refuses(&wrong(world.trusting()), TlsFailure::CertificateRejected, &hex);
        let any = TlsOptions::new().danger_accept_invalid_certs(true);
        assert_eq!(site.connect(&pinned(any.clone())), Ok(HandshakeKind::Full));
        site.refuses(&wrong(any), TlsFailure::CertificateRejected, "matches no pin");
        // A pin alone trusts nothing.
        site.refuses(&pinned(TlsOptions::new()), TlsFailure::UnknownIssuer, "CRL Root");
    }
}

#[test]
fn a_session_is_resumed_only_with_the_same_pins() {
    let world = World::new();
    for version in VERSIONS {
        let site = Site::new(version, &world.leaf, &[world.middle.der()]);
        let pinned = || world.trusting().pin_spki_sha256(world.leaf_pin());
        assert_eq!(site.connect(&pinned()), Ok(HandshakeKind::Full));
        assert_eq!(site.connect(&pinned()), Ok(HandshakeKind::Resumed));
        site.refuses(
            &world.trusting().pin_spki_sha256([1; 32]),
            TlsFailure::CertificateRejected,
            "matches no pin",
        );
        assert_eq!(site.connect(&world.trusting()), Ok(HandshakeKind::Full));
        let off = pinned().resumption(false);
        assert_eq!(site.connect(&off), Ok(HandshakeKind::Full));
        assert_eq!(site.connect(&off), Ok(HandshakeKind::Full));
    }
}

#[test]
fn verifiers_see_a_server_that_has_proven_its_key() {
    let world = World::new();
    let other = world.middle.leaf(["a.test"]);
    for version in VERSIONS {
        let calls = Arc::new(AtomicUsize::new(0));
        let (counted, pin) = (Arc::clone(&calls), world.leaf_pin());
        let options = world.trusting().add_verifier(move |certificates| {
            counted.fetch_add(1, Ordering::Relaxed);
            assert_eq!(certificates.server_name(), Some("a.test"));
            assert_eq!(certificates.iter().len(), 2);
            assert_eq!(certificates.spki_sha256(), pin);
            Ok(())
        });
        let site = Site::new(version, &world.leaf, &[world.middle.der()]);
        assert_eq!(site.connect(&options), Ok(HandshakeKind::Full));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert_eq!(site.connect(&options), Ok(HandshakeKind::Resumed));
        assert_eq!(calls.load(Ordering::Relaxed), 1, "a resumed session was verified before");
        let forged = Site::signing(version, &[world.leaf.der(), world.middle.der()], &other);
        forged.refuses(&options, TlsFailure::PeerMisbehaved, "did not prove that it has the key");
        assert_eq!(calls.load(Ordering::Relaxed), 1, "the server has not proven its key");
        let untrusted = Site::new(version, &Leaf::self_signed(&leaf_params(&["a.test"])), &[]);
        untrusted.refuses(&options, TlsFailure::UnknownIssuer, "self-signed");
        assert_eq!(calls.load(Ordering::Relaxed), 1, "it can only reject");

        let site = Site::new(version, &world.leaf, &[world.middle.der()]);
        let refusing = options.clone().add_verifier(|_| Err(String::from("not on a Monday")));
        site.refuses(&refusing, TlsFailure::CertificateRejected, "is refused: not on a Monday");
        assert_eq!(calls.load(Ordering::Relaxed), 2, "they run in order");
        let panicking = world.trusting().add_verifier(|_| panic!("a fault of the program"));
        site.refuses(&panicking, TlsFailure::CertificateRejected, "panicked");
    }
}

#[test]
fn a_replaced_verifier_decides_alone_but_only_about_a_server_with_its_key() {
    let leaf = Leaf::self_signed(&leaf_params(&["elsewhere.test"]));
    let expected = leaf.der().to_vec();
    let options = TlsOptions::new().danger_replace_verifier(move |certificates| {
        match certificates.iter().next() == Some(&*expected) {
            true => Ok(()),
            false => Err(String::from("another certificate")),
        }
    });
    for version in VERSIONS {
        let site = Site::new(version, &leaf, &[]);
        assert_eq!(site.connect(&options), Ok(HandshakeKind::Full));
        let world = World::new();
        let other = Site::new(version, &world.leaf, &[]);
        other.refuses(&options, TlsFailure::CertificateRejected, "another certificate");
        let forged = Site::signing(version, &[leaf.der()], &world.leaf);
        forged.refuses(&options, TlsFailure::PeerMisbehaved, "did not prove that it has the key");
        let pinned = options.clone().pin_spki_sha256([1; 32]);
        site.refuses(&pinned, TlsFailure::CertificateRejected, "matches no pin");
        let both = options.clone().add_verifier(|_| Err(String::from("no")));
        site.refuses(&both, TlsFailure::CertificateRejected, "is refused: no");
    }
}

#[test]
fn one_certificate_can_be_the_only_one_that_is_trusted() {
    let world = World::new();
    let mut marked = leaf_params(&["db"]);
    marked.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut expired = leaf_params(&["db"]);
    expired.not_after = date_time_ymd(2001, 1, 1);
    for leaf in [
        Leaf::self_signed(&marked),
        Leaf::self_signed(&expired),
        Leaf::self_signed(&leaf_params(&["a.test"])),
    ] {
        let options = TlsOptions::new().trust_only_pem(leaf.pem()).unwrap();
        for version in VERSIONS {
            let site = Site::new(version, &leaf, &[]);
            assert_eq!(site.connect(&options), Ok(HandshakeKind::Full));
            let forged = Site::signing(version, &[leaf.der()], &world.leaf);
            forged.refuses(
                &options,
                TlsFailure::PeerMisbehaved,
                "did not prove that it has the key",
            );
            let other = Site::new(version, &world.leaf, &[world.middle.der()]);
            other.refuses(&options, TlsFailure::UnknownIssuer, "trusted exclusively");
            // Behind another leaf it counts for nothing.
            let behind = Site::new(version, &world.leaf, &[leaf.der()]);
            behind.refuses(&options, TlsFailure::UnknownIssuer, "trusted exclusively");
        }
    }
    let only = TlsOptions::new().trust_only_pem(world.leaf.pem()).unwrap();
    for (options, name) in [
        (only.clone().add_root_pem(world.root.pem()).unwrap(), "add_root_pem"),
        (only.clone().only_added_roots(), "roots or only_added_roots"),
        (only.clone().add_crl_pem(world.root.revocation_list(&[], 4000)).unwrap(), "add_crl_pem"),
        (only.clone().danger_accept_invalid_certs(true), "danger_accept_invalid_certs"),
        (only.clone().danger_accept_any_name(true), "danger_accept_any_name"),
        (only.clone().danger_replace_verifier(|_| Ok(())), "danger_replace_verifier"),
    ] {
        let error = options.check().unwrap_err().to_string();
        assert_eq!(error, format!("trust_only_pem can't be combined with {name}"));
    }
    assert!(only.pin_spki_sha256([0; 32]).add_verifier(|_| Ok(())).check().is_ok());
}

#[test]
fn any_name_is_accepted_only_from_a_chain_in_order() {
    let world = World::new();
    let elsewhere = world.middle.leaf(["b.test"]);
    let mut params = leaf_params(&["b.test"]);
    params.not_after = date_time_ymd(2001, 1, 1);
    let expired = world.middle.leaf_of(params);
    let mut nameless = leaf_params(&[]);
    nameless.subject_alt_names.clear();
    let nameless = world.middle.leaf_of(nameless);
    let options = world.trusting().danger_accept_any_name(true);
    for version in VERSIONS {
        for leaf in [&world.leaf, &elsewhere, &nameless] {
            let site = Site::new(version, leaf, &[world.middle.der()]);
            assert_eq!(site.connect(&options), Ok(HandshakeKind::Full));
        }
        let site = Site::new(version, &elsewhere, &[world.middle.der()]);
        site.refuses(&world.trusting(), TlsFailure::NameMismatch, "but for b.test");
        let site = Site::new(version, &nameless, &[world.middle.der()]);
        site.refuses(&world.trusting(), TlsFailure::NameMismatch, "has no subjectAltName");
        let site = Site::new(version, &expired, &[world.middle.der()]);
        site.refuses(&options, TlsFailure::CertificateExpired, "has expired");
        let site = Site::new(version, &elsewhere, &[]);
        site.refuses(&options, TlsFailure::UnknownIssuer, "leaves out an intermediate");
        let revoked = options.clone().add_crl_pem(world.lists(&[], &[3])).unwrap();
        let site = Site::new(version, &world.leaf, &[world.middle.der()]);
        site.refuses(&revoked, TlsFailure::CertificateRevoked, "has been revoked");
    }
}

#[test]
fn versions_suites_and_groups_can_be_restricted() {
    let world = World::new();
    let trusting = || world.trusting();
    let site = |version| Site::new(version, &world.leaf, &[world.middle.der()]);
    let (old, new) = (site(&rustls::version::TLS12), site(&rustls::version::TLS13));
    let tls12 = trusting().max_version(TlsVersion::Tls12);
    let tls13 = trusting().min_version(TlsVersion::Tls13);
    assert_eq!(old.connect(&tls12), Ok(HandshakeKind::Full));
    assert_eq!(new.connect(&tls13), Ok(HandshakeKind::Full));
    assert!(old.connect(&tls13).is_err() && new.connect(&tls12).is_err());
    let both = tls13.clone().max_version(TlsVersion::Tls12);
    let error = both.check().unwrap_err().to_string();
    assert!(error.contains("min_version is TLS 1.3, above max_version"), "{error}");

    // TLS13_AES_128_GCM_SHA256 and X25519.
    let narrow = tls13.clone().cipher_suites([0x1301]).key_exchange_groups([29]);
    assert_eq!(new.connect(&narrow), Ok(HandshakeKind::Full));
    for (options, says) in [
        (trusting().cipher_suites([0x1301]), "leaves TLS 1.2 without any"),
        (trusting().cipher_suites([0xabcd]), "does not have the cipher suite 0xabcd"),
        (trusting().key_exchange_groups([]), "without any key exchange group"),
        (trusting().key_exchange_groups([0xabcd]), "does not have the key exchange group 0xabcd"),
    ] {
        let error = shared_config(options.settings()).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::InvalidOptions);
        assert!(error.to_string().contains(says), "{error}");
    }
}
