//! Systems without these services: processes are not pinned, and nothing is counted.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

pub type ThreadId = i32;

pub fn settle(_cpus: &[usize]) -> io::Result<()> {
    Ok(())
}

pub fn cpus() -> Vec<usize> {
    Vec::new()
}

pub fn most_files() -> u64 {
    1024
}

pub fn cpu_time() -> io::Result<Duration> {
    Err(unknown("CPU time"))
}

pub fn resident_bytes() -> io::Result<u64> {
    Err(unknown("resident memory"))
}

pub fn this_thread() -> ThreadId {
    0
}

pub fn is_asleep(_thread: ThreadId) -> io::Result<(bool, u64)> {
    Err(unknown("the state of a thread"))
}

pub fn wake_ups() -> io::Result<BTreeMap<ThreadId, u64>> {
    Err(unknown("the number of wake-ups"))
}

fn unknown(what: &str) -> io::Error {
    let text = format!("{what} is not available on {}", std::env::consts::OS);
    io::Error::new(io::ErrorKind::Unsupported, text)
}
