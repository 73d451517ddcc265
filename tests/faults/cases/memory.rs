//! A process that runs out of memory. Rust aborts a program when an allocation fails, and prints a message. aws-lc
//! aborts when it cannot seed its random numbers, and prints nothing. Both are reported apart from survival. Anything
//! else but a clean failure is a bug.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::case::{FaultCase, aborted};
use crate::child::{ChildOutput, run};
use crate::server::{Server, Site};
use crate::support::subprocess::this_binary;
use crate::tour;

/// Limits of the address space, in KiB above its size at the start: less than a thread takes, about as much, and more.
const ROOMS: [u64; 10] = [0, 64, 256, 1024, 2100, 2500, 4300, 6500, 16_000, 70_000];

pub fn cases() -> Vec<FaultCase> {
    let case = |room: &u64| {
        let room = *room;
        FaultCase::new(format!("memory/{room}-KiB-more"), move || starves(room))
    };
    ROOMS.iter().map(case).collect()
}

fn starves(room: u64) {
    let server = Server::start();
    let mut command = Command::new(this_binary());
    command.args(["starved", &room.to_string(), &server.site.word()]);
    let ran = run(command, Duration::from_secs(30)).expect("it can be started");
    let ChildOutput { output, errors, status, took } = ran;
    let status = status.unwrap_or_else(|| panic!("it hangs\n{output}{errors}"));
    let by_rule = errors.is_empty() || errors.contains("memory allocation of");
    if status.signal() == Some(libc::SIGABRT) && by_rule {
        aborted(took);
    }
    assert!(status.success(), "{status}\n{output}{errors}");
}

/// Runs in the process that starves. Its tours fail cleanly or succeed, and succeed once it has memory again.
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
    let mut message = Vec::with_capacity(2);
    for _ in 0..2 {
        message.push(tour::whole(&site).err());
    }
    setrlimit(Resource::As, limit).expect("it may be raised again");
    for error in message.into_iter().flatten() {
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

/// Returns the size of this process's address space in bytes.
fn address_space() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("Linux has VmSize");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
    kibibytes * 1024
}
