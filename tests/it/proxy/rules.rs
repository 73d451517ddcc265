//! Egress rules and proxies: what this side can judge, it judges; what it cannot, it refuses.

use std::net::{IpAddr, SocketAddr};

use sockeye::{
    Connector, EgressRules, ErrorKind, NoProxy, Proxy, ProxyReply, ProxyRules, SocketOptions, Step,
};

use super::relay::Relay;
use super::{http, socks5};
use crate::support::peer::{Server, closed_port};
use crate::support::{assert_fails, with_watchdog};

fn with_rules(rules: EgressRules, proxy: impl Into<ProxyRules>) -> Connector {
    Connector::builder().egress(rules).proxy(proxy).build().expect("the rules can be judged")
}

#[test]
fn rules_for_nets_need_a_proxy_that_does_not_resolve_or_that_is_trusted() {
    let proxy = || Proxy::socks5("proxy.test:1080").unwrap();
    let build = |rules: EgressRules, proxies: ProxyRules| {
        Connector::builder().egress(rules).proxy(proxies).build().map(|_| ())
    };
    let restricting: [fn() -> EgressRules; 4] =
        [EgressRules::public_only, EgressRules::workers, EgressRules::deny_all, || {
            EgressRules::allow_all().deny_net("10.0.0.0/8").unwrap()
        }];
    for rules in restricting {
        let error = build(rules(), proxy().into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains("proxy.test:1080"), "{error}");
        assert_fails(build(rules(), ProxyRules::new().tls(proxy())), ErrorKind::InvalidOptions);
        let one_of_two = ProxyRules::new().all(proxy().resolve_locally()).tls(proxy());
        assert_fails(build(rules(), one_of_two), ErrorKind::InvalidOptions);
        build(rules(), proxy().resolve_locally().into()).unwrap();
        build(rules(), proxy().trust_proxy_filtering().into()).unwrap();
        build(rules(), ProxyRules::new()).unwrap();
    }
    let harmless = EgressRules::allow_all().deny_port(25).deny_host("example.com").unwrap();
    build(harmless, proxy().into()).unwrap();
}

#[test]
fn the_target_is_judged_by_host_port_and_literal_address() {
    with_watchdog(|| {
        let relay = Relay::start();
        // The proxy itself is the program's choice.
        let rules = EgressRules::public_only().deny_port(25).deny_host("denied.test").unwrap();
        let connector = with_rules(rules, http(relay.address()).trust_proxy_filtering());
        for target in ["denied.test:80", "example.com:25", "10.0.0.1:80", "[::1]:80"] {
            let error = connector.connect(target).unwrap_err();
            assert_eq!((error.kind(), error.step()), (ErrorKind::Denied, Some(Step::Connect)));
        }
        assert!(relay.requested().is_empty());
        let echo = Server::echoes();
        connector.connect(("trusted.test", echo.address().port())).unwrap().opened().unwrap();
        assert_eq!(relay.requested().len(), 1);
        assert_eq!(connector.stats().denied, 4);
    });
}

#[test]
fn neither_the_proxy_nor_the_target_may_be_an_own_listener() {
    with_watchdog(|| {
        let (relay, target) = (Relay::start(), closed_port());
        for own in [relay.address(), target.address] {
            let rules = EgressRules::allow_all().own_listener(own);
            let connector = with_rules(rules, socks5(relay.address()));
            let socket = connector.connect(target.address).unwrap();
            let error = socket.opened().unwrap_err();
            assert_eq!((error.kind(), error.step()), (ErrorKind::Loop, Some(Step::Connect)));
        }
        // Every local address.
        let any = ([0, 0, 0, 0], target.address.port()).into();
        let connector =
            with_rules(EgressRules::allow_all().own_listener(any), http(relay.address()));
        assert_fails(connector.connect(target.address).unwrap().opened(), ErrorKind::Loop);
        // A listener that is open now.
        let listener = sockeye::listen("127.0.0.1:0").unwrap();
        let rules = EgressRules::allow_all().deny_own_listeners();
        let connector = with_rules(rules, http(relay.address()));
        let own = listener.local_address().unwrap();
        assert_fails(connector.connect(own).unwrap().opened(), ErrorKind::Loop);
        assert!(relay.requested().is_empty());
    });
}

/// The proxy that the first address would choose must not decide for the others.
#[test]
fn several_addresses_need_the_same_way() {
    with_watchdog(|| {
        let (relay, echo) = (Relay::start(), Server::echoes());
        let rules = ProxyRules::new().all(http(relay.address()));
        let connector = |exceptions: &str| {
            let rules = rules.clone().except(NoProxy::parse(exceptions));
            Connector::builder().proxy(rules).build().unwrap()
        };
        let (direct, behind) = (([127, 0, 0, 2], 9).into(), echo.address());
        let mixed = connector("127.0.0.2");
        for addresses in [[direct, behind], [behind, direct]] {
            let error = mixed.connect_addrs(&addresses, SocketOptions::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOptions);
            let text = format!("send {behind} to a proxy and except {direct}");
            assert!(error.to_string().contains(&text), "{error}");
        }
        assert!(relay.requested().is_empty());
        let bypassing = SocketOptions::new().bypass_proxy(true);
        mixed.connect_addrs(&[direct, behind], bypassing).unwrap().opened().unwrap();
        let all = connector("127.0.0.0/8");
        all.connect_addrs(&[direct, behind], SocketOptions::new()).unwrap().opened().unwrap();
        assert!(relay.requested().is_empty());
        let none = connector("10.0.0.0/8");
        let socket = none.connect_addrs(&[behind, direct], SocketOptions::new()).unwrap();
        socket.opened().unwrap();
        assert_eq!(relay.requested().len(), 1);

        // An address that the rules forbid decides nothing.
        let egress = EgressRules::allow_all().deny_host("127.0.0.2").unwrap();
        let rules = rules.clone().except(NoProxy::parse("127.0.0.2"));
        let connector = with_rules(egress, rules);
        let socket = connector.connect_addrs(&[direct, behind], SocketOptions::new()).unwrap();
        socket.opened().unwrap();
        assert_eq!(relay.requested().len(), 2);
    });
}

#[test]
fn an_own_listener_of_the_target_is_skipped_and_named() {
    with_watchdog(|| {
        let (relay, echo) = (Relay::start(), Server::echoes());
        let port = echo.address().port();
        let own = SocketAddr::from(([127, 0, 0, 2], port));
        let _listener = sockeye::listen(own).unwrap();
        let connector = |addresses: &[&str]| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            Connector::builder()
                .resolver(move |_: &str| Ok(addresses.clone()))
                .egress(EgressRules::allow_all().deny_own_listeners())
                .proxy(http(relay.address()).resolve_locally())
                .build()
                .unwrap()
        };
        let skips = connector(&["127.0.0.2", "127.0.0.1"]);
        skips.connect(("db.test", port)).unwrap().opened().unwrap();
        assert_eq!(relay.requested(), [format!("127.0.0.1 {port}")]);

        let fails = connector(&["127.0.0.2"]);
        for target in ["db.test", "127.0.0.2"] {
            let error = fails.connect((target, port)).unwrap().opened().unwrap_err();
            assert_eq!((error.kind(), error.step()), (ErrorKind::Loop, Some(Step::Connect)));
            let [attempt] = error.attempts() else { panic!("{:?}", error.attempts()) };
            assert_eq!((attempt.address(), attempt.error().kind()), (own, ErrorKind::Loop));
            assert!(!error.to_string().contains(&relay.address().to_string()), "{error}");
        }
        // A denial is the error only if the proxy got no address.
        let last = connector(&["127.0.0.3", "127.0.0.2"]);
        let error = last.connect(("db.test", port)).unwrap().opened().unwrap_err();
        assert_eq!(error.proxy_reply(), Some(ProxyReply::Http(502)), "{error}");
        assert_eq!(error.step(), Some(Step::Proxy));
        let kinds: Vec<_> = error.attempts().iter().map(|it| it.error().kind()).collect();
        assert_eq!(kinds, [ErrorKind::Proxy, ErrorKind::Loop]);
        assert_eq!(relay.requested().len(), 2);
    });
}
