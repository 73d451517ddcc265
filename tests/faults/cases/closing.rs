//! Faults while a socket closes and still has data to send.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sockeye::{Connector, ErrorKind, Socket};

use crate::case::FaultCase;
use crate::judge::{BlockedCalls, SLACK, fails_not};
use crate::remote::Remote;
use crate::stage::SocketPhase;
use crate::support::{
    WATCHDOG, assert_fails, eventually, fill_send_buffer, ms, small_send_buffer, timed,
    write_until_error,
};

const LIMIT: Duration = ms(700);

pub fn cases() -> Vec<FaultCase> {
    vec![
        FaultCase::new("closing/reset", || breaks_off(|peer| peer.does("reset"))),
        FaultCase::new("closing/killed", || breaks_off(|peer| peer.kill())),
        FaultCase::new("closing/frozen", || {
            let (peer, socket) = stuck();
            peer.stop();
            let begun = Instant::now();
            closes(&socket).assert_ended(begun, LIMIT, ErrorKind::TimedOut);
            assert_fails(socket.closed(), ErrorKind::TimedOut);
            peer.go_on();
        }),
        FaultCase::new("closing/writer-reset", || {
            let (mut peer, socket) = stuck();
            let writer = socket.writer();
            let waiters = BlockedCalls::default().call("Writer::close", move || writer.close());
            let waiters = waiters.read(&socket).closed(&socket);
            let cause = peer.does("reset");
            waiters.at_once(cause, ErrorKind::Reset);
        }),
        FaultCase::new("closing/writer-frozen", || {
            let (mut peer, socket) = stuck();
            peer.stop();
            socket.set_write_timeout(Some(LIMIT)).expect("not zero");
            let writer = socket.writer();
            let begun = Instant::now();
            let waiters = BlockedCalls::default().call("Writer::close", move || writer.close());
            waiters.assert_ended(begun, LIMIT, ErrorKind::TimedOut);
            socket.set_write_timeout(None).expect("none is fine");
            peer.go_on();
            peer.does("over");
            fails_not(socket.writer().close());
            fails_not(socket.closed_timeout(WATCHDOG));
        }),
        FaultCase::new("closing/dropped-and-frozen", || {
            let (peer, socket) = stuck();
            peer.stop();
            let begun = Instant::now();
            drop(socket);
            eventually(2 * LIMIT + SLACK, "its descriptor is closed", || {
                connections_to(peer.address()) == 0
            });
            assert!(begun.elapsed() >= LIMIT, "what it owes is given up too soon");
            peer.go_on();
        }),
        FaultCase::new("closing/dropped-and-reset", || {
            let (mut peer, socket) = stuck();
            drop(socket);
            peer.does("reset");
            eventually(SLACK, "its descriptor is closed", || connections_to(peer.address()) == 0);
        }),
        FaultCase::new("closing/shutdown-with-frozen-peers", || {
            let connector = Connector::builder().build().expect("the rules are fine");
            let mut peers: Vec<Remote> = (0..3).map(|_| Remote::start()).collect();
            let sockets: Vec<Socket> = peers
                .iter_mut()
                .map(|peer| {
                    peer.accept(SocketPhase::OpenTls);
                    let mode = sockeye::SecureTransport::On;
                    let options = peer.secured(small_send_buffer(), mode).close_timeout(WATCHDOG);
                    let socket = connector
                        .connect_with(peer.address(), options)
                        .expect("the options are fine");
                    peer.is_ready();
                    fill_send_buffer(&socket);
                    peer.stop();
                    socket
                })
                .collect();
            let (aborted, took) = timed(|| connector.shutdown(LIMIT));
            assert_eq!(aborted, sockets.len());
            assert!(LIMIT <= took && took <= 2 * LIMIT + SLACK, "it took {took:?}");
            for socket in &sockets {
                assert_fails(socket.closed_timeout(Duration::ZERO), ErrorKind::Closed);
            }
        }),
        FaultCase::new("closing/plain-and-frozen", || {
            let mut peer = Remote::start();
            let socket =
                SocketPhase::Open.reach(&mut peer, small_send_buffer().close_timeout(LIMIT));
            fill_send_buffer(&socket);
            peer.stop();
            let waiters = BlockedCalls::default().read(&socket).write(&socket);
            let begun = Instant::now();
            // The kernel has it all.
            socket.close().expect("there is nothing to hand over");
            waiters.at_once(begun, ErrorKind::Closed);
            fails_not(socket.closed());
            peer.go_on();
            peer.does("over");
        }),
    ]
}

/// Returns a socket that owes its peer sealed records, and a peer that does not read them.
fn stuck() -> (Remote, Socket) {
    let mut peer = Remote::start();
    let socket = SocketPhase::OpenTls.reach(&mut peer, small_send_buffer().close_timeout(LIMIT));
    assert!(fill_send_buffer(&socket) > 0);
    (peer, socket)
}

fn closes(socket: &Socket) -> BlockedCalls {
    let (first, second) = (socket.clone(), socket.clone());
    BlockedCalls::default()
        .call("close", move || first.close())
        .call("again", move || second.close())
}

/// Checks that `close` returns after the fault, and that `closed` returns the error.
fn breaks_off(fault: impl FnOnce(&mut Remote) -> Instant) {
    let (mut peer, socket) = stuck();
    let closing = closes(&socket);
    let waiters = BlockedCalls::default().closed(&socket);
    let cause = fault(&mut peer);
    closing.at_once(cause, None);
    waiters.at_once(cause, ErrorKind::Reset);
    let (_, failure) = write_until_error(&socket, b'w', 1);
    assert!(failure.is_some(), "it is over");
}

/// Counts the sockets of this process that are connected to an address.
fn connections_to(address: SocketAddr) -> usize {
    let remote = match address {
        SocketAddr::V4(v4) => {
            format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port())
        }
        SocketAddr::V6(_) => panic!("an IPv4 address"),
    };
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("Linux has it");
    // The kernel lists connections without a descriptor with inode 0.
    let held = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(2) == Some(&remote.as_str()) && fields.get(9).is_some_and(|inode| *inode != "0")
    };
    table.lines().filter(held).count()
}
