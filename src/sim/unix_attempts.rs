//! Scenarios of a machine that connects to a Unix-domain listener, whose queue is full at times.

use std::time::{Duration, Instant};

use super::rules::{CheckResult, Expectations, Model, rule};
use super::scenario::ByteSource;
use super::targets::Names;
use super::trace::Trace;
use crate::machine::{
    Actions, AttemptId, Config, Endpoints, Fault, Input, MAX_RETRY_DELAY, MIN_RETRY_DELAY, Machine,
    Target, TimerKind,
};

/// The driver of one machine. It reports results when the bytes say so, and fires every timer on time.
pub(super) struct UnixAttempts {
    machine: Machine,
    model: Model,
    names: Names,
    pub(super) trace: Trace,
    now: Instant,
    /// The end of the connect timeout.
    limit: Instant,
    /// The attempt that has no result yet.
    in_flight: Option<AttemptId>,
    /// The attempt that had a result last.
    reported: Option<AttemptId>,
    /// The time of the last result that found the queue full, and the delay that has to follow.
    busy_at: Option<Instant>,
    delay: Duration,
}

impl UnixAttempts {
    #[expect(clippy::disallowed_methods, reason = "the start of virtual time")]
    pub(super) fn new(source: &mut ByteSource<'_>) -> Self {
        let now = Instant::now();
        let timeout = Duration::from_millis(u64::from(source.byte()) * 10 + 1);
        let config = Config { connect_timeout: Some(timeout), ..Config::new(Target::Unix) };
        UnixAttempts {
            machine: Machine::new(config, now),
            model: Model::new(),
            names: Names::none(),
            trace: Trace::default(),
            now,
            limit: now + timeout,
            in_flight: None,
            reported: None,
            busy_at: None,
            delay: MIN_RETRY_DELAY,
        }
    }

    /// Runs the steps in the bytes. Then the queue stays full, until the connect timeout passes.
    pub(super) fn run(&mut self, mut source: ByteSource<'_>) -> CheckResult {
        let actions = self.machine.start(self.now);
        self.check(actions)?;
        while !source.0.is_empty() && self.machine.opened().is_none() {
            let byte = source.byte();
            self.step(byte)?;
        }
        while self.machine.opened().is_none() {
            rule(self.now <= self.limit, "a full queue ends with the connect timeout")?;
            self.attempted(Err(Fault::Busy))?;
            let next = self.machine.next_timer();
            self.advance_to(next.map_or(self.limit, |(at, _)| at))?;
        }
        self.input(Input::Close)?;
        self.model.check_end(&self.machine)
    }

    fn step(&mut self, byte: u8) -> CheckResult {
        let amount = u64::from(byte >> 4);
        match byte & 15 {
            0..=5 => self.attempted(Err(Fault::Busy)),
            6 => self.attempted(Ok(Endpoints::new(None, None))),
            7 => self.attempted(Err(Fault::Connect(111))),
            // A second result of an attempt.
            8 => match self.reported.filter(|_| self.in_flight.is_none()) {
                Some(id) => self.input(Input::Attempted { id, result: Err(Fault::Busy) }),
                None => Ok(()),
            },
            9 => self.input(Input::TimerExpired),
            10 => self.input(Input::CancelRead),
            11 if amount == 0 => self.input(Input::Close),
            12 if amount == 0 => self.input(Input::Abort),
            _ => self.advance_to(self.now + Duration::from_millis(amount * amount)),
        }
    }

    fn attempted(&mut self, result: Result<Endpoints, Fault>) -> CheckResult {
        let Some(id) = self.in_flight.take() else { return Ok(()) };
        self.reported = Some(id);
        if result == Err(Fault::Busy) {
            self.busy_at = Some(self.now);
        }
        self.input(Input::Attempted { id, result })
    }

    fn advance_to(&mut self, until: Instant) -> CheckResult {
        while let Some((at, _)) = self.machine.next_timer().filter(|&(at, _)| at <= until) {
            self.now = self.now.max(at);
            self.input(Input::TimerExpired)?;
            Model::check_timer(&self.machine, self.now)?;
        }
        self.now = self.now.max(until);
        Ok(())
    }

    fn input(&mut self, input: Input<'_>) -> CheckResult {
        let actions = self.machine.handle(input, self.now);
        self.check(actions)
    }

    fn check(&mut self, actions: Actions) -> CheckResult {
        self.trace.actions(0, &actions);
        if let Some(attempt) = actions.attempt {
            rule(attempt.address.is_none(), "only the driver knows a Unix-domain address")?;
            rule(self.in_flight.is_none(), "one attempt is in flight")?;
            if let Some(busy_at) = self.busy_at.take() {
                let delay = self.now.saturating_duration_since(busy_at);
                rule(delay == self.delay, "each delay is twice the one before, up to a maximum")?;
                self.delay = (self.delay * 2).min(MAX_RETRY_DELAY);
            }
            self.in_flight = Some(attempt.id);
        }
        let expectations = Expectations { tls: false, receiving: None, sending: None, lent: false };
        self.model.check(&actions, &self.machine, expectations, &self.names)?;
        let timeout = Some(Err(Fault::TimedOut(TimerKind::Connect)));
        let timed_out = actions.wake.opened && self.machine.opened() == timeout;
        rule(!timed_out || self.now == self.limit, "the connect timeout is exact")
    }
}
