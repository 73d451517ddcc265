//! Upgrades that are refused or fail: misuse, which changes nothing, sockets that have ended, and failed handshakes.

use super::*;

// -------------------------------------------------------------------- misuse changes nothing

/// Opens a socket to a peer that speaks plaintext only.
fn plain() -> (Peer, Socket) {
    let peer = Peer::plays(|wire| wire.echo());
    let socket = sockeye::connect_with(peer.address(), starttls()).expect("they are valid");
    socket.opened().expect("the peer listens");
    (peer, socket)
}

#[test]
fn after_close() {
    story(|| {
        let (peer, socket) = plain();
        works(&socket);
        socket.close().expect("the peer reads");
        refuses_upgrades(&socket, ErrorKind::InvalidState);
        socket.closed().expect("it was closed");
        let ending = peer.ending();
        assert_eq!(ending.bytes, b"");
    });
}

#[test]
fn after_a_close_that_waits_for_a_slow_peer() {
    story(|| {
        let peer = Peer::on(listen_with_room(4096), |wire| wire.await_cue());
        let socket = sockeye::connect_with(peer.address(), cramped().close_timeout(PATIENCE));
        let socket = socket.expect("the options are valid");
        let taken = fill(&socket);
        let mut writer = socket.writer();
        let writing = blocked(move || writer.write(b"w"));
        let closer = socket.clone();
        let closing = call(move || closer.close());
        fails(writing.join_within(AT_ONCE), ErrorKind::Closed);
        fails(at_once(|| socket.start_tls()), ErrorKind::InvalidState);
        peer.cue();
        closing.join().expect("the peer reads");
        assert!(!socket.upgraded());
        peer.gets(&vec![b'w'; taken]);
    });
}

#[test]
fn after_abort() {
    story(|| {
        let (_peer, socket) = plain();
        socket.abort();
        refuses_upgrades(&socket, ErrorKind::InvalidState);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Closed);
    });
}

#[test]
fn after_a_reader_was_cancelled_while_connecting() {
    story(|| {
        let peer = Peer::reads();
        let socket = sockeye::connect_with(peer.address(), starttls()).expect("they are valid");
        socket.reader().cancel();
        refuses_upgrades(&socket, ErrorKind::InvalidState);
        (&socket).write_all(b"still plain").expect("the peer reads");
        assert_eq!(read(&socket, 1).expect("reading has ended"), b"");
        socket.close().expect("the peer reads");
        refuses_upgrades(&socket, ErrorKind::InvalidState);
        peer.gets(b"still plain");
    });
}

// -------------------------------------------------------------------- sockets that have ended

#[test]
fn after_a_failure_it_is_the_cause() {
    story(|| {
        let nothing = nothing_listens();
        let socket = sockeye::connect_with(nothing.address, starttls()).expect("they are valid");
        fails(socket.opened(), ErrorKind::Connect);
        refuses_upgrades(&socket, ErrorKind::Connect);

        let peer = Peer::resets();
        let socket = sockeye::connect_with(peer.address(), starttls()).expect("they are valid");
        socket.opened().expect("the peer listens");
        peer.cue();
        fails(socket.closed_timeout(PATIENCE), ErrorKind::Reset);
        refuses_upgrades(&socket, ErrorKind::Reset);
        gives(&socket, ErrorKind::Reset);

        let hole = crate::support::peer::black_hole();
        let options = starttls().connect_timeout(ms(100));
        let socket = sockeye::connect_with(hole.address, options).expect("they are valid");
        fails(socket.opened(), ErrorKind::TimedOut);
        refuses_upgrades(&socket, ErrorKind::TimedOut);
    });
}

#[test]
fn after_the_peers_end_it_is_closed() {
    story(|| {
        let ends = || {
            Peer::plays(|wire| {
                wire.await_cue();
                wire.fin();
            })
        };
        // The event loop has noticed the end, so the socket is closed.
        let peer = ends();
        let socket = sockeye::connect_with(peer.address(), starttls()).expect("they are valid");
        socket.opened().expect("the peer listens");
        peer.cue();
        socket.closed_timeout(PATIENCE).expect("a clean end");
        refuses_upgrades(&socket, ErrorKind::Closed);
        socket.closed().expect("the first outcome stays");
        peer.gets(b"");

        // A read has returned the end, and the other direction is open.
        let peer = ends();
        let options = starttls().allow_half_open(true);
        let socket = sockeye::connect_with(peer.address(), options).expect("they are valid");
        socket.opened().expect("the peer listens");
        peer.cue();
        assert_eq!(read(&socket, 1).expect("a clean end"), b"");
        refuses_upgrades(&socket, ErrorKind::Closed);
        (&socket).write_all(b"still plain").expect("the peer reads");
        socket.close().expect("the peer reads");
        peer.gets(b"still plain");
    });
}

#[test]
fn the_upgrade_detects_an_unnoticed_end() {
    for half_open in [false, true] {
        story(move || {
            let (tell, told) = mpsc::channel();
            let peer = Peer::plays(move |wire| {
                wire.fin();
                tell.send(()).expect("the test waits for it");
            });
            let options = starttls().allow_half_open(half_open);
            let socket = sockeye::connect_with(peer.address(), options).expect("they are valid");
            socket.opened().expect("the peer listens");
            told.recv_timeout(PATIENCE).expect("the peer ends");
            fails(at_once(|| socket.start_tls()), ErrorKind::Closed);
            assert!(!socket.upgraded());
            socket.close().expect("it is a clean end");
            // The peer received no byte of a handshake.
            peer.gets(b"");
        });
    }
}

// -------------------------------------------------------------------- failed handshakes

#[test]
fn an_alert_instead_of_an_answer_fails_it() {
    story(|| {
        let peer = TlsPeer::plays(&terms(), |peer| {
            peer.agrees();
            peer.hear_hello();
            peer.raw(&[21, 3, 3, 0, 2, 2, 40]);
        });
        let old = open(&peer, starttls());
        ask(&old);
        fails_to_upgrade(peer, &old, &[ErrorKind::Tls]);
    });
}

/// Starts an upgrade whose ClientHello has arrived; the peer continues at its cue.
fn halfway() -> (TlsPeer, Socket) {
    let (tell, told) = mpsc::channel();
    let peer = TlsPeer::plays(&terms(), move |peer| {
        peer.agrees();
        peer.hear_hello();
        tell.send(()).expect("the test waits for it");
        peer.await_cue();
    });
    let old = open(&peer, starttls());
    ask(&old);
    let new = old.start_tls().expect("the upgrade may start");
    told.recv_timeout(PATIENCE).expect("the handshake begins");
    assert_eq!(new.phase(), Phase::Upgrading);
    (peer, new)
}

#[test]
fn abort_new_during() {
    story(|| {
        let (peer, new) = halfway();
        let reader = new.reader();
        let reading = blocked(move || read(reader, 1));
        at_once(|| new.abort());
        fails(reading.join_within(AT_ONCE), ErrorKind::Closed);
        fails(new.opened(), ErrorKind::Closed);
        fails(new.closed_timeout(AT_ONCE), ErrorKind::Closed);
        peer.cue();
        peer.sees_a_reset();
    });
}

#[test]
fn dropping_the_new_one_during_its_handshake_ends_the_connection() {
    story(|| {
        let (peer, new) = halfway();
        drop(new);
        peer.cue();
        peer.ending();
    });
}
