//! A forked child does not disturb its parent's connections, and its calls on them fail with a clear error.
//! Each test forks in a process of its own with few threads, because the child is a copy of one thread only.
#![allow(unsafe_code)]

mod children;
mod listeners;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use sockeye::{ErrorKind, Health, Socket, SocketOptions};

use crate::support::peer::black_hole;
use crate::support::process::{closes_on_exec, descriptors};
use crate::support::subprocess::in_subprocess;
use crate::support::{
    Peer, WATCHDOG, assert_fails, eventually, ms, open, open_with, read, read_exactly,
};

const LONG: Duration = Duration::from_secs(60);

/// Runs `work` in a forked child and waits for the child, which has to succeed within the time limit.
#[track_caller]
fn in_a_forked_child(work: impl FnOnce()) {
    Child::forked(work).ends_well();
}

/// Forks. Returns `None` in the child, which ends with [`leave_child`].
#[track_caller]
fn fork() -> Option<Child> {
    // SAFETY: the child continues as a copy of this thread alone. It takes no lock of the library that another thread
    // might have held; the test checks this, and kills a child that deadlocks. It leaves via _exit, so no code of the
    // parent runs twice.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork failed");
    Pid::from_raw(child).map(Child)
}

/// Ends a forked child.
fn leave_child(well: bool) -> ! {
    // SAFETY: _exit ends the child without running anything else in it.
    unsafe { libc::_exit(if well { 0 } else { 1 }) }
}

/// A forked child process.
#[must_use]
struct Child(Pid);

impl Child {
    /// Forks a child that runs `work` and exits.
    #[track_caller]
    fn forked(work: impl FnOnce()) -> Child {
        match fork() {
            Some(child) => child,
            None => leave_child(catch_unwind(AssertUnwindSafe(work)).is_ok()),
        }
    }

    #[track_caller]
    fn ends_well(self) {
        let Child(child) = self;
        let begun = Instant::now();
        let status = loop {
            if let Some((_, status)) = waitpid(Some(child), WaitOptions::NOHANG)
                .expect("waitpid accepts a child of this process")
            {
                break status;
            }
            if begun.elapsed() > WATCHDOG {
                kill_process(child, Signal::KILL).expect("the child still runs");
                waitpid(Some(child), WaitOptions::empty())
                    .expect("waitpid accepts a child of this process");
                panic!("the forked child hangs");
            }
            std::thread::sleep(ms(1));
        };
        assert_eq!(status.exit_status(), Some(0), "the forked child failed, see its output");
    }
}

fn echo() -> Peer {
    Peer::scripted(|wire| wire.echo())
}

/// Checks that the connection still works in both directions and ends cleanly.
#[track_caller]
fn still_works(mut socket: &Socket) {
    for word in [b"still", b"works"] {
        socket.write_all(word).expect("the peer reads");
        assert_eq!(read_exactly(socket, 5).expect("the peer answers"), word);
    }
    socket.writer().close().expect("the peer reads");
    assert_eq!(read(socket, 1).expect("a clean end"), b"");
    socket.closed().expect("both directions ended");
}

#[test]
fn in_the_child_every_call_fails_with_invalid_state() {
    in_subprocess("fork::in_the_child_every_call_fails_with_invalid_state", LONG, || {
        let peer = echo();
        let socket = open(&peer);
        let (reader, writer) = (socket.reader(), socket.writer());
        in_a_forked_child(|| {
            assert_fails(socket.opened(), ErrorKind::InvalidState);
            assert_fails(socket.opened_timeout(ms(10)), ErrorKind::InvalidState);
            assert_fails(read(&socket, 1), ErrorKind::InvalidState);
            assert_fails(read(&reader, 1), ErrorKind::InvalidState);
            assert_fails((&socket).write(b"x"), ErrorKind::InvalidState);
            assert_fails((&writer).write(b"x"), ErrorKind::InvalidState);
            assert_fails((&writer).flush(), ErrorKind::InvalidState);
            assert_fails(writer.close(), ErrorKind::InvalidState);
            assert_fails(socket.closed(), ErrorKind::InvalidState);
            assert_fails(socket.closed_timeout(ms(10)), ErrorKind::InvalidState);
            assert_fails(socket.close(), ErrorKind::InvalidState);
            let Health::Failed(error) = socket.health() else {
                panic!("the health should be `Failed`")
            };
            assert_eq!(error.kind(), ErrorKind::InvalidState);
        });
        still_works(&socket);
        peer.finish();
    });
}

/// Without any socket from before the fork, the child has no state to confuse.
#[test]
fn a_child_of_a_parent_that_never_connected_may_connect() {
    in_subprocess("fork::a_child_of_a_parent_that_never_connected_may_connect", LONG, || {
        let peer = echo();
        in_a_forked_child(|| still_works(&open(&peer)));
        peer.finish();
    });
}

#[test]
fn drop_close_and_abort_in_the_child_leave_the_parents_connection_alone() {
    in_subprocess(
        "fork::drop_close_and_abort_in_the_child_leave_the_parents_connection_alone",
        LONG,
        || {
            let ends: [fn(Socket); 6] = [
                drop,
                |socket| assert_fails(socket.close(), ErrorKind::InvalidState),
                |socket| socket.abort(),
                |socket| socket.writer().abort(),
                |socket| assert_fails(socket.writer().close(), ErrorKind::InvalidState),
                |socket| socket.reader().cancel(),
            ];
            for end in ends {
                let peer = echo();
                let socket = open(&peer);
                // The child drops its copy as the last handle.
                let mut copy = Some(socket);
                in_a_forked_child(|| {
                    let socket = copy.take().expect("only the child takes its copy");
                    end(socket);
                });
                still_works(copy.as_ref().expect("the child took only its copy"));
                peer.finish();
            }
        },
    );
}

#[test]
fn a_fork_while_the_parent_is_blocked_disturbs_no_call() {
    in_subprocess("fork::a_fork_while_the_parent_is_blocked_disturbs_no_call", LONG, || {
        let peer = echo();
        let socket = open(&peer);
        for _ in 0..20 {
            let reader = socket.reader();
            let reading = crate::support::spawn_blocked(move || read(reader, 4));
            in_a_forked_child(|| {
                socket.abort();
                assert_fails(read(&socket, 1), ErrorKind::InvalidState);
            });
            (&socket).write_all(b"ping").expect("the peer reads");
            assert_eq!(reading.join().expect("the peer answers"), b"ping");
        }
        still_works(&socket);
        peer.finish();
    });
}

#[test]
fn a_fork_while_connecting_disturbs_no_attempt() {
    in_subprocess("fork::a_fork_while_connecting_disturbs_no_attempt", LONG, || {
        let hole = black_hole();
        let options = SocketOptions::new().connect_timeout(ms(1500));
        let socket = sockeye::connect_with(hole.address, options).expect("the address is valid");
        in_a_forked_child(|| {
            assert_fails(socket.opened(), ErrorKind::InvalidState);
            socket.abort();
        });
        assert_fails(socket.opened_timeout(ms(50)), ErrorKind::TimedOut);
        let error = socket.opened().expect_err("the peer does not answer");
        assert_eq!(error.attempts().len(), 1, "the attempt lasted until its limit: {error:?}");
    });
}

/// A child that keeps copies of the descriptors must not hide the FIN that the parent sends.
#[test]
fn a_running_child_does_not_hide_the_parents_close() {
    in_subprocess("fork::a_running_child_does_not_hide_the_parents_close", LONG, || {
        let peer = Peer::reading();
        let socket = open(&peer);
        let (wait, go) = rustix::pipe::pipe().expect("a descriptor is free");
        // SAFETY: as in `in_a_forked_child`; this child only waits for the pipe to close.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "fork failed");
        if child == 0 {
            drop(go);
            let _ = rustix::io::read(&wait, &mut [0]);
            // SAFETY: _exit ends the child without running anything else in it.
            unsafe { libc::_exit(0) };
        }
        (&socket).write_all(b"words").expect("the peer reads");
        socket.close().expect("the peer reads");
        // The FIN has to reach the peer while the child still holds its copies.
        peer.assert_received(b"words");
        drop(go);
        let child = Pid::from_raw(child).expect("a process id is positive");
        waitpid(Some(child), WaitOptions::empty())
            .expect("waitpid accepts a child of this process");
    });
}

/// The child keeps the connection, so a close alone would not end it, although data is unread.
#[test]
fn a_running_child_does_not_hide_the_parents_abort_of_a_unix_domain_socket() {
    use std::os::unix::net::UnixStream;
    const NAME: &str =
        "fork::a_running_child_does_not_hide_the_parents_abort_of_a_unix_domain_socket";
    in_subprocess(NAME, LONG, || {
        let name = format!("sockeye-it-abort-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let address = sockeye::UnixAddress::from_pathname(&path).expect("it is short");
        let listener = sockeye::listen_unix(address, sockeye::ListenOptions::new());
        let listener = listener.expect("it is free");
        let mut client = UnixStream::connect(&path).expect("it listens");
        client.set_read_timeout(Some(WATCHDOG)).expect("the limit is not zero");
        let socket = listener.accept_timeout(WATCHDOG).expect("a client has connected");
        let (parents, childs) = UnixStream::pair().expect("two descriptors are free");
        let Some(child) = fork() else {
            // Until the parent closes its end.
            drop(parents);
            leave_child(read(&childs, 1).is_ok_and(|bytes| bytes.is_empty()));
        };
        drop(childs);
        client.write_all(b"unread").expect("there is room");
        socket.abort();
        assert_eq!(read(&client, 1).expect("it is disconnected"), b"");
        drop(parents);
        child.ends_well();
        listener.close();
    });
}

#[test]
fn every_descriptor_closes_when_another_program_is_started() {
    in_subprocess("fork::every_descriptor_closes_when_another_program_is_started", LONG, || {
        let before = descriptors();
        let peer = echo();
        let socket = open_with(&peer, SocketOptions::new());
        let hole = black_hole();
        let connecting = sockeye::connect(hole.address).expect("the address is valid");
        let named = sockeye::connect("localhost:9").expect("the address is valid");
        // A blocked read creates the descriptors that a waiting thread needs.
        let reader = socket.reader();
        let reading = crate::support::spawn_blocked(move || read(reader, 4));
        let new: Vec<_> = descriptors().difference(&before).copied().collect();
        assert!(
            new.len() >= 3,
            "the loop, the connection and the attempt have descriptors: {new:?}"
        );
        for descriptor in new {
            assert!(closes_on_exec(descriptor), "descriptor {descriptor} outlives exec");
        }
        // A program that starts now confirms it: it has its three standard streams and the directory that it lists.
        let output =
            Command::new("ls").arg("/proc/self/fd").output().expect("every system has `ls`");
        let seen = String::from_utf8_lossy(&output.stdout).lines().count();
        assert!(
            seen <= 4 + before.iter().filter(|one| **one > 2 && !closes_on_exec(**one)).count(),
            "{seen}"
        );
        (&socket).write_all(b"ping").expect("the peer reads");
        assert_eq!(reading.join().expect("the peer answers"), b"ping");
        drop((connecting, named));
        eventually(WATCHDOG, "the connection ends", || {
            socket.abort();
            socket.closed_timeout(ms(10)).is_err_and(|error| error.kind() == ErrorKind::Closed)
        });
    });
}
