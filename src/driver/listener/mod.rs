//! A listener: its acceptor under a lock, and the threads that wait for connections.
//!
//! Several threads may accept. One of them has the turn: it makes the system call, and waits in poll(2) for the listening
//! socket and for its own wake handle. When it has a connection, it first passes the turn on. The other threads wait for
//! the turn on a condition variable.
//!
//! With [`AcceptWhen::Opened`], and while the listener closes, connections are accepted ahead of the callers: by the event
//! loop, and by the thread that closes. They wait in `ready`, and before that in `opening`.
//!
//! The lock has the rank of a socket's state. No descriptor is closed, and no command is posted, while it is held: a closed
//! descriptor wakes listeners that wait for one.

mod accept;
mod end;
mod open;
mod opening;
mod source;
mod take;
#[cfg(test)]
mod tests;
mod uses;
mod watched;

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use self::opening::Opening;
use crate::driver::connection::handle_count::HandleCount;
use crate::driver::connection::predictor::BlockPredictor;
use crate::driver::connection::{Acceptance, Connection, SocketRegistry};
use crate::driver::event_loop::source::LoopTicket;
use crate::driver::ops::accept::AcceptedOptions;
use crate::driver::poller::watch::WatchList;
use crate::driver::registry::{Member, SlotId};
use crate::driver::sys::descriptor::Descriptor;
use crate::driver::sys::listen::{Accepted, ListenAddress, ListenSocket};
use crate::driver::sys::lock_order::{RankedCondvar, RankedGuard, RankedMutex, rank};
use crate::driver::sys::sync::mio::Token;
use crate::driver::sys::wake::WakeHandle;
use crate::egress::{IngressRules, Net};
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::info::ListenerStats;
use crate::machine::Acceptor;
use crate::options::SecureTransport;
use crate::poll::Ready;
use crate::tls::ServerTlsOptions;

pub(crate) use self::accept::AcceptLimit;
pub(crate) use self::open::ListenConfig;

type StateGuard<'a> = RankedGuard<'a, ListenerState, { rank::STATE }>;

/// The part of a listener that its handles share.
#[derive(Debug)]
pub(crate) struct ListenerInner {
    state: RankedMutex<ListenerState, { rank::STATE }>,
    /// Signals one thread that the turn is free or a connection is ready, or all of them the end.
    turn_free: RankedCondvar,
    /// Signals the thread that has the turn and waits without poll(2), and the threads that wait for the end.
    changed: RankedCondvar,
    handles: HandleCount,
    /// The accepted sockets.
    registry: Arc<SocketRegistry>,
    local: ListenAddress,
    /// The TLS settings that replace those of the options.
    server_tls: RankedMutex<Option<ServerTlsOptions>, { rank::ALONE }>,
    /// Whether no other process has the queue.
    owns_queue: bool,
    settings: ListenSettings,
    /// Whether the next connection that is to become a socket causes a panic.
    #[cfg(test)]
    panics: std::sync::atomic::AtomicBool,
}

/// What a listener does with connections.
#[derive(Debug)]
pub(crate) struct ListenSettings {
    pub(crate) accepted: AcceptedOptions,
    pub(crate) ingress: Arc<IngressRules>,
    /// The nets of the proxies that send a PROXY header. If there are any, no one else may connect.
    pub(crate) header_nets: Vec<Net>,
    /// The users whose processes may connect to a Unix-domain socket; `None` allows all of them.
    pub(crate) allowed_uids: Option<Arc<[u32]>>,
    /// Whether connections are returned once they are open, so that the event loop accepts them.
    pub(crate) when_opened: bool,
    /// The maximum number of connections that are opening or ready.
    pub(crate) max_pending: usize,
    /// Whether connections wait for a slot in the system's queue.
    pub(crate) wait_at_limit: bool,
}

#[derive(Debug)]
struct ListenerState {
    acceptor: Acceptor,
    /// The listening socket, until it is closed.
    socket: Option<Arc<ListenSocket>>,
    /// Connections to return.
    ready: VecDeque<Arc<Connection>>,
    /// Clients that were taken from the system for pollers, and have no slots. The next accepts take them. There are no
    /// more than threads that looked at the same time.
    next_clients: VecDeque<Accepted>,
    /// Connections that are not open yet.
    opening: Opening,
    /// The number of threads that use the listening socket, or have something from it that is nowhere else yet.
    uses: usize,
    /// The number of threads in an accept.
    accepters: usize,
    /// Whether one of them has the turn.
    turn_held: bool,
    /// Whether it waits in `parker`.
    parked: bool,
    parker: Weak<WakeHandle>,
    predictor: BlockPredictor,
    /// Whether the event loop reports connections to the thread that has the turn, which cannot poll.
    reports_readiness: bool,
    /// Whether the event loop could not register the socket, and is to try again.
    lacks_registration: bool,
    /// Whether it has reported one. Cleared before each accept, so that no report is missed.
    is_readable: bool,
    /// Whether a descriptor was closed since descriptors ran out.
    descriptor_freed: bool,
    /// A slot for the next connection, or a place in the queue for one.
    reservation: Option<SlotId>,
    /// Whether the backlog has been shrunk, so that an accept that would block ends the listener.
    is_shrunk: bool,
    /// Whether a thread accepts the remaining connections of a closing listener.
    is_draining: bool,
    deadline: Option<Instant>,
    token: Option<Token>,
    /// The ticket of the timer, and the time that the event loop knows.
    ticket: Option<LoopTicket>,
    timer: Option<Instant>,
    counters: Counters,
    starved_log: Option<Instant>,
    watches: Option<Box<WatchList>>,
}

/// Counts that the registry does not keep.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    accepted: u64,
    denied: u64,
    over_limit: u64,
    lost: u64,
    starved: u64,
    /// Connections that were reset while they were opening, to make room for others.
    displaced: u64,
}

impl ListenerInner {
    fn state(&self) -> StateGuard<'_> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acceptance(self: &Arc<Self>) -> Weak<dyn Acceptance> {
        let weak: Weak<ListenerInner> = Arc::downgrade(self);
        weak
    }

    /// Fails in a forked child of the process that opened the listener.
    pub(crate) fn check_process(&self) -> Result<()> {
        if !self.registry.is_forked() {
            return Ok(());
        }
        let message =
            "the listener belongs to the process that forked: adopt a listener in each child";
        Err(Error::with_message(ErrorKind::InvalidState, message))
    }

    // ------------------------------------------------------------- handles

    pub(crate) fn add_handle(&self) {
        self.handles.add();
    }

    /// Drops a handle. With the last one, no thread can accept what is queued.
    pub(crate) fn drop_handle(self: &Arc<Self>) {
        if self.handles.remove() == 0 {
            if !self.registry.is_forked() {
                // No poller reports the end of it.
                self.unwatch();
            }
            self.abort_listening();
        }
    }

    // ------------------------------------------------------------- queries

    pub(crate) fn registry(&self) -> &Arc<SocketRegistry> {
        &self.registry
    }

    /// Returns whether connections are returned once they are open.
    pub(crate) fn accepts_when_opened(&self) -> bool {
        self.settings.when_opened
    }

    pub(crate) fn local_address(&self) -> &ListenAddress {
        &self.local
    }

    pub(crate) fn descriptor(&self) -> Option<Descriptor> {
        if self.registry.is_forked() {
            return None;
        }
        self.state().socket.clone().map(Descriptor::of_listener)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.registry.is_forked() { None } else { self.state().deadline }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.registry.is_forked() || self.state().acceptor.is_closing()
    }

    pub(crate) fn stats(&self) -> ListenerStats {
        if self.registry.is_forked() {
            return ListenerStats::default();
        }
        let state = self.state();
        let counters = state.counters;
        let ready: Vec<_> = state.ready.iter().map(Arc::clone).collect();
        drop(state);
        // Those that are not open yet are among the opening ones.
        let ready = ready.iter().filter(|connection| connection.totals().opened.is_some()).count();
        let (sockets, opening) = self.registry.stats_with_opening();
        ListenerStats {
            accepted: counters.accepted,
            opened: sockets.opened,
            failed: sockets.failed + counters.displaced,
            denied: counters.denied + sockets.denied,
            over_limit: counters.over_limit,
            lost: counters.lost,
            starved: counters.starved,
            pending: opening + ready,
            open: sockets.open,
            bytes_read: sockets.bytes_read,
            bytes_written: sockets.bytes_written,
        }
    }

    /// Replaces the TLS settings for connections that are accepted from now on.
    pub(crate) fn set_server_tls(&self, tls: ServerTlsOptions) -> Result<()> {
        self.check_process()?;
        let options = &self.settings.accepted.socket;
        if options.secure_transport == SecureTransport::Off {
            let message = "server_tls has no effect: secure_transport is off";
            return Err(Error::invalid_options(message));
        }
        if options.server_tls.is_none() {
            let message = "server_tls has no effect: accepted sockets are TLS clients";
            return Err(Error::invalid_options(message));
        }
        tls.check()?;
        let replaced = {
            let mut current = self.server_tls.lock().unwrap_or_else(PoisonError::into_inner);
            current.replace(tls)
        };
        // It may own code of the program.
        drop(replaced);
        Ok(())
    }

    // ------------------------------------------------------------- waiting

    /// Waits for `changed` or `turn_free`, for at most `limit`.
    fn wait_on<'a>(
        &self,
        condition: &RankedCondvar,
        state: StateGuard<'a>,
        limit: Option<Duration>,
    ) -> StateGuard<'a> {
        match limit {
            Some(limit) => match condition.wait_timeout(state, limit) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            },
            None => condition.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Wakes the threads that wait for the end, if nothing is left.
    fn notify_end(&self, state: &ListenerState) {
        if state.end().is_some() && !planted!(OpenedIsForgotten) {
            self.turn_free.notify_all();
            self.changed.notify_all();
            state.touch_watches(Ready::READABLE.and(Ready::CLOSED));
        }
    }

    /// Wakes every thread that waits. The caller wakes the returned thread once it has released the lock.
    #[must_use]
    fn notify_all(&self, state: &ListenerState) -> Option<Arc<WakeHandle>> {
        self.turn_free.notify_all();
        self.notify_changed(state)
    }

    /// Wakes the thread that has the turn, and the threads that wait for the end. The caller wakes the returned thread
    /// once it has released the lock.
    #[must_use]
    fn notify_changed(&self, state: &ListenerState) -> Option<Arc<WakeHandle>> {
        self.changed.notify_all();
        state.touch_watches(Ready::READABLE);
        if state.parked && !planted!(ListenerForgetsWake) { state.parker.upgrade() } else { None }
    }
}

impl ListenerState {
    /// Returns how the listener ended, if its socket is closed and nothing is left to return.
    fn end(&self) -> Option<std::result::Result<(), Fault>> {
        let outcome = self.acceptor.outcome()?;
        let is_used = self.uses > 0 && !planted!(UseIsForgotten);
        let is_empty = self.pending() == 0 && self.next_clients.is_empty();
        (!is_used && is_empty).then_some(outcome)
    }

    /// Returns whether no further connection may be returned, although the event loop may be taking one.
    fn is_aborted(&self) -> bool {
        self.acceptor.is_aborted() && !planted!(AbortForgetsOpening)
    }

    fn pending(&self) -> usize {
        self.ready.len() + self.opening.len()
    }
}

/// Gives the reserved slot back. The listening socket was closed by then, or its last handle is gone.
impl Drop for ListenerInner {
    fn drop(&mut self) {
        if self.registry.is_forked() {
            return;
        }
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = state.reservation.take() {
            crate::driver::connection::start_next(self.registry.cancel(slot));
        }
    }
}
