//! From a name to one connection: the look-up, then a race of the addresses (happy eyeballs, RFC 8305
//! and its successor draft).
//!
//! A sub-machine of its own, whose end is the connecting state's end. Its rules:
//!
//! - Answers are used as they come. When the first has only IPv4 addresses and more may follow, IPv6 has
//!   [`RESOLUTION_DELAY`] to catch up (section 3).
//! - Families take turns, from that of the first answer's first address on; within a family the
//!   resolver's order stays (section 4).
//! - The next attempt begins [`ATTEMPT_DELAY`] after the last began, or at once when one fails
//!   (section 5). The first to succeed wins. At most [`IN_FLIGHT_MOST`] are under way: then the oldest is given
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

use super::{Deadline, Endpoints, FailedAttempt, Fault, Output, Outputs, Plan, Step, Target};
use crate::egress::EgressRules;
use crate::info::Timings;

/// The most addresses of one look-up that are dialled; what a resolver gives beyond that is dropped. Those
/// that the egress rules refuse do not count.
pub const ADDRESSES_MOST: usize = 64;
/// The most attempts of one race that are under way, each of which takes a descriptor.
pub const IN_FLIGHT_MOST: usize = 8;
/// The most addresses of one look-up that are looked at: more than two messages of the name system can hold.
pub(super) const JUDGED_MOST: usize = 8192;
/// The most refused addresses that are kept, for the error of a failed connection.
pub(super) const REFUSED_MOST: usize = 64;
/// How long after one attempt the next begins, where none fails before.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// How long IPv4 addresses that come first wait for IPv6 ones.
pub const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// How often an address is dialled again that by chance led back to the socket itself.
const CHANCES: u8 = 2;

/// Names one connection attempt of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId(pub(super) usize);

#[derive(Debug)]
pub(super) struct Race {
    /// `None` while it waits for its start.
    begun: Option<Instant>,
    bind: Option<SocketAddr>,
    /// Nothing is refused where there are none.
    egress: Option<Arc<EgressRules>>,
    /// Whether more answers may come.
    asking: bool,
    /// When the first answer came.
    answered: Option<Instant>,
    /// The end of the wait for IPv6, while it lasts.
    hold: Option<Instant>,
    /// What is left to dial of each family, IPv4 first.
    left: [VecDeque<SocketAddr>; 2],
    /// Whose turn it is.
    turn: Family,
    /// How many addresses the answers had, of those that may be dialled.
    known: usize,
    /// How many addresses of the answers were looked at.
    judged: usize,
    /// How many of them were refused.
    refused: usize,
    /// Every attempt, in the order in which they began.
    attempts: Vec<Attempt>,
    /// When the latest of them began.
    latest: Option<Instant>,
    /// When the next attempt begins.
    next: Option<Instant>,
    chances: u8,
}

#[derive(Debug)]
struct Attempt {
    address: SocketAddr,
    /// When it began, or was refused.
    begun: Instant,
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
    On,
    /// It was won.
    Won(Timings),
    /// It is lost.
    Lost(Fault),
}

impl Race {
    pub(super) fn new(plan: &Plan, now: Instant) -> Self {
        let mut race = Race {
            begun: None,
            bind: plan.bind,
            egress: plan.egress.clone(),
            asking: true,
            answered: None,
            hold: None,
            left: [VecDeque::new(), VecDeque::new()],
            turn: Family::V4,
            known: 0,
            judged: 0,
            refused: 0,
            attempts: Vec::new(),
            latest: None,
            next: None,
            chances: CHANCES,
        };
        if let Target::Address(address) = plan.target {
            // One that can't be dialled from the prescribed address fails by itself.
            race.asking = false;
            race.learn(address, now);
        }
        race
    }

    /// Stands for [`start`](Self::start) if nothing may begin any more: its first step is the one that failed.
    pub(super) fn start_too_late(&mut self, now: Instant) {
        self.begun.get_or_insert(now);
    }

    /// Begins the race, once.
    pub(super) fn start(&mut self, now: Instant, outputs: &mut Outputs<'_>) -> RaceStep {
        if self.begun.is_some() {
            return RaceStep::On;
        }
        self.begun = Some(now);
        if self.asking {
            outputs.push(Output::Resolve);
            return RaceStep::On;
        }
        self.answered = Some(now);
        self.begin_next(now, outputs);
        // Of one address, which is dialled unless it was refused.
        self.last_fault().map_or(RaceStep::On, RaceStep::Lost)
    }

    /// An answer came, after which more come or, with `last`, do not.
    pub(super) fn resolved(
        &mut self,
        answer: Result<&[SocketAddr], Fault>,
        last: bool,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> RaceStep {
        if !self.asking || self.begun.is_none() {
            return RaceStep::On;
        }
        self.asking = !last;
        let none = match answer {
            Ok(addresses) => {
                self.add(addresses, now);
                if addresses.is_empty() { Fault::NoAddress } else { Fault::NoLocalAddress }
            }
            Err(fault) => fault,
        };
        if self.is_over() {
            return RaceStep::Lost(self.last_fault().unwrap_or(none));
        }
        let v6_came = !self.left[Family::V6 as usize].is_empty();
        if self.hold.is_some() && (v6_came || last) {
            self.hold = None;
            self.turn = if v6_came { Family::V6 } else { Family::V4 };
        }
        if self.hold.is_none() && self.under_way() == 0 {
            self.begin_next(now, outputs);
        } else if self.next.is_none() {
            self.plan_next();
            self.expired(now, outputs);
        }
        RaceStep::On
    }

    pub(super) fn attempted(
        &mut self,
        id: AttemptId,
        result: Result<Endpoints, Fault>,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> RaceStep {
        let address = match self.attempts.get(id.0) {
            Some(Attempt { address, failed: None, .. }) => *address,
            Some(Attempt { failed: Some(_), .. }) | None => return RaceStep::On,
        };
        let fault = match result.and_then(|ends| self.not_itself(ends)) {
            Ok(()) => {
                if self.under_way() > 1 {
                    outputs.push(Output::Abandon);
                }
                return RaceStep::Won(self.timings(now));
            }
            Err(fault) => fault,
        };
        self.attempts[id.0].failed = Some(Failed { fault, at: now });
        match fault {
            Fault::SelfConnected if self.chances > 0 => {
                self.chances -= 1;
                self.queue(address).push_front(address);
                self.turn = Family::of(address);
            }
            want if want.is_want() && self.under_way() > 0 => {
                self.queue(address).push_front(address);
                self.turn = Family::of(address);
                self.plan_next();
                return RaceStep::On;
            }
            _ => {}
        }
        if self.is_over() {
            let dialled = !fault.is_refusal();
            return RaceStep::Lost(if dialled {
                fault
            } else {
                self.last_fault().unwrap_or(fault)
            });
        }
        if self.hold.is_none() {
            self.begin_next(now, outputs);
        }
        RaceStep::On
    }

    /// An instant that [`due`](Self::due) named may have come.
    pub(super) fn expired(&mut self, now: Instant, outputs: &mut Outputs<'_>) {
        if self.hold.is_some_and(|at| at <= now) {
            if !planted!(KeepsStaleTimer) {
                self.hold = None;
            }
            self.begin_next(now, outputs);
        } else if self.next.is_some_and(|at| at <= now) {
            self.begin_next(now, outputs);
        }
    }

    /// When something is to be done, and what.
    pub(super) fn due(&self) -> Option<(Instant, Deadline)> {
        let hold = self.hold.map(|at| (at, Deadline::OtherFamily));
        hold.or(self.next.map(|at| (at, Deadline::NextAttempt)))
    }

    /// How long each step took until `now`.
    pub(super) fn timings(&self, now: Instant) -> Timings {
        let begun = self.begun.unwrap_or(now);
        let answered = self.answered.unwrap_or(now);
        Timings {
            resolve: answered.saturating_duration_since(begun),
            connect: now.saturating_duration_since(answered),
            handshake: Duration::ZERO,
        }
    }

    /// What the limit on connecting limits now.
    pub(super) fn limited(&self) -> Deadline {
        match self.begun {
            None => Deadline::Place,
            Some(_) if self.known == 0 => Deadline::LookUp,
            Some(_) => Deadline::Connect,
        }
    }

    /// The step of connecting that it is at, or at which it ended.
    pub(super) fn step(&self) -> Option<Step> {
        let all_refused = !self.asking && self.known == 0 && !self.attempts.is_empty();
        if all_refused { Some(Step::Connect) } else { self.limited().step() }
    }

    /// Every attempt. Those under way have failed with `pending`, now.
    pub(super) fn into_failed(self, pending: Fault, now: Instant) -> Vec<FailedAttempt> {
        let attempts = self.attempts.into_iter();
        attempts
            .map(|Attempt { address, begun, failed }| {
                let Failed { fault, at } = failed.unwrap_or(Failed { fault: pending, at: now });
                FailedAttempt { address, fault, elapsed: at.saturating_duration_since(begun) }
            })
            .collect()
    }

    fn add(&mut self, addresses: &[SocketAddr], now: Instant) {
        let first = self.known == 0;
        for &address in addresses {
            if self.known >= ADDRESSES_MOST || self.judged >= JUDGED_MOST {
                break;
            }
            self.judged += 1;
            let reachable = self.bind.is_none_or(|local| local.is_ipv4() == address.is_ipv4());
            let again = self.queue(address).contains(&address)
                || self.attempts.iter().any(|attempt| attempt.address == address);
            if reachable && !again {
                self.learn(address, now);
            }
        }
        if self.known == 0 {
            return;
        }
        self.answered.get_or_insert(now);
        if first && self.asking && self.left[Family::V6 as usize].is_empty() {
            self.hold = now.checked_add(RESOLUTION_DELAY);
        }
    }

    /// Takes in one address, to be dialled or refused.
    fn learn(&mut self, address: SocketAddr, now: Instant) {
        if let Err(fault) = self.judge(address) {
            if self.refused < REFUSED_MOST {
                let failed = Some(Failed { fault, at: now });
                self.attempts.push(Attempt { address, begun: now, failed });
            }
            self.refused += 1;
            return;
        }
        if self.known == 0 {
            self.turn = Family::of(address);
        }
        self.known += 1;
        self.queue(address).push_back(address);
    }

    /// The verdict on an address, by which alone it may be dialled.
    fn judge(&self, address: SocketAddr) -> Result<(), Fault> {
        match &self.egress {
            Some(rules) if !planted!(DialsDenied) => rules.judge(address)?,
            Some(_) | None => {}
        }
        match self.bind {
            Some(local) if local.port() != 0 && local == address => Err(Fault::Loop),
            Some(_) | None => Ok(()),
        }
    }

    /// Begins the next attempt, if there is one, and sets the time of the one after it.
    fn begin_next(&mut self, now: Instant, outputs: &mut Outputs<'_>) {
        self.next = None;
        let other = self.turn.other();
        let Some(address) = self.left[self.turn as usize]
            .pop_front()
            .or_else(|| self.left[other as usize].pop_front())
        else {
            return;
        };
        self.turn = Family::of(address).other();
        self.give_up_oldest(now, outputs);
        // One that this side could not make is made again, and not another.
        let again = self.attempts.iter().position(|attempt| {
            attempt.address == address
                && attempt.failed.is_some_and(|failed| failed.fault.is_want())
        });
        let id = AttemptId(again.unwrap_or(self.attempts.len()));
        let attempt = Attempt { address, begun: now, failed: None };
        match again {
            Some(place) => self.attempts[place] = attempt,
            None => self.attempts.push(attempt),
        }
        self.latest = Some(now);
        outputs.push(Output::Attempt { id, address });
        self.plan_next();
    }

    /// Makes room for one more attempt.
    fn give_up_oldest(&mut self, now: Instant, outputs: &mut Outputs<'_>) {
        if self.under_way() < IN_FLIGHT_MOST {
            return;
        }
        let under_way = self.attempts.iter_mut().enumerate();
        let under_way = under_way.filter(|(_, attempt)| attempt.failed.is_none());
        if let Some((place, oldest)) = under_way.min_by_key(|(_, attempt)| attempt.begun) {
            oldest.failed = Some(Failed { fault: Fault::Superseded, at: now });
            outputs.push(Output::GiveUp { id: AttemptId(place) });
        }
    }

    /// Whether an attempt is under way, and its end is waited for.
    pub(super) fn awaits(&self, id: AttemptId) -> bool {
        self.attempts.get(id.0).is_some_and(|attempt| attempt.failed.is_none())
    }

    fn plan_next(&mut self) {
        let one_by_one = self.bind.is_some_and(|local| local.port() != 0);
        let more = self.left.iter().any(|queue| !queue.is_empty());
        self.next = match self.latest {
            Some(latest) if more && !one_by_one => latest.checked_add(ATTEMPT_DELAY),
            Some(_) | None => None,
        };
    }

    /// Where nobody listens, a port that the system chose can be the very one that is dialled; the two
    /// ends then open to each other (simultaneous open, RFC 9293, section 3.5).
    fn not_itself(&self, ends: Endpoints) -> Result<(), Fault> {
        if ends.local != ends.known_remote() || ends.local.is_none() {
            return Ok(());
        }
        let deliberate = self.bind.is_some_and(|local| local.port() != 0);
        Err(if deliberate { Fault::Loop } else { Fault::SelfConnected })
    }

    fn is_over(&self) -> bool {
        !self.asking && self.under_way() == 0 && self.left.iter().all(VecDeque::is_empty)
    }

    fn under_way(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.failed.is_none()).count()
    }

    /// The last failure of an address that was dialled, or else of one that was refused.
    fn last_fault(&self) -> Option<Fault> {
        let failures = self.attempts.iter().rev().filter_map(|attempt| attempt.failed);
        let faults = || failures.clone().map(|failed| failed.fault);
        faults().find(|fault| !fault.is_refusal()).or_else(|| faults().next())
    }

    fn queue(&mut self, address: SocketAddr) -> &mut VecDeque<SocketAddr> {
        &mut self.left[Family::of(address) as usize]
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
