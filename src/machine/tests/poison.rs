//! Panics in the middle of a transition.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::info::{Endpoints, Phase};
use crate::machine::{
    AttemptId, Fault, Input, Machine, Plan, ReadStep, Received, Refusal, Sent, Target, Watch,
    WriteStep,
};

fn address() -> SocketAddr {
    ([192, 0, 2, 1], 70).into()
}

/// Connects, passes data, half-closes and ends.
fn live(machine: &mut Machine, now: Instant) {
    machine.start(now).for_each(drop);
    let endpoints = Endpoints { remote: address(), local: None };
    let input = Input::Attempted { id: AttemptId(0), result: Ok(endpoints) };
    machine.handle(input, now).for_each(drop);
    if let WriteStep::Send(pass) = machine.write() {
        machine.accepted(pass, 4).for_each(drop);
    }
    machine.handle(Input::FinishWriting, now).for_each(drop);
    if let ReadStep::Receive(pass) = machine.read() {
        machine.received(pass, Received::Eof, now).for_each(drop);
    }
    machine.handle(Input::Close, now).for_each(drop);
}

#[test]
fn a_panic_in_any_transition_is_all_that_is_told_from_then_on() {
    let now = Instant::now();
    let mut found = 0;
    for transitions in 0.. {
        let mut machine = Machine::new(Plan::new(Target::Address(address())), now);
        machine.panic_after(transitions);
        if catch_unwind(AssertUnwindSafe(|| live(&mut machine, now))).is_ok() {
            assert_eq!(machine.outcome(), Some(Ok(())));
            break;
        }
        found += 1;
        is_poisoned(&mut machine, now);
    }
    assert_eq!(found, 5, "one in each transition");
}

/// Whatever is done with it.
fn is_poisoned(machine: &mut Machine, now: Instant) {
    let internal = Fault::Internal;
    let inputs = [
        Input::Close,
        Input::Abort,
        Input::CancelReading,
        Input::FinishWriting,
        Input::StartTls,
        Input::HandOver,
        Input::WireEof,
        Input::Deadline,
    ];
    for input in inputs {
        assert_eq!(machine.outcome(), Some(Err(internal)));
        assert_eq!(machine.opened(), Some(Err(internal)));
        assert_eq!(machine.refuses_read(), Some(internal));
        assert_eq!(machine.refuses_write(), Some(internal));
        assert_eq!(machine.refuses_upgrade(), Some(Refusal::Failed(internal)));
        assert!(matches!(machine.read(), ReadStep::Fail(fault) if fault == internal));
        assert!(matches!(machine.write(), WriteStep::Fail(fault) if fault == internal));
        assert_eq!(machine.phase(), Phase::Closed);
        assert_eq!((machine.watch(), machine.deadline()), (Watch::Nothing, None));
        assert!(!machine.sends() && !machine.receives() && !machine.is_secure());
        assert_eq!(machine.handle(input, now + Duration::from_secs(60)).count(), 0);
    }
}

/// Who had a pass gives it back.
#[test]
fn a_machine_whose_driver_panicked_takes_passes_back_and_does_nothing_with_them() {
    let now = Instant::now();
    let mut machine = Machine::new(Plan::new(Target::Address(address())), now);
    machine.start(now).for_each(drop);
    let endpoints = Endpoints { remote: address(), local: None };
    let input = Input::Attempted { id: AttemptId(0), result: Ok(endpoints) };
    machine.handle(input, now).for_each(drop);
    let ReadStep::Receive(receive) = machine.read() else { panic!("it is open") };
    let WriteStep::Send(send) = machine.write() else { panic!("it is open") };
    drop(machine.poison());
    assert!(!machine.still_receives(&receive) && !machine.still_sends(&send));
    assert_eq!(machine.received(receive, Received::Eof, now).count(), 0);
    assert_eq!(machine.sent(send, Sent::Failed(Fault::Reset(None))).count(), 0);
    is_poisoned(&mut machine, now);
}
