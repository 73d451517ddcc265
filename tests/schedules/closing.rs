//! Sockets that this side closes or aborts.

use sockeye::model::{Peer, PeerSaw};
use sockeye::{Connector, ErrorKind};

use crate::explore::explore;
use crate::support::{TestSocket, options, read, spawn, write_all};

#[test]
fn close_ends_a_blocked_read_and_a_blocked_write() {
    explore("close ends a blocked read and a blocked write", || {
        let test = TestSocket::with_send_window(2, options());
        let reading = test.socket.clone();
        let reader = spawn(move || read(&reading));
        let writing = test.socket.clone();
        let writer = spawn(move || write_all(&writing, b"abc"));
        assert_eq!(test.socket.close().map_err(|error| error.kind()), Ok(()));
        assert_eq!(test.connector.open_sockets(), 0);
        assert_eq!(test.peer.peer_saw(), Some(PeerSaw::Fin), "close returns after the FIN");
        assert_eq!(reader.join().unwrap(), Err(ErrorKind::Closed));
        let (accepted, error) = writer.join().unwrap();
        assert_eq!(error, Some(ErrorKind::Closed));
        assert_eq!(test.socket.closed().map_err(|error| error.kind()), Ok(()));
        assert_eq!(test.assert_peer_saw(PeerSaw::Fin), b"abc"[..accepted]);
    });
}

#[test]
fn two_closes_wait_for_the_same_end() {
    explore("two closes wait for the same end", || {
        let test = TestSocket::open(options());
        let closers = [(), ()].map(|()| {
            let (socket, connector) = (test.socket.clone(), test.connector.clone());
            spawn(move || {
                socket.close().unwrap();
                assert_eq!(connector.open_sockets(), 0);
            })
        });
        for closer in closers {
            closer.join().unwrap();
            assert_eq!(test.peer.peer_saw(), Some(PeerSaw::Fin));
        }
        test.assert_peer_saw(PeerSaw::Fin);
    });
}

#[test]
fn abort_ends_a_blocked_read_and_a_blocked_write() {
    explore("abort ends a blocked read and a blocked write", || {
        let test = TestSocket::with_send_window(2, options());
        let reading = test.socket.clone();
        let reader = spawn(move || read(&reading));
        let writing = test.socket.clone();
        let writer = spawn(move || write_all(&writing, b"abc"));
        test.socket.abort();
        assert_eq!(reader.join().unwrap(), Err(ErrorKind::Closed));
        let (_, error) = writer.join().unwrap();
        assert_eq!(error, Some(ErrorKind::Closed));
        let closed = test.socket.closed().map_err(|error| error.kind());
        assert_eq!(closed, Err(ErrorKind::Closed));
        test.assert_peer_saw(PeerSaw::Reset);
    });
}

#[test]
fn close_abort_and_eof_agree_on_one_outcome() {
    explore("close, abort and EOF agree on one outcome", || {
        let test = TestSocket::open(options());
        let closing = test.socket.clone();
        let closer = spawn(move || closing.close().map_err(|error| error.kind()));
        let aborting = test.socket.clone();
        let aborter = spawn(move || aborting.abort());
        test.peer.end();
        let closed = test.socket.closed().map_err(|error| error.kind());
        assert_eq!(closer.join().unwrap(), Ok(()));
        aborter.join().unwrap();
        assert_eq!(test.socket.closed().map_err(|error| error.kind()), closed);
        let peer_saw = match closed {
            Ok(()) => PeerSaw::Fin,
            Err(kind) => {
                assert_eq!(kind, ErrorKind::Closed);
                PeerSaw::Reset
            }
        };
        test.assert_peer_saw(peer_saw);
    });
}

#[test]
fn the_last_handle_to_drop_closes_the_socket() {
    explore("the last handle to drop closes the socket", || {
        let TestSocket { connector, socket, peer } = TestSocket::open(options());
        let reading = socket.reader();
        let reader = spawn(move || {
            let mut reading = reading;
            let mut buf = [0; 4];
            std::io::Read::read(&mut reading, &mut buf).unwrap()
        });
        let writing = socket.writer();
        let other = spawn(move || drop(writing));
        drop(socket);
        assert_eq!(peer.peer_saw(), None, "a reader is left");
        peer.send(b"data");
        assert_eq!(reader.join().unwrap(), 4);
        other.join().unwrap();
        assert_eq!(peer.wait_eof(), (Vec::new(), PeerSaw::Fin));
        assert_eq!(connector.open_sockets(), 0);
        peer.end();
    });
}

#[test]
fn shutdown_ends_a_concurrent_connect() {
    explore("shutdown ends a concurrent connect", || {
        let connector = Connector::builder().build().unwrap();
        let other = connector.clone();
        let opener = spawn(move || match other.connect_with(("127.0.0.1", 1), options()) {
            Ok(socket) => {
                let ended = socket.closed().map_err(|error| error.kind());
                assert_eq!(ended, Ok(()));
                let message = socket.opened().map(drop).map_err(|error| error.kind());
                assert!(matches!(message, Ok(()) | Err(ErrorKind::Closed)), "{message:?}");
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Closed);
                false
            }
        });
        assert_eq!(connector.shutdown(std::time::Duration::from_secs(1)), 0);
        assert_eq!(connector.open_sockets(), 0);
        opener.join().unwrap();
    });
}

#[test]
fn late_data_does_not_reset_a_close() {
    explore("late data does not reset a close", || {
        let test = TestSocket::open(options());
        let socket = test.socket.clone();
        let closer = spawn(move || socket.close().unwrap());
        let peer: &Peer = &test.peer;
        peer.send(b"late");
        peer.end();
        closer.join().unwrap();
        test.assert_peer_saw(PeerSaw::Fin);
    });
}
