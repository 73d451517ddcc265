//! Services of the operating system that only some systems have: CPU affinity, CPU time, memory, threads. Elsewhere
//! these functions return [`io::ErrorKind::Unsupported`](std::io::ErrorKind::Unsupported), and the workload is
//! skipped.

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

/// Prepares a child process: it dies with its parent, is pinned, may open many sockets, and ends at once if a thread
/// panics.
pub fn settle(cpus: &[usize]) {
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        std::process::exit(101);
    }));
    if let Err(error) = here::settle(cpus) {
        panic!("cannot prepare the process: {error}");
    }
}
