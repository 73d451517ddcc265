//! Linux: system calls through rustix, and the files of `/proc/self`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::set_parent_process_death_signal;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

pub type ThreadId = i32;

pub fn settle(cpus: &[usize]) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if !cpus.is_empty() {
        let mut set = CpuSet::new();
        for &cpu in cpus {
            set.set(cpu);
        }
        sched_setaffinity(None, &set)?;
    }
    let files = getrlimit(Resource::Nofile);
    let most = Rlimit { current: files.maximum, maximum: files.maximum };
    setrlimit(Resource::Nofile, most)?;
    let last = most_files().min(ROOMY) - 1;
    drop(fcntl_dupfd_cloexec(io::stdin(), i32::try_from(last).expect("it is less than ROOMY"))?);
    Ok(())
}

/// The file table gets this size while the process has one thread. When it grows later, a thread waits until every CPU
/// has passed through the kernel, which takes a second on a busy machine.
const ROOMY: u64 = 16_384;

/// Returns the CPUs that this process may use.
pub fn cpus() -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect(),
        Err(_) => Vec::new(),
    }
}

/// Returns the number of files, including sockets, that a child may open.
pub fn most_files() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Returns the CPU time of all threads of this process, including ended ones.
pub fn cpu_time() -> io::Result<Duration> {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).map_err(|_| io::Error::other("the CPU clock is before zero"))
}

/// Returns the resident memory of this process. `smaps_rollup` walks the page tables; the counters in `statm` can be
/// late by some pages per CPU.
pub fn resident_bytes() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup")?;
    let kibibytes = number_after(&text, "Rss:")
        .ok_or_else(|| io::Error::other("smaps_rollup does not name Rss"))?;
    Ok(kibibytes * 1024)
}

pub fn this_thread() -> ThreadId {
    gettid().as_raw_nonzero().get()
}

/// Returns if the thread sleeps in the kernel, and how often it has gone to sleep.
pub fn is_asleep(thread: ThreadId) -> io::Result<(bool, u64)> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/status"))?;
    let state = text.lines().find_map(|line| line.strip_prefix("State:"));
    let asleep = state.is_some_and(|state| state.trim_start().starts_with('S'));
    let sleeps = number_after(&text, "voluntary_ctxt_switches:").unwrap_or(0);
    Ok((asleep, sleeps))
}

/// Returns how often each thread has gone to sleep, which equals its wake-ups.
pub fn wake_ups() -> io::Result<BTreeMap<ThreadId, u64>> {
    let mut sleeps = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let thread = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(thread) = thread else {
            continue;
        };
        // Skips a thread that has ended since it was listed.
        if let Ok((_, count)) = is_asleep(thread) {
            sleeps.insert(thread, count);
        }
    }
    Ok(sleeps)
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}
