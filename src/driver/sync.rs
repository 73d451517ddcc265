//! Re-exports locks, threads and mio: the real ones, or shuttle's models with `--cfg sockeye_shuttle`.
//!
//! With `--cfg sockeye_shuttle` they come from `shuttle`. `tests/schedules` then runs the driver's code through many
//! interleavings of its threads.

#[cfg(not(sockeye_shuttle))]
pub(super) use ::mio;
#[cfg(not(sockeye_shuttle))]
pub(super) use {
    std::collections::{HashMap, HashSet},
    std::sync::{Condvar, Mutex, MutexGuard, atomic},
    std::{thread, thread_local},
};

#[cfg(sockeye_shuttle)]
pub(super) use {
    super::shuttle::mio,
    super::shuttle::sync::{Condvar, HashMap, HashSet, Mutex, MutexGuard},
    shuttle::sync::atomic,
    shuttle::{thread, thread_local},
};
