//! `https` proxies: TLS to the proxy, and plaintext or TLS with the target inside.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sockeye::{
    Connector, ErrorKind, Events, Health, Identity, Interest, Phase, Poller, Proxy, ProxyReply,
    ProxyRules, Roots, SecureTransport, ServerTlsOptions, SocketOptions, Step, TlsFailure,
    TlsOptions,
};

use super::front::Front;
use super::relay::Relay;
use super::{TARGET, http_proxy, https, read_head, through};
use crate::support::peer::{Server, closed_port, listen};
use crate::support::tls::{
    ASK, GO, TlsPeer, VERSIONS, ask, assert_injection_refused, assert_upgraded, authority, options,
    server_config, trust_only, trust_only_names, upgradable, valid_cert, with,
};
use crate::support::{
    PROMPT, eventually, ms, random_bytes, read_exactly, read_to_end, spawn_call, with_watchdog,
};
use crate::tls::injection::injections;

/// Puts TLS in front of a proxy that runs a script after the request.
fn scripted(script: impl FnMut(TcpStream) + Send + 'static) -> (Server, Front) {
    let server = http_proxy(script);
    let front = Front::start(&server_config(), server.address());
    (server, front)
}

#[test]
fn every_version_carries_plaintext_and_tls_of_every_version() {
    with_watchdog(|| {
        let relay = Relay::start();
        for outer in VERSIONS {
            let front = Front::start(&server_config().only(outer), relay.address());
            let data = random_bytes(3, 400_000);
            let echo = Server::echoes();
            let socket = through(https(front.address())).connect(echo.address()).unwrap();
            let info = socket.opened().unwrap();
            assert!(info.tls().is_none() && info.alpn().is_none());
            check_echo(&socket, &data);
            for inner in VERSIONS {
                let peer = TlsPeer::echoes(&server_config().only(inner));
                let connector = through(https(front.address()));
                let socket = connector.connect_with(peer.address(), options(authority())).unwrap();
                let info = socket.opened().unwrap();
                assert_eq!(info.tls().map(|tls| tls.version()), Some(inner));
                assert!(info.timings().handshake > ms(0) && info.timings().proxy > ms(0));
                check_echo(&socket, &data);
                peer.finish();
            }
            let seen = front.seen();
            assert_eq!((seen.connections, seen.ended), (3, 3), "each ends with close_notify");
        }
    });
}

/// Sends data while it reads the echo, and closes.
fn check_echo(socket: &sockeye::Socket, data: &[u8]) {
    let (mut writer, sent) = (socket.clone(), data.to_vec());
    let writing = spawn_call(move || {
        writer.write_all(&sent).unwrap();
        writer.writer().close().unwrap();
    });
    assert!(read_to_end(socket).unwrap() == data);
    writing.join();
    assert_eq!(socket.stats().bytes_written, data.len() as u64);
    assert_eq!(socket.stats().bytes_read, data.len() as u64);
    socket.closed().unwrap();
}

#[test]
fn the_certificates_of_proxy_and_target_are_verified_each_by_its_own_options() {
    with_watchdog(|| {
        let relay = Relay::start();
        let front = Front::start(&server_config(), relay.address());
        let port = front.address().port();
        let failure = |proxy: Proxy| {
            let socket = through(proxy.credentials("alice", "pa55word").unwrap());
            let socket = socket.connect_with(TARGET, options(authority())).unwrap();
            let error = socket.opened().unwrap_err();
            assert_eq!((error.kind(), error.step()), (ErrorKind::Tls, Some(Step::Proxy)));
            let text = error.to_string();
            let start =
                format!("cannot connect to {TARGET}: cannot secure the connection to proxy ");
            assert!(text.starts_with(&start), "{text}");
            assert!(!text.contains("alice") && !text.contains("pa55word"), "{text}");
            assert!(error.timings().is_some_and(|it| it.proxy > ms(0) && it.handshake == ms(0)));
            error
        };
        let other_name = trust_only_names(authority()).server_name("other.test");
        let error = failure(Proxy::https(front.address(), other_name).unwrap());
        assert_eq!(error.tls_failure(), Some(TlsFailure::NameMismatch));
        let others = TlsOptions::new().roots(Roots::WebPki).server_name("localhost");
        let error = failure(Proxy::https(front.address(), others).unwrap());
        assert_eq!(error.tls_failure(), Some(TlsFailure::UnknownIssuer));
        let refuses = trust_only(authority()).add_verifier(|_| Err("not this one".to_owned()));
        let error = failure(Proxy::https(front.address(), refuses).unwrap());
        assert!(error.to_string().contains("not this one"), "{error}");
        assert_eq!(front.seen().data, 0, "the request has credentials");

        // The name of the proxy counts, if no other one is set.
        let resolver = |_: &str| Ok(vec!["127.0.0.1".parse().unwrap()]);
        let proxy = Proxy::https(("good.test", port), trust_only_names(authority())).unwrap();
        let connector = Connector::builder().resolver(resolver).proxy(proxy).build().unwrap();
        let peer = TlsPeer::refused(&server_config());
        let tls = with(SecureTransport::On, trust_only_names(authority()));
        let target = ("other.test", peer.address().port());
        let error = connector.connect_with(target, tls).unwrap().opened().unwrap_err();
        assert_eq!(error.tls_failure(), Some(TlsFailure::NameMismatch));
        let text = error.to_string();
        assert!(text.starts_with("cannot secure the connection to other.test"), "{text}");
    });
}

#[test]
fn a_verifier_for_the_proxy_runs_once_for_each_connection() {
    with_watchdog(|| {
        let relay = Relay::start();
        let front = Front::start(&server_config(), relay.address());
        let runs = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&runs);
        let tls = trust_only(authority()).resumption(false).add_verifier(move |certificates| {
            assert_eq!(certificates.server_name(), Some("localhost"));
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        let connector = through(Proxy::https(front.address(), tls).unwrap());
        let data = random_bytes(5, 200_000);
        let echo = Server::echoes();
        let socket = connector.connect(echo.address()).unwrap();
        check_echo(&socket, &data);
        let peer = TlsPeer::echoes(&server_config());
        let socket = connector.connect_with(peer.address(), options(authority())).unwrap();
        check_echo(&socket, &data);
        // No thread waits for it.
        let socket = connector.connect(echo.address()).unwrap();
        eventually(PROMPT, "the socket opens by itself", || socket.phase() == Phase::Open);
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn a_refusal_of_an_https_proxy_is_that_of_a_proxy() {
    with_watchdog(|| {
        let (_server, front) = scripted(|mut stream| {
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\nno").unwrap();
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        let error = through(https(front.address())).connect(TARGET).unwrap().opened().unwrap_err();
        assert_eq!(error.proxy_reply(), Some(ProxyReply::Http(403)));
        let expected =
            format!("cannot connect to {TARGET}: proxy {} refused: 403 Forbidden", front.address());
        assert_eq!(error.to_string(), expected);
        eventually(PROMPT, "the session ends in order", || front.seen().ended == 1);

        for end in [b"".as_slice(), b"HTTP/1.1 20"] {
            let (_server, front) = scripted(move |mut stream| stream.write_all(end).unwrap());
            let socket = through(https(front.address())).connect(TARGET).unwrap();
            let error = socket.opened().unwrap_err();
            assert_eq!(error.proxy_reply(), Some(ProxyReply::Disconnected), "{error}");
        }
    });
}

#[test]
fn a_proxy_without_tls_or_without_an_answer_is_named() {
    with_watchdog(|| {
        // It takes the ClientHello for a bad request.
        let plain = Server::scripted(|mut stream| {
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        let named = format!("proxy {}", plain.address());
        let error = through(https(plain.address())).connect(TARGET).unwrap().opened().unwrap_err();
        assert_eq!(error.tls_failure(), Some(TlsFailure::NotTls));
        assert!(error.to_string().contains(&named), "{error}");

        let silent = listen();
        let named = format!("proxy {}", silent.local_addr().unwrap());
        let options = SocketOptions::new().connect_timeout(ms(300));
        let begun = Instant::now();
        let socket = through(https(silent.local_addr().unwrap())).connect_with(TARGET, options);
        let error = socket.unwrap().opened().unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::TimedOut, Some(Step::Proxy)));
        let said = error.to_string();
        assert!(said.contains(&named) && said.contains("TLS handshake in time"), "{error}");
        assert!((ms(300)..Duration::from_secs(5)).contains(&begun.elapsed()));

        let closed = closed_port();
        let error = through(https(closed.address)).connect(TARGET).unwrap().opened().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(error.to_string().contains("cannot reach proxy 127.0.0.1"), "{error}");

        // In the handshake.
        let ends = Server::scripted(|mut stream| drop(stream.read(&mut [0; 64])));
        let error = through(https(ends.address())).connect(TARGET).unwrap().opened().unwrap_err();
        assert_eq!(error.proxy_reply(), Some(ProxyReply::Disconnected), "{error}");
    });
}

#[test]
fn the_greeting_behind_the_answer_arrives_whole_at_every_cut() {
    with_watchdog(|| {
        let whole = b"HTTP/1.1 200 OK\r\n\r\n220 mail ready\r\n";
        for cut in 0..=whole.len() {
            let (_server, front) = scripted(move |mut stream| {
                stream.set_nodelay(true).unwrap();
                stream.write_all(&whole[..cut]).unwrap();
                std::thread::sleep(ms(2));
                stream.write_all(&whole[cut..]).unwrap();
                let _ = io::copy(&mut stream, &mut io::sink());
            });
            let socket = through(https(front.address())).connect(TARGET).unwrap();
            let mut line = String::new();
            BufReader::new(socket.reader()).read_line(&mut line).unwrap();
            assert_eq!(line, "220 mail ready\r\n", "{cut}");
        }
    });
}

#[test]
fn the_ends_of_plaintext_are_those_of_the_session_with_the_proxy() {
    with_watchdog(|| {
        let (relay, listener) = (Relay::start(), listen());
        let front = Front::start(&server_config(), relay.address());
        let half_open = SocketOptions::new().allow_half_open(true);
        let connector = through(https(front.address()));
        let socket = connector.connect_with(listener.local_addr().unwrap(), half_open).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"last").unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&socket).unwrap(), b"last");
        assert_eq!(socket.phase(), Phase::HalfClosed);
        socket.writer().write_all(b"more").unwrap();
        socket.close().unwrap();
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"more");
        eventually(PROMPT, "the session has ended", || front.seen().ended == 1);

        // The proxy ends without close_notify.
        let request = format!("CONNECT {TARGET} HTTP/1.1\r\nHost: {TARGET}\r\n\r\n");
        let proxy = TlsPeer::secured(&server_config(), move |peer| {
            peer.receive(request.len());
            peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf of i");
            peer.fin();
        });
        let socket = through(https(proxy.address())).connect(TARGET).unwrap();
        assert_eq!(read_exactly(&socket, 9).unwrap(), b"half of i");
        let error = read_to_end(&socket).unwrap_err();
        assert_eq!(sockeye::Error::from_io(&error).unwrap().kind(), ErrorKind::Truncated);
    });
}

#[test]
fn an_upgrade_works_inside_tls_with_the_proxy() {
    with_watchdog(|| {
        let relay = Relay::start();
        let front = Front::start(&server_config(), relay.address());
        let foreign = trust_only(authority()).add_verifier(|_| Ok(()));
        for proxy in [https(front.address()), Proxy::https(front.address(), foreign).unwrap()] {
            let peer = TlsPeer::scripted(&server_config(), |peer| {
                peer.accept_starttls();
                peer.handshake();
                peer.echo();
            });
            let connector = through(proxy);
            let socket = connector.connect_with(peer.address(), upgradable(authority())).unwrap();
            ask(&socket);
            let secured = socket.start_tls().unwrap();
            let info = secured.opened().unwrap();
            assert!(info.tls().is_some() && info.proxy_address() == Some(front.address()));
            assert_upgraded(&socket);
            check_echo(&secured, &random_bytes(9, 200_000));
        }
    });
}

#[test]
fn a_go_ahead_precedes_a_handshake_as_the_server() {
    with_watchdog(|| {
        let relay = Relay::start();
        let front = Front::start(&server_config(), relay.address());
        let listener = listen();
        let target = listener.local_addr().unwrap();
        let issued = authority().issues(&valid_cert());
        let identity = Identity::from_pem(issued.chain_pem(), issued.key_pem()).unwrap();
        let server = SocketOptions::new()
            .secure_transport(SecureTransport::StartTls)
            .server_tls(ServerTlsOptions::new(identity));
        let server = through(https(front.address())).connect_with(target, server).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let client = Connector::builder().build().unwrap();
        let client = client.adopt(stream, upgradable(authority())).unwrap();
        client.writer().write_all(ASK).unwrap();
        assert_eq!(read_exactly(&server, ASK.len()).unwrap(), ASK);
        let upgrading = spawn_call(move || {
            assert_eq!(read_exactly(&client, GO.len()).unwrap(), GO);
            let client = client.start_tls().unwrap();
            client.opened().unwrap();
            client
        });
        let server = server.start_tls_after(GO).unwrap();
        server.opened().unwrap();
        let client = upgrading.join();
        client.writer().write_all(b"ping").unwrap();
        assert_eq!(read_exactly(&server, 4).unwrap(), b"ping");
    });
}

/// What an attacker may add behind the proxy: before an upgrade, and behind the answer.
#[test]
fn the_injection_matrix_holds_through_an_https_proxy() {
    for (name, injected) in injections() {
        println!("{name}");
        let bytes = injected.clone();
        with_watchdog(move || {
            let relay = Relay::start();
            let front = Front::start(&server_config(), relay.address());
            let peer = TlsPeer::scripted(&server_config(), move |peer| {
                assert_eq!(peer.recv_raw(ASK.len()), ASK);
                // The other end may be gone before everything is sent.
                let _ = peer.try_raw(&[GO, &bytes].concat());
            });
            let connector = through(https(front.address()));
            let socket = connector.connect_with(peer.address(), upgradable(authority())).unwrap();
            ask(&socket);
            let is_unread = || matches!(socket.health(), Health::Unread);
            eventually(PROMPT, "the plaintext arrives", is_unread);
            assert_injection_refused(&socket);
        });
        let wire = [b"HTTP/1.1 200 OK\r\n\r\n", &injected[..]].concat();
        with_watchdog(move || {
            let (_server, front) = scripted(move |mut stream| {
                // The other end may be gone before everything is sent.
                let _ = stream.write_all(&wire);
                let mut rest = Vec::new();
                let _ = io::copy(&mut stream, &mut rest);
                assert!(rest.is_empty(), "no ClientHello was sent");
            });
            let connector = through(https(front.address()));
            let socket = connector.connect_with(TARGET, options(authority())).unwrap();
            let error = socket.opened().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnreadPlaintext, "{name}: {error}");
        });
    }
}

/// It may arrive just before the upgrade, when no thread has looked at the wire.
#[test]
fn plaintext_that_nobody_has_decrypted_is_found_before_an_upgrade() {
    with_watchdog(|| {
        for _ in 0..20 {
            let relay = Relay::start();
            let front = Front::start(&server_config(), relay.address());
            let (sent, arrived) = std::sync::mpsc::channel();
            let peer = TlsPeer::scripted(&server_config(), move |peer| {
                assert_eq!(peer.recv_raw(ASK.len()), ASK);
                let _ = peer.try_raw(&[GO, b"injected"].concat());
                sent.send(()).unwrap();
            });
            let connector = through(https(front.address()));
            let socket = connector.connect_with(peer.address(), upgradable(authority())).unwrap();
            ask(&socket);
            arrived.recv().unwrap();
            assert_injection_refused(&socket);
        }
    });
}

#[test]
fn writes_before_an_upgrade_arrive_before_its_handshake() {
    with_watchdog(|| {
        let relay = Relay::start();
        let front = Front::start(&server_config(), relay.address());
        let data = random_bytes(4, 3_000_000);
        let expected = data.clone();
        let peer = TlsPeer::scripted(&server_config(), move |peer| {
            assert!(peer.recv_raw(expected.len()) == expected);
            peer.handshake();
            peer.echo();
        });
        let connector = through(https(front.address()));
        let socket = connector.connect_with(peer.address(), upgradable(authority())).unwrap();
        socket.writer().write_all(&data).unwrap();
        // The kernel does not have all of it yet.
        let secured = socket.start_tls().unwrap();
        secured.writer().write_all(b"ping").unwrap();
        assert_eq!(read_exactly(&secured, 4).unwrap(), b"ping");
    });
}

#[test]
fn plaintext_to_an_https_proxy_is_driven_like_tls() {
    with_watchdog(|| {
        let relay = Relay::start();
        let front = Front::start(&server_config(), relay.address());
        let echo = Server::echoes();
        let connector = through(https(front.address()));
        let socket = connector.connect(echo.address()).unwrap();
        socket.opened().unwrap();
        assert_eq!(socket.secure_transport(), SecureTransport::Off);
        assert!(matches!(socket.health(), Health::Idle));
        let error = socket.detach().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidState);
        assert!(error.to_string().contains("the connection to the proxy uses TLS"), "{error}");

        let poller = Poller::new().unwrap();
        poller.add(&socket, 7, Interest::READABLE).unwrap();
        socket.writer().write_all(b"one\ntwo").unwrap();
        let mut events = Events::with_capacity(4);
        assert_eq!(poller.wait(&mut events, PROMPT).unwrap(), 1);
        assert_eq!(events.iter().map(|event| event.key).collect::<Vec<_>>(), [7]);
        let mut peeked = [0; 3];
        assert_eq!(socket.peek(&mut peeked).unwrap(), 3);
        let mut line = Vec::new();
        assert_eq!(socket.reader().read_until(b'\n', &mut line, 10).unwrap(), 4);
        assert_eq!(line, b"one\n");
        assert_eq!(read_exactly(&socket, 3).unwrap(), b"two");

        // Without splice(2).
        let (near, other) = (listen(), connector.connect(echo.address()).unwrap());
        let client = sockeye::connect(near.local_addr().unwrap()).unwrap();
        let (stream, _) = near.accept().unwrap();
        let accepted = connector.adopt(stream, SocketOptions::new()).unwrap();
        let relaying = spawn_call(move || sockeye::tunnel(&accepted, &other, PROMPT));
        let data = random_bytes(8, 500_000);
        check_echo(&client, &data);
        assert_eq!(relaying.join().unwrap(), (500_000, 500_000));
    });
}

#[test]
fn another_address_is_tried_through_the_proxy() {
    with_watchdog(|| {
        let relay = Relay::start();
        let front = Front::start(&server_config(), relay.address());
        let peer = TlsPeer::echoes(&server_config());
        // Nothing listens on the first.
        let resolver =
            |_: &str| Ok(vec!["127.0.0.2".parse().unwrap(), "127.0.0.1".parse().unwrap()]);
        let proxy = https(front.address()).resolve_locally();
        let connector = Connector::builder().resolver(resolver).proxy(proxy).build().unwrap();
        let target = ("good.test", peer.address().port());
        let options = with(SecureTransport::On, trust_only_names(authority()));
        let socket = connector.connect_with(target, options).unwrap();
        check_echo(&socket, b"ping");
        let seen = front.seen();
        assert_eq!((seen.connections, seen.ended), (2, 2));
    });
}

#[test]
fn a_close_ends_it_at_every_stage() {
    with_watchdog(|| {
        for wait in [0, 1, 3, 10, 30] {
            for secured in [false, true] {
                let (relay, echo) = (Relay::start(), Server::echoes());
                let front = Front::start(&server_config(), relay.address());
                let connector = through(https(front.address()));
                let options = if secured { options(authority()) } else { SocketOptions::new() };
                let socket = connector.connect_with(echo.address(), options).unwrap();
                std::thread::sleep(ms(wait));
                socket.close().unwrap();
                assert_eq!(socket.phase(), Phase::Closed);
            }
        }
    });
}

#[test]
fn options_that_cannot_work_with_a_proxy_are_refused() {
    let error = |tls: TlsOptions| Proxy::https("proxy.test:443", tls).unwrap_err();
    for protocols in [&["h2"][..], &["h2", "http/1.1"]] {
        let refused = error(trust_only(authority()).alpn(protocols.iter().copied()));
        assert_eq!(refused.kind(), ErrorKind::InvalidOptions);
        assert!(refused.to_string().contains("http/1.1"), "{refused}");
    }
    assert_eq!(error(TlsOptions::new().server_name("")).kind(), ErrorKind::InvalidOptions);
    let refused = Proxy::https("127.1:443", TlsOptions::new()).unwrap_err();
    assert!(refused.to_string().contains("no certificate can match"), "{refused}");
    assert!(Proxy::https("127.1:443", TlsOptions::new().server_name("a.test")).is_ok());

    // Only the crypto provider and the roots tell whether these can be used.
    for (tls, reason) in [
        (TlsOptions::new().cipher_suites([0xffff]), "cipher suite"),
        (TlsOptions::new().key_exchange_groups([0xffff]), "key exchange group"),
        (TlsOptions::new().only_added_roots(), "no roots to trust"),
    ] {
        let proxy = Proxy::https("proxy.test:443", tls).unwrap();
        for rules in [ProxyRules::new().all(proxy.clone()), ProxyRules::new().tls(proxy)] {
            let refused = Connector::builder().proxy(rules).build().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidOptions);
            assert!(refused.to_string().contains(reason), "{refused}");
        }
    }

    with_watchdog(|| {
        let relay = Relay::start();
        let front = Front::start(&server_config().alpn(&["http/1.1"]), relay.address());
        let tls = trust_only(authority()).alpn(["http/1.1"]);
        let echo = Server::echoes();
        let connector = through(Proxy::https(front.address(), tls).unwrap());
        check_echo(&connector.connect(echo.address()).unwrap(), b"ping");
    });
}

#[test]
fn credentials_are_sent_inside_tls_only() {
    with_watchdog(|| {
        let (heads, requests) = std::sync::mpsc::channel();
        let server = Server::scripted(move |mut stream| {
            heads.send(read_head(&mut stream)).unwrap();
            stream.write_all(b"HTTP/1.1 407 Again\r\n\r\n").unwrap();
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        let front = Front::start(&server_config(), server.address());
        let proxy = https(front.address()).credentials("alice", "pa55word").unwrap();
        let error = through(proxy).connect(TARGET).unwrap().opened().unwrap_err();
        assert_eq!(error.proxy_reply(), Some(ProxyReply::Http(407)));
        let head = String::from_utf8(requests.recv().unwrap()).unwrap();
        assert!(head.contains("\r\nProxy-Authorization: Basic YWxpY2U6cGE1NXdvcmQ=\r\n"), "{head}");
    });
}
