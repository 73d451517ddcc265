//! Limits and TCP options of a socket can be read back, and changed while it lives.

use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Socket, SocketOptions, TcpOptions};

use crate::support::peer::black_hole;
use crate::support::tls::{TlsPeer, ask, authority, open as open_tls, server_config, upgradable};
use crate::support::{Peer, assert_fails, open, open_with, with_watchdog};

/// Returns read timeout, write timeout, read deadline and write deadline.
type Limits = (Option<Duration>, Option<Duration>, Option<Instant>, Option<Instant>);

fn limits(socket: &Socket) -> Limits {
    (socket.read_timeout(), socket.write_timeout(), socket.read_deadline(), socket.write_deadline())
}

// -------------------------------------------------------------------- limits

#[test]
fn a_socket_has_no_limits_by_default() {
    with_watchdog(|| {
        let socket = open(&Peer::reading());
        assert_eq!(limits(&socket), (None, None, None, None));
    });
}

#[test]
fn the_timeouts_of_the_options_can_be_read_back_before_it_is_open() {
    with_watchdog(|| {
        let hole = black_hole();
        let (read, write) = (Duration::from_secs(7), Duration::from_secs(9));
        let options = SocketOptions::new().read_timeout(read).write_timeout(write);
        let socket = sockeye::connect_with(hole.address, options).expect("the options are valid");
        assert_eq!(limits(&socket), (Some(read), Some(write), None, None));
    });
}

#[test]
fn the_last_value_counts_for_its_own_side_only() {
    with_watchdog(|| {
        let socket = open(&Peer::reading());
        let (short, long) = (Duration::from_millis(1500), Duration::from_secs(60));
        let past = Instant::now();
        let at = past + long;
        socket.set_read_timeout(Some(short)).expect("it is not zero");
        assert_eq!(limits(&socket), (Some(short), None, None, None));
        socket.set_write_timeout(Some(long)).expect("it is not zero");
        socket.set_write_deadline(Some(at));
        assert_eq!(limits(&socket), (Some(short), Some(long), None, Some(at)));
        socket.set_deadline(Some(past));
        assert_eq!(limits(&socket), (Some(short), Some(long), Some(past), Some(past)));
        socket.set_read_deadline(None);
        socket.set_read_timeout(None).expect("none is valid");
        assert_eq!(limits(&socket), (None, Some(long), None, Some(past)));
        // A clone is a handle of the same socket.
        assert_eq!(limits(&socket.clone()), limits(&socket));
    });
}

#[test]
fn a_refused_timeout_leaves_the_old_one() {
    with_watchdog(|| {
        let limit = Duration::from_secs(5);
        let socket = open_with(&Peer::reading(), SocketOptions::new().read_timeout(limit));
        assert_fails(socket.set_read_timeout(Some(Duration::ZERO)), ErrorKind::InvalidOptions);
        assert_eq!(socket.read_timeout(), Some(limit));
    });
}

#[test]
fn limits_can_be_read_and_set_after_the_end() {
    with_watchdog(|| {
        let limit = Duration::from_secs(5);
        let socket = open_with(&Peer::reading(), SocketOptions::new().read_timeout(limit));
        socket.close().expect("no data is lost");
        assert_eq!(limits(&socket), (Some(limit), None, None, None));
        socket.set_write_timeout(Some(limit)).expect("it is not zero");
        assert_eq!(limits(&socket), (Some(limit), Some(limit), None, None));
    });
}

#[test]
fn an_upgraded_socket_starts_with_the_limits_of_the_old_one() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            peer.handshake();
        });
        let plain = open_tls(&peer, upgradable(authority()));
        let (limit, at) = (Duration::from_secs(30), Instant::now() + Duration::from_secs(90));
        plain.set_read_timeout(Some(limit)).expect("it is not zero");
        plain.set_write_deadline(Some(at));
        ask(&plain);
        let secure = plain.start_tls().expect("the upgrade may start");
        assert_eq!(limits(&secure), (Some(limit), None, None, Some(at)));
        secure.set_read_timeout(None).expect("none is valid");
        assert_eq!(limits(&secure), (None, None, None, Some(at)));
        assert_eq!(limits(&plain), (Some(limit), None, None, Some(at)));
        secure.opened().expect("the peer is trusted");
        secure.close().expect("the peer reads");
    });
}

// -------------------------------------------------------------------- no-delay

#[test]
fn nodelay_can_be_changed_while_the_socket_is_open() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open(&peer);
        assert!(socket.nodelay().expect("it is open"), "it is on by default");
        socket.set_nodelay(false).expect("it is open");
        assert!(!socket.nodelay().expect("it is open"));
        #[cfg(unix)]
        {
            use std::os::fd::AsFd;

            let descriptor = socket.descriptor().expect("it is open");
            let system = socket2::SockRef::from(&descriptor.as_fd()).tcp_nodelay();
            assert!(!system.expect("the system has the option"), "it is off in the kernel");
        }
        socket.set_nodelay(true).expect("it is open");
        assert!(socket.nodelay().expect("it is open"));

        let options = SocketOptions::new().tcp(TcpOptions::new().nodelay(false));
        assert!(!open_with(&Peer::reading(), options).nodelay().expect("it is open"));
    });
}

#[test]
fn nodelay_needs_a_connection() {
    with_watchdog(|| {
        let hole = black_hole();
        let connecting = sockeye::connect(hole.address).expect("the address is valid");
        assert_fails(connecting.set_nodelay(false), ErrorKind::InvalidState);
        assert_fails(connecting.nodelay(), ErrorKind::InvalidState);

        let closed = open(&Peer::reading());
        closed.close().expect("no data is lost");
        assert_fails(closed.set_nodelay(false), ErrorKind::InvalidState);
        assert_fails(closed.nodelay(), ErrorKind::InvalidState);
    });
}

#[test]
fn an_upgrade_takes_nodelay_along() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            peer.handshake();
        });
        let plain = open_tls(&peer, upgradable(authority()));
        plain.set_nodelay(false).expect("it is open");
        ask(&plain);
        let secure = plain.start_tls().expect("the upgrade may start");
        assert_fails(plain.nodelay(), ErrorKind::InvalidState);
        // The connection exists, although the handshake is not done.
        assert!(!secure.nodelay().expect("it has the connection"));
        secure.opened().expect("the peer is trusted");
        secure.set_nodelay(true).expect("it is open");
        assert!(secure.nodelay().expect("it is open"));
        secure.close().expect("the peer reads");
    });
}
