//! Tests of certificates, chains and revocation lists, in handshakes with rustls' own server.

use rcgen::{
    CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
};
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;

use super::super::config::shared_config;
use super::super::testing::{Authority, Leaf, crypto, leaf_params};
use super::site::{Site, VERSIONS, World, section, version_1};
use super::*;
use crate::error::TlsFailure;

/// Leaf revoked, intermediate revoked, not covered, expired: by each policy.
#[test]
fn revocation_lists_are_applied_by_policy() {
    let world = World::new();
    let (root, middle) = (&world.root, &world.middle);
    let lists = |of_root: String, of_middle: String| of_root + &of_middle;
    let none = String::new;
    let cases: [(&str, String, [Option<&str>; 3]); 7] = [
        ("in order", world.lists(&[], &[]), [None, None, None]),
        ("leaf revoked", world.lists(&[], &[3]), [Some("has been revoked"); 3]),
        (
            "intermediate revoked",
            world.lists(&[2], &[]),
            [Some("has been revoked"), None, Some("has been revoked")],
        ),
        (
            "leaf not covered",
            lists(root.revocation_list(&[], 4000), none()),
            [Some("not covered"), Some("not covered"), None],
        ),
        (
            "intermediate not covered",
            lists(none(), middle.revocation_list(&[], 4000)),
            [Some("not covered"), None, None],
        ),
        (
            "expired",
            lists(root.revocation_list(&[], 4000), middle.revocation_list(&[], 2020)),
            [Some("was valid until 2020-01-01"), Some("was valid until 2020-01-01"), None],
        ),
        (
            "expired, and revokes the leaf",
            lists(root.revocation_list(&[], 4000), middle.revocation_list(&[3], 2020)),
            [
                Some("was valid until 2020-01-01"),
                Some("was valid until 2020-01-01"),
                Some("has been revoked"),
            ],
        ),
    ];
    let policies =
        [RevocationPolicy::Chain, RevocationPolicy::Leaf, RevocationPolicy::AllowUnknown];
    let site = Site::new(&rustls::version::TLS13, &world.leaf, &[middle.der()]);
    for (name, lists, expected) in cases {
        for (policy, says) in policies.into_iter().zip(expected) {
            let options = world.trusting().add_crl_pem(&lists).unwrap().revocation(policy);
            match says {
                None => {
                    let opened = site.connect(&options);
                    assert_eq!(opened, Ok(HandshakeKind::Full), "{name}, {policy:?}");
                }
                Some(says) => site.refuses(&options, TlsFailure::CertificateRevoked, says),
            }
        }
    }
    let broken = TlsOptions::new().add_crl_pem(world.root.pem()).unwrap_err();
    assert!(broken.to_string().contains("no revocation list in the PEM text"), "{broken}");
}

#[test]
fn the_newest_list_of_an_issuer_applies() {
    let world = World::new();
    let site = Site::new(&rustls::version::TLS13, &world.leaf, &[world.middle.der()]);
    let root = world.root.revocation_list(&[], 4000);
    let old = |revoked: &[u64]| world.middle.revocation_list_of(2019, revoked, 4000);
    let new = |revoked: &[u64]| world.middle.revocation_list_of(2024, revoked, 4000);
    let expired = world.middle.revocation_list_of(2018, &[], 2020);
    for (lists, revoked) in [
        ([old(&[]), new(&[3])], true),
        ([new(&[3]), old(&[])], true),
        ([old(&[3]), new(&[])], false),
        ([new(&[]), old(&[3])], false),
        ([expired.clone(), new(&[])], false),
        ([new(&[]), expired], false),
    ] {
        let [first, second] = lists;
        let options = world.trusting().add_crl_pem(&root).unwrap();
        let options = options.add_crl_pem(first).unwrap().add_crl_pem(second).unwrap();
        match revoked {
            true => site.refuses(&options, TlsFailure::CertificateRevoked, "has been revoked"),
            false => assert_eq!(site.connect(&options), Ok(HandshakeKind::Full)),
        }
    }
    let other = Authority::new("CRL Middle").revocation_list(&[], 4000);
    let both = world.trusting().add_crl_pem(old(&[]) + &other).unwrap();
    let error = shared_config(both.settings()).unwrap_err().to_string();
    assert!(
        error.contains("revocation lists 1 and 2 are of one issuer but signed with"),
        "{error}"
    );
}

#[test]
fn the_faulty_certificate_of_a_chain_is_named() {
    let world = World::new();
    let version = &rustls::version::TLS13;
    let trusting = world.trusting();
    // An attacker's leaf in front of the genuine intermediate: no root has to be added.
    let forged = Authority::new("CRL Middle").leaf(["a.test"]);
    let site = Site::new(version, &forged, &[world.middle.der()]);
    let says = "or that of an issuer is not signed by the issuer that it names";
    site.refuses(&trusting, TlsFailure::CertificateUnusable, says);
    let middle = world.root.below_expired("Old Middle");
    let site = Site::new(version, &middle.leaf(["a.test"]), &[middle.der()]);
    let says =
        "of \"Old Middle\", an issuer of the server's, has expired: it was valid until 2020-05";
    site.refuses(&trusting, TlsFailure::CertificateExpired, says);
    // The fault of a root that is not trusted is that.
    let other = Authority::new("Other Root");
    let site = Site::new(version, &other.leaf(["a.test"]), &[&version_1(other.der())]);
    let says = "from an authority that is not trusted";
    site.refuses(&trusting, TlsFailure::UnknownIssuer, says);
}

#[test]
fn keys_of_every_kind_prove_themselves_by_the_key_alone() {
    crypto();
    let any = TlsOptions::new().danger_accept_invalid_certs(true);
    for kind in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(kind).unwrap();
        let leaf = Leaf::with_key(&leaf_params(&["a.test"]), key);
        for version in VERSIONS {
            assert_eq!(Site::new(version, &leaf, &[]).connect(&any), Ok(HandshakeKind::Full));
            let other = Leaf::self_signed(&leaf_params(&["a.test"]));
            let forged = Site::signing(version, &[leaf.der()], &other);
            let says = "did not prove that it has the key";
            forged.refuses(&any, TlsFailure::PeerMisbehaved, says);
        }
    }
}

#[test]
fn every_certificate_with_a_usable_key_is_accepted_on_demand() {
    crypto();
    let any = TlsOptions::new().danger_accept_invalid_certs(true);
    let mut params = leaf_params(&["a.test"]);
    let mut critical = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
    critical.set_criticality(true);
    params.custom_extensions = vec![critical];
    let critical = Leaf::self_signed(&params);
    let plain = Leaf::self_signed(&leaf_params(&["a.test"]));
    let version_1 = version_1(plain.der());
    let world = World::new();
    for version in VERSIONS {
        let site = Site::new(version, &critical, &[]);
        assert_eq!(site.connect(&any), Ok(HandshakeKind::Full));
        let site = Site::signing(version, &[&version_1], &plain);
        assert_eq!(site.connect(&any), Ok(HandshakeKind::Full));
        let says = "it is of X.509 version 1 or 2";
        site.refuses(&TlsOptions::new(), TlsFailure::CertificateUnusable, says);
        let forged = Site::signing(version, &[&version_1], &world.leaf);
        forged.refuses(&any, TlsFailure::PeerMisbehaved, "did not prove that it has the key");
        let garbage = CertificateDer::from(vec![0x30, 0x03, 0x02, 0x01, 0x01]);
        let broken = Site::signing(version, &[&garbage], &world.leaf);
        broken.refuses(&any, TlsFailure::CertificateUnusable, "is not well-formed");
    }
}

#[test]
fn a_client_certificate_of_version_1_is_sent() {
    crypto();
    let leaf = Leaf::self_signed(&leaf_params(&["client"]));
    let old = section("CERTIFICATE", &version_1(leaf.der()));
    let other = Leaf::self_signed(&leaf_params(&["client"]));
    let options = TlsOptions::new().client_auth_pem(&old, leaf.key_pem()).unwrap();
    assert!(shared_config(options.settings()).is_ok());
    let error = TlsOptions::new().client_auth_pem(&old, other.key_pem()).unwrap_err();
    assert!(error.to_string().contains("does not belong to the client certificate"), "{error}");
    let identity = Identity::from_pem(&old, leaf.key_pem()).unwrap();
    let same = TlsOptions::new().identity(identity);
    assert!(same.settings().is_same(options.settings()));
}

#[test]
fn a_root_that_was_replaced_is_told_from_an_unknown_one() {
    let (old, new) = (Authority::new("Corp CA"), Authority::new("Corp CA"));
    let leaf = new.leaf(["a.test"]);
    let options = TlsOptions::new().add_root_pem(old.pem()).unwrap().only_added_roots();
    let site = Site::new(&rustls::version::TLS13, &leaf, &[]);
    crypto();
    site.refuses(
        &options,
        TlsFailure::UnknownIssuer,
        "is not signed by the trusted root \"Corp CA\", but by another key of that name",
    );
}

#[test]
fn short_keys_are_named() {
    crypto();
    let short = pem::servers(RSA_1024.as_bytes()).unwrap().remove(0);
    let signer = Leaf::self_signed(&leaf_params(&["a.test"]));
    for version in VERSIONS {
        let site = Site::signing(version, &[&short], &signer);
        for options in [
            TlsOptions::new().danger_accept_invalid_certs(true),
            TlsOptions::new().trust_only_pem(RSA_1024).unwrap(),
        ] {
            let says = "its key is too short (RSA with 1024 bits, not 2048 to 8192)";
            site.refuses(&options, TlsFailure::CertificateUnusable, says);
        }
    }
}

/// A certificate with an RSA key of 1024 bits, by `openssl req -x509 -newkey rsa:1024`.
const RSA_1024: &str = "-----BEGIN CERTIFICATE-----\n\
MIICEzCCAXygAwIBAgIUYH8Xzyfj+fOQHF1sdzRBjpNOgxUwDQYJKoZIhvcNAQEL\n\
BQAwETEPMA0GA1UEAwwGYS50ZXN0MCAXDTI2MTEzMDAyMzUzOVoYDzI1NzQwNjMw\n\
MDIzNTM5WjARMQ8wDQYDVQQDDAZhLnRlc3QwgZ8wDQYJKoZIhvcNAQEBBQADgY0A\n\
MIGJAoGBANfPEmB8TmLHb73b4eAfUKqp2tJlr5OuVAFsgFORn8Wsyd8fL2TJW2Rk\n\
iqFN3cRMNO8PYL+LAvYIfQh17mL/pVdvtcRrO5QGME7lu6ZO1Wcrto5QXcFPXheo\n\
Deeg03v4YYDlHyzyg7+6OqeIvxxOX2+PWg0b3JChxxHPFYtI1xuDAgMBAAGjZjBk\n\
MB0GA1UdDgQWBBTihkWiKXpSTefl7sP3ZPt8Mjq7WDAfBgNVHSMEGDAWgBTihkWi\n\
KXpSTefl7sP3ZPt8Mjq7WDAPBgNVHRMBAf8EBTADAQH/MBEGA1UdEQQKMAiCBmEu\n\
dGVzdDANBgkqhkiG9w0BAQsFAAOBgQBUWJKS3mLaLsDD8NjPWgG1G5sc49EunnT4\n\
Mt1HGTeEIMtAaglMg+UyFSswlGto5AYp3pjhF0vMYuWUEpVJWhDi2mXQ54B1PvZG\n\
QtCbApos51l/kAAP9XOPhlaGdPdIvCCHBpPXZzHvhs7EGxY2iAIgWHeZAeUEm6pg\n\
1jqIruhmlA==\n\
-----END CERTIFICATE-----\n\
";
