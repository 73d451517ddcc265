//! The cases, sorted by the cause of the fault.

mod buffers;
pub mod clock;
mod closing;
mod connecting;
mod floods;
mod limits;
pub mod memory;
mod names;
mod network;
mod peer;
mod tls;

use crate::case::FaultCase;

/// Returns all cases, in the same order in every process.
pub fn all() -> Vec<FaultCase> {
    let all = [
        connecting::cases(),
        names::cases(),
        peer::cases(),
        tls::cases(),
        closing::cases(),
        buffers::cases(),
        limits::cases(),
        memory::cases(),
        clock::cases(),
        network::cases(),
        floods::cases(),
    ];
    all.into_iter().flatten().collect()
}
