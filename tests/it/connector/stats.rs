//! The counters of a connector.

use std::io::Write;

use sockeye::{Connector, ConnectorStats, EgressRules, ErrorKind, SecureTransport, SocketOptions};

use super::{holds, limited, open, patient, refusal};
use crate::support::peer::{black_hole, closed_port};
use crate::support::tls::{TlsPeer, ask, authority, server_config, trust_only, with};
use crate::support::{PROMPT, Peer, assert_fails, eventually, read, read_exactly, with_watchdog};

/// Returns the numbers of opened, failed, denied and refused sockets.
fn counts(stats: ConnectorStats) -> (u64, u64, u64, u64) {
    (stats.opened, stats.failed, stats.denied, stats.over_limit)
}

fn bytes(stats: ConnectorStats) -> (u64, u64) {
    (stats.bytes_read, stats.bytes_written)
}

fn any() -> Connector {
    Connector::builder().build().expect("the settings are valid")
}

#[test]
fn bytes_are_counted_during_and_after_the_life_of_a_socket() {
    with_watchdog(|| {
        let server = holds();
        let connector = any();
        assert_eq!(connector.stats(), ConnectorStats::default());
        let sockets: Vec<_> = (0..3).map(|_| open(&connector, &server)).collect();
        for mut socket in &sockets {
            socket.write_all(b"hello").expect("the peer reads");
            assert_eq!(read_exactly(socket, 3).expect("it echoes"), b"hel");
        }
        assert_eq!(bytes(connector.stats()), (9, 15));
        assert_eq!((connector.stats().open, connector.stats().waiting), (3, 0));
        sockets[0].close().expect("the close succeeds");
        sockets[1].abort();
        assert_eq!(bytes(connector.stats()), (9, 15));
        assert_eq!(counts(connector.stats()), (3, 0, 0, 0));
        assert_eq!(connector.stats().open, 1);
        drop(sockets);
        eventually(PROMPT, "the last socket is closed", || connector.stats().open == 0);
        assert_eq!(bytes(connector.stats()), (9, 15));
        assert_eq!(counts(connector.stats()), (3, 0, 0, 0));
    });
}

#[test]
fn sockets_that_never_opened_are_counted_by_their_cause() {
    with_watchdog(|| {
        let connector = any();
        let nothing = closed_port();
        for failed in 1..3 {
            let socket = connector.connect(nothing.address).expect("the address is valid");
            assert_fails(socket.opened(), ErrorKind::Connect);
            assert_eq!(counts(connector.stats()), (0, failed, 0, 0));
        }
        // A socket that this side closes while connecting has not failed.
        let hole = black_hole();
        let closed = connector.connect(hole.address).expect("the address is valid");
        let aborted = connector.connect(hole.address).expect("the address is valid");
        closed.close().expect("the close succeeds");
        aborted.abort();
        assert_eq!(counts(connector.stats()), (0, 2, 0, 0));
        assert_eq!(connector.stats().open, 0);
    });
}

#[test]
fn denied_sockets_are_counted_before_and_after_the_lookup() {
    with_watchdog(|| {
        let rules = EgressRules::public_only().deny_host("*.denied.test").expect("it is a pattern");
        let builder = Connector::builder().egress(rules.deny_port(25));
        let resolver = |_: &str| Ok(vec![[127, 0, 0, 1].into()]);
        let connector = builder.resolver(resolver).build().expect("the settings are valid");
        for refused in ["a.denied.test:80", "127.0.0.1:80", "192.0.2.1:25"] {
            assert_fails(connector.connect(refused), ErrorKind::Denied);
        }
        assert_eq!(counts(connector.stats()), (0, 0, 3, 0));
        let inside = connector.connect("inside.test:80").expect("the host is not denied");
        assert_fails(inside.opened(), ErrorKind::Denied);
        assert_eq!(counts(connector.stats()), (0, 0, 4, 0));
    });
}

#[test]
fn sockets_beyond_the_limit_and_queued_sockets_are_counted() {
    with_watchdog(|| {
        let server = holds();
        let connector = limited(1);
        let first = open(&connector, &server);
        for refused in 1..3 {
            let error = refusal(connector.connect(server.address()));
            assert_eq!(error.kind(), ErrorKind::Limit);
            assert_eq!(counts(connector.stats()), (1, 0, 0, refused));
        }
        drop(first);

        let connector = patient(1);
        let first = open(&connector, &server);
        let waiting = [(); 2].map(|()| connector.connect(server.address()).expect("it waits"));
        assert_eq!((connector.stats().open, connector.stats().waiting), (1, 2));
        assert_eq!(counts(connector.stats()), (1, 0, 0, 0));
        first.close().expect("the close succeeds");
        waiting[0].opened().expect("a slot is free now");
        assert_eq!((connector.stats().open, connector.stats().waiting), (1, 1));
        assert_eq!(counts(connector.stats()), (2, 0, 0, 0));
    });
}

#[test]
fn an_upgraded_connection_counts_once_with_all_its_bytes() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            peer.handshake();
            peer.send(b"secret");
        });
        let connector = any();
        let options = with(SecureTransport::StartTls, trust_only(authority()));
        let plain = connector.connect_with(peer.address(), options).expect("they are valid");
        plain.opened().expect("the peer listens");
        ask(&plain);
        let before = plain.stats();
        assert_eq!(bytes(connector.stats()), (before.bytes_read, before.bytes_written));
        let secure = plain.start_tls().expect("the peer agrees");
        assert_eq!(counts(connector.stats()), (1, 0, 0, 0));
        assert_eq!(read(&secure, 6).expect("the peer sends"), b"secret");
        for _ in 0..2 {
            assert_eq!(counts(connector.stats()), (1, 0, 0, 0));
            let sum = (before.bytes_read + 6, before.bytes_written);
            assert_eq!(bytes(connector.stats()), sum);
            secure.close().expect("the peer reads");
        }
        assert_eq!(connector.stats().open, 0);
    });
}

#[test]
fn a_failed_handshake_of_an_upgrade_counts_as_opened() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.receive(10);
            wire.send(b"GO\r\n");
            wire.receive(1);
            wire.send(b"this is no TLS at all");
            wire.fin();
        });
        let connector = any();
        let options = with(SecureTransport::StartTls, trust_only(authority()));
        let plain = connector.connect_with(peer.address(), options).expect("they are valid");
        ask(&plain);
        let secure = plain.start_tls().expect("the upgrade may start");
        secure.opened().expect_err("the peer speaks no TLS");
        assert_eq!(counts(connector.stats()), (1, 0, 0, 0));
        assert_eq!(connector.stats().open, 0);

        // A socket that is secure from the start never opened.
        let peer = Peer::scripted(|wire| {
            wire.receive(1);
            wire.send(b"this is no TLS at all");
            wire.fin();
        });
        let options = SocketOptions::new().secure_transport(SecureTransport::On);
        let options = options.tls(trust_only(authority()));
        let socket = connector.connect_with(peer.address(), options).expect("they are valid");
        socket.opened().expect_err("the peer speaks no TLS");
        assert_eq!(counts(connector.stats()), (1, 1, 0, 0));
    });
}
