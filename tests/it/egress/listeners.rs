//! Addresses of the program's own listeners: dialling one is a loop.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use sockeye::EgressRules;

#[test]
fn a_listener_matches_its_address_and_its_port() {
    refuses("127.0.0.1:80", "127.0.0.1:80");
    allows("127.0.0.1:80", "127.0.0.1:81");
    allows("127.0.0.1:80", "127.0.0.2:80");
    allows("127.0.0.1:80", "[::1]:80");
    refuses("198.51.100.1:80", "198.51.100.1:80");
    allows("198.51.100.1:80", "127.0.0.1:80");
    allows("198.51.100.1:80", "0.0.0.0:80");
    refuses("[2001:db8::1]:80", "[2001:db8::1]:80");
    allows("[2001:db8::1]:80", "[2001:db8::2]:80");
    allows("[2001:db8::1]:80", "[::]:80");
}

#[test]
fn a_mapped_address_is_the_ipv4_address() {
    refuses("127.0.0.1:80", "[::ffff:127.0.0.1]:80");
    refuses("[::ffff:127.0.0.1]:80", "127.0.0.1:80");
    refuses("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80");
    allows("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.2]:80");
    refuses("127.0.0.1:80", "[::ffff:0.0.0.0]:80");
    refuses("[::ffff:0.0.0.0]:80", "127.0.0.1:80");
    // Other spellings lead out of this machine.
    allows("127.0.0.1:80", "[::127.0.0.1]:80");
    allows("127.0.0.1:80", "[64:ff9b::127.0.0.1]:80");
}

#[test]
fn dialling_the_unspecified_address_is_dialling_loopback() {
    refuses("127.0.0.1:80", "0.0.0.0:80");
    refuses("[::1]:80", "[::]:80");
    allows("127.0.0.2:80", "0.0.0.0:80");
    allows("127.0.0.1:80", "[::]:80");
    allows("[::1]:80", "0.0.0.0:80");
    allows("127.0.0.1:80", "0.0.0.0:81");
}

#[test]
fn a_listener_on_the_unspecified_address_matches_every_address_of_this_machine() {
    for listener in ["0.0.0.0:80", "[::]:80", "[::ffff:0.0.0.0]:80"] {
        for ip in ["127.0.0.1", "127.9.9.9", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]"] {
            refuses(listener, &format!("{ip}:80"));
            allows(listener, &format!("{ip}:81"));
        }
        // Addresses that are no machine's.
        allows(listener, "240.0.0.1:80");
        allows(listener, "[2001:db8::7]:80");
    }
}

#[test]
fn scopes_are_compared_if_both_addresses_have_one() {
    let on = |scope| SocketAddr::from(SocketAddrV6::new(LINK_LOCAL, 80, 0, scope));
    for (listener, address, is_loop) in
        [(2, 2, true), (2, 3, false), (0, 3, true), (2, 0, true), (0, 0, true)]
    {
        let rules = EgressRules::allow_all().own_listener(on(listener));
        assert_eq!(rules.allows(on(address)), !is_loop, "{listener} {address}");
    }
}

#[test]
fn no_rule_lifts_a_loop() {
    let rules = EgressRules::allow_all().own_listener("127.0.0.1:80".parse().unwrap());
    let rules = rules.allow_net("127.0.0.0/8").unwrap().allow_port(80);
    assert!(!rules.allows("127.0.0.1:80".parse().unwrap()));
}

#[test]
fn each_of_several_listeners_applies() {
    let rules = EgressRules::allow_all()
        .own_listener("127.0.0.1:80".parse().unwrap())
        .own_listener("[::1]:81".parse().unwrap());
    for (address, allowed) in
        [("127.0.0.1:80", false), ("[::1]:81", false), ("127.0.0.1:81", true), ("[::1]:80", true)]
    {
        assert_eq!(rules.allows(address.parse().unwrap()), allowed, "{address}");
    }
}

/// The addresses of its interfaces, as the kernel lists them.
#[cfg(target_os = "linux")]
#[test]
fn the_addresses_of_this_machine_are_known() {
    let addresses = addresses_of_this_machine();
    assert!(addresses.iter().any(|address| address.ip().is_loopback()), "{addresses:?}");
    for address in addresses {
        for listener in ["0.0.0.0:80", "[::]:80"] {
            let rules = EgressRules::allow_all().own_listener(listener.parse().unwrap());
            assert!(!rules.allows(address), "{address} is an address of this machine");
            let mut other = address;
            other.set_port(81);
            assert!(rules.allows(other), "{other} has another port");
        }
    }
}

/// Returns the addresses of this machine. Link-local ones include the interface number, without which they cannot be
/// dialled.
#[cfg(target_os = "linux")]
fn addresses_of_this_machine() -> Vec<SocketAddr> {
    use std::fs::read_to_string;
    use std::net::Ipv4Addr;

    // In the list of local IPv4 routes, each address is followed by a line with its kind.
    let routes = read_to_string("/proc/net/fib_trie").expect("the kernel lists its routes");
    let lines: Vec<&str> = routes.lines().collect();
    let v4 = lines.windows(2).filter(|pair| pair[1].contains("/32 host LOCAL")).map(|pair| {
        let ip: Ipv4Addr =
            pair[0].trim().strip_prefix("|-- ").expect("it is an address").parse().unwrap();
        SocketAddr::from((ip, 80))
    });
    let v4: Vec<SocketAddr> = v4.collect();
    // Without IPv6 the file does not exist.
    let interfaces = read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let v6 = interfaces.lines().map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let ip = u128::from_str_radix(columns[0], 16).expect("it is an address");
        let interface = u32::from_str_radix(columns[1], 16).expect("the number of an interface");
        let ip = Ipv6Addr::from_bits(ip);
        let scope = if ip.is_unicast_link_local() { interface } else { 0 };
        SocketAddr::from(SocketAddrV6::new(ip, 80, 0, scope))
    });
    v4.into_iter().chain(v6).collect()
}

const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

#[track_caller]
fn allows(listener: &str, address: &str) {
    check(listener, address, true);
}

#[track_caller]
fn refuses(listener: &str, address: &str) {
    check(listener, address, false);
}

#[track_caller]
fn check(listener: &str, address: &str, expected: bool) {
    let rules = EgressRules::allow_all().own_listener(listener.parse().expect(listener));
    let allowed = rules.allows(address.parse().expect(address));
    assert_eq!(allowed, expected, "{address}, with the own listener {listener}");
}
