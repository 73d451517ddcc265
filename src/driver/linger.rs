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
use super::wire::{DrainResult, Wire};
use super::{Command, LoopHandle, Urgency};

/// The most wires that linger; the oldest goes first.
const MAX_WIRES: usize = 1024;
/// From so many on, whoever adds one looks after the oldest: where sockets come and go quickly, that
/// keeps few of them, which are still in the caches when they are closed.
const EAGER_FROM: usize = 32;
/// So many looks make the 2 s for which a wire lingers at most.
const MAX_POLLS: u8 = 20;
/// The most that is dropped of one wire in one look.
const POLL_BUDGET: usize = 64 * 1024;
/// How often lingering wires are looked at.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Its lock guards the list; no other is taken under it, and no system call is made but the ones that
/// drop what came in, which never block.
#[derive(Debug)]
pub(super) struct LingerQueue {
    wires: Mutex<LingeringWires>,
    /// The most that there may be, by what descriptors the process may have; none where nobody has asked.
    max: AtomicUsize,
}

#[derive(Debug)]
struct LingeringWires {
    /// Those that were not looked at for the longest time come first.
    wires: VecDeque<LingeringWire>,
    /// One is being looked at, outside of the list.
    is_polling_one: bool,
    /// The number of the look that goes on, or was the last.
    round: u32,
}

/// What is left after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LingerState {
    Empty,
    Waiting,
    /// It was not all looked at.
    Unfinished,
}

#[derive(Debug)]
struct LingeringWire {
    wire: Arc<Wire>,
    polls_left: u8,
    bytes_left: usize,
    /// The last look that it has seen.
    round: u32,
}

impl LingeringWire {
    /// Drops what came in; says whether there is anything left to wait for.
    fn poll(&mut self) -> bool {
        let mut budget = self.bytes_left.min(POLL_BUDGET);
        self.bytes_left -= budget;
        let drained = self.wire.drain(&mut budget);
        self.bytes_left += budget;
        match drained {
            DrainResult::Empty | DrainResult::More | DrainResult::Unable => self.bytes_left > 0,
            DrainResult::Eof | DrainResult::Failed(_) => false,
        }
    }
}

impl LingerQueue {
    pub(super) const fn new() -> Self {
        let list = LingeringWires { wires: VecDeque::new(), is_polling_one: false, round: 0 };
        LingerQueue { wires: Mutex::new(list), max: AtomicUsize::new(0) }
    }

    pub(super) fn add(&self, loop_handle: &LoopHandle, wire: Arc<Wire>, bytes_left: usize) {
        let max = self.max_wires();
        let mut list = self.lock();
        let crowded = list.wires.len() >= EAGER_FROM;
        let over = crowded && list.wires.front_mut().is_some_and(|oldest| !oldest.poll());
        let oldest = if over { list.wires.pop_front() } else { None };
        let lingering =
            LingeringWire { wire, polls_left: MAX_POLLS, bytes_left, round: list.round };
        list.wires.push_back(lingering);
        let surplus = list.len().saturating_sub(max).min(list.wires.len());
        let surplus: Vec<LingeringWire> = list.wires.drain(..surplus).collect();
        let first = list.len() == 1;
        drop(list);
        drop((oldest, surplus));
        if first {
            loop_handle.post(Command::PollLingering, Urgency::Soon);
        }
    }

    /// Looks at every wire, one after another and without the lock, until it `is_over`. One that is cut short goes
    /// on with the next call.
    pub(super) fn poll_all(&self, is_over: impl Fn() -> bool) -> LingerState {
        self.max.store(wires_allowed(), Ordering::Relaxed);
        let mut over = false;
        let mut list = self.lock();
        if list.wires.front().is_some_and(|front| front.round == list.round) {
            list.round = list.round.wrapping_add(1);
        }
        let round = list.round;
        while list.wires.front().is_some_and(|front| front.round != round) {
            if over {
                return LingerState::Unfinished;
            }
            let Some(mut lingering) = list.wires.pop_front() else { break };
            list.is_polling_one = true;
            drop(list);
            lingering.round = round;
            lingering.polls_left -= 1;
            let stays = lingering.poll() && lingering.polls_left > 0;
            // What does not stay is closed here.
            let stays = stays.then_some(lingering);
            over = is_over();
            list = self.lock();
            list.is_polling_one = false;
            list.wires.extend(stays);
        }
        if list.wires.is_empty() {
            list.wires.shrink_to_fit();
            return LingerState::Empty;
        }
        LingerState::Waiting
    }

    /// Closes all, because descriptors are wanted; says whether that gave any.
    pub(super) fn close_all(&self) -> bool {
        let wires = std::mem::take(&mut self.lock().wires);
        !wires.is_empty()
    }

    /// How many there may be.
    fn max_wires(&self) -> usize {
        match self.max.load(Ordering::Relaxed) {
            0 => {
                let max = wires_allowed();
                self.max.store(max, Ordering::Relaxed);
                max
            }
            max => max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, LingeringWires> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LingeringWires {
    fn len(&self) -> usize {
        self.wires.len() + usize::from(self.is_polling_one)
    }
}

/// An eighth of the descriptors that the process may have now: the others are for what lives.
fn wires_allowed() -> usize {
    #[cfg(all(unix, not(sockeye_shuttle)))]
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(all(unix, not(sockeye_shuttle))))]
    let descriptors = None;
    wires_allowed_by(descriptors)
}

fn wires_allowed_by(descriptors: Option<u64>) -> usize {
    let eighth = descriptors.map_or(MAX_WIRES, |all| usize::try_from(all / 8).unwrap_or(MAX_WIRES));
    eighth.clamp(1, MAX_WIRES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eighth_of_the_descriptors_may_linger_and_never_more_than_1024() {
        for (descriptors, max) in [
            (Some(0), 1),
            (Some(7), 1),
            (Some(256), 32),
            (Some(1_024), 128),
            (Some(20_000), 1_024),
            (Some(u64::MAX), 1_024),
            (None, 1_024),
        ] {
            assert_eq!(wires_allowed_by(descriptors), max, "{descriptors:?}");
        }
    }
}
