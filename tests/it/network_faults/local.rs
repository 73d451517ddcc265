//! Listeners on every address of this machine, which only the system knows: addresses of interfaces, nets that are
//! local by a route, and addresses that the system cannot classify.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener};

use sockeye::{Connector, EgressRules, Error, ErrorKind, Socket};

use super::space::{OTHER_V4, Space, V4, V6};
use super::{befall, in_a_space, ip};
use crate::support::process::{settled_descriptors, take_all_descriptors};
use crate::support::{WATCHDOG, eventually, system_code};

/// The client's addresses on the cable.
const OWN: [&str; 2] = ["10.99.0.1", "fd99::1"];

/// Addresses in nets that are local by a route.
const ROUTED: [&str; 4] = ["10.97.0.1", "10.97.255.254", "fd97::1", "fd97::ffff:0:1"];

/// A listener of this process on all addresses, and a connector that knows it.
struct Own {
    listener: TcpListener,
    port: u16,
    connector: Connector,
}

impl Own {
    /// Uses the port of the peer, too, so that an allowed address reaches the peer.
    fn at(port: u16) -> Own {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("the port is free");
        listener.set_nonblocking(true).expect("every listener has the option");
        let rules = EgressRules::allow_all().own_listener((Ipv6Addr::UNSPECIFIED, port).into());
        let connector = Connector::builder().egress(rules).build().expect("the settings are valid");
        Own { listener, port, connector }
    }

    fn dial(&self, address: &str) -> Result<Socket, Error> {
        self.dial_at((ip(address), self.port).into())
    }

    fn dial_at(&self, address: SocketAddr) -> Result<Socket, Error> {
        let socket = self.connector.connect(address).expect("`opened` reports it");
        socket.opened().map(|_| socket)
    }

    #[track_caller]
    fn is_a_loop(&self, address: &str) {
        // A plain connect shows that the address leads to the listener.
        let address = SocketAddr::from((ip(address), self.port));
        std::net::TcpStream::connect(address).expect("the listener accepts");
        self.listener.accept().expect("the connection arrived here");
        self.refuses(address);
    }

    #[track_caller]
    fn refuses(&self, address: SocketAddr) {
        let error = self.dial_at(address).expect_err("dialling it is a loop");
        assert_eq!(error.kind(), ErrorKind::Loop, "{address}: {error}");
        let rules = EgressRules::allow_all().own_listener((ip("0.0.0.0"), self.port).into());
        assert!(!rules.allows(address), "{address}");
        self.nobody_came();
    }

    #[track_caller]
    fn nobody_came(&self) {
        let error = self.listener.accept().map(|_| ()).expect_err("no connection arrives");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    }

    #[track_caller]
    fn reaches_the_peer(&self) {
        for address in [V4, OTHER_V4, V6, "::ffff:10.99.0.2"] {
            self.dial(address).expect(address).abort();
        }
        self.nobody_came();
    }
}

fn routes_are_local(space: &Space, _port: u16) {
    space.at_client("ip route add local 10.97.0.0/16 dev lo").expect("a route is added");
    space.at_client("ip -6 route add local fd97::/64 dev lo").expect("a route is added");
}

#[test]
fn addresses_of_interfaces_and_of_local_routes_are_loops() {
    const NAME: &str =
        "network_faults::local::addresses_of_interfaces_and_of_local_routes_are_loops";
    in_a_space(NAME, &[&routes_are_local], |port| {
        let own = Own::at(port);
        own.reaches_the_peer();
        befall();
        for address in OWN.iter().chain(&ROUTED) {
            own.is_a_loop(address);
        }
        for address in ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:10.99.0.1"] {
            own.is_a_loop(address);
        }
        own.is_a_loop("::ffff:10.97.0.1");
        // A link-local address, with the number of its interface.
        let scoped = link_local();
        std::net::TcpStream::connect(with_port(scoped, port)).expect("the listener accepts");
        own.listener.accept().expect("the connection arrived here");
        own.refuses(with_port(scoped, port));
        own.reaches_the_peer();
    });
}

/// Returns this machine's link-local address on the cable.
fn link_local() -> SocketAddrV6 {
    let interfaces = std::fs::read_to_string("/proc/net/if_inet6").expect("Linux has the file");
    interfaces
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns[5] == "cable")
        .map(|columns| {
            let ip = u128::from_str_radix(columns[0], 16).expect("it is an address");
            let scope = u32::from_str_radix(columns[1], 16).expect("the number of an interface");
            SocketAddrV6::new(Ipv6Addr::from_bits(ip), 0, 0, scope)
        })
        .find(|address| address.ip().is_unicast_link_local())
        .expect("the interface has a link-local address")
}

fn with_port(mut address: SocketAddrV6, port: u16) -> SocketAddr {
    address.set_port(port);
    address.into()
}

/// Such routes may be in separate tables that rules select for some sources or ports.
#[test]
fn policy_routes_to_local_tables_are_followed() {
    const NAME: &str = "network_faults::local::policy_routes_to_local_tables_are_followed";
    let by_source = |space: &Space, _| {
        for family in ["", "-6"] {
            space
                .at_client(&format!("ip {family} route add local default dev lo table 97"))
                .unwrap();
        }
        space
            .at_client("ip route add default dev cable; ip -6 route add default dev cable")
            .unwrap();
        space.at_client("ip rule add from 10.99.0.1 lookup 97").unwrap();
        space.at_client("ip -6 rule add from fd99::1 lookup 97").unwrap();
    };
    let by_port = |space: &Space, port| {
        space.at_client("ip rule del from 10.99.0.1 lookup 97").unwrap();
        space.at_client("ip -6 rule del from fd99::1 lookup 97").unwrap();
        for family in ["", "-6"] {
            let rule = format!("ip {family} rule add ipproto tcp dport {port} lookup 97");
            space.at_client(&rule).unwrap();
        }
    };
    in_a_space(NAME, &[&by_source, &by_port], |port| {
        let own = Own::at(port);
        befall();
        for _ in 0..2 {
            for address in [V4, V6, "198.51.100.1", "2001:db8::1"] {
                own.refuses((ip(address), port).into());
            }
            if own.dial("10.99.0.1").is_err() {
                break;
            }
        }
        befall();
        for address in [V4, V6, "198.51.100.1", "2001:db8::1"] {
            own.refuses((ip(address), port).into());
        }
    });
}

/// With this setting every address can be bound, so bind(2) does not show which addresses are local.
#[test]
fn loops_are_found_if_foreign_addresses_can_be_bound() {
    const NAME: &str = "network_faults::local::loops_are_found_if_foreign_addresses_can_be_bound";
    let nonlocal = |space: &Space, port| {
        routes_are_local(space, port);
        for family in ["ipv4", "ipv6"] {
            let setting = format!("/proc/sys/net/{family}/ip_nonlocal_bind");
            space.at_client(&format!("echo 1 >{setting}")).expect("it is set");
        }
    };
    in_a_space(NAME, &[&nonlocal], |port| {
        let own = Own::at(port);
        befall();
        for address in OWN.iter().chain(&ROUTED) {
            own.is_a_loop(address);
        }
        own.reaches_the_peer();
    });
}

/// The subnet-router anycast address belongs to this machine if it is a router.
#[test]
fn an_anycast_address_of_this_machine_is_a_loop() {
    const NAME: &str = "network_faults::local::an_anycast_address_of_this_machine_is_a_loop";
    let router = |space: &Space, _| {
        space.at_client("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding").expect("it is set");
    };
    in_a_space(NAME, &[&router], |port| {
        let own = Own::at(port);
        befall();
        own.refuses((ip("fd99::"), port).into());
        own.reaches_the_peer();
    });
}

#[test]
fn an_address_without_a_route_fails_with_its_own_reason() {
    const NAME: &str =
        "network_faults::local::an_address_without_a_route_fails_with_its_own_reason";
    let routes = |space: &Space, _| {
        for (family, net) in [("", "10.98.0."), ("-6", "fd98::")] {
            for (number, sort) in ["unreachable", "prohibit"].iter().enumerate() {
                space.at_client(&format!("ip {family} route add {sort} {net}{number}")).unwrap();
            }
        }
    };
    in_a_space(NAME, &[&routes], |port| {
        let own = Own::at(port);
        befall();
        for (address, code) in [
            ("198.51.100.1", libc::ENETUNREACH),
            ("2001:db8::1", libc::ENETUNREACH),
            ("10.98.0.0", libc::EHOSTUNREACH),
            ("fd98::0", libc::EHOSTUNREACH),
            ("10.98.0.1", libc::EACCES),
            ("fd98::1", libc::EACCES),
        ] {
            let error = own.dial(address).expect_err("there is no route");
            assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
            assert_eq!(system_code(&error), Some(code), "{error}");
        }
    });
}

// -------------------------------------------------------------------- no free descriptors

/// A lingering wire is closed for a new attempt, so the attempt may get a descriptor after the lookup of the route got
/// none.
#[test]
fn loops_are_refused_without_free_descriptors() {
    const NAME: &str = "network_faults::local::loops_are_refused_without_free_descriptors";
    const ROUNDS: usize = 20;
    in_a_space(NAME, &[&routes_are_local], |port| {
        let own = Own::at(port);
        befall();
        own.reaches_the_peer();
        // The peer never accepts, so it does not close the connection that this side has closed.
        let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let silent = silent.local_addr().map(|address| (silent, address)).expect("it listens");
        settled_descriptors();
        let mut taken = take_all_descriptors();
        let mut refused = 0;
        for round in 0..ROUNDS {
            // A lingering wire has the last descriptor.
            taken.pop();
            let before = own.dial_at(silent.1).expect("one descriptor is free");
            before.close().expect("the close succeeds");
            drop(before);
            assert!(File::open("/dev/null").is_err(), "the descriptor is taken");
            let address = ROUTED[round % ROUTED.len()];
            let address = if round % 3 == 0 { OWN[round % OWN.len()] } else { address };
            let error = own.dial(address).expect_err("dialling it is a loop");
            assert_eq!(error.kind(), ErrorKind::Loop, "{address}: {error}");
            refused += 1;
            eventually(WATCHDOG, "the descriptor is free again", || {
                File::open("/dev/null").is_ok()
            });
            own.nobody_came();
            taken.push(File::open("/dev/null").expect("the descriptor is free"));
        }
        assert_eq!(refused, ROUNDS);
    });
}

#[test]
fn an_address_that_the_system_cannot_classify_is_refused() {
    const NAME: &str =
        "network_faults::local::an_address_that_the_system_cannot_classify_is_refused";
    in_a_space(NAME, &[&routes_are_local], |port| {
        let own = Own::at(port);
        befall();
        own.reaches_the_peer();
        settled_descriptors();
        let mut taken = take_all_descriptors();
        let rules = EgressRules::allow_all().own_listener((ip("::"), port).into());
        for address in OWN.iter().chain(&ROUTED).chain(&[V4, V6]) {
            let error = own.dial(address).expect_err("the system cannot tell whose address it is");
            assert_eq!(error.kind(), ErrorKind::Io, "{address}: {error}");
            assert_eq!(system_code(&error), Some(libc::EMFILE), "{error}");
            assert!(error.to_string().contains("listener"), "{error}");
            assert!(!rules.allows((ip(address), port).into()), "{address}");
        }
        // A loopback address needs no question to the system.
        let error = own.dial("127.0.0.1").expect_err("dialling it is a loop");
        assert_eq!(error.kind(), ErrorKind::Loop, "{error}");
        assert!(rules.allows((IpAddr::from([10, 99, 0, 1]), port ^ 1).into()));
        taken.pop();
        own.nobody_came();
        let error = own.dial(OWN[0]).expect_err("dialling it is a loop");
        assert_eq!(error.kind(), ErrorKind::Loop, "{error}");
        own.dial(V4).expect("one descriptor is enough").abort();
    });
}
