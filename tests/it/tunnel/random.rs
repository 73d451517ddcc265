//! Random half-closes and resets: what each peer receives is complete, or it sees an error.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use sockeye::{Socket, TunnelError};

use super::{pair, pattern, start, tls_pair};
use crate::support::{PROMPT, spawn_call, with_limit};

/// Runs of each kind; the environment variable asks for more.
const RUNS: u64 = 150;
/// Number of runs at a time. They wait most of the time.
const WORKERS: u64 = 8;
const VARIABLE: &str = "SOCKEYE_TUNNELS";
/// The first seed, to repeat a run.
const SEED: &str = "SOCKEYE_TUNNEL_SEED";

const MAX_BYTES: usize = 300_000;

/// The other end of a tunnel's socket.
enum Remote {
    Plaintext(TcpStream),
    Tls(Socket),
}

/// How a remote end stops sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    HalfClose,
    Reset,
}

/// What a remote end sends, and what it received.
#[derive(Debug)]
struct Report {
    stop: Stop,
    /// Bytes it would have sent.
    planned: usize,
    received: Vec<u8>,
    /// Whether everything was sent, and the write side closed.
    sent_all: bool,
    ended_cleanly: bool,
}

impl Remote {
    fn write_all(&self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Remote::Plaintext(stream) => (&mut &*stream).write_all(bytes),
            Remote::Tls(socket) => socket.writer().write_all(bytes),
        }
    }

    fn half_close(&self) -> bool {
        match self {
            Remote::Plaintext(stream) => stream.shutdown(Shutdown::Write).is_ok(),
            Remote::Tls(socket) => socket.writer().close().is_ok(),
        }
    }

    fn reset(&self) {
        match self {
            Remote::Plaintext(stream) => rustix::net::connect_unspec(stream).expect("it resets"),
            Remote::Tls(socket) => socket.abort(),
        }
    }

    /// Returns whether the end was clean.
    fn read_to_end(&self, into: &mut Vec<u8>) -> bool {
        match self {
            Remote::Plaintext(stream) => (&mut &*stream).read_to_end(into).is_ok(),
            Remote::Tls(socket) => socket.reader().read_to_end(into).is_ok(),
        }
    }
}

/// Sends and receives at once, until both are over.
fn run(remote: Remote, seed: u8, mut random: fastrand::Rng) -> Report {
    let stop = if random.u8(..4) == 0 { Stop::Reset } else { Stop::HalfClose };
    let planned = random.usize(..MAX_BYTES) >> random.u32(..12);
    let remote = Arc::new(remote);
    let reading = Arc::clone(&remote);
    let reader = spawn_call(move || {
        let mut received = Vec::new();
        let clean = reading.read_to_end(&mut received);
        (received, clean)
    });
    let mut sent = 0;
    while sent < planned {
        let most = 1 << random.u32(..17);
        let chunk = random.usize(1..=(planned - sent).min(most));
        let bytes: Vec<u8> = (sent..sent + chunk).map(|at| pattern(at, seed)).collect();
        if remote.write_all(&bytes).is_err() {
            break;
        }
        sent += chunk;
    }
    let sent_all = match stop {
        Stop::HalfClose => sent == planned && remote.half_close(),
        Stop::Reset => {
            remote.reset();
            false
        }
    };
    let (received, clean) = reader.join();
    // Linux reports a reset once. If a write has failed, it may have got the error, and reads end as after FIN.
    Report { stop, planned, received, sent_all, ended_cleanly: clean && sent_all }
}

/// Checks what one end received of what the other one sent.
#[track_caller]
fn check(from: &Report, seed: u8, to: &Report, context: &str) {
    let prefix = to.received.iter().enumerate().all(|(at, &byte)| byte == pattern(at, seed));
    assert!(prefix && to.received.len() <= from.planned, "{context}: other bytes");
    if to.ended_cleanly {
        assert!(from.sent_all, "{context}: a clean end of data that was cut off");
        assert_eq!(
            to.received.len(),
            from.planned,
            "{context}: a clean end, but bytes are missing"
        );
    }
}

fn check_run(seed: u64, is_tls: bool) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (a, left) = match is_tls {
        true => {
            let (socket, client) = tls_pair();
            (socket, Remote::Tls(client))
        }
        false => {
            let (socket, remote) = pair();
            (socket, Remote::Plaintext(remote))
        }
    };
    let (b, right) = pair();
    let running = start(&a, &b, Some(PROMPT * 5));
    let (for_left, for_right) = (random.fork(), random.fork());
    let left = spawn_call(move || run(left, 1, for_left));
    let right = spawn_call(move || run(Remote::Plaintext(right), 2, for_right));
    let (left, right) = (left.join(), right.join());
    let outcome = running.join();
    let ends = [&left, &right]
        .map(|end| (end.stop, end.planned, end.sent_all, end.received.len(), end.ended_cleanly));
    let context = format!(
        "seed {seed}, tls {is_tls}, {ends:?}, {:?}",
        outcome.as_ref().map_err(TunnelError::to_string)
    );
    check(&left, 1, &right, &context);
    check(&right, 2, &left, &context);
    match outcome {
        Ok((there, back)) => {
            assert!(left.sent_all && right.sent_all, "{context}");
            assert!(left.ended_cleanly && right.ended_cleanly, "{context}");
            assert_eq!((there, back), (left.planned as u64, right.planned as u64), "{context}");
        }
        Err(error) => {
            let (there, back) = error.copied();
            assert!(there >= right.received.len() as u64, "{context}");
            assert!(back >= left.received.len() as u64, "{context}");
            // Only a reset makes a tunnel fail here.
            assert!([left.stop, right.stop].contains(&Stop::Reset), "{context}");
        }
    }
}

#[test]
fn what_a_peer_receives_is_complete_or_ends_with_an_error() {
    let runs = std::env::var(VARIABLE).ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    let limit = PROMPT.max(std::time::Duration::from_millis(200 * runs + 30_000));
    with_limit(limit, move || {
        let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
        let first = seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
        std::thread::scope(|scope| {
            for worker in first..first + WORKERS.min(runs) {
                scope.spawn(move || {
                    for seed in (worker..first + runs).step_by(WORKERS as usize) {
                        check_run(seed, false);
                        check_run(seed, true);
                    }
                });
            }
        });
    });
}
