//! Shared by the groups over TLS: parts of their tests.

use std::io::{self, Write};
use std::net::Ipv6Addr;
use std::sync::mpsc::{self, Receiver};

use sockeye::Socket;

use super::certificates;
use crate::support::net::TcpListener;
use crate::support::peer::listen_on;
use crate::support::tls::{Accepted, TlsPeer};
use crate::support::{SpawnedCall, read, read_exactly, spawn_blocked};

/// Listens on ::1, if the machine has it.
pub fn listen_on_v6() -> Option<TcpListener> {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok()?;
    Some(listen_on((Ipv6Addr::LOCALHOST, 0).into(), 16, None))
}

// -------------------------------------------------------------------- a greeting

/// Runs the peer's side of [`greets`].
pub fn answers(peer: &mut Accepted) {
    assert_eq!(peer.receive(2), b"hi");
    peer.send(b"yo");
}

/// Exchanges data with a peer that [`answers`].
#[track_caller]
pub fn greets(mut socket: &Socket) {
    assert_eq!(socket.write(b"hi").expect("the peer reads"), 2);
    assert_eq!(read_exactly(socket, 2).expect("the peer answers"), b"yo");
}

// -------------------------------------------------------------------- parts of tests

/// Starts a read that blocks.
#[track_caller]
pub fn reads(socket: &Socket) -> SpawnedCall<io::Result<Vec<u8>>> {
    let reader = socket.reader();
    spawn_blocked(move || read(reader, 10))
}

/// Reads to the end and waits for its cue, so that a reset after the end is seen as well.
pub fn looks_back(peer: &mut Accepted) {
    peer.read_to_end();
    peer.wait_signal();
}

/// Runs a handshake that the other end aborts with an alert.
pub fn is_refused(peer: &mut Accepted) {
    let error = peer.try_handshake().expect_err("the other end refuses the certificate");
    let receiver = error.get_ref().and_then(|inner| inner.downcast_ref());
    assert!(matches!(receiver, Some(rustls::Error::AlertReceived(_))), "{error:?}");
}

// -------------------------------------------------------------------- a handshake that never ends

/// Starts a peer that never answers the ClientHello, and signals its arrival.
pub fn silent() -> (TlsPeer, Receiver<()>) {
    let (sender, receiver) = mpsc::channel();
    let peer = TlsPeer::scripted(&certificates::valid_cert(), move |peer| {
        peer.expect_client_hello();
        // The receiver is gone if the test does not need the signal.
        let _ = sender.send(());
    });
    (peer, receiver)
}
