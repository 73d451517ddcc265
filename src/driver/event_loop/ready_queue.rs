//! The event loop's queue of ready sockets. It serves them fairly, and for a bounded time before other work.
//!
//! The kernel reports readiness once, so the queue keeps it until the socket is served. A socket that has used up its
//! share and has more to do goes to the end of the queue. Between two sockets the loop checks whether the iteration is
//! over. If it is, timers, commands and new events come first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::driver::sys::clock;
use crate::driver::sys::sync::mio::Token;
use crate::driver::sys::sync::mio::event::Event;

/// The time for which the loop serves sockets before it checks its timers and commands again.
const ITERATION_TIME: Duration = Duration::from_millis(2);

/// The reported readiness of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// The wire may have failed, or its write side may be closed.
    pub(crate) failed: bool,
    /// The send buffer may have room.
    pub(crate) writable: bool,
}

impl Readiness {
    /// The readiness to assume without an event: anything may have happened.
    pub(crate) const UNKNOWN: Readiness = Readiness { failed: true, writable: true };

    pub(crate) fn from_event(event: &Event) -> Self {
        Readiness {
            failed: event.is_error() || event.is_write_closed(),
            writable: event.is_writable() || event.is_error(),
        }
    }

    pub(crate) fn union(self, other: Readiness) -> Self {
        Readiness { failed: self.failed || other.failed, writable: self.writable || other.writable }
    }
}

/// The sockets to run. Each is in here at most once.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue {
    /// Sockets with an event.
    reported: VecDeque<Token>,
    /// Sockets that used up their share, and busy sockets with an event.
    unfinished: VecDeque<Token>,
}

impl ReadyQueue {
    pub(crate) fn add(&mut self, token: Token) {
        self.reported.push_back(token);
    }

    pub(crate) fn add_unfinished(&mut self, token: Token) {
        self.unfinished.push_back(token);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.reported.is_empty() && self.unfinished.is_empty()
    }

    /// Takes the next socket. Sockets with an event come first, but every iteration serves at least one of each queue.
    pub(crate) fn next(&mut self, iteration: &mut Iteration) -> Option<Token> {
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

/// One iteration of the event loop, which has a time limit.
#[derive(Debug)]
pub(crate) struct Iteration {
    ends_at: Instant,
    /// Whether this iteration ran a socket with an event, and one that was unfinished.
    ran_reported: bool,
    ran_unfinished: bool,
}

impl Iteration {
    pub(crate) fn start(now: Instant) -> Self {
        Iteration { ends_at: now + ITERATION_TIME, ran_reported: false, ran_unfinished: false }
    }

    /// Moves the end of the iteration forward to `at`, if that is earlier.
    pub(crate) fn end_by(&mut self, at: Option<Instant>) {
        self.ends_at = at.map_or(self.ends_at, |at| self.ends_at.min(at));
    }

    pub(crate) fn is_over(&self) -> bool {
        clock::now() >= self.ends_at
    }

    pub(crate) fn ends_at(&self) -> Instant {
        self.ends_at
    }
}

#[cfg(test)]
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
    fn sockets_with_events_run_before_unfinished_ones() {
        let mut ready = ready();
        let mut iteration = Iteration::start(Instant::now() + Duration::from_secs(3600));
        let order: Vec<_> = std::iter::from_fn(|| ready.next(&mut iteration)).collect();
        assert_eq!(order, [1, 2, 8, 9].map(Token));
        assert!(ready.is_empty());
    }

    #[test]
    fn an_iteration_that_is_over_still_runs_one_socket_of_each_queue() {
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
