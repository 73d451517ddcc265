//! Proxies that get an address, because this side resolves the name.

use std::io::{self, Write};
use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use sockeye::{
    Connector, EgressRules, ErrorKind, Proxy, ProxyReply, SocketOptions, Step, TcpOptions,
};

use super::relay::Relay;
use super::{http, http_proxy, socks4a, socks5, take, through};
use crate::support::peer::{Server, closed_port};
use crate::support::{ms, read_exactly, spawn_call, with_watchdog};

/// Returns a connector with this proxy, and with a resolver that returns these addresses for every name.
fn resolving(proxy: Proxy, addresses: &[&str], rules: EgressRules) -> Connector {
    let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
    Connector::builder()
        .resolver(move |_: &str| Ok(addresses.clone()))
        .egress(rules)
        .proxy(proxy.resolve_locally())
        .build()
        .unwrap()
}

#[test]
fn the_proxy_gets_an_address_that_the_rules_allow() {
    with_watchdog(|| {
        let (relay, echo) = (Relay::start(), Server::echoes());
        let port = echo.address().port();
        let rules = || EgressRules::deny_all().allow_host("*.test").unwrap().allow_port(port);
        let rules = || rules().allow_net("127.0.0.1").unwrap();
        for proxy in [http(relay.address()), socks5(relay.address()), socks4a(relay.address())] {
            let addresses = ["10.0.0.1", "127.0.0.1"];
            let connector = resolving(proxy, &addresses, rules());
            let socket = connector.connect(("db.test", port)).unwrap();
            let info = socket.opened().unwrap();
            assert_eq!(info.proxy_address(), Some(relay.address()));
            assert_eq!(info.remote_address(), None);
            assert!(info.timings().resolve > Duration::ZERO);
            socket.writer().write_all(b"ping").unwrap();
            assert_eq!(read_exactly(&socket, 4).unwrap(), b"ping");
        }
        assert_eq!(relay.requested(), vec![format!("127.0.0.1 {port}"); 3]);
    });
}

#[test]
fn a_name_with_denied_addresses_only_is_denied() {
    with_watchdog(|| {
        let relay = Relay::start();
        let addresses = ["10.0.0.1", "192.168.0.1"];
        let connector = resolving(http(relay.address()), &addresses, EgressRules::public_only());
        let error = connector.connect("db.test:80").unwrap().opened().unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Denied, Some(Step::Connect)));
        let attempts: Vec<_> = error.attempts().iter().map(|it| it.address().to_string()).collect();
        assert_eq!(attempts, ["10.0.0.1:80", "192.168.0.1:80"]);
        assert!(relay.requested().is_empty());
        assert_eq!(connector.stats().denied, 1);
    });
}

#[test]
fn unreachable_addresses_are_tried_one_after_another() {
    with_watchdog(|| {
        let (relay, echo) = (Relay::start(), Server::echoes());
        let port = echo.address().port();
        // Nothing listens on the first two.
        let addresses = ["127.0.0.2", "127.0.0.3", "127.0.0.1"];
        for proxy in [http(relay.address()), socks5(relay.address()), socks4a(relay.address())] {
            let connector = resolving(proxy, &addresses, EgressRules::allow_all());
            let socket = connector.connect(("db.test", port)).unwrap();
            let info = socket.opened().unwrap();
            assert_eq!(info.proxy_address(), Some(relay.address()));
            assert!(info.timings().proxy > Duration::ZERO);
            socket.writer().write_all(b"ping").unwrap();
            assert_eq!(read_exactly(&socket, 4).unwrap(), b"ping");
            assert_eq!(socket.stats().bytes_written, 4);
        }
        let expected = addresses.repeat(3).into_iter().map(|ip| format!("{ip} {port}"));
        assert_eq!(relay.requested(), expected.collect::<Vec<_>>());
    });
}

#[test]
fn at_most_four_addresses_are_tried_in_alternating_families() {
    with_watchdog(|| {
        let server = Server::scripted(|mut stream| {
            super::read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 502 Unreachable\r\n\r\n").unwrap();
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        let addresses =
            ["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "192.0.2.2", "192.0.2.1"];
        let connector = resolving(http(server.address()), &addresses, EgressRules::allow_all());
        let error = connector.connect("db.test:80").unwrap().opened().unwrap_err();
        assert_eq!(error.proxy_reply(), Some(ProxyReply::Http(502)));
        assert!(error.to_string().ends_with("refused: 502 Unreachable"), "{error}");
        let attempts: Vec<_> = error.attempts().iter().map(|it| it.address().to_string()).collect();
        assert_eq!(
            attempts,
            ["[2001:db8::1]:80", "192.0.2.1:80", "[2001:db8::2]:80", "192.0.2.2:80"]
        );
        for attempt in error.attempts() {
            assert_eq!(attempt.error().proxy_reply(), Some(ProxyReply::Http(502)));
        }
    });
}

#[test]
fn a_proxy_that_forbids_is_asked_once() {
    with_watchdog(|| {
        for code in [2, 7] {
            let server = Server::scripted(move |mut stream| {
                take(&mut stream, 3);
                stream.write_all(b"\x05\x00").unwrap();
                take(&mut stream, 10);
                stream.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
                let _ = io::copy(&mut stream, &mut io::sink());
            });
            let addresses = ["192.0.2.1", "192.0.2.2"];
            let connector =
                resolving(socks5(server.address()), &addresses, EgressRules::allow_all());
            let error = connector.connect("db.test:80").unwrap().opened().unwrap_err();
            assert_eq!(error.proxy_reply(), Some(ProxyReply::Socks5(code)));
            assert_eq!(error.attempts().len(), 1);
        }
    });
}

#[test]
fn an_address_without_an_answer_is_among_the_attempts() {
    with_watchdog(|| {
        let addresses = ["192.0.2.1", "192.0.2.2"];
        let options = || SocketOptions::new().connect_timeout(ms(200));
        for ends in [false, true] {
            let server = http_proxy(move |mut stream| match ends {
                true => drop(stream),
                false => drop(io::copy(&mut stream, &mut io::sink())),
            });
            let connector = resolving(http(server.address()), &addresses, EgressRules::allow_all());
            let socket = connector.connect_with("db.test:80", options()).unwrap();
            let error = socket.opened().unwrap_err();
            let kind = if ends { ErrorKind::Proxy } else { ErrorKind::TimedOut };
            assert_eq!(error.kind(), kind);
            let [attempt] = error.attempts() else { panic!("{:?}", error.attempts()) };
            assert_eq!(attempt.address().to_string(), "192.0.2.1:80");
            assert_eq!(attempt.error().kind(), kind);
            assert!(ends || attempt.elapsed() >= ms(150), "{:?}", attempt.elapsed());
        }
    });
}

#[test]
fn a_proxy_that_is_gone_for_the_next_address_is_named_alone() {
    with_watchdog(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = listener.local_addr().unwrap();
        let refusing = spawn_call(move || {
            let (mut stream, _) = listener.accept().unwrap();
            drop(listener);
            super::read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 502 Unreachable\r\n\r\n").unwrap();
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        let rules = EgressRules::allow_all().deny_net("10.0.0.0/8").unwrap();
        let addresses = ["10.0.0.1", "192.0.2.1", "192.0.2.2"];
        let connector = resolving(http(proxy), &addresses, rules);
        let error = connector.connect("db.test:80").unwrap().opened().unwrap_err();
        refusing.join();
        assert_eq!(error.kind(), ErrorKind::Connect);
        let text = format!("cannot reach proxy {proxy}: the connection was refused");
        assert!(error.to_string().ends_with(&text), "{error}");
        let attempts: Vec<_> = error
            .attempts()
            .iter()
            .map(|it| (it.address().to_string(), it.error().kind()))
            .collect();
        let expected = [
            ("10.0.0.1:80".to_owned(), ErrorKind::Denied),
            ("192.0.2.1:80".to_owned(), ErrorKind::Proxy),
            (proxy.to_string(), ErrorKind::Connect),
        ];
        assert_eq!(attempts, expected);
    });
}

/// The first connection has the port until it has ended.
#[test]
fn with_a_fixed_local_port_the_proxy_is_dialled_once() {
    with_watchdog(|| {
        let server = http_proxy(|mut stream| {
            stream.write_all(b"HTTP/1.1 502 Unreachable\r\n\r\n").unwrap();
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        let addresses = ["192.0.2.1", "192.0.2.2"];
        let connector = resolving(http(server.address()), &addresses, EgressRules::allow_all());
        let free = closed_port().address;
        for (port, attempts) in [(free.port(), 1), (0, 2)] {
            let tcp = TcpOptions::new().bind((free.ip(), port).into());
            let options = SocketOptions::new().tcp(tcp);
            let socket = connector.connect_with("db.test:80", options).unwrap();
            let error = socket.opened().unwrap_err();
            assert_eq!(error.proxy_reply(), Some(ProxyReply::Http(502)), "{error}");
            assert_eq!(error.attempts().len(), attempts);
        }
    });
}

/// SOCKS 4a says by 0.0.0.x that a name follows, and the proxy would wait for it.
#[test]
fn socks4_gets_no_address_that_stands_for_a_name() {
    with_watchdog(|| {
        let (relay, echo) = (Relay::start(), Server::echoes());
        let port = echo.address().port();
        let proxy = || socks4a(relay.address());
        for target in ["0.0.0.1:80", "0.0.0.255:80"] {
            let error = through(proxy()).connect(target).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
        }
        let connector = resolving(proxy(), &["0.0.0.5", "127.0.0.1"], EgressRules::allow_all());
        connector.connect(("db.test", port)).unwrap().opened().unwrap();
        assert_eq!(relay.requested(), [format!("127.0.0.1 {port}")]);
        let connector = resolving(proxy(), &["0.0.0.5"], EgressRules::allow_all());
        let error = connector.connect(("db.test", port)).unwrap().opened().unwrap_err();
        assert!(error.to_string().contains("no IPv4 address that SOCKS 4 can express"), "{error}");
    });
}

#[test]
fn several_addresses_of_the_program_are_tried_like_those_of_a_name() {
    with_watchdog(|| {
        let (relay, echo, closed) = (Relay::start(), Server::echoes(), closed_port());
        let connector = Connector::builder().proxy(http(relay.address())).build().unwrap();
        let addresses = [closed.address, echo.address()];
        let socket = connector.connect_addrs(&addresses, SocketOptions::new()).unwrap();
        let info = socket.opened().unwrap();
        assert_eq!(info.requested().to_string(), closed.address.to_string());
        assert_eq!(relay.requested().len(), 2);
        socket.writer().write_all(b"ping").unwrap();
        assert_eq!(read_exactly(&socket, 4).unwrap(), b"ping");
    });
}

#[test]
fn socks4_passes_ipv4_addresses_only() {
    with_watchdog(|| {
        let (relay, echo) = (Relay::start(), Server::echoes());
        let port = echo.address().port();
        let rules = EgressRules::allow_all;
        let connector = resolving(socks4a(relay.address()), &["::1", "127.0.0.1"], rules());
        connector.connect(("db.test", port)).unwrap().opened().unwrap();
        assert_eq!(relay.requested(), [format!("127.0.0.1 {port}")]);
        let connector = resolving(socks4a(relay.address()), &["::1"], rules());
        let error = connector.connect(("db.test", port)).unwrap().opened().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(error.to_string().contains("no IPv4 address"), "{error}");
    });
}

#[test]
fn the_name_of_the_proxy_is_resolved_after_that_of_the_target() {
    with_watchdog(|| {
        let (relay, echo) = (Relay::start(), Server::echoes());
        let resolver = |name: &str| match name {
            "db.test" | "proxy.test" => Ok(vec![IpAddr::from([127, 0, 0, 1])]),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let connect = |proxy: &str, target: &str| {
            let proxy = Proxy::socks5((proxy, relay.address().port())).unwrap().resolve_locally();
            let connector = Connector::builder().resolver(resolver).proxy(proxy).build().unwrap();
            connector.connect((target, echo.address().port())).unwrap().opened()
        };
        connect("proxy.test", "db.test").unwrap();
        let error = connect("proxy.test", "gone.test").unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Resolve, Some(Step::Lookup)));
        assert!(!error.to_string().contains("proxy"), "{error}");
        let error = connect("gone.test", "db.test").unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Resolve, Some(Step::Lookup)));
        assert!(error.to_string().contains("cannot reach proxy gone.test:"), "{error}");
    });
}
