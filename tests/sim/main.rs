//! Scenarios of the state machine in the simulator.
//!
//! `SIM_LIVES=1000000` runs more scenarios, from seed `SIM_FIRST`; `SIM_SEED=n` runs one and prints its trace.

mod corpus;
mod lives;
mod loose;
#[cfg(sockeye_planted)]
mod planted;

use std::panic::{AssertUnwindSafe, catch_unwind};

use sockeye::sim::{self, Scenario, Violation};

/// Returns the first scenario that breaks a rule.
fn first_violation(scenarios: impl IntoIterator<Item = u64>) -> Option<(u64, Option<Violation>)> {
    silence_rustls_panics();
    scenarios.into_iter().find_map(|seed| {
        let scenario = Scenario::from_seed(seed);
        let (serving, proxied) = (Scenario::serving(seed), Scenario::proxied(seed));
        let run = || {
            sim::run(&scenario)?;
            sim::run(&serving)?;
            sim::run(&proxied)?;
            sim::acceptor(&random_bytes(seed))?;
            sim::unix_attempts(&random_bytes(seed))
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(_)) => None,
            Ok(Err(violation)) => Some((seed, Some(violation))),
            Err(_) => Some((seed, None)),
        }
    })
}

/// Returns the bytes of a scenario that has no kind of its own in [`Scenario`].
fn random_bytes(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..random.usize(4..200)).map(|_| random.u8(..)).collect()
}

/// Silences the panics of rustls. A debug build of it panics if the peer sends more after this side's close_notify,
/// and the machine catches that.
fn silence_rustls_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.location().is_some_and(|at| at.file().contains("rustls")) {
                loud(info);
            }
        }));
    });
}
