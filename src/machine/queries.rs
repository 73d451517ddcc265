//! The methods of a machine that tell its state.

use std::time::Instant;

use super::Machine;
use super::actions::AttemptId;
use super::input::{Background, UpgradeError};
use super::state::Preamble;
use super::tls::Session;
use crate::error::{FailedAttempt, Fault, Step, TimerKind};
use crate::info::{Negotiated, Phase, Stats, Timings};
use crate::tls::Failure;

/// Queries, which change nothing.
impl Machine {
    /// Returns the error of a read that begins now, if it would fail.
    #[must_use]
    pub fn read_error(&self) -> Option<Fault> {
        self.state.read_error()
    }

    /// Returns the error of a write that begins now, if it would fail. A write that began before may continue.
    #[must_use]
    pub fn write_error(&self) -> Option<Fault> {
        self.state.write_error()
    }

    /// Returns whether this attempt is in progress and was not cancelled.
    #[must_use]
    pub fn is_attempt_pending(&self, id: AttemptId) -> bool {
        self.state.is_attempt_pending(id)
    }

    /// Returns the reason why an upgrade can't begin, now or later.
    #[must_use]
    pub fn upgrade_error(&self) -> Option<UpgradeError> {
        self.state.upgrade_error()
    }

    /// Returns the instant at which to report [`TimerExpired`](super::Input::TimerExpired), and the limit that expires
    /// then.
    #[must_use]
    pub fn next_timer(&self) -> Option<(Instant, TimerKind)> {
        self.state.next_timer()
    }

    /// Returns the socket's phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.state.phase()
    }

    /// Returns whether the connection was established: `None` while that is undecided. A later failure does not change
    /// it.
    #[must_use]
    pub fn opened(&self) -> Option<Result<(), Fault>> {
        self.state.opened()
    }

    /// Returns how the socket ended: `None` until it has. The outcome never changes.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<(), Fault>> {
        self.state.outcome()
    }

    /// Returns the events to monitor the wire for while no caller reads.
    #[must_use]
    pub fn background(&self) -> Background {
        self.state.background()
    }

    /// Returns whether the write side is open: neither closed nor failed.
    #[must_use]
    pub fn is_write_open(&self) -> bool {
        self.state.is_write_open()
    }

    /// Returns whether a receive permit is in use.
    #[must_use]
    pub fn recv_in_flight(&self) -> bool {
        self.state.recv_in_flight()
    }

    /// Returns the current step of connecting or closing, or the one that failed.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        self.state.step()
    }

    /// Returns the duration of each step of a failed connect. If the handshake failed, the other steps are zero here,
    /// because [`Actions::attach`](super::Actions::attach) reported them.
    #[must_use]
    pub fn timings(&self) -> Option<Timings> {
        self.state.timings()
    }

    /// Returns all attempts of a failed connect, in order.
    #[must_use]
    pub fn attempts(&self) -> &[FailedAttempt] {
        self.state.attempts()
    }

    /// Returns the number of application bytes read and written.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Returns whether a transmit buffer is lent.
    pub(crate) fn transmit_in_flight(&self) -> bool {
        match self.state.tls() {
            Some(tls) => tls.transmit_in_flight(),
            None => self.state.preamble().is_some_and(Preamble::transmit_in_flight),
        }
    }

    /// Returns whether there is ciphertext, or a message of a preamble, that the kernel has not accepted.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        match self.state.tls() {
            Some(tls) => !tls.is_flushed(),
            None => self.state.preamble().is_some_and(Preamble::has_unsent),
        }
    }

    /// Returns whether there is ciphertext other than close_notify that the kernel has not accepted.
    #[must_use]
    pub fn has_undelivered_data(&self) -> bool {
        self.state.tls().is_some_and(|tls| tls.has_undelivered_data())
    }

    /// Returns whether there is decrypted data that no reader has taken.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.state.tls().is_some_and(|tls| tls.has_unread())
    }

    /// Returns whether the connection uses TLS, with the target or with a proxy, during the handshake or after it.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.state.tls().is_some()
    }

    /// Returns whether an upgrade has begun and is not complete.
    #[must_use]
    pub fn is_upgrade_pending(&self) -> bool {
        self.state.is_upgrade_pending()
    }

    /// Returns whether an upgrade is pending and no receive permit is in use. The driver then checks the wire and
    /// reports [`Input::UpgradeReady`](super::Input::UpgradeReady),
    /// [`Input::UnexpectedPlaintext`](super::Input::UnexpectedPlaintext), EOF or a failure.
    #[must_use]
    pub fn is_idle_for_upgrade(&self) -> bool {
        self.state.is_idle_for_upgrade()
    }

    /// Returns the result of the TLS handshake.
    pub(crate) fn negotiated(&self) -> Option<Negotiated> {
        self.state.negotiated()
    }

    /// Returns the message for [`Fault::Tls`].
    #[must_use]
    pub fn tls_failure(&self) -> Option<&str> {
        self.state.failure().map(Failure::message)
    }

    /// Returns whether the handshake ended before anything came in answer to a ClientHello with a post-quantum key.
    pub(crate) fn hello_was_unanswered(&self) -> bool {
        self.state.hello_was_unanswered()
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.state.failure()
    }

    /// Returns whether the TLS session may run the program's code, such as a certificate verifier.
    #[must_use]
    pub fn runs_foreign_code(&self) -> bool {
        self.state.tls().is_some_and(Session::is_foreign)
    }

    /// Returns whether dropping the machine may run the program's code.
    #[must_use]
    pub(crate) fn holds_foreign_code(&self) -> bool {
        self.runs_foreign_code() || self.state.has_discarded()
    }

    /// Returns whether the handshake has yet to begin, as
    /// [`begin_handshake`](super::Actions::begin_handshake) requested.
    #[must_use]
    pub fn awaits_begin(&self) -> bool {
        self.state.tls().is_some_and(Session::awaits_begin)
    }

    /// Returns whether the session is lent.
    #[must_use]
    pub fn is_lent(&self) -> bool {
        self.state.tls().is_some_and(Session::is_lent)
    }
}
