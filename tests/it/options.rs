//! Options reach the connection.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use sockeye::{ErrorKind, SocketOptions, TcpOptions};

use crate::support::peer::{listen, nobody_came, nothing_listens};
use crate::support::{AT_ONCE, PATIENCE, Peer, at_once, fails, open_with, story};

fn tcp(options: TcpOptions) -> SocketOptions {
    SocketOptions::new().tcp(options)
}

// -------------------------------------------------------------------- what the system says of the connection

#[cfg(target_os = "linux")]
mod in_the_system {
    use sockeye::Keepalive;

    use super::*;
    use crate::support::process::connection;

    fn check(options: SocketOptions, holds: fn(&socket2::Socket) -> std::io::Result<bool>) {
        story(move || {
            let peer = Peer::reads();
            let socket = open_with(&peer, options);
            let info = socket.opened().expect("it is open");
            let local = info.local_address().expect("it is connected");
            let system = connection(local, peer.address());
            assert!(holds(&system).expect("the system tells"));
            drop(system);
            socket.close().expect("nothing is in the way");
        });
    }

    #[test]
    fn nodelay_is_on_by_default() {
        check(SocketOptions::new(), |system| system.tcp_nodelay());
    }

    #[test]
    fn nodelay_may_be_off() {
        check(tcp(TcpOptions::new().nodelay(false)), |system| system.tcp_nodelay().map(|on| !on));
        check(tcp(TcpOptions::new().nodelay(true)), |system| system.tcp_nodelay());
    }

    #[test]
    fn keepalive_is_off_by_default() {
        check(SocketOptions::new(), |system| system.keepalive().map(|on| !on));
    }

    #[test]
    fn keepalive_has_its_times_and_its_number() {
        let probes = Keepalive {
            idle: Duration::from_secs(61),
            interval: Duration::from_secs(7),
            retries: 5,
        };
        check(tcp(TcpOptions::new().keepalive(probes)), |system| {
            Ok(system.keepalive()?
                && system.tcp_keepalive_time()? == Duration::from_secs(61)
                && system.tcp_keepalive_interval()? == Duration::from_secs(7)
                && system.tcp_keepalive_retries()? == 5)
        });
    }

    #[test]
    fn user_timeout_is_set() {
        check(tcp(TcpOptions::new().user_timeout(Duration::from_millis(12_345))), |system| {
            Ok(system.tcp_user_timeout()? == Some(Duration::from_millis(12_345)))
        });
        check(SocketOptions::new(), |system| {
            Ok(system.tcp_user_timeout()?.is_none_or(|limit| limit.is_zero()))
        });
    }

    /// Linux doubles what it is asked for.
    #[test]
    fn buffer_sizes_are_set() {
        check(tcp(TcpOptions::new().recv_buffer_size(30_000).send_buffer_size(40_000)), |system| {
            Ok(system.recv_buffer_size()? == 60_000 && system.send_buffer_size()? == 80_000)
        });
    }
}

// -------------------------------------------------------------------- bind

#[test]
fn bind_gives_the_local_address() {
    // Every address of 127.0.0.0/8 is local on Linux only.
    let host =
        if cfg!(target_os = "linux") { Ipv4Addr::new(127, 0, 0, 5) } else { Ipv4Addr::LOCALHOST };
    story(move || {
        let peer = Peer::reads();
        let socket = open_with(&peer, tcp(TcpOptions::new().bind((host, 0).into())));
        let local = socket.opened().expect("it is open").local_address().expect("it is connected");
        assert_eq!(local.ip(), host);
        assert_ne!(local.port(), 0);
        socket.close().expect("nothing is in the way");
        assert_eq!(peer.ending().from, local);
    });
}

#[test]
fn bind_gives_the_local_port() {
    story(|| {
        let wanted = nothing_listens();
        let local = wanted.address;
        drop(wanted);
        let peer = Peer::reads();
        let socket = open_with(&peer, tcp(TcpOptions::new().bind(local)));
        assert_eq!(socket.opened().expect("it is open").local_address(), Some(local));
        socket.abort();
        assert_eq!(peer.ending().from, local);
    });
}

#[test]
fn bind_to_an_address_of_another_machine_fails() {
    story(|| {
        let listener = listen();
        let address = listener.local_addr().expect("it listens");
        // TEST-NET-3 belongs to nobody.
        let bind = TcpOptions::new().bind((Ipv4Addr::new(203, 0, 113, 7), 0).into());
        let socket = sockeye::connect_with(address, tcp(bind)).expect("the options are fine");
        let error = at_once(|| socket.opened()).expect_err("the address is not ours");
        assert!(matches!(error.kind(), ErrorKind::Connect | ErrorKind::Io), "{error:?}");
        nobody_came(&listener);
    });
}

#[test]
fn bind_skips_addresses_of_the_other_family() {
    story(|| {
        let listener = listen();
        let address = listener.local_addr().expect("it listens");
        let bind = TcpOptions::new().bind((Ipv6Addr::LOCALHOST, 0).into());
        let socket = sockeye::connect_with(address, tcp(bind)).expect("the options are fine");
        let error = at_once(|| socket.opened()).expect_err("no address is left");
        assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Connect);
        nobody_came(&listener);
    });
}

/// A socket that is bound to the address it dials would be connected to itself.
#[test]
fn bind_to_the_address_that_is_dialled_is_a_loop() {
    story(|| {
        let free = nothing_listens();
        let address: SocketAddr = free.address;
        drop(free);
        let socket = sockeye::connect_with(address, tcp(TcpOptions::new().bind(address)));
        let error = match socket {
            Ok(socket) => socket.opened_timeout(PATIENCE).expect_err("it would talk to itself"),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Loop, "{error:?}");
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::PermissionDenied);
    });
}

// -------------------------------------------------------------------- all else

#[test]
fn options_may_be_used_again() {
    story(|| {
        let options = SocketOptions::new().read_timeout(Duration::from_millis(20));
        for _ in 0..2 {
            let peer = Peer::reads();
            let socket = open_with(&peer, options.clone());
            crate::support::times_out(crate::support::read(&socket, 1));
        }
    });
}
