//! Other threads end a read in the middle of a fast dialogue, where receives may block.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use sockeye::{BlockingReceive, Socket, SocketOptions, TcpOptions};

use crate::support::net;
use crate::support::peer::listen;
use crate::support::{ms, past_instant, read_exactly, spawn_call, with_watchdog};

/// More short waits in a row than receives need until they may block.
const ROUND_TRIPS: u32 = 100;
/// Numbers of ends of which the median counts: a busy machine delays some.
const ENDS: usize = 11;

fn connect(when: BlockingReceive) -> (Socket, TcpStream) {
    let listener = listen();
    let address = listener.local_addr().expect("it is bound");
    let options = SocketOptions::new().tcp(TcpOptions::new().blocking_receive(when));
    let socket = sockeye::connect_with(address, options).expect("the options are valid");
    let (peer, _) = listener.accept().expect("the socket connects");
    net::set_nodelay(&peer).expect("it is connected");
    (socket, peer)
}

/// Answers each byte at once, and then keeps silent.
fn answer(peer: &TcpStream) {
    let mut buf = [0];
    for _ in 0..ROUND_TRIPS {
        (&mut &*peer).read_exact(&mut buf).expect("the socket sends");
        (&mut &*peer).write_all(&buf).expect("the socket reads");
    }
}

fn talk(socket: &Socket) {
    for _ in 0..ROUND_TRIPS {
        (&mut &*socket).write_all(b"x").expect("the peer reads");
        read_exactly(socket, 1).expect("the peer answers");
    }
}

/// Returns how long `end`, which this thread calls, takes to end a read that another thread makes after a fast dialogue.
fn time_to_end(when: BlockingReceive, is_seen: bool, end: End) -> Duration {
    let (socket, peer) = connect(when);
    if is_seen {
        socket.opened().expect("the peer has accepted");
    }
    let socket = Arc::new(socket);
    let answering = spawn_call(move || {
        answer(&peer);
        peer
    });
    let (sender, talked) = mpsc::channel();
    let reading = spawn_call({
        let socket = Arc::clone(&socket);
        move || {
            talk(&socket);
            sender.send(()).expect("the other thread waits for this");
            let result = (&mut &*socket).read(&mut [0; 16]);
            (Instant::now(), result)
        }
    });
    talked.recv().expect("the peer answers");
    // Long enough for the read to begin, and shorter than its first wait.
    thread::sleep(Duration::from_micros(500));
    let begun = Instant::now();
    end(&socket);
    let (ended, result) = reading.join();
    assert!(!matches!(result, Ok(1..)), "{result:?}");
    drop(answering.join());
    ended - begun
}

fn median(when: BlockingReceive, is_seen: bool, end: End) -> Duration {
    let mut times: Vec<_> = (0..ENDS).map(|_| time_to_end(when, is_seen, end)).collect();
    times.sort_unstable();
    times[ENDS / 2]
}

type End = fn(&Socket);

const ENDINGS: [(&str, End); 4] = [
    ("close", |socket| drop(socket.close())),
    ("abort", |socket| socket.abort()),
    ("deadline", |socket| socket.set_read_deadline(Some(past_instant()))),
    ("timeout", |socket| socket.set_read_timeout(Some(ms(1))).expect("it is not zero")),
];

/// Checks each way to end a read: the median of its times is below `limit`.
fn assert_ends(when: BlockingReceive, is_seen: bool, limit: Duration) {
    with_watchdog(move || {
        for (name, end) in ENDINGS {
            let time = median(when, is_seen, end);
            assert!(time < limit, "{name}: {time:?}");
        }
    });
}

#[test]
fn a_thread_that_has_used_the_socket_ends_a_read_at_once() {
    assert_ends(BlockingReceive::OneThread, true, ms(3));
}

#[test]
fn every_thread_ends_a_read_at_once_if_receives_never_block() {
    assert_ends(BlockingReceive::Never, false, ms(3));
}

/// The receive's own time limit ends it.
#[test]
fn a_read_ends_if_receives_always_block() {
    assert_ends(BlockingReceive::Always, true, ms(60));
}
