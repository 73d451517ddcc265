//! `Reader::read_until`: lines, and not one byte more.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Instant;

use sockeye::{Health, Socket, SocketOptions};

use crate::support::peer::listen;
use crate::support::tls::{TlsPeer, authority, options, server_config};
use crate::support::{
    PROMPT, SpawnedCall, crate_kind, eventually, ms, read_exactly, read_to_end, spawn_blocked,
    spawn_call, with_watchdog,
};

fn pair(options: SocketOptions) -> (Socket, TcpStream) {
    let listener = listen();
    let address = listener.local_addr().expect("it is bound");
    let socket = sockeye::connect_with(address, options).expect("the options are valid");
    let (peer, _) = listener.accept().expect("the socket connects");
    peer.set_nodelay(true).expect("it is connected");
    (socket, peer)
}

fn line(socket: &Socket, max: usize) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    socket.reader().read_until(b'\n', &mut line, max).map(|bytes| {
        assert_eq!(bytes, line.len());
        line
    })
}

#[test]
fn lines_are_taken_one_by_one_and_the_rest_stays() {
    with_watchdog(|| {
        let (socket, mut peer) = pair(SocketOptions::new());
        peer.write_all(b"one\n\ntwo\nrest").expect("the socket is there");
        assert_eq!(line(&socket, 100).unwrap(), b"one\n");
        assert_eq!(line(&socket, 1).unwrap(), b"\n");
        assert_eq!(line(&socket, 4).unwrap(), b"two\n");
        assert!(matches!(socket.health(), Health::Unread));
        assert_eq!(socket.stats().bytes_read, 9);
        // In the kernel, for another reader.
        let mut stream = socket.detach().expect("it is open");
        let mut rest = [0; 4];
        std::io::Read::read_exact(&mut stream, &mut rest).expect("the bytes are there");
        assert_eq!(&rest, b"rest");
    });
}

#[test]
fn a_line_may_arrive_byte_by_byte_and_be_longer_than_any_buffer() {
    with_watchdog(|| {
        let (socket, mut peer) = pair(SocketOptions::new().read_timeout(PROMPT));
        let sending: SpawnedCall<()> = spawn_call(move || {
            for byte in b"slowly\n" {
                peer.write_all(&[*byte]).expect("the socket reads");
                std::thread::sleep(ms(20));
            }
            let mut long = vec![b'x'; 100_000];
            long.push(b'\n');
            peer.write_all(&long).expect("the socket reads");
            peer.write_all(b"end").expect("the socket reads");
        });
        assert_eq!(line(&socket, 100).unwrap(), b"slowly\n");
        assert_eq!(line(&socket, 200_000).unwrap().len(), 100_001);
        sending.join();
        assert_eq!(line(&socket, 100).unwrap(), b"end", "the end of the stream ends the line");
        assert_eq!(line(&socket, 100).unwrap(), b"");
    });
}

#[test]
fn a_line_that_is_too_long_is_invalid_data_and_stays_within_the_limit() {
    with_watchdog(|| {
        let (socket, mut peer) = pair(SocketOptions::new());
        peer.write_all(b"0123456789\n").expect("the socket is there");
        let mut buf = b"before ".to_vec();
        let error = socket.reader().read_until(b'\n', &mut buf, 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(buf, b"before 0123");
        assert_eq!(
            socket.reader().read_until(b'\n', &mut buf, 0).unwrap_err().kind(),
            error.kind()
        );
        assert_eq!(line(&socket, 7).unwrap(), b"456789\n", "nothing was lost");
    });
}

#[test]
fn the_timeout_applies_to_each_wait_and_a_deadline_to_the_call() {
    with_watchdog(|| {
        let (socket, mut peer) = pair(SocketOptions::new().read_timeout(ms(400)));
        let drip = move |peer: &mut TcpStream, bytes: usize| {
            for _ in 0..bytes {
                peer.write_all(b"x").expect("the socket reads");
                std::thread::sleep(ms(50));
            }
        };
        let sending = spawn_call(move || {
            drip(&mut peer, 12);
            peer.write_all(b"\n").expect("the socket reads");
            drip(&mut peer, 20);
            peer
        });
        assert_eq!(line(&socket, 100).unwrap().len(), 13, "each wait was short");
        socket.set_read_deadline(Some(Instant::now() + ms(200)));
        let mut buf = Vec::new();
        let error = socket.reader().read_until(b'\n', &mut buf, 100).unwrap_err();
        assert_eq!(crate_kind(&error), sockeye::ErrorKind::TimedOut);
        assert!((1..20).contains(&buf.len()), "{} bytes came before the deadline", buf.len());
        socket.set_read_deadline(None);
        let rest = 20 - buf.len();
        assert_eq!(read_exactly(&socket, rest).unwrap().len(), rest, "the socket lives on");
        drop(sending.join());
    });
}

#[test]
fn a_close_ends_it_and_no_other_read_comes_in_between() {
    with_watchdog(|| {
        let (socket, mut peer) = pair(SocketOptions::new());
        peer.write_all(b"abc").expect("the socket is there");
        let reading = spawn_blocked({
            let socket = socket.clone();
            move || line(&socket, 100)
        });
        let other = spawn_call({
            let socket = socket.clone();
            move || read_exactly(&socket, 3)
        });
        peer.write_all(b"def\nghi").expect("the socket is there");
        assert_eq!(reading.join().unwrap(), b"abcdef\n");
        assert_eq!(other.join().unwrap(), b"ghi");
        let reading = spawn_blocked({
            let socket = socket.clone();
            move || line(&socket, 100)
        });
        socket.close().expect("it is open");
        assert_eq!(crate_kind(&reading.join().unwrap_err()), sockeye::ErrorKind::Closed);
    });
}

#[test]
fn over_tls_the_rest_stays_in_the_session() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&server_config(), |peer| {
            peer.send(b"one\ntwo");
            peer.send(b"\nthree\nrest");
            peer.ends();
        });
        let socket = sockeye::connect_with(peer.address(), options(authority())).unwrap();
        assert_eq!(line(&socket, 100).unwrap(), b"one\n");
        assert_eq!(line(&socket, 100).unwrap(), b"two\n");
        let error = line(&socket, 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(line(&socket, 100).unwrap(), b"ree\n");
        eventually(PROMPT, "the rest is unread", || !matches!(socket.health(), Health::Idle));
        assert_eq!(read_to_end(&socket).unwrap(), b"rest");
        peer.finish();
    });
}
