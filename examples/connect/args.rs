//! The command line, taken apart by hand.

use std::ffi::OsString;
use std::time::Duration;

use sockeye::SocketAddress;

pub const USAGE: &str = "connect HOST:PORT [--timeout SECS] [--half-open] [-v]";

pub const HELP: &str = "\
Connects to a TCP server; copies standard input to it and what it sends to standard output, both at
once. The end of the input half-closes the connection: the server sees it, and its answer is still
read. The connection ends with the server's end.

usage: connect HOST:PORT [--timeout SECS] [--half-open] [-v]
       connect            shows itself against a small server of its own, without a network

  HOST:PORT          where to connect to; an IPv6 address in brackets, as in [::1]:70
  --timeout SECS     the most that connecting and each read may take, such as 5 or 0.5
                     (default: 30 seconds for connecting, no limit for reads)
  --half-open        go on sending after the server has ended, until the input ends
  -v, --verbose      tell of addresses, times and byte counts on standard error
  -h, --help         this text

exit codes:
  0  the connection ended cleanly
  1  no connection could be made
  2  the command line is wrong
  3  the connection broke or was reset
  4  connecting or a read timed out
  5  this side failed: standard input or output, or no thread to be had

example:
  printf '/\\r\\n' | connect gopher.floodgap.com:70
";

/// What the command line asks for.
pub enum Command {
    Demo,
    Help,
    Connect(Args),
}

pub struct Args {
    pub address: SocketAddress,
    pub timeout: Option<Duration>,
    pub half_open: bool,
    pub verbose: bool,
}

/// Takes the arguments after the program's name; the error is for the user.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut words = Vec::new();
    for arg in args {
        let shown = |arg: OsString| format!("argument {arg:?} is not valid UTF-8");
        words.push(arg.into_string().map_err(shown)?);
    }
    if words.is_empty() {
        return Ok(Command::Demo);
    }
    let (mut address, mut timeout, mut half_open, mut verbose) = (None, None, false, false);
    let mut only_addresses = false;
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            text if only_addresses || !text.starts_with('-') => {
                if let Some(first) = address.replace(word.clone()) {
                    let hint = if is_port(&word) {
                        format!("; write {first}:{word}")
                    } else {
                        String::new()
                    };
                    return Err(format!("more than one address: {first:?} and {word:?}{hint}"));
                }
            }
            "--" => only_addresses = true,
            "-h" | "--help" => return Ok(Command::Help),
            "-v" | "--verbose" => verbose = true,
            "--half-open" => half_open = true,
            "--timeout" => {
                let value = words.next().ok_or("--timeout needs a number of seconds after it")?;
                timeout = Some(seconds(&value)?);
            }
            text => match text.strip_prefix("--timeout=") {
                Some(value) => timeout = Some(seconds(value)?),
                None => return Err(format!("unknown option {word:?}")),
            },
        }
    }
    let address = address.ok_or("HOST:PORT is missing")?;
    let address = address.parse().map_err(|error: sockeye::Error| error.to_string())?;
    Ok(Command::Connect(Args { address, timeout, half_open, verbose }))
}

/// Seconds with an optional fraction, more than none.
fn seconds(text: &str) -> Result<Duration, String> {
    let fault = || format!("--timeout {text:?} is not a number of seconds such as 5 or 0.5");
    // Else `f64` would also take a sign, an exponent, an infinity and what is not a number.
    if !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(fault());
    }
    let limit = text.parse().ok().and_then(|secs| Duration::try_from_secs_f64(secs).ok());
    match limit.ok_or_else(fault)? {
        Duration::ZERO => Err(String::from("--timeout is zero: nothing could be done in no time")),
        limit => Ok(limit),
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}
