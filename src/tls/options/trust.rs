//! Tests of what the options trust, in handshakes with rustls' own server.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CustomExtension, IsCa, date_time_ymd};
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
use super::super::testing::{Authority, Chain, Leaf, crypto, encode_base64, leaf_params};
use super::*;
use crate::error::TlsFailure;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

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
        forged.refuses(&options, TlsFailure::CertificateUnusable, "does not match a signature");
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
        forged.refuses(&options, TlsFailure::CertificateUnusable, "does not match a signature");
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
            forged.refuses(&options, TlsFailure::CertificateUnusable, "does not match a signature");
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
        forged.refuses(&any, TlsFailure::CertificateUnusable, "does not match a signature");
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
            let says = "its key is too short (RSA with 1024 bits, at least 2048 are needed)";
            site.refuses(&options, TlsFailure::CertificateUnusable, says);
        }
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

/// The certificates of a.test.
struct World(Chain);

impl Deref for World {
    type Target = Chain;

    fn deref(&self) -> &Chain {
        &self.0
    }
}

impl World {
    fn new() -> Self {
        World(Chain::new(leaf_params(&["a.test"])))
    }

    fn trusting(&self) -> TlsOptions {
        TlsOptions::new().add_root_pem(self.root.pem()).unwrap().only_added_roots()
    }

    fn leaf_pin(&self) -> [u8; 32] {
        spki_sha256(self.leaf.der(), &rustls::crypto::ring::default_provider()).unwrap()
    }

    /// Returns lists of the root and of the intermediate.
    fn lists(&self, by_root: &[u64], by_middle: &[u64]) -> String {
        self.root.revocation_list(by_root, 4000) + &self.middle.revocation_list(by_middle, 4000)
    }
}

/// A server.
struct Site(Arc<ServerConfig>);

impl Site {
    fn new(
        version: &'static SupportedProtocolVersion,
        leaf: &Leaf,
        others: &[&CertificateDer<'static>],
    ) -> Self {
        let chain: Vec<_> = std::iter::once(leaf.der()).chain(others.iter().copied()).collect();
        Site::signing(version, &chain, leaf)
    }

    /// A server that presents a chain and signs with a key that may be another's.
    fn signing(
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
    fn connect(&self, options: &TlsOptions) -> std::result::Result<HandshakeKind, rustls::Error> {
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
    fn refuses(&self, options: &TlsOptions, kind: TlsFailure, says: &str) {
        let error = self.connect(options).expect_err(says);
        let failure = Failure::new(error, Role::Server, Stage::Handshake);
        assert!(failure.message().contains(says), "{}, not {says:?}", failure.message());
        assert_eq!(failure.kind(), kind, "{}", failure.message());
    }
}

/// Returns a certificate without version and extensions. Its signature does not match any more.
fn version_1(certificate: &[u8]) -> CertificateDer<'static> {
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

fn section(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", encode_base64(der))
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
