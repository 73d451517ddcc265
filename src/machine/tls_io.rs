//! The methods of a machine for TLS: ingest and take data, seal and transmit it, and upgrade.

use std::time::Instant;

use super::{Actions, Fault, Machine, RecvBuf, RecvPermit, SendEvent, SendPermit, Transmit};

/// TLS: ciphertext in and out, and the application data inside.
impl Machine {
    /// Returns a receive permit with received ciphertext. Calls `now` only if the time matters.
    pub fn ingest(
        &mut self,
        permit: RecvPermit,
        recv_buf: &mut RecvBuf,
        now: impl FnOnce() -> Instant,
    ) -> Actions {
        let mut actions = Actions::default();
        self.state.return_recv(permit, &mut actions);
        if let Some(tls) = self.state.tls_mut() {
            if tls.read_tls(recv_buf) {
                actions.transmit = true;
            }
            if tls.is_suspicious() {
                let now = now();
                tls.bound_flood(now);
                self.on_session_progress(|| now, &mut actions);
            } else {
                self.on_session_progress(now, &mut actions);
            }
        }
        actions
    }

    /// Returns a receive permit, and moves decrypted data to `buf`. Returns the number of bytes. Calls `now` only if
    /// the time matters.
    pub fn take_plaintext(
        &mut self,
        permit: RecvPermit,
        buf: &mut [u8],
        now: impl FnOnce() -> Instant,
    ) -> (usize, Actions) {
        let mut actions = Actions::default();
        self.state.return_recv(permit, &mut actions);
        let Some(tls) = self.state.tls_mut() else { return (0, actions) };
        let bytes = tls.take(buf);
        self.stats.bytes_read += bytes as u64;
        if !tls.has_unread() {
            self.on_session_progress(now, &mut actions);
        }
        (bytes, actions)
    }

    /// Like [`take_plaintext`](Self::take_plaintext), but copies the data and leaves it unread. Copies at most 16 KiB, the
    /// size of one record (RFC 8446, section 5.1).
    pub fn peek_plaintext(
        &mut self,
        permit: RecvPermit,
        buf: &mut [u8],
        now: impl FnOnce() -> Instant,
    ) -> (usize, Actions) {
        let mut actions = Actions::default();
        self.state.return_recv(permit, &mut actions);
        let Some(tls) = self.state.tls_mut() else { return (0, actions) };
        let bytes = tls.peek(buf);
        if !tls.has_unread() {
            self.on_session_progress(now, &mut actions);
        }
        (bytes, actions)
    }

    /// Like [`take_plaintext`](Self::take_plaintext), but takes at most `max` bytes, and nothing behind the first
    /// `delimiter`. Returns the bytes.
    pub fn take_plaintext_until(
        &mut self,
        permit: RecvPermit,
        delimiter: u8,
        max: usize,
        now: impl FnOnce() -> Instant,
    ) -> (Vec<u8>, Actions) {
        let mut actions = Actions::default();
        self.state.return_recv(permit, &mut actions);
        let Some(tls) = self.state.tls_mut() else { return (Vec::new(), actions) };
        let taken = tls.take_until(delimiter, max);
        self.stats.bytes_read += taken.len() as u64;
        if !tls.has_unread() {
            self.on_session_progress(now, &mut actions);
        }
        (taken, actions)
    }

    /// Returns whether a writer over TLS can [seal](Self::seal). If not, the caller sends the queued ciphertext with
    /// [`next_transmit`](Self::next_transmit), or waits for [`Wake::writable`](super::Wake::writable) if another thread
    /// does that.
    #[must_use]
    pub fn can_seal(&self) -> bool {
        self.state.tls().is_none_or(|tls| tls.can_seal())
    }

    /// Returns a send permit, and seals as much of `bytes_to_seal` as the send queue has room for. Returns the number
    /// of bytes: 0 if TLS has failed. Calls `now` only if the time matters.
    ///
    /// The ciphertext is in `transmit`; the caller sends it and calls [`transmit_done`](Self::transmit_done). If other
    /// ciphertext is queued, the new one is queued after it, and `transmit` stays empty.
    pub fn seal(
        &mut self,
        permit: SendPermit,
        bytes_to_seal: &[u8],
        transmit: &mut Transmit,
        now: impl FnOnce() -> Instant,
    ) -> (usize, Actions) {
        let mut actions = Actions::default();
        transmit.clear();
        let mut bytes = 0;
        if let (true, Some(tls)) = (self.state.can_send(), self.state.tls_mut()) {
            bytes = tls.seal(bytes_to_seal, transmit);
            self.stats.bytes_written += bytes as u64;
        }
        let awaited = self.state.return_send(permit);
        if bytes == 0 && !bytes_to_seal.is_empty() {
            self.on_session_progress(now, &mut actions);
        }
        if awaited {
            self.transition(&mut actions, |state, _, actions| {
                state.handle_send_event(SendEvent::Cancelled, actions)
            });
        }
        (bytes, actions)
    }

    /// Lends the queued ciphertext to send. Returns `None` if there is none, or if a transmit buffer is lent already.
    #[must_use]
    pub fn next_transmit(&mut self) -> Option<Transmit> {
        match self.state.tls_mut() {
            Some(tls) => tls.next_transmit(),
            None => self.state.preamble_mut()?.next_transmit(),
        }
    }

    /// Takes a transmit buffer back. Bytes that were not [sent](Transmit::sent) are queued again.
    pub fn transmit_done(&mut self, transmit: &mut Transmit) -> Actions {
        let mut actions = Actions::default();
        if let Some(tls) = self.state.tls_mut() {
            let full = !tls.can_seal();
            tls.return_unsent(transmit);
            let awaited = full && tls.can_seal();
            if tls.take_recv_deferred() {
                actions.drive_recv = true;
            }
            if awaited && self.state.send_in_flight() && !planted!(LosesWritable) {
                actions.wake.writable = true;
            }
            if self.state.can_end_on_send() {
                self.transition(&mut actions, |state, _, actions| {
                    state.handle_send_event(SendEvent::Cancelled, actions)
                });
            }
        } else if let Some(preamble) = self.state.preamble_mut() {
            actions.drive_recv = preamble.return_unsent(transmit);
        }
        transmit.clear();
        actions
    }

    /// Updates the state after a possible change of the session.
    #[inline]
    fn on_session_progress(&mut self, now: impl FnOnce() -> Instant, actions: &mut Actions) {
        if !self.state.is_fully_open() {
            self.transition(actions, |state, policy, actions| {
                state.on_session_progress(policy, now(), actions)
            });
        }
    }

    /// Takes a transmit buffer back that could not be sent, because the wire failed.
    pub fn transmit_failed(
        &mut self,
        transmit: &mut Transmit,
        fault: Fault,
        now: Instant,
    ) -> Actions {
        let mut actions = Actions::default();
        let is_preamble = match self.state.tls_mut() {
            Some(tls) => {
                tls.return_unsent(transmit);
                false
            }
            None => self.state.preamble().is_some(),
        };
        if is_preamble || self.state.tls().is_some() {
            self.transition(&mut actions, |state, _, actions| {
                state.transmit_failed(fault, now, actions)
            });
        }
        transmit.clear();
        actions
    }

    /// Returns a permit to receive over TLS while no caller reads. The driver uses it like that of
    /// [`ReadStep::Ingest`](super::ReadStep::Ingest). Returns `None` if the session needs no data, if decrypted data is
    /// unread, or if another thread has the permit.
    #[must_use]
    pub fn begin_background_recv(&mut self) -> Option<RecvPermit> {
        self.state.begin_background_recv()
    }

    /// Takes the last records of the connection. The driver sends them as far as the kernel accepts them without
    /// blocking.
    #[must_use]
    pub fn take_final_records(&mut self) -> Vec<u8> {
        self.state.take_final_records()
    }
}
