//! Sockets that this side closes or aborts.

use sockeye::model::{Peer, PeerSaw};
use sockeye::{Connector, ErrorKind};

use crate::explore::explore;
use crate::support::{Scene, options, read, spawn, write_all};

#[test]
fn close_ends_a_blocked_read_and_a_blocked_write() {
    explore("close ends a blocked read and a blocked write", || {
        let scene = Scene::narrow(2, options());
        let reading = scene.socket.clone();
        let reader = spawn(move || read(&reading));
        let writing = scene.socket.clone();
        let writer = spawn(move || write_all(&writing, b"abc"));
        assert_eq!(scene.socket.close().map_err(|error| error.kind()), Ok(()));
        assert_eq!(scene.connector.open_sockets(), 0);
        assert_eq!(scene.peer.peer_saw(), Some(PeerSaw::Fin), "close returns after the FIN");
        assert_eq!(reader.join().unwrap(), Err(ErrorKind::Closed));
        let (accepted, error) = writer.join().unwrap();
        assert_eq!(error, Some(ErrorKind::Closed));
        assert_eq!(scene.socket.closed().map_err(|error| error.kind()), Ok(()));
        assert_eq!(scene.ends_with(PeerSaw::Fin), b"abc"[..accepted]);
    });
}

#[test]
fn two_closes_wait_for_the_same_end() {
    explore("two closes wait for the same end", || {
        let scene = Scene::new(options());
        let closers = [(), ()].map(|()| {
            let (socket, connector) = (scene.socket.clone(), scene.connector.clone());
            spawn(move || {
                socket.close().unwrap();
                assert_eq!(connector.open_sockets(), 0);
            })
        });
        for closer in closers {
            closer.join().unwrap();
            assert_eq!(scene.peer.peer_saw(), Some(PeerSaw::Fin));
        }
        scene.ends_with(PeerSaw::Fin);
    });
}

#[test]
fn abort_ends_a_blocked_read_and_a_blocked_write() {
    explore("abort ends a blocked read and a blocked write", || {
        let scene = Scene::narrow(2, options());
        let reading = scene.socket.clone();
        let reader = spawn(move || read(&reading));
        let writing = scene.socket.clone();
        let writer = spawn(move || write_all(&writing, b"abc"));
        scene.socket.abort();
        assert_eq!(reader.join().unwrap(), Err(ErrorKind::Closed));
        let (_, error) = writer.join().unwrap();
        assert_eq!(error, Some(ErrorKind::Closed));
        let closed = scene.socket.closed().map_err(|error| error.kind());
        assert_eq!(closed, Err(ErrorKind::Closed));
        scene.ends_with(PeerSaw::Reset);
    });
}

#[test]
fn close_abort_and_eof_agree_on_one_outcome() {
    explore("close, abort and EOF agree on one outcome", || {
        let scene = Scene::new(options());
        let closing = scene.socket.clone();
        let closer = spawn(move || closing.close().map_err(|error| error.kind()));
        let aborting = scene.socket.clone();
        let aborter = spawn(move || aborting.abort());
        scene.peer.end();
        let closed = scene.socket.closed().map_err(|error| error.kind());
        assert_eq!(closer.join().unwrap(), Ok(()));
        aborter.join().unwrap();
        assert_eq!(scene.socket.closed().map_err(|error| error.kind()), closed);
        let farewell = match closed {
            Ok(()) => PeerSaw::Fin,
            Err(kind) => {
                assert_eq!(kind, ErrorKind::Closed);
                PeerSaw::Reset
            }
        };
        scene.ends_with(farewell);
    });
}

#[test]
fn the_last_handle_to_drop_closes_the_socket() {
    explore("the last handle to drop closes the socket", || {
        let Scene { connector, socket, peer } = Scene::new(options());
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
                let told = socket.opened().map(drop).map_err(|error| error.kind());
                assert!(matches!(told, Ok(()) | Err(ErrorKind::Closed)), "{told:?}");
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
        let scene = Scene::new(options());
        let socket = scene.socket.clone();
        let closer = spawn(move || socket.close().unwrap());
        let peer: &Peer = &scene.peer;
        peer.send(b"late");
        peer.end();
        closer.join().unwrap();
        scene.ends_with(PeerSaw::Fin);
    });
}
