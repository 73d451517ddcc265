//! Fair access to a socket's state while another thread keeps taking its lock.
//!
//! A std lock goes to the thread that takes it first. A thread in I/O with a busy peer releases the lock only for a
//! system call. It takes the lock again before a waiting thread has woken. So a close or a change of the deadline would
//! wait until the peer pauses. Therefore such calls announce themselves, and the thread in I/O yields to them between
//! two rounds.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{Connection, StateGuard};
use crate::driver::sys;
use crate::driver::sys::sync::thread;
use crate::process::PerProcess;

/// The maximum number of yields of a thread in I/O. A waiting thread needs only a few.
const MAX_YIELDS: u32 = 1000;

/// The numbers of threads that wait in [`Connection::state_soon`], by the address of their socket. Several sockets may
/// share a counter, which costs at most a needless pause. A counter in each socket would make every idle socket larger.
/// Counters are per process, because threads that wait at a fork do not wait in the child.
static LOCK_WAITERS: PerProcess<[AtomicU32; 64]> = PerProcess::new();

impl Connection {
    fn lock_waiters(&self) -> &'static AtomicU32 {
        let address = std::ptr::from_ref(self).addr();
        let lock_waiters = LOCK_WAITERS.get(|_| [const { AtomicU32::new(0) }; 64]);
        &lock_waiters[(address / size_of::<Connection>()) % lock_waiters.len()]
    }

    /// Locks the state for a short call. Waits for at most one round of a thread in I/O.
    pub(crate) fn state_soon(&self) -> StateGuard<'_> {
        let lock_waiters = self.lock_waiters();
        lock_waiters.fetch_add(1, Ordering::Relaxed);
        let state = self.state();
        lock_waiters.fetch_sub(1, Ordering::Relaxed);
        state
    }

    /// Yields to threads that wait in [`state_soon`](Self::state_soon). The caller must not hold the lock.
    pub(crate) fn yield_to_waiters(&self) {
        // The model's scheduler is fair by itself, and its addresses differ from run to run.
        if sys::IS_MODEL {
            return;
        }
        for _ in 0..MAX_YIELDS {
            if self.lock_waiters().load(Ordering::Relaxed) == 0 {
                return;
            }
            thread::yield_now();
        }
    }

    /// Releases the lock for [`yield_to_waiters`](Self::yield_to_waiters) if a thread waits, and takes it again.
    pub(crate) fn yield_state<'a>(&'a self, state: StateGuard<'a>) -> StateGuard<'a> {
        if sys::IS_MODEL || self.lock_waiters().load(Ordering::Relaxed) == 0 {
            return state;
        }
        drop(state);
        self.yield_to_waiters();
        self.state()
    }
}
