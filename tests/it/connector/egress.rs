//! Egress rules in use: the addresses that a connector with rules dials, and its errors for the others.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sockeye::{Connector, EgressRules, Error, ErrorKind, SocketOptions, TcpOptions, connect_with};

use super::holds;
use crate::support::net::{self, TcpListener};
use crate::support::peer::{assert_no_connection, closed_port, listen, listen_on};
use crate::support::{
    PROMPT, Peer, assert_fails, at_once, crate_kind, read, spawn_blocked, with_watchdog,
};

/// The message of the Workers platform.
const REFUSED: &str = "proxy request failed, cannot connect to the specified address";

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn under(rules: EgressRules) -> Connector {
    Connector::builder().egress(rules).build().expect("the settings are valid")
}

/// Returns a connector that resolves every name to these addresses, and a counter of its lookups.
fn resolving(rules: EgressRules, answer: &[IpAddr]) -> (Connector, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (counting, answer) = (Arc::clone(&asked), answer.to_vec());
    let resolver = move |_: &str| -> io::Result<Vec<IpAddr>> {
        counting.fetch_add(1, Ordering::SeqCst);
        Ok(answer.clone())
    };
    let connector = Connector::builder().egress(rules).resolver(resolver).build();
    (connector.expect("the settings are valid"), asked)
}

/// Allows all addresses except this one.
fn all_but(denied: IpAddr) -> EgressRules {
    EgressRules::allow_all().deny_net(&denied.to_string()).expect("it is an address")
}

#[track_caller]
fn denied(error: &Error, rule: &str) {
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    let text = error.to_string();
    assert!(text.contains(REFUSED) && text.contains(rule), "no {rule:?}: {text}");
    assert!(!error.is_retryable());
    let io = io::Error::from(error.clone());
    assert_eq!((io.kind(), crate_kind(&io)), (io::ErrorKind::PermissionDenied, ErrorKind::Denied));
}

// -------------------------------------------------------------------- at connect

#[test]
fn a_numeric_address_is_refused_by_connect_itself() {
    let listener = listen();
    let address = listener.local_addr().expect("it is bound");
    let connector = under(EgressRules::public_only());
    let error = at_once(|| connector.connect(address)).unwrap_err();
    denied(&error, "127.0.0.1 is in 127.0.0.0/8 (Loopback");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(error.attempts().is_empty(), "no address was dialled");
    let mapped = format!("[::ffff:127.0.0.1]:{}", address.port());
    denied(
        &connector.connect(mapped).unwrap_err(),
        "stands for 127.0.0.1, which is in 127.0.0.0/8",
    );
    let unspecified = ("0.0.0.0", address.port());
    denied(&connector.connect(unspecified).unwrap_err(), "0.0.0.0 is in 0.0.0.0/");
    connector.scope(|scope| denied(&scope.connect(address).unwrap_err(), "127.0.0.0/8"));
    assert_eq!(connector.open_sockets(), 0);
    assert_no_connection(&listener);
}

#[test]
fn a_host_is_refused_by_connect_itself_without_a_lookup() {
    let rules = EgressRules::allow_all().deny_host("*.internal.test").expect("it is a pattern");
    let (connector, asked) = resolving(rules, &[LOCALHOST]);
    for host in ["a.internal.test", "A.B.INTERNAL.test", "a.internal.test."] {
        denied(&connector.connect((host, 80)).unwrap_err(), "*.internal.test");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    let nothing = closed_port();
    let socket = connector.connect(("internal.test", nothing.address.port()));
    assert_fails(socket.expect("the rules allow this host").opened(), ErrorKind::Connect);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn port_25_is_refused_with_the_text_of_the_platform() {
    let (connector, asked) = resolving(EgressRules::workers(), &[LOCALHOST]);
    for host in ["mail.example.com", "127.0.0.1", "8.8.8.8"] {
        let error = connector.connect((host, 25)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("Connections to port 25 are prohibited"), "{error}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[test]
fn an_allow_list_needs_a_rule_of_each_kind() {
    with_watchdog(|| {
        let server = holds();
        let port = server.address().port();
        let all = || {
            EgressRules::deny_all()
                .allow_host("good.test")
                .and_then(|rules| rules.allow_port(port).allow_net("127.0.0.1"))
                .expect("they are valid")
        };
        let (connector, _) = resolving(all(), &[LOCALHOST]);
        let socket = connector.connect(("good.test", port)).expect("it is allowed");
        socket.opened().expect("the peer listens");
        denied(&connector.connect(("bad.test", port)).unwrap_err(), "no rule allows the host");
        denied(&connector.connect(("good.test", port ^ 1)).unwrap_err(), "no rule allows port");
        // A numeric host needs a rule for hosts, too.
        denied(&connector.connect(server.address()).unwrap_err(), "no rule allows the host");
        let literal = under(all().allow_host("127.0.0.1").expect("it is a host"));
        literal.connect(server.address()).expect("allowed").opened().expect("the peer listens");
        let (connector, _) = resolving(all(), &[NEIGHBOUR]);
        let socket = connector.connect(("good.test", port)).expect("names are checked later");
        denied(&socket.opened().unwrap_err(), "no rule allows 127.0.0.2");
    });
}

// -------------------------------------------------------------------- resolved addresses

#[test]
fn a_name_with_a_denied_address_fails_and_no_call_hangs() {
    with_watchdog(|| {
        let listener = listen();
        let port = listener.local_addr().expect("it is bound").port();
        let (connector, _) = resolving(EgressRules::public_only(), &[LOCALHOST]);
        let socket = connector.connect(("private.test", port)).expect("names are checked later");
        let reader = socket.reader();
        let reading = spawn_blocked(move || read(reader, 1));
        let error = socket.opened().unwrap_err();
        denied(&error, "127.0.0.1 is in 127.0.0.0/8 (Loopback");
        assert!(error.to_string().contains("private.test"), "{error}");
        let attempts: Vec<_> = error.attempts().iter().map(|attempt| attempt.address()).collect();
        assert_eq!(attempts, [SocketAddr::new(LOCALHOST, port)]);
        denied(error.attempts()[0].error(), "127.0.0.0/8");
        assert_fails(reading.join(), ErrorKind::Denied);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Denied);
        assert_no_connection(&listener);
    });
}

/// Listens on one port of the neighbour and of localhost, in this order. Another test may have the port of the latter.
fn listen_on_both() -> (TcpListener, TcpListener, u16) {
    let mut taken = Vec::new();
    loop {
        let allowed = listen_on((NEIGHBOUR, 0).into(), 16, None);
        let port = allowed.local_addr().expect("it is bound").port();
        match net::listen_on((LOCALHOST, port).into(), 16, None) {
            Ok(forbidden) => return (allowed, forbidden, port),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && taken.len() < 50 => {
                taken.push(allowed);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn only_the_allowed_addresses_of_a_mixed_answer_are_dialled() {
    with_watchdog(|| {
        let (_allowed, forbidden, port) = listen_on_both();
        let (connector, _) = resolving(all_but(LOCALHOST), &[LOCALHOST, NEIGHBOUR]);
        let socket = connector.connect(("mixed.test", port)).expect("names are checked later");
        let info = socket.opened().expect("one is allowed");
        assert_eq!(info.remote_address(), Some((NEIGHBOUR, port).into()));
        assert_no_connection(&forbidden);
    });
}

#[test]
fn if_the_allowed_addresses_fail_the_error_is_theirs_and_lists_the_denied() {
    with_watchdog(|| {
        let nothing = closed_port();
        let port = nothing.address.port();
        let (connector, _) = resolving(all_but(NEIGHBOUR), &[NEIGHBOUR, LOCALHOST]);
        let socket = connector.connect(("mixed.test", port)).expect("names are checked later");
        let error = socket.opened().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert_eq!(io::Error::from(error.clone()).kind(), io::ErrorKind::ConnectionRefused);
        let kinds: Vec<_> = error
            .attempts()
            .iter()
            .map(|attempt| (attempt.address().ip(), attempt.error().kind()))
            .collect();
        assert_eq!(kinds, [(NEIGHBOUR, ErrorKind::Denied), (LOCALHOST, ErrorKind::Connect)]);
        assert!(error.to_string().contains(REFUSED), "{error}");
    });
}

/// The checked address is the dialled one: no second lookup could return another address.
#[test]
fn dns_rebinding_does_not_bypass_the_rules() {
    with_watchdog(|| {
        let (forbidden, _allowed, port) = listen_on_both();
        let asked = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&asked);
        let rebinding = move |_: &str| -> io::Result<Vec<IpAddr>> {
            let first = counting.fetch_add(1, Ordering::SeqCst) == 0;
            Ok(vec![if first { LOCALHOST } else { NEIGHBOUR }])
        };
        let rules = all_but(NEIGHBOUR);
        let connector = Connector::builder().egress(rules).resolver(rebinding).build();
        let connector = connector.expect("the settings are valid");
        let socket = connector.connect(("rebound.test", port)).expect("names are checked later");
        let info = socket.opened().expect("the address is allowed");
        assert_eq!(info.remote_address(), Some((LOCALHOST, port).into()));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // The next connection resolves the name again, and its answer is checked again.
        let socket = connector.connect(("rebound.test", port)).expect("names are checked later");
        denied(&socket.opened().unwrap_err(), "127.0.0.2");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        assert_no_connection(&forbidden);
    });
}

/// Spellings that some systems parse as 127.0.0.1. Here they are names, and the rules check the addresses that the
/// system returns for them.
#[test]
fn the_rules_check_the_dialled_address_of_unusual_spellings() {
    with_watchdog(|| {
        let listener = listen();
        let port = listener.local_addr().expect("it is bound").port();
        let (private, open) = (under(EgressRules::public_only()), under(EgressRules::allow_all()));
        for host in ["127.1", "0x7f.1", "017700000001", "2130706433", "0x7f000001", "127.0.1"] {
            let socket = private.connect((host, port)).expect("it is a name");
            let error = socket.opened().unwrap_err();
            // If the system does not parse the spelling as an address, the name is unknown.
            match open.connect((host, port)).expect("it is a name").opened() {
                Ok(info) => {
                    assert_eq!(info.remote_address(), Some((LOCALHOST, port).into()), "{host}");
                    denied(&error, "127.0.0.1 is in 127.0.0.0/8");
                    listener.accept().expect("it was allowed");
                }
                Err(_) => assert_eq!(error.kind(), ErrorKind::Resolve, "{host}: {error}"),
            }
        }
        for host in
            ["127.0.0.1\0", "127.0.0.1\0.example.com", "127.0.0.1%00", " 127.0.0.1", "①27.0.0.1"]
        {
            assert_fails(private.connect((host, port)), ErrorKind::InvalidAddress);
        }
        assert_no_connection(&listener);
    });
}

/// The resolver returns IPv4 addresses embedded in IPv6 addresses of all kinds.
#[test]
fn the_rules_check_ipv4_addresses_embedded_in_answers() {
    with_watchdog(|| {
        let inside = [
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::10.0.0.1",
            "2002:a00:1::1",
            "2001:0:808:808::f5ff:fffe",
            "2001:db8::5efe:10.0.0.1",
        ];
        let answer: Vec<IpAddr> =
            inside.iter().map(|ip| IpAddr::V6(ip.parse().expect("it is an address"))).collect();
        let rules = EgressRules::allow_all().deny_net("10.0.0.0/8").expect("it is a net");
        let (connector, _) = resolving(rules, &answer);
        let socket = connector.connect(("clothed.test", 80)).expect("names are checked later");
        let error = socket.opened().unwrap_err();
        denied(&error, "stands for 10.0.0.1, which is in 10.0.0.0/8, which a rule denies");
        assert_eq!(error.attempts().len(), inside.len());
    });
}

// -------------------------------------------------------------------- loops

#[test]
fn a_listener_of_this_process_is_a_loop_and_is_not_dialled() {
    with_watchdog(|| {
        let own = listen();
        let address = own.local_addr().expect("it is bound");
        for listener in [address, (Ipv4Addr::UNSPECIFIED, address.port()).into()] {
            let rules = EgressRules::allow_all().own_listener(listener);
            let (connector, _) = resolving(rules, &[LOCALHOST]);
            for host in ["127.0.0.1", "0.0.0.0", "[::ffff:127.0.0.1]", "self.test"] {
                let socket = connector.connect(format!("{host}:{}", address.port()));
                let error = socket.expect("`opened` reports it").opened().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Loop, "{host}: {error}");
                assert!(error.to_string().contains("TCP Loop detected"), "{error}");
                let io = io::Error::from(error);
                assert_eq!(io.kind(), io::ErrorKind::PermissionDenied);
            }
        }
        assert_no_connection(&own);
        let rules = EgressRules::allow_all().own_listener(address);
        let peer = Peer::reading();
        let other = under(rules).connect(peer.address()).expect("it is another address");
        other.opened().expect("the peer listens");
    });
}

/// Only the system knows which addresses are this machine's.
#[test]
fn a_listener_on_every_address_is_found_at_the_addresses_of_the_interfaces() {
    with_watchdog(|| {
        let own = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0));
        let own = own.or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)));
        let own = own.expect("a port is free");
        let address = own.local_addr().expect("it is bound");
        let connector = under(EgressRules::allow_all().own_listener(address));
        // 192.0.2.1 belongs to no machine; a route to it, if there is one, begins at an address of this machine.
        let interface = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
            socket.connect(("192.0.2.1", 9))?;
            socket.local_addr()
        });
        let mut mine = vec![NEIGHBOUR];
        mine.extend(interface.map(|address| address.ip()));
        for ip in mine {
            let socket = connector.connect((ip, address.port())).expect("`opened` reports it");
            assert_fails(socket.opened(), ErrorKind::Loop);
        }
        assert_no_connection(&own);
    });
}

#[test]
fn a_socket_bound_to_the_address_that_it_dials_is_a_loop() {
    with_watchdog(|| {
        let nothing = closed_port();
        let address = nothing.address;
        drop(nothing);
        let options = SocketOptions::new().tcp(TcpOptions::new().bind(address));
        let error =
            connect_with(address, options).expect("`opened` reports it").opened().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Loop);
        assert!(error.to_string().contains("TCP Loop detected"), "{error}");
    });
}

// -------------------------------------------------------------------- the example

#[cfg(unix)]
#[test]
fn the_egress_example_shows_refusals_and_reaches_no_internal_server() {
    use crate::support::example::{run, stderr_text, text};
    let name =
        "connector::egress::the_egress_example_shows_refusals_and_reaches_no_internal_server";
    let Some(output) = run(name, "egress", &[], "") else { return };
    let shown = text(&output.stdout);
    assert_eq!(stderr_text(&output), "");
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert_eq!(shown.matches("a page of the Internet").count(), 2, "{shown}");
    assert_eq!(shown.matches("127.0.0.2 is in 127.0.0.0/8").count(), 5, "{shown}");
    assert!(!shown.contains("salmon"), "the internal server was reached:\n{shown}");
    for part in [
        "stands for 127.0.0.2, which is in 127.0.0.0/8",
        "Connections to port 25 are prohibited",
        "Loop: ",
        "TCP Loop detected",
        "shut down, 0 sockets",
    ] {
        assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
    }
}
