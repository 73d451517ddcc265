//! Sockets that are still connecting.

use std::net::SocketAddr;
use std::time::Duration;

use sockeye::model::{self, Peer, PeerSaw, Reachability};
use sockeye::{Connector, ErrorKind};

use crate::explore::explore;
use crate::support::{TestSocket, options, read, spawn, write};

#[test]
fn a_read_and_a_write_wait_for_the_connection() {
    explore("a read and a write wait for the connection", || {
        model::set_reachability(Reachability::Deferred);
        let test = TestSocket::connecting(options());
        let reading = test.socket.clone();
        let reader = spawn(move || read(&reading));
        let writing = test.socket.clone();
        let writer = spawn(move || write(&writing, b"data"));
        test.peer.complete_connect();
        test.socket.opened().unwrap();
        test.peer.send(b"data");
        assert_eq!(reader.join().unwrap(), Ok(b"data".to_vec()));
        assert_eq!(writer.join().unwrap(), Ok(4));
        assert_eq!(test.assert_peer_saw(PeerSaw::Fin), b"data");
    });
}

#[test]
fn close_cancels_an_attempt_that_may_just_succeed() {
    explore("close cancels an attempt that may just succeed", || {
        model::set_reachability(Reachability::Deferred);
        let test = TestSocket::connecting(options());
        let opening = test.socket.clone();
        let opener = spawn(move || opening.opened().map(drop).map_err(|error| error.kind()));
        let closing = test.socket.clone();
        let closer = spawn(move || closing.close().map_err(|error| error.kind()));
        test.peer.complete_connect();
        assert_eq!(closer.join().unwrap(), Ok(()));
        let opened = opener.join().unwrap();
        assert!(matches!(opened, Ok(()) | Err(ErrorKind::Closed)), "{opened:?}");
        assert_eq!(test.socket.closed().map_err(|error| error.kind()), Ok(()));
        assert_eq!(test.connector.open_sockets(), 0);
        test.peer.end();
    });
}

#[test]
fn a_connect_timeout_ends_an_attempt_that_may_just_succeed() {
    explore("a connect timeout ends an attempt that may just succeed", || {
        let limit = Duration::from_millis(10);
        model::set_reachability(Reachability::Deferred);
        let connector = Connector::builder().build().unwrap();
        let options = options().connect_timeout(limit);
        let socket = connector.connect_with(("127.0.0.1", 1), options).unwrap();
        let opening = socket.clone();
        let opener = spawn(move || opening.opened().map(drop).map_err(|error| error.kind()));
        let time = spawn(move || model::pass_time(limit));
        let peer = Peer::accept();
        peer.complete_connect();
        time.join().unwrap();
        let opened = opener.join().unwrap();
        assert!(matches!(opened, Ok(()) | Err(ErrorKind::TimedOut)), "{opened:?}");
        assert_eq!(socket.opened().map(drop).map_err(|error| error.kind()), opened);
        if opened.is_ok() {
            socket.close().unwrap();
        }
        assert_eq!(connector.open_sockets(), 0);
        peer.end();
    });
}

#[test]
fn of_two_attempts_that_succeed_at_once_one_wins() {
    explore("of two attempts that succeed at once one wins", || {
        model::set_reachability(Reachability::Deferred);
        let connector = Connector::builder().build().unwrap();
        let addresses = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let socket = connector.connect_addrs(&addresses, options()).unwrap();
        let reading = socket.clone();
        let reader = spawn(move || read(&reading));
        // The second attempt begins after the attempt delay, because the first one has not succeeded.
        let peers = [Peer::accept(), Peer::accept()];
        assert_eq!([peers[0].address(), peers[1].address()], addresses);
        let [first, second] = peers;
        let succeeding = spawn(move || {
            first.complete_connect();
            first
        });
        second.complete_connect();
        let first = succeeding.join().unwrap();
        let info = socket.opened().unwrap();
        let (winner, loser) = match info.remote_address() {
            Some(address) if address == first.address() => (first, second),
            Some(_) | None => (second, first),
        };
        assert_eq!(info.remote_address(), Some(winner.address()));
        assert_eq!(write(&socket, b"data"), Ok(4));
        winner.send(b"back");
        assert_eq!(reader.join().unwrap(), Ok(b"back".to_vec()));
        socket.close().unwrap();
        assert_eq!(winner.wait_eof(), (b"data".to_vec(), PeerSaw::Fin));
        assert_eq!(loser.take(), b"");
        winner.end();
        assert_eq!(connector.open_sockets(), 0);
    });
}
