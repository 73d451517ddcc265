//! Sockets that are the TLS server, also if they dialled.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use sockeye::{
    ClientAuth, Connector, ErrorKind, Identities, Identity, SecureTransport, ServerTlsOptions,
    Socket, SocketOptions, TlsOptions, TlsVersion,
};

use crate::support::net::{self, TcpListener};
use crate::support::peer::listen;
use crate::support::tls::{
    Authority, CertSpec, authority, provider, trust_only, trust_only_names, with,
};
use crate::support::{
    PROMPT, SpawnedCall, assert_bytes_eq, assert_ended_with, assert_fails, eventually, ms,
    random_bytes, read, read_exactly, read_to_end, spawn_blocked, spawn_call, timed, with_watchdog,
};

/// Returns an identity for these names, which clients of [`authority`] trust.
pub fn identity(names: &[&str]) -> Identity {
    provider();
    let issued = authority().issues(&CertSpec::new(names));
    Identity::from_pem(issued.chain_pem(), issued.key_pem()).expect("it is valid")
}

pub fn server_tls() -> ServerTlsOptions {
    ServerTlsOptions::new(identity(&["localhost", "good.test"]))
}

pub fn serving(tls: ServerTlsOptions) -> SocketOptions {
    SocketOptions::new().secure_transport(SecureTransport::On).server_tls(tls)
}

/// Returns an accepted socket, and its client.
fn pair(server: SocketOptions, client: SocketOptions) -> (Socket, Socket) {
    let listener = listen();
    let address = listener.local_addr().expect("it is bound");
    let client = sockeye::connect_with(address, client).expect("the options are valid");
    (adopt(&listener, server).expect("the options are valid"), client)
}

fn adopt(listener: &TcpListener, server: SocketOptions) -> sockeye::Result<Socket> {
    let (stream, _) = listener.accept().expect("a client connects");
    Connector::global().adopt(stream, server)
}

/// Opens both sockets, one of them in a thread.
fn open(server: &Socket, client: &Socket) -> (sockeye::Result<()>, sockeye::Result<()>) {
    let other = client.clone();
    let client = spawn_call(move || other.opened().map(drop));
    (server.opened().map(drop), client.join())
}

fn client_options() -> SocketOptions {
    with(SecureTransport::On, trust_only(authority()))
}

#[test]
fn an_adopted_socket_can_be_the_server_and_carries_data_both_ways() {
    with_watchdog(|| {
        for (min, max) in [
            (TlsVersion::Tls12, TlsVersion::Tls12),
            (TlsVersion::Tls12, TlsVersion::Tls13),
            (TlsVersion::Tls13, TlsVersion::Tls13),
        ] {
            let tls = server_tls().alpn(["b", "a"]).min_version(min).max_version(max);
            let client = trust_only(authority()).alpn(["a", "b"]);
            // The side that ends first still reads.
            let client = with(SecureTransport::On, client).allow_half_open(true);
            let (server, client) = pair(serving(tls).allow_half_open(true), client);
            assert_eq!(server.secure_transport(), SecureTransport::On);
            let (sent, back) = (random_bytes(1, 3_000_000), random_bytes(2, 2_000_000));
            let writes = |socket: &Socket, bytes: &[u8]| {
                let (mut writer, bytes) = (socket.writer(), bytes.to_vec());
                spawn_call(move || {
                    writer.write_all(&bytes).expect("the other side reads");
                    writer.close().expect("the other side reads");
                })
            };
            let (one, other) = (writes(&client, &sent), writes(&server, &back));
            let reading = {
                let client = client.clone();
                spawn_call(move || read_to_end(&client).expect("the server ends cleanly"))
            };
            assert_bytes_eq(&read_to_end(&server).expect("the client ends cleanly"), &sent);
            assert_bytes_eq(&reading.join(), &back);
            one.join();
            other.join();
            let info = server.opened().expect("it was open");
            assert_eq!(info.server_name(), Some("localhost"));
            assert_eq!(info.alpn(), Some(&b"b"[..]), "the server's order counts");
            assert_eq!(info.tls().expect("it is secured").version(), max);
            let theirs = client.opened().expect("it was open");
            assert_eq!(theirs.server_name(), None);
            assert_eq!(info.tls_server_end_point(), theirs.tls_server_end_point());
            assert!(info.tls_server_end_point().is_some());
            server.closed().expect("both sides ended cleanly");
            client.closed().expect("both sides ended cleanly");
        }
    });
}

#[test]
fn a_dialled_socket_can_be_the_server() {
    with_watchdog(|| {
        let listener = listen();
        let address = listener.local_addr().expect("it is bound");
        let server = sockeye::connect_with(address, serving(server_tls())).expect("it is valid");
        let mut client = adopt(&listener, client_options()).expect("it is valid");
        client.write_all(b"hello").expect("the server is trusted");
        assert_eq!(read_exactly(&server, 5).expect("the client sends"), b"hello");
        server.close().expect("the close succeeds");
        assert!(read(&client, 1).expect("a clean end").is_empty());
    });
}

#[test]
fn a_socket_has_one_role_and_needs_a_mode() {
    with_watchdog(|| {
        let listener = listen();
        let address = listener.local_addr().expect("it is bound");
        let on = SecureTransport::On;
        for (options, says) in [
            (SocketOptions::new().server_tls(server_tls()), "secure_transport is off"),
            (serving(server_tls()).tls(TlsOptions::new()), "one role"),
            (with(on, TlsOptions::new()).server_tls(server_tls()), "one role"),
            (serving(server_tls().client_auth(ClientAuth::Required)), "no root was added"),
            (serving(server_tls().cipher_suites([1])), "does not have the cipher suite 0x0001"),
            (serving(server_tls().alpn([""])), "0 bytes"),
        ] {
            let error = sockeye::connect_with(address, options.clone()).expect_err(says);
            assert_eq!(error.kind(), ErrorKind::InvalidOptions);
            assert!(error.to_string().contains(says), "{error}");
            let stream = net::connect(address).expect("the listener has room");
            assert_fails(Connector::global().adopt(stream, options).map(drop), error.kind());
        }
        let options = serving(server_tls()).secure_transport(SecureTransport::StartTls);
        let server = sockeye::connect_with(address, options).expect("it is valid");
        server.opened().expect("the listener has room");
        assert_fails(server.start_tls_with(TlsOptions::new()).map(drop), ErrorKind::InvalidOptions);
        assert!(!server.upgraded(), "nothing changed");
    });
}

#[test]
fn a_plaintext_client_is_refused_with_a_message_that_names_what_it_sent() {
    with_watchdog(|| {
        let listener = listen();
        let mut client = net::connect(listener.local_addr().expect("it is bound")).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("the listener has room");
        let server = adopt(&listener, serving(server_tls())).expect("the options are valid");
        let error = server.opened().expect_err("this is not TLS");
        assert_eq!(error.kind(), ErrorKind::Tls);
        let message = error.to_string();
        assert!(
            message.contains("the client sent HTTP (\"GET / HTTP/1.1\"), not TLS"),
            "{message}"
        );
        assert_ended_with(&server, ErrorKind::Tls);
        // A fatal alert, then the end: no reset.
        assert_eq!(read_to_end(&client).expect("a clean end")[..2], [21, 3]);
    });
}

#[test]
fn a_client_that_refuses_the_certificate_is_reported_to_the_server() {
    with_watchdog(|| {
        let stranger = Authority::new();
        let client = with(SecureTransport::On, trust_only(&stranger));
        let (server, client) = pair(serving(server_tls().max_version(TlsVersion::Tls12)), client);
        let (server_side, client_side) = open(&server, &client);
        assert_fails(client_side, ErrorKind::Tls);
        let error = server_side.expect_err("the client sends an alert");
        let says = "the client ended the handshake: it does not accept the server's certificate";
        assert!(error.to_string().contains(says), "{error}");
    });
}

#[test]
fn identities_are_selected_by_name_and_changed_while_the_server_runs() {
    with_watchdog(|| {
        let identities = Identities::new(identity(&["default.test"]));
        let tls = ServerTlsOptions::new(identities.clone());
        let opens = |name: &str| {
            let client = with(SecureTransport::On, trust_only_names(authority()).server_name(name));
            let (server, client) = pair(serving(tls.clone()), client);
            let (_, outcome) = open(&server, &client);
            outcome.map_err(|error| error.kind())
        };
        assert_eq!(opens("default.test"), Ok(()));
        assert_eq!(opens("a.test"), Err(ErrorKind::Tls), "only the default is there");
        identities.insert("*.a.test", identity(&["*.a.test"])).expect("it covers the name");
        identities.insert("A.test", identity(&["a.test"])).expect("it covers the name");
        assert_eq!(opens("a.test"), Ok(()));
        assert_eq!(opens("B.A.test."), Ok(()));
        assert!(identities.remove("a.test"));
        assert_eq!(opens("a.test"), Err(ErrorKind::Tls));
        identities.set_default(identity(&["a.test"]));
        assert_eq!(opens("a.test"), Ok(()));
    });
}

#[test]
fn an_open_connection_keeps_its_identity() {
    with_watchdog(|| {
        let identities = Identities::new(identity(&["localhost"]));
        let tls = ServerTlsOptions::new(identities.clone());
        let (server, client) = pair(serving(tls), client_options());
        open(&server, &client).0.expect("the client trusts it");
        let before = client.opened().unwrap().tls_server_end_point();
        identities.set_default(identity(&["localhost"]));
        assert_eq!(server.opened().unwrap().tls_server_end_point(), before);
        (&server).write_all(b"x").expect("the connection lives on");
        assert_eq!(read_exactly(&client, 1).expect("the server sends"), b"x");
    });
}

#[test]
fn a_name_without_an_identity_is_refused() {
    with_watchdog(|| {
        let identities = Identities::without_default();
        identities.insert("good.test", identity(&["good.test"])).expect("it covers the name");
        let (server, client) = pair(serving(ServerTlsOptions::new(identities)), client_options());
        let (server_side, client_side) = open(&server, &client);
        let error = server_side.expect_err("there is no such identity");
        let says = "no certificate for the server name \"localhost\" that the client asked for";
        assert!(error.to_string().contains(says), "{error}");
        let error = client_side.expect_err("the server sends an alert");
        assert!(error.to_string().contains("access_denied"), "{error}");
    });
}

#[test]
fn sessions_resume_within_the_clones_of_one_value() {
    with_watchdog(|| {
        for max in [TlsVersion::Tls12, TlsVersion::Tls13] {
            // A name of its own, so that no other test fills the client's cache.
            let client =
                with(SecureTransport::On, trust_only(authority()).alpn([format!("resume {max}")]));
            let tls = server_tls().max_version(max).alpn([format!("resume {max}")]);
            let resumes = |tls: &ServerTlsOptions| {
                let (server, client) = pair(serving(tls.clone()), client.clone());
                let serves = {
                    let server = server.clone();
                    spawn_call(move || (&server).write_all(b"x").expect("the client reads"))
                };
                // Reading processes the tickets before it.
                assert_eq!(read_exactly(&client, 1).expect("the server writes"), b"x");
                serves.join();
                let ours = server.opened().unwrap().tls().unwrap().resumed();
                assert_eq!(client.opened().unwrap().tls().unwrap().resumed(), ours);
                client.close().expect("it is open");
                ours
            };
            assert!(!resumes(&tls));
            assert!(resumes(&tls.clone()), "{max}");
            assert!(!resumes(&server_tls().max_version(max).alpn([format!("resume {max}")])));
        }
    });
}

// -------------------------------------------------------------------- client certificates

/// Returns options with a client certificate of this authority.
fn certified_client(clients: &Authority) -> SocketOptions {
    let own = clients.client("client.test");
    let tls = trust_only(authority()).client_auth_pem(own.chain_pem(), own.key_pem());
    with(SecureTransport::On, tls.expect("it is valid"))
}

#[test]
fn client_certificates_are_asked_for_and_verified() {
    with_watchdog(|| {
        let (clients, strangers) = (Authority::new(), Authority::new());
        for max in [TlsVersion::Tls12, TlsVersion::Tls13] {
            for (auth, client, expected) in [
                (ClientAuth::None, certified_client(&clients), Ok(0)),
                (ClientAuth::Optional, certified_client(&clients), Ok(1)),
                (ClientAuth::Optional, client_options(), Ok(0)),
                (ClientAuth::Required, certified_client(&clients), Ok(1)),
                (ClientAuth::Required, client_options(), Err("the client sent no certificate")),
                (
                    ClientAuth::Required,
                    certified_client(&strangers),
                    Err("the client's certificate"),
                ),
                (
                    ClientAuth::Optional,
                    certified_client(&strangers),
                    Err("the client's certificate"),
                ),
            ] {
                let tls = server_tls().max_version(max).client_auth(auth);
                let tls = tls.add_client_root_pem(clients.pem()).expect("it is PEM");
                let (server, client) = pair(serving(tls), client);
                let (outcome, _) = open(&server, &client);
                match (outcome, expected) {
                    (Ok(()), Ok(count)) => {
                        let info = server.opened().expect("it is open");
                        assert_eq!(info.tls().unwrap().peer_certificates().len(), count);
                    }
                    (Err(error), Err(says)) => {
                        assert_eq!(error.kind(), ErrorKind::Tls);
                        assert!(error.to_string().contains(says), "{error}");
                    }
                    (outcome, expected) => panic!("{outcome:?}, not {expected:?} ({auth:?})"),
                }
            }
        }
    });
}

#[test]
fn a_verifier_of_the_program_may_only_refuse() {
    with_watchdog(|| {
        let clients = Authority::new();
        let calls = Arc::new(AtomicUsize::new(0));
        let tls = || {
            let tls = server_tls().client_auth(ClientAuth::Required);
            tls.add_client_root_pem(clients.pem()).expect("it is PEM")
        };
        let counted = {
            let calls = Arc::clone(&calls);
            tls()
                .add_client_verifier(move |peer| {
                    assert_eq!(peer.iter().len(), 1);
                    calls.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                })
                .add_client_verifier(|_| Err(String::from("this client is on no list")))
        };
        let (server, client) = pair(serving(counted.clone()), certified_client(&clients));
        let error = open(&server, &client).0.expect_err("the second check refuses");
        assert!(error.to_string().contains("this client is on no list"), "{error}");
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        let stranger = certified_client(&Authority::new());
        let (server, client) = pair(serving(counted), stranger);
        open(&server, &client).0.expect_err("the built-in check refuses");
        assert_eq!(calls.load(Ordering::Relaxed), 1, "it is asked after the built-in checks");
    });
}

#[test]
fn a_verifier_that_sleeps_delays_neither_a_close_nor_a_limit_nor_other_sockets() {
    with_watchdog(|| {
        let clients = Authority::new();
        let asked = Arc::new(AtomicUsize::new(0));
        let tls = {
            let asked = Arc::clone(&asked);
            server_tls()
                .client_auth(ClientAuth::Required)
                .add_client_root_pem(clients.pem())
                .expect("it is PEM")
                .add_client_verifier(move |_| {
                    asked.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_secs(5));
                    Ok(())
                })
        };
        // No thread waits for these sockets, so the event loop would run the verifier.
        let (closing, _client) = pair(serving(tls.clone()), certified_client(&clients));
        let limited = serving(tls).connect_timeout(ms(1_500));
        let (late, _other) = pair(limited, certified_client(&clients));
        let failure = spawn_blocked({
            let late = late.clone();
            move || late.closed().expect_err("its limit passes")
        });
        // The loop begins within 200 ms, and a busy machine takes longer for the handshake.
        eventually(ms(1_500), "both verifiers run", || asked.load(Ordering::Relaxed) == 2);
        // Another handshake, by the event loop too.
        let (server, client) = pair(serving(server_tls()), client_options());
        let (outcome, took) = timed(|| client.opened().map(drop));
        outcome.expect("it is trusted");
        assert!(took < PROMPT, "{took:?}");
        server.opened().expect("the handshake is done");
        let (closed, took) = timed(|| closing.close());
        closed.expect("nothing was written");
        assert!(took < ms(100), "the close took {took:?}");
        assert_eq!(failure.join_within(2 * PROMPT).kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_client_that_stalls_times_out_and_delays_no_other() {
    with_watchdog(|| {
        let listener = listen();
        let address = listener.local_addr().expect("it is bound");
        let options = || serving(server_tls()).connect_timeout(ms(500));
        let stalled: Vec<(TcpStream, Socket)> = (0..20)
            .map(|count| {
                let mut client = net::connect(address).expect("the listener has room");
                client.write_all(&[22, 3, 1, 2, 0, 1, 0, 1][..count % 8]).expect("there is room");
                (client, adopt(&listener, options()).expect("the options are valid"))
            })
            .collect();
        let (server, client) = pair(options(), client_options());
        let (outcomes, took) = timed(|| open(&server, &client));
        outcomes.0.expect("the client is good");
        assert!(took < PROMPT, "{took:?}");
        let waits: Vec<SpawnedCall<_>> = stalled
            .iter()
            .map(|(_, socket)| {
                let socket = socket.clone();
                spawn_call(move || socket.opened().map(drop))
            })
            .collect();
        for wait in waits {
            assert_fails(wait.join_within(2 * PROMPT), ErrorKind::TimedOut);
        }
    });
}
