//! The sockets of one connector: how many there may be at once, who waits for a place, which belong to a
//! scope, and how all of them end together.
//!
//! A socket is listed from before it begins to connect until its outcome is known, and has one place all
//! that time, through an upgrade as well. It gives its place back under its own state lock, in the moment
//! in which the outcome becomes visible: whoever has heard of an end can count on the place. Where others
//! wait, the place goes to the first of them and is never free in between, so that nobody overtakes them.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use super::calls::WaitLimit;
use super::errno::os_code;
use super::pool::Share;
use super::shared::Connection;
use super::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use super::sync::{Condvar, HashMap, HashSet, Mutex, MutexGuard};
use super::{event_loop, log_debug};
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::info::{ConnectorStats, Stats};
use crate::process::ForkMark;

/// A list that once was long gives its memory back when it is empty.
const RETAINED_CAPACITY: usize = 64;
/// How long a look for those that are left waits for one that is between two threads.
const RESCAN_DELAY: Duration = Duration::from_millis(1);

/// How many sockets there may be at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketLimit {
    pub(crate) max: Option<usize>,
    /// Whether those that are too many wait, or fail.
    pub(crate) wait: bool,
}

/// Where a socket is in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SlotId(NonZeroU32);

/// Names one scope of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScopeId(u64);

/// What there is to count of a socket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SocketTotals {
    pub(super) opened: Option<std::result::Result<(), Fault>>,
    pub(super) bytes: Stats,
}

/// How a socket that has joined goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may begin.
    Admitted,
    /// It will be [admitted](Connection::start).
    Queued,
}

/// Its lock guards the list. It may be taken under a socket's state lock, and none is taken under it.
pub(crate) struct Registry {
    limit: SocketLimit,
    /// For their lookups.
    lookups: Arc<Share>,
    /// The process whose sockets these are. None if there is no memory to notice a fork: then there are none.
    mark: Option<ForkMark>,
    /// Outside of the lock, as the two things that a forked child takes over.
    next_scope: AtomicU64,
    was_shut_down: AtomicBool,
    inner: Mutex<RegistryInner>,
    /// With `inner`: somebody has left.
    slot_freed: Condvar,
}

#[derive(Default)]
struct RegistryInner {
    sockets: Vec<Weak<Connection>>,
    free: Vec<SlotId>,
    /// Those with a place.
    admitted: usize,
    /// Those that wait for one, the first first.
    queue: VecDeque<SlotId>,
    scopes: HashMap<ScopeId, ScopeState>,
    /// The scope of each socket that has one.
    scope_of: HashMap<SlotId, ScopeId>,
    /// Those whose connection was made, and counted, before an upgrade.
    upgraded: HashSet<SlotId>,
    /// Of those that are not listed any more, and of what never was.
    totals: ConnectorStats,
    is_shut_down: bool,
    /// Threads that wait for `slot_freed`.
    waiters: u32,
}

/// The sockets of one scope.
#[derive(Default)]
struct ScopeState {
    members: HashSet<SlotId>,
    ended: bool,
}

impl Registry {
    pub(crate) fn new(limit: SocketLimit, lookups: Share) -> Self {
        Registry {
            limit,
            lookups: Arc::new(lookups),
            mark: ForkMark::new().ok(),
            next_scope: AtomicU64::new(0),
            was_shut_down: AtomicBool::new(false),
            inner: Mutex::new(RegistryInner::default()),
            slot_freed: Condvar::new(),
        }
    }

    pub(super) fn lookups(&self) -> &Arc<Share> {
        &self.lookups
    }

    /// The registry of a forked child, without the parent's sockets: its slots are free, and nothing is counted.
    pub(crate) fn in_child(&self) -> Self {
        let is_shut_down = self.was_shut_down.load(Ordering::Relaxed);
        Registry {
            // A scope that began before the fork is not one that begins here.
            next_scope: AtomicU64::new(self.next_scope.load(Ordering::Relaxed)),
            was_shut_down: AtomicBool::new(is_shut_down),
            inner: Mutex::new(RegistryInner { is_shut_down, ..RegistryInner::default() }),
            ..Registry::new(self.limit, self.lookups.in_child())
        }
    }

    /// Whether this process is a forked child of the one whose sockets these are.
    #[inline]
    pub(super) fn is_forked(&self) -> bool {
        self.mark.as_ref().is_some_and(ForkMark::is_forked)
    }

    /// How many sockets have a place.
    pub(crate) fn open_sockets(&self) -> usize {
        self.lock().admitted
    }

    /// What became of all of them up to now.
    pub(crate) fn stats(&self) -> ConnectorStats {
        let inner = self.lock();
        let mut stats = inner.totals;
        stats.open = inner.admitted;
        stats.waiting = inner.queue.len();
        // Each is either in the totals or here. They are asked without this lock, which goes behind theirs.
        let live: Vec<_> = inner.live().collect();
        drop(inner);
        for (socket, upgraded) in live {
            let SocketTotals { opened, bytes } = socket.totals();
            stats.count(opened.filter(|_| !upgraded), bytes);
        }
        stats
    }

    /// Counts a socket that the egress rules refuse before there is one.
    pub(crate) fn count_denied(&self, error: &Error) {
        self.lock().totals.denied += 1;
        log_debug(format_args!("{error}"));
    }

    // ------------------------------------------------------------- one socket

    /// Lists a socket that is about to connect.
    pub(super) fn admit(
        &self,
        socket: Weak<Connection>,
        scope: Option<ScopeId>,
    ) -> Result<(SlotId, Admission)> {
        if self.mark.is_none() {
            return Err(fork_handler_error());
        }
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
        let slot = inner.add(socket);
        match admission {
            Admission::Admitted => inner.admitted += 1,
            Admission::Queued => inner.queue.push_back(slot),
        }
        if let Some(id) =
            scope.filter(|_| admission == Admission::Admitted || !planted!(ScopeForgetsQueued))
        {
            inner.scope_of.insert(slot, id);
            inner.scopes.entry(id).or_default().members.insert(slot);
        }
        Ok((slot, admission))
    }

    /// Takes a socket out whose outcome is known, and counts it. The one that has its place now is to be
    /// [admitted](Connection::start).
    pub(super) fn remove(&self, slot: SlotId, totals: SocketTotals) -> Option<Weak<Connection>> {
        let mut inner = self.lock();
        let upgraded = inner.was_upgraded(slot);
        inner.totals.count(totals.opened.filter(|_| !upgraded), totals.bytes);
        let waited = inner.queue.iter().position(|queued| *queued == slot);
        let next = match waited {
            Some(_) if planted!(QueueKeepsDropped) => None,
            Some(position) => {
                inner.queue.remove(position);
                if planted!(LosesSlot) { inner.hand_slot_to_next() } else { None }
            }
            None => inner.hand_slot_to_next(),
        };
        let removed = inner.free_slot(slot);
        if inner.waiters > 0 {
            self.slot_freed.notify_all();
        }
        drop(inner);
        drop(removed);
        next
    }

    /// Another socket has the connection and the place from now on, and this one is counted. Whether all of
    /// them are to end.
    pub(super) fn transfer(
        &self,
        slot: SlotId,
        totals: SocketTotals,
        socket: Weak<Connection>,
    ) -> bool {
        let mut inner = self.lock();
        inner.totals.count(totals.opened, totals.bytes);
        inner.upgraded.insert(slot);
        let old = std::mem::replace(inner.socket_mut(slot), socket);
        let ended = inner.scope_of.get(&slot).and_then(|id| inner.scopes.get(id));
        let ended = inner.is_shut_down || ended.is_some_and(|scope| scope.ended);
        drop(inner);
        drop(old);
        ended
    }

    // ------------------------------------------------------------- all of them

    pub(crate) fn begin_scope(&self) -> ScopeId {
        let id = ScopeId(self.next_scope.fetch_add(1, Ordering::Relaxed) + 1);
        self.lock().scopes.insert(id, ScopeState::default());
        id
    }

    /// Closes the sockets of a scope, all at once, and waits for it: each keeps its close timeout.
    pub(crate) fn end_scope(&self, id: ScopeId) {
        let mut again = false;
        while let Some(sockets) = self.closing_members(id) {
            if std::mem::replace(&mut again, true) {
                self.wait_slot_freed();
            }
            close_all(&sockets);
            if event_loop::is_loop_thread() {
                // They go on to end by themselves.
                return;
            }
            for socket in sockets {
                socket.fail_on_panic(|| socket.wait_closed_and_flushed(None));
            }
        }
    }

    /// The sockets of a scope that ends, but for those just being dropped; `None` when there are none any more.
    fn closing_members(&self, id: ScopeId) -> Option<Vec<Arc<Connection>>> {
        let mut inner = self.lock();
        let scope = inner.scopes.get_mut(&id)?;
        scope.ended = true;
        if scope.members.is_empty() {
            inner.scopes.remove(&id);
            return None;
        }
        let members = inner.scopes[&id].members.iter();
        Some(members.filter_map(|slot| inner.sockets[slot.index()].upgrade()).collect())
    }

    /// Refuses new sockets, closes all there are, for at most `limit`, and aborts the rest. How many had
    /// to be reset before what they had accepted was handed over.
    pub(crate) fn shutdown(&self, limit: Duration) -> usize {
        let until = WaitLimit::after(limit);
        let (mut reset, mut again) = (0, false);
        while let Some(sockets) = self.remaining() {
            if std::mem::replace(&mut again, true) {
                self.wait_slot_freed();
            }
            close_all(&sockets);
            if event_loop::is_loop_thread() {
                return 0;
            }
            for socket in sockets {
                let was_reset =
                    socket.fail_on_panic(|| match socket.wait_closed_and_flushed(Some(until)) {
                        true => socket.close_timed_out(),
                        false => socket.abort_reporting_loss(),
                    });
                reset += usize::from(was_reset);
            }
        }
        reset
    }

    /// All sockets, of which there will be no new ones; `None` when there are none any more.
    fn remaining(&self) -> Option<Vec<Arc<Connection>>> {
        let mut inner = self.lock();
        inner.is_shut_down = !planted!(AcceptsSocketsAfterShutdown);
        self.was_shut_down.store(true, Ordering::Relaxed);
        if inner.sockets.len() == inner.free.len() {
            return None;
        }
        Some(inner.sockets.iter().filter_map(Weak::upgrade).collect())
    }

    /// Waits for one that is just being dropped, or goes over to another socket.
    fn wait_slot_freed(&self) {
        let mut inner = self.lock();
        inner.waiters += 1;
        let (mut inner, _) = self
            .slot_freed
            .wait_timeout(inner, RESCAN_DELAY)
            .unwrap_or_else(PoisonError::into_inner);
        inner.waiters -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, RegistryInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to close them, and waits for none.
fn close_all(sockets: &[Arc<Connection>]) {
    for socket in sockets {
        socket.fail_on_panic(|| socket.begin_close());
    }
}

impl RegistryInner {
    fn add(&mut self, socket: Weak<Connection>) -> SlotId {
        if let Some(slot) = self.free.pop() {
            *self.socket_mut(slot) = socket;
            return slot;
        }
        self.sockets.push(socket);
        let count = u32::try_from(self.sockets.len()).ok().and_then(NonZeroU32::new);
        SlotId(count.expect("there is one, and fewer than there are descriptors"))
    }

    /// Those that are listed and not just being dropped, and whether they took over an upgraded connection.
    fn live(&self) -> impl Iterator<Item = (Arc<Connection>, bool)> {
        (1..).zip(&self.sockets).filter_map(|(number, socket)| {
            let upgraded =
                NonZeroU32::new(number).is_some_and(|it| self.upgraded.contains(&SlotId(it)));
            Some((socket.upgrade()?, upgraded))
        })
    }

    /// Whether it took over an upgraded connection; it does not count as that any more.
    fn was_upgraded(&mut self, slot: SlotId) -> bool {
        !self.upgraded.is_empty() && self.upgraded.remove(&slot)
    }

    /// What is to be dropped once the lock is released.
    fn free_slot(&mut self, slot: SlotId) -> Weak<Connection> {
        let removed = std::mem::take(self.socket_mut(slot));
        self.free.push(slot);
        // Most have none, and to look for one costs a hash.
        let scope = if self.scope_of.is_empty() { None } else { self.scope_of.remove(&slot) };
        if let Some(id) = scope {
            if let Some(scope) = self.scopes.get_mut(&id) {
                scope.members.remove(&slot);
            }
        }
        if self.free.len() == self.sockets.len() {
            self.sockets.clear();
            self.free.clear();
            self.sockets.shrink_to(RETAINED_CAPACITY);
            self.free.shrink_to(RETAINED_CAPACITY);
        }
        removed
    }

    /// A place has become free: who has it now.
    fn hand_slot_to_next(&mut self) -> Option<Weak<Connection>> {
        match self.queue.pop_front() {
            Some(next) => Some(self.socket_mut(next).clone()),
            None => {
                self.admitted -= 1;
                None
            }
        }
    }

    fn socket_mut(&mut self, slot: SlotId) -> &mut Weak<Connection> {
        &mut self.sockets[slot.index()]
    }
}

impl SlotId {
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[cold]
fn fork_handler_error() -> Error {
    match ForkMark::new() {
        Ok(_) => Error::with_message(ErrorKind::Io, "the handler of fork could not be set before"),
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
        format!("{max} {sockets} open, which is as many as max_open_sockets allows"),
    )
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("quota", &self.limit).finish_non_exhaustive()
    }
}
