//! The handle with which one thread ends another thread's wait in poll(2), and the sides of a socket.
//!
//! On Unix the caller's thread polls two descriptors: the wire, and a wake handle that belongs to the thread. On other
//! systems, or if no handle can be created, [`WakeHandle::current`] returns `None`. The caller then waits on the
//! socket's condition variable, and the event loop monitors the wire for it.

#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(sockeye_bsd, sockeye_shuttle, sockeye_condvar))
))]
mod eventfd;
#[cfg(not(all(unix, not(sockeye_condvar))))]
mod none;
#[cfg(all(unix, not(sockeye_condvar)))]
mod poll;
#[cfg(all(
    unix,
    any(sockeye_bsd, not(any(target_os = "linux", target_os = "android"))),
    not(any(sockeye_shuttle, sockeye_condvar))
))]
mod socket_pair;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::wire::Wire;

/// The direction for which a thread waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Read,
    Write,
}

/// The reason why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(all(unix, not(sockeye_condvar))),
    expect(dead_code, reason = "without a wake handle no thread polls")
)]
pub(crate) enum PollResult {
    /// The wire is ready.
    Ready,
    /// The wire may not be ready: another thread woke this one, the time limit passed, or the wake-up was spurious.
    Recheck,
}

#[cfg(not(all(unix, not(sockeye_condvar))))]
pub(crate) use self::none::WakeHandle;
#[cfg(all(unix, not(sockeye_condvar)))]
pub(crate) use self::poll::WakeHandle;
