//! Lives of the state machine in the simulator.
//!
//! `SIM_LIVES=1000000` leads more of them, and `SIM_SEED=n` leads one and prints its trace.

mod corpus;
mod lives;
mod loose;
#[cfg(sockeye_planted)]
mod planted;

use std::panic::{AssertUnwindSafe, catch_unwind};

use sockeye::sim::{self, Broken, Plan};

/// The first life that breaks a rule, of so many.
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

/// A debug build of rustls panics where a peer goes on behind this side's close_notify, which the machine
/// takes care of.
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
