//! A connection between this terminal and a server, by TCP or TLS, in the manner of netcat.
//!
//! ```text
//! cargo run --example connect                          shows the library at work, without a network
//! printf '/\r\n' | cargo run -q --example connect -- gopher.floodgap.com:70
//! cargo run -q --example connect -- mail.example.com:587 --starttls smtp -v
//! cargo run -q --example connect -- --help
//! ```
//!
//! One thread reads standard input and writes to the socket while another reads the socket and writes to
//! standard output: both sides of the same socket, used at once.

mod args;
mod copy;
mod demo;
mod dial;
mod report;
mod starttls;

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use args::Command;
use sockeye::Timings;

fn main() -> ExitCode {
    if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
        // The library was built without cryptography, so the program brings one. Nobody has done so yet.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let exit = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Demo) => demo::run(),
        Ok(Command::Help) => {
            // Nobody is left to tell where standard output is gone.
            let _ = io::stdout().write_all(args::HELP.as_bytes());
            Exit::Clean
        }
        Ok(Command::Connect(args)) => copy::run(&args),
        Err(fault) => {
            say(format_args!("{fault}"));
            say(format_args!("usage: {}; --help tells more", args::USAGE));
            Exit::Usage
        }
    };
    ExitCode::from(exit as u8)
}

/// What the exit code tells; [`args::HELP`] lists them for users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Exit {
    Clean = 0,
    NotConnected = 1,
    Usage = 2,
    Broken = 3,
    TimedOut = 4,
    ThisSide = 5,
    NotSecure = 6,
}

/// A line to standard error. Standard output belongs to the data.
fn say(message: fmt::Arguments<'_>) {
    // `eprintln!` would panic where standard error is closed.
    let _ = writeln!(io::stderr(), "connect: {message}");
}

/// Tells of a connection that failed while it was used.
fn broken(error: &io::Error) -> Exit {
    say(format_args!("{error}"));
    match error.kind() {
        ErrorKind::TimedOut => Exit::TimedOut,
        _ => Exit::Broken,
    }
}

/// How long the steps of connecting took, in words.
fn took(timings: Timings) -> String {
    let Timings { resolve, connect, .. } = timings;
    if resolve.is_zero() {
        return format!("no look-up, connect {connect:.1?}");
    }
    format!("look-up {resolve:.1?}, connect {connect:.1?}")
}
