//! Former bugs that needed rare timing: panics in user code, limits that had passed before, forks of a busy process,
//! and failures that the kernel reports only once.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::{error, fmt};

use sockeye::{Connector, ErrorKind, Resolver, Socket, SocketOptions};

use crate::support::peer::{PeerConn, black_hole, closed_port};
use crate::support::{
    Peer, WATCHDOG, assert_fails, assert_times_out, at_once, ms, open, open_with, past_instant,
    read, spawn_blocked, spawn_call, with_watchdog,
};

// -------------------------------------------------------------------- panics during a lookup

/// A resolver that answers when the test signals it.
struct Later {
    go: Mutex<Receiver<()>>,
    answer: fn(&Later) -> io::Result<Vec<IpAddr>>,
    /// Makes the resolver panic when it is dropped.
    bomb: bool,
    cell: Arc<Mutex<Option<Socket>>>,
}

impl Resolver for Later {
    fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let go = self.go.lock().unwrap_or_else(PoisonError::into_inner);
        go.recv_timeout(WATCHDOG).expect("the test sends the signal");
        (self.answer)(self)
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        assert!(!self.bomb, "a resolver that panics when it is dropped: this is expected");
    }
}

/// Checks that every call on a socket with this resolver returns, and that the lookup fails.
#[track_caller]
fn look_up_fails(answer: fn(&Later) -> io::Result<Vec<IpAddr>>, bomb: bool) {
    let (say, go) = mpsc::channel();
    let cell = Arc::new(Mutex::new(None));
    let resolver = Later { go: Mutex::new(go), answer, bomb, cell: Arc::clone(&cell) };
    let connector = Connector::builder().resolver(resolver).build().expect("the rules are valid");
    let socket = connector.connect(("name.test", 9)).expect("the address is valid");
    *cell.lock().expect("no thread panics while it holds the lock") = Some(socket.clone());
    // From here on only the lookup holds the resolver.
    drop(connector);
    let opening = socket.clone();
    let opened = spawn_call(move || opening.opened().map(drop));
    say.send(()).expect("the lookup waits for it");
    assert_fails(opened.join(), ErrorKind::Resolve);
    let closing = socket.clone();
    spawn_call(move || closing.close()).join().expect("the socket has already failed");
    assert_fails(socket.closed_timeout(WATCHDOG), ErrorKind::Resolve);
    assert_fails(socket.opened_timeout(WATCHDOG), ErrorKind::Resolve);
    // The test itself created the reference cycle through the error.
    *cell.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

#[test]
fn a_resolver_that_panics_when_it_is_dropped_fails_its_lookup() {
    with_watchdog(|| look_up_fails(|_| Ok(vec![Ipv4Addr::LOCALHOST.into()]), true));
}

#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("an error that panics when it is displayed: this is expected");
    }
}

impl error::Error for Unspeakable {}

#[test]
fn an_error_that_panics_when_it_is_displayed_fails_its_lookup() {
    with_watchdog(|| look_up_fails(|_| Err(io::Error::other(Unspeakable)), false));
}

/// An error whose text queries the socket whose lookup it ends.
struct Curious(Arc<Mutex<Option<Socket>>>);

impl fmt::Debug for Curious {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Curious")
    }
}

impl fmt::Display for Curious {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        write!(f, "the socket is {:?}", socket.map(|socket| socket.phase()))
    }
}

impl error::Error for Curious {}

#[test]
fn an_error_whose_text_queries_the_socket_fails_its_lookup() {
    with_watchdog(|| {
        look_up_fails(|this| Err(io::Error::other(Curious(Arc::clone(&this.cell)))), false);
    });
}

// -------------------------------------------------------------------- limits that passed before

/// Checks that a deadline in the past hides nothing that has happened to the socket.
#[track_caller]
fn gives_its_cause(socket: &Socket, cause: ErrorKind) {
    for deadline in [None, Some(past_instant())] {
        socket.set_deadline(deadline);
        assert_fails(read(socket, 1), cause);
        assert_fails(read(socket.reader(), 1), cause);
        assert_fails((&mut &*socket).write(b"x"), cause);
        assert_fails(socket.writer().write(b"x"), cause);
    }
}

#[test]
fn a_socket_that_has_ended_reports_its_cause_even_after_the_deadline() {
    with_watchdog(|| {
        let nothing = closed_port();
        let refused = sockeye::connect(nothing.address).expect("the address is valid");
        assert_fails(refused.opened(), ErrorKind::Connect);
        gives_its_cause(&refused, ErrorKind::Connect);

        let peer = Peer::resetting();
        let reset = open(&peer);
        peer.signal();
        assert_fails(reset.closed_timeout(WATCHDOG), ErrorKind::Reset);
        gives_its_cause(&reset, ErrorKind::Reset);

        let peer = Peer::reading();
        let closed = open(&peer);
        closed.close().expect("the peer reads");
        gives_its_cause(&closed, ErrorKind::Closed);
        peer.assert_received(b"");

        let peer = Peer::reading();
        let aborted = open(&peer);
        aborted.abort();
        gives_its_cause(&aborted, ErrorKind::Closed);
        peer.assert_reset();
    });
}

#[test]
fn closing_a_closed_side_takes_no_time() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open(&peer);
        socket.writer().close().expect("the peer reads");
        socket.set_deadline(Some(past_instant()));
        socket.writer().close().expect("the side is closed already");
        assert_fails(socket.writer().write(b"x"), ErrorKind::Closed);
        assert_times_out(read(&open_with_deadline(), 1));
        peer.assert_received(b"");
    });
}

/// Returns an open socket, to which the deadline does apply.
fn open_with_deadline() -> Socket {
    let peer = Peer::reading();
    let socket = open(&peer);
    socket.set_deadline(Some(past_instant()));
    socket
}

// -------------------------------------------------------------------- peers that never stop

#[test]
fn peers_that_flood_cancelled_readers_delay_no_timeout() {
    /// More than the buffers of both sides hold.
    const MUCH: usize = 16 << 20;
    const CHUNK: usize = 256 << 10;
    with_watchdog(|| {
        let hole = black_hole();
        let over = Arc::new(AtomicBool::new(false));
        let floods: Vec<_> = (0..3)
            .map(|_| {
                let (say, flooding) = mpsc::channel();
                let over = Arc::clone(&over);
                let peer = Peer::scripted(move |wire| {
                    let chunk = vec![b'.'; CHUNK];
                    let much = |wire: &mut PeerConn| {
                        (0..MUCH / CHUNK).for_each(|_| wire.send(&chunk));
                    };
                    much(wire);
                    say.send(()).expect("the test waits for it");
                    while !over.load(Ordering::SeqCst) {
                        wire.send(&chunk);
                    }
                    // Once the peer has sent this much more, the socket has drained the whole flood.
                    much(wire);
                    say.send(()).expect("the test waits for it");
                });
                let socket = open(&peer);
                socket.reader().cancel();
                (peer, socket, flooding)
            })
            .collect();
        for (_, _, flooding) in &floods {
            flooding.recv_timeout(WATCHDOG).expect("the socket drains the flood");
        }
        for _ in 0..5 {
            let options = SocketOptions::new().connect_timeout(ms(100));
            let socket =
                sockeye::connect_with(hole.address, options).expect("the address is valid");
            assert_fails(at_once(|| socket.opened()), ErrorKind::TimedOut);
        }
        over.store(true, Ordering::SeqCst);
        for (peer, socket, flooding) in floods {
            flooding.recv_timeout(WATCHDOG).expect("the socket drains the flood");
            assert_eq!(socket.stats().bytes_read, 0, "drained bytes are not counted");
            assert_fails(socket.closed_timeout(ms(0)), ErrorKind::TimedOut);
            (&socket).write_all(b"over").expect("the peer reads at the end");
            socket.writer().close().expect("the peer reads");
            peer.assert_eof_after(b"over");
        }
    });
}

// -------------------------------------------------------------------- after the end

#[test]
fn reads_after_close_fail_even_if_the_peer_had_ended() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| wire.fin());
        let socket = open_with(&peer, SocketOptions::new().allow_half_open(true));
        assert_eq!(read(&socket, 1).expect("a clean end"), b"");
        (&socket).write_all(b"still open").expect("the peer reads");
        assert_eq!(read(&socket, 1).expect("a clean end"), b"");
        socket.close().expect("the peer reads");
        assert_fails(read(&socket, 1), ErrorKind::Closed);
        assert_fails(read(socket.reader(), 1), ErrorKind::Closed);
        assert_fails((&socket).write(b"x"), ErrorKind::Closed);
        socket.closed().expect("a clean end");
        peer.assert_received(b"still open");
    });
}

/// Data that the peer sends in reply to this side's end belongs to no read, even if it arrives before the reader wakes.
#[test]
fn a_read_that_close_has_ended_takes_no_later_data() {
    for _ in 0..100 {
        with_watchdog(|| {
            let peer = Peer::scripted(|wire| {
                wire.read_to_end();
                wire.send(b"late");
            });
            let socket = open(&peer);
            let reader = socket.reader();
            let reading = spawn_blocked(move || read(reader, 10));
            socket.close().expect("the close succeeds");
            assert_fails(reading.join(), ErrorKind::Closed);
            peer.assert_eof_after(b"");
        });
    }
}

// -------------------------------------------------------------------- only on Linux

#[cfg(target_os = "linux")]
mod on_linux {
    #![allow(unsafe_code)]

    use std::fs;
    use std::os::fd::AsRawFd;
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Pid, WaitOptions, waitpid};
    use socket2::SockRef;
    use sockeye::TcpOptions;

    use super::*;
    use crate::support::peer::{listen, listen_with_room};
    use crate::support::process::{connection, descriptors, processor_time};
    use crate::support::subprocess::in_subprocess;
    use crate::support::{crate_kind, eventually, read_exactly, read_to_end, write_until_error};

    const LONG: Duration = Duration::from_secs(60);

    // ---------------------------------------------------------------- urgent data

    #[test]
    fn unread_urgent_data_uses_no_cpu_time() {
        const NAME: &str = "regressions::on_linux::unread_urgent_data_uses_no_cpu_time";
        in_subprocess(NAME, LONG, || {
            let urgent = |before: &'static [u8]| {
                let (say, sent) = mpsc::channel();
                let peer = Peer::scripted(move |wire| {
                    wire.send(before);
                    wire.spawn_part(move |stream| {
                        SockRef::from(&stream)
                            .send_out_of_band(b"!")
                            .expect("the send buffer has room");
                        say.send(()).expect("the test waits for it");
                    });
                    wire.wait_signal();
                });
                (peer, sent)
            };
            let (beside_bytes, sent) = urgent(b"unread");
            let (alone, sent_alone) = urgent(b"");
            let (cancelled, sent_to_cancelled) = urgent(b"unread");
            let socket = open(&beside_bytes);
            let silent = open(&alone);
            let deaf = open(&cancelled);
            deaf.reader().cancel();
            for sent in [sent, sent_alone, sent_to_cancelled] {
                sent.recv_timeout(WATCHDOG).expect("the peer sends the byte");
            }
            // The loop watches every wire of this process after this time.
            assert_fails(socket.closed_timeout(ms(400)), ErrorKind::TimedOut);
            let before = processor_time();
            assert_fails(socket.closed_timeout(ms(1000)), ErrorKind::TimedOut);
            let spent = processor_time() - before;
            assert!(spent < ms(150), "the idle process used {spent:?} in a second");
            assert_eq!(read_exactly(&socket, 6).expect("the peer has sent it"), b"unread");
            assert_fails(silent.closed_timeout(ms(0)), ErrorKind::TimedOut);
        });
    }

    // ---------------------------------------------------------------- forks

    #[test]
    fn in_a_child_forked_in_a_busy_moment_queries_return() {
        const NAME: &str =
            "regressions::on_linux::in_a_child_forked_in_a_busy_moment_queries_return";
        const FORKS: usize = 200;
        in_subprocess(NAME, LONG, || {
            let peer = Peer::scripted(|wire| {
                // The loop ends with the abort.
                while wire.try_send(&[b'.'; 64 * 1024]).is_ok() {}
            });
            let socket = open(&peer);
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let reader = socket.reader();
                    spawn_call(move || while read(&reader, 1).is_ok() {})
                })
                .collect();
            for number in 0..FORKS {
                // SAFETY: the child continues as a copy of this thread alone. It takes no lock that another thread may
                // have held; the test checks that the library needs none, and the alarm ends a deadlock. It leaves via
                // _exit.
                let child = unsafe { libc::fork() };
                assert!(child >= 0, "fork failed");
                if child == 0 {
                    // SAFETY: alarm only sets a timer, whose signal ends the child.
                    unsafe { libc::alarm(5) };
                    let _ = socket.phase();
                    let _ = socket.stats();
                    let text = format!("{socket:?} {:?} {:?}", socket.reader(), socket.writer());
                    socket.set_deadline(Some(past_instant()));
                    let refused =
                        [socket.set_read_timeout(Some(ms(10))), socket.set_write_timeout(None)]
                            .into_iter()
                            .all(|result| {
                                result.is_err_and(|error| error.kind() == ErrorKind::InvalidState)
                            });
                    let well = refused && text.contains("Socket");
                    // SAFETY: _exit ends the child without running anything else in it.
                    unsafe { libc::_exit(if well { 0 } else { 1 }) };
                }
                let child = Pid::from_raw(child).expect("a process id is positive");
                let (_, status) = waitpid(Some(child), WaitOptions::empty())
                    .expect("waitpid accepts a child of this process")
                    .expect("waitpid returns when the child has ended");
                assert_eq!(status.terminating_signal(), None, "child {number} hangs");
                assert_eq!(status.exit_status(), Some(0), "child {number} saw a different result");
            }
            socket.abort();
            readers.into_iter().for_each(|reader| reader.join());
        });
    }

    // ---------------------------------------------------------------- loggers

    /// The number of times that the logger panicked on the event loop's thread.
    static PANICS: AtomicUsize = AtomicUsize::new(0);

    struct Panicking;

    impl log::Log for Panicking {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            assert!(!for_the_loop(), "a logger that panics in `enabled`: this is expected");
            true
        }

        fn log(&self, _: &log::Record<'_>) {
            if for_the_loop() {
                PANICS.fetch_add(1, Ordering::SeqCst);
            }
            panic!("a logger that panics: this is expected");
        }

        fn flush(&self) {}
    }

    fn for_the_loop() -> bool {
        thread::current().name() == Some("sockeye-log")
    }

    /// Checks that the socket's connect timeout passes, not the limit of this call.
    #[track_caller]
    fn expires(socket: &Socket) {
        let error = socket.opened_timeout(ms(10_000)).expect_err("the peer does not answer");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(!error.is_retryable(), "the connect timeout never passes: {error:?}");
    }

    #[test]
    fn a_logger_that_panics_does_not_end_the_loop() {
        in_subprocess(
            "regressions::on_linux::a_logger_that_panics_does_not_end_the_loop",
            LONG,
            || {
                log::set_logger(&Panicking).expect("the process has no logger yet");
                log::set_max_level(log::LevelFilter::Trace);
                // The loop's thread panics often here, so its messages are suppressed.
                let usual = std::panic::take_hook();
                std::panic::set_hook(Box::new(move |info| {
                    if !for_the_loop() {
                        usual(info);
                    }
                }));
                let hole = black_hole();
                let limited = |limit| {
                    let options = SocketOptions::new().connect_timeout(limit);
                    sockeye::connect_with(hole.address, options).expect("the address is valid")
                };
                let pending = limited(ms(1000));
                // When the loop has handled this socket it has also registered the first one.
                expires(&limited(ms(50)));
                keep_the_loop_from_polling(|| {
                    // The connect needs the loop, which then tries to poll.
                    let other = limited(ms(50));
                    eventually(WATCHDOG, "the loop logs a record", || {
                        PANICS.load(Ordering::SeqCst) > 1
                    });
                    drop(other);
                });
                expires(&limited(ms(100)));
                expires(&pending);
                let listener = listen();
                let address = listener.local_addr().expect("it listens");
                let connector = Connector::builder()
                    .resolver(|_: &str| Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]))
                    .build()
                    .expect("the rules are valid");
                let socket = connector.connect(("name.test", address.port())).expect("it is valid");
                socket.opened_timeout(WATCHDOG).expect("it listens");
            },
        );
    }

    /// Makes every poll of the event loop fail while `while_failing` runs.
    fn keep_the_loop_from_polling(while_failing: impl FnOnce()) {
        let null = fs::File::open("/dev/null").expect("the file exists");
        let polls: Vec<_> = descriptors()
            .into_iter()
            .filter(|number| {
                fs::read_link(format!("/proc/self/fd/{number}"))
                    .is_ok_and(|link| link.as_os_str() == "anon_inode:[eventpoll]")
            })
            .map(|number| {
                // SAFETY: the numbers are open, and dup2 restores them below.
                let kept = unsafe { libc::dup(number) };
                assert!(kept >= 0, "no descriptor is free");
                (number, kept)
            })
            .collect();
        assert!(!polls.is_empty(), "the loop has an epoll descriptor");
        for (number, _) in &polls {
            // SAFETY: the owner of the number only uses it for calls, which fail from now on.
            assert_eq!(unsafe { libc::dup2(null.as_raw_fd(), *number) }, *number);
        }
        while_failing();
        for (number, kept) in polls {
            // SAFETY: the number is restored, and this function owns the copy.
            unsafe {
                assert_eq!(libc::dup2(kept, number), number);
                libc::close(kept);
            }
        }
    }

    // ---------------------------------------------------------------- failures that the kernel reports once

    /// Opens a socket whose peer answered, ended, and then reset the connection on further data: the whole answer and
    /// the reset have arrived.
    fn answered_and_reset(options: SocketOptions) -> Socket {
        let (say, ended) = mpsc::channel();
        let peer = Peer::scripted(move |wire| {
            wire.receive(3);
            wire.send(b"a complete answer");
            wire.close();
            say.send(()).expect("the test waits for it");
        });
        let socket = open_with(&peer, options);
        let info = socket.opened().expect("it is open");
        let (local, remote) = (info.local_address(), info.remote_address());
        let wire = connection(local.expect("it is connected"), remote.expect("it is connected"));
        (&socket).write_all(b"ask").expect("the peer reads");
        ended.recv_timeout(WATCHDOG).expect("the peer answers");
        (&socket).write_all(b"ask again").expect("no reset has arrived yet");
        let mut looked_at = [PollFd::new(&wire, PollFlags::empty())];
        let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(poll(&mut looked_at, Some(&limit)).expect("poll accepts a socket"), 1);
        assert!(looked_at[0].revents().contains(PollFlags::HUP), "the reset has arrived");
        socket
    }

    #[test]
    fn a_complete_answer_has_a_clean_end_despite_a_later_reset() {
        with_watchdog(|| {
            for half_open in [false, true] {
                let options = || SocketOptions::new().allow_half_open(half_open);
                let socket = answered_and_reset(options());
                let answer = read_to_end(&socket).expect("the peer had ended before");
                assert_eq!(answer, b"a complete answer");
                assert_eq!(read(&socket, 1).expect("the peer had ended before"), b"");
            }
        });
    }

    /// The event loop sees the end first.
    #[test]
    fn an_unread_answer_has_a_clean_end_despite_a_later_reset() {
        with_watchdog(|| {
            let socket = answered_and_reset(SocketOptions::new());
            let _ = socket.closed_timeout(ms(400));
            let answer = read_to_end(&socket).expect("the peer had ended before");
            assert_eq!(answer, b"a complete answer");
        });
    }

    #[test]
    fn every_call_reports_a_lost_peer_as_lost() {
        const COUNT: usize = 50;
        with_watchdog(|| {
            let listener = listen_with_room(4096);
            let address = listener.local_addr().expect("it listens");
            let tcp = TcpOptions::new().send_buffer_size(4096).user_timeout(ms(500));
            let options = SocketOptions::new().tcp(tcp);
            let mut silent = Vec::new();
            let sockets: Vec<_> = (0..COUNT)
                .map(|_| {
                    let socket = sockeye::connect_with(address, options.clone())
                        .expect("the address is valid");
                    silent.push(listener.accept().expect("the listener accepts"));
                    socket.opened().expect("it listens");
                    let writer = socket.writer();
                    (spawn_call(move || write_until_error(writer, b'w', usize::MAX).1), socket)
                })
                .collect();
            for (writing, socket) in sockets {
                let failure = writing.join().expect("the peer does not read");
                assert_eq!(crate_kind(&failure), ErrorKind::Lost);
                assert_fails(socket.closed_timeout(WATCHDOG), ErrorKind::Lost);
                assert_fails((&socket).write(b"x"), ErrorKind::Lost);
                assert_fails(read(&socket, 1), ErrorKind::Lost);
            }
        });
    }
}
