//! Scenarios of the group `tls-on`: sockets that are secure from the start.

mod refused;

use std::io::{self, Write};
use std::sync::mpsc;
use std::time::Instant;

use sockeye::{
    Connector, ErrorKind, Phase, SecureTransport, Socket, SocketAddress, SocketOptions, TlsVersion,
};

use super::certificates::{self, valid_cert};
use super::secured::{answers, greets, is_refused, listen_on_v6, looks_back, reads, silent};
use crate::support::peer::closed_port;
use crate::support::tls::{
    Accepted, ServerSetup, TlsPeer, assert_never_opened, assert_refuses_upgrades, connector,
    contains, dial, rustls_error,
};
use crate::support::{
    PROMPT, WATCHDOG, assert_fails, at_once, crate_kind, ms, read, read_exactly, read_to_end, skip,
    spawn_blocked, spawn_call, timed, with_watchdog, within_100_ms,
};

// -------------------------------------------------------------------- successful handshakes

/// The server supports TLS 1.2 at most.
#[test]
fn good_12() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert().only(TlsVersion::Tls12), answers);
        let socket = opened("good.test", &peer);
        let info = socket.opened().expect("it is open");
        assert_eq!(info.tls().expect("it is secure").version(), TlsVersion::Tls12);
        greets(&socket);
    });
}

/// The server delays its side of the handshake.
#[test]
fn opened_timing() {
    with_watchdog(|| {
        let (sender, receiver) = mpsc::channel();
        let peer = TlsPeer::scripted(&valid_cert(), move |peer| {
            peer.begin();
            assert!(peer.take_in().expect("it is TLS"), "a ClientHello comes");
            peer.wait(ms(400));
            sender.send(Instant::now()).expect("the test waits for it");
            peer.line().flush().expect("the peer can send");
            peer.handshake();
            answers(peer);
        });
        let socket = dial("good.test", &peer, on());
        let timings = socket.opened().expect("the certificate is trusted").timings();
        let opened = Instant::now();
        let answered = receiver.try_recv().expect("the peer has answered");
        assert!(opened > answered);
        assert!(timings.handshake >= ms(300) && timings.connect < ms(300), "{timings:?}");
        greets(&socket);
    });
}

/// The address is an object.
#[test]
fn object_address() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), answers);
        let address =
            SocketAddress::new("good.test", peer.address().port()).expect("it is an address");
        let socket = connector().connect_with(address, on()).expect("the options are valid");
        socket.opened().expect("the certificate is trusted");
        greets(&socket);
        socket.close().expect("the peer reads");
        assert_eq!(peer.assert_received(b"hi").session().server_name(), Some("good.test"));
    });
}

/// The host has a trailing dot.
#[test]
fn trailing_dot() {
    with_watchdog(|| {
        assert_eq!(greeting("good.test.", &valid_cert()).as_deref(), Some("good.test"))
    });
}

/// The certificate is for every name of a domain.
#[test]
fn wildcard() {
    with_watchdog(|| {
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
    with_watchdog(|| {
        let peer = TlsPeer::on(listener, &certificates::ip(), |peer| {
            peer.handshake();
            answers(peer);
        });
        let socket = opened("[::1]", &peer);
        greets(&socket);
        socket.close().expect("the peer reads");
        assert_eq!(
            peer.assert_received(b"hi").session().server_name(),
            None,
            "an address is not sent as SNI"
        );
    });
}

/// The host is `localhost`, which the system resolves.
#[test]
fn localhost() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), answers);
        let address = format!("localhost:{}", peer.address().port());
        let socket = sockeye::connect_with(address, on()).expect("they are valid");
        socket.opened().expect("the certificate is trusted");
        greets(&socket);
    });
}

/// The server supports ALPN, but the client offers no protocol.
#[test]
fn alpn_offered() {
    with_watchdog(|| {
        // The server would reject a client that offers only other protocols.
        let peer = TlsPeer::reading(&valid_cert().alpn(&["h2", "http/1.1"]));
        let socket = opened("good.test", &peer);
        assert_eq!(socket.opened().expect("it is open").alpn(), None);
        socket.close().expect("the peer reads");
        assert_eq!(peer.assert_received(b"").session().alpn_protocol(), None);
    });
}

/// A write begins before the handshake is complete.
#[test]
fn write_before_opened() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&valid_cert(), |peer| {
            peer.wait_signal();
            peer.handshake();
            assert_eq!(peer.receive(5), b"early");
            peer.send(b"ok");
        });
        let socket = dial("good.test", &peer, on());
        let mut writer = socket.writer();
        let writing = spawn_blocked(move || writer.write(b"early"));
        peer.signal();
        assert_eq!(writing.join().expect("the certificate is trusted"), 5);
        socket.opened().expect("the certificate is trusted");
        assert_eq!(read_exactly(&socket, 2).expect("the peer answers"), b"ok");
        socket.close().expect("the peer reads");
        assert!(
            !contains(&peer.assert_received(b"early").wire, b"early"),
            "the data was sent in plaintext"
        );
    });
}

/// An upgrade is requested.
#[test]
fn starttls() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), answers);
        let socket = dial("good.test", &peer, on());
        assert_refuses_upgrades(&socket, ErrorKind::InvalidState);
        socket.opened().expect("the certificate is trusted");
        assert_refuses_upgrades(&socket, ErrorKind::InvalidState);
        assert_eq!(socket.phase(), Phase::Open);
        greets(&socket);
    });
}

// -------------------------------------------------------------------- the peer's end

/// The peer sends `close_notify` and leaves the stream open.
#[test]
fn close_notify_no_fin() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), |peer| {
            peer.send(b"data");
            peer.close_notify();
        });
        let socket = opened("good.test", &peer);
        let mut writer = socket.writer();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"data");
        assert_eq!(read(&socket, 10).expect("the end stays"), b"");
        // The peer reads up to this side's end, and sends nothing more before that.
        peer.assert_received(b"");
        socket.closed_timeout(PROMPT).expect("a clean end");
        assert_fails(writer.write(b"x"), ErrorKind::Closed);
    });
}

/// The same with `allow_half_open`: the program continues to write, then ends.
#[test]
fn close_notify_halfopen() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), |peer| {
            peer.send(b"data");
            peer.close_notify();
            assert_eq!(peer.receive(4), b"more");
        });
        let socket = dial("good.test", &peer, on().allow_half_open(true));
        socket.opened().expect("the certificate is trusted");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"data");
        assert_fails(socket.closed_timeout(ms(400)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::HalfClosed);
        assert_eq!((&socket).write(b"more").expect("the peer reads"), 4);
        socket.writer().close().expect("the peer reads");
        peer.assert_received(b"more");
        socket.closed_timeout(PROMPT).expect("both directions ended");
    });
}

/// Data and FIN arrive without `close_notify`.
#[test]
fn truncation() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), |peer| {
            peer.send(b"data");
            peer.fin();
        });
        let socket = opened("good.test", &peer);
        let mut writer = socket.writer();
        assert_eq!(read(&socket, 10).expect("the data arrived before"), b"data");
        assert_fails(read(&socket, 10), ErrorKind::Truncated);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Truncated);
        assert_fails(writer.write(b"x"), ErrorKind::Truncated);
        socket.close().expect("it had ended");
        assert_fails(socket.closed(), ErrorKind::Truncated);
    });
}

/// A read is blocked when FIN arrives without `close_notify`.
#[test]
fn truncation_delayed() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), |peer| {
            peer.send(b"data");
            peer.wait_signal();
            peer.fin();
        });
        let socket = opened("good.test", &peer);
        assert_eq!(read(&socket, 10).expect("the peer sends"), b"data");
        let reading = reads(&socket);
        peer.signal();
        assert_fails(reading.join_within(PROMPT), ErrorKind::Truncated);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Truncated);
        assert_fails((&socket).write(b"x"), ErrorKind::Truncated);
    });
}

/// Data and FIN arrive without `close_notify`, and no call reads.
#[test]
fn truncation_no_read() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), |peer| {
            peer.send(b"data");
            peer.fin();
        });
        let socket = opened("good.test", &peer);
        assert_fails(socket.closed_timeout(ms(300)), ErrorKind::TimedOut);
        assert_eq!(read(&socket, 10).expect("it waits"), b"data");
        assert_fails(read(&socket, 10), ErrorKind::Truncated);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Truncated);
    });
}

/// A read is blocked when the peer resets the connection.
#[test]
fn rst() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), |peer| {
            peer.wait_signal();
            peer.reset();
        });
        let socket = opened("good.test", &peer);
        let reading = reads(&socket);
        peer.signal();
        assert_fails(reading.join_within(PROMPT), ErrorKind::Reset);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Reset);
        assert_fails((&socket).write(b"x"), ErrorKind::Reset);
    });
}

/// Plaintext arrives between TLS records.
#[test]
fn plaintext_after_handshake() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), |peer| {
            peer.wait_signal();
            peer.raw(b"not a TLS record, surely not");
        });
        let socket = opened("good.test", &peer);
        let reading = reads(&socket);
        peer.signal();
        assert_fails(reading.join_within(PROMPT), ErrorKind::Tls);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Tls);
        assert_fails((&socket).write(b"x"), ErrorKind::Tls);
    });
}

// -------------------------------------------------------------------- the end of this side

/// The program closes an idle socket with unread session tickets.
#[test]
fn close() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert().tickets(4), looks_back);
        let socket = opened("good.test", &peer);
        socket.close().expect("the close succeeds");
        peer.signal();
        peer.assert_received(b"");
    });
}

/// The program closes after a write in another thread.
#[test]
fn close_queued() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), looks_back);
        let socket = opened("good.test", &peer);
        let mut writer = socket.writer();
        assert_eq!(
            spawn_call(move || writer.write(b"queued")).join().expect("the send buffer has room"),
            6
        );
        socket.close().expect("the close succeeds");
        peer.signal();
        peer.assert_received(b"queued");
    });
}

/// The program aborts.
#[test]
fn abort() {
    with_watchdog(|| {
        let (sender, receiver) = mpsc::channel();
        // Without session tickets nothing is unread that would turn a clean end into a reset.
        let peer = TlsPeer::secured(&valid_cert().tickets(0), move |_| {
            sender.send(()).expect("the test waits for it");
        });
        let socket = opened("good.test", &peer);
        // This side's last flight may not be sent yet, and an abort would drop it.
        receiver.recv_timeout(WATCHDOG).expect("the peer's handshake ends");
        at_once(|| {
            socket.writer().abort();
            peer.assert_reset();
        });
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Closed);
        assert_fails(read(&socket, 10), ErrorKind::Closed);
    });
}

/// The program cancels its reader.
#[test]
fn cancel() {
    with_watchdog(|| {
        let peer = TlsPeer::reading(&valid_cert());
        let socket = opened("good.test", &peer);
        socket.reader().cancel();
        assert_eq!(read(&socket, 10).expect("reading has ended"), b"");
        assert_eq!((&socket).write(b"w").expect("the peer reads"), 1);
        assert_fails(socket.closed_timeout(ms(400)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::HalfClosed);
        assert_eq!(read(&socket, 10).expect("the end stays"), b"");
        socket.close().expect("the peer reads");
        peer.assert_received(b"w");
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
fn greeting(host: &str, setup: &ServerSetup) -> Option<String> {
    let peer = TlsPeer::secured(setup, answers);
    let socket = opened(host, &peer);
    greets(&socket);
    socket.close().expect("the peer reads");
    peer.assert_received(b"hi").session().server_name().map(str::to_owned)
}
