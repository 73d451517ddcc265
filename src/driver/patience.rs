//! How long one read or write may wait, by the user's limits, which may change meanwhile.

use std::time::{Duration, Instant};

use super::shared::CallLimit;
use super::{clock, event_loop};

/// Longer than any system's tick, for which a receive may wait without hearing of anything.
const MAX_SYSTEM_TICK: Duration = Duration::from_millis(25);

/// How long one call has waited and may still.
#[derive(Debug, Default)]
pub(super) struct CallTimer {
    /// When it began to count; known once it is needed.
    started: Option<Instant>,
    /// What was found at the start of the call, as long as that is just now.
    cached_left: Option<Duration>,
}

/// The limit has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Elapsed;

impl CallTimer {
    /// What is left at the start of a call; the clock is read only where there is a limit.
    #[inline(never)]
    pub(super) fn left_at_start(&mut self, limit: CallLimit) -> Result<Option<Duration>, Elapsed> {
        if limit.timeout.is_none() && limit.deadline.is_none() {
            return Ok(None);
        }
        let left = self.remaining(limit)?;
        self.cached_left = left;
        Ok(left)
    }

    /// The call waits from now on, if it has not before.
    pub(super) fn start(&mut self) {
        self.cached_left = None;
        self.started.get_or_insert_with(clock::now);
    }

    /// What is left before a wait: nothing on the loop, which does not wait.
    pub(super) fn left(&mut self, limit: CallLimit) -> Result<Option<Duration>, Elapsed> {
        if event_loop::is_loop_thread() { Err(Elapsed) } else { self.remaining(limit) }
    }

    fn remaining(&mut self, limit: CallLimit) -> Result<Option<Duration>, Elapsed> {
        if let Some(left) = self.cached_left.take() {
            return Ok(Some(left));
        }
        let now = clock::now();
        let started = *self.started.get_or_insert(now);
        let timeout = limit.timeout.and_then(|timeout| started.checked_add(timeout));
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

    /// Whether the call may wait somewhat longer than a tick of the system's clock.
    #[inline(never)]
    pub(super) fn exceeds_tick(&mut self, limit: CallLimit) -> bool {
        if limit.timeout.is_none() && limit.deadline.is_none() {
            return true;
        }
        match self.left(limit) {
            Ok(left) => left.is_none_or(|left| left > MAX_SYSTEM_TICK),
            Err(Elapsed) => false,
        }
    }

    /// How long the call has waited, where it did.
    pub(super) fn elapsed(&self) -> Option<Duration> {
        self.started.map(|started| clock::now() - started)
    }

    /// Time has passed.
    pub(super) fn invalidate(&mut self) {
        self.cached_left = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_of_timeout_and_deadline_counts_and_the_past_is_over_at_once() {
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
    fn a_limit_that_is_set_later_counts_from_the_beginning_of_the_call() {
        let mut timer = CallTimer::default();
        timer.start();
        let started = timer.started.expect("it has begun");
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
            (found, left) => panic!("{found:?} where {left:?} was expected"),
        }
    }
}
