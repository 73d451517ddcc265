//! Waits: their limits, `wake`, several threads, rotation.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sockeye::{Events, Poller};

use super::{READABLE, WRITABLE, assert_events, assert_none, drain, pair, text, wait};
use crate::support::{
    PROMPT, Peer, fill_send_buffer, ms, open_with, past_instant, small_send_buffer, spawn_blocked,
    timed, with_watchdog,
};

#[test]
fn a_limit_ends_a_wait_without_events() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let (socket, _peer) = pair();
        poller.add(&socket, 7, READABLE).unwrap();
        let mut events = Events::with_capacity(1);
        let (count, took) = timed(|| poller.wait(&mut events, ms(50)).unwrap());
        assert_eq!(count, 0);
        assert!(took >= ms(50) && took < PROMPT, "{took:?}");
        let (count, took) = timed(|| poller.wait(&mut events, Duration::ZERO).unwrap());
        assert!(count == 0 && took < ms(50), "{took:?}");
        let (count, took) = timed(|| poller.wait_until(&mut events, past_instant()).unwrap());
        assert!(count == 0 && took < ms(50), "{took:?}");
        let until = Instant::now() + ms(50);
        assert_eq!(poller.wait_until(&mut events, until).unwrap(), 0);
        assert!(Instant::now() >= until);
        // What is so is reported, however little time there is. The buffer is cleared first.
        poller.modify(7, WRITABLE).unwrap();
        assert_eq!(poller.wait_until(&mut events, past_instant()).unwrap(), 1);
        assert_eq!(poller.wait(&mut events, Duration::ZERO).unwrap(), 0);
        assert!(events.is_empty());
    });
}

#[test]
fn a_wake_ends_the_current_wait_or_else_the_next() {
    with_watchdog(|| {
        let poller = Arc::new(Poller::new().unwrap());
        let waiting = spawn_blocked({
            let poller = Arc::clone(&poller);
            move || poller.wait(&mut Events::with_capacity(1), None)
        });
        poller.wake();
        assert_eq!(waiting.join().unwrap(), 0);
        for _ in 0..3 {
            poller.wake();
        }
        let mut events = Events::with_capacity(1);
        let (count, took) = timed(|| poller.wait(&mut events, None).unwrap());
        assert!(count == 0 && took < PROMPT, "{took:?}");
        let (count, took) = timed(|| poller.wait(&mut events, ms(50)).unwrap());
        assert!(count == 0 && took >= ms(50), "several wakes end one wait: {took:?}");
    });
}

#[test]
fn a_wait_that_was_woken_returns_what_is_ready() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let (socket, _peer) = pair();
        poller.add(&socket, 7, WRITABLE).unwrap();
        poller.wake();
        assert_events(&poller, ["7w"]);
        let (events, took) = timed(|| wait(&poller, ms(50)));
        assert!(events.is_empty() && took >= ms(50), "the wake is used up: {took:?}");
    });
}

#[test]
fn each_of_several_wakes_ends_one_of_several_waits() {
    with_watchdog(|| {
        let poller = Arc::new(Poller::new().unwrap());
        let wait = || {
            let poller = Arc::clone(&poller);
            spawn_blocked(move || poller.wait(&mut Events::with_capacity(1), None))
        };
        let waits = [wait(), wait(), wait()];
        for _ in 0..3 {
            poller.wake();
        }
        for wait in waits {
            assert_eq!(wait.join().unwrap(), 0);
        }
    });
}

#[test]
fn with_little_room_the_sources_take_turns() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let pairs: Vec<_> = (0..5).map(|_| pair()).collect();
        for ((socket, peer), key) in pairs.iter().zip(0..) {
            (&*peer).write_all(b"x").unwrap();
            // It has arrived, so each source is ready from the start.
            assert_eq!(socket.peek(&mut [0; 1]).unwrap(), 1);
            poller.add(socket, key, READABLE.level()).unwrap();
        }
        let mut counts = BTreeMap::<u64, usize>::new();
        let mut events = Events::with_capacity(1);
        for _ in 0..50 {
            assert_eq!(poller.wait(&mut events, PROMPT).unwrap(), 1);
            events.iter().for_each(|event| *counts.entry(event.key).or_default() += 1);
        }
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [10; 5]);
    });
}

#[test]
fn each_event_goes_to_one_of_several_threads() {
    const ROUNDS: usize = 300;
    with_watchdog(|| {
        let poller = Arc::new(Poller::new().unwrap());
        let (sockets, mut peers): (Vec<_>, Vec<_>) = (0..8).map(|_| pair()).unzip();
        let sockets = Arc::new(sockets);
        for (socket, key) in sockets.iter().zip(0..) {
            poller.add(socket, key, READABLE).unwrap();
        }
        let seen = Arc::new(Mutex::new(0));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (poller, sockets) = (Arc::clone(&poller), Arc::clone(&sockets));
                let seen = Arc::clone(&seen);
                spawn_blocked(move || {
                    let mut events = Events::with_capacity(3);
                    loop {
                        poller.wait(&mut events, None).unwrap();
                        if events.is_empty() {
                            return;
                        }
                        for event in events.iter() {
                            assert_eq!(text(event), format!("{}r", event.key));
                            let socket = &sockets[usize::try_from(event.key).unwrap()];
                            let got = drain(socket).len();
                            assert!(got > 0, "the event belongs to this thread alone");
                            *seen.lock().unwrap() += got;
                            poller.modify(event.key, READABLE).unwrap();
                        }
                    }
                })
            })
            .collect();
        for round in 0..ROUNDS {
            let count = peers.len();
            peers[round * 7 % count].write_all(b"x").unwrap();
            if round % 10 == 0 {
                std::thread::sleep(ms(1));
            }
        }
        crate::support::eventually(10 * PROMPT, "every byte is seen", || {
            *seen.lock().unwrap() == ROUNDS
        });
        threads.iter().for_each(|_| poller.wake());
        threads.into_iter().for_each(|thread| thread.join());
        assert_none(&poller);
    });
}

/// Two threads wait for a level-triggered key. One of them sees the event, reads a part, and does not come back.
#[test]
fn what_a_thread_leaves_unread_is_reported_to_another() {
    with_watchdog(|| {
        let poller = Arc::new(Poller::new().unwrap());
        let (socket, mut peer) = pair();
        poller.add(&socket, 7, READABLE.level()).unwrap();
        let (send, seen) = std::sync::mpsc::channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
        let may_go_on = Arc::new(Mutex::new(may_go_on));
        let threads = [(); 2].map(|()| {
            let (poller, socket) = (Arc::clone(&poller), socket.clone());
            let (send, may_go_on) = (send.clone(), Arc::clone(&may_go_on));
            spawn_blocked(move || {
                assert_eq!(wait(&poller, 10 * PROMPT), ["7r"]);
                send.send(()).unwrap();
                may_go_on.lock().unwrap().recv().unwrap();
                assert_eq!(socket.try_read(&mut [0]).unwrap(), 1);
            })
        });
        peer.write_all(b"12").unwrap();
        seen.recv_timeout(PROMPT).unwrap();
        assert!(seen.recv_timeout(super::QUIET).is_err(), "each event goes to one of them");
        go_on.send(()).unwrap();
        seen.recv_timeout(PROMPT).expect("there is more");
        go_on.send(()).unwrap();
        threads.into_iter().for_each(|thread| thread.join());
        assert_none(&poller);
    });
}

/// The same for room in the send buffer.
#[test]
fn what_a_thread_leaves_unwritten_is_reported_to_another() {
    with_watchdog(|| {
        let poller = Arc::new(Poller::new().unwrap());
        let peer = Peer::not_reading();
        let socket = open_with(&peer, small_send_buffer());
        fill_send_buffer(&socket);
        poller.add(&socket, 7, WRITABLE.level()).unwrap();
        let (send, seen) = std::sync::mpsc::channel();
        let threads = [(); 2].map(|()| {
            let (poller, socket, send) = (Arc::clone(&poller), socket.clone(), send.clone());
            spawn_blocked(move || {
                assert_eq!(wait(&poller, 10 * PROMPT), ["7w"]);
                assert_eq!(socket.try_write(b"x").unwrap(), 1);
                send.send(()).unwrap();
            })
        });
        peer.signal();
        for _ in &threads {
            seen.recv_timeout(PROMPT).unwrap();
        }
        threads.into_iter().for_each(|thread| thread.join());
    });
}
