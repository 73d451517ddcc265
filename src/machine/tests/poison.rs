//! Tests that a panic in a transition poisons the machine.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::info::{Endpoints, Phase};
use crate::machine::{
    AttemptId, Background, Config, Fault, Input, Machine, ReadStep, RecvEvent, SendEvent, Target,
    UpgradeError, WriteStep,
};

fn address() -> SocketAddr {
    ([192, 0, 2, 1], 70).into()
}

/// Connects, moves data, half-closes and closes.
fn live(machine: &mut Machine, now: Instant) {
    drop(machine.start(now));
    let endpoints = Endpoints::new(address(), None);
    let input = Input::Attempted { id: AttemptId(0), result: Ok(endpoints) };
    drop(machine.handle(input, now));
    if let WriteStep::Send(permit) = machine.write() {
        drop(machine.handle_send(permit, 4));
    }
    drop(machine.handle(Input::CloseWrite, now));
    if let ReadStep::Recv(permit) = machine.read() {
        drop(machine.handle_recv_event(permit, RecvEvent::Eof, now));
    }
    drop(machine.handle(Input::Close, now));
}

#[test]
fn a_panic_in_any_transition_poisons_the_machine() {
    let now = Instant::now();
    let mut found = 0;
    for transitions in 0.. {
        let mut machine = Machine::new(Config::new(Target::Address(address())), now);
        machine.panic_after(transitions);
        if catch_unwind(AssertUnwindSafe(|| live(&mut machine, now))).is_ok() {
            assert_eq!(machine.outcome(), Some(Ok(())));
            break;
        }
        found += 1;
        is_poisoned(&mut machine, now);
    }
    assert_eq!(found, 5, "one panic per transition");
}

/// Checks that every query returns an internal error, after any input.
fn is_poisoned(machine: &mut Machine, now: Instant) {
    let internal = Fault::Internal;
    let inputs = [
        Input::Close,
        Input::Abort,
        Input::CancelRead,
        Input::CloseWrite,
        Input::StartTls { accepts_hello: false },
        Input::UpgradeReady,
        Input::WireEof,
        Input::TimerExpired,
    ];
    for input in inputs {
        assert_eq!(machine.outcome(), Some(Err(internal)));
        assert_eq!(machine.opened(), Some(Err(internal)));
        assert_eq!(machine.read_error(), Some(internal));
        assert_eq!(machine.write_error(), Some(internal));
        assert_eq!(machine.upgrade_error(), Some(UpgradeError::Failed(internal)));
        assert!(matches!(machine.read(), ReadStep::Fail(fault) if fault == internal));
        assert!(matches!(machine.write(), WriteStep::Fail(fault) if fault == internal));
        assert_eq!(machine.phase(), Phase::Closed);
        assert_eq!((machine.background(), machine.next_timer()), (Background::Nothing, None));
        assert!(!machine.is_write_open() && !machine.can_recv() && !machine.is_tls());
        assert!(machine.handle(input, now + Duration::from_secs(60)).is_empty());
    }
}

#[test]
fn a_machine_whose_driver_panicked_takes_permits_back_and_ignores_them() {
    let now = Instant::now();
    let mut machine = Machine::new(Config::new(Target::Address(address())), now);
    drop(machine.start(now));
    let endpoints = Endpoints::new(address(), None);
    let input = Input::Attempted { id: AttemptId(0), result: Ok(endpoints) };
    drop(machine.handle(input, now));
    let ReadStep::Recv(receive) = machine.read() else { panic!("not open") };
    let WriteStep::Send(send) = machine.write() else { panic!("not open") };
    drop(machine.poison());
    assert!(!machine.permits_recv(&receive) && !machine.permits_send(&send));
    assert!(machine.handle_recv_event(receive, RecvEvent::Eof, now).is_empty());
    assert!(machine.handle_send_event(send, SendEvent::Failed(Fault::Reset(None))).is_empty());
    is_poisoned(&mut machine, now);
}
