//! Blocked writes, and the events that end them.

use sockeye::ErrorKind;
use sockeye::model::{self, PeerSaw};

use crate::explore::explore;
use crate::support::{TestSocket, half_open, options, read_all, spawn, write_all};

#[test]
fn send_buffer_space_wakes_a_blocked_write() {
    explore("send buffer space wakes a blocked write", || {
        let test = TestSocket::with_send_window(2, options());
        let socket = test.socket.clone();
        let writer = spawn(move || write_all(&socket, b"abcde"));
        let mut taken = Vec::new();
        while taken.len() < 5 {
            taken.extend(test.peer.wait_bytes());
        }
        assert_eq!(taken, b"abcde");
        assert_eq!(writer.join().unwrap(), (5, None));
        test.assert_peer_saw(PeerSaw::Fin);
    });
}

#[test]
fn two_writers_take_turns() {
    explore("two writers take turns", || {
        let test = TestSocket::with_send_window(2, options());
        let writers = [b"aaa", b"bbb"].map(|bytes| {
            let socket = test.socket.clone();
            spawn(move || write_all(&socket, bytes))
        });
        let mut taken = Vec::new();
        while taken.len() < 6 {
            taken.extend(test.peer.wait_bytes());
        }
        for writer in writers {
            assert_eq!(writer.join().unwrap(), (3, None));
        }
        taken.sort_unstable();
        assert_eq!(taken, b"aaabbb");
        test.assert_peer_saw(PeerSaw::Fin);
    });
}

#[test]
fn a_deadline_in_the_past_ends_a_blocked_write_at_once() {
    explore("a deadline in the past ends a blocked write at once", || {
        let test = TestSocket::with_send_window(2, options());
        let begun = model::now();
        let socket = test.socket.clone();
        let writer = spawn(move || write_all(&socket, b"abc"));
        test.socket.set_write_deadline(Some(begun));
        let (accepted, error) = writer.join().unwrap();
        assert_eq!(error, Some(ErrorKind::TimedOut));
        assert_eq!(model::now(), begun, "no thread waited for time to pass");
        assert_eq!(test.assert_peer_saw(PeerSaw::Fin), b"abc"[..accepted]);
    });
}

#[test]
fn eof_ends_writes_after_the_accepted_data() {
    explore("EOF ends writes after the accepted data", || {
        let test = TestSocket::with_send_window(2, options());
        let writing = test.socket.clone();
        let writer = spawn(move || write_all(&writing, b"abc"));
        let reading = test.socket.clone();
        let reader = spawn(move || read_all(&reading));
        test.peer.end();
        assert_eq!(reader.join().unwrap(), (Vec::new(), None));
        let socket = test.socket.clone();
        let waiter = spawn(move || socket.closed().map_err(|error| error.kind()));
        let (bytes, seen) = test.peer.wait_eof();
        assert_eq!(seen, PeerSaw::Fin);
        let (accepted, error) = writer.join().unwrap();
        assert_eq!(bytes, b"abc"[..accepted], "exactly what was accepted");
        assert!(accepted == 3 || error == Some(ErrorKind::Closed), "{accepted} {error:?}");
        assert_eq!(waiter.join().unwrap(), Ok(()));
        assert_eq!(test.connector.open_sockets(), 0);
    });
}

#[test]
fn a_half_close_waits_for_earlier_writes() {
    explore("a half-close waits for earlier writes", || {
        let test = TestSocket::with_send_window(2, half_open());
        let writing = test.socket.clone();
        let writer = spawn(move || write_all(&writing, b"abc"));
        let side = test.socket.writer();
        let closer = spawn(move || side.close().map_err(|error| error.kind()));
        let (bytes, seen) = test.peer.wait_eof();
        assert_eq!(seen, PeerSaw::Fin);
        let (accepted, error) = writer.join().unwrap();
        assert_eq!(bytes, b"abc"[..accepted]);
        assert!(accepted == 3 || error == Some(ErrorKind::Closed), "{accepted} {error:?}");
        assert_eq!(closer.join().unwrap(), Ok(()));
        test.peer.send(b"on");
        test.peer.end();
        assert_eq!(read_all(&test.socket), (b"on".to_vec(), None));
        assert_eq!(test.socket.closed().map_err(|error| error.kind()), Ok(()));
        assert_eq!(test.connector.open_sockets(), 0);
    });
}
