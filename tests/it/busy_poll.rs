//! `busy_poll`: spinning before a wait.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sockeye::{Socket, SocketOptions, TcpOptions};

use crate::support::net;
use crate::support::peer::listen;
#[cfg(target_os = "linux")]
use crate::support::spawn_blocked;
use crate::support::tls::{TlsPeer, authority, options, server_config};
use crate::support::{
    assert_fails, assert_times_out, ms, past_instant, read_exactly, spawn_call, timed,
    with_watchdog,
};

const LONGEST: Duration = ms(10);

fn pair(options: SocketOptions) -> (Socket, TcpStream) {
    let listener = listen();
    let address = listener.local_addr().expect("it is bound");
    let socket = sockeye::connect_with(address, options).expect("the options are valid");
    let (peer, _) = listener.accept().expect("the socket connects");
    net::set_nodelay(&peer).expect("it is connected");
    (socket, peer)
}

fn spinning(limit: Duration) -> SocketOptions {
    SocketOptions::new().tcp(TcpOptions::new().busy_poll(limit))
}

#[test]
fn limits_out_of_range_are_refused() {
    with_watchdog(|| {
        let (socket, _peer) = pair(spinning(LONGEST));
        let nano = Duration::from_nanos(1);
        for limit in [Duration::ZERO, Duration::from_nanos(999), LONGEST + nano] {
            let refused = sockeye::connect_with("127.0.0.1:1", spinning(limit)).map(drop);
            assert_fails(refused, sockeye::ErrorKind::InvalidOptions);
            let refused = socket.set_busy_poll(Some(limit));
            assert_fails(refused, sockeye::ErrorKind::InvalidOptions);
        }
        for limit in [Some(Duration::from_micros(1)), Some(LONGEST), None] {
            socket.set_busy_poll(limit).unwrap();
        }
    });
}

#[test]
fn a_dialogue_works_as_without() {
    with_watchdog(|| {
        let (mut socket, peer) = pair(spinning(ms(1)));
        let echoing = spawn_call(move || {
            let mut buf = [0; 64];
            loop {
                match (&peer).read(&mut buf).unwrap() {
                    0 => return,
                    bytes => (&peer).write_all(&buf[..bytes]).unwrap(),
                }
            }
        });
        for round in 0..2000_u32 {
            match round {
                500 => socket.set_busy_poll(None).unwrap(),
                1000 => socket.set_busy_poll(Some(Duration::from_micros(20))).unwrap(),
                // The peer answers late, so the socket stands down.
                1500 => socket.set_busy_poll(Some(Duration::from_micros(1))).unwrap(),
                _ => {}
            }
            let message = round.to_be_bytes();
            socket.write_all(&message).unwrap();
            assert_eq!(read_exactly(&socket, 4).unwrap(), message);
        }
        socket.close().unwrap();
        echoing.join();
    });
}

#[test]
fn over_tls_and_after_an_upgrade_it_works_too() {
    with_watchdog(|| {
        let peer = TlsPeer::echoes(&server_config());
        let tcp = TcpOptions::new().busy_poll(ms(1));
        let mut socket =
            sockeye::connect_with(peer.address(), options(authority()).tcp(tcp)).unwrap();
        for round in 0..300_u32 {
            let message = round.to_be_bytes();
            socket.write_all(&message).unwrap();
            assert_eq!(read_exactly(&socket, 4).unwrap(), message);
        }
        socket.writer().close().unwrap();
        assert_eq!(socket.read(&mut [0]).unwrap(), 0);
        peer.finish();
    });
}

/// A spin takes up to 10 ms here, so a call that ends it late would be noticed.
#[test]
fn a_close_and_a_deadline_end_a_spin() {
    with_watchdog(|| {
        // The best of each, because other tests may have the processors for a while.
        let mut best = [Duration::MAX; 3];
        for round in 0..60 {
            let (socket, _peer) = pair(spinning(LONGEST));
            socket.opened().unwrap();
            let reading = spawn_call({
                let socket = socket.clone();
                move || {
                    let result = (&socket).read(&mut [0]);
                    (result, Instant::now())
                }
            });
            // In the middle of the first spin.
            std::thread::sleep(ms(3));
            let begun = Instant::now();
            match round % 3 {
                0 => socket.close().unwrap(),
                1 => socket.abort(),
                _ => socket.set_read_deadline(Some(past_instant())),
            }
            let (result, ended) = reading.join();
            match round % 3 {
                0 | 1 => assert_fails(result, sockeye::ErrorKind::Closed),
                _ => assert_times_out(result),
            }
            let took = ended.saturating_duration_since(begun);
            best[round % 3] = best[round % 3].min(took);
        }
        // Otherwise each takes the rest of the spin, which is 7 ms.
        assert!(best.iter().all(|took| *took < ms(3)), "{best:?}");
    });
}

#[test]
fn a_deadline_within_the_limit_is_kept() {
    with_watchdog(|| {
        let (socket, _peer) = pair(spinning(LONGEST));
        socket.set_read_timeout(Some(ms(2))).unwrap();
        let mut best = Duration::MAX;
        for _ in 0..20 {
            let (result, took) = timed(|| (&socket).read(&mut [0]));
            assert_times_out(result);
            assert!(took >= ms(2), "{took:?}");
            best = best.min(took);
        }
        assert!(best < ms(9), "{best:?}");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_socket_stands_down() {
    use crate::support::process::processor_time;
    use crate::support::subprocess::in_subprocess;

    in_subprocess("busy_poll::an_idle_socket_stands_down", ms(30_000), || {
        let (socket, mut peer) = pair(spinning(LONGEST));
        // Eight spins without success.
        for _ in 0..8 {
            let reading = spawn_blocked({
                let socket = socket.clone();
                move || read_exactly(&socket, 1)
            });
            peer.write_all(b"x").unwrap();
            reading.join().unwrap();
        }
        let before = processor_time();
        let reading = spawn_blocked({
            let socket = socket.clone();
            move || read_exactly(&socket, 1)
        });
        std::thread::sleep(ms(500));
        peer.write_all(b"x").unwrap();
        reading.join().unwrap();
        let took = processor_time() - before;
        assert!(took < ms(20), "{took:?} for a wait of 500 ms");
    });
}
