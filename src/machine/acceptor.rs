//! The state machine of a listener, without I/O: listening, out of slots, out of descriptors, draining, closed.
//!
//! ```text
//!                no slot                     out of descriptors
//!   AtLimit <--------------- Listening ------------------------> Starved
//!      |  ---------------->   |     |   <-----------------------    |
//!      |     slot freed       |     |    timer, descriptor freed    |
//!      |                      |     |                               |
//!      +----------------------+     +-------------------------------+
//!                             |
//!                close        |        abort, failure, or close of a queue that others share
//!                             v
//!              Draining ------------> Closed
//! ```

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::error::Fault;

/// The number of clients in a row that may be gone before the acceptor pauses: an error that no client causes might never
/// end.
const MAX_GONE_IN_A_ROW: u16 = 64;
/// The first pause. Each further row doubles it, up to [`MAX_PAUSE`]. On the BSDs, clients that reset their connections
/// cause such rows, so it is short.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The maximum of that pause.
const MAX_PAUSE: Duration = Duration::from_millis(10);
/// The number of clients in a row that may be gone before a close ends. It is the default backlog.
const MAX_GONE_IN_A_CLOSE: u16 = 4096;
/// The first delay after descriptors or memory ran out. Each further failure in a row doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(10);
/// The maximum of that delay.
const MAX_DELAY: Duration = Duration::from_secs(1);
/// The maximum limit of a close. An instant can always be that much later.
const MAX_CLOSE_TIMEOUT: Duration = Duration::from_millis(u32::MAX as u64);

/// The state machine of one listener: it decides when to accept, when to wait, and how to end.
///
/// Like [`Machine`](super::Machine), it only decides. Its driver makes the system calls and reports each result as an
/// [`AcceptorInput`]. Before each accept, the driver takes a slot for the connection. If there is none, it reports
/// [`NoSlot`](AcceptorInput::NoSlot) and does not accept.
///
/// ```
/// use std::time::Instant;
/// use sockeye::machine::{Acceptor, AcceptorConfig, AcceptorInput};
///
/// let now = Instant::now();
/// let mut acceptor = Acceptor::new(AcceptorConfig::new(4096));
/// assert!(acceptor.handle(AcceptorInput::Accepted, now).accept);
///
/// // No descriptor is left: it waits for 10 ms, and then accepts again.
/// assert!(!acceptor.handle(AcceptorInput::Exhausted, now).accept);
/// let until = acceptor.next_timer().unwrap();
/// assert!(acceptor.handle(AcceptorInput::TimerExpired, until).accept);
///
/// // A close returns the connections that are complete.
/// let actions = acceptor.handle(AcceptorInput::Close, until);
/// assert!(actions.shrink_backlog && actions.accept);
/// let actions = acceptor.handle(AcceptorInput::WouldBlock, until);
/// assert!(actions.close_listener && actions.settled);
/// assert_eq!(acceptor.outcome(), Some(Ok(())));
/// ```
#[derive(Debug)]
pub struct Acceptor {
    state: State,
    config: AcceptorConfig,
    /// The number of clients in a row that were gone since the last pause.
    gone: u16,
    /// The number of pauses since a connection was there, or none.
    pauses: u32,
    /// The number of times in a row that descriptors or memory ran out.
    failures: u32,
    /// Whether the program has aborted, so that no further connection is returned.
    is_aborted: bool,
}

/// The configuration of an acceptor.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AcceptorConfig {
    /// The maximum number of connections that a close still returns.
    pub backlog: u32,
    /// Whether a close returns the connections that are complete. If not, other processes share the queue, and it
    /// stays as it is. Default: `true`.
    pub drains: bool,
    /// The limit for a close that waits for slots. Default: 5 seconds. More than 49 days count as 49 days.
    pub close_timeout: Duration,
}

impl AcceptorConfig {
    /// Creates a configuration with the defaults.
    #[must_use]
    pub fn new(backlog: u32) -> Self {
        AcceptorConfig { backlog, drains: true, close_timeout: Duration::from_secs(5) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Connections may be accepted.
    Listening,
    /// No slot is free.
    AtLimit,
    /// Descriptors or memory ran out, or too many clients in a row were gone.
    Starved {
        until: Instant,
    },
    /// Closing: at most `left` connections are still accepted, until `until` if they have to wait for slots.
    Draining {
        left: u32,
        until: Instant,
        waits: bool,
    },
    Closed(Result<(), Fault>),
}

/// An event, or a request of the user, that the driver reports to an acceptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptorInput {
    /// A connection was accepted.
    Accepted,
    /// No connection is complete.
    WouldBlock,
    /// A connection was gone before it could be accepted. After 64 in a row the acceptor pauses for 1 ms, doubled with
    /// each further row up to 10 ms.
    ClientGone,
    /// Descriptors or memory ran out. The acceptor waits for 10 ms, doubled each time up to 1 s.
    Exhausted,
    /// The system ended the listener.
    Failed(Fault),
    /// No slot is free for another connection.
    NoSlot,
    /// What the acceptor waits for may be there again: a slot, or a descriptor after [`Exhausted`](Self::Exhausted).
    SlotFreed,
    /// The instant of [`Acceptor::next_timer`] may have passed.
    TimerExpired,
    /// Stops listening, and accepts the connections that are complete.
    Close,
    /// Stops listening, and resets the connections that are complete.
    Abort,
}

/// The actions after an input of an acceptor. The driver executes each of them once, in the order of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "actions that are not executed are lost"]
pub struct AcceptorActions {
    /// Reset the connection that was just accepted: the listener was aborted in the meantime.
    pub reset_client: bool,
    /// Set the backlog to 0, so that the queue can only shrink.
    pub shrink_backlog: bool,
    /// Accept, or wait until a connection is complete.
    pub accept: bool,
    /// Close the descriptor. The kernel resets the connections in its queue, unless other processes share it.
    pub close_listener: bool,
    /// Wake the threads that wait for connections.
    pub wake: bool,
    /// Wake the threads that wait for the end: [`Acceptor::outcome`] is settled.
    pub settled: bool,
}

impl Acceptor {
    /// Creates an acceptor that is listening.
    #[must_use]
    pub fn new(config: AcceptorConfig) -> Self {
        Acceptor {
            state: State::Listening,
            config,
            gone: 0,
            pauses: 0,
            failures: 0,
            is_aborted: false,
        }
    }

    /// Processes an input.
    pub fn handle(&mut self, input: AcceptorInput, now: Instant) -> AcceptorActions {
        let mut actions = AcceptorActions::default();
        match input {
            AcceptorInput::Accepted => self.accepted(&mut actions),
            AcceptorInput::WouldBlock => self.would_block(&mut actions),
            AcceptorInput::ClientGone => self.client_gone(now, &mut actions),
            AcceptorInput::Exhausted => self.exhausted(now, &mut actions),
            AcceptorInput::Failed(fault) => match self.state {
                State::Draining { .. } => self.end(Ok(()), &mut actions),
                State::Listening | State::AtLimit | State::Starved { .. } => {
                    self.end(Err(fault), &mut actions);
                }
                State::Closed(_) => {}
            },
            AcceptorInput::NoSlot => match &mut self.state {
                state @ State::Listening => *state = State::AtLimit,
                State::Draining { waits, .. } => *waits = true,
                State::AtLimit | State::Starved { .. } | State::Closed(_) => {}
            },
            AcceptorInput::SlotFreed => self.slot_freed(&mut actions),
            AcceptorInput::TimerExpired => match self.state {
                State::Starved { until } if until <= now => self.resume(&mut actions),
                State::Draining { until, waits: true, .. } if until <= now => {
                    self.end(Ok(()), &mut actions);
                }
                State::Listening
                | State::AtLimit
                | State::Starved { .. }
                | State::Draining { .. }
                | State::Closed(_) => {}
            },
            AcceptorInput::Close => self.close(now, &mut actions),
            AcceptorInput::Abort => {
                self.is_aborted = true;
                match self.state {
                    State::Listening
                    | State::AtLimit
                    | State::Starved { .. }
                    | State::Draining { .. } => self.end(Ok(()), &mut actions),
                    State::Closed(_) => {}
                }
            }
        }
        actions
    }

    /// Returns whether the driver may accept now.
    #[must_use]
    pub fn may_accept(&self) -> bool {
        match self.state {
            State::Listening => true,
            State::Draining { waits, .. } => !waits,
            State::AtLimit | State::Starved { .. } | State::Closed(_) => false,
        }
    }

    /// Returns whether the acceptor waits for a slot, and not for a connection.
    #[must_use]
    pub fn waits_for_slot(&self) -> bool {
        matches!(self.state, State::AtLimit | State::Draining { waits: true, .. })
    }

    /// Returns whether the acceptor waits because descriptors or memory ran out, or because too many clients in a row were
    /// gone.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        matches!(self.state, State::Starved { .. })
    }

    /// Returns whether the acceptor was asked to close or has ended.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Draining { .. } | State::Closed(_))
    }

    /// Returns whether the program has aborted, so that no further connection is returned.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.is_aborted
    }

    /// Returns how the listener ended; `None` while it may still accept.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<(), Fault>> {
        match self.state {
            State::Closed(outcome) => Some(outcome),
            State::Listening | State::AtLimit | State::Starved { .. } | State::Draining { .. } => {
                None
            }
        }
    }

    /// Returns the instant at which to report [`TimerExpired`](AcceptorInput::TimerExpired).
    #[must_use]
    pub fn next_timer(&self) -> Option<Instant> {
        match self.state {
            State::Starved { until } | State::Draining { until, waits: true, .. } => Some(until),
            State::Listening
            | State::AtLimit
            | State::Draining { waits: false, .. }
            | State::Closed(_) => None,
        }
    }

    fn accepted(&mut self, actions: &mut AcceptorActions) {
        (self.gone, self.pauses, self.failures) = (0, 0, 0);
        match self.state {
            State::Listening => actions.accept = true,
            // Another thread has found no slot or no descriptor in the meantime.
            State::AtLimit | State::Starved { .. } => {}
            State::Draining { .. } => self.drained_one(actions),
            // Another thread has ended the listener while this one was in the system call.
            State::Closed(_) => actions.reset_client = self.is_aborted,
        }
    }

    fn would_block(&mut self, actions: &mut AcceptorActions) {
        (self.gone, self.pauses) = (0, 0);
        match self.state {
            State::Draining { .. } => self.end(Ok(()), actions),
            State::Listening | State::AtLimit | State::Starved { .. } | State::Closed(_) => {}
        }
    }

    fn client_gone(&mut self, now: Instant, actions: &mut AcceptorActions) {
        match self.state {
            State::Listening => {
                self.gone += 1;
                actions.accept = self.gone < MAX_GONE_IN_A_ROW;
                if !actions.accept {
                    let pause = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(16)).min(MAX_PAUSE);
                    self.gone = 0;
                    self.pauses = self.pauses.saturating_add(1);
                    self.state = State::Starved { until: now + pause };
                }
            }
            State::Draining { .. } => {
                self.gone += 1;
                if self.gone >= MAX_GONE_IN_A_CLOSE {
                    self.end(Ok(()), actions);
                } else {
                    self.drained_one(actions);
                }
            }
            State::AtLimit | State::Starved { .. } | State::Closed(_) => {}
        }
    }

    fn exhausted(&mut self, now: Instant, actions: &mut AcceptorActions) {
        match self.state {
            State::Listening if planted!(AcceptorSpins) => actions.accept = true,
            State::Listening => {
                let delay = FIRST_DELAY.saturating_mul(1 << self.failures.min(16)).min(MAX_DELAY);
                self.failures = self.failures.saturating_add(1);
                self.state = State::Starved { until: now + delay };
            }
            // The rest of the queue cannot be taken now, and the close is not to wait.
            State::Draining { .. } => self.end(Ok(()), actions),
            State::AtLimit | State::Starved { .. } | State::Closed(_) => {}
        }
    }

    fn slot_freed(&mut self, actions: &mut AcceptorActions) {
        match &mut self.state {
            State::AtLimit | State::Starved { .. } => self.resume(actions),
            State::Draining { waits, .. } if *waits => {
                *waits = false;
                actions.accept = true;
            }
            State::Listening | State::Draining { .. } | State::Closed(_) => {}
        }
    }

    fn close(&mut self, now: Instant, actions: &mut AcceptorActions) {
        match self.state {
            State::Listening | State::AtLimit | State::Starved { .. } if self.config.drains => {
                actions.shrink_backlog = true;
                actions.accept = true;
                actions.wake = true;
                self.gone = 0;
                let until = now + self.config.close_timeout.min(MAX_CLOSE_TIMEOUT);
                self.state = State::Draining { left: self.config.backlog, until, waits: false };
            }
            State::Listening | State::AtLimit | State::Starved { .. } => self.end(Ok(()), actions),
            State::Draining { .. } | State::Closed(_) => {}
        }
    }

    /// Goes back to listening.
    fn resume(&mut self, actions: &mut AcceptorActions) {
        actions.wake = true;
        actions.accept = true;
        self.state = State::Listening;
    }

    /// Handles one connection less in the queue of a closing listener.
    fn drained_one(&mut self, actions: &mut AcceptorActions) {
        let State::Draining { left, waits, .. } = &mut self.state else { return };
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.end(Ok(()), actions);
        } else {
            actions.accept = !*waits;
        }
    }

    fn end(&mut self, outcome: Result<(), Fault>, actions: &mut AcceptorActions) {
        self.state = State::Closed(outcome);
        actions.close_listener = true;
        actions.wake = true;
        actions.settled = true;
    }
}
