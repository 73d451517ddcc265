//! `descriptor()` is available while the connection exists, and the descriptor stays open as long as a caller holds it.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};

use socket2::SockRef;
use sockeye::{Descriptor, ErrorKind, Socket};

use crate::support::peer::black_hole;
use crate::support::tls::{TlsPeer, ask, authority, open as open_tls, server_config, upgradable};
use crate::support::{
    PROMPT, Peer, assert_fails, eventually, open, read, read_exactly, with_watchdog,
};

#[track_caller]
fn descriptor(socket: &Socket) -> Descriptor {
    socket.descriptor().expect("there is a connection")
}

/// Checks that the descriptor belongs to this connection.
#[track_caller]
fn is_of(descriptor: &Descriptor, socket: &Socket) {
    let local = SockRef::from(&descriptor.as_fd()).local_addr().expect("it is a socket");
    let info = socket.opened().expect("it was opened");
    assert_eq!(local.as_socket(), info.local_address());
}

#[test]
fn it_exists_from_connect_to_close() {
    with_watchdog(|| {
        let hole = black_hole();
        let connecting = sockeye::connect(hole.address).expect("the address is valid");
        assert!(connecting.descriptor().is_none());

        let peer = Peer::reading();
        let socket = open(&peer);
        is_of(&descriptor(&socket), &socket);
        SockRef::from(&descriptor(&socket).as_fd())
            .set_tos_v4(16)
            .expect("the system accepts the option");
        (&socket).write_all(b"hello").expect("the peer reads");
        socket.close().expect("the close succeeds");
        assert!(socket.descriptor().is_none());
        peer.assert_received(b"hello");
    });
}

/// The kernel cannot reuse the number of a descriptor that a caller holds.
#[test]
fn its_number_is_not_reused_while_a_caller_holds_it() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open(&peer);
        let kept = descriptor(&socket);
        let number = kept.as_fd().as_raw_fd();
        socket.abort();
        drop(socket);
        // Linux and Android can reset a connection whose descriptor stays open.
        let resets_at_once =
            cfg!(all(any(target_os = "linux", target_os = "android"), not(sockeye_bsd)));
        let mut peer = Some(peer);
        if resets_at_once {
            peer.take().expect("it is here").assert_reset();
        }
        let others: Vec<_> = (0..64).map(|_| open(&Peer::reading())).collect();
        for other in &others {
            assert_ne!(descriptor(other).as_fd().as_raw_fd(), number);
        }
        SockRef::from(&kept.as_fd()).r#type().expect("it is open");
        drop(kept);
        if let Some(peer) = peer {
            peer.assert_reset();
        }
    });
}

#[test]
fn the_peer_sees_the_end_although_a_caller_holds_it() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open(&peer);
        let kept = descriptor(&socket);
        socket.close().expect("the close succeeds");
        peer.assert_eof_after(b"");
        drop(kept);
    });
}

#[test]
fn an_upgrade_takes_it_along() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            peer.handshake();
            peer.send(b"secret");
        });
        let plain = open_tls(&peer, upgradable(authority()));
        let before = descriptor(&plain).as_fd().as_raw_fd();
        ask(&plain);
        let secure = plain.start_tls().expect("the upgrade may start");
        secure.opened().expect("the peer is trusted");
        assert!(plain.descriptor().is_none());
        assert_eq!(descriptor(&secure).as_fd().as_raw_fd(), before);
        assert_eq!(read_exactly(&secure, 6).expect("the peer sends"), b"secret");
        secure.close().expect("the peer reads");
        peer.assert_received(b"");
    });
}

#[test]
fn a_failed_connection_releases_it_once_all_is_read() {
    with_watchdog(|| {
        let peer = Peer::resetting();
        let socket = open(&peer);
        peer.signal();
        assert_fails(socket.closed(), ErrorKind::Reset);
        assert_fails(read(&socket, 1), ErrorKind::Reset);
        eventually(PROMPT, "the descriptor is released", || socket.descriptor().is_none());
    });
}
