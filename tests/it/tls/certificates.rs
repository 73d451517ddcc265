//! Valid and invalid certificates: those of servers, which the socket verifies, and those of clients, which it
//! presents.

use std::io::Write;

use rcgen::ExtendedKeyUsagePurpose;
use sockeye::{Error, ErrorKind, SecureTransport, Socket, TlsOptions, TlsVersion};

use crate::support::tls::{
    Accepted, Authority, CertSpec, Identity, ServerSetup, TlsPeer, VERSIONS,
    assert_message_contains, assert_never_opened, connect, open, options, provider, rustls_error,
    trust_only, trust_only_names, valid_cert, with,
};
use crate::support::{
    PROMPT, assert_ended_with, assert_fails, crate_kind, eventually, ms, read, read_exactly,
    read_to_end, spawn_blocked, with_watchdog,
};

// -------------------------------------------------------------------- certificates of servers

/// A faulty certificate, and phrases of which the message has to contain one.
struct Fault {
    name: &'static str,
    identity: Identity,
    words: &'static [&'static str],
}

/// Returns every fault that a certificate for `localhost` can have.
fn faults(root: &Authority) -> Vec<Fault> {
    let fault = |name, identity, words| Fault { name, identity, words };
    let unknown: &[&str] = &["unknown issuer", "issuer", "authority", "trusted"];
    vec![
        fault("unknown authority", Authority::new().issues(&valid_cert()), unknown),
        fault("expired", root.issues(&valid_cert().valid(2000, 2001)), &["expired"]),
        fault(
            "not yet valid",
            root.issues(&valid_cert().valid(3000, 3001)),
            &["not yet valid", "not valid yet"],
        ),
        fault("another name", root.issues(&CertSpec::new(&["other.test"])), &["name", "not for"]),
        fault("another use", root.client("localhost"), &["purpose", "usage", "meant for servers"]),
        fault(
            "self-signed",
            valid_cert().self_signed(),
            &["self-signed", "issuer", "authority", "trusted"],
        ),
        fault("the authority's own", root.identity(), &["CA used", "authority", "end entity"]),
        fault("incomplete chain", root.intermediate().issues(&valid_cert()).incomplete(), unknown),
        fault(
            "only a common name",
            root.issues(&CertSpec::common_name("localhost")),
            &["name", "not for"],
        ),
    ]
}

/// Opens a connection to a peer with this identity, and returns the socket and the peer.
#[track_caller]
fn shown(identity: &Identity, version: TlsVersion, tls: TlsOptions) -> (Socket, TlsPeer) {
    let peer = TlsPeer::refused(&ServerSetup::new(identity.clone()).only(version));
    (connect(&peer, with(SecureTransport::On, tls)), peer)
}

#[test]
fn every_fault_has_its_own_message() {
    with_watchdog(|| {
        let root = Authority::new();
        for version in VERSIONS {
            let mut messages: Vec<(&str, String)> = Vec::new();
            for fault in faults(&root) {
                let (socket, peer) = shown(&fault.identity, version, trust_only(&root));
                let error = assert_never_opened(&socket, ErrorKind::Tls);
                assert_message_contains(&error, fault.words);
                let source = rustls_error(&error);
                let of_certificate = matches!(source, rustls::Error::InvalidCertificate(_));
                assert!(of_certificate, "{}: {source:?}", fault.name);
                let alert = peer.finish().failure;
                let message = matches!(alert, Some(rustls::Error::AlertReceived(_)));
                assert!(message, "{}: the peer received {alert:?}", fault.name);
                messages.push((fault.name, error.to_string()));
            }
            // In each of these three cases no trusted root has signed it, so the messages are alike.
            let unknown = ["unknown authority", "self-signed", "incomplete chain"];
            let no_name = ["another name", "only a common name"];
            for (number, (name, message)) in messages.iter().enumerate() {
                for (other, other_message) in &messages[..number] {
                    let alike = [unknown.as_slice(), &no_name]
                        .iter()
                        .any(|group| group.contains(name) && group.contains(other));
                    assert!(alike || message != other_message, "{name}, {other}: {message}");
                }
            }
        }
    });
}

#[test]
fn danger_accept_invalid_certs_accepts_every_fault() {
    for version in VERSIONS {
        with_watchdog(move || {
            let root = Authority::new();
            for fault in faults(&root) {
                let peer = TlsPeer::secured(
                    &ServerSetup::new(fault.identity.clone()).only(version),
                    Accepted::echo,
                );
                let tls = trust_only(&root).danger_accept_invalid_certs(true);
                let socket = connect(&peer, with(SecureTransport::On, tls));
                let info = socket.opened();
                let info = info.unwrap_or_else(|error| panic!("{}: {error}", fault.name));
                let chain: Vec<_> = info.tls().expect("it is secure").peer_certificates().collect();
                assert_eq!(chain[0], &*fault.identity.chain()[0], "{}", fault.name);
                (&socket).write_all(b"hello").expect("the peer reads");
                assert_eq!(read_exactly(&socket, 5).expect("the peer answers"), b"hello");
                socket.close().expect("the peer reads");
                peer.assert_received(b"hello");
            }
        });
    }
}

#[test]
fn accepting_invalid_certificates_can_be_undone() {
    with_watchdog(|| {
        let root = Authority::new();
        let tls =
            trust_only(&root).danger_accept_invalid_certs(true).danger_accept_invalid_certs(false);
        let identity = Authority::new().issues(&valid_cert());
        let (socket, _peer) = shown(&identity, TlsVersion::Tls13, tls);
        assert_never_opened(&socket, ErrorKind::Tls);
    });
}

#[test]
fn a_complete_chain_is_followed() {
    with_watchdog(|| {
        let root = Authority::new();
        let identity = root.intermediate().intermediate().issues(&valid_cert());
        let peer = TlsPeer::reading(&ServerSetup::new(identity.clone()));
        let socket = open(&peer, options(&root));
        let info = socket.opened().expect("it is open");
        assert_eq!(info.tls().expect("it is secure").peer_certificates().len(), 3);
        // Trusting the intermediate itself replaces the missing part of the chain.
        let between = root.intermediate();
        let incomplete = between.issues(&valid_cert()).incomplete();
        let peer = TlsPeer::reading(&ServerSetup::new(incomplete));
        let tls = trust_only(&root).add_root_pem(between.pem()).expect("it is PEM");
        open(&peer, with(SecureTransport::On, tls));
    });
}

#[test]
fn an_address_has_to_be_in_the_certificate() {
    with_watchdog(|| {
        let root = Authority::new();
        let dialled = || with(SecureTransport::On, trust_only_names(&root));
        for names in [&["127.0.0.1"][..], &["localhost", "127.0.0.1", "::1"]] {
            let peer = TlsPeer::reading(&ServerSetup::new(root.issues(&CertSpec::new(names))));
            let socket = open(&peer, dialled());
            socket.close().expect("the peer reads");
            assert_eq!(
                peer.assert_received(b"").session().server_name(),
                None,
                "an address is not sent as SNI"
            );
        }
        for draft in [
            CertSpec::new(&["localhost"]),
            CertSpec::new(&["127.0.0.2"]),
            CertSpec::new(&["::1"]),
            CertSpec::new(&["::ffff:127.0.0.1"]),
            CertSpec::dns_name("127.0.0.1"),
            CertSpec::common_name("127.0.0.1"),
        ] {
            let peer = TlsPeer::refused(&ServerSetup::new(root.issues(&draft)));
            let socket = connect(&peer, dialled());
            assert_message_contains(
                &assert_never_opened(&socket, ErrorKind::Tls),
                &["name", "address", "not for"],
            );
        }
    });
}

#[test]
fn a_text_may_hold_many_roots() {
    with_watchdog(|| {
        let [one, other] = [Authority::new(), Authority::new()];
        let text = format!("# two roots\n\n{}\r\nand\n{}", one.pem(), other.pem());
        provider();
        let tls = TlsOptions::new()
            .add_root_pem(text)
            .expect("the text has two roots")
            .only_added_roots()
            .server_name("localhost");
        for root in [one, other] {
            let peer = TlsPeer::reading(&ServerSetup::new(root.issues(&valid_cert())));
            open(&peer, with(SecureTransport::On, tls.clone()));
        }
    });
}

#[test]
fn an_added_root_is_trusted_in_addition_to_the_others() {
    with_watchdog(|| {
        provider();
        let root = Authority::new();
        let named = || TlsOptions::new().server_name("localhost");
        let identity = root.issues(&valid_cert());
        let (socket, _peer) = shown(&identity, TlsVersion::Tls13, named());
        assert_never_opened(&socket, ErrorKind::Tls);
        let tls = named().add_root_pem(root.pem()).expect("it is PEM");
        let peer = TlsPeer::reading(&ServerSetup::new(identity));
        open(&peer, with(SecureTransport::On, tls));
    });
}

// -------------------------------------------------------------------- certificates of clients

/// Presents this certificate, and trusts the root.
fn showing(root: &Authority, client: &Identity) -> TlsOptions {
    trust_only(root)
        .client_auth_pem(client.chain_pem(), client.key_pem())
        .expect("the key matches the certificate")
}

#[test]
fn a_client_presents_its_whole_chain() {
    for version in VERSIONS {
        with_watchdog(move || {
            let root = Authority::new();
            let client = root.intermediate().client("someone");
            let setup = ServerSetup::new(root.issues(&valid_cert())).only(version);
            for setup in [setup.clone().requires_clients(&root), setup.asks_clients(&root)] {
                let peer = TlsPeer::echoes(&setup);
                let tls = showing(&root, &client);
                let socket = open(&peer, with(SecureTransport::On, tls));
                (&socket).write_all(b"hello").expect("the peer reads");
                assert_eq!(read_exactly(&socket, 5).expect("the peer answers"), b"hello");
                socket.close().expect("the peer reads");
                let ending = peer.assert_received(b"hello");
                assert_eq!(ending.session().peer_certificates(), Some(&client.chain()[..]));
            }
        });
    }
}

#[test]
fn a_client_without_a_certificate_may_be_accepted() {
    for version in VERSIONS {
        with_watchdog(move || {
            let root = Authority::new();
            let setup =
                ServerSetup::new(root.issues(&valid_cert())).only(version).asks_clients(&root);
            let peer = TlsPeer::echoes(&setup);
            let socket = open(&peer, options(&root));
            (&socket).write_all(b"hello").expect("the peer reads");
            assert_eq!(read_exactly(&socket, 5).expect("the peer answers"), b"hello");
            socket.close().expect("the peer reads");
            assert_eq!(peer.assert_received(b"hello").session().peer_certificates(), None);
        });
    }
}

#[test]
fn a_client_presents_nothing_unless_asked() {
    with_watchdog(|| {
        let root = Authority::new();
        let peer = TlsPeer::reading(&ServerSetup::new(root.issues(&valid_cert())));
        let tls = showing(&root, &root.client("someone"));
        let socket = open(&peer, with(SecureTransport::On, tls));
        socket.close().expect("the peer reads");
        assert_eq!(peer.assert_received(b"").session().peer_certificates(), None);
    });
}

/// Returns client settings that a server rejects, each with the name of the server's alert.
fn unwelcome(root: &Authority) -> [(TlsOptions, &'static str); 4] {
    let stranger = Authority::new().client("someone");
    let expired = root.issues(
        &CertSpec::new(&["someone"]).usage(ExtendedKeyUsagePurpose::ClientAuth).valid(2000, 2001),
    );
    let server =
        root.issues(&CertSpec::new(&["someone"]).usage(ExtendedKeyUsagePurpose::ServerAuth));
    [
        (trust_only(root), "certificate required"),
        (showing(root, &stranger), "unknown CA"),
        (showing(root, &expired), "certificate expired"),
        (showing(root, &server), "unsupported certificate"),
    ]
}

/// Checks that the message names the alert and that the source is a rustls error.
#[track_caller]
fn names(error: &Error, alert: &str) {
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert_message_contains(error, &[alert]);
    let source = rustls_error(error);
    assert!(matches!(source, rustls::Error::AlertReceived(_)), "{source:?}");
}

#[track_caller]
fn names_in<T: std::fmt::Debug>(result: std::io::Result<T>, alert: &str) {
    let error = result.expect_err("the server rejects the client");
    assert_eq!(crate_kind(&error), ErrorKind::Tls, "{error}");
    names(Error::from_io(&error).expect("kind_of found it"), alert);
}

#[test]
fn in_tls_1_2_a_rejected_client_never_opens() {
    with_watchdog(|| {
        let root = Authority::new();
        let setup = ServerSetup::new(root.issues(&valid_cert()))
            .only(TlsVersion::Tls12)
            .requires_clients(&root);
        for (tls, alert) in unwelcome(&root) {
            let peer = TlsPeer::refused(&setup);
            let socket = connect(&peer, with(SecureTransport::On, tls));
            names(&assert_never_opened(&socket, ErrorKind::Tls), alert);
        }
    });
}

/// Runs `look` on a client that the server rejects in TLS 1.3. The client completes its handshake before the server has
/// verified its certificate. `then` is the peer's action after its alert.
#[track_caller]
fn unwelcome_later(then: fn(&mut Accepted), look: impl Fn(&TlsPeer, &Socket, &str)) {
    let root = Authority::new();
    let setup = ServerSetup::new(root.issues(&valid_cert()))
        .only(TlsVersion::Tls13)
        .requires_clients(&root);
    for (tls, alert) in unwelcome(&root) {
        let peer = TlsPeer::scripted(&setup, move |peer| {
            peer.begin();
            while peer.take_in().expect_or_alert() {
                let flight = peer.hold_back();
                peer.raw(&flight);
            }
            peer.wait_signal();
            // The peer sends the alert when the test signals it.
            let alert = peer.hold_back();
            peer.raw(&alert);
            then(peer);
        });
        let socket = open(&peer, with(SecureTransport::On, tls));
        look(&peer, &socket, alert);
        assert_ended_with(&socket, ErrorKind::Tls);
        let again = socket.closed().expect_err("it has failed");
        names(&again, alert);
        socket.opened().expect("it was open");
    }
}

/// A check whether the server continues; its failure is the subject of the test.
trait ExpectOrAlert {
    fn expect_or_alert(self) -> bool;
}

impl ExpectOrAlert for std::io::Result<bool> {
    fn expect_or_alert(self) -> bool {
        match self {
            Ok(more) => {
                assert!(more, "the other end has ended");
                true
            }
            Err(_) => false,
        }
    }
}

fn stays(_: &mut Accepted) {}

#[test]
fn in_tls_1_3_a_read_reports_the_rejection_of_the_client() {
    with_watchdog(|| {
        unwelcome_later(stays, |peer, socket, alert| {
            let reader = socket.reader();
            let reading = spawn_blocked(move || read(reader, 10));
            peer.signal();
            names_in(reading.join_within(PROMPT), alert);
        });
    });
}

#[test]
fn in_tls_1_3_closed_reports_the_rejection_of_the_client() {
    with_watchdog(|| {
        unwelcome_later(stays, |peer, socket, alert| {
            let waiting = socket.clone();
            let closed = spawn_blocked(move || waiting.closed());
            peer.signal();
            names(&closed.join_within(PROMPT).expect_err("the server rejects the client"), alert);
        });
    });
}

#[test]
fn in_tls_1_3_a_write_reports_the_rejection_of_the_client() {
    // On other systems a reset discards earlier data, and a close with unread data causes one.
    let close = if cfg!(target_os = "linux") { Accepted::close } else { stays };
    for then in [stays, Accepted::fin, close] {
        with_watchdog(move || {
            unwelcome_later(then, |peer, socket, alert| {
                peer.signal();
                let mut failure = None;
                eventually(PROMPT, "a write fails", || {
                    failure = (&mut &*socket).write(b"hello?").err();
                    failure.is_some()
                });
                names_in::<()>(Err(failure.expect("it is set")), alert);
            });
        });
    }
}

/// On other systems a reset discards earlier data.
#[cfg(target_os = "linux")]
#[test]
fn in_tls_1_3_the_alert_is_reported_instead_of_the_reset_after_it() {
    with_watchdog(|| {
        unwelcome_later(Accepted::reset, |peer, socket, alert| {
            (&mut &*socket).write_all(b"never read").expect("the send buffer has room");
            peer.signal();
            names(
                &socket.closed_timeout(PROMPT).expect_err("the server rejects the client"),
                alert,
            );
        });
    });
}

#[test]
fn an_accepted_client_sees_no_error() {
    with_watchdog(|| {
        let root = Authority::new();
        let setup = ServerSetup::new(root.issues(&valid_cert())).requires_clients(&root);
        let peer = TlsPeer::secured(&setup, |peer| peer.send(b"welcome"));
        let tls = showing(&root, &root.client("someone"));
        let socket = open(&peer, with(SecureTransport::On, tls));
        assert_eq!(read(&socket, 10).expect("the peer sends"), b"welcome");
        assert_fails(socket.closed_timeout(ms(100)), ErrorKind::TimedOut);
        socket.writer().close().expect("the peer reads");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        peer.assert_received(b"");
    });
}
