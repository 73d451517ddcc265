//! Scenarios of a listener's acceptor: clients that come and go, slots and descriptors that run out, and the end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::rules::{CheckResult, rule};
use super::scenario::ByteSource;
use super::trace::Trace;
use crate::error::Fault;
use crate::machine::{Acceptor, AcceptorActions, AcceptorConfig, AcceptorInput};

/// The minimum time between two accepts without a descriptor, unless one was freed.
const MIN_DELAY: Duration = Duration::from_millis(10);
/// The maximum of that time: a client waits no longer for a descriptor that is free.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// A listener in a simulated world. Its driver is the simplest one: it accepts whenever it may.
pub(super) struct AcceptorScenario {
    acceptor: Acceptor,
    config: AcceptorConfig,
    pub(super) trace: Trace,
    now: Instant,
    /// The clients in the system's queue, by number. A client may have gone.
    queue: VecDeque<Client>,
    next_client: u32,
    /// The last client that the program got.
    last_returned: Option<u32>,
    free_slots: u32,
    is_out_of_descriptors: bool,
    /// The time of the last accept that found no descriptor, if none was freed since.
    starved_at: Option<Instant>,
    /// The end of the acceptor, as far as its actions have reported it.
    ended: Ended,
    /// Whether the program has closed or aborted, and how many connections a close still returns.
    closing: Option<u32>,
    closing_until: Option<Instant>,
    backlog_is_open: bool,
    is_aborted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    number: u32,
    gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    No,
    Yes(Result<(), Fault>),
}

impl AcceptorScenario {
    #[expect(clippy::disallowed_methods, reason = "the start of virtual time")]
    pub(super) fn new(source: &mut ByteSource<'_>) -> Self {
        let flags = source.byte();
        let config = AcceptorConfig {
            drains: flags & 1 == 0,
            close_timeout: Duration::from_millis(u64::from(source.byte()) * 10 + 1),
            ..AcceptorConfig::new(u32::from(flags >> 4) + 1)
        };
        AcceptorScenario {
            acceptor: Acceptor::new(config),
            config,
            trace: Trace::default(),
            now: Instant::now(),
            queue: VecDeque::new(),
            next_client: 0,
            last_returned: None,
            free_slots: u32::from(flags >> 1 & 7),
            is_out_of_descriptors: false,
            starved_at: None,
            ended: Ended::No,
            closing: None,
            closing_until: None,
            backlog_is_open: true,
            is_aborted: false,
        }
    }

    /// Runs the steps in the bytes, and then closes the listener.
    pub(super) fn run(&mut self, mut source: ByteSource<'_>) -> CheckResult {
        while !source.0.is_empty() {
            let byte = source.byte();
            self.step(byte)?;
            self.accept_all()?;
            self.check()?;
        }
        self.close(AcceptorInput::Close)?;
        self.accept_all()?;
        // With no slot, only the close timeout ends it.
        if let Some(until) = self.acceptor.next_timer() {
            self.advance_to(until)?;
            self.accept_all()?;
        }
        self.check()?;
        rule(self.ended != Ended::No, "a closed listener ends within its close timeout")
    }

    fn step(&mut self, byte: u8) -> CheckResult {
        let amount = u64::from(byte >> 4);
        match byte & 15 {
            0..=3 if self.ended == Ended::No && self.backlog_is_open => {
                self.next_client += 1;
                self.queue.push_back(Client { number: self.next_client, gone: false });
                Ok(())
            }
            4 => {
                if let Some(client) = self.queue.back_mut() {
                    client.gone = true;
                }
                Ok(())
            }
            5 => {
                self.free_slots += 1;
                self.input_if(self.acceptor.waits_for_slot(), AcceptorInput::SlotFreed)
            }
            6 => {
                self.is_out_of_descriptors = true;
                Ok(())
            }
            7 => {
                self.is_out_of_descriptors = false;
                self.starved_at = None;
                self.input_if(self.acceptor.is_starved(), AcceptorInput::SlotFreed)
            }
            8..=10 => self.advance_to(self.now + Duration::from_millis(amount * amount * 10)),
            11 => match self.acceptor.next_timer() {
                Some(at) => self.advance_to(at.max(self.now)),
                None => self.input(AcceptorInput::TimerExpired),
            },
            12 if amount > 12 => self.input(AcceptorInput::Failed(Fault::Io(22))),
            13 if amount > 12 => self.close(AcceptorInput::Close),
            14 if amount > 12 => self.close(AcceptorInput::Abort),
            // A second thread was in the system call.
            15 if self.ended != Ended::No => {
                let actions = self.acceptor.handle(AcceptorInput::Accepted, self.now);
                rule(
                    actions.reset_client == self.is_aborted,
                    "no connection is returned after an abort",
                )
            }
            _ => Ok(()),
        }
    }

    fn close(&mut self, input: AcceptorInput) -> CheckResult {
        self.is_aborted |= input == AcceptorInput::Abort;
        if self.closing.is_none() && input == AcceptorInput::Close && self.ended == Ended::No {
            self.closing = Some(self.config.backlog);
            self.closing_until = Some(self.now + self.config.close_timeout);
            // It tries once more.
            self.starved_at = None;
        }
        self.input(input)
    }

    fn advance_to(&mut self, at: Instant) -> CheckResult {
        self.now = at;
        let is_due = self.acceptor.next_timer().is_some_and(|timer| timer <= at);
        self.input_if(is_due, AcceptorInput::TimerExpired)?;
        let next = self.acceptor.next_timer();
        rule(next.is_none_or(|next| next > at), "no expired timer is left")
    }

    /// Accepts as long as the acceptor wants to.
    fn accept_all(&mut self) -> CheckResult {
        let mut gone = 0;
        for _ in 0..1000 {
            if !self.acceptor.may_accept() {
                return Ok(());
            }
            if self.free_slots == 0 {
                self.input(AcceptorInput::NoSlot)?;
                continue;
            }
            if self.is_out_of_descriptors {
                if let Some(at) = self.starved_at {
                    rule(
                        self.now - at >= MIN_DELAY,
                        "a listener without descriptors does not spin",
                    )?;
                }
                self.starved_at = Some(self.now);
                self.input(AcceptorInput::Exhausted)?;
                continue;
            }
            match self.queue.pop_front() {
                None => return self.input(AcceptorInput::WouldBlock),
                Some(Client { gone: true, .. }) => {
                    gone += 1;
                    let actions = self.raw_input(AcceptorInput::ClientGone)?;
                    self.count_drained()?;
                    if self.closing.is_none() && gone % 64 == 0 {
                        rule(!actions.accept, "the driver checks again after 64 lost clients")?;
                    }
                }
                Some(Client { number, .. }) => {
                    gone = 0;
                    self.free_slots -= 1;
                    let actions = self.raw_input(AcceptorInput::Accepted)?;
                    rule(!actions.reset_client, "an accepted connection is returned")?;
                    rule(self.last_returned < Some(number), "connections are returned in order")?;
                    self.last_returned = Some(number);
                    self.count_drained()?;
                }
            }
        }
        Err("a listener does not accept without end")
    }

    fn count_drained(&mut self) -> CheckResult {
        let Some(left) = &mut self.closing else { return Ok(()) };
        rule(*left > 0, "a close returns at most the backlog")?;
        *left -= 1;
        Ok(())
    }

    fn input_if(&mut self, condition: bool, input: AcceptorInput) -> CheckResult {
        if condition { self.input(input) } else { Ok(()) }
    }

    fn input(&mut self, input: AcceptorInput) -> CheckResult {
        self.raw_input(input).map(drop)
    }

    fn raw_input(&mut self, input: AcceptorInput) -> Result<AcceptorActions, &'static str> {
        let could_accept = self.acceptor.may_accept();
        let actions = self.acceptor.handle(input, self.now);
        self.trace.acceptor(input, actions);
        if actions.shrink_backlog {
            rule(self.config.drains, "a queue that others share stays as it is")?;
            rule(self.backlog_is_open, "the backlog is shrunk once")?;
            self.backlog_is_open = false;
        }
        rule(
            actions.close_listener == actions.settled,
            "the descriptor is closed when the end is settled",
        )?;
        if actions.settled {
            rule(self.ended == Ended::No, "the end is reported once")?;
            rule(actions.wake, "the end wakes every waiting thread")?;
            let outcome = self.acceptor.outcome().ok_or("a settled outcome is known")?;
            self.ended = Ended::Yes(outcome);
            self.queue.clear();
        }
        let may_accept = self.acceptor.may_accept();
        rule(may_accept || !actions.accept, "an acceptor that may not accept does not ask for it")?;
        rule(
            could_accept || !may_accept || actions.wake || actions.accept,
            "a wait for slots or descriptors that ends is reported",
        )?;
        Ok(actions)
    }

    fn check(&self) -> CheckResult {
        match (self.ended, self.acceptor.outcome()) {
            (Ended::No, None) => {}
            (Ended::Yes(told), Some(outcome)) => {
                rule(told == outcome, "the first outcome stays")?;
                rule(!self.acceptor.may_accept(), "a listener that has ended does not accept")?;
            }
            (Ended::No, Some(_)) | (Ended::Yes(_), None) => return Err("the end is reported"),
        }
        if let (Some(until), Ended::No) = (self.closing_until, self.ended) {
            let timer = self.acceptor.next_timer();
            rule(
                !self.acceptor.waits_for_slot() || timer == Some(until),
                "a close that waits for slots has its timeout",
            )?;
        }
        if self.acceptor.is_starved() {
            let timer =
                self.acceptor.next_timer().ok_or("a listener without descriptors retries")?;
            rule(timer <= self.now + MAX_DELAY, "a freed descriptor is used within a second")?;
        }
        Ok(())
    }
}
