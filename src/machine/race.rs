//! From a target to one connection: by a race of addresses, or by attempts at one Unix-domain listener.

use std::net::SocketAddr;
use std::time::Instant;

use super::happy_eyeballs::{HappyEyeballs, RaceStep};
use super::unix_attempt::UnixAttempt;
use super::{Actions, AttemptId, Config, Endpoints, FailedAttempt, Fault, Step, Target, TimerKind};
use crate::info::Timings;

#[derive(Debug)]
pub(super) enum Race {
    Addresses(HappyEyeballs),
    Unix(UnixAttempt),
}

impl Race {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        match config.target {
            Target::Address(_) | Target::Host => Race::Addresses(HappyEyeballs::new(config, now)),
            Target::Unix => Race::Unix(UnixAttempt::new(config)),
        }
    }

    /// Replaces [`start`](Self::start) if the deadline has passed, so that the first step counts as the failed one.
    pub(super) fn start_too_late(&mut self, now: Instant) {
        match self {
            Race::Addresses(race) => race.start_too_late(now),
            Race::Unix(attempt) => attempt.start_too_late(now),
        }
    }

    /// Starts the race. A second call has no effect.
    pub(super) fn start(&mut self, now: Instant, actions: &mut Actions) -> RaceStep {
        match self {
            Race::Addresses(race) => race.start(now, actions),
            Race::Unix(attempt) => attempt.start(now, actions),
        }
    }

    /// Handles addresses from the resolver; `last` says that no more follow.
    pub(super) fn on_resolved(
        &mut self,
        answer: Result<&[SocketAddr], Fault>,
        last: bool,
        now: Instant,
        actions: &mut Actions,
    ) -> RaceStep {
        match self {
            Race::Addresses(race) => race.on_resolved(answer, last, now, actions),
            // Nothing was looked up.
            Race::Unix(_) => RaceStep::Continue,
        }
    }

    pub(super) fn on_attempted(
        &mut self,
        id: AttemptId,
        result: Result<Endpoints, Fault>,
        now: Instant,
        actions: &mut Actions,
    ) -> RaceStep {
        match self {
            Race::Addresses(race) => race.on_attempted(id, result, now, actions),
            Race::Unix(attempt) => attempt.on_attempted(id, result, now),
        }
    }

    /// Handles the timer of [`next_timer`](Self::next_timer), if it is due.
    pub(super) fn on_timer(&mut self, now: Instant, actions: &mut Actions) {
        match self {
            Race::Addresses(race) => race.on_timer(now, actions),
            Race::Unix(attempt) => attempt.on_timer(now, actions),
        }
    }

    /// Returns the next timer and its purpose.
    pub(super) fn next_timer(&self) -> Option<(Instant, TimerKind)> {
        match self {
            Race::Addresses(race) => race.next_timer(),
            Race::Unix(attempt) => attempt.next_timer(),
        }
    }

    /// Returns whether an attempt is in flight.
    pub(super) fn is_pending(&self, id: AttemptId) -> bool {
        match self {
            Race::Addresses(race) => race.is_pending(id),
            Race::Unix(attempt) => attempt.is_pending(id),
        }
    }

    /// Returns the address of an attempt if no other one is in flight.
    pub(super) fn only_pending(&self, id: AttemptId) -> Option<SocketAddr> {
        match self {
            Race::Addresses(race) => race.only_pending(id),
            Race::Unix(_) => None,
        }
    }

    /// Returns the number of attempts of this race and those before it.
    pub(super) fn next_id(&self) -> usize {
        match self {
            Race::Addresses(race) => race.next_id(),
            // No proxy is dialled so, and no race follows.
            Race::Unix(_) => 1,
        }
    }

    /// Returns the duration of each step until `now`.
    pub(super) fn timings(&self, now: Instant) -> Timings {
        match self {
            Race::Addresses(race) => race.timings(now),
            Race::Unix(attempt) => attempt.timings(now),
        }
    }

    /// Returns the step that the connect timeout limits now.
    pub(super) fn timer_kind(&self) -> TimerKind {
        match self {
            Race::Addresses(race) => race.timer_kind(),
            Race::Unix(attempt) => attempt.timer_kind(),
        }
    }

    /// Returns the current or last step of connecting.
    pub(super) fn step(&self) -> Option<Step> {
        match self {
            Race::Addresses(race) => race.step(),
            Race::Unix(attempt) => attempt.step(),
        }
    }

    /// Returns all attempts at addresses. Those in flight fail with `pending` at `now`.
    pub(super) fn into_failed(self, pending: Fault, now: Instant) -> Vec<FailedAttempt> {
        match self {
            Race::Addresses(race) => race.into_failed(pending, now),
            Race::Unix(_) => Vec::new(),
        }
    }
}
