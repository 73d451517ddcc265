//! A simulated race: peers that answer after a time, and a resolver that answers in parts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::Peer::{Fails, Opens, Silent};
use crate::egress::EgressRules;
use crate::machine::{
    Actions, Attach, Attempt, AttemptId, Config, Endpoints, Fault, Input, Machine, Target,
};

/// The behaviour of an address, with its delay in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    Opens(u64),
    Fails(u64, Fault),
    Silent,
}

pub(super) fn run(peers: &[(SocketAddr, Peer)]) -> PerformedActions {
    RaceRun::new(peers).run()
}

/// Runs a race with the answer in parts, each with its time in milliseconds.
pub(super) fn in_parts(
    peers: &[(SocketAddr, Peer)],
    parts: &[(u64, &[SocketAddr])],
) -> PerformedActions {
    let parts = parts.iter().map(|&(at, addresses)| (at, addresses.to_vec())).collect();
    RaceRun { parts, ..RaceRun::new(peers) }.run()
}

pub(super) fn v4(host: u16) -> SocketAddr {
    let [high, low] = host.to_be_bytes();
    SocketAddr::from(([192, 0, high, low], 1))
}

pub(super) fn v6(host: u16) -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, host], 1))
}

pub(super) struct RaceRun<'a> {
    pub(super) config: Config,
    pub(super) peers: BTreeMap<SocketAddr, Peer>,
    pub(super) parts: Vec<(u64, Vec<SocketAddr>)>,
    pub(super) cancel_at: Option<u64>,
    pub(super) override_peer: Box<dyn FnMut(SocketAddr) -> Option<Peer> + 'a>,
}

/// The events of a race, with times in milliseconds.
#[derive(Debug, Default)]
pub(super) struct PerformedActions {
    pub(super) dialled: Vec<(SocketAddr, u64)>,
    pub(super) won: Option<(SocketAddr, u64)>,
    pub(super) lost: Option<(u64, Fault)>,
    pub(super) attempts: Vec<(SocketAddr, Fault)>,
    pub(super) abandoned: bool,
    pub(super) given_up: Vec<(SocketAddr, u64)>,
}

pub(super) enum Event {
    Answer(Vec<SocketAddr>, bool),
    Ended(AttemptId, Result<Endpoints, Fault>),
    Cancel,
}

impl<'a> RaceRun<'a> {
    pub(super) fn new(peers: &[(SocketAddr, Peer)]) -> Self {
        RaceRun {
            config: Config::new(Target::Host),
            peers: peers.iter().copied().collect(),
            parts: vec![(0, peers.iter().map(|(address, _)| *address).collect())],
            cancel_at: None,
            override_peer: Box::new(|_| None),
        }
    }

    pub(super) fn with(mut self, peer: impl FnMut(SocketAddr) -> Option<Peer> + 'a) -> Self {
        self.override_peer = Box::new(peer);
        self
    }

    pub(super) fn denying(mut self, denied: &[SocketAddr]) -> Self {
        let deny = |rules: EgressRules, at: &SocketAddr| rules.deny_net(&at.ip().to_string());
        let rules = denied.iter().try_fold(EgressRules::allow_all(), deny);
        self.config.egress = Some(Arc::new(rules.expect("valid addresses")));
        self
    }

    pub(super) fn run(mut self) -> PerformedActions {
        let start = Instant::now();
        let mut performed = PerformedActions::default();
        let mut machine = Machine::new(self.config.clone(), start);
        assert_eq!(machine.start(start), Actions { resolve: true, ..Actions::default() });
        let mut events: BTreeMap<(u64, usize), Event> = BTreeMap::new();
        let count = self.parts.len();
        for (place, (at, addresses)) in self.parts.drain(..).enumerate() {
            events.insert((at, place), Event::Answer(addresses, place + 1 == count));
        }
        if let Some(at) = self.cancel_at {
            events.insert((at, usize::MAX), Event::Cancel);
        }
        for serial in count.. {
            let due = machine.next_timer().map(|(at, _)| millis(at - start));
            let next = events.first_key_value().map(|(&(at, _), _)| at);
            let timer_first = due.is_some_and(|due| next.is_none_or(|next| due < next));
            let event = if timer_first { None } else { events.pop_first() };
            let (now, actions) = match (due, event) {
                (_, Some(((at, _), event))) => {
                    let now = start + Duration::from_millis(at);
                    let actions = match event {
                        Event::Answer(addresses, true) => {
                            machine.handle(Input::Resolved(Ok(&addresses)), now)
                        }
                        Event::Answer(addresses, false) => {
                            machine.handle(Input::PartialResolved(&addresses), now)
                        }
                        Event::Ended(id, result) => {
                            machine.handle(Input::Attempted { id, result }, now)
                        }
                        Event::Cancel => machine.handle(Input::Close, now),
                    };
                    (at, actions)
                }
                (Some(due), None) => {
                    let now = start + Duration::from_millis(due);
                    (due, machine.handle(Input::TimerExpired, now))
                }
                (None, None) => panic!("neither an event nor a timer is pending"),
            };
            if let Some(Attach { id, .. }) = actions.attach {
                performed.won = Some((performed.dialled[id.0].0, now));
            }
            performed.abandoned |= actions.cancel_attempts;
            if let Some(id) = actions.cancel_attempt {
                assert!(!machine.is_attempt_pending(id));
                performed.given_up.push((performed.dialled[id.0].0, now));
            }
            if let Some(Attempt { id, address }) = actions.attempt {
                let address = address.expect("only addresses are dialled");
                performed.dialled.push((address, now));
                let peer = (self.override_peer)(address);
                let ended = match peer.unwrap_or(self.peers[&address]) {
                    Opens(after) => Some((after, Ok(Endpoints::new(address, None)))),
                    Fails(after, fault) => Some((after, Err(fault))),
                    Silent => None,
                };
                if let Some((after, result)) = ended {
                    events.insert((now + after, serial), Event::Ended(id, result));
                }
            }
            match machine.opened() {
                None => {}
                Some(Ok(())) => return performed,
                Some(Err(fault)) => {
                    performed.lost = Some((now, fault));
                    performed.attempts = pairs(&machine);
                    return performed;
                }
            }
        }
        performed
    }
}

impl PerformedActions {
    pub(super) fn won(&self, address: SocketAddr, after: u64) {
        assert_eq!(self.won, Some((address, after)), "{self:?}");
    }

    pub(super) fn dialled(&self, expected: &[(SocketAddr, u64)]) {
        assert_eq!(self.dialled, expected);
    }
}

pub(super) fn pairs(machine: &Machine) -> Vec<(SocketAddr, Fault)> {
    machine.attempts().iter().map(|attempt| (attempt.address, attempt.fault)).collect()
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}
