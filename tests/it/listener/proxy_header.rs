//! The PROXY header: the client that it names, which the rules judge, and headers that are wrong.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use sockeye::{
    AcceptWhen, Connector, Error, ErrorKind, Identity, IngressRules, ListenOptions, Listener,
    Phase, ProxyReply, SecureTransport, ServerTlsOptions, Socket, SocketOptions, Step,
};

use super::{accept, assert_client_reset, assert_talks, client_from, client_of, local_with};
use crate::support::tls::{authority, provider, valid_cert};
use crate::support::{
    PROMPT, WATCHDOG, assert_fails, eventually, ms, read_exactly, read_to_end, spawn_blocked,
    spawn_call, with_watchdog,
};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4321 443\r\n";
const CLIENT: &str = "192.0.2.7:4321";
const DENIED: &[u8] = b"PROXY TCP4 192.0.2.66 198.51.100.1 4321 443\r\n";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Expects a header from every address of 127.0.0.0/8.
fn behind() -> ListenOptions {
    ListenOptions::new().proxy_protocol_from("127.0.0.0/8").expect("the net is valid")
}

/// Denies 192.0.2.66, and everyone on this machine, so also the proxy.
fn rules() -> IngressRules {
    let denied = ["192.0.2.66", "127.0.0.0/8"];
    denied.iter().fold(IngressRules::allow_all(), |rules, net| rules.deny_net(net).unwrap())
}

/// Returns version 2 with this command, family, addresses and fields.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[0x20 | command, family], &length, rest].concat()
}

/// Returns version 2 for the same client, with two fields.
fn v2_of_client() -> Vec<u8> {
    let addresses = [&[192, 0, 2, 7, 198, 51, 100, 1][..], &4321_u16.to_be_bytes(), &[1, 187]];
    let fields = [&[1, 0, 2][..], b"h2", &[2, 0, 4], b"name"];
    v2(1, 0x11, &[addresses.concat(), fields.concat()].concat())
}

/// Connects and sends these bytes.
fn sender(listener: &Listener, bytes: &[u8]) -> TcpStream {
    let mut client = client_of(listener);
    client.write_all(bytes).expect("the listener accepts");
    client
}

/// Returns the error with which the next socket fails.
#[track_caller]
fn failure(listener: &Listener) -> Error {
    let socket = accept(listener);
    let error = socket.opened_timeout(WATCHDOG).expect_err("the header is wrong");
    assert_eq!(socket.closed().unwrap_err().kind(), error.kind());
    error
}

#[track_caller]
fn assert_client(socket: &Socket, expected: Option<&str>, proxy: &TcpStream) {
    let info = socket.opened_timeout(WATCHDOG).expect("the header is valid");
    let proxy = proxy.local_addr().unwrap();
    let expected = expected.map_or(proxy, |client| client.parse().unwrap());
    assert_eq!(info.remote_address(), Some(expected));
    assert_eq!(info.proxy_address(), Some(proxy));
    assert_eq!(info.requested().to_string(), proxy.to_string());
    assert!(info.local_address().unwrap().ip().is_loopback());
}

#[test]
fn the_header_names_the_client_and_what_follows_is_the_stream() {
    with_watchdog(|| {
        for when in [AcceptWhen::Connected, AcceptWhen::Opened] {
            let listener = local_with(behind().accept_when(when));
            let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0, 9, 0, 1]].concat();
            let mapped = b"PROXY TCP6 ::ffff:192.0.2.7 ::1 4321 443\r\n".to_vec();
            for (header, client) in [
                (V1.to_vec(), Some(CLIENT)),
                (b"PROXY TCP6 2001:db8::1 ::1 9 1\r\n".to_vec(), Some("[2001:db8::1]:9")),
                (mapped, Some(CLIENT)),
                (UNKNOWN.to_vec(), None),
                (v2_of_client(), Some(CLIENT)),
                (v2(1, 0x21, &v6), Some("[2001:db8::1]:9")),
                (v2(0, 0x00, b""), None),
                (v2(1, 0x00, b"\x01\x00\x00"), None),
                (v2(1, 0x31, &[b'/'; 216]), None),
            ] {
                // Another header behind it belongs to the stream.
                let data = [b"\r\n", V1, &v2_of_client()].concat();
                let client_end = sender(&listener, &[&header[..], &data].concat());
                let socket = accept(&listener);
                assert_client(&socket, client, &client_end);
                assert_eq!(read_exactly(&socket, data.len()).unwrap(), data);
                assert_talks(&client_end, &socket);
                let stats = socket.stats();
                assert_eq!(stats.bytes_read, u64::try_from(data.len() + 4).unwrap());
            }
        }
    });
}

#[test]
fn no_cut_loses_or_doubles_a_byte() {
    with_watchdog(|| {
        let listener = local_with(behind());
        for header in [V1.to_vec(), v2_of_client()] {
            let wire = [&header[..], b"220 ready\r\n"].concat();
            for cut in 1..wire.len() {
                let mut client = sender(&listener, &wire[..cut]);
                let socket = accept(&listener);
                let reader = socket.clone();
                let reading = spawn_call(move || read_exactly(&reader, 11).unwrap());
                if cut % 8 == 0 {
                    // So that the first part is seen alone.
                    thread::sleep(ms(1));
                }
                client.write_all(&wire[cut..]).unwrap();
                assert_eq!(reading.join(), b"220 ready\r\n", "cut at {cut}");
                assert_client(&socket, Some(CLIENT), &client);
            }
            let mut client = client_of(&listener);
            client.set_nodelay(true).unwrap();
            let socket = accept(&listener);
            assert_eq!(socket.phase(), Phase::Connecting);
            for byte in &wire {
                client.write_all(std::slice::from_ref(byte)).unwrap();
                thread::sleep(Duration::from_micros(200));
            }
            assert_eq!(read_exactly(&socket, 11).unwrap(), b"220 ready\r\n");
            assert!(socket.opened().unwrap().timings().proxy > Duration::ZERO);
        }
    });
}

#[test]
fn a_header_that_is_wrong_fails_its_socket_alone() {
    with_watchdog(|| {
        let listener = local_with(behind());
        for (wire, reply, reason) in [
            (
                &b"GET / HTTP/1.1\r\n\r\n"[..],
                ProxyReply::Malformed,
                "no PROXY header came first, but \"GET / HTTP/1.1\"",
            ),
            (
                b"PROXY TCP4 1.2.3.4\r\n",
                ProxyReply::Malformed,
                "the PROXY header of version 1 is malformed",
            ),
            (
                &V1[..20],
                ProxyReply::Disconnected,
                "the connection ended before the PROXY header was complete",
            ),
            (
                b"",
                ProxyReply::Disconnected,
                "the connection ended before the PROXY header was complete",
            ),
        ] {
            let client = sender(&listener, wire);
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let error = failure(&listener);
            assert_eq!((error.kind(), error.proxy_reply()), (ErrorKind::Proxy, Some(reply)));
            assert_eq!(error.step(), Some(Step::Proxy));
            let from = client.local_addr().unwrap();
            let expected = format!("cannot accept the connection from {from}: {reason}");
            assert_eq!(error.to_string(), expected);
            // Nothing is sent to it.
            let mut rest = Vec::new();
            let _ = (&client).read_to_end(&mut rest);
            assert!(rest.is_empty());
        }
        let client = sender(&listener, V1);
        assert_client(&accept(&listener), Some(CLIENT), &client);
        let stats = listener.stats();
        assert_eq!((stats.accepted, stats.opened, stats.failed, stats.denied), (5, 1, 4, 0));
    });
}

#[test]
fn a_reset_within_the_header_is_the_disconnection_of_the_proxy() {
    with_watchdog(|| {
        let listener = local_with(behind());
        let client = sender(&listener, &V1[..9]);
        let socket = accept(&listener);
        let opener = socket.clone();
        let opening = spawn_blocked(move || opener.opened());
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let error = opening.join_within(PROMPT).unwrap_err();
        assert_eq!(error.proxy_reply(), Some(ProxyReply::Disconnected), "{error}");
    });
}

/// Also with `Opened`: the others are accepted at once, and the silent one is not returned.
#[test]
fn a_client_that_stalls_in_the_header_delays_nobody() {
    with_watchdog(|| {
        for when in [AcceptWhen::Connected, AcceptWhen::Opened] {
            let options = behind().accept_when(when).handshake_timeout(ms(400));
            let listener = local_with(options);
            let silent = [sender(&listener, b""), sender(&listener, &v2_of_client()[..14])];
            let stalled: Vec<Socket> = match when {
                AcceptWhen::Connected => silent.iter().map(|_| accept(&listener)).collect(),
                _ => Vec::new(),
            };
            for _ in 0..10 {
                let client = sender(&listener, V1);
                let socket =
                    listener.accept_timeout(PROMPT).expect("no other client is in its way");
                assert_client(&socket, Some(CLIENT), &client);
            }
            eventually(WATCHDOG, "both time out", || listener.stats().failed == 2);
            for socket in stalled {
                let error = socket.opened().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                let end = "the handshake timeout passed before the PROXY header was complete";
                assert!(error.to_string().ends_with(end), "{error}");
                assert_eq!(error.step(), Some(Step::Proxy));
            }
            assert_fails(listener.accept_timeout(Duration::ZERO), ErrorKind::TimedOut);
        }
    });
}

/// The rules deny the proxy's own address, which they do not judge.
#[test]
fn the_rules_judge_the_client_and_not_the_proxy() {
    with_watchdog(|| {
        let listener = local_with(behind().ingress(rules()));
        let client = sender(&listener, V1);
        assert_client(&accept(&listener), Some(CLIENT), &client);
        for header in [UNKNOWN.to_vec(), v2(0, 0x11, b"x")] {
            let client = sender(&listener, &header);
            assert_client(&accept(&listener), None, &client);
        }
        let denied = sender(&listener, &[DENIED, b"data"].concat());
        let error = failure(&listener);
        assert_eq!((error.kind(), error.step()), (ErrorKind::Denied, Some(Step::Proxy)));
        let reason = "the ingress rules deny the client 192.0.2.66";
        assert!(error.to_string().ends_with(reason), "{error}");
        assert_client_reset(denied);
        let stats = listener.stats();
        assert_eq!((stats.opened, stats.denied, stats.failed), (3, 1, 0));
    });
}

#[test]
fn a_denied_client_is_not_returned_once_open() {
    with_watchdog(|| {
        let options = behind().ingress(rules()).accept_when(AcceptWhen::Opened);
        let listener = local_with(options);
        let denied = sender(&listener, DENIED);
        assert_client_reset(denied);
        let client = sender(&listener, V1);
        assert_client(&accept(&listener), Some(CLIENT), &client);
        let stats = listener.stats();
        assert_eq!((stats.accepted, stats.opened, stats.denied, stats.failed), (2, 1, 1, 0));
    });
}

#[test]
fn nobody_else_may_connect() {
    with_watchdog(|| {
        let options = ListenOptions::new()
            .proxy_protocol_from("127.0.0.2")
            .and_then(|options| options.proxy_protocol_from("127.0.0.64/26"))
            .unwrap();
        let listener = local_with(options);
        let port = listener.local_address().unwrap().port();
        let other = sender(&listener, V1);
        assert_fails(listener.accept_timeout(ms(20)), ErrorKind::TimedOut);
        assert_client_reset(other);
        for last in [2, 65, 127] {
            let Some(mut proxy) = client_from([127, 0, 0, last], port) else { return };
            proxy.write_all(V1).unwrap();
            assert_client(&accept(&listener), Some(CLIENT), &proxy);
        }
        let Some(mut other) = client_from([127, 0, 0, 128], port) else { return };
        other.write_all(V1).unwrap();
        assert_fails(listener.accept_timeout(ms(20)), ErrorKind::TimedOut);
        assert_client_reset(other);
        assert_eq!((listener.stats().denied, listener.stats().failed), (2, 0));
    });
}

#[test]
fn without_the_option_a_header_is_data() {
    with_watchdog(|| {
        let listener = local_with(ListenOptions::new());
        let client = sender(&listener, V1);
        let socket = accept(&listener);
        assert_eq!(read_exactly(&socket, V1.len()).unwrap(), V1);
        let info = socket.opened().unwrap();
        assert_eq!(info.remote_address(), Some(client.local_addr().unwrap()));
        assert_eq!(info.proxy_address(), None);
    });
}

/// Each client is counted by the address in its header, from its end on until its socket has closed.
#[test]
fn the_limit_of_each_client_counts_sources() {
    with_watchdog(|| {
        for (when, connector) in [
            (AcceptWhen::Connected, None),
            (AcceptWhen::Opened, None),
            (AcceptWhen::Connected, Some(Connector::builder().build().unwrap())),
        ] {
            let options =
                behind().accept_when(when).ingress(IngressRules::allow_all().max_per_client(2));
            let options = match &connector {
                Some(connector) => options.connector(connector),
                None => options,
            };
            let listener = local_with(options);
            let header = |client: &str, port: u16| {
                format!("PROXY TCP4 {client} 198.51.100.1 {port} 1\r\n").into_bytes()
            };
            let mut clients = Vec::new();
            let mut open = |bytes: &[u8]| {
                clients.push(sender(&listener, bytes));
                let socket = accept(&listener);
                socket.opened().map(|_| socket)
            };
            let first = open(&header("192.0.2.1", 1)).unwrap();
            let _second = open(&header("192.0.2.1", 2)).unwrap();
            let _other = open(&header("192.0.2.2", 1)).unwrap();
            // The proxy itself does not count.
            let _local: Vec<_> = (0..4).map(|_| open(UNKNOWN).unwrap()).collect();
            if when == AcceptWhen::Connected {
                let error = open(&header("192.0.2.1", 3)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Denied);
                let reason = "the client 192.0.2.1 has max_per_client sockets open";
                assert!(error.to_string().ends_with(reason), "{error}");
                assert_eq!(listener.stats().denied, 1);
            } else {
                assert_client_reset(sender(&listener, &header("192.0.2.1", 3)));
            }
            drop(first.close());
            let third = open(&header("192.0.2.1", 4)).unwrap();
            third.abort();
            let _fourth = open(&header("192.0.2.1", 5)).unwrap();
        }
    });
}

#[test]
fn tls_begins_right_behind_the_header() {
    with_watchdog(|| {
        provider();
        let issued = authority().issues(&valid_cert());
        let identity = Identity::from_pem(issued.chain_pem(), issued.key_pem()).unwrap();
        let tls = ServerTlsOptions::new(identity);
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let trusting = ClientConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(authority().roots())
            .with_no_client_auth();
        let trusting = Arc::new(trusting);
        let socket = SocketOptions::new().secure_transport(SecureTransport::On).server_tls(tls);
        for when in [AcceptWhen::Connected, AcceptWhen::Opened] {
            let listener = local_with(behind().socket(socket.clone()).accept_when(when));
            for header in [V1.to_vec(), v2_of_client(), UNKNOWN.to_vec()] {
                let mut client = client_of(&listener);
                let proxy = client.try_clone().unwrap();
                let wire = header.clone();
                let config = Arc::clone(&trusting);
                let client = spawn_call(move || {
                    let name = ServerName::try_from("localhost").unwrap();
                    let mut session = ClientConnection::new(config, name).unwrap();
                    // The ClientHello is in the segment of the header.
                    let mut first = wire;
                    session.write_tls(&mut first).unwrap();
                    client.write_all(&first).unwrap();
                    let mut stream = StreamOwned::new(session, client);
                    stream.write_all(b"ping").unwrap();
                    let mut answer = [0; 4];
                    stream.read_exact(&mut answer).unwrap();
                    answer
                });
                let socket = accept(&listener);
                assert_eq!(read_exactly(&socket, 4).unwrap(), b"ping");
                socket.writer().write_all(b"pong").unwrap();
                assert_eq!(&client.join(), b"pong");
                let named = header != UNKNOWN;
                assert_client(&socket, named.then_some(CLIENT), &proxy);
                let timings = socket.opened().unwrap().timings();
                assert!(timings.handshake > Duration::ZERO);
            }
        }
    });
}

#[test]
fn a_close_or_abort_before_the_header_is_complete_ends_the_wait() {
    with_watchdog(|| {
        let listener = local_with(behind());
        let mut client = sender(&listener, &V1[..5]);
        let socket = accept(&listener);
        let opener = socket.clone();
        let opening = spawn_blocked(move || opener.opened());
        socket.close().unwrap();
        assert_fails(opening.join_within(PROMPT), ErrorKind::Closed);
        assert_eq!(client.read(&mut [0; 9]).unwrap(), 0);

        let client = sender(&listener, &V1[..5]);
        let socket = accept(&listener);
        let mut reader = socket.clone();
        let reading = spawn_blocked(move || reader.read(&mut [0]));
        socket.abort();
        assert!(reading.join_within(PROMPT).is_err());
        assert_client_reset(client);
        assert_eq!(listener.open_sockets(), 0);
        assert_eq!((listener.stats().failed, listener.stats().denied), (0, 0));
    });
}

/// Writes and half-closes wait for the header.
#[test]
fn calls_wait_for_the_header() {
    with_watchdog(|| {
        let listener = local_with(behind());
        let mut client = sender(&listener, &V1[..12]);
        let socket = accept(&listener);
        let mut writer = socket.clone();
        let writing = spawn_blocked(move || writer.write_all(b"hello"));
        client.write_all(&V1[12..]).unwrap();
        writing.join_within(PROMPT).unwrap();
        socket.writer().close().unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"hello");
        client.write_all(b"bye").unwrap();
        drop(client);
        assert_eq!(read_to_end(&socket).unwrap(), b"bye");
    });
}

#[test]
fn nets_are_checked_and_several_add_up() {
    for net in ["10.0.0.1/8", "example.com", "", "10.0.0.0/33"] {
        let error = ListenOptions::new().proxy_protocol_from(net).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{net}");
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    // An adopted listener expects headers too; an IPv4-mapped net is the IPv4 net.
    let options = ListenOptions::new().proxy_protocol_from("::ffff:127.0.0.0/104").unwrap();
    let adopted = Listener::adopt(listener, options).unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(V1).unwrap();
    let info = accept(&adopted).opened().unwrap();
    assert_eq!(info.remote_address().map(|it| it.ip()), Some(IpAddr::from([192, 0, 2, 7])));
}
