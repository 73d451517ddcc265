//! `opened()` from many callers, and calls before it, in addition to the scenarios of `conformance::opened`.

use std::io::Write;

use sockeye::{Error, ErrorKind, Phase, Socket, SocketOptions};

use crate::support::peer::black_hole;
use crate::support::{
    PROMPT, Peer, assert_fails, assert_times_out, at_once, ms, read, read_to_end, spawn_blocked,
    spawn_call, with_watchdog,
};

#[test]
fn the_answer_is_the_same_from_every_thread_every_time() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = sockeye::connect(peer.address()).expect("the address is valid");
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let socket = socket.clone();
                spawn_call(move || socket.opened().map(|info| info.local_address()))
            })
            .collect();
        let local = socket.opened().expect("the peer listens").local_address();
        for caller in callers {
            assert_eq!(caller.join().expect("the peer listens"), local);
        }
        assert_eq!(socket.phase(), Phase::Open);
    });
}

#[test]
fn closing_the_writer_at_once_waits_for_the_connection() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.read_to_end();
            wire.send(b"bye");
            wire.fin();
        });
        let socket = sockeye::connect(peer.address()).expect("the address is valid");
        socket.writer().close().expect("it waits for the connection");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        peer.assert_received(b"");
    });
}

#[test]
fn abort_ends_an_attempt_without_an_answer() {
    for abort in [Socket::abort, |socket: &Socket| socket.writer().abort()] {
        with_watchdog(move || {
            let hole = black_hole();
            let socket = sockeye::connect(hole.address).expect("the address is valid");
            let waiter = socket.clone();
            let waiting = spawn_blocked(move || waiter.opened());
            at_once(|| abort(&socket));
            assert_fails(waiting.join_within(PROMPT), ErrorKind::Closed);
            assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Closed);
            assert_fails(read(&socket, 1), ErrorKind::Closed);
        });
    }
}

#[test]
fn calls_while_connecting_honour_their_own_limits() {
    with_watchdog(|| {
        let hole = black_hole();
        let options = SocketOptions::new().read_timeout(ms(100)).write_timeout(ms(100));
        let socket = sockeye::connect_with(hole.address, options).expect("the address is valid");
        assert_times_out(at_once(|| read(&socket, 1)));
        assert_times_out(at_once(|| (&socket).write(b"x")));
        let error: Error =
            at_once(|| socket.writer().close()).expect_err("the peer does not answer");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.is_retryable());
        assert_eq!(socket.phase(), Phase::Connecting, "the attempt continues");
        socket.abort();
    });
}
