//! Scenarios find each bug that is planted in the machine. `ci/mutations` runs one process per bug.

use std::env;

use sockeye::failpoint;

use crate::first_violation;

/// The number of scenarios within which a bug has to be found.
const SCENARIOS: u64 = 10_000;

#[test]
fn the_planted_bug_is_found() {
    let Ok(bug) = env::var("PLANTED") else {
        println!("PLANTED names no bug");
        return;
    };
    failpoint::plant(&bug);
    match first_violation(0..SCENARIOS) {
        Some((seed, Some(violation))) => {
            println!("{bug}: found in scenario {seed}: {}", violation.rule())
        }
        Some((seed, None)) => println!("{bug}: found in scenario {seed}: a panic"),
        None => panic!("{bug}: no scenario of {SCENARIOS} breaks a rule"),
    }
}
