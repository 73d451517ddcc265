//! The upgrade of a plaintext connection: its preconditions, the two sockets after it, and refused upgrades.

mod refused;
mod waiting;

use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Phase, SecureTransport, Socket, SocketOptions, TcpOptions, TlsOptions};

use crate::support::peer::{closed_port, listen_with_room};
use crate::support::tls::{
    ASK, Accepted, Authority, ServerSetup, TlsPeer, VERSIONS, ask, assert_never_opened,
    assert_refuses_upgrades, assert_upgrade_fails, assert_upgraded, authority, contains, dial,
    open, rustls_error, server_config, trust_only, trust_only_names, upgradable, valid_cert, with,
};
use crate::support::{
    PROMPT, Peer, WATCHDOG, assert_bytes_eq, assert_ended_with, assert_fails, assert_times_out,
    at_once, crate_kind, fill_send_buffer, ms, past_instant, read, read_exactly,
    resolver_on_signal, spawn_blocked, spawn_call, timed, with_watchdog, write_until_error,
};

/// Returns options for an upgrade that expect a certificate for `localhost`.
fn starttls() -> SocketOptions {
    upgradable(authority())
}

/// Returns options for an upgrade that expect a certificate for the dialled host.
fn named() -> SocketOptions {
    with(SecureTransport::StartTls, trust_only_names(authority()))
}

/// Returns options for an upgrade, with a small send buffer.
fn cramped() -> SocketOptions {
    starttls().tcp(TcpOptions::new().send_buffer_size(4096))
}

/// Starts a peer that agrees to TLS, does its handshake, and echoes.
fn agrees() -> TlsPeer {
    TlsPeer::scripted(&server_config(), |peer| {
        peer.accept_starttls();
        peer.handshake();
        peer.echo();
    })
}

/// Starts a peer that begins its handshake at once.
fn secures() -> TlsPeer {
    TlsPeer::secured(&server_config(), Accepted::echo)
}

/// Checks that a message is echoed.
#[track_caller]
fn works(mut socket: &Socket) {
    socket.write_all(b"hi there").expect("the peer reads");
    assert_eq!(read_exactly(socket, 8).expect("the peer answers"), b"hi there");
}

// -------------------------------------------------------------------- successful upgrades

#[test]
fn it_keeps_the_connection_and_restarts_the_counters() {
    for version in VERSIONS {
        with_watchdog(move || {
            let peer = TlsPeer::scripted(&server_config().only(version), |peer| {
                peer.raw(b"READY\r\n");
                peer.accept_starttls();
                peer.handshake();
                peer.echo();
            });
            let old = open(&peer, starttls());
            assert_eq!(read_exactly(&old, 7).expect("the peer greets"), b"READY\r\n");
            ask(&old);
            let new = old.start_tls().expect("the upgrade may start");
            let info = new.opened().expect("the peer is trusted");
            assert_eq!(info.tls().expect("it is secure").version(), version);
            assert!(info.timings().handshake > Duration::ZERO);
            let before = old.opened().expect("it was open");
            assert_eq!(info.local_address(), before.local_address());
            assert_eq!(info.remote_address(), Some(peer.address()));
            assert_eq!(info.requested(), before.requested());
            assert!(!new.upgraded());
            assert_eq!(new.secure_transport(), SecureTransport::On);
            assert_eq!(new.phase(), Phase::Open);
            assert_eq!((new.stats().bytes_read, new.stats().bytes_written), (0, 0));
            assert_upgraded(&old);
            works(&new);
            assert_eq!((new.stats().bytes_read, new.stats().bytes_written), (8, 8));
            let stats = old.stats();
            assert_eq!((stats.bytes_read, stats.bytes_written), (11, ASK.len() as u64));
            new.close().expect("the peer reads");
            new.closed_timeout(PROMPT).expect("it was closed");
            let ending = peer.assert_received(b"hi there");
            assert_eq!(ending.clear(), ASK);
            assert_eq!(ending.records()[0], 22);
        });
    }
}

#[test]
fn the_new_one_waits_for_its_handshake() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            peer.wait_signal();
            peer.handshake();
            peer.echo();
        });
        let old = open(&peer, starttls());
        ask(&old);
        let new = at_once(|| old.start_tls()).expect("nothing prevents it");
        assert_eq!(new.phase(), Phase::Upgrading);
        assert_upgraded(&old);
        assert_fails(new.opened_timeout(ms(100)), ErrorKind::TimedOut);
        assert_fails(new.closed_timeout(ms(10)), ErrorKind::TimedOut);
        assert_eq!(new.phase(), Phase::Upgrading);
        let (reader, mut writer) = (new.reader(), new.writer());
        let reading = spawn_blocked(move || read_exactly(reader, 5));
        let writing = spawn_blocked(move || writer.write_all(b"early"));
        peer.signal();
        writing.join().expect("the peer is trusted");
        assert_eq!(reading.join().expect("the peer answers"), b"early");
        assert_eq!(new.phase(), Phase::Open);
        new.close().expect("the peer reads");
        assert!(
            !contains(&peer.assert_received(b"early").wire, b"early"),
            "the data was sent in plaintext"
        );
    });
}

#[test]
fn the_old_one_can_be_dropped() {
    with_watchdog(|| {
        let peer = agrees();
        let old = open(&peer, starttls());
        ask(&old);
        let (reader, writer) = (old.reader(), old.writer());
        let new = old.start_tls().expect("the upgrade may start");
        drop((old, reader, writer));
        works(&new);
        assert_fails(new.closed_timeout(ms(100)), ErrorKind::TimedOut);
        drop(new);
        peer.assert_received(b"hi there");
    });
}

#[test]
fn a_wait_for_the_end_of_the_old_one_returns() {
    with_watchdog(|| {
        let peer = agrees();
        let old = open(&peer, starttls());
        ask(&old);
        let waiting = old.clone();
        let closed = spawn_blocked(move || waiting.closed());
        let new = old.start_tls().expect("the upgrade may start");
        closed.join_within(PROMPT).expect("it was upgraded");
        works(&new);
    });
}

#[test]
fn sessions_are_resumed_by_upgrades_too() {
    for version in VERSIONS {
        with_watchdog(move || {
            let root = Authority::new();
            let config = ServerSetup::new(root.issues(&valid_cert())).only(version).config();
            let listener = crate::support::peer::listen();
            let resumed = [false, true].map(|_| {
                let another = listener.try_clone().expect("a descriptor is free");
                let peer = TlsPeer::sharing(another, Arc::clone(&config), |peer| {
                    peer.handshake();
                    peer.echo();
                });
                let new = open(&peer, upgradable(&root)).start_tls().expect("the peer listens");
                works(&new);
                new.close().expect("the peer reads");
                let info = new.opened().expect("it was open");
                peer.assert_received(b"hi there");
                info.tls().expect("it is secure").resumed()
            });
            assert_eq!(resumed, [false, true], "{version:?}");
        });
    }
}

// -------------------------------------------------------------------- inherited limits

#[test]
fn timeouts_and_deadlines_are_inherited() {
    with_watchdog(|| {
        let peer = agrees();
        let old = open(&peer, starttls().read_timeout(ms(400)));
        ask(&old);
        let new = old.start_tls().expect("the upgrade may start");
        new.opened().expect("the peer is trusted");
        let (result, took) = timed(|| read(&new, 1));
        assert_times_out(result);
        assert!(took >= ms(400) && took < ms(400) + PROMPT, "took {took:?}");

        let peer = agrees();
        let old = open(&peer, starttls());
        ask(&old);
        old.set_read_timeout(Some(ms(200))).expect("not zero");
        old.set_write_deadline(Some(past_instant()));
        let new = old.start_tls().expect("a write deadline does not affect the upgrade");
        new.opened().expect("the peer is trusted");
        let (result, took) = timed(|| read(&new, 1));
        assert_times_out(result);
        assert!(took >= ms(200) && took < ms(200) + PROMPT, "took {took:?}");
        assert_times_out((&new).write(b"x"));
        new.set_write_deadline(None);
        new.set_read_timeout(None).expect("`None` removes the limit");
        new.set_read_deadline(Some(Instant::now() + WATCHDOG));
        works(&new);
    });
}

#[test]
fn the_connect_timeout_restarts() {
    const LIMIT: u64 = 1000;
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            peer.wait(ms(LIMIT / 2));
            peer.handshake();
            peer.echo();
        });
        let old = open(&peer, starttls().connect_timeout(ms(LIMIT)));
        assert_fails(old.closed_timeout(ms(LIMIT + 100)), ErrorKind::TimedOut);
        ask(&old);
        let new = old.start_tls().expect("the upgrade may start");
        new.opened().expect("the peer is slow and trusted");
        works(&new);

        let peer = TlsPeer::scripted(&server_config(), |peer| peer.accept_starttls());
        let old = open(&peer, starttls().connect_timeout(ms(LIMIT)));
        ask(&old);
        let new = old.start_tls().expect("the upgrade may start");
        let (result, took) = timed(|| new.opened());
        assert_fails(result, ErrorKind::TimedOut);
        assert!(took > ms(LIMIT - 100) && took < ms(LIMIT) + PROMPT, "took {took:?}");
        assert_never_opened(&new, ErrorKind::TimedOut);
        assert_upgraded(&old);
        peer.finish();
    });
}

// -------------------------------------------------------------------- names and settings

#[test]
fn settings_of_the_upgrade_replace_those_of_the_options() {
    with_watchdog(|| {
        let stranger = Authority::new();
        let peer = TlsPeer::secured(&server_config().alpn(&["smtp", "imap"]), Accepted::echo);
        // The options trust another root, so only the upgrade's settings can succeed.
        let options = with(SecureTransport::StartTls, trust_only(&stranger).alpn(["smtp"]));
        let old = open(&peer, options);
        let tls = trust_only(authority()).alpn(["imap"]);
        let new = old.start_tls_with(tls).expect("the upgrade may start");
        let info = new.opened().expect("the peer is trusted");
        assert_eq!(info.alpn(), Some(b"imap".as_slice()));
        works(&new);

        // The upgrade uses none of the options' settings: neither the root nor the name.
        let peer = TlsPeer::refused(&server_config());
        let old = open(&peer, starttls());
        let new = old.start_tls_with(trust_only_names(&stranger)).expect("the upgrade may start");
        assert_never_opened(&new, ErrorKind::Tls);
    });
}

#[test]
fn invalid_settings_change_nothing() {
    with_watchdog(|| {
        let peer = agrees();
        let old = open(&peer, starttls());
        let fine = || trust_only(authority());
        for tls in [
            fine().server_name(""),
            fine().server_name("two words"),
            fine().alpn([""]),
            fine().alpn(["x".repeat(256)]),
            TlsOptions::new().only_added_roots(),
        ] {
            assert_fails(old.start_tls_with(tls), ErrorKind::InvalidOptions);
            assert!(!old.upgraded());
            assert_eq!(old.phase(), Phase::Open);
        }
        ask(&old);
        works(&old.start_tls().expect("nothing has changed"));
    });
}

#[test]
fn without_settings_the_defaults_apply() {
    with_watchdog(|| {
        crate::support::tls::provider();
        let peer = TlsPeer::refused(&server_config());
        let options = SocketOptions::new().secure_transport(SecureTransport::StartTls);
        let old = dial("good.test", &peer, options.clone());
        let new = old.start_tls().expect("the upgrade may start");
        let error = assert_never_opened(&new, ErrorKind::Tls);
        let source = rustls_error(&error);
        assert!(matches!(source, rustls::Error::InvalidCertificate(_)), "{source:?}");

        let peer = secures();
        let old = dial("good.test", &peer, options);
        let tls = trust_only_names(authority());
        works(&old.start_tls_with(tls).expect("the upgrade may start"));
    });
}
