//! Tests of the race if the egress rules deny addresses.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::run::Peer::{Fails, Opens};
use super::run::{RaceRun, v4, v6};
use crate::egress::EgressRules;
use crate::error::ErrorKind;
use crate::machine::happy_eyeballs::{MAX_CHECKED, MAX_DENIED};
use crate::machine::{
    Actions, Attempt, Config, Fault, Input, MAX_ADDRESSES, Machine, Target, Wake,
};

use super::REFUSED;

#[test]
fn only_allowed_addresses_are_dialled_and_they_determine_the_error() {
    let peers = [
        (v6(1), Opens(1)),
        (v4(1), Fails(5, REFUSED)),
        (v6(2), Fails(5, Fault::Connect(113))),
        (v4(2), Opens(1)),
    ];
    let denying = || RaceRun::new(&peers).denying(&[v6(1), v4(2)]);
    let performed = denying().run();
    performed.dialled(&[(v4(1), 0), (v6(2), 5)]);
    assert_eq!(performed.lost, Some((10, Fault::Connect(113))));
    let kinds: Vec<_> = performed.attempts.iter().map(|(at, fault)| (*at, fault.kind())).collect();
    let (denied, connect) = (ErrorKind::Denied, ErrorKind::Connect);
    let of = |address, kind| (address, kind);
    // Denied addresses fail before any address is dialled.
    assert_eq!(
        kinds,
        [of(v6(1), denied), of(v4(2), denied), of(v4(1), connect), of(v6(2), connect)]
    );
    let performed = RaceRun { parts: vec![(0, vec![v6(1)]), (40, vec![v4(1)])], ..denying() }.run();
    performed.dialled(&[(v4(1), 40)]);
    // This holds too if the denied address arrives last.
    let performed =
        RaceRun { parts: vec![(0, vec![v4(1)]), (400, vec![v6(1)])], ..denying() }.run();
    assert_eq!(performed.lost, Some((400, REFUSED)));
}

#[test]
fn if_every_address_is_denied_none_is_dialled() {
    let peers = [(v6(1), Opens(1)), (v4(1), Opens(1))];
    let performed = RaceRun::new(&peers).denying(&[v6(1), v4(1)]).run();
    performed.dialled(&[]);
    assert_eq!(performed.lost.map(|(at, fault)| (at, fault.kind())), Some((0, ErrorKind::Denied)));
    assert_eq!(performed.attempts.len(), 2);
}

#[test]
fn every_part_of_an_answer_is_checked() {
    let parts = vec![(0, vec![v6(1)]), (100, vec![v4(1), v6(2)]), (200, vec![v4(2), v6(3)])];
    let opens = |address| (address, Opens(500));
    let peers = [v6(1), v4(1), v6(2), v4(2), v6(3)].map(opens);
    let performed = RaceRun { parts, ..RaceRun::new(&peers).denying(&[v4(1), v6(2), v6(3)]) }.run();
    performed.dialled(&[(v6(1), 0), (v4(2), 250)]);
}

#[test]
fn a_denied_numeric_address_is_never_dialled() {
    let now = Instant::now();
    let rules = EgressRules::public_only();
    let mut config = Config::new(Target::Address("127.0.0.1:80".parse().unwrap()));
    config.egress = Some(Arc::new(rules));
    let mut machine = Machine::new(config, now);
    let actions = machine.start(now);
    let wake = Wake { opened: true, readable: true, writable: true, closed: true };
    assert_eq!(actions, Actions { wake, ..Actions::default() });
    assert_eq!(machine.opened(), Some(Err(Fault::Denied)));
    assert_eq!(machine.attempts().len(), 1);
}

#[test]
fn an_own_listener_and_the_bound_address_are_not_dialled() {
    let now = Instant::now();
    let local: SocketAddr = "127.0.0.1:4000".parse().unwrap();
    let mut bound = Config::new(Target::Address(local));
    bound.bind = Some(local);
    let mut own = Config::new(Target::Address(local));
    own.egress = Some(Arc::new(EgressRules::allow_all().own_listener(local)));
    for (config, fault) in [(bound, Fault::Loop), (own, Fault::OwnListener)] {
        let mut machine = Machine::new(config, now);
        assert_eq!(machine.start(now).attempt, None);
        assert_eq!(machine.opened(), Some(Err(fault)));
    }
}

#[test]
fn denied_addresses_do_not_hide_an_allowed_one_after_them() {
    let rules = || Some(Arc::new(EgressRules::allow_all().deny_net("10.0.0.0/8").unwrap()));
    let denied =
        |count: u32| (0..count).map(|n| SocketAddr::from((Ipv4Addr::from(0x0a00_0000 | n), 80)));
    let now = Instant::now();
    // The large counts take minutes under miri.
    let counts = [1, 63, 64, 65, 4096, MAX_CHECKED - 1].into_iter();
    for count in counts.filter(|&count| count < 100 || !cfg!(miri)) {
        let mut config = Config::new(Target::Host);
        config.egress = rules();
        let mut machine = Machine::new(config, now);
        drop(machine.start(now));
        let count = u32::try_from(count).unwrap();
        let answer: Vec<_> = denied(count).chain([v4(1)]).collect();
        let actions = machine.handle(Input::Resolved(Ok(&answer)), now);
        let Some(Attempt { id, address: Some(address) }) = actions.attempt else {
            panic!("{count} before it: {actions:?}");
        };
        assert_eq!(address, v4(1));
        // The number of denied addresses that are kept is bounded.
        drop(machine.handle(Input::Attempted { id, result: Err(REFUSED) }, now));
        let kept = usize::try_from(count).unwrap().min(MAX_DENIED);
        assert_eq!(machine.attempts().len(), kept + 1);
        let last = machine.attempts().last().map(|attempt| (attempt.address, attempt.fault));
        assert_eq!(last, Some((v4(1), REFUSED)));
        assert_eq!(machine.opened(), Some(Err(REFUSED)));
    }
}

#[test]
fn denied_addresses_do_not_count_toward_the_bound_of_dialled_ones() {
    let rules = EgressRules::allow_all().deny_net("10.0.0.0/8").unwrap();
    let mixed: Vec<_> = (0..1000_u32)
        .flat_map(|n| {
            let denied = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 | n), 80));
            [denied, v4(u16::try_from(n).unwrap())]
        })
        .collect();
    let mut config = Config::new(Target::Host);
    config.egress = Some(Arc::new(rules));
    let now = Instant::now();
    let mut machine = Machine::new(config, now);
    drop(machine.start(now));
    let mut actions = machine.handle(Input::Resolved(Ok(&mixed)), now);
    let mut dialled = 0;
    while let Some(Attempt { id, .. }) = actions.attempt {
        dialled += 1;
        let input = Input::Attempted { id, result: Err(REFUSED) };
        actions = machine.handle(input, now);
    }
    assert_eq!(dialled, MAX_ADDRESSES);
    assert_eq!(machine.attempts().len(), 2 * MAX_ADDRESSES);
}

/// The bound is about two DNS messages, even if a resolver returns more.
#[cfg_attr(miri, ignore = "it would take more than the ten minutes of a piece")]
#[test]
fn a_bounded_number_of_a_million_addresses_is_checked() {
    let answer: Vec<_> = (0..1_000_000_u32)
        .map(|n| SocketAddr::from((Ipv4Addr::from(0x0a00_0000 | n), 80)))
        .collect();
    let now = Instant::now();
    for behind in [false, true] {
        let mut config = Config::new(Target::Host);
        config.egress = Some(Arc::new(EgressRules::allow_all().deny_net("10.0.0.0/8").unwrap()));
        let mut machine = Machine::new(config, now);
        drop(machine.start(now));
        let mut answer = answer.clone();
        let place = if behind { MAX_CHECKED } else { MAX_CHECKED - 1 };
        answer[place] = v4(1);
        // The bound applies to all parts together.
        let (first, rest) = answer.split_at(MAX_CHECKED / 2);
        assert!(machine.handle(Input::PartialResolved(first), now).is_empty());
        let found = machine.handle(Input::Resolved(Ok(rest)), now).attempt;
        assert_eq!(found.is_some(), !behind);
        assert_eq!(machine.opened(), behind.then_some(Err(Fault::Denied)));
        assert!(machine.attempts().len() <= MAX_DENIED + 1);
    }
}
