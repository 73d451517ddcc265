//! Who receives: a reader, and whoever is at the wire while nobody reads.

use super::model::{Check, rule};
use super::net::Net;
use super::side::{Reader, Side};
use super::wire::{Came, fits};
use crate::machine::{Fault, Input, ReadStep, Received, RecvPass, Watch};

/// Application data each way, in plaintext and over TLS: as different as bytes can be.
pub(super) fn salt(from: usize, secure: bool) -> u8 {
    match (from, secure) {
        (0, false) => 0x00,
        (0, true) => 0x55,
        (_, false) => 0xAA,
        (_, true) => 0xFF,
    }
}

impl Side {
    /// A reader comes, or who waits looks again.
    pub(super) fn read(&mut self, net: &mut Net) -> Check {
        if !matches!(self.reader, Reader::Nobody | Reader::Waits { .. }) {
            return Ok(());
        }
        let waited = matches!(self.reader, Reader::Waits { told: false });
        self.reader = match self.machine.read() {
            ReadStep::Receive(pass) => {
                rule(self.is_wired() || self.is_done(), "there is a wire to receive from")?;
                rule(!self.secure, "over TLS nobody reads plaintext off the wire")?;
                Reader::Receives(pass)
            }
            ReadStep::Ingest(pass) => {
                rule(self.is_wired() || self.is_done(), "there is a wire to receive from")?;
                rule(self.secure, "in plaintext nothing is decrypted")?;
                Reader::Ingests(pass)
            }
            ReadStep::Take(pass) => {
                rule(self.machine.has_unread(), "there is something to take")?;
                Reader::Takes(pass)
            }
            ReadStep::Wait => {
                if !waited {
                    self.reader = Reader::Waits { told: false };
                }
                return Ok(());
            }
            ReadStep::End => {
                net.trace.note(self.who, "reads the end", 0);
                self.unproved_end |= !self.saw_end;
                (self.read_over, self.saw_end) = (true, true);
                Reader::Nobody
            }
            ReadStep::Fail(fault) => {
                rule(
                    self.machine.refuses_read() == Some(fault),
                    "a read fails as it was to be foreseen",
                )?;
                net.trace.note(self.who, "fails to read", 0);
                self.read_over = true;
                Reader::Nobody
            }
        };
        if !matches!(self.reader, Reader::Nobody) {
            net.trace.note(self.who, "may read", 0);
        }
        rule(!waited, "who waits to read is told when that is over")?;
        match &self.reader {
            Reader::Receives(pass) | Reader::Ingests(pass) | Reader::Takes(pass) => rule(
                self.machine.still_receives(pass) && self.machine.is_received_from(),
                "a pass that is given stands",
            ),
            Reader::Nobody | Reader::Waits { .. } => Ok(()),
        }
    }

    /// Who reads makes a system call, also a withdrawn one where that is `late`.
    pub(super) fn receive(&mut self, most: usize, late: bool, net: &mut Net) -> Check {
        if self.loan.is_some() {
            return self.restore(net);
        }
        match std::mem::replace(&mut self.reader, Reader::Nobody) {
            Reader::Receives(pass) => {
                let stands = self.machine.still_receives(&pass);
                let may = stands || late && self.is_wired();
                self.receive_plain(pass, most, may, stands, net)
            }
            Reader::Ingests(pass) => {
                let may = self.machine.still_receives(&pass) || late && self.is_wired();
                match self.ingest(pass, most, may, net)? {
                    Some(pass) => {
                        self.reader = Reader::Ingests(pass);
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
            Reader::Takes(pass) => self.take(pass, most, net),
            reader @ (Reader::Nobody | Reader::Waits { .. }) => {
                self.reader = reader;
                Ok(())
            }
        }
    }

    pub(super) fn leave_reading(&mut self, net: &mut Net) -> Check {
        match std::mem::replace(&mut self.reader, Reader::Nobody) {
            Reader::Receives(pass) | Reader::Ingests(pass) | Reader::Takes(pass) => {
                self.give_back(pass, Received::Nothing, net)
            }
            Reader::Nobody | Reader::Waits { .. } => Ok(()),
        }
    }

    /// Receives while nobody reads, where that is wanted and something may have come.
    pub(super) fn attend(&mut self, most: usize, net: &mut Net) -> Check {
        if self.loan.is_some() {
            return self.restore(net);
        }
        if let Some(pass) = self.attendant.take() {
            // Whoever attends tells a reader that has come meanwhile.
            if let Reader::Waits { told } = &mut self.reader {
                *told = true;
            }
            let may = self.machine.still_receives(&pass);
            if let Some(pass) = self.ingest(pass, most, may, net)? {
                // Nothing is there: whoever attends goes, and comes back when something is.
                self.edge = false;
                self.give_back(pass, Received::Nothing, net)?;
            }
            return Ok(());
        }
        if !self.edge || !self.is_wired() {
            return Ok(());
        }
        match self.machine.watch() {
            Watch::Discard => self.discard(most, net),
            Watch::Ingest => {
                self.attendant = self.machine.attend();
                self.edge = self.attendant.is_some();
                if self.edge {
                    net.trace.note(self.who, "attends", 0);
                }
                let stands = |pass| self.machine.still_receives(pass);
                rule(self.attendant.as_ref().is_none_or(stands), "a pass that is given stands")
            }
            Watch::Nothing | Watch::Failure | Watch::End => {
                self.edge = false;
                Ok(())
            }
        }
    }

    /// Watches the wire of one that is not read from.
    pub(super) fn watch(&mut self, net: &mut Net) -> Check {
        if !self.is_wired() || self.attendant.is_some() {
            return Ok(());
        }
        match self.machine.watch() {
            Watch::Failure => match net.wire.failure(self.who) {
                Some(fault) => self.handle(Input::WireFailed(fault), net),
                None => Ok(()),
            },
            Watch::End if self.secure => {
                self.attendant = self.machine.attend();
                Ok(())
            }
            Watch::End => {
                let ReadStep::Receive(pass) = self.machine.read() else { return Ok(()) };
                let what = match net.wire.peek(self.who) {
                    Came::Bytes(_) => {
                        self.give_back(pass, Received::Nothing, net)?;
                        return match net.wire.failure(self.who) {
                            Some(fault) => self.handle(Input::WireFailed(fault), net),
                            None => Ok(()),
                        };
                    }
                    Came::Nothing => Received::Nothing,
                    Came::End => Received::Eof,
                    Came::Failed(fault) => Received::Failed(fault),
                };
                self.give_back(pass, what, net)
            }
            Watch::Nothing | Watch::Discard | Watch::Ingest => Ok(()),
        }
    }

    fn receive_plain(
        &mut self,
        pass: RecvPass,
        most: usize,
        may: bool,
        stands: bool,
        net: &mut Net,
    ) -> Check {
        if !may {
            return self.give_back(pass, Received::Nothing, net);
        }
        let mut buf = vec![0; most.min(LONGEST)];
        let upgrades = self.machine.is_yielding();
        match net.wire.receive(self.who, &mut buf) {
            Came::Bytes(bytes) => {
                net.trace.note(self.who, "receives", bytes);
                let outputs = self.machine.delivered(pass, bytes).collect();
                self.absorb(outputs, net)?;
                if stands {
                    return self.has_read(&buf[..bytes]);
                }
                // They came too late, and are nobody's.
                self.read += bytes as u64;
                rule(
                    !upgrades || self.machine.outcome() == Some(Err(Fault::UnreadPlaintext)),
                    "plaintext that comes when an upgrade has begun ends it",
                )?;
                rule(
                    !matches!(self.machine.read(), ReadStep::Receive(_)),
                    "nothing is read behind what was taken too late",
                )
            }
            Came::Nothing if stands => {
                self.reader = Reader::Receives(pass);
                Ok(())
            }
            Came::Nothing => self.give_back(pass, Received::Nothing, net),
            Came::End => self.give_back(pass, Received::Eof, net),
            Came::Failed(fault) => self.give_back(pass, Received::Failed(fault), net),
        }
    }

    /// Receives ciphertext; gives the pass back where nothing is there.
    fn ingest(
        &mut self,
        pass: RecvPass,
        most: usize,
        may: bool,
        net: &mut Net,
    ) -> Result<Option<RecvPass>, &'static str> {
        if !may {
            self.give_back(pass, Received::Nothing, net)?;
            return Ok(None);
        }
        let space = self.intake.space();
        let most = most.min(space.len());
        match net.wire.receive(self.who, &mut space[..most]) {
            Came::Bytes(bytes) => {
                net.trace.note(self.who, "receives", bytes);
                self.intake.filled(bytes);
                match self.machine.lend(pass) {
                    Ok(mut loan) => {
                        loan.feed(&mut self.intake);
                        self.loan = Some(loan);
                    }
                    Err(pass) => {
                        let outputs =
                            self.machine.ingest(pass, &mut self.intake, || net.now).collect();
                        self.absorb(outputs, net)?;
                    }
                }
            }
            Came::Nothing => return Ok(Some(pass)),
            Came::End => self.give_back(pass, Received::Eof, net)?,
            Came::Failed(fault) => self.give_back(pass, Received::Failed(fault), net)?,
        }
        Ok(None)
    }

    fn take(&mut self, pass: RecvPass, most: usize, net: &mut Net) -> Check {
        if !self.machine.still_receives(&pass) {
            return self.give_back(pass, Received::Nothing, net);
        }
        let mut buf = vec![0; most];
        let (bytes, outputs) = self.machine.take(pass, &mut buf, || net.now);
        let outputs = outputs.collect();
        net.trace.note(self.who, "takes", bytes);
        self.absorb(outputs, net)?;
        rule(bytes > 0, "where something is unread it can be taken")?;
        self.has_read(&buf[..bytes])
    }

    /// Drops what came in on a machine whose reading was cancelled.
    fn discard(&mut self, most: usize, net: &mut Net) -> Check {
        match net.wire.receive(self.who, &mut vec![0; most.min(LONGEST)]) {
            Came::Bytes(bytes) => {
                net.trace.note(self.who, "drops", bytes);
                Ok(())
            }
            Came::Nothing => {
                self.edge = false;
                Ok(())
            }
            Came::End => self.handle(Input::WireEof, net),
            Came::Failed(fault) => self.handle(Input::WireFailed(fault), net),
        }
    }

    fn give_back(&mut self, pass: RecvPass, what: Received, net: &mut Net) -> Check {
        let outputs = self.machine.received(pass, what, net.now).collect();
        if what != Received::Nothing {
            net.trace.note(self.who, "meets an end", 0);
        }
        self.absorb(outputs, net)
    }

    fn has_read(&mut self, bytes: &[u8]) -> Check {
        let from = self.read;
        self.read += bytes.len() as u64;
        rule(
            fits(salt(1 - self.who, self.secure), from, bytes),
            "what is read is what the peer wrote, in order",
        )
    }
}

/// More is not received at once.
const LONGEST: usize = 70_000;
