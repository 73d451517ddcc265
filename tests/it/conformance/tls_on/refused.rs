//! Where there is no connection: certificates that are refused, and servers that are none.

use sockeye::Error;

use super::*;

// -------------------------------------------------------------------- certificates that are refused

/// Nobody trusts who signed the certificate.
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

/// The host is an address, and the certificate is for names.
#[test]
fn ip_no_san() {
    refuses_certificate("127.0.0.1", good);
}

/// The host is an address, and the certificate has it as a name.
#[test]
fn ip_dns_san() {
    refuses_certificate("127.0.0.1", certificates::iptext);
}

/// The host has an underscore, and the certificate is for another one.
#[test]
fn underscore() {
    refuses_certificate("under_score.test", good);
}

// -------------------------------------------------------------------- servers that are none

/// The server speaks TLS 1.1 at most: it says so, or goes on with that version.
#[test]
fn tls11() {
    // A ServerHello: version, random, no session, a suite, no compression.
    let mut hello = vec![22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0xc0, 0x13, 0]);
    for answer in [hello, vec![21, 3, 2, 0, 2, 2, 70]] {
        story(move || {
            let peer = TlsPeer::plays(&good(), move |peer| {
                peer.hear_hello();
                peer.raw(&answer);
            });
            rustls_error(&refuses(peer, &[ErrorKind::Tls]));
        });
    }
}

/// The server begins in plaintext.
#[test]
fn not_tls_peer() {
    story(|| {
        let peer = TlsPeer::plays(&good(), |peer| peer.raw(b"220 plaintext banner\r\n"));
        rustls_error(&refuses(peer, &[ErrorKind::Tls]));
    });
}

/// The server answers the ClientHello in plaintext.
#[test]
fn not_tls_peer_after() {
    story(|| {
        let peer = TlsPeer::plays(&good(), |peer| {
            peer.hear_hello();
            peer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            peer.fin();
        });
        rustls_error(&refuses(peer, &[ErrorKind::Tls]));
    });
}

/// The server never answers the ClientHello: the limit passes, or the program closes.
#[test]
fn silent_peer() {
    story(|| {
        let (peer, _) = silent();
        let begun = Instant::now();
        let socket = dial("good.test", &peer, on().connect_timeout(ms(500)));
        let (reading, mut writer) = (reads(&socket), socket.writer());
        let writing = blocked(move || writer.write(b"x"));
        let error = never_opened(&socket, ErrorKind::TimedOut);
        let took = begun.elapsed();
        assert!(took >= ms(500) && took < ms(1500), "took {took:?}: {error}");
        for error in [reading.join_within(AT_ONCE).err(), writing.join_within(AT_ONCE).err()] {
            let error = error.expect("there is no connection");
            assert_eq!(kind_of(&error), ErrorKind::TimedOut);
            let inner = Error::from_io(&error).expect("kind_of found it");
            assert!(!inner.is_retryable(), "it was the attempt's own limit");
        }
        peer.ending();

        within_100_ms(|| {
            let (peer, asked) = silent();
            let socket = dial("good.test", &peer, on());
            let (reading, mut writer, opening) = (reads(&socket), socket.writer(), socket.clone());
            let writing = blocked(move || writer.write(b"x"));
            let opening = blocked(move || opening.opened());
            asked.recv_timeout(PATIENCE).expect("a handshake begins");
            assert_eq!(socket.phase(), Phase::Connecting);
            let (closed, took) = timed(|| socket.close());
            closed.expect("there is nothing to hand over");
            fails(reading.join_within(AT_ONCE), ErrorKind::Closed);
            fails(writing.join_within(AT_ONCE), ErrorKind::Closed);
            fails(opening.join_within(AT_ONCE), ErrorKind::Closed);
            fails(socket.opened(), ErrorKind::Closed);
            socket.closed().expect("it was closed");
            assert_eq!(socket.phase(), Phase::Closed);
            peer.ending();
            took
        });
    });
}

/// The same, and nobody waits for the handshake that the program closes.
#[test]
fn close_silent_peer() {
    story(|| {
        within_100_ms(|| {
            let (peer, asked) = silent();
            let socket = dial("good.test", &peer, on());
            asked.recv_timeout(PATIENCE).expect("a handshake begins");
            let (closed, took) = timed(|| socket.close());
            closed.expect("there is nothing to hand over");
            fails(socket.opened(), ErrorKind::Closed);
            socket.closed_timeout(AT_ONCE).expect("it was closed");
            peer.ending();
            took
        });
    });
}

/// The server closes before any byte.
#[test]
fn fin_at_once() {
    story(|| {
        let peer = TlsPeer::plays(&good(), Accepted::close);
        // The ClientHello that comes after the close is answered by a reset, which may be seen first.
        refuses(peer, &[ErrorKind::Tls, ErrorKind::Reset]);
    });
}

/// The server resets the connection when it has the ClientHello.
#[test]
fn rst_mid_handshake() {
    story(|| {
        let peer = TlsPeer::plays(&good(), |peer| {
            peer.hear_hello();
            peer.reset();
        });
        refuses(peer, &[ErrorKind::Reset, ErrorKind::Tls]);
    });
}

/// Nothing listens there.
#[test]
fn refused() {
    story(|| {
        let nothing = nothing_listens();
        let address = format!("good.test:{}", nothing.address.port());
        let socket = connector().connect_with(address, on()).expect("they are fine");
        fails_with(&socket, &[ErrorKind::Connect]);
    });
}

/// There is no such name.
#[test]
fn nxdomain() {
    story(|| {
        let nobody = |_: &str| Err(io::ErrorKind::NotFound.into());
        let connector = Connector::builder().resolver(nobody).build().expect("it is fine");
        let socket = connector.connect_with("nosuch.test:4321", on()).expect("they are fine");
        fails_with(&socket, &[ErrorKind::Resolve]);
    });
}

// -------------------------------------------------------------------- failures

/// Nothing but an alert leaves for the owner of such a certificate, though a write waits.
#[track_caller]
fn refuses_certificate(host: &'static str, terms: fn() -> Terms) {
    story(move || {
        let peer = TlsPeer::plays(&terms(), |peer| {
            peer.await_cue();
            is_refused(peer);
        });
        let socket = dial(host, &peer, on());
        let reading = reads(&socket);
        let mut writer = socket.writer();
        let writing = blocked(move || writer.write(b"secret"));
        peer.cue();
        rustls_error(&never_opened(&socket, ErrorKind::Tls));
        fails(reading.join_within(AT_ONCE), ErrorKind::Tls);
        fails(writing.join_within(AT_ONCE), ErrorKind::Tls);
        let stats = socket.stats();
        assert_eq!((stats.bytes_read, stats.bytes_written), (0, 0));
        let ending = peer.ending();
        assert_eq!(ending.bytes, b"");
        assert!(!contains(&ending.wire, b"secret"), "it left in the clear");
    });
}

/// A peer at `good.test` that is no good, for one of these causes: nothing that was to be written has left.
#[track_caller]
fn refuses(peer: TlsPeer, causes: &[ErrorKind]) -> Error {
    let socket = dial("good.test", &peer, on());
    let error = fails_with(&socket, causes);
    assert!(!contains(&peer.ending().wire, b"secret"), "it left in the clear");
    error
}

/// A read and a write that were called before get the cause that `opened` and `closed` give.
#[track_caller]
fn fails_with(socket: &Socket, causes: &[ErrorKind]) -> Error {
    let (reader, mut writer) = (socket.reader(), socket.writer());
    let reading = call(move || read(reader, 10));
    let writing = call(move || writer.write(b"secret"));
    let cause = socket.opened().expect_err("there is no connection").kind();
    assert!(causes.contains(&cause), "{cause:?}");
    let error = never_opened(socket, cause);
    fails(reading.join_within(AT_ONCE), cause);
    fails(writing.join_within(AT_ONCE), cause);
    let stats = socket.stats();
    assert_eq!((stats.bytes_read, stats.bytes_written), (0, 0));
    error
}
