//! The lowest room of the driver: every system call, every condition on the platform, locks, threads and the clock.

pub(crate) mod bind_options;
pub(crate) mod clock;
pub(crate) mod connecting;
pub(crate) mod descriptor;
pub(crate) mod errno;
pub(crate) mod hosts;
pub(crate) mod io_bufs;
pub(crate) mod listen;
pub(crate) mod lock_order;
pub(crate) mod log;
pub(crate) mod lookup;
pub(crate) mod loop_thread;
pub(crate) mod own_poll;
pub(crate) mod per_process;
#[cfg(sockeye_shuttle)]
pub mod shuttle;
pub(crate) mod socket;
pub(crate) mod splice;
pub(crate) mod starvation;
pub(crate) mod sync;
pub(crate) mod thread_mark;
pub(crate) mod unix_domain;
pub(crate) mod wake;
pub(crate) mod wire;

/// Whether connections to addresses use Unix-domain sockets below, so that tests of TCP test those.
pub(crate) const ALWAYS_UNIX: bool = cfg!(sockeye_unix);

/// Whether the layers below the driver are the model of `shuttle`.
pub(crate) const IS_MODEL: bool = cfg!(sockeye_shuttle);

/// Returns whether a panic is ending a run of the model. No thread may take a lock then.
pub(crate) fn is_run_failing() -> bool {
    IS_MODEL && std::thread::panicking()
}

/// Returns whether a run of the model is over, so that the event loop must end. A real event loop never ends.
#[cfg(not(sockeye_shuttle))]
pub(crate) fn is_run_over() -> bool {
    false
}

#[cfg(sockeye_shuttle)]
pub(crate) use self::shuttle::is_over as is_run_over;
