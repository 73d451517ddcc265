//! Limits: slots, clients, and which clients may connect.

use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use sockeye::{
    AcceptWhen, Connector, ErrorKind, IngressRules, ListenOptions, SocketOptions, listen_with,
};

use super::{accept, address_of, assert_client_reset, assert_talks, client, client_of, local_with};
use crate::support::net;
use crate::support::{
    PROMPT, Peer, WATCHDOG, assert_fails, eventually, ms, spawn_blocked, timed, with_watchdog,
};

#[test]
fn at_the_limit_clients_wait_in_the_systems_queue() {
    with_watchdog(|| {
        let listener = local_with(ListenOptions::new().max_open_sockets(1));
        let first_client = client_of(&listener);
        let first = accept(&listener);
        let second_client = client_of(&listener);
        assert_fails(listener.accept_timeout(ms(50)), ErrorKind::TimedOut);
        let acceptor = listener.clone();
        let accepting = spawn_blocked(move || acceptor.accept());
        assert_talks(&first_client, &first);
        assert_eq!(listener.open_sockets(), 1);
        first.close().unwrap();
        let second = accepting.join_within(PROMPT).expect("a slot is free");
        assert_talks(&second_client, &second);
        assert_eq!((listener.stats().accepted, listener.stats().over_limit), (2, 0));
    });
}

/// A close ends the wait for a slot; golang's `LimitListener` once did not.
#[test]
fn close_ends_a_wait_for_a_slot() {
    with_watchdog(|| {
        let options = SocketOptions::new().close_timeout(ms(100));
        let listener = local_with(ListenOptions::new().max_open_sockets(1).socket(options));
        let _client = client_of(&listener);
        let socket = accept(&listener);
        let calls: Vec<_> = (0..2)
            .map(|_| {
                let listener = listener.clone();
                spawn_blocked(move || listener.accept())
            })
            .collect();
        listener.close();
        for call in calls {
            assert_fails(call.join_within(PROMPT), ErrorKind::Closed);
        }
        drop(socket);
    });
}

#[test]
fn a_timeout_ends_an_accept_among_refused_clients() {
    with_watchdog(|| {
        let surplus = ListenOptions::new().max_open_sockets(1).wait_at_limit(false);
        let denied = ListenOptions::new().ingress(IngressRules::deny_all());
        for (options, takes_one) in [(surplus, true), (denied, false)] {
            let listener = local_with(options);
            let address = address_of(&listener);
            let _first = takes_one.then(|| (client(address), accept(&listener)));
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        while !stop.load(Ordering::Relaxed) {
                            drop(net::connect(address));
                        }
                    });
                }
                for _ in 0..5 {
                    let (result, took) = timed(|| listener.accept_timeout(ms(50)));
                    assert_fails(result, ErrorKind::TimedOut);
                    assert!(took < PROMPT, "{took:?}");
                }
                stop.store(true, Ordering::Relaxed);
            });
            let stats = listener.stats();
            assert!(stats.over_limit + stats.denied > 64, "{stats:?}");
        }
    });
}

#[test]
fn without_waiting_clients_over_the_limit_are_reset() {
    with_watchdog(|| {
        let options = ListenOptions::new().max_open_sockets(1).wait_at_limit(false);
        let listener = local_with(options);
        let first_client = client_of(&listener);
        let first = accept(&listener);
        let surplus = [client_of(&listener), client_of(&listener)];
        assert_fails(listener.accept_timeout(ms(50)), ErrorKind::TimedOut);
        surplus.into_iter().for_each(assert_client_reset);
        let stats = listener.stats();
        assert_eq!((stats.accepted, stats.over_limit, stats.open), (3, 2, 1));
        assert_talks(&first_client, &first);
        first.close().unwrap();
        let third_client = client_of(&listener);
        assert_talks(&third_client, &accept(&listener));
    });
}

/// Also if the event loop accepts, and if the limit is a connector's.
#[test]
fn without_waiting_every_way_to_accept_resets_what_is_over_the_limit() {
    with_watchdog(|| {
        let connector = Connector::builder().max_open_sockets(1).build().unwrap();
        let opened = ListenOptions::new().accept_when(AcceptWhen::Opened);
        let cases = [
            opened.clone().max_open_sockets(1),
            opened.connector(&connector),
            ListenOptions::new().connector(&connector),
        ];
        for options in cases {
            let listener = local_with(options.wait_at_limit(false));
            let first_client = client_of(&listener);
            let first = accept(&listener);
            // The event loop may reset it before the client's call has returned.
            let surplus = net::connect(address_of(&listener)).and_then(|mut surplus| {
                assert_fails(listener.accept_timeout(ms(50)), ErrorKind::TimedOut);
                std::io::Read::read(&mut surplus, &mut [0])
            });
            let error = surplus.expect_err("it is reset");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            let stats = listener.stats();
            assert_eq!((stats.accepted, stats.over_limit, stats.open), (2, 1, 1));
            assert_talks(&first_client, &first);
            first.close().unwrap();
            let next_client = client_of(&listener);
            let next = accept(&listener);
            assert_talks(&next_client, &next);
            next.close().unwrap();
        }
    });
}

#[test]
fn a_slot_that_waits_is_not_lost_when_the_accept_times_out() {
    with_watchdog(|| {
        let listener = local_with(ListenOptions::new().max_open_sockets(1));
        for _ in 0..20 {
            let client = client_of(&listener);
            let socket = accept(&listener);
            assert_fails(listener.accept_timeout(ms(1)), ErrorKind::TimedOut);
            assert_talks(&client, &socket);
            socket.close().unwrap();
        }
        assert_eq!(listener.open_sockets(), 0);
    });
}

#[test]
fn denied_clients_are_reset_and_not_returned() {
    with_watchdog(|| {
        let rules = IngressRules::allow_all().deny_net("127.0.0.0/8").unwrap();
        let listener = local_with(ListenOptions::new().ingress(rules));
        let denied = client_of(&listener);
        assert_fails(listener.accept_timeout(ms(50)), ErrorKind::TimedOut);
        assert_client_reset(denied);
        let stats = listener.stats();
        assert_eq!((stats.accepted, stats.denied, stats.opened, stats.open), (1, 1, 0, 0));
    });
}

/// A dual-stack listener gets the client as `::ffff:127.0.0.1`.
#[test]
fn ipv4_rules_match_ipv4_clients_of_a_dual_stack_listener() {
    with_watchdog(|| {
        let rules = IngressRules::allow_all().deny_net("127.0.0.1").unwrap();
        let options = ListenOptions::new().ingress(rules);
        let Ok(listener) = listen_with((Ipv6Addr::UNSPECIFIED, 0), options) else {
            return crate::support::skip("dual-stack rules", "the system has no IPv6");
        };
        let port = address_of(&listener).port();
        let denied = client(SocketAddr::from(([127, 0, 0, 1], port)));
        assert_fails(listener.accept_timeout(ms(50)), ErrorKind::TimedOut);
        assert_client_reset(denied);
        let allowed = client(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
        assert_talks(&allowed, &accept(&listener));
    });
}

#[test]
fn each_client_has_at_most_its_number_of_sockets() {
    with_watchdog(|| {
        let rules = IngressRules::allow_all().max_per_client(2);
        let listener = local_with(ListenOptions::new().ingress(rules));
        let clients = [client_of(&listener), client_of(&listener)];
        let mut sockets = [accept(&listener), accept(&listener)].map(Some);
        let surplus = client_of(&listener);
        assert_fails(listener.accept_timeout(ms(50)), ErrorKind::TimedOut);
        assert_client_reset(surplus);
        assert_eq!((listener.stats().denied, listener.open_sockets()), (1, 2));
        assert_talks(&clients[0], sockets[0].as_ref().unwrap());
        // The client still sends, so the connection lingers: it counts no longer.
        sockets[0].take().unwrap().close().unwrap();
        let next = client_of(&listener);
        assert_talks(&next, &accept(&listener));
    });
}

#[test]
fn max_per_client_counts_each_client_alone() {
    with_watchdog(|| {
        let rules = IngressRules::allow_all().max_per_client(1);
        let options = ListenOptions::new().ingress(rules);
        let listener = listen_with("0.0.0.0:0", options).unwrap();
        let port = address_of(&listener).port();
        let from = |last| super::client_from([127, 0, 0, last], port);
        let Some(first) = from(2) else {
            return crate::support::skip("clients", "only 127.0.0.1 is local");
        };
        let second = from(3).unwrap();
        let sockets = [accept(&listener), accept(&listener)];
        assert_talks(&first, &sockets[0]);
        assert_talks(&second, &sockets[1]);
        assert_client_reset_after(&listener, from(2).unwrap());
    });
}

fn assert_client_reset_after(listener: &sockeye::Listener, surplus: TcpStream) {
    surplus.set_read_timeout(Some(WATCHDOG)).unwrap();
    assert_fails(listener.accept_timeout(ms(50)), ErrorKind::TimedOut);
    assert_client_reset(surplus);
}

// -------------------------------------------------------------------- a shared connector

#[test]
fn a_shared_connector_counts_accepted_sockets() {
    with_watchdog(|| {
        let connector = Connector::builder().max_open_sockets(2).build().unwrap();
        let listener = local_with(ListenOptions::new().connector(&connector));
        let first_client = client_of(&listener);
        let first = accept(&listener);
        assert_talks(&first_client, &first);
        assert_eq!((connector.open_sockets(), listener.open_sockets()), (1, 1));
        let peer = Peer::not_reading();
        let dialled = connector.connect(peer.address()).unwrap();
        dialled.opened().unwrap();
        assert_eq!((connector.open_sockets(), listener.open_sockets()), (2, 1));
        assert_fails(connector.connect(peer.address()), ErrorKind::Limit);
        let second_client = client_of(&listener);
        assert_fails(listener.accept_timeout(ms(50)), ErrorKind::TimedOut);
        dialled.abort();
        assert_talks(&second_client, &accept(&listener));
        let stats = connector.stats();
        assert_eq!((stats.opened, stats.bytes_read), (3, 8));
        first.close().unwrap();
        assert_eq!((connector.stats().opened, listener.stats().opened), (3, 2));
        eventually(PROMPT, "both are free", || {
            connector.open_sockets() == 0 && listener.open_sockets() == 0
        });
    });
}

#[test]
fn connects_and_connections_wait_for_slots_in_order_of_arrival() {
    with_watchdog(|| {
        let connector =
            Connector::builder().max_open_sockets(1).wait_at_limit(true).build().unwrap();
        let listener = local_with(ListenOptions::new().connector(&connector));
        let first_client = client_of(&listener);
        let first = accept(&listener);
        let second_client = client_of(&listener);
        let acceptor = listener.clone();
        let accepting = spawn_blocked(move || acceptor.accept());
        let peer = Peer::not_reading();
        let dialled = connector.connect(peer.address()).unwrap();
        assert_fails(dialled.opened_timeout(ms(50)), ErrorKind::TimedOut);
        assert_eq!(connector.stats().waiting, 1);
        assert_talks(&first_client, &first);
        first.close().unwrap();
        let second = accepting.join_within(PROMPT).expect("it waited longer");
        assert_talks(&second_client, &second);
        assert_fails(dialled.opened_timeout(ms(50)), ErrorKind::TimedOut);
        second.close().unwrap();
        dialled.opened_timeout(PROMPT).expect("its turn has come");
    });
}

#[test]
fn shutdown_of_a_shared_connector_closes_its_listeners_first() {
    with_watchdog(|| {
        let connector = Connector::builder().build().unwrap();
        let options = ListenOptions::new().connector(&connector);
        let listeners = [local_with(options.clone()), local_with(options.clone())];
        let _client = client_of(&listeners[0]);
        let socket = accept(&listeners[0]);
        let queued = client_of(&listeners[1]);
        let blocked = listeners[0].clone();
        let blocked = spawn_blocked(move || blocked.accept());
        assert_eq!(connector.shutdown(Duration::from_secs(1)), 0);
        assert_fails(blocked.join_within(PROMPT), ErrorKind::Closed);
        assert_eq!(socket.phase(), sockeye::Phase::Closed);
        assert_client_reset(queued);
        for listener in &listeners {
            listener.closed_timeout(PROMPT).expect("the program closed it");
            net::connect(address_of(listener)).expect_err("nothing listens");
        }
        assert_fails(listen_with("127.0.0.1:0", options), ErrorKind::Closed);
    });
}
