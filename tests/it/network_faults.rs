//! Networks that drop, reject or stop, in network namespaces that each test creates for itself.
//! The test's process sets up the networks and changes them. The client and its peer are processes inside the
//! namespaces.

mod late;
mod local;
mod names;
mod routing;
mod space;

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use sockeye::machine::ATTEMPT_DELAY;
use sockeye::{Connector, Error, ErrorKind, Keepalive, Socket, SocketOptions, TcpOptions};

use self::space::{OTHER_V4, Space, V4, V6};
use crate::support::subprocess::{child_part, next_line, run_part, say};
use crate::support::{
    PROMPT, WATCHDOG, WrittenThenError, assert_fails, assert_times_out, crate_kind, eventually, ms,
    read, spawn_blocked, system_code, timed, write_until_error,
};

/// The number of tries for a check of timing on a machine that is busy with other tests. One try within the limit
/// suffices.
const TRIES: usize = 8;

/// A change of the network in which the peer listens at this port.
type Event<'a> = &'a dyn Fn(&Space, u16);

/// Runs this process's part of a test: the networks, the client or the peer. The first makes each change when the
/// client asks for it with [`befall`].
#[track_caller]
fn in_a_space(name: &str, events: &[Event<'_>], client: impl FnOnce(u16)) {
    in_a_space_with(name, events, read_whatever_comes, client);
}

/// Runs [`in_a_space`] with a different peer, which prints the port that it listens on and exits when its input ends.
#[track_caller]
fn in_a_space_with(
    name: &str,
    events: &[Event<'_>],
    peer: impl FnOnce(),
    client: impl FnOnce(u16),
) {
    match child_part().as_deref() {
        Some("peer") => run_part(peer),
        Some(_) => run_part(|| {
            let port =
                next_line().and_then(|line| line.parse().ok()).expect("the first line is a port");
            for address in [V4, OTHER_V4, V6] {
                eventually(WATCHDOG, "the network is up", || {
                    TcpStream::connect_timeout(&(ip(address), port).into(), ms(200)).is_ok()
                });
            }
            client(port);
        }),
        None => {
            let Some(space) = Space::for_test(name) else { return };
            let (peer, port) = space.peer(name);
            let mut client = space.client(name);
            client.send_line(&port.to_string());
            for event in events {
                client.expect_line("event");
                event(&space, port);
                client.send_line("done");
            }
            client.expect_success(WATCHDOG);
            peer.expect_success(WATCHDOG);
        }
    }
}

/// Waits until the next change is made.
fn befall() {
    say("event");
    assert_eq!(next_line().as_deref(), Some("done"));
}

fn read_whatever_comes() {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("a port is free");
    say(&format!("listens {}", listener.local_addr().expect("it listens").port()));
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            // The read may end in any way, at the latest with this process.
            thread::spawn(move || stream.read_to_end(&mut Vec::new()));
        }
    });
    assert_eq!(next_line(), None, "the test is over");
}

// -------------------------------------------------------------------- addresses that do not answer

#[test]
fn an_address_that_drops_everything_is_followed_by_the_next() {
    const NAME: &str = "network_faults::an_address_that_drops_everything_is_followed_by_the_next";
    in_a_space(NAME, &[&|space, _| drop_all_to(space, V4)], |port| {
        opens_at(&[V4, OTHER_V4], V4, port, AT_ONCE_NEXT);
        befall();
        opens_at(&[V4, OTHER_V4], OTHER_V4, port, AFTER_THE_DELAY);
        opens_at(&[OTHER_V4, V4], OTHER_V4, port, AT_ONCE_NEXT);
        let error = failure(&[V4], port, SocketOptions::new().connect_timeout(ms(600)));
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.attempts().len(), 1);
    });
}

#[test]
fn unreachable_ipv6_falls_back_to_ipv4() {
    const NAME: &str = "network_faults::unreachable_ipv6_falls_back_to_ipv4";
    in_a_space(NAME, &[&|space, _| drop_all_to(space, V6)], |port| {
        opens_at(&[V6, V4], V6, port, AT_ONCE_NEXT);
        befall();
        opens_at(&[V6, V4, OTHER_V4], V4, port, AFTER_THE_DELAY);
        // The other family's address is tried before further addresses of the unreachable one.
        opens_at(&[V6, "fd99::3", "fd99::4", V4], V4, port, AFTER_THE_DELAY);
    });
}

#[test]
fn unreachable_ipv4_falls_back_to_ipv6() {
    const NAME: &str = "network_faults::unreachable_ipv4_falls_back_to_ipv6";
    let dead = |space: &Space, _| [V4, OTHER_V4].iter().for_each(|one| drop_all_to(space, one));
    in_a_space(NAME, &[&dead], |port| {
        befall();
        opens_at(&[V4, OTHER_V4, V6], V6, port, AFTER_THE_DELAY);
    });
}

/// Every way in which a filter rejects is as good as a refusal. Linux ignores an ICMP error that arrives before its
/// connect(2) has returned, as here, but not the next one.
#[test]
fn an_address_that_a_filter_rejects_fails_with_its_reason_and_the_next_is_tried() {
    const NAME: &str = "network_faults::an_address_that_a_filter_rejects_fails_with_its_reason_and_the_next_is_tried";
    let rejects = |space: &Space, _| {
        let rules = [
            "ip daddr 10.99.0.3 meta l4proto tcp reject with tcp reset",
            "ip daddr 10.99.0.4 reject with icmp type host-unreachable",
            "ip6 daddr fd99::2 reject with icmpv6 type admin-prohibited",
        ];
        for rule in rules {
            space
                .at_peer(&format!("nft 'add rule inet filter input {rule}'"))
                .expect("a rule is added");
        }
        space.at_peer("ip addr add 10.99.0.4/24 dev cable").expect("an address is added");
    };
    in_a_space(NAME, &[&rejects], |port| {
        befall();
        opens_at(&[OTHER_V4, V4], V4, port, AT_ONCE_NEXT);
        opens_at(&["10.99.0.4", V4], V4, port, Duration::ZERO..PROMPT);
        let error = failure(&["10.99.0.4", V6, OTHER_V4], port, SocketOptions::new());
        assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
        let codes = error.attempts().iter().map(|attempt| system_code(attempt.error()));
        let expected = [libc::EHOSTUNREACH, libc::EACCES, libc::ECONNREFUSED].map(Some);
        assert_eq!(codes.collect::<Vec<_>>(), expected, "{error:?}");
    });
}

fn drop_all_to(space: &Space, address: &str) {
    let family = if address.contains(':') { "ip6" } else { "ip" };
    space
        .at_peer(&format!("nft add rule inet filter input {family} daddr {address} drop"))
        .expect("a rule is added");
}

// -------------------------------------------------------------------- no route

#[test]
fn an_address_without_a_route_fails_with_its_reason_and_the_next_is_tried() {
    const NAME: &str =
        "network_faults::an_address_without_a_route_fails_with_its_reason_and_the_next_is_tried";
    let routes = |space: &Space, _| {
        for (number, sort) in ["unreachable", "prohibit", "blackhole"].iter().enumerate() {
            space
                .at_client(&format!("ip route add {sort} 10.98.0.{number}"))
                .expect("a route is added");
            space
                .at_client(&format!("ip -6 route add {sort} fd98::{number}"))
                .expect("a route is added");
        }
    };
    in_a_space(NAME, &[&routes], |port| {
        befall();
        let reasons = [
            (["10.98.0.0", "fd98::0"], libc::EHOSTUNREACH),
            (["10.98.0.1", "fd98::1"], libc::EACCES),
            (["10.98.0.2", "fd98::2"], libc::EINVAL),
        ];
        for (addresses, code) in reasons {
            for address in addresses {
                let (error, took) = timed(|| failure(&[address], port, SocketOptions::new()));
                assert!(took < PROMPT, "{address} took {took:?}");
                check_codes(&error, &[&[code]]);
                opens_at(&[address, V4], V4, port, AT_ONCE_NEXT);
                opens_at(&[address, V6], V6, port, AT_ONCE_NEXT);
            }
        }
        let all = ["10.98.0.0", "fd98::1", "10.98.0.2", "fd98::0", "10.98.0.1", V6];
        opens_at(&all, V6, port, AT_ONCE_NEXT);
        let error = failure(&all[..5], port, SocketOptions::new());
        let codes: [&[i32]; 5] = [
            &[libc::EHOSTUNREACH],
            &[libc::EACCES],
            &[libc::EINVAL],
            &[libc::EHOSTUNREACH],
            &[libc::EACCES],
        ];
        check_codes(&error, &codes);
    });
}

/// Checks that each attempt failed with kind `Connect` and with one of these system errors and its text.
#[track_caller]
fn check_codes(error: &Error, codes: &[&[i32]]) {
    assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
    assert_eq!(error.attempts().len(), codes.len(), "{error:?}");
    for (attempt, codes) in error.attempts().iter().zip(codes) {
        let inner = attempt.error();
        assert_eq!(inner.kind(), ErrorKind::Connect, "{attempt:?}");
        let code = system_code(inner).expect("the source is a system error");
        assert!(codes.contains(&code), "{attempt:?}");
        let words = io::Error::from_raw_os_error(code).to_string();
        let words = words.split(" (os error").next().expect("splitting yields at least one part");
        assert!(inner.to_string().contains(words), "{inner} does not contain {words:?}");
    }
    let last = error.attempts().last().and_then(|attempt| system_code(attempt.error()));
    assert_eq!(system_code(error), last, "the error has the code of the last attempt");
}

#[test]
fn without_ipv6_its_addresses_are_skipped_at_once() {
    const NAME: &str = "network_faults::without_ipv6_its_addresses_are_skipped_at_once";
    let no_route = |space: &Space, _| {
        space.at_client("ip -6 addr flush dev cable").expect("they are removed");
    };
    let no_ipv6 = |space: &Space, _| {
        let all = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
        space.at_client(&format!("echo 1 >{all}")).expect("it is switched off");
    };
    in_a_space(NAME, &[&no_route, &no_ipv6], |port| {
        opens_at(&[V6, V4], V6, port, AT_ONCE_NEXT);
        for _ in 0..2 {
            befall();
            opens_at(&[V6, V4], V4, port, AT_ONCE_NEXT);
            opens_at(&[V6, "2001:db8::1", "fd98::1", V4], V4, port, AT_ONCE_NEXT);
            let error = failure(&[V6], port, SocketOptions::new());
            check_codes(&error, &[&[libc::ENETUNREACH, libc::EADDRNOTAVAIL]]);
        }
    });
}

const AT_ONCE_NEXT: Range<Duration> = Duration::ZERO..ATTEMPT_DELAY;
const AFTER_THE_DELAY: Range<Duration> = ATTEMPT_DELAY..PROMPT;

/// Checks that a name with these addresses connects to `expected`: never before the range of time, and within it in at
/// least one try.
#[track_caller]
fn opens_at(addresses: &[&str], expected: &str, port: u16, time: Range<Duration>) {
    let expected: SocketAddr = (ip(expected), port).into();
    let mut all = Vec::new();
    for _ in 0..TRIES {
        let begun = Instant::now();
        let socket = dial(addresses, port, SocketOptions::new());
        let info = socket.opened().expect("one address works");
        let took = begun.elapsed();
        assert_eq!(info.remote_address(), Some(expected));
        assert!(took >= time.start, "{addresses:?} took {took:?}");
        socket.abort();
        all.push(took);
        if took < time.end {
            return;
        }
    }
    panic!("never within {:?}: {all:?}", time.end);
}

#[track_caller]
fn failure(addresses: &[&str], port: u16, options: SocketOptions) -> Error {
    dial(addresses, port, options).opened().expect_err("none of them works")
}

#[track_caller]
fn dial(addresses: &[&str], port: u16, options: SocketOptions) -> Socket {
    let answer: Vec<IpAddr> = addresses.iter().map(|one| ip(one)).collect();
    Connector::builder()
        .resolver(move |_: &str| Ok(answer.clone()))
        .build()
        .expect("the rules are valid")
        .connect_with(("name.test", port), options)
        .expect("the address is valid")
}

#[track_caller]
fn ip(text: &str) -> IpAddr {
    text.parse().expect("it is an address")
}

// -------------------------------------------------------------------- connections to itself

/// The kernel has only one ephemeral port, and it is the port being dialled.
#[test]
fn a_connection_to_itself_is_refused_and_the_next_address_is_tried() {
    const NAME: &str =
        "network_faults::a_connection_to_itself_is_refused_and_the_next_address_is_tried";
    let one_port = |space: &Space, port: u16| {
        let range = "/proc/sys/net/ipv4/ip_local_port_range";
        space.at_client(&format!("echo {port} {port} >{range}")).expect("the range is set");
    };
    in_a_space(NAME, &[&one_port], |port| {
        befall();
        for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let error = failure(&[&address.to_string()], port, SocketOptions::new());
            assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
            let first = &error.attempts()[0];
            assert_eq!(first.address(), SocketAddr::new(address, port));
            assert_eq!(first.error().kind(), ErrorKind::Connect);
            assert!(first.error().to_string().contains("itself"), "{first:?}");
        }
        let socket = dial(&["127.0.0.1", V4], port, SocketOptions::new());
        let info = socket.opened().expect("the peer listens");
        assert_eq!(info.remote_address(), Some((ip(V4), port).into()));
    });
}

// -------------------------------------------------------------------- few ports

/// Each port of a bound local address can be used once per peer.
#[test]
#[cfg_attr(sockeye_bsd, ignore = "only Linux can choose the port when it knows the peer")]
fn each_peer_can_use_all_ports_of_a_bound_address() {
    const NAME: &str = "network_faults::each_peer_can_use_all_ports_of_a_bound_address";
    const PORTS: usize = 20;
    let few_ports = |space: &Space, _: u16| {
        let range = "/proc/sys/net/ipv4/ip_local_port_range";
        space.at_client(&format!("echo 40000 40019 >{range}")).expect("the range is set");
        space.at_peer("ip addr add 10.99.0.4/24 dev cable").expect("an address is added");
        for address in ["fd99::3", "fd99::4"] {
            let add = format!("ip addr add {address}/64 dev cable nodad");
            space.at_peer(&add).expect("an address is added");
        }
    };
    in_a_space(NAME, &[&few_ports], |port| {
        befall();
        for (local, peers) in
            [("10.99.0.1", [V4, OTHER_V4, "10.99.0.4"]), ("fd99::1", [V6, "fd99::3", "fd99::4"])]
        {
            let options = || {
                let bound = TcpOptions::new().bind((ip(local), 0).into());
                SocketOptions::new().tcp(bound)
            };
            let mut open = Vec::new();
            for peer in peers {
                for number in 0..PORTS {
                    let socket = sockeye::connect_with((ip(peer), port), options())
                        .expect("the address is valid");
                    let info = socket.opened();
                    let info = info.unwrap_or_else(|error| panic!("{peer}, {number}: {error}"));
                    let from = info.local_address().expect("the system reports it");
                    assert_eq!(from.ip(), ip(local));
                    assert!((40_000..40_020).contains(&from.port()), "{from}");
                    open.push(socket);
                }
                let one_more = sockeye::connect_with((ip(peer), port), options());
                let error =
                    one_more.expect("the address is valid").opened().expect_err("no port is left");
                assert_eq!(system_code(&error), Some(libc::EADDRNOTAVAIL), "{error}");
            }
            assert_eq!(open.len(), 3 * PORTS);
            open.iter().for_each(Socket::abort);
        }
    });
}

// -------------------------------------------------------------------- lost peers

/// The time in which the kernel declares a peer lost with these options, at most.
const GONE_AFTER: Duration = Duration::from_secs(15);

/// Makes the client's routes reject the peer. The kernel then keeps the route's error as the reason.
fn own_routes_lead_nowhere(space: &Space, _port: u16) {
    space.at_client("ip route add prohibit 10.99.0.2").expect("a route is added");
    space.at_client("ip -6 route add blackhole fd99::2").expect("a route is added");
}

fn cable_goes_down(space: &Space, _port: u16) {
    space.at_peer("ip link set cable down").expect("it is up");
}

fn own_cable_goes_down(space: &Space, _port: u16) {
    space.at_client("ip link set cable down").expect("it is up");
}

fn filter_rejects(space: &Space, _port: u16) {
    space.at_peer("nft add rule inet filter input meta l4proto tcp reject").expect("it is added");
}

fn keepalive() -> SocketOptions {
    let probes =
        Keepalive { idle: Duration::from_secs(1), interval: Duration::from_secs(1), retries: 2 };
    SocketOptions::new().tcp(TcpOptions::new().keepalive(probes))
}

fn user_timeout() -> SocketOptions {
    let tcp = TcpOptions::new().user_timeout(Duration::from_secs(2)).send_buffer_size(4096);
    SocketOptions::new().tcp(tcp)
}

#[test]
fn a_peer_whose_link_goes_down_is_lost() {
    const NAME: &str = "network_faults::a_peer_whose_link_goes_down_is_lost";
    in_a_space(NAME, &[&cable_goes_down], loses_its_peers);
}

#[test]
fn a_peer_is_lost_when_the_local_link_goes_down() {
    const NAME: &str = "network_faults::a_peer_is_lost_when_the_local_link_goes_down";
    in_a_space(NAME, &[&own_cable_goes_down], loses_its_peers);
}

#[test]
fn a_peer_is_lost_when_the_routes_to_it_are_removed() {
    const NAME: &str = "network_faults::a_peer_is_lost_when_the_routes_to_it_are_removed";
    in_a_space(NAME, &[&own_routes_lead_nowhere], loses_its_peers);
}

#[test]
fn a_peer_is_lost_when_a_filter_begins_to_reject() {
    const NAME: &str = "network_faults::a_peer_is_lost_when_a_filter_begins_to_reject";
    in_a_space(NAME, &[&filter_rejects], loses_its_peers);
}

/// Checks over each address family that keepalive ends a blocked read and an idle connection. The user timeout has to
/// end a blocked write and the blocked read of the same socket.
fn loses_its_peers(port: u16) {
    let open_at_both = |options: fn() -> SocketOptions| {
        [V4, V6].map(|address| {
            let options = options().read_timeout(ms(100));
            let socket =
                sockeye::connect_with((address, port), options).expect("the address is valid");
            socket.opened().expect("the peer listens");
            // The read timeout of the crate ends only the call.
            assert_times_out(read(&socket, 1));
            socket.set_read_timeout(None).expect("`None` removes the limit");
            socket
        })
    };
    let (read_from, idle) = (open_at_both(keepalive), open_at_both(keepalive));
    let used = open_at_both(user_timeout);
    let read_at = |socket: &Socket| {
        let reader = socket.reader();
        spawn_blocked(move || read(reader, 1))
    };
    let reads = read_from.each_ref().map(read_at);
    let reads_beside = used.each_ref().map(read_at);
    befall();
    let writes = used.each_ref().map(|socket| {
        let writer = socket.writer();
        spawn_blocked(move || write_until_error(writer, b'w', usize::MAX))
    });
    for writing in writes {
        let (_, failure): WrittenThenError = writing.join_within(GONE_AFTER);
        is_lost(&failure.expect("the peer is gone"));
    }
    for reading in reads_beside.into_iter().chain(reads) {
        is_lost(&reading.join_within(GONE_AFTER).expect_err("the peer is gone"));
    }
    for socket in &idle {
        assert_fails(socket.closed_timeout(GONE_AFTER), ErrorKind::Lost);
    }
    for socket in read_from.iter().chain(&idle).chain(&used) {
        lost_for_all(socket);
    }
}

/// If the crate's timeout is shorter it ends the call first, and the connection stays open.
#[test]
fn a_write_timeout_is_no_loss() {
    const NAME: &str = "network_faults::a_write_timeout_is_no_loss";
    in_a_space(NAME, &[&cable_goes_down, &cable_comes_up], |port| {
        let tcp = TcpOptions::new().user_timeout(Duration::from_secs(20)).send_buffer_size(4096);
        let options = SocketOptions::new().tcp(tcp).write_timeout(ms(300));
        let socket = sockeye::connect_with((V4, port), options).expect("the address is valid");
        socket.opened().expect("the peer listens");
        befall();
        let (_, failure) = write_until_error(&socket, b'w', usize::MAX);
        assert_times_out::<()>(Err(failure.expect("nothing gets through")));
        befall();
        socket.set_write_timeout(None).expect("`None` removes the limit");
        let (taken, failure) = write_until_error(&socket, b'w', 1 << 20);
        assert!(failure.is_none(), "{failure:?}");
        assert_eq!(taken, 1 << 20);
        socket.close().expect("the peer reads");
    });
}

fn cable_comes_up(space: &Space, _port: u16) {
    space.at_peer("ip link set cable up").expect("the link exists");
}

#[track_caller]
fn is_lost(failure: &io::Error) {
    assert_eq!(crate_kind(failure), ErrorKind::Lost, "{failure:?}");
    assert_eq!(failure.kind(), io::ErrorKind::ConnectionAborted);
    let error = Error::from_io(failure).expect("kind_of found it");
    assert!(!error.is_retryable());
    assert!(system_code(error).is_some(), "the system's error is the source: {error:?}");
}

/// Checks that every later call reports the loss, too.
#[track_caller]
fn lost_for_all(socket: &Socket) {
    assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Lost);
    is_lost(&read(socket, 1).expect_err("the peer is gone"));
    let (_, failure) = write_until_error(socket, b'w', 1);
    is_lost(&failure.expect("the peer is gone"));
    assert_fails(socket.writer().close(), ErrorKind::Lost);
}
