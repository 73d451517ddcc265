//! HTTP with ureq through a connector. Whatever a server or a name says, no address is dialled that the rules deny.
//! Connections are reused while they work, and each timeout is a deadline.

#[expect(dead_code, reason = "other tests need the rest")]
#[path = "../it/support/tls/forge.rs"]
mod forge;
mod server;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sockeye::ureq::{NoLookup, UreqConnector, agent};
use sockeye::{
    Connector, EgressRules, Error, ErrorKind, Identities, ServerTlsOptions, SocketOptions,
};
use ureq::config::{Config, ConfigBuilder};
use ureq::typestate::AgentScope;
use ureq::{Agent, ProxyProtocol, Timeout};

use server::{Answer, Authority, Server, nobody_came, ok, redirect};

/// The address of the attacker's own server, which may be dialled.
const OUTSIDE: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// An address that may not be dialled.
const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

const SHORT: Duration = Duration::from_millis(200);
/// A duration that is certainly much longer than `SHORT`.
const LONG: Duration = Duration::from_secs(20);

fn config() -> ConfigBuilder<AgentScope> {
    Config::builder().proxy(None)
}

/// Returns a connector that may dial `OUTSIDE` only, and a count of its lookups. `turns.test` resolves to `OUTSIDE`
/// first and then to `INSIDE`. `inside.test` always resolves to `INSIDE`, and every other name to `OUTSIDE`.
fn strict() -> (Connector, Arc<AtomicUsize>) {
    let look_ups = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&look_ups);
    let resolver = move |name: &str| {
        let earlier = count.fetch_add(1, Ordering::SeqCst);
        let inside = name == "inside.test" || name == "turns.test" && earlier > 0;
        Ok(vec![IpAddr::from(if inside { INSIDE } else { OUTSIDE })])
    };
    let rules = EgressRules::public_only().allow_net(&OUTSIDE.to_string()).expect("it is a net");
    let connector = Connector::builder().egress(rules).resolver(resolver).build();
    (connector.expect("the rules are fine"), look_ups)
}

fn an_agent() -> Agent {
    agent(config().build(), strict().0)
}

#[track_caller]
fn body_of(agent: &Agent, url: &str) -> String {
    let mut response = agent.get(url).call().expect("the server answers");
    response.body_mut().read_to_string().expect("the body is complete")
}

#[track_caller]
fn kind_of(error: &ureq::Error) -> ErrorKind {
    let ureq::Error::Io(io) = error else { panic!("not an error of a socket: {error:?}") };
    Error::from_io(io).unwrap_or_else(|| panic!("not an error of this crate: {error:?}")).kind()
}

#[track_caller]
fn is_refused(agent: &Agent, url: &str, kind: ErrorKind) {
    let error = agent.get(url).call().expect_err("it is refused");
    assert_eq!(kind_of(&error), kind, "{error}");
}

// -------------------------------------------------------------------- rules

#[test]
fn denied_addresses_are_not_dialled() {
    let inside = TcpListener::bind((INSIDE, 0)).expect("loopback has many addresses");
    let port = inside.local_addr().expect("a listener has an address").port();
    let agent = an_agent();
    for host in ["127.0.0.2", "inside.test", "[::ffff:127.0.0.2]", "[::1]", "10.0.0.1"] {
        is_refused(&agent, &format!("http://{host}:{port}/"), ErrorKind::Denied);
        is_refused(&agent, &format!("https://{host}:{port}/"), ErrorKind::Denied);
    }
    nobody_came(&inside);
}

#[test]
fn a_redirect_to_a_denied_address_is_refused() {
    let inside = TcpListener::bind((INSIDE, 0)).expect("loopback has many addresses");
    let port = inside.local_addr().expect("a listener has an address").port();
    let agent = an_agent();
    for target in ["127.0.0.2", "inside.test", "[::ffff:7f00:2]"] {
        let location = format!("http://{target}:{port}/secret");
        let server = Server::plain(OUTSIDE, move |_| redirect(&location));
        is_refused(&agent, &server.url("outside.test"), ErrorKind::Denied);
        assert_eq!(server.requests(), 1);
    }
    let server = Server::plain(OUTSIDE, |_| redirect("http://169.254.169.254/latest/meta-data/"));
    is_refused(&agent, &server.url("outside.test"), ErrorKind::Denied);
    nobody_came(&inside);
}

#[test]
fn a_redirect_to_an_allowed_address_is_followed() {
    let second = Server::plain(OUTSIDE, |_| ok("arrived"));
    let location = second.url("elsewhere.test");
    let first = Server::plain(OUTSIDE, move |_| redirect(&location));
    assert_eq!(body_of(&an_agent(), &first.url("outside.test")), "arrived");
}

/// DNS rebinding: a check must not use one answer and the connect another.
#[test]
fn a_name_that_later_resolves_to_a_denied_address_is_refused() {
    let server = Server::plain(OUTSIDE, |_| Answer { closes: true, ..ok("outside") });
    let inside = TcpListener::bind((INSIDE, server.port())).expect("it is another address");
    let (connector, look_ups) = strict();
    let agent = agent(config().build(), connector);
    let url = server.url("turns.test");
    assert_eq!(body_of(&agent, &url), "outside");
    assert_eq!(look_ups.load(Ordering::SeqCst), 1, "only the connector resolves the name");
    is_refused(&agent, &url, ErrorKind::Denied);
    assert_eq!(look_ups.load(Ordering::SeqCst), 2);
    nobody_came(&inside);
}

#[test]
fn a_request_through_a_proxy_that_resolves_names_is_refused() {
    let proxy = Server::plain(OUTSIDE, |_| ok("through the proxy"));
    let way = ureq::Proxy::new(&proxy.url("127.0.0.1")).expect("it is a proxy");
    let agent = agent(config().proxy(Some(way)).build(), strict().0);
    for url in ["http://127.0.0.2/", "http://outside.test/", "https://outside.test/"] {
        is_refused(&agent, url, ErrorKind::InvalidOptions);
    }
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn a_request_through_a_proxy_is_judged_and_forwarded() {
    let server = Server::plain(OUTSIDE, |_| ok("behind the proxy"));
    for (protocol, resolves) in [(ProxyProtocol::Http, true), (ProxyProtocol::Http, false)] {
        let (proxy, requested) = forwarding_proxy();
        let way = ureq::Proxy::builder(protocol)
            .host(&proxy.ip().to_string())
            .port(proxy.port())
            .username("alice")
            .password("secret")
            .no_proxy("direct.test")
            .resolve_target(resolves)
            .build()
            .expect("it is a proxy");
        let connector = if resolves { strict().0 } else { Connector::builder().build().unwrap() };
        let agent = agent(config().proxy(Some(way)).build(), connector);
        assert_eq!(body_of(&agent, &server.url("outside.test")), "behind the proxy");
        let request = requested.recv().expect("a request came");
        let host = if resolves { "127.0.0.1" } else { "outside.test" };
        assert!(request.starts_with(&format!("CONNECT {host}:")), "{request}");
        assert!(request.contains("Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n"), "{request}");
        if resolves {
            is_refused(&agent, "http://inside.test/", ErrorKind::Denied);
            assert_eq!(body_of(&agent, &server.url("direct.test")), "behind the proxy");
        }
        assert!(requested.try_recv().is_err(), "nothing else went through the proxy");
    }
}

/// Its certificate is not trusted, so it gets no request.
#[test]
fn an_https_proxy_is_verified_before_it_gets_a_request() {
    let authority = Authority::new();
    let proxy = Server::secure(OUTSIDE, &authority, |_| ok("through the proxy"));
    let way = ureq::Proxy::builder(ProxyProtocol::Https)
        .host(&OUTSIDE.to_string())
        .port(proxy.port())
        .username("alice")
        .password("secret")
        .build()
        .expect("it is a proxy");
    let connector = Connector::builder().build().unwrap();
    let agent = agent(config().proxy(Some(way)).build(), connector);
    for url in ["http://outside.test/", "https://outside.test/"] {
        let error = agent.get(url).call().expect_err("the proxy is not trusted");
        let ureq::Error::Io(error) = error else { panic!("{error}") };
        let error = Error::from_io(&error).expect("it is the connector's");
        assert_eq!(error.kind(), ErrorKind::Tls);
        let text = error.to_string();
        assert!(text.contains("cannot secure the connection to proxy"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
    assert_eq!(proxy.requests(), 0);
}

/// A CGI request can set `HTTP_PROXY`, which ureq reads.
#[test]
fn a_proxy_of_the_environment_is_ignored() {
    const IN_CHILD: &str = "SOCKEYE_TEST_UREQ_CHILD";
    if std::env::var_os(IN_CHILD).is_some() {
        let config = Config::default();
        assert!(config.proxy().is_some_and(ureq::Proxy::is_from_env), "ureq has read it");
        let server = Server::plain(OUTSIDE, |_| ok("direct"));
        assert_eq!(body_of(&agent(config, strict().0), &server.url("outside.test")), "direct");
        return;
    }
    let proxy = TcpListener::bind((OUTSIDE, 0)).expect("a port is free");
    let address = proxy.local_addr().expect("it is bound");
    let names =
        ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    for name in names {
        let mut child = Command::new(std::env::current_exe().expect("it is a file"));
        for other in names.iter().chain(&["no_proxy", "NO_PROXY"]) {
            child.env_remove(other);
        }
        let child = child
            .env(name, format!("http://{address}"))
            .env(IN_CHILD, "1")
            .args(["--exact", "a_proxy_of_the_environment_is_ignored", "--test-threads", "1"])
            .output()
            .expect("the test runs");
        let text = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && text.contains("1 passed"), "{name}: {text}");
    }
    nobody_came(&proxy);
}

/// Starts a proxy that forwards each connection to `OUTSIDE`. Returns its address and the heads of requests.
fn forwarding_proxy() -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let (heads, requested) = mpsc::channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.expect("the listener accepts");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).expect("the request is complete");
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).expect("a head is text");
            let port = head.split([':', ' ']).nth(2).and_then(|port| port.parse().ok());
            let server = TcpStream::connect((OUTSIDE, port.expect("a port"))).expect("it listens");
            // The test may be over.
            let _ = heads.send(head);
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("the client reads");
            let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (mut server, mut client) = (server, client);
            thread::spawn(move || std::io::copy(&mut up, &mut server));
            thread::spawn(move || {
                let _ = std::io::copy(&mut down, &mut client);
                client.shutdown(std::net::Shutdown::Write)
            });
        }
    });
    (address, requested)
}

#[test]
fn the_limit_of_the_connector_counts_idle_connections_too() {
    let first = Server::plain(OUTSIDE, |_| ok("one"));
    let second = Server::plain(OUTSIDE, |_| ok("two"));
    let connector = Connector::builder().max_open_sockets(1).build().expect("it can be");
    let agent = agent(config().build(), connector.clone());
    assert_eq!(body_of(&agent, &first.url("127.0.0.1")), "one");
    assert_eq!(connector.open_sockets(), 1);
    is_refused(&agent, &second.url("127.0.0.1"), ErrorKind::Limit);
    assert_eq!(body_of(&agent, &first.url("127.0.0.1")), "one", "it is in the pool");
}

// -------------------------------------------------------------------- pool

#[test]
fn a_connection_is_reused() {
    let server = Server::plain(OUTSIDE, |_| ok("again"));
    let agent = an_agent();
    for _ in 0..5 {
        assert_eq!(body_of(&agent, &server.url("outside.test")), "again");
    }
    assert_eq!((server.requests(), server.connections()), (5, 1));
}

#[test]
fn a_connection_that_ended_in_the_pool_is_not_reused() {
    for end in [server::Line::fin, server::Line::reset] {
        let server = Server::plain(OUTSIDE, |_| ok("fine"));
        let (connector, _) = strict();
        let agent = agent(config().build(), connector.clone());
        for round in 1..4 {
            is_posted_by_the_connection(round, &agent, &server);
            end(&server.last_line());
            ends(&connector);
        }
    }
}

#[test]
fn a_connection_with_surplus_data_is_not_reused() {
    let server =
        Server::plain(OUTSIDE, |_| Answer { more: "HTTP/1.1 408 Late\r\n\r\n", ..ok("fine") });
    let agent = an_agent();
    for round in 1..4 {
        is_posted_by_the_connection(round, &agent, &server);
    }
}

/// Checks that a POST uses this connection. A POST is not idempotent, so ureq must not send it twice.
#[track_caller]
fn is_posted_by_the_connection(number: usize, agent: &Agent, server: &Server) {
    let mut response = agent.post(server.url("outside.test")).send("data").expect("it is answered");
    assert_eq!(response.body_mut().read_to_string().expect("it is complete"), "fine");
    assert_eq!((server.requests(), server.connections()), (number, number));
}

/// Waits until the connector's only socket has closed, after its server has ended the connection.
#[track_caller]
fn ends(connector: &Connector) {
    let begun = Instant::now();
    while connector.open_sockets() > 0 {
        assert!(begun.elapsed() < LONG, "it is still open");
        thread::yield_now();
    }
}

// -------------------------------------------------------------------- TLS

#[test]
fn https_uses_the_connectors_tls_and_is_reused() {
    let authority = Authority::new();
    let server = Server::secure(OUTSIDE, &authority, |_| ok("in secret"));
    let connector = Connector::builder()
        .tls(authority.trusted())
        .resolver(|_: &str| Ok(vec![OUTSIDE.into()]))
        .build()
        .expect("the settings are fine");
    let agent = agent(config().build(), connector.clone());
    for _ in 0..3 {
        assert_eq!(body_of(&agent, &server.secure_url("good.test")), "in secret");
    }
    assert_eq!(server.connections(), 1);
    // Session tickets do not end reuse; an EOF does.
    server.last_line().fin();
    ends(&connector);
    assert_eq!(body_of(&agent, &server.secure_url("good.test")), "in secret");
    assert_eq!(server.connections(), 2);
    is_refused(&agent, &server.secure_url("other.test"), ErrorKind::Tls);
}

#[test]
fn options_apply_to_each_socket_and_their_tls_to_https_only() {
    let authority = Authority::new();
    let secure = Server::secure(OUTSIDE, &authority, |_| ok("in secret"));
    let plain = Server::plain(OUTSIDE, |_| ok("in public"));
    let options = SocketOptions::new().tls(authority.trusted().server_name("good.test"));
    let connector = UreqConnector::new(strict().0).options(options);
    let agent = Agent::with_parts(config().build(), connector, NoLookup);
    assert_eq!(body_of(&agent, &secure.secure_url("outside.test")), "in secret");
    assert_eq!(body_of(&agent, &plain.url("outside.test")), "in public");
    let options = SocketOptions::new().tls(Authority::new().trusted().server_name("good.test"));
    let connector = UreqConnector::new(strict().0).options(options);
    let agent = Agent::with_parts(config().build(), connector, NoLookup);
    is_refused(&agent, &secure.secure_url("outside.test"), ErrorKind::Tls);
}

#[test]
fn an_http_client_is_never_the_tls_server() {
    let authority = Authority::new();
    let secure = Server::secure(OUTSIDE, &authority, |_| ok("in secret"));
    let plain = Server::plain(OUTSIDE, |_| ok("in public"));
    let server = ServerTlsOptions::new(Identities::without_default());
    let (connector, _) = strict();
    let options = SocketOptions::new().server_tls(server);
    let agent = Agent::with_parts(
        config().build(),
        UreqConnector::new(connector).options(options),
        NoLookup,
    );
    assert_eq!(body_of(&agent, &plain.url("outside.test")), "in public");
    // A client that trusts only public roots.
    is_refused(&agent, &secure.secure_url("outside.test"), ErrorKind::Tls);
}

// -------------------------------------------------------------------- timeouts

#[test]
fn each_timeout_is_a_deadline_that_trickled_bytes_do_not_extend() {
    // Single bytes, for much longer than any timeout.
    let trickles = || Answer { trickles: true, ..ok(&"x".repeat(10_000)) };
    let server = Server::plain(OUTSIDE, move |_| trickles());
    let url = server.url("outside.test");
    is_late(&config().timeout_global(Some(SHORT)).build(), &url, Timeout::Global);
    is_late(&config().timeout_recv_response(Some(SHORT)).build(), &url, Timeout::RecvResponse);
    is_late(&config().timeout_per_call(Some(SHORT)).build(), &url, Timeout::PerCall);
}

#[test]
fn a_silent_server_times_out_as_configured() {
    let silent = TcpListener::bind((OUTSIDE, 0)).expect("there is a port");
    let url = format!("http://{}/", silent.local_addr().expect("a listener has an address"));
    is_late(&config().timeout_per_read(Some(SHORT)).build(), &url, Timeout::PerRead);
    is_late(&config().timeout_global(Some(SHORT)).build(), &url, Timeout::Global);
    // The handshake is part of connecting.
    let url = url.replace("http:", "https:");
    is_late(&config().timeout_connect(Some(SHORT)).build(), &url, Timeout::Connect);
}

#[test]
fn records_without_data_extend_no_timeout() {
    let authority = Authority::new();
    let server = Server::flooding(OUTSIDE, &authority);
    let url = server.secure_url("good.test");
    for config in [
        config().timeout_global(Some(SHORT)),
        config().timeout_recv_response(Some(SHORT)),
        config().timeout_per_read(Some(SHORT)),
    ] {
        let connector = Connector::builder()
            .tls(authority.trusted())
            .resolver(|_: &str| Ok(vec![OUTSIDE.into()]))
            .build()
            .expect("the settings are fine");
        let begun = Instant::now();
        let error = agent(config.build(), connector)
            .get(&url)
            .call()
            .expect_err("the server does not answer");
        // Either the timeout passes first, or the flood of tickets ends the connection.
        let ended = matches!(error, ureq::Error::Timeout(_)) || kind_of(&error) == ErrorKind::Tls;
        assert!(ended, "{error:?}");
        assert!(begun.elapsed() < LONG / 4, "{:?}", begun.elapsed());
    }
}

#[test]
fn the_connect_timeout_bounds_the_lookup() {
    let (hold, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let resolver = move |_: &str| {
        let _ = held.lock().expect("no thread panics while it holds the lock").recv_timeout(LONG);
        Err(std::io::ErrorKind::NotFound.into())
    };
    let connector = Connector::builder().resolver(resolver).build().expect("it can be");
    let agent = agent(config().timeout_connect(Some(SHORT)).build(), connector);
    let begun = Instant::now();
    let error = agent.get("http://slow.test/").call().expect_err("the resolver does not answer");
    assert!(matches!(error, ureq::Error::Timeout(Timeout::Connect)), "{error:?}");
    assert!(begun.elapsed() < LONG / 2);
    drop(hold);
}

#[test]
fn a_timeout_of_the_socket_options_fails_with_the_sockets_error() {
    let silent = TcpListener::bind((OUTSIDE, 0)).expect("there is a port");
    let url = format!("http://{}/", silent.local_addr().expect("a listener has an address"));
    let options = SocketOptions::new().read_timeout(SHORT);
    let connector = UreqConnector::new(strict().0).options(options);
    let config = config().timeout_global(Some(LONG)).build();
    let agent = Agent::with_parts(config, connector, NoLookup);
    is_refused(&agent, &url, ErrorKind::TimedOut);
}

#[track_caller]
fn is_late(config: &Config, url: &str, reason: Timeout) {
    let agent = agent(config.clone(), strict().0);
    let begun = Instant::now();
    let call = || agent.get(url).call()?.body_mut().read_to_string();
    match call().expect_err("there is no answer in time") {
        ureq::Error::Timeout(found) => assert_eq!(found, reason),
        other => panic!("{other:?}"),
    }
    let took = begun.elapsed();
    assert!(took >= SHORT && took < LONG / 2, "{took:?}");
}

#[test]
fn shutdown_of_an_agent_ends_a_waiting_call() {
    let listener = TcpListener::bind((OUTSIDE, 0)).expect("there is a port");
    let url = format!("http://{}/", listener.local_addr().expect("a listener has an address"));
    let agent = an_agent();
    let calling = {
        let agent = agent.clone();
        thread::spawn(move || agent.get(&url).call().map(drop))
    };
    // The server has the request, so the call waits for the reply or is about to.
    let (mut stream, _) = listener.accept().expect("the agent connects");
    server::read_head(&mut stream).expect("the agent sends a request");
    agent.shutdown();
    let error = calling.join().expect("it does not panic").expect_err("there is no answer");
    assert_eq!(kind_of(&error), ErrorKind::Closed);
    let _ = stream.write_all(b"late");
}

#[test]
fn debug_output_shows_settings_only() {
    let connector = UreqConnector::new(strict().0);
    let shown = format!("{connector:?} {NoLookup:?}");
    assert!(shown.contains("EgressRules") && shown.contains("NoLookup"), "{shown}");
}
