//! A small netcat: connects this terminal to a server, over TCP, TLS or a Unix-domain socket.
//!
//! ```text
//! cargo run --example connect                          shows the library at work on loopback
//! printf '/\r\n' | cargo run -q --example connect -- gopher.floodgap.com:70
//! printf 'PING\r\n' | cargo run -q --example connect -- --unix /run/redis/redis.sock
//! cargo run -q --example connect -- mail.example.com:587 --starttls smtp -v
//! cargo run -q --example connect -- --help
//! ```
//!
//! One thread copies standard input to the socket while another copies the socket to standard output.

mod args;
mod copy;
mod demo;
mod dial;
mod exit;
mod report;
mod starttls;

use std::io::{self, Write};
use std::process::ExitCode;

use args::Command;
use exit::{Exit, say};

fn main() -> ExitCode {
    if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
        // The library was built without a TLS provider, so the program installs one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let exit = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Demo) => demo::run(),
        Ok(Command::Help) => {
            // Standard output may be closed: ignore the error.
            let _ = io::stdout().write_all(args::HELP.as_bytes());
            Exit::Clean
        }
        Ok(Command::Version) => {
            let version = concat!("connect (sockeye) ", env!("CARGO_PKG_VERSION"), "\n");
            let _ = io::stdout().write_all(version.as_bytes());
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
