//! Every rule holds in every scenario, and scenarios cover what they should.

use std::time::Instant;

use sockeye::sim::{self, Life, Plan};

use crate::first_broken;

/// A number of scenarios that takes half a minute without optimisation.
const LIVES: u64 = 12_000;

/// Seeds that once broke a rule.
const ONCE_BROKEN: [u64; 3] = [45, 124, 661];

#[test]
fn every_rule_holds_in_every_scenario() {
    if let Some(seed) = number("SIM_SEED") {
        let plan = Plan::from_seed(seed);
        println!("{plan:?}");
        println!(
            "{}",
            sim::run(&plan).unwrap_or_else(|broken| panic!("SIM_SEED={seed}: {broken}"))
        );
        return;
    }
    let lives = number("SIM_LIVES").unwrap_or(LIVES);
    let begun = Instant::now();
    check(0..lives);
    println!("{lives} lives in {:?}", begun.elapsed());
}

#[test]
fn seeds_that_once_failed_pass() {
    check(ONCE_BROKEN);
}

#[test]
fn a_scenario_runs_the_same_way_twice() {
    for seed in 0..500 {
        let plan = Plan::from_seed(seed);
        let (first, second) = (sim::run(&plan).unwrap(), sim::run(&plan).unwrap());
        assert!(first == second, "SIM_SEED={seed}:\n{first}\n{second}");
    }
}

/// If an event never occurs in the scenarios, they do not test it.
#[test]
fn scenarios_cover_every_event() {
    let mut wanted: Vec<(Life, &str)> = vec![
        (Life::Upgrade, "Command(0, StartTls)"),
        (Life::Upgrade, "takes"),
        (Life::Upgrade, "finds fault"),
        (Life::Secure, "takes"),
        (Life::Secure, "seals"),
        (Life::Secure, "attends"),
        (Life::Secure, "finds fault"),
        (Life::Plain, "Resolve"),
        (Life::Plain, "CancelAttempts"),
        (Life::Plain, "drops"),
        (Life::Pair, "1 -> Closed"),
    ];
    for life in [Life::Plain, Life::Secure, Life::Upgrade, Life::Pair] {
        for what in ["Opened", "ShutdownWrite", "Release(Close)", "Linger", "Reset", "DriveRecv"] {
            wanted.push((life, what));
        }
        for what in ["receives", "reads the end", "fails to read", "fails to write"] {
            wanted.push((life, what));
        }
    }
    for seed in 0..2000 {
        let plan = Plan::from_seed(seed);
        let trace = sim::run(&plan).unwrap().to_string();
        wanted.retain(|&(life, what)| life != plan.life() || !trace.contains(what));
    }
    assert_eq!(wanted, []);
}

fn check(seeds: impl IntoIterator<Item = u64>) {
    match first_broken(seeds) {
        None => {}
        Some((seed, Some(broken))) => panic!("SIM_SEED={seed}: {broken}"),
        Some((seed, None)) => panic!("SIM_SEED={seed}: it panicked, see above"),
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}
