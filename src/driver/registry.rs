//! The registry of one connector's sockets: it enforces the socket limit, groups sockets into scopes, and shuts all of
//! them down together.
//!
//! A socket is registered before it begins to connect and until its outcome is known. It keeps one slot for all that
//! time, also through an upgrade. It frees the slot under its own state lock, at the moment at which the outcome
//! becomes visible. So a caller that knows of the outcome can rely on the slot. If sockets are queued, the slot goes
//! directly to the first of them. It is never free in between, so that no new socket overtakes a queued one.
//!
//! A listener has a registry too. If it shares a connector, its registry has that connector's as its `parent`: an
//! accepted socket is in both, and only the parent limits the number.

mod accepted;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use self::accepted::Accepted;
use crate::driver::slab::{Index, Slab};
use crate::driver::sys::errno::os_code;
use crate::driver::sys::lock_order::{RankedCondvar, RankedGuard, RankedMutex, rank};
use crate::driver::sys::log::log_debug;
use crate::driver::sys::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::driver::sys::sync::{HashMap, HashSet};
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::info::{ConnectorStats, Stats};
use crate::process::ForkMark;

pub(crate) use self::accepted::{ClientKey, NotAdmitted, Reservation};

/// The time to wait before the next scan for sockets that are between two threads.
const RESCAN_DELAY: Duration = Duration::from_millis(1);

/// The limit on open sockets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketLimit {
    pub(crate) max: Option<usize>,
    /// Whether a socket over the limit waits for a slot. If not, it fails with `Limit`.
    pub(crate) wait: bool,
}

/// The slot of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SlotId(Index);

/// The id of one scope of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScopeId(u64);

/// The numbers that a socket contributes to the statistics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SocketTotals {
    pub(crate) opened: Option<std::result::Result<(), Fault>>,
    pub(crate) bytes: Stats,
}

/// The result of admitting a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The socket has a slot and may begin to connect.
    Admitted,
    /// The socket waits for a slot. The caller that frees one for it must start it.
    Queued,
}

/// A socket, as its registry sees it.
pub(crate) trait Member {
    /// What accepts sockets, as the registry sees it.
    type Listener: ?Sized;

    /// Returns the socket's totals up to now. Called without the registry's lock.
    fn totals(&self) -> SocketTotals;
}

/// What gets a slot that was freed.
#[derive(Debug)]
pub(crate) enum NextInQueue<S: Member> {
    /// A socket, which may begin to connect.
    Socket(Weak<S>),
    /// A listener, which may accept a connection.
    Listener(Weak<S::Listener>),
}

/// The sockets of one connector.
///
/// The lock guards `inner`. It may be taken under a socket's state lock, and no lock is taken under it.
pub(crate) struct Registry<S: Member> {
    limit: SocketLimit,
    /// The registry of the connector that a listener shares.
    parent: Option<Arc<Registry<S>>>,
    /// The process that owns the sockets. `None` if there was no memory for the fork handler. The registry then admits
    /// no socket.
    mark: Option<ForkMark>,
    /// Outside the lock, as is `was_shut_down`: a forked child takes over only these two.
    next_scope: AtomicU64,
    was_shut_down: AtomicBool,
    inner: RankedMutex<RegistryInner<S>, { rank::UNDER_STATE }>,
    /// Signals that a socket has left. Its lock is `inner`.
    slot_freed: RankedCondvar,
}

struct RegistryInner<S: Member> {
    sockets: Slab<Occupant<S>>,
    /// The number of slots that are taken.
    admitted: usize,
    /// How many of them listeners have reserved.
    reserved: usize,
    /// The sockets and listeners that wait for a slot, in order of arrival.
    queue: VecDeque<SlotId>,
    /// The listeners that share this connector.
    listeners: Vec<Weak<S::Listener>>,
    /// What is known of each accepted socket.
    accepted: HashMap<SlotId, Accepted>,
    /// The number of open sockets of each client, if that is limited.
    clients: HashMap<ClientKey, usize>,
    scopes: HashMap<ScopeId, ScopeState>,
    /// The scope of each socket that has one.
    scope_of: HashMap<SlotId, ScopeId>,
    /// Sockets that took over an upgraded connection. The connection was already counted before the upgrade.
    upgraded: HashSet<SlotId>,
    /// The totals of removed sockets, and of sockets that were never admitted.
    totals: ConnectorStats,
    is_shut_down: bool,
    /// The number of threads that wait for `slot_freed`.
    waiters: u32,
}

/// What has a slot, or waits for one.
#[derive(Debug)]
enum Occupant<S: Member> {
    Socket(Weak<S>),
    Listener(Weak<S::Listener>),
}

/// The sockets of one scope.
#[derive(Default)]
struct ScopeState {
    members: HashSet<SlotId>,
    ended: bool,
}

impl<S: Member> Registry<S> {
    pub(crate) fn new(limit: SocketLimit) -> Self {
        Registry {
            limit,
            parent: None,
            mark: ForkMark::new().ok(),
            next_scope: AtomicU64::new(0),
            was_shut_down: AtomicBool::new(false),
            inner: RankedMutex::new(RegistryInner::new()),
            slot_freed: RankedCondvar::new(),
        }
    }

    /// Creates the registry of a listener that shares a connector.
    pub(crate) fn of_shared(connector: &Arc<Registry<S>>) -> Self {
        let limit = SocketLimit { max: None, wait: true };
        Registry { parent: Some(Arc::clone(connector)), ..Registry::new(limit) }
    }

    /// Returns the registry of a forked child. It has none of the parent's sockets, all slots are free, and the totals
    /// are 0.
    pub(crate) fn in_child(&self) -> Self {
        let is_shut_down = self.was_shut_down.load(Ordering::Relaxed);
        Registry {
            // Ids must not be reused for scopes that began before the fork.
            next_scope: AtomicU64::new(self.next_scope.load(Ordering::Relaxed)),
            was_shut_down: AtomicBool::new(is_shut_down),
            inner: RankedMutex::new(RegistryInner { is_shut_down, ..RegistryInner::new() }),
            ..Registry::new(self.limit)
        }
    }

    /// Returns whether this process is a forked child of the process that owns the sockets.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.mark.as_ref().is_some_and(ForkMark::is_forked)
    }

    /// Fails if the process could not install the handler that detects a fork.
    pub(crate) fn check_fork_handler(&self) -> Result<()> {
        if self.mark.is_some() { Ok(()) } else { Err(fork_handler_error()) }
    }

    /// Returns the number of sockets that have a slot.
    pub(crate) fn open_sockets(&self) -> usize {
        if self.is_forked() { 0 } else { self.lock().open() }
    }

    /// Returns the statistics of all sockets up to now.
    pub(crate) fn stats(&self) -> ConnectorStats {
        self.stats_with_opening().0
    }

    /// Returns the statistics, and the number of sockets that are not open yet.
    pub(crate) fn stats_with_opening(&self) -> (ConnectorStats, usize) {
        let inner = self.lock();
        let mut stats = inner.totals;
        stats.open = inner.open();
        stats.waiting = inner.queue.iter().filter(|slot| inner.socket_at(**slot).is_some()).count();
        // Every socket is either in the totals or in this list. Their state locks are taken without this lock, because
        // the lock order is state first.
        let live: Vec<_> = inner.live().collect();
        drop(inner);
        let mut opening = 0;
        for (socket, upgraded) in live {
            let SocketTotals { opened, bytes } = socket.totals();
            opening += usize::from(opened.is_none() && !upgraded);
            stats.add_socket(opened.filter(|_| !upgraded), bytes);
        }
        (stats, opening)
    }

    /// Counts and logs a socket that the egress rules deny before it is created.
    pub(crate) fn count_denied(&self, error: &Error) {
        self.lock().totals.denied += 1;
        log_debug(format_args!("{error}"));
    }

    // ------------------------------------------------------------- one socket

    /// Registers a socket that is about to connect.
    pub(crate) fn admit(
        &self,
        socket: Weak<S>,
        scope: Option<ScopeId>,
    ) -> Result<(SlotId, Admission)> {
        self.check_fork_handler()?;
        let mut inner = self.lock();
        if inner.is_shut_down {
            return Err(shut_down_error());
        }
        let admission = match self.limit.max {
            Some(max) if inner.admitted >= max && !self.limit.wait => {
                inner.totals.over_limit += 1;
                return Err(limit_error(max));
            }
            Some(max) if inner.admitted >= max => Admission::Queued,
            Some(_) | None => Admission::Admitted,
        };
        let slot = SlotId(inner.sockets.add(Occupant::Socket(socket)));
        match admission {
            Admission::Admitted => inner.admitted += 1,
            Admission::Queued => inner.queue.push_back(slot),
        }
        if let Some(id) =
            scope.filter(|_| admission == Admission::Admitted || !planted!(ScopeForgetsQueued))
        {
            inner.add_to_scope(slot, id);
        }
        Ok((slot, admission))
    }

    /// Removes a socket whose outcome is known, and adds it to the totals. Returns who gets its slot, which the caller
    /// must start.
    pub(crate) fn remove(&self, slot: SlotId, totals: SocketTotals) -> Option<NextInQueue<S>> {
        let mut inner = self.lock();
        let upgraded = inner.was_upgraded(slot);
        inner.totals.add_socket(totals.opened.filter(|_| !upgraded), totals.bytes);
        let next = inner.leave(slot);
        let accepted = inner.forget_accepted(slot);
        let removed = inner.free_slot(slot);
        if inner.waiters > 0 {
            self.slot_freed.notify_all();
        }
        drop(inner);
        drop(removed);
        match (&self.parent, accepted) {
            (Some(parent), Some(Accepted { parent_slot: Some(slot), .. })) => {
                parent.remove(slot, totals)
            }
            _ => next,
        }
    }

    /// Gives a socket's slot to the socket that takes over its connection, and adds the old one to the totals. Returns
    /// whether the connector or the scope is closing its sockets.
    pub(crate) fn transfer(&self, slot: SlotId, totals: SocketTotals, socket: Weak<S>) -> bool {
        let mut inner = self.lock();
        inner.totals.add_socket(totals.opened, totals.bytes);
        inner.upgraded.insert(slot);
        let new = Occupant::Socket(socket.clone());
        let old = inner.sockets.at_mut(slot.0).map(|held| std::mem::replace(held, new));
        let ended = inner.scope_of.get(&slot).and_then(|id| inner.scopes.get(id));
        let ended = inner.is_shut_down || ended.is_some_and(|scope| scope.ended);
        let parent_slot = inner.accepted.get(&slot).and_then(|accepted| accepted.parent_slot);
        drop(inner);
        drop(old);
        match (&self.parent, parent_slot) {
            (Some(parent), Some(slot)) => parent.transfer(slot, totals, socket) || ended,
            _ => ended,
        }
    }

    // ------------------------------------------------------------- all sockets

    pub(crate) fn begin_scope(&self) -> ScopeId {
        let id = ScopeId(self.next_scope.fetch_add(1, Ordering::Relaxed) + 1);
        // In a child, a thread of the parent may have the lock for ever. No socket will enter the scope.
        if !self.is_forked() {
            self.lock().scopes.insert(id, ScopeState::default());
        }
        id
    }

    /// Marks a scope as ended and returns its sockets, except those that are being dropped. Returns `None` if there are
    /// none left.
    pub(crate) fn closing_members(&self, id: ScopeId) -> Option<Vec<Arc<S>>> {
        let mut inner = self.lock();
        let scope = inner.scopes.get_mut(&id)?;
        scope.ended = true;
        if scope.members.is_empty() {
            inner.scopes.remove(&id);
            return None;
        }
        let members = inner.scopes[&id].members.iter();
        Some(members.filter_map(|slot| inner.socket_at(*slot)?.upgrade()).collect())
    }

    /// Refuses new sockets and returns the existing ones. Returns `None` if there are none left.
    pub(crate) fn remaining(&self) -> Option<Vec<Arc<S>>> {
        let mut inner = self.lock();
        inner.is_shut_down = !planted!(AcceptsSocketsAfterShutdown);
        self.was_shut_down.store(true, Ordering::Relaxed);
        inner.sockets().next()?;
        Some(inner.sockets().filter_map(|(_, socket)| socket.upgrade()).collect())
    }

    /// Waits for a socket that is being dropped, or whose connection is being transferred, for at most
    /// [`RESCAN_DELAY`].
    pub(crate) fn wait_slot_freed(&self) {
        let mut inner = self.lock();
        inner.waiters += 1;
        let (mut inner, _) = self
            .slot_freed
            .wait_timeout(inner, RESCAN_DELAY)
            .unwrap_or_else(PoisonError::into_inner);
        inner.waiters -= 1;
    }

    fn lock(&self) -> RankedGuard<'_, RegistryInner<S>, { rank::UNDER_STATE }> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Member> RegistryInner<S> {
    fn new() -> Self {
        RegistryInner {
            sockets: Slab::new(),
            admitted: 0,
            reserved: 0,
            queue: VecDeque::new(),
            listeners: Vec::new(),
            accepted: HashMap::default(),
            clients: HashMap::default(),
            scopes: HashMap::default(),
            scope_of: HashMap::default(),
            upgraded: HashSet::default(),
            totals: ConnectorStats::default(),
            is_shut_down: false,
            waiters: 0,
        }
    }

    /// Returns the sockets that are not being dropped, and whether each took over an upgraded connection.
    fn live(&self) -> impl Iterator<Item = (Arc<S>, bool)> {
        self.sockets()
            .filter_map(|(slot, socket)| Some((socket.upgrade()?, self.upgraded.contains(&slot))))
    }

    fn sockets(&self) -> impl Iterator<Item = (SlotId, &Weak<S>)> {
        self.sockets.iter().filter_map(|(index, occupant)| match occupant {
            Occupant::Socket(socket) => Some((SlotId(index), socket)),
            Occupant::Listener(_) => None,
        })
    }

    fn socket_at(&self, slot: SlotId) -> Option<&Weak<S>> {
        match self.sockets.at(slot.0)? {
            Occupant::Socket(socket) => Some(socket),
            Occupant::Listener(_) => None,
        }
    }

    /// Returns the number of sockets that have a slot.
    fn open(&self) -> usize {
        self.admitted - self.reserved
    }

    fn add_to_scope(&mut self, slot: SlotId, id: ScopeId) {
        self.scope_of.insert(slot, id);
        self.scopes.entry(id).or_default().members.insert(slot);
    }

    /// Leaves the queue, or passes the slot on. Returns who gets it.
    fn leave(&mut self, slot: SlotId) -> Option<NextInQueue<S>> {
        match self.queue.iter().position(|queued| *queued == slot) {
            Some(_) if planted!(QueueKeepsDropped) => None,
            Some(position) => {
                self.queue.remove(position);
                if planted!(LosesSlot) { self.hand_slot_to_next() } else { None }
            }
            None => self.hand_slot_to_next(),
        }
    }

    /// Returns whether the socket took over an upgraded connection, and clears that mark.
    fn was_upgraded(&mut self, slot: SlotId) -> bool {
        !self.upgraded.is_empty() && self.upgraded.remove(&slot)
    }

    /// Frees a slot. Returns the reference in it, which the caller must drop without the lock.
    fn free_slot(&mut self, slot: SlotId) -> Option<Occupant<S>> {
        let removed = self.sockets.take_if(slot.0, |_| true);
        // Most sockets have no scope, and a map lookup costs a hash.
        let scope = if self.scope_of.is_empty() { None } else { self.scope_of.remove(&slot) };
        if let Some(id) = scope {
            if let Some(scope) = self.scopes.get_mut(&id) {
                scope.members.remove(&slot);
            }
        }
        removed
    }

    /// Gives a freed slot to the first in the queue, and returns who that is.
    fn hand_slot_to_next(&mut self) -> Option<NextInQueue<S>> {
        let Some(next) = self.queue.pop_front() else {
            self.admitted -= 1;
            return None;
        };
        Some(match self.sockets.at(next.0)? {
            Occupant::Socket(socket) => NextInQueue::Socket(Weak::clone(socket)),
            Occupant::Listener(listener) => {
                let listener = Weak::clone(listener);
                self.reserved += 1;
                NextInQueue::Listener(listener)
            }
        })
    }
}

#[cold]
fn fork_handler_error() -> Error {
    match ForkMark::new() {
        Ok(_) => Error::with_message(
            ErrorKind::Io,
            "cannot open a socket: the fork handler could not be installed earlier",
        ),
        Err(error) => Error::from_fault(Fault::Io(os_code(&error))),
    }
}

fn shut_down_error() -> Error {
    Error::with_message(ErrorKind::Closed, "the connector was shut down")
}

fn limit_error(max: usize) -> Error {
    let sockets = if max == 1 { "socket is" } else { "sockets are" };
    Error::with_message(
        ErrorKind::Limit,
        format!("cannot open a socket: {max} {sockets} open, the maximum of max_open_sockets"),
    )
}

impl<S: Member> fmt::Debug for Registry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("limit", &self.limit).finish_non_exhaustive()
    }
}
