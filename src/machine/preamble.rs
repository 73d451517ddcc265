//! The methods of a machine for a preamble: the dialogue with a proxy, or its PROXY header.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Actions, AttemptId, Fault, Machine, ProxySession, RecvPermit};

/// Preambles: what is exchanged on a wire before it is the user's.
impl Machine {
    /// Returns whether the wire is still in its preamble.
    #[must_use]
    pub fn is_in_preamble(&self) -> bool {
        self.state.preamble().is_some()
    }

    /// Returns how many of the bytes at the front of the wire, as a peek sees them, belong to the preamble. At least
    /// one does. Returns 0 if there is no preamble any more.
    #[must_use]
    pub fn preamble_len(&self, peeked: &[u8]) -> usize {
        self.state.preamble().map_or(0, |preamble| preamble.own_len(peeked))
    }

    /// Returns a permit of [`begin_background_recv`](Self::begin_background_recv) with the bytes that a peek saw at the
    /// front of the wire. The driver has already received those that belong to the preamble, of which
    /// [`preamble_len`](Self::preamble_len) returned the number. Returns the same number, or 0 if there is no preamble
    /// any more.
    pub fn handle_preamble(
        &mut self,
        permit: RecvPermit,
        peeked: &[u8],
        now: Instant,
    ) -> (usize, Actions) {
        let mut actions = Actions::default();
        self.state.return_recv(permit, &mut actions);
        let mut own = 0;
        if self.state.preamble().is_some() {
            self.transition(&mut actions, |state, _, actions| {
                let advanced = state.advance_preamble(peeked, now, actions);
                own = advanced.0;
                advanced.1
            });
        }
        (own, actions)
    }

    /// Returns the client that a PROXY header names, and how many sockets it may have open. Returns `None` if these bytes do
    /// not complete the header, if the rules deny the client, or if they set no
    /// [`max_per_client`](crate::IngressRules::max_per_client). The driver counts the client, and then passes the bytes
    /// to [`handle_preamble`](Self::handle_preamble) or to [`deny_client`](Self::deny_client).
    #[must_use]
    pub fn counted_client(&self, peeked: &[u8]) -> Option<(SocketAddr, usize)> {
        self.state.preamble()?.counted_client(peeked)
    }

    /// Returns a permit as [`handle_preamble`](Self::handle_preamble) does, but denies the client that the PROXY header
    /// names, because it has as many open sockets as it may have.
    pub fn deny_client(&mut self, permit: RecvPermit, client: SocketAddr, now: Instant) -> Actions {
        let mut actions = Actions::default();
        self.state.return_recv(permit, &mut actions);
        self.transition(&mut actions, |state, _, actions| {
            state.deny_client(client, Fault::ClientLimit, now, actions)
        });
        actions
    }

    /// Drops what a preamble still has to send, because the wire has failed. The driver can then receive what the proxy
    /// sent before, which tells more than the failure, and reports the failure by
    /// [`transmit_failed`](Self::transmit_failed) afterwards. Without a preamble, nothing changes.
    pub fn cut_off_preamble(&mut self) {
        if let Some(preamble) = self.state.preamble_mut() {
            preamble.cut_off();
        }
    }

    /// Returns whether the lookup that [`Actions::resolve`] requested is that of the target behind a proxy, and not that
    /// of the proxy.
    #[must_use]
    pub fn resolves_target(&self) -> bool {
        self.state.resolves_target()
    }

    /// Returns the address that a proxy is to get, if this side knows it. The driver checks that it is no listener of
    /// this program before it dials the proxy.
    #[must_use]
    pub fn destination(&self) -> Option<SocketAddr> {
        self.state.destination()
    }

    /// Denies the [`destination`](Self::destination), because it is a listener of this program or that is unknown. The
    /// driver has not started the attempt `id`. The actions start it for the next address of the target, or the socket
    /// fails.
    pub fn deny_destination(&mut self, id: AttemptId, fault: Fault, now: Instant) -> Actions {
        let mut actions = Actions::default();
        self.transition(&mut actions, |state, _, actions| {
            state.deny_destination(id, fault, now, actions)
        });
        actions
    }

    /// Takes the TLS session with a proxy, for the machine that [takes over](Self::upgraded) an upgraded connection. The
    /// driver does so before it reports [`Input::UpgradeReady`](super::Input::UpgradeReady). Returns `None` if the
    /// connection is in plaintext.
    #[must_use]
    pub fn take_proxy_session(&mut self) -> Option<ProxySession> {
        self.state.take_proxy_session().map(ProxySession)
    }

    /// Returns the first byte that is unread and decrypted. Before an upgrade through an `https` proxy, the driver reports
    /// it as [`Input::UnexpectedPlaintext`](super::Input::UnexpectedPlaintext).
    #[must_use]
    pub fn first_unread(&mut self) -> Option<u8> {
        self.state.tls_mut()?.unread().first().copied()
    }

    /// Returns whether it is TLS with a proxy that failed, and not TLS with the target.
    #[must_use]
    pub fn failed_with_proxy(&self) -> bool {
        self.state.failed_with_proxy()
    }

    /// Returns whether the connection failed because its proxy could not be reached.
    #[must_use]
    pub fn is_proxy_unreachable(&self) -> bool {
        self.state.is_proxy_unreachable()
    }

    /// Returns the answer of a proxy that did not accept, in words that follow the proxy's name.
    #[must_use]
    pub fn proxy_answer(&self) -> Option<&str> {
        self.state.proxy_answer()
    }
}
