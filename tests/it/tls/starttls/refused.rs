//! Upgrades that are refused or fail: misuse, which changes nothing, sockets that have ended, and failed handshakes.

use super::*;

// -------------------------------------------------------------------- misuse changes nothing

/// Opens a socket to a peer that speaks plaintext only.
fn plain() -> (Peer, Socket) {
    let peer = Peer::scripted(|wire| wire.echo());
    let socket = sockeye::connect_with(peer.address(), starttls()).expect("they are valid");
    socket.opened().expect("the peer listens");
    (peer, socket)
}

#[test]
fn after_close() {
    with_watchdog(|| {
        let (peer, socket) = plain();
        works(&socket);
        socket.close().expect("the peer reads");
        assert_refuses_upgrades(&socket, ErrorKind::InvalidState);
        socket.closed().expect("it was closed");
        let ending = peer.finish();
        assert_eq!(ending.bytes, b"");
    });
}

#[test]
fn after_a_close_that_waits_for_a_slow_peer() {
    with_watchdog(|| {
        let peer = Peer::scripted_on(listen_with_room(4096), |wire| wire.wait_signal());
        let socket = sockeye::connect_with(peer.address(), cramped().close_timeout(WATCHDOG));
        let socket = socket.expect("the options are valid");
        let taken = fill_send_buffer(&socket);
        let mut writer = socket.writer();
        let writing = spawn_blocked(move || writer.write(b"w"));
        let closer = socket.clone();
        let closing = spawn_call(move || closer.close());
        assert_fails(writing.join_within(PROMPT), ErrorKind::Closed);
        assert_fails(at_once(|| socket.start_tls()), ErrorKind::InvalidState);
        peer.signal();
        closing.join().expect("the peer reads");
        assert!(!socket.upgraded());
        peer.assert_received(&vec![b'w'; taken]);
    });
}

#[test]
fn after_abort() {
    with_watchdog(|| {
        let (_peer, socket) = plain();
        socket.abort();
        assert_refuses_upgrades(&socket, ErrorKind::InvalidState);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Closed);
    });
}

#[test]
fn after_a_reader_was_cancelled_while_connecting() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = sockeye::connect_with(peer.address(), starttls()).expect("they are valid");
        socket.reader().cancel();
        assert_refuses_upgrades(&socket, ErrorKind::InvalidState);
        (&socket).write_all(b"still plain").expect("the peer reads");
        assert_eq!(read(&socket, 1).expect("reading has ended"), b"");
        socket.close().expect("the peer reads");
        assert_refuses_upgrades(&socket, ErrorKind::InvalidState);
        peer.assert_received(b"still plain");
    });
}

// -------------------------------------------------------------------- sockets that have ended

#[test]
fn after_a_failure_it_is_the_cause() {
    with_watchdog(|| {
        let nothing = closed_port();
        let socket = sockeye::connect_with(nothing.address, starttls()).expect("they are valid");
        assert_fails(socket.opened(), ErrorKind::Connect);
        assert_refuses_upgrades(&socket, ErrorKind::Connect);

        let peer = Peer::resetting();
        let socket = sockeye::connect_with(peer.address(), starttls()).expect("they are valid");
        socket.opened().expect("the peer listens");
        peer.signal();
        assert_fails(socket.closed_timeout(WATCHDOG), ErrorKind::Reset);
        assert_refuses_upgrades(&socket, ErrorKind::Reset);
        assert_ended_with(&socket, ErrorKind::Reset);

        let hole = crate::support::peer::black_hole();
        let options = starttls().connect_timeout(ms(100));
        let socket = sockeye::connect_with(hole.address, options).expect("they are valid");
        assert_fails(socket.opened(), ErrorKind::TimedOut);
        assert_refuses_upgrades(&socket, ErrorKind::TimedOut);
    });
}

#[test]
fn after_the_peers_end_it_is_closed() {
    with_watchdog(|| {
        let ends = || {
            Peer::scripted(|wire| {
                wire.wait_signal();
                wire.fin();
            })
        };
        // The event loop has noticed the end, so the socket is closed.
        let peer = ends();
        let socket = sockeye::connect_with(peer.address(), starttls()).expect("they are valid");
        socket.opened().expect("the peer listens");
        peer.signal();
        socket.closed_timeout(WATCHDOG).expect("a clean end");
        assert_refuses_upgrades(&socket, ErrorKind::Closed);
        socket.closed().expect("the first outcome stays");
        peer.assert_received(b"");

        // A read has returned the end, and the other direction is open.
        let peer = ends();
        let options = starttls().allow_half_open(true);
        let socket = sockeye::connect_with(peer.address(), options).expect("they are valid");
        socket.opened().expect("the peer listens");
        peer.signal();
        assert_eq!(read(&socket, 1).expect("a clean end"), b"");
        assert_refuses_upgrades(&socket, ErrorKind::Closed);
        (&socket).write_all(b"still plain").expect("the peer reads");
        socket.close().expect("the peer reads");
        peer.assert_received(b"still plain");
    });
}

#[test]
fn the_upgrade_detects_an_unnoticed_end() {
    for half_open in [false, true] {
        with_watchdog(move || {
            let (sender, receiver) = mpsc::channel();
            let peer = Peer::scripted(move |wire| {
                wire.fin();
                sender.send(()).expect("the test waits for it");
            });
            let options = starttls().allow_half_open(half_open);
            let socket = sockeye::connect_with(peer.address(), options).expect("they are valid");
            socket.opened().expect("the peer listens");
            receiver.recv_timeout(WATCHDOG).expect("the peer ends");
            assert_fails(at_once(|| socket.start_tls()), ErrorKind::Closed);
            assert!(!socket.upgraded());
            socket.close().expect("it is a clean end");
            // The peer received no byte of a handshake.
            peer.assert_received(b"");
        });
    }
}

// -------------------------------------------------------------------- failed handshakes

#[test]
fn an_alert_instead_of_an_answer_fails_it() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            peer.expect_client_hello();
            peer.raw(&[21, 3, 3, 0, 2, 2, 40]);
        });
        let old = open(&peer, starttls());
        ask(&old);
        assert_upgrade_fails(peer, &old, &[ErrorKind::Tls]);
    });
}

/// Starts an upgrade whose ClientHello has arrived; the peer continues at its cue.
fn halfway() -> (TlsPeer, Socket) {
    let (sender, receiver) = mpsc::channel();
    let peer = TlsPeer::scripted(&server_config(), move |peer| {
        peer.accept_starttls();
        peer.expect_client_hello();
        sender.send(()).expect("the test waits for it");
        peer.wait_signal();
    });
    let old = open(&peer, starttls());
    ask(&old);
    let new = old.start_tls().expect("the upgrade may start");
    receiver.recv_timeout(WATCHDOG).expect("the handshake begins");
    assert_eq!(new.phase(), Phase::Upgrading);
    (peer, new)
}

#[test]
fn abort_new_during() {
    with_watchdog(|| {
        let (peer, new) = halfway();
        let reader = new.reader();
        let reading = spawn_blocked(move || read(reader, 1));
        at_once(|| new.abort());
        assert_fails(reading.join_within(PROMPT), ErrorKind::Closed);
        assert_fails(new.opened(), ErrorKind::Closed);
        assert_fails(new.closed_timeout(PROMPT), ErrorKind::Closed);
        peer.signal();
        peer.assert_reset();
    });
}

#[test]
fn dropping_the_new_one_during_its_handshake_ends_the_connection() {
    with_watchdog(|| {
        let (peer, new) = halfway();
        drop(new);
        peer.signal();
        peer.finish();
    });
}
