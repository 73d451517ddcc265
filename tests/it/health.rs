//! `health` reports the state of an idle socket and leaves all data unread.

use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use sockeye::{ErrorKind, Health, Socket, SocketOptions, TlsVersion};

use crate::support::peer::{PeerConn, black_hole, closed_port};
use crate::support::tls::{
    self, Accepted, Opening, TlsCase, TlsPeer, ask, authority, for_each_tls_setup, server_config,
    upgradable,
};
use crate::support::{
    PROMPT, Peer, assert_ended_with, assert_fails, at_once, crate_kind, eventually,
    fill_send_buffer, open, open_with, past_instant, read, read_exactly, read_to_end,
    small_send_buffer, spawn_blocked, spawn_blocked_read_and_write, spawn_call, with_watchdog,
    within_100_ms,
};

mod pool;

/// The expected [`Health`], without the error itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Opening,
    Idle,
    Unread,
    Ended,
    Failed(ErrorKind),
}

fn health(socket: &Socket) -> Is {
    match at_once(|| socket.health()) {
        Health::Opening => Is::Opening,
        Health::Idle => Is::Idle,
        Health::Unread => Is::Unread,
        Health::Ended => Is::Ended,
        Health::Failed(error) => Is::Failed(error.kind()),
        other => panic!("unexpected health: {other:?}"),
    }
}

/// Checks that the health is `expected` and stays so.
#[track_caller]
fn check(socket: &Socket, expected: Is) {
    for _ in 0..3 {
        assert_eq!(health(socket), expected);
    }
}

/// Waits for the health to become `expected`; until the peer has acted, the socket is idle.
#[track_caller]
fn becomes(socket: &Socket, expected: Is) {
    eventually(PROMPT, "the peer has acted", || match health(socket) {
        Is::Idle if expected != Is::Idle => false,
        found => {
            assert_eq!(found, expected);
            true
        }
    });
    check(socket, expected);
}

#[test]
fn a_socket_that_is_not_yet_open_is_opening() {
    with_watchdog(|| {
        let hole = black_hole();
        let socket = sockeye::connect(hole.address).expect("the address is valid");
        check(&socket, Is::Opening);
        socket.abort();
        check(&socket, Is::Failed(ErrorKind::Closed));
    });
}

#[test]
fn a_socket_that_never_opened_has_failed_with_the_cause() {
    with_watchdog(|| {
        let nothing = closed_port();
        let socket = sockeye::connect(nothing.address).expect("the address is valid");
        socket.opened().expect_err("nothing listens");
        check(&socket, Is::Failed(ErrorKind::Connect));
    });
}

#[test]
fn in_plaintext_every_action_of_the_peer_is_seen_and_data_stays() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.wait_signal();
            wire.send(b"one");
            wire.wait_signal();
            wire.send(b"two");
            wire.wait_signal();
            wire.fin();
        });
        let socket = open(&peer);
        check(&socket, Is::Idle);
        for bytes in [b"one", b"two"] {
            peer.signal();
            becomes(&socket, Is::Unread);
            assert_eq!(read_exactly(&socket, 3).expect("the data is unread"), bytes);
            check(&socket, Is::Idle);
        }
        peer.signal();
        becomes(&socket, Is::Ended);
        socket.closed_timeout(PROMPT).expect("a clean end without unread data");
        assert_eq!(read(&socket, 1).expect("a clean end"), b"");
        assert_eq!(socket.stats().bytes_read, 6);
        peer.assert_received(b"");
    });
}

#[test]
fn an_end_after_unread_bytes_is_seen_once_they_are_read() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.send(b"last words");
            wire.fin();
        });
        let socket = open(&peer);
        becomes(&socket, Is::Unread);
        assert_eq!(read_exactly(&socket, 10).expect("the data is unread"), b"last words");
        becomes(&socket, Is::Ended);
        peer.assert_received(b"");
    });
}

#[test]
fn a_reset_is_seen_despite_unread_bytes() {
    with_watchdog(|| {
        let peer = Peer::resetting();
        let socket = open(&peer);
        check(&socket, Is::Idle);
        peer.signal();
        becomes(&socket, Is::Failed(ErrorKind::Reset));
        assert_ended_with(&socket, ErrorKind::Reset);

        let peer = Peer::scripted(|wire| {
            wire.send(b"data");
            wire.wait_signal();
            wire.reset();
        });
        let socket = open(&peer);
        becomes(&socket, Is::Unread);
        peer.signal();
        peer.finish();
        eventually(PROMPT, "the reset is seen", || health(&socket) != Is::Unread);
        check(&socket, Is::Failed(ErrorKind::Reset));
    });
}

/// The event loop would notice it 100 ms after the last read at the earliest.
#[test]
fn an_end_and_data_are_seen_before_the_loop_polls() {
    with_watchdog(|| {
        for way in [Opening::Plain, Opening::On] {
            is_seen_without_the_loop(way, |peer| peer.line().ends(), Is::Ended);
            is_seen_without_the_loop(way, |peer| peer.send(b"data"), Is::Unread);
        }
    });
}

#[track_caller]
fn is_seen_without_the_loop(way: Opening, act: fn(&mut Accepted), expected: Is) {
    within_100_ms(|| {
        let peer = way.scripted(move |peer| {
            peer.wait_signal();
            act(peer);
        });
        let socket = way.open(&peer, SocketOptions::new());
        peer.signal();
        let begun = Instant::now();
        becomes(&socket, expected);
        begun.elapsed()
    });
}

#[test]
fn a_socket_that_this_side_ended_has_ended() {
    with_watchdog(|| {
        type End = fn(&Socket);
        let ends: [(End, Is); 4] = [
            (|socket| socket.close().expect("the close succeeds"), Is::Ended),
            (|socket| socket.writer().close().expect("the close succeeds"), Is::Ended),
            (|socket| socket.reader().cancel(), Is::Ended),
            (Socket::abort, Is::Failed(ErrorKind::Closed)),
        ];
        for (end, expected) in ends {
            let peer = Peer::scripted(PeerConn::wait_signal);
            let socket = open(&peer);
            end(&socket);
            check(&socket, expected);
            peer.signal();
        }
    });
}

#[test]
fn a_half_open_socket_has_ended_in_one_direction() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| wire.fin());
        let socket = open_with(&peer, SocketOptions::new().allow_half_open(true));
        becomes(&socket, Is::Ended);
        (&socket).write_all(b"still here").expect("it is half open");
        socket.close().expect("the close succeeds");
        peer.assert_received(b"still here");
    });
}

#[test]
fn an_upgraded_socket_is_opening_and_then_like_any_other() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            peer.wait_signal();
            peer.handshake();
        });
        let plain = tls::open(&peer, upgradable(authority()));
        check(&plain, Is::Idle);
        ask(&plain);
        let socket = plain.start_tls().expect("the upgrade may start");
        check(&socket, Is::Opening);
        check(&plain, Is::Ended);
        peer.signal();
        socket.opened().expect("the peer is trusted");
        check(&socket, Is::Idle);
        socket.close().expect("the close succeeds");
        peer.assert_received(b"");
    });
}

#[test]
fn over_tls_data_is_seen_and_stays() {
    for_each_tls_setup(|setting| {
        let peer = setting.scripted(|peer| {
            peer.wait_signal();
            peer.send(b"data");
            peer.send(b"more");
        });
        let socket = setting.open(&peer, SocketOptions::new());
        check(&socket, Is::Idle);
        peer.signal();
        becomes(&socket, Is::Unread);
        assert_eq!(socket.stats().bytes_read, 0);
        assert_eq!(read_exactly(&socket, 8).expect("the data is unread"), b"datamore");
        check(&socket, Is::Idle);
        socket.close().expect("the peer reads");
        peer.assert_received(b"");
    });
}

#[test]
fn over_tls_each_end_is_seen() {
    for_each_tls_setup(|setting| {
        ends(setting, Accepted::close_notify, Is::Ended);
        ends(setting, Accepted::ends, Is::Ended);
        ends(setting, Accepted::fin, Is::Failed(ErrorKind::Truncated));
        ends(setting, Accepted::reset, Is::Failed(ErrorKind::Reset));
        ends(setting, Accepted::alert, Is::Failed(ErrorKind::Tls));
    });
}

#[track_caller]
fn ends(setting: TlsCase, end: fn(&mut Accepted), expected: Is) {
    let peer = setting.scripted(move |peer| {
        peer.wait_signal();
        end(peer);
    });
    let socket = setting.open(&peer, SocketOptions::new());
    check(&socket, Is::Idle);
    peer.signal();
    becomes(&socket, expected);
    drop(socket);
    peer.finish();
}

#[test]
fn over_tls_a_reset_after_unread_data_is_seen() {
    for_each_tls_setup(|setting| {
        let peer = setting.scripted(|peer| {
            peer.send(b"data");
            peer.wait_signal();
            peer.reset();
        });
        let socket = setting.open(&peer, SocketOptions::new());
        becomes(&socket, Is::Unread);
        peer.signal();
        peer.finish();
        eventually(PROMPT, "the reset is seen", || health(&socket) != Is::Unread);
        check(&socket, Is::Failed(ErrorKind::Reset));
    });
}

#[test]
fn a_key_update_is_neither_data_nor_an_end_and_is_answered() {
    with_watchdog(|| {
        let (sender, receiver) = mpsc::channel();
        let peer = TlsPeer::secured(&server_config().only(TlsVersion::Tls13), move |peer| {
            peer.line().update_keys().expect("the other end reads");
            sender.send(()).expect("the test waits for it");
        });
        let socket = tls::open(&peer, tls::options(authority()));
        receiver.recv().expect("the peer has asked");
        check(&socket, Is::Idle);
        (&socket).write_all(b"with new keys").expect("the peer reads");
        socket.close().expect("the peer reads");
        peer.assert_received(b"with new keys");
    });
}

#[test]
fn a_blocked_reader_is_neither_waited_for_nor_disturbed() {
    for way in [Opening::Plain, Opening::On] {
        with_watchdog(move || {
            let peer = way.scripted(|peer| {
                peer.wait_signal();
                peer.send(b"data");
            });
            let socket = way.open(&peer, SocketOptions::new());
            let reader = socket.reader();
            let reading = spawn_blocked(move || read(reader, 10));
            check(&socket, Is::Idle);
            assert!(reading.is_running());
            peer.signal();
            assert_eq!(reading.join().expect("the peer sends"), b"data");
            check(&socket, Is::Idle);
            socket.close().expect("the peer reads");
            peer.assert_received(b"");
        });
    }
}

#[test]
fn a_blocked_writer_is_neither_waited_for_nor_disturbed() {
    with_watchdog(|| {
        let peer = Peer::not_reading();
        let socket = open_with(&peer, small_send_buffer());
        fill_send_buffer(&socket);
        let mut writer = socket.writer();
        let writing = spawn_blocked(move || writer.write(b"more"));
        check(&socket, Is::Idle);
        assert!(writing.is_running());
        socket.abort();
        assert_fails(writing.join(), ErrorKind::Closed);
        drop(peer);
    });
}

#[test]
fn a_reset_is_seen_while_both_directions_are_blocked() {
    with_watchdog(|| {
        let peer = Peer::resetting();
        let socket = open_with(&peer, small_send_buffer());
        let (reading, writing) = spawn_blocked_read_and_write(&socket);
        check(&socket, Is::Idle);
        peer.signal();
        becomes(&socket, Is::Failed(ErrorKind::Reset));
        assert_fails(reading.join(), ErrorKind::Reset);
        let (_, failure) = writing.join();
        assert_eq!(crate_kind(&failure.expect("the peer does not read")), ErrorKind::Reset);
    });
}

#[test]
fn read_limits_do_not_apply_to_health() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| wire.send(b"data"));
        let socket = open(&peer);
        socket.set_deadline(Some(past_instant()));
        becomes(&socket, Is::Unread);
        socket.set_deadline(None);
        assert_eq!(read_exactly(&socket, 4).expect("the data is unread"), b"data");
        socket.close().expect("the close succeeds");
        peer.assert_received(b"");
    });
}

/// `health` holds the read turn for a moment. Neither call may lose the other's wake-up, and the loop may not miss the
/// end.
#[test]
fn concurrent_health_and_reads_lose_nothing() {
    for way in [Opening::Plain, Opening::On] {
        with_watchdog(move || {
            let peer = way.scripted(|peer| {
                for _ in 0..300 {
                    peer.send(&[7; 100]);
                    thread::yield_now();
                }
                peer.send(b"!");
                peer.line().ends();
            });
            let socket = way.open(&peer, SocketOptions::new());
            let looked = socket.clone();
            let looking = spawn_call(move || {
                loop {
                    match looked.health() {
                        Health::Idle | Health::Unread => {}
                        Health::Ended => return,
                        other => panic!("{other:?}"),
                    }
                }
            });
            let bytes = read_to_end(&socket).expect("a clean end");
            assert_eq!(bytes.len(), 30_001);
            looking.join();
            socket.closed_timeout(PROMPT).expect("a clean end");
            peer.assert_received(b"");
        });
    }
}
