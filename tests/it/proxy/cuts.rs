//! Every answer of a proxy in every cut, with every part of a greeting behind it: no byte is lost or doubled.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;

use sockeye::{ErrorKind, Proxy, SecureTransport};

use super::{TARGET, http, read_head, socks4a, socks5, take, through};
use crate::support::peer::Server;
use crate::support::tls::{TlsPeer, authority, options, server_config, trust_only, with};
use crate::support::{ms, read_exactly, read_to_end, with_watchdog};

/// The request of HTTP CONNECT for [`TARGET`].
const REQUEST: &str = "CONNECT db.example.com:5432 HTTP/1.1\r\nHost: db.example.com:5432\r\n\r\n";
/// What the target sends at once, as an SMTP server does.
const GREETING: &[u8] = b"220 ready\r\n";

/// Plays an answer in two pieces for each connection.
#[derive(Clone)]
struct Cut {
    /// What the proxy sends before its last answer, each after as many bytes as it expects.
    before: &'static [(usize, &'static [u8])],
    /// Reads the last request.
    request: fn(&mut TcpStream),
    /// The last answer, and what follows it.
    wire: Vec<u8>,
    cut: usize,
}

#[test]
fn http_answers() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\n\r\n"[..],
        b"HTTP/1.0 200\n\n",
        b"HTTP/1.1 100 a\r\n\r\nHTTP/1.1 299 b\r\nContent-Length: 12\r\n\r\n",
    ] {
        let request = |stream: &mut TcpStream| drop(read_head(stream));
        check(http, &[], request, answer);
    }
}

#[test]
fn socks5_answers() {
    for answer in
        [&b"\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34"[..], b"\x05\x00\x00\x03\x05relay\x12\x34"]
    {
        let request = |stream: &mut TcpStream| drop(take(stream, 4 + 1 + 14 + 2));
        check(socks5, &[(3, b"\x05\x00")], request, answer);
    }
    let named = |address| socks5(address).credentials("alice", "secret").unwrap();
    const BEFORE: &[(usize, &[u8])] = &[(4, b"\x05\x02"), (1 + 6 + 7, b"\x01\x00")];
    let request = |stream: &mut TcpStream| drop(take(stream, 4 + 1 + 14 + 2));
    check(named, BEFORE, request, b"\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34");
}

#[test]
fn socks4_answers() {
    let request = |stream: &mut TcpStream| drop(take(stream, 8 + 1 + 15));
    check(socks4a, &[], request, b"\x00\x5a\x12\x34\x7f\x00\x00\x01");
}

/// Plays every cut of the answer and of what follows it, which is every part of the greeting.
fn check(
    proxy: impl Fn(std::net::SocketAddr) -> Proxy + Send + 'static,
    before: &'static [(usize, &'static [u8])],
    request: fn(&mut TcpStream),
    answer: &'static [u8],
) {
    with_watchdog(move || {
        let (cuts, next) = mpsc::channel::<Cut>();
        let server = Server::scripted(move |mut stream| match next.recv() {
            Ok(cut) => cut.play(&mut stream),
            Err(_) => drop(stream),
        });
        let connector = through(proxy(server.address()));
        for follows in 0..=GREETING.len() {
            let wire = [answer, &GREETING[..follows]].concat();
            for cut in 0..wire.len() {
                cuts.send(Cut { before, request, wire: wire.clone(), cut }).unwrap();
                let socket = connector.connect(TARGET).unwrap();
                if cut % 2 == 0 {
                    socket.opened().unwrap();
                }
                socket.writer().write_all(b"ping").unwrap();
                let received = read_to_end(&socket).unwrap();
                let expected = [&GREETING[..follows], b"pong"].concat();
                assert_eq!(received, expected, "cut at {cut}, {follows} bytes follow");
            }
        }
        drop(cuts);
    });
}

/// Over TLS nothing may follow the answer before the ClientHello, wherever the answer is cut.
#[test]
fn tls_begins_behind_every_cut_and_nothing_else_may() {
    for (proxy, request, answer) in [
        (http as fn(_) -> _, REQUEST.len(), &b"HTTP/1.1 200 OK\r\n\r\n"[..]),
        (socks4a, 8 + 1 + 15, b"\x00\x5a\x12\x34\x7f\x00\x00\x01"),
    ] {
        with_watchdog(move || {
            for cut in 0..answer.len() {
                let peer = TlsPeer::scripted(&server_config(), move |peer| {
                    peer.recv_raw(request);
                    let (first, second) = answer.split_at(cut);
                    peer.raw(first);
                    peer.wait(ms(1));
                    peer.raw(second);
                    peer.handshake();
                    peer.echo();
                });
                let connector = through(proxy(peer.address()));
                let tls =
                    with(SecureTransport::On, trust_only(authority()).server_name("localhost"));
                let socket = connector.connect_with(TARGET, tls).unwrap();
                socket.writer().write_all(b"ping").unwrap();
                assert_eq!(read_exactly(&socket, 4).unwrap(), b"ping", "cut at {cut}");
            }
            for follows in 1..=GREETING.len() {
                for cut in 0..answer.len() {
                    let wire = [answer, &GREETING[..follows]].concat();
                    let server = Server::scripted(move |mut stream| {
                        take(&mut stream, request);
                        stream.set_nodelay(true).unwrap();
                        let (first, second) = wire.split_at(cut);
                        stream.write_all(first).unwrap();
                        std::thread::sleep(ms(1));
                        stream.write_all(second).unwrap();
                        assert_eq!(read_to_end(stream).unwrap_or_default(), b"");
                    });
                    let connector = through(proxy(server.address()));
                    let socket = connector.connect_with(TARGET, options(authority())).unwrap();
                    let error = socket.opened().unwrap_err();
                    let place = format!("cut at {cut}, {follows} bytes follow: {error}");
                    assert_eq!(error.kind(), ErrorKind::UnreadPlaintext, "{place}");
                }
            }
        });
    }
}

impl Cut {
    fn play(&self, stream: &mut TcpStream) {
        stream.set_nodelay(true).unwrap();
        for (request, answer) in self.before {
            take(stream, *request);
            // In two pieces too.
            for piece in answer.chunks(1) {
                stream.write_all(piece).unwrap();
            }
        }
        (self.request)(stream);
        let (first, second) = self.wire.split_at(self.cut);
        stream.write_all(first).unwrap();
        // The client usually sees the pieces one by one.
        std::thread::sleep(ms(1));
        stream.write_all(second).unwrap();
        let mut ping = [0; 4];
        stream.read_exact(&mut ping).unwrap();
        assert_eq!(&ping, b"ping", "nothing else follows the request");
        stream.write_all(b"pong").unwrap();
    }
}
