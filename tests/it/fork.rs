//! A forked child does no harm to its parent's connections, and gets a clear answer about them.
//!
//! Each test forks in a process of its own with few threads: the child is a copy of one thread only.
#![allow(unsafe_code)]

mod children;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use sockeye::{ErrorKind, Health, Socket, SocketOptions};

use crate::support::alone::alone;
use crate::support::peer::black_hole;
use crate::support::process::{closes_on_exec, descriptors};
use crate::support::{PATIENCE, Peer, eventually, fails, ms, open, open_with, read, read_exactly};

const LONG: Duration = Duration::from_secs(60);

/// Runs `work` in a forked child and waits until the child is gone; it has to end well, in good time.
#[track_caller]
fn in_a_forked_child(work: impl FnOnce()) {
    Child::forked(work).ends_well();
}

/// A forked child.
#[must_use]
struct Child(Pid);

impl Child {
    /// Forks a child that runs `work` and exits.
    #[track_caller]
    fn forked(work: impl FnOnce()) -> Child {
        // SAFETY: the child runs on as a copy of this thread alone. It takes no lock of the library that another
        // thread might have held (that it must not need to is what is tested; a deadlock is killed below), and
        // leaves by _exit, so nothing of the parent's is run twice.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "no process could be had");
        if child == 0 {
            let well = catch_unwind(AssertUnwindSafe(work)).is_ok();
            // SAFETY: ends the child without running anything else in it.
            unsafe { libc::_exit(if well { 0 } else { 1 }) };
        }
        Child(Pid::from_raw(child).expect("the child has a number"))
    }

    #[track_caller]
    fn ends_well(self) {
        let Child(child) = self;
        let begun = Instant::now();
        let status = loop {
            if let Some((_, status)) =
                waitpid(Some(child), WaitOptions::NOHANG).expect("it is a child of this process")
            {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                kill_process(child, Signal::KILL).expect("it is still there");
                waitpid(Some(child), WaitOptions::empty()).expect("it is a child of this process");
                panic!("the forked child hangs");
            }
            std::thread::sleep(ms(1));
        };
        assert_eq!(status.exit_status(), Some(0), "the forked child failed, see its message");
    }
}

fn echo() -> Peer {
    Peer::plays(|wire| wire.echo())
}

/// The connection still works both ways, and ends as it should.
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
    alone("fork::in_the_child_every_call_fails_with_invalid_state", LONG, || {
        let peer = echo();
        let socket = open(&peer);
        let (reader, writer) = (socket.reader(), socket.writer());
        in_a_forked_child(|| {
            fails(socket.opened(), ErrorKind::InvalidState);
            fails(socket.opened_timeout(ms(10)), ErrorKind::InvalidState);
            fails(read(&socket, 1), ErrorKind::InvalidState);
            fails(read(&reader, 1), ErrorKind::InvalidState);
            fails((&socket).write(b"x"), ErrorKind::InvalidState);
            fails((&writer).write(b"x"), ErrorKind::InvalidState);
            fails((&writer).flush(), ErrorKind::InvalidState);
            fails(writer.close(), ErrorKind::InvalidState);
            fails(socket.closed(), ErrorKind::InvalidState);
            fails(socket.closed_timeout(ms(10)), ErrorKind::InvalidState);
            fails(socket.close(), ErrorKind::InvalidState);
            let Health::Failed(error) = socket.health() else { panic!("it is not known") };
            assert_eq!(error.kind(), ErrorKind::InvalidState);
        });
        still_works(&socket);
        peer.ending();
    });
}

/// Before the library was used there is nothing to be confused about.
#[test]
fn a_child_of_a_parent_that_never_connected_may_connect() {
    alone("fork::a_child_of_a_parent_that_never_connected_may_connect", LONG, || {
        let peer = echo();
        in_a_forked_child(|| still_works(&open(&peer)));
        peer.ending();
    });
}

#[test]
fn drop_close_and_abort_in_the_child_leave_the_parents_connection_alone() {
    alone(
        "fork::drop_close_and_abort_in_the_child_leave_the_parents_connection_alone",
        LONG,
        || {
            let ends: [fn(Socket); 6] = [
                drop,
                |socket| fails(socket.close(), ErrorKind::InvalidState),
                |socket| socket.abort(),
                |socket| socket.writer().abort(),
                |socket| fails(socket.writer().close(), ErrorKind::InvalidState),
                |socket| socket.reader().cancel(),
            ];
            for end in ends {
                let peer = echo();
                let socket = open(&peer);
                // The child's copy is its last handle, so that its drop is the last one there.
                let mut copy = Some(socket);
                in_a_forked_child(|| {
                    let socket = copy.take().expect("the child has its own");
                    end(socket);
                });
                still_works(copy.as_ref().expect("the child took only its own"));
                peer.ending();
            }
        },
    );
}

#[test]
fn a_fork_while_the_parent_is_blocked_disturbs_no_call() {
    alone("fork::a_fork_while_the_parent_is_blocked_disturbs_no_call", LONG, || {
        let peer = echo();
        let socket = open(&peer);
        for _ in 0..20 {
            let reader = socket.reader();
            let reading = crate::support::blocked(move || read(reader, 4));
            in_a_forked_child(|| {
                socket.abort();
                fails(read(&socket, 1), ErrorKind::InvalidState);
            });
            (&socket).write_all(b"ping").expect("the peer reads");
            assert_eq!(reading.join().expect("the peer answers"), b"ping");
        }
        still_works(&socket);
        peer.ending();
    });
}

#[test]
fn a_fork_while_connecting_disturbs_no_attempt() {
    alone("fork::a_fork_while_connecting_disturbs_no_attempt", LONG, || {
        let hole = black_hole();
        let options = SocketOptions::new().connect_timeout(ms(1500));
        let socket = sockeye::connect_with(hole.address, options).expect("the address is fine");
        in_a_forked_child(|| {
            fails(socket.opened(), ErrorKind::InvalidState);
            socket.abort();
        });
        fails(socket.opened_timeout(ms(50)), ErrorKind::TimedOut);
        let error = socket.opened().expect_err("nobody answers");
        assert_eq!(error.attempts().len(), 1, "the attempt went on to its limit: {error:?}");
    });
}

/// A child that lives on with copies of the descriptors keeps no end from the peer that the parent sends.
#[test]
fn a_child_that_lives_on_does_not_hide_the_parents_close() {
    alone("fork::a_child_that_lives_on_does_not_hide_the_parents_close", LONG, || {
        let peer = Peer::reads();
        let socket = open(&peer);
        let (wait, go) = rustix::pipe::pipe().expect("descriptors are free");
        // SAFETY: as in `in_a_forked_child`; this child only waits for the pipe to end.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "no process could be had");
        if child == 0 {
            drop(go);
            let _ = rustix::io::read(&wait, &mut [0]);
            // SAFETY: ends the child without running anything else in it.
            unsafe { libc::_exit(0) };
        }
        (&socket).write_all(b"words").expect("the peer reads");
        socket.close().expect("the peer reads");
        // The clean end has to reach the peer while the child still holds its copies.
        peer.gets(b"words");
        drop(go);
        let child = Pid::from_raw(child).expect("the child has a number");
        waitpid(Some(child), WaitOptions::empty()).expect("it is a child of this process");
    });
}

#[test]
fn every_descriptor_closes_when_another_program_is_started() {
    alone("fork::every_descriptor_closes_when_another_program_is_started", LONG, || {
        let before = descriptors();
        let peer = echo();
        let socket = open_with(&peer, SocketOptions::new());
        let hole = black_hole();
        let connecting = sockeye::connect(hole.address).expect("the address is fine");
        let named = sockeye::connect("localhost:9").expect("the address is fine");
        // A blocked read has whatever a waiting thread needs.
        let reader = socket.reader();
        let reading = crate::support::blocked(move || read(reader, 4));
        let new: Vec<_> = descriptors().difference(&before).copied().collect();
        assert!(new.len() >= 3, "the loop, the connection and the attempt have some: {new:?}");
        for descriptor in new {
            assert!(closes_on_exec(descriptor), "descriptor {descriptor} outlives exec");
        }
        // And so says a program that is started now: it has the three that it was given, and its own look.
        let output = Command::new("ls").arg("/proc/self/fd").output().expect("it is everywhere");
        let seen = String::from_utf8_lossy(&output.stdout).lines().count();
        assert!(
            seen <= 4 + before.iter().filter(|one| **one > 2 && !closes_on_exec(**one)).count(),
            "{seen}"
        );
        (&socket).write_all(b"ping").expect("the peer reads");
        assert_eq!(reading.join().expect("the peer answers"), b"ping");
        drop((connecting, named));
        eventually(PATIENCE, "the connection ends", || {
            socket.abort();
            socket.closed_timeout(ms(10)).is_err_and(|error| error.kind() == ErrorKind::Closed)
        });
    });
}
