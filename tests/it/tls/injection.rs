//! Response injection: an attacker between the two ends may add plaintext to the reply that starts an upgrade. The
//! socket never treats that plaintext as data of the secured peer, and never sends data of the secured connection in
//! plaintext.

use std::io::Write;
use std::sync::mpsc;

use sockeye::{ErrorKind, SocketOptions, TcpOptions};

use crate::support::peer::listen_with_room;
use crate::support::tls::{
    ASK, Accepted, GO, TlsPeer, VERSIONS, ask, assert_injection_refused, assert_never_opened,
    authority, contains, open, server_config, upgradable,
};
use crate::support::{
    EndKind, PROMPT, WATCHDOG, assert_bytes_eq, assert_ended_with, assert_fails, assert_times_out,
    crate_kind, fill_send_buffer, ms, read, read_exactly, spawn_blocked, spawn_call, with_watchdog,
    write_until_error,
};

fn starttls() -> SocketOptions {
    upgradable(authority())
}

/// Returns plaintext of this length.
fn text(length: usize) -> Vec<u8> {
    b"INJECTED PLAINTEXT\r\n".iter().copied().cycle().take(length).collect()
}

/// Returns an unsealed TLS record.
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("the body fits in a record");
    [&[kind, 3, 3][..], &length.to_be_bytes(), body].concat()
}

/// Returns a plausible ServerHello with a key share of its own.
fn server_hello() -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend([0x5a; 32]);
    hello.push(0);
    hello.extend([0x13, 0x01, 0]);
    let mut extensions = vec![0, 0x2b, 0, 2, 3, 4, 0, 0x33, 0, 36, 0, 0x1d, 0, 32];
    extensions.extend([9; 32]);
    hello.extend(u16::try_from(extensions.len()).expect("the extensions are short").to_be_bytes());
    hello.extend(extensions);
    let mut message = vec![2, 0, 0, u8::try_from(hello.len()).expect("the message is short")];
    message.extend(hello);
    record(22, &message)
}

/// Returns bytes to inject: text of every size, and bytes that a handshake might accept.
pub fn injections() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a byte", text(1)),
        ("five bytes", text(5)),
        ("a record's worth", text(16 << 10)),
        ("a mebibyte", text(1 << 20)),
        ("a fatal alert", record(21, &[2, 40])),
        ("a warning alert", record(21, &[1, 90])),
        ("the end of TLS", record(21, &[1, 0])),
        ("a change of cipher", record(20, &[1])),
        ("a ServerHello", server_hello()),
        ("application data", record(23, b"250 fine\r\n")),
        ("many alerts", record(21, &[1, 90]).repeat(10_000)),
    ]
}

// -------------------------------------------------------------------- before the handshake

#[test]
fn any_bytes_after_the_go_ahead_end_the_connection() {
    for (name, injected) in injections() {
        println!("{name}");
        with_watchdog(move || {
            let peer = TlsPeer::scripted(&server_config(), move |peer| {
                assert_eq!(peer.recv_raw(ASK.len()), ASK);
                // The other end may be gone before everything is sent.
                let _ = peer.try_raw(&[GO, &injected].concat());
            });
            let socket = open(&peer, starttls());
            ask(&socket);
            assert_injection_refused(&socket);
            assert_eq!(socket.stats().bytes_read, GO.len() as u64);
            peer.assert_received_only(ASK);
        });
    }
}

#[test]
fn any_bytes_after_the_go_ahead_was_read_end_the_connection() {
    for (name, injected) in injections() {
        println!("{name}");
        with_watchdog(move || {
            let (sender, receiver) = mpsc::channel();
            let peer = TlsPeer::scripted(&server_config(), move |peer| {
                peer.accept_starttls();
                peer.wait_signal();
                let (first, rest) = injected.split_at(injected.len().min(4096));
                peer.raw(first);
                sender.send(()).expect("the test waits for it");
                let _ = peer.try_raw(rest);
            });
            let socket = open(&peer, starttls());
            ask(&socket);
            peer.signal();
            receiver.recv_timeout(WATCHDOG).expect("the text is injected");
            assert_injection_refused(&socket);
            peer.assert_received_only(ASK);
        });
    }
}

#[test]
fn a_partly_read_go_ahead_counts_as_unread() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), Accepted::accept_starttls);
        let socket = open(&peer, starttls());
        (&socket).write_all(ASK).expect("the peer reads");
        assert_eq!(read_exactly(&socket, GO.len() - 1).expect("the peer agrees"), b"GO\r");
        assert_injection_refused(&socket);
        peer.assert_received_only(ASK);
    });
}

#[test]
fn a_reader_that_the_flood_keeps_busy_sees_the_error() {
    for _ in 0..5 {
        with_watchdog(|| {
            let peer = TlsPeer::scripted(&server_config(), |peer| {
                peer.accept_starttls();
                let flood = text(64 << 10);
                // Sending fails when the upgrade ends the connection.
                while peer.try_raw(&flood).is_ok() {}
            });
            let socket = open(&peer, starttls());
            ask(&socket);
            let reader = socket.reader();
            let reading = spawn_call(move || {
                loop {
                    if let Err(error) = read(&reader, 1) {
                        return crate_kind(&error);
                    }
                }
            });
            while socket.stats().bytes_read < 1000 {
                std::thread::yield_now();
            }
            assert_fails(socket.start_tls(), ErrorKind::UnreadPlaintext);
            assert_eq!(reading.join_within(PROMPT), ErrorKind::UnreadPlaintext);
            assert!(!socket.upgraded());
            assert_ended_with(&socket, ErrorKind::UnreadPlaintext);
            peer.assert_received_only(ASK);
        });
    }
}

#[test]
fn bytes_injected_while_the_upgrade_waits_for_a_write_are_detected() {
    with_watchdog(|| {
        let (sender, receiver) = mpsc::channel();
        let peer = TlsPeer::on(listen_with_room(4096), &server_config(), move |peer| {
            peer.wait_signal();
            peer.raw(b"INJECTED");
            sender.send(()).expect("the test waits for it");
            peer.wait_signal();
        });
        let little = TcpOptions::new().send_buffer_size(4096);
        let socket = open(&peer, starttls().tcp(little));
        let taken = fill_send_buffer(&socket);
        let mut writer = socket.writer();
        let writing = spawn_blocked(move || writer.write(b"."));
        let upgrading = socket.clone();
        let upgrade = spawn_blocked(move || upgrading.start_tls());
        peer.signal();
        receiver.recv_timeout(WATCHDOG).expect("the text is injected");
        peer.signal();
        assert_eq!(writing.join().expect("the peer reads"), 1);
        assert_fails(upgrade.join(), ErrorKind::UnreadPlaintext);
        assert!(!socket.upgraded());
        assert_ended_with(&socket, ErrorKind::UnreadPlaintext);
        let mut expected = vec![b'w'; taken];
        expected.push(b'.');
        peer.assert_received_only(&expected);
    });
}

#[test]
fn a_wait_for_the_end_reports_it() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            assert_eq!(peer.recv_raw(ASK.len()), ASK);
            peer.raw(&[GO, b"INJECTED"].concat());
        });
        let socket = open(&peer, starttls());
        ask(&socket);
        let waiting = socket.clone();
        let closed = spawn_blocked(move || waiting.closed());
        assert_fails(socket.start_tls(), ErrorKind::UnreadPlaintext);
        assert_fails(closed.join_within(PROMPT), ErrorKind::UnreadPlaintext);
        peer.assert_received_only(ASK);
    });
}

// -------------------------------------------------------------------- in the handshake

/// Checks that plaintext after the ClientHello fails the new socket, and that no byte of it can be read.
#[track_caller]
fn fails_the_handshake(script: impl FnOnce(&mut Accepted) + Send + 'static) {
    let peer = TlsPeer::scripted(&server_config(), |peer| {
        peer.accept_starttls();
        script(peer);
    });
    let old = open(&peer, starttls());
    ask(&old);
    let new = old.start_tls().expect("nothing is unread yet");
    assert!(old.upgraded());
    let reader = new.reader();
    let reading = spawn_call(move || read(reader, 100));
    assert_never_opened(&new, ErrorKind::Tls);
    assert_fails(reading.join_within(PROMPT), ErrorKind::Tls);
    assert_eq!(new.stats().bytes_read, 0);
    old.closed().expect("it was upgraded");
    assert_fails(read(&old, 1), ErrorKind::Upgraded);
    let ending = peer.finish();
    assert_eq!(ending.clear(), ASK);
    assert_eq!(ending.bytes, b"");
}

#[test]
fn plaintext_after_the_client_hello_fails_the_handshake() {
    for (name, injected) in injections() {
        println!("{name}");
        with_watchdog(move || {
            fails_the_handshake(move |peer| {
                peer.expect_client_hello();
                let _ = peer.try_raw(&injected);
                peer.fin();
            });
        });
    }
}

#[test]
fn plaintext_before_a_valid_answer_fails_the_handshake() {
    for (name, injected) in [
        ("text", text(20)),
        ("application data", record(23, b"250 fine\r\n")),
        ("empty application data", record(23, b"")),
        ("a ServerHello", server_hello()),
        ("a fatal alert", record(21, &[2, 40])),
    ] {
        println!("{name}");
        with_watchdog(move || {
            fails_the_handshake(move |peer| {
                peer.begin();
                assert!(peer.take_in().expect("the handshake is valid"), "the ClientHello arrives");
                let flight = peer.hold_back();
                peer.raw(&[injected, flight].concat());
                peer.fin();
            });
        });
    }
}

#[test]
fn plaintext_after_a_valid_answer_is_never_data() {
    for version in VERSIONS {
        with_watchdog(move || {
            let peer = TlsPeer::scripted(&server_config().only(version), |peer| {
                peer.accept_starttls();
                peer.handshake();
                let injected = record(23, &text(300));
                peer.raw(&injected);
            });
            let old = open(&peer, starttls());
            ask(&old);
            let new = old.start_tls().expect("nothing is unread yet");
            assert_fails(read(&new, 400), ErrorKind::Tls);
            assert_eq!(new.stats().bytes_read, 0);
            assert_fails(new.closed_timeout(PROMPT), ErrorKind::Tls);
        });
    }
}

// -------------------------------------------------------------------- PostgreSQL

/// The request for TLS of a PostgreSQL client. The reply is one byte.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

#[test]
fn postgresql_has_a_go_ahead_of_one_byte() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            assert_eq!(peer.recv_raw(8), SSL_REQUEST);
            peer.raw(b"S");
            peer.handshake();
            peer.echo();
        });
        let socket = open(&peer, starttls());
        (&socket).write_all(&SSL_REQUEST).expect("the peer reads");
        assert_eq!(read(&socket, 1).expect("the peer answers"), b"S");
        let new = socket.start_tls().expect("nothing is unread");
        (&new).write_all(b"hello").expect("the peer reads");
        assert_eq!(read_exactly(&new, 5).expect("the peer answers"), b"hello");
        new.close().expect("the peer reads");
        assert_eq!(peer.assert_received(b"hello").clear(), SSL_REQUEST);
    });
}

#[test]
fn postgresql_with_bytes_after_its_go_ahead_is_refused() {
    // A message of the reply that the secured connection should return, and single bytes.
    for injected in [&b"Z\0\0\0\x05I"[..], b"S", b"\0"] {
        with_watchdog(move || {
            let peer = TlsPeer::scripted(&server_config(), move |peer| {
                assert_eq!(peer.recv_raw(8), SSL_REQUEST);
                peer.raw(&[b"S", injected].concat());
            });
            let socket = open(&peer, starttls());
            (&socket).write_all(&SSL_REQUEST).expect("the peer reads");
            assert_eq!(read(&socket, 1).expect("the peer answers"), b"S");
            assert_injection_refused(&socket);
            peer.assert_received_only(&SSL_REQUEST);
        });
    }
}

// -------------------------------------------------------------------- the other direction

#[test]
fn nothing_written_after_the_upgrade_is_sent_in_plaintext() {
    const SECRET: &[u8] = b"SECRET-SECRET-";
    const TIMES: usize = 200;
    for round in 0..10 {
        with_watchdog(move || {
            let peer = TlsPeer::scripted(&server_config().only(VERSIONS[round % 2]), |peer| {
                assert!(peer.handshake_when_it_comes(), "a handshake arrives");
            });
            let old = open(&peer, starttls());
            let before: Vec<_> = (0..2)
                .map(|_| {
                    let writer = old.writer();
                    spawn_call(move || {
                        let first = write_until_error(&writer, b'w', usize::MAX);
                        for _ in 0..TIMES {
                            assert_fails((&writer).write(b"PLAINTEXT"), ErrorKind::Upgraded);
                        }
                        first
                    })
                })
                .collect();
            while old.stats().bytes_written < 10_000 {
                std::thread::yield_now();
            }
            let new = old.start_tls().expect("nothing is unread");
            let after: Vec<_> = (0..2)
                .map(|_| {
                    let mut writer = new.writer();
                    spawn_call(move || (0..TIMES).try_for_each(|_| writer.write_all(SECRET)))
                })
                .collect();
            let mut taken = 0;
            for writing in before {
                let (count, failure) = writing.join();
                assert_eq!(crate_kind(&failure.expect("it was upgraded")), ErrorKind::Upgraded);
                taken += count;
            }
            for writing in after {
                writing.join().expect("the peer is trusted");
            }
            new.close().expect("the peer reads");
            let ending = peer.finish();
            assert_bytes_eq(ending.clear(), &vec![b'w'; taken]);
            ending.records();
            let rest = &ending.wire[ending.clear..];
            assert!(!contains(rest, b"PLAINTEXT") && !contains(rest, b"SECRET"));
            assert!(!contains(rest, &[b'w'; 8]));
            assert_eq!(ending.bytes.len(), 2 * TIMES * SECRET.len());
            assert!(ending.notified);
            assert_eq!(ending.how, EndKind::Fin);
        });
    }
}

#[test]
fn nothing_is_sent_before_the_go_ahead_is_read() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            assert_eq!(peer.recv_raw(ASK.len()), ASK);
            peer.wait_signal();
        });
        let socket = open(&peer, starttls());
        (&socket).write_all(ASK).expect("the peer reads");
        socket.set_read_timeout(Some(ms(100))).expect("not zero");
        assert_times_out(read(&socket, 1));
        socket.close().expect("the peer reads");
        peer.signal();
        peer.assert_received_only(ASK);
    });
}
