//! Wires that this side has closed and the peer has not: what still comes is dropped for a while, so
//! that the peer sees FIN and not the reset that the system sends when unread bytes are thrown away.
//!
//! Bounded three ways: by time, by bytes, and by how many there are; at a bound the descriptor is
//! closed, and the rest is the system's.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::sync::{Mutex, MutexGuard};
use super::wire::{Drained, Wire};
use super::{Driver, Job, Urgency};

/// The most wires that linger; the oldest goes first.
const WIRES_MOST: usize = 1024;
/// From so many on, whoever adds one looks after the oldest: where sockets come and go quickly, that
/// keeps few of them, which are still in the caches when they are closed.
const WIRES_FEW: usize = 32;
/// So many looks make the 2 s for which a wire lingers at most.
const LOOKS_MOST: u8 = 20;
/// The most that is dropped of one wire in one look.
const LOOK_BYTES: usize = 64 * 1024;
/// How often lingering wires are looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Its lock guards the list; no other is taken under it, and no system call is made but the ones that
/// drop what came in and close descriptors, which never block.
#[derive(Debug)]
pub(super) struct Lingering {
    wires: Mutex<VecDeque<Lingerer>>,
}

#[derive(Debug)]
struct Lingerer {
    wire: Arc<Wire>,
    looks_left: u8,
    bytes_left: usize,
}

impl Lingerer {
    /// Drops what came in; says whether there is anything left to wait for.
    fn look(&mut self) -> bool {
        let mut budget = self.bytes_left.min(LOOK_BYTES);
        self.bytes_left -= budget;
        let drained = self.wire.drain(&mut budget);
        self.bytes_left += budget;
        match drained {
            Drained::Empty | Drained::More | Drained::Unable => self.bytes_left > 0,
            Drained::End | Drained::Failed(_) => false,
        }
    }
}

impl Lingering {
    pub(super) const fn new() -> Self {
        Lingering { wires: Mutex::new(VecDeque::new()) }
    }

    pub(super) fn add(&self, driver: &Driver, wire: Arc<Wire>, bytes_left: usize) {
        let mut wires = self.lock();
        let full = wires.len() >= WIRES_MOST;
        let crowded = wires.len() >= WIRES_FEW;
        let over = crowded && wires.front_mut().is_some_and(|oldest| !oldest.look());
        let oldest = if over || full { wires.pop_front() } else { None };
        wires.push_back(Lingerer { wire, looks_left: LOOKS_MOST, bytes_left });
        let first = wires.len() == 1;
        drop(wires);
        drop(oldest);
        if first {
            driver.post(Job::Linger, Urgency::Soon);
        }
    }

    /// Looks at every wire, without the lock; says whether any is left.
    pub(super) fn look(&self) -> bool {
        let mut looked_at = std::mem::take(&mut *self.lock());
        looked_at.retain_mut(|lingerer| {
            lingerer.looks_left -= 1;
            lingerer.look() && lingerer.looks_left > 0
        });
        let mut wires = self.lock();
        looked_at.append(&mut wires);
        if looked_at.is_empty() {
            looked_at.shrink_to_fit();
        }
        *wires = looked_at;
        !wires.is_empty()
    }

    /// Closes all, because descriptors are wanted; says whether that gave any.
    pub(super) fn shed(&self) -> bool {
        let wires = std::mem::take(&mut *self.lock());
        !wires.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Lingerer>> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
