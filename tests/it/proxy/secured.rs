//! TLS through a proxy: from the start, after an upgrade, and with plaintext that an attacker adds.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use sockeye::{ErrorKind, Health, Identity, SecureTransport, ServerTlsOptions, SocketOptions};

use super::relay::Relay;
use super::{TARGET, http, http_proxy, read_head, socks4a, socks5, take, through};
use crate::support::peer::{Server, listen};
use crate::support::tls::{
    ASK, GO, TlsPeer, ask, assert_injection_refused, assert_upgraded, authority, options,
    server_config, trust_only, trust_only_names, upgradable, valid_cert, with,
};
use crate::support::{PROMPT, eventually, ms, read_exactly, spawn_call, with_watchdog};
use crate::tls::injection::injections;

#[test]
fn tls_from_the_start_verifies_the_target() {
    with_watchdog(|| {
        let relay = Relay::start();
        for proxy in [http(relay.address()), socks5(relay.address()), socks4a(relay.address())] {
            let peer = TlsPeer::echoes(&server_config());
            let tls = with(SecureTransport::On, trust_only_names(authority()));
            let target = ("good.test", peer.address().port());
            let socket = through(proxy.clone()).connect_with(target, tls.clone()).unwrap();
            let info = socket.opened().unwrap();
            assert!(info.tls().is_some() && info.proxy_address().is_some());
            assert!(info.timings().handshake > ms(0) && info.timings().proxy > ms(0));
            socket.writer().write_all(b"ping").unwrap();
            assert_eq!(read_exactly(&socket, 4).unwrap(), b"ping");
            drop(socket);

            let peer = TlsPeer::refused(&server_config());
            let other = ("other.test", peer.address().port());
            let socket = through(proxy).connect_with(other, tls).unwrap();
            let error = socket.opened().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Tls);
            assert!(error.to_string().contains("other.test"), "{error}");
            assert!(error.timings().is_some_and(|it| it.proxy > ms(0) && it.connect > ms(0)));
        }
    });
}

#[test]
fn a_verifier_of_the_program_runs_for_the_target() {
    with_watchdog(|| {
        let (relay, peer) = (Relay::start(), TlsPeer::echoes(&server_config()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let tls = trust_only(authority()).add_verifier(move |certificates| {
            let name = certificates.server_name().map(str::to_owned);
            log.lock().unwrap_or_else(PoisonError::into_inner).push(name);
            Ok(())
        });
        let connector = through(http(relay.address()));
        let options = with(SecureTransport::On, tls);
        let socket = connector.connect_with(peer.address(), options).unwrap();
        socket.opened().unwrap();
        socket.writer().write_all(b"ping").unwrap();
        assert_eq!(read_exactly(&socket, 4).unwrap(), b"ping");
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(*seen, [Some("localhost".to_owned())]);
    });
}

#[test]
fn bytes_between_the_answer_and_the_handshake_are_refused() {
    with_watchdog(|| {
        let server_hello = [22, 3, 3, 0, 4, 14, 0, 0, 0];
        for injected in
            [&b"2"[..], b"220 mail\r\n", &server_hello, &[21, 3, 3, 0, 2, 2, 40], &[b'x'; 5000]]
        {
            for split in [false, true] {
                let injected = injected.to_vec();
                let server = http_proxy(move |mut stream: TcpStream| {
                    stream.set_nodelay(true).unwrap();
                    let answer = b"HTTP/1.1 200 OK\r\n\r\n";
                    let cut = if split { answer.len() - 1 } else { 0 };
                    stream.write_all(&answer[..cut]).unwrap();
                    if split {
                        std::thread::sleep(ms(20));
                    }
                    stream.write_all(&[&answer[cut..], &injected].concat()).unwrap();
                    let mut rest = Vec::new();
                    let _ = io::copy(&mut stream, &mut rest);
                    assert!(rest.is_empty(), "no ClientHello was sent");
                });
                let connector = through(http(server.address()));
                let socket = connector.connect_with(TARGET, options(authority())).unwrap();
                let error = socket.opened().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::UnreadPlaintext, "{error}");
                let text = format!("proxy {} accepted, but plaintext followed", server.address());
                assert!(error.to_string().contains(&text), "{error}");
            }
        }
    });
}

/// The driver looks at no more than 4 KiB at a time.
#[test]
fn bytes_behind_a_long_answer_are_refused() {
    with_watchdog(|| {
        for length in [4095, 4096, 4097, 8191, 8192, 8193, 12_288, 16_383, 16_384] {
            for injected in [1, 5000] {
                let server = http_proxy(move |mut stream: TcpStream| {
                    let mut answer = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
                    answer.resize(length - 4, b'a');
                    answer.extend_from_slice(b"\r\n\r\n");
                    answer.resize(length + injected, b'x');
                    stream.write_all(&answer).unwrap();
                    let mut rest = Vec::new();
                    let _ = io::copy(&mut stream, &mut rest);
                    assert!(rest.is_empty(), "no ClientHello was sent");
                });
                let connector = through(http(server.address()));
                let socket = connector.connect_with(TARGET, options(authority())).unwrap();
                let error = socket.opened().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::UnreadPlaintext, "{length}: {error}");
            }
        }
    });
}

#[test]
fn an_upgrade_works_through_a_proxy() {
    with_watchdog(|| {
        let relay = Relay::start();
        for proxy in [http(relay.address()), socks5(relay.address()), socks4a(relay.address())] {
            let peer = TlsPeer::scripted(&server_config(), |peer| {
                peer.accept_starttls();
                peer.handshake();
                peer.echo();
            });
            let socket =
                through(proxy).connect_with(peer.address(), upgradable(authority())).unwrap();
            ask(&socket);
            let secured = socket.start_tls().unwrap();
            let info = secured.opened().unwrap();
            assert_eq!(info.proxy_address(), Some(relay.address()));
            assert_upgraded(&socket);
            secured.writer().write_all(b"ping").unwrap();
            assert_eq!(read_exactly(&secured, 4).unwrap(), b"ping");
        }
    });
}

#[test]
fn plaintext_before_an_upgrade_is_refused_through_a_proxy() {
    with_watchdog(|| {
        let relay = Relay::start();
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            assert_eq!(peer.recv_raw(ASK.len()), ASK);
            peer.raw(&[GO, b"injected"].concat());
        });
        let connector = through(socks5(relay.address()));
        let socket = connector.connect_with(peer.address(), upgradable(authority())).unwrap();
        ask(&socket);
        eventually(PROMPT, "the plaintext arrives", || matches!(socket.health(), Health::Unread));
        assert_injection_refused(&socket);
    });
}

/// What an attacker may add to the reply before an upgrade, behind each kind of proxy, and behind its answer.
#[test]
fn the_injection_matrix_holds_through_every_proxy() {
    for (name, injected) in injections() {
        for proxy in [http as fn(_) -> _, socks5, socks4a] {
            println!("{name}");
            let bytes = injected.clone();
            with_watchdog(move || {
                let relay = Relay::start();
                let peer = TlsPeer::scripted(&server_config(), move |peer| {
                    assert_eq!(peer.recv_raw(ASK.len()), ASK);
                    // The other end may be gone before everything is sent.
                    let _ = peer.try_raw(&[GO, &bytes].concat());
                });
                let connector = through(proxy(relay.address()));
                let socket =
                    connector.connect_with(peer.address(), upgradable(authority())).unwrap();
                ask(&socket);
                let is_unread = || matches!(socket.health(), Health::Unread);
                eventually(PROMPT, "the plaintext arrives", is_unread);
                assert_injection_refused(&socket);
            });
        }
        for (proxy, request, answer) in [
            (http as fn(_) -> _, 0, &b"HTTP/1.1 200 OK\r\n\r\n"[..]),
            (socks4a, 24, b"\0\x5a\0\0\0\0\0\0"),
        ] {
            let wire = [answer, &injected].concat();
            with_watchdog(move || {
                let server = Server::scripted(move |mut stream| {
                    match request {
                        0 => drop(read_head(&mut stream)),
                        count => drop(take(&mut stream, count)),
                    }
                    // The other end may be gone before everything is sent.
                    let _ = stream.write_all(&wire);
                    let mut rest = Vec::new();
                    let _ = io::copy(&mut stream, &mut rest);
                    assert!(rest.is_empty(), "no ClientHello was sent");
                });
                let connector = through(proxy(server.address()));
                let socket = connector.connect_with(TARGET, options(authority())).unwrap();
                let error = socket.opened().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::UnreadPlaintext, "{name}: {error}");
            });
        }
    }
}

#[test]
fn a_client_hello_may_follow_the_answer_if_this_side_is_the_server() {
    with_watchdog(|| {
        let listener = listen();
        let address = listener.local_addr().unwrap();
        // It sends the ClientHello together with its answer.
        let proxy = http_proxy(move |mut stream| {
            let (mut client, _) = listener.accept().unwrap();
            let mut hello = [0; 4096];
            let length = client.read(&mut hello).unwrap();
            stream.write_all(&[b"HTTP/1.1 200 OK\r\n\r\n", &hello[..length]].concat()).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), stream.try_clone().unwrap());
            let up = spawn_call(move || drop(io::copy(&mut from, &mut to)));
            let _ = io::copy(&mut stream, &mut client);
            let _ = client.shutdown(Shutdown::Write);
            up.join();
        });
        let client = sockeye::connect_with(address, options(authority())).unwrap();
        let issued = authority().issues(&valid_cert());
        let identity = Identity::from_pem(issued.chain_pem(), issued.key_pem()).unwrap();
        let server = SocketOptions::new()
            .secure_transport(SecureTransport::On)
            .server_tls(ServerTlsOptions::new(identity));
        let server = through(http(proxy.address())).connect_with(TARGET, server).unwrap();
        let opening = spawn_call({
            let client = client.clone();
            move || client.opened().map(|_| ())
        });
        server.opened().unwrap();
        opening.join().unwrap();
        client.writer().write_all(b"ping").unwrap();
        assert_eq!(read_exactly(&server, 4).unwrap(), b"ping");
        client.close().unwrap();
        server.close().unwrap();
    });
}
