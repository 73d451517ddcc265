//! TLS settings of a connector, for sockets whose options have none.

use sockeye::{Connector, ErrorKind, SecureTransport, SocketOptions, TlsOptions};

use crate::support::tls::{TlsPeer, ask, authority, server_config, trust_only};
use crate::support::{Peer, assert_fails, with_watchdog};

fn trusts() -> Connector {
    Connector::builder().tls(trust_only(authority())).build().expect("the settings are valid")
}

fn mode(mode: SecureTransport) -> SocketOptions {
    SocketOptions::new().secure_transport(mode)
}

#[test]
fn they_apply_if_the_options_have_none() {
    with_watchdog(|| {
        let peer = TlsPeer::reading(&server_config());
        let socket = trusts().connect_with(peer.address(), mode(SecureTransport::On));
        let info = socket.expect("they are valid").opened().expect("the peer is trusted");
        assert!(info.tls().is_some());
    });
}

#[test]
fn they_apply_to_an_upgrade() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            peer.handshake();
        });
        let socket = trusts().connect_with(peer.address(), mode(SecureTransport::StartTls));
        let socket = socket.expect("they are valid");
        ask(&socket);
        let secure = socket.start_tls().expect("the peer agrees");
        assert!(secure.opened().expect("the peer is trusted").tls().is_some());
    });
}

#[test]
fn the_options_of_a_socket_replace_them() {
    with_watchdog(|| {
        let peer = TlsPeer::refused(&server_config());
        // These options trust no authority of the test.
        let options = mode(SecureTransport::On).tls(TlsOptions::new().server_name("localhost"));
        let socket = trusts().connect_with(peer.address(), options).expect("they are valid");
        assert_fails(socket.opened(), ErrorKind::Tls);
    });
}

#[test]
fn they_do_not_affect_plaintext_sockets() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = trusts().connect(peer.address()).expect("it is in plaintext");
        assert!(socket.opened().expect("the peer listens").tls().is_none());
    });
}

#[test]
fn invalid_settings_are_refused_when_the_connector_is_built() {
    let tls = TlsOptions::new().server_name("not a name");
    let error = Connector::builder().tls(tls).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
}
