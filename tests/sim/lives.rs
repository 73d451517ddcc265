//! Every rule holds in every scenario, and scenarios cover every kind of event.

use std::time::Instant;

use sockeye::sim::{self, Scenario, ScenarioKind};

use crate::first_violation;

/// A number of scenarios that takes two minutes without optimisation.
const SCENARIOS: u64 = 12_000;

/// Seeds that once broke a rule.
const ONCE_BROKEN: [u64; 9] = [45, 124, 661, 9536, 21_944, 23_978, 30_240, 113_458, 602_685];

#[test]
fn every_rule_holds_in_every_scenario() {
    if let Some(seed) = number("SIM_SEED") {
        let scenario = Scenario::from_seed(seed);
        for scenario in [scenario, Scenario::serving(seed), Scenario::proxied(seed)] {
            println!("{scenario:?}");
            let run = sim::run(&scenario);
            println!("{}", run.unwrap_or_else(|violation| panic!("SIM_SEED={seed}: {violation}")));
        }
        return;
    }
    let first = number("SIM_FIRST").unwrap_or(0);
    let lives = number("SIM_LIVES").unwrap_or(SCENARIOS);
    let begun = Instant::now();
    check(first..first + lives);
    println!("{lives} lives from {first} in {:?}", begun.elapsed());
}

#[test]
fn seeds_that_once_failed_pass() {
    check(ONCE_BROKEN);
}

#[test]
fn a_scenario_runs_the_same_way_twice() {
    for seed in 0..500 {
        for scenario in [Scenario::from_seed(seed), Scenario::proxied(seed)] {
            let (first, second) = (sim::run(&scenario).unwrap(), sim::run(&scenario).unwrap());
            assert!(first == second, "SIM_SEED={seed}:\n{first}\n{second}");
        }
    }
}

/// If an event never occurs in the scenarios, they do not test it.
#[test]
fn scenarios_cover_every_event() {
    let mut wanted: Vec<(ScenarioKind, &str)> = vec![
        (ScenarioKind::Upgrade, "UserCall(0, StartTls)"),
        (ScenarioKind::Upgrade, "takes"),
        (ScenarioKind::Upgrade, "rejects the data"),
        (ScenarioKind::Secure, "takes"),
        (ScenarioKind::Secure, "seals"),
        (ScenarioKind::Secure, "starts a background receive"),
        (ScenarioKind::Secure, "rejects the data"),
        (ScenarioKind::Plain, "resolve: true"),
        (ScenarioKind::Plain, "cancel_attempts"),
        (ScenarioKind::Plain, "drops"),
        (ScenarioKind::Serve, "takes"),
        (ScenarioKind::Serve, "seals"),
        (ScenarioKind::ServeUpgrade, "UserCall(0, StartTls)"),
        (ScenarioKind::ServeUpgrade, "takes"),
        (ScenarioKind::ServeUpgrade, "rejects the data"),
        (ScenarioKind::ToProxy, "is dialled again"),
        (ScenarioKind::Proxied, "is dialled again"),
        (ScenarioKind::Proxied, "rejects the data"),
        (ScenarioKind::ProxiedUpgrade, "UserCall(0, StartTls)"),
        (ScenarioKind::ProxiedUpgrade, "rejects the data"),
        (ScenarioKind::Pair, "1 -> Actions { wake: {readable, writable, closed}"),
    ];
    for kind in [
        ScenarioKind::Plain,
        ScenarioKind::Secure,
        ScenarioKind::Upgrade,
        ScenarioKind::Pair,
        ScenarioKind::Serve,
        ScenarioKind::ServeUpgrade,
        ScenarioKind::ToProxy,
        ScenarioKind::Proxied,
        ScenarioKind::ProxiedUpgrade,
    ] {
        for what in
            ["opened", "shutdown_write", "Some(Close)", "Some(Linger)", "Some(Reset)", "drive_recv"]
        {
            wanted.push((kind, what));
        }
        for what in ["receives", "reads EOF", "fails to read", "fails to write"] {
            wanted.push((kind, what));
        }
    }
    for kind in [ScenarioKind::ToProxy, ScenarioKind::Proxied, ScenarioKind::ProxiedUpgrade] {
        for what in [
            "1 is asked",
            "1 passes 1\n",
            "1 ends its session",
            "1 rejects the records",
            "ProxyFin",
            "ProxyNewKeys",
            "starts a background receive",
            "restores the session",
            "takes",
            "seals",
        ] {
            wanted.push((kind, what));
        }
    }
    for seed in 0..2000 {
        let scenarios =
            [Scenario::from_seed(seed), Scenario::serving(seed), Scenario::proxied(seed)];
        for scenario in scenarios {
            let trace = sim::run(&scenario).unwrap().to_string();
            wanted.retain(|&(kind, what)| kind != scenario.kind() || !trace.contains(what));
        }
    }
    assert_eq!(wanted, []);
}

fn check(seeds: impl IntoIterator<Item = u64>) {
    match first_violation(seeds) {
        None => {}
        Some((seed, Some(violation))) => panic!("SIM_SEED={seed}: {violation}"),
        Some((seed, None)) => panic!("SIM_SEED={seed}: it panicked, see above"),
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}
