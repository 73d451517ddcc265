//! Scenarios of the group `volume`.

use std::io::{Read, Write};
#[cfg(target_os = "linux")]
use std::net::SocketAddr;
use std::sync::mpsc;

use sockeye::{ErrorKind, SecureTransport, Socket, SocketOptions};

use crate::support::peer::Server;
use crate::support::tls::{TlsPeer, authority, dial, server_config, trust_only_names, with};
use crate::support::{
    PROMPT, Peer, assert_bytes_eq, assert_fails, assert_times_out, ms, open, open_with,
    raise_descriptor_limit, random_bytes, read_exactly, read_to_end, skip, spawn_call,
    with_watchdog, write_until_error,
};

const CHUNK: usize = 65_536;

/// 20 MB from the peer.
#[test]
fn read_20mb() {
    const SIZE: usize = 20_000_000;
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.send(&random_bytes(1, SIZE));
            wire.fin();
        });
        let socket = sockeye::connect(peer.address()).expect("the address is valid");
        assert_bytes_eq(&read_to_end(&socket).expect("a clean end"), &random_bytes(1, SIZE));
        socket.closed_timeout(PROMPT).expect("a clean end");
        assert_eq!(socket.stats().bytes_read, SIZE as u64);
        peer.assert_received(b"");
    });
}

/// 8 MB in both directions at once, in a thread for each.
#[test]
fn echo_8mb() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| wire.echo());
        let socket = sockeye::connect(peer.address()).expect("the address is valid");
        comes_back(&socket);
        peer.assert_received(b"");
    });
}

/// The same over TLS.
#[test]
fn tls_echo_8mb() {
    with_watchdog(|| {
        let peer = TlsPeer::echoes(&server_config());
        let options = with(SecureTransport::On, trust_only_names(authority()));
        comes_back(&dial("good.test", &peer, options));
        let ending = peer.assert_received(&random_bytes(2, 128 * CHUNK));
        assert_eq!(ending.session().server_name(), Some("good.test"));
    });
}

/// The peer does not read: writes block once the kernel's buffers are full, and memory does not grow.
#[test]
fn peer_not_reading() {
    #[cfg(target_os = "linux")]
    crate::support::subprocess::in_subprocess(
        "conformance::volume::peer_not_reading",
        crate::support::WATCHDOG,
        nothing_piles_up,
    );
    #[cfg(not(target_os = "linux"))]
    with_watchdog(nothing_piles_up);
}

/// The program does not read: the peer can send only as much as the kernel's buffers hold.
#[test]
fn client_not_reading() {
    nothing_is_read_ahead(&[]);
}

/// The program reads once with a reader: it gets the requested bytes, and nothing is read ahead.
#[test]
fn client_not_reading_locked() {
    nothing_is_read_ahead(&[4096]);
}

/// A thousand sockets at once.
#[test]
fn many_1000() {
    const COUNT: usize = 1000;
    if !raise_descriptor_limit(2 * COUNT as u64 + 500) {
        return skip("volume.many-1000", "the limit of descriptors is too low");
    }
    with_watchdog(|| {
        let server = Server::echoes();
        let sockets: Vec<_> = (0..COUNT)
            .map(|_| sockeye::connect(server.address()).expect("the address is valid"))
            .collect();
        for mut socket in &sockets {
            socket.opened().expect("the peer listens");
            socket.write_all(b"ping").expect("the peer reads");
            socket.writer().close().expect("the peer reads");
        }
        for socket in &sockets {
            assert_eq!(read_to_end(socket).expect("a clean end"), b"ping");
            socket.closed_timeout(PROMPT).expect("both directions have ended");
        }
    });
}

/// 2000 writes of one byte.
#[test]
fn sequential_writes_1b() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let mut writer = open(&peer).writer();
        let bytes = random_bytes(3, 2000);
        for byte in bytes.chunks(1) {
            assert_eq!(writer.write(byte).expect("the peer reads"), 1);
        }
        writer.close().expect("the peer reads");
        peer.assert_received(&bytes);
    });
}

// -------------------------------------------------------------------- helpers

/// Sends 128 chunks to a peer that echoes, and reads them in another thread.
#[track_caller]
fn comes_back(socket: &Socket) {
    let reader = socket.reader();
    let reading = spawn_call(move || read_to_end(reader));
    let bytes = random_bytes(2, 128 * CHUNK);
    let mut writer = socket.writer();
    for chunk in bytes.chunks(CHUNK) {
        writer.write_all(chunk).expect("the peer reads");
    }
    writer.close().expect("the peer reads");
    assert_bytes_eq(&reading.join().expect("a clean end"), &bytes);
    socket.closed_timeout(PROMPT).expect("both directions have ended");
}

fn nothing_piles_up() {
    const SIZE: usize = 200 * CHUNK;
    let peer = Peer::not_reading();
    let socket = open_with(&peer, SocketOptions::new().write_timeout(ms(300)));
    let before = memory();
    let (taken, failure) = write_until_error(&socket, b'w', SIZE);
    assert_times_out::<()>(Err(failure.expect("the kernel's buffers are full")));
    let grown = memory().saturating_sub(before);
    assert!(grown < 1 << 19, "{grown} bytes of memory for {taken} written bytes");
    assert_eq!(socket.stats().bytes_written, taken as u64);
    #[cfg(target_os = "linux")]
    system_holds(own_address(&socket), peer.address(), taken);
    peer.signal();
    socket.set_write_timeout(None).expect("`None` removes the limit");
    let (rest, failure) = write_until_error(&socket, b'w', SIZE - taken);
    assert!(failure.is_none(), "{failure:?}");
    assert_eq!(taken + rest, SIZE);
    socket.close().expect("the peer reads");
    peer.assert_received(&vec![b'w'; SIZE]);
}

#[cfg(target_os = "linux")]
fn memory() -> usize {
    crate::support::process::own_memory()
}

/// Returns a constant on systems that do not report it.
#[cfg(not(target_os = "linux"))]
fn memory() -> usize {
    0
}

/// Reads these sizes from a peer that has sent until the wire blocked, and checks that the rest stays in the kernel.
fn nothing_is_read_ahead(reads: &'static [usize]) {
    with_watchdog(move || {
        let (sender, receiver) = mpsc::channel();
        let peer = Peer::scripted(move |wire| {
            sender.send(wire.send_until_full(ms(500))).expect("the test waits for it");
        });
        let socket = open(&peer);
        let mut reader = socket.reader();
        let sent = receiver.recv().expect("the peer reports it");
        for size in reads {
            assert_eq!(reader.read(&mut vec![0; *size]).expect("it is unread"), *size);
        }
        let taken: usize = reads.iter().sum();
        assert_eq!(socket.stats().bytes_read, taken as u64);
        #[cfg(target_os = "linux")]
        system_holds(peer.address(), own_address(&socket), sent - taken);
        // An upper bound for systems that do not report the size of their queues.
        assert!(sent < 64 << 20, "{sent} bytes were accepted from a peer without a reader");
        read_exactly(reader, sent - taken).expect("it is unread");
        assert_eq!(socket.stats().bytes_read, sent as u64);
        assert_fails(socket.closed_timeout(ms(10)), ErrorKind::TimedOut);
    });
}

#[cfg(target_os = "linux")]
fn own_address(socket: &Socket) -> SocketAddr {
    socket.opened().expect("it is open").local_address().expect("it was reached")
}

/// Checks that the kernel's queues hold this many unread bytes from one address to the other.
#[cfg(target_os = "linux")]
#[track_caller]
fn system_holds(from: SocketAddr, to: SocketAddr, count: usize) {
    use crate::support::{eventually, process::queues};
    let mut held = 0;
    // Both ends count bytes that have arrived but are not acknowledged yet.
    eventually(PROMPT, "the kernel holds no more than that", || {
        held = queues(from, to).0 + queues(to, from).1;
        held <= count
    });
    assert_eq!(held, count, "the rest is missing");
}
