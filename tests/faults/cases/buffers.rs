//! Tiny buffers, peers that never read, and bytes that arrive one at a time.

use std::io::Write;
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Socket, SocketOptions, TcpOptions};

use crate::case::FaultCase;
use crate::judge::{BlockedCalls, fails_not};
use crate::remote::Remote;
use crate::stage::{SocketPhase, little_room};
use crate::support::peer::listen_with_room;
use crate::support::tls::Way;
use crate::support::{PATIENCE, call, ms, noise, read_exactly, read_to_end, same};

const LIMIT: Duration = ms(700);

pub fn cases() -> Vec<FaultCase> {
    let mut cases = Vec::new();
    for (way, name) in [(Way::Plain, "plain"), (Way::On, "tls"), (Way::Upgraded, "upgraded")] {
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
fn tiny(way: Way) {
    const LEN: usize = 12 * 1024;
    let peer = way.on(listen_with_room(1), &crate::support::tls::terms(), |peer| peer.echo());
    let socket = way.open(&peer, smallest());
    let reader = socket.reader();
    let reading = call(move || read_exactly(reader, LEN).expect("the peer sends"));
    (&socket).write_all(&noise(1, LEN)).expect("the peer reads");
    same(&reading.join(), &noise(1, LEN));
    socket.writer().close().expect("the peer reads");
    assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
    fails_not(socket.closed_timeout(PATIENCE));
    peer.ending();
}

/// Reads from a peer that sends single bytes.
fn short_reads(way: Way) {
    let peer = way.plays(move |peer| {
        let sent = noise(2, 700);
        let wire = if way == Way::Plain { sent } else { peer.sealed(&sent) };
        for byte in wire {
            peer.raw(&[byte]);
        }
        match way {
            Way::Plain => peer.fin(),
            Way::On | Way::Upgraded => peer.ends(),
        }
    });
    let socket = way.open(&peer, smallest());
    same(&read_to_end(&socket).expect("a clean end"), &noise(2, 700));
    fails_not(socket.closed_timeout(PATIENCE));
    peer.ending();
}

/// Writes to a peer that reads little at a time, but everything in the end.
fn short_writes(way: Way) {
    const LEN: usize = 512 * 1024;
    let terms = crate::support::tls::terms();
    let peer = way.on(listen_with_room(1), &terms, |peer| peer.read_to_end());
    let socket = way.open(&peer, smallest());
    (&socket).write_all(&noise(3, LEN)).expect("the peer reads");
    socket.close().expect("the peer reads");
    same(&peer.ending().bytes, &noise(3, LEN));
}

/// Checks that a write's own limit passes, and that the peer gets all accepted data when it finally reads.
fn never_reads(stage: SocketPhase) {
    let mut peer = Remote::start();
    let socket: Socket = stage.reach(&mut peer, little_room().write_timeout(LIMIT));
    let begun = Instant::now();
    let writer = socket.writer();
    let writing = call(move || crate::support::pour(writer, b'w', usize::MAX));
    let (taken, failure) = writing.join_within(PATIENCE);
    // The kernel accepted some of it before it accepted no more.
    let took = begun.elapsed();
    assert!(taken > 0 && took >= LIMIT, "{taken} bytes in {took:?}");
    crate::support::times_out::<()>(Err(failure.expect("the peer does not read")));
    let begun = Instant::now();
    BlockedCalls::default().write(&socket).told(begun, LIMIT, ErrorKind::TimedOut);
    super::peer::lives_on(stage, &socket, &mut peer);
}
