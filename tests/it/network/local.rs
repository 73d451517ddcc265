//! Own listeners on every address of this machine, where only the system knows which those are: addresses of
//! interfaces, nets that a route says are local, and what the system can't tell.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener};

use sockeye::{Connector, EgressRules, Error, ErrorKind, Socket};

use super::space::{OTHER_V4, Space, V4, V6};
use super::{befall, in_a_space, ip};
use crate::support::process::{settled_descriptors, take_all_descriptors};
use crate::support::{PATIENCE, eventually, system_code};

/// The client's own addresses at the cable.
const OWN: [&str; 2] = ["10.99.0.1", "fd99::1"];

/// Of nets that are local by a route.
const ROUTED: [&str; 4] = ["10.97.0.1", "10.97.255.254", "fd97::1", "fd97::ffff:0:1"];

/// A listener of this process on all addresses, and a connector that knows of it.
struct Own {
    listener: TcpListener,
    port: u16,
    connector: Connector,
}

impl Own {
    /// At the port at which the peer listens too, so that what is allowed can be seen to be.
    fn at(port: u16) -> Own {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("it is free here");
        listener.set_nonblocking(true).expect("it may be");
        let rules = EgressRules::allow_all().own_listener((Ipv6Addr::UNSPECIFIED, port).into());
        let connector = Connector::builder().egress(rules).build().expect("it can be");
        Own { listener, port, connector }
    }

    fn dial(&self, address: &str) -> Result<Socket, Error> {
        self.dial_at((ip(address), self.port).into())
    }

    fn dial_at(&self, address: SocketAddr) -> Result<Socket, Error> {
        let socket = self.connector.connect(address).expect("opened tells it");
        socket.opened().map(|_| socket)
    }

    #[track_caller]
    fn is_a_loop(&self, address: &str) {
        // By itself, and without the crate, it leads to the listener.
        let address = SocketAddr::from((ip(address), self.port));
        std::net::TcpStream::connect(address).expect("the listener is there");
        self.listener.accept().expect("it led here");
        self.refuses(address);
    }

    #[track_caller]
    fn refuses(&self, address: SocketAddr) {
        let error = self.dial_at(address).expect_err("it leads back");
        assert_eq!(error.kind(), ErrorKind::Loop, "{address}: {error}");
        let rules = EgressRules::allow_all().own_listener((ip("0.0.0.0"), self.port).into());
        assert!(!rules.allows(address), "{address}");
        self.nobody_came();
    }

    #[track_caller]
    fn nobody_came(&self) {
        let error = self.listener.accept().map(|_| ()).expect_err("nobody comes");
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
fn addresses_of_interfaces_and_of_local_routes_lead_to_an_own_listener() {
    const NAME: &str =
        "network::local::addresses_of_interfaces_and_of_local_routes_lead_to_an_own_listener";
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
        // Of a link, with the number of its interface.
        let scoped = link_local();
        std::net::TcpStream::connect(with_port(scoped, port)).expect("the listener is there");
        own.listener.accept().expect("it led here");
        own.refuses(with_port(scoped, port));
        own.reaches_the_peer();
    });
}

/// The own address of the link at the cable.
fn link_local() -> SocketAddrV6 {
    let interfaces = std::fs::read_to_string("/proc/net/if_inet6").expect("Linux has it");
    interfaces
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns[5] == "cable")
        .map(|columns| {
            let ip = u128::from_str_radix(columns[0], 16).expect("an address");
            let scope = u32::from_str_radix(columns[1], 16).expect("the number of an interface");
            SocketAddrV6::new(Ipv6Addr::from_bits(ip), 0, 0, scope)
        })
        .find(|address| address.ip().is_unicast_link_local())
        .expect("it has an address of its link")
}

fn with_port(mut address: SocketAddrV6, port: u16) -> SocketAddr {
    address.set_port(port);
    address.into()
}

/// Such routes may stand in tables of their own, to which rules lead: for some sources, or for some ports.
#[test]
fn rules_that_lead_to_local_routes_are_followed() {
    const NAME: &str = "network::local::rules_that_lead_to_local_routes_are_followed";
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

/// With it every address can be bound to, so that bind(2) tells nothing.
#[test]
fn a_system_that_binds_to_foreign_addresses_still_tells_its_own() {
    const NAME: &str =
        "network::local::a_system_that_binds_to_foreign_addresses_still_tells_its_own";
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

/// The address of all routers of a net is one of this machine if it is a router.
#[test]
fn an_anycast_address_of_this_machine_is_its_own() {
    const NAME: &str = "network::local::an_anycast_address_of_this_machine_is_its_own";
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
fn an_address_to_which_no_route_leads_fails_by_its_own_reason() {
    const NAME: &str = "network::local::an_address_to_which_no_route_leads_fails_by_its_own_reason";
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
            let error = own.dial(address).expect_err("no route leads there");
            assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
            assert_eq!(system_code(&error), Some(code), "{error}");
        }
    });
}

// -------------------------------------------------------------------- short of descriptors

/// The wires that linger give way to an attempt, so that one finds a descriptor where the question found none.
#[test]
fn an_own_listener_is_refused_where_descriptors_are_short() {
    const NAME: &str = "network::local::an_own_listener_is_refused_where_descriptors_are_short";
    const ROUNDS: usize = 20;
    in_a_space(NAME, &[&routes_are_local], |port| {
        let own = Own::at(port);
        befall();
        own.reaches_the_peer();
        // It never accepts, so that what this side has closed is not closed by the other.
        let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let silent = silent.local_addr().map(|address| (silent, address)).expect("it listens");
        settled_descriptors();
        let mut taken = take_all_descriptors();
        let mut refused = 0;
        for round in 0..ROUNDS {
            // One that lingers has the last descriptor.
            taken.pop();
            let before = own.dial_at(silent.1).expect("there is one descriptor");
            before.close().expect("nothing is in the way");
            drop(before);
            assert!(File::open("/dev/null").is_err(), "the descriptor is taken");
            let address = ROUTED[round % ROUTED.len()];
            let address = if round % 3 == 0 { OWN[round % OWN.len()] } else { address };
            let error = own.dial(address).expect_err("it leads back");
            assert_eq!(error.kind(), ErrorKind::Loop, "{address}: {error}");
            refused += 1;
            eventually(PATIENCE, "the descriptor is free again", || {
                File::open("/dev/null").is_ok()
            });
            own.nobody_came();
            taken.push(File::open("/dev/null").expect("it is free"));
        }
        assert_eq!(refused, ROUNDS);
    });
}

#[test]
fn an_address_of_which_the_system_does_not_tell_whose_it_is_is_refused_with_the_reason() {
    const NAME: &str = "network::local::an_address_of_which_the_system_does_not_tell_whose_it_is_is_refused_with_the_reason";
    in_a_space(NAME, &[&routes_are_local], |port| {
        let own = Own::at(port);
        befall();
        own.reaches_the_peer();
        settled_descriptors();
        let mut taken = take_all_descriptors();
        let rules = EgressRules::allow_all().own_listener((ip("::"), port).into());
        for address in OWN.iter().chain(&ROUTED).chain(&[V4, V6]) {
            let error = own.dial(address).expect_err("nobody knows whose it is");
            assert_eq!(error.kind(), ErrorKind::Io, "{address}: {error}");
            assert_eq!(system_code(&error), Some(libc::EMFILE), "{error}");
            assert!(error.to_string().contains("listener"), "{error}");
            assert!(!rules.allows((ip(address), port).into()), "{address}");
        }
        // What needs no question has its answer.
        let error = own.dial("127.0.0.1").expect_err("it leads back");
        assert_eq!(error.kind(), ErrorKind::Loop, "{error}");
        assert!(rules.allows((IpAddr::from([10, 99, 0, 1]), port ^ 1).into()));
        taken.pop();
        own.nobody_came();
        let error = own.dial(OWN[0]).expect_err("it leads back");
        assert_eq!(error.kind(), ErrorKind::Loop, "{error}");
        own.dial(V4).expect("one descriptor is enough").abort();
    });
}
