//! Sockets whose peer has ended, in addition to the scenarios of `conformance::half_open`.

use std::io::Write;

use sockeye::{ErrorKind, SocketOptions};

use crate::support::peer::{Wire, listen_with_room};
use crate::support::{
    AT_ONCE, Peer, blocked, call, fails, fill, little_room, ms, open, open_with, read, read_to_end,
    story,
};

#[test]
fn an_end_that_comes_after_the_last_read_is_noticed() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.send(b"x");
            wire.await_cue();
            wire.fin();
        });
        let socket = open(&peer);
        assert_eq!(read(&socket, 1).expect("it waits"), b"x");
        fails(socket.closed_timeout(ms(100)), ErrorKind::TimedOut);
        peer.cue();
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        peer.gets(b"");
    });
}

#[test]
fn with_half_open_allowed_the_end_is_noticed_without_a_reader() {
    story(|| {
        let peer = Peer::plays(Wire::fin);
        let socket = open_with(&peer, SocketOptions::new().allow_half_open(true));
        fails(socket.closed_timeout(ms(400)), ErrorKind::TimedOut);
        (&socket).write_all(b"still here").expect("the peer reads");
        socket.writer().close().expect("the peer reads");
        socket.closed_timeout(AT_ONCE).expect("both directions ended");
        peer.gets(b"still here");
    });
}

#[test]
fn a_write_blocked_at_the_end_of_reading_fails_and_accepted_bytes_arrive() {
    story(|| {
        let peer = ends_and_reads_later();
        let socket = open_with(&peer, little_room().close_timeout(ms(300)));
        let taken = fill(&socket);
        let mut writer = socket.writer();
        let writing = blocked(move || writer.write(b"w"));
        peer.cue();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        // The write may still succeed during the time that a close would wait for it.
        fails(writing.join_within(ms(300) + AT_ONCE), ErrorKind::Closed);
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        peer.cue();
        peer.gets(&vec![b'w'; taken]);
    });
}

#[test]
fn a_write_blocked_at_the_end_of_reading_may_still_succeed() {
    story(|| {
        let peer = ends_and_reads_later();
        let socket = open_with(&peer, little_room());
        let taken = fill(&socket);
        let mut writer = socket.writer();
        let writing = blocked(move || writer.write(b"w"));
        peer.cue();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        peer.cue();
        assert_eq!(writing.join().expect("the peer reads now"), 1);
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        peer.gets(&vec![b'w'; taken + 1]);
    });
}

#[test]
fn a_write_after_the_end_does_not_wait_for_one_that_is_blocked() {
    story(|| {
        let peer = ends_and_reads_later();
        let socket = open_with(&peer, little_room());
        fill(&socket);
        let (mut writer, mut other) = (socket.writer(), socket.writer());
        let writing = blocked(move || writer.write(b"w"));
        peer.cue();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        fails(call(move || other.write(b"late")).join_within(AT_ONCE), ErrorKind::Closed);
        socket.abort();
        fails(writing.join_within(AT_ONCE), ErrorKind::Closed);
    });
}

/// Returns a peer with a small receive buffer. It ends its direction at its first cue and reads from the second.
fn ends_and_reads_later() -> Peer {
    Peer::on(listen_with_room(4096), |wire| {
        wire.await_cue();
        wire.fin();
        wire.await_cue();
    })
}
