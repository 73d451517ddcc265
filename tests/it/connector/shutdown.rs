//! Shutdown of a connector with all its sockets.

use std::io::Write;
use std::time::Duration;

use sockeye::{Connector, ErrorKind, Phase, Socket, SocketOptions, TcpOptions};

use super::{holds, open, patient, refusal};
use crate::support::peer::black_hole;
use crate::support::tls::{TlsPeer, Way, authority, options};
use crate::support::{
    AT_ONCE, PATIENCE, Peer, at_once, blocked, fails, fill, ms, noise, read, same, story, timed,
};

fn connector() -> Connector {
    Connector::builder().build().expect("the settings are valid")
}

#[test]
fn every_socket_is_closed_gracefully_and_no_other_is_opened() {
    story(|| {
        let connector = connector();
        let peers: Vec<Peer> = (0..5).map(|_| Peer::reads()).collect();
        let write = |peer: &Peer| {
            let mut socket = connector.connect(peer.address()).expect("the address is valid");
            socket.write_all(b"hello").expect("the peer reads");
            socket
        };
        let sockets: Vec<Socket> = peers.iter().map(write).collect();
        let reader = sockets[0].reader();
        let reading = blocked(move || read(reader, 1));
        assert_eq!(at_once(|| connector.shutdown(PATIENCE)), 0);
        fails(reading.join(), ErrorKind::Closed);
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
        connector.scope(|scope| fails(scope.connect(address), ErrorKind::Closed));
        peers.into_iter().for_each(|peer| peer.gets(b"hello"));
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
    story(|| {
        let server = holds();
        let (one, other) = (connector(), connector());
        let (gone, kept) = (open(&one, &server), open(&other, &server));
        assert_eq!(one.shutdown(PATIENCE), 0);
        assert_eq!((gone.phase(), kept.phase()), (Phase::Closed, Phase::Open));
        open(&other, &server);
    });
}

#[test]
fn attempts_and_queued_sockets_are_cancelled() {
    story(|| {
        let (hole, connector) = (black_hole(), patient(1));
        let connect = || connector.connect(hole.address).expect("the address is valid");
        let (connecting, waiting) = (connect(), connect());
        assert_eq!(at_once(|| connector.shutdown(PATIENCE)), 0);
        fails(connecting.opened(), ErrorKind::Closed);
        fails(waiting.opened(), ErrorKind::Closed);
        assert_eq!(connector.open_sockets(), 0);
    });
}

#[test]
fn sockets_with_unsent_data_at_the_limit_are_reset_and_counted() {
    story(|| {
        let connector = connector();
        let peers: Vec<TlsPeer> = (0..3).map(|_| Way::On.stuck()).collect();
        let stuck: Vec<Socket> = peers.iter().map(|peer| full(&connector, peer)).collect();
        let idle = Peer::reads();
        let fine = connector.connect(idle.address()).expect("the address is valid");
        let (reset, took) = timed(|| connector.shutdown(ms(200)));
        assert_eq!(reset, 3);
        assert!(took >= ms(200) && took < ms(200) + AT_ONCE, "{took:?}");
        for socket in &stuck {
            fails(socket.closed(), ErrorKind::Closed);
        }
        fine.closed().expect("it was closed");
        assert_eq!(connector.open_sockets(), 0);
        idle.gets(b"");
        peers.iter().for_each(TlsPeer::cue);
    });
}

#[test]
fn a_shorter_close_timeout_applies_and_is_counted() {
    story(|| {
        let connector = connector();
        let peer = Way::On.stuck();
        let options = cramped().close_timeout(ms(100));
        let socket = connector.connect_with(peer.address(), options).expect("they are valid");
        fill(&socket);
        let (reset, took) = timed(|| connector.shutdown(PATIENCE));
        assert_eq!(reset, 1);
        assert!(took < ms(100) + AT_ONCE, "{took:?}");
        fails(socket.closed(), ErrorKind::TimedOut);
        peer.cue();
    });
}

/// In plaintext the kernel has all accepted data.
#[test]
fn a_plaintext_peer_that_does_not_read_delays_nothing() {
    story(|| {
        let connector = connector();
        let peer = Peer::stuck();
        let options = SocketOptions::new().tcp(TcpOptions::new().send_buffer_size(4096));
        let socket = connector.connect_with(peer.address(), options).expect("they are valid");
        let taken = fill(&socket);
        assert_eq!(at_once(|| connector.shutdown(PATIENCE)), 0);
        peer.cue();
        peer.gets(&vec![b'w'; taken]);
    });
}

/// Data that was written to a socket without handles is still delivered.
#[test]
fn it_waits_for_sockets_that_close_in_the_background() {
    story(|| {
        let connector = connector();
        let peer = Way::On.stuck();
        let socket = connector.connect_with(peer.address(), cramped()).expect("they are valid");
        let sent = noise(3, 40_000);
        (&socket).write_all(&sent).expect("the send buffer has room");
        drop(socket);
        assert_eq!(connector.open_sockets(), 1, "the peer does not read yet");
        let waiting = blocked({
            let connector = connector.clone();
            move || connector.shutdown(PATIENCE)
        });
        peer.cue();
        assert_eq!(waiting.join(), 0);
        let ending = peer.ending();
        same(&ending.bytes, &sent);
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
    fill(&socket);
    socket
}
