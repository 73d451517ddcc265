//! Compares `sockeye` to its peers in one run.
//!
//! ```text
//! cargo bench -p sockeye-bench                          every workload, less than five minutes
//! cargo bench -p sockeye-bench -- --full                more rounds, longer turns, more idle sockets
//! cargo bench -p sockeye-bench -- ping-pong connect     the workloads whose names contain one of these words
//! cargo bench -p sockeye-bench -- --rounds 20           this many rounds with fresh processes (also --pairs)
//! cargo bench -p sockeye-bench -- --no-peers            sockeye and the reference alone
//! cargo bench -p sockeye-bench -- --floor               adds the lower bound of sockeye's way of waiting (Linux)
//! cargo bench -p sockeye-bench -- tls                   the workloads over TLS
//! cargo bench -p sockeye-bench -- --null                the reference compared to itself, which shows the noise
//! cargo bench -p sockeye-bench -- --full --publish      also writes BENCHMARKING.md
//! ```
//!
//! The results are printed and written to `target/bench`: a summary, and the whole table.
//!
//! A *workload* defines what is done and measured; a *contender* does it. Each contender works in its own process,
//! against its own server process, because allocators, page tables, thread tables and CPU clocks belong to processes.
//! All use the same server, blocking threads over `std::net`, so that two rows differ only in their clients. Over TLS
//! the reference is rustls's own blocking `StreamOwned`, and the server uses rustls too. The peers are tokio, on one
//! thread and on several, and Go if it is installed.
//!
//! A *round* starts fresh processes for every contender. In a round the contenders take *turns*: one works for some 50
//! ms while the other processes are blocked, then the next. The order rotates from round to round. A disturbance that
//! lasts longer than a turn affects all of them alike. Turns that are adjacent in time are compared. The table shows
//! the median and the quartiles of the ratios to the reference's turns, and not the ratio of the medians.
//!
//! On systems other than Linux the processes are not pinned, and workloads that need `/proc` are skipped. As a test
//! (`cargo test -p sockeye-bench --bench versus`), each workload runs once and briefly, and proves only that it works.

mod allocator;
mod api;
mod args;
mod client;
mod contenders;
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
mod workloads;

use std::process::ExitCode;

use crate::args::Command;

fn main() -> ExitCode {
    match args::parse(std::env::args().skip(1)) {
        Ok(Command::Measure(settings)) => harness::run(&settings),
        Ok(Command::Client(task)) => client::run(&task),
        Ok(Command::Serve(server_args)) => server::run(&server_args),
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
