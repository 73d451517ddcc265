//! What the event loop keeps registered, and how the load of one socket affects others.
//! Each test inspects or measures its process, so each runs in a process of its own.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sockeye::machine::MAX_IN_FLIGHT;
use sockeye::{Connector, ErrorKind, Socket, SocketOptions, TcpOptions};

use crate::support::flood::{Flood, Flooded, Lateness};
use crate::support::peer::{fill_backlog, listen_on};
use crate::support::process::{descriptors, settled_descriptors};
use crate::support::subprocess::in_subprocess;
use crate::support::tls::{TlsPeer, authority, open, options, server_config};
use crate::support::{Peer, open as open_plain, read};
use crate::support::{
    WATCHDOG, assert_fails, assert_times_out, eventually, ms, raise_descriptor_limit, skip,
    write_until_error,
};

const LONG: Duration = Duration::from_secs(150);

/// EPOLLOUT of epoll(7): the wire is writable.
const EPOLLOUT: u64 = 4;

/// Returns the events for which the loop's epoll descriptor watches this socket, or `None` if it does not.
fn registered(socket: &Socket) -> Option<u64> {
    let descriptor = socket.descriptor().expect("it is connected");
    let descriptor = descriptor.as_fd().as_raw_fd();
    descriptors().into_iter().find_map(|number| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        info.lines().find_map(|line| {
            let mut fields = line.strip_prefix("tfd:")?.split_whitespace();
            let watched: i32 = fields.next()?.parse().expect("it is a number");
            let events = fields.nth(1)?;
            (watched == descriptor).then(|| u64::from_str_radix(events, 16).expect("hexadecimal"))
        })
    })
}

fn awaits_room(socket: &Socket) -> bool {
    registered(socket).is_some_and(|events| events & EPOLLOUT != 0)
}

/// Writes until the socket accepts no more.
fn fill_up(socket: &Socket) -> usize {
    socket.set_write_timeout(Some(ms(50))).expect("not zero");
    let (taken, failure) = write_until_error(socket, b'w', usize::MAX);
    assert_times_out::<()>(Err(failure.expect("the peer does not read")));
    taken
}

#[test]
#[cfg_attr(sockeye_condvar, ignore = "this build registers a wire once, for all events")]
fn a_socket_is_watched_for_writability_only_while_data_is_queued() {
    const NAME: &str = "event_loop::a_socket_is_watched_for_writability_only_while_data_is_queued";
    in_subprocess(NAME, LONG, || {
        let peer = TlsPeer::secured(&server_config(), |peer| peer.wait_signal());
        let socket =
            open(&peer, options(authority()).tcp(TcpOptions::new().send_buffer_size(4096)));
        eventually(WATCHDOG, "it is watched for the peer's end", || registered(&socket).is_some());
        let idle = registered(&socket);
        assert!(!awaits_room(&socket), "{idle:x?}");

        let taken = fill_up(&socket);
        eventually(WATCHDOG, "the loop waits until the wire is writable", || awaits_room(&socket));
        peer.signal();
        eventually(WATCHDOG, "everything is sent", || registered(&socket) == idle);
        socket.close().expect("the peer reads");
        assert_eq!(peer.finish().bytes.len(), taken);
    });
}

/// A thread without a wake handle relies on the loop, which watches the wire in both directions for it.
#[test]
#[cfg_attr(sockeye_condvar, ignore = "this build registers a wire once, for all events")]
fn a_socket_is_watched_for_a_thread_without_a_wake_handle_only_while_it_waits() {
    const NAME: &str =
        "event_loop::a_socket_is_watched_for_a_thread_without_a_wake_handle_only_while_it_waits";
    in_subprocess(NAME, LONG, || {
        let peer = Peer::scripted(|wire| {
            wire.send(b"-");
            for byte in [b"a", b"b"] {
                wire.wait_signal();
                wire.send(byte);
            }
        });
        let socket = open_plain(&peer);
        // The peer is a thread of this process, so it needs its descriptor before the limit is lowered. This thread
        // must not wait before that, or it would create a wake handle.
        let first = thread::scope(|scope| scope.spawn(|| read(&socket, 1)).join());
        assert_eq!(first.expect("it does not panic").expect("the peer sends"), b"-");
        let limit = getrlimit(Resource::Nofile);
        let none = Rlimit { current: Some(0), maximum: limit.maximum };
        setrlimit(Resource::Nofile, none).expect("a limit may be lowered");
        socket.set_read_timeout(Some(ms(100))).expect("not zero");
        assert_times_out(read(&socket, 1));
        setrlimit(Resource::Nofile, limit).expect("a limit may be raised to its maximum");
        assert!(awaits_room(&socket), "the thread had no handle");
        peer.signal();
        eventually(WATCHDOG, "no thread waits any more", || !awaits_room(&socket));
        socket.set_read_timeout(None).expect("`None` removes the limit");
        assert_eq!(read(&socket, 9).expect("the peer sends"), b"a");
        peer.signal();
        assert_eq!(read(&socket, 9).expect("the peer sends"), b"b");
        socket.close().expect("the peer reads");
    });
}

// -------------------------------------------------------------------- floods

/// Compares the delay of other sockets with and without a flood. `tests/faults` has the same cases for an idle machine,
/// with figures.
fn others_are_served_beside(name: &str, flood: Flood, count: usize) {
    if !raise_descriptor_limit(2 * count as u64 + 200) {
        return skip(name, "the limit of descriptors is too low");
    }
    in_subprocess(name, LONG, || {
        let before = Lateness::measure(9);
        let flooded = Flooded::begin(flood, count);
        let beside = Lateness::measure(9);
        // The test harness captures `println!` in passing tests but not this.
        let _ = writeln!(
            std::io::stderr(),
            "{count} x {flood:?}: {} MiB sent, {} open; delay before {:?}, during {:?}, worst {:?}",
            flooded.sent() >> 20,
            flooded.standing(),
            before.medians(),
            beside.medians(),
            beside.worst(),
        );
        for (before, beside) in before.medians().into_iter().zip(beside.medians()) {
            assert!(
                beside < before + ms(750),
                "delayed by {beside:?}, without the flood by {before:?}"
            );
        }
    });
}

#[test]
fn others_are_served_during_a_flood_of_plaintext() {
    const NAME: &str = "event_loop::others_are_served_during_a_flood_of_plaintext";
    others_are_served_beside(NAME, Flood::Plaintext, 500);
}

#[test]
fn others_are_served_during_a_flood_of_records() {
    const NAME: &str = "event_loop::others_are_served_during_a_flood_of_records";
    others_are_served_beside(NAME, Flood::Records, 100);
}

#[test]
fn others_are_served_during_a_flood_of_tickets() {
    const NAME: &str = "event_loop::others_are_served_during_a_flood_of_tickets";
    others_are_served_beside(NAME, Flood::Tickets(2_000), 64);
}

#[test]
fn others_are_served_during_a_flood_of_key_updates() {
    const NAME: &str = "event_loop::others_are_served_during_a_flood_of_key_updates";
    others_are_served_beside(NAME, Flood::KeyUpdates, 64);
}

// -------------------------------------------------------------------- descriptors

#[test]
fn a_name_with_many_silent_addresses_holds_eight_descriptors() {
    const NAME: &str = "event_loop::a_name_with_many_silent_addresses_holds_eight_descriptors";
    const SOCKETS: usize = 5;
    in_subprocess(NAME, LONG, || {
        // Every loopback address leads to this listener.
        let hole = fill_backlog(listen_on((Ipv4Addr::UNSPECIFIED, 0).into(), 0, None));
        let addresses = |_: &str| Ok((1..=64).map(|n| [127, 1, 0, n].into()).collect());
        let connector = Connector::builder().resolver(addresses).build().expect("they are valid");
        // Descriptors that the loop and this thread keep are not counted.
        let first = sockeye::connect(hole.address).expect("the address is valid");
        times_out_opening(&first);
        first.abort();
        let before = settled_descriptors();
        let options = SocketOptions::new().connect_timeout(ms(4_000));
        let sockets: Vec<_> = (0..SOCKETS)
            .map(|_| {
                let address = ("many.example", hole.address.port());
                connector.connect_with(address, options.clone()).expect("it is valid")
            })
            .collect();
        let begun = Instant::now();
        let mut most = 0;
        while begun.elapsed() < ms(3_500) {
            most = most.max(descriptors().len());
            thread::sleep(ms(20));
        }
        // Each socket opens a new attempt before it closes its oldest one.
        let bound = before + SOCKETS * (MAX_IN_FLIGHT + 1);
        assert!(most >= before + SOCKETS * MAX_IN_FLIGHT, "{most} descriptors, {before} before");
        assert!(most <= bound, "{most} descriptors, {before} before");
        for socket in &sockets {
            let error = socket.opened().expect_err("the peer does not answer");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let attempts = error.attempts();
            assert!(attempts.len() > MAX_IN_FLIGHT, "{attempts:?}");
            assert!(attempts.iter().all(|one| one.error().kind() == ErrorKind::TimedOut));
            let first = attempts[0].error().to_string();
            assert!(first.contains("cancelled for the next address"), "{first}");
            let last = attempts[attempts.len() - 1].error().to_string();
            assert!(!last.contains("cancelled"), "{last}");
        }
        eventually(WATCHDOG, "the descriptors are closed", || descriptors().len() <= before);
    });
}

#[track_caller]
fn times_out_opening(socket: &Socket) {
    assert_fails(socket.opened_timeout(ms(20)), ErrorKind::TimedOut);
}

#[test]
fn connections_that_linger_hold_an_eighth_of_the_descriptors() {
    const NAME: &str = "event_loop::connections_that_linger_hold_an_eighth_of_the_descriptors";
    const COUNT: usize = 500;
    if !raise_descriptor_limit(1_600) {
        return skip(NAME, "the limit of descriptors is too low");
    }
    in_subprocess(NAME, LONG, || {
        let limit = Rlimit { current: Some(1_600), maximum: getrlimit(Resource::Nofile).maximum };
        setrlimit(Resource::Nofile, limit).expect("a limit may be lowered");
        let listener = listen_on((Ipv4Addr::LOCALHOST, 0).into(), 1_024, None);
        let address = listener.local_addr().expect("it listens");
        let connect = || {
            let socket = sockeye::connect(address).expect("the address is valid");
            socket.opened().expect("it listens");
            socket
        };
        drop(connect());
        let mut accepted = vec![listener.accept().expect("the listener accepts").0];
        let before = descriptors().len() - accepted.len();
        let mut most = 0;
        for number in 0..COUNT {
            let socket = connect();
            accepted.push(listener.accept().expect("the listener accepts").0);
            socket.close().expect("nothing waits to be sent");
            if number % 10 == 0 {
                most = most.max(descriptors().len() - accepted.len() - before);
            }
        }
        // The socket that was closed first may be among those counted before.
        assert!(most <= 201, "{most} connections linger");
        assert!(most >= 100, "{most} connections linger");
    });
}

/// Returns how often the event loop has slept so far.
fn sleeps_of_the_loop() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux has it");
    let tasks = tasks.map(|task| task.expect("it stays readable").path());
    let is_loop = |path: &PathBuf| {
        fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() == "sockeye-loop")
    };
    let path = tasks.into_iter().find(is_loop).expect("the loop has started");
    let status = fs::read_to_string(path.join("status")).expect("the loop does not end");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.expect("Linux reports it").trim().parse().expect("it is a number")
}

/// The calling thread makes the handshake, and its timer begins only if it takes long.
#[test]
#[cfg_attr(
    any(sockeye_bsd, sockeye_condvar, sockeye_pending),
    ignore = "in this build the loop takes part in every connect"
)]
fn quick_handshakes_do_not_wake_the_event_loop() {
    const NAME: &str = "event_loop::quick_handshakes_do_not_wake_the_event_loop";
    const COUNT: u64 = 40;
    in_subprocess(NAME, LONG, || {
        let connect = || {
            let peer = TlsPeer::secured(&server_config(), |peer| peer.wait_signal());
            (open(&peer, options(authority())), peer)
        };
        let _first = connect();
        let before = sleeps_of_the_loop();
        let connections: Vec<_> = (0..COUNT).map(|_| connect()).collect();
        let slept = sleeps_of_the_loop() - before;
        assert_eq!(connections.len() as u64, COUNT);
        assert!(slept < COUNT / 2, "the loop slept {slept} times during {COUNT} handshakes");
    });
}
