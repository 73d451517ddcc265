//! Upgrades to TLS, up to the ClientHello. The peers here do not speak TLS.

use std::time::Duration;

use sockeye::model::{Peer, PeerSaw};
use sockeye::{ErrorKind, SecureTransport, Socket, SocketOptions};

use crate::explore::explore;
use crate::support::{TestSocket, options, read, spawn, write};

/// The first byte of a handshake record.
const HANDSHAKE: u8 = 0x16;

fn starttls() -> SocketOptions {
    options().secure_transport(SecureTransport::StartTls)
}

fn upgrade(socket: &Socket) -> Result<Socket, ErrorKind> {
    socket.start_tls().map_err(|error| error.kind())
}

/// Ends the connection from the peer's side, so that the handshake fails.
fn fails(secure: &Socket, peer: &Peer) {
    peer.end();
    let opened = secure.opened().map(drop).map_err(|error| error.kind());
    assert_eq!(opened, Err(ErrorKind::Tls));
}

#[test]
fn an_upgrade_ends_a_blocked_read() {
    explore("an upgrade ends a blocked read", || {
        let test = TestSocket::open(starttls());
        let socket = test.socket.clone();
        let reader = spawn(move || read(&socket));
        let secure = upgrade(&test.socket).unwrap();
        assert!(test.socket.upgraded());
        assert_eq!(test.connector.open_sockets(), 1, "they share one slot");
        assert_eq!(reader.join().unwrap(), Err(ErrorKind::Upgraded));
        assert_eq!(test.peer.wait_bytes()[0], HANDSHAKE);
        fails(&secure, &test.peer);
        assert_eq!(test.connector.open_sockets(), 0);
    });
}

#[test]
fn earlier_writes_precede_an_upgrade() {
    explore("earlier writes precede an upgrade", || {
        let test = TestSocket::open(starttls());
        let writers = [(), ()].map(|()| {
            let socket = test.socket.clone();
            spawn(move || write(&socket, b"w"))
        });
        let secure = upgrade(&test.socket).unwrap();
        let mut accepted = 0;
        for writer in writers {
            match writer.join().unwrap() {
                Ok(1) => accepted += 1,
                message => assert_eq!(message, Err(ErrorKind::Upgraded)),
            }
        }
        let mut came = test.peer.wait_bytes();
        while came.len() <= accepted {
            came.extend(test.peer.wait_bytes());
        }
        assert_eq!(came[..accepted], b"ww"[..accepted]);
        assert_eq!(came[accepted], HANDSHAKE);
        fails(&secure, &test.peer);
        assert_eq!(test.connector.open_sockets(), 0);
    });
}

#[test]
fn data_before_an_upgrade_is_read_or_fails_it() {
    explore("data before an upgrade is read or fails it", || {
        let test = TestSocket::open(starttls());
        let socket = test.socket.clone();
        let reader = spawn(move || read(&socket));
        let sender = {
            let upgrading = test.socket.clone();
            spawn(move || upgrade(&upgrading))
        };
        test.peer.send(b"x");
        test.peer.end();
        match (reader.join().unwrap(), sender.join().unwrap()) {
            // The reader got the byte, and the handshake fails without a TLS peer.
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
                assert!(!test.socket.upgraded());
                assert_eq!(test.peer.wait_eof().0, b"", "no byte was sent");
            }
            // The handshake got the byte.
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
fn of_two_upgrades_one_succeeds() {
    explore("of two upgrades one succeeds", || {
        let test = TestSocket::open(starttls());
        let socket = test.socket.clone();
        let other = spawn(move || upgrade(&socket));
        let one = upgrade(&test.socket);
        let secure = match (one, other.join().unwrap()) {
            (Ok(secure), Err(kind)) | (Err(kind), Ok(secure)) => {
                assert_eq!(kind, ErrorKind::InvalidState);
                secure
            }
            (one, other) => panic!("{one:?} {other:?}"),
        };
        fails(&secure, &test.peer);
        assert_eq!(test.connector.open_sockets(), 0);
    });
}

#[test]
fn a_concurrent_close_and_upgrade_leak_nothing() {
    explore("a concurrent close and upgrade leak nothing", || {
        let test = TestSocket::open(starttls());
        let socket = test.socket.clone();
        let upgrading = spawn(move || upgrade(&socket));
        let closed = test.socket.close().map_err(|error| error.kind());
        assert_eq!(closed, Ok(()));
        match upgrading.join().unwrap() {
            Ok(secure) => {
                assert!(test.socket.upgraded());
                secure.close().unwrap();
            }
            Err(kind) => {
                assert!(matches!(kind, ErrorKind::Closed | ErrorKind::InvalidState), "{kind:?}");
            }
        }
        assert_eq!(test.connector.open_sockets(), 0);
        let (_, peer_saw) = test.peer.wait_eof();
        assert_eq!(peer_saw, PeerSaw::Fin);
        test.peer.end();
    });
}

#[test]
fn shutdown_ends_a_concurrent_upgrade() {
    explore("shutdown ends a concurrent upgrade", || {
        let test = TestSocket::open(starttls());
        let socket = test.socket.clone();
        let upgrading = spawn(move || upgrade(&socket));
        let _ = test.connector.shutdown(Duration::from_secs(1));
        assert_eq!(test.connector.open_sockets(), 0);
        if let Ok(secure) = upgrading.join().unwrap() {
            let opened = secure.opened().map(drop).map_err(|error| error.kind());
            assert_eq!(opened, Err(ErrorKind::Closed));
        }
        test.peer.end();
    });
}
