//! Handshakes that do not complete: closed or aborted by this side, or truncated, reset or answered with something else
//! by the peer.

use super::*;

// -------------------------------------------------------------------- ended by this side

/// Opens a socket whose ClientHello has arrived; its peer continues at its cue.
fn halfway() -> (TlsPeer, Socket) {
    let (sender, receiver) = mpsc::channel();
    let peer = TlsPeer::scripted(&server_config(), move |peer| {
        peer.expect_client_hello();
        sender.send(()).expect("the test waits for it");
        peer.wait_signal();
    });
    let socket = connect(&peer, secure());
    receiver.recv_timeout(WATCHDOG).expect("the handshake begins");
    assert_eq!(socket.phase(), Phase::Connecting);
    (peer, socket)
}

#[test]
fn abort_in_the_middle_resets_it() {
    for abort in [Socket::abort, |socket: &Socket| socket.writer().abort()] {
        with_watchdog(move || {
            let (peer, socket) = halfway();
            let opening = socket.clone();
            let opened = spawn_blocked(move || opening.opened());
            at_once(|| abort(&socket));
            assert_fails(opened.join_within(PROMPT), ErrorKind::Closed);
            assert_fails(socket.opened(), ErrorKind::Closed);
            assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Closed);
            peer.signal();
            peer.assert_reset();
        });
    }
}

#[test]
fn dropping_the_last_handle_in_the_middle_ends_it() {
    with_watchdog(|| {
        let (peer, socket) = halfway();
        drop(socket);
        peer.signal();
        peer.finish();
    });
}

#[test]
fn a_cancelled_reader_lets_it_finish() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.wait_signal();
            peer.handshake();
        });
        let socket = connect(&peer, secure());
        assert_fails(socket.opened_timeout(ms(50)), ErrorKind::TimedOut);
        socket.reader().cancel();
        assert_eq!(read(&socket, 1).expect("reading has ended"), b"");
        peer.signal();
        socket.opened().expect("the peer is trusted");
        (&socket).write_all(b"hello").expect("the peer reads");
        socket.close().expect("the peer reads");
        peer.assert_received(b"hello");
    });
}

// -------------------------------------------------------------------- ended by the peer

/// Returns settings whose handshakes all have the same length.
fn even(version: TlsVersion) -> ServerSetup {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    let identity = IDENTITY.get_or_init(|| authority().issues(&valid_cert().even()));
    ServerSetup::new(identity.clone()).only(version).tickets(0)
}

/// Returns the number of bytes that a server sends up to the end of the handshake.
fn flight(version: TlsVersion) -> usize {
    let (sender, receiver) = mpsc::channel();
    let peer = TlsPeer::scripted(&even(version), move |peer| {
        sender.send(peer.handshake_up_to(usize::MAX)).expect("the test waits for it");
    });
    let socket = open(&peer, secure());
    socket.close().expect("the peer reads");
    receiver.recv_timeout(WATCHDOG).expect("the peer has counted")
}

#[test]
fn a_fin_after_any_byte_fails_it() {
    const THREADS: usize = 4;
    for version in VERSIONS {
        let whole = flight(version);
        assert!(whole > 500, "{whole} bytes are not a handshake");
        let parts: Vec<_> = (0..THREADS)
            .map(|first| {
                spawn_call(move || {
                    for most in (first..whole).step_by(THREADS) {
                        cut(version, most, whole);
                    }
                })
            })
            .collect();
        parts.into_iter().for_each(|part| part.join_within(4 * WATCHDOG));
    }
}

#[track_caller]
fn cut(version: TlsVersion, most: usize, whole: usize) {
    let peer = TlsPeer::scripted(&even(version), move |peer| {
        assert_eq!(peer.handshake_up_to(most), most);
    });
    let socket = connect(&peer, secure());
    let result = socket.opened_timeout(WATCHDOG);
    let kind = result.err().map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::Tls), "{version:?}, truncated after {most} of {whole} bytes");
    assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Tls);
    assert_fails(read(&socket, 1), ErrorKind::Tls);
    assert_eq!(peer.finish().bytes, b"");
}

#[test]
fn a_reset_is_reported_as_reset() {
    for version in VERSIONS {
        for after in [0, 1, 100, 400] {
            with_watchdog(move || {
                let peer = TlsPeer::scripted(&even(version), move |peer| {
                    peer.begin();
                    assert!(
                        peer.take_in().expect("the handshake is valid"),
                        "the ClientHello arrives"
                    );
                    let flight = peer.hold_back();
                    peer.raw(&flight[..after]);
                    peer.reset();
                });
                let socket = connect(&peer, secure());
                assert_never_opened(&socket, ErrorKind::Reset);
            });
        }
    }
}

/// Returns the error of a handshake whose peer sends these bytes instead of a ServerHello and then ends.
#[track_caller]
fn answered_with(answer: Vec<u8>) -> sockeye::Error {
    let peer = TlsPeer::scripted(&server_config(), move |peer| {
        peer.expect_client_hello();
        // The other end may be gone before everything is sent.
        let _ = peer.try_raw(&answer);
        peer.fin();
    });
    let socket = connect(&peer, secure());
    let error = assert_never_opened(&socket, ErrorKind::Tls);
    assert_eq!(socket.stats().bytes_read, 0);
    peer.finish();
    error
}

#[test]
fn plaintext_instead_of_an_answer_fails_it() {
    with_watchdog(|| {
        for answer in [
            "220 smtp ready\r\n",
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
            "-ERR unknown command\r\n",
            "\n",
            "",
        ] {
            answered_with(answer.as_bytes().to_vec());
        }
    });
}

#[test]
fn junk_instead_of_an_answer_fails_it() {
    with_watchdog(|| {
        for seed in 0..100 {
            answered_with(random_bytes(
                seed,
                1 + 41 * usize::try_from(seed).expect("the seed is small"),
            ));
        }
    });
}

#[test]
fn junk_in_valid_records_fails_it() {
    with_watchdog(|| {
        for kind in 20..=24 {
            for seed in 0..10 {
                let junk = random_bytes(seed, 300);
                let mut record = vec![kind, 3, 3, 1, 44];
                record.extend(junk);
                answered_with(record);
            }
        }
    });
}

#[test]
fn an_alert_instead_of_an_answer_is_named() {
    with_watchdog(|| {
        for (number, name) in
            [(40, "handshake failure"), (70, "protocol version"), (80, "internal error")]
        {
            let error = answered_with(vec![21, 3, 3, 0, 2, 2, number]);
            assert_message_contains(&error, &[name]);
            let source = rustls_error(&error);
            assert!(matches!(source, rustls::Error::AlertReceived(_)), "{source:?}");
        }
        // A `close_notify` before any handshake message.
        answered_with(vec![21, 3, 3, 0, 2, 1, 0]);
    });
}

#[test]
fn an_endless_answer_fails_it() {
    with_watchdog(|| {
        for begin in [&[22, 3, 3, 0x40, 0, 2, 0xff, 0xff, 0xff][..], b"220-"] {
            let peer = TlsPeer::scripted(&server_config(), move |peer| {
                peer.expect_client_hello();
                let mut rest = peer.try_raw(begin);
                while rest.is_ok() {
                    rest = peer.try_raw(&[b'0'; 16 * 1024]);
                }
            });
            let socket = connect(&peer, secure());
            at_once(|| assert_never_opened(&socket, ErrorKind::Tls));
            drop(socket);
            peer.finish();
        }
    });
}
