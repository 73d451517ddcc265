//! System calls that fail in a way that a test cannot cause: strace injects the error. Each test runs in a process of its
//! own.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, SocketOptions, TcpOptions};

use crate::support::peer::black_hole;
use crate::support::subprocess::{TestProcess, child_part, run_part, this_binary};
use crate::support::{Peer, WATCHDOG, assert_fails, ms, open, skip};

/// Runs `body` of the test `name` under strace, which makes calls fail as `injections` say. Returns the log of these
/// calls, or `None` in the process under strace and if there is no strace.
fn with_injections(name: &str, injections: &[&str], body: impl FnOnce()) -> Option<String> {
    if child_part().is_some() {
        run_part(body);
        return None;
    }
    let found = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        skip(name, "there is no strace");
        return None;
    }
    let id = std::process::id();
    let log = format!("{}/strace-{}-{id}", env!("CARGO_TARGET_TMPDIR"), name.replace(':', "-"));
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", &log]);
    for injection in injections {
        let calls = injection.split(':').next().expect("it names the calls");
        command.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={injection}")]);
    }
    command.arg(this_binary());
    TestProcess::start(name, "alone", command).expect_success(WATCHDOG);
    let text = std::fs::read_to_string(&log).expect("strace has written it");
    std::fs::remove_file(&log).expect("it is there");
    Some(text)
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
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
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
