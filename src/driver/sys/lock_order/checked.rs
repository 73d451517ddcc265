//! Locks that check their order.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
use std::time::Duration;

use super::rank;
use crate::driver::sys::sync::{Condvar, Mutex, MutexGuard, WaitTimeoutResult, thread_local};

thread_local! {
    /// The ranks of the locks that this thread holds, one bit for each.
    static HELD: Cell<u8> = const { Cell::new(0) };
}

/// The mark of a held lock.
struct Held<const RANK: u8>;

impl<const RANK: u8> Held<RANK> {
    /// Marks the rank as held.
    ///
    /// # Panics
    /// If a lock with this rank or a higher one is held, or any lock under a lock that is taken alone.
    fn new() -> Self {
        // A thread that is ending checks nothing.
        let _ = HELD.try_with(|held| {
            let least = if RANK == rank::ALONE { 0 } else { RANK };
            assert!(
                held.get() >> least == 0,
                "lock order: rank {RANK} is taken while ranks {:#b} are held",
                held.get()
            );
            held.set(held.get() | 1 << RANK);
        });
        Held
    }
}

impl<const RANK: u8> Drop for Held<RANK> {
    fn drop(&mut self) {
        let _ = HELD.try_with(|held| held.set(held.get() & !(1 << RANK)));
    }
}

/// A lock with a rank.
#[derive(Debug)]
pub(crate) struct RankedMutex<T, const RANK: u8>(Mutex<T>);

/// The guard of a lock with a rank. The fields are dropped in this order.
pub(crate) struct RankedGuard<'a, T, const RANK: u8> {
    guard: MutexGuard<'a, T>,
    held: Held<RANK>,
}

impl<T, const RANK: u8> RankedMutex<T, RANK> {
    pub(crate) const fn new(value: T) -> Self {
        RankedMutex(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> LockResult<RankedGuard<'_, T, RANK>> {
        let held = Held::new();
        ranked(self.0.lock(), held)
    }

    pub(crate) fn try_lock(&self) -> TryLockResult<RankedGuard<'_, T, RANK>> {
        let held = Held::new();
        match self.0.try_lock() {
            Ok(guard) => Ok(RankedGuard { guard, held }),
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
            Err(TryLockError::Poisoned(error)) => {
                Err(PoisonError::new(RankedGuard { guard: error.into_inner(), held }).into())
            }
        }
    }

    pub(crate) fn clear_poison(&self) {
        self.0.clear_poison();
    }

    pub(crate) fn get_mut(&mut self) -> LockResult<&mut T> {
        self.0.get_mut()
    }
}

fn ranked<T, const RANK: u8>(
    locked: LockResult<MutexGuard<'_, T>>,
    held: Held<RANK>,
) -> LockResult<RankedGuard<'_, T, RANK>> {
    match locked {
        Ok(guard) => Ok(RankedGuard { guard, held }),
        Err(error) => Err(PoisonError::new(RankedGuard { guard: error.into_inner(), held })),
    }
}

impl<T, const RANK: u8> Deref for RankedGuard<'_, T, RANK> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T, const RANK: u8> DerefMut for RankedGuard<'_, T, RANK> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: fmt::Debug, const RANK: u8> fmt::Debug for RankedGuard<'_, T, RANK> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.guard.fmt(f)
    }
}

/// A condition variable for locks with a rank. A wait releases the rank and takes it again.
#[derive(Debug)]
pub(crate) struct RankedCondvar(Condvar);

impl RankedCondvar {
    pub(crate) const fn new() -> Self {
        RankedCondvar(Condvar::new())
    }

    pub(crate) fn wait<'a, T, const RANK: u8>(
        &self,
        RankedGuard { guard, held }: RankedGuard<'a, T, RANK>,
    ) -> LockResult<RankedGuard<'a, T, RANK>> {
        drop(held);
        let waited = self.0.wait(guard);
        ranked(waited, Held::new())
    }

    pub(crate) fn wait_timeout<'a, T, const RANK: u8>(
        &self,
        RankedGuard { guard, held }: RankedGuard<'a, T, RANK>,
        limit: Duration,
    ) -> LockResult<(RankedGuard<'a, T, RANK>, WaitTimeoutResult)> {
        drop(held);
        let waited = self.0.wait_timeout(guard, limit);
        let held = Held::new();
        match waited {
            Ok((guard, timeout)) => Ok((RankedGuard { guard, held }, timeout)),
            Err(error) => {
                let (guard, timeout) = error.into_inner();
                Err(PoisonError::new((RankedGuard { guard, held }, timeout)))
            }
        }
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn panics(work: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(work)).is_err()
    }

    #[test]
    fn locks_in_order_may_be_held_together() {
        let queue = RankedMutex::<_, { rank::LOOKUPS }>::new(0);
        let state = RankedMutex::<_, { rank::STATE }>::new(0);
        let list = RankedMutex::<_, { rank::UNDER_STATE }>::new(0);
        for _ in 0..2 {
            let guards = (queue.lock().unwrap(), state.lock().unwrap(), list.lock().unwrap());
            drop(guards);
        }
        let alone = RankedMutex::<_, { rank::ALONE }>::new(0);
        drop(alone.lock().unwrap());
    }

    #[test]
    fn a_lock_out_of_order_panics() {
        let queue = RankedMutex::<_, { rank::LOOKUPS }>::new(0);
        let state = RankedMutex::<_, { rank::STATE }>::new(0);
        let other = RankedMutex::<_, { rank::STATE }>::new(0);
        let alone = RankedMutex::<_, { rank::ALONE }>::new(0);
        let held = state.lock().unwrap();
        assert!(panics(|| drop(queue.lock())));
        assert!(panics(|| drop(other.lock())), "two locks of one rank have no order");
        assert!(panics(|| drop(alone.lock())));
        drop(held);
        let _held = alone.lock().unwrap();
        assert!(panics(|| drop(state.lock())));
    }

    #[test]
    fn a_wait_releases_the_rank_and_takes_it_again() {
        let queue = RankedMutex::<_, { rank::LOOKUPS }>::new(0);
        let state = RankedMutex::<_, { rank::STATE }>::new(0);
        let held = state.lock().unwrap();
        let (held, _) = RankedCondvar::new().wait_timeout(held, Duration::ZERO).unwrap();
        assert!(panics(|| drop(queue.lock())));
        drop(held);
        drop(queue.lock().unwrap());
    }
}
