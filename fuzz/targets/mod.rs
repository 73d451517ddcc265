//! What each fuzz target does with its bytes. The tests replay the corpus with the same functions.

#[path = "../../tests/it/egress/model.rs"]
#[allow(unreachable_pub, dead_code, reason = "it is the tests'")]
mod model;
mod rules;
mod text;

use sockeye::sim::{self, Life, Plan};

pub use rules::egress;
pub use text::address;

/// By its name, which is that of its corpus too.
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

/// One machine, and any inputs in any order.
pub fn inputs(bytes: &[u8]) {
    sim::inputs(bytes).unwrap_or_else(|broken| panic!("{broken}"));
}

/// A machine in plaintext and a peer, with a wire that does anything.
pub fn lives(bytes: &[u8]) {
    lead(Life::Plain, bytes);
}

/// Two machines, with a wire that does anything.
pub fn pairs(bytes: &[u8]) {
    lead(Life::Pair, bytes);
}

/// TLS from the start, with a wire that does anything.
pub fn secure(bytes: &[u8]) {
    lead(Life::Secure, bytes);
}

/// The boundary between plaintext and TLS, with plaintext at every place.
pub fn upgrades(bytes: &[u8]) {
    lead(Life::Upgrade, bytes);
}

/// What a server sends over TLS, changed and fed in one piece and in others.
pub fn records(bytes: &[u8]) {
    sim::records(bytes).unwrap_or_else(|broken| panic!("{broken}"));
}

fn lead(life: Life, bytes: &[u8]) {
    sim::run(&Plan::of_life(life, bytes)).unwrap_or_else(|broken| panic!("{broken}"));
}
