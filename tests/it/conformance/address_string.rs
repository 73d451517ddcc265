//! Scenarios of the group `address-string`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sockeye::{Connector, ErrorKind, SocketAddress, SocketInfo};

use super::common::{in_own_network, peer_at};
use super::names::{Names, V4, V6};
use super::unix::is_a_plain_name;
use crate::support::net::TcpListener;
use crate::support::peer::{assert_no_connection, listen};
use crate::support::{HasErrorKind, assert_fails, at_once, with_watchdog};

// -------------------------------------------------------------------- literals

/// A plain IPv4 literal with a port.
#[test]
fn ipv4() {
    reaches("address-string.ipv4", V4, "127.0.0.1:PORT", |info, peer| {
        assert_eq!(info.remote_address(), Some(peer));
        assert_eq!(info.requested().to_string(), peer.to_string());
    });
}

/// An IPv6 literal in brackets, with a port.
#[test]
fn ipv6_bracketed() {
    reaches("address-string.ipv6-bracketed", V6, "[::1]:PORT", |info, peer| {
        assert_eq!(info.remote_address(), Some(peer));
        assert_eq!(info.requested().hostname(), "::1");
    });
}

/// An IPv6 address without brackets is invalid.
#[test]
fn ipv6_unbracketed() {
    refuses("::1:PORT", "an IPv6 address needs brackets");
}

/// An IPv6 literal that is written out in full.
#[test]
fn ipv6_full() {
    reaches("address-string.ipv6-full", V6, "[0:0:0:0:0:0:0:1]:PORT", |info, peer| {
        assert_eq!(info.remote_address(), Some(peer));
        assert_eq!(info.requested().hostname(), "0:0:0:0:0:0:0:1");
    });
}

/// An IPv4-mapped IPv6 literal reaches the IPv4 address.
#[test]
fn ipv6_mapped() {
    reaches("address-string.ipv6-mapped", V4, "[::ffff:127.0.0.1]:PORT", is_loopback_v4);
}

/// The same with a hexadecimal tail.
#[test]
fn ipv6_mapped_hex() {
    reaches("address-string.ipv6-mapped-hex", V4, "[::ffff:7f00:1]:PORT", is_loopback_v4);
}

// -------------------------------------------------------------------- names

/// A name with a port: the caller learns the address that answered.
#[test]
fn hostname() {
    reaches("address-string.hostname", V4, "good.test:PORT", |info, peer| {
        assert_eq!(info.remote_address(), Some(peer));
        assert_eq!(info.requested().to_string(), format!("good.test:{}", peer.port()));
    });
}

/// `localhost`, which the system resolves.
#[test]
fn localhost() {
    let id = "address-string.localhost";
    reaches_by(Connector::global(), id, V4, "localhost:PORT", |info, peer| {
        assert!(info.remote_address().expect("it was reached").ip().is_loopback());
        assert_eq!(info.requested().to_string(), format!("localhost:{}", peer.port()));
    });
}

/// A name that has an IPv6 address only.
#[test]
fn hostname_v6() {
    reaches("address-string.hostname-v6", V6, "v6.test:PORT", |info, peer| {
        assert_eq!(info.remote_address(), Some(peer));
    });
}

/// A name in upper case is kept and resolved as it is written.
#[test]
fn uppercase() {
    with_watchdog(|| {
        let names = Names::new();
        let by = names.connector();
        reaches_by(by, "address-string.uppercase", V4, "GOOD.Test:PORT", |info, peer| {
            assert_eq!(info.requested().hostname(), "GOOD.Test");
            assert_eq!(info.remote_address(), Some(peer));
        });
        assert_eq!(names.asked(), ["GOOD.Test"]);
    });
}

/// A name with an underscore is not refused.
#[test]
fn underscore() {
    reaches("address-string.underscore", V4, "under_score.test:PORT", |info, peer| {
        assert_eq!(info.remote_address(), Some(peer));
    });
}

// -------------------------------------------------------------------- ports

/// A name without a port.
#[test]
fn no_port() {
    refuses("good.test", "the port is missing");
}

/// Port 0 cannot be dialled and is refused at once.
#[test]
fn port_0() {
    refuses("127.0.0.1:0", "port 0");
}

/// The highest port.
#[test]
fn port_65535() {
    in_own_network("address-string.port-65535", &[], || {
        reaches_only("127.0.0.1:65535", 65_535, None);
    });
}

/// A negative port.
#[test]
fn port_negative() {
    refuses("127.0.0.1:-1", "the port has a sign");
}

/// A port with a plus sign.
#[test]
fn port_plus() {
    refuses("127.0.0.1:+PORT", "the port has a sign");
}

/// The name of a service instead of the port.
#[test]
fn port_alpha() {
    refuses("127.0.0.1:http", "the port \"http\" is not a decimal number");
}

/// A leading zero and a digit that is not octal.
#[test]
fn port_leading_zero_080() {
    assert_eq!(parsed("127.0.0.1:080").port(), 80);
    in_own_network("address-string.port-leading-zero-080", &[], || {
        reaches_only("127.0.0.1:080", 80, None);
    });
}

/// Port 02000 is 2000, and not the octal 1024, at which there is another listener.
#[test]
fn port_leading_zero_octal() {
    assert_eq!(parsed("127.0.0.1:02000").port(), 2000);
    in_own_network("address-string.port-leading-zero-octal", &[], || {
        reaches_only("127.0.0.1:02000", 2000, Some(1024));
    });
}

/// The same with many leading zeros.
#[test]
fn port_leading_zeros_many() {
    assert_eq!(parsed("127.0.0.1:000002000").port(), 2000);
    in_own_network("address-string.port-leading-zeros-many", &[], || {
        reaches_only("127.0.0.1:000002000", 2000, Some(1024));
    });
}

/// Port 443, at which nothing listens: the error gives the cause.
#[test]
fn port_443_refused() {
    in_own_network("address-string.port-443-refused", &[], || {
        fails_to_connect((Ipv4Addr::LOCALHOST, 443).into());
    });
}

/// A space before the port.
#[test]
fn port_space_in() {
    refuses("127.0.0.1: PORT", "white space");
}

// -------------------------------------------------------------------- text outside of an address

/// An empty text.
#[test]
fn empty() {
    refuses("", "the text is empty");
}

/// A port without a host.
#[test]
fn only_port() {
    refuses(":PORT", "the host is empty");
}

/// Digits only.
#[test]
fn only_digits() {
    refuses("8080", "the port is missing");
}

/// A URL.
#[test]
fn scheme_tcp() {
    refuses("tcp://127.0.0.1:PORT", "a scheme");
}

/// Slashes at the beginning.
#[test]
fn scheme_slashes() {
    refuses("//127.0.0.1:PORT", "slashes");
}

/// A path after the port.
#[test]
fn path() {
    refuses("127.0.0.1:PORT/path", "a path");
}

/// A query after the port.
#[test]
fn query() {
    refuses("127.0.0.1:PORT?x=1", "a query");
}

/// A fragment after the port.
#[test]
fn fragment() {
    refuses("127.0.0.1:PORT#x", "a fragment");
}

/// A user name before the host.
#[test]
fn userinfo() {
    refuses("user@127.0.0.1:PORT", "user information");
}

/// A user name and password before the host.
#[test]
fn userinfo_pass() {
    refuses("user:pw@127.0.0.1:PORT", "user information");
}

/// A space at the beginning.
#[test]
fn space_leading() {
    refuses(" 127.0.0.1:PORT", "white space");
}

/// A space at the end.
#[test]
fn space_trailing() {
    refuses("127.0.0.1:PORT ", "white space");
}

/// A line feed at the end.
#[test]
fn newline_trailing() {
    refuses("127.0.0.1:PORT\n", "white space");
}

/// A name that is not ASCII.
#[test]
fn idn() {
    refuses("b\u{fc}cher.test:PORT", "non-ASCII");
}

/// Full-width digits.
#[test]
fn unicode_digits() {
    refuses("\u{ff11}\u{ff12}\u{ff17}.0.0.1:PORT", "non-ASCII");
}

/// A name in percent-encoding.
#[test]
fn percent() {
    refuses("good%2etest:PORT", "percent");
}

// -------------------------------------------------------------------- long names

/// Name and port have 255 bytes together.
#[test]
fn long_255() {
    is_looked_up_in_vain(250);
}

/// Name and port have 256 bytes together: the limit applies to the name alone.
#[test]
fn long_256() {
    is_looked_up_in_vain(251);
}

// -------------------------------------------------------------------- old spellings of IPv4

/// An abbreviated IPv4 address is a name.
#[test]
fn ipv4_short() {
    is_an_old_spelling("address-string.ipv4-short", "127.1");
}

/// An IPv4 address as one decimal number is a name.
#[test]
fn ipv4_decimal() {
    is_an_old_spelling("address-string.ipv4-decimal", "2130706433");
}

/// An IPv4 address in hexadecimal is a name.
#[test]
fn ipv4_hex() {
    is_an_old_spelling("address-string.ipv4-hex", "0x7f.0.0.1");
}

/// Five parts separated by dots.
#[test]
fn ipv4_5parts() {
    never_connects("127.0.0.1.1");
}

/// An IPv4 address with a dot at the end.
#[test]
fn ipv4_trailing_dot() {
    never_connects("127.0.0.1.");
}

/// The broadcast address: the error gives the cause.
#[test]
fn broadcast() {
    with_watchdog(|| fails_to_connect((Ipv4Addr::BROADCAST, 4321).into()));
}

/// Two ports.
#[test]
fn double_colon_ports() {
    refuses("127.0.0.1:1:PORT", "more than one colon");
}

// -------------------------------------------------------------------- unusual hosts

/// `unix` is a name, even if the port is that of a Unix-domain socket.
#[test]
fn unix_prefix() {
    is_a_plain_name("address-string.unix-prefix", parsed("unix:4567"), Names::new());
}

/// `unix-abstract` is a name, even if the port is that of an abstract socket.
#[test]
fn unix_abstract_prefix() {
    let address = parsed("unix-abstract:4568");
    is_a_plain_name("address-string.unix-abstract-prefix", address, Names::new());
}

/// A star.
#[test]
fn star() {
    refuses("*:PORT", "the character '*'");
}

/// A name of one dash.
#[test]
fn dash_only() {
    never_connects("-");
}

/// A bracket without its closing one.
#[test]
fn unbalanced_bracket() {
    refuses("[::1:PORT", "bracket is never closed");
}

/// An IPv4 address in brackets.
#[test]
fn bracketed_v4() {
    refuses("[127.0.0.1]:PORT", "nothing but an IPv6 address");
}

/// A name in brackets.
#[test]
fn bracketed_name() {
    refuses("[good.test]:PORT", "nothing but an IPv6 address");
}

// -------------------------------------------------------------------- helpers

/// Dials `text`, with `PORT` replaced by the port of a peer at `ip`, which has to accept.
#[track_caller]
fn reaches(
    id: &'static str,
    ip: IpAddr,
    text: &'static str,
    check_info: fn(&SocketInfo, SocketAddr),
) {
    with_watchdog(move || reaches_by(Names::new().connector(), id, ip, text, check_info));
}

/// Like [`reaches`], with names resolved by this connector.
#[track_caller]
fn reaches_by(
    connector: &Connector,
    id: &str,
    ip: IpAddr,
    text: &str,
    check_info: fn(&SocketInfo, SocketAddr),
) {
    let Some(peer) = peer_at(id, ip) else { return };
    let address = peer.address();
    let text = text.replace("PORT", &address.port().to_string());
    let socket = connector.connect(text.as_str()).expect("the address is valid");
    let info = at_once(|| socket.opened()).expect("the peer listens");
    assert_eq!(info.requested().to_string(), text);
    check_info(&info, address);
    socket.close().expect("the close succeeds");
    let ending = peer.finish();
    assert_eq!(info.local_address().map(canonical), Some(canonical(ending.from)));
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn is_loopback_v4(info: &SocketInfo, peer: SocketAddr) {
    let remote = info.remote_address().expect("it was reached");
    assert_eq!((remote.ip().to_canonical(), remote.port()), (V4, peer.port()));
}

/// Dials `text`, which has to reach the peer at `port` and not the other one.
#[track_caller]
fn reaches_only(text: &str, port: u16, other: Option<u16>) {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("all ports are free");
    let (listener, other) = (bind(port), other.map(bind));
    let socket = sockeye::connect(text).expect("the address is valid");
    let info = at_once(|| socket.opened()).expect("the peer listens");
    assert_eq!(info.remote_address(), Some((Ipv4Addr::LOCALHOST, port).into()));
    let (_, from) = listener.accept().expect("the connection is in the backlog");
    assert_eq!(info.local_address(), Some(from));
    other.iter().for_each(assert_no_connection);
}

#[track_caller]
fn fails_to_connect(address: SocketAddr) {
    let socket = sockeye::connect(address.to_string()).expect("the address is valid");
    let error = at_once(|| socket.opened()).expect_err("nothing listens");
    assert_eq!(error.kind(), ErrorKind::Connect);
    let attempts: Vec<_> = error.attempts().iter().map(sockeye::Attempt::address).collect();
    assert_eq!(attempts, [address]);
}

/// Checks that `text`, with `PORT` replaced by the port of a peer on 127.0.0.1, is invalid: the message names the
/// fault, and nothing is dialled.
#[track_caller]
fn refuses(text: &str, fault: &str) {
    let listener = listen();
    let port = listener.local_addr().expect("it listens").port();
    let text = text.replace("PORT", &port.to_string());
    let error = at_once(|| sockeye::connect(text.as_str())).expect_err("the address is invalid");
    assert_eq!(error.kind(), ErrorKind::InvalidAddress);
    assert!(error.to_string().contains(fault), "{error} does not contain {fault:?}");
    let same = text.parse::<SocketAddress>().expect_err("the address is invalid");
    assert_eq!((same.kind(), same.to_string()), (error.kind(), error.to_string()));
    assert_no_connection(&listener);
}

#[track_caller]
fn parsed(text: &str) -> SocketAddress {
    text.parse().expect("it is an address")
}

/// Checks that a host of this many bytes is valid, and that the resolver does not know it.
#[track_caller]
fn is_looked_up_in_vain(length: usize) {
    let host: String = (0..length).map(|at| if at % 64 == 63 { '.' } else { 'a' }).collect();
    let address = parsed(&format!("{host}:4321"));
    assert_eq!((address.hostname(), address.port()), (host.as_str(), 4321));
    with_watchdog(move || {
        let names = Names::new();
        let socket = names.connector().connect(&address).expect("the address is valid");
        assert_fails(at_once(|| socket.opened()), ErrorKind::Resolve);
        assert_eq!(names.asked(), [host]);
    });
}

/// Checks that the resolver is asked for `host` and that glibc's resolver knows it. Egress rules check the resolved
/// address.
#[track_caller]
fn is_an_old_spelling(id: &'static str, host: &'static str) {
    with_watchdog(move || {
        let names = Names::with(host, &[V4]);
        reaches_by(names.connector(), id, V4, &format!("{host}:PORT"), is_loopback_v4);
        assert_eq!(names.asked(), [host]);
        if cfg!(all(target_os = "linux", target_env = "gnu")) {
            let text = format!("{host}:PORT");
            reaches_by(Connector::global(), id, V4, &text, |info, peer| {
                assert_eq!(info.remote_address(), Some(peer));
            });
        }
        let listener = listen();
        let port = listener.local_addr().expect("it listens").port();
        let names = Names::public_only(host, &[V4]);
        let socket = names.connector().connect((host, port)).expect("it is an address");
        assert_fails(at_once(|| socket.opened()), ErrorKind::Denied);
        assert_no_connection(&listener);
    });
}

/// Checks that `host` is refused at once, or that its lookup fails.
#[track_caller]
fn never_connects(host: &'static str) {
    with_watchdog(move || {
        let listener = listen();
        let port = listener.local_addr().expect("it listens").port();
        let names = Names::new();
        let result = match at_once(|| names.connector().connect(format!("{host}:{port}"))) {
            Ok(socket) => at_once(|| socket.opened()).map(drop),
            Err(error) => Err(error),
        };
        let failure = result.failure();
        let expected = [ErrorKind::InvalidAddress, ErrorKind::Resolve];
        assert!(failure.is_some_and(|kind| expected.contains(&kind)), "{failure:?}");
        assert_no_connection(&listener);
    });
}
