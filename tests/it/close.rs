//! Tests of `close()`, `abort()` and the last handle's drop, in addition to the scenarios of `conformance::close`.

use std::io::{self, Write};

use sockeye::{ErrorKind, Phase};

use crate::support::peer::{PeerConn, black_hole, listen_with_room};
use crate::support::{
    EndKind, PROMPT, Peer, WATCHDOG, assert_fails, at_once, crate_kind, eventually, ms, open,
    open_with, read, small_send_buffer, spawn_blocked, spawn_call, with_watchdog,
    write_until_error,
};

// -------------------------------------------------------------------- calls in progress

#[test]
fn a_write_that_close_ends_reports_exactly_the_delivered_bytes() {
    for _ in 0..20 {
        with_watchdog(|| {
            let peer = Peer::reading();
            let socket = open(&peer);
            let writer = socket.writer();
            let writing = spawn_call(move || write_until_error(writer, b'w', usize::MAX));
            let mut count = 0;
            while count < 200_000 {
                count = socket.stats().bytes_written;
                std::thread::yield_now();
            }
            socket.close().expect("the peer reads");
            let (taken, failure) = writing.join_within(PROMPT);
            assert_eq!(crate_kind(&failure.expect("it was closed")), ErrorKind::Closed);
            let ending = peer.finish();
            assert_eq!((ending.bytes.len(), ending.how), (taken, EndKind::Fin));
            assert_eq!(socket.stats().bytes_written, taken as u64);
        });
    }
}

#[test]
fn bytes_that_io_copy_took_before_close_are_delivered() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.send(b"round");
            wire.receive(5);
            wire.wait_signal();
        });
        let socket = open(&peer);
        let (mut reader, mut writer) = (socket.reader(), socket.writer());
        let copying = spawn_call(move || io::copy(&mut reader, &mut writer));
        eventually(WATCHDOG, "the bytes are copied", || socket.stats().bytes_written == 5);
        at_once(|| socket.close()).expect("nothing prevents it");
        assert_fails(copying.join_within(PROMPT), ErrorKind::Closed);
        peer.signal();
        peer.assert_received(b"round");
    });
}

// -------------------------------------------------------------------- unread bytes

/// `close()` drains unread bytes, so that the exit of the process causes no reset.
#[cfg(target_os = "linux")]
#[test]
fn a_process_that_ends_right_after_close_leaves_a_clean_end() {
    use crate::support::read_exactly;
    use crate::support::subprocess::{TestProcess, child_part, next_line, run_part};
    if child_part().is_some() {
        let address = next_line().expect("the address comes first");
        let socket = sockeye::connect(address).expect("the address is valid");
        assert_eq!(read_exactly(&socket, 1).expect("the peer sends"), b"u");
        (&socket).write_all(b"last words").expect("the send buffer has room");
        run_part(|| socket.close().expect("the close succeeds"));
        std::process::exit(0);
    }
    let peer = Peer::scripted(|wire| {
        wire.send(&[b'u'; 10_000]);
        wire.read_to_end();
        wire.wait_signal();
    });
    let name = "close::a_process_that_ends_right_after_close_leaves_a_clean_end";
    let mut program = TestProcess::new(name, "program");
    program.send_line(&peer.address().to_string());
    program.expect_success(WATCHDOG);
    peer.signal();
    peer.assert_received(b"last words");
}

// -------------------------------------------------------------------- abort

#[test]
fn every_call_reports_an_abort() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open(&peer);
        let reader = socket.reader();
        let reading = spawn_blocked(move || read(reader, 1));
        let waiter = socket.clone();
        let waiting = spawn_blocked(move || waiter.closed());
        at_once(|| socket.abort());
        assert_fails(reading.join_within(PROMPT), ErrorKind::Closed);
        assert_fails(waiting.join_within(PROMPT), ErrorKind::Closed);
        assert_fails((&socket).write(b"x"), ErrorKind::Closed);
        assert_eq!(socket.phase(), Phase::Closed);
        socket.close().expect("it had ended");
        socket.abort();
        assert_fails(socket.closed(), ErrorKind::Closed);
        peer.assert_reset();
    });
}

#[test]
fn abort_after_close_changes_no_outcome() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open(&peer);
        socket.close().expect("the close succeeds");
        socket.abort();
        socket.closed().expect("the first outcome stays");
        socket.close().expect("the first outcome stays");
    });
}

#[test]
fn abort_drops_unsent_bytes() {
    with_watchdog(|| {
        let peer = Peer::scripted_on(listen_with_room(4096), PeerConn::wait_signal);
        let socket = open_with(&peer, small_send_buffer());
        let writer = socket.writer();
        let writing = spawn_blocked(move || write_until_error(writer, b'w', usize::MAX));
        socket.abort();
        writing.join_within(PROMPT);
        peer.signal();
        peer.assert_reset();
    });
}

// -------------------------------------------------------------------- the last handle

#[test]
fn dropping_the_last_handle_closes_gracefully() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.send(b"unread");
            wire.receive(10);
            wire.read_to_end();
            wire.wait_signal();
        });
        let socket = open(&peer);
        (&socket).write_all(b"last words").expect("the send buffer has room");
        at_once(|| drop(socket));
        peer.signal();
        peer.assert_received(b"last words");
    });
}

#[test]
fn dropping_the_last_handle_cancels_an_attempt() {
    with_watchdog(|| {
        let hole = black_hole();
        let socket = sockeye::connect(hole.address).expect("the address is valid");
        assert_fails(socket.opened_timeout(ms(50)), ErrorKind::TimedOut);
        at_once(|| drop(socket));
        #[cfg(target_os = "linux")]
        eventually(PROMPT, "all attempts have ended", || {
            crate::support::process::attempts_towards(hole.address) == 0
        });
    });
}
