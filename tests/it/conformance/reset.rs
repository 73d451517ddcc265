//! Scenarios of the group `reset`.

use std::io::Write;

use sockeye::{ErrorKind, SocketOptions};

use crate::support::{
    AT_ONCE, Peer, Verdict, at_once, blocked, fails, gives, kind_of, little_room, ms, open,
    open_with, pour, read, read_to_end, story,
};

/// A reset of an idle socket: it is noticed without a reader, and every call reports it.
#[test]
fn idle() {
    story(|| {
        let peer = Peer::resets();
        let socket = open(&peer);
        let (reader, mut writer) = (socket.reader(), socket.writer());
        peer.cue();
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
        for _ in 0..2 {
            fails(read(&reader, 10), ErrorKind::Reset);
            fails(writer.write(b"x"), ErrorKind::Reset);
            fails(writer.write(b"y"), ErrorKind::Reset);
        }
        gives(&socket, ErrorKind::Reset);
        at_once(|| socket.close()).expect("it had ended");
        gives(&socket, ErrorKind::Reset);
    });
}

/// A reset of an idle socket, after which the program only reads.
#[test]
fn idle_only_read() {
    story(|| {
        let peer = Peer::resets();
        let socket = open(&peer);
        peer.cue();
        peer.ending();
        for _ in 0..3 {
            fails(read(&socket, 10), ErrorKind::Reset);
        }
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
    });
}

/// A reset of an idle socket in a mode in which the peer's FIN alone would change nothing.
#[test]
fn idle_halfopen() {
    story(|| {
        let peer = Peer::resets();
        let socket = open_with(&peer, SocketOptions::new().allow_half_open(true));
        peer.cue();
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
        gives(&socket, ErrorKind::Reset);
        at_once(|| socket.close()).expect("it had ended");
        gives(&socket, ErrorKind::Reset);
    });
}

/// A reset during a read.
#[test]
fn during_read() {
    story(|| {
        let peer = Peer::resets();
        let socket = open(&peer);
        let (reader, mut writer) = (socket.reader(), socket.writer());
        let reading = blocked(move || read(reader, 10));
        peer.cue();
        fails(reading.join_within(AT_ONCE), ErrorKind::Reset);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
        fails(writer.write(b"x"), ErrorKind::Reset);
        gives(&socket, ErrorKind::Reset);
        at_once(|| socket.close()).expect("it had ended");
    });
}

/// Data before a reset is read before the reset is reported, if the system keeps it.
#[test]
fn data_then_reset_read() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.send(b"precious");
            wire.await_cue();
            wire.reset();
        });
        let socket = open(&peer);
        // The data has arrived, and the reset arrives while no call reads.
        fails(socket.closed_timeout(ms(150)), ErrorKind::TimedOut);
        peer.cue();
        peer.ending();
        if cfg!(target_os = "linux") {
            assert_eq!(read(&socket, 20).expect("the data arrived before"), b"precious");
        }
        fails(read(&socket, 20), ErrorKind::Reset);
        gives(&socket, ErrorKind::Reset);
    });
}

/// A reset during a read and a write.
#[test]
fn during_read_and_write() {
    story(|| {
        let peer = Peer::resets();
        let socket = open_with(&peer, little_room());
        let (reader, writer) = (socket.reader(), socket.writer());
        let reading = blocked(move || read(reader, 10));
        let writing = blocked(move || pour(writer, b'w', 3_000_000));
        peer.cue();
        fails(reading.join_within(AT_ONCE), ErrorKind::Reset);
        let (_, failure) = writing.join_within(AT_ONCE);
        assert_eq!(kind_of(&failure.expect("the peer does not read")), ErrorKind::Reset);
        gives(&socket, ErrorKind::Reset);
        at_once(|| socket.close()).expect("it had ended");
    });
}

/// A reset during a read, after this side has ended.
#[test]
fn during_closewriter() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.read_to_end();
            wire.await_cue();
            wire.reset();
        });
        let socket = open(&peer);
        socket.writer().close().expect("the peer reads");
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 10));
        peer.cue();
        fails(reading.join_within(AT_ONCE), ErrorKind::Reset);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
    });
}

/// The peer closes both directions, so it answers a later write with a reset.
#[test]
fn after_fin_write() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.fin();
            wire.await_cue();
            wire.close();
        });
        let mut socket = open_with(&peer, SocketOptions::new().allow_half_open(true));
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        peer.cue();
        peer.ending();
        // The peer answers the first write with a reset, which the event loop notices without a call.
        let first = socket.write(b"1").failure();
        let closed = socket.closed_timeout(AT_ONCE).failure();
        let cause = socket.write(b"2").failure();
        assert!(matches!(cause, Some(ErrorKind::Reset | ErrorKind::Io)), "{cause:?}");
        assert_eq!(closed, cause);
        assert!(first.is_none() || first == cause, "{first:?}, then {cause:?}");
        at_once(|| socket.close()).expect("it had ended");
    });
}
