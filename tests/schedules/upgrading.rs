//! Upgrades to TLS, up to the ClientHello. The peers here do not speak TLS.

use std::time::Duration;

use sockeye::model::{Peer, PeerSaw};
use sockeye::{ErrorKind, SecureTransport, Socket, SocketOptions};

use crate::explore::explore;
use crate::support::{TestSocket, options, read, read_line, spawn, write};

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
fn a_line_before_an_upgrade_is_read_or_fails_it() {
    explore("a line before an upgrade is read or fails it", || {
        let test = TestSocket::open(starttls());
        let socket = test.socket.clone();
        let reader = spawn(move || read_line(&socket));
        let sender = {
            let upgrading = test.socket.clone();
            spawn(move || upgrade(&upgrading))
        };
        test.peer.send(b"x\n");
        test.peer.end();
        let (line, failure) = reader.join().unwrap();
        let secure = match (failure, sender.join().unwrap()) {
            (None, secure) => {
                assert_eq!(line, b"x\n");
                secure
            }
            // The upgrade found the line, or its reader did, too late.
            (Some(ErrorKind::UnreadPlaintext), Err(ErrorKind::UnreadPlaintext)) => {
                assert_eq!(line, b"", "no byte is believed");
                assert_eq!(test.peer.wait_eof().0, b"", "no byte was sent");
                return;
            }
            // The handshake got the line.
            (Some(ErrorKind::Upgraded), Ok(secure)) => {
                assert_eq!(line, b"");
                Ok(secure)
            }
            (failure, upgraded) => panic!("{line:?} {failure:?} {upgraded:?}"),
        };
        match secure {
            Ok(secure) => {
                let opened = secure.opened().map(drop).map_err(|error| error.kind());
                assert_eq!(opened, Err(ErrorKind::Tls));
            }
            // The peer's end was seen behind the line.
            Err(kind) => assert_eq!(kind, ErrorKind::Closed),
        }
    });
}

const GO_AHEAD: &[u8] = b"go\n";

/// Upgrades as the server would: the go-ahead goes out before the first byte of TLS.
fn upgrade_after(socket: &Socket) -> Result<Socket, ErrorKind> {
    socket.start_tls_after(GO_AHEAD).map_err(|error| error.kind())
}

#[test]
fn a_go_ahead_goes_out_once_although_a_thread_reads() {
    explore("a go-ahead goes out once although a thread reads", || {
        let test = TestSocket::open(starttls());
        let socket = test.socket.clone();
        let reader = spawn(move || read_line(&socket));
        let secure = upgrade_after(&test.socket).unwrap();
        assert_eq!(reader.join().unwrap(), (Vec::new(), Some(ErrorKind::Upgraded)));
        let mut came = Vec::new();
        while came.len() <= GO_AHEAD.len() {
            came.extend(test.peer.wait_bytes());
        }
        assert_eq!(came[..GO_AHEAD.len()], *GO_AHEAD);
        assert_eq!(came[GO_AHEAD.len()], HANDSHAKE);
        fails(&secure, &test.peer);
        assert_eq!(test.connector.open_sockets(), 0);
    });
}

#[test]
fn a_go_ahead_does_not_go_out_if_a_line_is_unread() {
    explore("a go-ahead does not go out if a line is unread", || {
        let test = TestSocket::open(starttls());
        test.peer.send(b"x\n");
        let socket = test.socket.clone();
        let reader = spawn(move || read_line(&socket));
        let upgraded = upgrade_after(&test.socket);
        match (reader.join().unwrap(), upgraded) {
            ((line, None), Ok(secure)) => {
                assert_eq!(line, b"x\n");
                assert!(test.peer.wait_bytes().starts_with(GO_AHEAD));
                fails(&secure, &test.peer);
            }
            ((line, Some(ErrorKind::UnreadPlaintext)), Err(ErrorKind::UnreadPlaintext)) => {
                assert_eq!(line, b"", "no byte is believed");
                assert_eq!(test.peer.wait_eof().0, b"", "no byte was sent");
                test.peer.end();
            }
            (read, upgraded) => panic!("{read:?} {upgraded:?}"),
        }
        assert_eq!(test.connector.open_sockets(), 0);
    });
}

#[test]
fn a_close_or_an_abort_beside_a_go_ahead_sends_it_once_or_not() {
    explore("a close or an abort beside a go-ahead sends it once or not", || {
        let test = TestSocket::open(starttls());
        let socket = test.socket.clone();
        let upgrading = spawn(move || upgrade_after(&socket));
        let socket = test.socket.clone();
        let aborting = spawn(move || socket.abort());
        let closed = test.socket.close().map_err(|error| error.kind());
        aborting.join().unwrap();
        let upgraded = upgrading.join().unwrap();
        match &upgraded {
            Ok(secure) => {
                assert!(test.socket.upgraded());
                assert_eq!(closed, Ok(()), "the old socket has nothing to close");
                secure.abort();
            }
            Err(kind) => {
                assert!(matches!(kind, ErrorKind::Closed | ErrorKind::InvalidState), "{kind:?}");
            }
        }
        assert_eq!(test.connector.open_sockets(), 0);
        let (came, _) = test.peer.wait_eof();
        let text = came.windows(GO_AHEAD.len()).filter(|bytes| *bytes == GO_AHEAD).count();
        match upgraded {
            Ok(_) => assert!(came.is_empty() || came.starts_with(GO_AHEAD) && text == 1),
            Err(_) => assert!(came.is_empty(), "{came:?}"),
        }
        test.peer.end();
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
