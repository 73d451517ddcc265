//! Tests of the attempts at a Unix-domain listener.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::egress::EgressRules;
use crate::error::Step;
use crate::machine::{
    Actions, AttemptId, Config, Endpoints, Fault, Input, Machine, Target, TimerKind,
};

const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

struct Test {
    machine: Machine,
    begun: Instant,
}

impl Test {
    fn new(change: impl FnOnce(&mut Config)) -> Test {
        let begun = Instant::now();
        let mut config =
            Config { connect_timeout: Some(CONNECT_TIMEOUT), ..Config::new(Target::Unix) };
        change(&mut config);
        Test { machine: Machine::new(config, begun), begun }
    }

    fn started() -> Test {
        let mut test = Test::new(|_| ());
        let attempt = test.machine.start(test.begun).attempt.expect("it dials at once");
        assert_eq!((attempt.id, attempt.address), (AttemptId(0), None));
        test
    }

    fn input(&mut self, millis: u64, input: Input<'_>) -> Actions {
        self.machine.handle(input, self.begun + Duration::from_millis(millis))
    }

    fn attempted(&mut self, millis: u64, result: Result<Endpoints, Fault>) -> Actions {
        self.input(millis, Input::Attempted { id: AttemptId(0), result })
    }

    /// Returns the milliseconds until the next timer, and its kind.
    fn next_timer(&self) -> Option<(u128, TimerKind)> {
        let (at, kind) = self.machine.next_timer()?;
        Some(((at - self.begun).as_millis(), kind))
    }
}

#[test]
fn a_full_queue_is_tried_again_after_1_2_4_and_at_most_50_ms() {
    let mut test = Test::started();
    let mut now = 0;
    for delay in [1, 2, 4, 8, 16, 32, 50, 50, 50, 50] {
        assert!(test.attempted(now, Err(Fault::Busy)).is_empty());
        now += delay;
        assert_eq!(test.next_timer(), Some((u128::from(now), TimerKind::NextAttempt)));
        assert!(test.input(now - 1, Input::TimerExpired).is_empty(), "it is too early");
        let attempt = test.input(now, Input::TimerExpired).attempt.expect("it is time");
        assert_eq!((attempt.id, attempt.address), (AttemptId(0), None));
        assert_eq!(test.next_timer(), Some((300, TimerKind::Connect)), "nothing else is due");
    }
    let actions = test.attempted(now, Ok(Endpoints::new(None, None)));
    let timings = actions.attach.expect("it has connected").timings;
    assert_eq!((timings.resolve, timings.connect), (Duration::ZERO, Duration::from_millis(now)));
    assert!(actions.wake.opened);
}

#[test]
fn the_connect_timeout_ends_the_attempts() {
    let mut test = Test::started();
    assert!(test.attempted(290, Err(Fault::Busy)).is_empty());
    assert!(test.input(291, Input::TimerExpired).attempt.is_some());
    let actions = test.input(300, Input::TimerExpired);
    assert!(actions.cancel_attempts && actions.wake.opened);
    assert_eq!(test.machine.opened(), Some(Err(Fault::TimedOut(TimerKind::Connect))));
    assert_eq!(test.machine.step(), Some(Step::Connect));
    assert!(test.machine.attempts().is_empty(), "there was no address");
    assert!(test.attempted(301, Ok(Endpoints::new(None, None))).attach.is_none(), "it is late");
}

#[test]
fn any_other_failure_is_final() {
    for fault in [Fault::Connect(111), Fault::Connect(2), Fault::Io(24)] {
        let mut test = Test::started();
        assert!(test.attempted(5, Err(fault)).wake.opened);
        assert_eq!(test.machine.opened(), Some(Err(fault)));
        assert_eq!(test.machine.outcome(), Some(Err(fault)));
    }
}

#[test]
fn a_close_ends_the_wait_for_the_next_attempt() {
    let mut test = Test::started();
    assert!(test.attempted(0, Err(Fault::Busy)).is_empty());
    assert!(test.input(0, Input::Close).cancel_attempts);
    assert_eq!(test.machine.outcome(), Some(Ok(())));
    assert_eq!(test.next_timer(), None);
    assert!(test.input(1, Input::TimerExpired).is_empty());
}

#[test]
fn a_lookup_and_an_unknown_attempt_change_nothing() {
    let mut test = Test::started();
    let address = ([192, 0, 2, 1], 1).into();
    assert!(test.input(0, Input::Resolved(Ok(&[address]))).is_empty());
    assert!(test.input(0, Input::Resolved(Err(Fault::Resolve))).is_empty());
    let unknown = Input::Attempted { id: AttemptId(1), result: Err(Fault::Busy) };
    assert!(test.input(0, unknown).is_empty());
    assert_eq!(test.next_timer(), Some((300, TimerKind::Connect)));
}

/// Only the driver knows the address.
#[test]
fn a_machine_with_rules_dials_no_address_that_it_cannot_check() {
    let rules = Arc::new(EgressRules::public_only());
    let mut test = Test::new(|config| config.egress = Some(rules));
    let actions = test.machine.start(test.begun);
    assert!(actions.attempt.is_none() && actions.wake.opened);
    assert_eq!(test.machine.opened(), Some(Err(Fault::Denied)));
}
