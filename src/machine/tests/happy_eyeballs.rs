//! Tests of the Happy Eyeballs race in virtual time: addresses answer, refuse or stay silent.

mod denied;
mod durations;
mod run;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use self::run::Peer::{Fails, Opens, Silent};
use self::run::{RaceRun, in_parts, run, v4, v6};
use crate::machine::{
    Actions, AttemptId, Config, Endpoints, Fault, Input, MAX_ADDRESSES, Machine, Target, TimerKind,
    UpgradeError,
};

const REFUSED: Fault = Fault::Connect(111);
const RESOURCE_ERROR: Fault = Fault::Io(24);

#[test]
fn a_fast_first_address_wins_and_no_other_is_dialled() {
    let performed = run(&[(v6(1), Opens(5)), (v4(1), Opens(5))]);
    performed.won(v6(1), 5);
    performed.dialled(&[(v6(1), 0)]);
}

#[test]
fn after_250_ms_the_second_address_is_dialled_and_the_first_continues() {
    run(&[(v6(1), Opens(249)), (v4(1), Opens(1))]).won(v6(1), 249);
    let performed = run(&[(v6(1), Opens(300)), (v4(1), Opens(5))]);
    performed.won(v4(1), 255);
    performed.dialled(&[(v6(1), 0), (v4(1), 250)]);
    assert!(performed.abandoned, "the loser is cancelled");
    run(&[(v6(1), Opens(300)), (v4(1), Opens(100))]).won(v6(1), 300);
}

#[test]
fn a_refusal_starts_the_next_attempt_at_once() {
    let performed = run(&[(v6(1), Fails(3, REFUSED)), (v4(1), Opens(4))]);
    performed.won(v4(1), 7);
    performed.dialled(&[(v6(1), 0), (v4(1), 3)]);
    assert!(!performed.abandoned, "there is nothing to cancel");
}

#[test]
fn a_refused_second_address_does_not_shorten_the_first_attempt() {
    run(&[(v6(1), Opens(900)), (v4(1), Fails(1, REFUSED))]).won(v6(1), 900);
}

#[test]
fn all_errors_are_kept_in_the_order_of_the_attempts() {
    let performed = run(&[(v6(1), Fails(400, Fault::Connect(113))), (v4(1), Fails(1, REFUSED))]);
    assert_eq!(performed.lost, Some((400, Fault::Connect(113))));
    assert_eq!(performed.attempts, [(v6(1), Fault::Connect(113)), (v4(1), REFUSED)]);
}

#[test]
fn an_empty_answer_is_an_error() {
    let performed = run(&[]);
    assert_eq!(performed.lost, Some((0, Fault::NoAddress)));
    assert_eq!(performed.attempts, []);
}

#[test]
fn families_alternate_from_the_resolvers_first_choice() {
    let silent = |address| (address, Silent);
    let performed = run(&[v6(1), v6(2), v6(3), v4(1), v4(2)].map(silent));
    performed.dialled(&[(v6(1), 0), (v4(1), 250), (v6(2), 500), (v4(2), 750), (v6(3), 1000)]);
    let performed = run(&[v4(1), v6(1), v4(2), v6(2)].map(silent));
    performed.dialled(&[(v4(1), 0), (v6(1), 250), (v4(2), 500), (v6(2), 750)]);
    assert_eq!(performed.lost, Some((30_000, Fault::TimedOut(TimerKind::Connect))));
    assert!(
        performed.attempts.iter().all(|(_, fault)| *fault == Fault::TimedOut(TimerKind::Connect))
    );
    assert_eq!(performed.attempts.len(), 4);
}

#[test]
fn duplicates_are_dialled_once_and_the_number_of_addresses_is_bounded() {
    let performed = run(&[(v4(1), Fails(1, REFUSED)); 1000]);
    assert_eq!(performed.attempts, [(v4(1), REFUSED)]);
    let many: Vec<_> = (0..10_000).map(|n| (v4(n), Fails(0, REFUSED))).collect();
    assert_eq!(run(&many).attempts.len(), MAX_ADDRESSES);
}

#[test]
fn at_most_eight_attempts_are_in_flight_and_the_next_replaces_the_oldest() {
    let silent: Vec<_> = (0..64).map(|n| (v4(n), Silent)).collect();
    let performed = run(&silent);
    let place = |n: u64| v4(u16::try_from(n).unwrap());
    let dialled: Vec<_> = (0..64).map(|n| (place(n), n * 250)).collect();
    performed.dialled(&dialled);
    let given_up: Vec<_> = (0..56).map(|n| (place(n), (n + 8) * 250)).collect();
    assert_eq!(performed.given_up, given_up);
    assert_eq!(performed.lost, Some((30_000, Fault::TimedOut(TimerKind::Connect))));
    let faults: Vec<_> = performed.attempts.iter().map(|(_, fault)| *fault).collect();
    assert!(faults[..56].iter().all(|fault| *fault == Fault::Superseded), "{faults:?}");
    assert!(faults[56..].iter().all(|fault| *fault == Fault::TimedOut(TimerKind::Connect)));
}

#[test]
fn a_cancelled_attempt_can_not_win() {
    let mut peers: Vec<_> = (0..9).map(|n| (v4(n), Silent)).collect();
    peers[0].1 = Opens(2_100);
    peers[8].1 = Opens(500);
    let performed = run(&peers);
    assert_eq!(performed.given_up, [(v4(0), 2_000)]);
    performed.won(v4(8), 2_500);
}

#[test]
fn ipv4_addresses_that_arrive_first_wait_50_ms_for_ipv6() {
    let peers = [(v4(1), Opens(30)), (v6(1), Opens(30))];
    let performed = in_parts(&peers, &[(0, &[v4(1)]), (40, &[v6(1)])]);
    performed.dialled(&[(v6(1), 40)]);
    let performed = in_parts(&peers, &[(0, &[v4(1)]), (60, &[v6(1)])]);
    performed.dialled(&[(v4(1), 50)]);
    performed.won(v4(1), 80);
    let performed = in_parts(&peers, &[(0, &[v6(1)]), (60, &[v4(1)])]);
    performed.dialled(&[(v6(1), 0)]);
    let performed = in_parts(&peers, &[(0, &[v4(1)]), (20, &[])]);
    performed.dialled(&[(v4(1), 20)]);
    // After the wait, the timer is gone.
    let start = Instant::now();
    let mut machine = Machine::new(Config::new(Target::Host), start);
    drop(machine.start(start));
    drop(machine.handle(Input::PartialResolved(&[v4(1)]), start));
    let (at, TimerKind::OtherFamilyDelay) = machine.next_timer().unwrap() else {
        panic!("no wait for IPv6")
    };
    assert!(machine.handle(Input::TimerExpired, at).attempt.is_some());
    assert!(!matches!(machine.next_timer(), Some((_, TimerKind::OtherFamilyDelay))));
}

#[test]
fn ipv4_addresses_that_arrive_after_ipv6_wait_only_for_their_turn() {
    let peers = [(v6(1), Silent), (v4(1), Opens(1))];
    let performed = in_parts(&peers, &[(0, &[v6(1)]), (10, &[v4(1)]), (600, &[])]);
    performed.dialled(&[(v6(1), 0), (v4(1), 250)]);
}

#[test]
fn answers_before_the_start_or_after_the_last_one_are_ignored() {
    let start = Instant::now();
    let mut machine = Machine::new(Config::new(Target::Host), start);
    assert!(machine.handle(Input::PartialResolved(&[v4(1)]), start).is_empty());
    assert!(machine.handle(Input::Resolved(Ok(&[v4(1)])), start).is_empty());
    assert_eq!(machine.start(start), Actions { resolve: true, ..Actions::default() });
    assert!(machine.handle(Input::Resolved(Ok(&[v4(1)])), start).attempt.is_some());
    assert!(machine.handle(Input::Resolved(Ok(&[v4(2)])), start).is_empty());
    let lost = Input::Attempted { id: AttemptId(0), result: Err(REFUSED) };
    drop(machine.handle(lost, start));
    assert_eq!(machine.opened(), Some(Err(REFUSED)), "there was no other address");
}

#[test]
fn a_late_answer_joins_the_race() {
    let peers = [(v6(1), Silent), (v4(1), Opens(1))];
    let performed = in_parts(&peers, &[(0, &[v6(1)]), (100, &[v4(1)])]);
    performed.dialled(&[(v6(1), 0), (v4(1), 250)]);
    let performed = in_parts(&peers, &[(0, &[v6(1)]), (700, &[v4(1)])]);
    performed.dialled(&[(v6(1), 0), (v4(1), 700)]);
    let refused = [(v6(1), Fails(1, REFUSED)), (v4(1), Opens(1))];
    let performed = in_parts(&refused, &[(0, &[v6(1)]), (700, &[v4(1)])]);
    performed.won(v4(1), 701);
}

#[test]
fn an_attempt_without_resources_is_retried_when_some_are_freed() {
    // The second attempt finds no descriptor. The third does, because the first was closed.
    let mut wants = 1;
    let performed = RaceRun::new(&[(v6(1), Fails(600, REFUSED)), (v4(1), Opens(5))])
        .with(|address| {
            let want = address == v4(1) && wants > 0;
            wants -= u32::from(want);
            want.then_some(Fails(0, RESOURCE_ERROR))
        })
        .run();
    performed.dialled(&[(v6(1), 0), (v4(1), 250), (v4(1), 500)]);
    performed.won(v4(1), 505);
    let performed = run(&[(v6(1), Fails(0, RESOURCE_ERROR)), (v4(1), Fails(0, RESOURCE_ERROR))]);
    assert_eq!(performed.lost, Some((0, RESOURCE_ERROR)));
    // The retry counts as the same attempt.
    let mut wants = 1;
    let performed = RaceRun::new(&[(v6(1), Fails(600, REFUSED)), (v4(1), Fails(5, REFUSED))])
        .with(|address| {
            let want = address == v4(1) && wants > 0;
            wants -= u32::from(want);
            want.then_some(Fails(0, RESOURCE_ERROR))
        })
        .run();
    assert_eq!(performed.attempts, [(v6(1), REFUSED), (v4(1), REFUSED)]);
}

#[test]
fn the_error_lists_a_lack_of_resources_and_the_failures_of_other_addresses() {
    let performed = run(&[(v6(1), Fails(0, RESOURCE_ERROR)), (v4(1), Fails(1, REFUSED))]);
    assert_eq!(performed.attempts, [(v6(1), RESOURCE_ERROR), (v4(1), REFUSED)]);
}

#[test]
fn with_a_fixed_port_attempts_run_one_after_another() {
    let mut config = Config::new(Target::Host);
    config.bind = Some("0.0.0.0:4000".parse().unwrap());
    let peers = [(v4(1), Fails(900, REFUSED)), (v6(1), Opens(1)), (v4(2), Opens(5))];
    let performed = RaceRun { config, ..RaceRun::new(&peers) }.run();
    performed.dialled(&[(v4(1), 0), (v4(2), 900)]);
    performed.won(v4(2), 905);
}

#[test]
fn a_self_connect_is_a_loop_with_a_fixed_port_and_chance_otherwise() {
    let now = Instant::now();
    let itself = v4(1);
    // A self-connect by chance is retried with another port.
    for (port, opened) in [(None, None), (Some(0), None), (Some(7), Some(Err(Fault::Loop)))] {
        let mut config = Config::new(Target::Address(itself));
        config.bind = port.map(|port| SocketAddr::new(itself.ip(), port));
        let mut machine = Machine::new(config, now);
        drop(machine.start(now));
        let ends = Endpoints::new(itself, itself);
        drop(machine.handle(Input::Attempted { id: AttemptId(0), result: Ok(ends) }, now));
        assert_eq!(machine.opened(), opened, "{port:?}");
    }
}

#[test]
fn an_upgrade_is_refused_if_reading_was_cancelled_before_the_connect() {
    let now = Instant::now();
    let mut machine = Machine::new(Config::new(Target::Host), now);
    assert_eq!(machine.upgrade_error(), None);
    drop(machine.handle(Input::CancelRead, now));
    assert_eq!(machine.upgrade_error(), Some(UpgradeError::ReadCancelled));
}

#[test]
fn the_earlier_of_the_timeout_and_the_deadline_limits_connecting() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    for (timeout, deadline, expected) in [
        (None, None, None),
        (Some(3), None, Some(3)),
        (None, Some(4), Some(4)),
        (Some(3), Some(4), Some(3)),
        (Some(5), Some(4), Some(4)),
    ] {
        let mut config = Config::new(Target::Address(v4(1)));
        config.connect_timeout = timeout.map(|count| count * second);
        config.connect_deadline = deadline.map(|count| now + count * second);
        let mut machine = Machine::new(config, now);
        drop(machine.start(now));
        let limit = machine.next_timer().map(|(at, _)| at);
        assert_eq!(limit, expected.map(|count| now + count * second), "{timeout:?} {deadline:?}");
    }
}

#[test]
fn with_a_deadline_in_the_past_nothing_starts() {
    let now = Instant::now() + Duration::from_secs(1);
    for target in [Target::Host, Target::Address(v4(1))] {
        for at in [now, now - Duration::from_millis(1)] {
            let mut config = Config::new(target);
            config.connect_deadline = Some(at);
            let mut machine = Machine::new(config, now);
            let actions = machine.start(now);
            assert!(!actions.resolve && actions.attempt.is_none(), "{actions:?}");
            assert_eq!(machine.opened(), Some(Err(Fault::TimedOut(TimerKind::Start))));
            assert!(machine.attempts().is_empty());
            assert!(machine.start(now).is_empty());
        }
    }
}

#[test]
fn before_the_start_only_the_limit_and_a_close_have_an_effect() {
    let start = Instant::now();
    let mut machine = Machine::new(Config::new(Target::Address(v4(1))), start);
    let (at, TimerKind::Slot) = machine.next_timer().unwrap() else { panic!("no wait for a slot") };
    let answer = [v4(1)];
    for input in [
        Input::TimerExpired,
        Input::PartialResolved(&answer),
        Input::Resolved(Ok(&answer)),
        Input::Resolved(Err(Fault::Resolve)),
        Input::Attempted { id: AttemptId(0), result: Err(REFUSED) },
    ] {
        assert!(machine.handle(input, start).is_empty(), "{input:?}");
    }
    let later = start + Duration::from_secs(1);
    assert!(machine.start(later).attempt.is_some());
    assert!(machine.start(later).is_empty(), "it starts once");
    assert_eq!(machine.next_timer(), Some((at, TimerKind::Connect)));

    let mut machine = Machine::new(Config::new(Target::Host), start);
    drop(machine.handle(Input::TimerExpired, at));
    assert_eq!(machine.opened(), Some(Err(Fault::TimedOut(TimerKind::Slot))));
    assert!(machine.start(at).is_empty(), "it is too late");
}

#[test]
fn the_timeout_error_names_the_step() {
    let config = Config::new(Target::Host);
    let start = Instant::now();
    let mut machine = Machine::new(config, start);
    drop(machine.start(start));
    let (at, TimerKind::Lookup) = machine.next_timer().unwrap() else { panic!("no lookup") };
    drop(machine.handle(Input::TimerExpired, at));
    assert_eq!(machine.opened(), Some(Err(Fault::TimedOut(TimerKind::Lookup))));
}

#[test]
fn a_close_at_any_time_ends_a_race_at_once() {
    for cancel_at in [0, 5, 251, 600] {
        let performed = RaceRun {
            cancel_at: Some(cancel_at),
            ..RaceRun::new(&[(v6(1), Silent), (v4(1), Silent)])
        };
        let performed = performed.run();
        assert_eq!(performed.lost, Some((cancel_at, Fault::Closed)));
        assert!(performed.abandoned);
    }
}
