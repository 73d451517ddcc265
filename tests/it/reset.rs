//! Resets, in addition to the scenarios of `conformance::reset`. Every call always reports a reset by the peer as
//! `Reset`, never as a clean end.

use std::io::Write;
#[cfg(target_os = "linux")]
use std::net::Shutdown;

use sockeye::{ErrorKind, Phase};

use crate::support::{
    PROMPT, Peer, assert_ended_with, assert_fails, crate_kind, eventually, open, open_with, read,
    small_send_buffer, spawn_blocked, with_watchdog, write_until_error,
};

#[test]
fn a_write_alone_reports_it() {
    with_watchdog(|| {
        let peer = Peer::resetting();
        let socket = open(&peer);
        peer.signal();
        peer.finish();
        let mut failure = None;
        eventually(PROMPT, "the write fails", || {
            failure = (&socket).write(b"x").err();
            failure.is_some()
        });
        assert_eq!(crate_kind(&failure.expect("it is set")), ErrorKind::Reset);
        assert_ended_with(&socket, ErrorKind::Reset);
    });
}

#[test]
fn a_blocked_write_reports_it() {
    with_watchdog(|| {
        let peer = Peer::resetting();
        let socket = open_with(&peer, small_send_buffer());
        let writer = socket.writer();
        let writing = spawn_blocked(move || write_until_error(writer, b'w', usize::MAX));
        peer.signal();
        let (_, failure) = writing.join_within(PROMPT);
        assert_eq!(crate_kind(&failure.expect("the peer does not read")), ErrorKind::Reset);
        assert_ended_with(&socket, ErrorKind::Reset);
    });
}

#[test]
fn a_cancelled_reader_does_not_hide_it() {
    with_watchdog(|| {
        let peer = Peer::resetting();
        let socket = open(&peer);
        socket.reader().cancel();
        peer.signal();
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Reset);
        assert_fails((&socket).write(b"x"), ErrorKind::Reset);
    });
}

/// The peer closes with unread bytes, which the kernel also reports as a reset.
#[test]
fn a_peer_that_closes_without_reading_resets() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.wait_signal();
            wire.close();
        });
        let socket = open(&peer);
        (&socket).write_all(b"never read").expect("the send buffer has room");
        let reader = socket.reader();
        let reading = spawn_blocked(move || read(reader, 10));
        peer.signal();
        assert_fails(reading.join_within(PROMPT), ErrorKind::Reset);
        assert_ended_with(&socket, ErrorKind::Reset);
    });
}

#[test]
fn it_is_noticed_at_once_despite_unread_data() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.send(b"precious");
            wire.wait_signal();
            wire.reset();
        });
        let socket = open(&peer);
        peer.signal();
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Reset);
        assert_eq!(socket.phase(), Phase::Closed);
        // Other systems discard the bytes.
        if cfg!(target_os = "linux") {
            assert_eq!(read(&socket, 5).expect("they came before the reset"), b"preci");
            assert_eq!(read(&socket, 10).expect("they came before the reset"), b"ous");
        }
        assert_ended_with(&socket, ErrorKind::Reset);
    });
}

/// A write can fail without a failure of reads, for example if the system has no buffers. Here the test shuts the write
/// side down without the library's knowledge. All calls report the same error, and a blocked read returns.
#[cfg(target_os = "linux")]
#[test]
fn a_blocked_read_sees_the_failure_of_a_write() {
    use crate::support::process::connection;
    use crate::support::tls::Opening;
    for way in [Opening::Plain, Opening::On] {
        with_watchdog(move || {
            let peer = way.scripted(|peer| {
                peer.send(b"before");
                peer.wait_signal();
            });
            let socket = way.open(&peer, sockeye::SocketOptions::new().allow_half_open(true));
            assert_eq!(read(&socket, 10).expect("the peer sends"), b"before");
            let reader = socket.reader();
            let reading = spawn_blocked(move || read(reader, 10));
            let info = socket.opened().expect("it is open");
            let ends = (info.local_address(), info.remote_address());
            let (Some(local), Some(remote)) = ends else {
                panic!("an address is missing: {ends:?}")
            };
            connection(local, remote).shutdown(Shutdown::Write).expect("it is connected");
            // Over TLS one write succeeds before that.
            eventually(PROMPT, "a write fails", || (&socket).write(b"x").is_err());
            assert_fails(reading.join_within(PROMPT), ErrorKind::Reset);
            assert_ended_with(&socket, ErrorKind::Reset);
            peer.signal();
        });
    }
}
