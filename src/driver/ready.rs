//! What the loop has to do for sockets, in the order in which it does that: fairly, and for no longer at a time
//! than others can wait.
//!
//! What the poll reports is reported once, so it is kept here until it is served. A socket that has used up its
//! share, and has more to do, goes behind all others. Between two sockets the loop looks whether its turn is
//! over: then timers, commands and new events come first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::clock;
use super::sync::mio::Token;
use super::sync::mio::event::Event;

/// How long the loop is at sockets before it looks at its timers and its commands again.
const ITERATION_TIME: Duration = Duration::from_millis(2);

/// What is known of a wire that is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Readiness {
    /// It may have failed, or the write side ended.
    pub(super) failed: bool,
    /// There may be room to send.
    pub(super) writable: bool,
}

impl Readiness {
    /// Where no event says that something is not so.
    pub(super) const UNKNOWN: Readiness = Readiness { failed: true, writable: true };

    pub(super) fn from_event(event: &Event) -> Self {
        Readiness {
            failed: event.is_error() || event.is_write_closed(),
            writable: event.is_writable() || event.is_error(),
        }
    }

    pub(super) fn union(self, other: Readiness) -> Self {
        Readiness { failed: self.failed || other.failed, writable: self.writable || other.writable }
    }
}

/// Sockets to be looked at, each of them once.
#[derive(Debug, Default)]
pub(super) struct ReadyQueue {
    /// Those with an event.
    reported: VecDeque<Token>,
    /// Those that had more to do than their share, and those with an event that took long the last time.
    unfinished: VecDeque<Token>,
}

impl ReadyQueue {
    pub(super) fn add(&mut self, token: Token) {
        self.reported.push_back(token);
    }

    pub(super) fn add_unfinished(&mut self, token: Token) {
        self.unfinished.push_back(token);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reported.is_empty() && self.unfinished.is_empty()
    }

    /// The next one. Events come first, but every turn has one of each sort.
    pub(super) fn next(&mut self, iteration: &mut Iteration) -> Option<Token> {
        let over = iteration.is_over();
        for (queue, had) in [
            (&mut self.reported, &mut iteration.ran_reported),
            (&mut self.unfinished, &mut iteration.ran_unfinished),
        ] {
            if !over || !std::mem::replace(had, true) {
                if let Some(token) = queue.pop_front() {
                    *had = true;
                    return Some(token);
                }
            }
        }
        None
    }
}

/// One turn of the loop, which is over after a while.
#[derive(Debug)]
pub(super) struct Iteration {
    ends_at: Instant,
    /// Something was done in it for one of which an event told, and for one that was unfinished.
    ran_reported: bool,
    ran_unfinished: bool,
}

impl Iteration {
    pub(super) fn start(now: Instant) -> Self {
        Iteration { ends_at: now + ITERATION_TIME, ran_reported: false, ran_unfinished: false }
    }

    /// Ends it earlier, where something is to be done then.
    pub(super) fn end_by(&mut self, at: Option<Instant>) {
        self.ends_at = at.map_or(self.ends_at, |at| self.ends_at.min(at));
    }

    pub(super) fn is_over(&self) -> bool {
        clock::now() >= self.ends_at
    }

    pub(super) fn ends_at(&self) -> Instant {
        self.ends_at
    }
}

#[cfg(all(test, not(sockeye_shuttle)))]
mod tests {
    use super::*;

    fn ready() -> ReadyQueue {
        let mut ready = ReadyQueue::default();
        ready.add_unfinished(Token(8));
        ready.add_unfinished(Token(9));
        ready.add(Token(1));
        ready.add(Token(2));
        ready
    }

    #[test]
    fn events_come_before_what_is_unfinished() {
        let mut ready = ready();
        let mut iteration = Iteration::start(Instant::now() + Duration::from_secs(3600));
        let order: Vec<_> = std::iter::from_fn(|| ready.next(&mut iteration)).collect();
        assert_eq!(order, [1, 2, 8, 9].map(Token));
        assert!(ready.is_empty());
    }

    #[test]
    fn a_turn_that_is_over_has_one_of_each() {
        let mut ready = ready();
        let over = || {
            let mut iteration = Iteration::start(Instant::now());
            iteration.end_by(Some(Instant::now()));
            assert!(iteration.is_over());
            iteration
        };
        let mut iteration = over();
        let order: Vec<_> = std::iter::from_fn(|| ready.next(&mut iteration)).collect();
        assert_eq!(order, [1, 8].map(Token));
        ready.add_unfinished(Token(8));
        let mut iteration = over();
        let order: Vec<_> = std::iter::from_fn(|| ready.next(&mut iteration)).collect();
        assert_eq!(order, [2, 9].map(Token));
        assert!(!ready.is_empty());
    }
}
