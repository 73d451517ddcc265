//! `tunnel` between Unix-domain sockets, and between one and TCP. In plaintext on Linux the data moves by splice(2).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use sockeye::{Connector, ErrorKind, Phase, Socket, SocketOptions, TunnelSide, tunnel};

use super::StdServer;
use crate::support::{
    PROMPT, assert_bytes_eq, ms, random_bytes, read_exactly, read_to_end, spawn_call, with_watchdog,
};

/// A socket and the other end of its connection.
fn pair() -> (Socket, UnixStream) {
    StdServer::new().open(SocketOptions::new())
}

fn tcp_pair() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let socket = sockeye::connect(listener.local_addr().expect("it listens"));
    let (peer, _) = listener.accept().expect("the socket connects");
    (socket.expect("it is an address"), peer)
}

/// Sends much in both directions at once, and half-closes each.
fn assert_carries<A, B>((a, left): (Socket, A), (b, right): (Socket, B))
where
    A: Send + Sync + 'static,
    B: Send + Sync + 'static,
    for<'a> &'a A: Read + Write + HalfClose,
    for<'a> &'a B: Read + Write + HalfClose,
{
    const BYTES: usize = 3_000_000;
    let running = spawn_call(move || tunnel(&a, &b, PROMPT * 5));
    let (left, right) = (std::sync::Arc::new(left), std::sync::Arc::new(right));
    let (from_left, from_right) = (random_bytes(1, BYTES), random_bytes(2, BYTES / 3));
    let (sent_left, sent_right) = (from_left.clone(), from_right.clone());
    let (writing_left, writing_right) = (left.clone(), right.clone());
    let writers = [
        spawn_call(move || {
            (&*writing_left).write_all(&sent_left).expect("the other side reads");
            (&*writing_left).half_close();
        }),
        spawn_call(move || {
            (&*writing_right).write_all(&sent_right).expect("the other side reads");
            (&*writing_right).half_close();
        }),
    ];
    let reading = spawn_call(move || read_to_end(&*left).expect("a clean end"));
    assert_bytes_eq(&read_to_end(&*right).expect("a clean end"), &from_left);
    assert_bytes_eq(&reading.join(), &from_right);
    writers.into_iter().for_each(|writer| writer.join());
    let copied = running.join().expect("both ended cleanly");
    assert_eq!(copied, (BYTES as u64, (BYTES / 3) as u64));
}

trait HalfClose {
    fn half_close(self);
}

impl HalfClose for &UnixStream {
    fn half_close(self) {
        self.shutdown(Shutdown::Write).expect("it is open");
    }
}

impl HalfClose for &TcpStream {
    fn half_close(self) {
        self.shutdown(Shutdown::Write).expect("it is open");
    }
}

#[test]
fn much_data_goes_both_ways_between_two_paths() {
    with_watchdog(|| assert_carries(pair(), pair()));
}

#[test]
fn much_data_goes_both_ways_between_a_path_and_tcp() {
    with_watchdog(|| {
        assert_carries(pair(), tcp_pair());
        assert_carries(tcp_pair(), pair());
    });
}

#[test]
fn a_socket_of_a_pair_can_be_used_before() {
    with_watchdog(|| {
        let (ours, mut theirs) = UnixStream::pair().expect("two descriptors are free");
        let a = Connector::global().adopt_unix(ours, SocketOptions::new()).unwrap();
        // A read that blocks in the kernel leaves the descriptor so; splice(2) must not wait.
        for _ in 0..200 {
            theirs.write_all(b"x").unwrap();
            (&a).read_exact(&mut [0]).unwrap();
        }
        let (b, right) = pair();
        let running = spawn_call(move || tunnel(&a, &b, PROMPT * 5));
        theirs.write_all(b"question").unwrap();
        assert_eq!(read_exactly(&right, 8).unwrap(), b"question");
        (&right).write_all(b"answer").unwrap();
        drop(right);
        assert_eq!(read_to_end(&theirs).expect("a clean end"), b"answer");
        drop(theirs);
        assert_eq!(running.join().expect("both ended cleanly"), (8, 6));
    });
}

/// A close hangs up both directions. If the peer had read everything, that is an end and no failure.
#[test]
fn a_clean_close_ends_one_side_and_the_other_one_may_still_end() {
    with_watchdog(|| {
        let ((a, mut left), (b, right)) = (pair(), pair());
        let running = spawn_call(move || tunnel(&a, &b, PROMPT * 5));
        left.write_all(b"all of it").unwrap();
        drop(left);
        assert_eq!(read_to_end(&right).expect("a clean end"), b"all of it");
        std::thread::sleep(ms(50));
        drop(right);
        assert_eq!(running.join().expect("nothing was lost"), (9, 0));
    });
}

/// The peer closes with data unread. There is no reset to pass on: the other side is aborted, and sees an end.
#[test]
fn a_close_with_unread_data_fails_the_tunnel() {
    with_watchdog(|| {
        for side in [TunnelSide::A, TunnelSide::B] {
            let ((a, left), (b, right)) = (pair(), pair());
            let both = [a.clone(), b.clone()];
            let running = spawn_call(move || tunnel(&a, &b, PROMPT * 5));
            let (lost, mut kept) = match side {
                TunnelSide::A => (left, right),
                _ => (right, left),
            };
            kept.write_all(b"unread").unwrap();
            crate::support::eventually(PROMPT, "it arrives", || {
                rustix::io::ioctl_fionread(&lost).is_ok_and(|bytes| bytes == 6)
            });
            drop(lost);
            let error = running.join().expect_err("data was lost");
            assert_eq!((error.side(), error.error().kind()), (Some(side), ErrorKind::Reset));
            assert_eq!(read_to_end(&kept).expect("a path has no reset"), b"");
            assert!(both.iter().all(|socket| socket.phase() == Phase::Closed));
        }
    });
}

/// The exception that the documentation of `tunnel` states: the reset in the middle of the answer looks like its end.
#[test]
fn a_reset_over_tcp_is_an_end_for_the_peer_of_a_path() {
    with_watchdog(|| {
        let ((a, upstream), (b, client)) = (tcp_pair(), pair());
        let running = spawn_call(move || tunnel(&a, &b, PROMPT * 5));
        (&upstream).write_all(b"half of the ans").unwrap();
        assert_eq!(read_exactly(&client, 15).unwrap(), b"half of the ans");
        socket2::SockRef::from(&upstream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(upstream);
        assert_eq!(read_to_end(&client).expect("a path has no reset"), b"");
        let error = running.join().expect_err("the upstream was reset");
        assert_eq!((error.side(), error.error().kind()), (Some(TunnelSide::A), ErrorKind::Reset));
    });
}

/// The write meets a peer that has gone, which is a failure of that side.
#[test]
fn data_for_a_peer_that_has_gone_fails_the_tunnel() {
    with_watchdog(|| {
        let ((a, mut left), (b, right)) = (pair(), pair());
        let running = spawn_call(move || tunnel(&a, &b, PROMPT * 5));
        drop(right);
        assert_eq!(read_to_end(&left).expect("a clean end"), b"");
        left.write_all(b"late").unwrap();
        let error = running.join().expect_err("data was lost");
        assert_eq!((error.side(), error.error().kind()), (Some(TunnelSide::B), ErrorKind::Reset));
    });
}
