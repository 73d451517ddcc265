//! Lends a TLS session out of the machine, so that the program's code in it runs without the driver's lock.

use std::time::Instant;

use super::tls::{Discarded, Session};
use super::{Actions, Input, Machine, RecvBuf, RecvPermit, SendEvent};

/// A TLS session that was lent out of its [`Machine`]. Without it, the machine still closes, times out and answers
/// queries. The holder must [restore](Machine::restore) it.
#[derive(Debug)]
#[must_use = "a session that is not restored can't continue"]
pub struct Loan {
    session: Box<Session>,
    permit: Option<RecvPermit>,
}

impl Loan {
    /// Begins the handshake, if the session was lent for that. Runs the program's code.
    pub fn begin_handshake(&mut self) {
        self.session.begin();
    }

    /// Processes received ciphertext. Runs the program's code.
    pub fn read_tls(&mut self, recv_buf: &mut RecvBuf) {
        self.session.read_tls_all(recv_buf);
    }
}

/// TLS sessions that run the program's code, outside the driver's lock.
impl Machine {
    /// Lends the session so that the caller [begins](Loan::begin_handshake) its handshake. Returns `None` if no
    /// handshake is to begin.
    pub fn lend_to_begin(&mut self) -> Option<Loan> {
        let tls = self.state.tls_mut().filter(|tls| tls.awaits_begin())?;
        let session = tls.lend()?;
        Some(Loan { session, permit: None })
    }

    /// Lends the session to a caller that received ciphertext with `permit`, to pass it to [`Loan::read_tls`].
    ///
    /// # Errors
    /// The permit, if the session does not run the program's code, or if there is no session any more. The caller then
    /// returns it to [`ingest`](Self::ingest).
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

    /// Restores a session and returns its permit to the machine. If the machine does not need the session any more,
    /// returns it; the caller drops it without the lock.
    pub fn restore(&mut self, loan: Loan, now: Instant) -> (Option<Discarded>, Actions) {
        let mut actions = Actions::default();
        let Loan { session, permit } = loan;
        let begun = permit.is_none();
        if let Some(permit) = permit {
            self.state.return_recv(permit, &mut actions);
        }
        // The timer may have expired while the session was lent.
        if self.state.next_timer().is_some_and(|(at, _)| at <= now) {
            self.transition(&mut actions, |state, policy, actions| {
                state.handle(Input::TimerExpired, policy, now, actions)
            });
        }
        let Some(tls) = self.state.tls_mut().filter(|tls| tls.is_lent()) else {
            return (Some(Discarded::session(session)), actions);
        };
        if tls.restore(*session) {
            actions.transmit = true;
        }
        if tls.is_suspicious() {
            tls.bound_flood(now);
        }
        // A writer may have waited for the session.
        if tls.can_seal() && self.state.send_in_flight() {
            actions.wake.writable = true;
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
            actions.drive_recv = true;
        }
        (None, actions)
    }

    /// Takes the remains of TLS that the machine does not need any more; the caller drops them without the lock.
    /// Returns `None` unless dropping may run the program's code.
    #[must_use]
    pub fn take_discarded(&mut self) -> Option<Discarded> {
        self.state.take_discarded()
    }
}
