//! What the operating system is asked for and only some can tell: placement, CPU time, memory, threads.
//! Where it cannot, the answer is [`io::ErrorKind::Unsupported`](std::io::ErrorKind::Unsupported), and the
//! workload that asked is skipped.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use self::linux as here;

#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(not(target_os = "linux"))]
use self::other as here;

pub use self::here::{
    ThreadId, cpu_time, cpus, is_asleep, most_files, resident_bytes, this_thread, wake_ups,
};

/// What every child process does first: dies with its parent, is pinned, may open many sockets, and
/// ends at once when one of its threads panics.
pub fn settle(cpus: &[usize]) {
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        std::process::exit(101);
    }));
    if let Err(error) = here::settle(cpus) {
        panic!("cannot settle the process: {error}");
    }
}
