//! Upgrades that are refused or fail: injected plaintext, failed handshakes, and sides that have ended.

use super::*;

// -------------------------------------------------------------------- injected plaintext

/// Plaintext arrived after the go-ahead, in the same segment, and is unread.
#[test]
fn injection_in_kernel() {
    with_watchdog(|| {
        let peer = injects(b"INJECTED PLAINTEXT\r\n");
        let old = opened("good.test", &peer);
        assert_eq!(read(&old, 7).expect("the peer greets"), b"READY\r\n");
        assert_eq!((&old).write(ASK).expect("the peer reads"), ASK.len());
        assert_eq!(read(&old, 4).expect("the peer agrees"), GO);
        assert_injection_refused(&old);
        peer.assert_received_only(ASK);
    });
}

/// The program itself has read the plaintext together with the go-ahead.
#[test]
fn injection_whole_read() {
    with_watchdog(|| {
        let peer = injects(b"INJECTED PLAINTEXT\r\n");
        let old = opened("good.test", &peer);
        assert_eq!(read(&old, 100).expect("the peer greets"), b"READY\r\n");
        assert_eq!((&old).write(ASK).expect("the peer reads"), ASK.len());
        let all = read_exactly(&old, 24).expect("the peer agrees");
        assert_eq!(all, b"GO\r\nINJECTED PLAINTEXT\r\n");
        let new = old.start_tls().expect("nothing is unread");
        new.opened().expect("the certificate is trusted");
        greets(&new);
    });
}

/// Plaintext arrives after the go-ahead was read, and before the upgrade.
#[test]
fn injection_late() {
    with_watchdog(|| {
        let (sender, receiver) = mpsc::channel();
        let peer = agrees(&valid_cert(), move |peer| {
            peer.wait_signal();
            peer.raw(b"INJECTED\r\n");
            sender.send(()).expect("the test waits for it");
            gives_up(peer);
        });
        let old = opened("good.test", &peer);
        converses(&old);
        peer.signal();
        receiver.recv_timeout(WATCHDOG).expect("the text is injected");
        // The wait lets it arrive.
        assert_fails(old.closed_timeout(ms(200)), ErrorKind::TimedOut);
        assert_injection_refused(&old);
        peer.assert_received_only(ASK);
    });
}

/// The go-ahead itself is unread.
#[test]
fn unread_partial_then_tls() {
    with_watchdog(|| {
        let (sender, receiver) = mpsc::channel();
        let peer = TlsPeer::scripted(&valid_cert(), move |peer| {
            peer.accept_starttls();
            sender.send(()).expect("the test waits for it");
            gives_up(peer);
        });
        let old = opened("good.test", &peer);
        assert_eq!((&old).write(ASK).expect("the peer reads"), ASK.len());
        receiver.recv_timeout(WATCHDOG).expect("the peer agrees");
        // The wait lets the go-ahead arrive.
        assert_fails(old.closed_timeout(ms(150)), ErrorKind::TimedOut);
        assert_injection_refused(&old);
        peer.assert_received_only(ASK);
    });
}

// -------------------------------------------------------------------- failed handshakes

/// The certificate is for another name.
#[test]
fn fail_wrong_host() {
    fails_for(&certificates::wronghost(), is_refused, &[ErrorKind::Tls]);
}

/// The certificate has expired.
#[test]
fn fail_expired() {
    fails_for(&certificates::expired(), is_refused, &[ErrorKind::Tls]);
}

/// The peer answers the ClientHello in plaintext.
#[test]
fn fail_plaintext() {
    let script = |peer: &mut Accepted| {
        peer.expect_client_hello();
        peer.raw(b"500 no\r\n");
    };
    fails_for(&valid_cert(), script, &[ErrorKind::Tls]);
}

/// The peer closes after it has received the ClientHello.
#[test]
fn fail_fin() {
    let script = |peer: &mut Accepted| {
        peer.expect_client_hello();
        peer.close();
    };
    fails_for(&valid_cert(), script, &[ErrorKind::Tls, ErrorKind::Reset]);
    // A peer that only shuts down its own direction causes no reset.
    let script = |peer: &mut Accepted| {
        peer.expect_client_hello();
        peer.fin();
    };
    fails_for(&valid_cert(), script, &[ErrorKind::Tls]);
}

/// The peer resets the connection after it has received the ClientHello.
#[test]
fn fail_rst() {
    let script = |peer: &mut Accepted| {
        peer.expect_client_hello();
        peer.reset();
    };
    fails_for(&valid_cert(), script, &[ErrorKind::Reset, ErrorKind::Tls]);
}

// -------------------------------------------------------------------- sides that have ended

/// The writer was closed.
#[test]
fn after_writer_close() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&valid_cert(), |peer| {
            peer.read_to_end();
            peer.wait_signal();
            peer.raw(b"still plain");
            peer.fin();
        });
        let socket = opened("good.test", &peer);
        socket.writer().close().expect("the peer reads");
        assert_eq!(socket.phase(), Phase::HalfClosed);
        assert_refuses_upgrades(&socket, ErrorKind::InvalidState);
        peer.signal();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"still plain");
        assert!(!socket.upgraded());
        socket.closed_timeout(PROMPT).expect("both directions ended");
        peer.assert_received_only(b"");
    });
}

/// The program aborted the connection. The scenario also allows `Closed`; the documentation says `InvalidState`.
#[test]
fn after_writer_abort() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&valid_cert(), |_| ());
        let socket = opened("good.test", &peer);
        socket.writer().abort();
        assert_refuses_upgrades(&socket, ErrorKind::InvalidState);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Closed);
        assert_eq!(peer.finish().wire, b"");
    });
}

/// The reader was cancelled. The scenario also allows a successful upgrade; the documentation says `InvalidState`, and
/// that nothing changes.
#[test]
fn after_reader_cancel() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&valid_cert(), |_| ());
        let socket = opened("good.test", &peer);
        socket.reader().cancel();
        assert_refuses_upgrades(&socket, ErrorKind::InvalidState);
        assert_eq!((&socket).write(b"still plain").expect("the peer reads"), 11);
        socket.close().expect("the peer reads");
        peer.assert_received_only(b"still plain");
    });
}

// -------------------------------------------------------------------- peers

/// Starts a peer that sends this in one segment with its go-ahead, then speaks TLS if the other end does.
fn injects(plaintext: &'static [u8]) -> TlsPeer {
    TlsPeer::scripted(&valid_cert(), |peer| {
        peer.raw(b"READY\r\n");
        assert_eq!(peer.recv_raw(ASK.len()), ASK);
        peer.raw(&[GO, plaintext].concat());
        if peer.try_handshake().is_ok() {
            answers(peer);
        }
    })
}

/// Runs a TLS handshake that the other end does not begin.
fn gives_up(peer: &mut Accepted) {
    let error = peer.try_handshake().expect_err("the other end does not speak TLS");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// Like [`fails_to_upgrade`], with a peer that [`agrees`].
#[track_caller]
fn fails_for(setup: &ServerSetup, script: fn(&mut Accepted), causes: &'static [ErrorKind]) {
    let setup = setup.clone();
    with_watchdog(move || {
        let peer = agrees(&setup, script);
        let old = opened("good.test", &peer);
        converses(&old);
        assert_upgrade_fails(peer, &old, causes);
    });
}
