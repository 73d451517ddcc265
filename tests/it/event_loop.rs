//! What the event loop keeps registered, and what one socket's load is to another.
//!
//! Each test looks at what belongs to its process, or measures it, and so has one for itself.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use sockeye::{Socket, TcpOptions};

use crate::support::alone::alone;
use crate::support::flood::{Flood, Flooded, Lateness};
use crate::support::process::descriptors;
use crate::support::tls::{TlsPeer, authority, open, options, terms};
use crate::support::{PATIENCE, eventually, ms, pour, room_for_descriptors, skip, times_out};

const LONG: Duration = Duration::from_secs(150);

/// The bit of epoll(7) for room to send.
const EPOLLOUT: u64 = 4;

/// What the loop's epoll descriptor has registered for this socket, `None` where that is nothing.
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

/// Writes until nothing more is accepted.
fn fill_up(socket: &Socket) -> usize {
    socket.set_write_timeout(Some(ms(50))).expect("not zero");
    let (taken, failure) = pour(socket, b'w', usize::MAX);
    times_out::<()>(Err(failure.expect("nobody reads")));
    taken
}

#[test]
#[cfg_attr(sockeye_condvar, ignore = "there a wire is registered once, for all there is")]
fn a_socket_is_watched_for_room_only_while_something_waits_to_be_sent() {
    const NAME: &str =
        "event_loop::a_socket_is_watched_for_room_only_while_something_waits_to_be_sent";
    alone(NAME, LONG, || {
        let peer = TlsPeer::secured(&terms(), |peer| peer.await_cue());
        let socket =
            open(&peer, options(authority()).tcp(TcpOptions::new().send_buffer_size(4096)));
        eventually(PATIENCE, "it is watched for the peer's end", || registered(&socket).is_some());
        let idle = registered(&socket);
        assert!(!awaits_room(&socket), "{idle:x?}");

        let taken = fill_up(&socket);
        eventually(PATIENCE, "the loop waits for room", || awaits_room(&socket));
        peer.cue();
        eventually(PATIENCE, "all is sent, and nothing waits", || registered(&socket) == idle);
        socket.close().expect("the peer reads");
        assert_eq!(peer.ending().bytes.len(), taken);
    });
}

// -------------------------------------------------------------------- floods

/// The same on a quiet machine, with figures, is among the cases of `tests/faults`.
fn others_are_served_beside(name: &str, flood: Flood, count: usize) {
    if !room_for_descriptors(2 * count as u64 + 200) {
        return skip(name, "the limit of descriptors is too low");
    }
    alone(name, LONG, || {
        let before = Lateness::measure(9);
        let flooded = Flooded::begin(flood, count);
        let beside = Lateness::measure(9);
        // Past the harness that swallows the output of passing tests.
        let _ = writeln!(
            std::io::stderr(),
            "{count} x {flood:?}: {} MiB sent, {} stand; late before {:?}, beside {:?}, worst {:?}",
            flooded.sent() >> 20,
            flooded.standing(),
            before.medians(),
            beside.medians(),
            beside.worst(),
        );
        for (before, beside) in before.medians().into_iter().zip(beside.medians()) {
            assert!(beside < before + ms(250), "{beside:?} late, and {before:?} without the flood");
        }
    });
}

#[test]
fn others_are_served_beside_a_flood_of_plaintext() {
    const NAME: &str = "event_loop::others_are_served_beside_a_flood_of_plaintext";
    others_are_served_beside(NAME, Flood::Plaintext, 500);
}

#[test]
fn others_are_served_beside_a_flood_of_records() {
    const NAME: &str = "event_loop::others_are_served_beside_a_flood_of_records";
    others_are_served_beside(NAME, Flood::Records, 100);
}

#[test]
fn others_are_served_beside_a_flood_of_tickets() {
    const NAME: &str = "event_loop::others_are_served_beside_a_flood_of_tickets";
    others_are_served_beside(NAME, Flood::Tickets(2_000), 64);
}

#[test]
fn others_are_served_beside_a_flood_of_new_keys() {
    const NAME: &str = "event_loop::others_are_served_beside_a_flood_of_new_keys";
    others_are_served_beside(NAME, Flood::KeyUpdates, 64);
}
