//! Tiny buffers, peers that never read, and bytes that arrive one at a time.

use std::io::Write;
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Socket, SocketOptions, TcpOptions};

use crate::case::FaultCase;
use crate::judge::{BlockedCalls, fails_not};
use crate::remote::Remote;
use crate::stage::SocketPhase;
use crate::support::peer::listen_with_room;
use crate::support::tls::Opening;
use crate::support::{
    WATCHDOG, assert_bytes_eq, ms, random_bytes, read_exactly, read_to_end, small_send_buffer,
    spawn_call,
};

const LIMIT: Duration = ms(700);

pub fn cases() -> Vec<FaultCase> {
    let mut cases = Vec::new();
    for (way, name) in
        [(Opening::Plain, "plain"), (Opening::On, "tls"), (Opening::Upgraded, "upgraded")]
    {
        cases.push(FaultCase::new(format!("buffers/tiny-{name}"), move || tiny(way)));
        cases.push(FaultCase::new(format!("buffers/short-reads-{name}"), move || short_reads(way)));
        cases.push(FaultCase::new(format!("buffers/short-writes-{name}"), move || {
            short_writes(way)
        }));
    }
    for stage in
        [SocketPhase::Open, SocketPhase::OpenTls, SocketPhase::PeerEnded, SocketPhase::PeerEndedTls]
    {
        cases.push(FaultCase::new(format!("never-reads/{}", stage.name()), move || {
            never_reads(stage);
        }));
    }
    cases
}

fn smallest() -> SocketOptions {
    SocketOptions::new().tcp(TcpOptions::new().recv_buffer_size(1).send_buffer_size(1))
}

/// Sends in both directions at once with the smallest buffers that the kernel allows. The kernel then announces no
/// window, and sends some hundred bytes with each of its probes, at five a second.
fn tiny(way: Opening) {
    const LEN: usize = 12 * 1024;
    let peer =
        way.on(listen_with_room(1), &crate::support::tls::server_config(), |peer| peer.echo());
    let socket = way.open(&peer, smallest());
    let reader = socket.reader();
    let reading = spawn_call(move || read_exactly(reader, LEN).expect("the peer sends"));
    (&socket).write_all(&random_bytes(1, LEN)).expect("the peer reads");
    assert_bytes_eq(&reading.join(), &random_bytes(1, LEN));
    socket.writer().close().expect("the peer reads");
    assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
    fails_not(socket.closed_timeout(WATCHDOG));
    peer.finish();
}

/// Reads from a peer that sends single bytes.
fn short_reads(way: Opening) {
    let peer = way.scripted(move |peer| {
        let sent = random_bytes(2, 700);
        let wire = if way == Opening::Plain { sent } else { peer.sealed(&sent) };
        for byte in wire {
            peer.raw(&[byte]);
        }
        match way {
            Opening::Plain => peer.fin(),
            Opening::On | Opening::Upgraded => peer.ends(),
        }
    });
    let socket = way.open(&peer, smallest());
    assert_bytes_eq(&read_to_end(&socket).expect("a clean end"), &random_bytes(2, 700));
    fails_not(socket.closed_timeout(WATCHDOG));
    peer.finish();
}

/// Writes to a peer that reads little at a time, but everything in the end.
fn short_writes(way: Opening) {
    const LEN: usize = 512 * 1024;
    let setup = crate::support::tls::server_config();
    let peer = way.on(listen_with_room(1), &setup, |peer| peer.read_to_end());
    let socket = way.open(&peer, smallest());
    (&socket).write_all(&random_bytes(3, LEN)).expect("the peer reads");
    socket.close().expect("the peer reads");
    assert_bytes_eq(&peer.finish().bytes, &random_bytes(3, LEN));
}

/// Checks that a write's own limit passes, and that the peer gets all accepted data when it finally reads.
fn never_reads(stage: SocketPhase) {
    let mut peer = Remote::start();
    let socket: Socket = stage.reach(&mut peer, small_send_buffer().write_timeout(LIMIT));
    let begun = Instant::now();
    let writer = socket.writer();
    let writing = spawn_call(move || crate::support::write_until_error(writer, b'w', usize::MAX));
    let (taken, failure) = writing.join_within(WATCHDOG);
    // The kernel accepted some of it before it accepted no more.
    let took = begun.elapsed();
    assert!(taken > 0 && took >= LIMIT, "{taken} bytes in {took:?}");
    crate::support::assert_times_out::<()>(Err(failure.expect("the peer does not read")));
    let begun = Instant::now();
    BlockedCalls::default().write(&socket).assert_ended(begun, LIMIT, ErrorKind::TimedOut);
    super::peer::lives_on(stage, &socket, &mut peer);
}
