//! The rules that hold for one machine, whatever happens to it.

use std::time::Instant;

use super::names::Names;
use crate::info::Phase;
use crate::machine::{Action, Fault, Machine, Release};

/// A rule that was broken, or nothing.
pub(super) type CheckResult = Result<(), &'static str>;

pub(super) fn rule(holds: bool, rule: &'static str) -> CheckResult {
    if holds { Ok(()) } else { Err(rule) }
}

/// What was seen of a machine.
#[derive(Debug)]
pub(super) struct Model {
    phase: Phase,
    opened: u32,
    closed: u32,
    adopted: bool,
    released: bool,
    fin: bool,
    outcome: Option<Result<(), Fault>>,
    opening: Option<Result<(), Fault>>,
    woken: [bool; 2],
}

/// Who holds what while actions are looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expectations {
    pub(super) tls: bool,
    /// Whether a permit is out, and still stands.
    pub(super) receiving: Option<bool>,
    pub(super) sending: Option<bool>,
    /// Whether a transmit buffer is.
    pub(super) lent: bool,
}

impl Model {
    pub(super) fn new() -> Self {
        Model {
            phase: Phase::Connecting,
            opened: 0,
            closed: 0,
            adopted: false,
            released: false,
            fin: false,
            outcome: None,
            opening: None,
            woken: [false; 2],
        }
    }

    /// Of a machine that takes a connection over.
    pub(super) fn upgrading() -> Self {
        Model { adopted: true, ..Model::new() }
    }

    /// Checks what the machine wants done, and what it says of itself.
    pub(super) fn check(
        &mut self,
        actions: &[Action],
        machine: &Machine,
        expectations: Expectations,
        names: &Names,
    ) -> CheckResult {
        self.check_wakes(actions, expectations)?;
        let (closed, released) = (self.closed > 0, self.released);
        for action in actions {
            rule(
                !closed || matches!(action, Action::Release(_) | Action::Readable),
                "nothing follows the end but the release of the wire, and the news of it to readers",
            )?;
            rule(
                !released || matches!(action, Action::Readable),
                "nothing follows the release of the wire but news to readers",
            )?;
            self.check_action(*action, machine, expectations, names)?;
        }
        self.check_invariants(machine)
    }

    /// Checks that no deadline is left that has been kept.
    pub(super) fn check_timer(machine: &Machine, now: Instant) -> CheckResult {
        let due = machine.next_timer().is_some_and(|(at, _)| at <= now);
        rule(!due, "a deadline that was kept is not due any more")
    }

    /// Checks what has to be when a life is over.
    pub(super) fn check_end(&self, machine: &Machine) -> CheckResult {
        rule(self.phase == Phase::Closed, "a machine that is closed ends")?;
        rule(self.opened == 1, "who waits for the connection is told once")?;
        rule(self.closed == 1, "who waits for the end is told once")?;
        rule(self.released == self.adopted, "a wire is let go of")?;
        rule(machine.next_timer().is_none(), "nothing is due after the end")?;
        rule(!machine.has_unsent(), "nothing waits to be sent after the end")
    }

    /// Checks the machine that another took the connection from.
    pub(super) fn check_upgraded(&self, machine: &Machine) -> CheckResult {
        rule(machine.outcome() == Some(Ok(())), "an upgraded machine has ended well")?;
        rule(machine.phase() == Phase::Closed, "an upgraded machine is closed")?;
        rule(
            machine.read_error() == Some(Fault::Upgraded)
                && machine.write_error() == Some(Fault::Upgraded),
            "an upgraded machine neither reads nor writes",
        )?;
        rule(!self.released && !self.fin, "an upgraded machine leaves the wire alone")?;
        rule((self.opened, self.closed) == (1, 1), "who waits for an upgraded machine is told")
    }

    pub(super) fn is_adopted(&self) -> bool {
        self.adopted
    }

    pub(super) fn is_released(&self) -> bool {
        self.released
    }

    pub(super) fn is_finished(&self) -> bool {
        self.fin
    }

    /// Who waits hears of what it waits for.
    fn check_wakes(&mut self, actions: &[Action], expectations: Expectations) -> CheckResult {
        let has = |what| actions.contains(&what);
        for (woken, (permit, news)) in self.woken.iter_mut().zip([
            (expectations.receiving, Action::Readable),
            (expectations.sending, Action::Writable),
        ]) {
            *woken = permit.is_some() && (*woken || has(news));
            rule(*woken || permit != Some(false), "who holds a permit that is withdrawn is told")?;
        }
        let both = has(Action::Readable) && has(Action::Writable);
        rule(!has(Action::Opened) || both, "readers and writers are told of the connection")
    }

    fn check_action(
        &mut self,
        action: Action,
        machine: &Machine,
        expectations: Expectations,
        names: &Names,
    ) -> CheckResult {
        match action {
            Action::Attempt { id, address } => {
                rule(!names.denies(address), "no denied address is dialled")?;
                rule(
                    machine.is_attempt_pending(id) || self.adopted,
                    "an attempt that begins is waited for",
                )?;
                rule(!self.adopted, "nothing is dialled when there is a connection")
            }
            Action::Attach { .. } => {
                rule(!self.adopted, "one connection is adopted")?;
                self.adopted = true;
                Ok(())
            }
            Action::ShutdownWrite => {
                rule(self.adopted && !self.fin && !self.released, "FIN is sent once")?;
                rule(
                    expectations.sending.is_none() || expectations.tls,
                    "what is being sent precedes the FIN",
                )?;
                let failed =
                    matches!(machine.outcome(), Some(Err(_))) || machine.opened() != Some(Ok(()));
                rule(
                    failed || !machine.has_unsent() && !expectations.lent,
                    "what was accepted precedes the FIN",
                )?;
                self.fin = true;
                Ok(())
            }
            Action::Release(how) => {
                rule(self.adopted && !self.released, "a wire is let go of once")?;
                rule(self.fin || how != Release::Linger, "who lingers has sent FIN")?;
                self.released = true;
                Ok(())
            }
            Action::DriveRecv => {
                rule(self.adopted && !self.released, "there is a wire to attend")?;
                rule(expectations.tls || expectations.receiving.is_none(), "one party receives")
            }
            Action::BeginHandshake => rule(expectations.tls, "in plaintext there is no handshake"),
            Action::Transmit => rule(expectations.tls, "in plaintext nothing waits to be sent"),
            Action::Opened => {
                self.opened += 1;
                rule(self.opened == 1, "who waits for the connection is told once")
            }
            Action::Closed => {
                self.closed += 1;
                rule(self.closed == 1, "who waits for the end is told once")
            }
            Action::CancelAttempt { id } => {
                rule(!self.adopted, "nothing is given up when there is a connection")?;
                rule(
                    !machine.is_attempt_pending(id),
                    "an attempt that is given up is not waited for",
                )
            }
            Action::Resolve | Action::CancelAttempts | Action::Readable | Action::Writable => {
                Ok(())
            }
        }
    }

    fn check_invariants(&mut self, machine: &Machine) -> CheckResult {
        let phase = machine.phase();
        rule(phase >= self.phase, "phases only advance")?;
        self.phase = phase;
        rule(
            (self.opened > 0) == machine.opened().is_some(),
            "who waits for the connection is told when that is decided",
        )?;
        rule(
            (self.closed > 0) == machine.outcome().is_some(),
            "who waits for the end is told when that is decided",
        )?;
        rule((self.closed > 0) == (phase == Phase::Closed), "a closed machine has an outcome")?;
        rule(
            self.outcome.is_none() || machine.outcome() == self.outcome,
            "the first outcome stays",
        )?;
        rule(
            self.opening.is_none() || machine.opened() == self.opening,
            "whether the connection was established does not change",
        )?;
        self.outcome = machine.outcome();
        self.opening = machine.opened();
        rule(self.closed == 0 || machine.next_timer().is_none(), "nothing is due after the end")
    }
}
