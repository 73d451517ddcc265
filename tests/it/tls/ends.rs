//! Ends of secured connections: `close_notify` and its absence, half-closes, alerts and resets. Tickets and key updates
//! are not ends.

mod alerts;
mod cancelled;
mod no_end;
mod partial;

use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::Instant;

use sockeye::{Error, ErrorKind, Phase, SecureTransport, Socket, SocketOptions, TlsVersion};

use crate::support::peer::{listen, listen_with_room};
use crate::support::tls::{
    Accepted, Opening, TlsCase, TlsPeer, assert_message_contains, authority, connect, contains,
    for_each_tls_setup, open, options, rustls_error, server_config, trust_only, with,
};
use crate::support::{
    EndKind, HasErrorKind, PROMPT, WATCHDOG, assert_bytes_eq, assert_ended_with, assert_fails,
    assert_times_out, at_once, crate_kind, fill_send_buffer, ms, random_bytes, read, read_exactly,
    read_to_end, small_send_buffer, spawn_blocked, spawn_call, timed, with_watchdog,
    write_until_error,
};

fn half_open() -> SocketOptions {
    SocketOptions::new().allow_half_open(true)
}

/// Opens a connection of this setting.
#[track_caller]
fn pair(
    setting: TlsCase,
    script: impl FnOnce(&mut Accepted) + Send + 'static,
) -> (TlsPeer, Socket) {
    let peer = setting.scripted(script);
    let socket = setting.open(&peer, SocketOptions::new());
    (peer, socket)
}

/// Writes single bytes until `enough` arrives. Returns their number.
#[track_caller]
fn write_bytes_until(enough: &mpsc::Receiver<()>, socket: &Socket) -> usize {
    let start = Instant::now();
    for count in 1.. {
        let mut writer = socket;
        writer.write_all(b"w").expect("the peer reads");
        if enough.recv_timeout(ms(1)).is_ok() {
            return count;
        }
        assert!(start.elapsed() < WATCHDOG, "{count} bytes are not enough");
    }
    unreachable!("the loop is endless")
}

/// Runs the test over TLS 1.3 in both ways.
fn in_tls_1_3(tell: impl Fn(TlsCase) + Copy + Send + 'static) {
    for way in [Opening::On, Opening::Upgraded] {
        println!("{way:?}");
        with_watchdog(move || tell(TlsCase { way, version: TlsVersion::Tls13 }));
    }
}

// -------------------------------------------------------------------- this side ends

#[test]
fn close_sends_close_notify_and_then_fin() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |_| ());
        (&socket).write_all(b"last words").expect("the peer reads");
        at_once(|| socket.close()).expect("nothing prevents it");
        socket.closed_timeout(PROMPT).expect("it was closed");
        assert_eq!(socket.phase(), Phase::Closed);
        assert_fails(read(&socket, 1), ErrorKind::Closed);
        assert_fails((&socket).write(b"x"), ErrorKind::Closed);
        peer.assert_received(b"last words");
    });
}

#[test]
fn dropping_the_last_handle_sends_close_notify_and_then_fin() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |_| ());
        let (reader, writer) = (socket.reader(), socket.writer());
        (&socket).write_all(b"last words").expect("the peer reads");
        drop(socket);
        drop(reader);
        (&writer).write_all(b", and more").expect("another handle is left");
        drop(writer);
        peer.assert_received(b"last words, and more");
    });
}

#[test]
fn closing_the_writer_sends_close_notify_and_fin_and_reading_continues() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.read_to_end();
            peer.send(b"answer");
            peer.ends();
        });
        (&socket).write_all(b"question").expect("the peer reads");
        socket.writer().close().expect("the peer reads");
        assert_eq!(socket.phase(), Phase::HalfClosed);
        assert_fails((&socket).write(b"x"), ErrorKind::Closed);
        socket.writer().close().expect("a closed side may be closed again");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"answer");
        socket.closed_timeout(PROMPT).expect("both directions ended");
        peer.assert_received(b"question");
    });
}

#[test]
fn a_closed_writer_and_a_silent_peer_leave_the_socket_half_open() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.read_to_end();
            peer.wait_signal();
            peer.send(b"later");
        });
        socket.writer().close().expect("the peer reads");
        assert_fails(socket.closed_timeout(ms(200)), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::HalfClosed);
        peer.signal();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"later");
        peer.assert_received(b"");
    });
}

#[test]
fn closing_the_writer_completes_the_handshake() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.wait_signal();
            peer.handshake();
            peer.read_to_end();
            peer.send(b"answer");
        });
        let socket = connect(&peer, options(authority()));
        let writer = socket.writer();
        let closing = spawn_blocked(move || writer.close());
        peer.signal();
        closing.join().expect("the peer is trusted");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"answer");
        peer.assert_received(b"");
    });
}

#[test]
fn abort_resets_without_close_notify() {
    for abort in [Socket::abort, |socket: &Socket| socket.writer().abort()] {
        for_each_tls_setup(move |setting| {
            let (peer, socket) = pair(setting, |_| ());
            let reader = socket.reader();
            let reading = spawn_blocked(move || read(reader, 10));
            at_once(|| abort(&socket));
            assert_fails(reading.join_within(PROMPT), ErrorKind::Closed);
            assert_ended_with(&socket, ErrorKind::Closed);
            peer.assert_reset();
        });
    }
}

#[test]
fn close_with_unread_data_is_no_reset() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.send(b"first");
            peer.send(&random_bytes(30, 100_000));
            peer.read_to_end();
            peer.wait_signal();
        });
        (&socket).write_all(b"last words").expect("the peer reads");
        assert_eq!(read_exactly(&socket, 5).expect("the peer sends"), b"first");
        assert_fails(socket.closed_timeout(ms(100)), ErrorKind::TimedOut);
        socket.close().expect("the kernel has all written bytes");
        peer.signal();
        peer.assert_received(b"last words");
    });
}

#[test]
fn close_ends_calls_that_are_blocked() {
    for_each_tls_setup(|setting| {
        let peer = setting.not_reading();
        let socket = setting.open(&peer, small_send_buffer().close_timeout(ms(300)));
        let (reader, writer) = (socket.reader(), socket.writer());
        let reading = spawn_blocked(move || read(reader, 1));
        let writing = spawn_blocked(move || write_until_error(writer, b'w', usize::MAX));
        let _ = socket.close();
        assert_fails(reading.join_within(PROMPT), ErrorKind::Closed);
        let (_, failure) = writing.join_within(PROMPT);
        assert_eq!(crate_kind(&failure.expect("the peer does not read")), ErrorKind::Closed);
    });
}

#[test]
fn a_write_that_close_ends_reports_exactly_the_delivered_bytes() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |_| ());
        let writer = socket.writer();
        let writing = spawn_call(move || write_until_error(writer, b'w', usize::MAX));
        while socket.stats().bytes_written < 300_000 {
            std::thread::yield_now();
        }
        socket.close().expect("the peer reads");
        let (taken, failure) = writing.join_within(PROMPT);
        assert_eq!(crate_kind(&failure.expect("it was closed")), ErrorKind::Closed);
        assert_eq!(socket.stats().bytes_written, taken as u64);
        peer.assert_received(&vec![b'w'; taken]);
    });
}

#[test]
fn close_waits_for_a_stalled_peer_no_longer_than_its_timeout() {
    const LIMIT: u64 = 400;
    for_each_tls_setup(|setting| {
        let peer = setting.not_reading();
        let socket = setting.open(&peer, small_send_buffer().close_timeout(ms(LIMIT)));
        fill_send_buffer(&socket);
        let (result, took) = timed(|| socket.close());
        // The socket accepted more than the kernel can take, so the close cannot hand over all data.
        assert_fails(result, ErrorKind::TimedOut);
        assert!(took >= ms(LIMIT) && took < ms(LIMIT) + PROMPT, "took {took:?}");
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::TimedOut);
        // Later calls may report either the timeout or that this side closed.
        for late in [read(&socket, 1).failure(), (&socket).write(b"x").failure()] {
            assert!(matches!(late, Some(ErrorKind::Closed | ErrorKind::TimedOut)), "{late:?}");
        }
        assert_fails(socket.close(), ErrorKind::TimedOut);
        peer.signal();
        peer.assert_reset();
    });
}

#[test]
fn close_delivers_everything_to_a_slow_peer() {
    for_each_tls_setup(|setting| {
        let peer = setting.not_reading();
        let socket = setting.open(&peer, small_send_buffer().close_timeout(WATCHDOG));
        let taken = fill_send_buffer(&socket);
        let closer = socket.clone();
        let closing = spawn_blocked(move || closer.close());
        peer.signal();
        closing.join().expect("the peer reads now");
        socket.closed_timeout(PROMPT).expect("it was closed");
        peer.assert_received(&vec![b'w'; taken]);
    });
}

#[test]
fn a_drop_delivers_everything_to_a_slow_peer() {
    for_each_tls_setup(|setting| {
        let peer = setting.not_reading();
        let socket = setting.open(&peer, small_send_buffer().close_timeout(WATCHDOG));
        let taken = fill_send_buffer(&socket);
        at_once(|| drop(socket));
        peer.signal();
        peer.assert_received(&vec![b'w'; taken]);
    });
}

#[test]
fn closing_the_writer_delivers_everything_to_a_slow_peer() {
    for_each_tls_setup(|setting| {
        let peer = setting.not_reading();
        let socket = setting.open(&peer, small_send_buffer());
        let taken = fill_send_buffer(&socket);
        let writer = socket.writer();
        socket.set_write_timeout(Some(ms(100))).expect("not zero");
        let error = writer.close().expect_err("the peer reads nothing");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        socket.set_write_timeout(None).expect("`None` removes the limit");
        let closing = spawn_blocked(move || writer.close());
        peer.signal();
        closing.join().expect("the peer reads now");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        peer.assert_received(&vec![b'w'; taken]);
    });
}

// -------------------------------------------------------------------- clean ends by the peer

#[test]
fn a_close_notify_of_the_peer_ends_both_directions() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.send(b"bye");
            peer.close_notify();
        });
        let writer = socket.writer();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        assert_eq!(read(&socket, 1).expect("the end stays"), b"");
        socket.closed_timeout(PROMPT).expect("a clean end");
        assert_fails((&writer).write(b"late"), ErrorKind::Closed);
        writer.close().expect("the peer's end closed it");
        peer.assert_received(b"");
    });
}

#[test]
fn a_close_notify_of_the_peer_is_noticed_without_a_reader() {
    for_each_tls_setup(|setting| {
        for with_fin in [false, true] {
            let (peer, socket) = pair(setting, move |peer| {
                peer.wait_signal();
                if with_fin {
                    peer.ends();
                } else {
                    peer.close_notify();
                }
            });
            let waiting = socket.clone();
            let closed = spawn_blocked(move || waiting.closed());
            peer.signal();
            closed.join_within(PROMPT).expect("a clean end");
            assert_fails((&socket).write(b"late"), ErrorKind::Closed);
            assert_eq!(read(&socket, 1).expect("a clean end"), b"");
            assert_eq!(socket.phase(), Phase::Closed);
            peer.assert_received(b"");
        }
    });
}

#[test]
fn the_peers_end_waits_for_unread_data() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            let all = [peer.sealed(b"bye"), peer.sealed(b"bye"), peer.sealed_end()].concat();
            peer.raw(&all);
            peer.fin();
        });
        assert_fails(socket.closed_timeout(ms(300)), ErrorKind::TimedOut);
        assert_eq!((&socket).write(b"w1").expect("it is open while bytes are unread"), 2);
        assert_eq!(read_exactly(&socket, 3).expect("they wait"), b"bye");
        assert_fails(socket.closed_timeout(ms(200)), ErrorKind::TimedOut);
        assert_eq!(read_exactly(&socket, 3).expect("they wait"), b"bye");
        // No call reads again, so the loop has to notice the end after the last byte.
        socket.closed_timeout(PROMPT).expect("a clean end");
        assert_fails((&socket).write(b"w2"), ErrorKind::Closed);
        peer.assert_received(b"w1");
    });
}

#[test]
fn half_open_a_socket_still_writes_after_the_peers_end() {
    for_each_tls_setup(|setting| {
        for with_fin in [false, true] {
            let peer = setting.scripted(move |peer| {
                peer.send(b"bye");
                if with_fin {
                    peer.ends();
                } else {
                    peer.close_notify();
                }
            });
            let socket = setting.open(&peer, half_open());
            assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
            assert_fails(socket.closed_timeout(ms(200)), ErrorKind::TimedOut);
            assert_eq!(socket.phase(), Phase::HalfClosed);
            (&socket).write_all(&random_bytes(31, 300_000)).expect("the peer reads");
            socket.writer().close().expect("the peer reads");
            socket.closed_timeout(PROMPT).expect("both directions ended");
            peer.assert_received(&random_bytes(31, 300_000));
        }
    });
}

#[test]
fn a_write_in_progress_at_the_peers_end_reports_the_delivered_bytes() {
    for_each_tls_setup(|setting| {
        let peer = setting.way.on(listen_with_room(4096), &setting.server_config(), |peer| {
            peer.wait_signal();
            peer.close_notify();
            peer.wait_signal();
        });
        let socket = setting.open(&peer, small_send_buffer());
        let taken = fill_send_buffer(&socket);
        let mut writer = socket.writer();
        let writing = spawn_blocked(move || writer.write(b"w"));
        peer.signal();
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        peer.signal();
        // The blocked write may still succeed, or fail because it is too late.
        let more = writing.join().unwrap_or_else(|error| {
            assert_eq!(crate_kind(&error), ErrorKind::Closed);
            0
        });
        socket.closed_timeout(WATCHDOG).expect("a clean end");
        assert_eq!(socket.stats().bytes_written, (taken + more) as u64);
        peer.assert_received(&vec![b'w'; taken + more]);
    });
}

// -------------------------------------------------------------------- other ends by the peer

#[test]
fn a_fin_without_close_notify_is_truncation() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.send(b"all that");
            peer.send(b" there is");
            peer.fin();
        });
        let mut reader = socket.reader();
        let mut got = Vec::new();
        assert_fails(reader.read_to_end(&mut got), ErrorKind::Truncated);
        assert_eq!(got, b"all that there is", "the data before the end");
        assert_ended_with(&socket, ErrorKind::Truncated);
        assert_eq!(socket.phase(), Phase::Closed);
        assert_eq!(socket.stats().bytes_read, 17);
        socket.close().expect("it had ended");
        assert_fails(socket.closed(), ErrorKind::Truncated);
        socket.opened().expect("it was open");
        peer.finish();
    });
}

#[test]
fn truncation_is_noticed_without_a_reader() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.wait_signal();
            peer.fin();
        });
        let waiting = socket.clone();
        let closed = spawn_blocked(move || waiting.closed());
        peer.signal();
        assert_fails(closed.join_within(PROMPT), ErrorKind::Truncated);
        assert_ended_with(&socket, ErrorKind::Truncated);
    });
}

#[test]
fn an_end_within_a_record_is_truncation() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            let whole = peer.sealed(b"whole");
            let cut = peer.sealed(b"cut short");
            peer.raw(&[whole, cut[..cut.len() - 1].to_vec()].concat());
            peer.fin();
        });
        assert_eq!(read_exactly(&socket, 5).expect("the record is complete"), b"whole");
        assert_fails(read(&socket, 10), ErrorKind::Truncated);
        assert_ended_with(&socket, ErrorKind::Truncated);
        assert_eq!(socket.stats().bytes_read, 5);
        peer.finish();
    });
}

#[test]
fn half_open_truncation_is_not_an_end_either() {
    for_each_tls_setup(|setting| {
        let peer = setting.scripted(|peer| {
            peer.send(b"bye");
            peer.fin();
        });
        let socket = setting.open(&peer, half_open());
        assert_eq!(read_exactly(&socket, 3).expect("the data arrived before"), b"bye");
        assert_fails(read(&socket, 1), ErrorKind::Truncated);
        assert_fails(read(&socket, 1), ErrorKind::Truncated);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Truncated);
        peer.finish();
    });
}

#[test]
fn without_require_close_notify_a_fin_is_a_clean_end() {
    for mode in [SecureTransport::On, SecureTransport::StartTls] {
        with_watchdog(move || {
            let lenient = || with(mode, trust_only(authority()).require_close_notify(false));
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
            let peer = TlsPeer::secured(&server_config(), says_bye);
            let socket = secured(&peer, lenient());
            assert_eq!(read_to_end(&socket).expect("the end is clean"), b"bye");
            socket.closed_timeout(PROMPT).expect("the end is clean");
            peer.assert_received(b"");

            let peer = TlsPeer::secured(&server_config(), says_bye);
            let socket = secured(&peer, lenient().allow_half_open(true));
            assert_eq!(read_to_end(&socket).expect("the end is clean"), b"bye");
            (&socket).write_all(b"still here").expect("it is half open");
            assert_eq!(socket.phase(), Phase::HalfClosed);
            socket.writer().close().expect("the peer reads");
            socket.closed_timeout(PROMPT).expect("both directions ended");
            peer.assert_received(b"still here");

            // A reset is never a clean end.
            let peer = TlsPeer::secured(&server_config(), |peer| {
                peer.wait_signal();
                peer.reset();
            });
            let socket = secured(&peer, lenient());
            socket.opened().expect("the peer is trusted");
            peer.signal();
            assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Reset);
            assert_ended_with(&socket, ErrorKind::Reset);

            // Nor does a FIN complete a handshake.
            let peer = TlsPeer::scripted(&server_config(), |peer| {
                peer.expect_client_hello();
                peer.fin();
            });
            let socket = connect(&peer, lenient());
            let socket = match mode {
                SecureTransport::StartTls => socket.start_tls().expect("nothing is unread"),
                _ => socket,
            };
            assert_fails(socket.opened(), ErrorKind::Tls);
        });
    }
}

#[test]
fn a_reset_is_reported_as_reset() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.wait_signal();
            peer.reset();
        });
        let reader = socket.reader();
        let reading = spawn_blocked(move || read(reader, 10));
        peer.signal();
        assert_fails(reading.join_within(PROMPT), ErrorKind::Reset);
        assert_ended_with(&socket, ErrorKind::Reset);
        assert_eq!(socket.phase(), Phase::Closed);

        // Without a reader.
        let (peer, socket) = pair(setting, |peer| {
            peer.wait_signal();
            peer.reset();
        });
        peer.signal();
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Reset);
        assert_ended_with(&socket, ErrorKind::Reset);

        // With a blocked write.
        let peer = setting.way.on(listen_with_room(4096), &setting.server_config(), |peer| {
            peer.wait_signal();
            peer.reset();
        });
        let socket = setting.open(&peer, small_send_buffer());
        let writer = socket.writer();
        let writing = spawn_blocked(move || write_until_error(writer, b'w', usize::MAX));
        peer.signal();
        let (_, failure) = writing.join_within(PROMPT);
        assert_eq!(crate_kind(&failure.expect("the peer does not read")), ErrorKind::Reset);
        assert_ended_with(&socket, ErrorKind::Reset);
    });
}

/// On other systems a reset discards earlier data.
#[cfg(target_os = "linux")]
#[test]
fn data_before_a_reset_is_read_first() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.send(b"precious");
            peer.wait_signal();
            peer.reset();
        });
        assert_eq!(read_exactly(&socket, 2).expect("the peer sends"), b"pr");
        peer.signal();
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Reset);
        assert_eq!(read_exactly(&socket, 6).expect("the data arrived before the reset"), b"ecious");
        assert_fails(read(&socket, 10), ErrorKind::Reset);
        assert_ended_with(&socket, ErrorKind::Reset);
    });
}

// -------------------------------------------------------------------- sent bytes

#[test]
fn all_data_is_sent_sealed() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            assert_eq!(peer.receive(6), b"SECRET");
            peer.send(b"SECRET");
        });
        (&socket).write_all(b"SECRET").expect("the peer reads");
        assert_eq!(read_exactly(&socket, 6).expect("the peer answers"), b"SECRET");
        socket.close().expect("the peer reads");
        let ending = peer.assert_received(b"SECRET");
        assert!(!contains(&ending.wire, b"SECRET"), "the data was sent in plaintext");
        let types = ending.records();
        assert_eq!(types[0], 22, "the handshake comes first");
        // In TLS 1.3 `close_notify` has the content type of data, in TLS 1.2 that of an alert.
        let end = if setting.version == TlsVersion::Tls13 { 23 } else { 21 };
        assert_eq!(types.last(), Some(&end));
        assert_eq!(ending.first, EndKind::Fin);
    });
}

#[test]
fn a_failure_while_the_peer_is_stuck_is_reported_at_once() {
    for_each_tls_setup(|setting| {
        let peer = setting.way.on(listen_with_room(4096), &setting.server_config(), |peer| {
            peer.wait_signal();
            peer.raw(b"junk, and no record");
            peer.wait_signal();
        });
        let socket = setting.open(&peer, small_send_buffer());
        let writer = socket.writer();
        let writing = spawn_blocked(move || write_until_error(writer, b'w', usize::MAX));
        peer.signal();
        let (_, failure) = writing.join_within(PROMPT);
        assert_eq!(crate_kind(&failure.expect("it has failed")), ErrorKind::Tls);
        assert_ended_with(&socket, ErrorKind::Tls);
        peer.signal();
        peer.finish();
    });
}
