//! Re-exports locks, threads and mio: the real ones, or shuttle's models with `--cfg sockeye_shuttle`.
//!
//! With `--cfg sockeye_shuttle` they come from `shuttle`. `tests/schedules` then runs the driver's code through many
//! interleavings of its threads.

#[cfg(not(sockeye_shuttle))]
pub(crate) use ::mio;
#[cfg(not(sockeye_shuttle))]
pub(crate) use {
    std::collections::{HashMap, HashSet},
    std::sync::mpsc,
    std::sync::{Condvar, Mutex, MutexGuard, atomic},
    std::{thread, thread_local},
};

#[cfg(sockeye_shuttle)]
pub(crate) use {
    crate::driver::sys::shuttle::mio,
    crate::driver::sys::shuttle::sync::{Condvar, HashMap, HashSet, Mutex, MutexGuard},
    shuttle::sync::atomic,
    shuttle::sync::mpsc,
    shuttle::{thread, thread_local},
};

#[cfg(all(debug_assertions, sockeye_shuttle))]
pub(crate) use crate::driver::sys::shuttle::sync::TimedOut as WaitTimeoutResult;
#[cfg(all(debug_assertions, not(sockeye_shuttle)))]
pub(crate) use std::sync::WaitTimeoutResult;
