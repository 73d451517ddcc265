//! The idle list: sockets that the event loop will monitor if no caller reads from them for a while.
//!
//! A socket that is closed before that removes itself, so short connections cost the event loop nothing.

use std::sync::{PoisonError, Weak};
use std::time::Duration;

use super::source::{IdleSlot, LoopSource};
use crate::driver::slab::Slab;
use crate::driver::sys::lock_order::{RankedGuard, RankedMutex, rank};

/// The time for which the reading turn is free before monitoring starts.
pub(crate) const IDLE_DELAY: Duration = Duration::from_millis(100);

/// The maximum number of sources that one scan takes.
const MAX_TAKEN: usize = 1024;

/// The idle list.
///
/// The lock guards the list. It may be taken under a socket's state lock, and no lock is taken under it.
#[derive(Debug)]
pub(crate) struct IdleList {
    inner: RankedMutex<IdleSlots, { rank::UNDER_STATE }>,
}

#[derive(Debug)]
struct IdleSlots {
    slots: Slab<IdleEntry>,
    /// The number of scans so far.
    round: u32,
    /// Whether the event loop will scan the list.
    scan_scheduled: bool,
}

#[derive(Debug)]
struct IdleEntry {
    source: Weak<dyn LoopSource>,
    reads_seen: u32,
    round: u32,
}

/// A source that a scan took from the list.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) source: Weak<dyn LoopSource>,
    /// Its former slot. The source compares it with its current one, to detect that it was queued again.
    pub(crate) slot: IdleSlot,
    /// The number of read turns that had ended when the source was added.
    pub(crate) reads_seen: u32,
}

impl IdleList {
    pub(crate) const fn new() -> Self {
        let list = IdleSlots { slots: Slab::new(), round: 0, scan_scheduled: false };
        IdleList { inner: RankedMutex::new(list) }
    }

    /// Adds a source. Returns its slot, and whether the caller must schedule a scan.
    pub(crate) fn add(&self, source: Weak<dyn LoopSource>, reads_seen: u32) -> (IdleSlot, bool) {
        let mut list = self.lock();
        let schedule_scan = !std::mem::replace(&mut list.scan_scheduled, true);
        let round = list.round;
        let index = list.slots.add(IdleEntry { source, reads_seen, round });
        (IdleSlot(index), schedule_scan)
    }

    /// Removes a source if it is still in this slot.
    pub(crate) fn remove(&self, IdleSlot(index): IdleSlot, source: &dyn LoopSource) {
        drop(self.lock().slots.take_if(index, |held| held.refers_to(source)));
    }

    /// Takes the sources that were added before the previous scan. Returns whether more of them are left.
    pub(crate) fn take_idle(&self, taken: &mut Vec<Taken>) -> bool {
        let mut list = self.lock();
        let round = list.round;
        for index in list.slots.indices() {
            if taken.len() >= MAX_TAKEN {
                return true;
            }
            let is_old = |held: &IdleEntry| round.wrapping_sub(held.round) > 0;
            if let Some(IdleEntry { source, reads_seen, .. }) = list.slots.take_if(index, is_old) {
                taken.push(Taken { source, slot: IdleSlot(index), reads_seen });
            }
        }
        list.round = round.wrapping_add(1);
        list.scan_scheduled = !list.slots.is_empty();
        false
    }

    /// Returns whether the event loop must scan again.
    pub(crate) fn is_scan_scheduled(&self) -> bool {
        self.lock().scan_scheduled
    }

    fn lock(&self) -> RankedGuard<'_, IdleSlots, { rank::UNDER_STATE }> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdleEntry {
    fn refers_to(&self, source: &dyn LoopSource) -> bool {
        std::ptr::addr_eq(self.source.as_ptr(), source)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::source::tests::TestSource;
    use super::*;

    #[test]
    fn sources_leave_the_list_at_the_second_scan_or_by_themselves() {
        let sources: Vec<_> = (0..3).map(|_| Arc::new(TestSource)).collect();
        let idle_list = IdleList::new();
        let (first_slot, schedule_scan) = idle_list.add(weak(&sources[0]), 7);
        assert!(schedule_scan, "no scan is scheduled yet");
        let (second_slot, schedule_scan) = idle_list.add(weak(&sources[1]), 8);
        assert!(!schedule_scan, "a scan is already scheduled");
        assert_eq!(
            look(&idle_list),
            ([].into(), false),
            "no socket was there at the previous scan"
        );
        idle_list.add(weak(&sources[2]), 9);
        idle_list.remove(second_slot, &*sources[0]);
        idle_list.remove(second_slot, &*sources[1]);
        assert_eq!(look(&idle_list), ([7].into(), false));
        assert!(idle_list.is_scan_scheduled());
        idle_list.remove(first_slot, &*sources[0]);
        assert_eq!(look(&idle_list), ([9].into(), false));
        assert!(!idle_list.is_scan_scheduled(), "the list is empty");
    }

    #[test]
    fn one_scan_takes_a_limited_number_and_reports_that_more_are_left() {
        let source = Arc::new(TestSource);
        let idle_list = IdleList::new();
        for _ in 0..MAX_TAKEN + 1 {
            idle_list.add(weak(&source), 0);
        }
        assert_eq!(look(&idle_list), ([].into(), false));
        assert_eq!(look(&idle_list), (vec![0; MAX_TAKEN], true));
        assert_eq!(look(&idle_list), ([0].into(), false));
    }

    fn weak(source: &Arc<TestSource>) -> Weak<dyn LoopSource> {
        Arc::downgrade(source) as _
    }

    fn look(idle_list: &IdleList) -> (Vec<u32>, bool) {
        let mut taken = Vec::new();
        let more = idle_list.take_idle(&mut taken);
        (taken.into_iter().map(|taken| taken.reads_seen).collect(), more)
    }
}
