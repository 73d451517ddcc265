//! The pending attempts and timers of the sources.
//!
//! The event loop alone knows their tokens. A source knows only its ticket, and commands name that ticket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::registrations::Registered;
use super::source::{LoopSource, LoopTicket, fail_on_panic};
use super::{EventLoop, LoopEntry};
use crate::driver::sys::errno::os_code;
use crate::driver::sys::sync::mio::{Interest, Token};
use crate::driver::sys::wire::{REGISTRATION_IS_PERMANENT, Wire};
use crate::error::Fault;
use crate::machine::AttemptId;

/// The tokens of one ticket.
#[derive(Debug, Default)]
pub(super) struct Pending {
    timer: Option<(Instant, Token)>,
    attempts: Vec<Token>,
}

#[derive(Debug)]
pub(super) struct PendingAttempt {
    source: Arc<dyn LoopSource>,
    ticket: LoopTicket,
    id: AttemptId,
    /// `None` for a Unix-domain address.
    address: Option<SocketAddr>,
    wire: Arc<Wire>,
}

#[derive(Debug)]
pub(super) struct PendingTimer {
    source: Arc<dyn LoopSource>,
    ticket: LoopTicket,
}

impl EventLoop {
    // ------------------------------------------------------------- timers

    /// Sets the timer of a source. An earlier timer stays: when it fires, the source sets its timer again.
    pub(super) fn set_timer(
        &mut self,
        source: Arc<dyn LoopSource>,
        ticket: LoopTicket,
        at: Instant,
    ) {
        let pending = self.pending.entry(ticket).or_default();
        let token = match pending.timer {
            Some((earlier, _)) if earlier <= at => return,
            Some((later, token)) => {
                self.timers.cancel(later, token);
                token
            }
            None => self.slab.insert(LoopEntry::Timer(Box::new(PendingTimer { source, ticket }))),
        };
        pending.timer = Some((at, token));
        self.timers.set(at, token);
    }

    pub(super) fn fire_source_timer(&mut self, token: Token) {
        let Some(LoopEntry::Timer(timer)) = self.slab.remove(token) else { return };
        let PendingTimer { source, ticket } = *timer;
        if let Some(pending) = self.pending.get_mut(&ticket) {
            pending.timer = None;
        }
        self.remove_if_empty(ticket);
        fail_on_panic(&source, || source.clone().on_timer());
    }

    // ------------------------------------------------------------- attempts

    pub(super) fn watch_connect(
        &mut self,
        source: Arc<dyn LoopSource>,
        id: AttemptId,
        address: Option<SocketAddr>,
        mut wire: Arc<Wire>,
    ) {
        let Some(ticket) = source.accept_attempt(id) else {
            return release_attempt(&*source, &wire);
        };
        let registry = self.poll.registry();
        let mut registered = Ok(());
        let token = self.slab.insert_with(|token| {
            registered = wire.register(registry, token, Interest::WRITABLE);
            let source = Arc::clone(&source);
            LoopEntry::Attempt(Box::new(PendingAttempt { source, ticket, id, address, wire }))
        });
        if let Err(error) = registered {
            self.slab.remove(token);
            let result = Err(Fault::Io(os_code(&error)));
            fail_on_panic(&source, || source.clone().on_attempt(id, result, None));
        } else {
            self.pending.entry(ticket).or_default().attempts.push(token);
        }
    }

    pub(super) fn finish_connect(&mut self, token: Token) {
        let Some(LoopEntry::Attempt(attempt)) = self.slab.get(token) else { return };
        let Some(result) = attempt.wire.finish_connect(attempt.address) else { return };
        // A permanent registration passes to the source.
        let keep = REGISTRATION_IS_PERMANENT && result.is_ok();
        let entry = if keep {
            let source = Arc::clone(&attempt.source);
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.slab.replace(token, LoopEntry::Registered(Registered::new(source, interest)))
        } else {
            self.slab.remove(token)
        };
        let Some(LoopEntry::Attempt(attempt)) = entry else { return };
        let PendingAttempt { source, ticket, id, wire, .. } = *attempt;
        if let Some(pending) = self.pending.get_mut(&ticket) {
            pending.attempts.retain(|held| *held != token);
        }
        self.remove_if_empty(ticket);
        if !keep {
            wire.deregister(self.poll.registry());
        }
        let result = result.map(|endpoints| (wire, endpoints));
        let kept = keep.then_some(token);
        let took = fail_on_panic(&source, || source.clone().on_attempt(id, result, kept));
        if keep && !took {
            self.slab.remove(token);
        }
    }

    /// Cancels one attempt.
    pub(super) fn cancel_attempt(&mut self, ticket: LoopTicket, id: AttemptId) {
        let Some(pending) = self.pending.get_mut(&ticket) else { return };
        let slab = &self.slab;
        let is_attempt = |token: &Token| matches!(slab.get(*token), Some(LoopEntry::Attempt(attempt)) if attempt.id == id);
        let Some(index) = pending.attempts.iter().position(is_attempt) else { return };
        let token = pending.attempts.swap_remove(index);
        self.remove_if_empty(ticket);
        self.drop_attempt(token);
    }

    /// Cancels all attempts of a ticket.
    pub(super) fn cancel_attempts(&mut self, ticket: LoopTicket) {
        let Some(pending) = self.pending.get_mut(&ticket) else { return };
        let attempts = std::mem::take(&mut pending.attempts);
        self.remove_if_empty(ticket);
        for token in attempts {
            self.drop_attempt(token);
        }
    }

    /// Cancels all attempts of a ticket, and its timer.
    pub(super) fn forget(&mut self, ticket: LoopTicket) {
        if let Some(pending) = self.pending.get_mut(&ticket) {
            if let Some((at, token)) = pending.timer.take() {
                self.timers.cancel(at, token);
                self.slab.remove(token);
            }
        }
        self.cancel_attempts(ticket);
    }

    fn drop_attempt(&mut self, token: Token) {
        if let Some(LoopEntry::Attempt(attempt)) = self.slab.remove(token) {
            attempt.wire.deregister(self.poll.registry());
            release_attempt(&*attempt.source, &attempt.wire);
        }
    }

    fn remove_if_empty(&mut self, ticket: LoopTicket) {
        let is_empty = |pending: &Pending| pending.timer.is_none() && pending.attempts.is_empty();
        if self.pending.get(&ticket).is_some_and(is_empty) {
            self.pending.remove(&ticket);
        }
    }
}

/// Releases the wire of an attempt that its source does not want any more.
fn release_attempt(source: &dyn LoopSource, wire: &Wire) {
    if source.resets_attempt(wire) {
        wire.reset();
    } else {
        wire.cancel_attempt();
    }
}
