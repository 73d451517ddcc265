//! Keeps closed connections open for a while to drain them. Otherwise unread bytes would make the kernel send a reset.
//!
//! There are three bounds: time, bytes, and the number of wires, which is lower if the process has a low descriptor
//! limit. At a bound the descriptor is closed, and the kernel handles the rest.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::driver::sys::lock_order::{RankedGuard, RankedMutex, rank};
use crate::driver::sys::socket;
use crate::driver::sys::sync::atomic::{AtomicUsize, Ordering};
use crate::driver::sys::wire::{DrainResult, Wire};

/// The maximum number of lingering wires. The oldest is closed first.
const MAX_WIRES: usize = 1024;
/// The number of wires from which adding one also polls the oldest. If sockets come and go quickly, this keeps the
/// queue short, and wires are still in the CPU caches when they are closed.
const EAGER_FROM: usize = 32;
/// The maximum number of polls of a wire. At [`POLL_INTERVAL`] this is 2 s.
const MAX_POLLS: u8 = 20;
/// The maximum number of bytes to drain from one wire in one poll.
const POLL_BUDGET: usize = 64 * 1024;
/// The interval at which the event loop polls lingering wires.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The queue of lingering wires.
///
/// The lock guards the list, and no other lock is taken under it. The only system calls under it are receives that
/// drain a wire, which never block.
#[derive(Debug)]
pub(crate) struct LingerQueue {
    wires: RankedMutex<LingeringWires, { rank::ALONE }>,
    /// The maximum number of wires, from the descriptor limit of the process. 0 if not yet known.
    max: AtomicUsize,
}

#[derive(Debug)]
struct LingeringWires {
    /// The wire that was polled least recently is first.
    wires: VecDeque<LingeringWire>,
    /// Whether a wire is being polled, which is not in the list for that time.
    is_polling_one: bool,
    /// The number of the current or last round of polls.
    round: u32,
}

/// The state of the queue after a round of polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LingerState {
    Empty,
    Waiting,
    /// Some wires were not polled.
    Unfinished,
}

#[derive(Debug)]
struct LingeringWire {
    wire: Arc<Wire>,
    polls_left: u8,
    bytes_left: usize,
    /// The last round in which this wire was polled.
    round: u32,
}

impl LingeringWire {
    /// Drains the wire. Returns whether it should keep lingering.
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
    pub(crate) const fn new() -> Self {
        let list = LingeringWires { wires: VecDeque::new(), is_polling_one: false, round: 0 };
        LingerQueue { wires: RankedMutex::new(list), max: AtomicUsize::new(0) }
    }

    /// Adds a wire. Returns whether the caller has to post
    /// [`Command::PollLingering`](super::Command::PollLingering).
    pub(crate) fn add(&self, wire: Arc<Wire>, bytes_left: usize) -> bool {
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
        first
    }

    /// Polls every wire once, without holding the lock during a poll, until `is_over` returns `true`. The next call
    /// continues an unfinished round.
    pub(crate) fn poll_all(&self, is_over: impl Fn() -> bool) -> LingerState {
        // The program may have changed its limit. It cannot be read while no descriptor is free.
        if let Some(descriptors) = socket::max_descriptors() {
            self.max.store(wires_allowed_by(Some(descriptors)), Ordering::Relaxed);
        }
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
            // A wire that does not stay is closed here, without the lock.
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

    /// Closes all wires, because descriptors are scarce. Returns whether there were any.
    pub(crate) fn close_all(&self) -> bool {
        let wires = std::mem::take(&mut self.lock().wires);
        !wires.is_empty()
    }

    /// Returns the maximum number of wires.
    fn max_wires(&self) -> usize {
        match self.max.load(Ordering::Relaxed) {
            0 => {
                let max = wires_allowed_by(socket::max_descriptors());
                self.max.store(max, Ordering::Relaxed);
                max
            }
            max => max,
        }
    }

    fn lock(&self) -> RankedGuard<'_, LingeringWires, { rank::ALONE }> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LingeringWires {
    fn len(&self) -> usize {
        self.wires.len() + usize::from(self.is_polling_one)
    }
}

/// Returns an eighth of the process's descriptor limit. The rest is for open sockets.
fn wires_allowed_by(descriptors: Option<u64>) -> usize {
    let eighth = descriptors.map_or(MAX_WIRES, |all| usize::try_from(all / 8).unwrap_or(MAX_WIRES));
    eighth.clamp(1, MAX_WIRES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_an_eighth_of_the_descriptors_and_1024_may_linger() {
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
