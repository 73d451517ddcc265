//! Sockets in a connection pool of r2d2: only those that are open and idle are lent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use r2d2::{ManageConnection, Pool, PooledConnection};
use sockeye::r2d2::SocketManager;
use sockeye::{Connector, EgressRules, ErrorKind, Health, Socket, SocketOptions};

/// The limit for each wait.
const LIMIT: Duration = Duration::from_secs(20);

/// Accepts every client, and hands over its connections.
fn server() -> (SocketAddr, Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    let (tell, accepted) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a client comes");
            stream.set_read_timeout(Some(LIMIT)).expect("it is valid");
            if tell.send(stream).is_err() {
                return;
            }
        }
    });
    (address, accepted)
}

fn manager(address: SocketAddr) -> SocketManager {
    let options = SocketOptions::new().read_timeout(LIMIT).write_timeout(LIMIT);
    SocketManager::new(Connector::global(), address, options).expect("the address is valid")
}

/// A pool of one socket, which it opens when it is first needed.
fn pool(address: SocketAddr) -> Pool<SocketManager> {
    Pool::builder()
        .max_size(1)
        .min_idle(Some(0))
        .connection_timeout(LIMIT)
        .error_handler(Box::new(r2d2::NopErrorHandler))
        .build_unchecked(manager(address))
}

fn await_health(socket: &Socket, is_it: impl Fn(&Health) -> bool) {
    let until = Instant::now() + LIMIT;
    while !is_it(&socket.health()) {
        assert!(Instant::now() < until, "{:?}", socket.health());
        thread::sleep(Duration::from_millis(1));
    }
}

/// The local port tells the sockets apart.
fn port(socket: &Socket) -> u16 {
    let local = socket.opened().expect("it is open").local_address();
    local.expect("it is a TCP socket").port()
}

fn lent(pool: &Pool<SocketManager>) -> PooledConnection<SocketManager> {
    pool.get().expect("the server accepts it")
}

fn check_replaced(spoil: impl FnOnce(&Socket, TcpStream), is_spoiled: fn(&Health) -> bool) {
    let (address, accepted) = server();
    let pool = pool(address);
    let first = lent(&pool);
    let (handle, before) = (Socket::clone(&first), port(&first));
    drop(first);
    spoil(&handle, accepted.recv_timeout(LIMIT).expect("it was accepted"));
    await_health(&handle, is_spoiled);

    let second = lent(&pool);
    assert_ne!(port(&second), before);
    assert!(second.health().is_idle());
    assert_eq!(pool.state().connections, 1);
}

#[test]
fn an_idle_socket_is_lent_again() {
    let (address, accepted) = server();
    let pool = pool(address);
    let mut socket = lent(&pool);
    let before = port(&socket);
    socket.write_all(b"ping").expect("it is open");
    let mut peer = accepted.recv_timeout(LIMIT).expect("it was accepted");
    peer.read_exact(&mut [0; 4]).expect("they arrive");
    peer.write_all(b"pong").expect("it is open");
    socket.read_exact(&mut [0; 4]).expect("they arrive");
    drop(socket);
    assert_eq!(port(&lent(&pool)), before);
    assert!(accepted.try_recv().is_err(), "one connection is enough");
}

#[test]
fn a_socket_that_the_peer_ended_is_replaced() {
    check_replaced(|_, peer| drop(peer), |health| matches!(health, Health::Ended));
}

#[test]
fn a_socket_with_an_unsolicited_reply_is_replaced() {
    let mut kept = None;
    check_replaced(
        |_, mut peer| {
            peer.write_all(b"421 timeout\r\n").expect("it is open");
            kept = Some(peer);
        },
        |health| matches!(health, Health::Unread),
    );
}

#[test]
fn a_socket_that_was_reset_is_replaced() {
    check_replaced(
        |_, peer| {
            let peer = socket2::Socket::from(peer);
            peer.set_linger(Some(Duration::ZERO)).expect("it is valid");
        },
        |health| matches!(health, Health::Failed(error) if error.kind() == ErrorKind::Reset),
    );
}

#[test]
fn a_socket_that_its_borrower_closed_is_not_taken_back() {
    let (address, _accepted) = server();
    let pool = pool(address);
    let socket = lent(&pool);
    let before = port(&socket);
    socket.writer().close().expect("it is open");
    drop(socket);
    assert_eq!(pool.state().idle_connections, 0);
    assert_ne!(port(&lent(&pool)), before);
}

#[test]
fn the_manager_returns_the_reason() {
    let (address, accepted) = server();
    let manager = manager(address);
    let mut socket = manager.connect().expect("the server accepts it");
    manager.is_valid(&mut socket).expect("it is idle");
    assert!(!manager.has_broken(&mut socket));
    let mut peer = accepted.recv_timeout(LIMIT).expect("it was accepted");
    peer.write_all(b"!").expect("it is open");
    await_health(&socket, |health| matches!(health, Health::Unread));
    let error = manager.is_valid(&mut socket).expect_err("a byte is unread");
    assert_eq!(error.kind(), ErrorKind::InvalidState);
    socket.read_exact(&mut [0]).expect("it has arrived");
    manager.is_valid(&mut socket).expect("it is idle again");
    drop(peer);
    await_health(&socket, |health| matches!(health, Health::Ended));
    let error = manager.is_valid(&mut socket).expect_err("it has ended");
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(manager.has_broken(&mut socket));
}

#[test]
fn the_rules_of_the_connector_apply() {
    let (address, accepted) = server();
    let rules = EgressRules::public_only();
    let connector = Connector::builder().egress(rules).build().expect("the rules are valid");
    let manager = SocketManager::new(&connector, address, SocketOptions::new());
    let error = manager.expect("the address is valid").connect().expect_err("it is denied");
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(accepted.try_recv().is_err());
}

#[test]
fn an_invalid_address_is_refused_at_once() {
    let manager = SocketManager::new(Connector::global(), "no port", SocketOptions::new());
    assert_eq!(manager.expect_err("it has no port").kind(), ErrorKind::InvalidAddress);
}
