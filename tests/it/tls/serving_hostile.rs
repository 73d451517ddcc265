//! Hostile clients of a socket that is the TLS server.

use std::io::{ErrorKind as IoKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection};
use sockeye::{
    AcceptWhen, ErrorKind, ListenOptions, Listener, ServerTlsOptions, Socket, TlsVersion,
    listen_with,
};

use super::serving::{server_tls, serving};
use crate::support::net;
use crate::support::peer::listen;
use crate::support::tls::{authority, provider, server_config};
use crate::support::{
    PROMPT, WATCHDOG, eventually, ms, read_exactly, spawn_call, timed, with_limit, with_watchdog,
};

/// Listens for TLS clients, which may take this long to open.
fn listener(tls: ServerTlsOptions, limit: Duration, when: AcceptWhen) -> Listener {
    let options = ListenOptions::new().socket(serving(tls)).handshake_timeout(limit);
    listen_with("127.0.0.1:0", options.accept_when(when)).expect("the options are valid")
}

fn dial(listener: &Listener) -> TcpStream {
    let address = listener.local_address().expect("it is bound");
    let client = net::connect(address).expect("the server listens");
    net::set_nodelay(&client).expect("it is connected");
    client
}

/// Returns an accepted socket that is the server, and the stream of its client.
fn accepted(tls: ServerTlsOptions, limit: Duration) -> (Socket, TcpStream) {
    let listener = listener(tls, limit, AcceptWhen::Connected);
    let client = dial(&listener);
    (listener.accept_timeout(WATCHDOG).expect("the client has connected"), client)
}

/// Returns the configuration of a client that resumes sessions, and sends early data if a ticket allows it.
fn client_config(version: TlsVersion) -> Arc<ClientConfig> {
    provider();
    let version = match version {
        TlsVersion::Tls12 => &rustls::version::TLS12,
        _ => &rustls::version::TLS13,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("there are suites")
        .with_root_certificates(authority().roots())
        .with_no_client_auth();
    config.enable_early_data = true;
    Arc::new(config)
}

fn client(version: TlsVersion) -> ClientConnection {
    client_of(&client_config(version))
}

fn client_of(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("localhost").expect("it is a name");
    ClientConnection::new(Arc::clone(config), name).expect("the configuration is valid")
}

/// Returns the first flight of a client.
fn hello(version: TlsVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    client(version).write_tls(&mut bytes).expect("memory takes all");
    bytes
}

/// Sends these bytes, and returns the server's error and what it sent.
fn refused(bytes: &[u8], ends: bool) -> (sockeye::Error, Vec<u8>) {
    let (server, mut stream) = accepted(server_tls(), PROMPT);
    // The server may have closed before all bytes are sent.
    let _ = stream.write_all(bytes);
    if ends {
        stream.shutdown(std::net::Shutdown::Write).expect("it is connected");
    }
    let error = server.opened().expect_err("this is no good client");
    assert_eq!(server.stats().bytes_read, 0);
    let mut sent = Vec::new();
    stream.set_read_timeout(Some(PROMPT)).unwrap();
    match stream.read_to_end(&mut sent) {
        Ok(_) => {}
        // It may have closed with unread bytes in its queue.
        Err(error) => assert_eq!(error.kind(), IoKind::ConnectionReset),
    }
    (error, sent)
}

#[test]
fn a_client_that_stalls_or_ends_at_any_byte_of_its_hello_is_refused() {
    with_limit(4 * WATCHDOG, || {
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            let hello = hello(version);
            // The event loop makes all handshakes.
            let listener = listener(server_tls(), ms(3_000), AcceptWhen::Opened);
            let stalling: Vec<TcpStream> = (0..hello.len())
                .step_by(3)
                .map(|cut| {
                    let mut stream = dial(&listener);
                    stream.write_all(&hello[..cut]).expect("the server listens");
                    stream
                })
                .collect();
            let count = stalling.len();
            eventually(PROMPT, "all that stall are opening", || listener.stats().pending == count);
            // A good client beside them.
            let mut stream = dial(&listener);
            let good = spawn_call(move || {
                client(version).complete_io(&mut stream).expect("the server is good");
                stream
            });
            let (opened, took) = timed(|| listener.accept_timeout(WATCHDOG));
            assert!(took < PROMPT, "{took:?} beside {count} that stall");
            assert_eq!(listener.stats().pending, count);
            drop((opened.expect("the client is good"), good.join()));
            // Each of the others is reset, or gets FIN, once its time is over.
            for mut stream in stalling {
                stream.set_read_timeout(Some(WATCHDOG)).expect("not zero");
                let end = stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
                assert!(matches!(end, Ok(_) | Err(IoKind::ConnectionReset)), "{end:?}");
            }
            let failed = u64::try_from(count).expect("they are few");
            eventually(PROMPT, "they are counted", || listener.stats().failed == failed);
            for cut in (0..hello.len()).step_by(7) {
                let (error, _) = refused(&hello[..cut], true);
                assert_eq!(error.kind(), ErrorKind::Tls, "{cut}: {error}");
            }
        }
    });
}

#[test]
fn malformed_oversized_and_outdated_hellos_are_refused_with_an_alert() {
    with_watchdog(|| {
        let record = |kind: u8, body: &[u8]| {
            let length = u16::try_from(body.len()).expect("a record is short").to_be_bytes();
            [&[kind, 3, 1], &length[..], body].concat()
        };
        // TLS 1.0 and one suite, without extensions.
        let old_hello = [&[1, 0, 0, 41, 3, 1][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
        for (what, bytes, says) in [
            ("TLS 1.0", record(22, &old_hello), "incompatible"),
            ("an SSL 2.0 hello", b"\x80\x2e\x01\x03\x01\0\x15".to_vec(), "SSL 2.0"),
            ("garbage", vec![0x7f; 300], "did not begin with TLS"),
            ("a broken hello", record(22, &[1, 0, 0, 5, 3, 3, 0, 0, 0]), "malformed"),
            (
                "a record of 20,000 bytes",
                [&[22, 3, 1, 0x4e, 0x20][..], &[0; 100]].concat(),
                "record that is too long",
            ),
            ("data first", record(23, b"hello"), "TLS"),
            ("an alert first", record(21, &[2, 40]), "handshake_failure"),
            ("an empty record", record(22, b"").repeat(40), "TLS"),
        ] {
            let (error, sent) = refused(&bytes, false);
            assert_eq!(error.kind(), ErrorKind::Tls, "{what}: {error}");
            assert!(error.to_string().contains(says), "{what}: {error}");
            // At most one alert and nothing else.
            assert!(sent.len() <= 7 && (sent.is_empty() || sent[0] == 21), "{what}: {sent:?}");
        }
    });
}

#[test]
fn a_flood_of_alerts_ends_the_handshake() {
    with_watchdog(|| {
        // no_renegotiation, a warning.
        let (error, _) = refused(&[21, 3, 3, 0, 2, 1, 100].repeat(10_000), false);
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    });
}

/// Serves one connection: writes `x`, and reads one byte. Returns it and the number of bytes that were read.
fn serve_one(server: Socket) -> crate::support::SpawnedCall<(Vec<u8>, u64)> {
    spawn_call(move || {
        (&server).write_all(b"x").expect("the client reads");
        let first = read_exactly(&server, 1).expect("the client writes");
        (first, server.stats().bytes_read)
    })
}

/// Speaks with [`serve_one`], after early data if it is allowed. Returns whether it was sent.
fn speak(connection: &mut ClientConnection, stream: &mut TcpStream) -> bool {
    let early = connection.early_data().map(|mut early| {
        early.write_all(b"early data").expect("the ticket allows it");
    });
    connection.complete_io(stream).expect("the server is good");
    assert!(!connection.is_early_data_accepted());
    let mut secure = rustls::Stream::new(connection, stream);
    secure.read_exact(&mut [0]).expect("the server writes");
    secure.write_all(b"y").expect("the server reads");
    early.is_some()
}

#[test]
fn resumed_sessions_allow_no_early_data() {
    with_watchdog(|| {
        let (config, tls) = (client_config(TlsVersion::Tls13), server_tls());
        for round in 0..3 {
            let (server, mut stream) = accepted(tls.clone(), PROMPT);
            let mut connection = client_of(&config);
            let serving = serve_one(server);
            let sent = speak(&mut connection, &mut stream);
            assert!(!sent, "round {round}: no ticket allows early data");
            let kind = if round == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
            assert_eq!(connection.handshake_kind(), Some(kind), "round {round}");
            assert_eq!(serving.join(), (b"y".to_vec(), 1));
        }
    });
}

/// Has a server of rustls give the client a ticket that allows early data.
fn take_ticket(client: &Arc<ClientConfig>, server: &ServerConfig) {
    let mut server = server.clone();
    server.max_early_data_size = 1_000;
    let listener = listen();
    let mut stream = net::connect(listener.local_addr().expect("it is bound")).unwrap();
    let serving = spawn_call(move || {
        let (mut stream, _) = listener.accept().expect("the client has connected");
        let mut connection = ServerConnection::new(Arc::new(server)).expect("it is valid");
        let mut secure = rustls::Stream::new(&mut connection, &mut stream);
        secure.write_all(b"x").expect("the client reads");
        secure.read_exact(&mut [0]).expect("the client writes");
    });
    let mut connection = client_of(client);
    speak(&mut connection, &mut stream);
    serving.join();
}

#[test]
fn early_data_that_a_client_sends_all_the_same_is_dropped() {
    with_watchdog(|| {
        // The ticket is of another server, so it is unknown.
        let config = client_config(TlsVersion::Tls13);
        take_ticket(&config, &server_config().config());
        let (server, mut stream) = accepted(server_tls(), PROMPT);
        let serving = serve_one(server);
        assert!(speak(&mut client_of(&config), &mut stream), "the client sends early data");
        assert_eq!(serving.join(), (b"y".to_vec(), 1));
        // Without the extension that announces it, it is no early data.
        let early = [&hello(TlsVersion::Tls13)[..], &[23, 3, 3, 0, 40], &[7; 40]].concat();
        let (error, sent) = refused(&early, false);
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        assert!(!sent.is_empty(), "the server has answered the hello");
    });
}

/// A configuration of rustls that accepts early data loses that ability.
#[cfg(feature = "rustls-0_23")]
#[test]
fn a_complete_configuration_drops_early_data_for_a_ticket_that_it_knows() {
    with_watchdog(|| {
        let shared = server_config().config();
        let config = client_config(TlsVersion::Tls13);
        take_ticket(&config, &shared);
        let mut complete = ServerConfig::clone(&shared);
        complete.max_early_data_size = 1_000;
        let tls = ServerTlsOptions::from_rustls_0_23_config(Arc::new(complete));
        let (server, mut stream) = accepted(tls, PROMPT);
        let serving = serve_one(server);
        assert!(speak(&mut client_of(&config), &mut stream), "the client sends early data");
        assert_eq!(serving.join(), (b"y".to_vec(), 1));
    });
}

#[test]
fn a_flood_of_key_updates_ends_the_connection() {
    with_watchdog(|| {
        let (server, mut stream) = accepted(server_tls(), PROMPT);
        let serving = spawn_call({
            let server = server.clone();
            move || std::io::copy(&mut (&server), &mut std::io::sink())
        });
        let mut connection = client(TlsVersion::Tls13);
        connection.complete_io(&mut stream).expect("the server is good");
        let mut sent = 0;
        let refused = loop {
            if sent == 5_000 {
                break false;
            }
            connection.refresh_traffic_keys().expect("this is TLS 1.3");
            sent += 1;
            if connection.write_tls(&mut stream).is_err() {
                break true;
            }
        };
        assert!(sent > 16, "ordinary updates are accepted: {sent}");
        if !refused {
            eventually(PROMPT, "the flood ends the connection", || {
                server.closed_timeout(Duration::ZERO).is_err()
            });
        }
        serving.join().expect_err("the client misbehaved");
        let error = server.closed().expect_err("the client misbehaved");
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    });
}
