//! Calls that end a socket, or one of its directions, during the dialogue.

use std::io::{ErrorKind as IoKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};

use sockeye::{ErrorKind, Phase, Socket, SocketOptions};

use super::{TARGET, http, read_head, through};
use crate::support::peer::Server;
use crate::support::{
    PROMPT, assert_ended_with, assert_fails, read_exactly, read_to_end, spawn_blocked,
    with_watchdog,
};

/// Starts a proxy that has got the request and does not answer. Returns its end of each connection.
fn silent() -> (Server, Receiver<TcpStream>) {
    let (streams, received) = channel();
    let server = Server::scripted(move |mut stream| {
        read_head(&mut stream);
        streams.send(stream).expect("the test receives it");
    });
    (server, received)
}

/// Opens a socket whose proxy has the request.
fn thinking(options: SocketOptions) -> (Socket, TcpStream, Server) {
    let (server, received) = silent();
    let socket = through(http(server.address())).connect_with(TARGET, options).unwrap();
    let stream = received.recv().unwrap();
    assert_eq!(socket.phase(), Phase::Connecting);
    (socket, stream, server)
}

#[test]
fn a_close_sends_fin_and_ends_all_waits() {
    with_watchdog(|| {
        let (socket, mut proxy, _server) = thinking(SocketOptions::new());
        let opening = spawn_blocked({
            let socket = socket.clone();
            move || socket.opened()
        });
        let reading = spawn_blocked({
            let socket = socket.clone();
            move || read_exactly(&socket, 1)
        });
        socket.close().unwrap();
        assert_fails(opening.join(), ErrorKind::Closed);
        assert_fails(reading.join(), ErrorKind::Closed);
        socket.closed().unwrap();
        assert_eq!(proxy.read(&mut [0; 10]).unwrap(), 0, "FIN and nothing else");
    });
}

#[test]
fn an_abort_resets() {
    with_watchdog(|| {
        let (socket, mut proxy, _server) = thinking(SocketOptions::new());
        let opening = spawn_blocked({
            let socket = socket.clone();
            move || socket.opened()
        });
        socket.abort();
        assert_fails(opening.join(), ErrorKind::Closed);
        assert_eq!(proxy.read(&mut [0; 10]).unwrap_err().kind(), IoKind::ConnectionReset);
        assert_ended_with(&socket, ErrorKind::Closed);
    });
}

#[test]
fn a_dropped_socket_leaves_its_proxy() {
    with_watchdog(|| {
        let (socket, mut proxy, _server) = thinking(SocketOptions::new());
        drop(socket);
        assert_eq!(proxy.read(&mut [0; 10]).unwrap(), 0);
    });
}

#[test]
fn cancelling_reads_waits_for_the_proxy_and_then_discards() {
    with_watchdog(|| {
        let (socket, mut proxy, _server) = thinking(SocketOptions::new());
        socket.reader().cancel();
        assert_eq!(read_to_end(&socket).unwrap(), b"");
        assert_eq!(socket.phase(), Phase::Connecting);
        proxy.write_all(b"HTTP/1.1 200 OK\r\n\r\nunwanted").unwrap();
        socket.opened().unwrap();
        socket.writer().write_all(b"data").unwrap();
        socket.close().unwrap();
        let mut received = Vec::new();
        proxy.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"data");
    });
}

#[test]
fn closing_the_write_side_waits_for_the_proxy() {
    with_watchdog(|| {
        let options = SocketOptions::new().allow_half_open(true);
        let (socket, mut proxy, _server) = thinking(options);
        let closing = spawn_blocked({
            let socket = socket.clone();
            move || socket.writer().close()
        });
        proxy.write_all(b"HTTP/1.1 200 OK\r\n\r\nrest").unwrap();
        closing.join().unwrap();
        assert_eq!(proxy.read(&mut [0; 10]).unwrap(), 0);
        assert_eq!(read_exactly(&socket, 4).unwrap(), b"rest");
    });
}

#[test]
fn an_abandoned_wait_leaves_the_dialogue_to_the_event_loop() {
    with_watchdog(|| {
        let (socket, mut proxy, _server) = thinking(SocketOptions::new());
        let error = socket.opened_timeout(crate::support::ms(50)).unwrap_err();
        assert!(error.is_retryable(), "{error}");
        proxy.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        crate::support::eventually(PROMPT, "the socket opens", || socket.phase() == Phase::Open);
    });
}
