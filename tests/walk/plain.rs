//! Plaintext: data, ends and resets.

use std::io::{IoSlice, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::sync::mpsc;
use std::thread;

use sockeye::{ErrorKind, Phase, SocketOptions};

use crate::WATCHDOG;
use crate::peer::{Blocked, Peer, error_kind, hold, kind, read_exactly, read_to_end, reset};

pub fn echo() {
    let peer = Peer::new(|mut stream| {
        let bytes = read_to_end(&stream).expect("the client ends");
        stream.write_all(&bytes).expect("the client reads");
    });
    let socket = peer.open_with(SocketOptions::new().allow_half_open(true));
    (&socket).write_all(b"hello").expect("the peer reads");
    socket.writer().close().expect("the peer reads");
    assert_eq!(read_to_end(&socket).expect("a clean end"), b"hello");
    socket.closed_timeout(WATCHDOG).expect("both sides have ended");
    peer.finish();
}

pub fn vectored() {
    let peer = Peer::new(|stream| read_to_end(&stream).expect("the client ends"));
    let socket = peer.open();
    let bytes: Vec<u8> = (0..200).collect();
    let mut slices: Vec<IoSlice<'_>> = bytes.chunks(3).map(IoSlice::new).collect();
    let mut left = &mut slices[..];
    while !left.is_empty() {
        let taken = (&socket).write_vectored(left).expect("the peer reads");
        IoSlice::advance_slices(&mut left, taken);
    }
    socket.close().expect("the peer reads");
    assert_eq!(peer.finish(), bytes);
}

pub fn volume() {
    const COUNT: usize = 8 << 20;
    let peer = Peer::new(|stream| {
        let mut writing = stream.try_clone().expect("a descriptor is free");
        let writer = thread::spawn(move || writing.write_all(&vec![b'p'; COUNT]));
        let bytes = read_exactly(&stream, COUNT).expect("the client writes");
        writer.join().expect("it only writes").expect("the client reads");
        bytes.iter().all(|byte| *byte == b'c')
    });
    let socket = peer.open();
    let mut writer = socket.writer();
    let writing = thread::spawn(move || writer.write_all(&vec![b'c'; COUNT]));
    let bytes = read_exactly(&socket, COUNT).expect("the peer writes");
    assert!(bytes.iter().all(|byte| *byte == b'p'));
    writing.join().expect("it only writes").expect("the peer reads");
    assert!(peer.finish());
    let stats = socket.stats();
    assert_eq!((stats.bytes_read, stats.bytes_written), (COUNT as u64, COUNT as u64));
}

pub fn addresses() {
    let peer = Peer::new(|stream| stream.peer_addr().expect("it is connected"));
    let socket = peer.open();
    let info = socket.opened().expect("it is open");
    assert_eq!(info.remote_address(), Some(peer.address));
    let local = info.local_address();
    assert_eq!(local, Some(peer.finish()));
}

pub fn refused() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    drop(listener);
    let socket = sockeye::connect(address).expect("the address is valid");
    assert_eq!(error_kind(socket.opened_timeout(WATCHDOG)), ErrorKind::Connect);
    assert_eq!(socket.phase(), Phase::Closed);
}

pub fn mapped() {
    let peer = Peer::new(|stream| read_to_end(&stream).expect("the client ends"));
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    let socket = sockeye::connect((mapped, peer.address.port())).expect("the address is valid");
    socket.opened_timeout(WATCHDOG).expect("the peer listens");
    (&socket).write_all(b"hello").expect("the peer reads");
    socket.close().expect("the peer reads");
    assert_eq!(peer.finish(), b"hello");
}

pub fn peer_ends() {
    let peer = Peer::new(|mut stream| stream.write_all(b"all").expect("the client reads"));
    let socket = peer.open();
    assert_eq!(read_to_end(&socket).expect("a clean end"), b"all");
    socket.closed_timeout(WATCHDOG).expect("a clean end");
    peer.finish();
}

pub fn half_open() {
    let peer = Peer::new(|stream| {
        stream.shutdown(Shutdown::Write).expect("it is connected");
        read_to_end(&stream).expect("the client ends")
    });
    let socket = peer.open_with(SocketOptions::new().allow_half_open(true));
    assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
    assert_eq!(socket.phase(), Phase::HalfClosed);
    (&socket).write_all(b"after").expect("the peer reads");
    socket.close().expect("the peer reads");
    assert_eq!(peer.finish(), b"after");
}

pub fn half_close() {
    let peer = Peer::new(|mut stream| {
        let bytes = read_to_end(&stream).expect("the client ends");
        stream.write_all(b"answer").expect("the client reads");
        bytes
    });
    let socket = peer.open();
    (&socket).write_all(b"question").expect("the peer reads");
    socket.writer().close().expect("the peer reads");
    assert_eq!(kind((&socket).write(b"late")), ErrorKind::Closed);
    assert_eq!(read_to_end(&socket).expect("a clean end"), b"answer");
    assert_eq!(peer.finish(), b"question");
}

/// Returns a peer that resets the connection at a signal.
fn resetting() -> (Peer<()>, mpsc::Sender<()>) {
    let (signal, wait) = mpsc::channel();
    let peer = Peer::new(move |stream| {
        hold(&stream, &wait);
        reset(stream);
    });
    (peer, signal)
}

pub fn reset_during_read() {
    let (peer, signal) = resetting();
    let socket = peer.open();
    let reader = socket.reader();
    let reading = Blocked::new(move || kind(read_to_end(reader)));
    drop(signal);
    assert_eq!(reading.join(), ErrorKind::Reset);
    assert_eq!(error_kind(socket.closed_timeout(WATCHDOG)), ErrorKind::Reset);
}

pub fn reset_during_write() {
    let (peer, signal) = resetting();
    let socket = peer.open();
    let writing = Blocked::new({
        let mut writer = socket.writer();
        move || kind(fill(&mut writer))
    });
    drop(signal);
    assert_eq!(writing.join(), ErrorKind::Reset);
    assert_eq!(kind(read_to_end(&socket)), ErrorKind::Reset);
}

/// Writes small pieces until a write fails.
pub fn fill(mut to: impl Write) -> std::io::Result<()> {
    loop {
        to.write_all(&[b'w'; 4096])?;
    }
}

pub fn reset_without_call() {
    let (peer, signal) = resetting();
    let socket = peer.open();
    drop(signal);
    assert_eq!(error_kind(socket.closed_timeout(WATCHDOG)), ErrorKind::Reset);
}

pub fn reset_after_end() {
    let (signal, wait) = mpsc::channel::<()>();
    let peer = Peer::new(move |stream| {
        stream.shutdown(Shutdown::Write).expect("it is connected");
        hold(&stream, &wait);
        reset(stream);
    });
    let socket = peer.open_with(SocketOptions::new().allow_half_open(true));
    assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
    assert_eq!(error_kind(socket.closed_timeout(crate::SHORTLY)), ErrorKind::TimedOut);
    drop(signal);
    let ended = error_kind(socket.closed_timeout(WATCHDOG));
    assert!(matches!(ended, ErrorKind::Reset | ErrorKind::Io), "{ended:?}");
    peer.finish();
}
