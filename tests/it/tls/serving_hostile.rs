//! Hostile clients of a socket that is the TLS server.

use std::io::{ErrorKind as IoKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use sockeye::{Connector, ErrorKind, Socket, TlsVersion};

use super::serving::{server_tls, serving};
use crate::support::peer::listen;
use crate::support::tls::{authority, provider};
use crate::support::{
    PROMPT, WATCHDOG, assert_fails, eventually, ms, read_exactly, spawn_call, timed, with_limit,
    with_watchdog,
};

/// Returns an accepted socket that is the server, and the stream of its client.
fn accepted(tls: sockeye::ServerTlsOptions, limit: Duration) -> (Socket, TcpStream) {
    let listener = listen();
    let client = TcpStream::connect(listener.local_addr().expect("it is bound")).unwrap();
    client.set_nodelay(true).expect("it is connected");
    let (stream, _) = listener.accept().expect("the client has connected");
    let options = serving(tls).connect_timeout(limit);
    (Connector::global().adopt(stream, options).expect("the options are valid"), client)
}

fn client(version: TlsVersion) -> ClientConnection {
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
    let name = ServerName::try_from("localhost").expect("it is a name");
    ClientConnection::new(Arc::new(config), name).expect("the configuration is valid")
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
            let stalling: Vec<(Socket, TcpStream)> = (0..hello.len())
                .step_by(3)
                .map(|cut| {
                    let (server, mut stream) = accepted(server_tls(), ms(700));
                    stream.write_all(&hello[..cut]).expect("the server listens");
                    (server, stream)
                })
                .collect();
            // A good client beside them.
            let (server, stream) = accepted(server_tls(), WATCHDOG);
            let good = spawn_call(move || {
                let mut connection = client(version);
                let mut stream = stream;
                connection.complete_io(&mut stream).expect("the server is good");
            });
            let (opened, took) = timed(|| server.opened().map(drop));
            opened.expect("the client is good");
            good.join();
            assert!(took < PROMPT, "{took:?} beside {} that stall", stalling.len());
            for (server, _stream) in &stalling {
                assert_fails(server.opened().map(drop), ErrorKind::TimedOut);
            }
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

#[test]
fn early_data_is_never_read() {
    with_watchdog(|| {
        let mut config = None;
        for round in 0..3 {
            let (server, mut stream) = accepted(server_tls(), PROMPT);
            let mut connection = match config.take() {
                None => client(TlsVersion::Tls13),
                Some(connection) => connection,
            };
            assert!(connection.early_data().is_none(), "round {round}: no ticket allows it");
            let serving = spawn_call(move || {
                (&server).write_all(b"x").expect("the client reads");
                let rest = read_exactly(&server, 1).expect("the client writes");
                (rest, server.stats().bytes_read)
            });
            connection.complete_io(&mut stream).expect("the server is good");
            let mut secure = rustls::Stream::new(&mut connection, &mut stream);
            secure.read_exact(&mut [0]).expect("the server writes");
            secure.write_all(b"y").expect("the server reads");
            assert_eq!(serving.join(), (b"y".to_vec(), 1));
        }
    });
}

#[test]
fn renegotiation_is_refused_and_a_flood_of_key_updates_ends_the_connection() {
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
