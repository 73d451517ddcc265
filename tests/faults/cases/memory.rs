//! A process that may have no more memory. Rust aborts a program when an allocation fails, and says so; aws-lc
//! does when it can't seed its random numbers, and says nothing. Both are told apart from having survived, and
//! anything else but a clean failure is a bug.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::case::{Case, aborted};
use crate::child::{Ran, run};
use crate::server::{Server, Site};
use crate::support::alone::this_binary;
use crate::tour;

/// So much more address space there is than what the process has when it begins, in KiB: less than a thread
/// takes, about as much, and some more.
const ROOMS: [u64; 10] = [0, 64, 256, 1024, 2100, 2500, 4300, 6500, 16_000, 70_000];

pub fn cases() -> Vec<Case> {
    let case = |room: &u64| {
        let room = *room;
        Case::new(format!("memory/{room}-KiB-more"), move || starves(room))
    };
    ROOMS.iter().map(case).collect()
}

fn starves(room: u64) {
    let server = Server::start();
    let mut command = Command::new(this_binary());
    command.args(["starved", &room.to_string(), &server.site.word()]);
    let ran = run(command, Duration::from_secs(30)).expect("it can be started");
    let Ran { output, errors, status, took } = ran;
    let status = status.unwrap_or_else(|| panic!("it hangs\n{output}{errors}"));
    let by_rule = errors.is_empty() || errors.contains("memory allocation of");
    if status.signal() == Some(libc::SIGABRT) && by_rule {
        aborted(took);
    }
    assert!(status.success(), "{status}\n{output}{errors}");
}

/// The process that starves: its tours fail cleanly or succeed, and once it has memory again they succeed.
pub fn starved(room: &str, word: &str) -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        let _ = writeln!(std::io::stderr(), "{info}");
        std::process::exit(i32::from(tour::PANICKED));
    }));
    let room: u64 = room.parse().expect("a number of KiB");
    let site = Site::parse(word).expect("the word of a server");
    let limit = getrlimit(Resource::As);
    let tight = Rlimit { current: Some(address_space() + room * 1024), maximum: limit.maximum };
    setrlimit(Resource::As, tight).expect("it may be lowered");
    let mut told = Vec::with_capacity(2);
    for _ in 0..2 {
        told.push(tour::whole(&site).err());
    }
    setrlimit(Resource::As, limit).expect("it may be raised again");
    for error in told.into_iter().flatten() {
        println!("{:?}: {error}", error.kind());
    }
    match tour::whole(&site) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("there is memory again: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What this process has, in bytes.
fn address_space() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("Linux tells it");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
    kibibytes * 1024
}
