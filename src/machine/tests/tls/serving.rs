//! Tests of the machine as the server: its first message, its limits, and what it says about clients.

use std::sync::Arc;
use std::time::Instant;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
#[cfg(feature = "rustls-0_23")]
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::VERSIONS;
use super::site::{as_server, client_config, machine_config, server_options, site};
use super::wire::Wire;
use crate::info::Phase;
use crate::machine::{
    Actions, Background, Fault, Machine, RecvBuf, RecvEvent, Release, TimerKind, TlsSetup,
};
use crate::{ClientAuth, Identities, Identity, ServerTlsOptions};

#[test]
fn a_server_has_nothing_to_send_and_receives_first() {
    as_server(|| {
        let now = Instant::now();
        let setup = machine_config().tls.unwrap();
        let mut machine = Machine::upgraded(&machine_config(), &setup, &[], None, None, now);
        let expected = Actions { transmit: true, drive_recv: true, ..Actions::default() };
        assert_eq!(machine.start(now), expected);
        assert!(machine.next_transmit().is_none());
        assert_eq!(machine.background(), Background::Ingest);
        assert_eq!(machine.phase(), Phase::Upgrading);
    });
}

#[test]
fn a_fin_anywhere_in_the_clients_flight_fails_the_handshake() {
    as_server(|| {
        for version in VERSIONS {
            let whole = {
                let mut wire = Wire::new(version, 0);
                wire.serve();
                wire.to_machine.len()
            };
            for cut in 0..whole {
                let mut wire = Wire::new(version, 0);
                wire.serve();
                wire.deliver(cut);
                let permit = wire.machine.begin_background_recv().expect("the machine needs data");
                wire.receive(permit, RecvEvent::Eof);
                assert_eq!(wire.machine.opened(), Some(Err(Fault::Tls)), "{cut} of {whole}");
                let why = wire.machine.tls_failure().unwrap_or_default();
                assert_eq!(why, "the client ended the connection during the handshake");
                wire.is_over();
            }
        }
    });
}

#[test]
fn the_message_about_plaintext_names_what_it_looks_like() {
    as_server(|| {
        for seed in [0, 1, 2, 3] {
            let mut wire = Wire::new(&rustls::version::TLS13, seed);
            wire.to_machine.extend_from_slice(b"GET /index.html HTTP/1.1\r\nHost: a.test\r\n\r\n");
            // As a client that sends a long body at once.
            wire.to_machine.extend_from_slice(&[b'x'; 20_000][..20_000 * usize::from(seed > 1)]);
            wire.deliver(usize::MAX);
            assert_eq!(wire.machine.opened(), Some(Err(Fault::Tls)));
            let why = wire.machine.tls_failure().unwrap_or_default();
            assert_eq!(why, "the client sent HTTP (\"GET /index.html HTTP/1.1\"), not TLS");
            // An alert and FIN.
            assert!(wire.shut && !wire.machine.take_final_records().is_empty());
            wire.is_over();
        }
    });
}

#[test]
fn a_client_hello_that_arrives_in_parts_is_limited_to_16_kib() {
    as_server(|| {
        for (size, is_too_long) in [(15_000, false), (40_000, true), (60_000, true)] {
            for step in [1_000, 15_999, usize::MAX] {
                // A long message that is complete with the first receive costs no memory, and is processed.
                let is_too_long = is_too_long && step != usize::MAX;
                for seed in [0, 1] {
                    let mut wire = Wire::new(&rustls::version::TLS13, seed);
                    wire.to_machine = records(&long_hello(size));
                    while wire.machine.opened().is_none() {
                        assert!(!wire.to_machine.is_empty(), "the message is complete");
                        wire.deliver(step);
                    }
                    let why = wire.machine.tls_failure().unwrap_or_default();
                    assert_eq!(why.contains("ClientHello that is too long"), is_too_long, "{why}");
                    assert_eq!(why.contains("malformed"), !is_too_long, "{why}");
                }
            }
        }
    });
}

#[test]
fn the_certificates_of_a_client_are_limited_to_64_kib() {
    as_server(|| {
        let options = server_options()
            .clone()
            .client_auth(ClientAuth::Required)
            .add_client_root_pem(site().certificate.pem())
            .unwrap();
        let mut config = machine_config();
        config.tls = Some(TlsSetup::server(&options).unwrap());
        let certificate = site().certificate.der().clone();
        for (size, accepted) in [(60_000, true), (70_000, false), (200_000, false)] {
            for step in [1_000, usize::MAX] {
                let mut client = client_config(&rustls::version::TLS13);
                let count = size / (certificate.len() + 5);
                let key = PrivateKeyDer::try_from(site().key.serialize_der()).unwrap();
                let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
                let key = CertifiedKey::new(vec![certificate.clone(); count], key);
                client.client_auth_cert_resolver =
                    Arc::new(rustls::sign::SingleCertAndKey::from(key));
                let mut wire = Wire::with_client(config.clone(), client, 0);
                for _ in 0..1_000 {
                    wire.serve();
                    wire.deliver(step);
                    wire.transmit(usize::MAX);
                }
                let why = wire.machine.tls_failure().unwrap_or_default().to_owned();
                // They issue each other in too many ways, which only a complete list can show.
                assert_eq!(why.contains("issue each other"), accepted, "{size}: {why}");
                assert!(accepted || why.contains("malformed") || why.contains("too long"), "{why}");
            }
        }
    });
}

/// Returns a handshake message of this size that has the type of a ClientHello, and no valid content.
fn long_hello(size: usize) -> Vec<u8> {
    let length = u32::try_from(size).unwrap().to_be_bytes();
    let mut hello = vec![1, length[1], length[2], length[3]];
    hello.resize(4 + size, 3);
    hello
}

/// Splits a handshake message into records.
fn records(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in message.chunks(16_000) {
        bytes.extend_from_slice(&[22, 3, 1]);
        bytes.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

#[test]
fn a_client_that_stalls_keeps_little_memory_and_times_out() {
    as_server(|| {
        let mut config = machine_config();
        config.connect_timeout = Some(std::time::Duration::from_secs(10));
        let mut wire = Wire::of(config, &rustls::version::TLS13, 0);
        wire.serve();
        // A receive that filled the buffer makes it large.
        let mut large = RecvBuf::new();
        let all = large.spare_mut().len();
        large.advance(all);
        wire.recv_buf = large;
        assert!(wire.recv_buf.spare_mut().len() > 60_000);
        for _ in 0..100 {
            wire.deliver(1);
        }
        assert!(wire.recv_buf.spare_mut().len() > 60_000, "the buffer has its memory back");
        assert_eq!(wire.machine.opened(), None);
        let (at, limit) = wire.machine.next_timer().unwrap();
        assert_eq!(limit, TimerKind::Handshake);
        wire.now = at;
        wire.handle(crate::machine::Input::TimerExpired);
        assert_eq!(wire.machine.opened(), Some(Err(Fault::TimedOut(TimerKind::Handshake))));
        assert_eq!(wire.released, Some(Release::Close));
    });
}

#[test]
fn the_server_name_is_known_and_the_channel_binding_is_that_of_the_own_certificate() {
    as_server(|| {
        for version in VERSIONS {
            for seed in [0, 1] {
                let mut wire = Wire::open(version, seed);
                let negotiated = wire.machine.negotiated().expect("it is open");
                assert_eq!(negotiated.server_name.as_deref(), Some("a.test"));
                assert_eq!(negotiated.tls.peer_certificates().len(), 0);
                let peer = wire.peer.peer_certificates().expect("the client knows it");
                assert_eq!(peer, [site().certificate.der().clone()]);
                assert!(negotiated.tls.server_end_point().is_some());
                wire.exchange(100);
            }
        }
    });
}

#[test]
fn a_name_without_an_identity_is_refused_with_a_message() {
    as_server(|| {
        for version in VERSIONS {
            let options = ServerTlsOptions::new(Identities::without_default());
            let mut config = machine_config();
            config.tls = Some(TlsSetup::server(&options).unwrap());
            let mut wire = Wire::of(config, version, 0);
            wire.serve();
            wire.deliver(usize::MAX);
            assert_eq!(wire.machine.opened(), Some(Err(Fault::Tls)));
            assert_eq!(
                wire.machine.tls_failure(),
                Some(
                    "there is no certificate for the server name \"a.test\" that the client asked for"
                )
            );
            let alert = wire.machine.take_final_records();
            assert_eq!(alert, [21, 3, 3, 0, 2, 2, 49], "access_denied");
        }
    });
}

#[test]
fn handshakes_resume_between_clones_of_the_options_only() {
    as_server(|| {
        for version in VERSIONS {
            let options = || {
                let site = site();
                let identity = Identity::from_pem(site.certificate.pem(), site.key.serialize_pem());
                ServerTlsOptions::new(identity.unwrap())
            };
            let first = options();
            let client = client_config(version);
            let resumes = |options: &ServerTlsOptions| {
                let mut config = machine_config();
                config.tls = Some(TlsSetup::server(options).unwrap());
                let mut wire = Wire::with_client(config, client.clone(), 0);
                wire.shake_hands(usize::MAX);
                wire.exchange(10);
                wire.machine.negotiated().expect("it is open").tls.resumed()
            };
            assert!(!resumes(&first));
            assert!(resumes(&first.clone()), "{version:?}");
            assert!(resumes(&first.clone().require_close_notify(false)), "{version:?}");
            assert!(!resumes(&options()), "other options have other ticket keys");
            assert!(!resumes(&first.clone().alpn(Vec::<Vec<u8>>::new())), "changed options too");
            assert!(!resumes(&first.clone().resumption(false)));
        }
    });
}

/// A resolver of the program that refuses every client.
#[cfg(feature = "rustls-0_23")]
#[derive(Debug)]
struct Refusing;

#[cfg(feature = "rustls-0_23")]
impl ResolvesServerCert for Refusing {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

#[cfg(feature = "rustls-0_23")]
#[test]
fn a_complete_configuration_never_accepts_early_data_and_its_resolver_is_asked() {
    as_server(|| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(site().key.serialize_der()).unwrap();
        let mut whole = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![site().certificate.der().clone()], key)
            .unwrap();
        whole.max_early_data_size = 0x1_0000;
        whole.send_half_rtt_data = true;
        let run = |whole: rustls::ServerConfig| {
            let options = ServerTlsOptions::from_rustls_0_23_config(Arc::new(whole));
            let mut config = machine_config();
            config.tls = Some(TlsSetup::server(&options).unwrap());
            let mut client = client_config(&rustls::version::TLS13);
            client.enable_early_data = true;
            (config, client)
        };
        let (config, client) = run(whole.clone());
        for _ in 0..2 {
            let mut wire = Wire::with_client(config.clone(), client.clone(), 0);
            assert!(wire.machine.runs_foreign_code());
            let rustls::Connection::Client(connection) = &mut wire.peer else { unreachable!() };
            assert!(connection.early_data().is_none(), "no ticket allows early data");
            wire.shake_hands(usize::MAX);
            assert_eq!(wire.machine.negotiated().unwrap().server_name.as_deref(), Some("a.test"));
            wire.exchange(10);
        }
        whole.cert_resolver = Arc::new(Refusing);
        let (config, client) = run(whole);
        let mut wire = Wire::with_client(config, client, 0);
        wire.serve();
        wire.deliver(usize::MAX);
        let why = wire.machine.tls_failure().unwrap_or_default();
        assert!(why.contains("no certificate for the server name \"a.test\""), "{why}");
    });
}

#[test]
fn a_client_certificate_is_asked_for_and_verified() {
    as_server(|| {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let certificate = |name: &str, key: &KeyPair| {
            let mut params = CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.self_signed(key).unwrap()
        };
        let (own, foreign) = (certificate("own", &key), certificate("foreign", &other));
        let options = |auth| {
            server_options().clone().client_auth(auth).add_client_root_pem(own.pem()).unwrap()
        };
        let handshake = |options: &ServerTlsOptions,
                         certificate: Option<(&rcgen::Certificate, &KeyPair)>,
                         seed| {
            let mut config = machine_config();
            config.tls = Some(TlsSetup::server(options).unwrap());
            let mut client = client_config(&rustls::version::TLS13);
            if let Some((certificate, key)) = certificate {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                let provider = rustls::crypto::ring::default_provider();
                let key = CertifiedKey::from_der(vec![certificate.der().clone()], key, &provider);
                client.client_auth_cert_resolver =
                    Arc::new(rustls::sign::SingleCertAndKey::from(key.unwrap()));
            }
            let mut wire = Wire::with_client(config, client, seed);
            for _ in 0..10 {
                wire.serve();
                wire.deliver(usize::MAX);
                wire.transmit(usize::MAX);
            }
            match wire.machine.opened() {
                Some(Ok(())) => {
                    Ok(wire.machine.negotiated().unwrap().tls.peer_certificates().len())
                }
                _ => Err(wire.machine.tls_failure().unwrap_or_default().to_owned()),
            }
        };
        let (optional, required) = (options(ClientAuth::Optional), options(ClientAuth::Required));
        for seed in [0, 1] {
            assert_eq!(handshake(&optional, None, seed), Ok(0));
            assert_eq!(handshake(&optional, Some((&own, &key)), seed), Ok(1));
            assert_eq!(handshake(&required, Some((&own, &key)), seed), Ok(1));
            let missing = handshake(&required, None, seed).unwrap_err();
            assert_eq!(missing, "the client sent no certificate");
            for options in [&optional, &required] {
                let refused = handshake(options, Some((&foreign, &other)), seed).unwrap_err();
                assert_eq!(
                    refused,
                    "the client's certificate is self-signed, and not a trusted root"
                );
            }
            let verifying = required.clone().add_client_verifier(|peer| {
                assert_eq!((peer.iter().len(), peer.server_name()), (1, None));
                Err(format!("the key {:02x} is not known", peer.spki_sha256()[0]))
            });
            let refused = handshake(&verifying, Some((&own, &key)), seed).unwrap_err();
            assert!(
                refused.starts_with("the client's certificate is refused: the key "),
                "{refused}"
            );
            let panicking = required.clone().add_client_verifier(|_| std::panic::panic_any(7));
            let refused = handshake(&panicking, Some((&own, &key)), seed).unwrap_err();
            assert!(refused.ends_with("a verifier of this program panicked"), "{refused}");
        }
    });
}
