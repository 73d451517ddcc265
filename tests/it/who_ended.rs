//! Errors say which side ended the connection.

use std::io::Write;

use sockeye::{ErrorKind, SecureTransport, Socket, SocketOptions};

use crate::support::peer::listen_with_room;
use crate::support::tls::{
    Accepted, Opening, TlsPeer, authority, connect, open, server_config, trust_only, with,
};
use crate::support::{
    HasErrorKind, PROMPT, assert_fails, crate_kind, fill_send_buffer, ms, read, read_to_end,
    small_send_buffer, spawn_blocked, spawn_call, with_watchdog,
};

const WAYS: [Opening; 3] = [Opening::Plain, Opening::On, Opening::Upgraded];

/// Runs the test on every kind of connection, with and without half-open.
fn everywhere(tell: impl Fn(Opening, SocketOptions) + Copy + Send + 'static) {
    for way in WAYS {
        for half_open in [false, true] {
            println!("{way:?}, half-open {half_open}");
            with_watchdog(move || tell(way, SocketOptions::new().allow_half_open(half_open)));
        }
    }
}

/// Checks that a write fails with [`ErrorKind::Closed`], and that the message contains `expected` and not `unexpected`.
#[track_caller]
fn write_blames(mut socket: &Socket, expected: &str, unexpected: &str) {
    for _ in 0..2 {
        for result in [socket.write(b"x"), socket.write(b"")] {
            let error = result.expect_err("writing has ended");
            assert_eq!(crate_kind(&error), ErrorKind::Closed);
            let text = error.to_string();
            assert!(text.contains(expected), "{text}");
            assert!(!text.contains(unexpected), "{text}");
        }
    }
}

#[test]
fn a_write_after_the_peers_end_says_that_the_peer_ended_it() {
    for way in WAYS {
        with_watchdog(move || {
            let peer = way.scripted(|peer| {
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
            socket.closed_timeout(PROMPT).expect("a clean end");
        });
    }
}

#[test]
fn a_write_blocked_at_the_peers_end_says_that_the_peer_ended_it() {
    with_watchdog(|| {
        let peer = Opening::Plain.on(listen_with_room(4096), &server_config(), |peer| {
            peer.wait_signal();
            peer.fin();
            peer.wait_signal();
        });
        let socket = Opening::Plain.open(&peer, small_send_buffer().close_timeout(ms(300)));
        let _ = fill_send_buffer(&socket);
        let mut writer = socket.writer();
        let writing = spawn_blocked(move || writer.write(b"w"));
        peer.signal();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        let error = writing.join_within(ms(300) + PROMPT).expect_err("the send buffer is full");
        assert_eq!(crate_kind(&error), ErrorKind::Closed);
        assert!(error.to_string().contains("the peer has closed"), "{error}");
        write_blames(&socket, "the peer has closed", "this side");
        peer.signal();
    });
}

#[test]
fn a_write_after_this_side_ended_says_that_this_side_did() {
    everywhere(|way, options| {
        let peer = way.scripted(Accepted::read_to_end);
        let socket = way.open(&peer, options.clone());
        socket.close().expect("the close succeeds");
        write_blames(&socket, "this side", "the peer");

        let peer = way.scripted(Accepted::read_to_end);
        let socket = way.open(&peer, options.clone());
        socket.writer().close().expect("the close succeeds");
        write_blames(&socket, "this side", "the peer");
        // The peer's end arrives later and is not the cause.
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        write_blames(&socket, "this side", "the peer");

        let peer = way.scripted(Accepted::read_to_end);
        let socket = way.open(&peer, options);
        socket.abort();
        write_blames(&socket, "this side", "the peer");
    });
}

#[test]
fn half_open_a_write_after_both_ends_says_that_this_side_ended_it() {
    for way in WAYS {
        with_watchdog(move || {
            let peer = way.scripted(|peer| peer.line().ends());
            let socket = way.open(&peer, SocketOptions::new().allow_half_open(true));
            assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
            (&socket).write_all(b"still here").expect("it is half open");
            socket.writer().close().expect("the peer reads");
            write_blames(&socket, "this side", "the peer");
            socket.closed_timeout(PROMPT).expect("both directions ended");
        });
    }
}

#[test]
fn a_read_after_this_side_closed_says_that_this_side_did() {
    everywhere(|way, options| {
        let peer = way.scripted(|peer| {
            peer.wait_signal();
            peer.line().ends();
        });
        let socket = way.open(&peer, options);
        let reader = socket.reader();
        let reading = spawn_blocked(move || read(reader, 10));
        socket.close().expect("the close succeeds");
        for result in [reading.join_within(PROMPT), read(&socket, 10)] {
            let error = result.expect_err("this side has closed");
            assert!(error.to_string().contains("this side"), "{error}");
        }
        peer.signal();
    });
}

#[test]
fn an_upgrade_after_the_peers_end_says_that_the_peer_ended_it() {
    for half_open in [false, true] {
        with_watchdog(move || {
            let peer = TlsPeer::scripted(&server_config(), Accepted::fin);
            let options = with(SecureTransport::StartTls, trust_only(authority()));
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
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.wait_signal();
        });
        let socket = connect(&peer, with(SecureTransport::On, trust_only(authority())));
        let waiting = socket.clone();
        let opened = spawn_call(move || waiting.opened().map(drop));
        socket.close().expect("closing early is allowed");
        let error = opened.join_within(PROMPT).expect_err("it was closed");
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(error.to_string().contains("this side"), "{error}");
        write_blames(&socket, "this side", "the peer");
        assert_fails(read(&socket, 1), ErrorKind::Closed);
        assert_eq!(Err::<(), _>(error).failure(), Some(ErrorKind::Closed));
        peer.signal();
    });
}
