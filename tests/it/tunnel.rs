//! `tunnel`: ends, failures and limits of two joined sockets.

mod interrupted;
#[cfg(target_os = "linux")]
mod random;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use sockeye::{
    Error, ErrorKind, ListenOptions, Phase, SecureTransport, ServerTlsOptions, Socket,
    SocketOptions, TunnelError, TunnelSide, connect_with, listen_with, tunnel,
};

use crate::support::net;
use crate::support::tls::{TlsPeer, authority, options as tls_options, server_config, valid_cert};
use crate::support::{PROMPT, SpawnedCall, ms, spawn_blocked, spawn_call, timed, with_watchdog};

type Outcome = Result<(u64, u64), TunnelError>;

/// A socket and the other end of its connection.
fn pair() -> (Socket, TcpStream) {
    pair_with(SocketOptions::new())
}

fn pair_with(options: SocketOptions) -> (Socket, TcpStream) {
    let listener = net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    let socket = connect_with(address, options).expect("the options are valid");
    let (remote, _) = listener.accept().expect("the socket connects");
    (socket, remote)
}

/// A socket that is a TLS server, and its client.
fn tls_pair() -> (Socket, Socket) {
    let identity = authority().issues(&valid_cert());
    let identity = sockeye::Identity::from_pem(identity.chain_pem(), identity.key_pem());
    let tls = ServerTlsOptions::new(identity.expect("it is a certificate with its key"));
    let socket = SocketOptions::new().secure_transport(SecureTransport::On).server_tls(tls);
    let listener = listen_with("127.0.0.1:0", ListenOptions::new().socket(socket));
    let listener = listener.expect("a port is free");
    let address = listener.local_address().expect("it is TCP");
    let options = tls_options(authority()).allow_half_open(true);
    let client = connect_with(address, options).expect("the options are valid");
    (listener.accept().expect("the client connects"), client)
}

fn start(a: &Socket, b: &Socket, idle: Option<Duration>) -> SpawnedCall<Outcome> {
    let (a, b) = (a.clone(), b.clone());
    spawn_call(move || tunnel(&a, &b, idle))
}

#[track_caller]
fn assert_failed(outcome: Outcome, side: Option<TunnelSide>, kind: ErrorKind) -> TunnelError {
    let error = outcome.expect_err("the tunnel fails");
    assert_eq!((error.side(), error.error().kind()), (side, kind), "{error}");
    error
}

/// Checks that a peer sees no clean end.
#[track_caller]
fn assert_reset(mut remote: &TcpStream) {
    let error = remote.read_to_end(&mut Vec::new()).expect_err("it is no clean end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
}

fn read_to_end(mut remote: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    remote.read_to_end(&mut all).expect("it ends cleanly");
    all
}

// -------------------------------------------------------------------- ends

#[test]
fn each_end_half_closes_the_other_side_and_the_other_direction_continues() {
    with_watchdog(|| {
        for a_ends_first in [true, false] {
            let ((a, mut left), (b, mut right)) = (pair(), pair());
            let running = start(&a, &b, None);
            let (first, last) =
                if a_ends_first { (&mut left, &mut right) } else { (&mut right, &mut left) };
            first.write_all(b"question").expect("it is open");
            first.shutdown(Shutdown::Write).expect("it is open");
            assert_eq!(read_to_end(last), b"question");
            for part in [b"ans".as_slice(), b"wer"] {
                last.write_all(part).expect("it is open");
                let mut buf = vec![0; part.len()];
                first.read_exact(&mut buf).expect("it continues");
                assert_eq!(buf, part);
            }
            last.shutdown(Shutdown::Write).expect("it is open");
            assert_eq!(read_to_end(first), b"");
            let copied = running.join().expect("both ended cleanly");
            assert_eq!(copied, if a_ends_first { (8, 6) } else { (6, 8) });
            for socket in [a, b] {
                socket.closed_timeout(PROMPT).expect("both directions have ended");
            }
        }
    });
}

#[test]
fn much_data_goes_both_ways_at_once() {
    const BYTES: usize = 8_000_000;
    with_watchdog(|| {
        let ((a, left), (b, right)) = (pair(), pair());
        let running = start(&a, &b, None);
        let sides = [(left, 1_u8), (right, 2)].map(|(remote, seed)| {
            let mut writing = remote.try_clone().expect("a descriptor is free");
            let writer = spawn_call(move || {
                let data: Vec<u8> = (0..BYTES).map(|at| pattern(at, seed)).collect();
                writing.write_all(&data).expect("the other side reads");
                writing.shutdown(Shutdown::Write).expect("it is open");
            });
            let reader = spawn_call(move || read_to_end(&remote));
            (writer, reader, 3 - seed)
        });
        for (writer, reader, seed) in sides {
            writer.join();
            let read = reader.join();
            assert_eq!(read.len(), BYTES);
            assert!(read.iter().enumerate().all(|(at, &byte)| byte == pattern(at, seed)));
        }
        assert_eq!(running.join().expect("it ended"), (BYTES as u64, BYTES as u64));
    });
}

fn pattern(at: usize, seed: u8) -> u8 {
    (at % 251) as u8 ^ (at / 65_537) as u8 ^ seed
}

/// A peer that does not read holds up its direction only.
#[test]
fn a_full_direction_does_not_hold_up_the_other() {
    with_watchdog(|| {
        let ((a, left), (b, mut right)) = (pair(), pair());
        let running = start(&a, &b, None);
        let mut flood = left.try_clone().expect("a descriptor is free");
        let flooding = spawn_blocked(move || {
            let sent = flood.write_all(&vec![7; 32_000_000]);
            sent.and_then(|()| flood.shutdown(Shutdown::Write)).expect("it is read in the end");
        });
        right.write_all(b"hello").expect("it is open");
        let mut buf = [0; 5];
        (&left).read_exact(&mut buf).expect("it arrives");
        assert!(flooding.is_running());
        assert_eq!(read_to_end(&right).len(), 32_000_000);
        flooding.join();
        drop(right);
        assert_eq!(running.join().expect("both ended"), (32_000_000, 5));
    });
}

/// What the socket had received before, by a read that blocked in the kernel, makes no difference.
#[test]
fn a_socket_can_be_used_before() {
    with_watchdog(|| {
        let ((a, mut left), (b, mut right)) = (pair(), pair());
        let echo = spawn_call(move || {
            for _ in 0..300 {
                let mut byte = [0];
                left.read_exact(&mut byte).expect("it is open");
                left.write_all(&byte).expect("it is open");
            }
            left
        });
        for _ in 0..300 {
            (&a).write_all(b"x").expect("it is open");
            (&a).read_exact(&mut [0]).expect("it is open");
        }
        let left = echo.join();
        let running = start(&a, &b, None);
        (&left).write_all(b"after").expect("it is open");
        drop(left);
        assert_eq!(read_to_end(&right), b"after");
        right.write_all(b"").expect("it is open");
        drop(right);
        assert_eq!(running.join().expect("both ended"), (5, 0));
    });
}

#[test]
fn it_waits_until_both_are_open() {
    with_watchdog(|| {
        let (a, left) = pair();
        let gone = net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = gone.local_addr().expect("it listens");
        drop(gone);
        let b = sockeye::connect(address).expect("the address is valid");
        let error = assert_failed(tunnel(&a, &b, None), Some(TunnelSide::B), ErrorKind::Connect);
        assert_eq!(error.copied(), (0, 0));
        assert_reset(&left);
    });
}

// -------------------------------------------------------------------- failures

#[test]
fn a_reset_of_one_side_resets_the_other() {
    with_watchdog(|| {
        for side in [TunnelSide::A, TunnelSide::B] {
            let ((a, left), (b, right)) = (pair(), pair());
            let running = start(&a, &b, None);
            let (mut lost, mut kept) =
                if side == TunnelSide::A { (left, right) } else { (right, left) };
            lost.write_all(b"some").expect("it is open");
            kept.read_exact(&mut [0; 4]).expect("it arrives");
            reset(lost);
            let error = assert_failed(running.join(), Some(side), ErrorKind::Reset);
            let copied = error.copied();
            assert_eq!(copied, if side == TunnelSide::A { (4, 0) } else { (0, 4) });
            assert_reset(&kept);
            let text = error.to_string();
            let letter = if side == TunnelSide::A { "side a" } else { "side b" };
            assert!(text.contains(letter) && text.contains("4 bytes"), "{text}");
            assert_eq!(Error::from(error).kind(), ErrorKind::Reset);
        }
    });
}

/// The peer has half-closed, and nothing is to be sent to it, so no read or write sees the reset.
#[test]
fn a_reset_of_a_half_closed_side_is_noticed_without_data() {
    with_watchdog(|| {
        let ((a, mut left), (b, mut right)) = (pair(), pair());
        let running = start(&a, &b, None);
        left.write_all(b"question").expect("it is open");
        left.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(read_to_end(&right), b"question");
        reset(left);
        let error =
            assert_failed(running.join_within(PROMPT), Some(TunnelSide::A), ErrorKind::Reset);
        assert_eq!(error.copied(), (8, 0));
        let error = right.write_all(b"x").and_then(|()| right.read_exact(&mut [0]));
        error.expect_err("it was aborted");
    });
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("it can be set");
}

#[test]
fn a_close_by_another_thread_is_closed_on_that_side() {
    with_watchdog(|| {
        for side in [TunnelSide::A, TunnelSide::B] {
            let ((a, left), (b, right)) = (pair(), pair());
            let both = (a.clone(), b.clone());
            let running = spawn_blocked(move || tunnel(&both.0, &both.1, None));
            let (closed, remote, other) =
                if side == TunnelSide::A { (a, left, right) } else { (b, right, left) };
            closed.close().expect("nothing is left to send");
            assert_failed(running.join_within(PROMPT), Some(side), ErrorKind::Closed);
            assert_eq!(read_to_end(&remote), b"");
            assert_reset(&other);
        }
    });
}

#[test]
fn an_abort_by_another_thread_is_closed_on_that_side() {
    with_watchdog(|| {
        let ((a, left), (b, right)) = (pair(), pair());
        let both = (a, b.clone());
        let running =
            spawn_blocked(move || tunnel(&both.0, &both.1, Some(Duration::from_secs(60))));
        b.abort();
        assert_failed(running.join_within(PROMPT), Some(TunnelSide::B), ErrorKind::Closed);
        assert_reset(&left);
        assert_reset(&right);
    });
}

#[test]
fn a_side_that_has_ended_before_fails_only_if_data_is_for_it() {
    with_watchdog(|| {
        // The end of the peer has closed the socket's write side, as it does by default.
        let ended = || {
            let (socket, remote) = pair();
            remote.shutdown(Shutdown::Write).expect("it is open");
            socket.closed_timeout(PROMPT).expect("the end is handled");
            socket
        };
        let (b, right) = pair();
        drop(right);
        assert_eq!(tunnel(&ended(), &b, None).expect("nothing was lost"), (0, 0));
        let (b, mut right) = pair();
        right.write_all(b"lost").expect("it is open");
        assert_failed(tunnel(&ended(), &b, None), Some(TunnelSide::A), ErrorKind::Closed);
        assert_eq!(b.closed().map_err(|error| error.kind()), Err(ErrorKind::Closed));
    });
}

// -------------------------------------------------------------------- limits

#[test]
fn without_a_byte_for_the_idle_limit_both_are_closed() {
    with_watchdog(|| {
        let mut tries = Vec::new();
        let limit = Duration::from_secs(1);
        // A busy machine may delay one try.
        for _ in 0..5 {
            let ((a, left), (b, right)) = (pair(), pair());
            let (outcome, took) = timed(|| tunnel(&a, &b, limit));
            let error = assert_failed(outcome, None, ErrorKind::TimedOut);
            assert!(error.to_string().contains("1s"), "{error}");
            assert!(took >= limit, "{took:?}");
            for (socket, remote) in [(a, left), (b, right)] {
                assert_eq!(read_to_end(&remote), b"");
                assert_eq!(socket.phase(), Phase::Closed);
                socket.closed().expect("it was closed");
            }
            if took < limit.mul_f64(1.02) {
                return;
            }
            tries.push(took);
        }
        panic!("took {tries:?}");
    });
}

/// Bytes in one direction count for both, also if the other side takes them late.
#[test]
fn a_byte_in_either_direction_restarts_the_idle_limit() {
    with_watchdog(|| {
        let ((a, mut left), (b, mut right)) = (pair(), pair());
        let limit = ms(600);
        let begun = Instant::now();
        let running = start(&a, &b, Some(limit));
        for step in 1..=6 {
            std::thread::sleep((begun + ms(250) * step).saturating_duration_since(Instant::now()));
            let (from, to) =
                if step <= 3 { (&mut left, &mut right) } else { (&mut right, &mut left) };
            from.write_all(b"x").expect("it is open");
            to.read_exact(&mut [0]).expect("it arrives");
        }
        let last = Instant::now();
        assert_failed(running.join(), None, ErrorKind::TimedOut);
        let took = last.elapsed();
        assert!(took > limit - ms(100) && took < limit + PROMPT, "{took:?}");
    });
}

#[test]
fn a_peer_that_does_not_read_is_idle() {
    with_watchdog(|| {
        let ((a, left), (b, right)) =
            (pair(), pair_with(SocketOptions::new().close_timeout(ms(200))));
        let mut flood = left;
        let flooding = spawn_call(move || flood.write_all(&vec![7; 32_000_000]));
        let error = assert_failed(tunnel(&a, &b, ms(500)), None, ErrorKind::TimedOut);
        assert!(error.copied().0 > 0, "{error}");
        flooding.join().expect_err("it was closed");
        // It has not taken all bytes that came from the other side.
        assert_reset(&right);
    });
}

#[test]
fn deadlines_apply_and_timeouts_do_not() {
    with_watchdog(|| {
        let options = || SocketOptions::new().read_timeout(ms(50)).write_timeout(ms(50));
        let ((a, left), (b, right)) = (pair_with(options()), pair_with(options()));
        let begun = Instant::now();
        b.set_read_deadline(Some(begun + ms(400)));
        assert_failed(tunnel(&a, &b, None), Some(TunnelSide::B), ErrorKind::TimedOut);
        assert!(begun.elapsed() >= ms(400));
        assert_reset(&left);
        assert_reset(&right);
    });
}

#[test]
fn invalid_arguments_change_nothing() {
    with_watchdog(|| {
        let ((a, left), (b, _right)) = (pair(), pair());
        let same = assert_failed(tunnel(&a, &a.clone(), None), None, ErrorKind::InvalidOptions);
        assert!(same.to_string().contains("same socket"), "{same}");
        let zero = tunnel(&a, &b, Duration::ZERO);
        assert_failed(zero, None, ErrorKind::InvalidOptions);
        (&a).write_all(b"still open").expect("it is open");
        (&left).read_exact(&mut [0; 10]).expect("it is open");
        // A limit that no clock can represent is none.
        let running = start(&a, &b, Some(Duration::MAX));
        a.abort();
        assert_failed(running.join(), Some(TunnelSide::A), ErrorKind::Closed);
    });
}

// -------------------------------------------------------------------- TLS

#[test]
fn close_notify_is_forwarded_as_a_half_close_and_back() {
    with_watchdog(|| {
        let ((a, mut client), (b, mut right)) = (tls_pair(), pair());
        let running = start(&a, &b, Some(PROMPT));
        client.write_all(b"question").expect("it is open");
        client.writer().close().expect("it is open");
        assert_eq!(read_to_end(&right), b"question");
        right.write_all(b"answer").expect("it is open");
        drop(right);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("close_notify arrives");
        assert_eq!(answer, b"answer");
        assert_eq!(running.join().expect("both ended"), (8, 6));
    });
}

#[test]
fn data_goes_from_tls_to_tls() {
    const BYTES: usize = 3_000_000;
    with_watchdog(|| {
        let ((a, mut left), (b, mut right)) = (tls_pair(), tls_pair());
        let running = start(&a, &b, Some(PROMPT));
        let data: Vec<u8> = (0..BYTES).map(|at| pattern(at, 3)).collect();
        let sent = data.clone();
        let writer = spawn_call(move || {
            left.write_all(&sent).expect("the other side reads");
            left.writer().close().expect("it is open");
            left
        });
        let mut read = Vec::new();
        right.read_to_end(&mut read).expect("it ends cleanly");
        assert!(read == data);
        right.close().expect("it is open");
        writer.join().close().expect("it is open");
        assert_eq!(running.join().expect("both ended"), (BYTES as u64, 0));
    });
}

/// A plaintext peer must not take data that was cut off for complete.
#[test]
fn an_end_without_close_notify_resets_the_other_side() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.handshake();
            peer.send(b"part");
            peer.fin();
        });
        let a = crate::support::tls::open(&peer, tls_options(authority()));
        let (b, mut right) = pair();
        let running = start(&a, &b, None);
        right.read_exact(&mut [0; 4]).expect("it arrives");
        let error = assert_failed(running.join(), Some(TunnelSide::A), ErrorKind::Truncated);
        assert_eq!(error.copied(), (4, 0));
        assert_reset(&right);
    });
}
