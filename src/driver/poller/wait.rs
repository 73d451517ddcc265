//! Waits for the keys of a poller: takes them out of the queue, and asks their sources.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::queue::{Candidate, PollerState};
use super::{PollerInner, WatchId};
use crate::driver::sys::lock_order::{RankedGuard, rank};
use crate::driver::sys::loop_thread::check_may_block;
use crate::driver::sys::own_poll::OwnPoll;
use crate::driver::sys::{self, clock};
use crate::error::{Error, Result};
use crate::poll::{Event, Events};

type StateGuard<'a> = RankedGuard<'a, PollerState, { rank::UNDER_STATE }>;

/// The time for which a wait may look at keys beyond its limit. The rest is for the next wait.
const MAX_OVERRUN: Duration = Duration::from_millis(10);

impl PollerInner {
    /// Waits until a key is ready, until `until`, or until a wake.
    pub(crate) fn wait(&self, events: &mut Events, until: Until) -> Result<()> {
        self.check_process()?;
        let mut state = self.lock();
        state.waiting += 1;
        if !planted!(PollerForgetsLevel) {
            state.queue_level();
        }
        let candidates = std::mem::take(&mut state.spare);
        let mut looks = Looks { poller: self, candidates };
        // Keys that are always ready do not hide those that the kernel reports.
        let mut is_polled = self.registrations.is_none();
        if !state.queue.is_empty() && !is_polled {
            let result;
            (state, result) = self.sleep(state, Some(Duration::ZERO));
            is_polled = true;
            if let Err(error) = result {
                // The end of the looks takes the lock.
                drop(state);
                return Err(error);
            }
        }
        // What is queued now is looked at, however little time there is.
        let mut looks_left = state.queue.len();
        let result = loop {
            state.take(events.capacity(), &mut looks.candidates);
            looks_left = looks_left.saturating_sub(looks.candidates.len()).min(state.queue.len());
            if !looks.candidates.is_empty() {
                // The kernel may report more in the meantime.
                let notice = state.notice_to_successor();
                drop(state);
                if let Some(notice) = notice {
                    self.notify(notice);
                }
                let level = looks.check(events, until);
                state = self.lock();
                state.level.extend(level);
                if !looks.candidates.is_empty() {
                    // They took too long. The next wait looks at the rest.
                    looks_left = 0;
                    for candidate in &looks.candidates {
                        state.enqueue(candidate.id);
                    }
                    drop(state);
                    looks.candidates.clear();
                    state = self.lock();
                }
            }
            if !events.is_empty() || state.wakes > 0 {
                state.wakes = state.wakes.saturating_sub(1);
                break Ok(());
            }
            if looks_left > 0 {
                continue;
            }
            let left = match until.left() {
                Left::Over if is_polled => break Ok(()),
                Left::Over => Some(Duration::ZERO),
                Left::Some(left) => Some(left),
                Left::Forever => None,
            };
            if !state.queue.is_empty() {
                continue;
            }
            if let (Some(1..) | None, Err(error)) =
                (left.map(|it| it.as_nanos()), check_may_block())
            {
                break Err(error);
            }
            let result;
            (state, result) = self.sleep(state, left);
            is_polled = true;
            looks_left = state.queue.len();
            if let Err(error) = result {
                break Err(error);
            }
        };
        state.spare = std::mem::take(&mut looks.candidates);
        drop(state);
        // Its drop ends the wait.
        drop(looks);
        result
    }

    /// Sleeps until a key is queued, a notice comes, or the limit has passed; in the poller's own epoll(7) if that is free.
    fn sleep<'a>(
        &'a self,
        mut state: StateGuard<'a>,
        limit: Option<Duration>,
    ) -> (StateGuard<'a>, Result<()>) {
        let limit = limit.map(|limit| limit.min(clock::MAX_WAIT));
        match state.own.take() {
            Some(own) => self.poll(state, own, limit),
            None if limit == Some(Duration::ZERO) => (state, Ok(())),
            None => (self.await_notice(state, limit), Ok(())),
        }
    }

    fn poll<'a>(
        &'a self,
        mut state: StateGuard<'a>,
        mut own: Box<OwnPoll>,
        limit: Option<Duration>,
    ) -> (StateGuard<'a>, Result<()>) {
        state.polling = limit != Some(Duration::ZERO);
        state.polling_notified = false;
        drop(state);
        let number = self.begin_poll();
        let result = own.wait(limit);
        let mut state = self.lock();
        state.polling = false;
        if result.is_ok() {
            own.found().for_each(|(key, found)| state.enqueue_found(key, found, number));
        }
        state.own = Some(own);
        (state, result.map_err(Error::from))
    }

    fn await_notice<'a>(
        &self,
        mut state: StateGuard<'a>,
        limit: Option<Duration>,
    ) -> StateGuard<'a> {
        state.asleep += 1;
        let mut state = match limit {
            Some(limit) => match self.ready.wait_timeout(state, limit) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            },
            None => self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        state.asleep -= 1;
        state.notified = state.notified.saturating_sub(1);
        state
    }
}

/// The looks of one wait. Dropping it ends the wait, also if a panic interrupts a look.
struct Looks<'a> {
    poller: &'a PollerInner,
    /// The watches to look at, in order.
    candidates: VecDeque<Candidate>,
}

impl Looks<'_> {
    /// Looks at the watches. Stops early if that takes [`MAX_OVERRUN`] and the wait is over. Returns those to look at again
    /// in the next wait, because they are level-triggered.
    fn check(&mut self, events: &mut Events, until: Until) -> Vec<WatchId> {
        let mut level = Vec::new();
        let begun = match until {
            Until::At(_) => Some(clock::now()),
            Until::Forever => None,
        };
        while let Some(Candidate { source, id, reported }) = self.candidates.pop_front() {
            if let Some(report) = source.check_watch(self.poller, id, reported) {
                events.push(Event::new(id.key, report.ready));
                if report.is_level {
                    level.push(id);
                }
            }
            let is_long = begun.is_some_and(|begun| clock::now() - begun >= MAX_OVERRUN);
            if is_long && matches!(until.left(), Left::Over) {
                break;
            }
        }
        level
    }
}

impl Drop for Looks<'_> {
    fn drop(&mut self) {
        if sys::is_run_failing() {
            return;
        }
        let mut state = self.poller.lock();
        for Candidate { id, .. } in &self.candidates {
            state.enqueue(*id);
        }
        state.shrink();
        state.waiting -= 1;
        // A thread that was woken for a key may have left for another reason.
        let is_left = !state.queue.is_empty() || state.wakes > 0;
        let notice = if is_left { state.notice() } else { state.notice_to_successor() };
        drop(state);
        if let Some(notice) = notice {
            self.poller.notify(notice);
        }
    }
}

/// The end of a wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Forever,
    At(Instant),
}

enum Left {
    Forever,
    Some(Duration),
    Over,
}

impl Until {
    /// Returns the end of a wait that begins now.
    pub(crate) fn after(limit: Option<Duration>) -> Self {
        // An instant that cannot be represented never comes.
        match limit.and_then(|limit| clock::now().checked_add(limit)) {
            Some(at) => Until::At(at),
            None => Until::Forever,
        }
    }

    fn left(self) -> Left {
        let Until::At(at) = self else { return Left::Forever };
        match at.saturating_duration_since(clock::now()) {
            Duration::ZERO => Left::Over,
            left => Left::Some(left),
        }
    }
}
