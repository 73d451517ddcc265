//! `LoopSource`: what the event loop knows of the objects that it serves, such as sockets.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use super::ready_queue::Readiness;
use crate::driver::slab::Index;
use crate::driver::sys::listen::Registrable;
use crate::driver::sys::sync::mio::{Interest, Token};
use crate::driver::sys::wire::Wire;
use crate::error::Fault;
use crate::info::Endpoints;
use crate::machine::AttemptId;

/// An object that the event loop serves. The event loop calls these methods without a lock.
pub(crate) trait LoopSource: fmt::Debug + Send + Sync {
    /// Returns the registration that the source wants, or `None` if it has no wire.
    fn registration(&self) -> Option<Registration>;
    /// Handles the end of the event loop's use of a registration's wire. Called once for each registration that was
    /// returned, when its wire is dropped.
    fn on_wire_dropped(&self) {}
    /// Records the token of its registration. Returns whether the source still has the wire.
    fn on_registered(&self, token: Token) -> bool;
    /// Takes the token of a wire that the event loop need not watch. A thread that wants it watched in the meantime
    /// posts a command, or finds the registration intact.
    fn take_token(&self) -> Option<Token>;
    /// Handles a failed registration.
    fn on_register_failed(self: Arc<Self>, fault: Fault);

    /// Handles an event until about `until`.
    fn on_event(self: Arc<Self>, readiness: Readiness, until: Instant) -> NextStep;
    /// Handles the end of its wait in the idle list. Returns whether to register the wire.
    fn on_idle(self: Arc<Self>, slot: IdleSlot, reads_seen: u32) -> bool;
    /// Handles its timer. It may fire early if the source has set a later timer.
    fn on_timer(self: Arc<Self>);
    /// Begins to connect, because a slot is free.
    fn on_start(self: Arc<Self>);

    /// Returns the ticket for a pending attempt, or `None` if the attempt was cancelled.
    fn accept_attempt(&self, id: AttemptId) -> Option<LoopTicket>;
    /// Handles the result of an attempt. If the wire remains registered, `token` is its token. Returns whether the
    /// source took the wire.
    fn on_attempt(
        self: Arc<Self>,
        id: AttemptId,
        result: AttemptResult,
        token: Option<Token>,
    ) -> bool;

    /// Fails, because a panic interrupted work on the source.
    fn on_panic(&self);

    /// Returns whether an attempt that was cancelled ends with a reset: the program aborted an established connection that
    /// the event loop had not registered yet.
    fn resets_attempt(&self, _: &Wire) -> bool {
        false
    }
}

/// The index of a source in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdleSlot(pub(super) Index);

/// The registration that a source wants.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) wire: Registrable,
    /// The token of the present registration.
    pub(crate) token: Option<Token>,
    /// The events to report. `None` means that no registration is wanted.
    pub(crate) interest: Option<Interest>,
}

/// Result of a connection attempt.
pub(crate) type AttemptResult = Result<(Arc<Wire>, Endpoints), Fault>;

/// The event loop's next step for a registered source.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// Nothing to do.
    Keep,
    /// Run again without waiting for an event: there is more to do.
    RunAgain,
    /// Run again after a while without an event: the kernel was temporarily unable.
    RunLater,
    /// Report failures only: data is unread.
    ErrorsOnly,
    /// The registered interest may include more than is wanted.
    UpdateInterest,
}

/// Identifies the attempts and the timer of a source for one period, such as the time until it is open. The next period
/// has another ticket. So a command that ends one period does not affect the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LoopTicket(pub(super) NonZeroU64);

/// Runs work on a source. If it panics, the source fails.
pub(super) fn fail_on_panic<R>(source: &Arc<dyn LoopSource>, work: impl FnOnce() -> R) -> R {
    let unwinding = FailOnUnwind(source);
    let result = work();
    std::mem::forget(unwinding);
    result
}

/// A guard that is dropped only if a panic unwinds through work on a source.
struct FailOnUnwind<'a>(&'a Arc<dyn LoopSource>);

impl Drop for FailOnUnwind<'_> {
    #[cold]
    fn drop(&mut self) {
        self.0.on_panic();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A source that no event loop serves.
    #[derive(Debug)]
    pub(crate) struct TestSource;

    impl LoopSource for TestSource {
        fn registration(&self) -> Option<Registration> {
            None
        }

        fn on_registered(&self, _: Token) -> bool {
            false
        }

        fn take_token(&self) -> Option<Token> {
            None
        }

        fn on_register_failed(self: Arc<Self>, _: Fault) {}

        fn on_event(self: Arc<Self>, _: Readiness, _: Instant) -> NextStep {
            NextStep::Keep
        }

        fn on_idle(self: Arc<Self>, _: IdleSlot, _: u32) -> bool {
            false
        }

        fn on_timer(self: Arc<Self>) {}

        fn on_start(self: Arc<Self>) {}

        fn accept_attempt(&self, _: AttemptId) -> Option<LoopTicket> {
            None
        }

        fn on_attempt(self: Arc<Self>, _: AttemptId, _: AttemptResult, _: Option<Token>) -> bool {
            false
        }

        fn on_panic(&self) {}
    }
}
