//! Errors say which side ended the connection.

use std::io::Write;

use sockeye::{ErrorKind, SecureTransport, Socket, SocketOptions};

use crate::support::peer::listen_with_room;
use crate::support::tls::{
    Accepted, TlsPeer, Way, authority, connect, open, terms, trusting, with,
};
use crate::support::{
    AT_ONCE, Verdict, blocked, call, fails, fill, kind_of, little_room, ms, read, read_to_end,
    story,
};

const WAYS: [Way; 3] = [Way::Plain, Way::On, Way::Upgraded];

/// Runs the test on every kind of connection, with and without half-open.
fn everywhere(tell: impl Fn(Way, SocketOptions) + Copy + Send + 'static) {
    for way in WAYS {
        for half_open in [false, true] {
            println!("{way:?}, half-open {half_open}");
            story(move || tell(way, SocketOptions::new().allow_half_open(half_open)));
        }
    }
}

/// Checks that a write fails with [`ErrorKind::Closed`], and that the message contains `expected` and not `unexpected`.
#[track_caller]
fn write_blames(mut socket: &Socket, expected: &str, unexpected: &str) {
    for _ in 0..2 {
        for result in [socket.write(b"x"), socket.write(b"")] {
            let error = result.expect_err("writing has ended");
            assert_eq!(kind_of(&error), ErrorKind::Closed);
            let text = error.to_string();
            assert!(text.contains(expected), "{text}");
            assert!(!text.contains(unexpected), "{text}");
        }
    }
}

#[test]
fn a_write_after_the_peers_end_says_that_the_peer_ended_it() {
    for way in WAYS {
        story(move || {
            let peer = way.plays(|peer| {
                peer.send(b"bye");
                peer.line().ends();
            });
            let socket = way.open(&peer, SocketOptions::new());
            assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
            write_blames(&socket, "the peer has closed", "this side");
            socket.writer().flush().expect("nothing is left to send");
            socket.writer().close().expect("the side has ended");
            // Later calls of this side do not change that.
            socket.close().expect("it has ended");
            write_blames(&socket, "the peer has closed", "this side");
            socket.closed_timeout(AT_ONCE).expect("a clean end");
        });
    }
}

#[test]
fn a_write_blocked_at_the_peers_end_says_that_the_peer_ended_it() {
    story(|| {
        let peer = Way::Plain.on(listen_with_room(4096), &terms(), |peer| {
            peer.await_cue();
            peer.fin();
            peer.await_cue();
        });
        let socket = Way::Plain.open(&peer, little_room().close_timeout(ms(300)));
        let _ = fill(&socket);
        let mut writer = socket.writer();
        let writing = blocked(move || writer.write(b"w"));
        peer.cue();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        let error = writing.join_within(ms(300) + AT_ONCE).expect_err("the send buffer is full");
        assert_eq!(kind_of(&error), ErrorKind::Closed);
        assert!(error.to_string().contains("the peer has closed"), "{error}");
        write_blames(&socket, "the peer has closed", "this side");
        peer.cue();
    });
}

#[test]
fn a_write_after_this_side_ended_says_that_this_side_did() {
    everywhere(|way, options| {
        let peer = way.plays(Accepted::read_to_end);
        let socket = way.open(&peer, options.clone());
        socket.close().expect("the close succeeds");
        write_blames(&socket, "this side", "the peer");

        let peer = way.plays(Accepted::read_to_end);
        let socket = way.open(&peer, options.clone());
        socket.writer().close().expect("the close succeeds");
        write_blames(&socket, "this side", "the peer");
        // The peer's end arrives later and is not the cause.
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        write_blames(&socket, "this side", "the peer");

        let peer = way.plays(Accepted::read_to_end);
        let socket = way.open(&peer, options);
        socket.abort();
        write_blames(&socket, "this side", "the peer");
    });
}

#[test]
fn half_open_a_write_after_both_ends_says_that_this_side_ended_it() {
    for way in WAYS {
        story(move || {
            let peer = way.plays(|peer| peer.line().ends());
            let socket = way.open(&peer, SocketOptions::new().allow_half_open(true));
            assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
            (&socket).write_all(b"still here").expect("it is half open");
            socket.writer().close().expect("the peer reads");
            write_blames(&socket, "this side", "the peer");
            socket.closed_timeout(AT_ONCE).expect("both directions ended");
        });
    }
}

#[test]
fn a_read_after_this_side_closed_says_that_this_side_did() {
    everywhere(|way, options| {
        let peer = way.plays(|peer| {
            peer.await_cue();
            peer.line().ends();
        });
        let socket = way.open(&peer, options);
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 10));
        socket.close().expect("the close succeeds");
        for result in [reading.join_within(AT_ONCE), read(&socket, 10)] {
            let error = result.expect_err("this side has closed");
            assert!(error.to_string().contains("this side"), "{error}");
        }
        peer.cue();
    });
}

#[test]
fn an_upgrade_after_the_peers_end_says_that_the_peer_ended_it() {
    for half_open in [false, true] {
        story(move || {
            let peer = TlsPeer::plays(&terms(), Accepted::fin);
            let options = with(SecureTransport::StartTls, trusting(authority()));
            let socket = open(&peer, options.allow_half_open(half_open));
            assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
            let error = socket.start_tls().expect_err("the peer has ended");
            assert_eq!(error.kind(), ErrorKind::Closed);
            assert!(error.to_string().contains("the peer has closed"), "{error}");
        });
    }
}

#[test]
fn a_connection_closed_before_it_was_made_was_closed_by_this_side() {
    story(|| {
        let peer = TlsPeer::plays(&terms(), |peer| {
            peer.await_cue();
        });
        let socket = connect(&peer, with(SecureTransport::On, trusting(authority())));
        let waiting = socket.clone();
        let opened = call(move || waiting.opened().map(drop));
        socket.close().expect("closing early is allowed");
        let error = opened.join_within(AT_ONCE).expect_err("it was closed");
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(error.to_string().contains("this side"), "{error}");
        write_blames(&socket, "this side", "the peer");
        fails(read(&socket, 1), ErrorKind::Closed);
        assert_eq!(Err::<(), _>(error).failure(), Some(ErrorKind::Closed));
        peer.cue();
    });
}
