//! Waits for connections, and what ends them.

use std::collections::HashSet;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use sockeye::ErrorKind;

use super::{accept, address_of, assert_talks, client_of, local};
use crate::support::net;
use crate::support::{
    PROMPT, WATCHDOG, assert_fails, at_once, ms, past_instant, spawn_blocked, spawn_call, timed,
    with_watchdog,
};

#[test]
fn a_blocked_accept_returns_the_next_client() {
    with_watchdog(|| {
        let listener = local();
        for _ in 0..50 {
            let acceptor = listener.clone();
            let accepting = spawn_call(move || acceptor.accept());
            let client = client_of(&listener);
            let socket = accepting.join().expect("a client has connected");
            assert_talks(&client, &socket);
        }
    });
}

#[test]
fn a_timeout_ends_an_accept_and_zero_does_not_wait() {
    with_watchdog(|| {
        let listener = local();
        let (result, took) = timed(|| listener.accept_timeout(ms(50)));
        let error = result.unwrap_err();
        assert!(error.is_retryable() && error.kind() == ErrorKind::TimedOut, "{error}");
        assert!(took >= ms(50) && took < PROMPT, "{took:?}");
        assert_fails(at_once(|| listener.accept_timeout(Duration::ZERO)), ErrorKind::TimedOut);
        let client = client_of(&listener);
        let socket = listener.accept_timeout(Duration::ZERO).expect("a client is there");
        assert_talks(&client, &socket);
        assert_fails(listener.accept_timeout(Duration::ZERO), ErrorKind::TimedOut);
    });
}

/// Calls that found no client let the next ones wait first, but not if they may not wait.
#[test]
fn a_call_that_may_not_wait_tries_once() {
    with_watchdog(|| {
        let listener = local();
        for _ in 0..100 {
            assert_fails(listener.accept_timeout(Duration::ZERO), ErrorKind::TimedOut);
        }
        for _ in 0..10 {
            let client = client_of(&listener);
            let socket = listener.accept_timeout(Duration::ZERO).expect("a client is there");
            assert_talks(&client, &socket);
            assert_fails(listener.accept_timeout(Duration::ZERO), ErrorKind::TimedOut);
        }
    });
}

#[test]
fn a_deadline_in_the_past_wins_over_a_client_that_is_there() {
    with_watchdog(|| {
        let listener = local();
        let client = client_of(&listener);
        listener.set_accept_deadline(Some(past_instant()));
        assert!(listener.accept_deadline().is_some());
        for _ in 0..3 {
            let error = at_once(|| listener.accept()).unwrap_err();
            assert!(error.is_retryable() && error.kind() == ErrorKind::TimedOut, "{error}");
            assert_fails(listener.accept_timeout(PROMPT), ErrorKind::TimedOut);
        }
        let socket = listener.incoming().next().expect("an iterator ignores the deadline");
        assert_talks(&client, &socket);
        listener.set_accept_deadline(None);
        let client = client_of(&listener);
        assert_talks(&client, &listener.accept().expect("there is no deadline"));
    });
}

#[test]
fn a_deadline_applies_to_accepts_that_are_blocked() {
    with_watchdog(|| {
        let listener = local();
        let accepting: Vec<_> = (0..3)
            .map(|_| {
                let listener = listener.clone();
                spawn_blocked(move || listener.accept())
            })
            .collect();
        listener.set_accept_deadline(Some(Instant::now() + ms(50)));
        for call in accepting {
            assert_fails(call.join_within(PROMPT), ErrorKind::TimedOut);
        }
        let acceptor = listener.clone();
        listener.set_accept_deadline(Some(Instant::now() + WATCHDOG));
        let call = spawn_blocked(move || acceptor.accept());
        listener.set_accept_deadline(Some(past_instant()));
        assert_fails(call.join_within(PROMPT), ErrorKind::TimedOut);
    });
}

/// The thread that has the turn gives up, and another one waits for it.
#[test]
fn the_turn_passes_to_another_thread() {
    with_watchdog(|| {
        let listener = local();
        let first = listener.clone();
        let first = spawn_blocked(move || first.accept_timeout(ms(100)));
        let second = listener.clone();
        let second = spawn_blocked(move || second.accept());
        assert_fails(first.join(), ErrorKind::TimedOut);
        let client = client_of(&listener);
        assert_talks(&client, &second.join().expect("a client has connected"));
    });
}

#[test]
fn many_threads_accept_each_client_once() {
    const THREADS: usize = 8;
    const CLIENTS: usize = 400;
    with_watchdog(|| {
        let listener = local();
        let seen = Mutex::new(HashSet::new());
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for socket in &listener {
                        let remote = socket.opened().unwrap().remote_address().unwrap();
                        assert!(seen.lock().unwrap().insert(remote), "{remote} came twice");
                        socket.close().unwrap();
                    }
                });
            }
            for _ in 0..CLIENTS / 4 {
                let clients: Vec<_> = (0..4).map(|_| client_of(&listener)).collect();
                for mut client in clients {
                    assert_eq!(std::io::Read::read(&mut client, &mut [0]).unwrap(), 0);
                }
            }
            listener.close();
        });
        assert_eq!(seen.into_inner().unwrap().len(), CLIENTS);
        assert_eq!(listener.stats().accepted, CLIENTS as u64);
    });
}

#[test]
fn close_ends_64_blocked_accepts() {
    with_watchdog(|| {
        let delays = delays_of_a_close(64);
        println!("close ended 64 accepts within {:?} (median), {:?} (all)", delays[32], delays[63]);
        // A quiet machine needs less than 100 us, which `figures` checks.
        assert!(delays[32] < ms(100) && delays[63] < PROMPT, "{delays:?}");
    });
}

/// Returns the times between a close and the end of each of `count` blocked accepts, in ascending order.
pub(super) fn delays_of_a_close(count: usize) -> Vec<Duration> {
    let listener = local();
    let calls: Vec<_> = (0..count)
        .map(|_| {
            let listener = listener.clone();
            spawn_blocked(move || (listener.accept().map(drop), Instant::now()))
        })
        .collect();
    let closed_at = Instant::now();
    listener.close();
    let mut delays: Vec<_> = calls
        .into_iter()
        .map(|call| {
            let (result, ended_at) = call.join_within(PROMPT);
            assert_fails(result, ErrorKind::Closed);
            ended_at - closed_at
        })
        .collect();
    delays.sort();
    delays
}

#[test]
fn an_iterator_ends_for_every_thread() {
    with_watchdog(|| {
        let listener = local();
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let listener = listener.clone();
                spawn_blocked(move || {
                    let mut incoming = listener.incoming();
                    (incoming.by_ref().count(), incoming.next().is_none())
                })
            })
            .collect();
        listener.close();
        for call in calls {
            assert_eq!(call.join_within(PROMPT), (0, true));
        }
        listener.closed().expect("the program closed it");
    });
}

/// A thread that waits is woken for a connection, whatever the other threads do.
#[test]
fn accepts_with_short_timeouts_lose_no_client() {
    with_watchdog(|| {
        let listener = local();
        let end = Instant::now() + ms(600);
        let accepted: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut accepted = 0;
                        loop {
                            match listener.accept_timeout(ms(1)) {
                                Ok(socket) => {
                                    accepted += 1;
                                    socket.close().unwrap();
                                }
                                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                                Err(error) => {
                                    assert_eq!(error.kind(), ErrorKind::Closed);
                                    return accepted;
                                }
                            }
                        }
                    })
                })
                .collect();
            let mut clients = 0;
            while Instant::now() < end {
                let mut client = client_of(&listener);
                assert_eq!(std::io::Read::read(&mut client, &mut [0]).unwrap(), 0);
                clients += 1;
            }
            listener.close();
            let accepted = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
            assert_eq!(clients, accepted);
            accepted
        });
        assert!(accepted > 0);
    });
}

#[test]
fn a_handle_in_use_keeps_the_listener_open() {
    with_watchdog(|| {
        let listener = local();
        let (address, copy) = (address_of(&listener), listener.clone());
        let call = spawn_blocked(move || copy.accept());
        drop(listener);
        let client = super::client(address);
        let socket = call.join().expect("the listener is open");
        assert_talks(&client, &socket);
        drop(socket);
        net::connect(address).expect_err("the last handle was dropped");
    });
}

/// Waits for a client, for a slot, and for a handshake. A lack of descriptors has a test of its own.
#[cfg(target_os = "linux")]
#[test]
fn idle_accepts_use_no_processor_time() {
    use crate::support::process::processor_time;
    use crate::support::subprocess::in_subprocess;
    use sockeye::{AcceptWhen, ListenOptions};

    const NAME: &str = "listener::waiting::idle_accepts_use_no_processor_time";
    in_subprocess(NAME, WATCHDOG, || {
        let at_limit = ListenOptions::new().max_open_sockets(1);
        let opened = ListenOptions::new().accept_when(AcceptWhen::Opened);
        let opening = super::opened::secured(opened.clone());
        let cases = [
            (ListenOptions::new(), false),
            (at_limit, true),
            (opened.clone().max_open_sockets(1), true),
            (opened, false),
        ];
        let (mut clients, mut held) = (Vec::new(), Vec::new());
        let mut calls = Vec::new();
        for (options, is_full) in cases {
            let listener = super::local_with(options);
            if is_full {
                clients.push(client_of(&listener));
                held.push(accept(&listener));
                // With a slot it would be accepted.
                clients.push(client_of(&listener));
            }
            for _ in 0..2 {
                let listener = listener.clone();
                calls.push(spawn_blocked(move || listener.accept().map(drop)));
            }
        }
        let silent = super::local_with(opening);
        let _silent_client = client_of(&silent);
        calls.push(spawn_blocked(move || silent.accept().map(drop)));
        // On a busy machine the first of these may see the calls begin. A spin would show in each.
        let mut used = Duration::MAX;
        for _ in 0..3 {
            let before = processor_time();
            thread::sleep(ms(2_000));
            used = used.min(processor_time() - before);
        }
        println!("{} idle accepts used {used:?} of a processor in 2 s", calls.len());
        assert!(used <= ms(20), "{used:?}");
        assert!(calls.iter().all(|call| call.is_running()));
    });
}

#[test]
fn an_accept_after_the_end_fails_at_once() {
    with_watchdog(|| {
        let listener = local();
        listener.close();
        for _ in 0..2 {
            assert_fails(at_once(|| listener.accept()), ErrorKind::Closed);
            assert_fails(at_once(|| listener.accept_timeout(PROMPT)), ErrorKind::Closed);
            assert!(listener.incoming().next().is_none());
        }
        let listener = local();
        let _client = client_of(&listener);
        drop(accept(&listener));
    });
}
