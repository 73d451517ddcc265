//! The rules that hold for one machine, whatever its inputs.

use std::time::Instant;

use super::targets::Names;
use crate::info::Phase;
use crate::machine::{Action, Fault, Machine, Release};

/// The violated rule, as an error.
pub(super) type CheckResult = Result<(), &'static str>;

pub(super) fn rule(holds: bool, rule: &'static str) -> CheckResult {
    if holds { Ok(()) } else { Err(rule) }
}

/// The observations of a machine so far.
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

/// The permits and buffers in use while actions are checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expectations {
    pub(super) tls: bool,
    /// Whether a receive permit is in use, and if so, whether it is valid.
    pub(super) receiving: Option<bool>,
    pub(super) sending: Option<bool>,
    /// Whether a transmit buffer is lent.
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

    /// Creates the model of a machine that takes over a connection.
    pub(super) fn upgrading() -> Self {
        Model { adopted: true, ..Model::new() }
    }

    /// Checks the machine's actions and its queries.
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
                "after Closed, a machine only releases the wire and wakes readers",
            )?;
            rule(
                !released || matches!(action, Action::Readable),
                "after the release of the wire, a machine only wakes readers",
            )?;
            self.check_action(*action, machine, expectations, names)?;
        }
        self.check_invariants(machine)
    }

    /// Checks that no expired timer is left.
    pub(super) fn check_timer(machine: &Machine, now: Instant) -> CheckResult {
        let due = machine.next_timer().is_some_and(|(at, _)| at <= now);
        rule(!due, "no expired timer is left")
    }

    /// Checks the rules for the end of a scenario.
    pub(super) fn check_end(&self, machine: &Machine) -> CheckResult {
        rule(self.phase == Phase::Closed, "a closed machine ends")?;
        rule(self.opened == 1, "Opened is reported once")?;
        rule(self.closed == 1, "Closed is reported once")?;
        rule(self.released == self.adopted, "an attached wire is released")?;
        rule(machine.next_timer().is_none(), "no timer is set after the end")?;
        rule(!machine.has_unsent(), "nothing is unsent after the end")
    }

    /// Checks the machine whose connection was upgraded.
    pub(super) fn check_upgraded(&self, machine: &Machine) -> CheckResult {
        rule(machine.outcome() == Some(Ok(())), "an upgraded machine has ended cleanly")?;
        rule(machine.phase() == Phase::Closed, "an upgraded machine is closed")?;
        rule(
            machine.read_error() == Some(Fault::Upgraded)
                && machine.write_error() == Some(Fault::Upgraded),
            "an upgraded machine neither reads nor writes",
        )?;
        rule(!self.released && !self.fin, "an upgraded machine leaves the wire alone")?;
        rule((self.opened, self.closed) == (1, 1), "the waiters of an upgraded machine are woken")
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

    /// Checks that waiters are woken.
    fn check_wakes(&mut self, actions: &[Action], expectations: Expectations) -> CheckResult {
        let has = |what| actions.contains(&what);
        for (woken, (permit, news)) in self.woken.iter_mut().zip([
            (expectations.receiving, Action::Readable),
            (expectations.sending, Action::Writable),
        ]) {
            *woken = permit.is_some() && (*woken || has(news));
            rule(*woken || permit != Some(false), "the holder of a revoked permit is woken")?;
        }
        let both = has(Action::Readable) && has(Action::Writable);
        rule(!has(Action::Opened) || both, "Opened wakes readers and writers")
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
                    "a started attempt is pending",
                )?;
                rule(!self.adopted, "nothing is dialled once there is a connection")
            }
            Action::Attach { .. } => {
                rule(!self.adopted, "one connection is attached")?;
                self.adopted = true;
                Ok(())
            }
            Action::ShutdownWrite => {
                rule(self.adopted && !self.fin && !self.released, "FIN is sent once")?;
                rule(
                    expectations.sending.is_none() || expectations.tls,
                    "a send in progress precedes the FIN",
                )?;
                let failed =
                    matches!(machine.outcome(), Some(Err(_))) || machine.opened() != Some(Ok(()));
                rule(
                    failed || !machine.has_unsent() && !expectations.lent,
                    "accepted data precedes the FIN",
                )?;
                self.fin = true;
                Ok(())
            }
            Action::Release(how) => {
                rule(self.adopted && !self.released, "a wire is released once")?;
                rule(self.fin || how != Release::Linger, "lingering follows FIN")?;
                self.released = true;
                Ok(())
            }
            Action::DriveRecv => {
                rule(self.adopted && !self.released, "there is a wire to receive from")?;
                rule(expectations.tls || expectations.receiving.is_none(), "one thread receives")
            }
            Action::BeginHandshake => rule(expectations.tls, "in plaintext there is no handshake"),
            Action::Transmit => rule(expectations.tls, "in plaintext there is nothing to transmit"),
            Action::Opened => {
                self.opened += 1;
                rule(self.opened == 1, "Opened is reported once")
            }
            Action::Closed => {
                self.closed += 1;
                rule(self.closed == 1, "Closed is reported once")
            }
            Action::CancelAttempt { id } => {
                rule(!self.adopted, "no attempt is cancelled alone once there is a connection")?;
                rule(!machine.is_attempt_pending(id), "a cancelled attempt is not pending")
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
            "Opened is reported when the connection is decided",
        )?;
        rule(
            (self.closed > 0) == machine.outcome().is_some(),
            "Closed is reported when the outcome is decided",
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
        rule(self.closed == 0 || machine.next_timer().is_none(), "no timer is set after the end")
    }
}
