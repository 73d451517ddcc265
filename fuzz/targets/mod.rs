//! The functions of the fuzz targets. The tests replay the corpora with them.

#[path = "../../tests/it/egress/model.rs"]
#[allow(unreachable_pub, dead_code, reason = "the tests use all of it")]
mod model;
mod rules;
mod text;

use sockeye::sim::{self, Scenario, ScenarioKind};

pub use rules::egress;
pub use text::address;

/// A target's name, which its corpus shares, and its function.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 13] = [
    ("acceptor", acceptor),
    ("address", address),
    ("egress", egress),
    ("inputs", inputs),
    ("lives", lives),
    ("outer", outer),
    ("pairs", pairs),
    ("preamble", preamble),
    ("records", records),
    ("secure", secure),
    ("serving", serving),
    ("unix_attempts", unix_attempts),
    ("upgrades", upgrades),
];

/// Runs the acceptor of a listener, with clients, slots and descriptors that come and go.
pub fn acceptor(bytes: &[u8]) {
    sim::acceptor(bytes).unwrap_or_else(|violation| panic!("{violation}"));
}

/// Feeds arbitrary inputs to one machine.
pub fn inputs(bytes: &[u8]) {
    sim::inputs(bytes).unwrap_or_else(|violation| panic!("{violation}"));
}

/// Runs a machine in plaintext and a peer, with a wire that behaves arbitrarily.
pub fn lives(bytes: &[u8]) {
    drive(ScenarioKind::Plain, bytes);
}

/// Runs a machine and an `https` proxy, with plaintext behind it, TLS or an upgrade.
pub fn outer(bytes: &[u8]) {
    let kind = match bytes.first() {
        Some(first) if first % 3 == 0 => ScenarioKind::ToProxy,
        Some(first) if first % 3 == 1 => ScenarioKind::Proxied,
        _ => ScenarioKind::ProxiedUpgrade,
    };
    drive(kind, bytes);
}

/// Runs two machines with a wire that behaves arbitrarily.
pub fn pairs(bytes: &[u8]) {
    drive(ScenarioKind::Pair, bytes);
}

/// Plays a proxy that answers anything.
pub fn preamble(bytes: &[u8]) {
    sim::preamble(bytes).unwrap_or_else(|violation| panic!("{violation}"));
}

/// Runs TLS from the start, with a wire that behaves arbitrarily.
pub fn secure(bytes: &[u8]) {
    drive(ScenarioKind::Secure, bytes);
}

/// Runs TLS as the server, from the start or by an upgrade.
pub fn serving(bytes: &[u8]) {
    let kind = match bytes.first() {
        Some(first) if first % 2 == 1 => ScenarioKind::Serve,
        _ => ScenarioKind::ServeUpgrade,
    };
    drive(kind, bytes);
}

/// Connects one machine to a Unix-domain listener whose queue is full at times.
pub fn unix_attempts(bytes: &[u8]) {
    sim::unix_attempts(bytes).unwrap_or_else(|violation| panic!("{violation}"));
}

/// Runs an upgrade from plaintext to TLS, with plaintext at every position.
pub fn upgrades(bytes: &[u8]) {
    drive(ScenarioKind::Upgrade, bytes);
}

/// Changes a server's TLS records, and feeds them in one piece and in others.
pub fn records(bytes: &[u8]) {
    sim::records(bytes).unwrap_or_else(|violation| panic!("{violation}"));
}

fn drive(kind: ScenarioKind, bytes: &[u8]) {
    sim::run(&Scenario::of_kind(kind, bytes)).unwrap_or_else(|violation| panic!("{violation}"));
}
