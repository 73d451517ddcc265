//! A cancelled reader drops data, and nothing else.

use super::*;

// -------------------------------------------------------------------- a cancelled reader

#[test]
fn a_cancelled_reader_drops_later_data() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.await_cue();
            // More than the buffers of both sides hold.
            peer.send(&noise(35, 8 << 20));
            assert_eq!(peer.receive(5), b"there");
            peer.ends();
        });
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 10));
        socket.reader().cancel();
        assert_eq!(reading.join_within(AT_ONCE).expect("reading has ended"), b"");
        assert_eq!(socket.phase(), Phase::HalfClosed);
        peer.cue();
        (&socket).write_all(b"there").expect("writing continues");
        socket.closed_timeout(PATIENCE).expect("a clean end");
        assert_eq!(socket.stats().bytes_read, 0, "dropped bytes are not counted");
        assert_eq!(read(&socket, 1).expect("reading has ended"), b"");
        peer.gets(b"there");
    });
}

#[test]
fn a_cancelled_reader_drops_unread_data() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |peer| peer.send(b"unread"));
        // The bytes are unread, so the socket does not settle.
        fails(socket.closed_timeout(ms(150)), ErrorKind::TimedOut);
        socket.reader().cancel();
        assert_eq!(read(&socket, 10).expect("reading has ended"), b"");
        assert_eq!(socket.stats().bytes_read, 0);
        (&socket).write_all(b"there").expect("writing continues");
        socket.writer().close().expect("the peer reads");
        socket.closed_timeout(AT_ONCE).expect("both directions ended");
        peer.gets(b"there");
    });
}

#[test]
fn a_cancelled_reader_hides_neither_truncation_nor_failures() {
    settings(|setting| {
        for (end, kind) in [
            (Accepted::fin as fn(&mut Accepted), ErrorKind::Truncated),
            (Accepted::alert, ErrorKind::Tls),
            (Accepted::reset, ErrorKind::Reset),
        ] {
            let (peer, socket) = pair(setting, move |peer| {
                peer.await_cue();
                peer.send(b"dropped");
                end(peer);
            });
            socket.reader().cancel();
            peer.cue();
            fails(socket.closed_timeout(AT_ONCE), kind);
            assert_eq!(socket.stats().bytes_read, 0);
            fails((&socket).write(b"x"), kind);
        }
    });
}

#[test]
fn a_cancelled_reader_answers_key_updates() {
    in_tls_1_3(|setting| {
        let (tell, told) = mpsc::channel();
        let (peer, socket) = pair(setting, move |peer| {
            peer.await_cue();
            is_answered(peer);
            tell.send(()).expect("the test waits for it");
        });
        socket.reader().cancel();
        peer.cue();
        told.recv_timeout(PATIENCE).expect("the loop answers for the socket");
        (&socket).write_all(b"with new keys").expect("the peer reads");
        socket.close().expect("the peer reads");
        peer.gets(b"with new keys");
    });
}
