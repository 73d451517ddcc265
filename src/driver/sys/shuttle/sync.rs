//! The model's locks and condition variables. Timed waits end when the model's time has passed, which shuttle's own do
//! not.

use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::time::Timer;
use super::world;

/// A hash map with the same iteration order in every run.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, FixedHasher>;
pub(crate) type HashSet<T> = std::collections::HashSet<T, FixedHasher>;
type FixedHasher = BuildHasherDefault<DefaultHasher>;

#[derive(Debug)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

/// A guard that knows its lock, so that a wait can lock it again.
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    guard: shuttle::sync::MutexGuard<'a, T>,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        match self.0.lock() {
            Ok(guard) => Ok(MutexGuard { mutex: self, guard }),
            Err(error) => {
                Err(PoisonError::new(MutexGuard { mutex: self, guard: error.into_inner() }))
            }
        }
    }

    pub(crate) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Ok(MutexGuard { mutex: self, guard }),
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
            Err(TryLockError::Poisoned(error)) => {
                Err(PoisonError::new(MutexGuard { mutex: self, guard: error.into_inner() }).into())
            }
        }
    }

    /// Does nothing, because a panic ends the run.
    pub(crate) fn clear_poison(&self) {}

    pub(crate) fn get_mut(&mut self) -> LockResult<&mut T> {
        self.0.get_mut()
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.guard.fmt(f)
    }
}

/// A condition variable. Its own lock is held only while no other task can run.
#[derive(Debug)]
pub(crate) struct Condvar(std::sync::Mutex<Waiting>);

#[derive(Debug)]
struct Waiting {
    /// The number of notifications.
    calls: u64,
    wakers: Vec<Waker>,
}

/// Whether a wait timed out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimedOut(bool);

impl TimedOut {
    pub(crate) fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) const fn new() -> Self {
        Condvar(std::sync::Mutex::new(Waiting { calls: 0, wakers: Vec::new() }))
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.wait_for(guard, None).0
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, TimedOut)> {
        match self.wait_for(guard, Some(limit)) {
            (Ok(guard), late) => Ok((guard, late)),
            (Err(error), late) => Err(PoisonError::new((error.into_inner(), late))),
        }
    }

    fn wait_for<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Option<Duration>,
    ) -> (LockResult<MutexGuard<'a, T>>, TimedOut) {
        let mutex = guard.mutex;
        let calls = self.waiting().calls;
        let timer = Timer::after(limit);
        drop(guard);
        let late = shuttle::future::block_on(poll_fn(|context| {
            let mut waiting = self.waiting();
            if waiting.calls != calls {
                return Poll::Ready(false);
            }
            if timer.is_due(&mut world().time, context.waker()) {
                return Poll::Ready(true);
            }
            waiting.wakers.push(context.waker().clone());
            Poll::Pending
        }));
        drop(timer);
        (mutex.lock(), TimedOut(late))
    }

    /// Wakes all waiters, because waits may be spurious.
    pub(crate) fn notify_one(&self) {
        self.notify_all();
    }

    pub(crate) fn notify_all(&self) {
        super::yield_point();
        let mut waiting = self.waiting();
        waiting.calls += 1;
        waiting.wakers.drain(..).for_each(Waker::wake);
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
