//! `Reader::read_until`: lines, and not one byte more.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sockeye::{Health, Socket, SocketOptions};

use crate::support::net;
use crate::support::peer::listen;
#[cfg(target_os = "linux")]
use crate::support::strace;
use crate::support::tls::{TlsPeer, authority, options, server_config};
use crate::support::{
    PROMPT, SpawnedCall, crate_kind, eventually, ms, read_exactly, read_to_end, spawn_blocked,
    spawn_call, timed, with_watchdog,
};

fn pair(options: SocketOptions) -> (Socket, TcpStream) {
    let listener = listen();
    let address = listener.local_addr().expect("it is bound");
    let socket = sockeye::connect_with(address, options).expect("the options are valid");
    let (peer, _) = listener.accept().expect("the socket connects");
    net::set_nodelay(&peer).expect("it is connected");
    (socket, peer)
}

fn line(socket: &Socket, max: usize) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    socket.reader().read_until(b'\n', &mut line, max).map(|bytes| {
        assert_eq!(bytes, line.len());
        line
    })
}

#[test]
fn lines_are_taken_one_by_one_and_the_rest_stays() {
    with_watchdog(|| {
        let (socket, mut peer) = pair(SocketOptions::new());
        peer.write_all(b"one\n\ntwo\nrest").expect("the socket is there");
        assert_eq!(line(&socket, 100).unwrap(), b"one\n");
        assert_eq!(line(&socket, 1).unwrap(), b"\n");
        assert_eq!(line(&socket, 4).unwrap(), b"two\n");
        assert!(matches!(socket.health(), Health::Unread));
        assert_eq!(socket.stats().bytes_read, 9);
        // In the kernel, for another reader.
        let mut stream = socket.detach().expect("it is open");
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).expect("the bytes are there");
        assert_eq!(&rest, b"rest");
    });
}

#[test]
fn a_line_may_arrive_byte_by_byte_and_be_longer_than_any_buffer() {
    with_watchdog(|| {
        let (socket, mut peer) = pair(SocketOptions::new().read_timeout(PROMPT));
        let sending: SpawnedCall<()> = spawn_call(move || {
            for byte in b"slowly\n" {
                peer.write_all(&[*byte]).expect("the socket reads");
                std::thread::sleep(ms(20));
            }
            let mut long = vec![b'x'; 100_000];
            long.push(b'\n');
            peer.write_all(&long).expect("the socket reads");
            peer.write_all(b"end").expect("the socket reads");
        });
        assert_eq!(line(&socket, 100).unwrap(), b"slowly\n");
        assert_eq!(line(&socket, 200_000).unwrap().len(), 100_001);
        sending.join();
        assert_eq!(line(&socket, 100).unwrap(), b"end", "the end of the stream ends the line");
        assert_eq!(line(&socket, 100).unwrap(), b"");
    });
}

#[test]
fn a_line_that_is_too_long_is_invalid_data_and_stays_within_the_limit() {
    with_watchdog(|| {
        let (socket, mut peer) = pair(SocketOptions::new());
        peer.write_all(b"0123456789\n").expect("the socket is there");
        let mut buf = b"before ".to_vec();
        let error = socket.reader().read_until(b'\n', &mut buf, 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(buf, b"before 0123");
        assert_eq!(
            socket.reader().read_until(b'\n', &mut buf, 0).unwrap_err().kind(),
            error.kind()
        );
        assert_eq!(line(&socket, 7).unwrap(), b"456789\n", "nothing was lost");
    });
}

#[test]
fn the_timeout_applies_to_each_wait_and_a_deadline_to_the_call() {
    with_watchdog(|| {
        let (socket, mut peer) = pair(SocketOptions::new().read_timeout(ms(400)));
        let drip = move |peer: &mut TcpStream, bytes: usize| {
            for _ in 0..bytes {
                peer.write_all(b"x").expect("the socket reads");
                std::thread::sleep(ms(50));
            }
        };
        let sending = spawn_call(move || {
            drip(&mut peer, 12);
            peer.write_all(b"\n").expect("the socket reads");
            drip(&mut peer, 20);
            peer
        });
        assert_eq!(line(&socket, 100).unwrap().len(), 13, "each wait was short");
        socket.set_read_deadline(Some(Instant::now() + ms(200)));
        let mut buf = Vec::new();
        let error = socket.reader().read_until(b'\n', &mut buf, 100).unwrap_err();
        assert_eq!(crate_kind(&error), sockeye::ErrorKind::TimedOut);
        assert!((1..20).contains(&buf.len()), "{} bytes came before the deadline", buf.len());
        socket.set_read_deadline(None);
        let rest = 20 - buf.len();
        assert_eq!(read_exactly(&socket, rest).unwrap().len(), rest, "the socket lives on");
        drop(sending.join());
    });
}

#[test]
fn a_close_ends_it_and_no_other_read_comes_in_between() {
    with_watchdog(|| {
        let (socket, mut peer) = pair(SocketOptions::new());
        peer.write_all(b"abc").expect("the socket is there");
        let reading = spawn_blocked({
            let socket = socket.clone();
            move || line(&socket, 100)
        });
        let other = spawn_blocked({
            let socket = socket.clone();
            move || read_exactly(&socket, 3)
        });
        peer.write_all(b"def\nghi").expect("the socket is there");
        assert_eq!(reading.join().unwrap(), b"abcdef\n");
        assert_eq!(other.join().unwrap(), b"ghi");
        let reading = spawn_blocked({
            let socket = socket.clone();
            move || line(&socket, 100)
        });
        socket.close().expect("it is open");
        assert_eq!(crate_kind(&reading.join().unwrap_err()), sockeye::ErrorKind::Closed);
    });
}

#[test]
fn over_tls_the_rest_stays_in_the_session() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&server_config(), |peer| {
            peer.send(b"one\ntwo");
            peer.send(b"\nthree\nrest");
            peer.ends();
        });
        let socket = sockeye::connect_with(peer.address(), options(authority())).unwrap();
        assert_eq!(line(&socket, 100).unwrap(), b"one\n");
        assert_eq!(line(&socket, 100).unwrap(), b"two\n");
        let error = line(&socket, 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(line(&socket, 100).unwrap(), b"ree\n");
        eventually(PROMPT, "the rest is unread", || !matches!(socket.health(), Health::Idle));
        assert_eq!(read_to_end(&socket).unwrap(), b"rest");
        peer.finish();
    });
}

/// Returns the median time that a change of the deadline takes.
fn median_wait(socket: &Socket) -> Duration {
    let mut waits: Vec<Duration> = (0..50)
        .map(|_| {
            // So that the reader is busy.
            std::thread::sleep(ms(1));
            let later = Some(Instant::now() + Duration::from_secs(3600));
            timed(|| socket.set_read_deadline(later)).1
        })
        .collect();
    waits.sort();
    waits[waits.len() / 2]
}

#[test]
fn a_line_without_end_does_not_hold_off_other_calls() {
    /// More than arrives in the time that the test needs, and less than the machine has.
    const MAX: usize = 1 << 30;
    with_watchdog(|| {
        // In plaintext the reader is outside the lock nearly all the time.
        let peer =
            TlsPeer::secured(
                &server_config(),
                |peer| {
                    while peer.try_send(&[b'x'; 65_536]).is_ok() {}
                },
            );
        let socket = sockeye::connect_with(peer.address(), options(authority())).unwrap();
        let reading = spawn_call({
            let socket = socket.clone();
            move || line(&socket, MAX)
        });
        eventually(PROMPT, "the flood arrives", || socket.stats().bytes_read > 1 << 20);
        // A reader that yields lets a call wait for 0.1 ms, and one that does not for 3 ms. A busy machine adds to
        // that.
        let mut medians = (0..5).map(|_| median_wait(&socket));
        let is_short = |wait: Duration| wait < Duration::from_micros(500);
        assert!(medians.any(is_short), "changes of the deadline wait for the peer to pause");
        assert!(reading.is_running(), "the line has no end");
        let ((), took) = timed(|| socket.abort());
        assert!(took < ms(100), "an abort waited for {took:?}");
        assert_eq!(crate_kind(&reading.join().unwrap_err()), sockeye::ErrorKind::Closed);
        peer.finish();
    });
}

/// Counts the receives and waits in the log of strace.
#[cfg(target_os = "linux")]
fn calls(log: &str) -> usize {
    log.lines().filter(|line| line.contains("recvfrom(") || line.contains("poll(")).count()
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipelined_line_takes_two_system_calls() {
    const NAME: &str = "read_until::a_pipelined_line_takes_two_system_calls";
    let log = strace::run(NAME, &["-e", "trace=recvfrom,poll,ppoll"], || {
        let (socket, mut peer) = pair(SocketOptions::new());
        socket.opened().expect("the peer accepts");
        peer.write_all(&b"line\n".repeat(100)).expect("the socket is there");
        for _ in 0..100 {
            assert_eq!(line(&socket, 100).unwrap(), b"line\n");
        }
        socket.abort();
    });
    if let Some(log) = log {
        // And perhaps one of the monitor.
        assert!((200..=202).contains(&calls(&log)), "{} calls", calls(&log));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_line_of_a_dialogue_takes_at_most_three_system_calls() {
    const NAME: &str = "read_until::a_line_of_a_dialogue_takes_at_most_three_system_calls";
    let log = strace::run(NAME, &["-e", "trace=recvfrom,poll,ppoll"], || {
        let (socket, peer) = pair(SocketOptions::new());
        // A file reads by another system call.
        let mut peer = std::fs::File::from(std::os::fd::OwnedFd::from(peer));
        let answering = spawn_call(move || {
            while peer.read(&mut [0]).is_ok_and(|bytes| bytes == 1) {
                // So that the reader waits.
                std::thread::sleep(Duration::from_micros(300));
                peer.write_all(b"line\n").expect("the socket reads");
            }
        });
        for _ in 0..100 {
            (&socket).write_all(b"?").expect("the peer reads");
            assert_eq!(line(&socket, 100).unwrap(), b"line\n");
        }
        socket.close().expect("the peer reads");
        answering.join();
    });
    if let Some(log) = log {
        // A blocking receive that times out, on a slow machine, costs one more.
        assert!((200..=330).contains(&calls(&log)), "{} calls", calls(&log));
    }
}
