//! A reader that was cancelled drops data, and nothing else.

use super::*;

// -------------------------------------------------------------------- a reader that was cancelled

#[test]
fn a_cancelled_reader_drops_what_comes() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.await_cue();
            // More than the buffers between the two hold.
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
        (&socket).write_all(b"there").expect("writing goes on");
        socket.closed_timeout(PATIENCE).expect("a clean end");
        assert_eq!(socket.stats().bytes_read, 0, "what is dropped does not count");
        assert_eq!(read(&socket, 1).expect("reading has ended"), b"");
        peer.gets(b"there");
    });
}

#[test]
fn a_cancelled_reader_drops_what_has_come() {
    settings(|setting| {
        let (peer, socket) = pair(setting, |peer| peer.send(b"unread"));
        // Bytes are unread, which is how they show without being read.
        fails(socket.closed_timeout(ms(150)), ErrorKind::TimedOut);
        socket.reader().cancel();
        assert_eq!(read(&socket, 10).expect("reading has ended"), b"");
        assert_eq!(socket.stats().bytes_read, 0);
        (&socket).write_all(b"there").expect("writing goes on");
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
fn a_cancelled_reader_answers_new_keys() {
    in_tls_1_3(|setting| {
        let (tell, told) = mpsc::channel();
        let (peer, socket) = pair(setting, move |peer| {
            peer.await_cue();
            is_answered(peer);
            tell.send(()).expect("the test waits for it");
        });
        socket.reader().cancel();
        peer.cue();
        told.recv_timeout(PATIENCE).expect("the socket answers by itself");
        (&socket).write_all(b"with new keys").expect("the peer reads");
        socket.close().expect("the peer reads");
        peer.gets(b"with new keys");
    });
}
