//! Pollers that watch Unix-domain sockets and listeners.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use sockeye::{ErrorKind, Interest, ListenOptions, Poller, SocketOptions, connect_unix, wait_any};

use super::{Folder, OwnServer, StdServer, assert_talks};
use crate::poller::{READABLE, WRITABLE, assert_events, assert_none, assert_quiet, drain, wait};
use crate::support::{
    PROMPT, assert_fails, crate_kind, eventually, fill_send_buffer, ms, read_exactly,
    small_send_buffer, with_watchdog,
};

#[test]
fn data_and_a_clean_end_are_reported() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let server = StdServer::new();
        let (socket, mut peer) = server.open(SocketOptions::new());
        poller.add(&socket, 7, READABLE).unwrap();
        assert_quiet(&poller);
        peer.write_all(b"one").unwrap();
        assert_events(&poller, ["7r"]);
        assert_eq!(drain(&socket), b"one");
        poller.modify(7, READABLE).unwrap();
        assert_quiet(&poller);
        // The close hangs up, with data before it.
        peer.write_all(b"last").unwrap();
        drop(peer);
        assert_events(&poller, ["7r"]);
        assert_eq!(drain(&socket), b"last");
        eventually(PROMPT, "the end", || socket.closed_timeout(Duration::ZERO).is_ok());
        poller.modify(7, READABLE).unwrap();
        assert!(wait(&poller, PROMPT).last().is_some_and(|event| event == "7rc"));
        assert_eq!(socket.try_read(&mut [0]).expect("a clean end"), 0);
    });
}

/// A half-close leaves the other direction open, and the close after it ends nothing that is still written.
#[test]
fn a_half_close_is_readable_and_the_close_after_it_is_no_failure() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let server = StdServer::new();
        let (mut socket, peer) = server.open(SocketOptions::new().allow_half_open(true));
        poller.add(&socket, 7, READABLE).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_events(&poller, ["7r"]);
        assert_eq!(socket.try_read(&mut [0]).expect("a clean end"), 0);
        socket.write_all(b"more").unwrap();
        assert_eq!(read_exactly(&peer, 4).unwrap(), b"more");
        drop(peer);
        assert_quiet(&poller);
        poller.modify(7, WRITABLE).unwrap();
        assert_events(&poller, ["7w"]);
        let error = socket.try_write(b"late").expect_err("the peer has gone");
        assert_eq!(crate_kind(&error), ErrorKind::Reset);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Reset);
    });
}

#[test]
fn a_close_with_unread_data_is_reported_as_a_failure_after_the_data() {
    with_watchdog(|| {
        for half_open in [false, true] {
            let poller = Poller::new().unwrap();
            let server = StdServer::new();
            let (mut socket, mut peer) =
                server.open(SocketOptions::new().allow_half_open(half_open));
            socket.write_all(b"unread").unwrap();
            poller.add(&socket, 7, READABLE.level()).unwrap();
            peer.write_all(b"partial").unwrap();
            drop(peer);
            eventually(PROMPT, "the failure is reported", || {
                wait(&poller, PROMPT).iter().any(|event| event == "7rc")
            });
            let mut buf = [0; 16];
            assert_eq!(socket.try_read(&mut buf).expect("it came before"), 7);
            let error = socket.try_read(&mut buf).expect_err("not everything was read");
            assert_eq!(crate_kind(&error), ErrorKind::Reset);
            assert_fails(socket.closed(), ErrorKind::Reset);
        }
    });
}

#[test]
fn room_in_the_send_buffer_is_reported_when_the_peer_has_read() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let server = StdServer::new();
        let (socket, peer) = server.open(small_send_buffer());
        poller.add(&socket, 7, WRITABLE).unwrap();
        assert_events(&poller, ["7w"]);
        let sent = fill_send_buffer(&socket);
        poller.modify(7, WRITABLE).unwrap();
        assert_quiet(&poller);
        assert!(read_exactly(&peer, sent).unwrap().iter().all(|&byte| byte == b'w'));
        assert_events(&poller, ["7w"]);
        assert!(socket.try_write(b"more").is_ok());
    });
}

#[test]
fn a_refused_connection_is_reported() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let folder = Folder::new();
        let failing = connect_unix(folder.address("s"), SocketOptions::new()).unwrap();
        poller.add(&failing, 3, READABLE | WRITABLE | Interest::OPENED).unwrap();
        assert_events(&poller, ["3rwoc"]);
        assert_none(&poller);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_connection_that_waits_for_room_is_reported_when_it_is_open() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let folder = Folder::new();
        let (listener, clients) = super::connecting::fill(&folder);
        let socket = connect_unix(folder.address("s"), SocketOptions::new()).unwrap();
        poller.add(&socket, 1, Interest::OPENED).unwrap();
        assert_quiet(&poller);
        for _ in clients {
            listener.accept().expect("the queue has one");
        }
        assert_events(&poller, ["1o"]);
        let (peer, _) = listener.accept().expect("the socket has connected");
        assert_talks(&peer, &socket);
    });
}

#[test]
fn the_clients_and_the_end_of_a_listener_are_reported() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let server = OwnServer::new(ListenOptions::new());
        poller.add(&server.listener, 1, READABLE.level()).unwrap();
        assert_quiet(&poller);
        let clients = [server.client(), server.client()];
        for client in &clients {
            assert_events(&poller, ["1r"]);
            assert_talks(client, &server.accept());
        }
        assert_quiet(&poller);
        server.listener.close();
        assert_events(&poller, ["1rc"]);
        assert_fails(server.listener.accept(), ErrorKind::Closed);
        assert!(!server.folder.path("s").exists(), "the path is removed");
    });
}

/// A client that `allow_uids` denies is no event.
#[test]
fn a_denied_client_is_never_reported() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let server = OwnServer::new(ListenOptions::new().allow_uids([]));
        poller.add(&server.listener, 1, READABLE).unwrap();
        let client = server.client();
        // The connection is complete before its user is known.
        let _ = wait(&poller, ms(200));
        assert_fails(server.listener.accept_timeout(ms(50)), ErrorKind::TimedOut);
        assert_eq!(read_exactly(&client, 1).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        poller.modify(1, READABLE).unwrap();
        assert_quiet(&poller);
    });
}

/// A poller keeps no listener alive, so the path is removed with its last handle.
#[test]
fn the_path_of_a_watched_listener_is_removed_with_its_last_handle() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let OwnServer { listener, folder } = OwnServer::new(ListenOptions::new());
        poller.add(&listener, 1, READABLE).unwrap();
        drop(listener);
        assert!(poller.is_empty());
        eventually(PROMPT, "the path is removed", || !folder.path("s").exists());
        assert_quiet(&poller);
    });
}

#[test]
fn wait_any_finds_the_socket_that_has_data() {
    with_watchdog(|| {
        let server = StdServer::new();
        let (first, _first_peer) = server.open(SocketOptions::new());
        let (second, mut second_peer) = server.open(SocketOptions::new());
        let both = [(&first, READABLE), (&second, READABLE)];
        assert_eq!(wait_any(&both, ms(30)).unwrap(), None);
        second_peer.write_all(b"x").unwrap();
        assert_eq!(wait_any(&both, PROMPT).unwrap(), Some(1));
    });
}
