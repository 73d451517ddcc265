//! The lowest room of the driver: every system call, every condition on the platform, locks, threads and the clock.

pub(crate) mod clock;
pub(crate) mod descriptor;
pub(crate) mod errno;
pub(crate) mod io_bufs;
pub(crate) mod log;
pub(crate) mod lookup;
pub(crate) mod loop_thread;
#[cfg(sockeye_shuttle)]
pub mod shuttle;
pub(crate) mod sync;
pub(crate) mod wake;
pub(crate) mod wire;
