//! The rules that hold for one machine, whatever its inputs.

use std::time::Instant;

use super::targets::Names;
use crate::info::Phase;
use crate::machine::{Actions, Attempt, Fault, Machine, Release};

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
        actions: &Actions,
        machine: &Machine,
        expectations: Expectations,
        names: &Names,
    ) -> CheckResult {
        self.check_wakes(actions, expectations)?;
        self.check_late(actions)?;
        self.check_actions(actions, machine, expectations, names)?;
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
    fn check_wakes(&mut self, actions: &Actions, expectations: Expectations) -> CheckResult {
        let wake = actions.wake;
        for (woken, (permit, wakes)) in self
            .woken
            .iter_mut()
            .zip([(expectations.receiving, wake.readable), (expectations.sending, wake.writable)])
        {
            *woken = permit.is_some() && (*woken || wakes);
            rule(*woken || permit != Some(false), "the holder of a revoked permit is woken")?;
        }
        let both = wake.readable && wake.writable;
        rule(!wake.opened || both, "Opened wakes readers and writers")
    }

    /// Checks the actions of a machine that has closed or released its wire.
    fn check_late(&self, actions: &Actions) -> CheckResult {
        let mut rest = actions.clone();
        rest.wake.readable = false;
        rule(
            !self.released || rest.is_empty(),
            "after the release of the wire, a machine only wakes readers",
        )?;
        rest.release = None;
        rule(
            self.closed == 0 || rest.is_empty(),
            "after Closed, a machine only releases the wire and wakes readers",
        )
    }

    fn check_actions(
        &mut self,
        actions: &Actions,
        machine: &Machine,
        expectations: Expectations,
        names: &Names,
    ) -> CheckResult {
        if actions.attach.is_some() {
            rule(!self.adopted, "one connection is attached")?;
            self.adopted = true;
        }
        if actions.wake.opened {
            self.opened += 1;
            rule(self.opened == 1, "Opened is reported once")?;
        }
        if actions.wake.closed {
            self.closed += 1;
            rule(self.closed == 1, "Closed is reported once")?;
        }
        if let Some(id) = actions.cancel_attempt {
            rule(!self.adopted, "no attempt is cancelled alone once there is a connection")?;
            rule(!machine.is_attempt_pending(id), "a cancelled attempt is not pending")?;
        }
        if actions.cancel_attempts {
            let starts = actions.resolve || actions.attempt.is_some();
            rule(!starts, "nothing starts when all attempts are cancelled")?;
        }
        // A proxy is dialled again for another address of the target.
        let redials = actions.attempt.is_some() && actions.release.is_some();
        if let Some(Attempt { id, address, .. }) = actions.attempt {
            let denied = address.is_some_and(|address| names.denies(address));
            rule(!denied, "no denied address is dialled")?;
            rule(machine.is_attempt_pending(id), "a started attempt is pending")?;
            rule(!self.adopted || redials, "nothing is dialled once there is a connection")?;
        }
        let tls = actions.begin_handshake || actions.transmit;
        rule(expectations.tls || !tls, "in plaintext there is nothing to transmit")?;
        if actions.shutdown_write {
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
        }
        if let Some(how) = actions.release {
            rule(self.adopted && !self.released, "a wire is released once")?;
            rule(self.fin || how != Release::Linger, "lingering follows FIN")?;
            self.released = true;
        }
        if redials {
            rule(machine.phase() == Phase::Connecting, "only a connect dials again")?;
            (self.adopted, self.released, self.fin) = (false, false, false);
        }
        if actions.drive_recv {
            rule(self.adopted && !self.released, "there is a wire to receive from")?;
            rule(expectations.tls || expectations.receiving.is_none(), "one thread receives")?;
        }
        Ok(())
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
