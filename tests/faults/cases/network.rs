//! Networks that drop or reject packets, or that are down.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use sockeye::{Connector, ErrorKind, Keepalive, Socket, SocketOptions, TcpOptions};

use super::connecting::everyone;
use super::peer::lives_on;
use crate::case::{FaultCase, ProcessKind};
use crate::judge::{BlockedCalls, SLACK, told_ever_after};
use crate::remote::Remote;
use crate::space::{Space, V4, V6, here, ip};
use crate::stage::SocketPhase;
use crate::support::{assert_fails, eventually, fill_send_buffer, ms, small_send_buffer, timed};

const LIMIT: Duration = ms(1000);

/// The time without a segment from the peer after which the kernel gives the connection up.
const GONE_AFTER: Duration = Duration::from_secs(3);

/// A fault of the network. Returns the time when it began.
type Fault = fn(&Space) -> Instant;

pub fn cases() -> Vec<FaultCase> {
    let drops: Fault = |space| space.rule("meta l4proto tcp drop");
    let resets: Fault = |space| space.rule("meta l4proto tcp reject with tcp reset");
    let rejects: Fault = |space| space.rule("meta l4proto tcp reject");
    let link_down: Fault = |space| space.there("ip link set cable down");
    let own_link_down: Fault = |_| here("ip link set cable down");
    let mut cases = vec![
        case("connecting/black-hole", || never_answered(|space| space.rule("drop"))),
        case("connecting/link-down", || {
            never_answered(|space| space.there("ip link set cable down"))
        }),
        case("connecting/rejected-with-reset", || {
            refused(|space| space.rule("meta l4proto tcp reject with tcp reset"))
        }),
        case("connecting/rejected", || refused(|space| space.rule("meta l4proto tcp reject"))),
        case("connecting/own-link-down", || refused(|_| here("ip link set cable down"))),
        case("connecting/only-ipv6-dead", || other_family(V6, V4)),
        case("connecting/only-ipv4-dead", || other_family(V4, V6)),
        case("closing/black-hole", closes_into_a_black_hole),
    ];
    for stage in SocketPhase::ALL {
        let name = stage.name();
        cases.push(case(&format!("black-hole/{name}"), move || {
            if stage.is_opening() { halted(stage, drops) } else { is_lost(stage, drops) }
        }));
        cases.push(case(&format!("rejected-with-reset/{name}"), move || is_reset(stage, resets)));
        cases.push(case(&format!("link-down/{name}"), move || {
            if stage.is_opening() { halted(stage, link_down) } else { is_lost(stage, link_down) }
        }));
        if !stage.is_opening() {
            cases.push(case(&format!("own-link-down/{name}"), move || {
                is_lost(stage, own_link_down)
            }));
            cases.push(case(&format!("rejected/{name}"), move || is_lost(stage, rejects)));
            cases.push(case(&format!("link-flaps/{name}"), move || flaps(stage)));
        }
    }
    cases
}

fn case(name: &str, play: impl Fn() + Send + Sync + 'static) -> FaultCase {
    FaultCase::new(name, play).at(ProcessKind::OwnNetwork)
}

// -------------------------------------------------------------------- on the way there

fn never_answered(fault: Fault) {
    let (space, peer) = reachable();
    fault(&space);
    let begun = Instant::now();
    let options = SocketOptions::new().connect_timeout(LIMIT);
    let socket = sockeye::connect_with(peer.address(), options).expect("the options are fine");
    everyone(&socket).assert_ended(begun, LIMIT, ErrorKind::TimedOut);
    told_ever_after(&socket, ErrorKind::TimedOut);
}

/// Connects to a peer that rejects it. Linux may act on an ICMP error only at the second SYN, after 1 s.
fn refused(fault: Fault) {
    let (space, peer) = reachable();
    fault(&space);
    let begun = Instant::now();
    let socket = sockeye::connect(peer.address()).expect("the address is fine");
    everyone(&socket).told_by_the_system(begun, ms(1100), ErrorKind::Connect);
    told_ever_after(&socket, ErrorKind::Connect);
}

/// Checks that a connect falls back to the other family if the first address is dead.
fn other_family(dead: &str, alive: &str) {
    let (space, mut peer) = reachable();
    let family = if dead == V6 { "ip6" } else { "ip" };
    space.rule(&format!("{family} daddr {dead} drop"));
    let answer: Vec<IpAddr> = vec![ip(dead), ip(alive)];
    let connector = Connector::builder().resolver(move |_: &str| Ok(answer.clone()));
    let connector = connector.build().expect("the rules are fine");
    peer.accept(SocketPhase::Open);
    let (socket, took) = timed(|| {
        let socket = connector.connect(("name.test", peer.port())).expect("the address is fine");
        let info = socket.opened().expect("one address works");
        assert_eq!(info.remote_address(), Some((ip(alive), peer.port()).into()));
        socket
    });
    assert!(took < 2 * sockeye::machine::ATTEMPT_DELAY + SLACK, "it took {took:?}");
    peer.is_ready();
    lives_on(SocketPhase::Open, &socket, &mut peer);
}

// -------------------------------------------------------------------- in every stage

fn patient() -> SocketOptions {
    let second = Duration::from_secs(1);
    let probes = Keepalive { idle: second, interval: second, retries: 2 };
    let tcp = TcpOptions::new().send_buffer_size(4096).keepalive(probes).user_timeout(GONE_AFTER);
    SocketOptions::new().tcp(tcp)
}

/// Checks that the kernel gives the connection up, after keepalive probes or after the user timeout if data is in
/// flight.
fn is_lost(stage: SocketPhase, fault: Fault) {
    let (space, mut peer) = reachable();
    let socket = stage.reach(&mut peer, patient());
    let waiters = stage.waiters(&socket);
    let cause = fault(&space);
    waiters.told_by_the_system(cause, GONE_AFTER, ErrorKind::Lost);
    stage.told_ever_after(&socket, ErrorKind::Lost);
}

/// Checks that a reset of the peer's network is reported. It answers the next segment, at the latest a keepalive
/// probe.
fn is_reset(stage: SocketPhase, fault: Fault) {
    let (space, mut peer) = reachable();
    let socket = stage.reach(&mut peer, patient());
    let waiters = stage.waiters(&socket);
    let cause = fault(&space);
    waiters.told_by_the_system(cause, Duration::from_secs(1), ErrorKind::Reset);
    stage.told_ever_after(&socket, ErrorKind::Reset);
}

/// Checks that the connect timeout ends a handshake in which the peer stops.
fn halted(stage: SocketPhase, fault: Fault) {
    let (space, mut peer) = reachable();
    let begun = Instant::now();
    let socket = stage.reach(&mut peer, small_send_buffer().connect_timeout(LIMIT));
    fault(&space);
    stage.waiters(&socket).assert_ended(begun, LIMIT, ErrorKind::TimedOut);
    stage.told_ever_after(&socket, ErrorKind::TimedOut);
}

/// Checks that without keepalive or a user timeout only the limits of calls pass, and that the connection outlives the
/// fault.
fn flaps(stage: SocketPhase) {
    let (space, mut peer) = reachable();
    let socket = stage.reach(&mut peer, small_send_buffer());
    space.there("ip link set cable down");
    let begun = Instant::now();
    socket.set_deadline(begun.checked_add(LIMIT));
    let waiting = socket.clone();
    let mut waiters = BlockedCalls::default().call("closed", move || waiting.closed_timeout(LIMIT));
    if stage.reads() {
        waiters = waiters.read(&socket);
    }
    if stage.writes() {
        waiters = waiters.write(&socket);
    }
    waiters.assert_ended(begun, LIMIT, ErrorKind::TimedOut);
    socket.set_deadline(None);
    space.there("ip link set cable up");
    lives_on(stage, &socket, &mut peer);
}

/// Checks that `close` gives up in time if the socket cannot deliver its data.
fn closes_into_a_black_hole() {
    let (space, mut peer) = reachable();
    let socket: Socket =
        SocketPhase::OpenTls.reach(&mut peer, small_send_buffer().close_timeout(LIMIT));
    fill_send_buffer(&socket);
    space.rule("drop");
    let begun = Instant::now();
    let closing = socket.clone();
    let waiters = BlockedCalls::default().call("close", move || closing.close());
    waiters.assert_ended(begun, LIMIT, ErrorKind::TimedOut);
    assert_fails(socket.closed(), ErrorKind::TimedOut);
    space.no_rules();
}

/// Sets the networks up, and returns them with the peer when it is reachable.
fn reachable() -> (Space, Remote) {
    let (space, peer) = Space::with_peer();
    for address in [V4, V6] {
        eventually(crate::support::WATCHDOG, "the network is up", || answers(address));
    }
    (space, peer)
}

/// Checks that the peer's kernel refuses a connection to a port without a listener.
fn answers(address: &str) -> bool {
    let refused = std::net::TcpStream::connect_timeout(&(ip(address), 1).into(), ms(200));
    refused.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}
