//! A cancelled reader drops data, and nothing else.

use super::*;

// -------------------------------------------------------------------- a cancelled reader

#[test]
fn a_cancelled_reader_drops_later_data() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.wait_signal();
            // More than the buffers of both sides hold.
            peer.send(&random_bytes(35, 8 << 20));
            assert_eq!(peer.receive(5), b"there");
            peer.ends();
        });
        let reader = socket.reader();
        let reading = spawn_blocked(move || read(reader, 10));
        socket.reader().cancel();
        assert_eq!(reading.join_within(PROMPT).expect("reading has ended"), b"");
        assert_eq!(socket.phase(), Phase::HalfClosed);
        peer.signal();
        (&socket).write_all(b"there").expect("writing continues");
        socket.closed_timeout(WATCHDOG).expect("a clean end");
        assert_eq!(socket.stats().bytes_read, 0, "dropped bytes are not counted");
        assert_eq!(read(&socket, 1).expect("reading has ended"), b"");
        peer.assert_received(b"there");
    });
}

#[test]
fn a_cancelled_reader_drops_unread_data() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| peer.send(b"unread"));
        // The bytes are unread, so the socket does not settle.
        assert_fails(socket.closed_timeout(ms(150)), ErrorKind::TimedOut);
        socket.reader().cancel();
        assert_eq!(read(&socket, 10).expect("reading has ended"), b"");
        assert_eq!(socket.stats().bytes_read, 0);
        (&socket).write_all(b"there").expect("writing continues");
        socket.writer().close().expect("the peer reads");
        socket.closed_timeout(PROMPT).expect("both directions ended");
        peer.assert_received(b"there");
    });
}

#[test]
fn a_cancelled_reader_hides_neither_truncation_nor_failures() {
    for_each_tls_setup(|setting| {
        for (end, kind) in [
            (Accepted::fin as fn(&mut Accepted), ErrorKind::Truncated),
            (Accepted::alert, ErrorKind::Tls),
            (Accepted::reset, ErrorKind::Reset),
        ] {
            let (peer, socket) = pair(setting, move |peer| {
                peer.wait_signal();
                peer.send(b"dropped");
                end(peer);
            });
            socket.reader().cancel();
            peer.signal();
            assert_fails(socket.closed_timeout(PROMPT), kind);
            assert_eq!(socket.stats().bytes_read, 0);
            assert_fails((&socket).write(b"x"), kind);
        }
    });
}

#[test]
fn a_cancelled_reader_answers_key_updates() {
    in_tls_1_3(|setting| {
        let (sender, receiver) = mpsc::channel();
        let (peer, socket) = pair(setting, move |peer| {
            peer.wait_signal();
            peer.expect_key_update();
            sender.send(()).expect("the test waits for it");
        });
        socket.reader().cancel();
        peer.signal();
        let count = write_bytes_until(&receiver, &socket);
        socket.close().expect("the peer reads");
        peer.assert_received(&vec![b'w'; count]);
    });
}
