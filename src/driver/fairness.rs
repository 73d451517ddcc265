//! How a thread gets at the state that another thread takes again and again.
//!
//! A lock of std goes to the thread that comes first. A thread at the wire, with a peer that keeps it busy, releases
//! the lock for a system call only, and takes it again before a thread that waits for it has woken. So a close, or a
//! deadline that is moved, would have to wait until the peer pauses. Therefore they announce themselves, and a
//! thread at the wire lets them in between two of its rounds.

use std::sync::atomic::{AtomicU32, Ordering};

use super::shared::{Guard, Shared};
use super::sync::thread;
use crate::process::PerProcess;

/// How often a thread at the wire offers its processor. A thread that waits needs it a few times at most.
const YIELDS_MOST: u32 = 1000;

/// Threads that wait in [`Shared::lock_soon`], by where their socket is in memory. Sockets share these counts, as
/// that costs a needless pause at most, and a count in each would make every idle socket larger. The threads that wait
/// at a fork do not wait in the child.
static AWAITED: PerProcess<[AtomicU32; 64]> = PerProcess::new();

impl Shared {
    fn awaited(&self) -> &'static AtomicU32 {
        let address = std::ptr::from_ref(self).addr();
        let awaited = AWAITED.get(|_| [const { AtomicU32::new(0) }; 64]);
        &awaited[(address / size_of::<Shared>()) % awaited.len()]
    }

    /// Locks the state for a command or a look. That takes no longer than a round of a thread at the wire.
    pub(super) fn lock_soon(&self) -> Guard<'_> {
        let awaited = self.awaited();
        awaited.fetch_add(1, Ordering::Relaxed);
        let core = self.lock();
        awaited.fetch_sub(1, Ordering::Relaxed);
        core
    }

    /// Lets those in that wait in [`lock_soon`](Self::lock_soon). The caller does not have the lock.
    pub(super) fn let_others_in(&self) {
        // The model of the schedules lets everybody in by itself, and has no addresses that stay.
        if cfg!(sockeye_shuttle) {
            return;
        }
        for _ in 0..YIELDS_MOST {
            if self.awaited().load(Ordering::Relaxed) == 0 {
                return;
            }
            thread::yield_now();
        }
    }

    /// [`let_others_in`](Self::let_others_in), for a caller that has the lock.
    pub(super) fn release_briefly<'a>(&'a self, core: Guard<'a>) -> Guard<'a> {
        if cfg!(sockeye_shuttle) || self.awaited().load(Ordering::Relaxed) == 0 {
            return core;
        }
        drop(core);
        self.let_others_in();
        self.lock()
    }
}
