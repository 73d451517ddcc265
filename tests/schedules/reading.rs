//! Blocked reads, and the events that end them.

use std::io::{self, Read};
use std::time::Duration;

use sockeye::ErrorKind;
use sockeye::model::{self, PeerSaw};

use crate::explore::explore;
use crate::support::{TestSocket, half_open, options, read, read_all, spawn, write};

const BRIEFLY: Duration = Duration::from_millis(10);

#[test]
fn data_and_eof_wake_a_blocked_read() {
    explore("data and EOF wake a blocked read", || {
        let test = TestSocket::open(options());
        let socket = test.socket.clone();
        let reader = spawn(move || read_all(&socket));
        test.peer.send(b"da");
        test.peer.send(b"ta");
        test.peer.end();
        assert_eq!(reader.join().unwrap(), (b"data".to_vec(), None));
        assert_eq!(test.socket.closed().map_err(|error| error.kind()), Ok(()));
        assert_eq!(test.assert_peer_saw(PeerSaw::Fin), b"");
    });
}

#[test]
fn two_readers_share_the_data_and_both_see_eof() {
    explore("two readers share the data and both see EOF", || {
        let test = TestSocket::open(options());
        let readers = [(), ()].map(|()| {
            let socket = test.socket.clone();
            spawn(move || read_all(&socket))
        });
        test.peer.send(b"1");
        test.peer.send(b"2");
        test.peer.end();
        let [(mut bytes, none), (others, nor_here)] = readers.map(|reader| reader.join().unwrap());
        assert_eq!((none, nor_here), (None, None));
        bytes.extend(others);
        bytes.sort_unstable();
        assert_eq!(bytes, b"12", "each byte once");
        test.assert_peer_saw(PeerSaw::Fin);
    });
}

/// The reader that gets the first byte ends with it. The end of its turn wakes the other one at once.
#[test]
fn two_readers_take_turns() {
    explore("two readers take turns", || {
        let test = TestSocket::open(options());
        let begun = model::now();
        let readers = [(), ()].map(|()| {
            let socket = test.socket.clone();
            spawn(move || {
                let mut byte = [0];
                (&socket).read_exact(&mut byte).unwrap();
                byte
            })
        });
        test.peer.send(b"12");
        let mut bytes = readers.map(|reader| reader.join().unwrap()).concat();
        bytes.sort_unstable();
        assert_eq!(bytes, b"12");
        assert_eq!(model::now(), begun, "no thread waited for time to pass");
        test.assert_peer_saw(PeerSaw::Fin);
    });
}

#[test]
fn a_deadline_in_the_past_ends_a_blocked_read_at_once() {
    explore("a deadline in the past ends a blocked read at once", || {
        let test = TestSocket::open(options());
        let begun = model::now();
        let socket = test.socket.clone();
        let reader = spawn(move || read(&socket));
        test.socket.set_read_deadline(Some(begun));
        assert_eq!(reader.join().unwrap(), Err(ErrorKind::TimedOut));
        assert_eq!(model::now(), begun, "no thread waited for time to pass");
        test.assert_peer_saw(PeerSaw::Fin);
    });
}

#[test]
fn a_deadline_set_and_moved_during_a_read_applies() {
    explore("a deadline set and moved during a read applies", || {
        let test = TestSocket::open(options());
        let begun = model::now();
        let socket = test.socket.clone();
        let reader = spawn(move || read(&socket));
        test.socket.set_read_deadline(Some(begun + 8 * BRIEFLY));
        test.socket.set_read_deadline(Some(begun + BRIEFLY));
        assert_eq!(reader.join().unwrap(), Err(ErrorKind::TimedOut));
        assert_eq!(model::now(), begun + BRIEFLY);
        test.assert_peer_saw(PeerSaw::Fin);
    });
}

#[test]
fn a_timed_out_read_consumes_nothing() {
    explore("a timed-out read consumes nothing", || {
        let test = TestSocket::open(options().read_timeout(BRIEFLY));
        let socket = test.socket.clone();
        let reader = spawn(move || {
            let first = read(&socket);
            socket.set_read_timeout(None).unwrap();
            match first {
                Err(kind) => {
                    assert_eq!(kind, ErrorKind::TimedOut);
                    read(&socket)
                }
                read => read,
            }
        });
        let time = spawn(|| model::pass_time(BRIEFLY));
        test.peer.send(b"data");
        assert_eq!(reader.join().unwrap(), Ok(b"data".to_vec()));
        time.join().unwrap();
        test.assert_peer_saw(PeerSaw::Fin);
    });
}

#[test]
fn a_queued_read_honours_its_own_limit() {
    explore("a queued read honours its own limit", || {
        let test = TestSocket::open(options());
        let readers = [(), ()].map(|()| {
            let socket = test.socket.clone();
            spawn(move || read(&socket))
        });
        test.socket.set_read_timeout(Some(BRIEFLY)).unwrap();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), Err(ErrorKind::TimedOut));
        }
        test.assert_peer_saw(PeerSaw::Fin);
    });
}

#[test]
fn cancel_ends_a_blocked_read_but_not_writes() {
    explore("cancel ends a blocked read but not writes", || {
        let test = TestSocket::open(options());
        let socket = test.socket.clone();
        let reader = spawn(move || read(&socket));
        let reading = test.socket.reader();
        let cancel = spawn(move || reading.cancel());
        test.peer.send(b"data");
        let came = reader.join().unwrap().unwrap();
        assert!(came.is_empty() || came == b"data", "{came:?}");
        cancel.join().unwrap();
        assert_eq!(read(&test.socket), Ok(Vec::new()));
        assert_eq!(write(&test.socket, b"on"), Ok(2));
        test.socket.close().unwrap();
        assert_eq!(test.assert_peer_saw(PeerSaw::Fin), b"on");
    });
}

#[test]
fn eof_is_noticed_without_a_reader() {
    explore("EOF is noticed without a reader", || {
        let test = TestSocket::open(options());
        let socket = test.socket.clone();
        let waiter = spawn(move || socket.closed().map_err(|error| error.kind()));
        test.peer.end();
        assert_eq!(waiter.join().unwrap(), Ok(()));
        test.assert_peer_saw(PeerSaw::Fin);
    });
}

#[test]
fn eof_is_noticed_after_the_last_read() {
    explore("EOF is noticed after the last read", || {
        let test = TestSocket::open(options());
        let socket = test.socket.clone();
        let reader = spawn(move || read(&socket));
        let socket = test.socket.clone();
        let waiter = spawn(move || socket.closed().map_err(|error| error.kind()));
        test.peer.send(b"data");
        // The event loop starts to monitor the wire before the EOF arrives.
        model::pass_time(BRIEFLY * 50);
        test.peer.end();
        assert_eq!(reader.join().unwrap(), Ok(b"data".to_vec()));
        assert_eq!(waiter.join().unwrap(), Ok(()));
        test.assert_peer_saw(PeerSaw::Fin);
    });
}

#[test]
fn eof_is_noticed_after_a_read_that_delayed_the_monitor() {
    explore("EOF is noticed after a read that delayed the monitor", || {
        let test = TestSocket::open(options());
        let socket = test.socket.clone();
        let reader = spawn(move || read(&socket));
        let socket = test.socket.clone();
        let waiter = spawn(move || socket.closed().map_err(|error| error.kind()));
        // The event loop would start to monitor the wire here, but a reader uses it.
        for _ in 0..3 {
            model::pass_time(BRIEFLY * 11);
        }
        test.peer.send(b"data");
        assert_eq!(reader.join().unwrap(), Ok(b"data".to_vec()));
        test.peer.end();
        assert_eq!(waiter.join().unwrap(), Ok(()));
        test.assert_peer_saw(PeerSaw::Fin);
    });
}

#[test]
fn a_reset_fails_every_waiting_call() {
    explore("a reset fails every waiting call", || {
        let test = TestSocket::open(half_open());
        let reading = test.socket.clone();
        let reader = spawn(move || read_all(&reading));
        let writing = test.socket.clone();
        let writer = spawn(move || write(&writing, b"data"));
        test.peer.reset();
        let closed = test.socket.closed().map_err(|error| error.kind());
        assert_eq!(closed, Err(ErrorKind::Reset));
        assert_eq!(reader.join().unwrap(), (Vec::new(), Some(ErrorKind::Reset)));
        let written = writer.join().unwrap();
        assert!(matches!(written, Ok(4) | Err(ErrorKind::Reset)), "{written:?}");
        assert_eq!(test.connector.open_sockets(), 0);
    });
}

/// The data may come after a receive that found nothing, and the writer may take the error before the reader is back.
#[test]
fn data_before_a_reset_is_read_although_a_writer_learns_of_the_reset() {
    explore("data before a reset is read although a writer learns of the reset", || {
        let test = TestSocket::open(half_open());
        let reading = test.socket.clone();
        let reader = spawn(move || read_all(&reading));
        let writing = test.socket.clone();
        let writer = spawn(move || write(&writing, b"data"));
        test.peer.send(b"last");
        test.peer.reset();
        assert_eq!(reader.join().unwrap(), (b"last".to_vec(), Some(ErrorKind::Reset)));
        let written = writer.join().unwrap();
        assert!(matches!(written, Ok(4) | Err(ErrorKind::Reset)), "{written:?}");
    });
}

#[test]
fn a_read_that_does_not_wait_returns_the_data_before_a_reset() {
    explore("a read that does not wait returns the data before a reset", || {
        let test = TestSocket::open(half_open());
        let reading = test.socket.clone();
        let reader = spawn(move || {
            for _ in 0..2 {
                let mut buf = [0; 8];
                match reading.try_read(&mut buf) {
                    Ok(bytes) => return assert_eq!(&buf[..bytes], b"last"),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
        });
        let writing = test.socket.clone();
        let writer = spawn(move || write(&writing, b"data"));
        test.peer.send(b"last");
        test.peer.reset();
        reader.join().unwrap();
        let written = writer.join().unwrap();
        assert!(matches!(written, Ok(4) | Err(ErrorKind::Reset)), "{written:?}");
    });
}
