//! Counts a socket's handles. Dropping the last one closes the socket.

use crate::driver::sys::sync::atomic::{AtomicU32, Ordering};

/// From this number on the count stays fixed. Only leaked handles get there, because no memory holds that many.
const SATURATED: u32 = 1 << 31;
/// The fixed value of a saturated count. All threads together cannot leave the saturated range before one of them
/// restores this value.
const STUCK: u32 = SATURATED + SATURATED / 2;

/// Count of handles, which either reaches zero or saturates. A socket with a saturated count is not closed by
/// dropping handles.
#[derive(Debug)]
pub(crate) struct HandleCount(AtomicU32);

impl HandleCount {
    pub(crate) const fn one() -> Self {
        HandleCount(AtomicU32::new(1))
    }

    pub(crate) fn add(&self) {
        if self.0.fetch_add(1, Ordering::Relaxed) >= SATURATED {
            self.0.store(STUCK, Ordering::Relaxed);
        }
    }

    /// Removes one handle. Returns how many are left.
    pub(crate) fn remove(&self) -> u32 {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        if before >= SATURATED {
            self.0.store(STUCK, Ordering::Relaxed);
        }
        before.wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_the_last_handle_returns_zero() {
        let count = HandleCount::one();
        count.add();
        assert_eq!(count.remove(), 1);
        assert_eq!(count.remove(), 0);
    }

    #[test]
    fn a_saturated_count_never_reaches_zero() {
        let count = HandleCount(AtomicU32::new(u32::MAX / 2));
        for _ in 0..3 {
            count.add();
        }
        // Without saturation the count would now pass zero.
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
