//! One bug was built in on purpose, which has to be found.

use crate::first_broken;

const LIVES: u64 = 10_000;

#[test]
fn the_planted_bug_is_found() {
    match first_broken(0..LIVES) {
        Some((seed, Some(broken))) => println!("found in life {seed}: {}", broken.rule()),
        Some((seed, None)) => println!("found in life {seed}: a panic"),
        None => panic!("no life of {LIVES} breaks a rule"),
    }
}
