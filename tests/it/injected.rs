//! System calls that fail in a way that a test cannot cause: strace injects the error. Each test runs in a process of
//! its own.

use std::io::Write;

use std::thread;
use std::time::{Duration, Instant};

use sockeye::{
    AcceptWhen, ErrorKind, Events, Interest, ListenOptions, Poller, SocketOptions, TcpOptions,
    listen, listen_with,
};

use crate::support::net;
use crate::support::peer::black_hole;
use crate::support::{PROMPT, Peer, WATCHDOG, assert_fails, eventually, ms, open, strace};

/// Runs `body` of the test `name` under strace, which makes calls fail as `injections` say. Returns the log of these
/// calls, or `None` in the process under strace and if there is no strace.
fn with_injections(name: &str, injections: &[&str], body: impl FnOnce()) -> Option<String> {
    let expressions: Vec<String> = injections
        .iter()
        .flat_map(|injection| {
            let calls = injection.split(':').next().expect("it names the calls");
            [format!("trace={calls}"), format!("inject={injection}")]
        })
        .collect();
    let args: Vec<&str> = expressions.iter().flat_map(|text| ["-e", text]).collect();
    strace::run(name, &args, body)
}

fn injected(log: &str) -> usize {
    log.matches("(INJECTED)").count()
}

#[test]
fn a_poll_of_the_event_loop_that_keeps_failing_does_not_spin() {
    const NAME: &str = "injected::a_poll_of_the_event_loop_that_keeps_failing_does_not_spin";
    const RUNS: Duration = ms(1_000);
    let calls = "epoll_wait,epoll_pwait,epoll_pwait2:error=ENOMEM";
    let log = with_injections(NAME, &[calls], || {
        let begun = Instant::now();
        // Timers are served all the same.
        let hole = black_hole();
        let options = SocketOptions::new().connect_timeout(ms(200));
        let waiting = sockeye::connect_with(hole.address, options).expect("the address is valid");
        assert_fails(waiting.opened_timeout(WATCHDOG), ErrorKind::TimedOut);
        thread::sleep(RUNS.saturating_sub(begun.elapsed()));
    });
    if let Some(log) = log {
        let polls = injected(&log);
        // A hundred in a second, and some more on a slow machine.
        assert!((20..1_000).contains(&polls), "{polls} polls");
    }
}

#[test]
fn a_send_during_the_end_of_a_connection_is_repeated() {
    const NAME: &str = "injected::a_send_during_the_end_of_a_connection_is_repeated";
    let log = with_injections(NAME, &["sendto:error=EPROTOTYPE:when=1..3"], || {
        let peer = Peer::reading();
        let socket = open(&peer);
        (&socket).write_all(b"hello").expect("the peer reads");
        socket.close().expect("the peer reads");
        peer.assert_received(b"hello");
    });
    if let Some(log) = log {
        assert_eq!(injected(&log), 3, "{log}");
    }
}

/// Apple's systems reject every option of a connection that was reset, before a call has reported the reset.
#[test]
fn setting_an_option_of_a_connection_that_was_reset_reports_the_reset() {
    const NAME: &str =
        "injected::setting_an_option_of_a_connection_that_was_reset_reports_the_reset";
    // The first call is the listener's.
    let log = with_injections(NAME, &["setsockopt:error=EINVAL:when=2+"], || {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let options = SocketOptions::new().tcp(TcpOptions::new().nodelay(false));
        let socket = sockeye::connect_with(address, options).expect("the address is valid");
        let (theirs, _) = listener.accept().expect("it has arrived");
        socket.opened_timeout(WATCHDOG).expect("the peer listens");
        // The connection is intact, so the error is about the option.
        assert_fails(socket.set_nodelay(true), ErrorKind::Io);
        (&socket).write_all(b"unread").expect("the send buffer has room");
        theirs.peek(&mut [0]).expect("the data arrives");
        // Closing with unread data resets the connection.
        drop(theirs);
        assert_fails(socket.set_nodelay(true), ErrorKind::Reset);
    });
    if let Some(log) = log {
        assert_eq!(injected(&log), 2, "{log}");
    }
}

/// On Linux the error is the caller's: it concerns one call, which may be repeated.
#[cfg(sockeye_bsd)]
#[test]
fn a_send_waits_while_the_kernel_lacks_memory() {
    use crate::support::assert_times_out;

    const NAME: &str = "injected::a_send_waits_while_the_kernel_lacks_memory";
    let log = with_injections(NAME, &["sendto:error=ENOBUFS:when=1..5"], || {
        let peer = Peer::reading();
        let socket = open(&peer);
        socket.set_write_timeout(Some(ms(15))).expect("not zero");
        assert_times_out((&socket).write(b"late"));
        socket.set_write_timeout(None).expect("`None` removes the limit");
        (&socket).write_all(b"hello").expect("the peer reads");
        socket.close().expect("the peer reads");
        peer.assert_received(b"hello");
    });
    if let Some(log) = log {
        assert_eq!(injected(&log), 5, "{log}");
    }
}

// -------------------------------------------------------------------- listeners

/// As the BSDs do for a client that has reset its connection.
#[test]
fn an_aborted_connection_is_no_error_of_accept() {
    const NAME: &str = "injected::an_aborted_connection_is_no_error_of_accept";
    let log = with_injections(NAME, &["accept4:error=ECONNABORTED:when=1..3"], || {
        let listener = listen("127.0.0.1:0").expect("a port is free");
        let address = listener.local_address().expect("it has one");
        let _client = net::connect(address).expect("it listens");
        drop(listener.accept_timeout(WATCHDOG).expect("the next one is tried"));
        assert_eq!((listener.stats().lost, listener.stats().accepted), (3, 1));
    });
    if let Some(log) = log {
        assert_eq!(injected(&log), 3, "{log}");
    }
}

/// Such as the error of a seccomp filter. A close does not wait for its end either.
#[test]
fn an_error_of_accept_that_never_ends_does_not_spin() {
    const NAME: &str = "injected::an_error_of_accept_that_never_ends_does_not_spin";
    let log = with_injections(NAME, &["accept4:error=EPERM"], || {
        let listener = listen("127.0.0.1:0").expect("a port is free");
        assert_fails(listener.accept_timeout(ms(1_000)), ErrorKind::TimedOut);
        assert!(listener.stats().lost >= 640, "{:?}", listener.stats());
        let backlog = ListenOptions::new().backlog(u32::MAX);
        let closing = listen_with("127.0.0.1:0", backlog).expect("a port is free");
        closing.close();
        closing.closed_timeout(WATCHDOG).expect("it has given up");
        assert_eq!(closing.stats().lost, 4096);
    });
    if let Some(log) = log {
        // 64 calls each 10 ms, and a few more at first.
        let calls = injected(&log) - 4096;
        assert!(calls <= 64 * 104, "{calls} calls");
    }
}

/// The event loop has no room for another descriptor: it tries again, and accepts at times until then.
#[test]
fn a_listener_that_cannot_be_registered_tries_again() {
    const NAME: &str = "injected::a_listener_that_cannot_be_registered_tries_again";
    // In each thread. The first thread registers the waker of the event loop.
    let log = with_injections(NAME, &["epoll_ctl:error=ENOSPC:when=1..2"], || {
        let options = ListenOptions::new().accept_when(AcceptWhen::Opened);
        let mut tries = std::iter::repeat_with(|| listen_with("127.0.0.1:0", options.clone()));
        let listener = tries.by_ref().take(3).find_map(Result::ok).expect("the third call works");
        let address = listener.local_address().expect("it has one");
        for _ in 0..3 {
            let _client = net::connect(address).expect("it listens");
            drop(listener.accept_timeout(WATCHDOG).expect("it is accepted"));
        }
        eventually(PROMPT, "both tries have failed", || listener.stats().starved >= 2);
    });
    if let Some(log) = log {
        assert_eq!(injected(&log), 4, "{log}");
    }
}

/// No thread accepts, so only the event loop asks for the next try.
#[test]
fn a_watched_listener_that_cannot_be_registered_tries_again() {
    const NAME: &str = "injected::a_watched_listener_that_cannot_be_registered_tries_again";
    let log = with_injections(NAME, &["epoll_ctl:error=ENOSPC:when=1..2"], || {
        let mut tries = std::iter::repeat_with(|| listen("127.0.0.1:0"));
        let listener = tries.by_ref().take(3).find_map(Result::ok).expect("the third call works");
        let poller = Poller::new().expect("it needs no descriptor");
        poller.add(&listener, 7, Interest::READABLE).expect("the event loop runs");
        eventually(PROMPT, "both tries have failed", || listener.stats().starved >= 2);
        let address = listener.local_address().expect("it has one");
        let mut events = Events::with_capacity(1);
        poller.wait(&mut events, ms(200)).expect("a wait succeeds");
        assert!(events.is_empty());
        let _client = net::connect(address).expect("it listens");
        assert_eq!(poller.wait(&mut events, PROMPT).expect("a wait succeeds"), 1);
    });
    if let Some(log) = log {
        assert_eq!(injected(&log), 4, "{log}");
    }
}
