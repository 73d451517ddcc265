//! Scenarios of the group `opened`.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sockeye::{ErrorKind, Phase, SecureTransport, Socket, SocketAddress, SocketOptions};

use super::common::in_own_network;
use super::names::{BHFIRST, MULTI, Names, V4, V6};
use super::site::{Site, Sort, refused_first, silent_first};
use super::unix::is_a_plain_name;
use crate::support::net;
use crate::support::peer::{assert_no_connection, black_hole, closed_port, listen};
use crate::support::tls::{authority, trust_only, with};
use crate::support::{
    HasErrorKind, PROMPT, Peer, WATCHDOG, assert_fails, at_once, crate_kind, ms, open, read,
    read_to_end, resolver_on_signal, spawn_blocked, spawn_call, timed, with_watchdog,
    within_100_ms,
};

// -------------------------------------------------------------------- a connection

/// The connection info of a connection to an IP address.
#[test]
fn socketinfo_ip() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open(&peer);
        let info = socket.opened().expect("it is open");
        assert_eq!(info.remote_address(), Some(peer.address()));
        assert_eq!(info.requested().to_string(), peer.address().to_string());
        assert!(info.alpn().is_none() && info.tls().is_none());
        let timings = info.timings();
        assert_eq!(timings.handshake, Duration::ZERO);
        assert!(timings.resolve < WATCHDOG && timings.connect < WATCHDOG, "{timings:?}");
        socket.close().expect("the close succeeds");
        assert_eq!(info.local_address(), Some(peer.finish().from));
    });
}

/// The connection info of a connection to a name: the requested host and the reached address.
#[test]
fn socketinfo_object() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let port = peer.address().port();
        let address = SocketAddress::new("good.test", port).expect("it is an address");
        let socket = Names::new().connector().connect(&address).expect("the address is valid");
        let info = at_once(|| socket.opened()).expect("the peer listens");
        assert_eq!(info.remote_address(), Some(peer.address()));
        assert_eq!(info.requested().to_string(), format!("good.test:{port}"));
        socket.close().expect("the close succeeds");
        peer.assert_received(b"");
    });
}

// -------------------------------------------------------------------- nothing listens

/// Nothing listens: every later call reports the same error.
#[test]
fn refused_later_ops() {
    with_watchdog(|| {
        let nothing = closed_port();
        let mut socket = sockeye::connect(nothing.address).expect("the address is valid");
        let error = at_once(|| socket.opened()).expect_err("nothing listens");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Connect, false));
        for _ in 0..2 {
            assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Connect);
            assert_fails(read(&socket, 10), ErrorKind::Connect);
            let refused = socket.write(b"x").expect_err("nothing listens");
            assert_eq!(crate_kind(&refused), ErrorKind::Connect);
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            assert_fails(socket.writer().flush(), ErrorKind::Connect);
            assert_fails(socket.writer().close(), ErrorKind::Connect);
            socket.close().expect("it had failed");
            assert_fails(socket.opened(), ErrorKind::Connect);
        }
        assert_fails(socket.closed(), ErrorKind::Connect);
        assert_fails(read(&socket, 10), ErrorKind::Connect);
    });
}

/// Nothing listens: a later cancel or abort changes nothing, and new handles report the same error.
#[test]
fn refused_later_streams() {
    with_watchdog(|| {
        let nothing = closed_port();
        let socket = sockeye::connect(nothing.address).expect("the address is valid");
        assert_fails(at_once(|| socket.opened()), ErrorKind::Connect);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Connect);
        assert_eq!((socket.phase(), socket.upgraded()), (Phase::Closed, false));
        socket.reader().cancel();
        socket.writer().abort();
        socket.abort();
        assert_fails(read(socket.reader(), 10), ErrorKind::Connect);
        assert_fails(socket.writer().write(b"x"), ErrorKind::Connect);
        assert_fails(socket.opened(), ErrorKind::Connect);
        assert_fails(socket.closed(), ErrorKind::Connect);
        assert_eq!((socket.phase(), socket.upgraded()), (Phase::Closed, false));
    });
}

/// Nothing listens: two writes and a close that wait for the connection fail.
#[test]
fn refused_many_writes() {
    with_watchdog(|| {
        let (socket, refuse) = to_be_refused();
        let (mut first, mut second, closer) = (socket.writer(), socket.writer(), socket.writer());
        let first = spawn_blocked(move || first.write(b"1"));
        let second = spawn_blocked(move || second.write(b"2"));
        let closing = spawn_blocked(move || closer.close());
        refuse();
        assert_fails(first.join_within(PROMPT), ErrorKind::Connect);
        assert_fails(second.join_within(PROMPT), ErrorKind::Connect);
        assert_fails(closing.join_within(PROMPT), ErrorKind::Connect);
        assert_fails(socket.opened(), ErrorKind::Connect);
        assert_fails(socket.closed(), ErrorKind::Connect);
    });
}

/// Nothing listens: an upgrade that is requested at once does not hang, nor do calls on the new socket.
#[test]
fn refused_starttls() {
    with_watchdog(|| {
        let nothing = closed_port();
        let socket = sockeye::connect_with(nothing.address, upgradable()).expect("they are valid");
        match at_once(|| socket.start_tls()) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Connect),
            Ok(mut new) => {
                assert_fails(at_once(|| new.opened()), ErrorKind::Connect);
                assert_fails(new.closed_timeout(PROMPT), ErrorKind::Connect);
                assert_fails(at_once(|| read(&new, 10)), ErrorKind::Connect);
                assert_fails(at_once(|| new.write(b"x")), ErrorKind::Connect);
            }
        }
        assert_fails(at_once(|| socket.opened()), ErrorKind::Connect);
        assert_fails(at_once(|| socket.closed()), ErrorKind::Connect);
    });
}

/// Nothing listens: an upgrade that is requested afterwards fails with the cause.
#[test]
fn refused_starttls_after() {
    with_watchdog(|| {
        let nothing = closed_port();
        let socket = sockeye::connect_with(nothing.address, upgradable()).expect("they are valid");
        assert_fails(at_once(|| socket.opened()), ErrorKind::Connect);
        assert_fails(at_once(|| socket.start_tls()), ErrorKind::Connect);
        assert!(!socket.upgraded());
    });
}

/// Port 80 is refused like any other.
#[test]
fn refused_http_hint() {
    in_own_network("opened.refused-http-hint", &[], || {
        let socket = sockeye::connect("localhost:80").expect("it is an address");
        let error = at_once(|| socket.opened()).expect_err("nothing listens");
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Connect);
        let other = sockeye::connect("localhost:81").expect("it is an address");
        let other = at_once(|| other.opened()).expect_err("nothing listens");
        assert_eq!(error.to_string().replace(":80", ":81"), other.to_string());
    });
}

// -------------------------------------------------------------------- lookups

/// A name that does not exist, while a read and a write are blocked.
#[test]
fn nxdomain() {
    with_watchdog(|| {
        let (connector, go) = resolver_on_signal(|| Err(io::ErrorKind::NotFound.into()));
        let socket = connector.connect("nosuch.test:4321").expect("it is an address");
        let (reader, mut writer) = (socket.reader(), socket.writer());
        let reading = spawn_blocked(move || read(reader, 10));
        let writing = spawn_blocked(move || writer.write(b"x"));
        go.send(()).expect("the lookup waits");
        let error = at_once(|| socket.opened()).expect_err("there is no such name");
        assert_eq!(error.kind(), ErrorKind::Resolve);
        assert!(error.attempts().is_empty(), "{:?}", error.attempts());
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Resolve);
        assert_fails(reading.join_within(PROMPT), ErrorKind::Resolve);
        assert_fails(writing.join_within(PROMPT), ErrorKind::Resolve);
    });
}

/// The resolver fails, and the error carries the resolver's text.
#[test]
fn servfail() {
    with_watchdog(|| {
        let answer = || Err(io::Error::new(io::ErrorKind::HostUnreachable, "SERVFAIL"));
        let names = Names::and(vec![("servfail.test", Box::new(answer))]);
        let socket = names.connector().connect("servfail.test:4321").expect("it is an address");
        let error = at_once(|| socket.opened()).expect_err("the name is unknown");
        assert_eq!(error.kind(), ErrorKind::Resolve);
        let said = std::error::Error::source(&error)
            .expect("the source is the resolver's error")
            .to_string();
        assert!(said.contains("SERVFAIL"), "{said}");
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Resolve);
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::HostUnreachable);
    });
}

/// The resolver is slow, and the timings show it.
#[test]
fn dns_slow() {
    const SPAN: Duration = ms(700);
    with_watchdog(|| {
        let answer = || {
            thread::sleep(SPAN);
            Ok(vec![V4])
        };
        let names = Names::and(vec![("slow.test", Box::new(answer))]);
        let peer = Peer::reading();
        let address = ("slow.test", peer.address().port());
        let (info, took) = timed(|| {
            let socket = names.connector().connect(address).expect("it is an address");
            socket.opened().expect("the peer listens")
        });
        assert!(took >= SPAN && took < SPAN + PROMPT, "took {took:?}");
        assert!(info.timings().resolve >= ms(600), "{:?}", info.timings());
        assert_eq!(info.remote_address(), Some(peer.address()));
    });
}

// -------------------------------------------------------------------- no route

/// The address has no route.
#[test]
fn unreachable() {
    leads_nowhere(
        "opened.unreachable",
        "unreachable",
        "10.9.9.9:4321",
        io::ErrorKind::HostUnreachable,
    );
}

/// The address has a route of type "prohibit".
#[test]
fn prohibited() {
    leads_nowhere(
        "opened.prohibited",
        "prohibit",
        "10.9.9.7:4321",
        io::ErrorKind::PermissionDenied,
    );
}

/// The address has a route of type "blackhole", for which the kernel returns EINVAL.
#[test]
fn einval_route() {
    leads_nowhere("opened.einval-route", "blackhole", "10.9.9.8:4321", io::ErrorKind::InvalidInput);
}

// -------------------------------------------------------------------- no answer

/// The peer does not answer: the timeout ends the attempt and all calls that wait for it, and so does `close`.
#[test]
fn blackhole() {
    with_watchdog(|| {
        let hole = black_hole();
        let (socket, took) = timed(|| {
            let socket = sockeye::connect_with(hole.address, impatient()).expect("they are valid");
            let (reader, mut writer) = (socket.reader(), socket.writer());
            let reading = spawn_call(move || read(reader, 10));
            let writing = spawn_call(move || writer.write(b"x"));
            let error = socket.opened().expect_err("the peer does not answer");
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::TimedOut, false));
            assert_fails(reading.join_within(PROMPT), ErrorKind::TimedOut);
            assert_fails(writing.join_within(PROMPT), ErrorKind::TimedOut);
            socket
        });
        assert!(took >= ms(500) && took <= ms(1500), "took {took:?}");
        assert_fails(socket.closed(), ErrorKind::TimedOut);
        assert_eq!(socket.phase(), Phase::Closed);

        let options = SocketOptions::new().connect_timeout(None);
        let socket = sockeye::connect_with(hole.address, options).expect("they are valid");
        let (opening, reader, mut writer) = (socket.clone(), socket.reader(), socket.writer());
        let opening = spawn_blocked(move || opening.opened());
        let reading = spawn_blocked(move || read(reader, 10));
        let writing = spawn_blocked(move || writer.write(b"x"));
        assert_eq!(socket.phase(), Phase::Connecting);
        at_once(|| socket.close()).expect("it cancels the attempt");
        assert_fails(opening.join_within(PROMPT), ErrorKind::Closed);
        assert_fails(reading.join_within(PROMPT), ErrorKind::Closed);
        assert_fails(writing.join_within(PROMPT), ErrorKind::Closed);
        socket.closed_timeout(PROMPT).expect("it was closed");
    });
}

/// The peer does not answer, and the socket is closed at once: the close does not block, and no further SYN is sent.
#[test]
fn blackhole_close_first() {
    with_watchdog(|| {
        within_100_ms(|| {
            let hole = black_hole();
            let mut socket = sockeye::connect(hole.address).expect("the address is valid");
            let (result, took) = timed(|| socket.close());
            result.expect("it cancels the attempt");
            assert_fails(at_once(|| socket.opened()), ErrorKind::Closed);
            socket.closed_timeout(PROMPT).expect("it was closed");
            assert_fails(read(&socket, 10), ErrorKind::Closed);
            assert_fails(socket.write(b"x"), ErrorKind::Closed);
            assert_eq!(socket.phase(), Phase::Closed);
            #[cfg(target_os = "linux")]
            crate::support::eventually(PROMPT, "no further SYN is sent", || {
                crate::support::process::attempts_towards(hole.address) == 0
            });
            took
        });
    });
}

/// The peer does not answer: a close of the writer waits for the connection until the timeout.
#[test]
fn blackhole_closewriter() {
    with_watchdog(|| {
        let hole = black_hole();
        let (result, took) = timed(|| {
            let socket = sockeye::connect_with(hole.address, impatient()).expect("they are valid");
            let result = socket.writer().close();
            assert_fails(socket.opened(), ErrorKind::TimedOut);
            result
        });
        let error = result.expect_err("the peer does not answer");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::TimedOut, false));
        assert!(took >= ms(500) && took <= ms(1500), "took {took:?}");
    });
}

// -------------------------------------------------------------------- names with two addresses

/// The IPv6 address refuses, and the IPv4 address is tried at once.
#[test]
fn dual_v6_refused() {
    refused_first("opened.dual-v6-refused", "dual.test", [V6, V4]);
}

/// Both addresses listen: the socket connects to the resolver's first one only.
#[test]
fn dual_both() {
    with_watchdog(|| {
        let sorts = [(V6, Sort::Listens), (V4, Sort::Listens)];
        let Some(site) = Site::of("opened.dual-both", &sorts) else { return };
        let names = Names::with("dual.test", &[V6, V4]);
        let socket = names.connector().connect(("dual.test", site.port)).expect("it is an address");
        let info = at_once(|| socket.opened()).expect("the peers listen");
        assert_eq!(info.remote_address(), Some((V6, site.port).into()));
        let (_stream, from) = site.listener(0).accept().expect("the connection is in the backlog");
        assert_eq!(info.local_address(), Some(from));
        // This is longer than the delay before another attempt.
        assert_fails(socket.closed_timeout(ms(400)), ErrorKind::TimedOut);
        assert_no_connection(site.listener(0));
        assert_no_connection(site.listener(1));
    });
}

/// A local IPv6 address answers no SYN, and the IPv4 address is tried soon.
#[test]
fn dual_global_v6_blackhole() {
    in_own_network("opened.dual-global-v6-blackhole", &[ADD_LOCAL, ADD_PRIVATE], || {
        silent_first("opened.dual-global-v6-blackhole", "dualg.test", [LOCAL, PRIVATE]);
    });
}

/// A local IPv6 address refuses, and the IPv4 address is tried at once.
#[test]
fn dual_global_v6_refused() {
    in_own_network("opened.dual-global-v6-refused", &[ADD_LOCAL, ADD_PRIVATE], || {
        refused_first("opened.dual-global-v6-refused", "dualg.test", [LOCAL, PRIVATE]);
    });
}

/// A global IPv6 address answers no SYN, and the private IPv4 address is tried soon.
#[test]
fn dual_public_v6_blackhole() {
    in_own_network("opened.dual-public-v6-blackhole", &[ADD_GLOBAL, ADD_PRIVATE], || {
        silent_first("opened.dual-public-v6-blackhole", "dualp.test", [GLOBAL, PRIVATE]);
    });
}

/// A global IPv6 address refuses, and the private IPv4 address is tried at once.
#[test]
fn dual_public_v6_refused() {
    in_own_network("opened.dual-public-v6-refused", &[ADD_GLOBAL, ADD_PRIVATE], || {
        refused_first("opened.dual-public-v6-refused", "dualp.test", [GLOBAL, PRIVATE]);
    });
}

/// The IPv4 address comes first and refuses, and the IPv6 address is tried at once.
#[test]
fn dual_v4_refused() {
    refused_first("opened.dual-v4-refused", "dual.test", [V4, V6]);
}

/// The IPv4 address comes first and answers no SYN, and the IPv6 address is tried after a quarter of a second.
#[test]
fn dual_v4_blackhole() {
    silent_first("opened.dual-v4-blackhole", "dual.test", [V4, V6]);
}

/// The first of two IPv4 addresses answers no SYN.
#[test]
fn multi_first_blackhole() {
    silent_first("opened.multi-first-blackhole", "bhfirst.test", BHFIRST);
}

/// The first of two IPv4 addresses refuses.
#[test]
fn multi_first_refused() {
    refused_first("opened.multi-first-refused", "multi.test", MULTI);
}

/// Two IPv4 addresses refuse, and the error lists both attempts.
#[test]
fn multi_all_refused() {
    with_watchdog(|| {
        let sorts = MULTI.map(|ip| (ip, Sort::Refuses));
        let Some(site) = Site::of("opened.multi-all-refused", &sorts) else { return };
        let names = Names::new();
        let socket =
            names.connector().connect(("multi.test", site.port)).expect("it is an address");
        let error = at_once(|| socket.opened()).expect_err("nothing listens");
        assert_eq!(error.kind(), ErrorKind::Connect);
        let message: Vec<_> = error
            .attempts()
            .iter()
            .map(|attempt| (attempt.address(), io::Error::from(attempt.error().clone()).kind()))
            .collect();
        let refused = io::ErrorKind::ConnectionRefused;
        assert_eq!(message, MULTI.map(|ip| (SocketAddr::new(ip, site.port), refused)));
    });
}

// -------------------------------------------------------------------- calls before the socket is open

/// A write begins before the connection is made.
#[test]
fn write_before_opened() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.receive(5);
            wire.send(b"ok");
        });
        let (socket, go) = to_be_opened(&peer);
        let mut writer = socket.writer();
        let writing = spawn_blocked(move || writer.write(b"early"));
        go.send(()).expect("the lookup waits");
        socket.opened().expect("the peer listens");
        assert_eq!(writing.join_within(PROMPT).expect("the peer reads"), 5);
        assert_eq!(read(&socket, 10).expect("the peer answers"), b"ok");
        socket.close().expect("the peer reads");
        peer.assert_received(b"early");
    });
}

/// A write returns only after the socket is open.
#[test]
fn write_order_opened() {
    with_watchdog(|| {
        within_100_ms(|| {
            let peer = Peer::reading();
            let mut socket = sockeye::connect(peer.address()).expect("the address is valid");
            assert_eq!(socket.write(b"early").expect("the peer reads"), 5);
            socket.opened_timeout(Duration::ZERO).expect("the write has returned");
            let (opened, took) = timed(|| socket.opened());
            opened.expect("the write has returned");
            socket.close().expect("the peer reads");
            peer.assert_received(b"early");
            took
        });
    });
}

/// A read begins before the connection is made.
#[test]
fn read_before_opened() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.wait(ms(100));
            wire.send(b"hello");
        });
        let (socket, go) = to_be_opened(&peer);
        let reader = socket.reader();
        let reading = spawn_blocked(move || read(reader, 10));
        go.send(()).expect("the lookup waits");
        socket.opened().expect("the peer listens");
        assert_eq!(reading.join_within(PROMPT).expect("the peer sends"), b"hello");
    });
}

/// The socket is closed before the connection is made, and the close does not block.
#[test]
fn close_before_opened() {
    with_watchdog(|| within_100_ms(closes_before_it_is_open));
    // The connection may or may not be made by then, so the test repeats.
    for _ in 0..50 {
        with_watchdog(|| {
            closes_before_it_is_open();
        });
    }
}

/// Returns the duration of `close`.
fn closes_before_it_is_open() -> Duration {
    let peer = Peer::reading();
    let address = peer.address();
    let mut socket = sockeye::connect(address).expect("the address is valid");
    let (result, took) = timed(|| socket.close());
    result.expect("it cancels the attempt");
    assert!(took < PROMPT, "took {took:?}");
    socket.closed_timeout(PROMPT).expect("it was closed");
    assert_fails(read(&socket, 10), ErrorKind::Closed);
    assert_fails(socket.write(b"x"), ErrorKind::Closed);
    let opened = at_once(|| socket.opened()).failure();
    assert!(matches!(opened, None | Some(ErrorKind::Closed)), "{opened:?}");
    // If the attempt was cancelled before it reached the peer, this connection ends the peer.
    drop(net::connect(address));
    took
}

/// A write and a close of the writer begin before the connection is made.
#[test]
fn closewriter_before_opened() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire| {
            wire.read_to_end();
            wire.send(b"bye");
            wire.fin();
        });
        let (socket, go) = to_be_opened(&peer);
        let (mut writer, closer) = (socket.writer(), socket.writer());
        let writing = spawn_blocked(move || writer.write(b"data"));
        let closing = spawn_blocked(move || closer.close());
        go.send(()).expect("the lookup waits");
        socket.opened().expect("the peer listens");
        assert_eq!(writing.join_within(PROMPT).expect("the peer reads"), 4);
        closing.join_within(PROMPT).expect("the peer reads");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"bye");
        socket.closed_timeout(PROMPT).expect("both directions have ended");
        peer.assert_received(b"data");
    });
}

// -------------------------------------------------------------------- right after the socket is open

/// Nothing happens, so the socket stays open.
#[test]
fn opened_then_peer_idle() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open(&peer);
        let (result, took) = timed(|| socket.closed_timeout(ms(300)));
        let error = result.expect_err("nothing happens");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::TimedOut, true));
        assert!(took >= ms(300) && took < ms(300) + PROMPT, "took {took:?}");
        assert_eq!(socket.phase(), Phase::Open);
    });
}

/// The peer accepts and resets at once: that never looks like a clean end.
#[test]
fn peer_accepts_then_rst() {
    // The reset arrives before or after `opened` returns.
    for _ in 0..20 {
        with_watchdog(|| {
            let peer = Peer::scripted(|wire| wire.reset());
            let mut socket = sockeye::connect(peer.address()).expect("the address is valid");
            let opened = at_once(|| socket.opened()).failure();
            let allowed = [None, Some(ErrorKind::Reset), Some(ErrorKind::Connect)];
            assert!(allowed.contains(&opened), "{opened:?}");
            peer.finish();
            let cause = opened.unwrap_or(ErrorKind::Reset);
            assert_fails(read(&socket, 10), cause);
            assert_fails(socket.write(b"x"), cause);
            assert_fails(socket.write(b"y"), cause);
            assert_fails(socket.closed_timeout(PROMPT), cause);
            assert_fails(read(&socket, 10), cause);
        });
    }
}

// -------------------------------------------------------------------- public addresses only

/// A program that may dial public addresses only cannot reach this machine, by address or by name, and the error is
/// immediate.
#[test]
fn blocked_private() {
    with_watchdog(|| {
        let listener = listen();
        let port = listener.local_addr().expect("it listens").port();
        let names = Names::public_only("late.test", &[V4]);
        assert_fails(names.connector().connect(("127.0.0.1", port)), ErrorKind::Denied);

        let mut socket = names.connector().connect(("late.test", port)).expect("a name");
        let reader = socket.reader();
        let reading = spawn_call(move || read(reader, 10));
        assert_fails(socket.write(b"x"), ErrorKind::Denied);
        assert_fails(at_once(|| socket.opened()), ErrorKind::Denied);
        assert_fails(reading.join_within(PROMPT), ErrorKind::Denied);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Denied);
        assert_no_connection(&listener);
    });
}

/// For such a program, too, `unix` is a name.
#[test]
fn blocked_unix() {
    let address = SocketAddress::new("unix", 4569).expect("it is an address");
    is_a_plain_name("opened.blocked-unix", address, Names::public_only("other.test", &[]));
}

// -------------------------------------------------------------------- helpers

fn impatient() -> SocketOptions {
    SocketOptions::new().connect_timeout(ms(500))
}

fn upgradable() -> SocketOptions {
    with(SecureTransport::StartTls, trust_only(authority()))
}

/// Returns a socket that connects to the peer when the test signals it.
#[track_caller]
fn to_be_opened(peer: &Peer) -> (Socket, mpsc::Sender<()>) {
    let (connector, go) = resolver_on_signal(|| Ok(vec![V4]));
    let address = ("late.test", peer.address().port());
    (connector.connect(address).expect("it is an address"), go)
}

/// Returns a socket whose attempt is refused when the test signals it.
fn to_be_refused() -> (Socket, impl FnOnce()) {
    let nothing = closed_port();
    let (connector, go) = resolver_on_signal(|| Ok(vec![V4]));
    let address = ("late.test", nothing.address.port());
    let socket = connector.connect(address).expect("it is an address");
    (socket.clone(), move || {
        go.send(()).expect("the lookup waits");
        assert_fails(at_once(|| socket.opened()), ErrorKind::Connect);
        drop(nothing);
    })
}

/// Checks the error for an address whose route has this type: it carries the kernel's reason.
fn leads_nowhere(id: &str, sort: &str, address: &str, reason: io::ErrorKind) {
    let (host, _) = address.split_once(':').expect("host and port");
    in_own_network(id, &[&format!("ip route add {sort} {host}")], || {
        let socket = sockeye::connect(address).expect("it is an address");
        let error = at_once(|| socket.opened()).expect_err("the address is unreachable");
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Connect);
        let [attempt] = error.attempts() else {
            panic!("expected one attempt: {:?}", error.attempts());
        };
        assert_eq!(attempt.address().to_string(), address);
        #[cfg(target_os = "linux")]
        {
            let code = crate::support::system_code(attempt.error()).expect("the code is kept");
            let system = io::Error::from_raw_os_error(code);
            // The C library's text, without the code that `std` appends.
            let text = system.to_string();
            let text = text.split(" (os error").next().expect("there is a first part");
            assert!(attempt.error().to_string().contains(text), "{}", attempt.error());
        }
        assert_eq!(io::Error::from(error).kind(), reason);
    });
}

/// Addresses that only a test's own network has, and the commands that add them.
const LOCAL: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1));
const GLOBAL: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1));
const PRIVATE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 1));
const ADD_LOCAL: &str = "ip addr add fd00:1::1/128 dev lo nodad";
const ADD_GLOBAL: &str = "ip addr add 2001:db8:1::1/128 dev lo nodad";
const ADD_PRIVATE: &str = "ip addr add 10.1.1.1/32 dev lo";
