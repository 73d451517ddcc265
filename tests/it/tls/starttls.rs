//! The upgrade of a plaintext connection: what goes before it, what the two sockets are after it, and what
//! becomes of everything where there is none.

mod refused;
mod waiting;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use sockeye::{
    Connector, ErrorKind, Phase, SecureTransport, Socket, SocketOptions, TcpOptions, TlsOptions,
};

use crate::support::peer::{listen_on, listen_with_room, nothing_listens};
use crate::support::tls::{
    ASK, Accepted, Authority, Draft, Terms, TlsPeer, VERSIONS, ask, authority, connect, contains,
    dial, good, never_opened, open, options, rustls_error, terms, trusting, trusting_names,
    upgradable, with,
};
use crate::support::{
    AT_ONCE, PATIENCE, Peer, at_once, blocked, call, fails, fill, gives, kind_of, ms, past, pour,
    read, read_exactly, read_to_end, same, skip, story, timed, times_out,
};

/// To be upgraded, and trusted as `localhost`.
fn starttls() -> SocketOptions {
    upgradable(authority())
}

/// To be upgraded, and trusted as the host that is dialled.
fn named() -> SocketOptions {
    with(SecureTransport::StartTls, trusting_names(authority()))
}

/// To be upgraded, with little room for what is sent.
fn cramped() -> SocketOptions {
    starttls().tcp(TcpOptions::new().send_buffer_size(4096))
}

/// A peer that agrees, does its handshake, and sends everything back.
fn agrees() -> TlsPeer {
    TlsPeer::plays(&terms(), |peer| {
        peer.agrees();
        peer.handshake();
        peer.echo();
    })
}

/// A peer that does its handshake at once.
fn secures() -> TlsPeer {
    TlsPeer::secured(&terms(), Accepted::echo)
}

/// Something goes there and comes back.
#[track_caller]
fn works(mut socket: &Socket) {
    socket.write_all(b"hi there").expect("the peer reads");
    assert_eq!(read_exactly(socket, 8).expect("the peer answers"), b"hi there");
}

/// The old socket is done with: everything it does is to say so.
#[track_caller]
fn is_upgraded(old: &Socket) {
    assert!(old.upgraded());
    assert_eq!(old.phase(), Phase::Closed);
    assert_eq!(old.secure_transport(), SecureTransport::StartTls);
    old.closed_timeout(AT_ONCE).expect("it was upgraded");
    let info = old.opened().expect("it was open");
    assert!(info.tls().is_none(), "it was in plaintext");
    for _ in 0..2 {
        fails(read(old, 1), ErrorKind::Upgraded);
        fails(read(old.reader(), 1), ErrorKind::Upgraded);
        fails((&mut &*old).write(b"plain?"), ErrorKind::Upgraded);
        fails(old.writer().write(b"plain?"), ErrorKind::Upgraded);
    }
    fails(old.start_tls(), ErrorKind::InvalidState);
}

// -------------------------------------------------------------------- upgrades that go well

#[test]
fn normal() {
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
            let new = old.start_tls().expect("nothing is in the way");
            let info = new.opened().expect("the peer is good");
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
fn never_used() {
    story(|| {
        let peer = secures();
        let old = connect(&peer, starttls());
        let new = old.start_tls().expect("the peer listens");
        new.opened().expect("the peer is good");
        works(&new);
        old.opened().expect("it was open");
        is_upgraded(&old);
    });
}

#[test]
fn after_opened_unused() {
    story(|| {
        let peer = secures();
        let old = open(&peer, starttls());
        let new = old.start_tls().expect("nothing is in the way");
        works(&new);
        old.closed_timeout(AT_ONCE).expect("it was upgraded");
    });
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
        let new = at_once(|| old.start_tls()).expect("nothing is in the way");
        assert_eq!(new.phase(), Phase::Upgrading);
        is_upgraded(&old);
        fails(new.opened_timeout(ms(100)), ErrorKind::TimedOut);
        fails(new.closed_timeout(ms(10)), ErrorKind::TimedOut);
        assert_eq!(new.phase(), Phase::Upgrading);
        let (reader, mut writer) = (new.reader(), new.writer());
        let reading = blocked(move || read_exactly(reader, 5));
        let writing = blocked(move || writer.write_all(b"early"));
        peer.cue();
        writing.join().expect("the peer is good");
        assert_eq!(reading.join().expect("the peer answers"), b"early");
        assert_eq!(new.phase(), Phase::Open);
        new.close().expect("the peer reads");
        assert!(!contains(&peer.gets(b"early").wire, b"early"), "it left in the clear");
    });
}

#[test]
fn write_new_before_opened() {
    story(|| {
        let peer = secures();
        let old = connect(&peer, starttls());
        let new = old.start_tls().expect("the peer listens");
        works(&new);
        new.opened().expect("the peer is good");
    });
}

#[test]
fn tls_peer_speaks_first() {
    for version in VERSIONS {
        story(move || {
            let peer = TlsPeer::plays(&terms().only(version), |peer| {
                peer.agrees();
                peer.handshake();
                peer.send(b"server first");
            });
            let old = open(&peer, starttls());
            ask(&old);
            let new = old.start_tls().expect("nothing is in the way");
            assert_eq!(read_exactly(&new, 12).expect("the peer speaks"), b"server first");
        });
    }
}

#[test]
fn the_old_one_can_be_dropped() {
    story(|| {
        let peer = agrees();
        let old = open(&peer, starttls());
        ask(&old);
        let (reader, writer) = (old.reader(), old.writer());
        let new = old.start_tls().expect("nothing is in the way");
        drop((old, reader, writer));
        works(&new);
        fails(new.closed_timeout(ms(100)), ErrorKind::TimedOut);
        drop(new);
        peer.gets(b"hi there");
    });
}

#[test]
fn old_close_during() {
    for close in [|old: &Socket| old.close().expect("it ended before"), Socket::abort] {
        story(move || {
            let peer = TlsPeer::plays(&terms(), |peer| {
                peer.await_cue();
                peer.handshake();
                peer.echo();
            });
            let old = open(&peer, starttls());
            let new = old.start_tls().expect("nothing is in the way");
            at_once(|| close(&old));
            peer.cue();
            new.opened().expect("the peer is good");
            at_once(|| close(&old));
            works(&new);
            is_upgraded(&old);
        });
    }
}

#[test]
fn old_streams_after() {
    story(|| {
        let peer = agrees();
        let old = open(&peer, starttls());
        ask(&old);
        let (reader, writer) = (old.reader(), old.writer());
        let new = old.start_tls().expect("nothing is in the way");
        for _ in 0..2 {
            fails(read(&reader, 1), ErrorKind::Upgraded);
            fails((&writer).write(b"plain?"), ErrorKind::Upgraded);
            reader.cancel();
            writer.abort();
            new.opened().expect("the peer is good");
        }
        works(&new);
        is_upgraded(&old);
    });
}

#[test]
fn sync_use_after() {
    story(|| {
        let peer = agrees();
        let old = open(&peer, starttls());
        ask(&old);
        let (reader, mut writer) = (old.reader(), old.writer());
        let new = old.start_tls().expect("nothing is in the way");
        let writing = call(move || writer.write(b"plain?"));
        let reading = call(move || read(reader, 1));
        fails(writing.join_within(AT_ONCE), ErrorKind::Upgraded);
        fails(reading.join_within(AT_ONCE), ErrorKind::Upgraded);
        works(&new);
        new.close().expect("the peer reads");
        let ending = peer.gets(b"hi there");
        assert!(!contains(&ending.wire, b"plain?"), "it left in the clear");
        ending.records();
    });
}

#[test]
fn who_waits_for_the_old_ones_end_is_told() {
    story(|| {
        let peer = agrees();
        let old = open(&peer, starttls());
        ask(&old);
        let waiting = old.clone();
        let closed = blocked(move || waiting.closed());
        let new = old.start_tls().expect("nothing is in the way");
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

// -------------------------------------------------------------------- what is inherited

#[test]
fn timeouts_and_deadlines_are_inherited() {
    story(|| {
        let peer = agrees();
        let old = open(&peer, starttls().read_timeout(ms(400)));
        ask(&old);
        let new = old.start_tls().expect("nothing is in the way");
        new.opened().expect("the peer is good");
        let (result, took) = timed(|| read(&new, 1));
        times_out(result);
        assert!(took >= ms(400) && took < ms(400) + AT_ONCE, "took {took:?}");

        let peer = agrees();
        let old = open(&peer, starttls());
        ask(&old);
        old.set_read_timeout(Some(ms(200))).expect("not zero");
        old.set_write_deadline(Some(past()));
        let new = old.start_tls().expect("the deadline of writes is nothing to it");
        new.opened().expect("the peer is good");
        let (result, took) = timed(|| read(&new, 1));
        times_out(result);
        assert!(took >= ms(200) && took < ms(200) + AT_ONCE, "took {took:?}");
        times_out((&new).write(b"x"));
        new.set_write_deadline(None);
        new.set_read_timeout(None).expect("none is fine");
        new.set_read_deadline(Some(Instant::now() + PATIENCE));
        works(&new);
    });
}

#[test]
fn halfopen_inherited() {
    story(|| {
        let peer = TlsPeer::secured(&terms(), |peer| {
            peer.send(b"x");
            peer.close_notify();
            assert_eq!(peer.receive(4), b"more");
        });
        let old = open(&peer, starttls().allow_half_open(true));
        let new = old.start_tls().expect("nothing is in the way");
        assert_eq!(read_to_end(&new).expect("a clean end"), b"x");
        (&new).write_all(b"more").expect("it is half open");
        fails(new.closed_timeout(ms(400)), ErrorKind::TimedOut);
        assert_eq!(new.phase(), Phase::HalfClosed);
        new.writer().close().expect("the peer reads");
        new.closed_timeout(AT_ONCE).expect("both directions ended");
        peer.gets(b"more");
    });
}

#[test]
fn halfopen_false_inherited() {
    story(|| {
        let peer = TlsPeer::secured(&terms(), |peer| {
            peer.send(b"x");
            peer.close_notify();
        });
        let old = open(&peer, starttls());
        let new = old.start_tls().expect("nothing is in the way");
        assert_eq!(read_to_end(&new).expect("a clean end"), b"x");
        new.closed_timeout(AT_ONCE).expect("a clean end");
        fails((&new).write(b"more"), ErrorKind::Closed);
        peer.gets(b"");
    });
}

#[test]
fn the_connect_timeout_begins_anew() {
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
        let new = old.start_tls().expect("nothing is in the way");
        new.opened().expect("the peer is slow, and good");
        works(&new);

        let peer = TlsPeer::plays(&terms(), |peer| peer.agrees());
        let old = open(&peer, starttls().connect_timeout(ms(LIMIT)));
        ask(&old);
        let new = old.start_tls().expect("nothing is in the way");
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
fn esh_match() {
    story(|| {
        let identity = authority().issues(&Draft::new(&["other.test"]));
        let peer = TlsPeer::echoes(&Terms::new(identity));
        let old = open(&peer, named());
        let tls = trusting_names(authority()).server_name("other.test");
        let new = old.start_tls_with(tls).expect("nothing is in the way");
        works(&new);
        new.close().expect("the peer reads");
        assert_eq!(peer.gets(b"hi there").session().server_name(), Some("other.test"));
    });
}

#[test]
fn esh_mismatch() {
    story(|| {
        let peer = TlsPeer::refused(&terms());
        let old = dial("good.test", &peer, named());
        let tls = trusting_names(authority()).server_name("other.test");
        let new = old.start_tls_with(tls).expect("nothing is in the way");
        never_opened(&new, ErrorKind::Tls);
    });
}

#[test]
fn the_host_is_the_name() {
    story(|| {
        for (host, sent) in
            [("good.test", "good.test"), ("GOOD.TEST", "good.test"), ("good.test.", "good.test")]
        {
            let peer = secures();
            let old = dial(host, &peer, named());
            let new = old.start_tls().expect("the peer listens");
            works(&new);
            assert_eq!(new.opened().expect("it is open").requested().hostname(), host);
            new.close().expect("the peer reads");
            let ending = peer.gets(b"hi there");
            let name = ending.session().server_name().expect("a name is sent");
            assert_eq!(name.to_ascii_lowercase(), sent);
        }
    });
}

#[test]
fn ip6_host() {
    if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return skip("starttls.ip6-host", "there is no IPv6 here");
    }
    story(|| {
        let upgrades: [fn(&Socket) -> sockeye::Result<Socket>; 2] = [Socket::start_tls, |old| {
            old.start_tls_with(trusting_names(authority()).server_name("::1"))
        }];
        for upgrade in upgrades {
            let listener = listen_on((Ipv6Addr::LOCALHOST, 0).into(), 16, None);
            let identity = authority().issues(&Draft::new(&["127.0.0.1", "::1"]));
            let peer = TlsPeer::on(listener, &Terms::new(identity), |peer| {
                peer.handshake();
                peer.echo();
            });
            let address = format!("[::1]:{}", peer.address().port());
            let old = sockeye::connect_with(address, named()).expect("the address is fine");
            let new = upgrade(&old).expect("the peer listens");
            works(&new);
            new.close().expect("the peer reads");
            assert_eq!(peer.gets(b"hi there").session().server_name(), None);
        }
    });
}

#[test]
fn settings_of_the_upgrade_replace_those_of_the_options() {
    story(|| {
        let stranger = Authority::new();
        let peer = TlsPeer::secured(&terms().alpn(&["smtp", "imap"]), Accepted::echo);
        // What the options trust is not what the peer shows: the upgrade's settings count.
        let options = with(SecureTransport::StartTls, trusting(&stranger).alpn(["smtp"]));
        let old = open(&peer, options);
        let tls = trusting(authority()).alpn(["imap"]);
        let new = old.start_tls_with(tls).expect("nothing is in the way");
        let info = new.opened().expect("the peer is trusted");
        assert_eq!(info.alpn(), Some(b"imap".as_slice()));
        works(&new);

        // None of the options' settings is left: neither the root, nor the name.
        let peer = TlsPeer::refused(&terms());
        let old = open(&peer, starttls());
        let new = old.start_tls_with(trusting_names(&stranger)).expect("nothing is in the way");
        never_opened(&new, ErrorKind::Tls);
    });
}

#[test]
fn settings_that_cannot_be_change_nothing() {
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
fn without_settings_the_defaults_count() {
    story(|| {
        crate::support::tls::provider();
        let peer = TlsPeer::refused(&terms());
        let options = SocketOptions::new().secure_transport(SecureTransport::StartTls);
        let old = dial("good.test", &peer, options.clone());
        let new = old.start_tls().expect("there are settings by default");
        let error = never_opened(&new, ErrorKind::Tls);
        let source = rustls_error(&error);
        assert!(matches!(source, rustls::Error::InvalidCertificate(_)), "{source:?}");

        let peer = secures();
        let old = dial("good.test", &peer, options);
        let tls = trusting_names(authority());
        works(&old.start_tls_with(tls).expect("nothing is in the way"));
    });
}
