//! The ends of Unix-domain sockets, where a hang-up alone is no reset.

use sockeye::model::{self, PeerSaw, Reachability};
use sockeye::{ErrorKind, Health, SocketOptions};

use crate::explore::explore;
use crate::support::{TestSocket, half_open, options, read_all, spawn, write};

fn open(options: SocketOptions) -> TestSocket {
    model::set_reachability(Reachability::Unix);
    TestSocket::open(options)
}

/// The kernel reports the failure once, to any of the calls: a read, a write, or a look of the event loop.
#[test]
fn an_unread_byte_makes_the_close_of_a_unix_domain_peer_a_failure_for_every_thread() {
    explore("an unread byte makes the close of a Unix-domain peer a failure", || {
        let test = open(half_open());
        assert_eq!(write(&test.socket, b"a"), Ok(1));
        let reading = test.socket.clone();
        let reader = spawn(move || read_all(&reading));
        let writing = test.socket.clone();
        let writer = spawn(move || write(&writing, b"b"));
        test.peer.send(b"c");
        test.peer.close();
        assert_eq!(reader.join().unwrap(), (b"c".to_vec(), Some(ErrorKind::Reset)));
        if let Err(kind) = writer.join().unwrap() {
            assert_eq!(kind, ErrorKind::Reset);
        }
        assert_eq!(test.socket.closed().map_err(|error| error.kind()), Err(ErrorKind::Reset));
    });
}

/// The writer or the event loop may take the error, of which poll(2) then shows nothing.
#[test]
fn a_check_of_the_health_takes_no_failure_of_a_unix_domain_socket_for_an_end() {
    explore("a check of the health takes no failure of a Unix-domain socket for an end", || {
        let test = open(half_open());
        assert_eq!(write(&test.socket, b"a"), Ok(1));
        test.peer.close();
        let writing = test.socket.clone();
        let writer = spawn(move || write(&writing, b"b"));
        let health = test.socket.health();
        assert!(
            matches!(&health, Health::Failed(error) if error.kind() == ErrorKind::Reset),
            "{health:?}"
        );
        assert_eq!(writer.join().unwrap(), Err(ErrorKind::Reset));
        assert_eq!(test.socket.closed().map_err(|error| error.kind()), Err(ErrorKind::Reset));
    });
}

#[test]
fn the_close_of_a_unix_domain_peer_that_has_read_everything_is_an_end() {
    explore("the close of a Unix-domain peer that has read everything is an end", || {
        let test = open(options());
        let reading = test.socket.clone();
        let reader = spawn(move || read_all(&reading));
        let checking = test.socket.clone();
        let checker = spawn(move || checking.health().is_idle());
        test.peer.send(b"c");
        test.peer.close();
        assert_eq!(reader.join().unwrap(), (b"c".to_vec(), None));
        let _ = checker.join().unwrap();
        assert_eq!(test.socket.closed().map_err(|error| error.kind()), Ok(()));
        test.assert_peer_saw(PeerSaw::Fin);
    });
}

/// The write fails, or its byte is lost. Either way the peer had read what came before, so its own end is clean.
#[test]
fn a_write_that_meets_a_closed_unix_domain_peer_leaves_its_end_clean() {
    explore("a write that meets a closed Unix-domain peer leaves its end clean", || {
        let test = open(half_open());
        let writing = test.socket.clone();
        test.peer.send(b"c");
        test.peer.close();
        let writer = spawn(move || write(&writing, b"b"));
        assert_eq!(read_all(&test.socket), (b"c".to_vec(), None));
        assert_eq!(writer.join().unwrap(), Err(ErrorKind::Reset));
    });
}
