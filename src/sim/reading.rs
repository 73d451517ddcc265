//! The receiving half of a simulated endpoint: readers, background receives and the monitor.

use super::endpoint::{Endpoint, Reader};
use super::environment::Network;
use super::rules::{CheckResult, rule};
use super::wire::{SimRecv, fits};
use crate::machine::{Background, Fault, Input, ReadStep, RecvEvent, RecvPermit};

/// Returns the offset of the byte pattern for application data, different for each direction and for TLS.
pub(super) fn pattern_offset(from: usize, secure: bool) -> u8 {
    match (from, secure) {
        (0, false) => 0x00,
        (0, true) => 0x55,
        (_, false) => 0xAA,
        (_, true) => 0xFF,
    }
}

impl Endpoint {
    /// Starts a reader, or lets a waiting one ask again.
    pub(super) fn read(&mut self, net: &mut Network) -> CheckResult {
        if !matches!(self.reader, Reader::Idle | Reader::Waits { .. }) {
            return Ok(());
        }
        let waited = matches!(self.reader, Reader::Waits { woken: false });
        self.reader = match self.machine.read() {
            ReadStep::Recv(permit) => {
                rule(self.is_wired() || self.is_done(), "there is a wire to receive from")?;
                rule(!self.has_records, "over TLS readers receive only ciphertext")?;
                Reader::Receives(permit)
            }
            ReadStep::Ingest(permit) => {
                rule(self.is_wired() || self.is_done(), "there is a wire to receive from")?;
                rule(self.has_records, "in plaintext nothing is decrypted")?;
                Reader::Ingests(permit)
            }
            ReadStep::TakePlaintext(permit) => {
                rule(self.machine.has_unread(), "there is data to take")?;
                Reader::Takes(permit)
            }
            ReadStep::Wait => {
                if !waited {
                    self.reader = Reader::Waits { woken: false };
                }
                return Ok(());
            }
            ReadStep::Eof => {
                net.trace.note(self.who, "reads EOF", 0);
                self.unverified_eof |= !self.saw_eof;
                (self.read_over, self.saw_eof) = (true, true);
                Reader::Idle
            }
            ReadStep::Fail(fault) => {
                rule(
                    self.machine.read_error() == Some(fault),
                    "a read fails with the error of read_error",
                )?;
                net.trace.note(self.who, "fails to read", 0);
                self.read_over = true;
                Reader::Idle
            }
        };
        if !matches!(self.reader, Reader::Idle) {
            net.trace.note(self.who, "may read", 0);
        }
        rule(!waited, "a waiting reader is woken when it can continue")?;
        match &self.reader {
            Reader::Receives(permit) | Reader::Ingests(permit) | Reader::Takes(permit) => rule(
                self.machine.permits_recv(permit) && self.machine.recv_in_flight(),
                "a new permit is valid",
            ),
            Reader::Idle | Reader::Waits { .. } => Ok(()),
        }
    }

    /// Makes the reader's system call; with `delayed`, even if its permit was revoked.
    pub(super) fn receive(&mut self, max: usize, delayed: bool, net: &mut Network) -> CheckResult {
        if self.loan.is_some() {
            return self.restore(net);
        }
        match std::mem::replace(&mut self.reader, Reader::Idle) {
            Reader::Receives(permit) => {
                let stands = self.machine.permits_recv(&permit);
                let may = stands || delayed && self.is_wired();
                self.receive_plain(permit, max, may, stands, net)
            }
            Reader::Ingests(permit) => {
                let may = self.machine.permits_recv(&permit) || delayed && self.is_wired();
                match self.ingest(permit, max, may, net)? {
                    Some(permit) => {
                        self.reader = Reader::Ingests(permit);
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
            Reader::Takes(permit) => self.take(permit, max, net),
            reader @ (Reader::Idle | Reader::Waits { .. }) => {
                self.reader = reader;
                Ok(())
            }
        }
    }

    pub(super) fn abandon_read(&mut self, net: &mut Network) -> CheckResult {
        match std::mem::replace(&mut self.reader, Reader::Idle) {
            Reader::Receives(permit) | Reader::Ingests(permit) | Reader::Takes(permit) => {
                self.return_permit(permit, RecvEvent::Cancelled, net)
            }
            Reader::Idle | Reader::Waits { .. } => Ok(()),
        }
    }

    /// Receives in the background, if the machine needs that and data may have arrived.
    pub(super) fn drive_recv(&mut self, max: usize, net: &mut Network) -> CheckResult {
        if self.loan.is_some() {
            return self.restore(net);
        }
        if let Some(permit) = self.background_permit.take() {
            // The background receiver wakes a reader that has started since.
            if let Reader::Waits { woken } = &mut self.reader {
                *woken = true;
            }
            let may = self.machine.permits_recv(&permit);
            if let Some(permit) = self.ingest(permit, max, may, net)? {
                // There is no data: the background receiver returns its permit until some arrives.
                self.pending_edge = false;
                self.return_permit(permit, RecvEvent::Cancelled, net)?;
            }
            return Ok(());
        }
        if !self.pending_edge || !self.is_wired() {
            return Ok(());
        }
        match self.machine.background() {
            Background::Discard => self.discard(max, net),
            Background::Ingest => {
                self.background_permit = self.machine.begin_background_recv();
                self.pending_edge = self.background_permit.is_some();
                if self.pending_edge {
                    net.trace.note(self.who, "starts a background receive", 0);
                }
                let stands = |permit| self.machine.permits_recv(permit);
                rule(self.background_permit.as_ref().is_none_or(stands), "a new permit is valid")
            }
            Background::Nothing
            | Background::Preamble
            | Background::WatchErrors
            | Background::WatchEof => {
                self.pending_edge = false;
                Ok(())
            }
        }
    }

    /// Monitors the wire while no caller reads.
    pub(super) fn monitor(&mut self, net: &mut Network) -> CheckResult {
        if !self.is_wired() || self.background_permit.is_some() {
            return Ok(());
        }
        match self.machine.background() {
            Background::WatchErrors => match net.wire.failure(self.who) {
                Some(fault) => self.handle(Input::WireFailed(fault), net),
                None => Ok(()),
            },
            Background::WatchEof if self.has_records => {
                self.background_permit = self.machine.begin_background_recv();
                Ok(())
            }
            Background::WatchEof => {
                let ReadStep::Recv(permit) = self.machine.read() else { return Ok(()) };
                let what = match net.wire.peek(self.who) {
                    SimRecv::Bytes(_) => {
                        self.return_permit(permit, RecvEvent::Cancelled, net)?;
                        return match net.wire.failure(self.who) {
                            Some(fault) => self.handle(Input::WireFailed(fault), net),
                            None => Ok(()),
                        };
                    }
                    SimRecv::WouldBlock => RecvEvent::Cancelled,
                    SimRecv::Eof => RecvEvent::Eof,
                    SimRecv::Failed(fault) => RecvEvent::Failed(fault),
                };
                self.return_permit(permit, what, net)
            }
            Background::Nothing
            | Background::Preamble
            | Background::Discard
            | Background::Ingest => Ok(()),
        }
    }

    fn receive_plain(
        &mut self,
        permit: RecvPermit,
        max: usize,
        may: bool,
        stands: bool,
        net: &mut Network,
    ) -> CheckResult {
        if !may {
            return self.return_permit(permit, RecvEvent::Cancelled, net);
        }
        let mut buf = vec![0; max.min(MAX_RECV)];
        let upgrades = self.machine.is_upgrade_pending();
        match net.wire.receive(self.who, &mut buf) {
            SimRecv::Bytes(bytes) => {
                net.trace.note(self.who, "receives", bytes);
                let actions = self.machine.handle_recv(permit, bytes);
                self.apply_actions(actions, net)?;
                if stands {
                    return self.check_read(&buf[..bytes], net);
                }
                // The bytes arrived too late, and no reader gets them.
                self.read += bytes as u64;
                rule(
                    !upgrades || self.machine.outcome() == Some(Err(Fault::UnreadPlaintext)),
                    "plaintext that arrives during an upgrade ends it",
                )?;
                rule(
                    !matches!(self.machine.read(), ReadStep::Recv(_)),
                    "no read follows bytes that were received too late",
                )
            }
            SimRecv::WouldBlock if stands => {
                self.reader = Reader::Receives(permit);
                Ok(())
            }
            SimRecv::WouldBlock => self.return_permit(permit, RecvEvent::Cancelled, net),
            SimRecv::Eof => self.return_permit(permit, RecvEvent::Eof, net),
            SimRecv::Failed(fault) => self.return_permit(permit, RecvEvent::Failed(fault), net),
        }
    }

    /// Receives ciphertext. Returns the permit if there is none.
    fn ingest(
        &mut self,
        permit: RecvPermit,
        max: usize,
        may: bool,
        net: &mut Network,
    ) -> Result<Option<RecvPermit>, &'static str> {
        if !may {
            self.return_permit(permit, RecvEvent::Cancelled, net)?;
            return Ok(None);
        }
        let spare = self.recv_buf.spare_mut();
        let max = max.min(spare.len());
        match net.wire.receive(self.who, &mut spare[..max]) {
            SimRecv::Bytes(bytes) => {
                net.trace.note(self.who, "receives", bytes);
                self.recv_buf.advance(bytes);
                match self.machine.lend(permit) {
                    Ok(mut loan) => {
                        loan.read_tls(&mut self.recv_buf);
                        self.loan = Some(loan);
                    }
                    Err(permit) => {
                        let actions = self.machine.ingest(permit, &mut self.recv_buf, || net.now);
                        self.apply_actions(actions, net)?;
                    }
                }
            }
            SimRecv::WouldBlock => return Ok(Some(permit)),
            SimRecv::Eof => self.return_permit(permit, RecvEvent::Eof, net)?,
            SimRecv::Failed(fault) => self.return_permit(permit, RecvEvent::Failed(fault), net)?,
        }
        Ok(None)
    }

    /// Receives and decrypts once without a caller. Returns whether there may be more.
    pub(super) fn ingest_once(&mut self, net: &mut Network) -> Result<bool, &'static str> {
        let Some(permit) = self.machine.begin_background_recv() else { return Ok(false) };
        if let Some(permit) = self.ingest(permit, usize::MAX, true, net)? {
            self.return_permit(permit, RecvEvent::Cancelled, net)?;
            return Ok(false);
        }
        self.restore(net)?;
        Ok(true)
    }

    fn take(&mut self, permit: RecvPermit, max: usize, net: &mut Network) -> CheckResult {
        if !self.machine.permits_recv(&permit) {
            return self.return_permit(permit, RecvEvent::Cancelled, net);
        }
        let (peeked, permit) = self.peek(permit, max, net)?;
        // Half of the sizes take a line.
        let takes_line = max % 2 == 1;
        let (taken, actions) = if takes_line {
            self.machine.take_plaintext_until(permit, DELIMITER, max, || net.now)
        } else {
            let mut buf = vec![0; max];
            let (bytes, actions) = self.machine.take_plaintext(permit, &mut buf, || net.now);
            buf.truncate(bytes);
            (buf, actions)
        };
        net.trace.note(self.who, "takes", taken.len());
        self.apply_actions(actions, net)?;
        rule((1..=max).contains(&taken.len()), "unread data can be taken")?;
        let both = taken.len().min(peeked.len());
        rule(taken[..both] == peeked[..both], "a read takes the bytes that a peek shows")?;
        let before_last = &taken[..taken.len() - 1];
        rule(!takes_line || !before_last.contains(&DELIMITER), "a line ends at its delimiter")?;
        self.check_read(&taken, net)
    }

    /// Copies unread data. Returns it, and another permit to take it.
    fn peek(
        &mut self,
        permit: RecvPermit,
        max: usize,
        net: &mut Network,
    ) -> Result<(Vec<u8>, RecvPermit), &'static str> {
        let before = self.machine.stats();
        let mut buf = vec![0; max];
        let (bytes, actions) = self.machine.peek_plaintext(permit, &mut buf, || net.now);
        self.apply_actions(actions, net)?;
        rule((1..=max).contains(&bytes), "unread data can be seen")?;
        rule(self.machine.stats() == before, "a peek does not count as a read")?;
        buf.truncate(bytes);
        match self.machine.read() {
            ReadStep::TakePlaintext(permit) => Ok((buf, permit)),
            _ => Err("what a peek shows stays unread"),
        }
    }

    /// Receives and drops data after reading was cancelled.
    fn discard(&mut self, max: usize, net: &mut Network) -> CheckResult {
        match net.wire.receive(self.who, &mut vec![0; max.min(MAX_RECV)]) {
            SimRecv::Bytes(bytes) => {
                net.trace.note(self.who, "drops", bytes);
                Ok(())
            }
            SimRecv::WouldBlock => {
                self.pending_edge = false;
                Ok(())
            }
            SimRecv::Eof => self.handle(Input::WireEof, net),
            SimRecv::Failed(fault) => self.handle(Input::WireFailed(fault), net),
        }
    }

    fn return_permit(
        &mut self,
        permit: RecvPermit,
        what: RecvEvent,
        net: &mut Network,
    ) -> CheckResult {
        let actions = self.machine.handle_recv_event(permit, what, net.now);
        if what != RecvEvent::Cancelled {
            net.trace.note(self.who, "sees EOF or a failure", 0);
        }
        self.apply_actions(actions, net)
    }

    fn check_read(&mut self, bytes: &[u8], net: &Network) -> CheckResult {
        let from = self.read;
        self.read += bytes.len() as u64;
        // A client that does not wait sends its ClientHello into the plaintext.
        let may_differ = self.server.serves && !self.secure && net.corrupted_bytes;
        rule(
            may_differ || fits(pattern_offset(1 - self.who, self.secure), from, bytes),
            "a reader gets the peer's bytes in order",
        )
    }
}

/// The maximum size of a receive, in bytes.
const MAX_RECV: usize = 70_000;

/// The byte that ends a line. The peers' bytes have it as often as any other.
const DELIMITER: u8 = b'\n';
