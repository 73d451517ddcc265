//! Failures of an established connection: what is lost, and what can still be read.

use super::super::tls::Session;
use super::super::{Actions, Fault, RecvEvent, Release};
use super::{Closed, EndedBy, Fin, Pipe, ReadEnd, State, end, ended};

impl Pipe {
    /// Fails an upgrade because plaintext arrived, which the program should have read before, or which an attacker
    /// injected.
    pub(super) fn reject_plaintext(mut self, actions: &mut Actions) -> State {
        self.queue_close_notify(actions);
        actions.shutdown_write = true;
        actions.release_wire(Release::Linger);
        actions.wake_all_at_end();
        let fault = Fault::UnreadPlaintext;
        State::Closed(ended(self, ReadEnd::Fail(fault), Err(fault)))
    }

    /// Handles a failure of the wire when no data can be left to read.
    pub(super) fn fail(self, fault: Fault, actions: &mut Actions) -> State {
        actions.release_wire(Release::Close);
        actions.wake_all_at_end();
        State::Closed(ended(self, ReadEnd::Fail(fault), Err(fault)))
    }

    /// Handles a failure of the wire when the kernel may still hold earlier data.
    pub(super) fn fail_undrained(mut self, fault: Fault, actions: &mut Actions) -> State {
        if let Some(tls) = &mut self.tls {
            tls.discard_unsent();
            if !tls.has_unread() && !tls.wants_tls() {
                return self.fail(fault, actions);
            }
        }
        actions.wake_all_at_end();
        let read_end = ReadEnd::Undrained(Box::new(self));
        State::Closed(Closed::Ended { read_end, outcome: Err(fault), summary: None })
    }

    /// Handles a TLS failure: sends the alert, and keeps data that was decrypted before it readable.
    pub(super) fn fail_tls(self, actions: &mut Actions) -> State {
        // Nothing may follow a FIN.
        if self.fin == Fin::Pending {
            actions.transmit = true;
            actions.shutdown_write = true;
        }
        actions.release_wire(Release::Linger);
        actions.wake_all_at_end();
        let fault = Fault::Tls;
        if self.tls.as_ref().is_some_and(|tls| tls.has_unread()) {
            let read_end = ReadEnd::Buffered(Box::new(self));
            return State::Closed(Closed::Ended { read_end, outcome: Err(fault), summary: None });
        }
        State::Closed(ended(self, ReadEnd::Fail(fault), Err(fault)))
    }

    /// Handles a failure of the wire after the peer's EOF, when this side ends too. Over TLS, the EOF is authenticated: if
    /// no data was left to send, nothing is lost.
    pub(super) fn fail_after_eof(self, fault: Fault, actions: &mut Actions) -> State {
        if self.tls.is_some() && !self.has_undelivered_data() {
            return end(self, EndedBy::Peer, Release::Close, actions);
        }
        self.fail_write_only(fault, actions)
    }

    /// Handles a failure of the wire after the peer's EOF. The data of the peer is complete if its EOF is authenticated, or
    /// if the system reports the failure as a later one.
    pub(super) fn fail_write_only(self, fault: Fault, actions: &mut Actions) -> State {
        if self.tls.is_none() && !matches!(fault, Fault::ResetAfterEnd(_)) {
            return self.fail(fault, actions);
        }
        actions.release_wire(Release::Close);
        actions.wake_all_at_end();
        State::Closed(ended(self, ReadEnd::Eof(EndedBy::Peer), Err(fault)))
    }

    /// Returns whether there is accepted data that the kernel does not have.
    pub(super) fn has_undelivered_data(&self) -> bool {
        self.sending || self.tls.as_ref().is_some_and(|tls| tls.has_undelivered_data())
    }

    /// Returns whether a failed send loses only records of TLS itself, such as session tickets, at a Unix-domain peer that
    /// has closed. How the peer has ended is for receives to tell, and a later write fails by itself.
    pub(super) fn loses_nothing(&self, fault: Fault) -> bool {
        matches!(fault, Fault::ResetAfterEnd(_))
            && self.tls.is_some()
            && !self.has_undelivered_data()
    }

    /// Drops records that met a peer which has closed. A flush has nothing more to wait for.
    pub(super) fn discard_own_records(&mut self, actions: &mut Actions) {
        if let Some(tls) = &mut self.tls {
            tls.discard_own_records();
        }
        actions.wake.writable = true;
    }

    /// Keeps a reset for later if the peer may have left only session tickets unread, and so may have ended cleanly before.
    /// What it has sent tells. Returns whether the reset is kept.
    pub(super) fn keeps_reset(&mut self, fault: Fault) -> bool {
        match (fault, &mut self.tls) {
            (Fault::Reset(_) | Fault::ResetAfterEnd(_), Some(tls))
                if !self.sending && tls.has_sent_only_tickets() =>
            {
                tls.keep_fault(fault);
                true
            }
            _ => false,
        }
    }
}

impl State {
    /// Returns what a receive has found, which is no end if a failure was kept for it.
    pub(super) fn with_kept_fault(&self, what: RecvEvent) -> RecvEvent {
        match (what, self.tls().and_then(Session::kept_fault)) {
            (RecvEvent::Eof, Some(fault)) => RecvEvent::Failed(fault),
            (what, _) => what,
        }
    }
}
