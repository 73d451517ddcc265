//! Scenarios of the group `address-object`.

use std::net::{IpAddr, SocketAddr};

use sockeye::{ErrorKind, SocketAddress, SocketInfo};

use super::common::peer_at;
use super::names::{Names, V4, V6};
use super::unix::is_a_plain_name;
use crate::support::peer::{assert_no_connection, listen};
use crate::support::{assert_fails, at_once, with_watchdog};

/// Host and port, with an IPv4 address.
#[test]
fn ipv4() {
    reaches("address-object.ipv4", V4, "127.0.0.1", |info, peer| {
        assert_eq!(info.remote_address(), Some(peer));
    });
}

/// Host and port, with a name: the caller learns the address that answered.
#[test]
fn hostname() {
    reaches("address-object.hostname", V4, "good.test", |info, peer| {
        assert_eq!(info.remote_address(), Some(peer));
        assert_eq!(info.requested().to_string(), format!("good.test:{}", peer.port()));
    });
}

/// An IPv6 address as a separate host needs no brackets.
#[test]
fn ipv6_bare() {
    reaches("address-object.ipv6-bare", V6, "::1", |info, peer| {
        assert_eq!(info.requested().to_string(), format!("[::1]:{}", peer.port()));
    });
}

/// Nor does an IPv6 address with all its eight groups.
#[test]
fn ipv6_full_bare() {
    reaches("address-object.ipv6-full-bare", V6, "0:0:0:0:0:0:0:1", |info, peer| {
        assert_eq!(info.remote_address(), Some(peer));
    });
}

/// An empty host is refused at once, without a lookup.
#[test]
fn hostname_empty() {
    refuses("", "the host is empty");
}

/// A host with a path.
#[test]
fn hostname_slash() {
    refuses("127.0.0.1/x", "a path");
}

/// A host with a space.
#[test]
fn hostname_space() {
    refuses(" 127.0.0.1", "white space");
}

/// A host that is not ASCII.
#[test]
fn hostname_idn() {
    refuses("b\u{fc}cher.test", "non-ASCII");
}

/// A host in upper case is kept as it was written.
#[test]
fn hostname_upper() {
    reaches("address-object.hostname-upper", V4, "GOOD.TEST", |info, _| {
        assert_eq!(info.requested().hostname(), "GOOD.TEST");
    });
}

/// A trailing dot is kept, too.
#[test]
fn hostname_trailing_dot() {
    reaches("address-object.hostname-trailing-dot", V4, "good.test.", |info, _| {
        assert_eq!(info.requested().hostname(), "good.test.");
    });
}

/// `unix` is a name, even if the port is that of a Unix-domain socket.
#[test]
fn hostname_unix() {
    let address = SocketAddress::new("unix", 4570).expect("it is an address");
    is_a_plain_name("address-object.hostname-unix", address, Names::new());
}

/// The limit of 255 bytes applies to the host alone.
#[test]
fn hostname_long() {
    let host = |length| (0..length).map(|at| if at % 64 == 63 { '.' } else { 'a' }).collect();
    for length in [251, 255] {
        let host: String = host(length);
        let address = SocketAddress::new(host.as_str(), 4321).expect("it is not too long");
        assert_eq!(address.hostname(), host);
    }
    let host: String = host(256);
    assert_fails(SocketAddress::new(host, 4321), ErrorKind::InvalidAddress);
}

// -------------------------------------------------------------------- helpers

/// Dials `host` at the port of a peer at `ip`, which has to accept.
#[track_caller]
fn reaches(
    id: &'static str,
    ip: IpAddr,
    host: &'static str,
    check_info: fn(&SocketInfo, SocketAddr),
) {
    let Some(peer) = peer_at(id, ip) else { return };
    let address = SocketAddress::new(host, peer.address().port()).expect("it is an address");
    assert_eq!((address.hostname(), address.port()), (host, peer.address().port()));
    with_watchdog(move || {
        let socket = Names::new().connector().connect(&address).expect("the address is valid");
        let info = at_once(|| socket.opened()).expect("the peer listens");
        assert_eq!(info.requested(), &address);
        check_info(&info, peer.address());
        socket.close().expect("the close succeeds");
        assert_eq!(info.local_address(), Some(peer.finish().from));
    });
}

/// Checks that `host` is invalid: the message names the fault, and nothing is dialled.
#[track_caller]
fn refuses(host: &str, fault: &str) {
    let listener = listen();
    let port = listener.local_addr().expect("it listens").port();
    let error = SocketAddress::new(host, port).expect_err("the host is invalid");
    assert_eq!(error.kind(), ErrorKind::InvalidAddress);
    assert!(error.to_string().contains(fault), "{error} does not contain {fault:?}");
    assert_fails(at_once(|| sockeye::connect((host, port))), ErrorKind::InvalidAddress);
    assert_no_connection(&listener);
}
