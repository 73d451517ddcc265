//! Sockets that are secure from the start, in short stories: one for each thing that a peer may do.

use std::io::Write;
use std::net::Ipv6Addr;

use sockeye::{
    ErrorKind, Phase, SecureTransport, Socket, SocketAddress, SocketOptions, TlsVersion,
};

use crate::support::peer::{listen_on, nothing_listens};
use crate::support::tls::{
    Accepted, Authority, Draft, Terms, TlsPeer, authority, connect, connector, contains, dial,
    good, never_opened, open, options, rustls_error, terms, trusting_names, with,
};
use crate::support::{
    AT_ONCE, Peer, blocked, call, fails, ms, read, read_exactly, read_to_end, skip, story,
};

/// Expects a certificate for the host that is dialled.
fn named() -> SocketOptions {
    with(SecureTransport::On, trusting_names(authority()))
}

fn secure() -> SocketOptions {
    options(authority())
}

fn issued(draft: &Draft) -> Terms {
    Terms::new(authority().issues(draft))
}

fn answers(peer: &mut Accepted) {
    assert_eq!(peer.receive(2), b"hi");
    peer.send(b"yo");
}

/// The other side of [`answers`].
#[track_caller]
fn greets(mut socket: &Socket) {
    socket.write_all(b"hi").expect("the peer reads");
    assert_eq!(read_exactly(socket, 2).expect("the peer answers"), b"yo");
}

/// A greeting to a host with this certificate, under this name: the SNI that the peer saw.
#[track_caller]
fn greeting(host: &str, terms: &Terms) -> Option<String> {
    let peer = TlsPeer::secured(terms, answers);
    let socket = dial(host, &peer, named());
    socket.opened().expect("the certificate is good");
    greets(&socket);
    socket.close().expect("the peer reads");
    peer.gets(b"hi").session().server_name().map(str::to_owned)
}

// -------------------------------------------------------------------- good handshakes

#[test]
fn good_12() {
    story(|| {
        let peer = TlsPeer::secured(&terms().only(TlsVersion::Tls12), answers);
        let socket = open(&peer, secure());
        let info = socket.opened().expect("it is open");
        assert_eq!(info.tls().expect("it is secure").version(), TlsVersion::Tls12);
        greets(&socket);
    });
}

#[test]
fn opened_timing() {
    story(|| {
        let peer = TlsPeer::plays(&terms(), |peer| {
            peer.wait(ms(400));
            peer.handshake();
            answers(peer);
        });
        let socket = connect(&peer, secure());
        fails(socket.opened_timeout(ms(100)), ErrorKind::TimedOut);
        let timings = socket.opened().expect("the peer is slow, and good").timings();
        assert!(timings.handshake >= ms(300), "{timings:?}");
        assert!(timings.connect < ms(300), "{timings:?}");
        greets(&socket);
    });
}

#[test]
fn object_address() {
    story(|| {
        let peer = TlsPeer::secured(&terms(), answers);
        let address = SocketAddress::new("good.test", peer.address().port()).expect("it is one");
        let socket = connector().connect_with(address, named()).expect("the options are fine");
        socket.opened().expect("the certificate is good");
        greets(&socket);
        socket.close().expect("the peer reads");
        assert_eq!(peer.gets(b"hi").session().server_name(), Some("good.test"));
    });
}

#[test]
fn trailing_dot() {
    story(|| assert_eq!(greeting("good.test.", &terms()).as_deref(), Some("good.test")));
}

#[test]
fn wildcard() {
    story(|| {
        let terms = issued(&Draft::new(&["*.wild.test"]));
        assert_eq!(greeting("a.wild.test", &terms).as_deref(), Some("a.wild.test"));
    });
}

#[test]
fn localhost() {
    story(|| {
        let peer = TlsPeer::secured(&terms(), answers);
        let socket = sockeye::connect_with(("localhost", peer.address().port()), named())
            .expect("the address and the options are fine");
        socket.opened().expect("the certificate is good");
        greets(&socket);
    });
}

#[test]
fn ip_san() {
    story(|| {
        let peer = TlsPeer::secured(&issued(&Draft::new(&["127.0.0.1", "::1"])), answers);
        let socket = open(&peer, named());
        greets(&socket);
        socket.close().expect("the peer reads");
        assert_eq!(peer.gets(b"hi").session().server_name(), None);
    });
}

#[test]
fn ip6_san() {
    if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return skip("tls-on.ip6-san", "there is no IPv6 here");
    }
    story(|| {
        let listener = listen_on((Ipv6Addr::LOCALHOST, 0).into(), 16, None);
        let terms = issued(&Draft::new(&["127.0.0.1", "::1"]));
        let peer = TlsPeer::on(listener, &terms, |peer| {
            peer.handshake();
            answers(peer);
        });
        let address = format!("[::1]:{}", peer.address().port());
        let socket = sockeye::connect_with(address, named()).expect("the address is fine");
        socket.opened().expect("the certificate is good");
        greets(&socket);
        socket.close().expect("the peer reads");
        assert_eq!(peer.gets(b"hi").session().server_name(), None);
    });
}

#[test]
fn alpn_offered() {
    story(|| {
        let peer = TlsPeer::reads(&terms().alpn(&["h2", "http/1.1"]));
        let socket = open(&peer, secure());
        assert_eq!(socket.opened().expect("it is open").alpn(), None);
        socket.close().expect("the peer reads");
        assert_eq!(peer.gets(b"").session().alpn_protocol(), None);
    });
}

#[test]
fn write_before_opened() {
    story(|| {
        let peer = TlsPeer::plays(&terms(), |peer| {
            peer.await_cue();
            peer.handshake();
            assert_eq!(peer.receive(5), b"early");
            peer.send(b"ok");
        });
        let socket = connect(&peer, secure());
        let mut writer = socket.writer();
        let writing = blocked(move || writer.write_all(b"early"));
        peer.cue();
        writing.join().expect("the handshake is good");
        socket.opened().expect("the handshake is good");
        assert_eq!(read_exactly(&socket, 2).expect("the peer answers"), b"ok");
        socket.close().expect("the peer reads");
        assert!(!contains(&peer.gets(b"early").wire, b"early"), "it left in the clear");
    });
}

#[test]
fn starttls() {
    story(|| {
        let peer = TlsPeer::secured(&terms(), answers);
        let socket = open(&peer, secure());
        fails(socket.start_tls(), ErrorKind::InvalidState);
        assert!(!socket.upgraded());
        assert_eq!(socket.phase(), Phase::Open);
        greets(&socket);
    });
}

// -------------------------------------------------------------------- handshakes that fail

/// Reads and writes are under way when the handshake fails, and nothing that was to be written leaves.
#[track_caller]
fn refuses(peer: TlsPeer, socket: &Socket) {
    let (reader, mut writer) = (socket.reader(), socket.writer());
    let reading = call(move || read(reader, 10));
    let writing = call(move || writer.write(b"secret"));
    let error = never_opened(socket, ErrorKind::Tls);
    rustls_error(&error);
    fails(reading.join_within(AT_ONCE), ErrorKind::Tls);
    fails(writing.join_within(AT_ONCE), ErrorKind::Tls);
    assert_eq!(socket.phase(), Phase::Closed);
    assert_eq!((socket.stats().bytes_read, socket.stats().bytes_written), (0, 0));
    let ending = peer.ending();
    for left in [&ending.bytes, &ending.wire] {
        assert!(!contains(left, b"secret"), "it left");
    }
}

/// [`refuses`] for a certificate, with an alert for its owner.
#[track_caller]
fn refuses_certificate(host: &str, terms: &Terms) {
    let peer = TlsPeer::plays(terms, |peer| {
        let error = peer.try_handshake().expect_err("the other end refuses the certificate");
        let told = error.get_ref().and_then(|inner| inner.downcast_ref());
        assert!(matches!(told, Some(rustls::Error::AlertReceived(_))), "{error:?}");
    });
    let socket = dial(host, &peer, named());
    refuses(peer, &socket);
}

#[test]
fn unknown_ca() {
    story(|| {
        let stranger = Authority::new();
        refuses_certificate("good.test", &Terms::new(stranger.issues(&good())));
    });
}

#[test]
fn wrong_host() {
    story(|| refuses_certificate("good.test", &issued(&Draft::new(&["other.test"]))));
}

#[test]
fn expired() {
    story(|| refuses_certificate("good.test", &issued(&good().valid(2000, 2001))));
}

#[test]
fn ip_no_san() {
    story(|| refuses_certificate("127.0.0.1", &terms()));
}

#[test]
fn ip_dns_san() {
    story(|| refuses_certificate("127.0.0.1", &issued(&Draft::dns_name("127.0.0.1"))));
}

#[test]
fn underscore() {
    story(|| refuses_certificate("under_score.test", &terms()));
}

#[test]
fn tls11() {
    story(|| {
        let peer = TlsPeer::plays(&terms(), |peer| {
            peer.hear_hello();
            // A ServerHello of TLS 1.1: version, random, no session, a suite, no compression.
            let mut hello = vec![22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
            hello.extend([7; 32]);
            hello.extend([0, 0xc0, 0x13, 0]);
            peer.raw(&hello);
        });
        let socket = connect(&peer, secure());
        refuses(peer, &socket);
    });
}

#[test]
fn not_tls_peer() {
    story(|| {
        let peer = TlsPeer::plays(&terms(), |peer| peer.raw(b"220 plaintext banner\r\n"));
        let socket = connect(&peer, secure());
        refuses(peer, &socket);
    });
}

#[test]
fn not_tls_peer_after() {
    story(|| {
        let peer = TlsPeer::plays(&terms(), |peer| {
            peer.hear_hello();
            peer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            peer.fin();
        });
        let socket = connect(&peer, secure());
        refuses(peer, &socket);
    });
}

#[test]
fn fin_at_once() {
    story(|| {
        let peer = Peer::plays(|wire| wire.close());
        let socket = sockeye::connect_with(peer.address(), secure()).expect("the options are fine");
        // The ClientHello that comes after the close is answered by a reset, which may be seen first.
        let cause = socket.opened().expect_err("there is no handshake").kind();
        assert!(matches!(cause, ErrorKind::Tls | ErrorKind::Reset), "{cause:?}");
        never_opened(&socket, cause);
    });
}

#[test]
fn rst_mid_handshake() {
    story(|| {
        let peer = TlsPeer::plays(&terms(), |peer| {
            peer.hear_hello();
            peer.reset();
        });
        let socket = connect(&peer, secure());
        let cause = socket.opened().expect_err("there is no handshake").kind();
        assert!(matches!(cause, ErrorKind::Tls | ErrorKind::Reset), "{cause:?}");
        never_opened(&socket, cause);
    });
}

#[test]
fn refused() {
    story(|| {
        let nothing = nothing_listens();
        let socket =
            sockeye::connect_with(nothing.address, secure()).expect("the options are fine");
        never_opened(&socket, ErrorKind::Connect);
    });
}

// -------------------------------------------------------------------- ends

#[test]
fn close_notify_no_fin() {
    story(|| {
        let peer = TlsPeer::secured(&terms(), |peer| {
            peer.send(b"data");
            peer.close_notify();
        });
        let socket = open(&peer, secure());
        let mut writer = socket.writer();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"data");
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        fails(writer.write(b"x"), ErrorKind::Closed);
        peer.gets(b"");
    });
}

#[test]
fn close_notify_halfopen() {
    story(|| {
        let peer = TlsPeer::secured(&terms(), |peer| {
            peer.send(b"data");
            peer.close_notify();
            assert_eq!(peer.receive(4), b"more");
        });
        let socket = open(&peer, secure().allow_half_open(true));
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"data");
        fails(socket.closed_timeout(ms(400)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::HalfClosed);
        (&socket).write_all(b"more").expect("the peer reads");
        socket.writer().close().expect("the peer reads");
        socket.closed_timeout(AT_ONCE).expect("both directions ended");
        peer.gets(b"more");
    });
}

#[test]
fn truncation() {
    story(|| {
        let peer = TlsPeer::secured(&terms(), |peer| {
            peer.send(b"data");
            peer.fin();
        });
        let socket = open(&peer, secure());
        let mut writer = socket.writer();
        assert_eq!(read(&socket, 10).expect("it came before the end"), b"data");
        fails(read(&socket, 10), ErrorKind::Truncated);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Truncated);
        fails(writer.write(b"x"), ErrorKind::Truncated);
        socket.close().expect("it ended before");
        fails(socket.closed(), ErrorKind::Truncated);
    });
}

#[test]
fn truncation_delayed() {
    story(|| {
        let peer = TlsPeer::secured(&terms(), |peer| {
            peer.send(b"data");
            peer.await_cue();
            peer.fin();
        });
        let socket = open(&peer, secure());
        assert_eq!(read(&socket, 10).expect("the peer sends"), b"data");
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 10));
        peer.cue();
        fails(reading.join_within(AT_ONCE), ErrorKind::Truncated);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Truncated);
    });
}

#[test]
fn truncation_no_read() {
    story(|| {
        let peer = TlsPeer::secured(&terms(), |peer| {
            peer.send(b"data");
            peer.fin();
        });
        let socket = open(&peer, secure());
        fails(socket.closed_timeout(ms(300)), ErrorKind::TimedOut);
        assert_eq!(read(&socket, 10).expect("it waits"), b"data");
        fails(read(&socket, 10), ErrorKind::Truncated);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Truncated);
    });
}

#[test]
fn rst() {
    story(|| {
        let peer = TlsPeer::secured(&terms(), |peer| {
            peer.await_cue();
            peer.reset();
        });
        let socket = open(&peer, secure());
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 10));
        peer.cue();
        fails(reading.join_within(AT_ONCE), ErrorKind::Reset);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
        fails((&socket).write(b"x"), ErrorKind::Reset);
    });
}

#[test]
fn close() {
    story(|| {
        let peer = TlsPeer::reads(&terms());
        let socket = open(&peer, secure());
        socket.close().expect("nothing is in the way");
        peer.gets(b"");
    });
}

#[test]
fn close_queued() {
    story(|| {
        let peer = TlsPeer::reads(&terms());
        let socket = open(&peer, secure());
        let mut writer = socket.writer();
        assert_eq!(call(move || writer.write(b"queued")).join().expect("there is room"), 6);
        socket.close().expect("nothing is in the way");
        peer.gets(b"queued");
    });
}

#[test]
fn abort() {
    story(|| {
        let peer = TlsPeer::reads(&terms());
        let socket = open(&peer, secure());
        socket.writer().abort();
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Closed);
        fails(read(&socket, 10), ErrorKind::Closed);
        peer.sees_a_reset();
    });
}

#[test]
fn cancel() {
    story(|| {
        let peer = TlsPeer::secured(&terms(), |peer| {
            assert_eq!(peer.receive(1), b"w");
        });
        let socket = open(&peer, secure());
        socket.reader().cancel();
        assert_eq!(read(&socket, 10).expect("reading has ended"), b"");
        (&socket).write_all(b"w").expect("the peer reads");
        fails(socket.closed_timeout(ms(400)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::HalfClosed);
        drop(socket);
        peer.gets(b"w");
    });
}

#[test]
fn plaintext_after_handshake() {
    story(|| {
        let peer = TlsPeer::secured(&terms(), |peer| {
            peer.await_cue();
            peer.raw(b"not a TLS record, surely not");
        });
        let socket = open(&peer, secure());
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 10));
        peer.cue();
        fails(reading.join_within(AT_ONCE), ErrorKind::Tls);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Tls);
        fails((&socket).write(b"x"), ErrorKind::Tls);
        peer.ending();
    });
}
