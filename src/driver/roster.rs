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

use super::calls::Until;
use super::errno::code;
use super::pool::Share;
use super::shared::Shared;
use super::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use super::sync::{Condvar, HashMap, HashSet, Mutex, MutexGuard};
use super::{event_loop, say};
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::info::{ConnectorStats, Stats};
use crate::process::ForkMark;

/// A list that once was long gives its memory back when it is empty.
const KEPT_CAPACITY: usize = 64;
/// How long a look for those that are left waits for one that is between two threads.
const BRIEFLY: Duration = Duration::from_millis(1);

/// How many sockets there may be at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    pub(crate) most: Option<usize>,
    /// Whether those that are too many wait, or fail.
    pub(crate) wait: bool,
}

/// Where a socket is in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place(NonZeroU32);

/// Names one scope of a roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScopeId(u64);

/// What there is to count of a socket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Life {
    pub(super) opened: Option<std::result::Result<(), Fault>>,
    pub(super) passed: Stats,
}

/// How a socket that has joined goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// It may begin.
    Placed,
    /// It will be [admitted](Shared::admitted).
    Queued,
}

/// Its lock guards the list. It may be taken under a socket's state lock, and none is taken under it.
pub(crate) struct Roster {
    quota: Quota,
    /// For their lookups.
    lookups: Arc<Share>,
    /// The process whose sockets these are. None if there is no memory to notice a fork: then there are none.
    mark: Option<ForkMark>,
    /// Outside of the lock, as the two things that a forked child takes over.
    scopes_made: AtomicU64,
    was_shut: AtomicBool,
    list: Mutex<List>,
    /// With `list`: somebody has left.
    left: Condvar,
}

#[derive(Default)]
struct List {
    sockets: Vec<Weak<Shared>>,
    free: Vec<Place>,
    /// Those with a place.
    placed: usize,
    /// Those that wait for one, the first first.
    queue: VecDeque<Place>,
    scopes: HashMap<ScopeId, Scoped>,
    /// The scope of each socket that has one.
    scope_of: HashMap<Place, ScopeId>,
    /// Those whose connection was made, and counted, before an upgrade.
    upgraded: HashSet<Place>,
    /// Of those that are not listed any more, and of what never was.
    totals: ConnectorStats,
    shut: bool,
    /// Threads that wait for `left`.
    waiters: u32,
}

/// The sockets of one scope.
#[derive(Default)]
struct Scoped {
    members: HashSet<Place>,
    ended: bool,
}

impl Roster {
    pub(crate) fn new(quota: Quota, lookups: Share) -> Self {
        Roster {
            quota,
            lookups: Arc::new(lookups),
            mark: ForkMark::new().ok(),
            scopes_made: AtomicU64::new(0),
            was_shut: AtomicBool::new(false),
            list: Mutex::new(List::default()),
            left: Condvar::new(),
        }
    }

    pub(super) fn lookups(&self) -> &Arc<Share> {
        &self.lookups
    }

    /// The roster of a forked child, without the parent's sockets: its slots are free, and nothing is counted.
    pub(crate) fn in_child(&self) -> Self {
        let shut = self.was_shut.load(Ordering::Relaxed);
        Roster {
            // A scope that began before the fork is not one that begins here.
            scopes_made: AtomicU64::new(self.scopes_made.load(Ordering::Relaxed)),
            was_shut: AtomicBool::new(shut),
            list: Mutex::new(List { shut, ..List::default() }),
            ..Roster::new(self.quota, self.lookups.renewed())
        }
    }

    /// Whether this process is a forked child of the one whose sockets these are.
    #[inline]
    pub(super) fn is_forked(&self) -> bool {
        self.mark.as_ref().is_some_and(ForkMark::is_forked)
    }

    /// How many sockets have a place.
    pub(crate) fn placed(&self) -> usize {
        self.lock().placed
    }

    /// What became of all of them up to now.
    pub(crate) fn stats(&self) -> ConnectorStats {
        let list = self.lock();
        let mut stats = list.totals;
        stats.open = list.placed;
        stats.waiting = list.queue.len();
        // Each is either in the totals or here. They are asked without this lock, which goes behind theirs.
        let living: Vec<_> = list.living().collect();
        drop(list);
        for (socket, upgraded) in living {
            let Life { opened, passed } = socket.life();
            stats.count(opened.filter(|_| !upgraded), passed);
        }
        stats
    }

    /// Counts a socket that the egress rules refuse before there is one.
    pub(crate) fn denied(&self, error: &Error) {
        self.lock().totals.denied += 1;
        say(format_args!("{error}"));
    }

    // ------------------------------------------------------------- one socket

    /// Lists a socket that is about to connect.
    pub(super) fn join(
        &self,
        socket: Weak<Shared>,
        scope: Option<ScopeId>,
    ) -> Result<(Place, Joined)> {
        if self.mark.is_none() {
            return Err(no_handler());
        }
        let mut list = self.lock();
        if list.shut {
            return Err(closed());
        }
        let joined = match self.quota.most {
            Some(most) if list.placed >= most && !self.quota.wait => {
                list.totals.over_limit += 1;
                return Err(at_limit(most));
            }
            Some(most) if list.placed >= most => Joined::Queued,
            Some(_) | None => Joined::Placed,
        };
        let place = list.add(socket);
        match joined {
            Joined::Placed => list.placed += 1,
            Joined::Queued => list.queue.push_back(place),
        }
        if let Some(id) =
            scope.filter(|_| joined == Joined::Placed || !planted!(ScopeForgetsQueued))
        {
            list.scope_of.insert(place, id);
            list.scopes.entry(id).or_default().members.insert(place);
        }
        Ok((place, joined))
    }

    /// Takes a socket out whose outcome is known, and counts it. The one that has its place now is to be
    /// [admitted](Shared::admitted).
    pub(super) fn leave(&self, place: Place, life: Life) -> Option<Weak<Shared>> {
        let mut list = self.lock();
        let upgraded = list.took_over(place);
        list.totals.count(life.opened.filter(|_| !upgraded), life.passed);
        let waited = list.queue.iter().position(|queued| *queued == place);
        let next = match waited {
            Some(_) if planted!(QueueKeepsDropped) => None,
            Some(position) => {
                list.queue.remove(position);
                if planted!(LosesSlot) { list.pass_on() } else { None }
            }
            None => list.pass_on(),
        };
        let gone = list.remove(place);
        if list.waiters > 0 {
            self.left.notify_all();
        }
        drop(list);
        drop(gone);
        next
    }

    /// Another socket has the connection and the place from now on, and this one is counted. Whether all of
    /// them are to end.
    pub(super) fn hand_over(&self, place: Place, life: Life, socket: Weak<Shared>) -> bool {
        let mut list = self.lock();
        list.totals.count(life.opened, life.passed);
        list.upgraded.insert(place);
        let old = std::mem::replace(list.socket_mut(place), socket);
        let ended = list.scope_of.get(&place).and_then(|id| list.scopes.get(id));
        let ended = list.shut || ended.is_some_and(|scope| scope.ended);
        drop(list);
        drop(old);
        ended
    }

    // ------------------------------------------------------------- all of them

    pub(crate) fn begin_scope(&self) -> ScopeId {
        let id = ScopeId(self.scopes_made.fetch_add(1, Ordering::Relaxed) + 1);
        self.lock().scopes.insert(id, Scoped::default());
        id
    }

    /// Closes the sockets of a scope, all at once, and waits for it: each keeps its close timeout.
    pub(crate) fn end_scope(&self, id: ScopeId) {
        let mut again = false;
        while let Some(sockets) = self.ending(id) {
            if std::mem::replace(&mut again, true) {
                self.wait_left();
            }
            close_all(&sockets);
            if event_loop::is_this_thread() {
                // They go on to end by themselves.
                return;
            }
            for socket in sockets {
                socket.fail_on_panic(|| socket.wait_handed_over(None));
            }
        }
    }

    /// The sockets of a scope that ends, but for those just being dropped; `None` when there are none any more.
    fn ending(&self, id: ScopeId) -> Option<Vec<Arc<Shared>>> {
        let mut list = self.lock();
        let scope = list.scopes.get_mut(&id)?;
        scope.ended = true;
        if scope.members.is_empty() {
            list.scopes.remove(&id);
            return None;
        }
        let members = list.scopes[&id].members.iter();
        Some(members.filter_map(|place| list.sockets[place.index()].upgrade()).collect())
    }

    /// Refuses new sockets, closes all there are, for at most `limit`, and aborts the rest. How many had
    /// to be reset before what they had accepted was handed over.
    pub(crate) fn shut(&self, limit: Duration) -> usize {
        let until = Until::after(limit);
        let (mut reset, mut again) = (0, false);
        while let Some(sockets) = self.shutting() {
            if std::mem::replace(&mut again, true) {
                self.wait_left();
            }
            close_all(&sockets);
            if event_loop::is_this_thread() {
                return 0;
            }
            for socket in sockets {
                let was_reset =
                    socket.fail_on_panic(|| match socket.wait_handed_over(Some(until)) {
                        true => socket.ran_out_of_close_timeout(),
                        false => socket.abort_rest(),
                    });
                reset += usize::from(was_reset);
            }
        }
        reset
    }

    /// All sockets, of which there will be no new ones; `None` when there are none any more.
    fn shutting(&self) -> Option<Vec<Arc<Shared>>> {
        let mut list = self.lock();
        list.shut = !planted!(AcceptsSocketsAfterShutdown);
        self.was_shut.store(true, Ordering::Relaxed);
        if list.sockets.len() == list.free.len() {
            return None;
        }
        Some(list.sockets.iter().filter_map(Weak::upgrade).collect())
    }

    /// Waits for one that is just being dropped, or goes over to another socket.
    fn wait_left(&self) {
        let mut list = self.lock();
        list.waiters += 1;
        let (mut list, _) =
            self.left.wait_timeout(list, BRIEFLY).unwrap_or_else(PoisonError::into_inner);
        list.waiters -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to close them, and waits for none.
fn close_all(sockets: &[Arc<Shared>]) {
    for socket in sockets {
        socket.fail_on_panic(|| socket.begin_close());
    }
}

impl List {
    fn add(&mut self, socket: Weak<Shared>) -> Place {
        if let Some(place) = self.free.pop() {
            *self.socket_mut(place) = socket;
            return place;
        }
        self.sockets.push(socket);
        let count = u32::try_from(self.sockets.len()).ok().and_then(NonZeroU32::new);
        Place(count.expect("there is one, and fewer than there are descriptors"))
    }

    /// Those that are listed and not just being dropped, and whether they took over an upgraded connection.
    fn living(&self) -> impl Iterator<Item = (Arc<Shared>, bool)> {
        (1..).zip(&self.sockets).filter_map(|(number, socket)| {
            let upgraded =
                NonZeroU32::new(number).is_some_and(|it| self.upgraded.contains(&Place(it)));
            Some((socket.upgrade()?, upgraded))
        })
    }

    /// Whether it took over an upgraded connection; it does not count as that any more.
    fn took_over(&mut self, place: Place) -> bool {
        !self.upgraded.is_empty() && self.upgraded.remove(&place)
    }

    /// What is to be dropped once the lock is released.
    fn remove(&mut self, place: Place) -> Weak<Shared> {
        let gone = std::mem::take(self.socket_mut(place));
        self.free.push(place);
        // Most have none, and to look for one costs a hash.
        let scope = if self.scope_of.is_empty() { None } else { self.scope_of.remove(&place) };
        if let Some(id) = scope {
            if let Some(scope) = self.scopes.get_mut(&id) {
                scope.members.remove(&place);
            }
        }
        if self.free.len() == self.sockets.len() {
            self.sockets.clear();
            self.free.clear();
            self.sockets.shrink_to(KEPT_CAPACITY);
            self.free.shrink_to(KEPT_CAPACITY);
        }
        gone
    }

    /// A place has become free: who has it now.
    fn pass_on(&mut self) -> Option<Weak<Shared>> {
        match self.queue.pop_front() {
            Some(next) => Some(self.socket_mut(next).clone()),
            None => {
                self.placed -= 1;
                None
            }
        }
    }

    fn socket_mut(&mut self, place: Place) -> &mut Weak<Shared> {
        &mut self.sockets[place.index()]
    }
}

impl Place {
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[cold]
fn no_handler() -> Error {
    match ForkMark::new() {
        Ok(_) => Error::with_message(ErrorKind::Io, "the handler of fork could not be set before"),
        Err(error) => Error::from_fault(Fault::Io(code(&error))),
    }
}

fn closed() -> Error {
    Error::with_message(ErrorKind::Closed, "the connector was shut down")
}

fn at_limit(most: usize) -> Error {
    let sockets = if most == 1 { "socket is" } else { "sockets are" };
    Error::with_message(
        ErrorKind::Limit,
        format!("{most} {sockets} open, which is as many as max_open_sockets allows"),
    )
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roster").field("quota", &self.quota).finish_non_exhaustive()
    }
}
