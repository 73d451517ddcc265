//! Where there is no upgrade: misuse, which changes nothing, sockets that have ended, and handshakes that
//! fail.

use super::*;

// -------------------------------------------------------------------- misuse changes nothing

/// Both ways to upgrade are refused with this, and nothing has changed.
#[track_caller]
fn refused_with(socket: &Socket, kind: ErrorKind) {
    let (phase, mode) = (socket.phase(), socket.secure_transport());
    for _ in 0..2 {
        fails(at_once(|| socket.start_tls()), kind);
        fails(at_once(|| socket.start_tls_with(trusting(authority()))), kind);
    }
    assert!(!socket.upgraded());
    assert_eq!(socket.secure_transport(), mode);
    // A connection may have been made meanwhile.
    if phase != Phase::Connecting {
        assert_eq!(socket.phase(), phase);
    }
}

#[test]
fn absent() {
    story(|| {
        let peer = Peer::plays(|wire| wire.echo());
        let socket = sockeye::connect(peer.address()).expect("the address is fine");
        refused_with(&socket, ErrorKind::InvalidState);
        socket.opened().expect("the peer listens");
        refused_with(&socket, ErrorKind::InvalidState);
        works(&socket);
        socket.close().expect("the peer reads");
    });
}

#[test]
fn after_a_start_that_was_secure() {
    story(|| {
        let peer = TlsPeer::echoes(&terms());
        let socket = connect(&peer, options(authority()));
        refused_with(&socket, ErrorKind::InvalidState);
        socket.opened().expect("the peer is good");
        refused_with(&socket, ErrorKind::InvalidState);
        works(&socket);
    });
}

/// A peer that speaks plaintext only.
fn plain() -> (Peer, Socket) {
    let peer = Peer::plays(|wire| wire.echo());
    let socket = sockeye::connect_with(peer.address(), starttls()).expect("they are fine");
    socket.opened().expect("the peer listens");
    (peer, socket)
}

#[test]
fn after_reader_cancel() {
    story(|| {
        let peer = Peer::reads();
        let socket = sockeye::connect_with(peer.address(), starttls()).expect("they are fine");
        socket.reader().cancel();
        refused_with(&socket, ErrorKind::InvalidState);
        (&socket).write_all(b"still plain").expect("the peer reads");
        assert_eq!(read(&socket, 1).expect("reading has ended"), b"");
        socket.close().expect("the peer reads");
        refused_with(&socket, ErrorKind::InvalidState);
        peer.gets(b"still plain");
    });
}

#[test]
fn after_writer_close() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.read_to_end();
            wire.await_cue();
            wire.send(b"still plain");
            wire.fin();
        });
        let socket = sockeye::connect_with(peer.address(), starttls()).expect("they are fine");
        socket.writer().close().expect("the peer reads");
        refused_with(&socket, ErrorKind::InvalidState);
        peer.cue();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"still plain");
        socket.closed_timeout(AT_ONCE).expect("both directions ended");
        peer.gets(b"");
    });
}

#[test]
fn after_close() {
    story(|| {
        let (peer, socket) = plain();
        works(&socket);
        socket.close().expect("the peer reads");
        refused_with(&socket, ErrorKind::InvalidState);
        socket.closed().expect("it was closed");
        let ending = peer.ending();
        assert_eq!(ending.bytes, b"");
    });
}

#[test]
fn after_abort() {
    for abort in [Socket::abort, |socket: &Socket| socket.writer().abort()] {
        story(move || {
            let (_peer, socket) = plain();
            abort(&socket);
            refused_with(&socket, ErrorKind::InvalidState);
            fails(socket.closed_timeout(AT_ONCE), ErrorKind::Closed);
        });
    }
}

#[test]
fn starttls_during_close() {
    story(|| {
        let peer = Peer::on(listen_with_room(4096), |wire| wire.await_cue());
        let socket = sockeye::connect_with(peer.address(), cramped().close_timeout(PATIENCE));
        let socket = socket.expect("the options are fine");
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

// -------------------------------------------------------------------- sockets that have ended

#[test]
fn after_a_failure_it_is_the_cause() {
    story(|| {
        let nothing = nothing_listens();
        let socket = sockeye::connect_with(nothing.address, starttls()).expect("they are fine");
        fails(socket.opened(), ErrorKind::Connect);
        refused_with(&socket, ErrorKind::Connect);

        let peer = Peer::plays(|wire| {
            wire.await_cue();
            wire.reset();
        });
        let socket = sockeye::connect_with(peer.address(), starttls()).expect("they are fine");
        socket.opened().expect("the peer listens");
        peer.cue();
        fails(socket.closed_timeout(PATIENCE), ErrorKind::Reset);
        refused_with(&socket, ErrorKind::Reset);
        gives(&socket, ErrorKind::Reset);

        let hole = crate::support::peer::black_hole();
        let options = starttls().connect_timeout(ms(100));
        let socket = sockeye::connect_with(hole.address, options).expect("they are fine");
        fails(socket.opened(), ErrorKind::TimedOut);
        refused_with(&socket, ErrorKind::TimedOut);
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
        // Noticed by the socket itself, which is closed then.
        let peer = ends();
        let socket = sockeye::connect_with(peer.address(), starttls()).expect("they are fine");
        socket.opened().expect("the peer listens");
        peer.cue();
        socket.closed_timeout(PATIENCE).expect("a clean end");
        refused_with(&socket, ErrorKind::Closed);
        socket.closed().expect("the first outcome stays");
        peer.gets(b"");

        // Read by the program, with the other direction open.
        let peer = ends();
        let options = starttls().allow_half_open(true);
        let socket = sockeye::connect_with(peer.address(), options).expect("they are fine");
        socket.opened().expect("the peer listens");
        peer.cue();
        assert_eq!(read(&socket, 1).expect("a clean end"), b"");
        refused_with(&socket, ErrorKind::Closed);
        (&socket).write_all(b"still plain").expect("the peer reads");
        socket.close().expect("the peer reads");
        peer.gets(b"still plain");
    });
}

#[test]
fn an_end_that_nobody_has_seen_is_seen_by_the_upgrade() {
    for half_open in [false, true] {
        story(move || {
            let (tell, told) = mpsc::channel();
            let peer = Peer::plays(move |wire| {
                wire.fin();
                tell.send(()).expect("the test waits for it");
            });
            let options = starttls().allow_half_open(half_open);
            let socket = sockeye::connect_with(peer.address(), options).expect("they are fine");
            socket.opened().expect("the peer listens");
            told.recv_timeout(PATIENCE).expect("the peer ends");
            fails(at_once(|| socket.start_tls()), ErrorKind::Closed);
            assert!(!socket.upgraded());
            socket.close().expect("it is a clean end");
            // Nothing of a handshake was sent.
            peer.gets(b"");
        });
    }
}

// -------------------------------------------------------------------- handshakes that fail

/// Never falls back: the connection ends, and nothing that was to be written leaves.
#[track_caller]
fn fails_for_good(terms: &Terms, script: impl FnOnce(&mut Accepted) + Send + 'static) -> ErrorKind {
    let peer = TlsPeer::plays(terms, |peer| {
        peer.agrees();
        script(peer);
    });
    let old = open(&peer, starttls());
    ask(&old);
    let new = old.start_tls().expect("nothing is in the way");
    let (reader, mut writer) = (new.reader(), new.writer());
    let reading = call(move || read(reader, 100));
    let writing = call(move || writer.write(b"secret"));
    let cause = new.opened().expect_err("there is no good handshake").kind();
    never_opened(&new, cause);
    fails(reading.join_within(AT_ONCE), cause);
    fails(writing.join_within(AT_ONCE), cause);
    assert_eq!(new.phase(), Phase::Closed);
    assert_eq!((new.stats().bytes_read, new.stats().bytes_written), (0, 0));
    is_upgraded(&old);
    at_once(|| new.close()).expect("it ended before");
    let ending = peer.ending();
    assert_eq!(ending.clear(), ASK);
    assert_eq!(ending.bytes, b"");
    assert!(!contains(&ending.wire, b"secret"), "it left in the clear");
    cause
}

fn issued(draft: &Draft) -> Terms {
    Terms::new(authority().issues(draft))
}

#[test]
fn fail_wrong_host() {
    story(|| {
        let cause = fails_for_good(&issued(&Draft::new(&["other.test"])), |peer| {
            peer.try_handshake().expect_err("the other end refuses");
        });
        assert_eq!(cause, ErrorKind::Tls);
    });
}

#[test]
fn fail_expired() {
    story(|| {
        let cause = fails_for_good(&issued(&good().valid(2000, 2001)), |peer| {
            peer.try_handshake().expect_err("the other end refuses");
        });
        assert_eq!(cause, ErrorKind::Tls);
    });
}

#[test]
fn fail_plaintext() {
    story(|| {
        let cause = fails_for_good(&terms(), |peer| {
            peer.hear_hello();
            peer.raw(b"500 no\r\n");
        });
        assert_eq!(cause, ErrorKind::Tls);
    });
}

#[test]
fn fail_fin() {
    story(|| {
        let cause = fails_for_good(&terms(), |peer| {
            peer.hear_hello();
            peer.fin();
        });
        assert_eq!(cause, ErrorKind::Tls);
    });
}

#[test]
fn fail_rst() {
    story(|| {
        let cause = fails_for_good(&terms(), |peer| {
            peer.hear_hello();
            peer.reset();
        });
        assert!(matches!(cause, ErrorKind::Reset | ErrorKind::Tls), "{cause:?}");
    });
}

#[test]
fn fail_alert() {
    story(|| {
        let cause = fails_for_good(&terms(), |peer| {
            peer.hear_hello();
            peer.raw(&[21, 3, 3, 0, 2, 2, 40]);
        });
        assert_eq!(cause, ErrorKind::Tls);
    });
}

/// An upgrade whose ClientHello has arrived, and the peer, which goes on at its cue.
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
    let new = old.start_tls().expect("nothing is in the way");
    told.recv_timeout(PATIENCE).expect("the handshake begins");
    assert_eq!(new.phase(), Phase::Upgrading);
    (peer, new)
}

#[test]
fn close_new_during() {
    story(|| {
        let (peer, new) = halfway();
        let opening = new.clone();
        let opened = blocked(move || opening.opened());
        at_once(|| new.close()).expect("there is nothing to hand over");
        fails(opened.join_within(AT_ONCE), ErrorKind::Closed);
        fails(new.opened(), ErrorKind::Closed);
        new.closed().expect("it was closed");
        peer.cue();
        peer.ending();
    });
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

#[test]
fn close_new() {
    story(|| {
        let peer = agrees();
        let old = open(&peer, starttls());
        ask(&old);
        let new = old.start_tls().expect("nothing is in the way");
        new.opened().expect("the peer is good");
        new.close().expect("nothing is in the way");
        new.closed_timeout(AT_ONCE).expect("it was closed");
        peer.gets(b"");
    });
}
