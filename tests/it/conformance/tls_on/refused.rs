//! Connections that never open: rejected certificates, and peers that are not TLS servers.

use sockeye::Error;

use super::*;

// -------------------------------------------------------------------- rejected certificates

/// The certificate is signed by an untrusted authority.
#[test]
fn unknown_ca() {
    refuses_certificate("good.test", certificates::unknownca);
}

/// The certificate is for another name.
#[test]
fn wrong_host() {
    refuses_certificate("good.test", certificates::wronghost);
}

/// The certificate has expired.
#[test]
fn expired() {
    refuses_certificate("good.test", certificates::expired);
}

/// The host is an address, and the certificate contains only names.
#[test]
fn ip_no_san() {
    refuses_certificate("127.0.0.1", valid_cert);
}

/// The host is an address, and the certificate contains it as a name.
#[test]
fn ip_dns_san() {
    refuses_certificate("127.0.0.1", certificates::iptext);
}

/// The host has an underscore, and the certificate is for another one.
#[test]
fn underscore() {
    refuses_certificate("under_score.test", valid_cert);
}

// -------------------------------------------------------------------- peers that are not TLS servers

/// The server supports TLS 1.1 at most: it sends an alert, or continues with that version.
#[test]
fn tls11() {
    // A ServerHello: version, random, no session, a suite, no compression.
    let mut hello = vec![22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0xc0, 0x13, 0]);
    for answer in [hello, vec![21, 3, 2, 0, 2, 2, 70]] {
        with_watchdog(move || {
            let peer = TlsPeer::scripted(&valid_cert(), move |peer| {
                peer.expect_client_hello();
                peer.raw(&answer);
            });
            rustls_error(&refuses(peer, &[ErrorKind::Tls]));
        });
    }
}

/// The server begins in plaintext.
#[test]
fn not_tls_peer() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&valid_cert(), |peer| peer.raw(b"220 plaintext banner\r\n"));
        rustls_error(&refuses(peer, &[ErrorKind::Tls]));
    });
}

/// The server answers the ClientHello in plaintext.
#[test]
fn not_tls_peer_after() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&valid_cert(), |peer| {
            peer.expect_client_hello();
            peer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            peer.fin();
        });
        rustls_error(&refuses(peer, &[ErrorKind::Tls]));
    });
}

/// The server never answers the ClientHello: the timeout passes, or the program closes.
#[test]
fn silent_peer() {
    with_watchdog(|| {
        let (peer, _) = silent();
        let begun = Instant::now();
        let socket = dial("good.test", &peer, on().connect_timeout(ms(500)));
        let (reading, mut writer) = (reads(&socket), socket.writer());
        let writing = spawn_blocked(move || writer.write(b"x"));
        let error = assert_never_opened(&socket, ErrorKind::TimedOut);
        let took = begun.elapsed();
        assert!(took >= ms(500) && took < ms(1500), "took {took:?}: {error}");
        for error in [reading.join_within(PROMPT).err(), writing.join_within(PROMPT).err()] {
            let error = error.expect("the connection never opens");
            assert_eq!(crate_kind(&error), ErrorKind::TimedOut);
            let inner = Error::from_io(&error).expect("kind_of found it");
            assert!(!inner.is_retryable(), "it was the attempt's own limit");
        }
        peer.finish();

        within_100_ms(|| {
            let (peer, asked) = silent();
            let socket = dial("good.test", &peer, on());
            let (reading, mut writer, opening) = (reads(&socket), socket.writer(), socket.clone());
            let writing = spawn_blocked(move || writer.write(b"x"));
            let opening = spawn_blocked(move || opening.opened());
            asked.recv_timeout(WATCHDOG).expect("a handshake begins");
            assert_eq!(socket.phase(), Phase::Connecting);
            let (closed, took) = timed(|| socket.close());
            closed.expect("there is nothing to hand over");
            assert_fails(reading.join_within(PROMPT), ErrorKind::Closed);
            assert_fails(writing.join_within(PROMPT), ErrorKind::Closed);
            assert_fails(opening.join_within(PROMPT), ErrorKind::Closed);
            assert_fails(socket.opened(), ErrorKind::Closed);
            socket.closed().expect("it was closed");
            assert_eq!(socket.phase(), Phase::Closed);
            peer.finish();
            took
        });
    });
}

/// The same, and no call waits for the handshake when the program closes.
#[test]
fn close_silent_peer() {
    with_watchdog(|| {
        within_100_ms(|| {
            let (peer, asked) = silent();
            let socket = dial("good.test", &peer, on());
            asked.recv_timeout(WATCHDOG).expect("a handshake begins");
            let (closed, took) = timed(|| socket.close());
            closed.expect("there is nothing to hand over");
            assert_fails(socket.opened(), ErrorKind::Closed);
            socket.closed_timeout(PROMPT).expect("it was closed");
            peer.finish();
            took
        });
    });
}

/// The server closes before it sends a byte.
#[test]
fn fin_at_once() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&valid_cert(), Accepted::close);
        // The closed server may answer the ClientHello with a reset, which the socket may see first.
        refuses(peer, &[ErrorKind::Tls, ErrorKind::Reset]);
    });
}

/// The server resets the connection after it has received the ClientHello.
#[test]
fn rst_mid_handshake() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&valid_cert(), |peer| {
            peer.expect_client_hello();
            peer.reset();
        });
        refuses(peer, &[ErrorKind::Reset, ErrorKind::Tls]);
    });
}

/// Nothing listens at the address.
#[test]
fn refused() {
    with_watchdog(|| {
        let nothing = closed_port();
        let address = format!("good.test:{}", nothing.address.port());
        let socket = connector().connect_with(address, on()).expect("they are valid");
        fails_with(&socket, &[ErrorKind::Connect]);
    });
}

/// The name does not exist.
#[test]
fn nxdomain() {
    with_watchdog(|| {
        let unknown = |_: &str| Err(io::ErrorKind::NotFound.into());
        let connector = Connector::builder().resolver(unknown).build().expect("it is valid");
        let socket = connector.connect_with("nosuch.test:4321", on()).expect("they are valid");
        fails_with(&socket, &[ErrorKind::Resolve]);
    });
}

// -------------------------------------------------------------------- failures

/// Checks that only an alert is sent to a server with such a certificate, although a write is blocked.
#[track_caller]
fn refuses_certificate(host: &'static str, setup: fn() -> ServerSetup) {
    with_watchdog(move || {
        let peer = TlsPeer::scripted(&setup(), |peer| {
            peer.wait_signal();
            is_refused(peer);
        });
        let socket = dial(host, &peer, on());
        let reading = reads(&socket);
        let mut writer = socket.writer();
        let writing = spawn_blocked(move || writer.write(b"secret"));
        peer.signal();
        rustls_error(&assert_never_opened(&socket, ErrorKind::Tls));
        assert_fails(reading.join_within(PROMPT), ErrorKind::Tls);
        assert_fails(writing.join_within(PROMPT), ErrorKind::Tls);
        let stats = socket.stats();
        assert_eq!((stats.bytes_read, stats.bytes_written), (0, 0));
        let ending = peer.finish();
        assert_eq!(ending.bytes, b"");
        assert!(!contains(&ending.wire, b"secret"), "the data was sent in plaintext");
    });
}

/// Checks that opening to this peer as `good.test` fails with one of these kinds, and that no written data was sent.
#[track_caller]
fn refuses(peer: TlsPeer, causes: &[ErrorKind]) -> Error {
    let socket = dial("good.test", &peer, on());
    let error = fails_with(&socket, causes);
    assert!(!contains(&peer.finish().wire, b"secret"), "the data was sent in plaintext");
    error
}

/// Checks that an earlier read and write report the same error as `opened` and `closed`.
#[track_caller]
fn fails_with(socket: &Socket, causes: &[ErrorKind]) -> Error {
    let (reader, mut writer) = (socket.reader(), socket.writer());
    let reading = spawn_call(move || read(reader, 10));
    let writing = spawn_call(move || writer.write(b"secret"));
    let cause = socket.opened().expect_err("the connection never opens").kind();
    assert!(causes.contains(&cause), "{cause:?}");
    let error = assert_never_opened(socket, cause);
    assert_fails(reading.join_within(PROMPT), cause);
    assert_fails(writing.join_within(PROMPT), cause);
    let stats = socket.stats();
    assert_eq!((stats.bytes_read, stats.bytes_written), (0, 0));
    error
}
