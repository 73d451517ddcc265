//! Foreign code in a TLS session runs outside of the machine, so that whoever guards the machine by a lock
//! does not hold it meanwhile.

use std::time::Instant;

use super::tls::{Discarded, Session};
use super::{Action, Actions, Input, Machine, RecvBuf, RecvPermit, SendEvent};

/// A TLS session that is out of its [`Machine`], which goes on meanwhile: it closes, runs out of time, and tells
/// what it knows. It has to be [restored](Machine::restore).
#[derive(Debug)]
#[must_use = "a session that is not given back can't go on"]
pub struct Loan {
    session: Box<Session>,
    permit: Option<RecvPermit>,
}

impl Loan {
    /// Begins the handshake, if the session was lent for that. Runs foreign code.
    pub fn begin_handshake(&mut self) {
        self.session.begin();
    }

    /// Takes in what was received. Runs foreign code.
    pub fn read_tls(&mut self, recv_buf: &mut RecvBuf) {
        self.session.read_tls_all(recv_buf);
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

    /// Whether a handshake of foreign code has yet to be begun, as [`Action::BeginHandshake`] said.
    #[must_use]
    pub fn awaits_begin(&self) -> bool {
        self.state.tls().is_some_and(Session::awaits_begin)
    }

    /// Whether the session is lent.
    #[must_use]
    pub fn is_lent(&self) -> bool {
        self.state.tls().is_some_and(Session::is_lent)
    }

    /// Lends the session to who [begins](Loan::begin_handshake) its handshake. None where that is not awaited.
    pub fn lend_to_begin(&mut self) -> Option<Loan> {
        let tls = self.state.tls_mut().filter(|tls| tls.awaits_begin())?;
        let session = tls.lend()?;
        Some(Loan { session, permit: None })
    }

    /// Lends the session to who has received ciphertext with `permit`, and [feeds](Loan::read_tls) it with that. The
    /// pass comes back where the session runs no foreign code, or there is none any more: then
    /// [`ingest`](Self::ingest) ends it.
    ///
    /// # Errors
    /// The permit.
    #[inline]
    pub fn lend(&mut self, permit: RecvPermit) -> Result<Loan, RecvPermit> {
        match self.state.tls_mut() {
            Some(tls) if tls.is_foreign() => match tls.lend() {
                Some(session) => Ok(Loan { session, permit: Some(permit) }),
                None => Err(permit),
            },
            Some(_) | None => Err(permit),
        }
    }

    /// Takes a session back, and ends its permit. What the state has no use for any more comes back, to be
    /// dropped without the lock.
    pub fn restore(&mut self, loan: Loan, now: Instant) -> (Option<Discarded>, Actions<'_>) {
        let mut actions = Actions::none();
        let Loan { session, permit } = loan;
        let begun = permit.is_none();
        if let Some(permit) = permit {
            self.state.return_recv(permit, &mut actions);
        }
        // The time may have passed meanwhile.
        if self.state.next_timer().is_some_and(|(at, _)| at <= now) {
            self.transition(&mut actions, |state, policy, actions| {
                state.handle(Input::TimerExpired, policy, now, actions)
            });
        }
        let Some(tls) = self.state.tls_mut().filter(|tls| tls.is_lent()) else {
            return (Some(Discarded::session(session)), actions);
        };
        if tls.restore(*session) {
            actions.push(Action::Transmit);
        }
        if tls.is_suspicious() {
            tls.bound_flood(now);
        }
        // Who writes may have waited for it.
        if tls.can_seal() && self.state.send_in_flight() {
            actions.push(Action::Writable);
        }
        if !self.state.is_fully_open() {
            self.transition(&mut actions, |state, policy, actions| {
                state.on_session_progress(policy, now, actions)
            });
        }
        if self.state.can_end_on_send() {
            self.transition(&mut actions, |state, _, actions| {
                state.handle_send_event(SendEvent::Cancelled, actions)
            });
        }
        if begun && self.state.outcome().is_none() {
            actions.push(Action::DriveRecv);
        }
        (None, actions)
    }

    /// What is left of TLS and wanted no more, to be dropped without the lock. Some only where dropping may run
    /// foreign code.
    #[must_use]
    pub fn take_discarded(&mut self) -> Option<Discarded> {
        self.state.take_discarded()
    }
}
