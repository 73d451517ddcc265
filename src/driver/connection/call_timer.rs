//! The time that one read or write may still wait. The user may change the limits during the call.

use std::time::{Duration, Instant};

use super::CallLimit;
use crate::driver::event_loop;
use crate::driver::sys::clock;

/// Longer than any kernel's clock tick, by which a blocking receive may overrun.
const MAX_SYSTEM_TICK: Duration = Duration::from_millis(25);

/// Timer of one call: how long it has waited and may still wait.
#[derive(Debug, Default)]
pub(crate) struct CallTimer {
    /// Start of the call, read from the clock only when it is needed.
    started: Option<Instant>,
    /// The time left that was computed at the start of the call, until time passes.
    cached_left: Option<Duration>,
    /// The end of each wait in place of the timeout of the socket, if the call has its own.
    own_end: Option<OwnEnd>,
}

/// The end of the waits of a call, or `None` if only the deadline of the socket bounds them.
#[derive(Clone, Copy, Debug)]
struct OwnEnd(Option<Instant>);

/// The limit has passed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

impl CallTimer {
    /// Creates a timer that ends at an instant, in place of the timeout of the socket. The deadline of the socket applies.
    pub(crate) fn until(end: Option<Instant>) -> Self {
        CallTimer { own_end: Some(OwnEnd(end)), ..CallTimer::default() }
    }

    /// Returns whether the call has a limit that the state of the socket does not know.
    #[inline(always)]
    pub(crate) fn has_own_end(&self) -> bool {
        self.own_end.is_some()
    }

    /// Returns whether the call has no limit.
    fn is_unlimited(&self, limit: CallLimit) -> bool {
        let has_timeout = match self.own_end {
            Some(OwnEnd(end)) => end.is_some(),
            None => limit.timeout.is_some(),
        };
        !has_timeout && limit.deadline.is_none()
    }

    /// Returns the time left at the start of a call. Reads the clock only if there is a limit.
    #[inline(never)]
    pub(crate) fn left_at_start(&mut self, limit: CallLimit) -> Result<Option<Duration>, Elapsed> {
        if self.is_unlimited(limit) {
            return Ok(None);
        }
        let left = self.remaining(limit)?;
        self.cached_left = left;
        Ok(left)
    }

    /// Starts the timer unless it is running.
    pub(crate) fn start(&mut self) {
        self.cached_left = None;
        self.started.get_or_insert_with(clock::now);
    }

    /// Returns the time left before a wait: none on the event loop's thread, which must not wait.
    pub(crate) fn left(&mut self, limit: CallLimit) -> Result<Option<Duration>, Elapsed> {
        if event_loop::is_loop_thread() { Err(Elapsed) } else { self.remaining(limit) }
    }

    fn remaining(&mut self, limit: CallLimit) -> Result<Option<Duration>, Elapsed> {
        if let Some(left) = self.cached_left.take() {
            return Ok(Some(left));
        }
        let now = clock::now();
        let started = *self.started.get_or_insert(now);
        let timeout = match self.own_end {
            Some(OwnEnd(end)) => end,
            None => limit.timeout.and_then(|timeout| started.checked_add(timeout)),
        };
        let due = match (timeout, limit.deadline) {
            (Some(timeout), Some(deadline)) => timeout.min(deadline),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => return Ok(None),
        };
        match due.checked_duration_since(now) {
            Some(left) if !left.is_zero() => Ok(Some(left)),
            Some(_) | None => Err(Elapsed),
        }
    }

    /// Checks whether the call may wait somewhat longer than a tick of the kernel's clock.
    #[inline(never)]
    pub(crate) fn exceeds_tick(&mut self, limit: CallLimit) -> bool {
        if self.is_unlimited(limit) {
            return true;
        }
        match self.left(limit) {
            Ok(left) => left.is_none_or(|left| left > MAX_SYSTEM_TICK),
            Err(Elapsed) => false,
        }
    }

    /// Returns how long the call has waited, if it has.
    pub(crate) fn elapsed(&self) -> Option<Duration> {
        self.started.map(|started| clock::now() - started)
    }

    /// Drops the cached time left, because time has passed.
    pub(crate) fn invalidate(&mut self) {
        self.cached_left = None;
    }
}

/// End of a wait; the instant is `None` if it is too far away to be represented.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitLimit(Option<Instant>);

impl WaitLimit {
    pub(crate) fn after(limit: Duration) -> Self {
        WaitLimit(clock::now().checked_add(limit))
    }

    /// Returns the time left; `None` if the limit has passed.
    pub(crate) fn left(self) -> Option<Duration> {
        match self.0 {
            Some(at) => Some(at.saturating_duration_since(clock::now())).filter(|d| !d.is_zero()),
            None => Some(Duration::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_of_timeout_and_deadline_applies_and_a_passed_one_fails_at_once() {
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        let limit = |timeout, deadline| CallLimit { timeout, deadline };
        check(limit(None, None), None);
        check(limit(Some(hour), None), Some(hour));
        check(limit(Some(hour), Some(now + 2 * hour)), Some(hour));
        check(limit(Some(2 * hour), Some(now + hour)), Some(hour));
        check(limit(Some(Duration::MAX), Some(now + hour)), Some(hour));
        check(limit(Some(Duration::MAX), None), None);
        assert_eq!(CallTimer::default().left_at_start(limit(Some(hour), Some(now))), Err(Elapsed));
    }

    #[test]
    fn a_limit_set_during_a_call_counts_from_the_start_of_the_call() {
        let mut timer = CallTimer::default();
        timer.start();
        let started = timer.started.expect("the timer was started");
        while started.elapsed() < Duration::from_millis(2) {}
        let limit = CallLimit { timeout: Some(Duration::from_millis(1)), deadline: None };
        assert_eq!(timer.left(limit), Err(Elapsed));
    }

    fn check(limit: CallLimit, left: Option<Duration>) {
        let found = CallTimer::default().left_at_start(limit).expect("there is time left");
        let slack = Duration::from_secs(60);
        match (found, left) {
            (None, None) => {}
            (Some(found), Some(left)) => assert!(found <= left && found + slack > left),
            (found, left) => panic!("found {found:?}, expected {left:?}"),
        }
    }
}
