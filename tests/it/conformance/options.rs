//! Scenarios of the group `options`.

use rustls::server::Acceptor;
use sockeye::{ErrorKind, Phase, SecureTransport, Socket, SocketOptions, TcpOptions, TlsOptions};

use crate::support::peer::{assert_no_connection, listen};
use crate::support::tls::peer::PeerReport;
use crate::support::tls::{
    CertSpec, ServerSetup, TlsPeer, assert_never_opened, authority, dial, server_config,
    trust_only_names, with,
};
use crate::support::{Peer, assert_fails, at_once, ms, with_watchdog};

/// Default options act like no options.
#[test]
fn empty() {
    let defaults = [
        SocketOptions::new(),
        SocketOptions::default(),
        SocketOptions::new().tcp(TcpOptions::default()),
    ];
    for options in defaults {
        with_watchdog(|| {
            let peers = [Peer::reading(), Peer::reading()];
            let plain = sockeye::connect(peers[0].address()).expect("the address is valid");
            let given = sockeye::connect_with(peers[1].address(), options).expect("it is valid");
            for socket in [&plain, &given] {
                socket.opened().expect("the peer listens");
                looks(socket, SecureTransport::Off);
            }
            #[cfg(target_os = "linux")]
            assert_eq!(settings(&plain), settings(&given));
            for socket in [plain, given] {
                socket.close().expect("the close succeeds");
            }
            peers.into_iter().for_each(|peer| peer.assert_received(b""));
        });
    }
}

/// The text `off`.
#[test]
fn st_off() {
    assert_eq!("off".parse::<SecureTransport>().expect("a word"), SecureTransport::Off);
    assert_eq!(SecureTransport::Off.to_string(), "off");
    with_watchdog(|| {
        let peer = Peer::reading();
        let options = SocketOptions::new().secure_transport(SecureTransport::Off);
        let socket = sockeye::connect_with(peer.address(), options).expect("it is valid");
        socket.opened().expect("the peer listens");
        looks(&socket, SecureTransport::Off);
        socket.close().expect("the close succeeds");
        peer.assert_received(b"");
    });
}

/// The text `on`, and a peer that speaks TLS.
#[test]
fn st_on() {
    assert_eq!("on".parse::<SecureTransport>().expect("a word"), SecureTransport::On);
    assert_eq!(SecureTransport::On.to_string(), "on");
    with_watchdog(|| {
        let peer = TlsPeer::reading(&server_config());
        let socket = secured(&peer, trust_only_names(authority()));
        assert!(socket.opened().expect("the peer is trusted").tls().is_some());
        looks(&socket, SecureTransport::On);
        socket.close().expect("the close succeeds");
        assert_eq!(peer.assert_received(b"").session().server_name(), Some("good.test"));
    });
}

/// A text that is none of the three.
#[test]
fn st_invalid() {
    is_no_mode("tls");
}

/// `ON` in upper case.
#[test]
fn st_upper() {
    is_no_mode("ON");
}

/// `startTls` with an upper-case letter.
#[test]
fn st_starttls_camel() {
    is_no_mode("startTls");
}

/// TLS settings for a connection without TLS are an error.
#[test]
fn unknown_field() {
    let listener = listen();
    let address = listener.local_addr().expect("it listens");
    for tls in [TlsOptions::new().server_name("x"), TlsOptions::new().alpn(["h2"])] {
        let options = with(SecureTransport::Off, tls);
        assert_fails(
            at_once(|| sockeye::connect_with(address, options)),
            ErrorKind::InvalidOptions,
        );
    }
    assert_no_connection(&listener);
}

/// A server name and ALPN from the program. The certificate has to be for that name, so one for the dialled host fails.
#[test]
fn alpn_on() {
    let tls = || trust_only_names(authority()).server_name("other.test").alpn(["h2"]);
    let sees_both = |ending: &PeerReport| {
        assert_eq!(hello(ending), (Some("other.test".to_owned()), vec![b"h2".to_vec()]));
    };
    let protocols = ["h2", "http/1.1"];
    with_watchdog(move || {
        let other = ServerSetup::new(authority().issues(&CertSpec::new(&["other.test"])));
        let peer = TlsPeer::reading(&other.alpn(&protocols));
        let socket = secured(&peer, tls());
        assert_eq!(socket.opened().expect("the peer is trusted").alpn(), Some(&b"h2"[..]));
        looks(&socket, SecureTransport::On);
        socket.close().expect("the close succeeds");
        sees_both(&peer.assert_received(b""));

        let peer = TlsPeer::refused(&server_config().alpn(&protocols));
        let socket = secured(&peer, tls());
        assert_never_opened(&socket, ErrorKind::Tls);
        sees_both(&peer.finish());
    });
}

/// If the address and the options are both invalid, the error is about the address.
#[test]
fn order_bad_address_bad_option() {
    let unfit = || with(SecureTransport::Off, TlsOptions::new().alpn(["h2"]));
    let zero = || SocketOptions::new().read_timeout(ms(0));
    for options in [unfit, zero] {
        assert_fails(sockeye::connect_with("127.0.0.1:1", options()), ErrorKind::InvalidOptions);
        for address in ["bad address", "127.0.0.1:0"] {
            assert_fails(sockeye::connect_with(address, options()), ErrorKind::InvalidAddress);
        }
    }
}

// -------------------------------------------------------------------- helpers

/// Checks the state of an open, idle socket.
#[track_caller]
fn looks(socket: &Socket, mode: SecureTransport) {
    assert_fails(socket.closed_timeout(ms(60)), ErrorKind::TimedOut);
    assert_eq!(socket.secure_transport(), mode);
    assert!(!socket.upgraded());
    assert_eq!(socket.phase(), Phase::Open);
}

/// Returns the kernel's settings of a connection.
#[cfg(target_os = "linux")]
fn settings(socket: &Socket) -> (bool, bool, usize, Option<std::time::Duration>) {
    let info = socket.opened().expect("it is open");
    let ends = info.local_address().zip(info.remote_address()).expect("it was reached");
    let system = crate::support::process::connection(ends.0, ends.1);
    let report = || -> std::io::Result<_> {
        Ok((
            system.tcp_nodelay()?,
            system.keepalive()?,
            system.send_buffer_size()?,
            system.tcp_user_timeout()?,
        ))
    };
    report().expect("the system reports it")
}

/// Opens a socket to the peer as `good.test`, secure from the start.
#[track_caller]
fn secured(peer: &TlsPeer, tls: TlsOptions) -> Socket {
    dial("good.test", peer, with(SecureTransport::On, tls))
}

#[track_caller]
fn is_no_mode(word: &str) {
    assert_fails(word.parse::<SecureTransport>(), ErrorKind::InvalidOptions);
}

/// Returns the server name and the protocols of the received ClientHello.
fn hello(ending: &PeerReport) -> (Option<String>, Vec<Vec<u8>>) {
    let mut wire = &ending.wire[..];
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        acceptor.read_tls(&mut wire).expect("reads from memory succeed");
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) => assert!(!wire.is_empty(), "no ClientHello arrived"),
            Err((error, _)) => panic!("no ClientHello arrived: {error}"),
        }
    };
    let hello = accepted.client_hello();
    let protocols = hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
    (hello.server_name().map(str::to_owned), protocols)
}
