//! Where the driver has its locks, threads and system calls from: the standard library and mio.
//!
//! With `--cfg sockeye_shuttle` all of them are those of the `model`, under which
//! `tests/schedules` runs this very code through the interleavings of its threads.

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
    super::model::mio,
    super::model::sync::{Condvar, HashMap, HashSet, Mutex, MutexGuard},
    shuttle::sync::atomic,
    shuttle::{thread, thread_local},
};
