//! The assertions of Go's `nettest.TestConn`, in plaintext, over TLS from the start, and after an upgrade.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Socket, SocketOptions};

use crate::support::tls::{Accepted, Opening};
use crate::support::{
    HasErrorKind, PROMPT, assert_bytes_eq, assert_fails, assert_times_out, at_once, crate_kind,
    fill_send_buffer, ms, past_instant, random_bytes, read, read_exactly, read_to_end,
    small_send_buffer, spawn_blocked_read_and_write, spawn_call, timed, with_watchdog,
};

/// Defines each test three times, for connections that were opened in each way.
macro_rules! over_every_way {
    ($($name:ident)*) => {
        mod plain { $(#[test] fn $name() { super::$name(super::Opening::Plain); })* }
        mod on { $(#[test] fn $name() { super::$name(super::Opening::On); })* }
        mod upgraded { $(#[test] fn $name() { super::$name(super::Opening::Upgraded); })* }
    };
}

over_every_way! {
    eight_mebibytes_pass_both_ways_at_once
    numbers_go_back_and_forth
    many_threads_read_under_deadlines_that_pass
    many_threads_write_under_deadlines_that_pass
    a_read_without_data_times_out
    a_write_without_room_times_out
    a_deadline_in_the_past_fails_at_once_and_can_be_lifted
    a_deadline_set_while_calls_are_blocked_ends_them
    a_deadline_in_the_future_ends_blocked_calls_when_it_comes
    close_ends_blocked_calls
    abort_ends_blocked_calls
    every_method_may_be_called_from_many_threads_at_once
}

fn eight_mebibytes_pass_both_ways_at_once(way: Opening) {
    const SIZE: usize = 8 << 20;
    with_watchdog(move || {
        let down = random_bytes(1, SIZE);
        let sent = down.clone();
        let peer = way.scripted(move |peer| {
            peer.spawn_part(move |line| {
                line.send(&sent).expect("the program reads");
                line.ends();
            });
        });
        // The peer's end arrives while this side still writes.
        let socket = way.open(&peer, SocketOptions::new().allow_half_open(true));
        let writer = socket.writer();
        let up = random_bytes(2, SIZE);
        let outgoing = up.clone();
        let writing = spawn_call(move || {
            let mut writer = &writer;
            for chunk in outgoing.chunks(1 << 10) {
                writer.write_all(chunk).expect("the peer reads");
            }
            writer.flush().expect("the peer reads");
            writer.close().expect("the peer reads");
        });
        assert_bytes_eq(&read_to_end(socket.reader()).expect("the peer ends cleanly"), &down);
        writing.join();
        socket.closed().expect("both directions ended cleanly");
        assert_eq!(checksum(&peer.finish().bytes), checksum(&up));
        let stats = socket.stats();
        assert_eq!((stats.bytes_read, stats.bytes_written), (SIZE as u64, SIZE as u64));
    });
}

fn numbers_go_back_and_forth(way: Opening) {
    const ROUNDS: u64 = 2_000;
    with_watchdog(move || {
        let peer = way.scripted(|peer| {
            for round in 0..ROUNDS {
                let number = peer.receive_number();
                assert_eq!(number, 2 * round);
                peer.send(&(number + 1).to_le_bytes());
            }
        });
        let socket = way.open(&peer, SocketOptions::new());
        for round in 0..ROUNDS {
            (&socket).write_all(&(2 * round).to_le_bytes()).expect("the peer reads");
            let mut answer = [0; 8];
            (&socket).read_exact(&mut answer).expect("the peer answers");
            assert_eq!(u64::from_le_bytes(answer), 2 * round + 1);
        }
        socket.close().expect("the close succeeds");
        assert_eq!(peer.finish().bytes.len() as u64, 8 * ROUNDS);
    });
}

fn many_threads_read_under_deadlines_that_pass(way: Opening) {
    with_watchdog(move || {
        let peer = way.scripted(|peer| {
            peer.spawn_part(|line| {
                // The loop ends when the program closes.
                while line.send(&[b'r'; 1024]).is_ok() {}
            });
        });
        let socket = way.open(&peer, SocketOptions::new());
        let readers: Vec<_> = (0..10)
            .map(|_| {
                let socket = socket.clone();
                spawn_call(move || {
                    hurried(
                        &socket,
                        |socket| socket.set_read_deadline(Some(Instant::now() + ms(1))),
                        |socket| read(socket, 1024).map(|_| ()),
                    )
                })
            })
            .collect();
        readers.into_iter().for_each(|reader| reader.join());
        socket.abort();
    });
}

fn many_threads_write_under_deadlines_that_pass(way: Opening) {
    with_watchdog(move || {
        let peer = way.reading();
        let socket = way.open(&peer, SocketOptions::new());
        let writers: Vec<_> = (0..10)
            .map(|_| {
                let socket = socket.clone();
                spawn_call(move || {
                    hurried(
                        &socket,
                        |socket| socket.set_write_deadline(Some(Instant::now() + ms(1))),
                        |mut socket| socket.write(&[b'w'; 1024]).map(|_| ()),
                    )
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join());
        let written = socket.stats().bytes_written;
        socket.close().expect("the peer reads");
        assert_eq!(peer.finish().bytes.len() as u64, written);
    });
}

/// Makes ten calls, each of which succeeds or ends at a deadline; then sets a new deadline.
fn hurried(
    socket: &Socket,
    hurry: impl Fn(&Socket),
    call: impl Fn(&Socket) -> std::io::Result<()>,
) {
    hurry(socket);
    for _ in 0..10 {
        if let Err(error) = call(socket) {
            assert_eq!(crate_kind(&error), ErrorKind::TimedOut);
            hurry(socket);
        }
    }
}

fn a_read_without_data_times_out(way: Opening) {
    with_watchdog(move || {
        let peer = way.reading();
        let socket = way.open(&peer, SocketOptions::new().read_timeout(ms(100)));
        let (result, took) = timed(|| read(&socket, 1024));
        assert_times_out(result);
        assert!(took >= ms(100) && took < ms(100) + PROMPT, "took {took:?}");
        (&socket).write_all(&[0; 1024]).expect("a read deadline does not affect writes");
        socket.close().expect("the peer reads");
        peer.assert_received(&[0; 1024]);
    });
}

fn a_write_without_room_times_out(way: Opening) {
    with_watchdog(move || {
        let peer = way.not_reading();
        let socket = way.open(&peer, small_send_buffer());
        let taken = fill_send_buffer(&socket);
        socket.set_write_timeout(Some(ms(100))).expect("not zero");
        let (result, took) = timed(|| (&socket).write(b"w"));
        assert_times_out(result);
        assert!(took >= ms(100) && took < ms(100) + PROMPT, "took {took:?}");
        peer.signal();
        socket.close().expect("the peer reads");
        assert_eq!(peer.finish().bytes.len(), taken);
    });
}

fn a_deadline_in_the_past_fails_at_once_and_can_be_lifted(way: Opening) {
    with_watchdog(move || {
        let peer = way.scripted(Accepted::echo);
        let socket = way.open(&peer, SocketOptions::new());
        round_trip(&socket);
        // Data is ready when the call checks the deadline, and the deadline still wins.
        (&socket).write_all(b"ready").expect("the peer reads");
        socket.set_deadline(Some(past_instant()));
        for _ in 0..3 {
            assert_times_out(at_once(|| read(&socket, 5)));
            assert_times_out(at_once(|| (&socket).write(b"late")));
        }
        socket.set_deadline(None);
        assert_eq!(read_exactly(&socket, 5).expect("the echo is unread"), b"ready");
        round_trip(&socket);
    });
}

fn a_deadline_set_while_calls_are_blocked_ends_them(way: Opening) {
    with_watchdog(move || {
        let peer = way.not_reading();
        let socket = way.open(&peer, small_send_buffer());
        let (reading, writing) = spawn_blocked_read_and_write(&socket);
        socket.set_read_deadline(Some(Instant::now() + ms(50)));
        socket.set_write_deadline(Some(Instant::now() + ms(50)));
        assert_times_out(reading.join_within(PROMPT));
        assert_times_out::<()>(Err(writing.join_within(PROMPT).1.expect("the peer does not read")));
    });
}

fn a_deadline_in_the_future_ends_blocked_calls_when_it_comes(way: Opening) {
    with_watchdog(move || {
        let peer = way.not_reading();
        let socket = way.open(&peer, small_send_buffer());
        let at = Instant::now() + ms(300);
        socket.set_deadline(Some(at));
        let (reading, writing) = spawn_blocked_read_and_write(&socket);
        assert_times_out(reading.join());
        assert!(Instant::now() >= at);
        let (taken, failure) = writing.join();
        assert_times_out::<()>(Err(failure.expect("the peer does not read")));
        assert!(at.elapsed() < PROMPT, "{:?} late", at.elapsed());
        socket.set_deadline(None);
        peer.signal();
        socket.close().expect("the peer reads");
        assert_eq!(peer.finish().bytes.len(), taken);
    });
}

fn close_ends_blocked_calls(way: Opening) {
    ends_blocked_calls(way, move |socket| match (way, socket.close()) {
        (Opening::Plain, closed) => closed.expect("the kernel has all written bytes"),
        // Over TLS the socket accepted more than the kernel has sent.
        (Opening::On | Opening::Upgraded, closed) => assert_fails(closed, ErrorKind::TimedOut),
    });
}

fn abort_ends_blocked_calls(way: Opening) {
    ends_blocked_calls(way, Socket::abort);
}

fn ends_blocked_calls(way: Opening, end: impl FnOnce(&Socket) + Send + 'static) {
    with_watchdog(move || {
        let peer = way.not_reading();
        let socket = way.open(&peer, small_send_buffer().close_timeout(ms(300)));
        let (reading, writing) = spawn_blocked_read_and_write(&socket);
        end(&socket);
        assert_fails(reading.join_within(PROMPT), ErrorKind::Closed);
        let (_, failure) = writing.join_within(PROMPT);
        assert_eq!(crate_kind(&failure.expect("the peer does not read")), ErrorKind::Closed);
        // Over TLS the close may have timed out instead.
        for late in [read(&socket, 1).failure(), (&socket).write(b"late").failure()] {
            let message = late == Some(ErrorKind::Closed)
                || (way != Opening::Plain && late == Some(ErrorKind::TimedOut));
            assert!(message, "{late:?}");
        }
    });
}

/// Calls every method from many threads at once: nothing hangs or panics, and the connection ends cleanly. Data races
/// are left to sanitizers.
fn every_method_may_be_called_from_many_threads_at_once(way: Opening) {
    with_watchdog(move || {
        let peer = way.scripted(Accepted::echo);
        let socket = way.open(&peer, SocketOptions::new());
        let callers: Vec<_> = (0..50)
            .map(|number: u64| {
                let socket = socket.clone();
                spawn_call(move || {
                    let soon = || Some(Instant::now() + ms(10));
                    socket.set_deadline(soon());
                    let _ = read(&socket, 1 + number as usize);
                    let _ = (&socket).write(&[b'x'; 64]);
                    socket.set_read_deadline(soon());
                    socket.set_write_deadline(soon());
                    socket.set_read_timeout(Some(ms(5))).expect("not zero");
                    socket.set_write_timeout(Some(ms(5))).expect("not zero");
                    let _ = read(socket.reader(), 64);
                    let _ = socket.writer().write(b"y");
                    let _ = socket.writer().flush();
                    let info = socket.opened().expect("it is open");
                    assert!(info.remote_address().is_some() && info.local_address().is_some());
                    socket.opened_timeout(Duration::ZERO).expect("it is open");
                    assert_fails(socket.closed_timeout(ms(1)), ErrorKind::TimedOut);
                    let _ = (socket.phase(), socket.stats(), format!("{socket:?}"));
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join());
        socket.set_read_timeout(None).expect("`None` removes the limit");
        socket.set_write_timeout(None).expect("`None` removes the limit");
        socket.set_deadline(None);
        let written = socket.stats().bytes_written;
        socket.writer().close().expect("the peer reads");
        read_to_end(&socket).expect("the peer ends cleanly");
        assert_eq!(socket.stats().bytes_read, written);
        socket.closed().expect("both directions ended cleanly");
    });
}

// -------------------------------------------------------------------- helpers

fn round_trip(socket: &Socket) {
    let bytes = random_bytes(3, 256);
    let mut socket = socket;
    socket.write_all(&bytes).expect("the peer reads");
    assert_bytes_eq(&read_exactly(socket, bytes.len()).expect("the peer answers"), &bytes);
}

/// Returns the FNV-1a hash, which suffices to tell two streams apart.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
