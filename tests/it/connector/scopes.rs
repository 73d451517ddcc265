//! Scopes: the end of a scope closes all sockets that were opened through it.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;

use sockeye::{Connector, ErrorKind, Phase, SocketOptions};

use super::{holds, open, patient};
use crate::support::peer::{Server, black_hole, listen_with_room};
use crate::support::tls::{
    Accepted, Opening, TlsPeer, ask, authority, options, server_config, upgradable,
};
use crate::support::{
    PROMPT, Peer, assert_fails, at_once, fill_send_buffer, ms, random_bytes, read,
    small_send_buffer, spawn_blocked, spawn_call, timed, with_watchdog,
};

#[test]
fn its_end_closes_its_sockets_gracefully() {
    with_watchdog(|| {
        let connector = Connector::builder().build().expect("the settings are valid");
        let peers: Vec<Peer> = (0..5).map(|_| Peer::reading()).collect();
        let sent = random_bytes(1, 100_000);
        let kept: Vec<_> = connector.scope(|scope| {
            let write = |peer: &Peer| {
                let mut socket = scope.connect(peer.address()).expect("the address is valid");
                socket.write_all(&sent).expect("the peer reads");
                socket
            };
            peers.iter().map(write).collect()
        });
        assert_eq!(connector.open_sockets(), 0);
        for (socket, peer) in kept.iter().zip(peers) {
            assert_eq!(socket.phase(), Phase::Closed);
            socket.closed().expect("it was closed");
            assert_fails(read(socket, 1), ErrorKind::Closed);
            peer.assert_received(&sent);
        }
    });
}

#[test]
fn it_returns_the_result_of_its_closure() {
    let connector = Connector::builder().build().expect("the settings are valid");
    assert_eq!(at_once(|| connector.scope(|_| 7)), 7);
}

#[test]
fn a_panic_of_its_closure_closes_them_and_continues() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let connector = Connector::builder().build().expect("the settings are valid");
        let (sender, receiver) = mpsc::channel();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            connector.scope(|scope| {
                let mut socket = scope.connect(peer.address()).expect("the address is valid");
                socket.write_all(b"hello").expect("the peer reads");
                sender.send(socket).expect("the test waits");
                std::panic::panic_any("the work fails");
            });
        }));
        let payload = panicked.expect_err("the panic continues");
        assert_eq!(payload.downcast_ref(), Some(&"the work fails"));
        assert_eq!(receiver.recv().expect("the closure sent its socket").phase(), Phase::Closed);
        assert_eq!(connector.open_sockets(), 0);
        peer.assert_received(b"hello");
    });
}

#[test]
fn sockets_of_the_connector_and_of_other_scopes_stay_open() {
    with_watchdog(|| {
        let (server, connector) = (holds(), patient(10));
        let free = open(&connector, &server);
        connector.scope(|outer| {
            let kept = outer.connect(server.address()).expect("the address is valid");
            let gone = connector
                .scope(|inner| inner.connect(server.address()).expect("the address is valid"));
            assert_eq!(gone.phase(), Phase::Closed);
            kept.opened().expect("the peer listens");
            assert_eq!(kept.phase(), Phase::Open);
            assert_eq!(connector.open_sockets(), 2);
        });
        assert_eq!(free.phase(), Phase::Open);
        assert_eq!(connector.open_sockets(), 1);
    });
}

#[test]
fn its_end_cancels_connecting_and_queued_sockets() {
    with_watchdog(|| {
        let (hole, connector) = (black_hole(), patient(1));
        let (sockets, took) = timed(|| {
            connector.scope(|scope| {
                let connect = || scope.connect(hole.address).expect("the address is valid");
                let (connecting, waiting) = (connect(), connect());
                let reader = connecting.reader();
                let reading = spawn_blocked(move || read(reader, 1));
                (connecting, waiting, reading)
            })
        });
        assert!(took < PROMPT, "{took:?}");
        let (connecting, waiting, reading) = sockets;
        assert_fails(reading.join(), ErrorKind::Closed);
        assert_fails(connecting.opened(), ErrorKind::Closed);
        assert_fails(waiting.opened(), ErrorKind::Closed);
        assert_eq!(connector.open_sockets(), 0);
    });
}

#[test]
fn an_upgraded_one_is_closed_with_close_notify() {
    with_watchdog(|| {
        let connector = Connector::builder().build().expect("the settings are valid");
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            peer.handshake();
        });
        let secure = connector.scope(|scope| {
            let plain = scope.connect_with(peer.address(), upgradable(authority()));
            let plain = plain.expect("the options are valid");
            ask(&plain);
            let secure = plain.start_tls().expect("the peer agrees");
            secure.opened().expect("the peer is trusted");
            secure
        });
        assert_eq!(secure.phase(), Phase::Closed);
        let ending = peer.finish();
        assert!(ending.notified, "close sent close_notify");
    });
}

/// If an upgrade is in progress when its scope ends, the scope closes the old or the new socket.
#[test]
fn an_upgrade_does_not_carry_a_connection_out_of_its_scope() {
    with_watchdog(|| {
        let connector = Connector::builder().build().expect("the settings are valid");
        for _ in 0..50 {
            let peer = TlsPeer::scripted(&server_config(), |peer| {
                peer.accept_starttls();
                drop(peer.try_handshake());
            });
            let upgrading = connector.scope(|scope| {
                let plain = scope.connect_with(peer.address(), upgradable(authority()));
                let plain = plain.expect("the options are valid");
                ask(&plain);
                spawn_call(move || plain.start_tls())
            });
            if let Ok(secure) = upgrading.join() {
                // Either the scope closed the socket, or it was closed at its creation.
                secure.closed_timeout(PROMPT).expect("no data was unsent");
            }
            assert_eq!(connector.open_sockets(), 0);
        }
    });
}

/// The sockets close concurrently.
#[test]
fn it_takes_no_longer_than_the_longest_close_timeout() {
    with_watchdog(|| {
        let connector = Connector::builder().build().expect("the settings are valid");
        let stuck = |_| Opening::On.not_reading();
        let peers: Vec<TlsPeer> = (0..4).map(stuck).collect();
        let (sockets, took) = timed(|| {
            connector.scope(|scope| {
                let full = |peer: &TlsPeer| {
                    let options = options(authority()).close_timeout(ms(300));
                    let options = options.tcp(sockeye::TcpOptions::new().send_buffer_size(4096));
                    let socket = scope.connect_with(peer.address(), options);
                    let socket = socket.expect("the options are valid");
                    fill_send_buffer(&socket);
                    socket
                };
                let sockets: Vec<_> = peers.iter().map(full).collect();
                (sockets, std::time::Instant::now())
            })
        });
        let (sockets, ended) = sockets;
        assert!(ended.elapsed() < ms(900), "{:?} of {took:?}", ended.elapsed());
        for socket in sockets {
            assert_fails(socket.closed(), ErrorKind::TimedOut);
        }
        assert_eq!(connector.open_sockets(), 0);
        peers.iter().for_each(TlsPeer::signal);
    });
}

#[test]
fn threads_of_its_closure_may_share_it() {
    with_watchdog(|| {
        let (server, connector) = (Server::echoes(), patient(3));
        connector.scope(|scope| {
            thread::scope(|threads| {
                for number in 0..6 {
                    let server = &server;
                    threads.spawn(move || {
                        let mut socket = scope.connect(server.address()).expect("it may wait");
                        let sent = random_bytes(number, 1000);
                        socket.write_all(&sent).expect("the peer reads");
                        let got = crate::support::read_exactly(&socket, 1000);
                        assert_eq!(got.expect("the peer answers"), sent);
                        socket.close().expect("it is idle");
                    });
                }
            });
        });
        assert_eq!(connector.open_sockets(), 0);
    });
}

#[test]
fn a_write_that_is_blocked_at_its_end_reports_accepted_bytes() {
    with_watchdog(|| {
        let connector = Connector::builder().build().expect("the settings are valid");
        let peer = Peer::scripted_on(listen_with_room(4096), |wire| wire.wait_signal());
        let writing = connector.scope(|scope| {
            let options: SocketOptions = small_send_buffer();
            let socket = scope.connect_with(peer.address(), options).expect("they are valid");
            socket.opened().expect("the peer listens");
            spawn_blocked(move || crate::support::write_until_error(&socket, b'w', usize::MAX))
        });
        let (taken, failure) = writing.join();
        assert_fails(Err::<(), _>(failure.expect("it was closed")), ErrorKind::Closed);
        peer.signal();
        peer.assert_received(&vec![b'w'; taken]);
    });
}

#[test]
fn a_peer_that_answers_at_its_end_sees_no_reset() {
    with_watchdog(|| {
        let connector = Connector::builder().build().expect("the settings are valid");
        let peer = TlsPeer::secured(&server_config(), Accepted::wait_signal);
        connector.scope(|scope| {
            let socket = scope.connect_with(peer.address(), options(authority()));
            let socket = socket.expect("the options are valid");
            (&socket).write_all(b"hello").expect("the peer accepts");
        });
        peer.signal();
        let ending = peer.finish();
        assert_eq!(ending.bytes, b"hello");
        assert!(ending.notified);
    });
}
