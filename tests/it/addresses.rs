//! Forms of addresses that the scenarios of `conformance::address_string` and `conformance::address_object` lack.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use socket2::SockRef;
use sockeye::{ErrorKind, SocketAddress, SocketOptions, TcpOptions};

use crate::support::net;
use crate::support::peer::listen;
use crate::support::{WATCHDOG, assert_fails, skip, with_watchdog};

#[test]
fn a_host_and_a_port_reach_the_peer_as_an_address_a_pair_and_a_numeric_address() {
    reaches(Ipv4Addr::LOCALHOST.into(), "127.0.0.1");
    reaches(Ipv6Addr::LOCALHOST.into(), "::1");
    reaches(Ipv6Addr::LOCALHOST.into(), "0:0:0:0:0:0:0:1");
}

/// Windows and most BSDs reach IPv4 addresses only over IPv4 sockets.
#[test]
fn an_ipv4_mapped_address_is_dialled_over_ipv4_and_reported_as_it_was_given() {
    with_watchdog(|| {
        let listener = listen();
        let port = listener.local_addr().expect("it listens").port();
        let mapped: IpAddr = Ipv4Addr::LOCALHOST.to_ipv6_mapped().into();
        for local in [None, Some("[::]:0"), Some("[::ffff:127.0.0.1]:0")] {
            let mut tcp = TcpOptions::new();
            if let Some(local) = local {
                tcp = tcp.bind(local.parse().expect("it is an address"));
            }
            let options = SocketOptions::new().tcp(tcp);
            let socket =
                sockeye::connect_with((mapped, port), options).expect("the address is valid");
            let info = socket.opened_timeout(WATCHDOG).expect("the peer listens");
            assert_eq!(info.remote_address(), Some((mapped, port).into()), "{local:?}");
            assert_eq!(info.local_address().map(|local| local.ip()), Some(mapped), "{local:?}");
            let descriptor = socket.descriptor().expect("it is connected");
            let bound = SockRef::from(&descriptor).local_addr().expect("it is connected");
            assert!(bound.is_ipv4(), "{local:?}: {bound:?}");
            socket.abort();
        }
    });
}

#[test]
fn a_pair_may_have_a_bracketed_ipv6_host() {
    reaches(Ipv6Addr::LOCALHOST.into(), "[::1]");
}

#[test]
fn leading_zeros_of_the_port_are_ignored() {
    with_watchdog(|| {
        let listener = listen();
        let address = listener.local_addr().expect("it listens");
        let text = format!("127.0.0.1:000{}", address.port());
        let socket = sockeye::connect(text).expect("leading zeros are allowed");
        let info = socket.opened_timeout(WATCHDOG).expect("the peer listens");
        assert_eq!(info.remote_address(), Some(address));
    });
}

#[test]
fn hosts_with_spaces_ports_brackets_or_nul_and_port_0_are_rejected() {
    for host in ["a b", "[127.0.0.1]", "good.test:80", "a\0b"] {
        assert_fails(SocketAddress::new(host, 4321), ErrorKind::InvalidAddress);
    }
    assert_fails(SocketAddress::new("good.test", 0), ErrorKind::InvalidAddress);
}

/// Connects to `host` at the port of a listener at `ip`.
fn reaches(ip: IpAddr, host: &'static str) {
    let listener = match net::TcpListener::bind((ip, 0)) {
        Ok(listener) => listener,
        Err(error) => return skip(host, &format!("this machine cannot listen at {ip}: {error}")),
    };
    with_watchdog(move || {
        let address = listener.local_addr().expect("it listens");
        let pair = SocketAddress::new(host, address.port()).expect("the address is valid");
        let bare = host.trim_matches(['[', ']']);
        assert_eq!((pair.hostname(), pair.port()), (bare, address.port()));
        for socket in [
            sockeye::connect(&pair),
            sockeye::connect((host, address.port())),
            sockeye::connect(address),
        ] {
            let socket = socket.expect("the address is valid");
            let info = socket.opened_timeout(WATCHDOG).expect("the peer listens");
            assert_eq!(info.remote_address(), Some(address));
            socket.abort();
        }
    });
}
