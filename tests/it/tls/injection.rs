//! Response injection: an attacker between the two ends may add plaintext to the reply that starts an upgrade. The
//! socket never treats that plaintext as data of the secured peer, and never sends data of the secured connection in
//! plaintext.

use std::io::Write;
use std::sync::mpsc;

use sockeye::{ErrorKind, SocketOptions, TcpOptions};

use crate::support::peer::listen_with_room;
use crate::support::tls::{
    ASK, Accepted, GO, TlsPeer, VERSIONS, ask, authority, contains, is_injected, never_opened,
    open, terms, upgradable,
};
use crate::support::{
    AT_ONCE, How, PATIENCE, blocked, call, fails, fill, gives, kind_of, ms, pour, read,
    read_exactly, same, story, times_out,
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
fn injections() -> Vec<(&'static str, Vec<u8>)> {
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
        story(move || {
            let peer = TlsPeer::plays(&terms(), move |peer| {
                assert_eq!(peer.hear(ASK.len()), ASK);
                // The other end may be gone before everything is sent.
                let _ = peer.try_raw(&[GO, &injected].concat());
            });
            let socket = open(&peer, starttls());
            ask(&socket);
            is_injected(&socket);
            assert_eq!(socket.stats().bytes_read, GO.len() as u64);
            peer.got_only(ASK);
        });
    }
}

#[test]
fn any_bytes_after_the_go_ahead_was_read_end_the_connection() {
    for (name, injected) in injections() {
        println!("{name}");
        story(move || {
            let (tell, told) = mpsc::channel();
            let peer = TlsPeer::plays(&terms(), move |peer| {
                peer.agrees();
                peer.await_cue();
                let (first, rest) = injected.split_at(injected.len().min(4096));
                peer.raw(first);
                tell.send(()).expect("the test waits for it");
                let _ = peer.try_raw(rest);
            });
            let socket = open(&peer, starttls());
            ask(&socket);
            peer.cue();
            told.recv_timeout(PATIENCE).expect("the text is injected");
            is_injected(&socket);
            peer.got_only(ASK);
        });
    }
}

#[test]
fn a_partly_read_go_ahead_counts_as_unread() {
    story(|| {
        let peer = TlsPeer::plays(&terms(), Accepted::agrees);
        let socket = open(&peer, starttls());
        (&socket).write_all(ASK).expect("the peer reads");
        assert_eq!(read_exactly(&socket, GO.len() - 1).expect("the peer agrees"), b"GO\r");
        is_injected(&socket);
        peer.got_only(ASK);
    });
}

#[test]
fn a_reader_that_the_flood_keeps_busy_sees_the_error() {
    for _ in 0..5 {
        story(|| {
            let peer = TlsPeer::plays(&terms(), |peer| {
                peer.agrees();
                let flood = text(64 << 10);
                // Sending fails when the upgrade ends the connection.
                while peer.try_raw(&flood).is_ok() {}
            });
            let socket = open(&peer, starttls());
            ask(&socket);
            let reader = socket.reader();
            let reading = call(move || {
                loop {
                    if let Err(error) = read(&reader, 1) {
                        return kind_of(&error);
                    }
                }
            });
            while socket.stats().bytes_read < 1000 {
                std::thread::yield_now();
            }
            fails(socket.start_tls(), ErrorKind::UnreadPlaintext);
            assert_eq!(reading.join_within(AT_ONCE), ErrorKind::UnreadPlaintext);
            assert!(!socket.upgraded());
            gives(&socket, ErrorKind::UnreadPlaintext);
            peer.got_only(ASK);
        });
    }
}

#[test]
fn bytes_injected_while_the_upgrade_waits_for_a_write_are_detected() {
    story(|| {
        let (tell, told) = mpsc::channel();
        let peer = TlsPeer::on(listen_with_room(4096), &terms(), move |peer| {
            peer.await_cue();
            peer.raw(b"INJECTED");
            tell.send(()).expect("the test waits for it");
            peer.await_cue();
        });
        let little = TcpOptions::new().send_buffer_size(4096);
        let socket = open(&peer, starttls().tcp(little));
        let taken = fill(&socket);
        let mut writer = socket.writer();
        let writing = blocked(move || writer.write(b"."));
        let upgrading = socket.clone();
        let upgrade = blocked(move || upgrading.start_tls());
        peer.cue();
        told.recv_timeout(PATIENCE).expect("the text is injected");
        peer.cue();
        assert_eq!(writing.join().expect("the peer reads"), 1);
        fails(upgrade.join(), ErrorKind::UnreadPlaintext);
        assert!(!socket.upgraded());
        gives(&socket, ErrorKind::UnreadPlaintext);
        let mut expected = vec![b'w'; taken];
        expected.push(b'.');
        peer.got_only(&expected);
    });
}

#[test]
fn a_wait_for_the_end_reports_it() {
    story(|| {
        let peer = TlsPeer::plays(&terms(), |peer| {
            assert_eq!(peer.hear(ASK.len()), ASK);
            peer.raw(&[GO, b"INJECTED"].concat());
        });
        let socket = open(&peer, starttls());
        ask(&socket);
        let waiting = socket.clone();
        let closed = blocked(move || waiting.closed());
        fails(socket.start_tls(), ErrorKind::UnreadPlaintext);
        fails(closed.join_within(AT_ONCE), ErrorKind::UnreadPlaintext);
        peer.got_only(ASK);
    });
}

// -------------------------------------------------------------------- in the handshake

/// Checks that plaintext after the ClientHello fails the new socket, and that no byte of it can be read.
#[track_caller]
fn fails_the_handshake(script: impl FnOnce(&mut Accepted) + Send + 'static) {
    let peer = TlsPeer::plays(&terms(), |peer| {
        peer.agrees();
        script(peer);
    });
    let old = open(&peer, starttls());
    ask(&old);
    let new = old.start_tls().expect("nothing is unread yet");
    assert!(old.upgraded());
    let reader = new.reader();
    let reading = call(move || read(reader, 100));
    never_opened(&new, ErrorKind::Tls);
    fails(reading.join_within(AT_ONCE), ErrorKind::Tls);
    assert_eq!(new.stats().bytes_read, 0);
    old.closed().expect("it was upgraded");
    fails(read(&old, 1), ErrorKind::Upgraded);
    let ending = peer.ending();
    assert_eq!(ending.clear(), ASK);
    assert_eq!(ending.bytes, b"");
}

#[test]
fn plaintext_after_the_client_hello_fails_the_handshake() {
    for (name, injected) in injections() {
        println!("{name}");
        story(move || {
            fails_the_handshake(move |peer| {
                peer.hear_hello();
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
        story(move || {
            fails_the_handshake(move |peer| {
                peer.begin();
                assert!(peer.take_in().expect("the handshake is valid"), "the ClientHello arrives");
                let flight = peer.withheld();
                peer.raw(&[injected, flight].concat());
                peer.fin();
            });
        });
    }
}

#[test]
fn plaintext_after_a_valid_answer_is_never_data() {
    for version in VERSIONS {
        story(move || {
            let peer = TlsPeer::plays(&terms().only(version), |peer| {
                peer.agrees();
                peer.handshake();
                let injected = record(23, &text(300));
                peer.raw(&injected);
            });
            let old = open(&peer, starttls());
            ask(&old);
            let new = old.start_tls().expect("nothing is unread yet");
            fails(read(&new, 400), ErrorKind::Tls);
            assert_eq!(new.stats().bytes_read, 0);
            fails(new.closed_timeout(AT_ONCE), ErrorKind::Tls);
        });
    }
}

// -------------------------------------------------------------------- PostgreSQL

/// The request for TLS of a PostgreSQL client. The reply is one byte.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

#[test]
fn postgresql_has_a_go_ahead_of_one_byte() {
    story(|| {
        let peer = TlsPeer::plays(&terms(), |peer| {
            assert_eq!(peer.hear(8), SSL_REQUEST);
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
        assert_eq!(peer.gets(b"hello").clear(), SSL_REQUEST);
    });
}

#[test]
fn postgresql_with_bytes_after_its_go_ahead_is_refused() {
    // A message of the reply that the secured connection should return, and single bytes.
    for injected in [&b"Z\0\0\0\x05I"[..], b"S", b"\0"] {
        story(move || {
            let peer = TlsPeer::plays(&terms(), move |peer| {
                assert_eq!(peer.hear(8), SSL_REQUEST);
                peer.raw(&[b"S", injected].concat());
            });
            let socket = open(&peer, starttls());
            (&socket).write_all(&SSL_REQUEST).expect("the peer reads");
            assert_eq!(read(&socket, 1).expect("the peer answers"), b"S");
            is_injected(&socket);
            peer.got_only(&SSL_REQUEST);
        });
    }
}

// -------------------------------------------------------------------- the other direction

#[test]
fn nothing_written_after_the_upgrade_is_sent_in_plaintext() {
    const SECRET: &[u8] = b"SECRET-SECRET-";
    const TIMES: usize = 200;
    for round in 0..10 {
        story(move || {
            let peer = TlsPeer::plays(&terms().only(VERSIONS[round % 2]), |peer| {
                assert!(peer.handshake_when_it_comes(), "a handshake arrives");
            });
            let old = open(&peer, starttls());
            let before: Vec<_> = (0..2)
                .map(|_| {
                    let writer = old.writer();
                    call(move || {
                        let first = pour(&writer, b'w', usize::MAX);
                        for _ in 0..TIMES {
                            fails((&writer).write(b"PLAINTEXT"), ErrorKind::Upgraded);
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
                    call(move || (0..TIMES).try_for_each(|_| writer.write_all(SECRET)))
                })
                .collect();
            let mut taken = 0;
            for writing in before {
                let (count, failure) = writing.join();
                assert_eq!(kind_of(&failure.expect("it was upgraded")), ErrorKind::Upgraded);
                taken += count;
            }
            for writing in after {
                writing.join().expect("the peer is trusted");
            }
            new.close().expect("the peer reads");
            let ending = peer.ending();
            same(ending.clear(), &vec![b'w'; taken]);
            ending.records();
            let rest = &ending.wire[ending.clear..];
            assert!(!contains(rest, b"PLAINTEXT") && !contains(rest, b"SECRET"));
            assert!(!contains(rest, &[b'w'; 8]));
            assert_eq!(ending.bytes.len(), 2 * TIMES * SECRET.len());
            assert!(ending.notified);
            assert_eq!(ending.how, How::Fin);
        });
    }
}

#[test]
fn nothing_is_sent_before_the_go_ahead_is_read() {
    story(|| {
        let peer = TlsPeer::plays(&terms(), |peer| {
            assert_eq!(peer.hear(ASK.len()), ASK);
            peer.await_cue();
        });
        let socket = open(&peer, starttls());
        (&socket).write_all(ASK).expect("the peer reads");
        socket.set_read_timeout(Some(ms(100))).expect("not zero");
        times_out(read(&socket, 1));
        socket.close().expect("the peer reads");
        peer.cue();
        peer.got_only(ASK);
    });
}
