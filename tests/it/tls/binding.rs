//! Channel binding by `tls-server-end-point`: the same at both ends, whatever the way to TLS was.

use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use sockeye::SocketOptions;

use crate::support::peer::{How, listen};
use crate::support::tls::{
    Authority, Identity, Setting, Terms, TlsPeer, VERSIONS, Way, ask, authority, connect, good,
    open, options, settings, upgradable,
};
use crate::support::{Peer, open as open_plain, read_exactly, story};

#[test]
fn both_ends_make_the_same_of_the_certificate() {
    settings(|Setting { way, version }| {
        let identity = authority().issues(&good());
        let terms = Terms::new(identity.clone()).only(version);
        let peer = way.on(listen(), &terms, |_| ());
        let socket = way.open(&peer, SocketOptions::new());
        let info = socket.opened().expect("it is open");
        assert_eq!(info.tls_server_end_point(), Some(of_server(&identity)));
        // It stays when the connection is gone.
        drop(socket);
        assert_eq!(peer.ending().how, How::Fin);
        assert_eq!(info.tls_server_end_point(), Some(of_server(&identity)));
    });
}

#[test]
fn a_resumed_session_is_bound_to_the_certificate_of_the_first() {
    for version in VERSIONS {
        story(move || {
            // Of equal options others have the sessions too.
            let authority = Authority::new();
            let identity = authority.issues(&good());
            let config = Terms::new(identity.clone()).only(version).config();
            let options = options(&authority);
            for resumed in [false, true] {
                let peer = TlsPeer::sharing(listen(), config.clone(), |peer| {
                    peer.handshake();
                    // Tickets precede it.
                    peer.send(b"!");
                });
                let socket = open(&peer, options.clone());
                assert_eq!(read_exactly(&socket, 1).expect("the peer sends it"), b"!");
                let info = socket.opened().expect("it is open");
                assert_eq!(info.tls().expect("it is TLS").resumed(), resumed);
                assert_eq!(info.tls_server_end_point(), Some(of_server(&identity)));
                socket.close().expect("the peer reads");
                peer.gets(b"");
            }
        });
    }
}

#[test]
fn plaintext_has_none_and_neither_has_the_socket_before_an_upgrade() {
    story(|| {
        let peer = Peer::reads();
        let socket = open_plain(&peer);
        assert_eq!(socket.opened().expect("it is open").tls_server_end_point(), None);

        let peer = Way::Upgraded.reads();
        let plain = connect(&peer, upgradable(authority()));
        ask(&plain);
        let secure = plain.start_tls().expect("nothing is in the way");
        assert!(secure.opened().expect("the peer is trusted").tls_server_end_point().is_some());
        assert_eq!(plain.opened().expect("it was open").tls_server_end_point(), None);
    });
}

/// An ECDSA key on P-256 has signed it with SHA-256, as all of these tests' authorities do.
fn of_server(identity: &Identity) -> Vec<u8> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("it is of TLS 1.3");
    suite.common.hash_provider.hash(&identity.chain()[0]).as_ref().to_vec()
}
