//! Bulk data through small buffers, in addition to the scenarios of `conformance::volume`.

use std::io::Write;
use std::sync::mpsc;

use sockeye::{SocketOptions, TcpOptions};

use crate::support::peer::listen_with_room;
use crate::support::{
    Peer, assert_times_out, ms, open_with, random_bytes, read, read_exactly, small_send_buffer,
    with_watchdog, write_until_error,
};

#[test]
fn a_slow_reader_with_a_small_buffer_gets_everything() {
    with_watchdog(|| {
        let peer = Peer::scripted_on(listen_with_room(4096), |wire| {
            for _ in 0..500 {
                wire.receive(777);
            }
        });
        let socket = open_with(&peer, small_send_buffer());
        let bytes = random_bytes(9, 1 << 20);
        (&socket).write_all(&bytes).expect("the peer reads");
        socket.close().expect("the peer reads");
        peer.assert_received(&bytes);
    });
}

#[test]
fn small_buffers_limit_unread_data_at_the_peer() {
    with_watchdog(|| {
        let peer = Peer::not_reading();
        let socket = open_with(&peer, small_send_buffer().write_timeout(ms(300)));
        let (taken, failure) = write_until_error(&socket, b'w', usize::MAX);
        assert_times_out::<()>(Err(failure.expect("the kernel's buffers are full")));
        assert!(taken < 1 << 20, "{taken} bytes are queued for a peer that does not read");
        assert_eq!(socket.stats().bytes_written, taken as u64);
    });
}

#[test]
fn small_buffers_limit_unread_data_from_the_peer() {
    const ASKED: usize = 1000;
    with_watchdog(|| {
        let (sender, receiver) = mpsc::channel();
        let peer = Peer::scripted(move |wire| {
            for _ in 0..2 {
                sender.send(wire.send_until_full(ms(500))).expect("the test waits for it");
            }
        });
        let little = TcpOptions::new().recv_buffer_size(16 * 1024);
        let socket = open_with(&peer, SocketOptions::new().tcp(little));
        let sent = receiver.recv().expect("the peer reports it");
        assert_eq!(socket.stats().bytes_read, 0);
        assert_eq!(read(&socket, ASKED).expect("it waits").len(), ASKED);
        let more = receiver.recv().expect("the peer reports it");
        assert_eq!(socket.stats().bytes_read, ASKED as u64);
        assert!(sent + more < 6 << 20, "{sent} and {more} bytes were accepted, {ASKED} read");
        // All of it is unread: none is lost, and none was read ahead.
        read_exactly(&socket, sent + more - ASKED).expect("it waits");
        assert_eq!(socket.stats().bytes_read, (sent + more) as u64);
    });
}
