//! `opened()`: what it tells of a connection and of one that failed, and what may come before it.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use sockeye::{Error, ErrorKind, Phase, Socket, SocketOptions};

use crate::support::peer::{black_hole, nothing_listens};
use crate::support::{
    AT_ONCE, PATIENCE, Peer, Verdict, at_once, blocked, call, fails, ms, open, read, read_to_end,
    skip, story, timed,
};

// -------------------------------------------------------------------- a connection

#[test]
fn socketinfo_ip() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        let info = socket.opened().expect("it is open");
        assert_eq!(info.remote_address(), Some(peer.address()));
        assert_eq!(info.requested().to_string(), peer.address().to_string());
        let timings = info.timings();
        assert!(timings.connect < PATIENCE && timings.resolve < PATIENCE, "{timings:?}");
        assert!(timings.handshake.is_zero() && info.tls().is_none() && info.alpn().is_none());
        socket.close().expect("nothing is in the way");
        assert_eq!(info.local_address(), Some(peer.ending().from));
    });
}

#[test]
fn the_answer_is_the_same_from_every_thread_every_time() {
    story(|| {
        let peer = Peer::reads();
        let socket = sockeye::connect(peer.address()).expect("the address is fine");
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let socket = socket.clone();
                call(move || socket.opened().map(|info| info.local_address()))
            })
            .collect();
        let local = socket.opened().expect("the peer listens").local_address();
        for caller in callers {
            assert_eq!(caller.join().expect("the peer listens"), local);
        }
        assert_eq!(socket.phase(), Phase::Open);
    });
}

#[test]
fn write_before_opened() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.receive(5);
            wire.send(b"ok");
        });
        let socket = sockeye::connect(peer.address()).expect("the address is fine");
        let writer = socket.writer();
        let writing = call(move || (&writer).write_all(b"early"));
        socket.opened().expect("the peer listens");
        writing.join().expect("the peer reads");
        assert_eq!(read(&socket, 10).expect("the peer answers"), b"ok");
        socket.close().expect("nothing is in the way");
        peer.gets(b"early");
    });
}

#[test]
fn write_order_opened() {
    story(|| {
        let peer = Peer::reads();
        let socket = sockeye::connect(peer.address()).expect("the address is fine");
        assert_eq!((&socket).write(b"early").expect("it waits for the connection"), 5);
        socket.opened_timeout(Duration::ZERO).expect("a write has passed");
        at_once(|| socket.opened()).expect("a write has passed");
    });
}

#[test]
fn read_before_opened() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.wait(ms(100));
            wire.send(b"hello");
        });
        let socket = sockeye::connect(peer.address()).expect("the address is fine");
        let reader = socket.reader();
        let reading = call(move || read(reader, 10));
        socket.opened().expect("the peer listens");
        assert_eq!(reading.join().expect("the peer sends"), b"hello");
    });
}

#[test]
fn close_before_opened() {
    for _ in 0..50 {
        story(|| {
            let peer = Peer::reads();
            let address = peer.address();
            let socket = sockeye::connect(address).expect("the address is fine");
            at_once(|| socket.close()).expect("nothing is in the way");
            socket.closed().expect("it was closed");
            if let Err(error) = socket.opened() {
                assert_eq!(error.kind(), ErrorKind::Closed);
            }
            fails(read(&socket, 1), ErrorKind::Closed);
            fails((&socket).write(b"x"), ErrorKind::Closed);
            // Lets the peer go where the attempt was cancelled before it got there.
            drop(TcpStream::connect(address));
        });
    }
}

#[test]
fn closewriter_before_opened() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.read_to_end();
            wire.send(b"bye");
            wire.close();
        });
        let socket = sockeye::connect(peer.address()).expect("the address is fine");
        (&socket).write_all(b"data").expect("it waits for the connection");
        socket.writer().close().expect("the peer reads");
        socket.opened().expect("the peer listens");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        socket.closed_timeout(AT_ONCE).expect("both directions ended");
        peer.gets(b"data");
    });
}

#[test]
fn closing_the_writer_at_once_waits_for_the_connection() {
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.read_to_end();
            wire.send(b"bye");
            wire.fin();
        });
        let socket = sockeye::connect(peer.address()).expect("the address is fine");
        socket.writer().close().expect("it waits for the connection");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        peer.gets(b"");
    });
}

#[test]
fn opened_then_peer_idle() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        let (result, took) = timed(|| socket.closed_timeout(ms(300)));
        let error = result.expect_err("nothing happens");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.is_retryable());
        assert!(took >= ms(300) && took < ms(300) + AT_ONCE, "took {took:?}");
        assert_eq!(socket.phase(), Phase::Open);
    });
}

#[test]
fn peer_accepts_then_rst() {
    for _ in 0..20 {
        story(|| {
            let peer = Peer::plays(|wire| wire.reset());
            let socket = sockeye::connect(peer.address()).expect("the address is fine");
            let opened = socket.opened().failure();
            assert!(
                matches!(opened, None | Some(ErrorKind::Reset | ErrorKind::Connect)),
                "{opened:?}"
            );
            let cause = opened.unwrap_or(ErrorKind::Reset);
            fails(socket.closed_timeout(AT_ONCE), cause);
            for _ in 0..2 {
                fails(read(&socket, 1), cause);
                fails((&socket).write(b"x"), cause);
            }
        });
    }
}

// -------------------------------------------------------------------- nothing listens

#[test]
fn refused_later_ops() {
    story(|| {
        let nothing = nothing_listens();
        let socket = sockeye::connect(nothing.address).expect("the address is fine");
        let error = socket.opened().expect_err("nothing listens");
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(!error.is_retryable());
        for _ in 0..2 {
            fails(socket.closed_timeout(AT_ONCE), ErrorKind::Connect);
            fails(read(&socket, 1), ErrorKind::Connect);
            let refused = (&socket).write(b"x").expect_err("nothing listens");
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            fails(socket.writer().flush(), ErrorKind::Connect);
            fails(socket.writer().close(), ErrorKind::Connect);
            socket.close().expect("it failed before");
            fails(socket.opened(), ErrorKind::Connect);
        }
    });
}

#[test]
fn refused_later_streams() {
    story(|| {
        let nothing = nothing_listens();
        let socket = sockeye::connect(nothing.address).expect("the address is fine");
        fails(socket.opened(), ErrorKind::Connect);
        socket.reader().cancel();
        socket.writer().abort();
        socket.abort();
        fails(socket.opened(), ErrorKind::Connect);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Connect);
        fails(read(socket.reader(), 1), ErrorKind::Connect);
        fails(socket.writer().write(b"x"), ErrorKind::Connect);
        assert_eq!(socket.phase(), Phase::Closed);
    });
}

#[test]
fn refused_many_writes() {
    story(|| {
        let nothing = nothing_listens();
        let socket = sockeye::connect(nothing.address).expect("the address is fine");
        let writes: Vec<_> = [b"1", b"2"]
            .into_iter()
            .map(|byte| {
                let mut writer = socket.writer();
                call(move || writer.write(byte))
            })
            .collect();
        let writer = socket.writer();
        let closing = call(move || writer.close());
        for write in writes {
            fails(write.join_within(AT_ONCE), ErrorKind::Connect);
        }
        fails(closing.join_within(AT_ONCE), ErrorKind::Connect);
        fails(socket.opened(), ErrorKind::Connect);
    });
}

#[test]
fn refused_http_hint() {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    if TcpStream::connect(address).is_ok() {
        return skip("opened.refused-http-hint", "something listens on port 80");
    }
    story(move || {
        let socket = sockeye::connect(address).expect("the address is fine");
        fails(socket.opened(), ErrorKind::Connect);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Connect);
    });
}

// -------------------------------------------------------------------- no answer

const LIMIT: Duration = ms(500);

fn impatient() -> SocketOptions {
    SocketOptions::new().connect_timeout(LIMIT)
}

#[track_caller]
fn took_the_limit(took: Duration) {
    assert!(took >= LIMIT && took <= LIMIT + AT_ONCE, "took {took:?}");
}

#[test]
fn blackhole() {
    story(|| {
        let hole = black_hole();
        let (socket, took) = timed(|| {
            let socket =
                sockeye::connect_with(hole.address, impatient()).expect("the address is fine");
            let (reader, mut writer) = (socket.reader(), socket.writer());
            let reading = call(move || read(reader, 1));
            let writing = call(move || writer.write(b"x"));
            let error = socket.opened().expect_err("nobody answers");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(!error.is_retryable(), "the socket is at its end");
            fails(reading.join_within(AT_ONCE), ErrorKind::TimedOut);
            fails(writing.join_within(AT_ONCE), ErrorKind::TimedOut);
            socket
        });
        took_the_limit(took);
        fails(socket.closed(), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::Closed);
    });
}

#[test]
fn blackhole_without_a_limit_ends_by_close() {
    story(|| {
        let hole = black_hole();
        let options = SocketOptions::new().connect_timeout(None);
        let socket = sockeye::connect_with(hole.address, options).expect("the address is fine");
        let waiter = socket.clone();
        let waiting = blocked(move || waiter.opened());
        let (reader, mut writer) = (socket.reader(), socket.writer());
        let reading = blocked(move || read(reader, 1));
        let writing = blocked(move || writer.write(b"x"));
        assert_eq!(socket.phase(), Phase::Connecting);
        at_once(|| socket.close()).expect("it cancels the attempt");
        fails(waiting.join_within(AT_ONCE), ErrorKind::Closed);
        fails(reading.join_within(AT_ONCE), ErrorKind::Closed);
        fails(writing.join_within(AT_ONCE), ErrorKind::Closed);
        socket.closed().expect("it was closed");
    });
}

#[test]
fn blackhole_ends_by_abort() {
    for abort in [Socket::abort, |socket: &Socket| socket.writer().abort()] {
        story(move || {
            let hole = black_hole();
            let socket = sockeye::connect(hole.address).expect("the address is fine");
            let waiter = socket.clone();
            let waiting = blocked(move || waiter.opened());
            at_once(|| abort(&socket));
            fails(waiting.join_within(AT_ONCE), ErrorKind::Closed);
            fails(socket.closed_timeout(AT_ONCE), ErrorKind::Closed);
            fails(read(&socket, 1), ErrorKind::Closed);
        });
    }
}

#[test]
fn blackhole_close_first() {
    story(|| {
        let hole = black_hole();
        let socket = sockeye::connect(hole.address).expect("the address is fine");
        at_once(|| socket.close()).expect("it cancels the attempt");
        fails(socket.opened(), ErrorKind::Closed);
        socket.closed_timeout(AT_ONCE).expect("it was closed");
        fails(read(&socket, 1), ErrorKind::Closed);
        fails((&socket).write(b"x"), ErrorKind::Closed);
        assert_eq!(socket.phase(), Phase::Closed);
        #[cfg(target_os = "linux")]
        crate::support::eventually(AT_ONCE, "no SYN is sent any more", || {
            crate::support::process::attempts_towards(hole.address) == 0
        });
    });
}

#[test]
fn blackhole_closewriter() {
    story(|| {
        let hole = black_hole();
        let (result, took) = timed(|| {
            let socket =
                sockeye::connect_with(hole.address, impatient()).expect("the address is fine");
            socket.writer().close()
        });
        fails(result, ErrorKind::TimedOut);
        took_the_limit(took);
    });
}

#[test]
fn calls_while_connecting_honour_their_own_limits() {
    story(|| {
        let hole = black_hole();
        let options = SocketOptions::new().read_timeout(ms(100)).write_timeout(ms(100));
        let socket = sockeye::connect_with(hole.address, options).expect("the address is fine");
        crate::support::times_out(at_once(|| read(&socket, 1)));
        crate::support::times_out(at_once(|| (&socket).write(b"x")));
        let error: Error = at_once(|| socket.writer().close()).expect_err("nobody answers");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.is_retryable());
        assert_eq!(socket.phase(), Phase::Connecting, "the attempt goes on");
        socket.abort();
    });
}

// -------------------------------------------------------------------- no way there

/// In a network of its own, where routes may be made that lead nowhere.
#[cfg(target_os = "linux")]
mod no_way {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::support::alone::{Actor, part, play, this_binary};
    use crate::support::system_code;

    const ROUTES: &str = "ip link set lo up && ip route add unreachable 10.9.9.1 && ip route add prohibit 10.9.9.2 \
                          && ip route add blackhole 10.9.9.3";

    #[test]
    fn unreachable() {
        fails_with("opened.unreachable", "unreachable", "10.9.9.1", libc::EHOSTUNREACH);
    }

    #[test]
    fn prohibited() {
        fails_with("opened.prohibited", "prohibited", "10.9.9.2", libc::EACCES);
    }

    #[test]
    fn einval_route() {
        fails_with("opened.einval-route", "einval_route", "10.9.9.3", libc::EINVAL);
    }

    fn fails_with(id: &str, test: &str, host: &str, code: i32) {
        if part().is_some() {
            return play(|| told(host, code));
        }
        let able = Command::new("unshare")
            .args(["-rn", "sh", "-c", ROUTES])
            .stderr(Stdio::null())
            .status();
        if !able.is_ok_and(|status| status.success()) {
            return skip(id, "no network of its own can be made here");
        }
        let mut command = Command::new("unshare");
        command
            .args(["-rn", "sh", "-c", &format!("{ROUTES} && exec \"$@\""), "sh"])
            .arg(this_binary());
        Actor::start(&format!("opened::no_way::{test}"), "alone", command).finishes(PATIENCE);
    }

    fn told(host: &str, code: i32) {
        let socket = sockeye::connect((host, 4321)).expect("the address is fine");
        let error = at_once(|| socket.opened()).expect_err("no way leads there");
        assert_eq!(error.kind(), ErrorKind::Connect);
        fails(socket.closed_timeout(AT_ONCE), ErrorKind::Connect);
        let [attempt] = error.attempts() else {
            panic!("not one attempt: {:?}", error.attempts());
        };
        assert_eq!(attempt.address().to_string(), format!("{host}:4321"));
        assert_eq!(system_code(attempt.error()), Some(code), "{:?}", attempt.error());
        let system = io::Error::from_raw_os_error(code);
        let text = system.to_string();
        let reason = text.split(" (os error").next().expect("a first part");
        assert!(
            attempt.error().to_string().contains(reason),
            "{} does not say {reason:?}",
            attempt.error()
        );
        assert_eq!(io::Error::from(error).kind(), system.kind());
    }
}
