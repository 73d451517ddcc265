//! Pollers: keys that are armed, removed and reported while events come, and the threads that wait for them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use sockeye::model::{Peer, PeerSaw};
use sockeye::{Event, Events, Interest, ListenOptions, Poller, Socket, listen, listen_with};

use crate::explore::explore;
use crate::securing::{TlsPeer, without_tickets};
use crate::support::{TestSocket, half_open, options, read, spawn};

const READABLE: Interest = Interest::READABLE;
const WRITABLE: Interest = Interest::WRITABLE;
const KEY: u64 = 7;

/// Waits for at most `limit`, with room for `capacity` events.
fn wait_for(poller: &Poller, capacity: usize, limit: Option<Duration>) -> Vec<Event> {
    let mut events = Events::with_capacity(capacity);
    poller.wait(&mut events, limit).unwrap();
    events.iter().collect()
}

/// Waits for one event.
fn wait(poller: &Poller) -> Event {
    let events = wait_for(poller, 4, None);
    assert_eq!(events.len(), 1, "{events:?}");
    events[0]
}

/// Returns what is so already.
fn look(poller: &Poller) -> Vec<Event> {
    wait_for(poller, 4, Some(Duration::ZERO))
}

fn try_read(socket: &Socket) -> Vec<u8> {
    let mut buf = [0; 4];
    match socket.try_read(&mut buf) {
        Ok(bytes) => buf[..bytes].to_vec(),
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            Vec::new()
        }
    }
}

/// A modify that comes while data arrives is not lost: the data was there, or its event arms the key.
#[test]
fn a_modify_against_an_event_is_not_lost() {
    explore("a modify against an event is not lost", || {
        let TestSocket { connector, socket, peer } = TestSocket::open(options());
        let poller = Poller::new().unwrap();
        poller.add(&socket, KEY, READABLE).unwrap();
        peer.send(b"12");
        assert!(wait(&poller).readable);
        // No event follows for what is not read, or only seen.
        poller.modify(KEY, READABLE).unwrap();
        assert!(wait(&poller).readable);
        assert_eq!(socket.peek(&mut [0; 4]).unwrap(), 2);
        poller.modify(KEY, READABLE).unwrap();
        assert!(wait(&poller).readable);
        assert_eq!(socket.try_read(&mut [0]).unwrap(), 1);
        // Nor for what is left.
        poller.modify(KEY, READABLE).unwrap();
        assert!(wait(&poller).readable);
        assert_eq!(try_read(&socket), b"2");
        let sending = spawn(move || {
            peer.send(b"3");
            peer
        });
        poller.modify(KEY, READABLE).unwrap();
        assert!(wait(&poller).readable);
        assert_eq!(try_read(&socket), b"3");
        assert_eq!(look(&poller), []);
        let peer = sending.join().unwrap();
        TestSocket { connector, socket, peer }.assert_peer_saw(PeerSaw::Fin);
    });
}

/// A thread reads what the kernel has reported to another one, and arms the key. That report is no longer so, and must not
/// use up the key.
#[test]
fn a_report_of_data_that_was_read_is_not_believed() {
    explore("a report of data that was read is not believed", || {
        let TestSocket { connector, socket, peer } = TestSocket::open(options());
        let poller = Arc::new(Poller::new().unwrap());
        poller.add(&socket, KEY, READABLE.level()).unwrap();
        let looking = {
            let poller = Arc::clone(&poller);
            spawn(move || look(&poller).len())
        };
        peer.send(b"1");
        assert_eq!(try_read(&socket), b"1");
        poller.modify(KEY, READABLE).unwrap();
        assert!(looking.join().unwrap() <= 1);
        assert_eq!(look(&poller), []);
        peer.send(b"2");
        assert!(wait(&poller).readable);
        assert_eq!(try_read(&socket), b"2");
        TestSocket { connector, socket, peer }.assert_peer_saw(PeerSaw::Fin);
    });
}

/// Over TLS a check of the health ingests records. The event may come after the check has found nothing.
#[test]
fn a_record_during_a_check_of_the_health_is_not_lost() {
    explore("a record during a check of the health is not lost", || {
        let test = TestSocket::connecting(without_tickets());
        let TestSocket { connector, socket, peer } = test;
        let serving = spawn(move || TlsPeer::new(peer, 0).serve_after_some(b"1"));
        socket.opened().unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&socket, KEY, READABLE).unwrap();
        let socket = Arc::new(socket);
        let checking = {
            let socket = Arc::clone(&socket);
            spawn(move || drop(socket.health()))
        };
        assert!(wait(&poller).readable);
        assert_eq!(try_read(&socket), b"1");
        checking.join().unwrap();
        drop(socket);
        assert_eq!(serving.join().unwrap(), (Vec::new(), PeerSaw::Fin));
        assert_eq!(connector.open_sockets(), 0);
    });
}

#[test]
fn a_level_triggered_key_is_reported_until_it_is_read() {
    explore("a level-triggered key is reported until it is read", || {
        let TestSocket { connector, socket, peer } = TestSocket::open(options());
        let poller = Poller::new().unwrap();
        poller.add(&socket, KEY, READABLE).unwrap();
        let sending = spawn(move || {
            peer.send(b"1");
            peer.send(b"2");
            peer
        });
        poller.modify(KEY, READABLE.level()).unwrap();
        let mut received = Vec::new();
        while received.len() < 2 {
            assert!(wait(&poller).readable);
            assert!(wait(&poller).readable);
            let mut byte = [0];
            // No other thread reads, and the check looked at the wire.
            assert_eq!(socket.try_read(&mut byte).unwrap(), 1);
            received.extend(byte);
        }
        assert_eq!(received, b"12");
        let peer = sending.join().unwrap();
        TestSocket { connector, socket, peer }.assert_peer_saw(PeerSaw::Fin);
    });
}

/// After a removal no wait that begins then reports the key, although another thread may report it now.
#[test]
fn a_removed_key_is_not_reported() {
    explore("a removed key is not reported", || {
        let TestSocket { connector, socket, peer } = TestSocket::open(options());
        let poller = Arc::new(Poller::new().unwrap());
        // It is queued at once, because the socket is open.
        poller.add(&socket, KEY, READABLE | Interest::OPENED).unwrap();
        let sending = spawn(move || {
            peer.send(b"1");
            peer
        });
        let waiting = {
            let poller = Arc::clone(&poller);
            spawn(move || look(&poller).len())
        };
        assert!(poller.remove(KEY));
        assert_eq!(look(&poller), []);
        assert!(waiting.join().unwrap() <= 1);
        let peer = sending.join().unwrap();
        assert_eq!(look(&poller), []);
        assert_eq!(read(&socket), Ok(b"1".to_vec()));
        TestSocket { connector, socket, peer }.assert_peer_saw(PeerSaw::Fin);
    });
}

#[test]
fn the_last_handle_takes_its_keys_along() {
    explore("the last handle takes its keys along", || {
        let TestSocket { connector, socket, peer } = TestSocket::open(options());
        let poller = Arc::new(Poller::new().unwrap());
        poller.add(&socket, KEY, READABLE | WRITABLE).unwrap();
        let waiting = {
            let poller = Arc::clone(&poller);
            spawn(move || look(&poller).len())
        };
        drop(socket);
        assert_eq!(poller.len(), 0);
        assert_eq!(look(&poller), []);
        assert!(waiting.join().unwrap() <= 1);
        assert_eq!(peer.wait_eof().1, PeerSaw::Fin);
        peer.end();
        assert_eq!(connector.open_sockets(), 0);
    });
}

#[test]
fn a_wake_ends_a_wait_that_is_about_to_sleep() {
    explore("a wake ends a wait that is about to sleep", || {
        let poller = Arc::new(Poller::new().unwrap());
        let waiting = {
            let poller = Arc::clone(&poller);
            spawn(move || wait_for(&poller, 1, None).len())
        };
        poller.wake();
        assert_eq!(waiting.join().unwrap(), 0);
        // It was used up.
        assert_eq!(look(&poller), []);
    });
}

/// Two threads wait, with room for one event each. Every event is reported once, and the stop reaches both.
#[test]
fn two_waiting_threads_share_the_events() {
    explore("two waiting threads share the events", || {
        let tests = [(); 2].map(|()| TestSocket::open(options()));
        let poller = Arc::new(Poller::new().unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        for (test, key) in tests.iter().zip(0..) {
            poller.add(&test.socket, key, READABLE).unwrap();
        }
        let threads = [(); 2].map(|()| {
            let (poller, stop) = (Arc::clone(&poller), Arc::clone(&stop));
            spawn(move || {
                let mut seen = Vec::new();
                loop {
                    let events = wait_for(&poller, 1, None);
                    seen.extend(events.iter().map(|event| event.key));
                    if stop.load(Ordering::SeqCst) {
                        // The other thread may still wait.
                        poller.wake();
                        return seen;
                    }
                }
            })
        });
        tests[0].peer.send(b"1");
        tests[1].peer.send(b"2");
        stop.store(true, Ordering::SeqCst);
        poller.wake();
        let mut seen = threads.map(|thread| thread.join().unwrap()).concat();
        // The last wake is left, and the event loop may be late.
        while seen.len() < 2 {
            seen.extend(wait_for(&poller, 1, None).iter().map(|event| event.key));
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1]);
        for test in tests {
            read(&test.socket).unwrap();
            test.assert_peer_saw(PeerSaw::Fin);
        }
    });
}

/// A thread that reads takes a part of the data. Its end makes the event loop look at the rest.
#[test]
fn what_a_reader_leaves_is_reported() {
    explore("what a reader leaves is reported", || {
        let TestSocket { connector, socket, peer } = TestSocket::open(options());
        let poller = Poller::new().unwrap();
        let reader = {
            let socket = socket.clone();
            spawn(move || std::io::Read::read(&mut &socket, &mut [0; 2]).unwrap())
        };
        poller.add(&socket, KEY, READABLE).unwrap();
        // A read of the first byte alone empties the wire, and the rest may come before its end.
        peer.send(b"1");
        peer.send(b"23");
        assert!(wait(&poller).readable);
        let taken = reader.join().unwrap();
        // If the reader came first, this is for the rest.
        poller.modify(KEY, READABLE).unwrap();
        assert!(wait(&poller).readable);
        assert_eq!(try_read(&socket), b"123"[taken..]);
        TestSocket { connector, socket, peer }.assert_peer_saw(PeerSaw::Fin);
    });
}

#[test]
fn the_end_is_reported_once() {
    explore("the end is reported once", || {
        let TestSocket { connector, socket, peer } = TestSocket::connecting(half_open());
        let poller = Poller::new().unwrap();
        poller.add(&socket, KEY, Interest::CLOSED).unwrap();
        let closing = {
            let socket = socket.clone();
            spawn(move || socket.close().unwrap())
        };
        peer.end();
        assert!(wait(&poller).closed);
        assert_eq!(socket.closed_timeout(Duration::ZERO).map_err(|error| error.kind()), Ok(()));
        assert_eq!(look(&poller), []);
        closing.join().unwrap();
        drop(socket);
        let _ = peer.wait_eof();
        assert_eq!(connector.open_sockets(), 0);
    });
}

#[test]
fn room_in_the_send_buffer_is_reported() {
    explore("room in the send buffer is reported", || {
        let TestSocket { connector, socket, peer } = TestSocket::with_send_window(2, options());
        let poller = Poller::new().unwrap();
        assert_eq!(socket.try_write(b"123").unwrap(), 2);
        let reading = spawn(move || {
            let received = peer.wait_bytes();
            (peer, received)
        });
        poller.add(&socket, KEY, WRITABLE).unwrap();
        assert!(wait(&poller).writable);
        assert_eq!(socket.try_write(b"3").unwrap(), 1);
        let (peer, received) = reading.join().unwrap();
        assert_eq!(received, b"12");
        TestSocket { connector, socket, peer }.assert_peer_saw(PeerSaw::Fin);
    });
}

#[test]
fn a_client_is_reported() {
    explore("a client is reported", || {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let listener = listen(address).unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&listener, KEY, READABLE).unwrap();
        let dialling =
            spawn(move || Peer::connect(address, SocketAddr::from(([192, 0, 2, 1], 1))).unwrap());
        assert!(wait(&poller).readable);
        let socket = listener.accept_timeout(Duration::ZERO).unwrap();
        let peer = dialling.join().unwrap();
        socket.close().unwrap();
        assert_eq!(peer.wait_eof().1, PeerSaw::Fin);
        peer.end();
        poller.modify(KEY, READABLE).unwrap();
        listener.close();
        assert!(wait(&poller).closed);
    });
}

/// A poller takes the client while another thread begins to wait for one.
#[test]
fn a_thread_accepts_the_client_that_a_poller_has_taken() {
    explore("a thread accepts the client that a poller has taken", || {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let listener = listen(address).unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&listener, KEY, READABLE).unwrap();
        let accepting = {
            let listener = listener.clone();
            spawn(move || listener.accept().unwrap())
        };
        let peer = Peer::connect(address, SocketAddr::from(([192, 0, 2, 1], 1))).unwrap();
        let _ = look(&poller);
        let socket = accepting.join().unwrap();
        socket.close().unwrap();
        assert_eq!(peer.wait_eof().1, PeerSaw::Fin);
        peer.end();
    });
}

/// The close of a listener returns the client that a poller takes at the same time. An abort resets it.
#[test]
fn the_end_of_a_listener_finds_the_client_that_a_poller_has_taken() {
    explore("the end of a listener finds the client that a poller has taken", || {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let listener = listen(address).unwrap();
        let poller = Arc::new(Poller::new().unwrap());
        poller.add(&listener, KEY, READABLE).unwrap();
        let peer = Peer::connect(address, SocketAddr::from(([192, 0, 2, 1], 1))).unwrap();
        let looking = {
            let poller = Arc::clone(&poller);
            spawn(move || look(&poller).len())
        };
        listener.close();
        let socket = listener.accept().unwrap();
        assert!(looking.join().unwrap() <= 1);
        assert_eq!(
            listener.accept().map(drop).map_err(|error| error.kind()),
            Err(sockeye::ErrorKind::Closed)
        );
        socket.close().unwrap();
        assert_eq!(peer.wait_eof().1, PeerSaw::Fin);
        peer.end();
    });
}

/// A thread that has seen a level-triggered key reads a part, and does not come back. Another one waits.
#[test]
fn what_a_thread_leaves_is_reported_to_another() {
    explore("what a thread leaves is reported to another", || {
        let TestSocket { connector, socket, peer } = TestSocket::open(options());
        let poller = Arc::new(Poller::new().unwrap());
        poller.add(&socket, KEY, READABLE.level()).unwrap();
        let threads = [(); 2].map(|()| {
            let (poller, socket) = (Arc::clone(&poller), socket.clone());
            spawn(move || {
                let mut byte = [0];
                loop {
                    assert!(wait(&poller).readable);
                    match socket.try_read(&mut byte) {
                        Ok(1) => return byte[0],
                        Ok(bytes) => panic!("{bytes} bytes"),
                        // A wait that began later reports what is still true, and the other thread is reading it.
                        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
                    }
                }
            })
        });
        peer.send(b"12");
        let mut seen = threads.map(|thread| thread.join().unwrap());
        seen.sort_unstable();
        assert_eq!(&seen, b"12");
        TestSocket { connector, socket, peer }.assert_peer_saw(PeerSaw::Fin);
    });
}

/// Over TLS the event loop or a waiting thread decrypts the record, and one of the threads sees it.
#[test]
fn one_of_two_waiting_threads_sees_a_record() {
    explore("one of two waiting threads sees a record", || {
        let TestSocket { connector, socket, peer } = TestSocket::connecting(without_tickets());
        let serving = spawn(move || TlsPeer::new(peer, 0).serve_after_some(b"1"));
        let poller = Arc::new(Poller::new().unwrap());
        poller.add(&socket, KEY, READABLE).unwrap();
        let threads = [(); 2].map(|()| {
            let poller = Arc::clone(&poller);
            spawn(move || {
                let events = wait_for(&poller, 1, None);
                // The other one need not wait any longer.
                poller.wake();
                events.len()
            })
        });
        let seen: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(seen, 1);
        assert_eq!(try_read(&socket), b"1");
        drop(socket);
        assert_eq!(serving.join().unwrap(), (Vec::new(), PeerSaw::Fin));
        assert_eq!(connector.open_sockets(), 0);
    });
}

/// Over TLS a check of a key receives, and may find several records. The event of the next one may come while some are
/// unread, or to another thread during the check.
#[test]
fn a_record_behind_others_is_not_lost() {
    explore("a record behind others is not lost", || {
        let TestSocket { connector, socket, peer } = TestSocket::connecting(without_tickets());
        let serving = spawn(move || TlsPeer::new(peer, 0).serve_after_records(&[b"1", b"2", b"3"]));
        socket.opened().unwrap();
        let poller = Arc::new(Poller::new().unwrap());
        poller.add(&socket, KEY, READABLE).unwrap();
        let (socket, read) = (Arc::new(socket), Arc::new(Mutex::new(Vec::new())));
        let serve = {
            let (socket, read) = (Arc::clone(&socket), Arc::clone(&read));
            move |poller: &Poller, limit| {
                for event in wait_for(poller, 1, limit) {
                    let mut byte = [0];
                    if socket.try_read(&mut byte).is_ok() {
                        read.lock().unwrap().push(byte[0]);
                    }
                    poller.modify(event.key, READABLE).unwrap();
                }
            }
        };
        let other = {
            let (poller, serve) = (Arc::clone(&poller), serve.clone());
            spawn(move || {
                serve(&poller, Some(Duration::ZERO));
                // This thread may have read the last record.
                poller.wake();
            })
        };
        while read.lock().unwrap().len() < 3 {
            serve(&poller, None);
        }
        other.join().unwrap();
        drop(serve);
        assert_eq!(*read.lock().unwrap(), b"123");
        drop(socket);
        assert_eq!(serving.join().unwrap(), (Vec::new(), PeerSaw::Fin));
        assert_eq!(connector.open_sockets(), 0);
    });
}

#[test]
fn a_client_at_the_limit_is_reported_once_a_slot_is_free() {
    explore("a client at the limit is reported once a slot is free", || {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let listener = listen_with(address, ListenOptions::new().max_open_sockets(1)).unwrap();
        let client =
            |port| Peer::connect(address, SocketAddr::from(([192, 0, 2, 1], port))).unwrap();
        let first_peer = client(1);
        let first = listener.accept().unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&listener, KEY, READABLE).unwrap();
        let second_peer = client(2);
        let closing = spawn(move || {
            first.close().unwrap();
            assert_eq!(first_peer.wait_eof().1, PeerSaw::Fin);
            first_peer.end();
        });
        assert!(wait(&poller).readable);
        let second = listener.accept_timeout(Duration::ZERO).unwrap();
        closing.join().unwrap();
        second.close().unwrap();
        assert_eq!(second_peer.wait_eof().1, PeerSaw::Fin);
        second_peer.end();
    });
}

/// Two threads wait, and leave after one event each. One of them is in the poller's epoll(7), and the other one takes its
/// place.
#[test]
fn a_thread_takes_the_place_of_one_that_leaves() {
    explore("a thread takes the place of one that leaves", || {
        let test = TestSocket::open(options());
        let poller = Arc::new(Poller::new().unwrap());
        poller.add(&test.socket, KEY, READABLE).unwrap();
        let threads = [(); 2].map(|()| {
            let (poller, socket) = (Arc::clone(&poller), test.socket.clone());
            spawn(move || {
                assert_eq!(wait_for(&poller, 1, None).len(), 1);
                assert_eq!(socket.try_read(&mut [0]).unwrap(), 1);
                poller.modify(KEY, READABLE).unwrap();
            })
        });
        test.peer.send(b"1");
        test.peer.send(b"2");
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(look(&poller), []);
        test.assert_peer_saw(PeerSaw::Fin);
    });
}

/// A poller's epoll(7) knows a socket once. The event loop reports to the other key.
#[test]
fn a_socket_has_two_keys_of_one_poller() {
    explore("a socket has two keys of one poller", || {
        let TestSocket { connector, socket, peer } = TestSocket::open(options());
        let poller = Poller::new().unwrap();
        let sending = spawn(move || {
            peer.send(b"1");
            peer
        });
        poller.add(&socket, 1, READABLE).unwrap();
        poller.add(&socket, 2, READABLE).unwrap();
        let mut keys = Vec::new();
        while keys.len() < 2 {
            keys.extend(wait_for(&poller, 2, None).iter().map(|event| event.key));
        }
        keys.sort_unstable();
        assert_eq!(keys, [1, 2]);
        let peer = sending.join().unwrap();
        assert!(poller.remove(1));
        assert_eq!(read(&socket).unwrap(), b"1");
        poller.modify(2, READABLE).unwrap();
        peer.send(b"2");
        assert_eq!(wait(&poller).key, 2);
        assert_eq!(read(&socket).unwrap(), b"2");
        TestSocket { connector, socket, peer }.assert_peer_saw(PeerSaw::Fin);
    });
}
