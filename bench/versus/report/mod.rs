//! The report of a run. The [whole table](table) goes to standard output. `results.md` in `target/bench` has the
//! [summary](summary) and the table. With `--publish` the summary goes to BENCHMARKING.md as well.

mod published;
pub mod samples;
mod spread;
mod summary;
mod table;
mod verdict;

use std::io;
use std::path::{Path, PathBuf};

use self::samples::Finished;
use crate::args::Settings;
use crate::{machine, workloads};

/// Prints and writes the results of a run, and returns their folder.
pub fn publish(settings: &Settings, publishes: bool, finished: &[Finished]) -> io::Result<PathBuf> {
    let table = table::of(settings, finished);
    println!("{table}\nload after: {}", machine::load());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    std::fs::create_dir_all(&folder)?;
    let summary = summary::of(settings, finished);
    let machine = machine::describe();
    let text = format!("{summary}\n```text\n{machine}\n```\n\n{table}");
    std::fs::write(folder.join("results.md"), text)?;
    if publishes {
        published::write(&summary)?;
    }
    Ok(folder)
}

/// Prints the workloads with their figures and aims.
pub fn list() {
    println!("| workload | figure | unit | aim |");
    println!("|---|---|---|---|");
    for workload in &workloads::ALL {
        for figure in workload.figures {
            let aim = figure.aim.map_or_else(String::new, |aim| aim.to_string());
            println!("| {} | {} | {} | {aim} |", workload.name, figure.name, figure.unit);
        }
    }
}
