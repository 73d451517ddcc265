//! The handshake of a socket that is secure from the start: its result, session resumption, early ends, and invalid
//! options.

mod cut;
mod settings;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use rustls::HandshakeKind;
use rustls::crypto::ring::kx_group::SECP384R1;
use sockeye::{
    Connector, ErrorKind, Phase, SecureTransport, Socket, SocketOptions, TlsOptions, TlsVersion,
    connect_with,
};

use crate::support::peer::{assert_no_connection, listen};
use crate::support::tls::{
    Authority, CertSpec, Identity, ServerSetup, TlsPeer, VERSIONS, assert_message_contains,
    assert_never_opened, authority, connect, dial, open, options, provider, rustls_error,
    server_config, trust_only, trust_only_names, valid_cert, with,
};
use crate::support::{
    PROMPT, Peer, WATCHDOG, assert_bytes_eq, assert_fails, assert_times_out, at_once, ms,
    random_bytes, read, read_exactly, read_to_end, spawn_blocked, spawn_call, timed, with_watchdog,
};

fn secure() -> SocketOptions {
    options(authority())
}

// -------------------------------------------------------------------- its result

#[test]
fn opened_reports_the_negotiated_parameters() {
    for version in VERSIONS {
        with_watchdog(move || {
            let root = Authority::new();
            let identity = root.intermediate().issues(&valid_cert());
            let setup = ServerSetup::new(identity.clone()).only(version).alpn(&["first", "second"]);
            let peer = TlsPeer::reading(&setup);
            let tls = trust_only(&root).alpn(["second", "third"]);
            let socket = open(&peer, with(SecureTransport::On, tls));
            assert_eq!(socket.secure_transport(), SecureTransport::On);
            assert_eq!(socket.phase(), Phase::Open);
            assert!(!socket.upgraded());
            let info = socket.opened().expect("it is open");
            socket.close().expect("the peer reads");
            let ending = peer.assert_received(b"");

            let tls = info.tls().expect("it is secure");
            assert_eq!(tls.version(), version);
            let suite = ending
                .session()
                .negotiated_cipher_suite()
                .expect("the handshake is complete")
                .suite();
            assert_eq!(tls.cipher_suite(), u16::from(suite));
            assert_eq!(tls.cipher_suite_name(), format!("{suite:?}"));
            let chain: Vec<Vec<u8>> = tls.peer_certificates().map(<[u8]>::to_vec).collect();
            let shown: Vec<Vec<u8>> = identity.chain().iter().map(|one| one.to_vec()).collect();
            assert_eq!(chain, shown, "leaf first");
            assert_eq!(tls.peer_certificates().len(), 2);
            assert!(!tls.resumed());
            assert_eq!(info.alpn(), Some(b"second".as_slice()));
            assert_eq!(ending.session().alpn_protocol(), info.alpn());
            assert_eq!(info.local_address(), Some(ending.from));
            let timings = info.timings();
            assert!(
                timings.handshake > Duration::ZERO && timings.handshake < WATCHDOG,
                "{timings:?}"
            );
        });
    }
}

#[test]
fn every_thread_gets_the_same_result() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.wait_signal();
            peer.handshake();
        });
        let socket = connect(&peer, secure());
        let waiters: Vec<_> = (0..8)
            .map(|_| {
                let socket = socket.clone();
                spawn_blocked(move || socket.opened())
            })
            .collect();
        peer.signal();
        let suite = socket
            .opened()
            .expect("the peer is trusted")
            .tls()
            .expect("it is secure")
            .cipher_suite();
        for waiter in waiters {
            let info = waiter.join().expect("the peer is trusted");
            assert_eq!(info.tls().expect("it is secure").cipher_suite(), suite);
        }
    });
}

#[test]
fn another_key_exchange_is_tried_on_request() {
    with_watchdog(|| {
        let setup = server_config().only(TlsVersion::Tls13).group(SECP384R1);
        let peer = TlsPeer::echoes(&setup);
        let socket = open(&peer, secure());
        (&socket).write_all(b"hello").expect("the peer reads");
        assert_eq!(read_exactly(&socket, 5).expect("the peer answers"), b"hello");
        socket.close().expect("the peer reads");
        let ending = peer.assert_received(b"hello");
        let kind = ending.session().handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::FullWithHelloRetryRequest));
    });
}

#[test]
fn a_protocol_that_the_peer_does_not_know_fails_the_handshake() {
    with_watchdog(|| {
        let peer = TlsPeer::refused(&server_config().alpn(&["smtp"]));
        let socket =
            connect(&peer, with(SecureTransport::On, trust_only(authority()).alpn(["imap"])));
        assert_message_contains(
            &assert_never_opened(&socket, ErrorKind::Tls),
            &["no application protocol"],
        );
    });
}

// -------------------------------------------------------------------- data during the handshake

#[test]
fn reads_and_writes_may_start_before_it_is_complete() {
    for version in VERSIONS {
        with_watchdog(move || {
            let peer = TlsPeer::scripted(&server_config().only(version), |peer| {
                peer.wait_signal();
                peer.handshake();
                peer.echo();
            });
            let socket = connect(&peer, secure());
            let (reader, mut writer) = (socket.reader(), socket.writer());
            let reading = spawn_blocked(move || read_exactly(reader, 5));
            let writing = spawn_blocked(move || writer.write_all(b"early"));
            assert_eq!(socket.phase(), Phase::Connecting);
            peer.signal();
            writing.join().expect("the peer is trusted");
            assert_eq!(reading.join().expect("the peer answers"), b"early");
            assert_eq!(socket.phase(), Phase::Open);
        });
    }
}

#[test]
fn data_that_arrives_with_its_last_flight_is_read() {
    let bytes = random_bytes(20, 40_000);
    let sent = bytes.clone();
    with_watchdog(move || {
        let setup = server_config().only(TlsVersion::Tls13).speaks_early();
        let peer = TlsPeer::scripted(&setup, move |peer| {
            peer.begin();
            assert!(peer.take_in().expect("the handshake is valid"), "the ClientHello arrives");
            // The server's whole flight, data, `close_notify` and FIN arrive at once.
            let mut all = peer.hold_back();
            for chunk in sent.chunks(10_000) {
                all.extend(peer.sealed(chunk));
            }
            all.extend(peer.sealed_end());
            peer.raw(&all);
            peer.fin();
        });
        let socket = connect(&peer, secure());
        socket.opened().expect("the handshake succeeds");
        assert_bytes_eq(&read_to_end(&socket).expect("a clean end"), &bytes);
        socket.closed_timeout(PROMPT).expect("a clean end");
        assert_eq!(socket.stats().bytes_read, 40_000);
        peer.assert_received(b"");
    });
}

#[test]
fn a_handshake_that_arrives_byte_by_byte_succeeds() {
    for version in VERSIONS {
        with_watchdog(move || {
            let peer = TlsPeer::scripted(&server_config().only(version), |peer| {
                peer.begin();
                for _ in 0..2 {
                    assert!(
                        peer.take_in().expect("the handshake is valid"),
                        "the other end continues"
                    );
                    for byte in peer.hold_back() {
                        peer.raw(&[byte]);
                    }
                }
                peer.echo();
            });
            let socket = open(&peer, secure());
            (&socket).write_all(b"hello").expect("the peer reads");
            assert_eq!(read_exactly(&socket, 5).expect("the peer answers"), b"hello");
        });
    }
}

// -------------------------------------------------------------------- resumption

/// Opens two connections to one server and uses each to the end. Returns whether each one resumed a session.
#[track_caller]
fn twice(
    version: TlsVersion,
    first: SocketOptions,
    second: SocketOptions,
    root: &Authority,
) -> [bool; 2] {
    let listener = listen();
    let config = ServerSetup::new(root.issues(&valid_cert())).only(version).alpn(&["a"]).config();
    [first, second].map(|options| {
        let another = listener.try_clone().expect("a descriptor is free");
        let peer = TlsPeer::sharing(another, Arc::clone(&config), |peer| {
            peer.handshake();
            peer.echo();
        });
        let socket = open(&peer, options);
        // Everything that was sent before the answer, including tickets, has arrived with it.
        (&socket).write_all(b"hello").expect("the peer reads");
        assert_eq!(read_exactly(&socket, 5).expect("the peer answers"), b"hello");
        let info = socket.opened().expect("it is open");
        socket.close().expect("the peer reads");
        let resumed = info.tls().expect("it is secure").resumed();
        let ending = peer.assert_received(b"hello");
        let kind = ending.session().handshake_kind().expect("the handshake is complete");
        assert_eq!(resumed, kind == HandshakeKind::Resumed, "both ends agree");
        assert_eq!(info.tls().expect("it is secure").peer_certificates().len(), 1);
        resumed
    })
}

#[test]
fn equal_options_resume_each_others_sessions() {
    for version in VERSIONS {
        with_watchdog(move || {
            let root = Authority::new();
            let resumed = twice(version, options(&root), options(&root), &root);
            assert_eq!(resumed, [false, true], "{version:?}");
        });
    }
}

#[test]
fn different_options_share_no_sessions() {
    for version in VERSIONS {
        with_watchdog(move || {
            let root = Authority::new();
            let others = [
                trust_only(&root).alpn(["a"]),
                trust_only(&root).danger_accept_invalid_certs(true),
                trust_only(&root).add_root_pem(Authority::new().pem()).expect("it is PEM"),
            ];
            for (number, other) in others.into_iter().enumerate() {
                let resumed =
                    twice(version, options(&root), with(SecureTransport::On, other), &root);
                // Each round has a new server, to which the first connection has no session.
                assert_eq!(resumed, [false, false], "{version:?}, the other options {number}");
            }
        });
    }
}

// -------------------------------------------------------------------- names

/// Returns the name that the peer received in a successful handshake.
#[track_caller]
fn seen(host: &str, setup: &ServerSetup, tls: TlsOptions) -> Option<String> {
    let peer = TlsPeer::reading(setup);
    let socket = dial(host, &peer, with(SecureTransport::On, tls));
    socket.opened().expect("the certificate is trusted");
    socket.close().expect("the peer reads");
    peer.assert_received(b"").session().server_name().map(str::to_owned)
}

#[test]
fn a_host_in_upper_case_is_the_name() {
    with_watchdog(|| {
        let upper = seen("GOOD.Test", &server_config(), trust_only_names(authority()));
        let upper = upper.expect("a name is sent");
        assert_eq!(upper.to_ascii_lowercase(), "good.test");
    });
}

#[test]
fn a_server_name_replaces_the_host() {
    with_watchdog(|| {
        let named = |name| trust_only_names(authority()).server_name(name);
        for host in ["127.0.0.1", "other.test"] {
            for name in ["good.test", "localhost", "good.test."] {
                let sent = name.trim_end_matches('.');
                assert_eq!(
                    seen(host, &server_config(), named(name)).as_deref(),
                    Some(sent),
                    "{host}"
                );
            }
        }
        // An address as a name is verified, but not sent.
        let setup = ServerSetup::new(authority().issues(&CertSpec::new(&["127.0.0.1"])));
        assert_eq!(seen("good.test", &setup, named("127.0.0.1")), None);
    });
}

// -------------------------------------------------------------------- limits

/// Starts a peer that takes the ClientHello and never answers.
fn silent() -> Peer {
    Peer::reading()
}

/// aws-lc-rs sends a post-quantum key first, which makes the ClientHello longer than a packet.
#[cfg(feature = "aws-lc-rs")]
#[test]
fn silence_after_a_long_hello_is_explained() {
    with_watchdog(|| {
        let says = |options: TlsOptions, answer: &'static [u8]| {
            let peer = Peer::scripted(move |peer| {
                peer.receive(10);
                peer.send(answer);
                peer.wait_signal();
            });
            let options = SocketOptions::new().secure_transport(SecureTransport::On).tls(options);
            let options = options.connect_timeout(ms(200));
            let socket = connect_with(peer.address(), options).expect("they are valid");
            let error = socket.opened().expect_err("the peer does not answer");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            peer.signal();
            error.to_string()
        };
        let hint = "try key_exchange_groups without 4588";
        let silent = says(TlsOptions::new(), b"");
        assert!(silent.ends_with(hint), "{silent}");
        let short = says(TlsOptions::new().key_exchange_groups([29, 23]), b"");
        assert!(short.ends_with("passed during the TLS handshake"), "{short}");
        let begun = says(TlsOptions::new(), &[22, 3, 3, 0, 100, 2]);
        assert!(begun.ends_with("passed during the TLS handshake"), "{begun}");
    });
}

#[test]
fn one_connect_timeout_covers_everything() {
    with_watchdog(|| {
        let slow = |_: &str| {
            thread::sleep(ms(1500));
            Ok(vec![IpAddr::from(Ipv4Addr::LOCALHOST)])
        };
        let connector = Connector::builder().resolver(slow).build().expect("the rules are valid");
        let peer = silent();
        let options = secure().connect_timeout(ms(2000));
        let address = ("slow.test", peer.address().port());
        let (result, took) =
            timed(|| connector.connect_with(address, options).expect("they are valid").opened());
        assert_fails(result, ErrorKind::TimedOut);
        assert!(took >= ms(2000) && took < ms(2000) + PROMPT, "took {took:?}");
    });
}

#[test]
fn a_wait_for_it_may_time_out_without_ending_it() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.wait_signal();
            peer.handshake();
        });
        let socket = connect(&peer, secure());
        let error = socket.opened_timeout(ms(100)).expect_err("the peer does not answer");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.is_retryable());
        assert_eq!(socket.phase(), Phase::Connecting);
        assert_fails(socket.closed_timeout(ms(10)), ErrorKind::TimedOut);
        peer.signal();
        socket.opened_timeout(WATCHDOG).expect("the peer is trusted");
        assert_eq!(socket.phase(), Phase::Open);
    });
}

#[test]
fn a_deadline_ends_reads_and_writes_that_wait_for_it() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.wait_signal();
            peer.handshake();
            peer.echo();
        });
        let socket = connect(&peer, secure().read_timeout(ms(50)).write_timeout(ms(50)));
        assert_times_out(read(&socket, 1));
        assert_times_out((&socket).write(b"x"));
        peer.signal();
        socket.opened().expect("the peer is trusted");
        socket.set_read_timeout(None).expect("`None` removes the limit");
        socket.set_write_timeout(None).expect("`None` removes the limit");
        (&socket).write_all(b"hello").expect("the peer reads");
        assert_eq!(read_exactly(&socket, 5).expect("the peer answers"), b"hello");
        socket.close().expect("the peer reads");
        peer.assert_received(b"hello");
    });
}
