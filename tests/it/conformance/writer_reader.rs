//! Scenarios of the group `writer-reader`.

use std::io::Write;
use std::sync::mpsc;

use sockeye::{ErrorKind, Phase, SocketOptions};

use crate::support::peer::{PeerConn, listen_with_room};
use crate::support::{
    PROMPT, Peer, assert_bytes_eq, assert_fails, crate_kind, fill_send_buffer, ms, open, open_with,
    random_bytes, read, read_to_end, small_send_buffer, spawn_blocked, timed, with_watchdog,
    within_100_ms, write_until_error,
};

// -------------------------------------------------------------------- Writer::close

/// This side has ended and the peer has not: the socket is not closed yet.
#[test]
fn closewriter_peer_stays() {
    with_watchdog(|| {
        let peer = stays();
        let socket = open(&peer);
        socket.writer().close().expect("the peer reads");
        assert_fails(socket.closed_timeout(ms(300)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::HalfClosed);
        socket.close().expect("the close succeeds");
        socket.closed_timeout(PROMPT).expect("it was closed");
        peer.signal();
        peer.assert_received(b"");
    });
}

/// Closing twice is allowed, and an abort after it does nothing.
#[test]
fn closewriter_twice() {
    with_watchdog(|| {
        let peer = stays();
        let socket = open(&peer);
        let mut writer = socket.writer();
        writer.close().expect("the peer reads");
        writer.close().expect("the side is closed already");
        assert_fails(writer.write(b"x"), ErrorKind::Closed);
        writer.abort();
        assert_fails(socket.closed_timeout(ms(50)), ErrorKind::TimedOut);
        peer.signal();
        // One FIN, and nothing after it that would cause an error at the peer.
        peer.assert_received(b"");
    });
}

/// The writer is closed during a large write: all accepted bytes arrive before the end.
#[test]
fn closewriter_pending_write() {
    with_watchdog(|| {
        let peer = Peer::scripted_on(listen_with_room(4096), PeerConn::wait_signal);
        let socket = open(&peer);
        let (writer, closer) = (socket.writer(), socket.writer());
        let writing = spawn_blocked(move || write_until_error(writer, b'w', 3_000_000));
        let closing = spawn_blocked(move || closer.close());
        peer.signal();
        let (taken, failure) = writing.join();
        if let Some(failure) = failure {
            assert_eq!(crate_kind(&failure), ErrorKind::Closed);
        }
        closing.join().expect("the peer reads");
        peer.assert_received(&vec![b'w'; taken]);
    });
}

// -------------------------------------------------------------------- Writer::abort

/// The writer is aborted while three writes are blocked: they return at once, and the peer sees the reset.
#[test]
fn abort_pending_writes() {
    with_watchdog(|| {
        within_100_ms(|| {
            let peer = Peer::not_reading();
            let socket = open_with(&peer, small_send_buffer());
            fill_send_buffer(&socket);
            let (writer, mut second, mut third) =
                (socket.writer(), socket.writer(), socket.writer());
            let first = spawn_blocked(move || write_until_error(writer, b'w', 3_000_000));
            let second = spawn_blocked(move || second.write(b"q2"));
            let third = spawn_blocked(move || third.write(b"q3"));
            let (failures, took) = timed(|| {
                socket.writer().abort();
                [first.join().1, second.join().err(), third.join().err()]
            });
            for failure in failures {
                assert_eq!(
                    crate_kind(&failure.expect("the peer does not read")),
                    ErrorKind::Closed
                );
            }
            assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Closed);
            socket.close().expect("it had ended");
            peer.signal();
            peer.assert_reset();
            took
        });
    });
}

// -------------------------------------------------------------------- Reader::cancel

/// The reader is cancelled: writing continues, later data is dropped, and no reset results.
#[test]
fn cancel_idle() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.receive(13);
            wire.send(b"more");
            wire.receive(5);
            wire.send(b"and more");
            wire.read_to_end();
            wire.wait_signal();
            wire.send(b"late");
        });
        let mut socket = open(&peer);
        socket.reader().cancel();
        assert_eq!(read(&socket, 10).expect("it is cancelled"), b"");
        assert_eq!(socket.phase(), Phase::HalfClosed);
        socket.write_all(b"still writing").expect("the peer reads");
        assert_fails(socket.closed_timeout(ms(500)), ErrorKind::TimedOut);
        socket.write_all(b"again").expect("the peer reads");
        assert_eq!(read(&socket, 10).expect("it is cancelled"), b"");
        assert_eq!(socket.stats().bytes_read, 0);
        socket.close().expect("the peer reads");
        socket.closed().expect("it was closed");
        peer.signal();
        peer.assert_received(b"still writingagain");
    });
}

/// The reader is cancelled during a read.
#[test]
fn cancel_pending_read() {
    with_watchdog(|| {
        within_100_ms(|| {
            let peer = Peer::reading();
            let mut socket = open(&peer);
            let reader = socket.reader();
            let reading = spawn_blocked(move || read(reader, 10));
            let (end, took) = timed(|| {
                socket.reader().cancel();
                reading.join()
            });
            assert_eq!(end.expect("it is cancelled"), b"");
            socket.write_all(b"w").expect("the peer reads");
            socket.close().expect("the peer reads");
            peer.assert_received(b"w");
            took
        });
    });
}

/// The reader is cancelled and the writer closed: both directions have ended.
#[test]
fn cancel_and_closewriter() {
    with_watchdog(|| {
        let peer = stays();
        let socket = open(&peer);
        socket.reader().cancel();
        socket.writer().close().expect("the peer reads");
        socket.closed_timeout(PROMPT).expect("both have ended");
        assert_eq!(socket.phase(), Phase::Closed);
        socket.close().expect("it had ended");
        peer.signal();
        peer.assert_received(b"");
    });
}

/// The reader is cancelled and the writer aborted.
#[test]
fn cancel_and_abort() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open(&peer);
        socket.reader().cancel();
        socket.writer().abort();
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Closed);
        socket.close().expect("it had ended");
        peer.assert_reset();
    });
}

/// The writer is aborted and the reader cancelled while data is unread.
#[test]
fn abort_then_cancel() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| wire.send(b"unread"));
        let socket = open(&peer);
        assert_fails(socket.closed_timeout(ms(100)), ErrorKind::TimedOut);
        socket.writer().abort();
        socket.reader().cancel();
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Closed);
        peer.assert_reset();
    });
}

/// The reader is cancelled after the end was read, which changes nothing.
#[test]
fn cancel_after_eof() {
    with_watchdog(|| {
        let peer = Peer::scripted(PeerConn::fin);
        let mut socket = open_with(&peer, SocketOptions::new().allow_half_open(true));
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        assert_eq!(socket.phase(), Phase::HalfClosed);
        socket.reader().cancel();
        assert_eq!(read(&socket, 10).expect("a clean end"), b"");
        assert_eq!(socket.phase(), Phase::HalfClosed);
        assert_fails(socket.closed_timeout(ms(1200)), ErrorKind::TimedOut);
        socket.write_all(b"w").expect("the peer reads");
        socket.close().expect("the peer reads");
        peer.assert_received(b"w");
    });
}

// -------------------------------------------------------------------- reading

/// Two threads read at once: each of two messages is read once.
#[test]
fn two_reads() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.wait_signal();
            wire.send(b"one");
            wire.wait_signal();
            wire.send(b"two");
        });
        let socket = open(&peer);
        let (sender, receiver) = mpsc::channel();
        let readers = [(); 2].map(|()| {
            let (reader, sender) = (socket.reader(), sender.clone());
            spawn_blocked(move || sender.send(read(reader, 10)).expect("the test waits for it"))
        });
        for message in [b"one", b"two"] {
            peer.signal();
            assert_eq!(
                receiver.recv().expect("a reader returns").expect("the peer sent it"),
                message
            );
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
        with_watchdog(move || {
            let peer = Peer::scripted(|wire| {
                wire.send(&random_bytes(1, COUNT));
                wire.fin();
            });
            let socket = open(&peer);
            assert_fails(socket.closed_timeout(ms(150)), ErrorKind::TimedOut);
            let mut reads = Vec::new();
            while reads.iter().map(Vec::len).sum::<usize>() < COUNT {
                reads.push(read(&socket, size).expect("they wait"));
            }
            assert_bytes_eq(&reads.concat(), &random_bytes(1, COUNT));
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
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            for segment in [b"a1", b"b2", b"c3"] {
                wire.send(segment);
                wire.wait(ms(30));
            }
            wire.wait_signal();
            wire.fin();
        });
        let socket = open(&peer);
        all_wait(&socket, &peer, 6);
        assert_eq!(read(&socket, 100).expect("they wait"), b"a1b2c3");
        peer.signal();
        assert_eq!(read(&socket, 100).expect("a clean end"), b"");
        socket.closed_timeout(PROMPT).expect("a clean end");
        peer.assert_received(b"");
    });
}

/// Starts a peer that reads to the end, and stays until its cue.
fn stays() -> Peer {
    Peer::scripted(|wire| {
        wire.read_to_end();
        wire.wait_signal();
    })
}

/// Waits until this many bytes are unread.
#[cfg(target_os = "linux")]
fn all_wait(socket: &sockeye::Socket, peer: &Peer, count: usize) {
    use crate::support::{WATCHDOG, eventually, process::queues};
    let info = socket.opened().expect("it is open");
    let local = info.local_address().expect("it was reached");
    eventually(WATCHDOG, "all data has arrived", || queues(local, peer.address()).1 == count);
}

/// Waits for a fixed time on systems that do not report the size of their queues.
#[cfg(not(target_os = "linux"))]
fn all_wait(socket: &sockeye::Socket, _peer: &Peer, _count: usize) {
    assert_fails(socket.closed_timeout(ms(250)), ErrorKind::TimedOut);
}
