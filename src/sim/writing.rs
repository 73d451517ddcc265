//! Who sends: a writer, and whoever hands what was accepted to the wire.

use super::model::{Check, rule};
use super::net::Net;
use super::reading::salt;
use super::side::{Side, Writer};
use super::wire::{Went, fill};
use crate::machine::{SendEvent, SendPermit, Transmit, WriteStep};

impl Side {
    /// A writer comes, or who waits looks again.
    pub(super) fn write(&mut self, net: &mut Net) -> Check {
        if !matches!(self.writer, Writer::Nobody | Writer::Waits { .. }) {
            return Ok(());
        }
        let waited = matches!(self.writer, Writer::Waits { told: false });
        self.writer = match self.machine.write() {
            WriteStep::Send(permit) => {
                rule(!self.secure, "over TLS nothing is sent in plaintext")?;
                rule(self.plaintext.is_none(), "no plaintext is sent in an upgrade")?;
                self.may_write(&permit)?;
                Writer::Sends(permit)
            }
            WriteStep::Seal(permit) => {
                rule(self.secure, "in plaintext nothing is sealed")?;
                self.may_write(&permit)?;
                Writer::Seals { permit, told: true }
            }
            WriteStep::Wait => {
                if !waited {
                    self.writer = Writer::Waits { told: false };
                }
                return Ok(());
            }
            WriteStep::Fail(fault) => {
                net.trace.note(self.who, "fails to write", 0);
                rule(
                    self.machine.write_error() == Some(fault),
                    "a write fails as it was to be foreseen",
                )?;
                self.write_over = true;
                Writer::Nobody
            }
        };
        if !matches!(self.writer, Writer::Nobody) {
            net.trace.note(self.who, "may write", 0);
        }
        rule(!waited, "who waits to write is told when that is over")
    }

    /// Who writes makes a system call, also a withdrawn one where that is `late`.
    pub(super) fn send(&mut self, most: usize, late: bool, net: &mut Net) -> Check {
        match std::mem::replace(&mut self.writer, Writer::Nobody) {
            Writer::Sends(permit) => self.send_plain(permit, most, late, net),
            Writer::Seals { permit, .. } => self.seal(permit, most, net),
            writer @ (Writer::Nobody | Writer::Waits { .. }) => {
                self.writer = writer;
                Ok(())
            }
        }
    }

    pub(super) fn leave_writing(&mut self, net: &mut Net) -> Check {
        match std::mem::replace(&mut self.writer, Writer::Nobody) {
            Writer::Sends(permit) | Writer::Seals { permit, .. } => {
                self.give_up(permit, SendEvent::Cancelled, net)
            }
            Writer::Nobody | Writer::Waits { .. } => Ok(()),
        }
    }

    /// Lends a transmit buffer, or sends so much of the one that is lent and gives it back.
    pub(super) fn transmit(&mut self, most: usize, net: &mut Net) -> Check {
        match self.lent.take() {
            Some(transmit) => self.send_parcel(transmit, most, net),
            None if self.flushing && self.is_wired() => {
                let lent = self.machine.next_transmit();
                match &lent {
                    Some(transmit) => {
                        let bytes = transmit.bytes().len();
                        net.trace.note(self.who, "is lent", bytes);
                        rule(bytes > 0, "a transmit buffer is lent with something in it")?;
                        rule(bytes <= PARCEL_MOST, "what waits to be sent is bounded")?;
                    }
                    None => {
                        self.flushing = false;
                        let owed = self.machine.has_unsent() && !self.machine.is_lent();
                        rule(!owed, "what waits can be sent")?;
                    }
                }
                self.lent = lent;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn may_write(&self, permit: &SendPermit) -> Check {
        rule(self.machine.permits_send(permit), "a permit that is given stands")?;
        rule(self.is_wired(), "there is a wire to send on")?;
        rule(!self.model.is_finished(), "nothing follows FIN")
    }

    fn send_plain(&mut self, permit: SendPermit, most: usize, late: bool, net: &mut Net) -> Check {
        let stands = self.machine.permits_send(&permit);
        if !(stands || late && self.is_wired()) {
            return self.give_up(permit, SendEvent::Cancelled, net);
        }
        rule(!net.wire.is_finished(self.who) || net.cut, "FIN waits for what is being sent")?;
        let mut load = vec![0; most];
        fill(salt(self.who, false), self.accepted, &mut load);
        match net.send(self.who, &load) {
            Went::Bytes(bytes) => {
                self.accepted += bytes as u64;
                let actions = self.machine.handle_send(permit, bytes).collect();
                self.absorb(actions, net)
            }
            Went::Full if stands => {
                self.writer = Writer::Sends(permit);
                Ok(())
            }
            Went::Full => self.give_up(permit, SendEvent::Cancelled, net),
            Went::Failed(fault) => self.give_up(permit, SendEvent::Failed(fault), net),
        }
    }

    fn seal(&mut self, permit: SendPermit, most: usize, net: &mut Net) -> Check {
        if self.machine.permits_send(&permit) && !self.machine.can_seal() {
            // Who finds no room sees to it that there will be some.
            self.flushing = true;
            self.writer = Writer::Seals { permit, told: false };
            return Ok(());
        }
        let mut load = vec![0; most];
        fill(salt(self.who, true), self.accepted, &mut load);
        let mut transmit = Transmit::default();
        let (bytes, actions) = self.machine.seal(permit, &load, &mut transmit, || net.now);
        let actions = actions.collect();
        self.accepted += bytes as u64;
        net.trace.note(self.who, "seals", bytes);
        if !transmit.is_empty() {
            rule(self.lent.is_none(), "one transmit buffer is lent at a time")?;
            rule(transmit.bytes().len() <= PARCEL_MOST, "what waits to be sent is bounded")?;
            self.lent = Some(transmit);
        }
        // Whoever wrote sends on.
        self.flushing = true;
        self.absorb(actions, net)
    }

    fn send_parcel(&mut self, mut transmit: Transmit, most: usize, net: &mut Net) -> Check {
        // Somebody may wait for what is left.
        self.flushing = true;
        if !self.is_wired() {
            let actions = self.machine.transmit_done(&mut transmit).collect();
            return self.absorb(actions, net);
        }
        let bytes = transmit.bytes().len().min(most);
        rule(!self.model.is_finished() || self.machine.outcome().is_some(), "nothing follows FIN")?;
        let actions = match net.send(self.who, &transmit.bytes()[..bytes]) {
            Went::Bytes(sent) => {
                transmit.sent(sent);
                self.machine.transmit_done(&mut transmit).collect()
            }
            Went::Full => self.machine.transmit_done(&mut transmit).collect(),
            Went::Failed(fault) => {
                self.machine.transmit_failed(&mut transmit, fault, net.now).collect()
            }
        };
        rule(transmit.is_empty(), "a transmit buffer that was given back is empty")?;
        self.absorb(actions, net)
    }

    fn give_up(&mut self, permit: SendPermit, what: SendEvent, net: &mut Net) -> Check {
        let actions = self.machine.handle_send_event(permit, what).collect();
        net.trace.note(self.who, "stops writing", 0);
        self.absorb(actions, net)
    }
}

/// What may be sealed and not yet be with the system, what that takes in records, and what TLS itself has to
/// say.
const PARCEL_MOST: usize = 64 * 1024 + 16 * 1024;
