//! Scenarios of the group `close`: the peer's view, the result of calls in progress, and the result of later calls.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Phase, SecureTransport};

use super::certificates;
use crate::support::peer::{PeerConn, Server, closed_port};
use crate::support::tls::{TlsPeer, dial};
use crate::support::{
    EndKind, PROMPT, Peer, assert_bytes_eq, assert_fails, at_once, crate_kind, eventually, ms,
    open, open_with, random_bytes, read, small_send_buffer, spawn_blocked, spawn_call, timed,
    with_watchdog, within_100_ms, write_until_error,
};

// -------------------------------------------------------------------- no calls in progress

/// An open and idle socket.
#[test]
fn idle() {
    with_watchdog(|| {
        let peer = Peer::scripted(looks_back);
        let socket = open(&peer);
        at_once(|| socket.close()).expect("nothing prevents it");
        socket.closed_timeout(PROMPT).expect("it was closed");
        assert_eq!(socket.phase(), Phase::Closed);
        assert!(!socket.upgraded());
        assert_eq!(socket.secure_transport(), SecureTransport::Off);
        peer.signal();
        peer.assert_received(b"");
    });
}

/// Reader and writer are created after it.
#[test]
fn unlocked_streams() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open(&peer);
        socket.close().expect("the close succeeds");
        assert_fails(read(socket.reader(), 10), ErrorKind::Closed);
        assert_fails(socket.writer().write(b"x"), ErrorKind::Closed);
        peer.assert_received(b"");
    });
}

/// Reader and writer were created before it.
#[test]
fn locked_streams() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open(&peer);
        let (reader, writer) = (socket.reader(), socket.writer());
        socket.close().expect("the close succeeds");
        assert_fails(read(&reader, 10), ErrorKind::Closed);
        assert_fails((&writer).write(b"x"), ErrorKind::Closed);
        writer.close().expect("the side is closed already");
        peer.assert_received(b"");
    });
}

/// Reader and writer are created right after it, for a socket that may still be connecting.
#[test]
fn get_reader_after() {
    with_watchdog(|| {
        let server = Server::echoes();
        let socket = sockeye::connect(server.address()).expect("the address is valid");
        let closer = socket.clone();
        let closing = spawn_call(move || closer.close());
        let reader = socket.reader();
        assert_fails(read(&reader, 10), ErrorKind::Closed);
        assert_fails(socket.writer().write(b"x"), ErrorKind::Closed);
        closing.join().expect("the close succeeds");
    });
}

/// Two calls at once, and a third one later.
#[test]
fn twice() {
    with_watchdog(|| {
        let peer = Peer::scripted(looks_back);
        let socket = open(&peer);
        let closers = [(); 2].map(|()| {
            let closer = socket.clone();
            spawn_call(move || closer.close())
        });
        for closing in closers {
            closing.join().expect("the close succeeds");
        }
        socket.close().expect("a third close succeeds");
        socket.closed_timeout(PROMPT).expect("it was closed");
        peer.signal();
        peer.assert_received(b"");
    });
}

// -------------------------------------------------------------------- calls in progress

/// A read is blocked when it is called.
#[test]
fn pending_read() {
    with_watchdog(|| {
        within_100_ms(|| {
            let peer = Peer::reading();
            let socket = open(&peer);
            let reader = socket.reader();
            let reading = spawn_blocked(move || (read(reader, 10), Instant::now()));
            let begun = Instant::now();
            socket.close().expect("the close succeeds");
            let (result, ended) = reading.join();
            assert_fails(result, ErrorKind::Closed);
            socket.closed_timeout(PROMPT).expect("it was closed");
            peer.assert_received(b"");
            ended - begun
        });
    });
}

/// Two small writes were made in threads.
#[test]
fn queued_small() {
    with_watchdog(|| {
        let peer = Peer::scripted(looks_back);
        let socket = open(&peer);
        for word in [b"one", b"two"] {
            let mut writer = socket.writer();
            assert_eq!(
                spawn_call(move || writer.write(word)).join().expect("the send buffer has room"),
                3
            );
        }
        socket.close().expect("the close succeeds");
        peer.signal();
        peer.assert_received(b"onetwo");
    });
}

/// The last call of the program was a write.
#[test]
fn pending_write_never_read() {
    with_watchdog(|| {
        let peer = Peer::scripted(looks_back);
        let socket = open(&peer);
        assert_eq!((&socket).write(b"last words").expect("the send buffer has room"), 10);
        socket.close().expect("the close succeeds");
        peer.signal();
        peer.assert_received(b"last words");
    });
}

/// A large write is blocked, and the peer never reads.
#[test]
fn queued_large_stuck() {
    const LIMIT: Duration = ms(500);
    with_watchdog(|| {
        let peer = Peer::not_reading();
        let socket = open_with(&peer, small_send_buffer().close_timeout(LIMIT));
        let writer = socket.writer();
        let writing = spawn_blocked(move || write_until_error(writer, b'w', 3_000_000));
        let (closed, took) = timed(|| socket.close());
        assert!(took < LIMIT + Duration::from_secs(1), "took {took:?}");
        let (taken, failure) = writing.join_within(PROMPT);
        assert_eq!(crate_kind(&failure.expect("the peer does not read")), ErrorKind::Closed);
        let outcome = socket.closed_timeout(PROMPT);
        assert_eq!(socket.phase(), Phase::Closed);
        peer.signal();
        // Either the kernel has all accepted bytes, or the connection was reset.
        if closed.is_ok() {
            outcome.expect("it was closed");
            peer.assert_received(&vec![b'w'; taken]);
        } else {
            assert_fails(closed, ErrorKind::TimedOut);
            assert_fails(outcome, ErrorKind::TimedOut);
            peer.assert_reset();
        }
    });
}

/// `io::copy` is running from the reader to the writer.
#[test]
fn pipe() {
    with_watchdog(|| {
        let peer = Peer::scripted(looks_back);
        let socket = open(&peer);
        let (mut reader, mut writer) = (socket.reader(), socket.writer());
        let copying = spawn_blocked(move || io::copy(&mut reader, &mut writer));
        at_once(|| {
            socket.close().expect("the close succeeds");
            assert_fails(copying.join(), ErrorKind::Closed);
        });
        socket.closed_timeout(PROMPT).expect("it was closed");
        peer.signal();
        peer.assert_received(b"");
    });
}

/// An upgrade is requested while another thread closes the socket.
#[test]
fn starttls_during_close() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&certificates::valid_cert(), |peer| {
            let error = peer.try_handshake().expect_err("the other end does not speak TLS");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        });
        let socket = dial("good.test", &peer, certificates::options(SecureTransport::StartTls));
        socket.opened().expect("the peer listens");
        let reader = socket.reader();
        let reading = spawn_blocked(move || read(reader, 10));
        let closer = socket.clone();
        let closing = spawn_call(move || closer.close());
        // The read shows that the close was called, but not that it has returned.
        assert_fails(reading.join(), ErrorKind::Closed);
        assert_fails(socket.start_tls(), ErrorKind::InvalidState);
        assert!(!socket.upgraded());
        closing.join().expect("the close succeeds");
        socket.closed_timeout(PROMPT).expect("it was closed");
        let ending = peer.finish();
        assert_eq!(ending.wire, b"", "no part of a handshake was sent");
        assert_eq!(ending.how, EndKind::Fin);
    });
}

// -------------------------------------------------------------------- unread bytes

/// Data is unread, and a read follows.
#[test]
fn read_after_close_buffered() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.send(b"waiting");
            looks_back(wire);
        });
        let socket = open(&peer);
        // The wait lets the data arrive.
        assert_fails(socket.closed_timeout(ms(120)), ErrorKind::TimedOut);
        let reader = socket.reader();
        let closer = socket.clone();
        spawn_call(move || closer.close()).join().expect("the close succeeds");
        assert_fails(read(&reader, 10), ErrorKind::Closed);
        assert_fails(read(&reader, 10), ErrorKind::Closed);
        peer.signal();
        peer.assert_received(b"");
    });
}

/// The program has read only a part of the peer's data.
#[test]
fn unread_data_after_read() {
    const LIMIT: Duration = Duration::from_secs(5);
    with_watchdog(|| {
        let data = random_bytes(7, 300_000);
        let sent = data.clone();
        let peer = Peer::scripted(move |wire| {
            // A reset after the clean end may cut this short.
            let _ = wire.try_send(&sent);
        });
        let socket = open(&peer);
        assert_eq!((&socket).write(b"before").expect("the send buffer has room"), 6);
        assert_fails(socket.closed_timeout(ms(100)), ErrorKind::TimedOut);
        let part = read(&socket, 1000).expect("it waits");
        assert_bytes_eq(&part, &data[..part.len()]);
        let (closed, took) = timed(|| socket.close());
        closed.expect("the kernel has all written bytes");
        assert!(took < LIMIT, "took {took:?}");
        socket.closed().expect("it was closed");
        peer.assert_eof_after(b"before");
    });
}

/// The peer sends a few more bytes after it has seen the end.
#[test]
fn peer_sends_after() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.read_to_end();
            wire.wait_signal();
            for word in [&b"late"[..], b"later"] {
                wire.send(word);
                wire.wait(ms(50));
                let failure = wire.failure();
                assert!(failure.is_none(), "after {} bytes: {failure:?}", word.len());
            }
        });
        let socket = open(&peer);
        socket.close().expect("the close succeeds");
        // The close returns before the peer sends any of this.
        peer.signal();
        peer.assert_received(b"");
    });
}

/// The peer has sent data and closed, and no call has read.
#[test]
fn peer_already_closed() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.send(b"unread");
            wire.close();
        });
        let socket = open(&peer);
        assert_fails(socket.closed_timeout(ms(150)), ErrorKind::TimedOut);
        at_once(|| socket.close()).expect("the peer had ended");
        socket.closed_timeout(PROMPT).expect("it was closed");
    });
}

// -------------------------------------------------------------------- after Writer::close, or during it

/// `Writer::close()` has returned.
#[test]
fn after_writer_close() {
    with_watchdog(|| {
        let peer = Peer::scripted(looks_back);
        let socket = open(&peer);
        assert_eq!((&socket).write(b"x").expect("the send buffer has room"), 1);
        socket.writer().close().expect("the peer reads");
        socket.close().expect("the close succeeds");
        socket.closed_timeout(PROMPT).expect("it was closed");
        peer.signal();
        peer.assert_received(b"x");
    });
}

/// A write and `Writer::close()` are in progress in threads.
#[test]
fn writer_close_pending() {
    // Either call may be first, so the test repeats.
    for _ in 0..50 {
        with_watchdog(|| {
            let peer = Peer::scripted(looks_back);
            let socket = open(&peer);
            let (mut writer, closer) = (socket.writer(), socket.writer());
            let writing = spawn_call(move || writer.write(b"x"));
            let closing = spawn_call(move || closer.close());
            socket.close().expect("the peer reads");
            socket.closed_timeout(PROMPT).expect("it was closed");
            let taken = writing.join().unwrap_or_else(|error| {
                assert_eq!(crate_kind(&error), ErrorKind::Closed);
                0
            });
            if let Err(error) = closing.join() {
                assert_eq!(error.kind(), ErrorKind::Closed);
            }
            peer.signal();
            peer.assert_received(&b"x"[..taken]);
        });
    }
}

/// A large write and `Writer::close()` are in progress in threads, and the peer reads later.
#[test]
fn writer_close_pending_large() {
    const COUNT: usize = 3_000_000;
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.wait(ms(500));
            looks_back(wire);
        });
        let socket = open(&peer);
        let (mut writer, closer) = (socket.writer(), socket.writer());
        let writing = spawn_call(move || {
            let (data, mut taken) = (random_bytes(11, COUNT), 0);
            while taken < COUNT {
                match writer.write(&data[taken..]) {
                    Ok(count) => taken += count,
                    Err(error) => {
                        assert_eq!(crate_kind(&error), ErrorKind::Closed);
                        break;
                    }
                }
            }
            taken
        });
        eventually(PROMPT, "some bytes are accepted", || socket.stats().bytes_written > 0);
        let closing = spawn_call(move || closer.close());
        socket.close().expect("the peer reads at the end");
        socket.closed_timeout(PROMPT).expect("it was closed");
        let taken = writing.join();
        if let Err(error) = closing.join() {
            assert_eq!(error.kind(), ErrorKind::Closed);
        }
        // Whatever the result of `Writer::close`, exactly the bytes that writes reported arrive.
        peer.signal();
        peer.assert_received(&random_bytes(11, COUNT)[..taken]);
    });
}

// -------------------------------------------------------------------- after Writer::abort

/// The program has aborted, and stays idle after that.
#[test]
fn after_abort_then_idle() {
    with_watchdog(|| {
        within_100_ms(|| {
            let peer = Peer::reading();
            let socket = open(&peer);
            let begun = Instant::now();
            socket.writer().abort();
            socket.close().expect("it had ended");
            // The handle still exists.
            let ending = peer.finish();
            assert_eq!(ending.how, EndKind::Reset);
            assert_eq!(socket.phase(), Phase::Closed);
            ending.at - begun
        });
    });
}

/// The program has aborted.
#[test]
fn after_abort() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open(&peer);
        socket.writer().abort();
        socket.close().expect("it had ended");
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Closed);
        peer.assert_reset();
    });
}

// -------------------------------------------------------------------- a connection that never opened

/// The connection was refused.
#[test]
fn failed_socket() {
    with_watchdog(|| {
        let nothing = closed_port();
        let socket = sockeye::connect(nothing.address).expect("the address is valid");
        assert_fails(socket.opened(), ErrorKind::Connect);
        socket.close().expect("it had failed");
        socket.close().expect("a second close gives the same result");
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Connect);
    });
}

// -------------------------------------------------------------------- peers

/// Reads to the end and waits for its cue, so that a reset after the end is seen as well.
fn looks_back(wire: &mut PeerConn) {
    wire.read_to_end();
    wire.wait_signal();
}
