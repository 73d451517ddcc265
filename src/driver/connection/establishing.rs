//! The state of a connection while it is being established, and the reports of lookups, attempts and timers.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Connection;
use crate::driver::connect::adopt::AdoptedStream;
use crate::driver::connect::thread_pool::LookupQuota;
use crate::driver::sys::sync::mio::Token;
use crate::driver::sys::wire::Wire;
use crate::egress::EgressRules;
use crate::error::{Fault, LookupError, Result, TimerKind};
use crate::info::Endpoints;
use crate::machine::{AttemptId, Input};
use crate::options::TcpOptions;
use crate::resolver::Resolver;

/// State that is needed only while the event loop has bounded work for a socket: connecting, the handshake, or
/// sending the remaining data.
#[derive(Default)]
pub(crate) struct Establishing {
    /// Socket options for dialling.
    pub(crate) tcp: TcpOptions,
    /// Existing connection, which replaces all dialling.
    pub(crate) adopted: Option<AdoptedStream>,
    /// Addresses that replace the result of the lookup.
    pub(crate) addresses: Option<Vec<SocketAddr>>,
    /// Egress rules for the one check of an address that only the kernel can answer.
    pub(crate) egress: Option<Arc<EgressRules>>,
    /// Tokens of the attempts that the event loop watches for this socket.
    pub(crate) attempts: Vec<Token>,
    /// Tokens of the timers that the event loop holds for this socket.
    pub(crate) timers: Vec<Token>,
    /// Time at which the event loop fires the machine's timer.
    pub(crate) timer: Option<Instant>,
    /// Resolver; `None` means that of the operating system.
    pub(crate) resolver: Option<Arc<dyn Resolver>>,
    pub(crate) lookup: LookupProgress,
    /// Limit on the lookups of the connector; `Some` if the machine may want a lookup.
    pub(crate) lookup_quota: Option<Arc<LookupQuota>>,
    /// Reason why the name did not resolve.
    pub(crate) lookup_error: Option<LookupError>,
}

/// Progress of a name's lookup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LookupProgress {
    /// No lookup was requested, or it waits for a thread.
    #[default]
    Queued,
    /// Like `Queued`, but a resolver thread requested the lookup.
    QueuedNested,
    /// A thread is working on it.
    Started,
}

impl Establishing {
    /// Distinguishes a timeout during a lookup from one that passed before the lookup began.
    pub(crate) fn refine_fault(&self, fault: Fault) -> Fault {
        match (fault, self.lookup) {
            (Fault::TimedOut(TimerKind::Lookup), progress)
                if progress != LookupProgress::Started =>
            {
                Fault::TimedOut(TimerKind::LookupQueue)
            }
            _ => fault,
        }
    }
}

impl fmt::Debug for Establishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Establishing").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

/// Result of a connection attempt.
pub(crate) type AttemptResult = Result<(Arc<Wire>, Endpoints), Fault>;

impl Connection {
    pub(crate) fn handle_attempt(self: &Arc<Self>, id: AttemptId, result: AttemptResult) {
        let state = self.state();
        drop(self.finish_attempt(state, id, result));
    }

    /// Records an attempt that the event loop watches. Returns whether the machine still wants it. The attempt may
    /// have been cancelled before the command ran. Once another attempt has won it is unwanted, although the
    /// handshake may still be running.
    pub(crate) fn track_attempt(&self, token: Token, id: AttemptId) -> bool {
        let mut state = self.state();
        let is_wanted = state.machine.is_attempt_pending(id);
        match state.establishing_mut() {
            Some(establishing) if is_wanted => establishing.attempts.push(token),
            Some(_) | None => return false,
        }
        true
    }

    /// Records a timer that the event loop holds. Returns whether the timer is still wanted.
    pub(crate) fn track_timer(&self, token: Token) -> bool {
        let mut state = self.state();
        let Some(establishing) = state.establishing_mut() else { return false };
        establishing.timers.push(token);
        true
    }

    /// Forgets an attempt or a timer that the event loop no longer holds.
    pub(crate) fn untrack(&self, token: Token) {
        if let Some(establishing) = self.state().establishing_mut() {
            establishing.attempts.retain(|held| *held != token);
            establishing.timers.retain(|held| *held != token);
        }
    }

    /// Records that the event loop has registered the wire for both directions and will report its readiness.
    pub(crate) fn on_registered(&self, token: Token) {
        let mut state = self.state();
        state.token.set(token);
        state.reports_readiness = true;
    }

    /// Tells the machine that its timer fired.
    pub(crate) fn handle_timer(self: &Arc<Self>) {
        let state = self.state();
        drop(self.handle_input(state, Input::TimerExpired));
    }
}
