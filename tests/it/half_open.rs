//! What happens when one direction has ended, with and without `allow_half_open`.

use std::io::{self, Write};

use sockeye::{ErrorKind, Phase, Socket, SocketOptions};

use crate::support::peer::{Wire, listen_with_room};
use crate::support::{
    AT_ONCE, How, PATIENCE, Peer, blocked, call, eventually, fails, fill, kind_of, little_room, ms,
    open, open_with, pour, read, read_to_end, story,
};

fn half_open() -> SocketOptions {
    SocketOptions::new().allow_half_open(true)
}

/// Waits a moment, says something, ends its direction and reads on.
fn says_bye_and_ends(wire: &mut Wire) {
    wire.wait(ms(100));
    wire.send(b"bye");
    wire.fin();
}

/// Waits a moment and ends its direction without a word.
fn ends(wire: &mut Wire) {
    wire.wait(ms(100));
    wire.fin();
}

// -------------------------------------------------------------------- allow_half_open is off

#[test]
fn f_reading() {
    reading_to_the_end_closes_both_directions(SocketOptions::new().allow_half_open(false));
}

#[test]
fn absent_reading() {
    reading_to_the_end_closes_both_directions(SocketOptions::new());
}

fn reading_to_the_end_closes_both_directions(options: SocketOptions) {
    story(|| {
        let peer = Peer::plays(says_bye_and_ends);
        let socket = open_with(&peer, options);
        let writer = socket.writer();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        peer.gets(b"");
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        fails((&writer).write(b"late"), ErrorKind::Closed);
        writer.close().expect("it was closed at the end");
        socket.close().expect("it ended before");
        assert_eq!(socket.phase(), Phase::Closed);
    });
}

#[test]
fn f_not_reading() {
    story(|| {
        let peer = Peer::plays(ends);
        let socket = open(&peer);
        socket.closed_timeout(ms(100) + AT_ONCE).expect("a clean end");
        peer.gets(b"");
        fails(socket.writer().write(b"late"), ErrorKind::Closed);
        assert_eq!(read(&socket, 1).expect("a clean end"), b"");
        socket.closed().expect("it stays so");
    });
}

#[test]
fn f_not_reading_data() {
    story(|| {
        let peer = Peer::plays(says_bye_and_ends);
        let socket = open(&peer);
        let writer = socket.writer();
        fails(socket.closed_timeout(ms(600)), ErrorKind::TimedOut);
        assert_eq!((&writer).write(b"w1").expect("bytes are unread, so it is open"), 2);
        fails(socket.closed_timeout(ms(300)), ErrorKind::TimedOut);
        assert_eq!(read(&socket, 10).expect("they waited"), b"bye");
        assert_eq!(read(&socket, 10).expect("a clean end"), b"");
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        fails((&writer).write(b"w3"), ErrorKind::Closed);
        peer.gets(b"w1");
    });
}

#[test]
fn f_pending_read() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.await_cue();
            wire.fin();
        });
        let socket = open(&peer);
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 10));
        peer.cue();
        assert_eq!(reading.join().expect("a clean end"), b"");
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        assert_eq!(read(&socket, 10).expect("and again"), b"");
        peer.gets(b"");
    });
}

#[test]
fn f_peer_closes_fully() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.wait(ms(100));
            wire.close();
        });
        let socket = open(&peer);
        let writer = socket.writer();
        socket.closed_timeout(ms(100) + AT_ONCE).expect("a clean end");
        fails((&writer).write(b"one"), ErrorKind::Closed);
        fails((&writer).write(b"two"), ErrorKind::Closed);
        socket.closed().expect("it stays so");
        assert_eq!(read(&socket, 10).expect("a clean end"), b"");
    });
}

#[test]
fn f_peer_closes_fully_reading() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.wait(ms(100));
            wire.send(b"bye");
            wire.close();
        });
        let socket = open(&peer);
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        fails((&socket).write(b"x"), ErrorKind::Closed);
    });
}

#[test]
fn f_queued_writes_flush() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.send(b"bye");
            wire.fin();
            wire.wait(ms(600));
        });
        let socket = open(&peer);
        let writers: Vec<_> = [(b'1', 3_000_000), (b'2', 6), (b'3', 5)]
            .into_iter()
            .map(|(byte, count)| {
                let writer = socket.writer();
                call(move || (byte, pour(writer, byte, count)))
            })
            .collect();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        fails((&socket).write(b"after the end"), ErrorKind::Closed);
        socket.closed_timeout(PATIENCE).expect("a clean end");
        let poured: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        let ending = peer.ending();
        assert_eq!(ending.how, How::Fin);
        for (byte, (taken, failure)) in poured {
            let arrived = ending.bytes.iter().filter(|one| **one == byte).count();
            assert_eq!(arrived, taken, "of writer {}", char::from(byte));
            if let Some(failure) = failure {
                assert_eq!(kind_of(&failure), ErrorKind::Closed);
            }
        }
    });
}

#[test]
fn f_write_in_same_turn_as_eof() {
    story(|| {
        let peer = Peer::plays(says_bye_and_ends);
        let socket = open(&peer);
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        fails((&socket).write(b"instant"), ErrorKind::Closed);
        peer.gets(b"");
    });
}

#[test]
fn f_writer_unlocked() {
    story(|| {
        let peer = Peer::plays(says_bye_and_ends);
        let socket = open(&peer);
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        assert_eq!(socket.phase(), Phase::Closed);
        fails(socket.writer().write(b"x"), ErrorKind::Closed);
    });
}

#[test]
fn f_writer_closed_first() {
    writer_closed_first(SocketOptions::new());
}

fn writer_closed_first(options: SocketOptions) {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.read_to_end();
            wire.send(b"bye");
            wire.fin();
        });
        let socket = open_with(&peer, options);
        assert_eq!((&socket).write(b"req").expect("the peer reads"), 3);
        socket.writer().close().expect("the peer reads");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        socket.closed_timeout(AT_ONCE).expect("both directions ended");
        socket.close().expect("it ended before");
        peer.gets(b"req");
    });
}

#[test]
fn f_writer_closed_first_notread() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.read_to_end();
            wire.fin();
        });
        let socket = open(&peer);
        socket.writer().close().expect("the peer reads");
        socket.closed_timeout(AT_ONCE).expect("both directions ended");
        socket.close().expect("it ended before");
        peer.gets(b"");
    });
}

#[test]
fn f_byte_at_a_time() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.send(b"x");
            wire.fin();
        });
        let socket = open(&peer);
        fails(socket.closed_timeout(ms(120)), ErrorKind::TimedOut);
        assert_eq!(read(&socket, 1).expect("it waits"), b"x");
        // Nobody reads again: the end behind the byte has to be noticed.
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        fails((&socket).write(b"after the first read"), ErrorKind::Closed);
        assert_eq!(read(&socket, 1).expect("a clean end"), b"");
        peer.gets(b"");
    });
}

#[test]
fn the_end_behind_the_last_byte_is_noticed_when_it_comes_later() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.send(b"x");
            wire.await_cue();
            wire.fin();
        });
        let socket = open(&peer);
        assert_eq!(read(&socket, 1).expect("it waits"), b"x");
        fails(socket.closed_timeout(ms(100)), ErrorKind::TimedOut);
        peer.cue();
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        peer.gets(b"");
    });
}

#[test]
fn f_reader_cancelled_then_fin() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.await_cue();
            wire.fin();
        });
        let socket = open(&peer);
        socket.reader().cancel();
        assert_eq!(socket.phase(), Phase::HalfClosed);
        peer.cue();
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        fails((&socket).write(b"after"), ErrorKind::Closed);
        peer.gets(b"");
    });
}

// -------------------------------------------------------------------- allow_half_open is on

#[test]
fn t_peer_closes_fully() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.wait(ms(100));
            wire.send(b"bye");
            wire.close();
        });
        let socket = open_with(&peer, half_open());
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        fails(socket.closed_timeout(ms(200)), ErrorKind::TimedOut);
        let cause = write_until_it_fails(&socket);
        assert!(matches!(cause, ErrorKind::Reset | ErrorKind::Io), "{cause:?}");
        fails((&socket).write(b"again"), cause);
        fails(socket.closed_timeout(AT_ONCE), cause);
    });
}

/// The first write after the peer has gone may be taken; one that comes later fails.
fn write_until_it_fails(mut socket: &Socket) -> ErrorKind {
    let mut cause = None;
    eventually(AT_ONCE, "a write to nobody fails", || {
        cause = socket.write(b"one").err();
        cause.is_some()
    });
    kind_of(&cause.expect("it is set"))
}

#[test]
fn t_both_ended_then_close() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.read_to_end();
            wire.send(b"bye");
            wire.close();
        });
        let socket = open_with(&peer, half_open());
        socket.writer().close().expect("the peer reads");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        socket.closed_timeout(AT_ONCE).expect("both directions ended");
        socket.close().expect("it ended before");
        socket.closed().expect("it stays so");
    });
}

#[test]
fn t_fin_then_write() {
    story(|| {
        let peer = Peer::plays(says_bye_and_ends);
        let socket = open_with(&peer, half_open());
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        fails(socket.closed_timeout(ms(300)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::HalfClosed);
        (&socket).write_all(b"still here").expect("the peer reads");
        socket.writer().close().expect("the peer reads");
        socket.closed_timeout(AT_ONCE).expect("both directions ended");
        socket.close().expect("it ended before");
        peer.gets(b"still here");
    });
}

#[test]
fn t_end_alone_does_not_settle_without_a_reader_either() {
    story(|| {
        let peer = Peer::plays(ends);
        let socket = open_with(&peer, half_open());
        fails(socket.closed_timeout(ms(400)), ErrorKind::TimedOut);
        (&socket).write_all(b"still here").expect("the peer reads");
        socket.writer().close().expect("the peer reads");
        socket.closed_timeout(AT_ONCE).expect("both directions ended");
        peer.gets(b"still here");
    });
}

#[test]
fn t_closewriter_then_fin() {
    writer_closed_first(half_open());
}

#[test]
fn t_fin_then_abort() {
    story(|| {
        let peer = Peer::plays(ends);
        let socket = open_with(&peer, half_open());
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        socket.writer().abort();
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Closed);
        peer.sees_a_reset();
    });
}

#[test]
fn t_echo_pipe() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.send(b"abc");
            wire.receive(3);
            wire.send(b"defg");
            wire.fin();
        });
        let socket = open_with(&peer, half_open());
        let copied = io::copy(&mut socket.reader(), &mut socket.writer());
        assert_eq!(copied.expect("both sides work to the end"), 7);
        socket.writer().close().expect("the peer reads");
        socket.closed_timeout(AT_ONCE).expect("both directions ended");
        peer.gets(b"abcdefg");
    });
}

#[test]
fn a_write_blocked_at_the_end_of_reading_ends_and_what_was_taken_arrives() {
    story(|| {
        let peer = Peer::on(listen_with_room(4096), |wire| {
            wire.await_cue();
            wire.fin();
            wire.await_cue();
        });
        let socket = open_with(&peer, little_room().close_timeout(ms(300)));
        let taken = fill(&socket);
        let mut writer = socket.writer();
        let writing = blocked(move || writer.write(b"w"));
        peer.cue();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        // It may still end well, for as long as a close would wait for it.
        fails(writing.join_within(ms(300) + AT_ONCE), ErrorKind::Closed);
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        peer.cue();
        peer.gets(&vec![b'w'; taken]);
    });
}

#[test]
fn a_write_blocked_at_the_end_of_reading_may_still_end_well() {
    story(|| {
        let peer = Peer::on(listen_with_room(4096), |wire| {
            wire.await_cue();
            wire.fin();
            wire.await_cue();
        });
        let socket = open_with(&peer, little_room());
        let taken = fill(&socket);
        let mut writer = socket.writer();
        let writing = blocked(move || writer.write(b"w"));
        peer.cue();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        peer.cue();
        assert_eq!(writing.join().expect("the peer reads now"), 1);
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        peer.gets(&vec![b'w'; taken + 1]);
    });
}

#[test]
fn a_write_after_the_end_does_not_wait_for_one_that_is_blocked() {
    story(|| {
        let peer = Peer::on(listen_with_room(4096), |wire| {
            wire.await_cue();
            wire.fin();
            wire.await_cue();
        });
        let socket = open_with(&peer, little_room());
        fill(&socket);
        let (mut writer, mut other) = (socket.writer(), socket.writer());
        let writing = blocked(move || writer.write(b"w"));
        peer.cue();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        fails(call(move || other.write(b"late")).join_within(AT_ONCE), ErrorKind::Closed);
        socket.abort();
        fails(writing.join_within(AT_ONCE), ErrorKind::Closed);
    });
}
