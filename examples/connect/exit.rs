//! Exit codes, and messages on standard error.

use std::fmt;
use std::io::{self, ErrorKind, Write};

/// The exit codes, which `--help` lists for users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Clean = 0,
    NotConnected = 1,
    Usage = 2,
    Broken = 3,
    TimedOut = 4,
    ThisSide = 5,
    NotSecure = 6,
}

/// Writes a line to standard error. Standard output carries data only.
pub fn say(message: fmt::Arguments<'_>) {
    // `eprintln!` would panic if standard error is closed.
    let _ = writeln!(io::stderr(), "connect: {message}");
}

/// Reports a connection that failed while in use.
pub fn broken(error: &io::Error) -> Exit {
    say(format_args!("{error}"));
    match error.kind() {
        ErrorKind::TimedOut => Exit::TimedOut,
        _ => Exit::Broken,
    }
}
