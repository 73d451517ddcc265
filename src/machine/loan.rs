//! Foreign code in a TLS session runs outside of the machine, so that whoever guards the machine by a lock
//! does not hold it meanwhile.

use std::time::Instant;

use super::tls::{Discarded, Session};
use super::{Input, Intake, Machine, Output, Outputs, RecvPass, Sent};

/// A TLS session that is out of its [`Machine`], which goes on meanwhile: it closes, runs out of time, and tells
/// what it knows. It has to be [restored](Machine::restore).
#[derive(Debug)]
#[must_use = "a session that is not given back can't go on"]
pub struct Loan {
    session: Box<Session>,
    pass: Option<RecvPass>,
}

impl Loan {
    /// Begins the handshake, if the session was lent for that. Runs foreign code.
    pub fn begin(&mut self) {
        self.session.begin();
    }

    /// Takes in what was received. Runs foreign code.
    pub fn feed(&mut self, intake: &mut Intake) {
        self.session.feed_all(intake);
    }
}

impl Machine {
    /// Whether its TLS may run code that is not this crate's, such as a certificate verifier of the program.
    #[must_use]
    pub fn runs_foreign_code(&self) -> bool {
        self.state.tls().is_some_and(Session::is_foreign)
    }

    /// Whether to drop it may run code that is not this crate's.
    #[must_use]
    pub(crate) fn holds_foreign_code(&self) -> bool {
        self.runs_foreign_code() || self.state.has_discarded()
    }

    /// Whether a handshake of foreign code has yet to be begun, as [`Output::Begin`] said.
    #[must_use]
    pub fn awaits_begin(&self) -> bool {
        self.state.tls().is_some_and(Session::awaits_begin)
    }

    /// Whether the session is lent.
    #[must_use]
    pub fn is_lent(&self) -> bool {
        self.state.tls().is_some_and(Session::is_lent)
    }

    /// Lends the session to who [begins](Loan::begin) its handshake. None where that is not awaited.
    pub fn lend_to_begin(&mut self) -> Option<Loan> {
        let tls = self.state.tls_mut().filter(|tls| tls.awaits_begin())?;
        let session = tls.lend()?;
        Some(Loan { session, pass: None })
    }

    /// Lends the session to who has received ciphertext with `pass`, and [feeds](Loan::feed) it with that. The
    /// pass comes back where the session runs no foreign code, or there is none any more: then
    /// [`ingest`](Self::ingest) ends it.
    ///
    /// # Errors
    /// The pass.
    #[inline]
    pub fn lend(&mut self, pass: RecvPass) -> Result<Loan, RecvPass> {
        match self.state.tls_mut() {
            Some(tls) if tls.is_foreign() => match tls.lend() {
                Some(session) => Ok(Loan { session, pass: Some(pass) }),
                None => Err(pass),
            },
            Some(_) | None => Err(pass),
        }
    }

    /// Takes a session back, and ends its pass. What the state has no use for any more comes back, to be
    /// dropped without the lock.
    pub fn restore(&mut self, loan: Loan, now: Instant) -> (Option<Discarded>, Outputs<'_>) {
        let mut outputs = Outputs::none();
        let Loan { session, pass } = loan;
        let begun = pass.is_none();
        if let Some(pass) = pass {
            self.state.give_back_recv(pass, &mut outputs);
        }
        // The time may have passed meanwhile.
        if self.state.deadline().is_some_and(|(at, _)| at <= now) {
            self.transition(&mut outputs, |state, rules, outputs| {
                state.handle(Input::Deadline, rules, now, outputs)
            });
        }
        let Some(tls) = self.state.tls_mut().filter(|tls| tls.is_lent()) else {
            return (Some(Discarded::session(session)), outputs);
        };
        if tls.restore(*session) {
            outputs.push(Output::Transmit);
        }
        if tls.is_suspicious() {
            tls.bound_flood(now);
        }
        // Who writes may have waited for it.
        if tls.has_room() && self.state.is_sent_to() {
            outputs.push(Output::Writable);
        }
        if !self.state.is_open_on_both_sides() {
            self.transition(&mut outputs, |state, rules, outputs| {
                state.progressed(rules, now, outputs)
            });
        }
        if self.state.may_end_by_sending() {
            self.transition(&mut outputs, |state, _, outputs| state.sent(Sent::Nothing, outputs));
        }
        if begun && self.state.outcome().is_none() {
            outputs.push(Output::Attend);
        }
        (None, outputs)
    }

    /// What is left of TLS and wanted no more, to be dropped without the lock. Some only where dropping may run
    /// foreign code.
    #[must_use]
    pub fn take_discarded(&mut self) -> Option<Discarded> {
        self.state.take_discarded()
    }
}
