//! Tunnels of sockets that other threads close, that are still being opened, or whose peers send urgent data.

use super::*;

/// No thread reads from the closed side any more, and the other peer is silent.
#[test]
fn a_close_of_a_half_closed_side_is_closed_on_that_side() {
    with_watchdog(|| {
        for side in [TunnelSide::A, TunnelSide::B] {
            let ((a, left), (b, right)) = (pair(), pair());
            let running = start(&a, &b, None);
            let (closed, remote, other) =
                if side == TunnelSide::A { (a, left, right) } else { (b, right, left) };
            remote.shutdown(Shutdown::Write).expect("it is open");
            assert_eq!(read_to_end(&other), b"");
            closed.close().expect("nothing is left to send");
            assert_failed(running.join_within(PROMPT), Some(side), ErrorKind::Closed);
            assert_eq!(read_to_end(&remote), b"");
            let error = (&other).write_all(b"x").and_then(|()| (&other).read_exact(&mut [0]));
            error.expect_err("it was aborted");
        }
    });
}

#[test]
fn a_shutdown_of_the_listener_ends_the_tunnel_of_a_half_closed_client() {
    with_watchdog(|| {
        let listener = sockeye::listen("127.0.0.1:0").expect("a port is free");
        let address = listener.local_address().expect("it is TCP");
        let client = net::connect(address).expect("it listens");
        let a = listener.accept().expect("the client connects");
        let (b, right) = pair();
        let running = start(&a, &b, None);
        client.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(read_to_end(&right), b"");
        assert_eq!(listener.shutdown(PROMPT), 0);
        assert_failed(running.join_within(PROMPT), Some(TunnelSide::A), ErrorKind::Closed);
    });
}

/// The writer of one side was closed, by another thread or before the call, and its peer is silent.
#[test]
fn data_for_a_closed_writer_ends_both_sides() {
    with_watchdog(|| {
        for is_closed_before in [true, false] {
            let ((a, mut left), (b, right)) = (pair(), pair());
            if is_closed_before {
                b.writer().close().expect("it is open");
            }
            let both = (a.clone(), b.clone());
            let running = spawn_blocked(move || tunnel(&both.0, &both.1, None));
            b.writer().close().expect("it is open or closed");
            left.write_all(b"lost").expect("it is open");
            assert_failed(running.join_within(PROMPT), Some(TunnelSide::B), ErrorKind::Closed);
            assert_reset(&left);
            assert_eq!(read_to_end(&right), b"");
            b.closed_timeout(PROMPT).expect("it was closed");
        }
    });
}

/// One direction remains for a socket whose writer was closed before.
#[test]
fn a_side_that_only_reads_is_relayed_to_its_end() {
    with_watchdog(|| {
        let ((a, left), (b, mut right)) = (pair(), pair());
        b.writer().close().expect("it is open");
        let running = start(&a, &b, None);
        right.write_all(b"log").expect("it is open");
        right.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(read_to_end(&left), b"log");
        drop(left);
        assert_eq!(running.join().expect("both ended"), (0, 3));
    });
}

/// The end belongs to the tunnel, which forwards it, although it came before the tunnel could read.
#[test]
fn an_end_while_the_other_side_is_opened_leaves_the_answer_a_way() {
    with_watchdog(|| {
        let (a, left) = pair();
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.wait_signal();
            peer.handshake();
            peer.send(b"answer");
            peer.close_notify();
            peer.wait_signal();
        });
        let b = crate::support::tls::connect(&peer, tls_options(authority()));
        let running = start(&a, &b, None);
        // The tunnel waits for the handshake of `b`, and `a` learns of its peer's end.
        std::thread::sleep(ms(50));
        left.shutdown(Shutdown::Write).expect("it is open");
        let ended = Instant::now() + PROMPT;
        while a.health().is_idle() {
            assert!(Instant::now() < ended, "the end is not noticed");
            std::thread::sleep(ms(1));
        }
        std::thread::sleep(ms(600));
        assert_eq!(a.phase(), Phase::HalfClosed);
        peer.signal();
        assert_eq!(read_to_end(&left), b"answer");
        assert_eq!(running.join().expect("both ended"), (0, 6));
        peer.signal();
    });
}

/// splice(2) stops at urgent data, as if the peer had ended or had sent nothing.
#[cfg(target_os = "linux")]
#[test]
fn urgent_data_neither_cuts_off_nor_holds_up_what_follows() {
    use crate::support::process::processor_time;
    use crate::support::subprocess::in_subprocess;

    const NAME: &str =
        "tunnel::interrupted::urgent_data_neither_cuts_off_nor_holds_up_what_follows";
    in_subprocess(NAME, Duration::from_secs(60), || {
        for ends in [true, false] {
            let ((a, mut left), (b, right)) = (pair(), pair());
            left.write_all(b"before").expect("it is open");
            let sent = socket2::SockRef::from(&left).send_out_of_band(b"!");
            assert_eq!(sent.expect("it is open"), 1);
            left.write_all(b"after").expect("it is open");
            if ends {
                left.shutdown(Shutdown::Write).expect("it is open");
            }
            let running = start(&a, &b, None);
            let mut read = [0; 11];
            (&right).read_exact(&mut read).expect("it arrives");
            assert_eq!(&read, b"beforeafter");
            if ends {
                assert_eq!(read_to_end(&right), b"");
                drop(right);
                assert_eq!(running.join().expect("both ended"), (11, 0));
                continue;
            }
            // Alone, and unread.
            let sent = socket2::SockRef::from(&left).send_out_of_band(b"!");
            assert_eq!(sent.expect("it is open"), 1);
            let before = processor_time();
            std::thread::sleep(ms(1000));
            let spent = processor_time() - before;
            assert!(spent < ms(150), "the idle tunnel used {spent:?} in a second");
            left.write_all(b"more").expect("it is open");
            (&right).read_exact(&mut read[..4]).expect("it arrives");
            assert_eq!(&read[..4], b"more");
            a.abort();
            assert_failed(running.join(), Some(TunnelSide::A), ErrorKind::Closed);
        }
    });
}

/// Without a thread, the call fails, and the sockets are as they were.
#[cfg(target_os = "linux")]
#[test]
fn without_a_thread_nothing_changes() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use crate::support::skip;
    use crate::support::subprocess::in_unprivileged_subprocess;

    const NAME: &str = "tunnel::interrupted::without_a_thread_nothing_changes";
    in_unprivileged_subprocess(NAME, Duration::from_secs(60), || {
        let ((a, left), (b, _right)) = (pair(), pair());
        for socket in [&a, &b] {
            socket.opened().expect("it is open");
        }
        let limit = getrlimit(Resource::Nproc);
        let none = Rlimit { current: Some(0), maximum: limit.maximum };
        setrlimit(Resource::Nproc, none).expect("a limit may be lowered");
        if std::thread::Builder::new().spawn(|| ()).is_ok() {
            return skip(NAME, "the limit of threads does not apply to this user");
        }
        let outcome = tunnel(&a, &b, None);
        setrlimit(Resource::Nproc, limit).expect("a limit may be raised to its maximum");
        assert_failed(outcome, None, ErrorKind::Io);
        (&a).write_all(b"still open").expect("it is open");
        (&left).read_exact(&mut [0; 10]).expect("it is open");
        // The peer's end still ends the socket.
        left.shutdown(Shutdown::Write).expect("it is open");
        a.closed_timeout(PROMPT).expect("it ended");
    });
}
