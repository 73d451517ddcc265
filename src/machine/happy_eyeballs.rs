//! Happy Eyeballs: from a host name to one connection, by a race of its addresses (RFC 8305 and its successor draft).
//!
//! This state machine is part of the connecting state, and ends with it. Its rules:
//!
//! - Addresses are used as soon as the resolver returns them. If the first answer has only IPv4 addresses and more may
//!   follow, IPv4 waits [`RESOLUTION_DELAY`] for IPv6 (section 3).
//! - The families alternate, starting with that of the first address. Within a family, the resolver's order
//!   stays (section 4).
//! - The next attempt starts [`ATTEMPT_DELAY`] after the last one started, or at once if one fails (section 5). The
//!   first attempt to succeed wins. At most [`MAX_IN_FLIGHT`] are in flight; to start another, the oldest is cancelled.
//! - Addresses that the egress rules refuse are not dialled, and fail as soon as they are known. They determine the
//!   error only if no address was dialled.
//! - With a fixed local port, attempts run one after another, because only one can use the port at a time.
//! - If an attempt fails because this side lacks a resource, such as a descriptor, while others are in flight, it is
//!   retried when one of these ends, or when the next attempt is due.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    Actions, Attempt, AttemptId, Config, Endpoints, FailedAttempt, Fault, Step, Target, TimerKind,
};
use crate::egress::EgressRules;
use crate::info::Timings;

/// The maximum number of addresses of one lookup that are dialled; the rest is dropped. Addresses that the egress rules
/// refuse do not count.
pub const MAX_ADDRESSES: usize = 64;
/// The maximum number of attempts of one race in flight. Each takes a descriptor.
pub const MAX_IN_FLIGHT: usize = 8;
/// The maximum number of addresses of one lookup that are checked: more than two DNS messages can hold.
pub(super) const MAX_CHECKED: usize = 8192;
/// The maximum number of refused addresses that are kept for the error of a failed connect.
pub(super) const MAX_DENIED: usize = 64;
/// The delay between the starts of two attempts, if none fails before.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The time that IPv4 addresses wait for IPv6 addresses if they arrive first.
pub const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// The maximum number of retries after a socket connected to itself by chance.
const MAX_SELF_CONNECT_RETRIES: u8 = 2;

#[derive(Debug)]
pub(super) struct HappyEyeballs {
    /// `None` until the race starts.
    started_at: Option<Instant>,
    bind: Option<SocketAddr>,
    /// `None` allows every address.
    egress: Option<Arc<EgressRules>>,
    /// Whether the addresses are those of a proxy, which the program has chosen. Only own listeners are denied then.
    to_proxy: bool,
    /// The number of attempts of earlier races of the same machine.
    first_id: usize,
    /// Whether the resolver may return more addresses.
    lookup_pending: bool,
    /// The time of the first answer.
    first_answer_at: Option<Instant>,
    /// The end of the current wait for IPv6.
    v6_grace: Option<Instant>,
    /// The addresses left to dial: IPv4, then IPv6.
    remaining: [VecDeque<SocketAddr>; 2],
    /// The family of the next attempt.
    next_family: Family,
    /// The number of addresses so far that may be dialled.
    candidates_seen: usize,
    /// The number of addresses so far that were checked.
    checked: usize,
    /// The number of checked addresses that were refused.
    denied: usize,
    /// All attempts, in order of their start.
    attempts: Vec<AttemptRecord>,
    /// The start of the latest attempt.
    last_started: Option<Instant>,
    /// The scheduled start of the next attempt.
    next_attempt_at: Option<Instant>,
    self_connect_retries: u8,
}

#[derive(Debug)]
struct AttemptRecord {
    address: SocketAddr,
    /// The time at which it started or was refused.
    started_at: Instant,
    /// `None` while it is in flight.
    failed: Option<Failed>,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    fault: Fault,
    at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// The state of a race after an event.
#[derive(Debug)]
pub(super) enum RaceStep {
    /// The race continues.
    Continue,
    /// An attempt succeeded.
    Won(Timings),
    /// All attempts failed.
    Lost(Fault),
}

impl HappyEyeballs {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let egress = config.egress.clone();
        let to_proxy = config.route.is_some();
        HappyEyeballs::with(config.target, config.bind, egress, to_proxy, now)
    }

    /// Creates another race to a proxy, of which this address has answered before. `first_id` is the number of attempts
    /// of the races before it.
    pub(super) fn again(
        proxy: SocketAddr,
        bind: Option<SocketAddr>,
        egress: Option<Arc<EgressRules>>,
        first_id: usize,
        now: Instant,
    ) -> Self {
        let race = HappyEyeballs::with(Target::Address(proxy), bind, egress, true, now);
        HappyEyeballs { first_id, ..race }
    }

    fn with(
        target: Target,
        bind: Option<SocketAddr>,
        egress: Option<Arc<EgressRules>>,
        to_proxy: bool,
        now: Instant,
    ) -> Self {
        let mut happy_eyeballs = HappyEyeballs {
            started_at: None,
            bind,
            egress,
            to_proxy,
            first_id: 0,
            lookup_pending: true,
            first_answer_at: None,
            v6_grace: None,
            remaining: [VecDeque::new(), VecDeque::new()],
            next_family: Family::V4,
            candidates_seen: 0,
            checked: 0,
            denied: 0,
            attempts: Vec::new(),
            last_started: None,
            next_attempt_at: None,
            self_connect_retries: MAX_SELF_CONNECT_RETRIES,
        };
        if let Target::Address(address) = target {
            // An address of the other family than `bind` is dialled too: its attempt fails.
            happy_eyeballs.lookup_pending = false;
            happy_eyeballs.add_candidate(address, now);
        }
        happy_eyeballs
    }

    /// Replaces [`start`](Self::start) if the deadline has passed, so that the first step counts as the failed one.
    pub(super) fn start_too_late(&mut self, now: Instant) {
        self.started_at.get_or_insert(now);
    }

    /// Starts the race. A second call has no effect.
    pub(super) fn start(&mut self, now: Instant, actions: &mut Actions) -> RaceStep {
        if self.started_at.is_some() {
            return RaceStep::Continue;
        }
        self.started_at = Some(now);
        if self.lookup_pending {
            actions.resolve = true;
            return RaceStep::Continue;
        }
        self.first_answer_at = Some(now);
        self.start_next(now, actions);
        // There is one address. The race is lost at once if the rules refused it.
        self.last_fault().map_or(RaceStep::Continue, RaceStep::Lost)
    }

    /// Handles addresses from the resolver; `last` says that no more follow.
    pub(super) fn on_resolved(
        &mut self,
        answer: Result<&[SocketAddr], Fault>,
        last: bool,
        now: Instant,
        actions: &mut Actions,
    ) -> RaceStep {
        if !self.lookup_pending || self.started_at.is_none() {
            return RaceStep::Continue;
        }
        self.lookup_pending = !last;
        let none = match answer {
            Ok(addresses) => {
                self.add_all(addresses, now);
                if addresses.is_empty() { Fault::NoAddress } else { Fault::NoAddressOfFamily }
            }
            Err(fault) => fault,
        };
        if self.is_exhausted() {
            return RaceStep::Lost(self.last_fault().unwrap_or(none));
        }
        let v6_came = !self.remaining[Family::V6 as usize].is_empty();
        if self.v6_grace.is_some() && (v6_came || last) {
            self.v6_grace = None;
            self.next_family = if v6_came { Family::V6 } else { Family::V4 };
        }
        if self.v6_grace.is_none() && self.in_flight() == 0 {
            self.start_next(now, actions);
        } else if self.next_attempt_at.is_none() {
            self.schedule_next();
            self.on_timer(now, actions);
        }
        RaceStep::Continue
    }

    pub(super) fn on_attempted(
        &mut self,
        id: AttemptId,
        result: Result<Endpoints, Fault>,
        now: Instant,
        actions: &mut Actions,
    ) -> RaceStep {
        let index = self.index_of(id);
        let address = match index.and_then(|index| self.attempts.get(index)) {
            Some(AttemptRecord { address, failed: None, .. }) => *address,
            Some(AttemptRecord { failed: Some(_), .. }) | None => return RaceStep::Continue,
        };
        let fault = match result.and_then(|ends| self.check_self_connect(ends)) {
            Ok(()) => {
                if self.in_flight() > 1 {
                    actions.cancel_attempts = true;
                }
                return RaceStep::Won(self.timings(now));
            }
            Err(fault) => fault,
        };
        if let Some(attempt) = index.and_then(|index| self.attempts.get_mut(index)) {
            attempt.failed = Some(Failed { fault, at: now });
        }
        match fault {
            Fault::SelfConnected if self.self_connect_retries > 0 => {
                self.self_connect_retries -= 1;
                self.queue_for(address).push_front(address);
                self.next_family = Family::of(address);
            }
            exhaustion if exhaustion.is_resource_exhaustion() && self.in_flight() > 0 => {
                self.queue_for(address).push_front(address);
                self.next_family = Family::of(address);
                self.schedule_next();
                return RaceStep::Continue;
            }
            _ => {}
        }
        if self.is_exhausted() {
            let was_dialled = !fault.is_denial();
            return RaceStep::Lost(if was_dialled {
                fault
            } else {
                self.last_fault().unwrap_or(fault)
            });
        }
        if self.v6_grace.is_none() {
            self.start_next(now, actions);
        }
        RaceStep::Continue
    }

    /// Handles the timer of [`next_timer`](Self::next_timer), if it is due.
    pub(super) fn on_timer(&mut self, now: Instant, actions: &mut Actions) {
        if self.v6_grace.is_some_and(|at| at <= now) {
            if !planted!(KeepsStaleTimer) {
                self.v6_grace = None;
            }
            self.start_next(now, actions);
        } else if self.next_attempt_at.is_some_and(|at| at <= now) {
            self.start_next(now, actions);
        }
    }

    /// Returns the next timer and its purpose.
    pub(super) fn next_timer(&self) -> Option<(Instant, TimerKind)> {
        let hold = self.v6_grace.map(|at| (at, TimerKind::OtherFamilyDelay));
        hold.or(self.next_attempt_at.map(|at| (at, TimerKind::NextAttempt)))
    }

    /// Returns the duration of each step until `now`.
    pub(super) fn timings(&self, now: Instant) -> Timings {
        let started_at = self.started_at.unwrap_or(now);
        let answered = self.first_answer_at.unwrap_or(now);
        Timings {
            resolve: answered.saturating_duration_since(started_at),
            connect: now.saturating_duration_since(answered),
            ..Timings::default()
        }
    }

    /// Returns the step that the connect timeout limits now.
    pub(super) fn timer_kind(&self) -> TimerKind {
        match self.started_at {
            None => TimerKind::Slot,
            Some(_) if self.candidates_seen == 0 => TimerKind::Lookup,
            Some(_) => TimerKind::Connect,
        }
    }

    /// Returns the current or last step of connecting.
    pub(super) fn step(&self) -> Option<Step> {
        let all_refused =
            !self.lookup_pending && self.candidates_seen == 0 && !self.attempts.is_empty();
        if all_refused { Some(Step::Connect) } else { self.timer_kind().step() }
    }

    /// Returns all attempts. Those in flight fail with `pending` at `now`.
    pub(super) fn into_failed(self, pending: Fault, now: Instant) -> Vec<FailedAttempt> {
        let attempts = self.attempts.into_iter();
        attempts
            .map(|AttemptRecord { address, started_at, failed }| {
                let Failed { fault, at } = failed.unwrap_or(Failed { fault: pending, at: now });
                FailedAttempt { address, fault, elapsed: at.saturating_duration_since(started_at) }
            })
            .collect()
    }

    fn add_all(&mut self, addresses: &[SocketAddr], now: Instant) {
        let first = self.candidates_seen == 0;
        for &address in addresses {
            if self.candidates_seen >= MAX_ADDRESSES || self.checked >= MAX_CHECKED {
                break;
            }
            self.checked += 1;
            let reachable = self.bind.is_none_or(|local| local.is_ipv4() == address.is_ipv4());
            let previous = self.queue_for(address).contains(&address)
                || self.attempts.iter().any(|attempt| attempt.address == address);
            if reachable && !previous {
                self.add_candidate(address, now);
            }
        }
        if self.candidates_seen == 0 {
            return;
        }
        self.first_answer_at.get_or_insert(now);
        if first && self.lookup_pending && self.remaining[Family::V6 as usize].is_empty() {
            self.v6_grace = now.checked_add(RESOLUTION_DELAY);
        }
    }

    /// Queues an address, or records it as refused.
    fn add_candidate(&mut self, address: SocketAddr, now: Instant) {
        if let Err(fault) = self.check(address) {
            if self.denied < MAX_DENIED {
                let failed = Some(Failed { fault, at: now });
                self.attempts.push(AttemptRecord { address, started_at: now, failed });
            }
            self.denied += 1;
            return;
        }
        if self.candidates_seen == 0 {
            self.next_family = Family::of(address);
        }
        self.candidates_seen += 1;
        self.queue_for(address).push_back(address);
    }

    /// Checks whether an address may be dialled.
    fn check(&self, address: SocketAddr) -> Result<(), Fault> {
        match &self.egress {
            Some(rules) if self.to_proxy => rules.check_own_listeners(address)?,
            Some(rules) if !planted!(DialsDenied) => rules.check(address)?,
            Some(_) | None => {}
        }
        match self.bind {
            Some(local) if local.port() != 0 && local == address => Err(Fault::Loop),
            Some(_) | None => Ok(()),
        }
    }

    /// Starts the next attempt, if there is one, and schedules the one after it.
    fn start_next(&mut self, now: Instant, actions: &mut Actions) {
        self.next_attempt_at = None;
        let other = self.next_family.other();
        let Some(address) = self.remaining[self.next_family as usize]
            .pop_front()
            .or_else(|| self.remaining[other as usize].pop_front())
        else {
            return;
        };
        self.next_family = Family::of(address).other();
        self.cancel_oldest(now, actions);
        // A retry after a lack of resources reuses the attempt instead of adding one.
        let previous = self.attempts.iter().position(|attempt| {
            attempt.address == address
                && attempt.failed.is_some_and(|failed| failed.fault.is_resource_exhaustion())
        });
        let id = AttemptId(self.first_id + previous.unwrap_or(self.attempts.len()));
        let attempt = AttemptRecord { address, started_at: now, failed: None };
        match previous {
            Some(index) => self.attempts[index] = attempt,
            None => self.attempts.push(attempt),
        }
        self.last_started = Some(now);
        actions.attempt = Some(Attempt { id, address: Some(address) });
        self.schedule_next();
    }

    /// Cancels the oldest attempt if [`MAX_IN_FLIGHT`] are in flight.
    fn cancel_oldest(&mut self, now: Instant, actions: &mut Actions) {
        if self.in_flight() < MAX_IN_FLIGHT {
            return;
        }
        let in_flight = self.attempts.iter_mut().enumerate();
        let in_flight = in_flight.filter(|(_, attempt)| attempt.failed.is_none());
        if let Some((index, oldest)) = in_flight.min_by_key(|(_, attempt)| attempt.started_at) {
            oldest.failed = Some(Failed { fault: Fault::Superseded, at: now });
            actions.cancel_attempt = Some(AttemptId(self.first_id + index));
        }
    }

    /// Returns whether an attempt is in flight.
    pub(super) fn is_pending(&self, id: AttemptId) -> bool {
        let attempt = self.index_of(id).and_then(|index| self.attempts.get(index));
        attempt.is_some_and(|attempt| attempt.failed.is_none())
    }

    /// Returns the address of an attempt if no other one is in flight.
    pub(super) fn only_pending(&self, id: AttemptId) -> Option<SocketAddr> {
        let attempt = self.attempts.get(self.index_of(id)?)?;
        (attempt.failed.is_none() && self.in_flight() == 1).then_some(attempt.address)
    }

    /// Returns the number of attempts of this race and those before it.
    pub(super) fn next_id(&self) -> usize {
        self.first_id + self.attempts.len()
    }

    fn index_of(&self, id: AttemptId) -> Option<usize> {
        id.0.checked_sub(self.first_id)
    }

    fn schedule_next(&mut self) {
        let one_by_one = self.bind.is_some_and(|local| local.port() != 0);
        let more = self.remaining.iter().any(|queue| !queue.is_empty());
        self.next_attempt_at = match self.last_started {
            Some(last_started) if more && !one_by_one => last_started.checked_add(ATTEMPT_DELAY),
            Some(_) | None => None,
        };
    }

    /// Fails if the socket connected to itself. If nothing listens on a local port, the kernel may pick that port as
    /// the source port. The socket then connects to itself (simultaneous open, RFC 9293, section 3.5).
    fn check_self_connect(&self, ends: Endpoints) -> Result<(), Fault> {
        if ends.local != ends.remote || ends.local.is_none() {
            return Ok(());
        }
        let deliberate = self.bind.is_some_and(|local| local.port() != 0);
        Err(if deliberate { Fault::Loop } else { Fault::SelfConnected })
    }

    fn is_exhausted(&self) -> bool {
        !self.lookup_pending
            && self.in_flight() == 0
            && self.remaining.iter().all(VecDeque::is_empty)
    }

    fn in_flight(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.failed.is_none()).count()
    }

    /// Returns the last fault of a dialled address, or else of a refused one.
    fn last_fault(&self) -> Option<Fault> {
        let failures = self.attempts.iter().rev().filter_map(|attempt| attempt.failed);
        let faults = || failures.clone().map(|failed| failed.fault);
        faults().find(|fault| !fault.is_denial()).or_else(|| faults().next())
    }

    fn queue_for(&mut self, address: SocketAddr) -> &mut VecDeque<SocketAddr> {
        &mut self.remaining[Family::of(address) as usize]
    }
}

impl Family {
    fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    fn other(self) -> Self {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }
}
