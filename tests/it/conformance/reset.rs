//! Scenarios of the group `reset`.

use std::io::Write;

use sockeye::{ErrorKind, SocketOptions};

use crate::support::{
    HasErrorKind, PROMPT, Peer, assert_ended_with, assert_fails, at_once, crate_kind, ms, open,
    open_with, read, read_to_end, small_send_buffer, spawn_blocked, with_watchdog,
    write_until_error,
};

/// A reset of an idle socket: it is noticed without a reader, and every call reports it.
#[test]
fn idle() {
    with_watchdog(|| {
        let peer = Peer::resetting();
        let socket = open(&peer);
        let (reader, mut writer) = (socket.reader(), socket.writer());
        peer.signal();
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Reset);
        for _ in 0..2 {
            assert_fails(read(&reader, 10), ErrorKind::Reset);
            assert_fails(writer.write(b"x"), ErrorKind::Reset);
            assert_fails(writer.write(b"y"), ErrorKind::Reset);
        }
        assert_ended_with(&socket, ErrorKind::Reset);
        at_once(|| socket.close()).expect("it had ended");
        assert_ended_with(&socket, ErrorKind::Reset);
    });
}

/// A reset of an idle socket, after which the program only reads.
#[test]
fn idle_only_read() {
    with_watchdog(|| {
        let peer = Peer::resetting();
        let socket = open(&peer);
        peer.signal();
        peer.finish();
        for _ in 0..3 {
            assert_fails(read(&socket, 10), ErrorKind::Reset);
        }
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Reset);
    });
}

/// A reset of an idle socket in a mode in which the peer's FIN alone would change nothing.
#[test]
fn idle_halfopen() {
    with_watchdog(|| {
        let peer = Peer::resetting();
        let socket = open_with(&peer, SocketOptions::new().allow_half_open(true));
        peer.signal();
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Reset);
        assert_ended_with(&socket, ErrorKind::Reset);
        at_once(|| socket.close()).expect("it had ended");
        assert_ended_with(&socket, ErrorKind::Reset);
    });
}

/// A reset during a read.
#[test]
fn during_read() {
    with_watchdog(|| {
        let peer = Peer::resetting();
        let socket = open(&peer);
        let (reader, mut writer) = (socket.reader(), socket.writer());
        let reading = spawn_blocked(move || read(reader, 10));
        peer.signal();
        assert_fails(reading.join_within(PROMPT), ErrorKind::Reset);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Reset);
        assert_fails(writer.write(b"x"), ErrorKind::Reset);
        assert_ended_with(&socket, ErrorKind::Reset);
        at_once(|| socket.close()).expect("it had ended");
    });
}

/// Data before a reset is read before the reset is reported, if the system keeps it.
#[test]
fn data_then_reset_read() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.send(b"precious");
            wire.wait_signal();
            wire.reset();
        });
        let socket = open(&peer);
        // The data has arrived, and the reset arrives while no call reads.
        assert_fails(socket.closed_timeout(ms(150)), ErrorKind::TimedOut);
        peer.signal();
        peer.finish();
        if cfg!(target_os = "linux") {
            assert_eq!(read(&socket, 20).expect("the data arrived before"), b"precious");
        }
        assert_fails(read(&socket, 20), ErrorKind::Reset);
        assert_ended_with(&socket, ErrorKind::Reset);
    });
}

/// A reset during a read and a write.
#[test]
fn during_read_and_write() {
    with_watchdog(|| {
        let peer = Peer::resetting();
        let socket = open_with(&peer, small_send_buffer());
        let (reader, writer) = (socket.reader(), socket.writer());
        let reading = spawn_blocked(move || read(reader, 10));
        let writing = spawn_blocked(move || write_until_error(writer, b'w', 3_000_000));
        peer.signal();
        assert_fails(reading.join_within(PROMPT), ErrorKind::Reset);
        let (_, failure) = writing.join_within(PROMPT);
        assert_eq!(crate_kind(&failure.expect("the peer does not read")), ErrorKind::Reset);
        assert_ended_with(&socket, ErrorKind::Reset);
        at_once(|| socket.close()).expect("it had ended");
    });
}

/// A reset during a read, after this side has ended.
#[test]
fn during_closewriter() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.read_to_end();
            wire.wait_signal();
            wire.reset();
        });
        let socket = open(&peer);
        socket.writer().close().expect("the peer reads");
        let reader = socket.reader();
        let reading = spawn_blocked(move || read(reader, 10));
        peer.signal();
        assert_fails(reading.join_within(PROMPT), ErrorKind::Reset);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Reset);
    });
}

/// The peer closes both directions, so it answers a later write with a reset.
#[test]
fn after_fin_write() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.fin();
            wire.wait_signal();
            wire.close();
        });
        let mut socket = open_with(&peer, SocketOptions::new().allow_half_open(true));
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        peer.signal();
        peer.finish();
        // The peer answers the first write with a reset, which the event loop notices without a call.
        let first = socket.write(b"1").failure();
        let closed = socket.closed_timeout(PROMPT).failure();
        let cause = socket.write(b"2").failure();
        assert!(matches!(cause, Some(ErrorKind::Reset | ErrorKind::Io)), "{cause:?}");
        assert_eq!(closed, cause);
        assert!(first.is_none() || first == cause, "{first:?}, then {cause:?}");
        at_once(|| socket.close()).expect("it had ended");
    });
}
