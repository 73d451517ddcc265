//! How a connection ends: a close, a half-close, unread data, and what writers and idle sockets see of them.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use sockeye::{Connector, ErrorKind, Health, ListenOptions, Phase, Socket, SocketOptions};

use super::{OwnServer, StdServer};
use crate::support::subprocess::in_subprocess;
use crate::support::{
    PROMPT, WATCHDOG, assert_ended_with, assert_fails, at_once, crate_kind, fill_send_buffer, ms,
    read, read_to_end, spawn_blocked, spawn_call, with_watchdog,
};

fn pair(options: SocketOptions) -> (Socket, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("two descriptors are free");
    let socket = Connector::global().adopt_unix(ours, options).expect("it is connected");
    socket.opened().expect("it is connected");
    (socket, theirs)
}

fn half_open() -> SocketOptions {
    SocketOptions::new().allow_half_open(true)
}

#[test]
fn a_close_is_a_clean_end_for_every_kind_of_reader() {
    with_watchdog(|| {
        // Before the read, during the read, and without one.
        let (socket, theirs) = pair(SocketOptions::new());
        drop(theirs);
        assert_eq!(read(&socket, 8).expect("a clean end"), b"");
        socket.closed().expect("a clean end");

        let (socket, theirs) = pair(SocketOptions::new());
        let reading = spawn_blocked({
            let socket = socket.clone();
            move || read(&socket, 8)
        });
        drop(theirs);
        assert_eq!(reading.join().expect("a clean end"), b"");
        socket.closed().expect("a clean end");

        let (socket, theirs) = pair(SocketOptions::new());
        drop(theirs);
        socket.closed_timeout(PROMPT).expect("the event loop sees the clean end");
        assert_eq!(socket.phase(), Phase::Closed);
    });
}

#[test]
fn a_half_close_leaves_the_other_direction_open() {
    with_watchdog(|| {
        let (mut socket, mut theirs) = pair(half_open());
        theirs.write_all(b"question").unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&socket).unwrap(), b"question");
        assert_eq!(socket.phase(), Phase::HalfClosed);
        socket.write_all(b"answer").unwrap();
        socket.close().unwrap();
        assert_eq!(read_to_end(&theirs).unwrap(), b"answer");

        let (socket, mut theirs) = pair(SocketOptions::new());
        socket.writer().close().unwrap();
        assert_eq!(read(&theirs, 1).unwrap(), b"");
        theirs.write_all(b"more").unwrap();
        drop(theirs);
        assert_eq!(read_to_end(&socket).unwrap(), b"more");
        socket.closed().expect("both directions ended cleanly");
    });
}

/// The hang-up of a close must not end the write side of a socket that is half open.
#[test]
fn a_half_open_socket_survives_the_peers_close() {
    with_watchdog(|| {
        let (mut socket, theirs) = pair(half_open());
        drop(theirs);
        assert_eq!(read(&socket, 8).unwrap(), b"");
        assert_fails(socket.closed_timeout(ms(300)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::HalfClosed);
        assert_eq!(crate_kind(&socket.write(b"x").unwrap_err()), ErrorKind::Reset);
    });
}

#[test]
fn unread_data_makes_a_close_a_failure_after_what_the_peer_sent() {
    with_watchdog(|| {
        let (mut socket, mut theirs) = pair(SocketOptions::new());
        socket.write_all(b"unread").unwrap();
        theirs.write_all(b"partial").unwrap();
        drop(theirs);
        let mut got = Vec::new();
        let error = socket.read_to_end(&mut got).expect_err("the peer had not read everything");
        assert_eq!((got.as_slice(), crate_kind(&error)), (&b"partial"[..], ErrorKind::Reset));
        assert_ended_with(&socket, ErrorKind::Reset);
    });
}

/// The event loop takes the error, which the kernel reports once. Later reads still tell of it.
#[test]
fn a_failure_that_no_read_waits_for_is_told_to_each_one() {
    with_watchdog(|| {
        let (mut socket, theirs) = pair(SocketOptions::new());
        socket.write_all(b"unread").unwrap();
        drop(theirs);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Reset);
        assert_ended_with(&socket, ErrorKind::Reset);

        let (mut socket, mut theirs) = pair(SocketOptions::new());
        socket.write_all(b"unread").unwrap();
        theirs.write_all(b"partial").unwrap();
        drop(theirs);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Reset);
        let mut got = Vec::new();
        let error = socket.read_to_end(&mut got).expect_err("the peer had not read everything");
        assert_eq!((got.as_slice(), crate_kind(&error)), (&b"partial"[..], ErrorKind::Reset));
    });
}

/// A write meets a peer that has closed cleanly. It fails, and the end of what the peer sent stays clean.
#[test]
fn a_write_after_a_clean_close_fails_and_leaves_the_end_clean() {
    with_watchdog(|| {
        let (mut socket, mut theirs) = pair(SocketOptions::new());
        theirs.write_all(b"goodbye").unwrap();
        drop(theirs);
        let error = socket.write(b"more").expect_err("the peer has gone");
        assert_eq!(crate_kind(&error), ErrorKind::Reset);
        assert_eq!(read_to_end(&socket).expect("all of it, and a clean end"), b"goodbye");
        assert_eq!(read(&socket, 8).expect("a clean end"), b"");
        assert_fails(socket.closed(), ErrorKind::Reset);
    });
}

#[test]
fn a_write_after_an_unclean_close_leaves_the_failure() {
    with_watchdog(|| {
        let (mut socket, mut theirs) = pair(SocketOptions::new());
        socket.write_all(b"unread").unwrap();
        theirs.write_all(b"partial").unwrap();
        drop(theirs);
        let error = socket.write(b"more").expect_err("the peer has gone");
        assert_eq!(crate_kind(&error), ErrorKind::Reset);
        let mut got = Vec::new();
        let error = socket.read_to_end(&mut got).expect_err("the peer had not read everything");
        assert_eq!((got.as_slice(), crate_kind(&error)), (&b"partial"[..], ErrorKind::Reset));
    });
}

/// Whatever this side writes, the peer had not read it when it closed.
#[test]
fn a_blocked_write_ends_with_the_peers_close() {
    with_watchdog(|| {
        let (socket, theirs) = pair(SocketOptions::new());
        let writing = spawn_blocked({
            let mut socket = socket.clone();
            move || socket.write_all(&vec![0; 8 << 20])
        });
        drop(theirs);
        assert_eq!(crate_kind(&writing.join().unwrap_err()), ErrorKind::Reset);
        assert_ended_with(&socket, ErrorKind::Reset);
    });
}

#[test]
fn an_abort_ends_the_peer_at_once_even_if_a_descriptor_is_held() {
    with_watchdog(|| {
        let server = StdServer::new();
        let (socket, peer) = server.open(SocketOptions::new());
        let descriptor = socket.descriptor();
        assert!(descriptor.is_some());
        socket.abort();
        assert_eq!(at_once(|| read(&peer, 8)).expect("the peer sees an end"), b"");
        assert_fails(socket.closed(), ErrorKind::Closed);
        drop(descriptor);
    });
}

/// Whatever else has the descriptor, the peer's read ends at once.
#[test]
fn an_abort_with_unread_data_ends_a_peer_although_the_program_has_a_duplicate() {
    with_watchdog(|| {
        let server = StdServer::new();
        let (socket, mut peer) = server.open(SocketOptions::new());
        let duplicate = {
            let descriptor = socket.descriptor().expect("it is open");
            descriptor.as_fd().try_clone_to_owned().expect("a descriptor is free")
        };
        peer.write_all(b"unread").expect("there is room");
        socket.abort();
        assert_eq!(at_once(|| read(&peer, 8)).expect("the peer sees an end"), b"");
        drop(duplicate);

        // The program had it before.
        let (ours, mut peer) = UnixStream::pair().expect("two descriptors are free");
        let duplicate = ours.try_clone().expect("a descriptor is free");
        let socket = Connector::global().adopt_unix(ours, SocketOptions::new()).unwrap();
        socket.opened().expect("it is connected");
        peer.write_all(b"unread").expect("there is room");
        socket.abort();
        assert_eq!(at_once(|| read(&peer, 8)).expect("the peer sees an end"), b"");
        drop(duplicate);
    });
}

/// The kernel tells the peer that its data was not read. A forked child would keep the connection, so this test needs a
/// process without any.
#[test]
#[cfg(target_os = "linux")]
#[cfg_attr(sockeye_bsd, ignore = "only Linux tells that there are no children")]
fn an_abort_tells_a_blocked_peer_that_its_data_was_not_read() {
    const NAME: &str = "unix::ends::an_abort_tells_a_blocked_peer_that_its_data_was_not_read";
    in_subprocess(NAME, WATCHDOG, || {
        let abort = |mut peer: UnixStream, abort: &dyn Fn()| {
            peer.write_all(b"unread").expect("there is room");
            let reading = spawn_call(move || read(&peer, 8));
            abort();
            let error = reading.join().expect_err("the data was not read");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        };
        let clients = StdServer::new();
        let server = OwnServer::new(ListenOptions::new());
        for _ in 0..500 {
            let (socket, peer) = clients.open(SocketOptions::new());
            abort(peer, &|| socket.abort());
            let client = server.client();
            let socket = server.accept();
            abort(client, &|| socket.abort());
        }
        // A thread waits for room, and has the wire last.
        for _ in 0..5 {
            let (socket, peer) = clients.open(SocketOptions::new());
            fill_send_buffer(&socket);
            let writing = spawn_blocked({
                let mut socket = socket.clone();
                move || socket.write(b"x").map_err(|error| error.kind())
            });
            let mut sending = peer.try_clone().expect("a descriptor is free");
            sending.write_all(b"unread").expect("there is room");
            socket.abort();
            assert!(writing.join().is_err());
            let mut all = Vec::new();
            let error = { &peer }.read_to_end(&mut all).expect_err("the data was not read");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        // Without unread data it is an end.
        let (socket, peer) = clients.open(SocketOptions::new());
        socket.abort();
        assert_eq!(at_once(|| read(&peer, 8)).expect("the peer sees an end"), b"");
    });
}

#[test]
fn health_tells_a_close_from_a_failure() {
    with_watchdog(|| {
        let (socket, theirs) = pair(SocketOptions::new());
        assert!(socket.health().is_idle());
        drop(theirs);
        assert!(matches!(socket.health(), Health::Ended));

        let (mut socket, theirs) = pair(SocketOptions::new());
        socket.write_all(b"unread").unwrap();
        drop(theirs);
        assert!(
            matches!(socket.health(), Health::Failed(error) if error.kind() == ErrorKind::Reset)
        );

        let (socket, mut theirs) = pair(SocketOptions::new());
        theirs.write_all(b"x").unwrap();
        drop(theirs);
        assert!(matches!(socket.health(), Health::Unread));
        assert_eq!(read_to_end(&socket).unwrap(), b"x");

        // While another thread reads.
        let (socket, theirs) = pair(half_open());
        let reading = spawn_blocked({
            let socket = socket.clone();
            move || read(&socket, 8)
        });
        assert!(socket.health().is_idle());
        drop(theirs);
        assert_eq!(reading.join().unwrap(), b"");
        assert!(matches!(socket.health(), Health::Ended));
    });
}

#[test]
fn a_close_drains_what_the_peer_still_sends() {
    with_watchdog(|| {
        let (socket, mut theirs) = pair(SocketOptions::new());
        theirs.write_all(&[1; 4096]).unwrap();
        socket.close().expect("nothing is unsent");
        // With unread bytes the kernel would report a reset.
        theirs.write_all(&[2; 4096]).expect("the socket still receives");
        assert_eq!(read(&theirs, 8).expect("a clean end"), b"");
    });
}
