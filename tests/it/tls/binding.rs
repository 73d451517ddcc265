//! Channel binding with `tls-server-end-point`: both ends compute the same value, for TLS from the start and after an
//! upgrade.

use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use sockeye::SocketOptions;

use crate::support::peer::{EndKind, listen};
use crate::support::tls::{
    Authority, Identity, Opening, ServerSetup, TlsCase, TlsPeer, VERSIONS, ask, authority, connect,
    for_each_tls_setup, open, options, upgradable, valid_cert,
};
use crate::support::{Peer, open as open_plain, read_exactly, with_watchdog};

#[test]
fn both_ends_compute_the_same_value() {
    for_each_tls_setup(|TlsCase { way, version }| {
        let identity = authority().issues(&valid_cert());
        let setup = ServerSetup::new(identity.clone()).only(version);
        let peer = way.on(listen(), &setup, |_| ());
        let socket = way.open(&peer, SocketOptions::new());
        let info = socket.opened().expect("it is open");
        assert_eq!(info.tls_server_end_point(), Some(of_server(&identity)));
        // The value stays available after the connection ends.
        drop(socket);
        assert_eq!(peer.finish().how, EndKind::Fin);
        assert_eq!(info.tls_server_end_point(), Some(of_server(&identity)));
    });
}

#[test]
fn a_resumed_session_is_bound_to_the_original_certificate() {
    for version in VERSIONS {
        with_watchdog(move || {
            // Sockets with equal options share sessions, so this test uses its own authority.
            let authority = Authority::new();
            let identity = authority.issues(&valid_cert());
            let config = ServerSetup::new(identity.clone()).only(version).config();
            let options = options(&authority);
            for resumed in [false, true] {
                let peer = TlsPeer::sharing(listen(), config.clone(), |peer| {
                    peer.handshake();
                    // Session tickets precede the data.
                    peer.send(b"!");
                });
                let socket = open(&peer, options.clone());
                assert_eq!(read_exactly(&socket, 1).expect("the peer sends it"), b"!");
                let info = socket.opened().expect("it is open");
                assert_eq!(info.tls().expect("it is TLS").resumed(), resumed);
                assert_eq!(info.tls_server_end_point(), Some(of_server(&identity)));
                socket.close().expect("the peer reads");
                peer.assert_received(b"");
            }
        });
    }
}

#[test]
fn plaintext_sockets_have_none() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open_plain(&peer);
        assert_eq!(socket.opened().expect("it is open").tls_server_end_point(), None);

        let peer = Opening::Upgraded.reading();
        let plain = connect(&peer, upgradable(authority()));
        ask(&plain);
        let secure = plain.start_tls().expect("the upgrade may start");
        assert!(secure.opened().expect("the peer is trusted").tls_server_end_point().is_some());
        assert_eq!(plain.opened().expect("it was open").tls_server_end_point(), None);
    });
}

/// Returns the expected binding: every test authority signs with ECDSA on P-256 and SHA-256.
fn of_server(identity: &Identity) -> Vec<u8> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("the suite is for TLS 1.3");
    suite.common.hash_provider.hash(&identity.chain()[0]).as_ref().to_vec()
}
