//! How a thread gets at the state that another thread takes again and again.
//!
//! A lock of std goes to the thread that comes first. A thread at the wire, with a peer that keeps it busy, releases
//! the lock for a system call only, and takes it again before a thread that waits for it has woken. So a close, or a
//! deadline that is moved, would have to wait until the peer pauses. Therefore they announce themselves, and a
//! thread at the wire lets them in between two of its rounds.

use std::sync::atomic::{AtomicU32, Ordering};

use super::shared::{Connection, StateGuard};
use super::sync::thread;
use crate::process::PerProcess;

/// How often a thread at the wire offers its processor. A thread that waits needs it a few times at most.
const MAX_YIELDS: u32 = 1000;

/// Threads that wait in [`Connection::state_soon`], by where their socket is in memory. Sockets share these counts, as
/// that costs a needless pause at most, and a count in each would make every idle socket larger. The threads that wait
/// at a fork do not wait in the child.
static LOCK_WAITERS: PerProcess<[AtomicU32; 64]> = PerProcess::new();

impl Connection {
    fn lock_waiters(&self) -> &'static AtomicU32 {
        let address = std::ptr::from_ref(self).addr();
        let lock_waiters = LOCK_WAITERS.get(|_| [const { AtomicU32::new(0) }; 64]);
        &lock_waiters[(address / size_of::<Connection>()) % lock_waiters.len()]
    }

    /// Locks the state for a command or a look. That takes no longer than a round of a thread at the wire.
    pub(super) fn state_soon(&self) -> StateGuard<'_> {
        let lock_waiters = self.lock_waiters();
        lock_waiters.fetch_add(1, Ordering::Relaxed);
        let state = self.state();
        lock_waiters.fetch_sub(1, Ordering::Relaxed);
        state
    }

    /// Lets those in that wait in [`state_soon`](Self::state_soon). The caller does not have the lock.
    pub(super) fn yield_to_waiters(&self) {
        // The model of the schedules lets everybody in by itself, and has no addresses that stay.
        if cfg!(sockeye_shuttle) {
            return;
        }
        for _ in 0..MAX_YIELDS {
            if self.lock_waiters().load(Ordering::Relaxed) == 0 {
                return;
            }
            thread::yield_now();
        }
    }

    /// [`yield_to_waiters`](Self::yield_to_waiters), for a caller that has the lock.
    pub(super) fn yield_state<'a>(&'a self, state: StateGuard<'a>) -> StateGuard<'a> {
        if cfg!(sockeye_shuttle) || self.lock_waiters().load(Ordering::Relaxed) == 0 {
            return state;
        }
        drop(state);
        self.yield_to_waiters();
        self.state()
    }
}
