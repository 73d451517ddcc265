//! Options that choose a socket's interface or route, or that routers and filters see in its packets.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use socket2::SockRef;
use sockeye::{
    Connector, EgressRules, Error, ErrorKind, ListenOptions, Socket, SocketOptions, TcpOptions,
    connect_with, listen_with,
};

use super::space::{Space, V4, V6};
use super::{befall, in_a_space, ip};
use crate::support::{ms, system_code};

/// The DSCP of expedited forwarding (RFC 3246).
const EXPEDITED: u8 = 46;
const MARK: u32 = 7;

fn try_dial(address: SocketAddr, tcp: TcpOptions) -> Result<Socket, Error> {
    let options = SocketOptions::new().tcp(tcp).connect_timeout(ms(1500));
    let socket = connect_with(address, options).expect("the options are valid");
    socket.opened().map(|_| socket)
}

#[test]
fn a_socket_bound_to_a_device_uses_no_other() {
    const NAME: &str = "network_faults::routing::a_socket_bound_to_a_device_uses_no_other";
    in_a_space(NAME, &[], |port| {
        let own = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("a port is free");
        let own = own.local_addr().map(|address| (address.port(), own)).expect("it listens");
        let over = |device| TcpOptions::new().bind_device(device);
        for (there, here) in [(V4, "127.0.0.1"), (V6, "::1")] {
            let there = SocketAddr::new(ip(there), port);
            let here = SocketAddr::new(ip(here), own.0);
            try_dial(there, over("cable")).expect("the cable leads there");
            try_dial(there, over("lo")).expect_err("the loopback device leads nowhere");
            try_dial(here, over("lo")).expect("it leads here");
            try_dial(here, over("cable")).expect_err("the cable does not lead here");
        }
    });
}

#[test]
fn a_listener_bound_to_a_device_has_clients_of_that_device() {
    const NAME: &str =
        "network_faults::routing::a_listener_bound_to_a_device_has_clients_of_that_device";
    in_a_space(NAME, &[], |_| {
        let listen = |device| {
            let socket = SocketOptions::new().tcp(TcpOptions::new().bind_device(device));
            let options = ListenOptions::new().socket(socket);
            listen_with("0.0.0.0:0", options).expect("the device exists")
        };
        let (lo, cable) = (listen("lo"), listen("cable"));
        let port =
            |listener: &sockeye::Listener| listener.local_address().expect("it is TCP").port();
        try_dial((ip("127.0.0.1"), port(&lo)).into(), TcpOptions::new()).expect("by loopback");
        let accepted = lo.accept().expect("one has come");
        let descriptor = accepted.descriptor().expect("it is open");
        let device = SockRef::from(&descriptor).device().expect("Linux reports it");
        assert_eq!(device.as_deref(), Some(b"lo".as_slice()));
        let refused = try_dial((ip("127.0.0.1"), port(&cable)).into(), TcpOptions::new());
        assert_eq!(refused.expect_err("not by the cable").kind(), ErrorKind::Connect);
    });
}

/// A rule for the mark leads to a table in which the peer is unreachable.
#[test]
fn a_mark_chooses_the_route() {
    const NAME: &str = "network_faults::routing::a_mark_chooses_the_route";
    let rules = |space: &Space, _| {
        for family in ["", "-6"] {
            space.at_client(&format!("ip {family} rule add fwmark {MARK} lookup 97")).unwrap();
            space
                .at_client(&format!("ip {family} route add unreachable default table 97"))
                .unwrap();
        }
    };
    in_a_space(NAME, &[&rules], |port| {
        befall();
        for address in [V4, V6] {
            let address = SocketAddr::new(ip(address), port);
            try_dial(address, TcpOptions::new()).expect("without a mark");
            try_dial(address, TcpOptions::new().mark(MARK + 1)).expect("with another mark");
            let error = try_dial(address, TcpOptions::new().mark(MARK)).expect_err("no route");
            assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
            assert_eq!(system_code(&error), Some(libc::EHOSTUNREACH), "{error}");
        }
    });
}

/// The peer drops all packets of other classes, also those of the handshake.
#[test]
fn packets_have_the_dscp() {
    const NAME: &str = "network_faults::routing::packets_have_the_dscp";
    let filter = |space: &Space, port| {
        for family in ["ip", "ip6"] {
            let rule = format!("{family} dscp != {EXPEDITED} tcp dport {port} drop");
            space
                .at_peer(&format!("nft 'add rule inet filter input {rule}'"))
                .expect("it is added");
        }
    };
    in_a_space(NAME, &[&filter], |port| {
        befall();
        for address in [V4, V6, "::ffff:10.99.0.2"] {
            let address = SocketAddr::new(ip(address), port);
            let socket = try_dial(address, TcpOptions::new().dscp(EXPEDITED)).expect(NAME);
            io::Write::write_all(&mut &socket, &[0; 100_000]).expect("the peer reads");
            socket.close().expect("the peer acknowledges");
            for tcp in [TcpOptions::new(), TcpOptions::new().dscp(EXPEDITED - 1)] {
                let error = try_dial(address, tcp).expect_err("the packets are dropped");
                assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            }
        }
    });
}

/// Only connections with the mark, or over the device, would stay on this machine.
#[test]
fn a_route_that_depends_on_options_is_checked_for_loops() {
    const NAME: &str =
        "network_faults::routing::a_route_that_depends_on_options_is_checked_for_loops";
    let rules = |space: &Space, _| {
        for family in ["", "-6"] {
            let net = if family.is_empty() { "10.97.0.0/16" } else { "fd97::/64" };
            for command in [
                format!("ip {family} rule add fwmark {MARK} lookup 97"),
                format!("ip {family} rule add oif lo lookup 98"),
                format!("ip {family} route add local {net} dev lo table 97"),
                format!("ip {family} route add local {net} dev lo table 98"),
            ] {
                space.at_client(&command).expect("it is added");
            }
        }
    };
    in_a_space(NAME, &[&rules], |port| {
        befall();
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("it is free");
        let rules = EgressRules::allow_all().own_listener((Ipv6Addr::UNSPECIFIED, port).into());
        let connector = Connector::builder().egress(rules).build().expect("they are valid");
        let dial = |address: SocketAddr, tcp: TcpOptions| {
            let options = SocketOptions::new().tcp(tcp).connect_timeout(ms(1500));
            connector.connect_with(address, options).expect("it is valid").opened()
        };
        for address in ["10.97.0.1", "fd97::1"] {
            let address = SocketAddr::new(ip(address), port);
            for (name, tcp) in [
                ("mark", TcpOptions::new().mark(MARK)),
                ("device", TcpOptions::new().bind_device("lo")),
            ] {
                let error = dial(address, tcp).expect_err("it would stay here");
                assert_eq!(error.kind(), ErrorKind::Loop, "{name}: {error}");
            }
            for tcp in [TcpOptions::new(), TcpOptions::new().mark(MARK + 1)] {
                let error = dial(address, tcp).expect_err("there is no route");
                assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
            }
        }
        listener.set_nonblocking(true).expect("every listener has the option");
        listener.accept().expect_err("nothing came");
    });
}

#[test]
fn without_multipath_tcp_the_system_uses_tcp() {
    const NAME: &str = "network_faults::routing::without_multipath_tcp_the_system_uses_tcp";
    let off = |space: &Space, _| {
        space.at_client("echo 0 >/proc/sys/net/mptcp/enabled").expect("it is switched off");
    };
    in_a_space(NAME, &[&off], |port| {
        let multipath = || TcpOptions::new().multipath(true);
        let protocol = |socket: &Socket| {
            let descriptor = socket.descriptor().expect("it is open");
            SockRef::from(&descriptor).protocol().expect("Linux reports it")
        };
        for is_on in [true, false] {
            let expected = if is_on { socket2::Protocol::MPTCP } else { socket2::Protocol::TCP };
            let socket = try_dial((ip(V4), port).into(), multipath()).expect("it opens");
            assert_eq!(protocol(&socket), Some(expected));
            let options = ListenOptions::new().socket(SocketOptions::new().tcp(multipath()));
            let listener = listen_with("127.0.0.1:0", options).expect("it listens");
            let address = listener.local_address().expect("it is TCP");
            let client = try_dial(address, multipath()).expect("it opens");
            let accepted = listener.accept().expect("one has come");
            assert_eq!((protocol(&client), protocol(&accepted)), (Some(expected), Some(expected)));
            // Clients without Multipath TCP are served too.
            try_dial(address, TcpOptions::new()).expect("it opens");
            assert_eq!(protocol(&listener.accept().expect("two")), Some(socket2::Protocol::TCP));
            if is_on {
                befall();
            }
        }
    });
}
