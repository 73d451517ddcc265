//! A client process: one contender, one workload. It makes itself ready, says `ready`, then takes one
//! turn for each line that comes and answers with the turn's figures, until its input ends.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write as _};
use std::process::ExitCode;

use crate::args::Task;
use crate::system;

/// First word of the answer of a client that cannot do this workload; the reason follows.
pub const SKIPPED: &str = "skipped:";
pub const READY: &str = "ready";
pub const GO: &str = "go";

pub fn run(task: &Task) -> ExitCode {
    system::settle(&task.cpus);
    match serve_turns(task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            println!("{SKIPPED} {error}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve_turns(task: &Task) -> io::Result<()> {
    let mut turn = (task.contender.start)(task)?;
    answer(READY)?;
    for line in io::stdin().lock().lines() {
        line?;
        let mut figures = String::new();
        for figure in turn()? {
            write!(figures, "{figure} ").expect("a String takes everything");
        }
        answer(figures.trim_end())?;
    }
    // Not through destructors: thousands of sockets need not be closed one by one.
    std::process::exit(0)
}

fn answer(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
