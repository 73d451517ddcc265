//! The two sides of a socket, ended separately and shared by threads, in addition to the scenarios of
//! `conformance::writer_reader`.

use std::io::Write;

use sockeye::{ErrorKind, Phase};

use crate::support::{
    EndKind, PROMPT, Peer, assert_fails, at_once, eventually, open, read, read_exactly,
    spawn_blocked, spawn_call, with_watchdog,
};

#[test]
fn closing_the_writer_is_idempotent_across_handles_and_threads() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| wire.read_to_end());
        let socket = open(&peer);
        (&socket).write_all(b"x").expect("the peer reads");
        let closers: Vec<_> = (0..8)
            .map(|_| {
                let writer = socket.writer();
                spawn_call(move || writer.close())
            })
            .collect();
        for closer in closers {
            closer.join().expect("each gets the same answer");
        }
        peer.assert_received(b"x");
    });
}

#[test]
fn abort_of_the_writer_ends_reading_too() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open(&peer);
        let reader = socket.reader();
        let reading = spawn_blocked(move || read(reader, 10));
        socket.writer().abort();
        assert_fails(reading.join_within(PROMPT), ErrorKind::Closed);
        assert_fails(read(&socket, 10), ErrorKind::Closed);
        peer.assert_reset();
    });
}

#[test]
fn a_cancelled_reader_does_not_block_the_peer() {
    const MUCH: usize = 32 << 20;
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.wait_signal();
            // More bytes than the kernel ever buffers.
            wire.send(&vec![b'm'; MUCH]);
            wire.fin();
        });
        let socket = open(&peer);
        socket.reader().cancel();
        peer.signal();
        socket.closed().expect("the peer ended cleanly");
        assert_eq!(socket.stats().bytes_read, 0);
        peer.assert_received(b"");
    });
}

#[test]
fn a_reader_may_be_cancelled_while_connecting() {
    with_watchdog(|| {
        let hole = crate::support::peer::black_hole();
        let socket = sockeye::connect(hole.address).expect("the address is valid");
        let reader = socket.reader();
        let reading = spawn_blocked(move || read(reader, 1));
        at_once(|| socket.reader().cancel());
        assert_eq!(reading.join_within(PROMPT).expect("reading has ended"), b"");
        socket.abort();
    });
}

#[test]
fn an_empty_buffer_reads_and_writes_nothing() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.send(b"data");
            wire.wait_signal();
        });
        let socket = open(&peer);
        assert_eq!(at_once(|| read(&socket, 0)).expect("nothing was asked for"), b"");
        assert_eq!(at_once(|| (&socket).write(b"")).expect("nothing was given"), 0);
        assert_eq!(read(&socket, 10).expect("data waits"), b"data");
        assert_eq!(at_once(|| read(&socket, 0)).expect("nothing was asked for"), b"");
        assert_eq!(socket.phase(), Phase::Open);
    });
}

#[test]
fn handles_keep_the_connection_and_the_last_one_closes_it() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.receive(4);
            wire.send(b"answer");
        });
        let socket = open(&peer);
        let (reader, writer) = (socket.reader(), socket.writer());
        drop(socket.clone());
        drop(socket);
        (&writer).write_all(b"call").expect("the peer reads");
        assert_eq!(read(&reader, 6).expect("the peer answers"), b"answer");
        drop(reader);
        (&writer).write_all(b"more").expect("writing continues without a reader");
        drop(writer);
        let ending = peer.finish();
        assert_eq!((&ending.bytes[..], ending.how), (&b"callmore"[..], EndKind::Fin));
    });
}

#[test]
fn stats_count_read_and_written_bytes() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| wire.echo());
        let socket = open(&peer);
        assert_eq!((socket.stats().bytes_read, socket.stats().bytes_written), (0, 0));
        (&socket).write_all(&[b's'; 1000]).expect("the peer reads");
        assert_eq!(socket.stats().bytes_written, 1000);
        read_exactly(&socket, 400).expect("the echo comes");
        assert_eq!(socket.stats().bytes_read, 400);
        socket.close().expect("the close succeeds");
        eventually(PROMPT, "the counters are final", || {
            let stats = socket.stats();
            (stats.bytes_read, stats.bytes_written) == (400, 1000)
        });
    });
}
