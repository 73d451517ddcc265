//! Wires that this side has closed and the peer has not: what still comes is dropped for a while, so
//! that the peer sees FIN and not the reset that the system sends when unread bytes are thrown away.
//!
//! Bounded three ways: by time, by bytes, and by how many there are, which is less where the process may have few
//! descriptors; at a bound the descriptor is closed, and the rest is the system's.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::sync::atomic::{AtomicUsize, Ordering};
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
/// drop what came in, which never block.
#[derive(Debug)]
pub(super) struct Lingering {
    list: Mutex<List>,
    /// The most that there may be, by what descriptors the process may have; none where nobody has asked.
    most: AtomicUsize,
}

#[derive(Debug)]
struct List {
    /// Those that were not looked at for the longest time come first.
    wires: VecDeque<Lingerer>,
    /// One is being looked at, outside of the list.
    out: bool,
    /// The number of the look that goes on, or was the last.
    round: u32,
}

/// What is left after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lingers {
    Nothing,
    Something,
    /// It was not all looked at.
    Unfinished,
}

#[derive(Debug)]
struct Lingerer {
    wire: Arc<Wire>,
    looks_left: u8,
    bytes_left: usize,
    /// The last look that it has seen.
    round: u32,
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
        let list = List { wires: VecDeque::new(), out: false, round: 0 };
        Lingering { list: Mutex::new(list), most: AtomicUsize::new(0) }
    }

    pub(super) fn add(&self, driver: &Driver, wire: Arc<Wire>, bytes_left: usize) {
        let most = self.most();
        let mut list = self.lock();
        let crowded = list.wires.len() >= WIRES_FEW;
        let over = crowded && list.wires.front_mut().is_some_and(|oldest| !oldest.look());
        let oldest = if over { list.wires.pop_front() } else { None };
        let lingerer = Lingerer { wire, looks_left: LOOKS_MOST, bytes_left, round: list.round };
        list.wires.push_back(lingerer);
        let surplus = list.len().saturating_sub(most).min(list.wires.len());
        let surplus: Vec<Lingerer> = list.wires.drain(..surplus).collect();
        let first = list.len() == 1;
        drop(list);
        drop((oldest, surplus));
        if first {
            driver.post(Job::Linger, Urgency::Soon);
        }
    }

    /// Looks at every wire, one after another and without the lock, until it `is_over`. One that is cut short goes
    /// on with the next call.
    pub(super) fn look(&self, is_over: impl Fn() -> bool) -> Lingers {
        self.most.store(most_wires(), Ordering::Relaxed);
        let mut over = false;
        let mut list = self.lock();
        if list.wires.front().is_some_and(|front| front.round == list.round) {
            list.round = list.round.wrapping_add(1);
        }
        let round = list.round;
        while list.wires.front().is_some_and(|front| front.round != round) {
            if over {
                return Lingers::Unfinished;
            }
            let Some(mut lingerer) = list.wires.pop_front() else { break };
            list.out = true;
            drop(list);
            lingerer.round = round;
            lingerer.looks_left -= 1;
            let stays = lingerer.look() && lingerer.looks_left > 0;
            // What does not stay is closed here.
            let stays = stays.then_some(lingerer);
            over = is_over();
            list = self.lock();
            list.out = false;
            list.wires.extend(stays);
        }
        if list.wires.is_empty() {
            list.wires.shrink_to_fit();
            return Lingers::Nothing;
        }
        Lingers::Something
    }

    /// Closes all, because descriptors are wanted; says whether that gave any.
    pub(super) fn shed(&self) -> bool {
        let wires = std::mem::take(&mut self.lock().wires);
        !wires.is_empty()
    }

    /// How many there may be.
    fn most(&self) -> usize {
        match self.most.load(Ordering::Relaxed) {
            0 => {
                let most = most_wires();
                self.most.store(most, Ordering::Relaxed);
                most
            }
            most => most,
        }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn len(&self) -> usize {
        self.wires.len() + usize::from(self.out)
    }
}

/// An eighth of the descriptors that the process may have now: the others are for what lives.
fn most_wires() -> usize {
    #[cfg(all(unix, not(sockeye_shuttle)))]
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(all(unix, not(sockeye_shuttle))))]
    let descriptors = None;
    bounded_by(descriptors)
}

fn bounded_by(descriptors: Option<u64>) -> usize {
    let eighth =
        descriptors.map_or(WIRES_MOST, |all| usize::try_from(all / 8).unwrap_or(WIRES_MOST));
    eighth.clamp(1, WIRES_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eighth_of_the_descriptors_may_linger_and_never_more_than_1024() {
        for (descriptors, most) in [
            (Some(0), 1),
            (Some(7), 1),
            (Some(256), 32),
            (Some(1_024), 128),
            (Some(20_000), 1_024),
            (Some(u64::MAX), 1_024),
            (None, 1_024),
        ] {
            assert_eq!(bounded_by(descriptors), most, "{descriptors:?}");
        }
    }
}
