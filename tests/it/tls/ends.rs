//! Ends of secured connections: `close_notify` and its absence, half-closes, alerts and resets. Tickets and key updates
//! are not ends.

mod alerts;
mod cancelled;
mod no_end;
mod partial;

use std::io::{Read, Write};
use std::sync::mpsc;

use sockeye::{Error, ErrorKind, Phase, SecureTransport, Socket, SocketOptions, TlsVersion};

use crate::support::peer::{listen, listen_with_room};
use crate::support::tls::{
    Accepted, Setting, TlsPeer, Way, authority, connect, contains, open, options, rustls_error,
    says, settings, terms, trusting, with,
};
use crate::support::{
    AT_ONCE, How, PATIENCE, Verdict, at_once, blocked, call, fails, fill, gives, kind_of,
    little_room, ms, noise, pour, read, read_exactly, read_to_end, same, story, timed, times_out,
};

fn half_open() -> SocketOptions {
    SocketOptions::new().allow_half_open(true)
}

/// Opens a connection of this setting.
#[track_caller]
fn pair(
    setting: Setting,
    script: impl FnOnce(&mut Accepted) + Send + 'static,
) -> (TlsPeer, Socket) {
    let peer = setting.plays(script);
    let socket = setting.open(&peer, SocketOptions::new());
    (peer, socket)
}

/// Requests another key update and waits for the reply.
#[track_caller]
fn is_answered(peer: &mut Accepted) {
    peer.line().update_keys().expect("the other end is open");
    assert!(peer.pull().expect("the reply is valid"), "a reply arrives");
}

/// Runs the test over TLS 1.3 in both ways.
fn in_tls_1_3(tell: impl Fn(Setting) + Copy + Send + 'static) {
    for way in [Way::On, Way::Upgraded] {
        println!("{way:?}");
        story(move || tell(Setting { way, version: TlsVersion::Tls13 }));
    }
}

// -------------------------------------------------------------------- this side ends

#[test]
fn close_sends_close_notify_and_then_fin() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |_| ());
        (&socket).write_all(b"last words").expect("the peer reads");
        at_once(|| socket.close()).expect("nothing prevents it");
        socket.closed_timeout(AT_ONCE).expect("it was closed");
        assert_eq!(socket.phase(), Phase::Closed);
        fails(read(&socket, 1), ErrorKind::Closed);
        fails((&socket).write(b"x"), ErrorKind::Closed);
        peer.gets(b"last words");
    });
}

#[test]
fn dropping_the_last_handle_sends_close_notify_and_then_fin() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |_| ());
        let (reader, writer) = (socket.reader(), socket.writer());
        (&socket).write_all(b"last words").expect("the peer reads");
        drop(socket);
        drop(reader);
        (&writer).write_all(b", and more").expect("another handle is left");
        drop(writer);
        peer.gets(b"last words, and more");
    });
}

#[test]
fn closing_the_writer_sends_close_notify_and_fin_and_reading_continues() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.read_to_end();
            peer.send(b"answer");
            peer.ends();
        });
        (&socket).write_all(b"question").expect("the peer reads");
        socket.writer().close().expect("the peer reads");
        assert_eq!(socket.phase(), Phase::HalfClosed);
        fails((&socket).write(b"x"), ErrorKind::Closed);
        socket.writer().close().expect("a closed side may be closed again");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"answer");
        socket.closed_timeout(AT_ONCE).expect("both directions ended");
        peer.gets(b"question");
    });
}

#[test]
fn a_closed_writer_and_a_silent_peer_leave_the_socket_half_open() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.read_to_end();
            peer.await_cue();
            peer.send(b"later");
        });
        socket.writer().close().expect("the peer reads");
        fails(socket.closed_timeout(ms(200)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::HalfClosed);
        peer.cue();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"later");
        peer.gets(b"");
    });
}

#[test]
fn closing_the_writer_completes_the_handshake() {
    story(|| {
        let peer = TlsPeer::plays(&terms(), |peer| {
            peer.await_cue();
            peer.handshake();
            peer.read_to_end();
            peer.send(b"answer");
        });
        let socket = connect(&peer, options(authority()));
        let writer = socket.writer();
        let closing = blocked(move || writer.close());
        peer.cue();
        closing.join().expect("the peer is trusted");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"answer");
        peer.gets(b"");
    });
}

#[test]
fn abort_resets_without_close_notify() {
    for abort in [Socket::abort, |socket: &Socket| socket.writer().abort()] {
        settings(move |setting| {
            let (peer, socket) = pair(setting, |_| ());
            let reader = socket.reader();
            let reading = blocked(move || read(reader, 10));
            at_once(|| abort(&socket));
            fails(reading.join_within(AT_ONCE), ErrorKind::Closed);
            gives(&socket, ErrorKind::Closed);
            peer.sees_a_reset();
        });
    }
}

#[test]
fn close_with_unread_data_is_no_reset() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.send(b"first");
            peer.send(&noise(30, 100_000));
            peer.read_to_end();
            peer.await_cue();
        });
        (&socket).write_all(b"last words").expect("the peer reads");
        assert_eq!(read_exactly(&socket, 5).expect("the peer sends"), b"first");
        fails(socket.closed_timeout(ms(100)), ErrorKind::TimedOut);
        socket.close().expect("the kernel has all written bytes");
        peer.cue();
        peer.gets(b"last words");
    });
}

#[test]
fn close_ends_calls_that_are_blocked() {
    settings(|setting| {
        let peer = setting.stuck();
        let socket = setting.open(&peer, little_room().close_timeout(ms(300)));
        let (reader, writer) = (socket.reader(), socket.writer());
        let reading = blocked(move || read(reader, 1));
        let writing = blocked(move || pour(writer, b'w', usize::MAX));
        let _ = socket.close();
        fails(reading.join_within(AT_ONCE), ErrorKind::Closed);
        let (_, failure) = writing.join_within(AT_ONCE);
        assert_eq!(kind_of(&failure.expect("the peer does not read")), ErrorKind::Closed);
    });
}

#[test]
fn a_write_that_close_ends_reports_exactly_the_delivered_bytes() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |_| ());
        let writer = socket.writer();
        let writing = call(move || pour(writer, b'w', usize::MAX));
        while socket.stats().bytes_written < 300_000 {
            std::thread::yield_now();
        }
        socket.close().expect("the peer reads");
        let (taken, failure) = writing.join_within(AT_ONCE);
        assert_eq!(kind_of(&failure.expect("it was closed")), ErrorKind::Closed);
        assert_eq!(socket.stats().bytes_written, taken as u64);
        peer.gets(&vec![b'w'; taken]);
    });
}

#[test]
fn close_waits_for_a_stalled_peer_no_longer_than_its_timeout() {
    const LIMIT: u64 = 400;
    settings(|setting| {
        let peer = setting.stuck();
        let socket = setting.open(&peer, little_room().close_timeout(ms(LIMIT)));
        fill(&socket);
        let (result, took) = timed(|| socket.close());
        // The socket accepted more than the kernel can take, so the close cannot hand over all data.
        fails(result, ErrorKind::TimedOut);
        assert!(took >= ms(LIMIT) && took < ms(LIMIT) + AT_ONCE, "took {took:?}");
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::TimedOut);
        // Later calls may report either the timeout or that this side closed.
        for late in [read(&socket, 1).failure(), (&socket).write(b"x").failure()] {
            assert!(matches!(late, Some(ErrorKind::Closed | ErrorKind::TimedOut)), "{late:?}");
        }
        fails(socket.close(), ErrorKind::TimedOut);
        peer.cue();
        peer.sees_a_reset();
    });
}

#[test]
fn close_delivers_everything_to_a_slow_peer() {
    settings(|setting| {
        let peer = setting.stuck();
        let socket = setting.open(&peer, little_room().close_timeout(PATIENCE));
        let taken = fill(&socket);
        let closer = socket.clone();
        let closing = blocked(move || closer.close());
        peer.cue();
        closing.join().expect("the peer reads now");
        socket.closed_timeout(AT_ONCE).expect("it was closed");
        peer.gets(&vec![b'w'; taken]);
    });
}

#[test]
fn a_drop_delivers_everything_to_a_slow_peer() {
    settings(|setting| {
        let peer = setting.stuck();
        let socket = setting.open(&peer, little_room().close_timeout(PATIENCE));
        let taken = fill(&socket);
        at_once(|| drop(socket));
        peer.cue();
        peer.gets(&vec![b'w'; taken]);
    });
}

#[test]
fn closing_the_writer_delivers_everything_to_a_slow_peer() {
    settings(|setting| {
        let peer = setting.stuck();
        let socket = setting.open(&peer, little_room());
        let taken = fill(&socket);
        let writer = socket.writer();
        socket.set_write_timeout(Some(ms(100))).expect("not zero");
        let error = writer.close().expect_err("the peer reads nothing");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        socket.set_write_timeout(None).expect("`None` removes the limit");
        let closing = blocked(move || writer.close());
        peer.cue();
        closing.join().expect("the peer reads now");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        peer.gets(&vec![b'w'; taken]);
    });
}

// -------------------------------------------------------------------- clean ends by the peer

#[test]
fn a_close_notify_of_the_peer_ends_both_directions() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.send(b"bye");
            peer.close_notify();
        });
        let writer = socket.writer();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        assert_eq!(read(&socket, 1).expect("the end stays"), b"");
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        fails((&writer).write(b"late"), ErrorKind::Closed);
        writer.close().expect("the peer's end closed it");
        peer.gets(b"");
    });
}

#[test]
fn a_close_notify_of_the_peer_is_noticed_without_a_reader() {
    settings(|setting| {
        for with_fin in [false, true] {
            let (peer, socket) = pair(setting, move |peer| {
                peer.await_cue();
                if with_fin {
                    peer.ends();
                } else {
                    peer.close_notify();
                }
            });
            let waiting = socket.clone();
            let closed = blocked(move || waiting.closed());
            peer.cue();
            closed.join_within(AT_ONCE).expect("a clean end");
            fails((&socket).write(b"late"), ErrorKind::Closed);
            assert_eq!(read(&socket, 1).expect("a clean end"), b"");
            assert_eq!(socket.phase(), Phase::Closed);
            peer.gets(b"");
        }
    });
}

#[test]
fn the_peers_end_waits_for_unread_data() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            let all = [peer.sealed(b"bye"), peer.sealed(b"bye"), peer.sealed_end()].concat();
            peer.raw(&all);
            peer.fin();
        });
        fails(socket.closed_timeout(ms(300)), ErrorKind::TimedOut);
        assert_eq!((&socket).write(b"w1").expect("it is open while bytes are unread"), 2);
        assert_eq!(read_exactly(&socket, 3).expect("they wait"), b"bye");
        fails(socket.closed_timeout(ms(200)), ErrorKind::TimedOut);
        assert_eq!(read_exactly(&socket, 3).expect("they wait"), b"bye");
        // No call reads again, so the loop has to notice the end after the last byte.
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        fails((&socket).write(b"w2"), ErrorKind::Closed);
        peer.gets(b"w1");
    });
}

#[test]
fn half_open_a_socket_still_writes_after_the_peers_end() {
    settings(|setting| {
        for with_fin in [false, true] {
            let peer = setting.plays(move |peer| {
                peer.send(b"bye");
                if with_fin {
                    peer.ends();
                } else {
                    peer.close_notify();
                }
            });
            let socket = setting.open(&peer, half_open());
            assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
            fails(socket.closed_timeout(ms(200)), ErrorKind::TimedOut);
            assert_eq!(socket.phase(), Phase::HalfClosed);
            (&socket).write_all(&noise(31, 300_000)).expect("the peer reads");
            socket.writer().close().expect("the peer reads");
            socket.closed_timeout(AT_ONCE).expect("both directions ended");
            peer.gets(&noise(31, 300_000));
        }
    });
}

#[test]
fn a_write_in_progress_at_the_peers_end_reports_the_delivered_bytes() {
    settings(|setting| {
        let peer = setting.way.on(listen_with_room(4096), &setting.terms(), |peer| {
            peer.await_cue();
            peer.close_notify();
            peer.await_cue();
        });
        let socket = setting.open(&peer, little_room());
        let taken = fill(&socket);
        let mut writer = socket.writer();
        let writing = blocked(move || writer.write(b"w"));
        peer.cue();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        peer.cue();
        // The blocked write may still succeed, or fail because it is too late.
        let more = writing.join().unwrap_or_else(|error| {
            assert_eq!(kind_of(&error), ErrorKind::Closed);
            0
        });
        socket.closed_timeout(PATIENCE).expect("a clean end");
        assert_eq!(socket.stats().bytes_written, (taken + more) as u64);
        peer.gets(&vec![b'w'; taken + more]);
    });
}

// -------------------------------------------------------------------- other ends by the peer

#[test]
fn a_fin_without_close_notify_is_truncation() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.send(b"all that");
            peer.send(b" there is");
            peer.fin();
        });
        let mut reader = socket.reader();
        let mut got = Vec::new();
        fails(reader.read_to_end(&mut got), ErrorKind::Truncated);
        assert_eq!(got, b"all that there is", "the data before the end");
        gives(&socket, ErrorKind::Truncated);
        assert_eq!(socket.phase(), Phase::Closed);
        assert_eq!(socket.stats().bytes_read, 17);
        socket.close().expect("it had ended");
        fails(socket.closed(), ErrorKind::Truncated);
        socket.opened().expect("it was open");
        peer.ending();
    });
}

#[test]
fn truncation_is_noticed_without_a_reader() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.await_cue();
            peer.fin();
        });
        let waiting = socket.clone();
        let closed = blocked(move || waiting.closed());
        peer.cue();
        fails(closed.join_within(AT_ONCE), ErrorKind::Truncated);
        gives(&socket, ErrorKind::Truncated);
    });
}

#[test]
fn an_end_within_a_record_is_truncation() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            let whole = peer.sealed(b"whole");
            let cut = peer.sealed(b"cut short");
            peer.raw(&[whole, cut[..cut.len() - 1].to_vec()].concat());
            peer.fin();
        });
        assert_eq!(read_exactly(&socket, 5).expect("the record is complete"), b"whole");
        fails(read(&socket, 10), ErrorKind::Truncated);
        gives(&socket, ErrorKind::Truncated);
        assert_eq!(socket.stats().bytes_read, 5);
        peer.ending();
    });
}

#[test]
fn half_open_truncation_is_not_an_end_either() {
    settings(|setting| {
        let peer = setting.plays(|peer| {
            peer.send(b"bye");
            peer.fin();
        });
        let socket = setting.open(&peer, half_open());
        assert_eq!(read_exactly(&socket, 3).expect("the data arrived before"), b"bye");
        fails(read(&socket, 1), ErrorKind::Truncated);
        fails(read(&socket, 1), ErrorKind::Truncated);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Truncated);
        peer.ending();
    });
}

#[test]
fn without_require_close_notify_a_fin_is_a_clean_end() {
    for mode in [SecureTransport::On, SecureTransport::StartTls] {
        story(move || {
            let lenient = || with(mode, trusting(authority()).require_close_notify(false));
            let secured = |peer: &TlsPeer, options: SocketOptions| {
                let socket = open(peer, options);
                match mode {
                    SecureTransport::StartTls => socket.start_tls().expect("nothing is unread"),
                    _ => socket,
                }
            };
            let says_bye = |peer: &mut Accepted| {
                peer.send(b"bye");
                peer.fin();
            };
            let peer = TlsPeer::secured(&terms(), says_bye);
            let socket = secured(&peer, lenient());
            assert_eq!(read_to_end(&socket).expect("the end is clean"), b"bye");
            socket.closed_timeout(AT_ONCE).expect("the end is clean");
            peer.gets(b"");

            let peer = TlsPeer::secured(&terms(), says_bye);
            let socket = secured(&peer, lenient().allow_half_open(true));
            assert_eq!(read_to_end(&socket).expect("the end is clean"), b"bye");
            (&socket).write_all(b"still here").expect("it is half open");
            assert_eq!(socket.phase(), Phase::HalfClosed);
            socket.writer().close().expect("the peer reads");
            socket.closed_timeout(AT_ONCE).expect("both directions ended");
            peer.gets(b"still here");

            // A reset is never a clean end.
            let peer = TlsPeer::secured(&terms(), |peer| {
                peer.await_cue();
                peer.reset();
            });
            let socket = secured(&peer, lenient());
            socket.opened().expect("the peer is trusted");
            peer.cue();
            fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
            gives(&socket, ErrorKind::Reset);

            // Nor does a FIN complete a handshake.
            let peer = TlsPeer::plays(&terms(), |peer| {
                peer.hear_hello();
                peer.fin();
            });
            let socket = connect(&peer, lenient());
            let socket = match mode {
                SecureTransport::StartTls => socket.start_tls().expect("nothing is unread"),
                _ => socket,
            };
            fails(socket.opened(), ErrorKind::Tls);
        });
    }
}

#[test]
fn a_reset_is_reported_as_reset() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.await_cue();
            peer.reset();
        });
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 10));
        peer.cue();
        fails(reading.join_within(AT_ONCE), ErrorKind::Reset);
        gives(&socket, ErrorKind::Reset);
        assert_eq!(socket.phase(), Phase::Closed);

        // Without a reader.
        let (peer, socket) = pair(setting, |peer| {
            peer.await_cue();
            peer.reset();
        });
        peer.cue();
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
        gives(&socket, ErrorKind::Reset);

        // With a blocked write.
        let peer = setting.way.on(listen_with_room(4096), &setting.terms(), |peer| {
            peer.await_cue();
            peer.reset();
        });
        let socket = setting.open(&peer, little_room());
        let writer = socket.writer();
        let writing = blocked(move || pour(writer, b'w', usize::MAX));
        peer.cue();
        let (_, failure) = writing.join_within(AT_ONCE);
        assert_eq!(kind_of(&failure.expect("the peer does not read")), ErrorKind::Reset);
        gives(&socket, ErrorKind::Reset);
    });
}

/// On other systems a reset discards earlier data.
#[cfg(target_os = "linux")]
#[test]
fn data_before_a_reset_is_read_first() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.send(b"precious");
            peer.await_cue();
            peer.reset();
        });
        assert_eq!(read_exactly(&socket, 2).expect("the peer sends"), b"pr");
        peer.cue();
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
        assert_eq!(read_exactly(&socket, 6).expect("the data arrived before the reset"), b"ecious");
        fails(read(&socket, 10), ErrorKind::Reset);
        gives(&socket, ErrorKind::Reset);
    });
}

// -------------------------------------------------------------------- sent bytes

#[test]
fn all_data_is_sent_sealed() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            assert_eq!(peer.receive(6), b"SECRET");
            peer.send(b"SECRET");
        });
        (&socket).write_all(b"SECRET").expect("the peer reads");
        assert_eq!(read_exactly(&socket, 6).expect("the peer answers"), b"SECRET");
        socket.close().expect("the peer reads");
        let ending = peer.gets(b"SECRET");
        assert!(!contains(&ending.wire, b"SECRET"), "the data was sent in plaintext");
        let types = ending.records();
        assert_eq!(types[0], 22, "the handshake comes first");
        // In TLS 1.3 `close_notify` has the content type of data, in TLS 1.2 that of an alert.
        let end = if setting.version == TlsVersion::Tls13 { 23 } else { 21 };
        assert_eq!(types.last(), Some(&end));
        assert_eq!(ending.first, How::Fin);
    });
}

#[test]
fn a_failure_while_the_peer_is_stuck_is_reported_at_once() {
    settings(|setting| {
        let peer = setting.way.on(listen_with_room(4096), &setting.terms(), |peer| {
            peer.await_cue();
            peer.raw(b"junk, and no record");
            peer.await_cue();
        });
        let socket = setting.open(&peer, little_room());
        let writer = socket.writer();
        let writing = blocked(move || pour(writer, b'w', usize::MAX));
        peer.cue();
        let (_, failure) = writing.join_within(AT_ONCE);
        assert_eq!(kind_of(&failure.expect("it has failed")), ErrorKind::Tls);
        gives(&socket, ErrorKind::Tls);
        peer.cue();
        peer.ending();
    });
}
