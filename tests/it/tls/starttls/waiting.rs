//! Upgrades during other calls: while connecting, during reads and writes, and during another upgrade.

use super::*;

// -------------------------------------------------------------------- before the connection is open

#[test]
fn close_and_abort_end_an_upgrade_that_waits_for_the_connection() {
    for end in [|socket: &Socket| socket.close().expect("the close succeeds"), Socket::abort] {
        with_watchdog(move || {
            let (connector, go) = resolver_on_signal(|| Ok(vec![Ipv4Addr::LOCALHOST.into()]));
            let old = connector.connect_with(("good.test", 9), named()).expect("they are valid");
            let upgrading = old.clone();
            let upgrade = spawn_blocked(move || upgrading.start_tls());
            at_once(|| end(&old));
            assert_fails(upgrade.join_within(PROMPT), ErrorKind::Closed);
            assert_fails(old.opened(), ErrorKind::Closed);
            assert!(!old.upgraded());
            go.send(()).expect("the lookup waits for it");
        });
    }
}

// -------------------------------------------------------------------- two at once

#[test]
fn of_two_upgrades_at_once_one_wins() {
    for _ in 0..20 {
        with_watchdog(|| {
            let peer = agrees();
            let old = open(&peer, starttls());
            ask(&old);
            let start = Arc::new(Barrier::new(2));
            let upgrades = [(), ()].map(|()| {
                let (old, start) = (old.clone(), Arc::clone(&start));
                spawn_call(move || {
                    start.wait();
                    old.start_tls()
                })
            });
            let [one, other] = upgrades.map(|upgrade| upgrade.join_within(PROMPT));
            let (new, loser) = if one.is_ok() { (one, other) } else { (other, one) };
            assert_fails(loser, ErrorKind::InvalidState);
            works(&new.expect("one of them wins"));
            assert_upgraded(&old);
        });
    }
}

#[test]
fn an_upgrade_during_a_waiting_one_is_the_second() {
    with_watchdog(|| {
        let peer = gated();
        let old = open(&peer, cramped());
        fill_send_buffer(&old);
        let mut writer = old.writer();
        let writing = spawn_blocked(move || writer.write(b"w"));
        let upgrading = old.clone();
        let upgrade = spawn_blocked(move || upgrading.start_tls());
        let upgrading = old.clone();
        let second = spawn_call(move || upgrading.start_tls());
        peer.signal();
        writing.join().expect("the peer reads");
        works(&upgrade.join().expect("the upgrade may start"));
        assert_fails(second.join_within(PROMPT), ErrorKind::InvalidState);
    });
}

// -------------------------------------------------------------------- calls in progress

/// Starts a peer with a small receive buffer that reads nothing before its cue, then reads plaintext up to the
/// handshake.
fn gated() -> TlsPeer {
    TlsPeer::on(listen_with_room(4096), &server_config(), |peer| {
        peer.wait_signal();
        if peer.handshake_when_it_comes() {
            peer.echo();
        }
    })
}

#[test]
fn a_concurrent_write_is_accepted_before_the_handshake_or_not_at_all() {
    with_watchdog(|| {
        let peer = gated();
        let old = open(&peer, cramped());
        let taken = fill_send_buffer(&old);
        let writers = [b'1', b'2'].map(|byte| {
            let mut writer = old.writer();
            spawn_blocked(move || writer.write(&[byte; 500]))
        });
        let upgrading = old.clone();
        let upgrade = spawn_blocked(move || upgrading.start_tls());
        assert!(!old.upgraded(), "the upgrade waits for the writes");
        // This write begins after the upgrade: the socket accepts it before the handshake, or not at all.
        let mut writer = old.writer();
        let late = spawn_call(move || writer.write(&[b'3'; 500]));
        peer.signal();
        let [one, other] = writers.map(|writing| writing.join().expect("the peer reads"));
        let late = late.join().unwrap_or_else(|error| {
            assert_eq!(crate_kind(&error), ErrorKind::Upgraded);
            0
        });
        let new = upgrade.join().expect("the upgrade may start");
        works(&new);
        assert_upgraded(&old);
        new.close().expect("the peer reads");
        let ending = peer.assert_received(b"hi there");
        let count = |byte| ending.clear().iter().filter(|one| **one == byte).count();
        let counts = [b'w', b'1', b'2', b'3'].map(count);
        assert_eq!(
            counts,
            [taken, one, other, late],
            "all accepted bytes arrive before the ClientHello"
        );
        assert_eq!(counts.iter().sum::<usize>(), ending.clear);
        ending.records();
    });
}

#[test]
fn writers_that_never_stop_are_stopped_by_the_upgrade() {
    for round in 0..10 {
        with_watchdog(move || {
            let peer = TlsPeer::scripted(&server_config(), |peer| {
                assert!(peer.handshake_when_it_comes(), "a handshake arrives");
                peer.echo();
            });
            let old = open(&peer, starttls());
            let writers: Vec<_> = (0..3)
                .map(|_| {
                    let writer = old.writer();
                    spawn_call(move || write_until_error(writer, b'w', usize::MAX))
                })
                .collect();
            while old.stats().bytes_written < 100_000 * round {
                std::thread::yield_now();
            }
            let new = old.start_tls().expect("nothing is unread");
            let mut taken = 0;
            for writing in writers {
                let (count, failure) = writing.join();
                assert_eq!(crate_kind(&failure.expect("it was upgraded")), ErrorKind::Upgraded);
                taken += count;
            }
            assert_eq!(old.stats().bytes_written, taken as u64);
            works(&new);
            new.close().expect("the peer reads");
            let ending = peer.assert_received(b"hi there");
            assert_bytes_eq(ending.clear(), &vec![b'w'; taken]);
            ending.records();
        });
    }
}

#[test]
fn the_connect_timeout_covers_the_wait_for_a_write() {
    const LIMIT: u64 = 1000;
    with_watchdog(|| {
        let peer = gated();
        let old = open(&peer, cramped().connect_timeout(ms(LIMIT)));
        let taken = fill_send_buffer(&old);
        let mut writer = old.writer();
        let writing = spawn_blocked(move || writer.write(b"1"));
        let (result, took) = timed(|| old.start_tls());
        let error = result.expect_err("the write does not end");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.is_retryable(), "nothing has changed");
        assert!(took >= ms(LIMIT) && took < ms(LIMIT) + PROMPT, "took {took:?}");
        assert!(!old.upgraded());
        assert!(writing.is_running());
        assert_eq!(old.phase(), Phase::Open);
        assert_fails(old.closed_timeout(ms(0)), ErrorKind::TimedOut);
        // The connection continues in plaintext, and a later upgrade still succeeds.
        peer.signal();
        assert_eq!(writing.join().expect("the peer reads"), 1);
        (&old).write_all(b"23").expect("the peer reads");
        let new = old.start_tls().expect("the write has ended");
        works(&new);
        assert_upgraded(&old);
        new.close().expect("the peer reads");
        let ending = peer.assert_received(b"hi there");
        assert_eq!(&ending.clear()[taken..], b"123");
    });
}

#[test]
fn close_and_abort_end_an_upgrade_that_waits_for_a_write() {
    for end in [|socket: &Socket| drop(socket.close()), Socket::abort] {
        with_watchdog(move || {
            let peer = gated();
            let old = open(&peer, cramped().close_timeout(ms(300)));
            fill_send_buffer(&old);
            let mut writer = old.writer();
            let writing = spawn_blocked(move || writer.write(b"1"));
            let upgrading = old.clone();
            let upgrade = spawn_blocked(move || upgrading.start_tls());
            let ending = old.clone();
            let ended = spawn_call(move || end(&ending));
            assert_fails(upgrade.join_within(PROMPT), ErrorKind::Closed);
            assert_fails(writing.join_within(PROMPT), ErrorKind::Closed);
            ended.join_within(ms(300) + PROMPT);
            assert!(!old.upgraded());
            assert_fails(old.start_tls(), ErrorKind::InvalidState);
            peer.signal();
            peer.finish();
        });
    }
}
