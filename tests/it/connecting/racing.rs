//! Races on loopback: addresses that open, refuse or stay silent, of both families.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sockeye::machine::ATTEMPT_DELAY;
use sockeye::{Connector, ErrorKind, Phase, SocketInfo, SocketOptions, TcpOptions};

use super::site::{Site, Sort, has_two_families, names};
use crate::support::subprocess::{
    TestProcess, child_part, in_subprocess, next_line, run_part, say,
};
use crate::support::{
    HasErrorKind, PROMPT, WATCHDOG, assert_fails, at_once, eventually, ms, read_to_end, skip,
    spawn_blocked, system_code, timed, tls, with_watchdog,
};
use Sort::{Fast, Refused, Slow};

/// The number of tries for a check of timing on a machine that is busy with other tests. One try within the limit
/// suffices.
const TRIES: usize = 8;

// -------------------------------------------------------------------- fast, slow and refused ones

#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// The address with this index, before a second attempt is due.
    AtOnce(usize),
    /// The address with this index, after the delay of the first attempt.
    AfterTheDelay(usize),
    Fails(ErrorKind),
}
use Outcome::{AfterTheDelay, AtOnce, Fails};

#[test]
fn a_fast_primary_wins_alone() {
    check(&[Fast], &[], AtOnce(0));
}

#[test]
fn a_fast_primary_wins_before_others_are_dialled() {
    check(&[Fast, Fast], &[Slow], AtOnce(0));
    check(&[Fast], &[Fast], AtOnce(0));
    check(&[Fast, Refused], &[Refused], AtOnce(0));
}

#[test]
fn after_the_delay_of_a_slow_primary_a_fast_fallback_wins() {
    check(&[Slow], &[Fast], AfterTheDelay(1));
    check(&[Slow, Slow], &[Fast], AfterTheDelay(2));
}

#[test]
fn after_the_delay_of_a_slow_primary_a_second_one_wins() {
    check(&[Slow, Fast], &[], AfterTheDelay(1));
}

#[test]
fn a_refused_primary_is_skipped_at_once() {
    check(&[Refused, Fast], &[], AtOnce(1));
    check(&[Refused, Refused], &[Refused, Fast], AtOnce(3));
}

#[test]
fn after_a_refused_primary_a_fallback_wins_without_delay() {
    check(&[Refused], &[Fast], AtOnce(1));
    check(&[Refused], &[Fast, Slow], AtOnce(1));
}

#[test]
fn a_refused_fallback_is_skipped_at_once() {
    check(&[Slow], &[Refused, Fast], AfterTheDelay(2));
}

#[test]
fn a_slow_fallback_after_a_refused_primary_gets_the_whole_delay() {
    check(&[Refused, Fast], &[Slow], AfterTheDelay(1));
}

#[test]
fn all_refused_fail_at_once() {
    check(&[Refused], &[], Fails(ErrorKind::Connect));
    check(&[Refused, Refused], &[Refused, Refused], Fails(ErrorKind::Connect));
}

#[test]
fn no_address_fails_at_once() {
    with_watchdog(|| {
        let site = Site::of(&[Refused]);
        races(&site, &[], Fails(ErrorKind::Resolve));
        ends_when_cancelled(&site, &[]);
    });
}

#[test]
fn a_thousand_duplicates_are_dialled_once() {
    for sort in [Fast, Slow, Refused] {
        with_watchdog(move || {
            let site = Site::of(&[sort, Fast]);
            let mut addresses = vec![site.v4(0); 1000];
            ends_when_cancelled(&site, &addresses);
            if sort != Slow {
                let outcome = if sort == Fast { AtOnce(0) } else { Fails(ErrorKind::Connect) };
                races(&site, &addresses, outcome);
            }
            addresses.push(site.v4(1));
            let outcome = match sort {
                Fast => AtOnce(0),
                Slow => AfterTheDelay(1),
                Refused => AtOnce(1),
            };
            races(&site, &addresses, outcome);
        });
    }
}

/// Checks the race with each family first, and each case once more with a cancellation.
#[track_caller]
fn check(primaries: &[Sort], fallbacks: &[Sort], outcome: Outcome) {
    if !has_two_families() {
        return skip("connecting::racing", "this machine has only one address family");
    }
    for v6_first in [false, true] {
        let sorts = [primaries, fallbacks].concat();
        let first = primaries.len();
        with_watchdog(move || {
            let site = Site::of(&sorts);
            let addresses: Vec<_> = (0..sorts.len())
                .map(
                    |place| {
                        if (place < first) == v6_first { site.v6(place) } else { site.v4(place) }
                    },
                )
                .collect();
            races(&site, &addresses, outcome);
            ends_when_cancelled(&site, &addresses);
        });
    }
}

#[track_caller]
fn races(site: &Site, addresses: &[SocketAddr], outcome: Outcome) {
    let connector = names(addresses);
    let limit = match outcome {
        AtOnce(_) | Fails(_) => ATTEMPT_DELAY,
        AfterTheDelay(_) => 2 * ATTEMPT_DELAY,
    };
    in_time(limit, || {
        let begun = Instant::now();
        let socket = connector.connect(("name.test", site.port())).expect("the address is valid");
        let opened = socket.opened();
        let took = begun.elapsed();
        match outcome {
            AtOnce(place) | AfterTheDelay(place) => {
                let info = opened.expect("one address answers");
                let (winner, v6) = (site.v4(place), site.v6(place));
                let remote = info.remote_address().expect("it is connected");
                assert!(remote == winner || remote == v6, "{remote} won instead of {winner}");
                assert!(addresses.contains(&remote), "{remote} is not in the answer");
                socket.abort();
                only_came_to(site, place);
                if let AfterTheDelay(_) = outcome {
                    assert!(took >= ATTEMPT_DELAY, "took {took:?}");
                }
            }
            Fails(kind) => assert_eq!(opened.failure(), Some(kind)),
        }
        took
    });
    site.await_quiet();
}

/// Checks that one connection has reached this address, and none any other.
#[track_caller]
fn only_came_to(site: &Site, winner: usize) {
    drop(site.accept(winner));
    for place in site.fast() {
        assert_eq!(site.came(place), 0, "address {place}, although {winner} won");
    }
}

#[track_caller]
fn ends_when_cancelled(site: &Site, addresses: &[SocketAddr]) {
    let connector = names(addresses);
    in_time(ms(100), || {
        let socket = connector.connect(("name.test", site.port())).expect("the address is valid");
        // The delay is a part of the test.
        thread::sleep(ms(5));
        let (closed, took) = timed(|| socket.close());
        closed.expect("the close succeeds");
        assert_eq!(socket.phase(), Phase::Closed);
        match at_once(|| socket.opened()).failure() {
            // The socket may have opened or failed before.
            None | Some(ErrorKind::Connect | ErrorKind::Resolve) => {}
            Some(kind) => assert_eq!(kind, ErrorKind::Closed),
        }
        took
    });
    site.await_quiet();
    for place in site.fast() {
        site.came(place);
    }
}

/// Checks that the duration that `work` returns is below the limit at least once.
#[track_caller]
fn in_time(limit: Duration, mut work: impl FnMut() -> Duration) {
    let mut took = Vec::new();
    for _ in 0..TRIES {
        took.push(work());
        if took.last().is_some_and(|took| *took < limit) {
            return;
        }
    }
    panic!("never within {limit:?}: {took:?}");
}

// -------------------------------------------------------------------- the order

#[test]
fn families_alternate_from_the_resolvers_first_choice_on() {
    with_watchdog(|| {
        let site = Site::of(&[Refused; 4]);
        let [v6_a, v6_b, v4_a, v4_b] = [site.v6(0), site.v6(1), site.v4(2), site.v4(3)];
        dialled(&site, &[v6_a, v6_b, v4_a, v4_b], &[v6_a, v4_a, v6_b, v4_b]);
        dialled(&site, &[v4_a, v4_b, v6_a, v6_b], &[v4_a, v6_a, v4_b, v6_b]);
        dialled(&site, &[v6_a, v4_a, v4_b, v6_b], &[v6_a, v4_a, v6_b, v4_b]);
        dialled(&site, &[v4_a, v4_b, v6_a], &[v4_a, v6_a, v4_b]);
        dialled(&site, &[v4_b, v4_a], &[v4_b, v4_a]);
    });
}

#[track_caller]
fn dialled(site: &Site, answer: &[SocketAddr], order: &[SocketAddr]) {
    let socket = names(answer).connect(("name.test", site.port())).expect("the address is valid");
    let error = socket.opened().expect_err("all refuse");
    assert_eq!(error.kind(), ErrorKind::Connect);
    let attempts: Vec<_> = error.attempts().iter().map(|attempt| attempt.address()).collect();
    assert_eq!(attempts, order);
    for attempt in error.attempts() {
        assert_eq!(attempt.error().kind(), ErrorKind::Connect);
        assert!(system_code(attempt.error()).is_some(), "{:?}", attempt.error());
    }
    let refused = error.attempts().iter().find(|attempt| attempt.address().is_ipv4());
    let refused = refused.expect("every answer has a refused address").error();
    assert_eq!(system_code(refused), Some(libc::ECONNREFUSED), "{refused:?}");
    assert_eq!(io::Error::from(error.clone()).kind(), io::ErrorKind::ConnectionRefused);
    // The message lists only the first few.
    for address in order.iter().take(3) {
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}

/// Both addresses would answer at once, so a wrong order would be visible.
#[test]
fn the_resolvers_first_choice_wins_every_time() {
    with_watchdog(|| {
        let site = Site::of(&[Fast; 4]);
        for first in 0..4 {
            let addresses: Vec<_> = (0..4).map(|place| site.v4((first + place) % 4)).collect();
            let connector = names(&addresses);
            for _ in 0..50 {
                let socket =
                    connector.connect(("name.test", site.port())).expect("the address is valid");
                let info = socket.opened().expect("every address listens");
                assert_eq!(info.remote_address(), Some(addresses[0]));
                assert_eq!(info.requested().hostname(), "name.test");
                socket.abort();
                only_came_to(&site, first);
            }
        }
    });
}

// -------------------------------------------------------------------- time

#[test]
fn an_older_attempt_continues_next_to_newer_ones() {
    for others in [&[Refused][..], &[Slow], &[Refused, Slow]] {
        with_watchdog(move || {
            let site = Site::of(&[&[Slow], others].concat());
            let addresses: Vec<_> = (0..=others.len()).map(|place| site.v4(place)).collect();
            let connector = names(&addresses);
            let socket =
                connector.connect(("name.test", site.port())).expect("the address is valid");
            site.await_attempt(0);
            if let Some(slow) = others.iter().position(|sort| *sort == Slow) {
                site.await_attempt(1 + slow);
            }
            site.wake(0);
            let info = socket.opened().expect("the first address answers at last");
            assert_eq!(info.remote_address(), Some(site.v4(0)));
            site.await_quiet();
        });
    }
}

#[test]
fn pending_attempts_end_as_timed_out_at_the_limit() {
    const LIMIT: Duration = ms(900);
    with_watchdog(|| {
        let site = Site::of(&[Slow, Refused, Slow]);
        let addresses = [site.v4(0), site.v6(1), site.v4(2)];
        let options = SocketOptions::new().connect_timeout(LIMIT);
        let connector = names(&addresses);
        let (error, took) = timed(|| {
            let socket = connector
                .connect_with(("name.test", site.port()), options)
                .expect("the address is valid");
            socket.opened().expect_err("the peer does not answer")
        });
        assert!(took >= LIMIT && took < LIMIT + PROMPT, "took {took:?}");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("before an address answered"), "{error}");
        assert!(!error.is_retryable());
        let attempts: Vec<_> = error
            .attempts()
            .iter()
            .map(|attempt| (attempt.address(), attempt.error().kind()))
            .collect();
        let expected = [
            (addresses[0], ErrorKind::TimedOut),
            (addresses[1], ErrorKind::Connect),
            (addresses[2], ErrorKind::TimedOut),
        ];
        assert_eq!(attempts, expected);
        site.await_quiet();
    });
}

/// A limit that restarted after the lookup would end later.
#[test]
fn one_limit_covers_the_lookup_and_the_attempts() {
    const LOOK_UP: Duration = ms(2000);
    const LIMIT: Duration = ms(2500);
    with_watchdog(|| {
        let site = Site::of(&[Slow]);
        let answer = site.v4(0).ip();
        let connector = Connector::builder()
            .resolver(move |_: &str| {
                thread::sleep(LOOK_UP);
                Ok(vec![answer])
            })
            .build()
            .expect("the rules are valid");
        let options = SocketOptions::new().connect_timeout(LIMIT);
        let (error, took) = timed(|| {
            let socket = connector
                .connect_with(("name.test", site.port()), options)
                .expect("the address is valid");
            socket.opened().expect_err("the peer does not answer")
        });
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.attempts().len(), 1, "{error:?}");
        assert!(error.to_string().contains("before an address answered"), "{error}");
        assert!(took >= LIMIT && took < LOOK_UP + LIMIT, "took {took:?}");
    });
}

#[test]
fn timings_separate_the_lookup_from_the_connection() {
    const LOOK_UP: Duration = ms(400);
    with_watchdog(|| {
        let site = Site::of(&[Slow, Fast]);
        let answer = vec![site.v4(0).ip(), site.v4(1).ip()];
        let connector = Connector::builder()
            .resolver(move |name: &str| {
                if name == "late.test" {
                    thread::sleep(LOOK_UP);
                    return Ok(answer[1..].to_vec());
                }
                Ok(answer.clone())
            })
            .build()
            .expect("the rules are valid");
        let opened = |name: &str| -> SocketInfo {
            let socket = connector.connect((name, site.port())).expect("the address is valid");
            socket.opened().expect("the second address listens")
        };
        // The lookup is slow, and the connection is not.
        in_time(LOOK_UP, || {
            let timings = opened("late.test").timings();
            assert!(timings.resolve >= LOOK_UP, "{timings:?}");
            timings.connect
        });
        // The reverse case.
        in_time(ATTEMPT_DELAY, || {
            let timings = opened("slow.test").timings();
            assert!(timings.connect >= ATTEMPT_DELAY, "{timings:?}");
            timings.resolve
        });
        let socket = connector.connect(site.v4(1)).expect("the address is valid");
        let timings = socket.opened().expect("it listens").timings();
        assert_eq!(timings.resolve, Duration::ZERO, "no name was resolved");
    });
}

/// A race is over when one attempt has connected (RFC 8305, section 5). The TLS handshake may take longer, and the
/// connect timeout still limits it.
#[test]
fn losers_are_cancelled_before_the_handshake_of_the_winner_ends() {
    const NAME: &str =
        "connecting::racing::losers_are_cancelled_before_the_handshake_of_the_winner_ends";
    const LIMIT: Duration = ms(6000);
    // The test counts its own process's descriptors.
    in_subprocess(NAME, WATCHDOG, || {
        tls::provider();
        let site = Site::of(&[Slow, Fast, Slow]);
        let connector = names(&[site.v4(0), site.v4(2), site.v4(1)]);
        let options = tls::options(tls::authority()).connect_timeout(LIMIT);
        let before = sockets();
        let begun = Instant::now();
        // Another thread waits for one of the two sockets.
        let [waited_for, other] = [(); 2].map(|()| {
            connector
                .connect_with(("name.test", site.port()), options.clone())
                .expect("the address is valid")
        });
        let opening = waited_for.clone();
        let opener = spawn_blocked(move || opening.opened().map(drop));
        // These attempts have won, and their servers send nothing.
        let winners = [site.accept(1), site.accept(1)];
        eventually(LIMIT / 2, "the other attempts are cancelled", || {
            site.attempts(0) + site.attempts(2) == 0 && sockets() == before + 4
        });
        assert_eq!([waited_for.phase(), other.phase()], [Phase::Connecting; 2]);
        assert!(begun.elapsed() < LIMIT, "took {:?}", begun.elapsed());
        assert_fails(other.opened(), ErrorKind::TimedOut);
        assert_fails(opener.join_within(PROMPT), ErrorKind::TimedOut);
        assert!(begun.elapsed() >= LIMIT, "took {:?}", begun.elapsed());
        drop((winners, waited_for, other));
        eventually(WATCHDOG, "the connections are closed", || sockets() == before);
    });
}

/// Returns the number of TCP sockets over IPv4 that this process has open and that are no mere descriptors: connecting,
/// connected or listening. A wake handle may be a pair of sockets, which do not count.
fn sockets() -> usize {
    let list = fs::read_to_string("/proc/self/net/tcp").expect("Linux has the file");
    let inodes: Vec<_> =
        list.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9)).collect();
    let links = fs::read_dir("/proc/self/fd").expect("Linux has the file").filter_map(|entry| {
        // The descriptor of the directory itself is closed by now.
        fs::read_link(entry.expect("it stays readable").path()).ok()
    });
    links
        .filter(|link| {
            let link = link.to_string_lossy();
            let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            inode.is_some_and(|inode| inodes.contains(&inode))
        })
        .count()
}

// -------------------------------------------------------------------- cancelled races

#[test]
fn a_close_during_a_race_ends_every_attempt() {
    with_watchdog(|| {
        let site = Site::of(&[Slow; 3]);
        let addresses = [site.v4(0), site.v6(1), site.v4(2)];
        let connector = names(&addresses);
        let socket = connector.connect(("name.test", site.port())).expect("the address is valid");
        let waiter = socket.clone();
        let waiting = spawn_blocked(move || waiter.opened());
        (0..3).for_each(|place| site.await_attempt(place));
        at_once(|| socket.close()).expect("nothing prevents it");
        assert_fails(waiting.join_within(PROMPT), ErrorKind::Closed);
        socket.closed().expect("it was closed");
        site.await_quiet();
    });
}

#[test]
fn dropping_the_last_handle_during_a_race_ends_every_attempt() {
    with_watchdog(|| {
        let site = Site::of(&[Slow; 2]);
        let connector = names(&[site.v4(0), site.v6(1)]);
        let socket = connector.connect(("name.test", site.port())).expect("the address is valid");
        (0..2).for_each(|place| site.await_attempt(place));
        drop(socket);
        site.await_quiet();
    });
}

/// A slow address that wakes after the race would still accept a connection if an attempt were left.
#[test]
fn the_attempts_of_losers_end_with_the_race() {
    with_watchdog(|| {
        let site = Site::of(&[Slow, Slow, Fast]);
        let connector = names(&[site.v4(0), site.v4(1), site.v4(2)]);
        let socket = connector.connect(("name.test", site.port())).expect("the address is valid");
        let info = socket.opened().expect("the third address answers");
        assert_eq!(info.remote_address(), Some(site.v4(2)));
        site.await_quiet();
        (0..2).for_each(|place| site.wake(place));
        (&socket).write_all(b"words").expect("the send buffer has room");
        socket.close().expect("the close succeeds");
        assert_eq!(read_to_end(site.accept(2)).expect("a clean end"), b"words");
        (0..3).for_each(|place| assert_eq!(site.came(place), 0, "place {place}"));
    });
}

/// Both attempts succeed while the process is stopped, so it finds two connections when it resumes.
#[test]
fn a_loser_that_connected_receives_no_byte() {
    const NAME: &str = "connecting::racing::a_loser_that_connected_receives_no_byte";
    if child_part().is_some() {
        return run_part(write_to_the_winner);
    }
    with_watchdog(|| {
        let site = Site::of(&[Slow, Slow]);
        let mut program = TestProcess::new(NAME, "program");
        program.send_line(&format!("{} {}", site.v4(0), site.v4(1)));
        let id = program.expect_line("dialling").parse().expect("a process id");
        (0..2).for_each(|place| site.await_attempt(place));
        let asleep = Asleep::now(Pid::from_raw(id).expect("not zero"));
        (0..2).for_each(|place| site.wake(place));
        let streams = [site.accept(0), site.accept(1)];
        drop(asleep);
        let winner = program.expect_line("opened");
        for (place, stream) in streams.into_iter().enumerate() {
            let got = read_to_end(stream);
            if site.v4(place).to_string() == winner {
                assert_eq!(got.expect("a clean end"), b"words for the winner");
            } else {
                assert_eq!(got.expect("it is closed without a reset"), b"");
            }
        }
        program.expect_success(WATCHDOG);
    });
}

/// A process that is stopped while this value exists.
struct Asleep(Pid);

impl Asleep {
    fn now(id: Pid) -> Asleep {
        kill_process(id, Signal::STOP).expect("it runs");
        Asleep(id)
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).expect("the process is stopped");
    }
}

fn write_to_the_winner() {
    let line = next_line().expect("the addresses come first");
    let addresses: Vec<SocketAddr> =
        line.split(' ').map(|one| one.parse().expect("it is an address")).collect();
    let socket = names(&addresses)
        .connect(("name.test", addresses[0].port()))
        .expect("the address is valid");
    let writer = socket.clone();
    // The write waits for the connection.
    let writing = spawn_blocked(move || (&writer).write_all(b"words for the winner"));
    say(&format!("dialling {}", std::process::id()));
    let info = socket.opened().expect("both answer");
    writing.join().expect("the send buffer has room");
    socket.close().expect("the close succeeds");
    say(&format!("opened {}", info.remote_address().expect("it is connected")));
}

// -------------------------------------------------------------------- bound sockets

#[test]
fn a_name_for_the_bound_address_is_a_loop() {
    with_watchdog(|| {
        let site = Site::of(&[Refused]);
        let itself = site.v4(0);
        drop(site);
        let options = SocketOptions::new().tcp(TcpOptions::new().bind(itself));
        let socket = names(&[itself])
            .connect_with(("name.test", itself.port()), options)
            .expect("the address is valid");
        let error = socket.opened().expect_err("the socket would connect to itself");
        assert_eq!(error.kind(), ErrorKind::Loop, "{error:?}");
        assert!(error.to_string().contains("TCP Loop detected"), "{error}");
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Loop);
    });
}

#[test]
fn a_bound_socket_dials_its_family_only_and_sequentially_with_a_port() {
    with_watchdog(|| {
        let site = Site::of(&[Refused, Slow, Fast]);
        let local = Site::of(&[Refused]);
        let (ip, port) = (local.v4(0).ip(), local.v4(0).port());
        drop(local);
        let addresses = [site.v6(0), site.v4(1), site.v6(0), site.v4(2)];
        let connect = |port, limit| {
            let tcp = TcpOptions::new().bind((ip, port).into());
            let options = SocketOptions::new().tcp(tcp).connect_timeout(limit);
            let socket = names(&addresses)
                .connect_with(("name.test", site.port()), options)
                .expect("the address is valid");
            socket.opened()
        };
        let info = connect(0, WATCHDOG).expect("the fourth address answers");
        assert_eq!(info.remote_address(), Some(site.v4(2)));
        assert_eq!(info.local_address().map(|local| local.ip()), Some(ip));
        let error = connect(port, 3 * ATTEMPT_DELAY)
            .expect_err("the second attempt lasts until the timeout");
        let attempts: Vec<_> = error.attempts().iter().map(|attempt| attempt.address()).collect();
        assert_eq!(attempts, [site.v4(1)]);
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    });
}
