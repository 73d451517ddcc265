//! What a dialogue receives and sends, and its answers to queries.

use std::net::SocketAddr;
use std::time::Instant;

use super::super::super::io_step::Holder;
use super::super::super::{
    Actions, Fault, ReadStep, RecvPermit, TimerKind, Transmit, UpgradeError,
};
use super::super::{Pipe, State};
use super::{Preamble, Purpose};
use crate::tls::{Role, TlsSetup};

impl State {
    /// Passes bytes at the front of the wire to the preamble. Returns how many of them are its own.
    pub(in super::super::super) fn advance_preamble(
        self,
        peeked: &[u8],
        now: Instant,
        actions: &mut Actions,
    ) -> (usize, State) {
        match self {
            State::Preamble(preamble) => preamble.advance(peeked, now, actions),
            state @ (State::Connecting(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(..)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned) => (0, state),
        }
    }

    /// Denies the client that the PROXY header in sight names.
    pub(in super::super::super) fn deny_client(
        self,
        client: SocketAddr,
        fault: Fault,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match self {
            State::Preamble(preamble) => preamble.deny_client(client, fault, now, actions),
            state @ (State::Connecting(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(..)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned) => state,
        }
    }
}

impl Preamble {
    /// Returns a permit to look at the wire. Nothing is received before everything is sent, because an answer to half a
    /// request would leave the other half for the target.
    pub(in super::super) fn begin_recv(&mut self) -> Option<RecvPermit> {
        if self.pipe.receiving {
            return None;
        }
        let waits = match &mut self.pipe.tls {
            Some(tls) => !tls.can_read_tls() || tls.defers_until_flushed(),
            None => {
                let waits = !self.send_queue.is_empty();
                self.recv_deferred |= waits;
                waits
            }
        };
        if waits {
            return None;
        }
        self.pipe.receiving = true;
        Some(RecvPermit(Holder::Background))
    }

    pub(in super::super::super) fn next_transmit(&mut self) -> Option<Transmit> {
        self.send_queue.next()
    }

    /// Takes a transmit buffer back. Returns whether a receive was deferred and has to be requested again.
    pub(in super::super::super) fn return_unsent(&mut self, transmit: &mut Transmit) -> bool {
        self.send_queue.return_unsent(transmit);
        self.send_queue.is_empty() && std::mem::take(&mut self.recv_deferred)
    }

    /// Drops what is left to send, because the wire accepts no more. What the proxy sent before can then be received.
    pub(in super::super::super) fn cut_off(&mut self) {
        match &mut self.pipe.tls {
            Some(tls) => tls.discard_unsent(),
            None => self.send_queue.discard_all(),
        }
        self.is_cut_off = true;
    }

    pub(in super::super::super) fn has_unsent(&self) -> bool {
        !self.send_queue.is_empty()
    }

    pub(in super::super::super) fn transmit_in_flight(&self) -> bool {
        self.send_queue.is_in_flight()
    }

    pub(in super::super) fn pipe(&self) -> &Pipe {
        &self.pipe
    }

    pub(in super::super) fn pipe_mut(&mut self) -> &mut Pipe {
        &mut self.pipe
    }

    // ------------------------------------------------------------- queries

    /// Returns whether the proxy is an `https` proxy.
    pub(in super::super) fn is_tls(&self) -> bool {
        self.pipe.tls.is_some()
    }

    pub(in super::super) fn read(&self) -> ReadStep {
        self.read_intent.step()
    }

    pub(in super::super) fn upgrade_error(&self) -> Option<UpgradeError> {
        self.read_intent.upgrade_error()
    }

    pub(in super::super) fn next_timer(&self) -> Option<(Instant, TimerKind)> {
        self.timer.map(|at| (at, self.timer_kind()))
    }

    pub(super) fn timer_kind(&self) -> TimerKind {
        match self.purpose {
            Purpose::Target { .. } => TimerKind::Proxy,
            Purpose::Client { .. } => TimerKind::ProxyHeader,
        }
    }

    /// Returns what the dialogue is about.
    #[cfg(test)]
    pub(in super::super) fn about(&self) -> &'static str {
        match self.purpose {
            Purpose::Target { .. } => "",
            Purpose::Client { is_started: true, .. } => "PROXY header, ",
            Purpose::Client { is_started: false, .. } => "PROXY header, not started, ",
        }
    }

    /// Returns whether TLS follows, for this side as the client or the server.
    #[cfg(test)]
    pub(in super::super) fn next(&self) -> &'static str {
        match self.setup.as_ref().map(TlsSetup::role) {
            None => "",
            Some(Role::Client) => ", then TLS",
            Some(Role::Server) => ", then TLS as the server",
        }
    }

    /// Returns whether TLS follows, for this side as the client.
    pub(super) fn next_is_client(&self) -> bool {
        self.setup.as_ref().is_some_and(|setup| setup.role() == Role::Client)
    }

    pub(in super::super) fn runs_foreign_code(&self) -> bool {
        let is_foreign = self.setup.as_ref().is_some_and(TlsSetup::runs_foreign_code);
        is_foreign || self.purpose.runs_foreign_code()
    }
}
