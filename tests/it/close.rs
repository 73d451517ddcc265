//! Tests of `close()`, `abort()` and the last handle's drop, in addition to the scenarios of `conformance::close`.

use std::io::{self, Write};

use sockeye::{ErrorKind, Phase};

use crate::support::peer::{Wire, black_hole, listen_with_room};
use crate::support::{
    AT_ONCE, How, PATIENCE, Peer, at_once, blocked, call, eventually, fails, kind_of, little_room,
    ms, open, open_with, pour, read, read_exactly, story,
};

// -------------------------------------------------------------------- calls in progress

#[test]
fn a_write_that_close_ends_reports_exactly_the_delivered_bytes() {
    for _ in 0..20 {
        story(|| {
            let peer = Peer::reads();
            let socket = open(&peer);
            let writer = socket.writer();
            let writing = call(move || pour(writer, b'w', usize::MAX));
            let mut count = 0;
            while count < 200_000 {
                count = socket.stats().bytes_written;
                std::thread::yield_now();
            }
            socket.close().expect("the peer reads");
            let (taken, failure) = writing.join_within(AT_ONCE);
            assert_eq!(kind_of(&failure.expect("it was closed")), ErrorKind::Closed);
            let ending = peer.ending();
            assert_eq!((ending.bytes.len(), ending.how), (taken, How::Fin));
            assert_eq!(socket.stats().bytes_written, taken as u64);
        });
    }
}

#[test]
fn bytes_that_io_copy_took_before_close_are_delivered() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.send(b"round");
            wire.receive(5);
            wire.await_cue();
        });
        let socket = open(&peer);
        let (mut reader, mut writer) = (socket.reader(), socket.writer());
        let copying = call(move || io::copy(&mut reader, &mut writer));
        eventually(PATIENCE, "the bytes are copied", || socket.stats().bytes_written == 5);
        at_once(|| socket.close()).expect("nothing prevents it");
        fails(copying.join_within(AT_ONCE), ErrorKind::Closed);
        peer.cue();
        peer.gets(b"round");
    });
}

// -------------------------------------------------------------------- unread bytes

/// `close()` drains unread bytes, so that the exit of the process causes no reset.
#[cfg(target_os = "linux")]
#[test]
fn a_process_that_ends_right_after_close_leaves_a_clean_end() {
    use crate::support::alone::{Actor, next_line, part, play};
    if part().is_some() {
        let address = next_line().expect("the address comes first");
        let socket = sockeye::connect(address).expect("the address is valid");
        assert_eq!(read_exactly(&socket, 1).expect("the peer sends"), b"u");
        (&socket).write_all(b"last words").expect("the send buffer has room");
        play(|| socket.close().expect("the close succeeds"));
        std::process::exit(0);
    }
    let peer = Peer::plays(|wire| {
        wire.send(&[b'u'; 10_000]);
        wire.read_to_end();
        wire.await_cue();
    });
    let name = "close::a_process_that_ends_right_after_close_leaves_a_clean_end";
    let mut program = Actor::new(name, "program");
    program.tell(&peer.address().to_string());
    program.finishes(PATIENCE);
    peer.cue();
    peer.gets(b"last words");
}

// -------------------------------------------------------------------- abort

#[test]
fn every_call_reports_an_abort() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 1));
        let waiter = socket.clone();
        let waiting = blocked(move || waiter.closed());
        at_once(|| socket.abort());
        fails(reading.join_within(AT_ONCE), ErrorKind::Closed);
        fails(waiting.join_within(AT_ONCE), ErrorKind::Closed);
        fails((&socket).write(b"x"), ErrorKind::Closed);
        assert_eq!(socket.phase(), Phase::Closed);
        socket.close().expect("it had ended");
        socket.abort();
        fails(socket.closed(), ErrorKind::Closed);
        peer.sees_a_reset();
    });
}

#[test]
fn abort_after_close_changes_no_outcome() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        socket.close().expect("the close succeeds");
        socket.abort();
        socket.closed().expect("the first outcome stays");
        socket.close().expect("the first outcome stays");
    });
}

#[test]
fn abort_drops_unsent_bytes() {
    story(|| {
        let peer = Peer::on(listen_with_room(4096), Wire::await_cue);
        let socket = open_with(&peer, little_room());
        let writer = socket.writer();
        let writing = blocked(move || pour(writer, b'w', usize::MAX));
        socket.abort();
        writing.join_within(AT_ONCE);
        peer.cue();
        peer.sees_a_reset();
    });
}

// -------------------------------------------------------------------- the last handle

#[test]
fn dropping_the_last_handle_closes_gracefully() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.send(b"unread");
            wire.receive(10);
            wire.read_to_end();
            wire.await_cue();
        });
        let socket = open(&peer);
        (&socket).write_all(b"last words").expect("the send buffer has room");
        at_once(|| drop(socket));
        peer.cue();
        peer.gets(b"last words");
    });
}

#[test]
fn dropping_the_last_handle_cancels_an_attempt() {
    story(|| {
        let hole = black_hole();
        let socket = sockeye::connect(hole.address).expect("the address is valid");
        fails(socket.opened_timeout(ms(50)), ErrorKind::TimedOut);
        at_once(|| drop(socket));
        #[cfg(target_os = "linux")]
        eventually(AT_ONCE, "all attempts have ended", || {
            crate::support::process::attempts_towards(hole.address) == 0
        });
    });
}
