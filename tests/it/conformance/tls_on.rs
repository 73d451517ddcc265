//! Scenarios of the group `tls-on`: sockets that are secure from the start.

mod refused;

use std::io::{self, Write};
use std::sync::mpsc;
use std::time::Instant;

use sockeye::{
    Connector, ErrorKind, Phase, SecureTransport, Socket, SocketAddress, SocketOptions, TlsVersion,
};

use super::certificates::{self, good};
use super::secured::{answers, greets, is_refused, listen_on_v6, looks_back, reads, silent};
use crate::support::peer::nothing_listens;
use crate::support::tls::{
    Accepted, Terms, TlsPeer, connector, contains, dial, never_opened, refuses_upgrades,
    rustls_error,
};
use crate::support::{
    AT_ONCE, PATIENCE, at_once, blocked, call, fails, kind_of, ms, read, read_exactly, read_to_end,
    skip, story, timed, within_100_ms,
};

// -------------------------------------------------------------------- successful handshakes

/// The server supports TLS 1.2 at most.
#[test]
fn good_12() {
    story(|| {
        let peer = TlsPeer::secured(&good().only(TlsVersion::Tls12), answers);
        let socket = opened("good.test", &peer);
        let info = socket.opened().expect("it is open");
        assert_eq!(info.tls().expect("it is secure").version(), TlsVersion::Tls12);
        greets(&socket);
    });
}

/// The server delays its side of the handshake.
#[test]
fn opened_timing() {
    story(|| {
        let (tell, told) = mpsc::channel();
        let peer = TlsPeer::plays(&good(), move |peer| {
            peer.begin();
            assert!(peer.take_in().expect("it is TLS"), "a ClientHello comes");
            peer.wait(ms(400));
            tell.send(Instant::now()).expect("the test waits for it");
            peer.line().flush().expect("the peer can send");
            peer.handshake();
            answers(peer);
        });
        let socket = dial("good.test", &peer, on());
        let timings = socket.opened().expect("the certificate is trusted").timings();
        let opened = Instant::now();
        let answered = told.try_recv().expect("the peer has answered");
        assert!(opened > answered);
        assert!(timings.handshake >= ms(300) && timings.connect < ms(300), "{timings:?}");
        greets(&socket);
    });
}

/// The address is an object.
#[test]
fn object_address() {
    story(|| {
        let peer = TlsPeer::secured(&good(), answers);
        let address =
            SocketAddress::new("good.test", peer.address().port()).expect("it is an address");
        let socket = connector().connect_with(address, on()).expect("the options are valid");
        socket.opened().expect("the certificate is trusted");
        greets(&socket);
        socket.close().expect("the peer reads");
        assert_eq!(peer.gets(b"hi").session().server_name(), Some("good.test"));
    });
}

/// The host has a trailing dot.
#[test]
fn trailing_dot() {
    story(|| assert_eq!(greeting("good.test.", &good()).as_deref(), Some("good.test")));
}

/// The certificate is for every name of a domain.
#[test]
fn wildcard() {
    story(|| {
        let name = greeting("a.wild.test", &certificates::wild());
        assert_eq!(name.as_deref(), Some("a.wild.test"));
    });
}

/// The host is an IPv6 address that is in the certificate.
#[test]
fn ip6_san() {
    let Some(listener) = listen_on_v6() else {
        return skip("tls-on.ip6-san", "this machine has no IPv6");
    };
    story(|| {
        let peer = TlsPeer::on(listener, &certificates::ip(), |peer| {
            peer.handshake();
            answers(peer);
        });
        let socket = opened("[::1]", &peer);
        greets(&socket);
        socket.close().expect("the peer reads");
        assert_eq!(peer.gets(b"hi").session().server_name(), None, "an address is not sent as SNI");
    });
}

/// The host is `localhost`, which the system resolves.
#[test]
fn localhost() {
    story(|| {
        let peer = TlsPeer::secured(&good(), answers);
        let address = format!("localhost:{}", peer.address().port());
        let socket = sockeye::connect_with(address, on()).expect("they are valid");
        socket.opened().expect("the certificate is trusted");
        greets(&socket);
    });
}

/// The server supports ALPN, but the client offers no protocol.
#[test]
fn alpn_offered() {
    story(|| {
        // The server would reject a client that offers only other protocols.
        let peer = TlsPeer::reads(&good().alpn(&["h2", "http/1.1"]));
        let socket = opened("good.test", &peer);
        assert_eq!(socket.opened().expect("it is open").alpn(), None);
        socket.close().expect("the peer reads");
        assert_eq!(peer.gets(b"").session().alpn_protocol(), None);
    });
}

/// A write begins before the handshake is complete.
#[test]
fn write_before_opened() {
    story(|| {
        let peer = TlsPeer::plays(&good(), |peer| {
            peer.await_cue();
            peer.handshake();
            assert_eq!(peer.receive(5), b"early");
            peer.send(b"ok");
        });
        let socket = dial("good.test", &peer, on());
        let mut writer = socket.writer();
        let writing = blocked(move || writer.write(b"early"));
        peer.cue();
        assert_eq!(writing.join().expect("the certificate is trusted"), 5);
        socket.opened().expect("the certificate is trusted");
        assert_eq!(read_exactly(&socket, 2).expect("the peer answers"), b"ok");
        socket.close().expect("the peer reads");
        assert!(!contains(&peer.gets(b"early").wire, b"early"), "the data was sent in plaintext");
    });
}

/// An upgrade is requested.
#[test]
fn starttls() {
    story(|| {
        let peer = TlsPeer::secured(&good(), answers);
        let socket = dial("good.test", &peer, on());
        refuses_upgrades(&socket, ErrorKind::InvalidState);
        socket.opened().expect("the certificate is trusted");
        refuses_upgrades(&socket, ErrorKind::InvalidState);
        assert_eq!(socket.phase(), Phase::Open);
        greets(&socket);
    });
}

// -------------------------------------------------------------------- the peer's end

/// The peer sends `close_notify` and leaves the stream open.
#[test]
fn close_notify_no_fin() {
    story(|| {
        let peer = TlsPeer::secured(&good(), |peer| {
            peer.send(b"data");
            peer.close_notify();
        });
        let socket = opened("good.test", &peer);
        let mut writer = socket.writer();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"data");
        assert_eq!(read(&socket, 10).expect("the end stays"), b"");
        // The peer reads up to this side's end, and sends nothing more before that.
        peer.gets(b"");
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        fails(writer.write(b"x"), ErrorKind::Closed);
    });
}

/// The same with `allow_half_open`: the program continues to write, then ends.
#[test]
fn close_notify_halfopen() {
    story(|| {
        let peer = TlsPeer::secured(&good(), |peer| {
            peer.send(b"data");
            peer.close_notify();
            assert_eq!(peer.receive(4), b"more");
        });
        let socket = dial("good.test", &peer, on().allow_half_open(true));
        socket.opened().expect("the certificate is trusted");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"data");
        fails(socket.closed_timeout(ms(400)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::HalfClosed);
        assert_eq!((&socket).write(b"more").expect("the peer reads"), 4);
        socket.writer().close().expect("the peer reads");
        peer.gets(b"more");
        socket.closed_timeout(AT_ONCE).expect("both directions ended");
    });
}

/// Data and FIN arrive without `close_notify`.
#[test]
fn truncation() {
    story(|| {
        let peer = TlsPeer::secured(&good(), |peer| {
            peer.send(b"data");
            peer.fin();
        });
        let socket = opened("good.test", &peer);
        let mut writer = socket.writer();
        assert_eq!(read(&socket, 10).expect("the data arrived before"), b"data");
        fails(read(&socket, 10), ErrorKind::Truncated);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Truncated);
        fails(writer.write(b"x"), ErrorKind::Truncated);
        socket.close().expect("it had ended");
        fails(socket.closed(), ErrorKind::Truncated);
    });
}

/// A read is blocked when FIN arrives without `close_notify`.
#[test]
fn truncation_delayed() {
    story(|| {
        let peer = TlsPeer::secured(&good(), |peer| {
            peer.send(b"data");
            peer.await_cue();
            peer.fin();
        });
        let socket = opened("good.test", &peer);
        assert_eq!(read(&socket, 10).expect("the peer sends"), b"data");
        let reading = reads(&socket);
        peer.cue();
        fails(reading.join_within(AT_ONCE), ErrorKind::Truncated);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Truncated);
        fails((&socket).write(b"x"), ErrorKind::Truncated);
    });
}

/// Data and FIN arrive without `close_notify`, and no call reads.
#[test]
fn truncation_no_read() {
    story(|| {
        let peer = TlsPeer::secured(&good(), |peer| {
            peer.send(b"data");
            peer.fin();
        });
        let socket = opened("good.test", &peer);
        fails(socket.closed_timeout(ms(300)), ErrorKind::TimedOut);
        assert_eq!(read(&socket, 10).expect("it waits"), b"data");
        fails(read(&socket, 10), ErrorKind::Truncated);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Truncated);
    });
}

/// A read is blocked when the peer resets the connection.
#[test]
fn rst() {
    story(|| {
        let peer = TlsPeer::secured(&good(), |peer| {
            peer.await_cue();
            peer.reset();
        });
        let socket = opened("good.test", &peer);
        let reading = reads(&socket);
        peer.cue();
        fails(reading.join_within(AT_ONCE), ErrorKind::Reset);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
        fails((&socket).write(b"x"), ErrorKind::Reset);
    });
}

/// Plaintext arrives between TLS records.
#[test]
fn plaintext_after_handshake() {
    story(|| {
        let peer = TlsPeer::secured(&good(), |peer| {
            peer.await_cue();
            peer.raw(b"not a TLS record, surely not");
        });
        let socket = opened("good.test", &peer);
        let reading = reads(&socket);
        peer.cue();
        fails(reading.join_within(AT_ONCE), ErrorKind::Tls);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Tls);
        fails((&socket).write(b"x"), ErrorKind::Tls);
    });
}

// -------------------------------------------------------------------- the end of this side

/// The program closes an idle socket with unread session tickets.
#[test]
fn close() {
    story(|| {
        let peer = TlsPeer::secured(&good().tickets(4), looks_back);
        let socket = opened("good.test", &peer);
        socket.close().expect("the close succeeds");
        peer.cue();
        peer.gets(b"");
    });
}

/// The program closes after a write in another thread.
#[test]
fn close_queued() {
    story(|| {
        let peer = TlsPeer::secured(&good(), looks_back);
        let socket = opened("good.test", &peer);
        let mut writer = socket.writer();
        assert_eq!(
            call(move || writer.write(b"queued")).join().expect("the send buffer has room"),
            6
        );
        socket.close().expect("the close succeeds");
        peer.cue();
        peer.gets(b"queued");
    });
}

/// The program aborts.
#[test]
fn abort() {
    story(|| {
        let (tell, told) = mpsc::channel();
        // Without session tickets nothing is unread that would turn a clean end into a reset.
        let peer = TlsPeer::secured(&good().tickets(0), move |_| {
            tell.send(()).expect("the test waits for it");
        });
        let socket = opened("good.test", &peer);
        // This side's last flight may not be sent yet, and an abort would drop it.
        told.recv_timeout(PATIENCE).expect("the peer's handshake ends");
        at_once(|| {
            socket.writer().abort();
            peer.sees_a_reset();
        });
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Closed);
        fails(read(&socket, 10), ErrorKind::Closed);
    });
}

/// The program cancels its reader.
#[test]
fn cancel() {
    story(|| {
        let peer = TlsPeer::reads(&good());
        let socket = opened("good.test", &peer);
        socket.reader().cancel();
        assert_eq!(read(&socket, 10).expect("reading has ended"), b"");
        assert_eq!((&socket).write(b"w").expect("the peer reads"), 1);
        fails(socket.closed_timeout(ms(400)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::HalfClosed);
        assert_eq!(read(&socket, 10).expect("the end stays"), b"");
        socket.close().expect("the peer reads");
        peer.gets(b"w");
    });
}

// -------------------------------------------------------------------- sockets

fn on() -> SocketOptions {
    certificates::options(SecureTransport::On)
}

/// Opens a socket to this host.
#[track_caller]
fn opened(host: &str, peer: &TlsPeer) -> Socket {
    let socket = dial(host, peer, on());
    socket.opened().expect("the certificate is trusted");
    socket
}

/// Exchanges data with this host, and returns the server name that the peer received.
#[track_caller]
fn greeting(host: &str, terms: &Terms) -> Option<String> {
    let peer = TlsPeer::secured(terms, answers);
    let socket = opened(host, &peer);
    greets(&socket);
    socket.close().expect("the peer reads");
    peer.gets(b"hi").session().server_name().map(str::to_owned)
}
