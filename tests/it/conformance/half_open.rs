//! Scenarios of the group `half-open`: one direction has ended, with and without `allow_half_open`.

use std::io::{self, Write};

use sockeye::{ErrorKind, Phase, Socket, SocketOptions};

use crate::support::peer::PeerConn;
use crate::support::{
    EndKind, PROMPT, Peer, WATCHDOG, assert_fails, at_once, crate_kind, eventually, ms, open_with,
    read, read_to_end, spawn_blocked, spawn_call, with_watchdog, write_until_error,
};

// -------------------------------------------------------------------- allow_half_open is off

/// The peer sends data and ends, and the program reads to the end.
#[test]
fn f_reading() {
    reading_to_the_end_closes(SocketOptions::new().allow_half_open(false));
}

/// The same with default options.
#[test]
fn absent_reading() {
    reading_to_the_end_closes(SocketOptions::new());
}

/// The peer ends without data, and no call reads.
#[test]
fn f_not_reading() {
    with_watchdog(|| {
        let peer = Peer::scripted(ends);
        let socket = open_with(&peer, full());
        let writer = socket.writer();
        peer.signal();
        at_once(|| {
            socket.closed_timeout(PROMPT).expect("a clean end");
            peer.assert_received(b"");
        });
        assert_fails((&writer).write(b"late"), ErrorKind::Closed);
        assert_eq!(read(&socket, 10).expect("a clean end"), b"");
        socket.closed().expect("the first outcome stays");
    });
}

/// The peer sends data and ends, and no call reads for a while: the end waits for the data.
#[test]
fn f_not_reading_data() {
    with_watchdog(|| {
        let peer = Peer::scripted(says_bye);
        let socket = open_with(&peer, full());
        let writer = socket.writer();
        peer.signal();
        assert_fails(socket.closed_timeout(ms(300)), ErrorKind::TimedOut);
        assert_eq!((&writer).write(b"w1").expect("it is open while bytes are unread"), 2);
        assert_fails(socket.closed_timeout(ms(300)), ErrorKind::TimedOut);
        assert_eq!(read(&socket, 10).expect("it waits"), b"bye");
        // The end after the data may or may not be noticed by now, but all accepted bytes arrive.
        let taken = (&writer).write(b"w2").unwrap_or_else(|error| {
            assert_eq!(crate_kind(&error), ErrorKind::Closed);
            0
        });
        assert_eq!(read(&socket, 10).expect("a clean end"), b"");
        socket.closed_timeout(PROMPT).expect("a clean end");
        assert_fails((&writer).write(b"w3"), ErrorKind::Closed);
        peer.assert_received(&[b"w1", &b"w2"[..taken]].concat());
    });
}

/// A read is blocked when the peer's end arrives.
#[test]
fn f_pending_read() {
    with_watchdog(|| {
        let peer = Peer::scripted(ends);
        let socket = sockeye::connect_with(peer.address(), full()).expect("they are valid");
        let reader = socket.reader();
        let reading = spawn_blocked(move || read(reader, 10));
        socket.opened().expect("the peer listens");
        peer.signal();
        assert_eq!(reading.join_within(PROMPT).expect("a clean end"), b"");
        socket.closed_timeout(PROMPT).expect("a clean end");
        assert_eq!(read(&socket, 10).expect("the end stays"), b"");
        peer.assert_received(b"");
    });
}

/// The peer closes both directions, and no call reads.
#[test]
fn f_peer_closes_fully() {
    with_watchdog(|| {
        let peer = Peer::scripted(closes);
        let socket = open_with(&peer, full());
        let writer = socket.writer();
        peer.signal();
        socket.closed_timeout(PROMPT).expect("a clean end");
        assert_fails((&writer).write(b"one"), ErrorKind::Closed);
        assert_fails((&writer).write(b"two"), ErrorKind::Closed);
        assert_eq!(read(&socket, 10).expect("a clean end"), b"");
        socket.closed().expect("the first outcome stays");
    });
}

/// The peer closes both directions, and the program reads.
#[test]
fn f_peer_closes_fully_reading() {
    with_watchdog(|| {
        let peer = Peer::scripted(says_bye_and_closes);
        let socket = open_with(&peer, full());
        peer.signal();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        socket.closed_timeout(PROMPT).expect("a clean end");
        assert_fails((&socket).write(b"x"), ErrorKind::Closed);
    });
}

/// Writes are in progress when the peer's end is read.
#[test]
fn f_queued_writes_flush() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.send(b"bye");
            wire.fin();
            wire.wait_signal();
        });
        let socket = open_with(&peer, full());
        let writers = [(b'1', 3_000_000), (b'2', 6), (b'3', 5)].map(|(byte, count)| {
            let writer = socket.writer();
            spawn_call(move || (byte, write_until_error(writer, byte, count)))
        });
        eventually(WATCHDOG, "some bytes are accepted", || socket.stats().bytes_written > 0);
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        assert_fails((&socket).write(b"after-eof"), ErrorKind::Closed);
        peer.signal();
        socket.closed_timeout(WATCHDOG).expect("a clean end");
        let poured = writers.map(|writing| writing.join());
        let ending = peer.finish();
        assert_eq!(ending.how, EndKind::Fin);
        let mut all = 0;
        for (byte, (taken, failure)) in poured {
            let arrived = ending.bytes.iter().filter(|one| **one == byte).count();
            assert_eq!(arrived, taken, "of writer {}", char::from(byte));
            if let Some(failure) = failure {
                assert_eq!(crate_kind(&failure), ErrorKind::Closed);
            }
            all += taken;
        }
        assert_eq!(ending.bytes.len(), all);
    });
}

/// The program writes as soon as a read has returned the end.
#[test]
fn f_write_in_same_turn_as_eof() {
    with_watchdog(|| {
        let peer = Peer::scripted(says_bye);
        let socket = open_with(&peer, full());
        peer.signal();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        assert_fails((&socket).write(b"instant"), ErrorKind::Closed);
        peer.assert_received(b"");
    });
}

/// The first writer is created after the end has been read.
#[test]
fn f_writer_unlocked() {
    with_watchdog(|| {
        let peer = Peer::scripted(says_bye);
        let socket = open_with(&peer, full());
        peer.signal();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        socket.closed_timeout(PROMPT).expect("a clean end");
        assert!(!socket.upgraded());
        assert_eq!(socket.phase(), Phase::Closed);
        assert_fails(socket.writer().write(b"x"), ErrorKind::Closed);
        peer.assert_received(b"");
    });
}

/// The program ends first, then reads the peer's answer and end.
#[test]
fn f_writer_closed_first() {
    with_watchdog(|| {
        let peer = Peer::scripted(answers_the_end);
        let socket = open_with(&peer, full());
        socket.writer().close().expect("the peer reads");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        socket.closed_timeout(PROMPT).expect("both directions ended");
        socket.close().expect("it had ended");
        peer.assert_received(b"");
    });
}

/// The program ends first, then the peer does, and no call reads.
#[test]
fn f_writer_closed_first_notread() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.read_to_end();
            wire.fin();
        });
        let socket = open_with(&peer, full());
        socket.writer().close().expect("the peer reads");
        socket.closed_timeout(PROMPT).expect("both directions ended");
        socket.close().expect("it had ended");
        peer.assert_received(b"");
    });
}

/// The end follows the last byte, and only that byte is read.
#[test]
fn f_byte_at_a_time() {
    // A read that fills its buffer learns less than one that does not.
    for most in [1, 10] {
        with_watchdog(move || {
            let peer = Peer::scripted(|wire| {
                wire.send(b"x");
                wire.fin();
            });
            let socket = open_with(&peer, full());
            let writer = socket.writer();
            // While the byte is unread, the end cannot be noticed.
            assert_fails(socket.closed_timeout(ms(120)), ErrorKind::TimedOut);
            assert_eq!(read(&socket, most).expect("it waits"), b"x");
            socket.closed_timeout(PROMPT).expect("a clean end");
            assert_fails((&writer).write(b"after first read"), ErrorKind::Closed);
            assert_eq!(read(&socket, most).expect("a clean end"), b"");
            peer.assert_received(b"");
        });
    }
}

/// The program has cancelled its reader when the peer's end arrives.
#[test]
fn f_reader_cancelled_then_fin() {
    with_watchdog(|| {
        let peer = Peer::scripted(ends);
        let socket = open_with(&peer, full());
        socket.reader().cancel();
        assert_eq!(socket.phase(), Phase::HalfClosed);
        assert_fails(socket.closed_timeout(ms(100)), ErrorKind::TimedOut);
        peer.signal();
        at_once(|| {
            socket.closed_timeout(PROMPT).expect("a clean end");
            peer.assert_received(b"");
        });
        assert_fails((&socket).write(b"after"), ErrorKind::Closed);
    });
}

// -------------------------------------------------------------------- allow_half_open is on

/// The peer closes both directions, the program reads to the end, then writes.
#[test]
fn t_peer_closes_fully() {
    with_watchdog(|| {
        let peer = Peer::scripted(says_bye_and_closes);
        let socket = open_with(&peer, half());
        peer.signal();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        assert_fails(socket.closed_timeout(ms(400)), ErrorKind::TimedOut);
        let cause = write_until_it_fails(&socket);
        assert!(matches!(cause, ErrorKind::Reset | ErrorKind::Io), "{cause:?}");
        assert_fails((&socket).write(b"again"), cause);
        assert_fails(socket.closed_timeout(PROMPT), cause);
    });
}

/// Both directions have ended cleanly, without a call of `close()`.
#[test]
fn t_both_ended_then_close() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.read_to_end();
            wire.send(b"bye");
            wire.close();
        });
        let socket = open_with(&peer, half());
        socket.writer().close().expect("the peer reads");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        socket.closed_timeout(PROMPT).expect("both directions ended");
        socket.close().expect("it had ended");
        socket.closed().expect("the first outcome stays");
    });
}

/// The program continues to write after it has read the end, then ends.
#[test]
fn t_fin_then_write() {
    with_watchdog(|| {
        let peer = Peer::scripted(says_bye);
        let socket = open_with(&peer, half());
        peer.signal();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        assert_fails(socket.closed_timeout(ms(500)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::HalfClosed);
        assert_eq!((&socket).write(b"still here").expect("the peer reads"), 10);
        socket.writer().close().expect("the peer reads");
        socket.closed_timeout(PROMPT).expect("both directions ended");
        peer.assert_received(b"still here");
        socket.close().expect("it had ended");
    });
}

/// The program ends first, then reads the peer's answer and end.
#[test]
fn t_closewriter_then_fin() {
    with_watchdog(|| {
        let peer = Peer::scripted(answers_the_end);
        let socket = open_with(&peer, half());
        assert_eq!((&socket).write(b"req").expect("the peer reads"), 3);
        socket.writer().close().expect("the peer reads");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        socket.closed_timeout(PROMPT).expect("both directions ended");
        socket.close().expect("it had ended");
        peer.assert_received(b"req");
    });
}

/// The program aborts after it has read the end.
#[test]
fn t_fin_then_abort() {
    with_watchdog(|| {
        let peer = Peer::scripted(ends);
        let socket = open_with(&peer, half());
        peer.signal();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        socket.writer().abort();
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Closed);
        peer.assert_reset();
    });
}

/// Received data is echoed, up to the peer's end.
#[test]
fn t_echo_pipe() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.send(b"abc");
            wire.receive(3);
            wire.send(b"defg");
            wire.fin();
        });
        let socket = sockeye::connect_with(peer.address(), half()).expect("they are valid");
        let copied = io::copy(&mut socket.reader(), &mut socket.writer());
        assert_eq!(copied.expect("both directions work"), 7);
        socket.writer().close().expect("the peer reads");
        socket.closed_timeout(PROMPT).expect("both directions ended");
        peer.assert_received(b"abcdefg");
    });
}

// -------------------------------------------------------------------- options and peers

fn full() -> SocketOptions {
    SocketOptions::new().allow_half_open(false)
}

fn half() -> SocketOptions {
    SocketOptions::new().allow_half_open(true)
}

/// Ends its direction at its cue.
fn ends(wire: &mut PeerConn) {
    wire.wait_signal();
    wire.fin();
}

/// Sends data at its cue, and ends its direction.
fn says_bye(wire: &mut PeerConn) {
    wire.wait_signal();
    wire.send(b"bye");
    wire.fin();
}

fn closes(wire: &mut PeerConn) {
    wire.wait_signal();
    wire.close();
}

fn says_bye_and_closes(wire: &mut PeerConn) {
    wire.wait_signal();
    wire.send(b"bye");
    wire.close();
}

/// Reads to the end, and only then sends data and ends its direction.
fn answers_the_end(wire: &mut PeerConn) {
    wire.read_to_end();
    wire.send(b"bye");
    wire.fin();
}

#[track_caller]
fn reading_to_the_end_closes(options: SocketOptions) {
    with_watchdog(|| {
        let peer = Peer::scripted(says_bye);
        let socket = open_with(&peer, options);
        let writer = socket.writer();
        peer.signal();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        socket.closed_timeout(PROMPT).expect("a clean end");
        peer.assert_received(b"");
        assert_fails((&writer).write(b"late"), ErrorKind::Closed);
        writer.close().expect("the peer's end closed it");
        socket.close().expect("it had ended");
        assert_eq!(socket.phase(), Phase::Closed);
    });
}

/// Writes until a write fails: the first one to a peer that is gone may succeed.
#[track_caller]
fn write_until_it_fails(mut socket: &Socket) -> ErrorKind {
    let mut cause = None;
    eventually(PROMPT, "a write to a closed peer fails", || {
        cause = socket.write(b"one").err();
        cause.is_some()
    });
    crate_kind(&cause.expect("it is set"))
}
