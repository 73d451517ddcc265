//! Upgrades to TLS, up to the ClientHello: the peers here know no TLS.

use std::time::Duration;

use sockeye::model::{Peer, PeerSaw};
use sockeye::{ErrorKind, SecureTransport, Socket, SocketOptions};

use crate::explore::explore;
use crate::support::{Scene, options, read, spawn, write};

/// How a handshake record begins.
const HANDSHAKE: u8 = 0x16;

fn starttls() -> SocketOptions {
    options().secure_transport(SecureTransport::StartTls)
}

fn upgrade(socket: &Socket) -> Result<Socket, ErrorKind> {
    socket.start_tls().map_err(|error| error.kind())
}

/// The peer hangs up on a handshake, which fails for it.
fn fails(secure: &Socket, peer: &Peer) {
    peer.end();
    let opened = secure.opened().map(drop).map_err(|error| error.kind());
    assert_eq!(opened, Err(ErrorKind::Tls));
}

#[test]
fn an_upgrade_calls_a_blocked_read_off_the_wire() {
    explore("an upgrade calls a blocked read off the wire", || {
        let scene = Scene::new(starttls());
        let socket = scene.socket.clone();
        let reader = spawn(move || read(&socket));
        let secure = upgrade(&scene.socket).unwrap();
        assert!(scene.socket.upgraded());
        assert_eq!(scene.connector.open_sockets(), 1, "they share one place");
        assert_eq!(reader.join().unwrap(), Err(ErrorKind::Upgraded));
        assert_eq!(scene.peer.wait_bytes()[0], HANDSHAKE);
        fails(&secure, &scene.peer);
        assert_eq!(scene.connector.open_sockets(), 0);
    });
}

#[test]
fn what_was_written_before_an_upgrade_precedes_it() {
    explore("what was written before an upgrade precedes it", || {
        let scene = Scene::new(starttls());
        let writers = [(), ()].map(|()| {
            let socket = scene.socket.clone();
            spawn(move || write(&socket, b"w"))
        });
        let secure = upgrade(&scene.socket).unwrap();
        let mut accepted = 0;
        for writer in writers {
            match writer.join().unwrap() {
                Ok(1) => accepted += 1,
                told => assert_eq!(told, Err(ErrorKind::Upgraded)),
            }
        }
        let mut came = scene.peer.wait_bytes();
        while came.len() <= accepted {
            came.extend(scene.peer.wait_bytes());
        }
        assert_eq!(came[..accepted], b"ww"[..accepted]);
        assert_eq!(came[accepted], HANDSHAKE);
        fails(&secure, &scene.peer);
        assert_eq!(scene.connector.open_sockets(), 0);
    });
}

#[test]
fn what_the_peer_sent_before_an_upgrade_is_read_or_told() {
    explore("what the peer sent before an upgrade is read or told", || {
        let scene = Scene::new(starttls());
        let socket = scene.socket.clone();
        let reader = spawn(move || read(&socket));
        let sender = {
            let upgrading = scene.socket.clone();
            spawn(move || upgrade(&upgrading))
        };
        scene.peer.send(b"x");
        scene.peer.end();
        match (reader.join().unwrap(), sender.join().unwrap()) {
            // The reader had it, and the handshake fails for want of a peer.
            (Ok(bytes), secure) => {
                assert_eq!(bytes, b"x");
                match secure {
                    Ok(secure) => {
                        let opened = secure.opened().map(drop).map_err(|error| error.kind());
                        assert_eq!(opened, Err(ErrorKind::Tls));
                    }
                    Err(kind) => assert_eq!(kind, ErrorKind::Closed),
                }
            }
            (Err(ErrorKind::UnreadPlaintext), Err(ErrorKind::UnreadPlaintext)) => {
                assert!(!scene.socket.upgraded());
                assert_eq!(scene.peer.wait_eof().0, b"", "not one byte is sent");
            }
            // It came within the handshake.
            (Err(kind), Ok(secure)) => {
                assert_eq!(kind, ErrorKind::Upgraded);
                let opened = secure.opened().map(drop).map_err(|error| error.kind());
                assert_eq!(opened, Err(ErrorKind::Tls));
            }
            (read, upgraded) => panic!("{read:?} {upgraded:?}"),
        }
    });
}

#[test]
fn of_two_upgrades_one_is_made() {
    explore("of two upgrades one is made", || {
        let scene = Scene::new(starttls());
        let socket = scene.socket.clone();
        let other = spawn(move || upgrade(&socket));
        let one = upgrade(&scene.socket);
        let secure = match (one, other.join().unwrap()) {
            (Ok(secure), Err(kind)) | (Err(kind), Ok(secure)) => {
                assert_eq!(kind, ErrorKind::InvalidState);
                secure
            }
            (one, other) => panic!("{one:?} {other:?}"),
        };
        fails(&secure, &scene.peer);
        assert_eq!(scene.connector.open_sockets(), 0);
    });
}

#[test]
fn a_close_and_an_upgrade_leave_nothing_behind() {
    explore("a close and an upgrade leave nothing behind", || {
        let scene = Scene::new(starttls());
        let socket = scene.socket.clone();
        let upgrading = spawn(move || upgrade(&socket));
        let closed = scene.socket.close().map_err(|error| error.kind());
        assert_eq!(closed, Ok(()));
        match upgrading.join().unwrap() {
            Ok(secure) => {
                assert!(scene.socket.upgraded());
                secure.close().unwrap();
            }
            Err(kind) => {
                assert!(matches!(kind, ErrorKind::Closed | ErrorKind::InvalidState), "{kind:?}");
            }
        }
        assert_eq!(scene.connector.open_sockets(), 0);
        let (_, farewell) = scene.peer.wait_eof();
        assert_eq!(farewell, PeerSaw::Fin);
        scene.peer.end();
    });
}

#[test]
fn a_shutdown_ends_what_an_upgrade_beside_it_made() {
    explore("a shutdown ends what an upgrade beside it made", || {
        let scene = Scene::new(starttls());
        let socket = scene.socket.clone();
        let upgrading = spawn(move || upgrade(&socket));
        scene.connector.shutdown(Duration::from_secs(1));
        assert_eq!(scene.connector.open_sockets(), 0);
        if let Ok(secure) = upgrading.join().unwrap() {
            let opened = secure.opened().map(drop).map_err(|error| error.kind());
            assert_eq!(opened, Err(ErrorKind::Closed));
        }
        scene.peer.end();
    });
}
