//! A client process for one contender and one workload. It prepares, prints `ready`, and then takes one turn for each
//! input line, which it answers with the turn's figures. It ends with its input.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write as _};
use std::process::ExitCode;

use crate::args::ClientArgs;
use crate::system;

/// The first word of the reply if the client cannot do this workload. The reason follows.
pub const SKIPPED: &str = "skipped:";
pub const READY: &str = "ready";
pub const GO: &str = "go";

pub fn run(client_args: &ClientArgs) -> ExitCode {
    system::settle(&client_args.cpus);
    match serve_turns(client_args) {
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

fn serve_turns(client_args: &ClientArgs) -> io::Result<()> {
    let mut turn = (client_args.contender.start)(&client_args.task)?;
    answer(READY)?;
    for line in io::stdin().lock().lines() {
        line?;
        let mut figures = String::new();
        for figure in turn()? {
            write!(figures, "{figure} ").expect("a String takes everything");
        }
        answer(figures.trim_end())?;
    }
    // Skips destructors, because closing thousands of sockets one by one takes long.
    std::process::exit(0)
}

fn answer(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
