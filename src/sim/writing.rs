//! The sending half of a simulated endpoint: writers and transmits.

use super::endpoint::{Endpoint, Writer};
use super::environment::Network;
use super::reading::pattern_offset;
use super::rules::{CheckResult, rule};
use super::wire::{SimSend, fill};
use crate::error::Step;
use crate::machine::{SendEvent, SendPermit, Transmit, WriteStep};

impl Endpoint {
    /// Starts a writer, or lets a waiting one ask again.
    pub(super) fn write(&mut self, net: &mut Network) -> CheckResult {
        if !matches!(self.writer, Writer::Idle | Writer::Waits { .. }) {
            return Ok(());
        }
        let waited = matches!(self.writer, Writer::Waits { woken: false });
        self.writer = match self.machine.write() {
            WriteStep::Send(permit) => {
                rule(!self.has_records, "over TLS nothing is sent in plaintext")?;
                rule(self.plaintext.is_none(), "no plaintext is sent during an upgrade")?;
                self.check_may_write(&permit)?;
                Writer::Sends(permit)
            }
            WriteStep::Seal(permit) => {
                rule(self.has_records, "in plaintext nothing is sealed")?;
                let is_upgrading = !self.secure && self.plaintext.is_some();
                rule(!is_upgrading, "no plaintext is sent during an upgrade")?;
                self.check_may_write(&permit)?;
                Writer::Seals { permit, woken: true }
            }
            WriteStep::Wait => {
                if !waited {
                    self.writer = Writer::Waits { woken: false };
                }
                return Ok(());
            }
            WriteStep::Fail(fault) => {
                net.trace.note(self.who, "fails to write", 0);
                rule(
                    self.machine.write_error() == Some(fault),
                    "a write fails with the error of write_error",
                )?;
                self.write_over = true;
                Writer::Idle
            }
        };
        if !matches!(self.writer, Writer::Idle) {
            net.trace.note(self.who, "may write", 0);
        }
        rule(!waited, "a waiting writer is woken when it can continue")
    }

    /// Makes the writer's system call; with `delayed`, even if its permit was revoked.
    pub(super) fn send(&mut self, max: usize, delayed: bool, net: &mut Network) -> CheckResult {
        match std::mem::replace(&mut self.writer, Writer::Idle) {
            Writer::Sends(permit) => self.send_plain(permit, max, delayed, net),
            Writer::Seals { permit, .. } => self.seal(permit, max, net),
            writer @ (Writer::Idle | Writer::Waits { .. }) => {
                self.writer = writer;
                Ok(())
            }
        }
    }

    pub(super) fn abandon_write(&mut self, net: &mut Network) -> CheckResult {
        match std::mem::replace(&mut self.writer, Writer::Idle) {
            Writer::Sends(permit) | Writer::Seals { permit, .. } => {
                self.return_send_permit(permit, SendEvent::Cancelled, net)
            }
            Writer::Idle | Writer::Waits { .. } => Ok(()),
        }
    }

    /// Borrows a transmit buffer, or sends up to `max` bytes of the borrowed one and returns it.
    pub(super) fn transmit(&mut self, max: usize, net: &mut Network) -> CheckResult {
        match self.lent.take() {
            Some(transmit) => self.send_transmit(transmit, max, net),
            None if self.wants_transmit && self.is_wired() => {
                let lent = self.machine.next_transmit();
                match &lent {
                    Some(transmit) => {
                        let bytes = transmit.bytes().len();
                        net.trace.note(self.who, "borrows a transmit buffer", bytes);
                        rule(bytes > 0, "a lent transmit buffer is not empty")?;
                        rule(bytes <= MAX_TRANSMIT, "queued ciphertext is bounded")?;
                    }
                    None => {
                        self.wants_transmit = false;
                        let owed = self.machine.has_unsent() && !self.machine.is_lent();
                        rule(!owed, "queued ciphertext can be sent")?;
                    }
                }
                self.lent = lent;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn check_may_write(&self, permit: &SendPermit) -> CheckResult {
        rule(self.machine.permits_send(permit), "a new permit is valid")?;
        rule(self.is_wired(), "there is a wire to send on")?;
        rule(!self.model.is_finished(), "nothing follows FIN")
    }

    fn send_plain(
        &mut self,
        permit: SendPermit,
        max: usize,
        delayed: bool,
        net: &mut Network,
    ) -> CheckResult {
        let stands = self.machine.permits_send(&permit);
        if !(stands || delayed && self.is_wired()) {
            return self.return_send_permit(permit, SendEvent::Cancelled, net);
        }
        rule(!net.wire.is_finished(self.who) || net.cut, "FIN waits for a send in progress")?;
        let mut data = vec![0; max];
        fill(pattern_offset(self.who, false), self.accepted, &mut data);
        match net.send(self.who, &data) {
            SimSend::Bytes(bytes) => {
                self.accepted += bytes as u64;
                let actions = self.machine.handle_send(permit, bytes);
                self.apply_actions(actions, net)
            }
            SimSend::WouldBlock if stands => {
                self.writer = Writer::Sends(permit);
                Ok(())
            }
            SimSend::WouldBlock => self.return_send_permit(permit, SendEvent::Cancelled, net),
            SimSend::Failed(fault) => {
                self.return_send_permit(permit, SendEvent::Failed(fault), net)
            }
        }
    }

    fn seal(&mut self, permit: SendPermit, max: usize, net: &mut Network) -> CheckResult {
        if self.machine.permits_send(&permit) && !self.machine.can_seal() {
            // A writer that finds no room transmits to make some.
            self.wants_transmit = true;
            self.writer = Writer::Seals { permit, woken: false };
            return Ok(());
        }
        let mut data = vec![0; max];
        fill(pattern_offset(self.who, self.secure), self.accepted, &mut data);
        let mut transmit = Transmit::default();
        let (bytes, actions) = self.machine.seal(permit, &data, &mut transmit, || net.now);
        self.accepted += bytes as u64;
        net.trace.note(self.who, "seals", bytes);
        if !transmit.is_empty() {
            rule(self.lent.is_none(), "at most one transmit buffer is lent")?;
            rule(transmit.bytes().len() <= MAX_TRANSMIT, "queued ciphertext is bounded")?;
            self.lent = Some(transmit);
        }
        // The writer transmits the rest.
        self.wants_transmit = true;
        self.apply_actions(actions, net)?;
        if bytes > 0 {
            return Ok(());
        }
        // The writer asks again, as if it had been woken.
        self.writer = Writer::Waits { woken: true };
        self.write(net)?;
        let spins = matches!(self.writer, Writer::Seals { .. }) && self.machine.can_seal();
        rule(!spins, "a write that accepts nothing fails or waits")
    }

    fn send_transmit(
        &mut self,
        mut transmit: Transmit,
        max: usize,
        net: &mut Network,
    ) -> CheckResult {
        // More ciphertext may be queued.
        self.wants_transmit = true;
        if !self.is_wired() {
            let actions = self.machine.transmit_done(&mut transmit);
            return self.apply_actions(actions, net);
        }
        let bytes = transmit.bytes().len().min(max);
        rule(!self.model.is_finished() || self.machine.outcome().is_some(), "nothing follows FIN")?;
        let actions = match net.send(self.who, &transmit.bytes()[..bytes]) {
            SimSend::Bytes(sent) => {
                transmit.sent(sent);
                self.machine.transmit_done(&mut transmit)
            }
            SimSend::WouldBlock => self.machine.transmit_done(&mut transmit),
            SimSend::Failed(fault) => {
                if self.machine.step() == Some(Step::Proxy) {
                    self.cut_off(net)?;
                    if !self.is_wired() {
                        // The wire was released, and the machine has forgotten the buffer.
                        return Ok(());
                    }
                }
                self.machine.transmit_failed(&mut transmit, fault, net.now)
            }
        };
        rule(transmit.is_empty(), "a returned transmit buffer is empty")?;
        self.apply_actions(actions, net)
    }

    /// Receives what a proxy has sent before the wire failed, as the driver does.
    fn cut_off(&mut self, net: &mut Network) -> CheckResult {
        self.machine.cut_off_preamble();
        while self.is_wired() && self.ingest_once(net)? {}
        Ok(())
    }

    fn return_send_permit(
        &mut self,
        permit: SendPermit,
        what: SendEvent,
        net: &mut Network,
    ) -> CheckResult {
        let actions = self.machine.handle_send_event(permit, what);
        net.trace.note(self.who, "stops writing", 0);
        self.apply_actions(actions, net)
    }
}

/// The maximum size of a transmit, in bytes: the send queue's bound, the overhead of its records, and TLS' own
/// messages.
const MAX_TRANSMIT: usize = 64 * 1024 + 16 * 1024;
