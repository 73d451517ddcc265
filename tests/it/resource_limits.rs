//! Many connections, and a system without free descriptors, threads or memory.
//! Each test counts or uses up resources of its process, so each runs in a process of its own.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sockeye::{ErrorKind, Socket, SocketOptions};

use crate::support::net::TcpListener;
use crate::support::peer::{Server, black_hole, listen, listen_on};
use crate::support::process::{
    memory, processor_time, settled_descriptors, take_all_descriptors, threads,
};
use crate::support::subprocess::{
    TestProcess, child_part, in_subprocess, in_unprivileged_subprocess, next_line, run_part, say,
};
use crate::support::{
    PROMPT, Peer, WATCHDOG, assert_fails, at_once, crate_kind, eventually, ms, open, open_with,
    raise_descriptor_limit, read, read_exactly, skip, spawn_call, system_code, timed,
};

const LONG: Duration = Duration::from_secs(150);

/// The event loop and at most two more: a resolver thread and a helper.
const MOST_THREADS: usize = 3;

fn local(last: u8) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 0, last), 0).into()
}

// -------------------------------------------------------------------- one after another

#[test]
fn twenty_thousand_connections_leak_nothing() {
    const NAME: &str = "resource_limits::twenty_thousand_connections_leak_nothing";
    const LIVES: usize = 20_000;
    const WARM_UP: usize = 4_000;
    in_subprocess(NAME, LONG, || {
        // The peers accept in threads of this process, so their descriptors are counted with it.
        let listeners: Vec<_> = (1..=8).map(|last| listen_on(local(last), 1024, None)).collect();
        let addresses: Vec<_> =
            listeners.iter().map(|one| one.local_addr().expect("it listens")).collect();
        for listener in listeners {
            thread::spawn(move || {
                while let Ok((mut stream, _)) = listener.accept() {
                    let _ = io::copy(&mut stream, &mut io::sink());
                }
            });
        }
        let mut before = None;
        for life in 0..LIVES {
            if life == WARM_UP {
                before = Some((settled_descriptors(), threads(), memory()));
            }
            live(life, addresses[life % addresses.len()]);
        }
        let (descriptors, threads_before, memory_before) = before.expect("the warm-up is over");
        eventually(WATCHDOG, "the descriptors are closed", || settled_descriptors() <= descriptors);
        assert!(threads() <= threads_before, "{threads_before} threads became {}", threads());
        let grown = memory().saturating_sub(memory_before);
        // The bound is 100 bytes per connection; the allocator's own fluctuation stays below it.
        assert!(
            grown < 100 * (LIVES - WARM_UP),
            "{grown} bytes more after {} connections",
            LIVES - WARM_UP
        );
    });
}

/// Opens a connection and ends it in the way that `number` selects. Each way must free everything.
fn live(number: usize, address: SocketAddr) {
    let socket = sockeye::connect(address).expect("the address is valid");
    match number % 5 {
        0 => drop(socket),
        1 => {
            socket.opened().expect("the peer listens");
            socket.close().expect("the peer reads");
        }
        2 => {
            (&socket).write_all(b"words").expect("the peer reads");
            socket.abort();
        }
        3 => {
            socket.writer().close().expect("the peer reads");
            assert_eq!(read(&socket, 1).expect("a clean end"), b"");
            socket.closed().expect("both directions ended");
        }
        _ => {
            (&socket).write_all(b"words").expect("the peer reads");
            assert_fails(socket.closed_timeout(Duration::ZERO), ErrorKind::TimedOut);
            drop(socket.reader());
            drop(socket);
        }
    }
}

/// The same applies to sockets that failed or were closed while connecting.
#[test]
fn a_thousand_failed_attempts_leak_nothing() {
    in_subprocess("resource_limits::a_thousand_failed_attempts_leak_nothing", LONG, || {
        let hole = black_hole();
        let nothing = crate::support::peer::closed_port();
        let mut before = None;
        for round in 0..1_000 {
            if round == 100 {
                before = Some((settled_descriptors(), threads()));
            }
            let refused = sockeye::connect(nothing.address).expect("the address is valid");
            assert_fails(refused.opened(), ErrorKind::Connect);
            let stuck = sockeye::connect(hole.address).expect("the address is valid");
            match round % 3 {
                0 => stuck.abort(),
                1 => stuck.close().expect("it cancels the attempt"),
                _ => drop(stuck),
            }
        }
        let (descriptors, threads_before) = before.expect("some rounds are over");
        eventually(WATCHDOG, "the descriptors are closed", || settled_descriptors() <= descriptors);
        assert!(threads() <= threads_before);
    });
}

// -------------------------------------------------------------------- all at once

#[test]
fn fifteen_thousand_sockets_need_three_threads_at_most() {
    const NAME: &str = "resource_limits::fifteen_thousand_sockets_need_three_threads_at_most";
    const COUNT: usize = 15_000;
    if !raise_descriptor_limit(COUNT as u64 + 500) {
        return skip(NAME, "the limit of descriptors is too low");
    }
    match child_part().as_deref() {
        None => {
            let mut peers = TestProcess::new(NAME, "peers");
            let addresses = peers.expect_line("addresses");
            let mut program = TestProcess::new(NAME, "program");
            program.send_line(&addresses);
            program.expect_line("opened");
            peers.send_line("send");
            program.expect_line("read");
            program.expect_success(LONG);
            peers.expect_success(LONG);
        }
        Some("peers") => run_part(|| hold_connections(COUNT)),
        Some(_) => run_part(|| open_sockets(COUNT)),
    }
}

/// Accepts on eight addresses, sends a byte on each connection at a signal, and reads one from each.
fn hold_connections(count: usize) {
    let listeners: Vec<_> = (1..=8).map(|last| listen_on(local(last), 4096, None)).collect();
    let addresses: Vec<_> = listeners
        .iter()
        .map(|listener| listener.local_addr().expect("it listens").to_string())
        .collect();
    let share = count / listeners.len();
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            spawn_call(move || {
                (0..share)
                    .map(|_| listener.accept().expect("the listener accepts").0)
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    say(&format!("addresses {}", addresses.join(" ")));
    let streams: Vec<TcpStream> =
        accepting.into_iter().flat_map(|accepted| accepted.join_within(LONG)).collect();
    assert_eq!(next_line().as_deref(), Some("send"));
    for mut stream in &streams {
        stream.write_all(b"!").expect("the program holds it open");
    }
    for stream in &streams {
        assert_eq!(read_exactly(stream, 1).expect("the program answers"), b"?");
    }
}

fn open_sockets(count: usize) {
    let line = next_line().expect("the addresses come first");
    let addresses: Vec<SocketAddr> =
        line.split(' ').map(|one| one.parse().expect("it is an address")).collect();
    let before = threads();
    let sockets: Vec<Socket> = (0..count)
        .map(|number| {
            sockeye::connect(addresses[number % addresses.len()]).expect("the address is valid")
        })
        .collect();
    for socket in &sockets {
        socket.opened().expect("the peers listen");
    }
    let more = threads() - before;
    assert!(more <= MOST_THREADS, "{more} threads for {count} sockets");
    say("opened");
    for mut socket in &sockets {
        assert_eq!(read(socket, 10).expect("the peers send"), b"!");
        assert_eq!(socket.write(b"?").expect("the peers read"), 1);
    }
    let more = threads() - before;
    assert!(more <= MOST_THREADS, "{more} threads for {count} sockets");
    say("read");
    for socket in &sockets {
        socket.closed().expect("the peers end cleanly");
    }
}

/// Blocked calls use the callers' threads; the library adds none.
#[test]
fn blocked_calls_add_no_threads() {
    in_subprocess("resource_limits::blocked_calls_add_no_threads", LONG, || {
        const COUNT: usize = 50;
        let server = Server::echoes();
        let first = sockeye::connect(server.address()).expect("the address is valid");
        first.opened().expect("the server listens");
        // The peer has one thread for the listener, which already exists, and one for each connection.
        let before = threads();
        let sockets: Vec<_> = (0..COUNT)
            .map(|_| sockeye::connect(server.address()).expect("the address is valid"))
            .collect();
        let reads: Vec<_> = sockets
            .iter()
            .map(|socket| {
                let reader = socket.reader();
                crate::support::spawn_blocked(move || read(reader, 1))
            })
            .collect();
        eventually(WATCHDOG, "every connection has its echo", || threads() >= before + 2 * COUNT);
        let more = threads() - before - 2 * COUNT;
        assert!(more <= MOST_THREADS, "{more} threads for {COUNT} blocked reads");
        for (socket, reading) in sockets.iter().zip(reads) {
            socket.abort();
            assert_fails(reading.join(), ErrorKind::Closed);
        }
    });
}

/// In no state of an idle socket does the event loop or a blocked call spin.
#[test]
fn idle_sockets_use_no_cpu_time() {
    in_subprocess("resource_limits::idle_sockets_use_no_cpu_time", LONG, || {
        let half_open = || SocketOptions::new().allow_half_open(true);
        let ended = Peer::scripted(|wire| {
            wire.fin();
            wire.wait_signal();
        });
        let half_closed = open_with(&ended, half_open());
        assert_eq!(read(&half_closed, 1).expect("a clean end"), b"");
        let unread_end = Peer::scripted(|wire| {
            wire.send(b"unread");
            wire.fin();
            wire.wait_signal();
        });
        let unread_ended = open_with(&unread_end, half_open());
        let unread_reset = Peer::scripted(|wire| {
            wire.send(b"unread");
            wire.wait_signal();
            wire.reset();
        });
        let was_reset = open(&unread_reset);
        unread_reset.signal();
        assert_fails(was_reset.closed_timeout(WATCHDOG), ErrorKind::Reset);
        let quiet = Peer::scripted(|wire| wire.wait_signal());
        let cancelled = open(&quiet);
        cancelled.reader().cancel();
        let stays = Peer::scripted(|wire| {
            wire.read_to_end();
            wire.wait_signal();
        });
        let closed_writer = open(&stays);
        closed_writer.writer().close().expect("the peer reads");
        let lingers = Peer::scripted(|wire| {
            wire.read_to_end();
            wire.wait_signal();
        });
        open(&lingers).close().expect("the peer reads");
        let stuck = Peer::not_reading();
        let blocked = open_with(&stuck, crate::support::small_send_buffer());
        let calls = crate::support::spawn_blocked_read_and_write(&blocked);
        let hole = black_hole();
        let connecting = sockeye::connect(hole.address).expect("the address is valid");

        assert_fails(unread_ended.closed_timeout(ms(500)), ErrorKind::TimedOut);
        let before = processor_time();
        assert_fails(unread_ended.closed_timeout(ms(1500)), ErrorKind::TimedOut);
        let spent = processor_time() - before;
        assert!(spent < ms(150), "{spent:?} of 1.5 s");
        blocked.abort();
        assert_fails(calls.0.join(), ErrorKind::Closed);
        drop((half_closed, unread_ended, was_reset, cancelled, closed_writer, connecting));
    });
}

// -------------------------------------------------------------------- no free descriptor

#[track_caller]
fn fails_for_want_of_a_descriptor(address: SocketAddr) {
    let socket = sockeye::connect(address).expect("the address is valid");
    let error = at_once(|| socket.opened()).expect_err("no descriptor is left");
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    // The C library's text, without the code that `std` appends.
    let text = io::Error::from_raw_os_error(libc::EMFILE).to_string();
    let text = text.split(" (os error").next().expect("there is a first part");
    assert!(error.to_string().contains(text), "{error}");
    assert_eq!(system_code(&error), Some(libc::EMFILE), "{error:?}");
    assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Io);
    let failure = read(&socket, 1).expect_err("no descriptor is left");
    assert_eq!(crate_kind(&failure), ErrorKind::Io);
    assert_eq!(failure.kind(), io::Error::from_raw_os_error(libc::EMFILE).kind());
}

#[track_caller]
fn works(listener: &TcpListener) {
    let address = listener.local_addr().expect("it listens");
    let socket = sockeye::connect(address).expect("the address is valid");
    socket.opened_timeout(WATCHDOG).expect("descriptors are free again");
    let mine = socket.opened().expect("it is open").local_address().expect("it is connected");
    // Connections of earlier attempts are first in the backlog.
    let mut stream = loop {
        let (stream, from) = listener.accept().expect("the listener accepts");
        if from == mine {
            break stream;
        }
    };
    stream.write_all(b"well").expect("the program reads");
    assert_eq!(read_exactly(&socket, 4).expect("the peer sends"), b"well");
    (&socket).write_all(b"done").expect("the peer reads");
    assert_eq!(read_exactly(&stream, 4).expect("the program sends"), b"done");
    socket.close().expect("the peer reads");
}

#[test]
fn without_descriptors_a_socket_fails_and_later_ones_work() {
    in_subprocess(
        "resource_limits::without_descriptors_a_socket_fails_and_later_ones_work",
        LONG,
        || {
            let listener = listen();
            works(&listener);
            // A lingering wire of the earlier socket would free a descriptor for the next one.
            settled_descriptors();
            let taken = take_all_descriptors();
            for _ in 0..3 {
                fails_for_want_of_a_descriptor(listener.local_addr().expect("it listens"));
            }
            drop(taken);
            works(&listener);
        },
    );
}

#[test]
fn without_descriptors_the_very_first_socket_fails_and_later_ones_work() {
    in_subprocess(
        "resource_limits::without_descriptors_the_very_first_socket_fails_and_later_ones_work",
        LONG,
        || {
            let listener = listen();
            let taken = take_all_descriptors();
            for _ in 0..3 {
                fails_for_want_of_a_descriptor(listener.local_addr().expect("it listens"));
            }
            drop(taken);
            works(&listener);
        },
    );
}

/// The limit rises by one each time, so that each descriptor of a first socket is missing once.
#[test]
fn a_first_socket_fails_or_works_however_few_descriptors_are_left() {
    in_subprocess(
        "resource_limits::a_first_socket_fails_or_works_however_few_descriptors_are_left",
        LONG,
        || {
            let listener = listen();
            let address = listener.local_addr().expect("it listens");
            let mut taken = take_all_descriptors();
            for free in 0..16 {
                let socket = sockeye::connect(address).expect("the address is valid");
                if let Err(error) = at_once(|| socket.opened()) {
                    assert_eq!(error.kind(), ErrorKind::Io, "with {free} free: {error:?}");
                }
                drop(socket);
                taken.pop();
            }
            drop(taken);
            works(&listener);
        },
    );
}

/// A thread that has no wake handle yet, and cannot create one, can still wait.
#[test]
fn without_descriptors_a_new_thread_can_still_block_in_a_read() {
    in_subprocess(
        "resource_limits::without_descriptors_a_new_thread_can_still_block_in_a_read",
        LONG,
        || {
            let peer = Peer::scripted(|wire| {
                wire.send(b"in");
                wire.wait_signal();
                wire.send(b"data");
            });
            let socket = open(&peer);
            // After this byte the peer has its descriptor, too.
            assert_eq!(read_exactly(&socket, 2).expect("the peer sends"), b"in");
            let taken = take_all_descriptors();
            let (reader, other) = (socket.reader(), socket.clone());
            let reading = crate::support::spawn_blocked(move || read(reader, 10));
            peer.signal();
            assert_eq!(reading.join().expect("the peer sends"), b"data");
            let closing = crate::support::spawn_blocked(move || read(&other, 10));
            at_once(|| socket.close()).expect("nothing prevents it");
            assert_fails(closing.join_within(PROMPT), ErrorKind::Closed);
            let (result, took) = timed(|| {
                let socket = socket.clone();
                spawn_call(move || socket.closed_timeout(ms(100))).join()
            });
            result.expect("it was closed");
            assert!(took < PROMPT, "took {took:?}");
            drop(taken);
        },
    );
}

// -------------------------------------------------------------------- no free thread

/// The limit does not apply to root, so root runs the test as user 65534.
#[test]
fn without_threads_a_socket_fails_and_later_ones_work() {
    const NAME: &str = "resource_limits::without_threads_a_socket_fails_and_later_ones_work";
    in_unprivileged_subprocess(NAME, LONG, starve_of_threads);
}

fn starve_of_threads() {
    let listener = listen();
    let address = listener.local_addr().expect("it listens");
    let hole = black_hole();
    let limit = getrlimit(Resource::Nproc);
    setrlimit(Resource::Nproc, Rlimit { current: Some(0), maximum: limit.maximum })
        .expect("a limit may be lowered");
    if thread::Builder::new().spawn(|| ()).is_ok() {
        return skip("without_threads", "the limit of threads does not apply to this user");
    }
    let options = SocketOptions::new().connect_timeout(Duration::from_secs(20));
    for _ in 0..3 {
        // Waiting for an answer needs the loop's thread, so this attempt must fail.
        let socket =
            sockeye::connect_with(hole.address, options.clone()).expect("the address is valid");
        let error = at_once(|| socket.opened()).expect_err("no thread can be started");
        assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
        assert_eq!(system_code(&error), Some(libc::EAGAIN), "{error:?}");
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Io);
        // An attempt that connects at once may need no thread.
        let socket = sockeye::connect(address).expect("the address is valid");
        if let Err(error) = at_once(|| socket.opened()) {
            assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
        }
        drop(socket);
        // A name must not cause a panic either.
        let socket = sockeye::connect(("localhost", address.port())).expect("the address is valid");
        let error = at_once(|| socket.opened()).expect_err("no thread can be started");
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Resolve), "{error:?}");
    }
    setrlimit(Resource::Nproc, limit).expect("a limit may be raised to its maximum");
    works(&listener);
}
