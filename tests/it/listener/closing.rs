//! Ends of a listener: nothing that was accepted is lost, and what cannot be accepted is reset.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, ListenOptions, Listener, Phase, SocketOptions};

use super::{accept, address_of, assert_client_reset, assert_talks, client_of, local, local_with};
use crate::support::net;
use crate::support::{
    PROMPT, WATCHDOG, assert_fails, at_once, ms, spawn_blocked, spawn_call, with_limit,
    with_watchdog,
};

#[test]
fn close_returns_the_connections_that_are_complete() {
    with_watchdog(|| {
        let listener = local();
        let clients: Vec<_> = (0..5).map(|_| client_of(&listener)).collect();
        at_once(|| listener.close());
        net::connect(address_of(&listener)).expect_err("nothing listens any more");
        assert_fails(listener.closed_timeout(Duration::ZERO), ErrorKind::TimedOut);
        for client in &clients {
            let socket = listener.accept().expect("it was complete");
            let remote = socket.opened().unwrap().remote_address();
            assert_eq!(remote, Some(client.local_addr().unwrap()), "in order of arrival");
            assert_talks(client, &socket);
        }
        assert_fails(listener.accept(), ErrorKind::Closed);
        listener.closed().expect("the program closed it");
        listener.close();
        listener.abort();
        listener.closed().expect("the first outcome stays");
    });
}

#[test]
fn closed_waits_until_nothing_is_left_to_return() {
    with_watchdog(|| {
        let listener = local();
        let _client = client_of(&listener);
        listener.close();
        let waiter = listener.clone();
        let waiting = spawn_blocked(move || waiter.closed());
        drop(listener.accept().expect("it was complete"));
        waiting.join_within(PROMPT).expect("the program closed it");
    });
}

/// A thread that has waited for the end can listen on the same port.
#[test]
fn when_closed_returns_the_address_is_free() {
    let ends: [fn(&Listener); 3] = [Listener::close, Listener::abort, |listener| {
        assert_eq!(listener.shutdown(PROMPT), 0);
    }];
    with_watchdog(move || {
        // No other test can take a port of this address.
        let host = if cfg!(target_os = "linux") { "127.77.0.1" } else { "127.0.0.1" };
        let mut listener = sockeye::listen(format!("{host}:0").as_str()).expect("a port is free");
        let address = address_of(&listener);
        for end in ends.into_iter().cycle().take(150) {
            let waiter = listener.clone();
            let waiting = spawn_call(move || {
                waiter.closed().expect("the program ends it");
                sockeye::listen(address).expect("the address is free")
            });
            let accepting: Vec<_> = (0..2)
                .map(|_| {
                    let listener = listener.clone();
                    spawn_call(move || {
                        assert_fails(listener.accept(), ErrorKind::Closed);
                    })
                })
                .collect();
            end(&listener);
            listener = waiting.join();
            accepting.into_iter().for_each(|call| call.join_within(PROMPT));
        }
    });
}

/// The close sets the backlog, which would make a socket listen that an abort has stopped.
#[cfg(target_os = "linux")]
#[test]
fn nothing_listens_after_a_close_and_an_abort_at_once() {
    with_watchdog(|| {
        for _ in 0..500 {
            let listener = local();
            // It keeps the descriptor open.
            let _descriptor = listener.descriptor().expect("it listens");
            let closer = listener.clone();
            let closing = spawn_call(move || closer.close());
            listener.abort();
            closing.join();
            listener.closed().expect("the program ended it");
            net::connect(address_of(&listener)).expect_err("nothing listens");
        }
    });
}

#[test]
fn abort_resets_the_connections_that_no_thread_accepted() {
    with_watchdog(|| {
        let listener = local();
        let accepted = client_of(&listener);
        let socket = accept(&listener);
        let waiting = client_of(&listener);
        let blocked = listener.clone();
        drop(accept(&blocked));
        drop(waiting);
        let queued = client_of(&listener);
        listener.abort();
        assert_client_reset(queued);
        assert_fails(listener.accept(), ErrorKind::Closed);
        listener.closed().expect("the program ended it");
        assert_talks(&accepted, &socket);

        // Also those that a close has already taken from the system.
        let listener = local();
        let queued = client_of(&listener);
        listener.close();
        listener.abort();
        assert_client_reset(queued);
        listener.closed().expect("nothing is left");
    });
}

#[test]
fn the_last_handle_resets_what_no_thread_can_accept() {
    with_watchdog(|| {
        let listener = local();
        let accepted = client_of(&listener);
        let socket = accept(&listener);
        let queued = client_of(&listener);
        drop(listener);
        assert_client_reset(queued);
        assert_talks(&accepted, &socket);
    });
}

#[test]
fn abort_ends_blocked_accepts() {
    with_watchdog(|| {
        let listener = local();
        let calls: Vec<_> = (0..3)
            .map(|_| {
                let listener = listener.clone();
                spawn_blocked(move || listener.accept())
            })
            .collect();
        listener.abort();
        for call in calls {
            assert_fails(call.join_within(PROMPT), ErrorKind::Closed);
        }
    });
}

#[test]
fn shutdown_closes_the_listener_and_its_sockets() {
    with_watchdog(|| {
        let listener = local();
        let mut clients: Vec<_> = (0..3).map(|_| client_of(&listener)).collect();
        let sockets: Vec<_> = clients.iter().map(|_| accept(&listener)).collect();
        let queued = client_of(&listener);
        assert_eq!(listener.shutdown(PROMPT), 0);
        for (client, socket) in clients.iter_mut().zip(&sockets) {
            assert_eq!(socket.phase(), Phase::Closed);
            assert_eq!(client.read(&mut [0]).expect("a clean end"), 0);
        }
        assert_client_reset(queued);
        assert_fails(listener.accept(), ErrorKind::Closed);
        assert_eq!(listener.open_sockets(), 0);
    });
}

#[test]
fn a_scope_closes_the_sockets_accepted_in_it() {
    with_watchdog(|| {
        let listener = local();
        let outside_client = client_of(&listener);
        let outside = accept(&listener);
        let _clients = [client_of(&listener), client_of(&listener), client_of(&listener)];
        let inside = listener.scope(|scope| {
            vec![
                scope.accept().unwrap(),
                scope.accept_timeout(PROMPT).unwrap(),
                scope.incoming().next().unwrap(),
            ]
        });
        assert!(inside.iter().all(|socket| socket.phase() == Phase::Closed));
        assert_talks(&outside_client, &outside);
        // Connections that a close has taken belong to the scope that accepts them.
        let _client = client_of(&listener);
        listener.close();
        let late = listener.scope(|scope| scope.accept()).unwrap();
        assert_eq!(late.phase(), Phase::Closed);
    });
}

#[test]
fn a_close_returns_at_most_the_backlog() {
    with_watchdog(|| {
        let listener = local_with(ListenOptions::new().backlog(2));
        // The system completes one more than the backlog.
        let clients: Vec<_> = (0..3).map(|_| client_of(&listener)).collect();
        listener.close();
        let returned = listener.incoming().count();
        assert_eq!(returned, 2);
        let reset = clients
            .into_iter()
            .filter_map(|mut client| client.read(&mut [0]).err())
            .filter(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
            .count();
        assert_eq!(reset, 1);
    });
}

/// What a client saw.
#[derive(Default)]
struct Seen {
    served: AtomicUsize,
    refused: AtomicUsize,
    reset: AtomicUsize,
    halfway: AtomicUsize,
    lost: AtomicUsize,
}

impl Seen {
    fn run_client(&self, address: SocketAddr) {
        let Ok(mut stream) = net::connect_timeout(&address, ms(900)) else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if stream.local_addr().ok() == stream.peer_addr().ok() {
            // Nothing listens, and the client's port is the one that it dials.
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let _ = stream.set_read_timeout(Some(3 * PROMPT));
        let mut buf = [0; 2];
        let mut seen = stream.read(&mut buf);
        let mut reset = &self.reset;
        if matches!(&seen, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock) {
            // The listener ended before the last packet of the handshake, so the server never knew of the client. Its
            // next byte is answered by a reset.
            reset = &self.halfway;
            seen = stream.write_all(b"?").and_then(|()| stream.read(&mut buf));
        }
        let counter = match seen {
            Ok(1) => &self.served,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => reset,
            seen => {
                println!("a client saw {seen:?}");
                &self.lost
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Every client is served, refused, or reset in the window of one connection for each close. No socket that `accept`
/// returned is dropped.
#[test]
fn close_under_a_flood_of_connects_loses_no_client() {
    with_limit(3 * WATCHDOG, || {
        flood(100, 100);
    });
}

/// Closes a listener `rounds` times while clients connect, each time when at least `accepted` of them are accepted.
/// Returns the number of connects per second until then.
pub(super) fn flood(rounds: usize, before_close: usize) -> f64 {
    let [mut served, mut reset, mut halfway, mut refused, mut connects] = [0; 5];
    let mut listened = Duration::ZERO;
    for _ in 0..rounds {
        let listener = local();
        let address = address_of(&listener);
        let seen = Seen::default();
        let (stop, accepted) = (AtomicBool::new(false), AtomicUsize::new(0));
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        thread::scope(|scope| {
            let begun = Instant::now();
            for _ in 0..2 {
                scope.spawn(|| serve_all(&listener, &accepted));
            }
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        seen.run_client(address);
                    }
                });
            }
            while count(&accepted) < before_close {
                thread::sleep(ms(1));
            }
            connects += count(&accepted);
            listened += begun.elapsed();
            listener.close();
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(count(&seen.lost), 0, "no client sees anything else");
        assert_eq!(count(&seen.served), count(&accepted), "every accepted client is served");
        assert!(count(&seen.reset) <= 1, "{} clients were reset", count(&seen.reset));
        served += count(&seen.served);
        reset += count(&seen.reset);
        halfway += count(&seen.halfway);
        refused += count(&seen.refused);
    }
    let rate = connects as f64 / listened.as_secs_f64();
    println!(
        "{rate:.0} connects/s, {rounds} closes: {served} served, {reset} reset, {halfway} halfway, {refused} refused"
    );
    rate
}

/// Serves each client one byte.
fn serve_all(listener: &Listener, accepted: &AtomicUsize) {
    for socket in listener {
        accepted.fetch_add(1, Ordering::Relaxed);
        socket.writer().write_all(b"x").expect("the client is there");
        socket.close().expect("one byte is sent at once");
    }
}

#[test]
fn a_close_at_the_limit_waits_for_slots_and_then_resets() {
    with_watchdog(|| {
        let options = ListenOptions::new()
            .max_open_sockets(1)
            .socket(SocketOptions::new().close_timeout(ms(300)));
        let listener = local_with(options);
        let first_client = client_of(&listener);
        let first = accept(&listener);
        let second_client = client_of(&listener);
        let third_client = client_of(&listener);
        let closed_at = Instant::now();
        listener.close();
        assert_fails(listener.accept_timeout(ms(20)), ErrorKind::TimedOut);
        assert_talks(&first_client, &first);
        first.close().unwrap();
        let second = listener.accept().expect("a slot is free");
        assert_talks(&second_client, &second);
        assert_fails(listener.accept(), ErrorKind::Closed);
        let took = closed_at.elapsed();
        assert!(took >= ms(300) && took < PROMPT, "{took:?}");
        assert_client_reset(third_client);
        listener.closed().expect("the program closed it");
        drop(second);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn accept_and_close_do_not_drift() {
    const NAME: &str = "listener::closing::accept_and_close_do_not_drift";
    crate::support::subprocess::in_subprocess(NAME, WATCHDOG, || drift(1_000, 5_000, 2 << 20));
}

/// Warms up, and checks that descriptors, threads and memory stay as they are then.
#[cfg(target_os = "linux")]
pub(super) fn drift(warm_up: usize, count: usize, most: usize) {
    use crate::support::process::{own_memory, settled_descriptors, threads};
    cycles(&local(), warm_up);
    let before = (settled_descriptors(), threads(), own_memory());
    for _ in 0..5 {
        cycles(&local(), count / 5);
    }
    let grown = own_memory().saturating_sub(before.2);
    println!("{grown} bytes more after {count} cycles");
    assert!(settled_descriptors() <= before.0);
    assert!(threads() <= before.1);
    assert!(grown < most, "{grown} bytes more");
}

/// Accepts and closes connections, and checks that nothing is left.
#[cfg(target_os = "linux")]
fn cycles(listener: &Listener, cycles: usize) {
    thread::scope(|scope| {
        scope.spawn(|| {
            for socket in listener {
                socket.close().expect("nothing is unsent");
            }
        });
        for _ in 0..cycles {
            let mut client = client_of(listener);
            assert_eq!(client.read(&mut [0]).expect("a clean end"), 0);
            // The reset keeps the port out of TIME_WAIT.
            crate::support::peer::reset(client);
        }
        listener.close();
    });
    assert_eq!(listener.stats().accepted, cycles as u64);
    assert_eq!(listener.open_sockets(), 0);
}
