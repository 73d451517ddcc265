//! Shutdown of a connector with all its sockets.

use std::io::Write;
use std::time::Duration;

use sockeye::{Connector, ErrorKind, Phase, Socket, SocketOptions, TcpOptions};

use super::{holds, open, patient, refusal};
use crate::support::peer::black_hole;
use crate::support::tls::{Opening, TlsPeer, authority, options};
use crate::support::{
    PROMPT, Peer, WATCHDOG, assert_bytes_eq, assert_fails, at_once, fill_send_buffer, ms,
    random_bytes, read, spawn_blocked, timed, with_watchdog,
};

fn connector() -> Connector {
    Connector::builder().build().expect("the settings are valid")
}

#[test]
fn every_socket_is_closed_gracefully_and_no_other_is_opened() {
    with_watchdog(|| {
        let connector = connector();
        let peers: Vec<Peer> = (0..5).map(|_| Peer::reading()).collect();
        let write = |peer: &Peer| {
            let mut socket = connector.connect(peer.address()).expect("the address is valid");
            socket.write_all(b"hello").expect("the peer reads");
            socket
        };
        let sockets: Vec<Socket> = peers.iter().map(write).collect();
        let reader = sockets[0].reader();
        let reading = spawn_blocked(move || read(reader, 1));
        assert_eq!(at_once(|| connector.shutdown(WATCHDOG)), 0);
        assert_fails(reading.join(), ErrorKind::Closed);
        for socket in &sockets {
            assert_eq!(socket.phase(), Phase::Closed);
            socket.closed().expect("it was closed");
        }
        assert_eq!(connector.open_sockets(), 0);
        let address = peers[0].address();
        for connector in [&connector, &connector.clone()] {
            let error = refusal(connector.connect(address));
            assert_eq!(error.kind(), ErrorKind::Closed);
            assert!(error.to_string().contains("shut down"), "{error}");
        }
        connector.scope(|scope| assert_fails(scope.connect(address), ErrorKind::Closed));
        peers.into_iter().for_each(|peer| peer.assert_received(b"hello"));
    });
}

#[test]
fn a_connector_without_sockets_is_shut_down_at_once_and_again() {
    let connector = connector();
    assert_eq!(at_once(|| connector.shutdown(Duration::MAX)), 0);
    assert_eq!(at_once(|| connector.shutdown(Duration::ZERO)), 0);
}

#[test]
fn sockets_of_other_connectors_stay_open() {
    with_watchdog(|| {
        let server = holds();
        let (one, other) = (connector(), connector());
        let (gone, kept) = (open(&one, &server), open(&other, &server));
        assert_eq!(one.shutdown(WATCHDOG), 0);
        assert_eq!((gone.phase(), kept.phase()), (Phase::Closed, Phase::Open));
        open(&other, &server);
    });
}

#[test]
fn attempts_and_queued_sockets_are_cancelled() {
    with_watchdog(|| {
        let (hole, connector) = (black_hole(), patient(1));
        let connect = || connector.connect(hole.address).expect("the address is valid");
        let (connecting, waiting) = (connect(), connect());
        assert_eq!(at_once(|| connector.shutdown(WATCHDOG)), 0);
        assert_fails(connecting.opened(), ErrorKind::Closed);
        assert_fails(waiting.opened(), ErrorKind::Closed);
        assert_eq!(connector.open_sockets(), 0);
    });
}

#[test]
fn sockets_with_unsent_data_at_the_limit_are_reset_and_counted() {
    with_watchdog(|| {
        let connector = connector();
        let peers: Vec<TlsPeer> = (0..3).map(|_| Opening::On.not_reading()).collect();
        let stuck: Vec<Socket> = peers.iter().map(|peer| full(&connector, peer)).collect();
        let idle = Peer::reading();
        let fine = connector.connect(idle.address()).expect("the address is valid");
        let (reset, took) = timed(|| connector.shutdown(ms(200)));
        assert_eq!(reset, 3);
        assert!(took >= ms(200) && took < ms(200) + PROMPT, "{took:?}");
        for socket in &stuck {
            assert_fails(socket.closed(), ErrorKind::Closed);
        }
        fine.closed().expect("it was closed");
        assert_eq!(connector.open_sockets(), 0);
        idle.assert_received(b"");
        peers.iter().for_each(TlsPeer::signal);
    });
}

#[test]
fn a_shorter_close_timeout_applies_and_is_counted() {
    with_watchdog(|| {
        let connector = connector();
        let peer = Opening::On.not_reading();
        let options = cramped().close_timeout(ms(100));
        let socket = connector.connect_with(peer.address(), options).expect("they are valid");
        fill_send_buffer(&socket);
        let (reset, took) = timed(|| connector.shutdown(WATCHDOG));
        assert_eq!(reset, 1);
        assert!(took < ms(100) + PROMPT, "{took:?}");
        assert_fails(socket.closed(), ErrorKind::TimedOut);
        peer.signal();
    });
}

/// In plaintext the kernel has all accepted data.
#[test]
fn a_plaintext_peer_that_does_not_read_delays_nothing() {
    with_watchdog(|| {
        let connector = connector();
        let peer = Peer::not_reading();
        let options = SocketOptions::new().tcp(TcpOptions::new().send_buffer_size(4096));
        let socket = connector.connect_with(peer.address(), options).expect("they are valid");
        let taken = fill_send_buffer(&socket);
        assert_eq!(at_once(|| connector.shutdown(WATCHDOG)), 0);
        peer.signal();
        peer.assert_received(&vec![b'w'; taken]);
    });
}

/// Data that was written to a socket without handles is still delivered.
#[test]
fn it_waits_for_sockets_that_close_in_the_background() {
    with_watchdog(|| {
        let connector = connector();
        let peer = Opening::On.not_reading();
        let socket = connector.connect_with(peer.address(), cramped()).expect("they are valid");
        let sent = random_bytes(3, 40_000);
        (&socket).write_all(&sent).expect("the send buffer has room");
        drop(socket);
        assert_eq!(connector.open_sockets(), 1, "the peer does not read yet");
        let waiting = spawn_blocked({
            let connector = connector.clone();
            move || connector.shutdown(WATCHDOG)
        });
        peer.signal();
        assert_eq!(waiting.join(), 0);
        let ending = peer.finish();
        assert_bytes_eq(&ending.bytes, &sent);
        assert!(ending.notified);
    });
}

/// Returns options with a small send buffer, for TLS.
fn cramped() -> SocketOptions {
    options(authority()).tcp(TcpOptions::new().send_buffer_size(4096))
}

/// Opens a socket and fills its send buffer.
fn full(connector: &Connector, peer: &TlsPeer) -> Socket {
    let socket = connector.connect_with(peer.address(), cramped()).expect("they are valid");
    fill_send_buffer(&socket);
    socket
}
