//! Addresses as text and as pairs, dialled: which of them reach a peer, and which are refused before
//! anything is sent.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use sockeye::{ErrorKind, SocketAddress};

use crate::support::peer::{listen, listen_on, nobody_came};
use crate::support::{PATIENCE, Verdict, at_once, fails, skip, story};

// -------------------------------------------------------------------- addresses that reach a peer

/// Dials `text`, with `PORT` for the listener's port, and gives the peer's address and how the address
/// that was asked for prints.
#[track_caller]
fn reaches(listener: &TcpListener, text: &str) -> (SocketAddr, SocketAddress) {
    let address = listener.local_addr().expect("it listens");
    let text = text.replace("PORT", &address.port().to_string());
    let socket = sockeye::connect(text.as_str()).expect("the address is fine");
    let info = socket.opened_timeout(PATIENCE).expect("the peer listens");
    let (_, from) = listener.accept().expect("the connection is there");
    assert_eq!(info.local_address().map(canonical), Some(canonical(from)));
    socket.abort();
    (info.remote_address().expect("it was connected"), info.requested().clone())
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A listener on `::1`, where the machine has it.
fn listen6() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0))
}

#[test]
fn address_string_ipv4() {
    story(|| {
        let listener = listen();
        let address = listener.local_addr().expect("it listens");
        let (remote, requested) = reaches(&listener, "127.0.0.1:PORT");
        assert_eq!(remote, address);
        assert_eq!(requested.to_string(), address.to_string());
    });
}

#[test]
fn address_string_ipv6_bracketed() {
    reaches_loopback6("address-string.ipv6-bracketed", "[::1]:PORT", "::1");
}

#[test]
fn address_string_ipv6_full() {
    reaches_loopback6("address-string.ipv6-full", "[0:0:0:0:0:0:0:1]:PORT", "0:0:0:0:0:0:0:1");
}

fn reaches_loopback6(id: &str, text: &'static str, hostname: &'static str) {
    let Ok(listener) = listen6() else {
        return skip(id, "no IPv6 here");
    };
    story(move || {
        let address = listener.local_addr().expect("it listens");
        let (remote, requested) = reaches(&listener, text);
        assert_eq!(remote, address);
        assert_eq!(requested.hostname(), hostname);
        assert_eq!(requested.to_string(), text.replace("PORT", &address.port().to_string()));
    });
}

#[test]
fn address_string_ipv6_mapped() {
    reaches_mapped("[::ffff:127.0.0.1]:PORT");
}

#[test]
fn address_string_ipv6_mapped_hex() {
    reaches_mapped("[::ffff:7f00:1]:PORT");
}

fn reaches_mapped(text: &'static str) {
    story(move || {
        let listener = listen();
        let (remote, _) = reaches(&listener, text);
        assert_eq!(remote.ip().to_canonical(), IpAddr::from(Ipv4Addr::LOCALHOST));
    });
}

#[test]
fn address_string_localhost() {
    story(|| {
        // Where the name has two addresses the listener's is reached in the end.
        let listener = listen();
        let (remote, requested) = reaches(&listener, "localhost:PORT");
        assert!(remote.ip().is_loopback(), "{remote}");
        assert_eq!(requested.to_string(), format!("localhost:{}", remote.port()));
    });
}

#[test]
fn address_string_port_65535() {
    let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, 65_535)) else {
        return skip("address-string.port-65535", "the port is taken");
    };
    story(move || {
        reaches(&listener, "127.0.0.1:65535");
    });
}

/// Old spellings are names, which the system's resolver of glibc knows.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn address_string_ipv4_short() {
    old_spelling("127.1:PORT");
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn address_string_ipv4_decimal() {
    old_spelling("2130706433:PORT");
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn address_string_ipv4_hex() {
    old_spelling("0x7f.0.0.1:PORT");
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn old_spelling(text: &'static str) {
    story(move || {
        let listener = listen();
        let (remote, requested) = reaches(&listener, text);
        assert_eq!(remote, listener.local_addr().expect("it listens"));
        assert_eq!(requested.to_string(), text.replace("PORT", &remote.port().to_string()));
    });
}

#[test]
fn address_object_ipv4() {
    reaches_pair("127.0.0.1", listen());
}

#[test]
fn address_object_ipv6_bare() {
    match listen6() {
        Ok(listener) => reaches_pair("::1", listener),
        Err(_) => skip("address-object.ipv6-bare", "no IPv6 here"),
    }
}

#[test]
fn address_object_ipv6_full_bare() {
    match listen6() {
        Ok(listener) => reaches_pair("0:0:0:0:0:0:0:1", listener),
        Err(_) => skip("address-object.ipv6-full-bare", "no IPv6 here"),
    }
}

#[test]
fn a_bracketed_ipv6_host_of_a_pair_is_fine_as_well() {
    match listen6() {
        Ok(listener) => reaches_pair("[::1]", listener),
        Err(_) => skip("a_bracketed_ipv6_host_of_a_pair", "no IPv6 here"),
    }
}

fn reaches_pair(host: &'static str, listener: TcpListener) {
    story(move || {
        let address = listener.local_addr().expect("it listens");
        let pair = SocketAddress::new(host, address.port()).expect("it is an address");
        let bare = host.trim_matches(['[', ']']);
        assert_eq!((pair.hostname(), pair.port()), (bare, address.port()));
        if bare.contains(':') {
            assert_eq!(pair.to_string(), format!("[{bare}]:{}", address.port()));
        }
        for socket in [
            sockeye::connect(&pair),
            sockeye::connect((host, address.port())),
            sockeye::connect(address),
        ] {
            let socket = socket.expect("the address is fine");
            let info = socket.opened_timeout(PATIENCE).expect("the peer listens");
            assert_eq!(info.remote_address(), Some(address));
            socket.abort();
        }
    });
}

// -------------------------------------------------------------------- addresses that reach nobody

#[test]
fn address_string_port_443_refused() {
    fails_to_connect("address-string.port-443-refused", (Ipv4Addr::LOCALHOST, 443).into());
}

#[test]
fn address_string_broadcast() {
    fails_to_connect("address-string.broadcast", (Ipv4Addr::BROADCAST, 4321).into());
}

fn fails_to_connect(id: &str, address: SocketAddr) {
    if std::net::TcpStream::connect(address).is_ok() {
        return skip(id, "something listens there");
    }
    story(move || {
        let socket = sockeye::connect(address).expect("the address is fine");
        let error = at_once(|| socket.opened()).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert_eq!(error.attempts().len(), 1);
        assert_eq!(error.attempts()[0].address(), address);
    });
}

#[test]
fn address_string_ipv4_5parts() {
    never_connects("127.0.0.1.1");
}

#[test]
fn address_string_ipv4_trailing_dot() {
    never_connects("127.0.0.1.");
}

#[test]
fn address_string_dash_only() {
    never_connects("-");
}

fn never_connects(host: &'static str) {
    story(move || {
        let listener = listen();
        let port = listener.local_addr().expect("it listens").port();
        let result = match sockeye::connect(format!("{host}:{port}")) {
            Ok(socket) => socket.opened().map(drop),
            Err(error) => Err(error),
        };
        let failure = result.failure();
        assert!(
            matches!(failure, Some(ErrorKind::InvalidAddress | ErrorKind::Resolve)),
            "{failure:?}"
        );
        nobody_came(&listener);
    });
}

// -------------------------------------------------------------------- texts that are no address

/// The scenario, the text with `PORT` for the port of a listener on 127.0.0.1, and a word of the fault.
const NO_ADDRESSES: &[(&str, &str, &[&str])] = &[
    ("ipv6-unbracketed", "::1:PORT", &["bracket", "colon", "IPv6"]),
    ("no-port", "good.test", &["port"]),
    ("port-0", "127.0.0.1:0", &["port"]),
    ("port-negative", "127.0.0.1:-80", &["port"]),
    ("port-plus", "127.0.0.1:+PORT", &["port"]),
    ("port-alpha", "127.0.0.1:http", &["port"]),
    ("port-space-in", "127.0.0.1:PO RT", &["port", "space"]),
    ("empty", "", &["empty", "port", "host"]),
    ("only-port", ":PORT", &["host", "empty"]),
    ("only-digits", "4321", &["port"]),
    ("scheme-tcp", "tcp://127.0.0.1:PORT", &["scheme", "colon", "character", "path", "IPv6"]),
    ("scheme-slashes", "//127.0.0.1:PORT", &["scheme", "character", "path", "slash"]),
    ("path", "127.0.0.1:PORT/x", &["port", "path"]),
    ("query", "127.0.0.1:PORT?x=1", &["port", "query"]),
    ("fragment", "127.0.0.1:PORT#x", &["port", "fragment"]),
    ("userinfo", "user@127.0.0.1:PORT", &["user", "character"]),
    ("userinfo-pass", "user:pass@127.0.0.1:PORT", &["user", "colon", "character"]),
    ("space-leading", " 127.0.0.1:PORT", &["space"]),
    ("space-trailing", "127.0.0.1:PORT ", &["space", "port"]),
    ("newline-trailing", "127.0.0.1:PORT\n", &["space", "port"]),
    ("idn", "b\u{fc}cher.test:PORT", &["ASCII", "character"]),
    ("unicode-digits", "\u{ff11}27.0.0.1:PORT", &["ASCII", "character"]),
    ("percent", "127%2e0.0.1:PORT", &["character", "percent"]),
    ("double-colon-ports", "127.0.0.1:PORT:PORT", &["colon", "port", "IPv6"]),
    ("star", "*:PORT", &["character"]),
    ("unbalanced-bracket", "[::1:PORT", &["bracket"]),
    ("bracketed-v4", "[127.0.0.1]:PORT", &["bracket", "IPv6"]),
    ("bracketed-name", "[good.test]:PORT", &["bracket", "IPv6"]),
];

#[test]
fn address_strings_that_are_refused_before_anything_is_sent() {
    for (id, text, words) in NO_ADDRESSES {
        story(move || {
            let listener = listen();
            let port = listener.local_addr().expect("it listens").port().to_string();
            let (first, second) = port.split_at(2);
            let text = text.replace("PORT", &port).replace("PO RT", &format!("{first} {second}"));
            let error = at_once(|| sockeye::connect(text.as_str())).expect_err(id);
            assert_eq!(error.kind(), ErrorKind::InvalidAddress, "{id}");
            let message = error.to_string();
            let lower = message.to_lowercase();
            assert!(
                words.iter().any(|word| lower.contains(&word.to_lowercase())),
                "{id}: {message:?} has none of {words:?}"
            );
            let parsed = text.parse::<SocketAddress>().expect_err(id);
            assert_eq!((parsed.kind(), parsed.to_string()), (error.kind(), message), "{id}");
            nobody_came(&listener);
        });
    }
}

#[test]
fn address_object_hosts_that_are_refused() {
    for (id, host) in [
        ("hostname-empty", ""),
        ("hostname-slash", "127.0.0.1/x"),
        ("hostname-space", " 127.0.0.1"),
        ("hostname-idn", "b\u{fc}cher.test"),
        ("space inside", "a b"),
        ("bracketed IPv4", "[127.0.0.1]"),
        ("with a port", "good.test:80"),
        ("NUL", "a\0b"),
    ] {
        let failure = SocketAddress::new(host, 4321).map(drop).failure();
        assert_eq!(failure, Some(ErrorKind::InvalidAddress), "{id}");
    }
    fails(SocketAddress::new("good.test", 0).map(drop), ErrorKind::InvalidAddress);
}

// -------------------------------------------------------------------- texts that are one

#[test]
fn address_string_port_leading_zeros_are_decimal() {
    for (id, text, port) in [
        ("port-leading-zero-080", "127.0.0.1:080", 80),
        ("port-leading-zero-octal", "127.0.0.1:02000", 2000),
        ("port-leading-zeros-many", "127.0.0.1:000002000", 2000),
    ] {
        let address: SocketAddress = text.parse().expect("zeros are fine");
        assert_eq!(address.port(), port, "{id}");
    }
    story(|| {
        let listener = listen_on((Ipv4Addr::LOCALHOST, 0).into(), 16, None);
        let (remote, _) = reaches(&listener, "127.0.0.1:000PORT");
        assert_eq!(remote, listener.local_addr().expect("it listens"));
    });
}

#[test]
fn hosts_keep_their_spelling() {
    for (id, host, port) in [
        ("uppercase", "GOOD.Test", 80),
        ("underscore", "under_score.test", 80),
        ("unix-prefix", "unix", 4567),
        ("unix-abstract-prefix", "unix-abstract", 4568),
        ("hostname-upper", "GOOD.TEST", 80),
        ("hostname-trailing-dot", "good.test.", 80),
        ("hostname-unix", "unix", 4570),
        ("ipv4-short", "127.1", 1),
    ] {
        let address = SocketAddress::new(host, port).expect(id);
        assert_eq!((address.hostname(), address.port()), (host, port), "{id}");
        assert_eq!(address.to_string(), format!("{host}:{port}"), "{id}");
        assert_eq!(address.to_string().parse::<SocketAddress>().expect(id), address, "{id}");
    }
}

#[test]
fn hosts_have_255_bytes_at_most() {
    for (id, length, fine) in [
        ("long-255", 250, true),
        ("long-256", 251, true),
        ("hostname-long", 251, true),
        ("the most", 255, true),
        ("one more", 256, false),
    ] {
        let host: String =
            (0..length).map(|place| if place % 60 == 59 { '.' } else { 'a' }).collect();
        let expected = if fine { None } else { Some(ErrorKind::InvalidAddress) };
        let new = SocketAddress::new(host.clone(), 4321);
        assert_eq!(new.map(drop).failure(), expected, "{id}");
        let parsed = format!("{host}:4321").parse::<SocketAddress>();
        assert_eq!(parsed.map(drop).failure(), expected, "{id}");
    }
}
