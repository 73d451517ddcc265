//! Peers that flood sockets without a reader, and how much that delays other sockets. The limits are for an idle
//! machine and a release build: `cargo test --release --test faults -- cases floods`.

use crate::case::{FaultCase, skip};
use crate::support::flood::{Flood, Flooded, Lateness};
use crate::support::{ms, raise_descriptor_limit};

pub fn cases() -> Vec<FaultCase> {
    [
        ("plaintext", Flood::Plaintext, 1_000),
        ("records", Flood::Records, 1_000),
        ("new-keys", Flood::KeyUpdates, 1_000),
        ("tickets", Flood::Tickets(2_000), 64),
    ]
    .map(|(name, flood, count)| {
        FaultCase::new(format!("floods/{name}"), move || others_are_served(flood, count))
    })
    .into()
}

fn others_are_served(flood: Flood, count: usize) {
    if !raise_descriptor_limit(2 * count as u64 + 200) {
        skip("the limit of descriptors is too low");
    }
    let quiet = Lateness::measure(9);
    let flooded = Flooded::begin(flood, count);
    let beside = Lateness::measure(25);
    println!(
        "{count} x {flood:?}: {} MiB sent, {} stand",
        flooded.sent() >> 20,
        flooded.standing()
    );
    println!("late timers, connects and ends: medians {:?}", beside.medians());
    println!("the worst {:?}; medians without the flood {:?}", beside.worst(), quiet.medians());
    // A debug build needs ten times as long for TLS.
    let most = if cfg!(debug_assertions) { ms(250) } else { ms(20) };
    let pairs = quiet.medians().into_iter().zip(beside.medians());
    assert!(pairs.into_iter().all(|(quiet, beside)| beside <= quiet + most), "late");
    drop(flooded);
}
