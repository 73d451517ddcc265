//! Sockets whose peer has ended, in addition to the scenarios of `conformance::half_open`.

use std::io::Write;

use sockeye::{ErrorKind, SocketOptions};

use crate::support::peer::{PeerConn, listen_with_room};
use crate::support::{
    PROMPT, Peer, assert_fails, fill_send_buffer, ms, open, open_with, read, read_to_end,
    small_send_buffer, spawn_blocked, spawn_call, with_watchdog,
};

#[test]
fn an_end_that_comes_after_the_last_read_is_noticed() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.send(b"x");
            wire.wait_signal();
            wire.fin();
        });
        let socket = open(&peer);
        assert_eq!(read(&socket, 1).expect("it waits"), b"x");
        assert_fails(socket.closed_timeout(ms(100)), ErrorKind::TimedOut);
        peer.signal();
        socket.closed_timeout(PROMPT).expect("a clean end");
        peer.assert_received(b"");
    });
}

#[test]
fn with_half_open_allowed_the_end_is_noticed_without_a_reader() {
    with_watchdog(|| {
        let peer = Peer::scripted(PeerConn::fin);
        let socket = open_with(&peer, SocketOptions::new().allow_half_open(true));
        assert_fails(socket.closed_timeout(ms(400)), ErrorKind::TimedOut);
        (&socket).write_all(b"still here").expect("the peer reads");
        socket.writer().close().expect("the peer reads");
        socket.closed_timeout(PROMPT).expect("both directions ended");
        peer.assert_received(b"still here");
    });
}

#[test]
fn a_write_blocked_at_the_end_of_reading_fails_and_accepted_bytes_arrive() {
    with_watchdog(|| {
        let peer = ends_and_reads_later();
        let socket = open_with(&peer, small_send_buffer().close_timeout(ms(300)));
        let taken = fill_send_buffer(&socket);
        let mut writer = socket.writer();
        let writing = spawn_blocked(move || writer.write(b"w"));
        peer.signal();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        // The write may still succeed during the time that a close would wait for it.
        assert_fails(writing.join_within(ms(300) + PROMPT), ErrorKind::Closed);
        socket.closed_timeout(PROMPT).expect("a clean end");
        peer.signal();
        peer.assert_received(&vec![b'w'; taken]);
    });
}

#[test]
fn a_write_blocked_at_the_end_of_reading_may_still_succeed() {
    with_watchdog(|| {
        let peer = ends_and_reads_later();
        let socket = open_with(&peer, small_send_buffer());
        let taken = fill_send_buffer(&socket);
        let mut writer = socket.writer();
        let writing = spawn_blocked(move || writer.write(b"w"));
        peer.signal();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        peer.signal();
        assert_eq!(writing.join().expect("the peer reads now"), 1);
        socket.closed_timeout(PROMPT).expect("a clean end");
        peer.assert_received(&vec![b'w'; taken + 1]);
    });
}

#[test]
fn a_write_after_the_end_does_not_wait_for_one_that_is_blocked() {
    with_watchdog(|| {
        let peer = ends_and_reads_later();
        let socket = open_with(&peer, small_send_buffer());
        fill_send_buffer(&socket);
        let (mut writer, mut other) = (socket.writer(), socket.writer());
        let writing = spawn_blocked(move || writer.write(b"w"));
        peer.signal();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        assert_fails(
            spawn_call(move || other.write(b"late")).join_within(PROMPT),
            ErrorKind::Closed,
        );
        socket.abort();
        assert_fails(writing.join_within(PROMPT), ErrorKind::Closed);
    });
}

/// Returns a peer with a small receive buffer. It ends its direction at its first cue and reads from the second.
fn ends_and_reads_later() -> Peer {
    Peer::scripted_on(listen_with_room(4096), |wire| {
        wire.wait_signal();
        wire.fin();
        wire.wait_signal();
    })
}
