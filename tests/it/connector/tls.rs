//! TLS settings of a connector: for sockets whose options name none.

use sockeye::{Connector, ErrorKind, SecureTransport, SocketOptions, TlsOptions};

use crate::support::tls::{TlsPeer, ask, authority, terms, trusting};
use crate::support::{Peer, fails, story};

fn trusts() -> Connector {
    Connector::builder().tls(trusting(authority())).build().expect("it can be")
}

fn mode(mode: SecureTransport) -> SocketOptions {
    SocketOptions::new().secure_transport(mode)
}

#[test]
fn they_count_where_the_options_have_none() {
    story(|| {
        let peer = TlsPeer::reads(&terms());
        let socket = trusts().connect_with(peer.address(), mode(SecureTransport::On));
        let info = socket.expect("they are fine").opened().expect("the peer is trusted");
        assert!(info.tls().is_some());
    });
}

#[test]
fn they_count_for_an_upgrade_too() {
    story(|| {
        let peer = TlsPeer::plays(&terms(), |peer| {
            peer.agrees();
            peer.handshake();
        });
        let socket = trusts().connect_with(peer.address(), mode(SecureTransport::StartTls));
        let socket = socket.expect("they are fine");
        ask(&socket);
        let secure = socket.start_tls().expect("the peer agrees");
        assert!(secure.opened().expect("the peer is trusted").tls().is_some());
    });
}

#[test]
fn the_options_of_a_socket_replace_them() {
    story(|| {
        let peer = TlsPeer::refused(&terms());
        // These trust nobody of the test's.
        let options = mode(SecureTransport::On).tls(TlsOptions::new().server_name("localhost"));
        let socket = trusts().connect_with(peer.address(), options).expect("they are fine");
        fails(socket.opened(), ErrorKind::Tls);
    });
}

#[test]
fn they_say_nothing_to_a_socket_in_plaintext() {
    story(|| {
        let peer = Peer::reads();
        let socket = trusts().connect(peer.address()).expect("it is in plaintext");
        assert!(socket.opened().expect("the peer listens").tls().is_none());
    });
}

#[test]
fn what_can_not_be_is_refused_when_the_connector_is_built() {
    let tls = TlsOptions::new().server_name("not a name");
    let error = Connector::builder().tls(tls).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
}
