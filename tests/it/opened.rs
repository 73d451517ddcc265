//! `opened()` from many callers, and calls before it, in addition to the scenarios of `conformance::opened`.

use std::io::Write;

use sockeye::{Error, ErrorKind, Phase, Socket, SocketOptions};

use crate::support::peer::black_hole;
use crate::support::{
    AT_ONCE, Peer, at_once, blocked, call, fails, ms, read, read_to_end, story, times_out,
};

#[test]
fn the_answer_is_the_same_from_every_thread_every_time() {
    story(|| {
        let peer = Peer::reads();
        let socket = sockeye::connect(peer.address()).expect("the address is valid");
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let socket = socket.clone();
                call(move || socket.opened().map(|info| info.local_address()))
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
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.read_to_end();
            wire.send(b"bye");
            wire.fin();
        });
        let socket = sockeye::connect(peer.address()).expect("the address is valid");
        socket.writer().close().expect("it waits for the connection");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        peer.gets(b"");
    });
}

#[test]
fn abort_ends_an_attempt_without_an_answer() {
    for abort in [Socket::abort, |socket: &Socket| socket.writer().abort()] {
        story(move || {
            let hole = black_hole();
            let socket = sockeye::connect(hole.address).expect("the address is valid");
            let waiter = socket.clone();
            let waiting = blocked(move || waiter.opened());
            at_once(|| abort(&socket));
            fails(waiting.join_within(AT_ONCE), ErrorKind::Closed);
            fails(socket.closed_timeout(AT_ONCE), ErrorKind::Closed);
            fails(read(&socket, 1), ErrorKind::Closed);
        });
    }
}

#[test]
fn calls_while_connecting_honour_their_own_limits() {
    story(|| {
        let hole = black_hole();
        let options = SocketOptions::new().read_timeout(ms(100)).write_timeout(ms(100));
        let socket = sockeye::connect_with(hole.address, options).expect("the address is valid");
        times_out(at_once(|| read(&socket, 1)));
        times_out(at_once(|| (&socket).write(b"x")));
        let error: Error =
            at_once(|| socket.writer().close()).expect_err("the peer does not answer");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.is_retryable());
        assert_eq!(socket.phase(), Phase::Connecting, "the attempt continues");
        socket.abort();
    });
}
