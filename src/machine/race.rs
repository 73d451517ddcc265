//! From a name to one connection: the lookup, then a race of the addresses (happy eyeballs, RFC 8305
//! and its successor draft).
//!
//! A sub-machine of its own, whose end is the connecting state's end. Its rules:
//!
//! - Answers are used as they come. When the first has only IPv4 addresses and more may follow, IPv6 has
//!   [`RESOLUTION_DELAY`] to catch up (section 3).
//! - Families take turns, from that of the first answer's first address on; within a family the
//!   resolver's order stays (section 4).
//! - The next attempt begins [`ATTEMPT_DELAY`] after the last began, or at once when one fails
//!   (section 5). The first to succeed wins. At most [`MAX_IN_FLIGHT`] are under way: then the oldest is given
//!   up for the next.
//! - What the egress rules refuse is not dialled, and has failed as soon as it is known. Among addresses
//!   that were dialled in vain it decides nothing: the error is theirs.
//! - With a prescribed local port attempts run one after another: two could not have it at once.
//! - An attempt that failed for want of something on this side, such as a descriptor, while others are
//!   under way is made again when one of these has ended, or with the next.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Action, Actions, Config, Endpoints, FailedAttempt, Fault, Step, Target, TimerKind};
use crate::egress::EgressRules;
use crate::info::Timings;

/// The most addresses of one lookup that are dialled; what a resolver gives beyond that is dropped. Those
/// that the egress rules refuse do not count.
pub const MAX_ADDRESSES: usize = 64;
/// The most attempts of one race that are under way, each of which takes a descriptor.
pub const MAX_IN_FLIGHT: usize = 8;
/// The most addresses of one lookup that are looked at: more than two messages of the name system can hold.
pub(super) const MAX_CHECKED: usize = 8192;
/// The most refused addresses that are kept, for the error of a failed connection.
pub(super) const MAX_DENIED: usize = 64;
/// How long after one attempt the next begins, where none fails before.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// How long IPv4 addresses that come first wait for IPv6 ones.
pub const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// How often an address is dialled again that by chance led back to the socket itself.
const MAX_SELF_CONNECT_RETRIES: u8 = 2;

/// Names one connection attempt of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId(pub(super) usize);

#[derive(Debug)]
pub(super) struct HappyEyeballs {
    /// `None` while it waits for its start.
    started_at: Option<Instant>,
    bind: Option<SocketAddr>,
    /// Nothing is refused where there are none.
    egress: Option<Arc<EgressRules>>,
    /// Whether more answers may come.
    lookup_pending: bool,
    /// When the first answer came.
    first_answer_at: Option<Instant>,
    /// The end of the wait for IPv6, while it lasts.
    v6_grace: Option<Instant>,
    /// What is left to dial of each family, IPv4 first.
    remaining: [VecDeque<SocketAddr>; 2],
    /// Whose turn it is.
    next_family: Family,
    /// How many addresses the answers had, of those that may be dialled.
    candidates_seen: usize,
    /// How many addresses of the answers were looked at.
    checked: usize,
    /// How many of them were refused.
    denied: usize,
    /// Every attempt, in the order in which they began.
    attempts: Vec<Attempt>,
    /// When the latest of them began.
    last_started: Option<Instant>,
    /// When the next attempt begins.
    next_attempt_at: Option<Instant>,
    self_connect_retries: u8,
}

#[derive(Debug)]
struct Attempt {
    address: SocketAddr,
    /// When it began, or was refused.
    started_at: Instant,
    /// `None` while it is under way.
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

/// Where a race got to.
#[derive(Debug)]
pub(super) enum RaceStep {
    /// It goes on.
    Continue,
    /// It was won.
    Won(Timings),
    /// It is lost.
    Lost(Fault),
}

impl HappyEyeballs {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let mut happy_eyeballs = HappyEyeballs {
            started_at: None,
            bind: config.bind,
            egress: config.egress.clone(),
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
        if let Target::Address(address) = config.target {
            // One that can't be dialled from the prescribed address fails by itself.
            happy_eyeballs.lookup_pending = false;
            happy_eyeballs.add_candidate(address, now);
        }
        happy_eyeballs
    }

    /// Stands for [`start`](Self::start) if nothing may begin any more: its first step is the one that failed.
    pub(super) fn start_too_late(&mut self, now: Instant) {
        self.started_at.get_or_insert(now);
    }

    /// Begins the race, once.
    pub(super) fn start(&mut self, now: Instant, actions: &mut Actions<'_>) -> RaceStep {
        if self.started_at.is_some() {
            return RaceStep::Continue;
        }
        self.started_at = Some(now);
        if self.lookup_pending {
            actions.push(Action::Resolve);
            return RaceStep::Continue;
        }
        self.first_answer_at = Some(now);
        self.start_next(now, actions);
        // Of one address, which is dialled unless it was refused.
        self.last_fault().map_or(RaceStep::Continue, RaceStep::Lost)
    }

    /// An answer came, after which more come or, with `last`, do not.
    pub(super) fn on_resolved(
        &mut self,
        answer: Result<&[SocketAddr], Fault>,
        last: bool,
        now: Instant,
        actions: &mut Actions<'_>,
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
        actions: &mut Actions<'_>,
    ) -> RaceStep {
        let address = match self.attempts.get(id.0) {
            Some(Attempt { address, failed: None, .. }) => *address,
            Some(Attempt { failed: Some(_), .. }) | None => return RaceStep::Continue,
        };
        let fault = match result.and_then(|ends| self.check_self_connect(ends)) {
            Ok(()) => {
                if self.in_flight() > 1 {
                    actions.push(Action::CancelAttempts);
                }
                return RaceStep::Won(self.timings(now));
            }
            Err(fault) => fault,
        };
        self.attempts[id.0].failed = Some(Failed { fault, at: now });
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

    /// An instant that [`next_timer`](Self::next_timer) named may have come.
    pub(super) fn on_timer(&mut self, now: Instant, actions: &mut Actions<'_>) {
        if self.v6_grace.is_some_and(|at| at <= now) {
            if !planted!(KeepsStaleTimer) {
                self.v6_grace = None;
            }
            self.start_next(now, actions);
        } else if self.next_attempt_at.is_some_and(|at| at <= now) {
            self.start_next(now, actions);
        }
    }

    /// When something is to be done, and what.
    pub(super) fn next_timer(&self) -> Option<(Instant, TimerKind)> {
        let hold = self.v6_grace.map(|at| (at, TimerKind::OtherFamilyDelay));
        hold.or(self.next_attempt_at.map(|at| (at, TimerKind::NextAttempt)))
    }

    /// How long each step took until `now`.
    pub(super) fn timings(&self, now: Instant) -> Timings {
        let started_at = self.started_at.unwrap_or(now);
        let answered = self.first_answer_at.unwrap_or(now);
        Timings {
            resolve: answered.saturating_duration_since(started_at),
            connect: now.saturating_duration_since(answered),
            handshake: Duration::ZERO,
        }
    }

    /// What the limit on connecting limits now.
    pub(super) fn timer_kind(&self) -> TimerKind {
        match self.started_at {
            None => TimerKind::Slot,
            Some(_) if self.candidates_seen == 0 => TimerKind::Lookup,
            Some(_) => TimerKind::Connect,
        }
    }

    /// The step of connecting that it is at, or at which it ended.
    pub(super) fn step(&self) -> Option<Step> {
        let all_refused =
            !self.lookup_pending && self.candidates_seen == 0 && !self.attempts.is_empty();
        if all_refused { Some(Step::Connect) } else { self.timer_kind().step() }
    }

    /// Every attempt. Those under way have failed with `pending`, now.
    pub(super) fn into_failed(self, pending: Fault, now: Instant) -> Vec<FailedAttempt> {
        let attempts = self.attempts.into_iter();
        attempts
            .map(|Attempt { address, started_at, failed }| {
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

    /// Takes in one address, to be dialled or refused.
    fn add_candidate(&mut self, address: SocketAddr, now: Instant) {
        if let Err(fault) = self.check(address) {
            if self.denied < MAX_DENIED {
                let failed = Some(Failed { fault, at: now });
                self.attempts.push(Attempt { address, started_at: now, failed });
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

    /// The verdict on an address, by which alone it may be dialled.
    fn check(&self, address: SocketAddr) -> Result<(), Fault> {
        match &self.egress {
            Some(rules) if !planted!(DialsDenied) => rules.check(address)?,
            Some(_) | None => {}
        }
        match self.bind {
            Some(local) if local.port() != 0 && local == address => Err(Fault::Loop),
            Some(_) | None => Ok(()),
        }
    }

    /// Begins the next attempt, if there is one, and sets the time of the one after it.
    fn start_next(&mut self, now: Instant, actions: &mut Actions<'_>) {
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
        // One that this side could not make is made again, and not another.
        let previous = self.attempts.iter().position(|attempt| {
            attempt.address == address
                && attempt.failed.is_some_and(|failed| failed.fault.is_resource_exhaustion())
        });
        let id = AttemptId(previous.unwrap_or(self.attempts.len()));
        let attempt = Attempt { address, started_at: now, failed: None };
        match previous {
            Some(index) => self.attempts[index] = attempt,
            None => self.attempts.push(attempt),
        }
        self.last_started = Some(now);
        actions.push(Action::Attempt { id, address });
        self.schedule_next();
    }

    /// Makes room for one more attempt.
    fn cancel_oldest(&mut self, now: Instant, actions: &mut Actions<'_>) {
        if self.in_flight() < MAX_IN_FLIGHT {
            return;
        }
        let in_flight = self.attempts.iter_mut().enumerate();
        let in_flight = in_flight.filter(|(_, attempt)| attempt.failed.is_none());
        if let Some((index, oldest)) = in_flight.min_by_key(|(_, attempt)| attempt.started_at) {
            oldest.failed = Some(Failed { fault: Fault::Superseded, at: now });
            actions.push(Action::CancelAttempt { id: AttemptId(index) });
        }
    }

    /// Whether an attempt is under way, and its end is waited for.
    pub(super) fn is_pending(&self, id: AttemptId) -> bool {
        self.attempts.get(id.0).is_some_and(|attempt| attempt.failed.is_none())
    }

    fn schedule_next(&mut self) {
        let one_by_one = self.bind.is_some_and(|local| local.port() != 0);
        let more = self.remaining.iter().any(|queue| !queue.is_empty());
        self.next_attempt_at = match self.last_started {
            Some(last_started) if more && !one_by_one => last_started.checked_add(ATTEMPT_DELAY),
            Some(_) | None => None,
        };
    }

    /// Where nobody listens, a port that the system chose can be the very one that is dialled; the two
    /// ends then open to each other (simultaneous open, RFC 9293, section 3.5).
    fn check_self_connect(&self, ends: Endpoints) -> Result<(), Fault> {
        if ends.local != ends.known_remote() || ends.local.is_none() {
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

    /// The last failure of an address that was dialled, or else of one that was refused.
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
