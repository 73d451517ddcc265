//! Measures `sockeye` beside its peers, in one run.
//!
//! ```text
//! cargo bench                          every workload, less than five minutes
//! cargo bench -- --full                more rounds, longer turns, more idle sockets
//! cargo bench -- ping-pong connect     the workloads whose names contain one of these words
//! cargo bench -- --rounds 20           (or --pairs 20) this many fresh sets of processes
//! cargo bench -- --no-peers            sockeye and the reference alone
//! cargo bench -- --floor               also the least that sockeye's way of waiting can cost (Linux)
//! cargo bench -- tls                   those over TLS
//! cargo bench -- --null                the reference beside itself: how far two equals lie apart here
//! cargo bench -- --full --publish      also writes BENCHMARKING.md and benches/results.svg
//! ```
//!
//! What comes of it is printed, and written to `target/bench`: a summary with the whole table, and a chart.
//!
//! A *workload* says what is done and what is counted; a *contender* does it. Each contender works in a
//! process of its own, against a server process of its own, because allocators, page tables, thread
//! tables and CPU clocks belong to processes. The server is the same for all: blocking threads over
//! `std::net`, so that a difference between two rows is a difference between two clients. Over TLS the peer
//! is rustls' own blocking `StreamOwned`, and the server is rustls too. Beside these there are tokio, on one
//! thread and on several, and Go where there is a `go` to build with.
//!
//! A *round* starts fresh processes for every contender. In a round they take *turns*: one works for a
//! few hundredths of a second while the other processes are blocked, then the next, over and over, in
//! an order that rotates from round to round. Whatever disturbs the machine for longer than a turn
//! disturbs all of them alike. The turns that lie side by side are compared: the ratio of each to the
//! reference's is taken, and the table shows the median of the ratios with their quartiles, not the ratio
//! of medians.
//!
//! On systems other than Linux nothing is pinned, and the workloads that count by `/proc` are skipped.
//! Run as a test (`cargo test --benches`), each workload runs once, briefly, and proves only that it works.

mod args;
mod client;
mod contender;
#[cfg(target_os = "linux")]
mod floor;
mod go;
mod harness;
mod machine;
mod process;
mod report;
mod server;
mod strace;
mod system;
mod tls;
mod tokio_peer;
mod workload;

use std::process::ExitCode;

use crate::args::Command;

// In every role, so that the contenders pay the same for being counted.
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    match args::parse(std::env::args().skip(1)) {
        Ok(Command::Measure(settings)) => harness::run(&settings),
        Ok(Command::Client(task)) => client::run(&task),
        Ok(Command::Serve(post)) => server::run(&post),
        Ok(Command::List) => {
            report::list();
            ExitCode::SUCCESS
        }
        Ok(Command::Help) => {
            println!("{}", args::USAGE);
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("{fault}\n\n{}", args::USAGE);
            ExitCode::FAILURE
        }
    }
}
