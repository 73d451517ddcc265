//! `health` reports the state of an idle socket and leaves all data unread.

use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use sockeye::{ErrorKind, Health, Socket, SocketOptions, TlsVersion};

use crate::support::peer::{Wire, black_hole, nothing_listens};
use crate::support::tls::{
    self, Accepted, Setting, TlsPeer, Way, ask, authority, settings, terms, upgradable,
};
use crate::support::{
    AT_ONCE, Peer, at_once, blocked, both_blocked, call, eventually, fails, fill, gives, kind_of,
    little_room, open, open_with, past, read, read_exactly, read_to_end, story, within_100_ms,
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
    eventually(AT_ONCE, "the peer has acted", || match health(socket) {
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
    story(|| {
        let hole = black_hole();
        let socket = sockeye::connect(hole.address).expect("the address is valid");
        check(&socket, Is::Opening);
        socket.abort();
        check(&socket, Is::Failed(ErrorKind::Closed));
    });
}

#[test]
fn a_socket_that_never_opened_has_failed_with_the_cause() {
    story(|| {
        let nothing = nothing_listens();
        let socket = sockeye::connect(nothing.address).expect("the address is valid");
        socket.opened().expect_err("nothing listens");
        check(&socket, Is::Failed(ErrorKind::Connect));
    });
}

#[test]
fn in_plaintext_every_action_of_the_peer_is_seen_and_data_stays() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.await_cue();
            wire.send(b"one");
            wire.await_cue();
            wire.send(b"two");
            wire.await_cue();
            wire.fin();
        });
        let socket = open(&peer);
        check(&socket, Is::Idle);
        for bytes in [b"one", b"two"] {
            peer.cue();
            becomes(&socket, Is::Unread);
            assert_eq!(read_exactly(&socket, 3).expect("the data is unread"), bytes);
            check(&socket, Is::Idle);
        }
        peer.cue();
        becomes(&socket, Is::Ended);
        socket.closed_timeout(AT_ONCE).expect("a clean end without unread data");
        assert_eq!(read(&socket, 1).expect("a clean end"), b"");
        assert_eq!(socket.stats().bytes_read, 6);
        peer.gets(b"");
    });
}

#[test]
fn an_end_after_unread_bytes_is_seen_once_they_are_read() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.send(b"last words");
            wire.fin();
        });
        let socket = open(&peer);
        becomes(&socket, Is::Unread);
        assert_eq!(read_exactly(&socket, 10).expect("the data is unread"), b"last words");
        becomes(&socket, Is::Ended);
        peer.gets(b"");
    });
}

#[test]
fn a_reset_is_seen_despite_unread_bytes() {
    story(|| {
        let peer = Peer::resets();
        let socket = open(&peer);
        check(&socket, Is::Idle);
        peer.cue();
        becomes(&socket, Is::Failed(ErrorKind::Reset));
        gives(&socket, ErrorKind::Reset);

        let peer = Peer::plays(|wire| {
            wire.send(b"data");
            wire.await_cue();
            wire.reset();
        });
        let socket = open(&peer);
        becomes(&socket, Is::Unread);
        peer.cue();
        peer.ending();
        eventually(AT_ONCE, "the reset is seen", || health(&socket) != Is::Unread);
        check(&socket, Is::Failed(ErrorKind::Reset));
    });
}

/// The event loop would notice it 100 ms after the last read at the earliest.
#[test]
fn an_end_and_data_are_seen_before_the_loop_polls() {
    story(|| {
        for way in [Way::Plain, Way::On] {
            is_seen_without_the_loop(way, |peer| peer.line().ends(), Is::Ended);
            is_seen_without_the_loop(way, |peer| peer.send(b"data"), Is::Unread);
        }
    });
}

#[track_caller]
fn is_seen_without_the_loop(way: Way, act: fn(&mut Accepted), expected: Is) {
    within_100_ms(|| {
        let peer = way.plays(move |peer| {
            peer.await_cue();
            act(peer);
        });
        let socket = way.open(&peer, SocketOptions::new());
        peer.cue();
        let begun = Instant::now();
        becomes(&socket, expected);
        begun.elapsed()
    });
}

#[test]
fn a_socket_that_this_side_ended_has_ended() {
    story(|| {
        type End = fn(&Socket);
        let ends: [(End, Is); 4] = [
            (|socket| socket.close().expect("the close succeeds"), Is::Ended),
            (|socket| socket.writer().close().expect("the close succeeds"), Is::Ended),
            (|socket| socket.reader().cancel(), Is::Ended),
            (Socket::abort, Is::Failed(ErrorKind::Closed)),
        ];
        for (end, expected) in ends {
            let peer = Peer::plays(Wire::await_cue);
            let socket = open(&peer);
            end(&socket);
            check(&socket, expected);
            peer.cue();
        }
    });
}

#[test]
fn a_half_open_socket_has_ended_in_one_direction() {
    story(|| {
        let peer = Peer::plays(|wire| wire.fin());
        let socket = open_with(&peer, SocketOptions::new().allow_half_open(true));
        becomes(&socket, Is::Ended);
        (&socket).write_all(b"still here").expect("it is half open");
        socket.close().expect("the close succeeds");
        peer.gets(b"still here");
    });
}

#[test]
fn an_upgraded_socket_is_opening_and_then_like_any_other() {
    story(|| {
        let peer = TlsPeer::plays(&terms(), |peer| {
            peer.agrees();
            peer.await_cue();
            peer.handshake();
        });
        let plain = tls::open(&peer, upgradable(authority()));
        check(&plain, Is::Idle);
        ask(&plain);
        let socket = plain.start_tls().expect("the upgrade may start");
        check(&socket, Is::Opening);
        check(&plain, Is::Ended);
        peer.cue();
        socket.opened().expect("the peer is trusted");
        check(&socket, Is::Idle);
        socket.close().expect("the close succeeds");
        peer.gets(b"");
    });
}

#[test]
fn over_tls_data_is_seen_and_stays() {
    settings(|setting| {
        let peer = setting.plays(|peer| {
            peer.await_cue();
            peer.send(b"data");
            peer.send(b"more");
        });
        let socket = setting.open(&peer, SocketOptions::new());
        check(&socket, Is::Idle);
        peer.cue();
        becomes(&socket, Is::Unread);
        assert_eq!(socket.stats().bytes_read, 0);
        assert_eq!(read_exactly(&socket, 8).expect("the data is unread"), b"datamore");
        check(&socket, Is::Idle);
        socket.close().expect("the peer reads");
        peer.gets(b"");
    });
}

#[test]
fn over_tls_each_end_is_seen() {
    settings(|setting| {
        ends(setting, Accepted::close_notify, Is::Ended);
        ends(setting, Accepted::ends, Is::Ended);
        ends(setting, Accepted::fin, Is::Failed(ErrorKind::Truncated));
        ends(setting, Accepted::reset, Is::Failed(ErrorKind::Reset));
        ends(setting, Accepted::alert, Is::Failed(ErrorKind::Tls));
    });
}

#[track_caller]
fn ends(setting: Setting, end: fn(&mut Accepted), expected: Is) {
    let peer = setting.plays(move |peer| {
        peer.await_cue();
        end(peer);
    });
    let socket = setting.open(&peer, SocketOptions::new());
    check(&socket, Is::Idle);
    peer.cue();
    becomes(&socket, expected);
    drop(socket);
    peer.ending();
}

#[test]
fn over_tls_a_reset_after_unread_data_is_seen() {
    settings(|setting| {
        let peer = setting.plays(|peer| {
            peer.send(b"data");
            peer.await_cue();
            peer.reset();
        });
        let socket = setting.open(&peer, SocketOptions::new());
        becomes(&socket, Is::Unread);
        peer.cue();
        peer.ending();
        eventually(AT_ONCE, "the reset is seen", || health(&socket) != Is::Unread);
        check(&socket, Is::Failed(ErrorKind::Reset));
    });
}

#[test]
fn a_key_update_is_neither_data_nor_an_end_and_is_answered() {
    story(|| {
        let (tell, told) = mpsc::channel();
        let peer = TlsPeer::secured(&terms().only(TlsVersion::Tls13), move |peer| {
            peer.line().update_keys().expect("the other end reads");
            tell.send(()).expect("the test waits for it");
        });
        let socket = tls::open(&peer, tls::options(authority()));
        told.recv().expect("the peer has asked");
        check(&socket, Is::Idle);
        (&socket).write_all(b"with new keys").expect("the peer reads");
        socket.close().expect("the peer reads");
        peer.gets(b"with new keys");
    });
}

#[test]
fn a_blocked_reader_is_neither_waited_for_nor_disturbed() {
    for way in [Way::Plain, Way::On] {
        story(move || {
            let peer = way.plays(|peer| {
                peer.await_cue();
                peer.send(b"data");
            });
            let socket = way.open(&peer, SocketOptions::new());
            let reader = socket.reader();
            let reading = blocked(move || read(reader, 10));
            check(&socket, Is::Idle);
            assert!(reading.is_running());
            peer.cue();
            assert_eq!(reading.join().expect("the peer sends"), b"data");
            check(&socket, Is::Idle);
            socket.close().expect("the peer reads");
            peer.gets(b"");
        });
    }
}

#[test]
fn a_blocked_writer_is_neither_waited_for_nor_disturbed() {
    story(|| {
        let peer = Peer::stuck();
        let socket = open_with(&peer, little_room());
        fill(&socket);
        let mut writer = socket.writer();
        let writing = blocked(move || writer.write(b"more"));
        check(&socket, Is::Idle);
        assert!(writing.is_running());
        socket.abort();
        fails(writing.join(), ErrorKind::Closed);
        drop(peer);
    });
}

#[test]
fn a_reset_is_seen_while_both_directions_are_blocked() {
    story(|| {
        let peer = Peer::resets();
        let socket = open_with(&peer, little_room());
        let (reading, writing) = both_blocked(&socket);
        check(&socket, Is::Idle);
        peer.cue();
        becomes(&socket, Is::Failed(ErrorKind::Reset));
        fails(reading.join(), ErrorKind::Reset);
        let (_, failure) = writing.join();
        assert_eq!(kind_of(&failure.expect("the peer does not read")), ErrorKind::Reset);
    });
}

#[test]
fn read_limits_do_not_apply_to_health() {
    story(|| {
        let peer = Peer::plays(|wire| wire.send(b"data"));
        let socket = open(&peer);
        socket.set_deadline(Some(past()));
        becomes(&socket, Is::Unread);
        socket.set_deadline(None);
        assert_eq!(read_exactly(&socket, 4).expect("the data is unread"), b"data");
        socket.close().expect("the close succeeds");
        peer.gets(b"");
    });
}

/// `health` holds the read turn for a moment. Neither call may lose the other's wake-up, and the loop may not miss the
/// end.
#[test]
fn concurrent_health_and_reads_lose_nothing() {
    for way in [Way::Plain, Way::On] {
        story(move || {
            let peer = way.plays(|peer| {
                for _ in 0..300 {
                    peer.send(&[7; 100]);
                    thread::yield_now();
                }
                peer.send(b"!");
                peer.line().ends();
            });
            let socket = way.open(&peer, SocketOptions::new());
            let looked = socket.clone();
            let looking = call(move || {
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
            socket.closed_timeout(AT_ONCE).expect("a clean end");
            peer.gets(b"");
        });
    }
}
