//! A FIN without `close_notify`, with options that accept it: only between records.

use crate::support::tls::forge::{DATA, HANDSHAKE, ticket};

use super::*;

/// Opens a socket that accepts a FIN as a clean end, to a peer that sends these bytes and FIN.
fn lenient(
    setting: Setting,
    half_open: bool,
    make: impl FnOnce(&mut Accepted) -> Vec<u8> + Send + 'static,
) -> (TlsPeer, Socket) {
    let peer = TlsPeer::plays(&setting.terms(), move |peer| {
        if setting.way == Way::Upgraded {
            peer.agrees();
        }
        peer.handshake();
        peer.await_cue();
        let bytes = make(peer);
        peer.raw(&bytes);
        peer.fin();
    });
    let tls = trusting(authority()).require_close_notify(false);
    let mode = match setting.way {
        Way::Upgraded => SecureTransport::StartTls,
        Way::Plain | Way::On => SecureTransport::On,
    };
    let socket = open(&peer, with(mode, tls).allow_half_open(half_open));
    let socket = match setting.way {
        Way::Upgraded => {
            crate::support::tls::ask(&socket);
            socket.start_tls().expect("nothing is unread")
        }
        Way::Plain | Way::On => socket,
    };
    socket.opened().expect("the peer is trusted");
    (peer, socket)
}

#[test]
fn every_call_reports_an_end_within_a_record_as_truncation() {
    settings(|setting| {
        for half_open in [false, true] {
            for kept in [1, 4, 5, 6, 5_000, 10_020] {
                let (peer, socket) = lenient(setting, half_open, move |peer| {
                    let record = peer.sealed(&[7; 10_000]);
                    record[..kept].to_vec()
                });
                peer.cue();
                fails(read(&socket, 100), ErrorKind::Truncated);
                gives(&socket, ErrorKind::Truncated);
                assert_eq!(socket.stats().bytes_read, 0);
                peer.ending();
            }
        }
    });
}

#[test]
fn an_end_within_a_record_is_noticed_without_a_reader() {
    settings(|setting| {
        let (peer, socket) = lenient(setting, false, |peer| peer.sealed(b"cut")[..20].to_vec());
        peer.cue();
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Truncated);
        fails((&socket).write(b"x"), ErrorKind::Truncated);
        peer.ending();
    });
}

#[test]
fn unread_data_comes_before_an_end_within_a_record() {
    settings(|setting| {
        for half_open in [false, true] {
            let (peer, socket) = lenient(setting, half_open, |peer| {
                let whole = peer.sealed(b"whole");
                [&whole[..], &peer.sealed(b"cut short")[..9]].concat()
            });
            peer.cue();
            // The data is unread and hides the end.
            fails(socket.closed_timeout(ms(200)), ErrorKind::TimedOut);
            assert_eq!(read(&socket, 2).expect("the record is complete"), b"wh");
            assert_eq!(read(&socket, 10).expect("the record is complete"), b"ole");
            fails(read(&socket, 10), ErrorKind::Truncated);
            gives(&socket, ErrorKind::Truncated);
            assert_eq!(socket.stats().bytes_read, 5);
            peer.ending();
        }
    });
}

#[test]
fn an_end_between_records_is_clean() {
    settings(|setting| {
        for half_open in [false, true] {
            let (peer, socket) = lenient(setting, half_open, |peer| {
                [peer.sealed(b"one"), peer.sealed(b"two")].concat()
            });
            peer.cue();
            assert_eq!(read_to_end(&socket).expect("the end is clean"), b"onetwo");
            socket.writer().close().expect("the close succeeds");
            socket.closed_timeout(AT_ONCE).expect("both directions ended");
            peer.ending();
        }
    });
    in_tls_1_3(|setting| {
        let (peer, socket) = lenient(setting, false, |peer| {
            let mut forge = peer.forge();
            [forge.record(DATA, b"one"), forge.padding(50), forge.handshake(&ticket(100))].concat()
        });
        peer.cue();
        assert_eq!(read_to_end(&socket).expect("the end is clean"), b"one");
        socket.closed_timeout(AT_ONCE).expect("the end is clean");
        peer.ending();
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
            peer.cue();
            assert_eq!(read(&socket, 10).expect("the data arrived before"), b"data");
            fails(read(&socket, 10), ErrorKind::Truncated);
            gives(&socket, ErrorKind::Truncated);
            peer.ending();
        }
    });
}
