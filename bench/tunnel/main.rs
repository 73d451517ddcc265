//! A gibibyte through `sockeye::tunnel`, through a loop of reads and writes with `std` and through socat, in turns: the
//! processor time of the relaying process, and the throughput.
//!
//! ```text
//! cargo bench -p sockeye-bench --bench tunnel                 9 rounds
//! cargo bench -p sockeye-bench --bench tunnel -- 21           another number of rounds
//! ```
//!
//! Each relay is a process of its own. The source and the sink are in the benchmark's process, and use `std`.

#[cfg(not(unix))]
fn main() {
    println!("skipped: the time of a process is read on Unix only");
}

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    relays::run(std::env::args().skip(1).filter(|arg| arg != "--bench"))
}

#[cfg(unix)]
mod relays;
