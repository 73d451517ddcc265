//! What a machine offers over TLS, and for an upgrade to it.

use std::time::Instant;

use super::{Fault, Intake, Machine, Output, Outputs, Parcel, RecvPass, SendPass, Sent};
use crate::info::Agreed;
use crate::tls::Failure;

impl Machine {
    /// Ends a receive pass that took ciphertext. What the time is it asks only where that matters.
    pub fn ingest(
        &mut self,
        pass: RecvPass,
        intake: &mut Intake,
        now: impl FnOnce() -> Instant,
    ) -> Outputs<'_> {
        let mut outputs = Outputs::none();
        self.state.give_back_recv(pass, &mut outputs);
        if let Some(tls) = self.state.tls_mut() {
            if tls.feed(intake) {
                outputs.push(Output::Transmit);
            }
            if tls.is_suspicious() {
                let now = now();
                tls.bound_flood(now);
                self.progress(|| now, &mut outputs);
            } else {
                self.progress(now, &mut outputs);
            }
        }
        outputs
    }

    /// Ends a receive pass by moving unread data to `buf`: so many bytes. What the time is it asks only where
    /// that matters.
    pub fn take(
        &mut self,
        pass: RecvPass,
        buf: &mut [u8],
        now: impl FnOnce() -> Instant,
    ) -> (usize, Outputs<'_>) {
        let mut outputs = Outputs::none();
        self.state.give_back_recv(pass, &mut outputs);
        let Some(tls) = self.state.tls_mut() else { return (0, outputs) };
        let bytes = tls.take(buf);
        self.stats.bytes_read += bytes as u64;
        if !tls.has_unread() {
            self.progress(now, &mut outputs);
        }
        (bytes, outputs)
    }

    /// Over TLS, whether something can be [sealed](Self::seal). If not, [`transmit`](Self::transmit) what
    /// waits, or wait for [`Output::Writable`] where another does that.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.state.tls().is_none_or(|tls| tls.has_room())
    }

    /// Over TLS, ends a send pass by accepting as much of `load` as there is room for: so many bytes. Their
    /// ciphertext is in `parcel`, to be sent and given back by [`transmitted`](Self::transmitted); where
    /// other ciphertext waits it is behind that, and the parcel stays empty. None are accepted where TLS
    /// has failed. What the time is it asks only where that matters.
    pub fn seal(
        &mut self,
        pass: SendPass,
        load: &[u8],
        parcel: &mut Parcel,
        now: impl FnOnce() -> Instant,
    ) -> (usize, Outputs<'_>) {
        let mut outputs = Outputs::none();
        parcel.clear();
        let mut bytes = 0;
        if let (true, Some(tls)) = (self.state.may_send(), self.state.tls_mut()) {
            bytes = tls.seal(load, parcel);
            self.stats.bytes_written += bytes as u64;
        }
        let awaited = self.state.give_back_send(pass);
        if bytes == 0 && !load.is_empty() {
            self.progress(now, &mut outputs);
        }
        if awaited {
            self.transition(&mut outputs, |state, _, outputs| state.sent(Sent::Nothing, outputs));
        }
        (bytes, outputs)
    }

    /// Lends ciphertext to be sent, where some waits and none is lent.
    #[must_use]
    pub fn transmit(&mut self) -> Option<Parcel> {
        self.state.tls_mut()?.drain()
    }

    /// Takes a parcel back. What of it was not [sent](Parcel::sent) is lent again.
    pub fn transmitted(&mut self, parcel: &mut Parcel) -> Outputs<'_> {
        let mut outputs = Outputs::none();
        if let Some(tls) = self.state.tls_mut() {
            let full = !tls.has_room();
            tls.give_back(parcel);
            let awaited = full && tls.has_room();
            if tls.has_put_off() {
                outputs.push(Output::Attend);
            }
            if awaited && self.state.is_sent_to() && !planted!(LosesWritable) {
                outputs.push(Output::Writable);
            }
            if self.state.may_end_by_sending() {
                self.transition(&mut outputs, |state, _, outputs| {
                    state.sent(Sent::Nothing, outputs)
                });
            }
        }
        parcel.clear();
        outputs
    }

    /// Something of a session may have changed.
    #[inline]
    fn progress(&mut self, now: impl FnOnce() -> Instant, outputs: &mut Outputs<'_>) {
        if !self.state.is_open_on_both_sides() {
            self.transition(outputs, |state, rules, outputs| {
                state.progressed(rules, now(), outputs)
            });
        }
    }

    /// Takes a parcel back that could not be sent, for the failure of the wire.
    pub fn not_transmitted(
        &mut self,
        parcel: &mut Parcel,
        fault: Fault,
        now: Instant,
    ) -> Outputs<'_> {
        let mut outputs = Outputs::none();
        if let Some(tls) = self.state.tls_mut() {
            tls.give_back(parcel);
            self.transition(&mut outputs, |state, _, outputs| {
                state.not_transmitted(fault, now, outputs)
            });
        }
        parcel.clear();
        outputs
    }

    /// Over TLS, leave to receive where no reader does; it ends as one of
    /// [`ReadStep::Ingest`](super::ReadStep::Ingest). None where nothing is wanted, something is unread, or
    /// somebody else has it.
    #[must_use]
    pub fn attend(&mut self) -> Option<RecvPass> {
        self.state.attend()
    }

    /// What is to be sent at the very end, as far as that goes at once.
    #[must_use]
    pub fn take_farewell(&mut self) -> Vec<u8> {
        self.state.take_farewell()
    }

    /// Whether a parcel is lent.
    pub(crate) fn is_transmitting(&self) -> bool {
        self.state.tls().is_some_and(|tls| tls.is_transmitting())
    }

    /// Over TLS, whether ciphertext waits that is not with the system.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.state.tls().is_some_and(|tls| !tls.is_drained())
    }

    /// Over TLS, whether ciphertext waits that says more than that this side has ended.
    #[must_use]
    pub fn owes_data(&self) -> bool {
        self.state.tls().is_some_and(|tls| tls.owes_data())
    }

    /// Over TLS, whether data is here that nobody has taken.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.state.tls().is_some_and(|tls| tls.has_unread())
    }

    /// Whether the connection is TLS, in its handshake or after it.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.state.tls().is_some()
    }

    /// Whether an upgrade has begun that has not yet taken place.
    #[must_use]
    pub fn is_yielding(&self) -> bool {
        self.state.is_yielding()
    }

    /// Whether nobody is at the wire any more before an upgrade: time to look at it, and to say
    /// [`Input::HandOver`](super::Input::HandOver), [`Input::Unread`](super::Input::Unread) or what else is
    /// found.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.state.is_quiet()
    }

    /// What the TLS handshake led to.
    pub(crate) fn agreed(&self) -> Option<Agreed> {
        self.state.agreed()
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
