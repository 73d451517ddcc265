//! Scenarios of the group `writer-reader`.

use std::io::Write;
use std::sync::mpsc;

use sockeye::{ErrorKind, Phase, SocketOptions};

use crate::support::peer::{Wire, listen_with_room};
use crate::support::{
    AT_ONCE, Peer, blocked, fails, fill, kind_of, little_room, ms, noise, open, open_with, pour,
    read, read_to_end, same, story, timed, within_100_ms,
};

// -------------------------------------------------------------------- Writer::close

/// This side has ended and the peer has not: the socket is not closed yet.
#[test]
fn closewriter_peer_stays() {
    story(|| {
        let peer = stays();
        let socket = open(&peer);
        socket.writer().close().expect("the peer reads");
        fails(socket.closed_timeout(ms(300)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::HalfClosed);
        socket.close().expect("the close succeeds");
        socket.closed_timeout(AT_ONCE).expect("it was closed");
        peer.cue();
        peer.gets(b"");
    });
}

/// Closing twice is allowed, and an abort after it does nothing.
#[test]
fn closewriter_twice() {
    story(|| {
        let peer = stays();
        let socket = open(&peer);
        let mut writer = socket.writer();
        writer.close().expect("the peer reads");
        writer.close().expect("the side is closed already");
        fails(writer.write(b"x"), ErrorKind::Closed);
        writer.abort();
        fails(socket.closed_timeout(ms(50)), ErrorKind::TimedOut);
        peer.cue();
        // One FIN, and nothing after it that would cause an error at the peer.
        peer.gets(b"");
    });
}

/// The writer is closed during a large write: all accepted bytes arrive before the end.
#[test]
fn closewriter_pending_write() {
    story(|| {
        let peer = Peer::on(listen_with_room(4096), Wire::await_cue);
        let socket = open(&peer);
        let (writer, closer) = (socket.writer(), socket.writer());
        let writing = blocked(move || pour(writer, b'w', 3_000_000));
        let closing = blocked(move || closer.close());
        peer.cue();
        let (taken, failure) = writing.join();
        if let Some(failure) = failure {
            assert_eq!(kind_of(&failure), ErrorKind::Closed);
        }
        closing.join().expect("the peer reads");
        peer.gets(&vec![b'w'; taken]);
    });
}

// -------------------------------------------------------------------- Writer::abort

/// The writer is aborted while three writes are blocked: they return at once, and the peer sees the reset.
#[test]
fn abort_pending_writes() {
    story(|| {
        within_100_ms(|| {
            let peer = Peer::stuck();
            let socket = open_with(&peer, little_room());
            fill(&socket);
            let (writer, mut second, mut third) =
                (socket.writer(), socket.writer(), socket.writer());
            let first = blocked(move || pour(writer, b'w', 3_000_000));
            let second = blocked(move || second.write(b"q2"));
            let third = blocked(move || third.write(b"q3"));
            let (failures, took) = timed(|| {
                socket.writer().abort();
                [first.join().1, second.join().err(), third.join().err()]
            });
            for failure in failures {
                assert_eq!(kind_of(&failure.expect("the peer does not read")), ErrorKind::Closed);
            }
            fails(socket.closed_timeout(AT_ONCE), ErrorKind::Closed);
            socket.close().expect("it had ended");
            peer.cue();
            peer.sees_a_reset();
            took
        });
    });
}

// -------------------------------------------------------------------- Reader::cancel

/// The reader is cancelled: writing continues, later data is dropped, and no reset results.
#[test]
fn cancel_idle() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.receive(13);
            wire.send(b"more");
            wire.receive(5);
            wire.send(b"and more");
            wire.read_to_end();
            wire.await_cue();
            wire.send(b"late");
        });
        let mut socket = open(&peer);
        socket.reader().cancel();
        assert_eq!(read(&socket, 10).expect("it is cancelled"), b"");
        assert_eq!(socket.phase(), Phase::HalfClosed);
        socket.write_all(b"still writing").expect("the peer reads");
        fails(socket.closed_timeout(ms(500)), ErrorKind::TimedOut);
        socket.write_all(b"again").expect("the peer reads");
        assert_eq!(read(&socket, 10).expect("it is cancelled"), b"");
        assert_eq!(socket.stats().bytes_read, 0);
        socket.close().expect("the peer reads");
        socket.closed().expect("it was closed");
        peer.cue();
        peer.gets(b"still writingagain");
    });
}

/// The reader is cancelled during a read.
#[test]
fn cancel_pending_read() {
    story(|| {
        within_100_ms(|| {
            let peer = Peer::reads();
            let mut socket = open(&peer);
            let reader = socket.reader();
            let reading = blocked(move || read(reader, 10));
            let (end, took) = timed(|| {
                socket.reader().cancel();
                reading.join()
            });
            assert_eq!(end.expect("it is cancelled"), b"");
            socket.write_all(b"w").expect("the peer reads");
            socket.close().expect("the peer reads");
            peer.gets(b"w");
            took
        });
    });
}

/// The reader is cancelled and the writer closed: both directions have ended.
#[test]
fn cancel_and_closewriter() {
    story(|| {
        let peer = stays();
        let socket = open(&peer);
        socket.reader().cancel();
        socket.writer().close().expect("the peer reads");
        socket.closed_timeout(AT_ONCE).expect("both have ended");
        assert_eq!(socket.phase(), Phase::Closed);
        socket.close().expect("it had ended");
        peer.cue();
        peer.gets(b"");
    });
}

/// The reader is cancelled and the writer aborted.
#[test]
fn cancel_and_abort() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        socket.reader().cancel();
        socket.writer().abort();
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Closed);
        socket.close().expect("it had ended");
        peer.sees_a_reset();
    });
}

/// The writer is aborted and the reader cancelled while data is unread.
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

/// The reader is cancelled after the end was read, which changes nothing.
#[test]
fn cancel_after_eof() {
    story(|| {
        let peer = Peer::plays(Wire::fin);
        let mut socket = open_with(&peer, SocketOptions::new().allow_half_open(true));
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        assert_eq!(socket.phase(), Phase::HalfClosed);
        socket.reader().cancel();
        assert_eq!(read(&socket, 10).expect("a clean end"), b"");
        assert_eq!(socket.phase(), Phase::HalfClosed);
        fails(socket.closed_timeout(ms(1200)), ErrorKind::TimedOut);
        socket.write_all(b"w").expect("the peer reads");
        socket.close().expect("the peer reads");
        peer.gets(b"w");
    });
}

// -------------------------------------------------------------------- reading

/// Two threads read at once: each of two messages is read once.
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
        let (tell, told) = mpsc::channel();
        let readers = [(); 2].map(|()| {
            let (reader, tell) = (socket.reader(), tell.clone());
            blocked(move || tell.send(read(reader, 10)).expect("the test waits for it"))
        });
        for message in [b"one", b"two"] {
            peer.cue();
            assert_eq!(told.recv().expect("a reader returns").expect("the peer sent it"), message);
        }
        readers.into_iter().for_each(|reader| reader.join());
        assert_eq!(socket.stats().bytes_read, 6);
    });
}

/// 20,000 bytes are unread: buffers of any size get them in order, and a large one gets many at once.
#[test]
fn read_chunking() {
    const COUNT: usize = 20_000;
    for size in [1, 7, 100, 4096, COUNT, 3 * COUNT] {
        story(move || {
            let peer = Peer::plays(|wire| {
                wire.send(&noise(1, COUNT));
                wire.fin();
            });
            let socket = open(&peer);
            fails(socket.closed_timeout(ms(150)), ErrorKind::TimedOut);
            let mut reads = Vec::new();
            while reads.iter().map(Vec::len).sum::<usize>() < COUNT {
                reads.push(read(&socket, size).expect("they wait"));
            }
            same(&reads.concat(), &noise(1, COUNT));
            let largest = reads.iter().map(Vec::len).max().expect("there are reads");
            assert!(size <= 4096 || largest > 4096, "{largest} at most, of a buffer of {size}");
            for _ in 0..2 {
                assert_eq!(read(&socket, size).expect("a clean end"), b"");
            }
        });
    }
}

/// Three small segments are unread: one read returns them all.
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
        all_wait(&socket, &peer, 6);
        assert_eq!(read(&socket, 100).expect("they wait"), b"a1b2c3");
        peer.cue();
        assert_eq!(read(&socket, 100).expect("a clean end"), b"");
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        peer.gets(b"");
    });
}

/// Starts a peer that reads to the end, and stays until its cue.
fn stays() -> Peer {
    Peer::plays(|wire| {
        wire.read_to_end();
        wire.await_cue();
    })
}

/// Waits until this many bytes are unread.
#[cfg(target_os = "linux")]
fn all_wait(socket: &sockeye::Socket, peer: &Peer, count: usize) {
    use crate::support::{PATIENCE, eventually, process::queues};
    let info = socket.opened().expect("it is open");
    let local = info.local_address().expect("it was reached");
    eventually(PATIENCE, "all data has arrived", || queues(local, peer.address()).1 == count);
}

/// Waits for a fixed time on systems that do not report the size of their queues.
#[cfg(not(target_os = "linux"))]
fn all_wait(socket: &sockeye::Socket, _peer: &Peer, _count: usize) {
    fails(socket.closed_timeout(ms(250)), ErrorKind::TimedOut);
}
