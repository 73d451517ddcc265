//! Code that all models share.

use std::io::{self, Read, Write};

use shuttle::thread::{self, JoinHandle};
use sockeye::model::{self, Peer, PeerSaw, Reachability};
use sockeye::{Connector, Error, ErrorKind, Socket, SocketOptions};

/// A socket and its peer.
pub struct TestSocket {
    pub connector: Connector,
    pub socket: Socket,
    pub peer: Peer,
}

impl TestSocket {
    pub fn open(options: SocketOptions) -> Self {
        let test = TestSocket::connecting(options);
        test.socket.opened().unwrap();
        test
    }

    /// Returns a socket whose connection is not established yet.
    pub fn connecting(options: SocketOptions) -> Self {
        let connector = Connector::builder().build().unwrap();
        let socket = connector.connect_with(("127.0.0.1", 1), options).unwrap();
        TestSocket { connector, socket, peer: Peer::accept() }
    }

    /// Returns a socket whose peer accepts at most `room` bytes before it reads.
    pub fn with_send_window(send_window: usize, options: SocketOptions) -> Self {
        model::set_reachability(Reachability::SendWindow(send_window));
        TestSocket::open(options)
    }

    pub fn connecting_with_send_window(send_window: usize, options: SocketOptions) -> Self {
        model::set_reachability(Reachability::SendWindow(send_window));
        TestSocket::connecting(options)
    }

    /// Waits until the peer sees the end of the connection, and returns the bytes before it. Checks that the socket
    /// has freed its slot.
    #[track_caller]
    pub fn assert_peer_saw(self, peer_saw: PeerSaw) -> Vec<u8> {
        drop(self.socket);
        let (bytes, seen) = self.peer.wait_eof();
        assert_eq!(seen, peer_saw);
        self.peer.end();
        assert_eq!(self.connector.open_sockets(), 0, "its slot is free");
        bytes
    }
}

pub fn options() -> SocketOptions {
    SocketOptions::new().connect_timeout(None)
}

pub fn half_open() -> SocketOptions {
    options().allow_half_open(true)
}

pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn(work)
}

/// Reads up to 4 bytes.
pub fn read(mut socket: &Socket) -> Result<Vec<u8>, ErrorKind> {
    let mut buf = [0; 4];
    match socket.read(&mut buf) {
        Ok(bytes) => Ok(buf[..bytes].to_vec()),
        Err(error) => Err(kind_of(&error)),
    }
}

/// Reads a line. Returns what came of it, and the error if it did not end.
pub fn read_line(socket: &Socket) -> (Vec<u8>, Option<ErrorKind>) {
    let mut line = Vec::new();
    let read = socket.reader().read_until(b'\n', &mut line, 100);
    let failure = read.err().map(|error| kind_of(&error));
    (line, failure)
}

/// Reads up to EOF or an error.
pub fn read_all(socket: &Socket) -> (Vec<u8>, Option<ErrorKind>) {
    let mut all = Vec::new();
    loop {
        match read(socket) {
            Ok(bytes) if bytes.is_empty() => return (all, None),
            Ok(bytes) => all.extend(bytes),
            Err(kind) => return (all, Some(kind)),
        }
    }
}

pub fn write(mut socket: &Socket, bytes: &[u8]) -> Result<usize, ErrorKind> {
    socket.write(bytes).map_err(|error| kind_of(&error))
}

/// Writes all bytes, or up to an error, and returns the number of accepted bytes.
pub fn write_all(socket: &Socket, bytes: &[u8]) -> (usize, Option<ErrorKind>) {
    let mut accepted = 0;
    while accepted < bytes.len() {
        match write(socket, &bytes[accepted..]) {
            Ok(more) => accepted += more,
            Err(kind) => return (accepted, Some(kind)),
        }
    }
    (accepted, None)
}

pub fn kind_of(error: &io::Error) -> ErrorKind {
    Error::from_io(error).expect("every error is of this crate").kind()
}
