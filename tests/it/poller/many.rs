//! Many sockets in one poller.

use std::io::Write;
use std::time::Duration;

use sockeye::{Events, Poller, Socket, listen};

use super::{READABLE, assert_events, assert_quiet, drain, pair};
use crate::support::process::{own_memory, processor_time};
use crate::support::subprocess::in_subprocess;
use crate::support::{PROMPT, eventually, raise_descriptor_limit, read_exactly, skip};

/// Both ends of 5,000 connections are in the poller.
#[test]
fn ten_thousand_idle_sockets_give_no_event() {
    const CONNECTIONS: usize = 5_000;
    let name = "poller::many::ten_thousand_idle_sockets_give_no_event";
    in_subprocess(name, Duration::from_secs(120), || {
        if !raise_descriptor_limit(2 * CONNECTIONS as u64 + 100) {
            return skip("poller/many", "10,000 descriptors are not available");
        }
        let poller = Poller::new().unwrap();
        let sockets = connections(CONNECTIONS);
        for (socket, key) in sockets.iter().zip(0..) {
            poller.add(socket, key, READABLE).unwrap();
        }
        assert_eq!(poller.len(), 2 * CONNECTIONS);
        let mut events = Events::with_capacity(1000);
        // The event loop registers them all.
        assert_eq!(poller.wait(&mut events, Duration::from_secs(1)).unwrap(), 0);
        let before = processor_time();
        assert_eq!(poller.wait(&mut events, Duration::from_secs(2)).unwrap(), 0);
        let took = processor_time() - before;
        assert!(took < Duration::from_millis(20), "idle sockets took {took:?}");
        // One message from one of them to another.
        assert_eq!(sockets[4321].try_write(b"x").unwrap(), 1);
        assert_eq!(poller.wait(&mut events, 10 * PROMPT).unwrap(), 1);
        assert_eq!(events.iter().next().map(|event| event.key), Some(4320));
        drop(sockets);
        assert!(poller.is_empty());
    });
}

#[test]
fn a_key_takes_little_memory() {
    const CONNECTIONS: usize = 5_000;
    let name = "poller::many::a_key_takes_little_memory";
    in_subprocess(name, Duration::from_secs(120), || {
        if !raise_descriptor_limit(2 * CONNECTIONS as u64 + 100) {
            return skip("poller/many", "10,000 descriptors are not available");
        }
        let poller = Poller::new().unwrap();
        let sockets = connections(CONNECTIONS);
        // The event loop registers the idle sockets.
        let mut events = Events::with_capacity(1);
        assert_eq!(poller.wait(&mut events, Duration::from_secs(1)).unwrap(), 0);
        let before = own_memory();
        for (socket, key) in sockets.iter().zip(0..) {
            poller.add(socket, key, READABLE).unwrap();
        }
        let took = (own_memory() - before) / poller.len();
        assert!(took <= 96, "{took} bytes for each key");
    });
}

/// Returns both ends of `count` connections.
fn connections(count: usize) -> Vec<Socket> {
    let listener = listen("127.0.0.1:0").unwrap();
    let address = listener.local_address().unwrap();
    let sockets: Vec<Socket> = (0..count)
        .flat_map(|_| {
            let socket = sockeye::connect(address).unwrap();
            [socket, listener.accept().unwrap()]
        })
        .collect();
    for socket in &sockets {
        socket.opened().unwrap();
    }
    sockets
}

/// The number of times that the event loop has slept.
fn sleeps_of_the_event_loop() -> u64 {
    let of = |path: std::path::PathBuf| {
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        let count =
            status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        (name.trim() == "sockeye-loop").then(|| count.trim().parse().expect("it is a number"))
    };
    // A thread has its name once it runs.
    let mut found = None;
    eventually(PROMPT, "the event loop runs", || {
        let mut tasks = std::fs::read_dir("/proc/self/task").expect("Linux has the folder");
        found = tasks.find_map(|task| of(task.ok()?.path()));
        found.is_some()
    });
    found.expect("it was just found")
}

/// A worker reads a socket whose key is disarmed. That costs no more than without a poller.
#[test]
#[cfg_attr(sockeye_condvar, ignore = "in this build the event loop reports data to readers")]
fn while_a_key_is_disarmed_data_does_not_wake_the_event_loop() {
    const ROUNDS: usize = 500;
    let name = "poller::many::while_a_key_is_disarmed_data_does_not_wake_the_event_loop";
    in_subprocess(name, Duration::from_secs(60), || {
        let (socket, mut peer) = pair();
        let poller = Poller::new().unwrap();
        poller.add(&socket, 7, READABLE).unwrap();
        peer.write_all(b"x").unwrap();
        assert_events(&poller, ["7r"]);
        assert_eq!(drain(&socket), b"x");
        let before = sleeps_of_the_event_loop();
        for _ in 0..ROUNDS {
            peer.write_all(b"y").unwrap();
            assert_eq!(read_exactly(&socket, 1).unwrap(), b"y");
        }
        let sleeps = sleeps_of_the_event_loop() - before;
        assert!(sleeps < ROUNDS as u64 / 10, "{sleeps} in {ROUNDS} reads");
        poller.modify(7, READABLE).unwrap();
        assert_quiet(&poller);
        peer.write_all(b"z").unwrap();
        assert_events(&poller, ["7r"]);
        // The end is reported although the key is disarmed, and although the event loop has narrowed its registration.
        peer.write_all(b"z").unwrap();
        assert_eq!(read_exactly(&socket, 2).unwrap(), b"zz");
        drop(peer);
        assert_events(&poller, ["7c"]);
    });
}
