//! A FIN without `close_notify`, with options that accept it: only between records.

use crate::support::tls::forge::{DATA, HANDSHAKE, ticket};

use super::*;

/// Opens a socket that accepts a FIN as a clean end, to a peer that sends these bytes and FIN.
fn lenient(
    setting: TlsCase,
    half_open: bool,
    make: impl FnOnce(&mut Accepted) -> Vec<u8> + Send + 'static,
) -> (TlsPeer, Socket) {
    let peer = TlsPeer::scripted(&setting.server_config(), move |peer| {
        if setting.way == Opening::Upgraded {
            peer.accept_starttls();
        }
        peer.handshake();
        peer.wait_signal();
        let bytes = make(peer);
        peer.raw(&bytes);
        peer.fin();
    });
    let tls = trust_only(authority()).require_close_notify(false);
    let mode = match setting.way {
        Opening::Upgraded => SecureTransport::StartTls,
        Opening::Plain | Opening::On => SecureTransport::On,
    };
    let socket = open(&peer, with(mode, tls).allow_half_open(half_open));
    let socket = match setting.way {
        Opening::Upgraded => {
            crate::support::tls::ask(&socket);
            socket.start_tls().expect("nothing is unread")
        }
        Opening::Plain | Opening::On => socket,
    };
    socket.opened().expect("the peer is trusted");
    (peer, socket)
}

#[test]
fn every_call_reports_an_end_within_a_record_as_truncation() {
    for_each_tls_setup(|setting| {
        for half_open in [false, true] {
            for kept in [1, 4, 5, 6, 5_000, 10_020] {
                let (peer, socket) = lenient(setting, half_open, move |peer| {
                    let record = peer.sealed(&[7; 10_000]);
                    record[..kept].to_vec()
                });
                peer.signal();
                assert_fails(read(&socket, 100), ErrorKind::Truncated);
                assert_ended_with(&socket, ErrorKind::Truncated);
                assert_eq!(socket.stats().bytes_read, 0);
                peer.finish();
            }
        }
    });
}

#[test]
fn an_end_within_a_record_is_noticed_without_a_reader() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = lenient(setting, false, |peer| peer.sealed(b"cut")[..20].to_vec());
        peer.signal();
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Truncated);
        assert_fails((&socket).write(b"x"), ErrorKind::Truncated);
        peer.finish();
    });
}

#[test]
fn unread_data_comes_before_an_end_within_a_record() {
    for_each_tls_setup(|setting| {
        for half_open in [false, true] {
            let (peer, socket) = lenient(setting, half_open, |peer| {
                let whole = peer.sealed(b"whole");
                [&whole[..], &peer.sealed(b"cut short")[..9]].concat()
            });
            peer.signal();
            // The data is unread and hides the end.
            assert_fails(socket.closed_timeout(ms(200)), ErrorKind::TimedOut);
            assert_eq!(read(&socket, 2).expect("the record is complete"), b"wh");
            assert_eq!(read(&socket, 10).expect("the record is complete"), b"ole");
            assert_fails(read(&socket, 10), ErrorKind::Truncated);
            assert_ended_with(&socket, ErrorKind::Truncated);
            assert_eq!(socket.stats().bytes_read, 5);
            peer.finish();
        }
    });
}

#[test]
fn an_end_between_records_is_clean() {
    for_each_tls_setup(|setting| {
        for half_open in [false, true] {
            let (peer, socket) = lenient(setting, half_open, |peer| {
                [peer.sealed(b"one"), peer.sealed(b"two")].concat()
            });
            peer.signal();
            assert_eq!(read_to_end(&socket).expect("the end is clean"), b"onetwo");
            socket.writer().close().expect("the close succeeds");
            socket.closed_timeout(PROMPT).expect("both directions ended");
            peer.finish();
        }
    });
    in_tls_1_3(|setting| {
        let (peer, socket) = lenient(setting, false, |peer| {
            let mut forge = peer.forge();
            [forge.record(DATA, b"one"), forge.padding(50), forge.handshake(&ticket(100))].concat()
        });
        peer.signal();
        assert_eq!(read_to_end(&socket).expect("the end is clean"), b"one");
        socket.closed_timeout(PROMPT).expect("the end is clean");
        peer.finish();
    });
}

/// The record is complete, but the handshake message in it is not.
#[test]
fn an_end_within_a_message_is_truncation() {
    in_tls_1_3(|setting| {
        for parts in [1, 2, 3] {
            let (peer, socket) = lenient(setting, false, move |peer| {
                let message = ticket(100);
                let mut forge = peer.forge();
                let data = forge.record(DATA, b"data");
                let parts = message.chunks(30).take(parts);
                [data, parts.flat_map(|part| forge.record(HANDSHAKE, part)).collect()].concat()
            });
            peer.signal();
            assert_eq!(read(&socket, 10).expect("the data arrived before"), b"data");
            assert_fails(read(&socket, 10), ErrorKind::Truncated);
            assert_ended_with(&socket, ErrorKind::Truncated);
            peer.finish();
        }
    });
}
