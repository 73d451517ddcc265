//! The upgrade of a plaintext connection: its preconditions, the two sockets after it, and refused upgrades.

mod refused;
mod waiting;

use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Phase, SecureTransport, Socket, SocketOptions, TcpOptions, TlsOptions};

use crate::support::peer::{listen_with_room, nothing_listens};
use crate::support::tls::{
    ASK, Accepted, Authority, Terms, TlsPeer, VERSIONS, ask, authority, contains, dial,
    fails_to_upgrade, good, is_upgraded, never_opened, open, refuses_upgrades, rustls_error, terms,
    trusting, trusting_names, upgradable, with,
};
use crate::support::{
    AT_ONCE, PATIENCE, Peer, at_once, blocked, call, fails, fill, gives, kind_of, looks_up_on_cue,
    ms, past, pour, read, read_exactly, same, story, timed, times_out,
};

/// Returns options for an upgrade that expect a certificate for `localhost`.
fn starttls() -> SocketOptions {
    upgradable(authority())
}

/// Returns options for an upgrade that expect a certificate for the dialled host.
fn named() -> SocketOptions {
    with(SecureTransport::StartTls, trusting_names(authority()))
}

/// Returns options for an upgrade, with a small send buffer.
fn cramped() -> SocketOptions {
    starttls().tcp(TcpOptions::new().send_buffer_size(4096))
}

/// Starts a peer that agrees to TLS, does its handshake, and echoes.
fn agrees() -> TlsPeer {
    TlsPeer::plays(&terms(), |peer| {
        peer.agrees();
        peer.handshake();
        peer.echo();
    })
}

/// Starts a peer that begins its handshake at once.
fn secures() -> TlsPeer {
    TlsPeer::secured(&terms(), Accepted::echo)
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
        story(move || {
            let peer = TlsPeer::plays(&terms().only(version), |peer| {
                peer.raw(b"READY\r\n");
                peer.agrees();
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
            is_upgraded(&old);
            works(&new);
            assert_eq!((new.stats().bytes_read, new.stats().bytes_written), (8, 8));
            let stats = old.stats();
            assert_eq!((stats.bytes_read, stats.bytes_written), (11, ASK.len() as u64));
            new.close().expect("the peer reads");
            new.closed_timeout(AT_ONCE).expect("it was closed");
            let ending = peer.gets(b"hi there");
            assert_eq!(ending.clear(), ASK);
            assert_eq!(ending.records()[0], 22);
        });
    }
}

#[test]
fn the_new_one_waits_for_its_handshake() {
    story(|| {
        let peer = TlsPeer::plays(&terms(), |peer| {
            peer.agrees();
            peer.await_cue();
            peer.handshake();
            peer.echo();
        });
        let old = open(&peer, starttls());
        ask(&old);
        let new = at_once(|| old.start_tls()).expect("nothing prevents it");
        assert_eq!(new.phase(), Phase::Upgrading);
        is_upgraded(&old);
        fails(new.opened_timeout(ms(100)), ErrorKind::TimedOut);
        fails(new.closed_timeout(ms(10)), ErrorKind::TimedOut);
        assert_eq!(new.phase(), Phase::Upgrading);
        let (reader, mut writer) = (new.reader(), new.writer());
        let reading = blocked(move || read_exactly(reader, 5));
        let writing = blocked(move || writer.write_all(b"early"));
        peer.cue();
        writing.join().expect("the peer is trusted");
        assert_eq!(reading.join().expect("the peer answers"), b"early");
        assert_eq!(new.phase(), Phase::Open);
        new.close().expect("the peer reads");
        assert!(!contains(&peer.gets(b"early").wire, b"early"), "the data was sent in plaintext");
    });
}

#[test]
fn the_old_one_can_be_dropped() {
    story(|| {
        let peer = agrees();
        let old = open(&peer, starttls());
        ask(&old);
        let (reader, writer) = (old.reader(), old.writer());
        let new = old.start_tls().expect("the upgrade may start");
        drop((old, reader, writer));
        works(&new);
        fails(new.closed_timeout(ms(100)), ErrorKind::TimedOut);
        drop(new);
        peer.gets(b"hi there");
    });
}

#[test]
fn a_wait_for_the_end_of_the_old_one_returns() {
    story(|| {
        let peer = agrees();
        let old = open(&peer, starttls());
        ask(&old);
        let waiting = old.clone();
        let closed = blocked(move || waiting.closed());
        let new = old.start_tls().expect("the upgrade may start");
        closed.join_within(AT_ONCE).expect("it was upgraded");
        works(&new);
    });
}

#[test]
fn sessions_are_resumed_by_upgrades_too() {
    for version in VERSIONS {
        story(move || {
            let root = Authority::new();
            let config = Terms::new(root.issues(&good())).only(version).config();
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
                peer.gets(b"hi there");
                info.tls().expect("it is secure").resumed()
            });
            assert_eq!(resumed, [false, true], "{version:?}");
        });
    }
}

// -------------------------------------------------------------------- inherited limits

#[test]
fn timeouts_and_deadlines_are_inherited() {
    story(|| {
        let peer = agrees();
        let old = open(&peer, starttls().read_timeout(ms(400)));
        ask(&old);
        let new = old.start_tls().expect("the upgrade may start");
        new.opened().expect("the peer is trusted");
        let (result, took) = timed(|| read(&new, 1));
        times_out(result);
        assert!(took >= ms(400) && took < ms(400) + AT_ONCE, "took {took:?}");

        let peer = agrees();
        let old = open(&peer, starttls());
        ask(&old);
        old.set_read_timeout(Some(ms(200))).expect("not zero");
        old.set_write_deadline(Some(past()));
        let new = old.start_tls().expect("a write deadline does not affect the upgrade");
        new.opened().expect("the peer is trusted");
        let (result, took) = timed(|| read(&new, 1));
        times_out(result);
        assert!(took >= ms(200) && took < ms(200) + AT_ONCE, "took {took:?}");
        times_out((&new).write(b"x"));
        new.set_write_deadline(None);
        new.set_read_timeout(None).expect("`None` removes the limit");
        new.set_read_deadline(Some(Instant::now() + PATIENCE));
        works(&new);
    });
}

#[test]
fn the_connect_timeout_restarts() {
    const LIMIT: u64 = 1000;
    story(|| {
        let peer = TlsPeer::plays(&terms(), |peer| {
            peer.agrees();
            peer.wait(ms(LIMIT / 2));
            peer.handshake();
            peer.echo();
        });
        let old = open(&peer, starttls().connect_timeout(ms(LIMIT)));
        fails(old.closed_timeout(ms(LIMIT + 100)), ErrorKind::TimedOut);
        ask(&old);
        let new = old.start_tls().expect("the upgrade may start");
        new.opened().expect("the peer is slow and trusted");
        works(&new);

        let peer = TlsPeer::plays(&terms(), |peer| peer.agrees());
        let old = open(&peer, starttls().connect_timeout(ms(LIMIT)));
        ask(&old);
        let new = old.start_tls().expect("the upgrade may start");
        let (result, took) = timed(|| new.opened());
        fails(result, ErrorKind::TimedOut);
        assert!(took > ms(LIMIT - 100) && took < ms(LIMIT) + AT_ONCE, "took {took:?}");
        never_opened(&new, ErrorKind::TimedOut);
        is_upgraded(&old);
        peer.ending();
    });
}

// -------------------------------------------------------------------- names and settings

#[test]
fn settings_of_the_upgrade_replace_those_of_the_options() {
    story(|| {
        let stranger = Authority::new();
        let peer = TlsPeer::secured(&terms().alpn(&["smtp", "imap"]), Accepted::echo);
        // The options trust another root, so only the upgrade's settings can succeed.
        let options = with(SecureTransport::StartTls, trusting(&stranger).alpn(["smtp"]));
        let old = open(&peer, options);
        let tls = trusting(authority()).alpn(["imap"]);
        let new = old.start_tls_with(tls).expect("the upgrade may start");
        let info = new.opened().expect("the peer is trusted");
        assert_eq!(info.alpn(), Some(b"imap".as_slice()));
        works(&new);

        // The upgrade uses none of the options' settings: neither the root nor the name.
        let peer = TlsPeer::refused(&terms());
        let old = open(&peer, starttls());
        let new = old.start_tls_with(trusting_names(&stranger)).expect("the upgrade may start");
        never_opened(&new, ErrorKind::Tls);
    });
}

#[test]
fn invalid_settings_change_nothing() {
    story(|| {
        let peer = agrees();
        let old = open(&peer, starttls());
        let fine = || trusting(authority());
        for tls in [
            fine().server_name(""),
            fine().server_name("two words"),
            fine().alpn([""]),
            fine().alpn(["x".repeat(256)]),
            TlsOptions::new().only_added_roots(),
        ] {
            fails(old.start_tls_with(tls), ErrorKind::InvalidOptions);
            assert!(!old.upgraded());
            assert_eq!(old.phase(), Phase::Open);
        }
        ask(&old);
        works(&old.start_tls().expect("nothing has changed"));
    });
}

#[test]
fn without_settings_the_defaults_apply() {
    story(|| {
        crate::support::tls::provider();
        let peer = TlsPeer::refused(&terms());
        let options = SocketOptions::new().secure_transport(SecureTransport::StartTls);
        let old = dial("good.test", &peer, options.clone());
        let new = old.start_tls().expect("the upgrade may start");
        let error = never_opened(&new, ErrorKind::Tls);
        let source = rustls_error(&error);
        assert!(matches!(source, rustls::Error::InvalidCertificate(_)), "{source:?}");

        let peer = secures();
        let old = dial("good.test", &peer, options);
        let tls = trusting_names(authority());
        works(&old.start_tls_with(tls).expect("the upgrade may start"));
    });
}
