//! Lists of known addresses, which race like the addresses of a name.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sockeye::{Connector, EgressRules, ErrorKind, Phase, SecureTransport, SocketOptions};
use sockeye::{TcpOptions, TlsOptions};

use super::holds;
use crate::support::peer::{assert_no_connection, black_hole, closed_port, listen};
use crate::support::tls::{TlsPeer, authority, server_config, trust_only, trust_only_names, with};
use crate::support::{PROMPT, WATCHDOG, assert_fails, at_once, read_exactly, with_watchdog};

/// Returns a connector with a counter of its lookups, which stays 0.
fn connector(rules: EgressRules) -> (Connector, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let resolver = move |_: &str| -> io::Result<Vec<IpAddr>> {
        counting.fetch_add(1, Ordering::SeqCst);
        Ok(Vec::new())
    };
    let connector = Connector::builder().egress(rules).resolver(resolver).build();
    (connector.expect("the rules are valid"), asked)
}

#[test]
fn the_first_address_that_answers_is_reached_without_a_lookup() {
    with_watchdog(|| {
        let (connector, asked) = connector(EgressRules::allow_all());
        let server = holds();
        let (gone, hole) = (closed_port(), black_hole());
        for list in [
            vec![server.address()],
            vec![gone.address, server.address()],
            vec![hole.address, gone.address, server.address()],
            vec![gone.address, gone.address, server.address(), hole.address],
        ] {
            let socket = at_once(|| connector.connect_addrs(&list, SocketOptions::new()))
                .expect("the list is valid");
            let info = socket.opened_timeout(WATCHDOG).expect("one address answers");
            assert_eq!(info.remote_address(), Some(server.address()));
            assert_eq!(info.requested().to_string(), list[0].to_string());
            assert!(info.timings().resolve < PROMPT, "no name is resolved");
            socket.abort();
        }
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn if_none_answers_every_attempt_is_reported() {
    with_watchdog(|| {
        let (connector, _) = connector(EgressRules::allow_all());
        let gone = [closed_port(), closed_port()];
        let list = gone.each_ref().map(|nothing| nothing.address);
        let socket = connector.connect_addrs(&list, SocketOptions::new()).expect("it is valid");
        let error = socket.opened().expect_err("nothing listens");
        assert_eq!(error.kind(), ErrorKind::Connect);
        let attempts: Vec<_> = error.attempts().iter().map(|one| one.address()).collect();
        assert_eq!(attempts, list);
        assert!(error.to_string().contains(&list[0].to_string()), "{error}");
    });
}

#[test]
fn an_empty_list_and_port_0_are_invalid() {
    let (connector, _) = connector(EgressRules::allow_all());
    let error = connector.connect_addrs(&[], SocketOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidAddress);
    assert!(error.to_string().contains("empty"), "{error}");
    let listener = listen();
    let address = listener.local_addr().expect("it listens");
    for list in
        [[address, (Ipv4Addr::LOCALHOST, 0).into()], [(Ipv4Addr::LOCALHOST, 0).into(), address]]
    {
        let error = connector.connect_addrs(&list, SocketOptions::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidAddress, "{error}");
    }
    let bad = SocketOptions::new().close_timeout(std::time::Duration::ZERO);
    assert_fails(connector.connect_addrs(&[address], bad).map(drop), ErrorKind::InvalidOptions);
    assert_eq!(connector.shutdown(WATCHDOG), 0);
    let late = connector.connect_addrs(&[address], SocketOptions::new());
    assert_fails(late.map(drop), ErrorKind::Closed);
    assert_no_connection(&listener);
}

#[test]
fn the_egress_rules_check_each_address() {
    with_watchdog(|| {
        let server = holds();
        let port = server.address().port();
        let forbidden = SocketAddr::from(([127, 0, 0, 2], port));
        // Rules about nets, hosts and ports.
        let net = EgressRules::allow_all().deny_net("127.0.0.2").expect("it is an address");
        let host = EgressRules::allow_all().deny_host("127.0.0.2").expect("it is an address");
        let only = EgressRules::deny_all()
            .allow_host("127.0.0.1")
            .and_then(|rules| rules.allow_net("127.0.0.0/8"))
            .expect("they are valid")
            .allow_port(port);
        for rules in [net, host, only] {
            let (connector, _) = connector(rules);
            for list in [[forbidden, server.address()], [server.address(), forbidden]] {
                let socket =
                    connector.connect_addrs(&list, SocketOptions::new()).expect("one is allowed");
                let info = socket.opened().expect("the allowed address answers");
                assert_eq!(info.remote_address(), Some(server.address()));
                assert_eq!(info.requested().to_string(), list[0].to_string());
                socket.abort();
            }
            let denied = connector
                .connect_addrs(&[forbidden, forbidden], SocketOptions::new())
                .and_then(|socket| socket.opened().map(drop));
            assert_fails(denied, ErrorKind::Denied);
            assert_eq!(connector.stats().denied, 1);
        }
        let own = EgressRules::allow_all().own_listener(forbidden);
        let (connector, _) = connector(own);
        let socket = connector
            .connect_addrs(&[forbidden], SocketOptions::new())
            .expect("names are checked later");
        assert_fails(socket.opened().map(drop), ErrorKind::Loop);
    });
}

#[test]
fn addresses_of_another_family_than_the_bound_one_are_skipped() {
    with_watchdog(|| {
        let (connector, _) = connector(EgressRules::allow_all());
        let server = holds();
        let other = SocketAddr::from((Ipv6Addr::LOCALHOST, server.address().port()));
        let list = [other, server.address()];
        let tcp = TcpOptions::new().bind((Ipv4Addr::LOCALHOST, 0).into());
        let socket =
            connector.connect_addrs(&list, SocketOptions::new().tcp(tcp)).expect("it is valid");
        let info = socket.opened().expect("the other address answers");
        assert_eq!(info.remote_address(), Some(server.address()));
    });
}

#[test]
fn they_take_a_slot_and_end_with_their_scope() {
    with_watchdog(|| {
        let server = holds();
        let list = [server.address()];
        let connector = super::limited(1);
        let kept = connector.scope(|scope| {
            let socket = scope.connect_addrs(&list, SocketOptions::new()).expect("it is valid");
            socket.opened().expect("the peer listens");
            assert_fails(
                connector.connect_addrs(&list, SocketOptions::new()).map(drop),
                ErrorKind::Limit,
            );
            socket
        });
        assert_eq!(kept.phase(), Phase::Closed);
        let patient = super::patient(1);
        let first = super::open(&patient, &server);
        let second = patient.connect_addrs(&list, SocketOptions::new()).expect("it waits");
        first.close().expect("the close succeeds");
        second.opened().expect("a slot is free now");
    });
}

#[test]
fn the_server_name_defaults_to_the_first_address() {
    with_watchdog(|| {
        let (connector, _) = connector(EgressRules::allow_all());
        let gone = closed_port();
        let open = |peer: &TlsPeer, tls: TlsOptions| {
            let list = [gone.address, peer.address()];
            let socket = connector.connect_addrs(&list, with(SecureTransport::On, tls));
            let socket = socket.expect("the list and the options are valid");
            socket.opened().map(|_| socket)
        };
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.handshake();
            peer.send(b"secret");
        });
        let socket =
            open(&peer, trust_only(authority())).expect("the certificate is for localhost");
        assert_eq!(read_exactly(&socket, 6).expect("the peer sends"), b"secret");
        let peer = TlsPeer::refused(&server_config());
        let error = open(&peer, trust_only_names(authority()))
            .expect_err("the certificate lacks the address");
        assert_eq!(error.kind(), ErrorKind::Tls);
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
    });
}
