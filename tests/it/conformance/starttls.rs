//! Scenarios of the group `starttls`: the upgrade of a connection that begins in plaintext.

mod refused;

use std::io::{self, Write};
use std::sync::mpsc;

use sockeye::{ErrorKind, Phase, SecureTransport, Socket, SocketOptions, TcpOptions};

use super::certificates::{self, valid_cert};
use super::names::V4;
use super::secured::{answers, greets, is_refused, listen_on_v6, looks_back, reads, silent};
use crate::support::peer::{EndKind, listen_with_room};
use crate::support::tls::{
    ASK, Accepted, GO, ServerSetup, TlsPeer, VERSIONS, ask, assert_injection_refused,
    assert_never_opened, assert_refuses_upgrades, assert_upgrade_fails, assert_upgraded, contains,
    dial,
};
use crate::support::{
    PROMPT, SpawnedCall, WATCHDOG, assert_fails, at_once, fill_send_buffer, ms, read, read_exactly,
    read_to_end, resolver_on_signal, skip, spawn_blocked, spawn_call, timed, with_watchdog,
    within_100_ms,
};

// -------------------------------------------------------------------- the two sockets

/// Plaintext, the upgrade, TLS, and a close.
#[test]
fn normal() {
    with_watchdog(|| {
        let peer = agrees(&valid_cert(), |peer| {
            peer.handshake();
            answers(peer);
        });
        let old = opened("good.test", &peer);
        converses(&old);
        let new = old.start_tls().expect("the upgrade may start");
        assert!(old.upgraded());
        assert_eq!(
            (old.secure_transport(), old.phase()),
            (SecureTransport::StartTls, Phase::Closed)
        );
        new.opened().expect("the certificate is trusted");
        greets(&new);
        assert_upgraded(&old);
        assert!(!new.upgraded());
        assert_eq!((new.secure_transport(), new.phase()), (SecureTransport::On, Phase::Open));
        new.close().expect("the peer reads");
        new.closed_timeout(PROMPT).expect("it was closed");
        let ending = peer.assert_received(b"hi");
        assert_eq!(ending.clear(), ASK);
        assert_eq!(ending.session().server_name(), Some("good.test"));
    });
}

/// The upgrade is requested right after `connect`.
#[test]
fn never_used() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), answers);
        let old = dial("good.test", &peer, starttls());
        let new = old.start_tls().expect("the peer listens");
        new.opened().expect("the certificate is trusted");
        greets(&new);
        old.opened().expect("it was open");
        assert_upgraded(&old);
    });
}

/// No data was exchanged before the upgrade.
#[test]
fn after_opened_unused() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), answers);
        let (old, new) = upgraded("good.test", &peer);
        greets(&new);
        old.closed_timeout(PROMPT).expect("it was upgraded");
    });
}

/// The options do not allow an upgrade.
#[test]
fn absent() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&valid_cert(), |_| ());
        let socket = dial("good.test", &peer, SocketOptions::new());
        assert_refuses_upgrades(&socket, ErrorKind::InvalidState);
        socket.opened().expect("the peer listens");
        assert_refuses_upgrades(&socket, ErrorKind::InvalidState);
        socket.close().expect("the close succeeds");
        peer.assert_received_only(b"");
    });
}

/// A second upgrade is requested on the upgraded socket.
#[test]
fn on_new() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), answers);
        let old = opened("good.test", &peer);
        let new = old.start_tls().expect("the upgrade may start");
        assert_refuses_upgrades(&new, ErrorKind::InvalidState);
        new.opened().expect("the certificate is trusted");
        assert_refuses_upgrades(&new, ErrorKind::InvalidState);
        greets(&new);
        assert_refuses_upgrades(&new, ErrorKind::InvalidState);
        assert_upgraded(&old);
    });
}

/// The old socket is closed or aborted during the handshake, which changes nothing.
#[test]
fn old_close_during() {
    for close in [|old: &Socket| old.close().expect("it was upgraded"), Socket::abort] {
        with_watchdog(move || {
            let peer = TlsPeer::scripted(&valid_cert(), |peer| {
                peer.wait_signal();
                peer.handshake();
                answers(peer);
            });
            let old = opened("good.test", &peer);
            let new = old.start_tls().expect("the upgrade may start");
            let closer = old.clone();
            spawn_call(move || close(&closer)).join_within(PROMPT);
            assert_eq!(new.phase(), Phase::Upgrading);
            peer.signal();
            new.opened().expect("the certificate is trusted");
            at_once(|| close(&old));
            greets(&new);
            assert_upgraded(&old);
            new.close().expect("the peer reads");
            peer.assert_received(b"hi");
        });
    }
}

/// Reader and writer of the old socket are created before or after the upgrade.
#[test]
fn old_streams_after() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), answers);
        let old = opened("good.test", &peer);
        let before = (old.reader(), old.writer());
        let new = old.start_tls().expect("the upgrade may start");
        new.opened().expect("the certificate is trusted");
        for (reader, writer) in [(old.reader(), old.writer()), before] {
            for _ in 0..2 {
                assert_fails(read(&reader, 10), ErrorKind::Upgraded);
                assert_fails((&writer).write(b"plain?"), ErrorKind::Upgraded);
                reader.cancel();
                writer.abort();
            }
        }
        greets(&new);
        assert_upgraded(&old);
        new.close().expect("the peer reads");
        peer.assert_received(b"hi");
    });
}

/// Reader and writer of the old socket are used right after the upgrade began.
#[test]
fn sync_use_after() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), answers);
        let old = opened("good.test", &peer);
        let (reader, mut writer) = (old.reader(), old.writer());
        let new = old.start_tls().expect("the upgrade may start");
        let writing = spawn_call(move || writer.write(b"plain?"));
        let reading = spawn_call(move || read(reader, 10));
        assert_fails(writing.join_within(PROMPT), ErrorKind::Upgraded);
        assert_fails(reading.join_within(PROMPT), ErrorKind::Upgraded);
        new.opened().expect("the certificate is trusted");
        greets(&new);
        new.close().expect("the peer reads");
        let ending = peer.assert_received(b"hi");
        assert_eq!(ending.clear(), b"");
        // All later bytes are in records.
        ending.records();
        assert!(!contains(&ending.wire, b"plain?"), "the data was sent in plaintext");
    });
}

// -------------------------------------------------------------------- calls in progress

/// A plaintext write is in progress when the upgrade is requested.
#[test]
fn queued_writes() {
    with_watchdog(|| {
        let peer = TlsPeer::on(listen_with_room(4096), &valid_cert(), |peer| {
            peer.wait_signal();
            assert!(peer.handshake_when_it_comes(), "a handshake follows the plaintext");
            answers(peer);
        });
        let little = TcpOptions::new().send_buffer_size(4096);
        let old = dial("good.test", &peer, starttls().tcp(little));
        old.opened().expect("the peer listens");
        // The socket accepts no more, so the two writes must block.
        let taken = fill_send_buffer(&old);
        let writings = [&b"FIRST\r\n"[..], b"LAST\r\n"].map(|line| {
            let mut writer = old.writer();
            spawn_blocked(move || writer.write(line).map(|count| count == line.len()))
        });
        let upgrading = old.clone();
        let upgrade = spawn_blocked(move || upgrading.start_tls());
        assert!(!old.upgraded(), "the writes come first");
        assert_fails(old.closed_timeout(ms(200)), ErrorKind::TimedOut);
        assert!(
            writings.iter().all(SpawnedCall::is_running) && upgrade.is_running(),
            "the peer does not read"
        );
        assert_eq!(old.phase(), Phase::Open);
        peer.signal();
        for writing in writings {
            assert!(writing.join().expect("the peer reads"), "the write is accepted whole");
        }
        let new = upgrade.join().expect("the upgrade may start");
        new.opened().expect("the certificate is trusted");
        greets(&new);
        assert_upgraded(&old);
        new.close().expect("the peer reads");
        let ending = peer.assert_received(b"hi");
        let (filling, lines) = ending.clear().split_at(taken);
        assert!(filling.iter().all(|byte| *byte == b'w'));
        // The two writers may get their turns in either order.
        assert!([&b"FIRST\r\nLAST\r\n"[..], b"LAST\r\nFIRST\r\n"].contains(&lines), "{lines:?}");
        ending.records();
    });
}

/// A write and the upgrade both begin before the connection is made.
#[test]
fn queued_writes_before_opened() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&valid_cert(), |peer| {
            assert_eq!(peer.recv_raw(ASK.len()), ASK);
            peer.handshake();
            answers(peer);
        });
        let (connector, go) = resolver_on_signal(|| Ok(vec![V4]));
        let address = format!("good.test:{}", peer.address().port());
        let old = connector.connect_with(address, starttls()).expect("they are valid");
        let mut writer = old.writer();
        let writing = spawn_blocked(move || writer.write(ASK));
        let upgrading = old.clone();
        let upgrade = spawn_blocked(move || upgrading.start_tls());
        go.send(()).expect("the lookup waits for it");
        assert_eq!(writing.join().expect("the peer listens"), ASK.len());
        let new = upgrade.join().expect("the upgrade may start");
        new.opened().expect("the certificate is trusted");
        greets(&new);
        assert_upgraded(&old);
        new.close().expect("the peer reads");
        assert_eq!(peer.assert_received(b"hi").clear(), ASK);
    });
}

/// Reads of the old readers are blocked when the upgrade is requested.
#[test]
fn pending_read() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&valid_cert(), |peer| {
            assert_eq!(peer.recv_raw(ASK.len()), ASK);
            peer.handshake();
            answers(peer);
        });
        let old = opened("good.test", &peer);
        assert_eq!((&old).write(ASK).expect("the peer reads"), ASK.len());
        let readings = [(); 3].map(|()| reads(&old));
        let new = at_once(|| old.start_tls()).expect("nothing is unread");
        new.opened().expect("the certificate is trusted");
        greets(&new);
        for reading in readings {
            assert_fails(reading.join_within(PROMPT), ErrorKind::Upgraded);
        }
        assert_upgraded(&old);
    });
}

/// A write on the new socket begins before its handshake is complete.
#[test]
fn write_new_before_opened() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&valid_cert(), |peer| {
            peer.wait_signal();
            peer.handshake();
            answers(peer);
        });
        let old = opened("good.test", &peer);
        let new = old.start_tls().expect("the upgrade may start");
        let mut writer = new.writer();
        let writing = spawn_blocked(move || writer.write(b"hi"));
        peer.signal();
        assert_eq!(writing.join().expect("the certificate is trusted"), 2);
        new.opened().expect("the certificate is trusted");
        assert_eq!(read_exactly(&new, 2).expect("the peer answers"), b"yo");
        new.close().expect("the peer reads");
        let ending = peer.assert_received(b"hi");
        assert_eq!(ending.clear(), b"");
        ending.records();
    });
}

/// The peer sends data right after its handshake.
#[test]
fn tls_peer_speaks_first() {
    for version in VERSIONS {
        with_watchdog(move || {
            let peer = agrees(&valid_cert().only(version), |peer| {
                peer.handshake();
                peer.send(b"server first");
            });
            let old = opened("good.test", &peer);
            converses(&old);
            let new = old.start_tls().expect("the upgrade may start");
            assert_eq!(read_exactly(&new, 12).expect("the peer sends"), b"server first");
        });
    }
}

// -------------------------------------------------------------------- names

/// The server name of the upgrade is the certificate's, and the host is an address.
#[test]
fn esh_match() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&certificates::wronghost(), answers);
        let old = opened("127.0.0.1", &peer);
        let tls = certificates::trusted().server_name("other.test");
        let new = old.start_tls_with(tls).expect("the upgrade may start");
        assert_eq!(upgraded_name(peer, &new).as_deref(), Some("other.test"));
    });
}

/// The server name of the upgrade is another name, and the certificate is for the host.
#[test]
fn esh_mismatch() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&valid_cert(), is_refused);
        let old = opened("good.test", &peer);
        let tls = certificates::trusted().server_name("other.test");
        let new = old.start_tls_with(tls).expect("the upgrade may start");
        assert_never_opened(&new, ErrorKind::Tls);
        peer.finish();
    });
}

/// The host is an IPv6 address that is in the certificate.
#[test]
fn ip6_host() {
    upgrades_at_ip6("starttls.ip6-host", Socket::start_tls);
}

/// The same, with the address as the server name of the upgrade.
#[test]
fn ip6_host_esh() {
    upgrades_at_ip6("starttls.ip6-host-esh", |old| {
        old.start_tls_with(certificates::trusted().server_name("::1"))
    });
}

/// The host is in upper case.
#[test]
fn uppercase_host() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), answers);
        let (_old, new) = upgraded("GOOD.TEST", &peer);
        assert_eq!(new.opened().expect("it is open").requested().hostname(), "GOOD.TEST");
        let name = upgraded_name(peer, &new).expect("a name is sent");
        assert!(name.eq_ignore_ascii_case("good.test"), "{name}");
    });
}

/// The host has a trailing dot.
#[test]
fn trailing_dot_host() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), answers);
        let (_old, new) = upgraded("good.test.", &peer);
        assert_eq!(new.opened().expect("it is open").requested().hostname(), "good.test.");
        assert_eq!(upgraded_name(peer, &new).as_deref(), Some("good.test"));
    });
}

// -------------------------------------------------------------------- ends of the new socket

/// With `allow_half_open`, the peer sends `close_notify`, and the program continues to write.
#[test]
fn halfopen_inherited() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), |peer| {
            peer.send(b"x");
            peer.close_notify();
            assert_eq!(peer.receive(4), b"more");
        });
        let old = dial("good.test", &peer, starttls().allow_half_open(true));
        let new = old.start_tls().expect("the upgrade may start");
        new.opened().expect("the certificate is trusted");
        assert_eq!(read_to_end(&new).expect("a clean end"), b"x");
        assert_fails(new.closed_timeout(ms(400)), ErrorKind::TimedOut);
        assert_eq!((&new).write(b"more").expect("the peer reads"), 4);
        assert_fails(new.closed_timeout(ms(400)), ErrorKind::TimedOut);
        assert_eq!(new.phase(), Phase::HalfClosed);
        new.close().expect("the peer reads");
        peer.assert_received(b"more");
    });
}

/// Without `allow_half_open`, a `close_notify` of the peer ends both directions.
#[test]
fn halfopen_false_inherited() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), |peer| {
            peer.send(b"x");
            peer.close_notify();
        });
        let (_old, new) = upgraded("good.test", &peer);
        assert_eq!(read_to_end(&new).expect("a clean end"), b"x");
        new.closed_timeout(PROMPT).expect("a clean end");
        peer.assert_received(b"");
        assert_fails((&new).write(b"more"), ErrorKind::Closed);
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
        let (old, new) = upgraded("good.test", &peer);
        assert_eq!(read(&new, 10).expect("the peer sends"), b"data");
        let reading = reads(&new);
        peer.signal();
        assert_fails(reading.join_within(PROMPT), ErrorKind::Truncated);
        assert_fails(new.closed_timeout(PROMPT), ErrorKind::Truncated);
        assert_fails((&new).write(b"x"), ErrorKind::Truncated);
        old.closed().expect("it was upgraded");
    });
}

/// A read is blocked when the peer resets the connection.
#[test]
fn truncation_rst() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), |peer| {
            peer.wait_signal();
            peer.reset();
        });
        let (_old, new) = upgraded("good.test", &peer);
        let reading = reads(&new);
        peer.signal();
        assert_fails(reading.join_within(PROMPT), ErrorKind::Reset);
        assert_fails(new.closed_timeout(PROMPT), ErrorKind::Reset);
        assert_fails((&new).write(b"x"), ErrorKind::Reset);
    });
}

/// The program closes the new socket.
#[test]
fn close_new() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&valid_cert(), looks_back);
        let (_old, new) = upgraded("good.test", &peer);
        new.close().expect("the close succeeds");
        new.closed_timeout(PROMPT).expect("it was closed");
        peer.signal();
        peer.assert_received(b"");
    });
}

/// The program closes the new socket during its handshake.
#[test]
fn close_new_during() {
    with_watchdog(|| {
        within_100_ms(|| {
            let (peer, asked) = silent();
            let old = opened("good.test", &peer);
            let new = old.start_tls().expect("the upgrade may start");
            asked.recv_timeout(WATCHDOG).expect("a handshake begins");
            let opening = new.clone();
            let opening = spawn_blocked(move || opening.opened());
            let (closed, took) = timed(|| new.close());
            closed.expect("there is nothing to hand over");
            assert_fails(opening.join_within(PROMPT), ErrorKind::Closed);
            assert_fails(new.opened(), ErrorKind::Closed);
            new.closed().expect("it was closed");
            assert_ne!(peer.finish().first, EndKind::ClosedLocally);
            took
        });
    });
}

// -------------------------------------------------------------------- sockets

fn starttls() -> SocketOptions {
    certificates::options(SecureTransport::StartTls)
}

/// Opens a plaintext socket to this host.
#[track_caller]
fn opened(host: &str, peer: &TlsPeer) -> Socket {
    let socket = dial(host, peer, starttls());
    socket.opened().expect("the peer listens");
    socket
}

/// Opens a socket and upgrades it without prior data; returns the old and the new socket.
#[track_caller]
fn upgraded(host: &str, peer: &TlsPeer) -> (Socket, Socket) {
    let old = opened(host, peer);
    let new = old.start_tls().expect("the upgrade may start");
    new.opened().expect("the certificate is trusted");
    (old, new)
}

/// Exchanges the plaintext before an upgrade with a peer that [`agrees`].
#[track_caller]
fn converses(socket: &Socket) {
    assert_eq!(read(socket, 100).expect("the peer greets"), b"READY\r\n");
    ask(socket);
}

/// Exchanges data on the new socket, and returns the server name that the peer received.
#[track_caller]
fn upgraded_name(peer: TlsPeer, new: &Socket) -> Option<String> {
    new.opened().expect("the certificate is trusted");
    greets(new);
    new.close().expect("the peer reads");
    peer.assert_received(b"hi").session().server_name().map(str::to_owned)
}

#[track_caller]
fn upgrades_at_ip6(id: &str, upgrade: fn(&Socket) -> sockeye::Result<Socket>) {
    let Some(listener) = listen_on_v6() else {
        return skip(id, "this machine has no IPv6");
    };
    with_watchdog(move || {
        let peer = TlsPeer::on(listener, &certificates::ip(), |peer| {
            peer.handshake();
            answers(peer);
        });
        let new = upgrade(&opened("[::1]", &peer)).expect("the upgrade may start");
        assert_eq!(upgraded_name(peer, &new), None, "an address is not sent as SNI");
    });
}

// -------------------------------------------------------------------- peers

/// Starts a peer that greets in plaintext, receives the request for TLS, and agrees.
fn agrees(setup: &ServerSetup, then: impl FnOnce(&mut Accepted) + Send + 'static) -> TlsPeer {
    TlsPeer::scripted(setup, |peer| {
        peer.raw(b"READY\r\n");
        peer.accept_starttls();
        then(peer);
    })
}
