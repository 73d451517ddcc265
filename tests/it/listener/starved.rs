//! A listener in a process without descriptors.

use std::time::{Duration, Instant};

use super::{accept, assert_talks, client_of, local};
use crate::support::process::{processor_time, settled_descriptors, take_all_descriptors};
use crate::support::subprocess::in_subprocess;
use crate::support::{PROMPT, eventually, ms, spawn_call, timed};

const LONG: Duration = Duration::from_secs(60);

/// It neither spins nor fails, and accepts again as soon as the crate closes a descriptor.
#[test]
fn ten_seconds_without_descriptors() {
    const NAME: &str = "listener::starved::ten_seconds_without_descriptors";
    in_subprocess(NAME, LONG, run_out_of_descriptors);
}

pub(super) fn run_out_of_descriptors() {
    let listener = local();
    // Its descriptor is what becomes free.
    let held_client = client_of(&listener);
    let held = accept(&listener);
    let clients: Vec<_> = (0..3).map(|_| client_of(&listener)).collect();
    let acceptor = listener.clone();
    settled_descriptors();
    let taken = take_all_descriptors();
    let accepting = spawn_call(move || acceptor.accept());
    eventually(PROMPT, "it runs out of descriptors", || listener.stats().starved > 0);
    let (before, used) = (listener.stats().starved, processor_time());
    std::thread::sleep(Duration::from_secs(10));
    let (tries, used) = (listener.stats().starved - before, processor_time() - used);
    println!("{tries} tries and {used:?} of a processor in 10 s");
    // Each counted try is two accepts: one before and one after lingering connections are closed.
    assert!(2 * tries <= 200, "{tries} tries");
    assert!(used <= ms(100), "{used:?} of a processor");
    assert!(accepting.is_running(), "it is no error");
    assert_talks(&held_client, &held);
    let begun = Instant::now();
    held.abort();
    let socket = accepting.join_within(PROMPT).expect("a descriptor is free");
    let took = begun.elapsed();
    println!("accepted {took:?} after a close");
    assert!(took < ms(50), "{took:?}");
    assert_talks(&clients[0], &socket);
    drop(taken);
    for client in &clients[1..] {
        assert_talks(client, &accept(&listener));
    }
}

/// The descriptor of a listener counts too.
#[test]
fn a_closed_listener_gives_its_descriptor_up() {
    const NAME: &str = "listener::starved::a_closed_listener_gives_its_descriptor_up";
    in_subprocess(NAME, LONG, || {
        let (listener, other) = (local(), local());
        let client = client_of(&listener);
        settled_descriptors();
        let _taken = take_all_descriptors();
        let acceptor = listener.clone();
        let accepting = spawn_call(move || acceptor.accept());
        // The pause is 640 ms by then.
        eventually(PROMPT, "it runs out of descriptors", || listener.stats().starved > 6);
        let begun = Instant::now();
        other.close();
        let socket = accepting.join_within(PROMPT).expect("a descriptor is free");
        assert!(begun.elapsed() < ms(100), "{:?}", begun.elapsed());
        assert_talks(&client, &socket);
    });
}

/// Descriptors that other code closes are found by trying again, after a second at most.
#[test]
fn descriptors_that_other_code_closes_are_used() {
    const NAME: &str = "listener::starved::descriptors_that_other_code_closes_are_used";
    in_subprocess(NAME, LONG, || {
        let listener = local();
        let client = client_of(&listener);
        settled_descriptors();
        let mut taken = take_all_descriptors();
        let acceptor = listener.clone();
        let accepting = spawn_call(move || acceptor.accept());
        eventually(PROMPT, "it runs out of descriptors", || listener.stats().starved > 1);
        drop(taken.pop());
        drop(taken.pop());
        let (socket, took) = timed(|| accepting.join_within(2 * PROMPT).expect("one is free"));
        assert!(took < Duration::from_millis(1500), "{took:?}");
        assert_talks(&client, &socket);
    });
}

/// A call that may not wait tries again once the pause is over.
#[test]
fn calls_that_may_not_wait_accept_again() {
    const NAME: &str = "listener::starved::calls_that_may_not_wait_accept_again";
    in_subprocess(NAME, LONG, || {
        let listener = local();
        let client = client_of(&listener);
        settled_descriptors();
        let taken = take_all_descriptors();
        for _ in 0..3 {
            let error = listener.accept_timeout(Duration::ZERO).unwrap_err();
            assert_eq!(error.kind(), sockeye::ErrorKind::TimedOut);
        }
        drop(taken);
        let mut socket = None;
        eventually(PROMPT, "the client is accepted", || {
            socket = listener.accept_timeout(Duration::ZERO).ok();
            socket.is_some()
        });
        assert_talks(&client, &socket.expect("it was accepted"));
    });
}

/// Closing connections give way first.
#[test]
fn lingering_connections_give_their_descriptors_up() {
    const NAME: &str = "listener::starved::lingering_connections_give_their_descriptors_up";
    in_subprocess(NAME, LONG, || {
        let listener = local();
        let lingering_client = client_of(&listener);
        let lingering = accept(&listener);
        let client = client_of(&listener);
        settled_descriptors();
        let _taken = take_all_descriptors();
        // The client does not close, so the connection lingers with its descriptor.
        lingering.close().expect("nothing is unsent");
        let (socket, took) = timed(|| listener.accept_timeout(PROMPT).expect("one is free"));
        assert!(took < ms(100), "{took:?}");
        assert_talks(&client, &socket);
        drop(lingering_client);
    });
}

/// A close ends the wait for descriptors.
#[test]
fn close_and_timeout_end_a_wait_for_descriptors() {
    const NAME: &str = "listener::starved::close_and_timeout_end_a_wait_for_descriptors";
    in_subprocess(NAME, LONG, || {
        use sockeye::ErrorKind;
        let listener = local();
        let _client = client_of(&listener);
        settled_descriptors();
        let _taken = take_all_descriptors();
        let error = listener.accept_timeout(ms(100)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let acceptor = listener.clone();
        let accepting = spawn_call(move || acceptor.accept());
        let before = listener.stats().starved;
        eventually(PROMPT, "it tries", || listener.stats().starved > before);
        listener.close();
        assert_eq!(accepting.join_within(PROMPT).unwrap_err().kind(), ErrorKind::Closed);
    });
}
