//! `close()` and `abort()`: what the peer sees, what becomes of calls under way, what later calls say.

use std::io::{self, Write};

use sockeye::{ErrorKind, Phase, SocketOptions};

use crate::support::peer::{Wire, nothing_listens};
use crate::support::{
    AT_ONCE, How, Peer, at_once, blocked, call, fails, kind_of, little_room, ms, noise, open,
    open_with, pour, read, read_exactly, same, story, timed,
};

// -------------------------------------------------------------------- nothing under way

#[test]
fn idle() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.read_to_end();
            wire.await_cue();
        });
        let socket = open(&peer);
        at_once(|| socket.close()).expect("nothing is in the way");
        socket.closed_timeout(AT_ONCE).expect("it was closed");
        assert_eq!(socket.phase(), Phase::Closed);
        peer.cue();
        peer.gets(b"");
    });
}

#[test]
fn unlocked_streams() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        socket.close().expect("nothing is in the way");
        fails(read(socket.reader(), 1), ErrorKind::Closed);
        fails(socket.writer().write(b"x"), ErrorKind::Closed);
        peer.gets(b"");
    });
}

#[test]
fn locked_streams() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        let (reader, writer) = (socket.reader(), socket.writer());
        socket.close().expect("nothing is in the way");
        fails(read(&reader, 1), ErrorKind::Closed);
        fails((&writer).write(b"x"), ErrorKind::Closed);
        peer.gets(b"");
    });
}

#[test]
fn get_reader_after() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        let closer = socket.clone();
        let closing = call(move || closer.close());
        let reader = socket.reader();
        closing.join().expect("nothing is in the way");
        fails(read(&reader, 1), ErrorKind::Closed);
        fails(socket.writer().write(b"x"), ErrorKind::Closed);
        peer.gets(b"");
    });
}

#[test]
fn twice() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.read_to_end();
            wire.await_cue();
        });
        let socket = open(&peer);
        let closers: Vec<_> = (0..2)
            .map(|_| {
                let socket = socket.clone();
                call(move || socket.close())
            })
            .collect();
        for closer in closers {
            closer.join().expect("nothing is in the way");
        }
        socket.close().expect("and a third time");
        socket.closed_timeout(AT_ONCE).expect("it was closed");
        peer.cue();
        peer.gets(b"");
    });
}

// -------------------------------------------------------------------- calls under way

#[test]
fn pending_read() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 1));
        at_once(|| socket.close()).expect("nothing is in the way");
        fails(reading.join_within(AT_ONCE), ErrorKind::Closed);
        socket.closed().expect("it was closed");
        peer.gets(b"");
    });
}

#[test]
fn queued_small() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        let writer = socket.writer();
        let writing =
            call(move || (&writer).write_all(b"one").and_then(|()| (&writer).write_all(b"two")));
        writing.join().expect("the peer reads");
        socket.close().expect("nothing is in the way");
        peer.gets(b"onetwo");
    });
}

#[test]
fn pending_write_never_read() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        assert_eq!((&socket).write(b"last words").expect("there is room"), 10);
        socket.close().expect("nothing is in the way");
        peer.gets(b"last words");
    });
}

#[test]
fn queued_large_stuck() {
    const LIMIT: u64 = 500;
    story(|| {
        let peer = Peer::stuck();
        let socket = open_with(&peer, little_room().close_timeout(ms(LIMIT)));
        let writer = socket.writer();
        let writing = blocked(move || pour(writer, b'w', 3_000_000));
        let (closed, took) = timed(|| socket.close());
        assert!(took < ms(LIMIT) + AT_ONCE, "took {took:?}");
        let (taken, failure) = writing.join_within(AT_ONCE);
        assert_eq!(kind_of(&failure.expect("nobody reads")), ErrorKind::Closed);
        // What was taken is with the kernel, which may hand it over later, or the connection was reset.
        match closed {
            Ok(()) => {
                socket.closed_timeout(AT_ONCE).expect("the first outcome stays");
                peer.cue();
                peer.gets(&vec![b'w'; taken]);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                fails(socket.closed_timeout(AT_ONCE), ErrorKind::TimedOut);
                peer.cue();
                peer.sees_a_reset();
            }
        }
    });
}

#[test]
fn a_write_that_close_ends_tells_exactly_what_is_delivered() {
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
fn pipe() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.send(b"round");
            wire.receive(5);
            wire.await_cue();
        });
        let socket = open(&peer);
        let (mut reader, mut writer) = (socket.reader(), socket.writer());
        let copying = blocked(move || io::copy(&mut reader, &mut writer));
        at_once(|| socket.close()).expect("nothing is in the way");
        fails(copying.join_within(AT_ONCE), ErrorKind::Closed);
        socket.closed_timeout(AT_ONCE).expect("it was closed");
        peer.cue();
        peer.gets(b"round");
    });
}

// -------------------------------------------------------------------- bytes that nobody has read

#[test]
fn read_after_close_buffered() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.send(b"waiting");
            wire.read_to_end();
            wire.await_cue();
        });
        let socket = open(&peer);
        // Bytes are unread, which is how they show without being read.
        fails(socket.closed_timeout(ms(120)), ErrorKind::TimedOut);
        let reader = socket.reader();
        let closer = socket.clone();
        call(move || closer.close()).join().expect("nothing is in the way");
        fails(read(&reader, 10), ErrorKind::Closed);
        fails(read(&reader, 10), ErrorKind::Closed);
        peer.cue();
        peer.gets(b"");
    });
}

#[test]
fn unread_data_after_read() {
    const LIMIT: u64 = 2_000;
    story(|| {
        let peer = Peer::plays(|wire| {
            let bytes = noise(5, 300_000);
            // A reset after the clean end may cut this short.
            let _ = wire.try_send(&bytes);
        });
        let socket = open_with(&peer, SocketOptions::new().close_timeout(ms(LIMIT)));
        (&socket).write_all(b"before").expect("there is room");
        same(&read_exactly(&socket, 1000).expect("the peer sends"), &noise(5, 300_000)[..1000]);
        let (closed, took) = timed(|| socket.close());
        closed.expect("what was written is with the kernel");
        assert!(took < ms(LIMIT) + AT_ONCE, "took {took:?}");
        socket.closed().expect("it was closed");
        peer.sees_the_end_after(b"before");
    });
}

#[test]
fn peer_sends_after() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.read_to_end();
            for word in [b"late", b"more", b"last"] {
                wire.send(word);
                wire.wait(ms(50));
                let failure = wire.failure();
                assert!(
                    failure.is_none(),
                    "after {:?}: {failure:?}",
                    String::from_utf8_lossy(word)
                );
            }
        });
        let socket = open(&peer);
        at_once(|| socket.close()).expect("nothing is in the way");
        peer.gets(b"");
    });
}

#[test]
fn peer_already_closed() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.send(b"unread");
            wire.close();
        });
        let socket = open(&peer);
        fails(socket.closed_timeout(ms(150)), ErrorKind::TimedOut);
        at_once(|| socket.close()).expect("the peer ended before");
        socket.closed_timeout(AT_ONCE).expect("it was closed");
    });
}

/// `close()` itself drops what is unread, so that the end of the process makes no reset of it.
#[cfg(target_os = "linux")]
#[test]
fn a_process_that_ends_right_after_close_leaves_a_clean_end() {
    use crate::support::PATIENCE;
    use crate::support::alone::{Actor, next_line, part, play};
    if part().is_some() {
        let address = next_line().expect("the address comes first");
        let socket = sockeye::connect(address).expect("the address is fine");
        assert_eq!(read_exactly(&socket, 1).expect("the peer sends"), b"u");
        (&socket).write_all(b"last words").expect("there is room");
        play(|| socket.close().expect("nothing is in the way"));
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

// -------------------------------------------------------------------- after Writer::close

#[test]
fn after_writer_close() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.read_to_end();
            wire.await_cue();
        });
        let socket = open(&peer);
        (&socket).write_all(b"x").expect("there is room");
        socket.writer().close().expect("the peer reads");
        socket.close().expect("nothing is in the way");
        socket.closed_timeout(AT_ONCE).expect("it was closed");
        peer.cue();
        peer.gets(b"x");
    });
}

#[test]
fn writer_close_pending() {
    for _ in 0..50 {
        story(|| {
            let peer = Peer::reads();
            let socket = open(&peer);
            let (writer, closer) = (socket.writer(), socket.writer());
            let writing = call(move || (&writer).write(b"x"));
            let closing = call(move || closer.close());
            socket.close().expect("the peer reads");
            socket.closed().expect("it was closed");
            let ending = peer.ending();
            match writing.join() {
                Ok(count) => assert_eq!(ending.bytes.len(), count),
                Err(error) => {
                    assert_eq!(kind_of(&error), ErrorKind::Closed);
                    assert_eq!(ending.bytes, b"", "a delivered write was told as failed");
                }
            }
            if let Err(error) = closing.join() {
                assert_eq!(error.kind(), ErrorKind::Closed);
            }
            assert_eq!(ending.how, How::Fin);
        });
    }
}

#[test]
fn writer_close_pending_large() {
    const COUNT: usize = 3_000_000;
    story(|| {
        let peer = Peer::plays(|wire| wire.wait(ms(500)));
        let socket = open(&peer);
        let (writer, closer) = (socket.writer(), socket.writer());
        let writing = call(move || pour(writer, b'w', COUNT));
        let closing = call(move || closer.close());
        socket.close().expect("the peer reads in the end");
        socket.closed().expect("it was closed");
        let (taken, failure) = writing.join();
        if let Some(failure) = failure {
            assert_eq!(kind_of(&failure), ErrorKind::Closed);
        }
        if let Err(error) = closing.join() {
            assert_eq!(error.kind(), ErrorKind::Closed);
        }
        peer.gets(&vec![b'w'; taken]);
    });
}

// -------------------------------------------------------------------- abort

#[test]
fn after_abort_then_idle() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        socket.writer().abort();
        let aborted = std::time::Instant::now();
        socket.close().expect("it ended before");
        let ending = peer.ending();
        assert_eq!(ending.how, How::Reset);
        assert!(ending.at.saturating_duration_since(aborted) < AT_ONCE);
        drop(socket);
    });
}

#[test]
fn after_abort() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        socket.writer().abort();
        socket.close().expect("it ended before");
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Closed);
        peer.sees_a_reset();
    });
}

#[test]
fn abort_is_told_to_every_call() {
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
        socket.close().expect("it ended before");
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
        socket.close().expect("nothing is in the way");
        socket.abort();
        socket.closed().expect("the first outcome stays");
        socket.close().expect("the first outcome stays");
    });
}

#[test]
fn abort_drops_what_is_not_sent() {
    story(|| {
        let peer = Peer::on(crate::support::peer::listen_with_room(4096), Wire::await_cue);
        let socket = open_with(&peer, little_room());
        let writer = socket.writer();
        let writing = blocked(move || pour(writer, b'w', usize::MAX));
        socket.abort();
        writing.join_within(AT_ONCE);
        peer.cue();
        peer.sees_a_reset();
    });
}

// -------------------------------------------------------------------- a connection that never was

#[test]
fn failed_socket() {
    story(|| {
        let nothing = nothing_listens();
        let socket = sockeye::connect(nothing.address).expect("the address is fine");
        fails(socket.opened(), ErrorKind::Connect);
        socket.close().expect("it failed before");
        socket.close().expect("it failed before");
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Connect);
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
        (&socket).write_all(b"last words").expect("there is room");
        at_once(|| drop(socket));
        peer.cue();
        peer.gets(b"last words");
    });
}

#[test]
fn dropping_the_last_handle_cancels_an_attempt() {
    story(|| {
        let hole = crate::support::peer::black_hole();
        let socket = sockeye::connect(hole.address).expect("the address is fine");
        fails(socket.opened_timeout(ms(50)), ErrorKind::TimedOut);
        at_once(|| drop(socket));
        #[cfg(target_os = "linux")]
        crate::support::eventually(AT_ONCE, "nobody tries any more", || {
            crate::support::process::attempts_towards(hole.address) == 0
        });
    });
}
