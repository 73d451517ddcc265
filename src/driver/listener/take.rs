//! Takes one connection from the system, with a slot, and makes a socket of it.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::uses::{HeldSlot, SocketUse};
use super::{ListenerInner, StateGuard};
use crate::driver::connection::Connection;
use crate::driver::event_loop::LoopHandle;
use crate::driver::ops::accept::AcceptContext;
use crate::driver::registry::{ClientKey, NotAdmitted, Reservation, ScopeId, SlotId};
use crate::driver::sys::clock;
use crate::driver::sys::errno::AcceptFailure;
use crate::driver::sys::listen::ListenSocket;
use crate::driver::sys::log::log_debug;
use crate::driver::sys::starvation;
use crate::driver::sys::sync::mio::net::TcpStream;
use crate::driver::sys::wire::Wire;
use crate::error::{Error, Fault, Result};
use crate::info::Endpoints;
use crate::machine::{AcceptorInput, Input};
use crate::options::{SecureTransport, TlsSide};

/// The interval of the log records about missing descriptors, and about clients in a row that were gone.
const STARVED_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A connection that was taken from the system.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    pub(super) stream: TcpStream,
    pub(super) remote: SocketAddr,
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
    /// Takes a slot and makes one system call, without the lock. The acceptor learns of the result.
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
        drop(state);
        let mut accepted = socket_use.socket().accept();
        if matches!(accepted, Err(AcceptFailure::Exhausted(_))) {
            accepted = self.accept_with_spare(socket_use.socket());
        }
        // Another thread may have ended the listener, so this may close the socket.
        socket_use.drop_socket();
        match accepted {
            Ok((stream, remote)) => {
                let mut state = self.state();
                state.counters.accepted += 1;
                state.counters.over_limit += u64::from(refuses);
                let now = clock::now();
                let actions = state.acceptor.handle(AcceptorInput::Accepted, now);
                let is_late = actions.reset_client && !planted!(AbortForgetsAccept);
                let reset = refuses || is_late;
                let state = self.perform(state, actions);
                if !reset {
                    let taken = Taken { stream, remote, slot, socket_use };
                    return (state, AcceptResult::Connection(taken));
                }
                drop(state);
                Wire::new(stream).reset();
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
    ) -> Result<(TcpStream, SocketAddr), AcceptFailure> {
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
    fn reserve(self: &Arc<Self>, state: &mut StateGuard<'_>) -> Reservation {
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
        let Taken { stream, remote, slot, socket_use } = taken;
        let connection = self.admit(stream, remote, slot, None);
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
        stream: TcpStream,
        remote: SocketAddr,
        mut slot: HeldSlot<'_>,
        scope: Option<ScopeId>,
    ) -> Option<Arc<Connection>> {
        let remote = canonical(remote);
        #[cfg(test)]
        self.panic_if_planted();
        let ingress = &self.settings.ingress;
        if !ingress.allows(remote.ip()) {
            self.count_denied(remote, "the ingress rules deny the client");
            Wire::new(stream).reset();
            return None;
        }
        let client = ingress.max_of_client().map(|max| (ClientKey::new(remote.ip()), max));
        let local = self.local_of(&stream);
        let acceptance = self.settings.when_opened.then(|| self.acceptance());
        let connection = Connection::accepted(
            stream,
            Endpoints::new(remote, local),
            &self.settings.accepted,
            &self.registry,
            self.tls_side(),
            acceptance.as_ref(),
        );
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                // The stream is closed already.
                log_debug(format_args!("{remote}: cannot be accepted: {error}"));
                return None;
            }
        };
        if self.settings.when_opened {
            self.state().opening.add(Arc::clone(&connection), clock::now());
        }
        let context = AcceptContext { scope, client, reserved: slot.slot_mut() };
        if let Err(reason) = connection.register_accepted(context) {
            if self.settings.when_opened {
                self.state().opening.take(|opening| Arc::ptr_eq(opening, &connection));
            }
            connection.reset_unadmitted();
            match reason {
                NotAdmitted::TooManyOfClient => {
                    self.count_denied(remote, "the client has max_per_client sockets open");
                }
                NotAdmitted::ShutDown => {}
            }
            return None;
        }
        if self.settings.when_opened && self.discard_if_aborted(&connection) {
            return None;
        }
        Some(connection)
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

    /// Resets a connection that began to open while the listener was aborted.
    fn discard_if_aborted(&self, connection: &Arc<Connection>) -> bool {
        let mut state = self.state();
        if !state.is_aborted() {
            return false;
        }
        let late = state.opening.take(|opening| Arc::ptr_eq(opening, connection));
        drop(state);
        late.inspect(discard);
        true
    }

    fn count_denied(&self, remote: SocketAddr, reason: &str) {
        self.state().counters.denied += 1;
        log_debug(format_args!("{remote}: {reason}"));
    }

    /// Returns this end's address. It is the listener's, unless that is unspecified.
    fn local_of(&self, stream: &TcpStream) -> Option<SocketAddr> {
        if self.local.ip().is_unspecified() {
            stream.local_addr().ok().map(canonical)
        } else {
            Some(self.local)
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
