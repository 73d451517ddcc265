//! What a socket through a proxy does, and what it tells.

use std::io::Write;
use std::net::{Ipv6Addr, Shutdown, SocketAddr};
use std::time::Duration;

use sockeye::{NoProxy, Phase, Proxy, ProxyRules, SocketOptions};

use super::relay::Relay;
use super::{http, socks4a, socks5, through};
#[cfg(unix)]
use crate::support::example;
use crate::support::peer::{Peer, Server, listen};
use crate::support::{
    PROMPT, eventually, ms, random_bytes, read_exactly, read_to_end, spawn_call, with_watchdog,
};

/// Returns the proxy in each protocol.
fn each(address: SocketAddr) -> [Proxy; 3] {
    [http(address), socks5(address), socks4a(address)]
}

#[test]
fn data_flows_both_ways_by_name_and_by_address() {
    with_watchdog(|| {
        let (relay, echo) = (Relay::start(), Server::echoes());
        let port = echo.address().port();
        for proxy in each(relay.address()) {
            for host in ["db.example.com", "127.0.0.1"] {
                let socket = through(proxy.clone()).connect((host, port)).unwrap();
                let info = socket.opened().unwrap();
                assert_eq!(info.remote_address(), None, "the proxy does not reveal it");
                assert_eq!(info.proxy_address(), Some(relay.address()));
                assert!(info.local_address().is_some_and(|local| local.ip().is_loopback()));
                assert_eq!(info.requested().to_string(), format!("{host}:{port}"));
                assert!(
                    info.timings().proxy > Duration::ZERO
                        && info.timings().connect > Duration::ZERO
                );
                assert_eq!(info.timings().handshake, Duration::ZERO);

                let data = random_bytes(1, 300_000);
                let (mut writer, sent) = (socket.clone(), data.clone());
                let writing = spawn_call(move || {
                    writer.write_all(&sent).unwrap();
                    writer.writer().close().unwrap();
                });
                assert!(read_to_end(&socket).unwrap() == data);
                writing.join();
                assert_eq!(socket.stats().bytes_written, 300_000, "the request does not count");
                assert_eq!(socket.stats().bytes_read, 300_000);
                socket.closed().unwrap();
            }
        }
        let hosts = ["db.example.com", "127.0.0.1"].repeat(3);
        let expected: Vec<_> = hosts.iter().map(|host| format!("{host} {port}")).collect();
        assert_eq!(relay.requested(), expected, "names are not resolved here");
    });
}

#[test]
fn an_ipv6_address_is_passed_as_an_address() {
    with_watchdog(|| {
        let Ok(listener) = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
            return crate::support::skip("proxy::an_ipv6_address_is_passed", "no IPv6");
        };
        let (relay, target) = (Relay::start(), listener.local_addr().unwrap());
        for proxy in [http(relay.address()), socks5(relay.address())] {
            let socket = through(proxy).connect(target).unwrap();
            socket.opened().unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            accepted.write_all(b"hello").unwrap();
            assert_eq!(read_exactly(&socket, 5).unwrap(), b"hello");
        }
        assert_eq!(relay.requested(), vec![format!("::1 {}", target.port()); 2]);
    });
}

#[test]
fn each_direction_ends_by_itself() {
    with_watchdog(|| {
        let relay = Relay::start();
        for proxy in each(relay.address()) {
            let listener = listen();
            let options = SocketOptions::new().allow_half_open(true);
            let connector = through(proxy);
            let socket = connector.connect_with(listener.local_addr().unwrap(), options).unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            peer.write_all(b"last").unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&socket).unwrap(), b"last");
            assert_eq!(socket.phase(), Phase::HalfClosed);
            socket.writer().write_all(b"more").unwrap();
            socket.close().unwrap();
            let mut rest = Vec::new();
            std::io::Read::read_to_end(&mut peer, &mut rest).unwrap();
            assert_eq!(rest, b"more");
        }
    });
}

#[test]
fn the_event_loop_makes_the_dialogue_if_no_thread_waits() {
    with_watchdog(|| {
        let (relay, echo) = (Relay::start(), Server::echoes());
        for proxy in each(relay.address()) {
            let socket = through(proxy).connect(echo.address()).unwrap();
            eventually(PROMPT, "the socket opens by itself", || socket.phase() == Phase::Open);
            socket.writer().write_all(b"ping").unwrap();
            assert_eq!(read_exactly(&socket, 4).unwrap(), b"ping");
        }
    });
}

#[test]
fn reads_and_writes_begin_before_the_socket_is_open() {
    with_watchdog(|| {
        let (relay, echo) = (Relay::start(), Server::echoes());
        for proxy in each(relay.address()) {
            let mut socket = through(proxy).connect(echo.address()).unwrap();
            let reading = {
                let socket = socket.clone();
                spawn_call(move || read_exactly(&socket, 4))
            };
            socket.write_all(b"ping").unwrap();
            assert_eq!(reading.join().unwrap(), b"ping");
        }
    });
}

#[test]
fn some_targets_and_some_sockets_are_dialled_directly() {
    with_watchdog(|| {
        let relay = Relay::start();
        let direct = |rules: ProxyRules, options: SocketOptions| {
            let peer = Peer::reading();
            let socket = through(rules).connect_with(peer.address(), options).unwrap();
            let info = socket.opened().unwrap();
            (info.proxy_address(), info.remote_address() == Some(peer.address()))
        };
        let rules = ProxyRules::from(http(relay.address()));
        let excepted = rules.clone().except(NoProxy::parse("127.0.0.0/8"));
        assert_eq!(direct(excepted, SocketOptions::new()), (None, true));
        let bypass = SocketOptions::new().bypass_proxy(true);
        assert_eq!(direct(rules.clone(), bypass), (None, true));
        let only_tls = ProxyRules::new().tls(http(relay.address()));
        assert_eq!(direct(only_tls, SocketOptions::new()), (None, true));
        assert!(relay.requested().is_empty());
        let proxied = direct(rules, SocketOptions::new().bypass_proxy(false));
        assert_eq!(proxied, (Some(relay.address()), false));
        assert_eq!(relay.requested().len(), 1);
    });
}

#[test]
fn an_adopted_socket_uses_no_proxy() {
    with_watchdog(|| {
        let (relay, listener) = (Relay::start(), listen());
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = through(http(relay.address())).adopt(stream, SocketOptions::new()).unwrap();
        assert_eq!(socket.opened().unwrap().proxy_address(), None);
        assert!(relay.requested().is_empty());
    });
}

#[test]
fn the_proxys_name_is_resolved_and_its_addresses_race() {
    with_watchdog(|| {
        let (relay, echo) = (Relay::start(), Server::echoes());
        let resolver = |name: &str| {
            assert_eq!(name, "proxy.test", "the proxy resolves the target");
            // Nothing listens on the first.
            Ok(vec!["127.0.0.2".parse().unwrap(), "127.0.0.1".parse().unwrap()])
        };
        let proxy = Proxy::socks5(("proxy.test", relay.address().port())).unwrap();
        let connector =
            sockeye::Connector::builder().resolver(resolver).proxy(proxy).build().unwrap();
        let socket = connector.connect(("target.test", echo.address().port())).unwrap();
        let info = socket.opened().unwrap();
        assert_eq!(info.proxy_address(), Some(relay.address()));
        assert!(info.timings().resolve > Duration::ZERO);
    });
}

#[test]
fn a_detached_stream_begins_behind_the_dialogue() {
    with_watchdog(|| {
        let (relay, listener) = (Relay::start(), listen());
        let socket =
            through(http(relay.address())).connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"greeting").unwrap();
        socket.opened().unwrap();
        let mut stream = socket.detach().unwrap();
        stream.set_read_timeout(Some(ms(10_000))).unwrap();
        assert_eq!(super::take(&mut stream, 8), b"greeting");
    });
}

#[cfg(unix)]
#[test]
fn the_example_shows_a_refusal_and_a_connection() {
    let name = "proxy::tunnels::the_example_shows_a_refusal_and_a_connection";
    let Some(output) = example::run(name, "proxy", &[], "") else { return };
    let shown = example::text(&output.stdout);
    assert!(output.status.success(), "{shown}{}", example::stderr_text(&output));
    for part in ["requires credentials: 407, it offers Basic", "403", "220 ready\r\n221 goodbye"] {
        assert!(shown.contains(part), "{shown}");
    }
}
