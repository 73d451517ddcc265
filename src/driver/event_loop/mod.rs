//! The event loop. Each iteration polls, and then executes commands, handles events and fires due timers.
//!
//! An iteration is short even under load. Work that it does not finish stays queued for the next one. So a timer or a
//! command of one socket waits only for a bounded amount of other sockets' work.

mod attempts;
pub(crate) mod callback_threads;
pub(crate) mod handle;
pub(crate) mod idle_list;
pub(crate) mod linger;
pub(crate) mod ready_queue;
mod registrations;
pub(crate) mod source;
pub(crate) mod timers;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use self::attempts::{Pending, PendingAttempt, PendingTimer};
use self::handle::StallCheck;
use self::idle_list::{IDLE_DELAY, Taken};
use self::linger::{LingerState, POLL_INTERVAL};
use self::ready_queue::{Iteration, Readiness, ReadyQueue};
use self::registrations::Registered;
use self::source::{LoopTicket, fail_on_panic};
use self::timers::Timers;
use crate::driver::slab::{RETAINED_CAPACITY, Slab};
use crate::driver::sys::log::log_debug;
use crate::driver::sys::loop_thread::mark_loop_thread;
use crate::driver::sys::sync::mio::{Events, Poll, Token};
use crate::driver::sys::sync::thread;
use crate::driver::sys::{self, clock};
use crate::panic::catch_panic;
use crate::process::ForkMark;

pub(crate) use self::handle::{Command, LoopHandle, LoopState, Urgency, is_forked_child};
#[cfg(test)]
pub(crate) use crate::driver::sys::loop_thread::run_as_loop_thread;
pub(crate) use crate::driver::sys::loop_thread::{
    check_may_block, is_loop_thread, would_block_error,
};

/// The token of the waker. The slab never produces it.
pub(crate) const WAKER_TOKEN: Token = Token(usize::MAX);

/// The maximum number of events that one poll reports.
const MAX_EVENTS: usize = 256;
/// The maximum number of timers that fire in one iteration.
const MAX_TIMERS: usize = 256;
/// The pause after a poll that failed.
const POLL_RETRY_DELAY: Duration = Duration::from_millis(10);
/// The interval of the stall checks.
const STALL_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Runs the event loop until the process exits.
pub(crate) fn run(poll: Poll, loop_handle: &'static LoopHandle, mark: ForkMark) {
    mark_loop_thread(mark.clone());
    let mut this = EventLoop {
        loop_handle,
        poll,
        slab: Slab::new(),
        timers: Timers::default(),
        idle_scan_at: None,
        scan_buffer: Vec::with_capacity(RETAINED_CAPACITY),
        scan_again: false,
        commands: VecDeque::new(),
        ready_queue: ReadyQueue::default(),
        pending: BTreeMap::new(),
        stall_check: None,
        linger_poll_at: None,
    };
    let mut events = Events::with_capacity(MAX_EVENTS);
    loop {
        catch_and_log(|| this.run_once(&mut events));
        if mark.is_forked() {
            // A logger forked, and its child returned here. The sockets belong to the parent.
            return;
        }
        if sys::is_run_over() {
            return this.assert_idle();
        }
    }
}

struct EventLoop {
    loop_handle: &'static LoopHandle,
    poll: Poll,
    slab: Slab<LoopEntry>,
    timers: Timers,
    /// The time of the next scan of the idle list, if one is scheduled.
    idle_scan_at: Option<Instant>,
    /// Sockets that were taken from the idle list and not yet processed. The buffer keeps its capacity, because reads
    /// must not cause allocations.
    scan_buffer: Vec<Taken>,
    /// Whether the last scan left idle sockets in the list.
    scan_again: bool,
    /// Commands that were taken from the queue and not yet executed, in order.
    commands: VecDeque<Command>,
    /// Registered sources to run.
    ready_queue: ReadyQueue,
    /// The attempts and timers of the sources, by ticket.
    pending: BTreeMap<LoopTicket, Pending>,
    /// The next stall check and its time, if one is wanted.
    stall_check: Option<(Instant, StallCheck)>,
    linger_poll_at: Option<Instant>,
}

/// An object that has a token.
#[derive(Debug)]
enum LoopEntry {
    /// A source whose wire is registered.
    Registered(Registered),
    /// A pending connection attempt.
    Attempt(Box<PendingAttempt>),
    /// The timer of a source.
    Timer(Box<PendingTimer>),
}

impl EventLoop {
    /// Checks that nothing is left when a model run ends.
    fn assert_idle(mut self) {
        loop {
            self.loop_handle.callback_threads().wait_idle();
            self.take_commands();
            if self.commands.is_empty() {
                break;
            }
            // A command may give the threads work.
            while let Some(command) = self.commands.pop_front() {
                self.execute(command, clock::now());
            }
        }
        assert!(self.slab.is_empty(), "the loop still holds {:?}", self.slab);
        assert_eq!(self.timers.next(), None);
        assert!(self.pending.is_empty(), "the loop still tracks {:?}", self.pending);
    }

    fn run_once(&mut self, events: &mut Events) {
        let timeout = self.poll_timeout(clock::now());
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(error) => {
                events.clear();
                log_debug(format_args!("the event loop cannot poll: {error}"));
                // Timers and commands are served in the meantime, but a poll that keeps failing must not spin.
                thread::sleep(POLL_RETRY_DELAY);
            }
        }
        self.take_commands();
        let now = clock::now();
        let mut iteration = Iteration::start(now);
        self.run_commands(&iteration);
        for event in events.iter() {
            let readiness = Readiness::from_event(event);
            catch_and_log(|| self.dispatch(event.token(), readiness));
        }
        let now = clock::now();
        for _ in 0..MAX_TIMERS {
            let Some(token) = self.timers.pop_due(now) else { break };
            catch_and_log(|| self.fire_timer(token));
        }
        self.scan_idle(now, &iteration);
        self.run_stall_check(now);
        self.poll_lingering(now, &iteration);
        iteration.end_by(self.timers.next());
        while let Some(token) = self.ready_queue.next(&mut iteration) {
            catch_and_log(|| self.run_if_ready(token, &iteration));
            if self.has_new_commands() {
                iteration.end_by(Some(now));
            }
        }
    }

    /// Executes commands in order until the iteration is over. The next iteration executes the rest.
    fn run_commands(&mut self, iteration: &Iteration) {
        while let Some(command) = self.commands.pop_front() {
            catch_and_log(|| self.execute(command, clock::now()));
            if iteration.is_over() {
                break;
            }
        }
    }

    fn has_new_commands(&self) -> bool {
        !self.loop_handle.queue.lock().unwrap_or_else(PoisonError::into_inner).commands.is_empty()
    }

    /// Returns the timeout of the next poll. Also publishes the loop's state, from which other threads know if they
    /// must wake it.
    fn poll_timeout(&mut self, now: Instant) -> Option<Duration> {
        let stall_check_at = self.stall_check.map(|(at, _)| at);
        let next = [self.timers.next(), self.idle_scan_at, stall_check_at, self.linger_poll_at];
        let next = next.into_iter().flatten().min();
        let mut timeout = next.map(|at| at.saturating_duration_since(now).min(clock::MAX_WAIT));
        let mut queue = self.loop_handle.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let queued = !queue.commands.is_empty() && !planted!(LoopLosesCommand);
        if queued || !self.commands.is_empty() || !self.ready_queue.is_empty() {
            timeout = Some(Duration::ZERO);
        }
        queue.state = match timeout {
            Some(timeout) if timeout <= IDLE_DELAY => LoopState::ShortPoll,
            Some(_) | None => LoopState::Blocked,
        };
        timeout
    }

    fn take_commands(&mut self) {
        let mut queue = self.loop_handle.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.state = LoopState::Running;
        let posted = std::mem::take(&mut queue.commands);
        drop(queue);
        self.commands.extend(posted);
    }

    fn execute(&mut self, command: Command, now: Instant) {
        match command {
            Command::ScanIdle => {
                self.idle_scan_at.get_or_insert(now + IDLE_DELAY);
            }
            Command::UpdateInterest(source) => {
                fail_on_panic(&source, || self.update_interest(&source))
            }
            Command::TransferToken(token, source) => self.transfer_token(token, source),
            Command::DropToken(token) => drop(self.slab.remove(token)),
            Command::SetTimer { source, ticket, at } => self.set_timer(source, ticket, at),
            Command::WatchConnect { source, id, address, wire } => {
                self.watch_connect(source, id, address, wire);
            }
            Command::CancelAttempt(ticket, id) => self.cancel_attempt(ticket, id),
            Command::CancelAttempts(ticket) => self.cancel_attempts(ticket),
            Command::Forget(ticket) => self.forget(ticket),
            Command::Start(source) => {
                if let Some(source) = source.upgrade() {
                    fail_on_panic(&source, || source.clone().on_start());
                }
            }
            Command::CheckStalled(check) => {
                self.stall_check.get_or_insert((now + STALL_CHECK_INTERVAL, check));
            }
            Command::PollLingering => {
                self.linger_poll_at.get_or_insert(now + POLL_INTERVAL);
            }
        }
    }

    fn dispatch(&mut self, token: Token, readiness: Readiness) {
        match self.slab.get_mut(token) {
            Some(LoopEntry::Registered(registered)) => {
                match &mut registered.ready {
                    Some(known) => *known = known.union(readiness),
                    None => {
                        registered.ready = Some(readiness);
                        if registered.is_busy {
                            self.ready_queue.add_unfinished(token)
                        } else {
                            self.ready_queue.add(token)
                        }
                    }
                };
            }
            Some(LoopEntry::Attempt(_)) => self.finish_connect(token),
            // The waker, or an entry that was removed after the event.
            Some(LoopEntry::Timer(_)) | None => {}
        }
    }

    fn fire_timer(&mut self, token: Token) {
        match self.slab.get_mut(token) {
            Some(LoopEntry::Registered(registered)) => {
                registered.run_scheduled = false;
                self.schedule_run(token);
            }
            Some(LoopEntry::Timer(_)) => self.fire_source_timer(token),
            Some(LoopEntry::Attempt(_)) | None => {}
        }
    }

    /// Starts to monitor sources that have been idle since they were queued.
    fn scan_idle(&mut self, now: Instant, iteration: &Iteration) {
        if self.idle_scan_at.is_none_or(|at| at > now) {
            return;
        }
        if self.scan_buffer.is_empty() {
            self.scan_again = self.loop_handle.idle_list().take_idle(&mut self.scan_buffer);
        }
        while let Some(Taken { source, slot, reads_seen }) = self.scan_buffer.pop() {
            let Some(source) = source.upgrade() else { continue };
            catch_and_log(|| {
                fail_on_panic(&source, || {
                    if source.clone().on_idle(slot, reads_seen) {
                        self.update_interest(&source);
                    }
                });
            });
            if iteration.is_over() {
                break;
            }
        }
        if self.scan_again || !self.scan_buffer.is_empty() {
            self.idle_scan_at = Some(now);
            return;
        }
        self.scan_buffer.shrink_to(RETAINED_CAPACITY);
        self.idle_scan_at =
            self.loop_handle.idle_list().is_scan_scheduled().then(|| now + IDLE_DELAY);
    }

    /// Drains lingering wires.
    fn poll_lingering(&mut self, now: Instant, iteration: &Iteration) {
        if self.linger_poll_at.is_none_or(|at| at > now) {
            return;
        }
        self.linger_poll_at = match self.loop_handle.linger_queue().poll_all(|| iteration.is_over())
        {
            LingerState::Empty => None,
            LingerState::Unfinished => Some(now),
            LingerState::Waiting => Some(now + POLL_INTERVAL),
        };
    }

    fn run_stall_check(&mut self, now: Instant) {
        if let Some((at, check)) = self.stall_check {
            if at <= now {
                self.stall_check = check(now).then(|| (now + STALL_CHECK_INTERVAL, check));
            }
        }
    }
}

fn catch_and_log(work: impl FnOnce()) {
    if catch_panic(work).is_none() {
        log_debug(format_args!("a panic occurred in the event loop"));
    }
}
