//! The attempts to reach a Unix-domain listener: one at a time, repeated while the listener's queue is full.
//!
//! No system reports when that queue has room again. So the attempt is repeated by time, within the connect timeout:
//! after [`MIN_RETRY_DELAY`], doubled each time up to [`MAX_RETRY_DELAY`].

use std::time::{Duration, Instant};

use super::happy_eyeballs::RaceStep;
use super::{Actions, Attempt, AttemptId, Config, Endpoints, Fault, Step, TimerKind};
use crate::info::Timings;

/// The delay after the first attempt that found the listener's queue full.
pub const MIN_RETRY_DELAY: Duration = Duration::from_millis(1);
/// The maximum delay between two attempts at a listener whose queue is full.
pub const MAX_RETRY_DELAY: Duration = Duration::from_millis(50);

/// The only attempt of a machine. Each repetition has the same identifier.
const ID: AttemptId = AttemptId(0);

#[derive(Debug)]
pub(super) struct UnixAttempt {
    /// `None` until the first attempt starts.
    started_at: Option<Instant>,
    progress: Progress,
    /// The delay after the next attempt, if that finds the queue full too.
    delay: Duration,
    /// Whether rules exist. They cannot check an address that only the driver knows, so nothing is dialled.
    is_denied: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// No attempt is in flight, and none is planned.
    Idle,
    InFlight,
    /// The queue was full. The next attempt starts at this instant.
    RetryAt(Instant),
}

impl UnixAttempt {
    pub(super) fn new(config: &Config) -> Self {
        UnixAttempt {
            started_at: None,
            progress: Progress::Idle,
            delay: MIN_RETRY_DELAY,
            is_denied: config.egress.is_some() && !planted!(DialsDenied),
        }
    }

    pub(super) fn start_too_late(&mut self, now: Instant) {
        self.started_at.get_or_insert(now);
    }

    pub(super) fn start(&mut self, now: Instant, actions: &mut Actions) -> RaceStep {
        if self.started_at.is_some() {
            return RaceStep::Continue;
        }
        self.started_at = Some(now);
        if self.is_denied {
            return RaceStep::Lost(Fault::Denied);
        }
        self.dial(actions);
        RaceStep::Continue
    }

    pub(super) fn on_attempted(
        &mut self,
        id: AttemptId,
        result: Result<Endpoints, Fault>,
        now: Instant,
    ) -> RaceStep {
        if !self.is_pending(id) {
            return RaceStep::Continue;
        }
        self.progress = Progress::Idle;
        match result {
            Ok(_) => RaceStep::Won(self.timings(now)),
            Err(Fault::Busy) => {
                let delay = if planted!(RetriesAtOnce) { Duration::ZERO } else { self.delay };
                self.progress = Progress::RetryAt(now + delay);
                self.delay = (self.delay * 2).min(MAX_RETRY_DELAY);
                RaceStep::Continue
            }
            Err(fault) => RaceStep::Lost(fault),
        }
    }

    /// Handles the timer of [`next_timer`](Self::next_timer), if it is due.
    pub(super) fn on_timer(&mut self, now: Instant, actions: &mut Actions) {
        if matches!(self.progress, Progress::RetryAt(at) if at <= now) {
            self.dial(actions);
        }
    }

    fn dial(&mut self, actions: &mut Actions) {
        self.progress = Progress::InFlight;
        actions.attempt = Some(Attempt { id: ID, address: None });
    }

    /// Returns the next timer and its purpose.
    pub(super) fn next_timer(&self) -> Option<(Instant, TimerKind)> {
        match self.progress {
            Progress::RetryAt(at) => Some((at, TimerKind::NextAttempt)),
            Progress::Idle | Progress::InFlight => None,
        }
    }

    pub(super) fn is_pending(&self, id: AttemptId) -> bool {
        id == ID && self.progress == Progress::InFlight
    }

    /// Returns the duration of each step until `now`. There is no lookup.
    pub(super) fn timings(&self, now: Instant) -> Timings {
        let started_at = self.started_at.unwrap_or(now);
        Timings { connect: now.saturating_duration_since(started_at), ..Timings::default() }
    }

    /// Returns the step that the connect timeout limits now.
    pub(super) fn timer_kind(&self) -> TimerKind {
        match self.started_at {
            None => TimerKind::Slot,
            Some(_) => TimerKind::Connect,
        }
    }

    pub(super) fn step(&self) -> Option<Step> {
        self.timer_kind().step()
    }
}
