//! Who sends: a writer, and whoever hands what was accepted to the wire.

use super::model::{Check, rule};
use super::net::Net;
use super::reading::salt;
use super::side::{Side, Writer};
use super::wire::{Went, fill};
use crate::machine::{Parcel, SendPass, Sent, WriteStep};

impl Side {
    /// A writer comes, or who waits looks again.
    pub(super) fn write(&mut self, net: &mut Net) -> Check {
        if !matches!(self.writer, Writer::Nobody | Writer::Waits { .. }) {
            return Ok(());
        }
        let waited = matches!(self.writer, Writer::Waits { told: false });
        self.writer = match self.machine.write() {
            WriteStep::Send(pass) => {
                rule(!self.secure, "over TLS nothing is sent in plaintext")?;
                rule(self.plaintext.is_none(), "no plaintext is sent in an upgrade")?;
                self.may_write(&pass)?;
                Writer::Sends(pass)
            }
            WriteStep::Seal(pass) => {
                rule(self.secure, "in plaintext nothing is sealed")?;
                self.may_write(&pass)?;
                Writer::Seals { pass, told: true }
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
                    self.machine.refuses_write() == Some(fault),
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
            Writer::Sends(pass) => self.send_plain(pass, most, late, net),
            Writer::Seals { pass, .. } => self.seal(pass, most, net),
            writer @ (Writer::Nobody | Writer::Waits { .. }) => {
                self.writer = writer;
                Ok(())
            }
        }
    }

    pub(super) fn leave_writing(&mut self, net: &mut Net) -> Check {
        match std::mem::replace(&mut self.writer, Writer::Nobody) {
            Writer::Sends(pass) | Writer::Seals { pass, .. } => {
                self.give_up(pass, Sent::Nothing, net)
            }
            Writer::Nobody | Writer::Waits { .. } => Ok(()),
        }
    }

    /// Lends a parcel, or sends so much of the one that is lent and gives it back.
    pub(super) fn transmit(&mut self, most: usize, net: &mut Net) -> Check {
        match self.lent.take() {
            Some(parcel) => self.send_parcel(parcel, most, net),
            None if self.flushing && self.is_wired() => {
                let lent = self.machine.transmit();
                match &lent {
                    Some(parcel) => {
                        let bytes = parcel.bytes().len();
                        net.trace.note(self.who, "is lent", bytes);
                        rule(bytes > 0, "a parcel is lent with something in it")?;
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

    fn may_write(&self, pass: &SendPass) -> Check {
        rule(self.machine.still_sends(pass), "a pass that is given stands")?;
        rule(self.is_wired(), "there is a wire to send on")?;
        rule(!self.model.is_finished(), "nothing follows FIN")
    }

    fn send_plain(&mut self, pass: SendPass, most: usize, late: bool, net: &mut Net) -> Check {
        let stands = self.machine.still_sends(&pass);
        if !(stands || late && self.is_wired()) {
            return self.give_up(pass, Sent::Nothing, net);
        }
        rule(!net.wire.is_finished(self.who) || net.cut, "FIN waits for what is being sent")?;
        let mut load = vec![0; most];
        fill(salt(self.who, false), self.accepted, &mut load);
        match net.send(self.who, &load) {
            Went::Bytes(bytes) => {
                self.accepted += bytes as u64;
                let outputs = self.machine.accepted(pass, bytes).collect();
                self.absorb(outputs, net)
            }
            Went::Full if stands => {
                self.writer = Writer::Sends(pass);
                Ok(())
            }
            Went::Full => self.give_up(pass, Sent::Nothing, net),
            Went::Failed(fault) => self.give_up(pass, Sent::Failed(fault), net),
        }
    }

    fn seal(&mut self, pass: SendPass, most: usize, net: &mut Net) -> Check {
        if self.machine.still_sends(&pass) && !self.machine.has_room() {
            // Who finds no room sees to it that there will be some.
            self.flushing = true;
            self.writer = Writer::Seals { pass, told: false };
            return Ok(());
        }
        let mut load = vec![0; most];
        fill(salt(self.who, true), self.accepted, &mut load);
        let mut parcel = Parcel::default();
        let (bytes, outputs) = self.machine.seal(pass, &load, &mut parcel, || net.now);
        let outputs = outputs.collect();
        self.accepted += bytes as u64;
        net.trace.note(self.who, "seals", bytes);
        if !parcel.is_empty() {
            rule(self.lent.is_none(), "one parcel is lent at a time")?;
            rule(parcel.bytes().len() <= PARCEL_MOST, "what waits to be sent is bounded")?;
            self.lent = Some(parcel);
        }
        // Whoever wrote sends on.
        self.flushing = true;
        self.absorb(outputs, net)
    }

    fn send_parcel(&mut self, mut parcel: Parcel, most: usize, net: &mut Net) -> Check {
        // Somebody may wait for what is left.
        self.flushing = true;
        if !self.is_wired() {
            let outputs = self.machine.transmitted(&mut parcel).collect();
            return self.absorb(outputs, net);
        }
        let bytes = parcel.bytes().len().min(most);
        rule(!self.model.is_finished() || self.machine.outcome().is_some(), "nothing follows FIN")?;
        let outputs = match net.send(self.who, &parcel.bytes()[..bytes]) {
            Went::Bytes(sent) => {
                parcel.sent(sent);
                self.machine.transmitted(&mut parcel).collect()
            }
            Went::Full => self.machine.transmitted(&mut parcel).collect(),
            Went::Failed(fault) => {
                self.machine.not_transmitted(&mut parcel, fault, net.now).collect()
            }
        };
        rule(parcel.is_empty(), "a parcel that was given back is empty")?;
        self.absorb(outputs, net)
    }

    fn give_up(&mut self, pass: SendPass, what: Sent, net: &mut Net) -> Check {
        let outputs = self.machine.sent(pass, what).collect();
        net.trace.note(self.who, "stops writing", 0);
        self.absorb(outputs, net)
    }
}

/// What may be sealed and not yet be with the system, what that takes in records, and what TLS itself has to
/// say.
const PARCEL_MOST: usize = 64 * 1024 + 16 * 1024;
