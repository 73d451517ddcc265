//! Races between calls: thousands of short connections with concurrent events.
//! Rounds end with their own events. If an order is left to chance, a spin of random length varies it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use sockeye::{ErrorKind, Phase, Socket, SocketOptions};

use crate::support::net;
use crate::support::peer::{Server, listen_with_room, reset};
use crate::support::{
    HasErrorKind, PROMPT, Peer, assert_bytes_eq, assert_fails, assert_times_out, crate_kind, ms,
    open, open_with, random_bytes, read, small_send_buffer, spawn_call, timed, with_limit,
    with_watchdog, write_until_error,
};

/// A time that suffices for thousands of rounds on a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// Spins for up to some tens of microseconds, so that two threads meet in every order.
fn dither(random: &mut fastrand::Rng) {
    for _ in 0..random.u32(..20_000) {
        std::hint::spin_loop();
    }
}

// -------------------------------------------------------------------- resets

/// The kernel reports a reset once, to the first call; both directions have to see it nevertheless.
#[test]
fn a_reader_and_a_writer_that_race_both_see_a_reset() {
    const ROUNDS: u64 = 3_000;
    with_limit(LONG, || {
        let mut random = fastrand::Rng::with_seed(11);
        let server = Server::scripted(move |stream| {
            dither(&mut random);
            reset(stream);
        });
        for round in 0..ROUNDS {
            let socket = sockeye::connect(server.address()).expect("the address is valid");
            if let Err(error) = socket.opened() {
                assert!(
                    matches!(error.kind(), ErrorKind::Reset | ErrorKind::Connect),
                    "round {round}: {error}"
                );
                continue;
            }
            reads_and_writes_end_by_reset(&socket, round);
        }
    });
}

/// The kernel of a peer that closes with unread bytes sends a reset, after some delay.
#[test]
fn a_reset_in_the_middle_of_traffic_is_never_a_clean_end() {
    const ROUNDS: u64 = 1_500;
    with_limit(LONG, || {
        let mut random = fastrand::Rng::with_seed(12);
        let server = Server::scripted(move |mut stream| {
            let mut buf = [0; 64];
            let _ = stream.write(b"some");
            let _ = stream.read(&mut buf);
            dither(&mut random);
            reset(stream);
        });
        for round in 0..ROUNDS {
            let socket = sockeye::connect(server.address()).expect("the address is valid");
            socket.opened().expect("the server waits for data");
            reads_and_writes_end_by_reset(&socket, round);
        }
    });
}

#[track_caller]
fn reads_and_writes_end_by_reset(mut socket: &Socket, round: u64) {
    thread::scope(|scope| {
        let reading = scope.spawn(move || {
            loop {
                match read(socket, 16) {
                    Ok(some) if some.is_empty() => return Ok(()),
                    Ok(_) => {}
                    Err(error) => return Err(error),
                }
            }
        });
        let writing = scope.spawn(move || write_until_error(socket, b'w', usize::MAX).1);
        let read = reading.join().expect("it does not panic");
        let written = writing.join().expect("it does not panic");
        assert_eq!(read.failure(), Some(ErrorKind::Reset), "round {round}: the reader");
        let written = crate_kind(&written.expect("it writes until it fails"));
        assert_eq!(written, ErrorKind::Reset, "round {round}: the writer");
    });
    for _ in 0..2 {
        assert_eq!(
            read(socket, 1).failure(),
            Some(ErrorKind::Reset),
            "round {round}: a later read"
        );
        assert_eq!(
            socket.write(b"x").failure(),
            Some(ErrorKind::Reset),
            "round {round}: a later write"
        );
    }
    assert_eq!(
        socket.closed_timeout(PROMPT).failure(),
        Some(ErrorKind::Reset),
        "round {round}: closed"
    );
}

/// No call reads or writes; two threads wait for the outcome.
#[test]
fn a_reset_of_an_idle_socket_is_always_noticed() {
    const ROUNDS: usize = 300;
    with_limit(LONG, || {
        let server = Server::scripted(reset);
        let sockets: Vec<_> = (0..ROUNDS)
            .map(|_| sockeye::connect(server.address()).expect("the address is valid"))
            .collect();
        for (round, socket) in sockets.iter().enumerate() {
            let closed = socket.closed_timeout(Duration::from_secs(5)).failure();
            let opened = socket.opened().failure();
            assert_eq!(closed, opened.or(Some(ErrorKind::Reset)), "round {round}");
        }
    });
}

// -------------------------------------------------------------------- ends of every kind

#[derive(Clone, Copy, Debug)]
enum End {
    Close,
    Abort,
    AbortWriter,
    CloseWriterAndCancel,
}

const ENDS: [End; 4] = [End::Close, End::Abort, End::AbortWriter, End::CloseWriterAndCancel];

/// Reads, writes and waits race with an end from this side, on a peer that echoes. Each call has to return, with a
/// result that fits.
#[test]
fn ends_race_with_reads_writes_and_waits_without_a_hang() {
    const ROUNDS: usize = 2_500;
    with_limit(LONG, || {
        let server = Server::echoes();
        let mut random = fastrand::Rng::with_seed(13);
        for round in 0..ROUNDS {
            let end = ENDS[round % ENDS.len()];
            let socket = sockeye::connect(server.address()).expect("the address is valid");
            if random.bool() {
                socket.opened().expect("the server listens");
            }
            let (mut reader, writer, waiter) = (socket.reader(), socket.writer(), socket.clone());
            let reading = spawn_call(move || io::copy(&mut reader, &mut io::sink()));
            let writing = spawn_call(move || write_until_error(writer, b'w', 1 << 20));
            let waiting = spawn_call(move || waiter.closed());
            dither(&mut random);
            finish(end, &socket);
            let limit = Duration::from_secs(20);
            let outcome = waiting.join_within(limit).failure();
            assert_eq!(outcome, end.outcome(), "round {round}, {end:?}: closed()");
            let read = reading.join_within(limit).failure();
            assert_eq!(read, end.of_a_read(), "round {round}, {end:?}: the reader");
            let (_, failure) = writing.join_within(limit);
            let written = failure.as_ref().map(crate_kind);
            let fits = matches!(written, None | Some(ErrorKind::Closed));
            assert!(fits, "round {round}, {end:?}: the writer got {written:?}");
        }
    });
}

impl End {
    /// Returns the expected result of `closed()`.
    fn outcome(self) -> Option<ErrorKind> {
        match self {
            End::Close | End::CloseWriterAndCancel => None,
            End::Abort | End::AbortWriter => Some(ErrorKind::Closed),
        }
    }

    /// Returns the expected result of a read if the peer ends only after this side.
    fn of_a_read(self) -> Option<ErrorKind> {
        match self {
            End::CloseWriterAndCancel => None,
            End::Close | End::Abort | End::AbortWriter => Some(ErrorKind::Closed),
        }
    }
}

fn finish(end: End, socket: &Socket) {
    match end {
        End::Close => socket.close().expect("the peer reads"),
        End::Abort => socket.abort(),
        End::AbortWriter => socket.writer().abort(),
        End::CloseWriterAndCancel => {
            socket.reader().cancel();
            socket.writer().close().expect("the peer reads");
        }
    }
}

#[test]
fn handles_dropped_in_any_order_by_many_threads_end_the_connection_once() {
    const ROUNDS: usize = 500;
    with_limit(LONG, || {
        let mut random = fastrand::Rng::with_seed(14);
        for _ in 0..ROUNDS {
            let peer = Peer::reading();
            let socket = open(&peer);
            (&socket).write_all(b"words").expect("the send buffer has room");
            let (reader, writer, other) = (socket.reader(), socket.writer(), socket.clone());
            thread::scope(|scope| {
                scope.spawn(|| drop(reader));
                scope.spawn(|| drop(writer));
                scope.spawn(|| drop(other));
                dither(&mut random);
                drop(socket);
            });
            peer.assert_received(b"words");
        }
    });
}

#[test]
fn concurrent_closes_give_the_same_result() {
    const ROUNDS: usize = 300;
    with_limit(LONG, || {
        for _ in 0..ROUNDS {
            let peer = Peer::reading();
            let socket = open(&peer);
            (&socket).write_all(b"words").expect("the send buffer has room");
            let closers: Vec<_> = (0..4)
                .map(|_| {
                    let socket = socket.clone();
                    spawn_call(move || {
                        (socket.close().failure(), socket.phase(), socket.closed().failure())
                    })
                })
                .collect();
            for closer in closers {
                assert_eq!(closer.join(), (None, Phase::Closed, None));
            }
            peer.assert_received(b"words");
        }
    });
}

#[test]
fn close_and_abort_at_once_agree_on_one_outcome() {
    const ROUNDS: usize = 300;
    with_limit(LONG, || {
        let mut random = fastrand::Rng::with_seed(15);
        for _ in 0..ROUNDS {
            let peer = Peer::reading();
            let socket = open(&peer);
            let aborter = socket.clone();
            let aborting = spawn_call(move || aborter.abort());
            dither(&mut random);
            let closed = socket.close().failure();
            aborting.join();
            // The result is `Ok` even if the abort came first, whose outcome then stays.
            assert_eq!(closed, None);
            let outcome = socket.closed().failure();
            assert!(matches!(outcome, None | Some(ErrorKind::Closed)), "{outcome:?}");
            assert_eq!(socket.closed().failure(), outcome);
            peer.finish();
        }
    });
}

#[test]
fn close_of_a_socket_whose_peer_never_reads_is_bounded() {
    const LIMIT: u64 = 300;
    with_watchdog(|| {
        let peers: Vec<_> = (0..8)
            .map(|_| {
                let peer = Peer::not_reading();
                let socket = open_with(&peer, small_send_buffer().close_timeout(ms(LIMIT)));
                let writer = socket.writer();
                (peer, socket, spawn_call(move || write_until_error(writer, b'w', usize::MAX)))
            })
            .collect();
        for (_peer, socket, writing) in peers {
            let (closed, took) = timed(|| socket.close());
            assert!(took < ms(LIMIT) + PROMPT, "took {took:?}");
            assert!(matches!(closed.failure(), None | Some(ErrorKind::TimedOut)));
            assert_eq!(socket.closed_timeout(PROMPT).failure(), closed.failure());
            let (_, failure) = writing.join_within(PROMPT);
            assert!(matches!(
                crate_kind(&failure.expect("the peer does not read")),
                ErrorKind::Closed | ErrorKind::TimedOut
            ));
        }
    });
}

/// The cancellation happens while the connection is made, or after it.
#[test]
fn a_cancelled_reader_notices_the_end_at_any_time() {
    const ROUNDS: usize = 500;
    with_limit(LONG, || {
        let server = Server::scripted(|mut stream| {
            stream.shutdown(Shutdown::Write).expect("it is connected");
            stream.read_to_end(&mut Vec::new()).expect("a clean end");
        });
        let mut random = fastrand::Rng::with_seed(19);
        for round in 0..ROUNDS {
            let socket = sockeye::connect(server.address()).expect("the address is valid");
            if round % 2 == 0 {
                socket.opened().expect("the server listens");
                dither(&mut random);
            }
            socket.reader().cancel();
            let closed = socket.closed_timeout(Duration::from_secs(5)).failure();
            assert_eq!(closed, None, "round {round}");
        }
    });
}

// -------------------------------------------------------------------- the last handle

#[test]
fn a_mebibyte_written_and_the_last_handle_dropped_arrives_whole() {
    for unread in [0, 64 * 1024] {
        for round in 0..10 {
            with_watchdog(move || {
                let peer = Peer::scripted_on(listen_with_room(64 * 1024), move |wire| {
                    wire.send(&vec![b'u'; unread]);
                    for _ in 0..64 {
                        wire.receive(4096);
                        thread::yield_now();
                    }
                });
                let socket = open(&peer);
                let bytes = random_bytes(round, 1 << 20);
                (&socket).write_all(&bytes).expect("the peer reads");
                drop(socket);
                peer.assert_received(&bytes);
            });
        }
    }
}

// -------------------------------------------------------------------- shared handles

#[test]
fn readers_that_share_get_each_byte_once() {
    const SIZE: usize = 1 << 20;
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.send(&random_bytes(16, SIZE));
            wire.fin();
        });
        let socket = open(&peer);
        let readers: Vec<_> = (1..=4)
            .map(|number| {
                let reader = socket.reader();
                spawn_call(move || {
                    let mut got = Vec::new();
                    loop {
                        let some = read(&reader, 61 * number).expect("a clean end");
                        if some.is_empty() {
                            return got;
                        }
                        got.push(some);
                    }
                })
            })
            .collect();
        let shares: Vec<Vec<Vec<u8>>> = readers.into_iter().map(|reader| reader.join()).collect();
        assert_eq!(socket.stats().bytes_read, SIZE as u64);
        assert_bytes_eq(&joined(shares), &random_bytes(16, SIZE));
        socket.closed_timeout(PROMPT).expect("a clean end");
    });
}

/// Joins the shares again. The pieces of each reader are in order, and the bytes themselves tell which piece is next.
fn joined(shares: Vec<Vec<Vec<u8>>>) -> Vec<u8> {
    let total = shares.iter().flatten().map(Vec::len).sum();
    let whole = random_bytes(16, total);
    let mut shares: Vec<_> = shares.into_iter().map(|share| share.into_iter().peekable()).collect();
    let mut bytes: Vec<u8> = Vec::with_capacity(total);
    while bytes.len() < total {
        let rest = &whole[bytes.len()..];
        // Takes the longest piece that fits, because a short piece may fit by chance.
        let fitting = shares
            .iter_mut()
            .enumerate()
            .filter_map(|(number, share)| {
                let piece = share.peek()?;
                rest.starts_with(piece).then_some((piece.len(), number))
            })
            .max();
        let Some((_, number)) = fitting else {
            panic!("no reader has the bytes after byte {}", bytes.len());
        };
        bytes.extend(shares[number].next().expect("the piece was peeked"));
    }
    bytes
}

#[test]
fn writers_that_share_lose_and_duplicate_nothing() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open(&peer);
        let writers: Vec<_> = (b'a'..=b'd')
            .map(|byte| {
                let writer = socket.writer();
                spawn_call(move || write_until_error(writer, byte, 300_000))
            })
            .collect();
        for writer in writers {
            let (taken, failure) = writer.join();
            assert!(failure.is_none(), "{failure:?}");
            assert_eq!(taken, 300_000);
        }
        socket.close().expect("the peer reads");
        let ending = peer.finish();
        for byte in b'a'..=b'd' {
            let arrived = ending.bytes.iter().filter(|one| **one == byte).count();
            assert_eq!(arrived, 300_000, "of writer {}", char::from(byte));
        }
    });
}

// -------------------------------------------------------------------- buffers

/// A buffer belongs to the caller again once its read has returned: later writes to it stay.
#[test]
fn a_buffer_is_not_touched_after_its_read_returned() {
    const ROUNDS: usize = 200;
    const POISON: u8 = 0xa5;
    with_limit(LONG, || {
        let peer = Peer::scripted(|wire| {
            for _ in 0..ROUNDS {
                wire.wait_signal();
                wire.send(b"data");
            }
        });
        let socket = open_with(&peer, SocketOptions::new().read_timeout(ms(2)));
        let mut mut_socket = &socket;
        for _ in 0..ROUNDS {
            let mut refused = [POISON; 64];
            assert_times_out(mut_socket.read(&mut refused));
            socket.set_read_timeout(None).expect("`None` removes the limit");
            peer.signal();
            let mut filled = [POISON; 64];
            let mut got = 0;
            while got < 4 {
                got += mut_socket.read(&mut filled[got..]).expect("the peer sends");
            }
            assert_eq!(&filled[..4], b"data");
            assert_eq!(filled[4..], [POISON; 60]);
            assert_eq!(refused, [POISON; 64]);
            socket.set_read_timeout(Some(ms(2))).expect("not zero");
        }
    });
}

// -------------------------------------------------------------------- data and its end

/// Data and a FIN arrive as close together as possible; or data and a half-close cross.
#[test]
fn data_right_before_the_end_is_never_lost() {
    const ROUNDS: usize = 2_000;
    with_limit(LONG, || {
        let mut random = fastrand::Rng::with_seed(17);
        let server = Server::scripted(move |mut stream: TcpStream| {
            net::set_nodelay(&stream).expect("every stream has the option");
            stream.write_all(b"first").expect("the program reads");
            dither(&mut random);
            stream.write_all(b"last").expect("the program reads");
            stream.shutdown(Shutdown::Write).expect("it is connected");
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).expect("a clean end");
            assert_eq!(rest, b"");
        });
        let mut random = fastrand::Rng::with_seed(18);
        for round in 0..ROUNDS {
            let socket = sockeye::connect(server.address()).expect("the address is valid");
            if round % 2 == 0 {
                dither(&mut random);
            }
            let mut all = Vec::new();
            loop {
                let some = read(&socket, random.usize(1..12)).expect("a clean end");
                if some.is_empty() {
                    break;
                }
                all.extend(some);
            }
            assert_eq!(all, b"firstlast", "round {round}");
            socket.closed_timeout(PROMPT).expect("a clean end");
            assert_fails((&socket).write(b"x"), ErrorKind::Closed);
        }
    });
}
