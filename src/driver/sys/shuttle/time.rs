//! The model's clock and timers.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::{wait, world, yield_point};

/// The instant at which every run begins.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

#[derive(Debug, Default)]
pub(super) struct Time {
    passed: Duration,
    timers: BTreeMap<(Instant, u64), Option<Waker>>,
    timers_made: u64,
    /// The task that advances time.
    auto_advance: Option<Waker>,
}

/// Returns the model's time.
#[must_use]
pub fn now() -> Instant {
    world().time.now()
}

/// Advances time while other tasks can run.
pub fn pass_time(time: Duration) {
    yield_point();
    let mut world = world();
    let now = world.time.now() + time;
    world.time.advance(now);
}

/// Advances time to one timer after another. The scheduler runs this task only if no other task can run.
pub(super) fn run() {
    let ended = || {
        wait(|world, waker| {
            if world.over {
                return Some(true);
            }
            if !world.time.timers.is_empty() {
                return Some(false);
            }
            world.time.auto_advance = Some(waker.clone());
            None
        })
    };
    while !ended() {
        let mut world = world();
        if let Some((&(at, _), _)) = world.time.timers.first_key_value() {
            world.time.advance(at);
        }
    }
}

impl Time {
    pub(super) fn now(&self) -> Instant {
        *EPOCH + self.passed
    }

    fn advance(&mut self, now: Instant) {
        self.passed = self.passed.max(now - *EPOCH);
        while let Some(first) = self.timers.first_entry().filter(|first| first.key().0 <= now) {
            if let Some(waker) = first.remove() {
                waker.wake();
            }
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.auto_advance.take() {
            waker.wake();
        }
    }
}

/// A timer for which a task waits.
#[derive(Debug)]
pub(super) struct Timer(Option<(Instant, u64)>);

impl Timer {
    /// Creates a timer. It never fires if there is no limit, or if the limit overflows `Instant`.
    pub(super) fn after(limit: Option<Duration>) -> Self {
        let mut world = world();
        let time = &mut world.time;
        let Some(at) = limit.and_then(|limit| time.now().checked_add(limit)) else {
            return Timer(None);
        };
        time.timers_made += 1;
        let key = (at, time.timers_made);
        time.timers.insert(key, None);
        time.wake();
        Timer(Some(key))
    }

    /// Returns whether the timer is due. Otherwise it will wake the waker.
    pub(super) fn is_due(&self, time: &mut Time, waker: &Waker) -> bool {
        let Some(key) = self.0 else { return false };
        if let Some(timer) = time.timers.get_mut(&key) {
            *timer = Some(waker.clone());
        }
        key.0 <= time.now()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(key) = self.0 {
            world().time.timers.remove(&key);
        }
    }
}
