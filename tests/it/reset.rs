//! Resets, in addition to the scenarios of `conformance::reset`. Every call always reports a reset by the peer as
//! `Reset`, never as a clean end.

use std::io::Write;
#[cfg(target_os = "linux")]
use std::net::Shutdown;

use sockeye::{ErrorKind, Phase};

use crate::support::{
    AT_ONCE, Peer, blocked, eventually, fails, gives, kind_of, little_room, open, open_with, pour,
    read, story,
};

#[test]
fn a_write_alone_reports_it() {
    story(|| {
        let peer = Peer::resets();
        let socket = open(&peer);
        peer.cue();
        peer.ending();
        let mut failure = None;
        eventually(AT_ONCE, "the write fails", || {
            failure = (&socket).write(b"x").err();
            failure.is_some()
        });
        assert_eq!(kind_of(&failure.expect("it is set")), ErrorKind::Reset);
        gives(&socket, ErrorKind::Reset);
    });
}

#[test]
fn a_blocked_write_reports_it() {
    story(|| {
        let peer = Peer::resets();
        let socket = open_with(&peer, little_room());
        let writer = socket.writer();
        let writing = blocked(move || pour(writer, b'w', usize::MAX));
        peer.cue();
        let (_, failure) = writing.join_within(AT_ONCE);
        assert_eq!(kind_of(&failure.expect("the peer does not read")), ErrorKind::Reset);
        gives(&socket, ErrorKind::Reset);
    });
}

#[test]
fn a_cancelled_reader_does_not_hide_it() {
    story(|| {
        let peer = Peer::resets();
        let socket = open(&peer);
        socket.reader().cancel();
        peer.cue();
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
        fails((&socket).write(b"x"), ErrorKind::Reset);
    });
}

/// The peer closes with unread bytes, which the kernel also reports as a reset.
#[test]
fn a_peer_that_closes_without_reading_resets() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.await_cue();
            wire.close();
        });
        let socket = open(&peer);
        (&socket).write_all(b"never read").expect("the send buffer has room");
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 10));
        peer.cue();
        fails(reading.join_within(AT_ONCE), ErrorKind::Reset);
        gives(&socket, ErrorKind::Reset);
    });
}

#[test]
fn it_is_noticed_at_once_despite_unread_data() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.send(b"precious");
            wire.await_cue();
            wire.reset();
        });
        let socket = open(&peer);
        peer.cue();
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
        assert_eq!(socket.phase(), Phase::Closed);
        // Other systems discard the bytes.
        if cfg!(target_os = "linux") {
            assert_eq!(read(&socket, 5).expect("they came before the reset"), b"preci");
            assert_eq!(read(&socket, 10).expect("they came before the reset"), b"ous");
        }
        gives(&socket, ErrorKind::Reset);
    });
}

/// A write can fail without a failure of reads, for example if the system has no buffers. Here the test shuts the write
/// side down without the library's knowledge. All calls report the same error, and a blocked read returns.
#[cfg(target_os = "linux")]
#[test]
fn a_blocked_read_sees_the_failure_of_a_write() {
    use crate::support::process::connection;
    use crate::support::tls::Way;
    for way in [Way::Plain, Way::On] {
        story(move || {
            let peer = way.plays(|peer| {
                peer.send(b"before");
                peer.await_cue();
            });
            let socket = way.open(&peer, sockeye::SocketOptions::new().allow_half_open(true));
            assert_eq!(read(&socket, 10).expect("the peer sends"), b"before");
            let reader = socket.reader();
            let reading = blocked(move || read(reader, 10));
            let info = socket.opened().expect("it is open");
            let ends = (info.local_address(), info.remote_address());
            let (Some(local), Some(remote)) = ends else {
                panic!("an address is missing: {ends:?}")
            };
            connection(local, remote).shutdown(Shutdown::Write).expect("it is connected");
            // Over TLS one write succeeds before that.
            eventually(AT_ONCE, "a write fails", || (&socket).write(b"x").is_err());
            fails(reading.join_within(AT_ONCE), ErrorKind::Reset);
            gives(&socket, ErrorKind::Reset);
            peer.cue();
        });
    }
}
