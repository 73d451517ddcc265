//! `serve`: a bounded number of threads, a scope for each call, and handlers that panic.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sockeye::{ErrorKind, Phase, Socket};

use super::{address_of, client_of, local};
use crate::support::net;
use crate::support::{PROMPT, assert_fails, eventually, ms, spawn_call, with_watchdog};

fn ask(mut client: TcpStream) -> String {
    client.write_all(b"hello").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

fn echo(socket: &Socket) {
    std::io::copy(&mut socket.reader(), &mut socket.writer()).unwrap();
}

#[test]
fn clients_are_served_until_the_listener_closes() {
    with_watchdog(|| {
        let listener = local();
        let server = listener.clone();
        let serving = spawn_call(move || server.serve(3, |socket| echo(&socket)));
        for _ in 0..20 {
            assert_eq!(ask(client_of(&listener)), "hello");
        }
        listener.close();
        serving.join_within(PROMPT).expect("the program closed it");
        assert_eq!(listener.open_sockets(), 0);
    });
}

#[test]
fn at_most_this_number_of_handlers_run_at_once() {
    with_watchdog(|| {
        let listener = local();
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            let serving = scope.spawn(|| {
                listener.serve(2, |socket| {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    echo(&socket);
                    running.fetch_sub(1, Ordering::SeqCst);
                })
            });
            let held = [client_of(&listener), client_of(&listener)];
            eventually(PROMPT, "both handlers run", || running.load(Ordering::SeqCst) == 2);
            // The third client stays in the system's queue.
            let third = client_of(&listener);
            thread::sleep(ms(50));
            assert_eq!(listener.stats().accepted, 2);
            for client in held {
                assert_eq!(ask(client), "hello");
            }
            assert_eq!(ask(third), "hello");
            listener.close();
            serving.join().unwrap().expect("the program closed it");
        });
        assert_eq!(most.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_socket_closes_when_its_handler_returns_or_panics() {
    with_watchdog(|| {
        let listener = local();
        let kept = Mutex::new(Vec::new());
        let calls = AtomicUsize::new(0);
        thread::scope(|scope| {
            let serving = scope.spawn(|| {
                listener.serve(1, |mut socket| {
                    socket.write_all(b"x").unwrap();
                    kept.lock().unwrap().push(socket);
                    assert!(calls.fetch_add(1, Ordering::SeqCst) != 1, "the second handler panics");
                })
            });
            for _ in 0..3 {
                let mut text = String::new();
                client_of(&listener).read_to_string(&mut text).expect("a clean end");
                assert_eq!(text, "x");
            }
            listener.close();
            serving.join().unwrap().expect("a panic ends nothing");
        });
        let kept = kept.into_inner().unwrap();
        assert_eq!(kept.len(), 3);
        assert!(kept.iter().all(|socket| socket.phase() == Phase::Closed));
    });
}

#[test]
fn connections_that_are_complete_are_served_after_a_close() {
    with_watchdog(|| {
        let listener = local();
        let clients: Vec<_> = (0..5).map(|_| client_of(&listener)).collect();
        listener.close();
        let server = listener.clone();
        let serving = spawn_call(move || server.serve(2, |socket| echo(&socket)));
        for client in clients {
            assert_eq!(ask(client), "hello");
        }
        serving.join_within(PROMPT).expect("the program closed it");
    });
}

#[test]
fn no_threads_are_invalid_and_a_closed_listener_serves_nothing() {
    with_watchdog(|| {
        let listener = local();
        assert_fails(listener.serve(0, drop), ErrorKind::InvalidOptions);
        listener.close();
        listener.serve(1, |_| unreachable!("no client has connected")).expect("it is closed");
        net::connect(address_of(&listener)).expect_err("it is closed");
    });
}

#[test]
fn a_handler_may_close_the_listener() {
    with_watchdog(|| {
        let listener = local();
        let client = client_of(&listener);
        let asking = spawn_call(move || ask(client));
        listener
            .serve(4, |socket| {
                echo(&socket);
                listener.close();
            })
            .expect("the program closed it");
        assert_eq!(asking.join(), "hello");
    });
}

/// Without a thread, no client is taken. The next accept returns it.
#[cfg(target_os = "linux")]
#[test]
fn without_threads_serve_fails_and_takes_no_client() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    const NAME: &str = "listener::serve::without_threads_serve_fails_and_takes_no_client";
    crate::support::subprocess::in_subprocess(NAME, crate::support::WATCHDOG, || {
        let listener = local();
        let client = client_of(&listener);
        let before = getrlimit(Resource::As);
        // The stack of a thread takes 2 MiB.
        let current = Some(crate::support::process::address_space() as u64 + (1 << 20));
        setrlimit(Resource::As, Rlimit { current, ..before }).expect("it may be lowered");
        let served = listener.serve(4, |_| unreachable!("there is no thread"));
        setrlimit(Resource::As, before).expect("it may be raised again");
        assert_fails(served, ErrorKind::Io);
        assert_eq!(listener.stats().accepted, 0);
        super::assert_talks(&client, &super::accept(&listener));
    });
}
