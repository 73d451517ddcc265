//! A reset by the peer is told as `Reset`, to everyone, always, and never as a clean end.

use std::io::Write;
#[cfg(target_os = "linux")]
use std::net::Shutdown;

use sockeye::{ErrorKind, Phase, Socket, SocketOptions};

use crate::support::peer::listen_with_room;
use crate::support::{
    AT_ONCE, Peer, at_once, blocked, eventually, fails, kind_of, little_room, ms, open, open_with,
    pour, read, read_to_end, story,
};

fn resets_on_cue() -> Peer {
    Peer::plays(|wire| {
        wire.await_cue();
        wire.reset();
    })
}

/// Every call tells it, however often it is asked.
#[track_caller]
fn stays_reset(mut socket: &Socket) {
    for _ in 0..2 {
        fails(read(socket, 10), ErrorKind::Reset);
        fails(socket.write(b"x"), ErrorKind::Reset);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
    }
    assert_eq!(socket.phase(), Phase::Closed);
}

#[test]
fn idle() {
    unread_and_unwritten(SocketOptions::new());
}

#[test]
fn idle_halfopen() {
    unread_and_unwritten(SocketOptions::new().allow_half_open(true));
}

fn unread_and_unwritten(options: SocketOptions) {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.wait(ms(150));
            wire.reset();
        });
        let socket = open_with(&peer, options);
        fails(socket.closed_timeout(ms(150) + AT_ONCE), ErrorKind::Reset);
        stays_reset(&socket);
        at_once(|| socket.close()).expect("it ended before");
        stays_reset(&socket);
    });
}

#[test]
fn idle_only_read() {
    story(|| {
        let peer = resets_on_cue();
        let socket = open(&peer);
        peer.cue();
        peer.ending();
        fails(read(&socket, 10), ErrorKind::Reset);
        fails(read(&socket, 10), ErrorKind::Reset);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
    });
}

#[test]
fn idle_only_write() {
    story(|| {
        let peer = resets_on_cue();
        let socket = open(&peer);
        peer.cue();
        peer.ending();
        let mut failure = None;
        eventually(AT_ONCE, "the write fails", || {
            failure = (&socket).write(b"x").err();
            failure.is_some()
        });
        assert_eq!(kind_of(&failure.expect("it is set")), ErrorKind::Reset);
        stays_reset(&socket);
    });
}

#[test]
fn during_read() {
    story(|| {
        let peer = resets_on_cue();
        let socket = open(&peer);
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 10));
        peer.cue();
        fails(reading.join_within(AT_ONCE), ErrorKind::Reset);
        stays_reset(&socket);
        at_once(|| socket.close()).expect("it ended before");
    });
}

#[test]
fn data_then_reset_read() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.send(b"precious");
            wire.wait(ms(150));
            wire.reset();
        });
        let socket = open(&peer);
        // A reset settles at once, whatever is unread.
        fails(socket.closed_timeout(ms(150) + AT_ONCE), ErrorKind::Reset);
        assert_eq!(socket.phase(), Phase::Closed);
        // Other systems throw the bytes away.
        if cfg!(target_os = "linux") {
            assert_eq!(read(&socket, 5).expect("they came before the reset"), b"preci");
            assert_eq!(read(&socket, 10).expect("they came before the reset"), b"ous");
        }
        fails(read(&socket, 10), ErrorKind::Reset);
        stays_reset(&socket);
    });
}

#[test]
fn during_read_and_write() {
    story(|| {
        let peer = Peer::on(listen_with_room(4096), |wire| {
            wire.await_cue();
            wire.reset();
        });
        let socket = open_with(&peer, little_room());
        let (reader, writer) = (socket.reader(), socket.writer());
        let reading = blocked(move || read(reader, 10));
        let writing = blocked(move || pour(writer, b'w', 3_000_000));
        peer.cue();
        fails(reading.join_within(AT_ONCE), ErrorKind::Reset);
        let (_, failure) = writing.join_within(AT_ONCE);
        assert_eq!(kind_of(&failure.expect("nobody reads")), ErrorKind::Reset);
        stays_reset(&socket);
        at_once(|| socket.close()).expect("it ended before");
    });
}

#[test]
fn during_write() {
    story(|| {
        let peer = Peer::on(listen_with_room(4096), |wire| {
            wire.await_cue();
            wire.reset();
        });
        let socket = open_with(&peer, little_room());
        let writer = socket.writer();
        let writing = blocked(move || pour(writer, b'w', usize::MAX));
        peer.cue();
        let (_, failure) = writing.join_within(AT_ONCE);
        assert_eq!(kind_of(&failure.expect("nobody reads")), ErrorKind::Reset);
        stays_reset(&socket);
    });
}

#[test]
fn during_closewriter() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.read_to_end();
            wire.await_cue();
            wire.reset();
        });
        let socket = open(&peer);
        socket.writer().close().expect("the peer reads");
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 10));
        peer.cue();
        fails(reading.join_within(AT_ONCE), ErrorKind::Reset);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
    });
}

#[test]
fn after_fin_write() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.fin();
            wire.await_cue();
            wire.close();
        });
        let socket = open_with(&peer, SocketOptions::new().allow_half_open(true));
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        peer.cue();
        peer.ending();
        let mut failure = None;
        eventually(AT_ONCE, "a write to nobody fails", || {
            failure = (&socket).write(b"1").err();
            failure.is_some()
        });
        let cause = kind_of(&failure.expect("it is set"));
        assert!(matches!(cause, ErrorKind::Reset | ErrorKind::Io), "{cause:?}");
        fails(socket.closed_timeout(AT_ONCE), cause);
        at_once(|| socket.close()).expect("it ended before");
    });
}

#[test]
fn a_cancelled_reader_does_not_hide_it() {
    story(|| {
        let peer = resets_on_cue();
        let socket = open(&peer);
        socket.reader().cancel();
        peer.cue();
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
        fails((&socket).write(b"x"), ErrorKind::Reset);
    });
}

/// The peer closes while bytes for it are unread, which the system tells as a reset as well.
#[test]
fn a_peer_that_closes_without_reading_resets() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.await_cue();
            wire.close();
        });
        let socket = open(&peer);
        (&socket).write_all(b"never read").expect("there is room");
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 10));
        peer.cue();
        fails(reading.join_within(AT_ONCE), ErrorKind::Reset);
        stays_reset(&socket);
    });
}

/// What fails a write need not be felt by a read, as where the system is out of buffers; here the other
/// direction has been ended behind the library's back. All are told the same, and a read waits for nothing.
#[cfg(target_os = "linux")]
#[test]
fn a_write_that_fails_alone_is_told_to_a_blocked_read() {
    use crate::support::process::connection;
    use crate::support::tls::Way;
    for way in [Way::Plain, Way::On] {
        story(move || {
            let peer = way.plays(|peer| {
                peer.send(b"before");
                peer.await_cue();
            });
            let socket = way.open(&peer, SocketOptions::new().allow_half_open(true));
            assert_eq!(read(&socket, 10).expect("the peer sends"), b"before");
            let reader = socket.reader();
            let reading = blocked(move || read(reader, 10));
            let info = socket.opened().expect("it is open");
            let ends = (info.local_address(), info.remote_address());
            let (Some(local), Some(remote)) = ends else { panic!("it has both: {ends:?}") };
            connection(local, remote).shutdown(Shutdown::Write).expect("it is connected");
            // Over TLS one is accepted before that.
            eventually(AT_ONCE, "a write fails", || (&socket).write(b"x").is_err());
            fails(reading.join_within(AT_ONCE), ErrorKind::Reset);
            stays_reset(&socket);
            peer.cue();
        });
    }
}
