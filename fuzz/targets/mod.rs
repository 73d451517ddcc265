//! The functions of the fuzz targets. The tests replay the corpora with them.

#[path = "../../tests/it/egress/model.rs"]
#[allow(unreachable_pub, dead_code, reason = "the tests use all of it")]
mod model;
mod rules;
mod text;

use sockeye::sim::{self, Life, Plan};

pub use rules::egress;
pub use text::address;

/// A target's name, which its corpus shares, and its function.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 8] = [
    ("address", address),
    ("egress", egress),
    ("inputs", inputs),
    ("lives", lives),
    ("pairs", pairs),
    ("records", records),
    ("secure", secure),
    ("upgrades", upgrades),
];

/// Feeds arbitrary inputs to one machine.
pub fn inputs(bytes: &[u8]) {
    sim::inputs(bytes).unwrap_or_else(|broken| panic!("{broken}"));
}

/// Runs a machine in plaintext and a peer, with a wire that behaves arbitrarily.
pub fn lives(bytes: &[u8]) {
    lead(Life::Plain, bytes);
}

/// Runs two machines with a wire that behaves arbitrarily.
pub fn pairs(bytes: &[u8]) {
    lead(Life::Pair, bytes);
}

/// Runs TLS from the start, with a wire that behaves arbitrarily.
pub fn secure(bytes: &[u8]) {
    lead(Life::Secure, bytes);
}

/// Runs an upgrade from plaintext to TLS, with plaintext at every position.
pub fn upgrades(bytes: &[u8]) {
    lead(Life::Upgrade, bytes);
}

/// Changes a server's TLS records, and feeds them in one piece and in others.
pub fn records(bytes: &[u8]) {
    sim::records(bytes).unwrap_or_else(|broken| panic!("{broken}"));
}

fn lead(life: Life, bytes: &[u8]) {
    sim::run(&Plan::of_life(life, bytes)).unwrap_or_else(|broken| panic!("{broken}"));
}
