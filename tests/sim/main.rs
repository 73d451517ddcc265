//! Scenarios of the state machine in the simulator.
//!
//! `SIM_LIVES=1000000` runs more scenarios; `SIM_SEED=n` runs one and prints its trace.

mod corpus;
mod lives;
mod loose;
#[cfg(sockeye_planted)]
mod planted;

use std::panic::{AssertUnwindSafe, catch_unwind};

use sockeye::sim::{self, Broken, Plan};

/// Returns the first scenario that breaks a rule.
fn first_broken(lives: impl IntoIterator<Item = u64>) -> Option<(u64, Option<Broken>)> {
    hush();
    lives.into_iter().find_map(|seed| {
        let plan = Plan::from_seed(seed);
        match catch_unwind(AssertUnwindSafe(|| sim::run(&plan))) {
            Ok(Ok(_)) => None,
            Ok(Err(broken)) => Some((seed, Some(broken))),
            Err(_) => Some((seed, None)),
        }
    })
}

/// Silences the panics of rustls. A debug build of it panics if the peer sends more after this side's close_notify,
/// and the machine catches that.
fn hush() {
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
