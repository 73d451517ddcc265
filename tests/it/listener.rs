//! Listeners: accepting, its limits, its ends, and what a client may not do to it.

mod adopted;
mod basics;
mod closing;
#[cfg(target_os = "linux")]
mod figures;
mod limits;
mod opened;
mod own;
mod proxy_header;
mod secured;
mod serve;
#[cfg(target_os = "linux")]
mod starved;
mod waiting;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use sockeye::{ListenOptions, Listener, Socket, listen, listen_with};

use crate::support::WATCHDOG;
use crate::support::net;

/// Listens on a free port.
fn local() -> Listener {
    listen("127.0.0.1:0").expect("a port is free")
}

fn local_with(options: ListenOptions) -> Listener {
    listen_with("127.0.0.1:0", options).expect("a port is free and the options are valid")
}

fn address_of(listener: &Listener) -> SocketAddr {
    listener.local_address().expect("a TCP listener has an address")
}

/// Connects a client that gives up after the watchdog's time.
fn client(address: SocketAddr) -> TcpStream {
    let client = net::connect_timeout(&address, WATCHDOG).expect("the listener accepts");
    client.set_read_timeout(Some(WATCHDOG)).expect("the limit is not zero");
    client
}

fn client_of(listener: &Listener) -> TcpStream {
    client(address_of(listener))
}

/// Connects a client from an address of 127.0.0.0/8. Returns `None` if the system does not have it.
fn client_from(from: [u8; 4], port: u16) -> Option<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
        .expect("a socket can be made");
    socket.bind(&SocketAddr::from((from, 0)).into()).ok()?;
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    socket.connect(&to.into()).expect("the listener accepts");
    let client = TcpStream::from(socket);
    client.set_read_timeout(Some(WATCHDOG)).expect("the limit is not zero");
    Some(client)
}

#[track_caller]
fn accept(listener: &Listener) -> Socket {
    listener.accept_timeout(WATCHDOG).expect("a client has connected")
}

/// Checks that both ends talk to each other.
#[track_caller]
fn assert_talks(mut client: &TcpStream, mut socket: &Socket) {
    let mut buf = [0; 4];
    client.write_all(b"ping").expect("the server reads");
    socket.read_exact(&mut buf).expect("the client has written");
    socket.write_all(&buf).expect("the client reads");
    client.read_exact(&mut buf).expect("the server has written");
    assert_eq!(&buf, b"ping");
}

/// Checks that a client gets a reset, whatever it was doing.
#[track_caller]
fn assert_client_reset(mut client: TcpStream) {
    let error = client.read(&mut [0; 16]).expect_err("the client is reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
