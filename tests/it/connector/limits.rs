//! Slots: each socket takes one and frees it once, and sockets that wait for one are served in order.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use sockeye::{
    Connector, ErrorKind, Phase, SecureTransport, Socket, SocketAddress, SocketOptions, TlsOptions,
};

use super::{holds, limited, open, patient, refusal};
use crate::support::peer::{BlackHole, PeerConn, Server, black_hole, closed_port};
use crate::support::tls::{TlsPeer, ask, authority, server_config, upgradable};
use crate::support::{
    PROMPT, Peer, WATCHDOG, assert_fails, at_once, crate_kind, eventually, ms, read, spawn_blocked,
    with_watchdog,
};

// -------------------------------------------------------------------- failing at the limit

#[test]
fn the_next_connect_fails_at_once_and_names_the_limit() {
    with_watchdog(|| {
        let (server, connector) = (holds(), limited(2));
        let kept = [open(&connector, &server), open(&connector, &server)];
        assert_eq!(connector.open_sockets(), 2);
        let error = at_once(|| refusal(connector.connect(server.address())));
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(!error.is_retryable());
        assert!(error.to_string().contains("2 sockets"), "{error}");
        assert!(error.to_string().contains("max_open_sockets"), "{error}");
        let error = std::io::Error::from(error);
        assert_eq!(crate_kind(&error), ErrorKind::Limit);
        assert_eq!(connector.clone().open_sockets(), 2, "clones share their sockets");
        drop(kept);
    });
}

#[test]
fn a_limit_of_zero_is_invalid() {
    let error = Connector::builder().max_open_sockets(0).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains("max_open_sockets"), "{error}");
}

#[test]
fn invalid_addresses_and_options_are_reported_before_the_limit() {
    with_watchdog(|| {
        let (server, connector) = (holds(), limited(1));
        let _kept = open(&connector, &server);
        let error = connector.connect("no port").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidAddress);
        let options = SocketOptions::new().close_timeout(Duration::ZERO);
        let error = connector.connect_with(server.address(), options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    });
}

/// Once any call reports the end of a socket, its slot is free: the next connect succeeds at once.
#[test]
fn every_end_frees_the_slot_once() {
    check(SocketOptions::new(), cued(|_| ()), |socket| socket.close().expect("it is idle"));
    check(SocketOptions::new(), cued(|_| ()), |socket| socket.abort());
    check(SocketOptions::new(), cued(|_| ()), |socket| socket.writer().abort());
    check(SocketOptions::new(), cued(|wire| wire.fin()), |socket| {
        assert_eq!(read(socket, 1).expect("the peer has ended"), b"");
    });
    check(SocketOptions::new(), cued(|wire| wire.reset()), |socket| {
        assert_fails(read(socket, 1), ErrorKind::Reset);
    });
    // Without a reader.
    check(SocketOptions::new(), cued(|wire| wire.fin()), |socket| {
        socket.closed_timeout(WATCHDOG).expect("the peer has ended");
    });
    check(SocketOptions::new(), cued(|wire| wire.reset()), |socket| {
        assert_fails(socket.closed_timeout(WATCHDOG), ErrorKind::Reset);
    });
    check(SocketOptions::new(), cued(|wire| wire.fin()), |socket| {
        socket.reader().cancel();
        socket.writer().close().expect("the close succeeds");
        socket.closed_timeout(WATCHDOG).expect("both have ended");
    });
    check(upgradable(authority()), cued(|wire| wire.send(b"go, injected")), |socket| {
        assert_eq!(read(socket, 2).expect("the peer sends it"), b"go");
        assert_fails(socket.start_tls(), ErrorKind::UnreadPlaintext);
    });
}

/// Starts a peer that runs its script once the socket is open.
fn cued(script: impl FnOnce(&mut PeerConn) + Send + 'static) -> Peer {
    Peer::scripted(|wire| {
        wire.wait_signal();
        script(wire);
    })
}

#[track_caller]
fn check(options: SocketOptions, peer: Peer, end: fn(&Socket)) {
    let at = std::panic::Location::caller();
    println!("the end in line {}", at.line());
    let connector = limited(1);
    let socket = connector.connect_with(peer.address(), options).expect("a slot is free");
    socket.opened().expect("the peer listens");
    assert_fails(connector.connect(peer.address()), ErrorKind::Limit);
    peer.signal();
    end(&socket);
    is_free_for_one(&connector);
    // Later calls do not free the slot again.
    socket.abort();
    socket.close().expect("it had ended");
    drop(socket);
    is_free_for_one(&connector);
}

/// Checks that exactly one slot is free.
#[track_caller]
fn is_free_for_one(connector: &Connector) {
    assert_eq!(connector.open_sockets(), 0);
    let server = holds();
    let next = open(connector, &server);
    assert_fails(connector.connect(server.address()), ErrorKind::Limit);
    assert_eq!(connector.open_sockets(), 1);
    next.close().expect("it is idle");
    assert_eq!(connector.open_sockets(), 0);
}

#[test]
fn an_attempt_holds_its_slot_until_it_has_failed() {
    with_watchdog(|| {
        let connector = limited(1);
        let nothing = closed_port();
        assert_fails(
            connector.connect(nothing.address).expect("a slot is free").opened(),
            ErrorKind::Connect,
        );
        is_free_for_one(&connector);

        let hole = black_hole();
        let options = SocketOptions::new().connect_timeout(ms(100));
        let socket = connector.connect_with(hole.address, options).expect("a slot is free");
        assert_eq!(connector.open_sockets(), 1);
        assert_fails(connector.connect(nothing.address), ErrorKind::Limit);
        assert_fails(socket.opened(), ErrorKind::TimedOut);
        is_free_for_one(&connector);

        let socket = connector.connect(hole.address).expect("a slot is free");
        socket.close().expect("closing cancels the attempt");
        is_free_for_one(&connector);

        let socket = connector.connect(hole.address).expect("a slot is free");
        drop(socket);
        is_free_for_one(&connector);
    });
}

#[test]
fn a_failed_handshake_frees_the_slot() {
    with_watchdog(|| {
        let connector = limited(1);
        let peer = TlsPeer::refused(&server_config());
        let options =
            SocketOptions::new().secure_transport(SecureTransport::On).tls(TlsOptions::new());
        let socket = connector.connect_with(peer.address(), options).expect("a slot is free");
        assert_fails(socket.opened(), ErrorKind::Tls);
        is_free_for_one(&connector);
    });
}

#[test]
fn the_slot_is_held_until_the_last_handle_has_closed() {
    with_watchdog(|| {
        let (server, connector) = (holds(), limited(1));
        let socket = open(&connector, &server);
        let reader = socket.reader();
        drop(socket);
        assert_eq!(connector.open_sockets(), 1, "the reader is a handle, too");
        drop(reader);
        is_free_for_one(&connector);
    });
}

#[test]
fn an_upgrade_keeps_its_slot_and_takes_no_other() {
    with_watchdog(|| {
        let connector = limited(1);
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            peer.handshake();
            peer.echo();
        });
        let plain = connector.connect_with(peer.address(), upgradable(authority()));
        let plain = plain.expect("a slot is free");
        ask(&plain);
        let secure = plain.start_tls().expect("the peer agrees");
        plain.closed().expect("it was upgraded");
        assert_eq!(connector.open_sockets(), 1);
        drop(plain);
        secure.opened().expect("the peer is trusted");
        assert_eq!(connector.open_sockets(), 1);
        assert_fails(connector.connect(peer.address()), ErrorKind::Limit);
        secure.close().expect("it is idle");
        is_free_for_one(&connector);
    });
}

// -------------------------------------------------------------------- waiting at the limit

#[test]
fn waiting_sockets_are_served_in_order() {
    with_watchdog(|| {
        const WAITING: usize = 20;
        let (server, connector) = (holds(), patient(1));
        let mut last = open(&connector, &server);
        let waiting: Vec<Socket> = (0..WAITING)
            .map(|_| at_once(|| connector.connect(server.address()).expect("it may wait")))
            .collect();
        for (place, next) in waiting.iter().enumerate() {
            for later in &waiting[place..] {
                assert_eq!(later.phase(), Phase::Connecting);
                let error = later.opened_timeout(Duration::ZERO).unwrap_err();
                assert!(error.is_retryable(), "{error}");
            }
            assert_eq!(connector.open_sockets(), 1);
            last.close().expect("it is idle");
            next.opened_timeout(PROMPT).expect("it is next");
            last = next.clone();
        }
        last.close().expect("it is idle");
        assert_eq!(connector.open_sockets(), 0);
    });
}

#[test]
fn later_connects_do_not_overtake_queued_ones() {
    with_watchdog(|| {
        let (server, connector) = (holds(), patient(1));
        let first = open(&connector, &server);
        let waiting = connector.connect(server.address()).expect("it may wait");
        first.close().expect("it is idle");
        // The slot is already reserved, even if it is not taken yet.
        let late = connector.connect(server.address()).expect("it may wait");
        waiting.opened_timeout(PROMPT).expect("it is next");
        assert_eq!(late.phase(), Phase::Connecting);
        waiting.close().expect("it is idle");
        late.opened_timeout(PROMPT).expect("it is next");
    });
}

#[test]
fn calls_on_a_queued_socket_continue_when_it_has_a_slot() {
    with_watchdog(|| {
        let (server, connector) = (holds(), patient(1));
        let first = open(&connector, &server);
        let waiting = connector.connect(server.address()).expect("it may wait");
        let (reader, mut writer) = (waiting.reader(), waiting.writer());
        let reading = spawn_blocked(move || read(reader, 5));
        let writing = spawn_blocked(move || writer.write_all(b"hello"));
        first.close().expect("it is idle");
        writing.join().expect("the socket is open");
        assert_eq!(reading.join().expect("the peer answers"), b"hello");
    });
}

#[test]
fn the_connect_timeout_covers_the_wait_and_ends_it() {
    with_watchdog(|| {
        let (server, connector) = (holds(), patient(1));
        let first = open(&connector, &server);
        let options = SocketOptions::new().connect_timeout(ms(80));
        let late = connector.connect_with(server.address(), options).expect("it may wait");
        let next = connector.connect(server.address()).expect("it may wait");
        let error = late.opened().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(!error.is_retryable(), "it is final: {error}");
        assert!(error.to_string().contains("free socket slot"), "{error}");
        assert!(error.attempts().is_empty());
        assert_eq!(late.phase(), Phase::Closed);
        assert_fails(late.closed(), ErrorKind::TimedOut);
        assert_eq!(connector.open_sockets(), 1);
        first.close().expect("it is idle");
        next.opened_timeout(PROMPT).expect("it is next");
    });
}

#[test]
fn a_queued_socket_can_be_closed_without_effect_on_others() {
    with_watchdog(|| {
        let (server, connector) = (holds(), patient(1));
        let first = open(&connector, &server);
        let waits = || connector.connect(server.address()).expect("it may wait");
        let (closed, aborted, dropped, next) = (waits(), waits(), waits(), waits());
        let reader = closed.reader();
        let reading = spawn_blocked(move || read(reader, 1));
        at_once(|| closed.close()).expect("there is nothing to hand over");
        assert_fails(reading.join(), ErrorKind::Closed);
        assert_fails(closed.opened(), ErrorKind::Closed);
        aborted.abort();
        assert_fails(aborted.opened(), ErrorKind::Closed);
        drop(dropped);
        assert_eq!(connector.open_sockets(), 1, "they never had a slot");
        first.close().expect("it is idle");
        next.opened_timeout(PROMPT).expect("it is next");
        assert_eq!(connector.open_sockets(), 1);
    });
}

#[test]
fn names_are_resolved_only_once_a_slot_is_free() {
    with_watchdog(|| {
        let asked = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&asked);
        let resolver = move |_: &str| -> std::io::Result<Vec<IpAddr>> {
            counting.fetch_add(1, Ordering::SeqCst);
            Ok(vec![IpAddr::from([127, 0, 0, 1])])
        };
        let server = holds();
        let builder = Connector::builder().resolver(resolver).max_open_sockets(1);
        let connector = builder.wait_at_limit(true).build().expect("the settings are valid");
        let first = open(&connector, &server);
        let named = ("good.test", server.address().port());
        let waiting = connector.connect(named).expect("it may wait");
        assert_fails(waiting.opened_timeout(ms(50)), ErrorKind::TimedOut);
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        first.close().expect("it is idle");
        let info = waiting.opened_timeout(PROMPT).expect("it is next");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert!(
            info.timings().resolve < ms(50),
            "the wait is not part of the lookup: {:?}",
            info.timings()
        );
    });
}

/// Each socket that fails at once frees the slot for the next one, which fails in turn.
#[test]
fn a_thousand_failing_sockets_pass_the_slot_on() {
    with_watchdog(|| {
        let (server, connector) = (holds(), patient(1));
        let first = open(&connector, &server);
        let nothing = closed_port();
        let waiting: Vec<Socket> =
            (0..1000).map(|_| connector.connect(nothing.address).expect("it may wait")).collect();
        first.close().expect("it is idle");
        for socket in &waiting {
            assert_fails(socket.opened(), ErrorKind::Connect);
        }
        assert_eq!(connector.open_sockets(), 0);
        open(&connector, &server).close().expect("it is idle");
    });
}

// -------------------------------------------------------------------- races

const RACING: usize = 1000;
const THREADS: usize = 8;

#[test]
fn a_thousand_racing_sockets_never_exceed_the_limit_and_leak_no_slot() {
    for wait in [false, true] {
        with_watchdog(move || race(wait));
    }
}

fn race(wait: bool) {
    const MAX_OPEN: usize = 7;
    let server = Server::scripted(|mut stream| {
        // Three kinds of peers: one that stays, one that closes, and one that resets.
        match stream.peer_addr().map_or(0, |from| from.port() % 3) {
            0 => drop(stream.write_all(b"bye")),
            1 => crate::support::peer::reset(stream),
            _ => drop(thread::spawn(move || std::io::copy(&mut &stream, &mut std::io::sink()))),
        }
    });
    let hole: Arc<BlackHole> = Arc::new(black_hole());
    let builder = Connector::builder().max_open_sockets(MAX_OPEN).wait_at_limit(wait);
    let connector = builder.build().expect("the settings are valid");
    let over = Arc::new(AtomicBool::new(false));
    let looking = {
        let (connector, over) = (connector.clone(), Arc::clone(&over));
        thread::spawn(move || {
            let mut most = 0;
            while !over.load(Ordering::SeqCst) {
                most = most.max(connector.open_sockets());
                thread::yield_now();
            }
            most
        })
    };
    let racing: Vec<_> = (0..THREADS)
        .map(|number| {
            let (connector, address) = (connector.clone(), server.address());
            let hole = hole.address;
            thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(number as u64);
                for _ in 0..RACING / THREADS {
                    live(&connector, address.into(), hole.into(), &mut random);
                }
            })
        })
        .collect();
    for thread in racing {
        thread.join().expect("no round has failed");
    }
    over.store(true, Ordering::SeqCst);
    let most = looking.join().expect("the observer does not panic");
    assert!(most <= MAX_OPEN, "{most} sockets were open");
    // Sockets without handles close in the background.
    eventually(WATCHDOG, "all slots are free", || connector.open_sockets() == 0);
    let server = holds();
    let full: Vec<Socket> = (0..MAX_OPEN).map(|_| open(&connector, &server)).collect();
    assert_eq!(connector.open_sockets(), full.len());
    if wait {
        let more = connector.connect(server.address()).expect("it may wait");
        assert_fails(more.opened_timeout(ms(20)), ErrorKind::TimedOut);
    } else {
        assert_fails(connector.connect(server.address()), ErrorKind::Limit);
    }
}

/// The holders themselves count: the peers stay, and a socket is counted only while it is certainly open.
#[test]
fn a_thousand_racing_holders_never_exceed_the_limit() {
    const MAX_OPEN: usize = 5;
    with_watchdog(|| {
        let server = holds();
        let held = Arc::new(AtomicUsize::new(0));
        for connector in [limited(MAX_OPEN), patient(MAX_OPEN)] {
            let racing: Vec<_> = (0..THREADS)
                .map(|number| {
                    let (connector, address) = (connector.clone(), server.address());
                    let held = Arc::clone(&held);
                    thread::spawn(move || {
                        let mut random = fastrand::Rng::with_seed(number as u64);
                        for _ in 0..RACING / THREADS {
                            hold(&connector, address.into(), &held, &mut random);
                        }
                    })
                })
                .collect();
            for thread in racing {
                thread.join().expect("the limit was kept");
            }
            eventually(WATCHDOG, "all slots are free", || connector.open_sockets() == 0);
        }
    });
}

fn hold(
    connector: &Connector,
    address: SocketAddress,
    held: &AtomicUsize,
    random: &mut fastrand::Rng,
) {
    let socket = match connector.connect(address) {
        Ok(socket) => socket,
        Err(error) => return assert_eq!(error.kind(), ErrorKind::Limit),
    };
    socket.opened().expect("the peer listens");
    let now = held.fetch_add(1, Ordering::SeqCst) + 1;
    assert!(now <= 5, "{now} sockets were open");
    thread::yield_now();
    held.fetch_sub(1, Ordering::SeqCst);
    match random.u8(..4) {
        0 => socket.abort(),
        1 => socket.writer().abort(),
        2 => socket.close().expect("it is idle"),
        _ => {}
    }
}

/// Opens one socket and ends it in one of many ways, sometimes in two threads at once.
fn live(
    connector: &Connector,
    address: SocketAddress,
    hole: SocketAddress,
    random: &mut fastrand::Rng,
) {
    let address = if random.u8(..8) == 0 { hole } else { address };
    let limit = ms(random.u64(1..50));
    let options = SocketOptions::new().connect_timeout(limit).read_timeout(limit);
    let socket = match connector.connect_with(address, options) {
        Ok(socket) => socket,
        Err(error) => return assert_eq!(error.kind(), ErrorKind::Limit),
    };
    let other = socket.clone();
    let beside = (random.u8(..4) == 0).then(|| {
        thread::spawn(move || match other.phase() {
            Phase::Connecting => other.abort(),
            _ => drop(other.close()),
        })
    });
    match random.u8(..7) {
        0 => drop(socket.close()),
        1 => socket.abort(),
        2 => socket.writer().abort(),
        3 => drop(socket.opened().and_then(|_| socket.close())),
        4 => drop((socket.opened(), read(&socket, 4), read(&socket, 4))),
        5 => drop((socket.opened(), (&socket).write(b"x"), socket.closed_timeout(ms(5)))),
        _ => drop(socket.clone()),
    }
    drop(socket);
    if let Some(beside) = beside {
        beside.join().expect("ending a socket does not panic");
    }
}
