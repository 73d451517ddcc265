//! The methods of a machine by which callers receive and send.

use std::time::Instant;

use super::Machine;
use super::actions::Actions;
use super::io_step::{Holder, ReadStep, RecvEvent, RecvPermit, SendEvent, SendPermit, WriteStep};

/// Reads and writes: a [`RecvPermit`] or [`SendPermit`] allows one thread to use the wire.
impl Machine {
    /// Returns the next step of a reader.
    #[inline]
    pub fn read(&mut self) -> ReadStep {
        self.state.read()
    }

    /// Returns the next step of a writer.
    #[inline]
    pub fn write(&mut self) -> WriteStep {
        self.state.write()
    }

    /// Returns a receive permit after a receive of `bytes` bytes, at least one. The bytes count as read, unless
    /// [`read_error`](Self::read_error) then returns an error: bytes that arrive after an upgrade has begun end the
    /// connection.
    pub fn handle_recv(&mut self, permit: RecvPermit, bytes: usize) -> Actions {
        let mut actions = Actions::default();
        self.state.return_recv(permit, &mut actions);
        if self.state.is_upgrade_pending() && !planted!(TrustsPlaintext) {
            self.transition(&mut actions, |state, _, actions| state.reject_plaintext(actions));
        } else {
            self.stats.bytes_read += bytes as u64;
        }
        actions
    }

    /// Like [`handle_recv`](Self::handle_recv), if the connection is open and so no action follows. Otherwise returns
    /// the permit, and nothing changes. A caller of this needs no [`Actions`] for nearly every read.
    #[inline(always)]
    pub(crate) fn handle_recv_if_open(
        &mut self,
        permit: RecvPermit,
        bytes: usize,
    ) -> Result<(), RecvPermit> {
        if !self.state.return_recv_if_open() {
            return Err(permit);
        }
        self.stats.bytes_read += bytes as u64;
        Ok(())
    }

    /// Returns a receive permit after a receive of no bytes.
    pub fn handle_recv_event(
        &mut self,
        permit: RecvPermit,
        what: RecvEvent,
        now: Instant,
    ) -> Actions {
        let mut actions = Actions::default();
        self.state.return_recv(permit, &mut actions);
        if what != RecvEvent::Cancelled {
            self.transition(&mut actions, |state, policy, actions| {
                state.handle_recv_event(what, policy, now, actions)
            });
        }
        actions
    }

    /// Returns a send permit after the kernel accepted `bytes` bytes.
    pub fn handle_send(&mut self, permit: SendPermit, bytes: usize) -> Actions {
        self.stats.bytes_written += bytes as u64;
        self.handle_send_event(permit, SendEvent::Cancelled)
    }

    /// Like [`handle_send`](Self::handle_send), if the connection is open and so no action follows. Otherwise returns
    /// the permit, and nothing changes.
    #[inline(always)]
    pub(crate) fn handle_send_if_open(
        &mut self,
        permit: SendPermit,
        bytes: usize,
    ) -> Result<(), SendPermit> {
        if !self.state.return_send_if_open() {
            return Err(permit);
        }
        self.stats.bytes_written += bytes as u64;
        Ok(())
    }

    /// Returns a send permit after the kernel accepted nothing.
    pub fn handle_send_event(&mut self, permit: SendPermit, what: SendEvent) -> Actions {
        let mut actions = Actions::default();
        if self.state.return_send(permit) || what != SendEvent::Cancelled {
            self.transition(&mut actions, |state, _, actions| {
                state.handle_send_event(what, actions)
            });
        }
        actions
    }

    /// Returns whether a receive permit is still valid. If not, its holder makes no more system calls and returns it.
    #[must_use]
    pub fn permits_recv(&self, permit: &RecvPermit) -> bool {
        self.state.can_recv_as(permit.0)
    }

    /// Returns whether a reader's receive permit would be valid.
    #[must_use]
    pub fn can_recv(&self) -> bool {
        self.state.can_recv_as(Holder::Reader)
    }

    /// Returns whether a send permit is still valid. If not, its holder makes no more system calls and returns it.
    #[must_use]
    pub fn permits_send(&self, _permit: &SendPermit) -> bool {
        self.state.can_send()
    }
}
