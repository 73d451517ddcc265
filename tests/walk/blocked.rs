//! Blocked calls that another thread ends, and limits that move.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::mpsc;
use std::time::Instant;

use sockeye::{Connector, ErrorKind, Socket, SocketOptions};

use crate::peer::{Blocked, error_kind, kind, read_to_end, silent};
use crate::plain::fill;
use crate::{SHORTLY, WATCHDOG};

/// Blocks a read, and ends it with `end`.
fn end_read(end: fn(&Socket)) {
    let (peer, release) = silent();
    let socket = peer.open();
    let reader = socket.reader();
    let reading = Blocked::new(move || kind(read_to_end(reader)));
    end(&socket);
    assert_eq!(reading.join(), ErrorKind::Closed);
    drop(release);
}

pub fn close_read() {
    end_read(|socket| socket.close().expect("nothing is unsent"));
}

pub fn abort_read() {
    end_read(Socket::abort);
}

/// A cancelled reader is at its end, and the socket stays open.
pub fn cancel_read() {
    let (peer, release) = silent();
    let socket = peer.open();
    let reader = socket.reader();
    let reading = Blocked::new(move || read_to_end(reader));
    socket.reader().cancel();
    assert_eq!(reading.join().expect("a clean end"), b"");
    (&socket).write_all(b"still").expect("the connection is open");
    drop(release);
}

/// Blocks a write, and ends it with `end`.
fn end_write(end: fn(&Socket)) {
    let (peer, release) = silent();
    let socket = peer.open_with(SocketOptions::new().close_timeout(SHORTLY));
    let mut writer = socket.writer();
    let writing = Blocked::new(move || kind(fill(&mut writer)));
    end(&socket);
    assert_eq!(writing.join(), ErrorKind::Closed);
    drop(release);
}

pub fn close_write() {
    // The peer reads nothing, so the connection may have to be reset.
    end_write(|socket| drop(socket.close()));
}

pub fn abort_write() {
    end_write(Socket::abort);
}

pub fn cancel_write() {
    end_write(|socket| socket.writer().abort());
}

/// Returns a connector whose lookups wait until the sender is dropped.
fn hanging() -> (Connector, mpsc::Sender<()>) {
    let (release, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let resolver = move |_: &str| -> std::io::Result<Vec<IpAddr>> {
        let wait = wait.lock().expect("no thread panics while it holds the lock");
        let _ = wait.recv_timeout(WATCHDOG);
        Err(std::io::ErrorKind::NotFound.into())
    };
    (Connector::builder().resolver(resolver).build().expect("the rules are valid"), release)
}

fn end_connect(end: fn(&Socket)) {
    let (connector, release) = hanging();
    let socket = connector.connect(("peer.test", 80)).expect("the address is valid");
    let opening = socket.clone();
    let opening = Blocked::new(move || error_kind(opening.opened()));
    end(&socket);
    assert_eq!(opening.join(), ErrorKind::Closed);
    drop(release);
}

pub fn close_connect() {
    end_connect(|socket| drop(socket.close()));
}

pub fn abort_connect() {
    end_connect(Socket::abort);
}

pub fn scope_connect() {
    let (connector, release) = hanging();
    let opening = connector.scope(|scope| {
        let socket = scope.connect(("peer.test", 80)).expect("the address is valid");
        Blocked::new(move || error_kind(socket.opened()))
    });
    assert_eq!(opening.join(), ErrorKind::Closed);
    drop(release);
}

pub fn earlier_deadline() {
    let (peer, release) = silent();
    let socket = peer.open();
    socket.set_read_deadline(Some(Instant::now() + WATCHDOG));
    let mut reader = socket.reader();
    let reading = Blocked::new(move || kind(reader.read(&mut [0])));
    socket.set_read_deadline(Some(Instant::now() + SHORTLY));
    assert_eq!(reading.join(), ErrorKind::TimedOut);
    drop(release);
}

pub fn later_deadline() {
    let (peer, release) = silent();
    let socket = peer.open();
    let begun = Instant::now();
    socket.set_read_deadline(Some(begun + SHORTLY * 4));
    let mut reader = socket.reader();
    let reading = Blocked::new(move || kind(reader.read(&mut [0])));
    socket.set_read_deadline(Some(begun + SHORTLY * 8));
    assert_eq!(reading.join(), ErrorKind::TimedOut);
    assert!(begun.elapsed() >= SHORTLY * 8);
    drop(release);
}

pub fn write_timeout() {
    let (peer, release) = silent();
    let socket = peer.open();
    socket.set_write_timeout(Some(SHORTLY)).expect("not zero");
    for _ in 0..2 {
        assert_eq!(kind(fill(&socket)), ErrorKind::TimedOut);
    }
    socket.abort();
    drop(release);
}
