//! The keys of a poller, and the queue of those to look at.

use std::collections::VecDeque;
use std::collections::hash_map::Entry as KeyEntry;
use std::sync::{Arc, Weak};

use super::{Notice, PollNumber, PollSource, Reported, WatchId};
use crate::driver::sys::own_poll::{Found, OwnPoll};
use crate::driver::sys::sync::HashMap;

/// The number of keys from which the memory for more is freed.
pub(super) const MIN_SHRUNK: usize = 256;

/// The number of queued keys that were removed, beside which the queue is not searched for them.
const MAX_STALE: usize = 64;

#[derive(Debug)]
pub(super) struct PollerState {
    pub(super) keys: HashMap<u64, Entry>,
    /// The generation of the next key.
    pub(super) next_generation: u32,
    /// The watches to look at, in order.
    pub(super) queue: VecDeque<Queued>,
    /// How many of them were removed.
    pub(super) stale: usize,
    /// Watches that the next wait queues again.
    pub(super) level: Vec<WatchId>,
    /// Number of waits that are to end.
    pub(super) wakes: usize,
    /// Number of threads in a wait.
    pub(super) waiting: usize,
    /// The poller's own epoll(7), unless a thread is in it.
    pub(super) own: Option<Box<OwnPoll>>,
    /// Whether a thread is in it, and may have to be woken.
    pub(super) polling: bool,
    /// Whether that thread was notified.
    pub(super) polling_notified: bool,
    /// Number of waiting threads that sleep on the condition variable.
    pub(super) asleep: usize,
    /// Number of these that were notified and have not yet run.
    pub(super) notified: usize,
    /// Memory for the next wait.
    pub(super) spare: VecDeque<Candidate>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) source: Weak<dyn PollSource>,
    pub(super) generation: u32,
    pub(super) is_queued: bool,
    /// Whether the kernel has reported urgent data since the watch was taken out of the queue.
    pub(super) is_urgent: bool,
}

/// A watch in the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queued {
    pub(super) key: u64,
    pub(super) generation: u32,
    /// The poll in which the kernel reported data.
    data_in: Option<PollNumber>,
}

/// A watch to look at.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) source: Arc<dyn PollSource>,
    pub(super) id: WatchId,
    pub(super) reported: Reported,
}

impl PollerState {
    pub(super) fn new(own: Option<OwnPoll>) -> Self {
        PollerState {
            keys: HashMap::default(),
            next_generation: 0,
            queue: VecDeque::new(),
            stale: 0,
            level: Vec::new(),
            wakes: 0,
            waiting: 0,
            own: own.map(Box::new),
            polling: false,
            polling_notified: false,
            asleep: 0,
            notified: 0,
            spare: VecDeque::new(),
        }
    }

    /// Returns a notice if a thread waits that has none yet. A thread in the epoll(7) leaves it last.
    pub(super) fn notice(&mut self) -> Option<Notice> {
        if self.asleep > self.notified {
            self.notified += 1;
            return Some(Notice::Sleeping);
        }
        let is_due = self.polling && !self.polling_notified;
        self.polling_notified |= is_due;
        is_due.then_some(Notice::Polling)
    }

    /// Returns a notice for a thread that has to take the place in the epoll(7), which is free.
    pub(super) fn notice_to_successor(&mut self) -> Option<Notice> {
        let is_needed = self.own.is_some() && self.asleep > self.notified;
        if is_needed && !planted!(PollerKeepsItsPlace) { self.notice() } else { None }
    }

    /// Queues a watch, unless it is queued already or was removed. Returns whether it did.
    pub(super) fn enqueue(&mut self, id: WatchId) -> bool {
        match self.keys.get_mut(&id.key) {
            Some(entry) if entry.generation == id.generation && !entry.is_queued => {
                entry.is_queued = true;
                let WatchId { key, generation } = id;
                self.queue.push_back(Queued { key, generation, data_in: None });
                true
            }
            Some(_) | None => false,
        }
    }

    /// Queues the watch of a key that the kernel has reported in a poll.
    pub(super) fn enqueue_found(&mut self, key: u64, found: Found, poll: Option<PollNumber>) {
        let Some(entry) = self.keys.get_mut(&key) else { return };
        entry.is_urgent |= found == Found::Urgent;
        if !entry.is_queued {
            entry.is_queued = true;
            let data_in = poll.filter(|_| found == Found::Data);
            self.queue.push_back(Queued { key, generation: entry.generation, data_in });
        }
    }

    /// Queues the level-triggered watches that were reported before.
    pub(super) fn queue_level(&mut self) {
        let mut level = std::mem::take(&mut self.level);
        for id in level.drain(..) {
            self.enqueue(id);
        }
        self.level = level;
    }

    /// Takes up to `max` watches out of the queue, without those that were removed.
    pub(super) fn take(&mut self, max: usize, candidates: &mut VecDeque<Candidate>) {
        while candidates.len() < max {
            let Some(Queued { key, generation, data_in }) = self.queue.pop_front() else { return };
            match self.keys.get_mut(&key) {
                Some(entry) if entry.generation == generation => {
                    entry.is_queued = false;
                    let is_urgent = std::mem::take(&mut entry.is_urgent);
                    let reported = match data_in {
                        _ if is_urgent => Reported::Urgent,
                        Some(poll) => Reported::Data(poll),
                        None => Reported::Something,
                    };
                    if let Some(source) = entry.source.upgrade() {
                        let id = WatchId { key, generation };
                        candidates.push_back(Candidate { source, id, reported });
                    }
                }
                Some(_) | None => self.stale = self.stale.saturating_sub(1),
            }
        }
    }

    /// Removes a key, if it has this generation. Removed keys stay in the queue until they are many.
    pub(super) fn remove(&mut self, key: u64, generation: Option<u32>) -> Option<Entry> {
        let KeyEntry::Occupied(entry) = self.keys.entry(key) else { return None };
        if generation.is_some_and(|generation| entry.get().generation != generation) {
            return None;
        }
        if planted!(PollerReportsAfterRemove) && entry.get().is_queued {
            return None;
        }
        let entry = entry.remove();
        self.stale += usize::from(entry.is_queued);
        if self.stale > MAX_STALE && self.stale > self.queue.len() / 2 {
            let keys = &self.keys;
            self.queue.retain(|queued| {
                keys.get(&queued.key).is_some_and(|it| it.generation == queued.generation)
            });
            self.stale = 0;
        }
        self.shrink();
        Some(entry)
    }

    /// Frees memory that was needed for many more keys.
    pub(super) fn shrink(&mut self) {
        let max = MIN_SHRUNK.max(8 * self.keys.len());
        let kept = 2 * self.keys.len();
        if self.keys.capacity() > max {
            self.keys.shrink_to(kept);
        }
        if self.queue.capacity() > max {
            self.queue.shrink_to(kept);
        }
        if self.level.capacity() > max {
            self.level.shrink_to(kept);
        }
        if self.spare.capacity() > max {
            self.spare.shrink_to(kept);
        }
    }
}
