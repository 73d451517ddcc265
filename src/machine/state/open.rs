//! Transitions of an open, an upgrading and a half-closed connection.

use std::time::Instant;

use super::super::io_step::Holder;
use super::super::tls::SessionState;
use super::super::{
    Actions, Fault, Input, Policy, ReadStep, RecvPermit, Release, SendEvent, SendPermit, TimerKind,
    WriteStep,
};
use super::{
    Closed, EndedBy, Fin, Flushing, Half, Pipe, ReadEnd, State, Unread, abort, end, ended,
};

/// The content type of a handshake record.
const HANDSHAKE_RECORD: u8 = 22;

impl Pipe {
    pub(super) fn read(&mut self) -> ReadStep {
        if std::mem::replace(&mut self.receiving, true) {
            return ReadStep::Wait;
        }
        match &self.tls {
            None => ReadStep::Recv(RecvPermit(Holder::Reader)),
            Some(tls) if tls.has_unread() => ReadStep::TakePlaintext(RecvPermit(Holder::Reader)),
            Some(_) => ReadStep::Ingest(RecvPermit(Holder::Reader)),
        }
    }

    pub(super) fn write(&mut self) -> WriteStep {
        if std::mem::replace(&mut self.sending, true) {
            return WriteStep::Wait;
        }
        match &self.tls {
            None => WriteStep::Send(SendPermit(())),
            Some(_) => WriteStep::Seal(SendPermit(())),
        }
    }

    pub(super) fn handle(
        mut self,
        input: Input<'_>,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match input {
            Input::Close => {
                self.close(Release::Linger, ReadEnd::Fail(Fault::Closed), policy, now, actions)
            }
            Input::Abort | Input::AbortWrite => abort(self, actions),
            Input::CloseWrite if self.sending => State::Open(self),
            Input::CloseWrite => {
                self.close_write(actions);
                actions.wake.writable = true;
                State::HalfClosed(self, Half::ReadOnly)
            }
            Input::CancelRead => {
                actions.wake.readable = true;
                // If a reader is at the wire, the discarding starts when it returns its permit.
                if !self.receiving {
                    actions.drive_recv = true;
                }
                // Drops data that was decrypted ahead, which may reveal an EOF after it.
                Half::Discarding.on_session_progress(self, policy, now, actions)
            }
            Input::StartTls { accepts_hello } if self.is_plaintext() && !self.sending => {
                // Readers have to leave the wire.
                actions.wake.readable = true;
                let unread = if accepts_hello { Unread::ClientHello } else { Unread::Refused };
                State::UpgradePending(self, unread)
            }
            Input::Detach if self.tls.is_none() && !self.sending && !self.receiving => {
                actions.wake_all_at_end();
                State::Closed(Closed::Detached)
            }
            Input::WireFailed(fault) if self.keeps_reset(fault) => State::Open(self),
            Input::WireFailed(fault) => self.fail_undrained(fault, actions),
            Input::PartialResolved(_)
            | Input::Resolved(_)
            | Input::Attempted { .. }
            | Input::TimerExpired
            | Input::AllowHalfOpen
            | Input::StartTls { .. }
            | Input::UpgradeReady
            | Input::UnexpectedPlaintext { .. }
            | Input::Detach
            | Input::WireEof => State::Open(self),
        }
    }

    pub(super) fn handle_upgrade_pending(
        mut self,
        unread: Unread,
        input: Input<'_>,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match input {
            Input::UpgradeReady if !self.receiving => {
                actions.wake_all_at_end();
                State::Closed(Closed::Upgraded)
            }
            // The first byte of a handshake record (RFC 8446, section 5.1). The bytes stay on the wire, so that TLS
            // receives them.
            Input::UnexpectedPlaintext { first: HANDSHAKE_RECORD }
                if unread == Unread::ClientHello || planted!(ClientHelloTrusted) =>
            {
                State::UpgradePending(self, unread)
            }
            Input::UnexpectedPlaintext { .. } => self.reject_plaintext(actions),
            Input::WireEof => {
                let Some(tls) = &mut self.tls else {
                    return self.peer_ended_before_upgrade(policy, now, actions);
                };
                tls.eof();
                State::UpgradePending(self, unread).on_session_progress(policy, now, actions)
            }
            Input::WireFailed(fault) => self.fail_undrained(fault, actions),
            Input::Close => {
                self.close(Release::Linger, ReadEnd::Fail(Fault::Closed), policy, now, actions)
            }
            Input::Abort | Input::AbortWrite => abort(self, actions),
            Input::PartialResolved(_)
            | Input::Resolved(_)
            | Input::Attempted { .. }
            | Input::TimerExpired
            | Input::CloseWrite
            | Input::CancelRead
            | Input::AllowHalfOpen
            | Input::StartTls { .. }
            | Input::UpgradeReady
            | Input::Detach => State::UpgradePending(self, unread),
        }
    }

    /// Handles the peer's EOF, after all its data was delivered.
    pub(super) fn on_peer_eof(
        mut self,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        if policy.allow_half_open {
            actions.wake.readable = true;
            return State::HalfClosed(self, Half::WriteOnly);
        }
        self.queue_close_notify(actions);
        if self.has_unsent_or_permit() {
            actions.wake.readable = true;
            // The writer's permit stays valid, but now there is a limit.
            actions.wake.writable = true;
            return State::HalfClosed(self, Half::Finishing(policy.close_timeout.after(now)));
        }
        actions.shutdown_write = true;
        let release = self.release_after_eof();
        end(self, EndedBy::Peer, release, actions)
    }

    /// Handles the peer's EOF before an upgrade took place, which cancels the upgrade.
    pub(super) fn peer_ended_before_upgrade(
        self,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        if policy.allow_half_open {
            // Writers that waited for the upgrade may write after all.
            actions.wake.writable = true;
        }
        self.on_peer_eof(policy, now, actions)
    }

    /// Returns the way to release the wire after the peer's EOF. Over TLS, at least a FIN may follow its close_notify.
    fn release_after_eof(&self) -> Release {
        if self.tls.is_some() { Release::Linger } else { Release::Close }
    }

    pub(super) fn close(
        mut self,
        release: Release,
        read_end: ReadEnd,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        self.queue_close_notify(actions);
        if self.has_unsent_or_permit() {
            actions.wake.readable = true;
            actions.wake.writable = true;
            let deadline = policy.close_timeout.after(now);
            let flushing = Flushing { pipe: self, timer: deadline, release, read_end };
            return State::Closed(Closed::Flushing(Box::new(flushing)));
        }
        actions.shutdown_write = true;
        actions.release_wire(release);
        actions.wake_all_at_end();
        State::Closed(ended(self, read_end, Ok(())))
    }

    /// Closes the write side. Requests FIN at once if nothing is left to send, else later.
    fn close_write(&mut self, actions: &mut Actions) {
        self.queue_close_notify(actions);
        if !self.has_unsent_or_permit() || planted!(FinBeforeData) {
            actions.shutdown_write = true;
            self.fin = Fin::Sent;
        }
    }

    /// Queues close_notify, unless a write is in progress, which goes first.
    pub(super) fn queue_close_notify(&mut self, actions: &mut Actions) {
        if let (false, Some(tls)) = (self.sending, &mut self.tls) {
            if tls.close_notify() {
                actions.transmit = true;
            }
        }
    }

    /// Returns whether the data that the program sends is plaintext to the target.
    pub(super) fn is_plaintext(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_with_proxy())
    }

    /// Returns the state of the session. An EOF shows only after all data was read; a failure shows at once.
    pub(super) fn session_state(&self) -> SessionState {
        match &self.tls {
            None => SessionState::Established,
            Some(tls) => match tls.state() {
                SessionState::Ended | SessionState::Truncated if tls.has_unread() => {
                    SessionState::Established
                }
                progress => progress,
            },
        }
    }

    /// Returns whether accepted data or close_notify is left to send.
    pub(super) fn has_unsent_or_permit(&self) -> bool {
        self.sending || self.tls.as_ref().is_some_and(|tls| !tls.is_flushed())
    }
}

impl Half {
    pub(super) fn handle(
        self,
        mut pipe: Pipe,
        input: Input<'_>,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match (self, input) {
            (Half::ReadOnly, Input::Close) if pipe.has_unsent_or_permit() => {
                pipe.close(Release::Linger, ReadEnd::Fail(Fault::Closed), policy, now, actions)
            }
            (Half::ReadOnly, Input::Close) => {
                actions.release_wire(Release::Linger);
                actions.wake_all_at_end();
                State::Closed(ended(pipe, ReadEnd::Fail(Fault::Closed), Ok(())))
            }
            (Half::ReadOnly, Input::CancelRead) if pipe.has_unsent_or_permit() => {
                pipe.close(Release::Linger, ReadEnd::Eof(EndedBy::Local), policy, now, actions)
            }
            (Half::ReadOnly, Input::CancelRead) => {
                end(pipe, EndedBy::Local, Release::Linger, actions)
            }
            (Half::ReadOnly, Input::AbortWrite) if pipe.has_unsent_or_permit() => abort(pipe, actions),
            (Half::ReadOnly | Half::WriteOnly, Input::WireFailed(fault))
                if pipe.keeps_reset(fault) =>
            {
                State::HalfClosed(pipe, self)
            }
            (Half::ReadOnly, Input::WireFailed(fault)) => pipe.fail_undrained(fault, actions),
            (Half::WriteOnly | Half::Finishing(_), Input::Close) => {
                let release = pipe.release_after_eof();
                pipe.close(release, ReadEnd::Fail(Fault::Closed), policy, now, actions)
            }
            (Half::Discarding, Input::Close) => {
                pipe.close(Release::Linger, ReadEnd::Fail(Fault::Closed), policy, now, actions)
            }
            (Half::WriteOnly | Half::Discarding, Input::CloseWrite) if !pipe.sending => {
                let release = match self {
                    Half::Discarding => Release::Linger,
                    Half::ReadOnly | Half::WriteOnly | Half::Finishing(_) => pipe.release_after_eof(),
                };
                pipe.close_write(actions);
                if pipe.has_unsent_or_permit() {
                    let read_end = ReadEnd::Eof(EndedBy::Local);
                    return pipe.close(release, read_end, policy, now, actions);
                }
                end(pipe, EndedBy::Local, release, actions)
            }
            (Half::Discarding, Input::WireEof) => pipe.on_peer_eof(policy, now, actions),
            (Half::WriteOnly, Input::WireFailed(fault)) => pipe.fail_write_only(fault, actions),
            (Half::Discarding, Input::WireFailed(fault)) => pipe.fail(fault, actions),
            (Half::Finishing(_), Input::WireFailed(fault)) => {
                pipe.fail_after_eof(fault, actions)
            }
            // Unlike a permit, lent ciphertext can't be revoked.
            (Half::Finishing(at), Input::TimerExpired) if at <= now && pipe.tls.is_some() => {
                let fault = Fault::TimedOut(TimerKind::Close);
                actions.release_wire(Release::Reset);
                actions.wake_all_at_end();
                State::Closed(ended(pipe, ReadEnd::Eof(EndedBy::Peer), Err(fault)))
            }
            // The write did not finish in time: its holder returns the permit with the bytes that the kernel took.
            (Half::Finishing(at), Input::TimerExpired) if at <= now => {
                let release = pipe.release_after_eof();
                pipe.close(release, ReadEnd::Eof(EndedBy::Peer), policy, now, actions)
            }
            (Half::ReadOnly | Half::WriteOnly | Half::Discarding | Half::Finishing(_), Input::Abort)
            | (Half::WriteOnly | Half::Discarding | Half::Finishing(_), Input::AbortWrite) => {
                abort(pipe, actions)
            }
            // The write side has ended cleanly.
            (Half::ReadOnly, Input::AbortWrite | Input::CloseWrite)
            // Repeated, or while a write is in progress.
            | (Half::WriteOnly | Half::Discarding | Half::Finishing(_), Input::CloseWrite)
            | (Half::WriteOnly | Half::Discarding | Half::Finishing(_), Input::CancelRead)
            // Not expected in this state.
            | (Half::ReadOnly | Half::WriteOnly | Half::Finishing(_), Input::WireEof)
            | (
                Half::ReadOnly | Half::WriteOnly | Half::Discarding | Half::Finishing(_),
                Input::PartialResolved(_)
                | Input::Resolved(_)
                | Input::Attempted { .. }
                | Input::AllowHalfOpen
                | Input::StartTls { .. }
                | Input::UpgradeReady
                | Input::UnexpectedPlaintext { .. }
                | Input::Detach
                | Input::TimerExpired,
            ) => State::HalfClosed(pipe, self),
        }
    }

    pub(super) fn on_session_progress(
        self,
        mut pipe: Pipe,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        if let (Half::Discarding, Some(tls)) = (self, &mut pipe.tls) {
            tls.drop_unread();
        }
        match (self, pipe.session_state()) {
            (Half::ReadOnly, SessionState::Ended) if pipe.has_unsent_or_permit() => {
                let release = pipe.release_after_eof();
                pipe.close(release, ReadEnd::Eof(EndedBy::Local), policy, now, actions)
            }
            (Half::ReadOnly, SessionState::Ended) => {
                let release = pipe.release_after_eof();
                end(pipe, EndedBy::Local, release, actions)
            }
            (Half::Discarding, SessionState::Ended) => pipe.on_peer_eof(policy, now, actions),
            (Half::ReadOnly | Half::Discarding, SessionState::Truncated) => {
                pipe.fail(Fault::Truncated, actions)
            }
            (Half::ReadOnly | Half::Discarding, SessionState::Failed) => pipe.fail_tls(actions),
            (
                Half::ReadOnly | Half::Discarding,
                SessionState::Handshaking | SessionState::Established,
            )
            // Input after the peer's EOF is ignored.
            | (
                Half::WriteOnly | Half::Finishing(_),
                SessionState::Handshaking
                | SessionState::Established
                | SessionState::Ended
                | SessionState::Truncated
                | SessionState::Failed,
            ) => State::HalfClosed(pipe, self),
        }
    }

    pub(super) fn handle_send_event(
        self,
        mut pipe: Pipe,
        what: SendEvent,
        actions: &mut Actions,
    ) -> State {
        match (self, what) {
            (Half::Discarding | Half::WriteOnly, SendEvent::Failed(fault))
                if pipe.loses_nothing(fault) =>
            {
                pipe.discard_own_records(actions);
                State::HalfClosed(pipe, self)
            }
            (Half::Discarding, SendEvent::Failed(fault)) => pipe.fail(fault, actions),
            (Half::WriteOnly, SendEvent::Failed(fault)) => pipe.fail_write_only(fault, actions),
            (Half::Finishing(_), SendEvent::Failed(fault)) => pipe.fail_after_eof(fault, actions),
            // close_notify is lost. How the peer has ended is still unread.
            (Half::ReadOnly, SendEvent::Failed(fault)) if pipe.loses_nothing(fault) => {
                if let Some(tls) = &mut pipe.tls {
                    tls.discard_unsent();
                }
                pipe.fin = Fin::Sent;
                actions.shutdown_write = true;
                actions.wake.writable = true;
                State::HalfClosed(pipe, self)
            }
            (Half::ReadOnly, SendEvent::Failed(fault)) => pipe.fail_undrained(fault, actions),
            (Half::Finishing(_), SendEvent::Cancelled) => {
                pipe.close_write(actions);
                if pipe.has_unsent_or_permit() {
                    return State::HalfClosed(pipe, self);
                }
                let release = pipe.release_after_eof();
                end(pipe, EndedBy::Peer, release, actions)
            }
            // The transmit buffer held close_notify, the last record of this side.
            (Half::ReadOnly, SendEvent::Cancelled)
                if pipe.fin == Fin::Pending && !pipe.has_unsent_or_permit() =>
            {
                pipe.fin = Fin::Sent;
                actions.shutdown_write = true;
                actions.wake.writable = true;
                State::HalfClosed(pipe, self)
            }
            (Half::ReadOnly | Half::WriteOnly | Half::Discarding, SendEvent::Cancelled) => {
                State::HalfClosed(pipe, self)
            }
        }
    }
}
