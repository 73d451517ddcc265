//! Many bytes, many sockets, and peers or programs that don't read.

use std::io::Write;

use sockeye::{ErrorKind, SocketOptions, TcpOptions};

use crate::support::peer::{Server, listen_with_room};
use crate::support::{
    AT_ONCE, How, Peer, call, fails, kind_of, little_room, ms, noise, open, open_with, pour, read,
    read_exactly, read_to_end, room_for_descriptors, same, skip, story,
};

#[test]
fn read_20mb() {
    const SIZE: usize = 20_000_000;
    story(|| {
        let peer = Peer::plays(|wire| {
            wire.send(&noise(6, SIZE));
            wire.fin();
        });
        let socket = sockeye::connect(peer.address()).expect("the address is fine");
        same(&read_to_end(&socket).expect("a clean end"), &noise(6, SIZE));
        socket.closed_timeout(AT_ONCE).expect("a clean end");
        assert_eq!(socket.stats().bytes_read, SIZE as u64);
        peer.gets(b"");
    });
}

#[test]
fn echo_8mb() {
    const SIZE: usize = 128 * 65_536;
    story(|| {
        let peer = Peer::plays(|wire| wire.echo());
        let socket = sockeye::connect(peer.address()).expect("the address is fine");
        let reader = socket.reader();
        let reading = call(move || read_to_end(reader));
        let bytes = noise(7, SIZE);
        let writer = socket.writer();
        for chunk in bytes.chunks(65_536) {
            (&writer).write_all(chunk).expect("the peer reads");
        }
        writer.close().expect("the peer reads");
        same(&reading.join().expect("a clean end"), &bytes);
        socket.closed_timeout(AT_ONCE).expect("both directions ended");
    });
}

#[test]
fn peer_not_reading() {
    const MOST: usize = 200 * 65_536;
    story(|| {
        let peer = Peer::stuck();
        let socket = open_with(&peer, little_room().write_timeout(ms(300)));
        let (taken, failure) = pour(&socket, b'w', MOST);
        assert_eq!(kind_of(&failure.expect("the kernel is full")), ErrorKind::TimedOut);
        assert!(taken < 1 << 20, "{taken} bytes are held for a peer that doesn't read");
        assert_eq!(socket.stats().bytes_written, taken as u64);
        peer.cue();
        socket.set_write_timeout(None).expect("none is fine");
        let (rest, failure) = pour(&socket, b'w', MOST - taken);
        assert!(failure.is_none(), "{failure:?}");
        assert_eq!(taken + rest, MOST);
        socket.close().expect("the peer reads");
        peer.gets(&vec![b'w'; MOST]);
    });
}

/// A connection whose two ends have little room: what the peer can send is what the kernel holds.
fn little_room_to_receive() -> SocketOptions {
    SocketOptions::new().tcp(TcpOptions::new().recv_buffer_size(16 * 1024))
}

#[test]
fn client_not_reading() {
    story(|| {
        let (tell, told) = std::sync::mpsc::channel();
        let peer = Peer::plays(move |wire| {
            let sent = wire.send_until_full(ms(500));
            tell.send(sent).expect("the test listens");
        });
        let socket = open_with(&peer, little_room_to_receive());
        let sent = told.recv().expect("the peer tells");
        assert_eq!(socket.stats().bytes_read, 0);
        assert!(sent < 6 << 20, "{sent} bytes were taken from a peer though nobody reads");
        // All of it waits, none of it is lost or read ahead.
        read_exactly(&socket, sent).expect("it waits");
        assert_eq!(socket.stats().bytes_read, sent as u64);
        fails(socket.closed_timeout(ms(10)), ErrorKind::TimedOut);
    });
}

#[test]
fn client_not_reading_locked() {
    const ASKED: usize = 1000;
    story(|| {
        let (tell, told) = std::sync::mpsc::channel();
        let peer = Peer::plays(move |wire| {
            tell.send(wire.send_until_full(ms(500))).expect("the test listens");
            tell.send(wire.send_until_full(ms(500))).expect("the test listens");
        });
        let socket = open_with(&peer, little_room_to_receive());
        let reader = socket.reader();
        let sent = told.recv().expect("the peer tells");
        assert_eq!(read(&reader, ASKED).expect("it waits").len(), ASKED);
        let more = told.recv().expect("the peer tells");
        assert_eq!(socket.stats().bytes_read, ASKED as u64);
        assert!(sent + more < 6 << 20, "{sent} and {more} bytes were taken, {ASKED} read");
    });
}

#[test]
fn many_1000() {
    const COUNT: usize = 1000;
    if !room_for_descriptors(2 * COUNT as u64 + 500) {
        return skip("volume.many-1000", "the limit of descriptors is too low");
    }
    story(|| {
        let server = Server::echoes();
        let sockets: Vec<_> = (0..COUNT)
            .map(|_| sockeye::connect(server.address()).expect("the address is fine"))
            .collect();
        for socket in &sockets {
            socket.opened().expect("the peer listens");
        }
        for mut socket in &sockets {
            socket.write_all(b"ping").expect("the peer reads");
            socket.writer().close().expect("the peer reads");
        }
        for socket in &sockets {
            assert_eq!(read_to_end(socket).expect("a clean end"), b"ping");
        }
        for socket in &sockets {
            socket.closed_timeout(AT_ONCE).expect("both directions ended");
        }
    });
}

#[test]
fn sequential_writes_1b() {
    story(|| {
        let peer = Peer::reads();
        let socket = open(&peer);
        let bytes = noise(8, 2000);
        let writer = socket.writer();
        for byte in &bytes {
            assert_eq!((&writer).write(&[*byte]).expect("the peer reads"), 1);
        }
        writer.close().expect("the peer reads");
        let ending = peer.ending();
        same(&ending.bytes, &bytes);
        assert_eq!(ending.how, How::Fin);
    });
}

#[test]
fn a_slow_reader_with_little_room_gets_everything() {
    story(|| {
        let peer = Peer::on(listen_with_room(4096), |wire| {
            for _ in 0..500 {
                wire.receive(777);
            }
        });
        let socket = open_with(&peer, little_room());
        let bytes = noise(9, 1 << 20);
        (&socket).write_all(&bytes).expect("the peer reads");
        socket.close().expect("the peer reads");
        peer.gets(&bytes);
    });
}
