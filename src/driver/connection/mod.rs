//! `Connection`: one socket's machine under its lock, and the data that waiting threads need. The handles, the event
//! loop and worker threads share it.
//!
//! No wake-up is lost. A thread that waits checks, under the lock, every condition that could end its wait, and
//! announces the wait there. A thread that changes one of these conditions does so under the lock too, and wakes the
//! announced waiters.
//!
//! The order of the locks is: the queue of a lookup pool, the state of a connection, and then one of the registry, the
//! idle list and the queue of the callback threads. All other locks are taken alone. `sys::lock_order` checks this.

pub(crate) mod actions;
pub(crate) mod buffers;
pub(crate) mod busy_poll;
pub(crate) mod call_timer;
pub(crate) mod callbacks;
mod commit;
pub(crate) mod connected_info;
pub(crate) mod direction;
pub(crate) mod eof;
pub(crate) mod establishing;
pub(crate) mod extras;
pub(crate) mod fairness;
pub(crate) mod fork;
pub(crate) mod handle_count;
pub(crate) mod log_event;
mod look;
pub(crate) mod lookup;
pub(crate) mod loop_source;
pub(crate) mod monitor;
pub(crate) mod poison;
mod preamble;
pub(crate) mod predictor;
pub(crate) mod state;
pub(crate) mod timer;
pub(crate) mod transfer;
pub(crate) mod turn;
pub(crate) mod users;
pub(crate) mod watched;
pub(crate) mod wire_refs;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use self::call_timer::WaitLimit;
use self::connected_info::ConnectedInfo;
use self::handle_count::HandleCount;
use crate::driver::event_loop::handle::drop_off_loop;
use crate::driver::event_loop::source::LoopSource;
use crate::driver::event_loop::{self, Command, LoopHandle, Urgency};
use crate::driver::registry::{Member, NextInQueue, Registry, SocketTotals};
use crate::driver::sys::descriptor::Descriptor;
use crate::driver::sys::lock_order::{RankedCondvar, RankedMutex, rank};
use crate::error::Error;
use crate::info::{Endpoints, Phase, Stats};
use crate::machine::{Config, Input, Machine, UpgradeError};
use crate::options::{SecureTransport, TlsSide};
use crate::unix::Requested;

pub(crate) use self::direction::Direction;
pub(crate) use self::establishing::{Establishing, LookupProgress};
pub(crate) use self::extras::CallLimit;
pub(crate) use self::state::{ConnectionState, Monitor, StateGuard, TlsUse, WorkerTask};
pub(crate) use self::turn::Turn;

/// The sockets of one connector.
pub(crate) type SocketRegistry = Registry<Connection>;

/// The part of a socket that its handles share.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The state. Held only briefly, and never during a system call but epoll_ctl(2).
    pub(crate) state: RankedMutex<ConnectionState, { rank::STATE }>,
    /// Condition variable for `state`: notified on any change that a waiter may be interested in.
    pub(crate) changed: RankedCondvar,
    /// Number of the user's handles. The socket closes when the last one is dropped.
    handles: HandleCount,
    requested: Requested,
    /// The registry that this socket's slot belongs to.
    registry: Arc<SocketRegistry>,
    /// Settings of the upgrade; `Some` if the mode is [`SecureTransport::StartTls`].
    upgrade: Option<Box<UpgradeConfig>>,
}

/// Settings of a later upgrade.
#[derive(Debug)]
pub(crate) struct UpgradeConfig {
    pub(crate) tls: TlsSide,
    pub(crate) connect_timeout: Option<Duration>,
    /// Configuration of the upgraded socket's machine.
    pub(crate) config: Config,
}

impl Connection {
    /// Creates a socket with one handle.
    pub(crate) fn new(
        state: ConnectionState,
        requested: Requested,
        registry: &Arc<SocketRegistry>,
        upgrade: Option<Box<UpgradeConfig>>,
    ) -> Self {
        Connection {
            state: RankedMutex::new(state),
            changed: RankedCondvar::new(),
            handles: HandleCount::one(),
            requested,
            registry: Arc::clone(registry),
            upgrade,
        }
    }

    /// Creates the socket, with one handle, that takes over the connection of an upgraded one.
    pub(crate) fn new_upgraded(&self, state: ConnectionState) -> Arc<Self> {
        Arc::new(Connection::new(state, self.requested.clone(), &self.registry, None))
    }

    /// Returns the mode that the socket was opened with.
    pub(crate) fn mode(&self) -> SecureTransport {
        match &self.upgrade {
            Some(_) => SecureTransport::StartTls,
            None if self.try_state().is_some_and(|state| state.tls_use == TlsUse::FromStart) => {
                SecureTransport::On
            }
            None => SecureTransport::Off,
        }
    }

    pub(crate) fn upgrade_config(&self) -> Option<&UpgradeConfig> {
        self.upgrade.as_deref()
    }

    /// Checks whether another socket has taken over the connection.
    pub(crate) fn is_upgraded(&self) -> bool {
        self.try_state().is_some_and(|state| {
            state.machine.outcome().is_some()
                && state.machine.upgrade_error() == Some(UpgradeError::Upgraded)
        })
    }

    /// Checks whether this process is a forked child of the one that opened the socket.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.registry.is_forked()
    }

    pub(crate) fn registry(&self) -> &SocketRegistry {
        &self.registry
    }

    pub(crate) fn requested(&self) -> &Requested {
        &self.requested
    }

    /// Returns the peer's address if the socket has connected.
    pub(crate) fn remote_address(&self) -> Option<SocketAddr> {
        self.try_state()?.info.as_ref()?.endpoints().remote
    }

    // ------------------------------------------------------------- handles

    pub(crate) fn add_handle(&self) {
        self.handles.add();
    }

    /// Drops a handle. The last one closes the socket like `close`, but does not wait.
    pub(crate) fn drop_handle(self: &Arc<Self>) {
        let left = self.handles.remove();
        if left != 0 && !(planted!(ClosesOneHandleEarly) && left == 1) {
            return;
        }
        if self.is_forked() {
            return self.close_fd_only();
        }
        // No poller reports the end of it.
        self.unwatch();
        let state = self.state();
        drop(self.handle_input(state, Input::Close));
    }

    // ------------------------------------------------------------- queries

    /// Returns the connection's descriptor, as long as the socket has one.
    pub(crate) fn descriptor(&self) -> Option<Descriptor> {
        let wire = self.try_state()?.wire.cloned()?;
        Some(Descriptor::new(wire))
    }

    /// Returns the addresses of an accepted connection, which may still be in its TLS handshake. `None` if they are not
    /// known yet, and after it failed to open.
    pub(crate) fn accepted_endpoints(&self) -> Option<Endpoints> {
        let state = self.try_state()?;
        // The client may be another one than the wire's.
        let is_known =
            !state.machine.is_in_preamble() && !matches!(state.machine.opened(), Some(Err(_)));
        state.info.as_ref().filter(|_| is_known).map(ConnectedInfo::endpoints)
    }

    /// Returns whether the connection has opened, even if it has ended since.
    pub(crate) fn has_opened(&self) -> bool {
        self.state().machine.opened() == Some(Ok(()))
    }

    /// Returns the phase; `Closed` in a forked child if the state is locked.
    pub(crate) fn phase(&self) -> Phase {
        self.try_state().map_or(Phase::Closed, |state| state.machine.phase())
    }

    pub(crate) fn stats(&self) -> Stats {
        self.try_state().map_or_else(Stats::default, |state| state.machine.stats())
    }

    /// Locks the state for a query. Returns `None` in a forked child if a thread that exists only in the parent holds
    /// the lock.
    pub(crate) fn try_state(&self) -> Option<StateGuard<'_>> {
        if self.is_forked() { self.state.try_lock().ok() } else { Some(self.state_soon()) }
    }

    /// Locks the state. If a thread panicked under the lock, the socket has failed: see `poison`.
    #[inline]
    pub(crate) fn state(&self) -> StateGuard<'_> {
        match self.state.lock() {
            Ok(state) => state,
            Err(poisoned) => self.fail_internally(poisoned.into_inner()),
        }
    }

    /// Locks the [state](Self::state) again during a call that locked it before, on the fast path of a read or write.
    /// Does not check for a panic since then; the next call does.
    #[inline]
    pub(crate) fn state_after_call(&self) -> StateGuard<'_> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for any change, for at most `limit`.
    pub(crate) fn wait_changed<'a>(
        &'a self,
        mut state: StateGuard<'a>,
        limit: Option<Duration>,
    ) -> StateGuard<'a> {
        state.waiters += 1;
        let waited = match limit {
            Some(limit) => match self.changed.wait_timeout(state, limit) {
                Ok((state, _)) => Ok(state),
                Err(poisoned) => Err(poisoned.into_inner().0),
            },
            None => self.changed.wait(state).map_err(PoisonError::into_inner),
        };
        let mut state = match waited {
            Ok(state) => state,
            Err(state) => self.fail_internally(state),
        };
        state.waiters -= 1;
        state
    }

    pub(crate) fn notify_waiters(&self, state: &ConnectionState) {
        if state.waiters > 0 {
            self.changed.notify_all();
        }
    }
}

/// A listener, as the sockets that it accepts see it.
pub(crate) trait Acceptance: fmt::Debug + Send + Sync {
    /// Returns the listener as the event loop sees it.
    fn loop_source(self: Arc<Self>) -> Arc<dyn LoopSource>;
    /// An accepted socket has opened, or has failed to.
    fn on_opened(self: Arc<Self>, connection: &Connection);
    /// Stops listening, and waits until the connections that no thread has accepted are reset.
    fn abort(self: Arc<Self>, until: WaitLimit);
}

impl Member for Connection {
    type Listener = dyn Acceptance;

    fn totals(&self) -> SocketTotals {
        self.try_state().map_or_else(SocketTotals::default, |state| state.totals())
    }
}

/// A connection that is dropped without an outcome still gives its slot back.
impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_forked() {
            return;
        }
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = state.slot.take() {
            start_next(self.registry.remove(slot, state.totals()));
        }
        if event_loop::is_loop_thread() {
            let foreign = state.error.as_ref().is_some_and(Error::may_be_foreign)
                || state.machine.holds_foreign_code()
                || state.establishing.as_ref().is_some_and(|it| it.holds_foreign_proxy());
            let upgrade = self.upgrade.take_if(|upgrade| upgrade.tls.runs_foreign_code());
            if foreign {
                drop_off_loop(std::mem::replace(state, ConnectionState::new(Machine::inert())));
            }
            if upgrade.is_some() {
                drop_off_loop(upgrade);
            }
        }
    }
}

/// Has the event loop start the socket or the listener that was waiting for a slot. The thread that freed the slot has
/// other work, and the started socket may end at once and free the slot again.
pub(crate) fn start_next(next: Option<NextInQueue<Connection>>) {
    let source = match next {
        None => return,
        Some(NextInQueue::Socket(socket)) => socket as Weak<dyn LoopSource>,
        // A listener that is being dropped gives its slot back itself.
        Some(NextInQueue::Listener(listener)) => match listener.upgrade() {
            Some(listener) => Arc::downgrade(&listener.loop_source()),
            None => return,
        },
    };
    if let Ok(loop_handle) = LoopHandle::get() {
        loop_handle.post(Command::Start(source), Urgency::Now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This size dominates the memory of an idle socket. A change that increases it should be deliberate.
    #[test]
    fn the_state_of_a_socket_is_small() {
        assert!(size_of::<Connection>() <= 264, "{}", size_of::<Connection>());
    }
}
