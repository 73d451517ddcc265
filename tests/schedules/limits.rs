//! The limit of open sockets, and the order in which queued sockets get a slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sockeye::model::{self, Peer, Reachability};
use sockeye::{Connector, ErrorKind};

use crate::explore::explore;
use crate::support::{options, spawn};

fn one_at_a_time() -> Connector {
    Connector::builder().max_open_sockets(1).wait_at_limit(true).build().unwrap()
}

#[test]
fn queued_sockets_get_slots_and_the_limit_holds() {
    explore("queued sockets get slots and the limit holds", || {
        let connector = one_at_a_time();
        let inside = Arc::new(AtomicUsize::new(0));
        let threads = [(); 3].map(|()| {
            let (connector, inside) = (connector.clone(), Arc::clone(&inside));
            spawn(move || {
                let socket = connector.connect_with(("127.0.0.1", 1), options()).unwrap();
                socket.opened().unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "another is open");
                assert_eq!(connector.open_sockets(), 1);
                inside.fetch_sub(1, Ordering::Relaxed);
                socket.close().unwrap();
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(connector.open_sockets(), 0);
        for _ in 0..3 {
            Peer::accept().end();
        }
    });
}

#[test]
fn queued_sockets_get_slots_in_order_although_others_give_up() {
    explore("queued sockets get slots in order although others give up", || {
        let connector = one_at_a_time();
        let [first, second, third, fourth] = [1, 2, 3, 4]
            .map(|port| connector.connect_with(("127.0.0.1", port), options()).unwrap());
        let gives_up = spawn(move || second.close().unwrap());
        let ends = spawn(move || first.abort());
        third.opened().unwrap();
        assert_eq!(connector.open_sockets(), 1);
        third.close().unwrap();
        fourth.opened().unwrap();
        fourth.close().unwrap();
        gives_up.join().unwrap();
        ends.join().unwrap();
        assert_eq!(connector.open_sockets(), 0);
        let mut last = 0;
        while last < 4 {
            let peer = Peer::accept();
            let port = peer.address().port();
            assert!(port > last, "{port} after {last}");
            last = port;
            peer.end();
        }
    });
}

#[test]
fn a_slot_is_free_when_closed_returns() {
    explore("a slot is free when closed returns", || {
        let connector = Connector::builder().max_open_sockets(1).build().unwrap();
        let socket = connector.connect_with(("127.0.0.1", 1), options()).unwrap();
        let peer = Peer::accept();
        let watcher = {
            let (socket, connector) = (socket.clone(), connector.clone());
            spawn(move || {
                let ended = socket.closed().map_err(|error| error.kind());
                assert!(matches!(ended, Ok(()) | Err(ErrorKind::Closed)), "{ended:?}");
                let next = connector.connect_with(("127.0.0.1", 2), options()).unwrap();
                next.close().unwrap();
            })
        };
        let ending = spawn(move || peer.end());
        socket.abort();
        ending.join().unwrap();
        watcher.join().unwrap();
        assert_eq!(connector.open_sockets(), 0);
        Peer::accept().end();
    });
}

#[test]
fn a_wait_for_a_slot_that_times_out_leaves_no_gap() {
    explore("a wait for a slot that times out leaves no gap", || {
        let limit = Duration::from_millis(10);
        let connector = one_at_a_time();
        let first = connector.connect_with(("127.0.0.1", 1), options()).unwrap();
        let late = options().connect_timeout(limit);
        let second = connector.connect_with(("127.0.0.1", 2), late).unwrap();
        let third = connector.connect_with(("127.0.0.1", 3), options()).unwrap();
        let time = spawn(move || model::pass_time(limit));
        let ends = spawn(move || first.close().unwrap());
        let opened = second.opened().map(drop).map_err(|error| error.kind());
        assert!(matches!(opened, Ok(()) | Err(ErrorKind::TimedOut)), "{opened:?}");
        second.close().unwrap();
        third.opened().unwrap();
        assert_eq!(connector.open_sockets(), 1);
        third.close().unwrap();
        time.join().unwrap();
        ends.join().unwrap();
        assert_eq!(connector.open_sockets(), 0);
    });
}

#[test]
fn a_scope_ends_its_open_and_its_queued_sockets() {
    explore("a scope ends its open and its queued sockets", || {
        let connector = one_at_a_time();
        let rival = {
            let connector = connector.clone();
            spawn(move || {
                let socket = connector.connect_with(("127.0.0.1", 1), options()).unwrap();
                socket.opened().unwrap();
                socket.close().unwrap();
            })
        };
        let kept = connector.scope(|scope| {
            [2, 3].map(|port| scope.connect_with(("127.0.0.1", port), options()).unwrap())
        });
        for socket in kept {
            assert_eq!(socket.closed().map_err(|error| error.kind()), Ok(()));
        }
        rival.join().unwrap();
        assert_eq!(connector.open_sockets(), 0);
    });
}

#[test]
fn shutdown_ends_open_and_queued_sockets() {
    explore("shutdown ends open and queued sockets", || {
        model::set_reachability(Reachability::Deferred);
        let connector = one_at_a_time();
        let threads = [1, 2].map(|port| {
            let connector = connector.clone();
            spawn(move || match connector.connect_with(("127.0.0.1", port), options()) {
                Ok(socket) => {
                    let opened = socket.opened().map(drop).map_err(|error| error.kind());
                    assert_eq!(opened, Err(ErrorKind::Closed));
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
            })
        });
        assert_eq!(connector.shutdown(Duration::from_secs(1)), 0);
        assert_eq!(connector.open_sockets(), 0);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(connector.open_sockets(), 0);
    });
}

#[test]
fn a_queued_socket_dropped_during_admission_passes_its_slot_on() {
    explore("a queued socket dropped during admission passes its slot on", || {
        let connector = one_at_a_time();
        let [first, second, third] =
            [1, 2, 3].map(|port| connector.connect_with(("127.0.0.1", port), options()).unwrap());
        let drops = spawn(move || drop(second));
        let ends = spawn(move || drop(first));
        third.opened().unwrap();
        third.close().unwrap();
        drops.join().unwrap();
        ends.join().unwrap();
        assert_eq!(connector.open_sockets(), 0);
    });
}
