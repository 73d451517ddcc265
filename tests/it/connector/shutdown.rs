//! The end of a connector and of all its sockets.

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
    Connector::builder().build().expect("it can be")
}

#[test]
fn every_socket_is_closed_gracefully_and_no_other_is_opened() {
    story(|| {
        let connector = connector();
        let peers: Vec<Peer> = (0..5).map(|_| Peer::reads()).collect();
        let write = |peer: &Peer| {
            let mut socket = connector.connect(peer.address()).expect("the address is fine");
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
fn sockets_of_other_connectors_go_on() {
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
fn attempts_and_those_that_wait_for_a_place_are_given_up() {
    story(|| {
        let (hole, connector) = (black_hole(), patient(1));
        let connect = || connector.connect(hole.address).expect("the address is fine");
        let (connecting, waiting) = (connect(), connect());
        assert_eq!(at_once(|| connector.shutdown(PATIENCE)), 0);
        fails(connecting.opened(), ErrorKind::Closed);
        fails(waiting.opened(), ErrorKind::Closed);
        assert_eq!(connector.open_sockets(), 0);
    });
}

#[test]
fn what_cannot_be_handed_over_in_time_is_reset_and_counted() {
    story(|| {
        let connector = connector();
        let peers: Vec<TlsPeer> = (0..3).map(|_| Way::On.stuck()).collect();
        let stuck: Vec<Socket> = peers.iter().map(|peer| full(&connector, peer)).collect();
        let idle = Peer::reads();
        let fine = connector.connect(idle.address()).expect("the address is fine");
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
fn a_shorter_close_timeout_keeps_its_word_and_is_counted() {
    story(|| {
        let connector = connector();
        let peer = Way::On.stuck();
        let options = cramped().close_timeout(ms(100));
        let socket = connector.connect_with(peer.address(), options).expect("they are fine");
        fill(&socket);
        let (reset, took) = timed(|| connector.shutdown(PATIENCE));
        assert_eq!(reset, 1);
        assert!(took < ms(100) + AT_ONCE, "{took:?}");
        fails(socket.closed(), ErrorKind::TimedOut);
        peer.cue();
    });
}

/// In plaintext all that was accepted is with the kernel.
#[test]
fn a_plaintext_peer_that_reads_nothing_holds_nothing_up() {
    story(|| {
        let connector = connector();
        let peer = Peer::stuck();
        let options = SocketOptions::new().tcp(TcpOptions::new().send_buffer_size(4096));
        let socket = connector.connect_with(peer.address(), options).expect("they are fine");
        let taken = fill(&socket);
        assert_eq!(at_once(|| connector.shutdown(PATIENCE)), 0);
        peer.cue();
        peer.gets(&vec![b'w'; taken]);
    });
}

/// What was written to a socket that nobody holds any more still gets there.
#[test]
fn it_waits_for_those_that_close_in_the_background() {
    story(|| {
        let connector = connector();
        let peer = Way::On.stuck();
        let socket = connector.connect_with(peer.address(), cramped()).expect("they are fine");
        let sent = noise(3, 40_000);
        (&socket).write_all(&sent).expect("there is room for so much");
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

/// Options with little room for what is sent over TLS.
fn cramped() -> SocketOptions {
    options(authority()).tcp(TcpOptions::new().send_buffer_size(4096))
}

/// A socket with as much in it as it takes.
fn full(connector: &Connector, peer: &TlsPeer) -> Socket {
    let socket = connector.connect_with(peer.address(), cramped()).expect("they are fine");
    fill(&socket);
    socket
}
