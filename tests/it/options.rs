//! Options take effect on the connection.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, SocketOptions, Step, TcpOptions};

use crate::support::peer::{assert_no_connection, closed_port, listen};
use crate::support::{PROMPT, Peer, WATCHDOG, assert_fails, at_once, open_with, with_watchdog};

fn tcp(options: TcpOptions) -> SocketOptions {
    SocketOptions::new().tcp(options)
}

// -------------------------------------------------------------------- socket options

#[cfg(target_os = "linux")]
mod in_the_system {
    use sockeye::Keepalive;

    use super::*;
    use crate::support::net;
    use crate::support::process::connection;

    fn check(options: SocketOptions, holds: fn(&socket2::Socket) -> std::io::Result<bool>) {
        with_watchdog(move || {
            let peer = Peer::reading();
            let socket = open_with(&peer, options);
            let info = socket.opened().expect("it is open");
            let local = info.local_address().expect("it is connected");
            let system = connection(local, peer.address());
            assert!(holds(&system).expect("the system reports it"));
            drop(system);
            socket.close().expect("the close succeeds");
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
    fn keepalive_times_and_retries_are_set() {
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

    /// Both ends of the range of every TCP option.
    #[test]
    fn the_system_takes_both_ends_of_every_range() {
        let second = Duration::from_secs(1);
        for limit in [Duration::from_millis(1), Duration::from_millis(2_147_483_647)] {
            takes(TcpOptions::new().user_timeout(limit));
        }
        let good = Keepalive { idle: second, interval: second, retries: 1 };
        for time in [second, 32_766 * second + Duration::from_nanos(1), 32_767 * second] {
            takes(TcpOptions::new().keepalive(Keepalive { idle: time, ..good }));
            takes(TcpOptions::new().keepalive(Keepalive { interval: time, ..good }));
        }
        for retries in [1, 127] {
            takes(TcpOptions::new().keepalive(Keepalive { retries, ..good }));
        }
        for bytes in [1, 2_147_483_647] {
            takes(TcpOptions::new().recv_buffer_size(bytes));
            takes(TcpOptions::new().send_buffer_size(bytes));
        }
    }

    #[track_caller]
    fn takes(options: TcpOptions) {
        let listener = listen();
        let address = listener.local_addr().expect("it listens");
        let message = format!("{options:?}");
        let socket = sockeye::connect_with(address, tcp(options)).expect(&message);
        socket.opened().expect(&message);
    }

    #[test]
    fn the_dscp_is_set_and_congestion_bits_stay() {
        for value in [1, 46, 63] {
            let dscp = TcpOptions::new().dscp(value);
            let listener = listen();
            let address = listener.local_addr().expect("it listens");
            let socket = sockeye::connect_with(address, tcp(dscp.clone())).expect("it is valid");
            socket.opened().expect("it opens");
            let descriptor = socket.descriptor().expect("it is open");
            let system = socket2::SockRef::from(&descriptor);
            assert_eq!(system.tos_v4().expect("Linux reports it"), u32::from(value) << 2);
            let listener = net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0));
            let listener = listener.expect("a port is free");
            let address = listener.local_addr().expect("it listens");
            let socket = sockeye::connect_with(address, tcp(dscp)).expect("it is valid");
            socket.opened().expect("it opens");
            let descriptor = socket.descriptor().expect("it is open");
            let system = socket2::SockRef::from(&descriptor);
            assert_eq!(system.tclass_v6().expect("Linux reports it"), u32::from(value) << 2);
        }
    }

    /// The options of an accepted socket, set on its listener.
    #[test]
    fn accepted_sockets_inherit_the_options() {
        let root = rustix::process::getuid().is_root();
        let mut options = TcpOptions::new().dscp(46).bind_device("lo").recv_buffer_size(30_000);
        if root {
            options = options.mark(77);
        } else {
            crate::support::skip(
                "options::in_the_system::accepted_sockets_inherit_the_options",
                "only root can set a mark",
            );
        }
        for (bound, client) in
            [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "::1"), ("[::]:0", "127.0.0.1")]
        {
            let accepted = sockeye::ListenOptions::new().socket(tcp(options.clone()));
            let listener = sockeye::listen_with(bound, accepted).expect("the options are valid");
            let port = listener.local_address().expect("it is TCP").port();
            let client: std::net::IpAddr = client.parse().expect("it is an address");
            let _client = net::connect((client, port)).expect("it listens");
            let socket = listener.accept().expect("one has come");
            let descriptor = socket.descriptor().expect("it is open");
            let system = socket2::SockRef::from(&descriptor);
            let device = system.device().expect("Linux reports it");
            assert_eq!(device.as_deref(), Some(b"lo".as_slice()));
            assert_eq!(system.recv_buffer_size().expect("Linux reports it"), 60_000);
            let class = if client.is_ipv6() { system.tclass_v6() } else { system.tos_v4() };
            assert_eq!(class.expect("Linux reports it"), 46 << 2, "{bound} {client}");
            if root {
                assert_eq!(system.mark().expect("Linux reports it"), 77);
            }
        }
    }

    /// An adopted listener or stream gets the options that can still be set.
    #[test]
    fn adopted_listeners_and_streams_get_the_options() {
        let with_dscp = || tcp(TcpOptions::new().dscp(46));
        let listener = listen();
        let address = listener.local_addr().expect("it listens");
        let options = sockeye::ListenOptions::new().socket(with_dscp());
        let listener =
            sockeye::Listener::adopt(net::std_listener(listener), options).expect("it listens");
        let stream = net::connect(address).expect("it listens");
        let adopted = sockeye::Connector::global().adopt(stream, with_dscp()).expect("it is open");
        for socket in [listener.accept().expect("one has come"), adopted] {
            let descriptor = socket.descriptor().expect("it is open");
            let system = socket2::SockRef::from(&descriptor);
            assert_eq!(system.tos_v4().expect("Linux reports it"), 46 << 2);
        }
        let multipath = || tcp(TcpOptions::new().multipath(true));
        let options = sockeye::ListenOptions::new().socket(multipath());
        let error = sockeye::Listener::adopt(net::std_listener(listen()), options)
            .expect_err("it is bound");
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
        assert!(error.to_string().contains("multipath"), "{error}");
        let stream = net::connect(address).expect("it listens");
        let error = sockeye::Connector::global().adopt(stream, multipath());
        let error = error.expect_err("it is connected");
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
        assert!(error.to_string().contains("multipath"), "{error}");
    }

    #[test]
    fn a_device_that_does_not_exist_is_named_as_the_cause() {
        with_watchdog(|| {
            let listener = listen();
            let address = listener.local_addr().expect("it listens");
            let options = tcp(TcpOptions::new().bind_device("no-such-device"));
            let socket = sockeye::connect_with(address, options.clone()).expect("it is valid");
            let error = at_once(|| socket.opened()).expect_err("there is no such device");
            assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
            assert!(error.to_string().contains("bind_device"), "{error}");
            assert_eq!(crate::support::system_code(&error), Some(libc::ENODEV));
            assert_no_connection(&listener);
            let options = sockeye::ListenOptions::new().socket(options);
            let error = sockeye::listen_with("127.0.0.1:0", options.clone());
            let error = error.expect_err("there is no such device");
            assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
            assert!(error.to_string().contains("bind_device"), "{error}");
            let error = sockeye::Listener::adopt(net::std_listener(listener), options);
            let error = error.expect_err("there is no such device");
            assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
            assert!(error.to_string().contains("bind_device"), "{error}");
        });
    }

    /// Only this thread, which dials, gives its privileges up.
    #[test]
    fn a_mark_needs_a_privilege() {
        with_watchdog(|| {
            use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
            let none = CapabilitySets {
                effective: CapabilitySet::empty(),
                permitted: CapabilitySet::empty(),
                inheritable: CapabilitySet::empty(),
            };
            set_capabilities(None, none).expect("fewer are always allowed");
            let listener = listen();
            let address = listener.local_addr().expect("it listens");
            let options = tcp(TcpOptions::new().mark(1));
            let socket = sockeye::connect_with(address, options).expect("the options are valid");
            let error = at_once(|| socket.opened()).expect_err("it is not allowed");
            assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
            assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
            assert_eq!(crate::support::system_code(&error), Some(libc::EPERM));
            assert_no_connection(&listener);
        });
    }

    /// Multipath TCP of Linux has no user timeout.
    #[test]
    fn an_option_that_multipath_tcp_lacks_is_set_on_tcp() {
        let peer = Peer::reading();
        let limit = Duration::from_secs(5);
        let options = tcp(TcpOptions::new().multipath(true).user_timeout(limit));
        let socket = open_with(&peer, options);
        socket.opened().expect("it opens");
        let descriptor = socket.descriptor().expect("it is open");
        let set = socket2::SockRef::from(&descriptor).tcp_user_timeout();
        assert_eq!(set.expect("Linux reports it"), Some(limit));
    }

    /// Linux doubles the requested size.
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
    // Only Linux treats every address of 127.0.0.0/8 as local.
    let host =
        if cfg!(target_os = "linux") { Ipv4Addr::new(127, 0, 0, 5) } else { Ipv4Addr::LOCALHOST };
    with_watchdog(move || {
        let peer = Peer::reading();
        let socket = open_with(&peer, tcp(TcpOptions::new().bind((host, 0).into())));
        let local = socket.opened().expect("it is open").local_address().expect("it is connected");
        assert_eq!(local.ip(), host);
        assert_ne!(local.port(), 0);
        socket.close().expect("the close succeeds");
        assert_eq!(peer.finish().from, local);
    });
}

#[test]
fn bind_gives_the_local_port() {
    with_watchdog(|| {
        let wanted = closed_port();
        let local = wanted.address;
        drop(wanted);
        let peer = Peer::reading();
        let socket = open_with(&peer, tcp(TcpOptions::new().bind(local)));
        assert_eq!(socket.opened().expect("it is open").local_address(), Some(local));
        socket.abort();
        assert_eq!(peer.finish().from, local);
    });
}

#[test]
fn bind_to_an_address_of_another_machine_fails() {
    with_watchdog(|| {
        let listener = listen();
        let address = listener.local_addr().expect("it listens");
        // TEST-NET-3 is not assigned to any machine.
        let bind = TcpOptions::new().bind((Ipv4Addr::new(203, 0, 113, 7), 0).into());
        let socket = sockeye::connect_with(address, tcp(bind)).expect("the options are valid");
        let error = at_once(|| socket.opened()).expect_err("the address is not local");
        assert!(matches!(error.kind(), ErrorKind::Connect | ErrorKind::Io), "{error:?}");
        assert_no_connection(&listener);
    });
}

#[test]
fn bind_skips_addresses_of_the_other_family() {
    with_watchdog(|| {
        let listener = listen();
        let address = listener.local_addr().expect("it listens");
        let bind = TcpOptions::new().bind((Ipv6Addr::LOCALHOST, 0).into());
        let socket = sockeye::connect_with(address, tcp(bind)).expect("the options are valid");
        let error = at_once(|| socket.opened()).expect_err("no address is left");
        assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Connect);
        assert_no_connection(&listener);
    });
}

/// A socket that is bound to the address it dials would connect to itself.
#[test]
fn bind_to_the_dialled_address_is_a_loop() {
    with_watchdog(|| {
        let free = closed_port();
        let address: SocketAddr = free.address;
        drop(free);
        let socket = sockeye::connect_with(address, tcp(TcpOptions::new().bind(address)));
        let error = match socket {
            Ok(socket) => {
                socket.opened_timeout(WATCHDOG).expect_err("the socket would connect to itself")
            }
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Loop, "{error:?}");
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::PermissionDenied);
    });
}

// -------------------------------------------------------------------- timeouts

/// A timeout beyond the clock's range acts as none, and the shortest one is a limit.
#[test]
fn timeouts_may_have_any_length_except_zero() {
    with_watchdog(|| {
        for limit in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(1 << 40)] {
            let peer = Peer::scripted(|peer| {
                peer.send(b"x");
                peer.read_to_end();
            });
            let options = SocketOptions::new()
                .connect_timeout(limit)
                .close_timeout(limit)
                .read_timeout(limit)
                .write_timeout(limit);
            let socket = open_with(&peer, options);
            assert_eq!(crate::support::read(&socket, 1).expect("the peer sends"), b"x");
            std::io::Write::write_all(&mut &socket, b"y").expect("the peer reads");
            socket.close().expect("the peer ends");
            peer.assert_received(b"y");
        }
        let least = Duration::from_nanos(1);
        let peer = Peer::reading();
        let options = SocketOptions::new().read_timeout(least).write_timeout(least);
        let socket = open_with(&peer, options.close_timeout(WATCHDOG));
        crate::support::assert_times_out(crate::support::read(&socket, 1));
        let hole = crate::support::peer::black_hole();
        let options = SocketOptions::new().connect_timeout(least);
        let socket = sockeye::connect_with(hole.address, options).expect("the options are valid");
        assert_fails(socket.opened_timeout(PROMPT), ErrorKind::TimedOut);
    });
}

// -------------------------------------------------------------------- the connect deadline

#[test]
fn the_earlier_of_connect_deadline_and_connect_timeout_applies() {
    with_watchdog(|| {
        let hole = crate::support::peer::black_hole();
        let (short, long) = (Duration::from_millis(200), Duration::from_secs(3600));
        for (timeout, deadline) in
            [(Some(long), short), (None, short), (Some(short), long), (Some(Duration::MAX), short)]
        {
            let begun = Instant::now();
            let options =
                SocketOptions::new().connect_timeout(timeout).connect_deadline(begun + deadline);
            let socket =
                sockeye::connect_with(hole.address, options).expect("the options are valid");
            assert_fails(socket.opened_timeout(WATCHDOG), ErrorKind::TimedOut);
            let took = begun.elapsed();
            assert!(took >= short, "{timeout:?} {deadline:?}: {took:?}");
            // Another attempt would have a fresh timeout, but not a fresh deadline.
            assert!(took < short + PROMPT, "{timeout:?} {deadline:?}: {took:?}");
        }
    });
}

#[test]
fn a_deadline_in_the_past_fails_before_any_lookup_or_attempt() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    with_watchdog(|| {
        let asked = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&asked);
        let connector = sockeye::Connector::builder()
            .resolver(move |_: &str| {
                counting.fetch_add(1, Ordering::SeqCst);
                Ok(vec![Ipv4Addr::LOCALHOST.into()])
            })
            .build()
            .expect("the rules are valid");
        let listener = listen();
        let port = listener.local_addr().expect("it listens").port();
        let now = Instant::now();
        let past = now.checked_sub(Duration::from_secs(60)).unwrap_or(now);
        for at in [now, past] {
            for timeout in [None, Some(WATCHDOG)] {
                let options = SocketOptions::new().connect_timeout(timeout).connect_deadline(at);
                for host in ["127.0.0.1", "name.test"] {
                    let socket = connector
                        .connect_with((host, port), options.clone())
                        .expect("`opened` reports it");
                    let error = at_once(|| socket.opened()).expect_err("it is too late");
                    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
                    assert!(!error.is_retryable(), "{error}");
                    assert!(error.attempts().is_empty(), "{error:?}");
                    let first = if host == "name.test" { Step::Lookup } else { Step::Connect };
                    assert_eq!(error.step(), Some(first), "{error:?}");
                    assert_fails(socket.closed_timeout(PROMPT), ErrorKind::TimedOut);
                }
            }
        }
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        assert_eq!(connector.open_sockets(), 0);
        assert_no_connection(&listener);
        let options = SocketOptions::new().connect_deadline(Instant::now() + WATCHDOG);
        let socket = connector.connect_with(("name.test", port), options).expect("it is valid");
        socket.opened().expect("it is in time");
    });
}

/// The handshake of the upgrade has its own limit.
#[test]
fn the_connect_deadline_does_not_apply_to_an_upgrade() {
    use crate::support::tls::{TlsPeer, ask, authority, server_config, upgradable};

    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            peer.handshake();
            peer.send(b"secret");
        });
        let deadline = Instant::now() + Duration::from_millis(500);
        let options = upgradable(authority()).connect_deadline(deadline);
        let socket = sockeye::connect_with(peer.address(), options).expect("the options are valid");
        socket.opened().expect("it is in time");
        ask(&socket);
        std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        let secure = socket.start_tls().expect("the upgrade may start");
        let read = crate::support::read_exactly(&secure, 6);
        assert_eq!(read.expect("the peer sends"), b"secret");
    });
}

// -------------------------------------------------------------------- other options

#[test]
fn options_may_be_used_again() {
    with_watchdog(|| {
        let options = SocketOptions::new().read_timeout(Duration::from_millis(20));
        for _ in 0..2 {
            let peer = Peer::reading();
            let socket = open_with(&peer, options.clone());
            crate::support::assert_times_out(crate::support::read(&socket, 1));
        }
    });
}

// -------------------------------------------------------------------- the remote address

/// Linux treats the unspecified address as the loopback address.
#[cfg(target_os = "linux")]
#[test]
fn dialling_the_unspecified_address_reports_the_address_reached() {
    use crate::support::peer::listen_on;
    use std::net::IpAddr;

    with_watchdog(|| {
        for (host, reached, listens) in [
            ("0.0.0.0", "127.0.0.1", "0.0.0.0"),
            ("::", "::1", "::"),
            ("::ffff:0.0.0.0", "::ffff:127.0.0.1", "0.0.0.0"),
        ] {
            let ip = |text: &str| text.parse::<IpAddr>().expect("it is an address");
            let listener = listen_on((ip(listens), 0).into(), 16, None);
            let port = listener.local_addr().expect("it listens").port();
            let socket = sockeye::connect((ip(host), port)).expect("the address is valid");
            let info = socket.opened().expect("it listens");
            assert_eq!(info.remote_address(), Some((ip(reached), port).into()), "{host}");
            assert_eq!(info.requested().hostname(), host);
            let (stream, _) = listener.accept().expect("the listener accepts");
            assert_eq!(stream.peer_addr().ok(), info.local_address().map(unmapped), "{host}");
        }
    });
}

#[cfg(target_os = "linux")]
fn unmapped(address: SocketAddr) -> SocketAddr {
    (address.ip().to_canonical(), address.port()).into()
}
