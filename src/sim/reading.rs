//! Who receives: a reader, and whoever is at the wire while nobody reads.

use super::model::{Check, rule};
use super::net::Net;
use super::side::{Reader, Side};
use super::wire::{Came, fits};
use crate::machine::{Background, Fault, Input, ReadStep, RecvEvent, RecvPermit};

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
            ReadStep::Recv(permit) => {
                rule(self.is_wired() || self.is_done(), "there is a wire to receive from")?;
                rule(!self.secure, "over TLS nobody reads plaintext off the wire")?;
                Reader::Receives(permit)
            }
            ReadStep::Ingest(permit) => {
                rule(self.is_wired() || self.is_done(), "there is a wire to receive from")?;
                rule(self.secure, "in plaintext nothing is decrypted")?;
                Reader::Ingests(permit)
            }
            ReadStep::TakePlaintext(permit) => {
                rule(self.machine.has_unread(), "there is something to take")?;
                Reader::Takes(permit)
            }
            ReadStep::Wait => {
                if !waited {
                    self.reader = Reader::Waits { told: false };
                }
                return Ok(());
            }
            ReadStep::Eof => {
                net.trace.note(self.who, "reads the end", 0);
                self.unproved_end |= !self.saw_end;
                (self.read_over, self.saw_end) = (true, true);
                Reader::Nobody
            }
            ReadStep::Fail(fault) => {
                rule(
                    self.machine.read_error() == Some(fault),
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
            Reader::Receives(permit) | Reader::Ingests(permit) | Reader::Takes(permit) => rule(
                self.machine.permits_recv(permit) && self.machine.recv_in_flight(),
                "a permit that is given stands",
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
            Reader::Receives(permit) => {
                let stands = self.machine.permits_recv(&permit);
                let may = stands || late && self.is_wired();
                self.receive_plain(permit, most, may, stands, net)
            }
            Reader::Ingests(permit) => {
                let may = self.machine.permits_recv(&permit) || late && self.is_wired();
                match self.ingest(permit, most, may, net)? {
                    Some(permit) => {
                        self.reader = Reader::Ingests(permit);
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
            Reader::Takes(permit) => self.take(permit, most, net),
            reader @ (Reader::Nobody | Reader::Waits { .. }) => {
                self.reader = reader;
                Ok(())
            }
        }
    }

    pub(super) fn leave_reading(&mut self, net: &mut Net) -> Check {
        match std::mem::replace(&mut self.reader, Reader::Nobody) {
            Reader::Receives(permit) | Reader::Ingests(permit) | Reader::Takes(permit) => {
                self.give_back(permit, RecvEvent::Cancelled, net)
            }
            Reader::Nobody | Reader::Waits { .. } => Ok(()),
        }
    }

    /// Receives while nobody reads, where that is wanted and something may have come.
    pub(super) fn attend(&mut self, most: usize, net: &mut Net) -> Check {
        if self.loan.is_some() {
            return self.restore(net);
        }
        if let Some(permit) = self.attendant.take() {
            // Whoever attends tells a reader that has come meanwhile.
            if let Reader::Waits { told } = &mut self.reader {
                *told = true;
            }
            let may = self.machine.permits_recv(&permit);
            if let Some(permit) = self.ingest(permit, most, may, net)? {
                // Nothing is there: whoever attends goes, and comes back when something is.
                self.edge = false;
                self.give_back(permit, RecvEvent::Cancelled, net)?;
            }
            return Ok(());
        }
        if !self.edge || !self.is_wired() {
            return Ok(());
        }
        match self.machine.background() {
            Background::Discard => self.discard(most, net),
            Background::Ingest => {
                self.attendant = self.machine.begin_background_recv();
                self.edge = self.attendant.is_some();
                if self.edge {
                    net.trace.note(self.who, "attends", 0);
                }
                let stands = |permit| self.machine.permits_recv(permit);
                rule(self.attendant.as_ref().is_none_or(stands), "a permit that is given stands")
            }
            Background::Nothing | Background::WatchErrors | Background::WatchEof => {
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
        match self.machine.background() {
            Background::WatchErrors => match net.wire.failure(self.who) {
                Some(fault) => self.handle(Input::WireFailed(fault), net),
                None => Ok(()),
            },
            Background::WatchEof if self.secure => {
                self.attendant = self.machine.begin_background_recv();
                Ok(())
            }
            Background::WatchEof => {
                let ReadStep::Recv(permit) = self.machine.read() else { return Ok(()) };
                let what = match net.wire.peek(self.who) {
                    Came::Bytes(_) => {
                        self.give_back(permit, RecvEvent::Cancelled, net)?;
                        return match net.wire.failure(self.who) {
                            Some(fault) => self.handle(Input::WireFailed(fault), net),
                            None => Ok(()),
                        };
                    }
                    Came::Nothing => RecvEvent::Cancelled,
                    Came::End => RecvEvent::Eof,
                    Came::Failed(fault) => RecvEvent::Failed(fault),
                };
                self.give_back(permit, what, net)
            }
            Background::Nothing | Background::Discard | Background::Ingest => Ok(()),
        }
    }

    fn receive_plain(
        &mut self,
        permit: RecvPermit,
        most: usize,
        may: bool,
        stands: bool,
        net: &mut Net,
    ) -> Check {
        if !may {
            return self.give_back(permit, RecvEvent::Cancelled, net);
        }
        let mut buf = vec![0; most.min(LONGEST)];
        let upgrades = self.machine.is_upgrade_pending();
        match net.wire.receive(self.who, &mut buf) {
            Came::Bytes(bytes) => {
                net.trace.note(self.who, "receives", bytes);
                let actions = self.machine.handle_recv(permit, bytes).collect();
                self.absorb(actions, net)?;
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
                    !matches!(self.machine.read(), ReadStep::Recv(_)),
                    "nothing is read behind what was taken too late",
                )
            }
            Came::Nothing if stands => {
                self.reader = Reader::Receives(permit);
                Ok(())
            }
            Came::Nothing => self.give_back(permit, RecvEvent::Cancelled, net),
            Came::End => self.give_back(permit, RecvEvent::Eof, net),
            Came::Failed(fault) => self.give_back(permit, RecvEvent::Failed(fault), net),
        }
    }

    /// Receives ciphertext; gives the permit back where nothing is there.
    fn ingest(
        &mut self,
        permit: RecvPermit,
        most: usize,
        may: bool,
        net: &mut Net,
    ) -> Result<Option<RecvPermit>, &'static str> {
        if !may {
            self.give_back(permit, RecvEvent::Cancelled, net)?;
            return Ok(None);
        }
        let space = self.recv_buf.spare_mut();
        let most = most.min(space.len());
        match net.wire.receive(self.who, &mut space[..most]) {
            Came::Bytes(bytes) => {
                net.trace.note(self.who, "receives", bytes);
                self.recv_buf.advance(bytes);
                match self.machine.lend(permit) {
                    Ok(mut loan) => {
                        loan.read_tls(&mut self.recv_buf);
                        self.loan = Some(loan);
                    }
                    Err(permit) => {
                        let actions =
                            self.machine.ingest(permit, &mut self.recv_buf, || net.now).collect();
                        self.absorb(actions, net)?;
                    }
                }
            }
            Came::Nothing => return Ok(Some(permit)),
            Came::End => self.give_back(permit, RecvEvent::Eof, net)?,
            Came::Failed(fault) => self.give_back(permit, RecvEvent::Failed(fault), net)?,
        }
        Ok(None)
    }

    fn take(&mut self, permit: RecvPermit, most: usize, net: &mut Net) -> Check {
        if !self.machine.permits_recv(&permit) {
            return self.give_back(permit, RecvEvent::Cancelled, net);
        }
        let mut buf = vec![0; most];
        let (bytes, actions) = self.machine.take_plaintext(permit, &mut buf, || net.now);
        let actions = actions.collect();
        net.trace.note(self.who, "takes", bytes);
        self.absorb(actions, net)?;
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

    fn give_back(&mut self, permit: RecvPermit, what: RecvEvent, net: &mut Net) -> Check {
        let actions = self.machine.handle_recv_event(permit, what, net.now).collect();
        if what != RecvEvent::Cancelled {
            net.trace.note(self.who, "meets an end", 0);
        }
        self.absorb(actions, net)
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
