//! The two sides of a socket: ended, cancelled and aborted one by one, and shared by threads.

use std::io::Write;

use sockeye::{ErrorKind, Phase, SocketOptions};

use crate::support::peer::{Wire, listen_with_room};
use crate::support::{
    AT_ONCE, How, Peer, at_once, blocked, call, eventually, fails, kind_of, little_room, ms, open,
    open_with, pour, read, read_to_end, story,
};

// -------------------------------------------------------------------- Writer::close

#[test]
fn closewriter_peer_stays() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.read_to_end();
            wire.await_cue();
        });
        let socket = open(&peer);
        socket.writer().close().expect("the peer reads");
        fails(socket.closed_timeout(ms(300)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::HalfClosed);
        socket.close().expect("nothing is in the way");
        socket.closed_timeout(AT_ONCE).expect("it was closed");
        peer.cue();
        peer.gets(b"");
    });
}

#[test]
fn closewriter_twice() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.read_to_end();
            wire.await_cue();
        });
        let socket = open(&peer);
        let writer = socket.writer();
        writer.close().expect("the peer reads");
        writer.close().expect("closing what is closed is no mistake");
        fails((&writer).write(b"x"), ErrorKind::Closed);
        writer.abort();
        // An abort after a finished close does nothing: the peer has seen one clean end and no failure.
        fails(socket.closed_timeout(ms(100)), ErrorKind::TimedOut);
        peer.cue();
        peer.gets(b"");
    });
}

#[test]
fn closewriter_pending_write() {
    story(|| {
        let peer = Peer::plays(|wire| wire.wait(ms(300)));
        let socket = open(&peer);
        let writer = socket.writer();
        let writing = call(move || pour(writer, b'w', 3_000_000));
        socket.writer().close().expect("the peer reads in the end");
        let (taken, failure) = writing.join();
        if let Some(failure) = failure {
            assert_eq!(kind_of(&failure), ErrorKind::Closed);
        }
        peer.gets(&vec![b'w'; taken]);
    });
}

#[test]
fn closing_the_writer_is_idempotent_across_handles_and_threads() {
    story(|| {
        let peer = Peer::plays(|wire| wire.read_to_end());
        let socket = open(&peer);
        (&socket).write_all(b"x").expect("the peer reads");
        let closers: Vec<_> = (0..8)
            .map(|_| {
                let writer = socket.writer();
                call(move || writer.close())
            })
            .collect();
        for closer in closers {
            closer.join().expect("each gets the same answer");
        }
        peer.gets(b"x");
    });
}

// -------------------------------------------------------------------- Writer::abort

#[test]
fn abort_pending_writes() {
    story(|| {
        let peer = Peer::on(listen_with_room(4096), Wire::await_cue);
        let socket = open_with(&peer, little_room());
        let writers: Vec<_> = (0..3)
            .map(|_| {
                let writer = socket.writer();
                blocked(move || pour(writer, b'w', 3_000_000))
            })
            .collect();
        socket.writer().abort();
        for writer in writers {
            let (_, failure) = writer.join_within(AT_ONCE);
            assert_eq!(kind_of(&failure.expect("nobody reads")), ErrorKind::Closed);
        }
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Closed);
        socket.close().expect("it ended before");
        peer.cue();
        peer.sees_a_reset();
    });
}

#[test]
fn abort_of_the_writer_ends_reading_too() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 10));
        socket.writer().abort();
        fails(reading.join_within(AT_ONCE), ErrorKind::Closed);
        fails(read(&socket, 10), ErrorKind::Closed);
        peer.sees_a_reset();
    });
}

// -------------------------------------------------------------------- Reader::cancel

#[test]
fn cancel_idle() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.receive(13);
            wire.send(b"more");
            wire.receive(5);
            wire.send(b"and more");
        });
        let socket = open(&peer);
        socket.reader().cancel();
        assert_eq!(read(&socket, 10).expect("cancelled"), b"");
        assert_eq!(socket.phase(), Phase::HalfClosed);
        (&socket).write_all(b"still writing").expect("writing goes on");
        fails(socket.closed_timeout(ms(200)), ErrorKind::TimedOut);
        (&socket).write_all(b"again").expect("writing goes on");
        assert_eq!(read(&socket, 10).expect("cancelled"), b"");
        assert_eq!(socket.stats().bytes_read, 0);
        socket.close().expect("the peer reads");
        socket.closed().expect("it was closed");
        peer.gets(b"still writingagain");
    });
}

#[test]
fn cancel_pending_read() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 10));
        at_once(|| socket.reader().cancel());
        assert_eq!(reading.join_within(AT_ONCE).expect("cancelled"), b"");
        (&socket).write_all(b"w").expect("writing goes on");
        socket.close().expect("the peer reads");
        peer.gets(b"w");
    });
}

#[test]
fn cancel_and_closewriter() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.read_to_end();
            wire.await_cue();
        });
        let socket = open(&peer);
        socket.reader().cancel();
        socket.writer().close().expect("the peer reads");
        socket.closed_timeout(AT_ONCE).expect("both directions ended");
        assert_eq!(socket.phase(), Phase::Closed);
        socket.close().expect("it ended before");
        peer.cue();
        peer.gets(b"");
    });
}

#[test]
fn cancel_and_abort() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        socket.reader().cancel();
        socket.writer().abort();
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Closed);
        socket.close().expect("it ended before");
        peer.sees_a_reset();
    });
}

#[test]
fn abort_then_cancel() {
    story(|| {
        let peer = Peer::plays(|wire| wire.send(b"unread"));
        let socket = open(&peer);
        fails(socket.closed_timeout(ms(100)), ErrorKind::TimedOut);
        socket.writer().abort();
        socket.reader().cancel();
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Closed);
        peer.sees_a_reset();
    });
}

#[test]
fn cancel_after_eof() {
    story(|| {
        let peer = Peer::plays(|wire| wire.fin());
        let socket = open_with(&peer, SocketOptions::new().allow_half_open(true));
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        socket.reader().cancel();
        fails(socket.closed_timeout(ms(300)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::HalfClosed);
        assert_eq!(read(&socket, 1).expect("a clean end"), b"");
        (&socket).write_all(b"w").expect("writing goes on");
        socket.close().expect("the peer reads");
        peer.gets(b"w");
    });
}

#[test]
fn a_cancelled_reader_does_not_hold_the_peer_up() {
    const MUCH: usize = 32 << 20;
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.await_cue();
            // More than the kernel would ever hold.
            wire.send(&vec![b'm'; MUCH]);
            wire.fin();
        });
        let socket = open(&peer);
        socket.reader().cancel();
        peer.cue();
        socket.closed().expect("the peer ended cleanly");
        assert_eq!(socket.stats().bytes_read, 0);
        peer.gets(b"");
    });
}

#[test]
fn a_reader_may_be_cancelled_while_connecting() {
    story(|| {
        let hole = crate::support::peer::black_hole();
        let socket = sockeye::connect(hole.address).expect("the address is fine");
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 1));
        at_once(|| socket.reader().cancel());
        assert_eq!(reading.join_within(AT_ONCE).expect("cancelled"), b"");
        socket.abort();
    });
}

// -------------------------------------------------------------------- reading

#[test]
fn two_reads() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.await_cue();
            wire.send(b"one");
            wire.await_cue();
            wire.send(b"two");
        });
        let socket = open(&peer);
        let (tell, told) = std::sync::mpsc::channel();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (reader, tell) = (socket.reader(), tell.clone());
                blocked(move || tell.send(read(reader, 10)).expect("the test listens"))
            })
            .collect();
        peer.cue();
        assert_eq!(told.recv().expect("a reader tells").expect("data came"), b"one");
        peer.cue();
        assert_eq!(told.recv().expect("a reader tells").expect("data came"), b"two");
        readers.into_iter().for_each(|reader| reader.join());
        assert_eq!(socket.stats().bytes_read, 6);
    });
}

#[test]
fn read_chunking() {
    const COUNT: usize = 20_000;
    for size in [1, 7, 1000, 4096, 32 << 10] {
        story(move || {
            let bytes = crate::support::noise(4, COUNT);
            let sent = bytes.clone();
            let peer = Peer::plays(move |wire| {
                wire.send(&sent);
                wire.fin();
            });
            let socket = open(&peer);
            fails(socket.closed_timeout(ms(150)), ErrorKind::TimedOut);
            let mut got = Vec::new();
            let mut largest = 0;
            loop {
                let some = read(&socket, size).expect("a clean end");
                if some.is_empty() {
                    break;
                }
                largest = largest.max(some.len());
                got.extend(some);
            }
            crate::support::same(&got, &bytes);
            assert!(largest <= size);
            assert!(size <= 4096 || largest > 4096, "all were waiting, one read took {largest}");
            assert_eq!(read(&socket, size).expect("a clean end"), b"", "and again");
        });
    }
}

#[test]
fn read_coalesce() {
    story(|| {
        let peer = Peer::plays(|wire| {
            for segment in [b"a1", b"b2", b"c3"] {
                wire.send(segment);
                wire.wait(ms(30));
            }
            wire.await_cue();
            wire.fin();
        });
        let socket = open(&peer);
        fails(socket.closed_timeout(ms(250)), ErrorKind::TimedOut);
        assert_eq!(read(&socket, 100).expect("data waits"), b"a1b2c3");
        peer.cue();
        assert_eq!(read(&socket, 100).expect("a clean end"), b"");
    });
}

#[test]
fn an_empty_buffer_reads_and_writes_nothing() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.send(b"data");
            wire.await_cue();
        });
        let socket = open(&peer);
        assert_eq!(at_once(|| read(&socket, 0)).expect("nothing was asked for"), b"");
        assert_eq!(at_once(|| (&socket).write(b"")).expect("nothing was given"), 0);
        assert_eq!(read(&socket, 10).expect("data waits"), b"data");
        assert_eq!(at_once(|| read(&socket, 0)).expect("nothing was asked for"), b"");
        assert_eq!(socket.phase(), Phase::Open);
    });
}

// -------------------------------------------------------------------- handles

#[test]
fn handles_keep_the_connection_and_the_last_one_closes_it() {
    story(|| {
        let peer = Peer::plays(|wire| {
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
        (&writer).write_all(b"more").expect("a dropped reader is no end of writing");
        drop(writer);
        let ending = peer.ending();
        assert_eq!((&ending.bytes[..], ending.how), (&b"callmore"[..], How::Fin));
    });
}

#[test]
fn stats_count_what_passed() {
    story(|| {
        let peer = Peer::plays(|wire| wire.echo());
        let socket = open(&peer);
        assert_eq!((socket.stats().bytes_read, socket.stats().bytes_written), (0, 0));
        (&socket).write_all(&[b's'; 1000]).expect("the peer reads");
        assert_eq!(socket.stats().bytes_written, 1000);
        crate::support::read_exactly(&socket, 400).expect("the echo comes");
        assert_eq!(socket.stats().bytes_read, 400);
        socket.close().expect("nothing is in the way");
        eventually(AT_ONCE, "the numbers stay", || {
            let stats = socket.stats();
            (stats.bytes_read, stats.bytes_written) == (400, 1000)
        });
    });
}
