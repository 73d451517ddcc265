//! A poller: its keys, the queue of keys to look at, and the threads that wait for them.
//!
//! The poller knows which source has a key, and whether the key is queued. The source has the rest, in a `Watch` under
//! its own lock: the interest, and whether the key is armed. So an event, a `modify` and a report of one key happen one
//! after the other. A source queues a key when something is so that the key asks for. A thread that waits takes keys
//! out of the queue, and asks their sources what is so at that moment.
//!
//! A key is queued at most once, so the queue is bounded by the number of keys. A key that was reported while
//! level-triggered is queued again by the next `wait`, or by the next event.
//!
//! On Linux a poller has an epoll(7) of its own for sockets that are open. One of the threads that wait is in it, and queues
//! the keys that the kernel reports; the others sleep on a condition variable. Everything else is found by the event loop,
//! or by the thread that causes it, which wakes one of them.
//!
//! The lock is taken under that of a source, and nothing is taken under it.

mod queue;
mod wait;
pub(crate) mod watch;

use std::collections::hash_map::Entry as KeyEntry;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, Weak};

use crate::driver::sys::lock_order::{RankedCondvar, RankedGuard, RankedMutex, rank};
use crate::driver::sys::own_poll::{self, Registrations};
use crate::driver::sys::sync::atomic::{AtomicU32, Ordering};
use crate::error::{Error, ErrorKind, Result};
use crate::poll::{Interest, Ready};

use self::queue::{Entry, PollerState};
pub(crate) use self::wait::Until;
use crate::process::ForkMark;

/// Something that can be ready, as a poller sees it. The methods are called without the poller's lock.
pub(crate) trait PollSource: fmt::Debug + Send + Sync {
    /// Fails for events that such a source never has.
    fn check_interest(&self, interest: Interest) -> Result<()>;
    /// Adds a watch under a key that is free, and queues it if something is so already.
    fn watch(
        self: Arc<Self>,
        poller: &Arc<PollerInner>,
        key: u64,
        interest: Interest,
    ) -> Result<()>;
    /// Changes the interest of a watch and arms it. Returns false if the watch was removed.
    fn modify_watch(self: Arc<Self>, poller: &PollerInner, id: WatchId, interest: Interest)
    -> bool;
    /// Removes a watch.
    fn remove_watch(self: Arc<Self>, poller: &PollerInner, id: WatchId);
    /// Returns what is so of a watch that was taken out of the queue. If it is level-triggered and something is so, the
    /// poller queues it again.
    fn check_watch(
        self: Arc<Self>,
        poller: &PollerInner,
        id: WatchId,
        reported: Reported,
    ) -> Option<Report>;
}

/// The number of a poll of the poller's own epoll(7).
pub(crate) type PollNumber = NonZeroU32;

/// Why a watch was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    /// The kernel has reported data in a poll, and neither an end nor a failure.
    Data(PollNumber),
    /// The kernel has reported urgent data.
    Urgent,
    Something,
}

/// Identifies a watch of one poller: keys are used again, generations are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WatchId {
    pub(crate) key: u64,
    pub(crate) generation: u32,
}

/// What is so of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) ready: Ready,
    pub(crate) is_level: bool,
}

/// A notice for one waiting thread. The caller [gives](PollerInner::notify) it, once it has released its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a thread waits"]
pub(crate) enum Notice {
    /// To the thread in the poller's own epoll(7).
    Polling,
    /// To a thread on the condition variable.
    Sleeping,
}

/// The part of a poller that its sources know.
#[derive(Debug)]
pub(crate) struct PollerInner {
    state: RankedMutex<PollerState, { rank::UNDER_STATE }>,
    /// Signals one thread that a key is queued, or that a wait was ended.
    ready: RankedCondvar,
    /// `None` if the event loop reports everything.
    registrations: Option<Registrations>,
    /// The number of the last poll.
    polls: AtomicU32,
    mark: ForkMark,
}

impl PollerInner {
    /// Fails with `Io` if the process could not install the handler that detects a fork.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let mark = ForkMark::new().map_err(Error::from)?;
        let (own, registrations) = own_poll::open().unzip();
        Ok(Arc::new(PollerInner {
            state: RankedMutex::new(PollerState::new(own)),
            ready: RankedCondvar::new(),
            registrations,
            polls: AtomicU32::new(0),
            mark,
        }))
    }

    pub(crate) fn is_forked(&self) -> bool {
        self.mark.is_forked()
    }

    pub(crate) fn check_process(&self) -> Result<()> {
        if !self.is_forked() {
            return Ok(());
        }
        let message = "the poller belongs to the process that forked";
        Err(Error::with_message(ErrorKind::InvalidState, message))
    }

    fn lock(&self) -> RankedGuard<'_, PollerState, { rank::UNDER_STATE }> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        if self.is_forked() { 0 } else { self.lock().keys.len() }
    }

    // ------------------------------------------------------------- keys

    pub(crate) fn add(
        self: &Arc<Self>,
        source: Arc<dyn PollSource>,
        key: u64,
        interest: Interest,
    ) -> Result<()> {
        self.check_process()?;
        source.check_interest(interest)?;
        source.watch(self, key, interest)
    }

    /// Takes a key for a source, which calls this under its lock. Returns the generation.
    pub(crate) fn insert(&self, key: u64, source: Weak<dyn PollSource>) -> Result<u32> {
        let mut state = self.lock();
        let state = &mut *state;
        let generation = state.next_generation;
        match state.keys.entry(key) {
            KeyEntry::Occupied(_) => {
                let message = format!("the key {key} is taken: modify or remove it");
                Err(Error::with_message(ErrorKind::InvalidState, message))
            }
            KeyEntry::Vacant(vacant) => {
                vacant.insert(Entry { source, generation, is_queued: false, is_urgent: false });
                state.next_generation = generation.wrapping_add(1);
                Ok(generation)
            }
        }
    }

    pub(crate) fn modify(&self, key: u64, interest: Interest) -> Result<()> {
        self.check_process()?;
        let found = self.lock().keys.get(&key).and_then(|entry| {
            let id = WatchId { key, generation: entry.generation };
            Some((entry.source.upgrade()?, id))
        });
        if let Some((source, _)) = &found {
            source.check_interest(interest)?;
        }
        match found {
            Some((source, id)) if source.clone().modify_watch(self, id, interest) => Ok(()),
            Some(_) | None => {
                let message = format!("no source has the key {key}: add it");
                Err(Error::with_message(ErrorKind::InvalidState, message))
            }
        }
    }

    /// Removes a key. Returns whether it was there.
    pub(crate) fn remove(&self, key: u64) -> bool {
        if self.is_forked() {
            return false;
        }
        let Some(entry) = self.lock().remove(key, None) else { return false };
        if let Some(source) = entry.source.upgrade() {
            source.remove_watch(self, WatchId { key, generation: entry.generation });
        }
        true
    }

    /// Forgets the key of a source that has removed the watch itself.
    pub(crate) fn forget(&self, WatchId { key, generation }: WatchId) {
        if !self.is_forked() {
            let entry = self.lock().remove(key, Some(generation));
            // Without the lock, although a weak reference seldom frees anything.
            drop(entry);
        }
    }

    // ------------------------------------------------------------- the queue

    /// Queues a watch, under the lock of its source.
    pub(crate) fn enqueue(&self, id: WatchId) -> Option<Notice> {
        let mut state = self.lock();
        if state.enqueue(id) { state.notice() } else { None }
    }

    /// Queues a watch again. The calling thread is in a wait, and takes it out or notifies another thread at its end.
    pub(crate) fn requeue(&self, id: WatchId) {
        self.lock().enqueue(id);
    }

    pub(crate) fn notify(&self, notice: Notice) {
        match (notice, &self.registrations) {
            (Notice::Sleeping, _) | (_, None) => self.ready.notify_one(),
            (Notice::Polling, Some(registrations)) => registrations.wake(),
        }
    }

    /// Begins a poll, and returns its number, unless that is zero.
    fn begin_poll(&self) -> Option<PollNumber> {
        PollNumber::new(self.polls.fetch_add(1, Ordering::SeqCst).wrapping_add(1))
    }

    /// Returns the number of the last poll that has begun. Later ones find what is so from now on.
    pub(crate) fn polls_begun(&self) -> u32 {
        self.polls.load(Ordering::SeqCst)
    }

    /// Returns where the kernel reports to this poller, if it does.
    pub(crate) fn registrations(&self) -> Option<&Registrations> {
        self.registrations.as_ref().filter(|_| !self.is_forked())
    }

    /// Ends one wait: a current one, or else the next.
    pub(crate) fn wake(&self) {
        if self.is_forked() {
            return;
        }
        let mut state = self.lock();
        state.wakes = (state.wakes + 1).min(state.waiting.max(1));
        let notice = state.notice();
        drop(state);
        if let (Some(notice), false) = (notice, planted!(PollerLosesWake)) {
            self.notify(notice);
        }
    }

    /// Removes the watches from their sources, because the program has dropped the poller.
    pub(crate) fn close(&self) {
        if self.is_forked() {
            return;
        }
        let keys = std::mem::take(&mut self.lock().keys);
        for (key, Entry { source, generation, .. }) in keys {
            if let Some(source) = source.upgrade() {
                source.remove_watch(self, WatchId { key, generation });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::queue::MIN_SHRUNK;
    use super::*;

    /// A source of which nothing is ever so.
    #[derive(Debug)]
    struct Idle;

    impl PollSource for Idle {
        fn check_interest(&self, _: Interest) -> Result<()> {
            Ok(())
        }

        fn watch(self: Arc<Self>, poller: &Arc<PollerInner>, key: u64, _: Interest) -> Result<()> {
            let this: Weak<Idle> = Arc::downgrade(&self);
            let generation = poller.insert(key, this)?;
            let _ = poller.enqueue(WatchId { key, generation });
            Ok(())
        }

        fn modify_watch(self: Arc<Self>, _: &PollerInner, _: WatchId, _: Interest) -> bool {
            true
        }

        fn remove_watch(self: Arc<Self>, _: &PollerInner, _: WatchId) {}

        fn check_watch(
            self: Arc<Self>,
            _: &PollerInner,
            id: WatchId,
            _: Reported,
        ) -> Option<Report> {
            assert!(id.key != PANICS, "a planted panic");
            let is_ready = id.key % 2 == 0;
            is_ready.then_some(Report { ready: Ready::READABLE, is_level: true })
        }
    }

    /// A key whose check panics.
    const PANICS: u64 = u64::MAX;

    fn add(poller: &Arc<PollerInner>, source: &Arc<Idle>, key: u64) {
        poller.add(Arc::clone(source) as _, key, Interest::READABLE).unwrap();
    }

    fn keys_of_a_look(poller: &PollerInner) -> Vec<u64> {
        let mut events = crate::poll::Events::with_capacity(10);
        poller.wait(&mut events, Until::after(Some(std::time::Duration::ZERO))).unwrap();
        events.iter().map(|event| event.key).collect()
    }

    #[test]
    fn memory_for_many_keys_is_freed_with_them() {
        let (poller, source) = (PollerInner::new().unwrap(), Arc::new(Idle));
        (0..10_000).for_each(|key| add(&poller, &source, key));
        let mut events = crate::poll::Events::with_capacity(10_000);
        poller.wait(&mut events, Until::Forever).unwrap();
        assert_eq!(events.len(), 5_000);
        (10..10_000).for_each(|key| assert!(poller.remove(key)));
        // The next wait looks at those that it reported.
        assert_eq!(keys_of_a_look(&poller), [0, 2, 4, 6, 8]);
        let state = poller.lock();
        let capacities = [
            state.keys.capacity(),
            state.queue.capacity(),
            state.level.capacity(),
            state.spare.capacity(),
        ];
        assert!(capacities.iter().all(|capacity| *capacity <= 4 * MIN_SHRUNK), "{capacities:?}");
    }

    /// A look may run code of the program, such as a logger, and that may panic.
    #[test]
    fn a_panic_in_a_look_loses_no_other_key() {
        let (poller, source) = (PollerInner::new().unwrap(), Arc::new(Idle));
        for key in [0, PANICS, 2, 4] {
            add(&poller, &source, key);
        }
        let look = std::panic::AssertUnwindSafe(|| keys_of_a_look(&poller));
        assert!(std::panic::catch_unwind(look).is_err());
        assert_eq!(poller.lock().waiting, 0);
        assert_eq!(keys_of_a_look(&poller), [2, 4]);
        poller.wake();
        poller.wake();
        let mut events = crate::poll::Events::with_capacity(1);
        poller.remove(2);
        poller.remove(4);
        poller.remove(0);
        poller.wait(&mut events, Until::Forever).unwrap();
        assert_eq!(poller.lock().wakes, 0, "several wakes end one wait");
    }
}
