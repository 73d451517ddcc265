//! What a machine offers over TLS, and for an upgrade to it.

use std::time::Instant;

use super::{
    Action, Actions, Fault, Machine, RecvBuf, RecvPermit, SendEvent, SendPermit, Transmit,
};
use crate::info::Negotiated;
use crate::tls::Failure;

impl Machine {
    /// Ends a receive permit that took ciphertext. What the time is it asks only where that matters.
    pub fn ingest(
        &mut self,
        permit: RecvPermit,
        recv_buf: &mut RecvBuf,
        now: impl FnOnce() -> Instant,
    ) -> Actions<'_> {
        let mut actions = Actions::none();
        self.state.return_recv(permit, &mut actions);
        if let Some(tls) = self.state.tls_mut() {
            if tls.read_tls(recv_buf) {
                actions.push(Action::Transmit);
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

    /// Ends a receive permit by moving unread data to `buf`: so many bytes. What the time is it asks only where
    /// that matters.
    pub fn take_plaintext(
        &mut self,
        permit: RecvPermit,
        buf: &mut [u8],
        now: impl FnOnce() -> Instant,
    ) -> (usize, Actions<'_>) {
        let mut actions = Actions::none();
        self.state.return_recv(permit, &mut actions);
        let Some(tls) = self.state.tls_mut() else { return (0, actions) };
        let bytes = tls.take(buf);
        self.stats.bytes_read += bytes as u64;
        if !tls.has_unread() {
            self.on_session_progress(now, &mut actions);
        }
        (bytes, actions)
    }

    /// Over TLS, whether something can be [sealed](Self::seal). If not, [`next_transmit`](Self::next_transmit) what
    /// waits, or wait for [`Action::Writable`] where another does that.
    #[must_use]
    pub fn can_seal(&self) -> bool {
        self.state.tls().is_none_or(|tls| tls.can_seal())
    }

    /// Over TLS, ends a send permit by accepting as much of `load` as there is room for: so many bytes. Their
    /// ciphertext is in `transmit buffer`, to be sent and given back by [`transmit_done`](Self::transmit_done); where
    /// other ciphertext waits it is behind that, and the transmit buffer stays empty. None are accepted where TLS
    /// has failed. What the time is it asks only where that matters.
    pub fn seal(
        &mut self,
        permit: SendPermit,
        bytes_to_seal: &[u8],
        transmit: &mut Transmit,
        now: impl FnOnce() -> Instant,
    ) -> (usize, Actions<'_>) {
        let mut actions = Actions::none();
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

    /// Lends ciphertext to be sent, where some waits and none is lent.
    #[must_use]
    pub fn next_transmit(&mut self) -> Option<Transmit> {
        self.state.tls_mut()?.next_transmit()
    }

    /// Takes a transmit buffer back. What of it was not [sent](Transmit::sent) is lent again.
    pub fn transmit_done(&mut self, transmit: &mut Transmit) -> Actions<'_> {
        let mut actions = Actions::none();
        if let Some(tls) = self.state.tls_mut() {
            let full = !tls.can_seal();
            tls.return_unsent(transmit);
            let awaited = full && tls.can_seal();
            if tls.take_recv_deferred() {
                actions.push(Action::DriveRecv);
            }
            if awaited && self.state.send_in_flight() && !planted!(LosesWritable) {
                actions.push(Action::Writable);
            }
            if self.state.can_end_on_send() {
                self.transition(&mut actions, |state, _, actions| {
                    state.handle_send_event(SendEvent::Cancelled, actions)
                });
            }
        }
        transmit.clear();
        actions
    }

    /// Something of a session may have changed.
    #[inline]
    fn on_session_progress(&mut self, now: impl FnOnce() -> Instant, actions: &mut Actions<'_>) {
        if !self.state.is_fully_open() {
            self.transition(actions, |state, policy, actions| {
                state.on_session_progress(policy, now(), actions)
            });
        }
    }

    /// Takes a transmit buffer back that could not be sent, for the failure of the wire.
    pub fn transmit_failed(
        &mut self,
        transmit: &mut Transmit,
        fault: Fault,
        now: Instant,
    ) -> Actions<'_> {
        let mut actions = Actions::none();
        if let Some(tls) = self.state.tls_mut() {
            tls.return_unsent(transmit);
            self.transition(&mut actions, |state, _, actions| {
                state.transmit_failed(fault, now, actions)
            });
        }
        transmit.clear();
        actions
    }

    /// Over TLS, leave to receive where no reader does; it ends as one of
    /// [`ReadStep::Ingest`](super::ReadStep::Ingest). None where nothing is wanted, something is unread, or
    /// somebody else has it.
    #[must_use]
    pub fn begin_background_recv(&mut self) -> Option<RecvPermit> {
        self.state.begin_background_recv()
    }

    /// What is to be sent at the very end, as far as that goes at once.
    #[must_use]
    pub fn take_final_records(&mut self) -> Vec<u8> {
        self.state.take_final_records()
    }

    /// Whether a transmit buffer is lent.
    pub(crate) fn transmit_in_flight(&self) -> bool {
        self.state.tls().is_some_and(|tls| tls.transmit_in_flight())
    }

    /// Over TLS, whether ciphertext waits that is not with the system.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.state.tls().is_some_and(|tls| !tls.is_flushed())
    }

    /// Over TLS, whether ciphertext waits that says more than that this side has ended.
    #[must_use]
    pub fn has_undelivered_data(&self) -> bool {
        self.state.tls().is_some_and(|tls| tls.has_undelivered_data())
    }

    /// Over TLS, whether data is here that nobody has taken.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.state.tls().is_some_and(|tls| tls.has_unread())
    }

    /// Whether the connection is TLS, in its handshake or after it.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.state.tls().is_some()
    }

    /// Whether an upgrade has begun that has not yet taken place.
    #[must_use]
    pub fn is_upgrade_pending(&self) -> bool {
        self.state.is_upgrade_pending()
    }

    /// Whether nobody is at the wire any more before an upgrade: time to look at it, and to say
    /// [`Input::UpgradeReady`](super::Input::UpgradeReady), [`Input::UnexpectedPlaintext`](super::Input::UnexpectedPlaintext) or what else is
    /// found.
    #[must_use]
    pub fn is_idle_for_upgrade(&self) -> bool {
        self.state.is_idle_for_upgrade()
    }

    /// What the TLS handshake led to.
    pub(crate) fn negotiated(&self) -> Option<Negotiated> {
        self.state.negotiated()
    }

    /// What [`Fault::Tls`] means here, in words.
    #[must_use]
    pub fn tls_failure(&self) -> Option<&str> {
        self.state.failure().map(Failure::message)
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.state.failure()
    }
}
