//! How many handles a socket has.

use super::sync::atomic::{AtomicU32, Ordering};

/// From so many on they are not counted any more: leaked ones, as no memory holds so many.
const SATURATED: u32 = 1 << 31;
/// Where a count stays that is saturated, out of reach of what all threads together may add or take before
/// one of them puts it back.
const STUCK: u32 = SATURATED + SATURATED / 2;

/// A count of handles, which ends at none, or at too many to count. A socket with too many is not closed by
/// dropping its handles.
#[derive(Debug)]
pub(super) struct HandleCount(AtomicU32);

impl HandleCount {
    pub(super) const fn one() -> Self {
        HandleCount(AtomicU32::new(1))
    }

    pub(super) fn add(&self) {
        if self.0.fetch_add(1, Ordering::Relaxed) >= SATURATED {
            self.0.store(STUCK, Ordering::Relaxed);
        }
    }

    /// Takes one off; says how many are left.
    pub(super) fn remove(&self) -> u32 {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        if before >= SATURATED {
            self.0.store(STUCK, Ordering::Relaxed);
        }
        before.wrapping_sub(1)
    }
}

#[cfg(all(test, not(sockeye_shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_that_goes_is_told() {
        let count = HandleCount::one();
        count.add();
        assert_eq!(count.remove(), 1);
        assert_eq!(count.remove(), 0);
    }

    #[test]
    fn leaked_handles_beyond_what_is_counted_end_nothing() {
        let count = HandleCount(AtomicU32::new(u32::MAX / 2));
        for _ in 0..3 {
            count.add();
        }
        // Without an end the count would now go through zero.
        for step in [u32::MAX / 4, u32::MAX / 4, 1, 1] {
            count.0.fetch_add(step, Ordering::Relaxed);
            count.add();
        }
        for _ in 0..1_000 {
            assert_ne!(count.remove(), 0);
        }
        assert!(count.0.load(Ordering::Relaxed) >= SATURATED);
    }
}
