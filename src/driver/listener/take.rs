//! Takes one connection from the system, with a slot, and makes a socket of it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::uses::{HeldSlot, SocketUse};
use super::{ListenSettings, ListenerInner, StateGuard};
use crate::driver::connection::Connection;
use crate::driver::event_loop::LoopHandle;
use crate::driver::ops::accept::{AcceptContext, AcceptedFrom};
use crate::driver::registry::{ClientKey, NotAdmitted, Reservation, ScopeId, SlotId};
use crate::driver::sys::clock;
use crate::driver::sys::errno::AcceptFailure;
use crate::driver::sys::listen::{Accepted, ListenAddress, ListenSocket};
use crate::driver::sys::log::log_debug;
use crate::driver::sys::starvation;
use crate::driver::sys::sync::mio::net::TcpStream;
use crate::error::{Error, Fault, Result};
use crate::info::Endpoints;
use crate::machine::{AcceptorInput, Input};
use crate::options::{SecureTransport, TlsSide};

/// The interval of the log records about missing descriptors, and about clients in a row that were gone.
const STARVED_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The reasons for which a client is denied, for the log.
const DENIED: &str = "the ingress rules deny the client";
const TOO_MANY: &str = "the client has max_per_client sockets open";

/// A connection that was taken from the system.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    pub(super) accepted: Accepted,
    pub(super) slot: HeldSlot<'a>,
    /// Ends when the connection is where it belongs.
    pub(super) socket_use: SocketUse<'a>,
}

/// What one attempt to accept gave.
pub(super) enum AcceptResult<'a> {
    Connection(Taken<'a>),
    /// No connection is complete.
    WouldBlock,
    /// A client was refused, or one was gone: there may be more.
    TryAgain,
    /// Nothing more can be accepted now: the acceptor says why.
    NotNow,
}

impl ListenerInner {
    /// Takes a slot and a connection: that which a poller has taken, or else with one system call, without the lock. The
    /// acceptor learns of the result.
    pub(super) fn try_accept<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
    ) -> (StateGuard<'a>, AcceptResult<'a>) {
        if state.socket.is_none() {
            return (state, AcceptResult::NotNow);
        }
        let mut refuses = false;
        let slot = match self.reserve(&mut state) {
            Reservation::Slot(slot) => Some(slot),
            Reservation::Unlimited => None,
            Reservation::AtLimit => {
                refuses = true;
                None
            }
            Reservation::Queued(_) => {
                return (self.input(state, AcceptorInput::NoSlot), AcceptResult::NotNow);
            }
        };
        let slot = HeldSlot::new(&self.registry, slot);
        let was_shrunk = state.is_shrunk;
        let Some(mut socket_use) = self.use_socket(&mut state) else {
            unreachable!("the socket was there, and the state was locked since then");
        };
        let next_client = state.next_clients.pop_front();
        drop(state);
        let is_new = next_client.is_none();
        let mut accepted = match next_client {
            Some(client) => Ok(client),
            None => socket_use.socket().accept(),
        };
        if matches!(accepted, Err(AcceptFailure::Exhausted(_))) {
            accepted = self.accept_with_spare(socket_use.socket());
        }
        // Another thread may have ended the listener, so this may close the socket.
        socket_use.drop_socket();
        match accepted {
            Ok(accepted) => {
                let mut state = self.state();
                state.counters.accepted += u64::from(is_new);
                state.counters.over_limit += u64::from(refuses);
                let now = clock::now();
                let actions = state.acceptor.handle(AcceptorInput::Accepted, now);
                let is_late = actions.reset_client && !planted!(AbortForgetsAccept);
                let reset = refuses || is_late;
                let state = self.perform(state, actions);
                if !reset {
                    let taken = Taken { accepted, slot, socket_use };
                    return (state, AcceptResult::Connection(taken));
                }
                drop(state);
                accepted.reset();
                drop(slot);
                let mut state = self.state();
                socket_use.end(&mut state);
                (state, AcceptResult::TryAgain)
            }
            Err(failure) => {
                drop(slot);
                let (mut state, result) = self.accept_failed(failure, was_shrunk);
                socket_use.end(&mut state);
                (state, result)
            }
        }
    }

    fn accept_failed(
        self: &Arc<Self>,
        failure: AcceptFailure,
        was_shrunk: bool,
    ) -> (StateGuard<'_>, AcceptResult<'_>) {
        let mut state = self.state();
        let (input, result) = match failure {
            // An accept that began before the backlog was shrunk does not show that nothing is left.
            AcceptFailure::WouldBlock
                if state.acceptor.is_closing()
                    && !was_shrunk
                    && !planted!(CloseBelievesOldAccept) =>
            {
                return (state, AcceptResult::WouldBlock);
            }
            AcceptFailure::WouldBlock => (AcceptorInput::WouldBlock, AcceptResult::WouldBlock),
            AcceptFailure::ClientGone(fault) => {
                state.counters.lost += 1;
                let state = self.input(state, AcceptorInput::ClientGone);
                let pauses = state.acceptor.is_starved();
                let state = if pauses { self.log_starved(state, fault) } else { state };
                return (state, AcceptResult::TryAgain);
            }
            AcceptFailure::Exhausted(fault) => {
                state.counters.starved += 1;
                let state = self.log_starved(state, fault);
                // A descriptor that was closed since the accept is not reported again.
                if state.descriptor_freed {
                    return (state, AcceptResult::TryAgain);
                }
                return (self.input(state, AcceptorInput::Exhausted), AcceptResult::NotNow);
            }
            AcceptFailure::Listener(fault) => (AcceptorInput::Failed(fault), AcceptResult::NotNow),
        };
        (self.input(state, input), result)
    }

    /// Tries again with a descriptor of a lingering connection. Asks to be called when one is closed.
    #[cold]
    fn accept_with_spare(
        self: &Arc<Self>,
        socket: &ListenSocket,
    ) -> Result<Accepted, AcceptFailure> {
        if let Some(loop_handle) = LoopHandle::get_if_started() {
            loop_handle.linger_queue().close_all();
        }
        self.state().descriptor_freed = false;
        // Before the accept, so that a descriptor that is closed after it is reported.
        starvation::call_when_freed(self.starved());
        socket.accept()
    }

    /// Logs why the acceptor pauses, at most once a minute.
    pub(super) fn log_starved<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        fault: Fault,
    ) -> StateGuard<'a> {
        let now = clock::now();
        if state.starved_log.is_some_and(|last| now < last + STARVED_LOG_INTERVAL) {
            return state;
        }
        state.starved_log = Some(now);
        drop(state);
        let error = Error::from_fault(fault);
        log_debug(format_args!("{}: cannot accept a connection: {error}", self.local));
        self.state()
    }

    /// Takes a slot for the next connection, or a place in the queue for one.
    pub(super) fn reserve(self: &Arc<Self>, state: &mut StateGuard<'_>) -> Reservation {
        if let Some(slot) = state.reservation {
            if !self.registry.has_slot(slot) {
                return Reservation::Queued(slot);
            }
            state.reservation = None;
            return Reservation::Slot(slot);
        }
        let reservation = self.registry.reserve(&self.acceptance(), self.settings.wait_at_limit);
        if let Reservation::Queued(slot) = reservation {
            state.reservation = Some(slot);
        }
        reservation
    }

    /// Leaves the queue for slots, because no thread accepts. Returns the slot to cancel.
    pub(super) fn leave_slot_queue(self: &Arc<Self>, state: &mut StateGuard<'_>) -> Option<SlotId> {
        if self.settings.when_opened || state.acceptor.is_closing() {
            return None;
        }
        let slot = state.reservation.take()?;
        // No thread waits that this could wake.
        let _ = state.acceptor.handle(AcceptorInput::SlotFreed, clock::now());
        Some(slot)
    }

    /// Makes a socket of a connection that was taken ahead of the threads that accept, and keeps it for them.
    pub(super) fn keep<'a>(self: &'a Arc<Self>, taken: Taken<'a>) -> StateGuard<'a> {
        let Taken { accepted, slot, socket_use } = taken;
        let connection = self.admit(accepted, slot, None);
        // Otherwise it is in `opening` already.
        let connection = connection.filter(|_| !self.settings.when_opened);
        let mut state = self.state();
        if let Some(connection) = connection {
            state = self.add_ready(state, connection);
        }
        socket_use.end(&mut state);
        state
    }

    /// Makes a socket of an accepted connection. Returns `None` if it is refused.
    pub(super) fn admit(
        self: &Arc<Self>,
        accepted: Accepted,
        mut slot: HeldSlot<'_>,
        scope: Option<ScopeId>,
    ) -> Option<Arc<Connection>> {
        #[cfg(test)]
        self.panic_if_planted();
        let remote = accepted.remote.map(canonical);
        let client = match &remote {
            Some(remote) => remote as &dyn fmt::Display,
            None => &self.local,
        };
        if let Err(reason) = self.check_client(remote, &accepted) {
            self.count_denied(client, reason);
            accepted.reset();
            return None;
        }
        // The rules judge the client, which only the header names.
        let has_header = self.has_header(remote);
        let ingress = &self.settings.ingress;
        let key = self.limited_client(remote);
        let local = remote.and_then(|_| self.local_of(&accepted.stream));
        let acceptance = self.settings.when_opened.then(|| self.acceptance());
        let connection = Connection::accepted(
            accepted,
            AcceptedFrom {
                endpoints: Endpoints::new(remote, local),
                header_rules: has_header.then(|| Arc::clone(ingress)),
            },
            &self.settings.accepted,
            &self.registry,
            self.tls_side(),
            acceptance.as_ref(),
        );
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                // The stream is closed already.
                log_debug(format_args!("{client}: cannot be accepted: {error}"));
                return None;
            }
        };
        if self.settings.when_opened && !self.add_opening(&connection) {
            connection.reset_unadmitted();
            return None;
        }
        let context = AcceptContext { scope, client: key, reserved: slot.slot_mut() };
        if let Err(reason) = connection.register_accepted(context) {
            if self.settings.when_opened {
                self.state().opening.take(|opening| Arc::ptr_eq(opening, &connection));
            }
            connection.reset_unadmitted();
            match reason {
                NotAdmitted::TooManyOfClient => {
                    self.count_denied(client, TOO_MANY);
                }
                NotAdmitted::ShutDown => {}
            }
            return None;
        }
        Some(connection)
    }

    /// Returns the reason to deny a client, if one is known before it has a slot.
    pub(super) fn denial(&self, accepted: &Accepted) -> Option<&'static str> {
        let remote = accepted.remote.map(canonical);
        if let Err(reason) = self.check_client(remote, accepted) {
            return Some(reason);
        }
        let (client, max) = self.limited_client(remote)?;
        (self.registry.open_of_client(client) >= max).then_some(TOO_MANY)
    }

    /// Returns the client and the maximum number of its sockets, if there is one. A client behind a header is counted when
    /// the header has come.
    fn limited_client(&self, remote: Option<SocketAddr>) -> Option<(ClientKey, usize)> {
        let max = self.settings.ingress.max_of_client()?;
        let remote = remote.filter(|_| !self.has_header(remote))?;
        Some((ClientKey::new(remote.ip()), max))
    }

    /// Returns the TLS settings of the next connection.
    fn tls_side(&self) -> Option<TlsSide> {
        let options = &self.settings.accepted.socket;
        if options.secure_transport == SecureTransport::Off {
            return None;
        }
        let replaced = self.server_tls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(replaced.map_or_else(|| options.tls_side(), TlsSide::Server))
    }

    /// Adds a connection that begins to open, for an abort to find. Returns `false` if the listener was aborted.
    fn add_opening(&self, connection: &Arc<Connection>) -> bool {
        let mut state = self.state();
        if state.is_aborted() {
            return false;
        }
        state.opening.add(Arc::clone(connection), clock::now());
        true
    }

    /// Checks whether a client may connect, before anything is received from it.
    fn check_client(
        &self,
        remote: Option<SocketAddr>,
        accepted: &Accepted,
    ) -> std::result::Result<(), &'static str> {
        let ListenSettings { ingress, header_nets, .. } = &self.settings;
        if !self.has_header(remote) {
            if !header_nets.is_empty() {
                return Err("no PROXY header is expected from it");
            }
            if remote.is_some_and(|remote| !ingress.allows(remote.ip())) {
                return Err(DENIED);
            }
        }
        let Some(allowed) = &self.settings.allowed_uids else { return Ok(()) };
        let credentials = accepted.unix.as_ref().and_then(|peer| peer.credentials);
        match credentials {
            Some(credentials) if allowed.contains(&credentials.uid) => Ok(()),
            Some(_) => Err("allow_uids denies the user of the client"),
            None => Err("the system does not report the user of the client"),
        }
    }

    /// Returns whether a connection from this address begins with a PROXY header.
    fn has_header(&self, remote: Option<SocketAddr>) -> bool {
        let nets = &self.settings.header_nets;
        remote.is_some_and(|remote| nets.iter().any(|net| net.contains(remote.ip())))
    }

    pub(super) fn count_denied(&self, client: &dyn fmt::Display, reason: &str) {
        self.state().counters.denied += 1;
        log_debug(format_args!("{client}: {reason}"));
    }

    /// Returns this end's address. It is the listener's, unless that is unspecified.
    fn local_of(&self, stream: &TcpStream) -> Option<SocketAddr> {
        match self.local {
            ListenAddress::Ip(local) if local.ip().is_unspecified() => {
                stream.local_addr().ok().map(canonical)
            }
            ListenAddress::Ip(local) => Some(local),
            ListenAddress::Unix(_) => None,
        }
    }
}

pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

/// Resets a connection that no thread has accepted, and drops its handle.
pub(super) fn discard(connection: &Arc<Connection>) {
    connection.fail_on_panic(|| {
        connection.abort(Input::Abort);
        connection.drop_handle();
    });
}
