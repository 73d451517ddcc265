//! Pollers that watch listeners.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use sockeye::{
    AcceptWhen, Connector, IngressRules, Interest, ListenOptions, Listener, Poller, Socket, listen,
    listen_with,
};

use super::{READABLE, WRITABLE, assert_events, assert_none, assert_quiet, wait};
use crate::support::net;
use crate::support::{
    PROMPT, assert_fails, eventually, read_exactly, spawn_blocked, with_watchdog,
};

fn dial(listener: &Listener) -> TcpStream {
    net::connect(listener.local_address().unwrap()).expect("it listens")
}

/// Accepts on another thread, without a limit.
fn accept_elsewhere(listener: &Listener) -> Socket {
    let listener = listener.clone();
    crate::support::spawn_call(move || listener.accept()).join().unwrap()
}

#[track_caller]
fn assert_reset(client: &TcpStream) {
    let error = read_exactly(client, 1).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
}

fn accept(listener: &Listener) -> Option<Socket> {
    match listener.accept_timeout(Duration::ZERO) {
        Ok(socket) => Some(socket),
        Err(error) => {
            assert_eq!(error.kind(), sockeye::ErrorKind::TimedOut);
            None
        }
    }
}

#[test]
fn a_client_is_reported_until_it_is_accepted() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let listener = listen("127.0.0.1:0").unwrap();
        poller.add(&listener, 1, READABLE.level()).unwrap();
        poller.add(&listener, 2, READABLE).unwrap();
        assert_quiet(&poller);
        let _clients = [dial(&listener), dial(&listener)];
        let mut events = wait(&poller, PROMPT);
        events.extend(wait(&poller, super::QUIET));
        events.sort();
        events.dedup();
        assert_eq!(events, ["1r", "2r"]);
        assert_events(&poller, ["1r"]);
        assert!(accept(&listener).is_some());
        assert_events(&poller, ["1r"]);
        poller.modify(2, READABLE).unwrap();
        let mut events = wait(&poller, PROMPT);
        events.sort();
        assert_eq!(events, ["1r", "2r"]);
        assert!(accept(&listener).is_some());
        assert!(accept(&listener).is_none());
        assert_quiet(&poller);
    });
}

#[test]
fn a_server_of_one_thread_answers_many_clients() {
    with_watchdog(|| {
        let listener = listen("127.0.0.1:0").unwrap();
        let address = listener.local_address().unwrap();
        let server = crate::support::spawn_call(move || {
            let poller = Poller::new().unwrap();
            poller.add(&listener, 0, READABLE).unwrap();
            let mut sockets = std::collections::HashMap::new();
            let (mut next, mut ended) = (1, 0);
            while ended < 20 {
                let mut events = sockeye::Events::with_capacity(8);
                poller.wait(&mut events, None).unwrap();
                for event in events.iter() {
                    if event.key == 0 {
                        while let Some(socket) = accept(&listener) {
                            poller.add(&socket, next, READABLE.level()).unwrap();
                            sockets.insert(next, socket);
                            next += 1;
                        }
                        poller.modify(0, READABLE).unwrap();
                        continue;
                    }
                    let socket = &sockets[&event.key];
                    let mut buf = [0; 64];
                    match socket.try_read(&mut buf) {
                        Ok(0) => {
                            socket.close().unwrap();
                            sockets.remove(&event.key);
                            ended += 1;
                        }
                        Ok(bytes) => {
                            socket.try_write(&buf[..bytes]).unwrap();
                        }
                        Err(error) => panic!("{error}: no other thread reads"),
                    }
                }
            }
            assert_eq!(poller.len(), 1, "the keys of dropped sockets are free");
        });
        let clients: Vec<_> = (0..20)
            .map(|number| {
                spawn_blocked(move || {
                    let mut client = net::connect(address).unwrap();
                    for _ in 0..10 {
                        client.write_all(&[number]).unwrap();
                        assert_eq!(read_exactly(&client, 1).unwrap(), [number]);
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join());
        server.join();
    });
}

#[test]
fn connections_that_are_open_are_reported() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let options = ListenOptions::new().accept_when(AcceptWhen::Opened);
        let listener = listen_with("127.0.0.1:0", options).unwrap();
        poller.add(&listener, 1, READABLE).unwrap();
        assert_quiet(&poller);
        let _client = dial(&listener);
        assert_events(&poller, ["1r"]);
        assert!(accept(&listener).is_some());
        poller.modify(1, READABLE).unwrap();
        assert_quiet(&poller);
    });
}

#[test]
fn at_the_limit_a_client_is_reported_when_a_slot_is_free() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let options = ListenOptions::new().max_open_sockets(1);
        let listener = listen_with("127.0.0.1:0", options).unwrap();
        let _clients = [dial(&listener), dial(&listener)];
        let first = listener.accept().unwrap();
        poller.add(&listener, 1, READABLE).unwrap();
        assert_quiet(&poller);
        assert_eq!(listener.open_sockets(), 1);
        first.abort();
        assert_events(&poller, ["1r"]);
        let second = accept(&listener).expect("it has the slot");
        drop((first, second));
        eventually(PROMPT, "all slots are free", || listener.open_sockets() == 0);
        poller.modify(1, READABLE).unwrap();
        assert_quiet(&poller);
    });
}

/// The program need not accept the client that was reported, and may use the slot for something else.
#[test]
fn a_client_that_was_reported_keeps_no_slot() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let connector =
            Connector::builder().max_open_sockets(1).wait_at_limit(true).build().unwrap();
        let options = ListenOptions::new().connector(&connector);
        let listener = listen_with("127.0.0.1:0", options).unwrap();
        poller.add(&listener, 1, READABLE).unwrap();
        let _client = dial(&listener);
        assert_events(&poller, ["1r"]);
        let server = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let socket = connector.connect(address).unwrap();
        socket.opened_timeout(PROMPT).expect("the slot is free");
        // The place in the queue is no better.
        poller.modify(1, READABLE).unwrap();
        assert_quiet(&poller);
        let next = connector.connect(address).unwrap();
        socket.abort();
        next.opened_timeout(PROMPT).expect("the listener passes its slot on");
        next.abort();
        assert_events(&poller, ["1r"]);
        assert!(accept(&listener).is_some());
    });
}

/// A client that no accept returns must not stop a server that has one thread.
#[test]
fn a_client_that_is_not_accepted_is_not_reported() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let rules = IngressRules::deny_all();
        let denying = listen_with("127.0.0.1:0", ListenOptions::new().ingress(rules)).unwrap();
        poller.add(&denying, 1, READABLE.level()).unwrap();
        let clients: Vec<_> = (0..200).map(|_| dial(&denying)).collect();
        assert_quiet(&poller);
        assert_eq!((denying.stats().accepted, denying.stats().denied), (200, 200));
        for client in clients {
            assert_reset(&client);
        }
        assert!(poller.remove(1));

        let rules = IngressRules::allow_all().max_per_client(1);
        let listener = listen_with("127.0.0.1:0", ListenOptions::new().ingress(rules)).unwrap();
        poller.add(&listener, 2, READABLE.level()).unwrap();
        let _first_client = dial(&listener);
        assert_events(&poller, ["2r"]);
        let first = accept(&listener).unwrap();
        let second = dial(&listener);
        assert_quiet(&poller);
        assert_reset(&second);
        assert_eq!(listener.stats().denied, 1);
        first.abort();
        let _third_client = dial(&listener);
        assert_events(&poller, ["2r"]);
        assert!(accept(&listener).is_some());

        let options = ListenOptions::new().max_open_sockets(1).wait_at_limit(false);
        let refusing = listen_with("127.0.0.1:0", options).unwrap();
        let _first_client = dial(&refusing);
        let first = refusing.accept().unwrap();
        poller.add(&refusing, 3, READABLE.level()).unwrap();
        let second = dial(&refusing);
        assert_quiet(&poller);
        assert_reset(&second);
        assert_eq!(refusing.stats().over_limit, 1);
        drop(first);
    });
}

/// The client that was reported has been taken from the system, which reports it to no thread.
#[test]
fn a_client_that_was_reported_is_accepted_by_any_thread_and_found_by_the_end() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let listener = listen("127.0.0.1:0").unwrap();
        poller.add(&listener, 1, READABLE).unwrap();
        for round in 0..20 {
            // Calls that have waited before wait first the next time.
            assert!(accept(&listener).is_none());
            let mut client = dial(&listener);
            assert_events(&poller, ["1r"]);
            assert_eq!(listener.open_sockets(), 0, "it has no slot");
            let socket = match round % 2 {
                0 => accept(&listener).expect("an accept does not wait"),
                _ => accept_elsewhere(&listener),
            };
            client.write_all(b"x").unwrap();
            assert_eq!(read_exactly(&socket, 1).unwrap(), b"x");
            poller.modify(1, READABLE).unwrap();
        }
        let _clients = [dial(&listener), dial(&listener)];
        assert_events(&poller, ["1r"]);
        listener.close();
        assert!(accept(&listener).is_some() && accept(&listener).is_some());
        assert_fails(listener.accept().map(drop), sockeye::ErrorKind::Closed);
        listener.closed().unwrap();
        assert!(poller.remove(1));

        for aborts in [true, false] {
            let listener = listen("127.0.0.1:0").unwrap();
            poller.add(&listener, 2, READABLE).unwrap();
            let client = dial(&listener);
            assert_events(&poller, ["2r"]);
            match aborts {
                true => listener.abort(),
                false => drop(listener),
            }
            assert_reset(&client);
            poller.remove(2);
        }
    });
}

#[test]
fn while_a_thread_accepts_there_is_nothing_to_report() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let listener = listen("127.0.0.1:0").unwrap();
        let accepting = spawn_blocked({
            let listener = listener.clone();
            move || listener.accept().map(drop)
        });
        poller.add(&listener, 1, READABLE).unwrap();
        let _client = dial(&listener);
        accepting.join().unwrap();
        assert_quiet(&poller);
        let _client = dial(&listener);
        assert_events(&poller, ["1r"]);
    });
}

#[test]
fn the_end_of_a_listener_is_reported_and_its_last_handle_is_not() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let listener = listen("127.0.0.1:0").unwrap();
        poller.add(&listener, 1, READABLE).unwrap();
        listener.close();
        assert_events(&poller, ["1rc"]);
        assert_fails(listener.accept().map(drop), sockeye::ErrorKind::Closed);
        assert_none(&poller);

        let listener = listen("127.0.0.1:0").unwrap();
        poller.add(&listener, 2, READABLE).unwrap();
        let _client = dial(&listener);
        eventually(PROMPT, "the client is there", || poller.modify(2, READABLE).is_ok());
        let clone = listener.clone();
        drop(listener);
        assert_eq!(poller.len(), 2);
        drop(clone);
        assert_eq!(poller.len(), 1);
        assert_quiet(&poller);
    });
}

#[test]
fn a_listener_is_never_writable_or_opened() {
    with_watchdog(|| {
        let poller = Poller::new().unwrap();
        let listener = listen("127.0.0.1:0").unwrap();
        for interest in [WRITABLE, Interest::OPENED, READABLE | WRITABLE] {
            let refused = poller.add(&listener, 1, interest);
            assert_fails(refused, sockeye::ErrorKind::InvalidOptions);
        }
        assert!(poller.is_empty());
        poller.add(&listener, 1, READABLE | Interest::CLOSED).unwrap();
        assert_fails(poller.modify(1, WRITABLE), sockeye::ErrorKind::InvalidOptions);
        let _client = dial(&listener);
        assert_events(&poller, ["1r"]);
    });
}
