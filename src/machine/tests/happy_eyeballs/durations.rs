//! Tests of how long attempts and steps took.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::run::{millis, v4, v6};
use super::{REFUSED, RESOURCE_ERROR};
use crate::egress::EgressRules;
use crate::error::Step;
use crate::machine::{AttemptId, Config, Fault, Input, Machine, Target};

#[test]
fn every_failed_attempt_has_its_duration() {
    let begun = Instant::now();
    let mut machine = named(begun);
    let at = |millis| begun + Duration::from_millis(millis);
    drop(machine.handle(Input::Resolved(Ok(&[v6(1), v4(1)])), at(10)));
    drop(machine.handle(Input::TimerExpired, at(260)));
    let refused = Input::Attempted { id: AttemptId(0), result: Err(REFUSED) };
    drop(machine.handle(refused, at(300)));
    let limit = machine.next_timer().expect("a connect timer").0;
    drop(machine.handle(Input::TimerExpired, limit));
    let lasted: Vec<_> = machine.attempts().iter().map(|attempt| attempt.elapsed).collect();
    assert_eq!(lasted, [Duration::from_millis(290), limit - at(260)]);
}

#[test]
fn a_retried_attempt_restarts_its_duration() {
    let begun = Instant::now();
    let mut machine = named(begun);
    let at = |millis| begun + Duration::from_millis(millis);
    drop(machine.handle(Input::Resolved(Ok(&[v6(1), v4(1)])), begun));
    drop(machine.handle(Input::TimerExpired, at(250)));
    drop(
        machine.handle(Input::Attempted { id: AttemptId(1), result: Err(RESOURCE_ERROR) }, at(251)),
    );
    drop(machine.handle(Input::Attempted { id: AttemptId(0), result: Err(REFUSED) }, at(400)));
    drop(machine.handle(Input::Attempted { id: AttemptId(1), result: Err(REFUSED) }, at(407)));
    let lasted: Vec<_> = machine.attempts().iter().map(|attempt| attempt.elapsed).collect();
    assert_eq!(lasted, [Duration::from_millis(400), Duration::from_millis(7)]);
}

#[test]
fn a_failed_connect_reports_the_duration_of_each_step_and_the_last_step() {
    let begun = Instant::now();
    let at = |millis| begun + Duration::from_millis(millis);
    let times = |machine: &Machine| {
        let timings = machine.timings().expect("the connect failed");
        (machine.step(), millis(timings.resolve), millis(timings.connect))
    };
    let mut machine = Machine::new(Config::new(Target::Host), begun);
    assert_eq!((machine.step(), machine.timings()), (Some(Step::WaitForSlot), None));
    drop(machine.handle(Input::Close, at(5)));
    assert_eq!(times(&machine), (Some(Step::WaitForSlot), 0, 0));

    let mut machine = named(begun);
    drop(machine.handle(Input::Resolved(Err(Fault::Resolve)), at(30)));
    assert_eq!(times(&machine), (Some(Step::Lookup), 30, 0));

    let mut machine = named(begun);
    assert_eq!(machine.step(), Some(Step::Lookup));
    drop(machine.handle(Input::Resolved(Ok(&[v4(1)])), at(30)));
    assert_eq!(machine.step(), Some(Step::Connect));
    drop(machine.handle(Input::Attempted { id: AttemptId(0), result: Err(REFUSED) }, at(50)));
    assert_eq!(times(&machine), (Some(Step::Connect), 30, 20));

    // Refused addresses are not dialled, but the failed step is the connect, not the lookup.
    let mut config = Config::new(Target::Host);
    config.egress = Some(Arc::new(EgressRules::deny_all()));
    let mut machine = Machine::new(config, begun);
    drop(machine.start(begun));
    drop(machine.handle(Input::Resolved(Ok(&[v4(1)])), at(30)));
    assert_eq!(machine.opened(), Some(Err(Fault::Denied)));
    assert_eq!(times(&machine), (Some(Step::Connect), 30, 0));
    assert_eq!(machine.attempts()[0].elapsed, Duration::ZERO);
}

/// Creates a machine with a lookup in progress.
fn named(now: Instant) -> Machine {
    let mut machine = Machine::new(Config::new(Target::Host), now);
    drop(machine.start(now));
    machine
}
