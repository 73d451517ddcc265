//! The registered sources: their registrations, and running them when their wires are ready.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::idle_list::IDLE_DELAY;
use super::ready_queue::{Iteration, Readiness};
use super::source::{LoopSource, NextStep, Registration, fail_on_panic};
use super::{EventLoop, LoopEntry};
use crate::driver::sys::clock;
use crate::driver::sys::errno::os_code;
use crate::driver::sys::listen::Registrable;
use crate::driver::sys::log::log_debug;
use crate::driver::sys::sync::mio::{Interest, Token};
use crate::driver::sys::wire::REGISTRATION_IS_PERMANENT;
use crate::error::Fault;

/// The service time from which a source is considered busy. It is much longer than one TLS record takes.
const BUSY_FROM: Duration = Duration::from_micros(100);

/// A source whose wire is registered.
#[derive(Debug)]
pub(super) struct Registered {
    source: Arc<dyn LoopSource>,
    interest: Interest,
    /// The reported readiness. `Some` if the source is in the ready queue.
    pub(super) ready: Option<Readiness>,
    /// Whether a timer is set to run the source again.
    pub(super) run_scheduled: bool,
    /// Whether the source's last run took at least [`BUSY_FROM`]. Busy sources run after the others.
    pub(super) is_busy: bool,
}

impl Registered {
    pub(super) fn new(source: Arc<dyn LoopSource>, interest: Interest) -> Self {
        Registered { source, interest, ready: None, run_scheduled: false, is_busy: false }
    }
}

impl EventLoop {
    fn registered_mut(&mut self, token: Token) -> Option<&mut Registered> {
        match self.slab.get_mut(token) {
            Some(LoopEntry::Registered(registered)) => Some(registered),
            Some(LoopEntry::Attempt(_) | LoopEntry::Timer(_)) | None => None,
        }
    }

    // ------------------------------------------------------------- registrations

    /// Registers the source's wire for the interest that the source wants now, or deregisters it. Registering makes the
    /// kernel report the current state.
    pub(super) fn update_interest(&mut self, source: &Arc<dyn LoopSource>) {
        let Some(registration) = source.registration() else { return };
        self.update_registration(source, registration);
        source.on_wire_dropped();
    }

    fn update_registration(&mut self, source: &Arc<dyn LoopSource>, registration: Registration) {
        let Registration { mut wire, token, interest } = registration;
        let Some(interest) = interest else { return self.deregister(source, &wire) };
        let is_new = token.is_none();
        let token = token.unwrap_or_else(|| {
            let registered = Registered::new(Arc::clone(source), interest);
            self.slab.insert(LoopEntry::Registered(registered))
        });
        if let Err(error) = wire.register(self.poll.registry(), token, interest) {
            log_debug(format_args!("cannot register a socket with the event loop: {error}"));
            self.slab.remove(token);
            source.clone().on_register_failed(Fault::Io(os_code(&error)));
            return;
        }
        if let Some(registered) = self.registered_mut(token) {
            registered.interest = interest;
        }
        if !source.on_registered(token) {
            // The source released its wire in the meantime. The thread that took an older token drops it or passes it on.
            wire.deregister(self.poll.registry());
            if is_new {
                self.slab.remove(token);
            }
        } else if REGISTRATION_IS_PERMANENT {
            // A permanent registration does not report the current state again.
            self.schedule_run(token);
        }
    }

    fn deregister(&mut self, source: &Arc<dyn LoopSource>, wire: &Registrable) {
        let Some(token) = source.take_token() else { return };
        self.slab.remove(token);
        wire.deregister(self.poll.registry());
    }

    /// Updates the registration if the wanted interest has changed.
    fn reregister_if_changed(&mut self, source: &Arc<dyn LoopSource>, token: Token) {
        let wanted = source.registration().and_then(|registration| {
            let interest = registration.interest;
            drop(registration);
            source.on_wire_dropped();
            interest
        });
        match self.registered_mut(token) {
            Some(registered) if Some(registered.interest) == wanted => {}
            Some(_) | None => self.update_interest(source),
        }
    }

    /// Assigns a permanent registration to the source that took over the connection.
    pub(super) fn transfer_token(&mut self, token: Token, source: Arc<dyn LoopSource>) {
        if self.slab.get(token).is_none() {
            return;
        }
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = Registered::new(Arc::clone(&source), interest);
        self.slab.replace(token, LoopEntry::Registered(registered));
        if source.on_registered(token) {
            self.schedule_run(token);
        } else {
            // The source ended before it knew of the token, so it cannot have asked to drop it.
            self.slab.remove(token);
        }
    }

    // ------------------------------------------------------------- running sources

    /// Queues a source to run without an event.
    pub(super) fn schedule_run(&mut self, token: Token) {
        self.dispatch(token, Readiness::UNKNOWN);
    }

    /// Runs a source from the ready queue.
    pub(super) fn run_if_ready(&mut self, token: Token, iteration: &Iteration) {
        let Some(registered) = self.registered_mut(token) else { return };
        let Some(readiness) = registered.ready.take() else { return };
        let started_at = clock::now();
        self.run_source(token, readiness, iteration.ends_at());
        if let Some(registered) = self.registered_mut(token) {
            registered.is_busy = clock::now() - started_at >= BUSY_FROM;
        }
    }

    fn run_source(&mut self, token: Token, readiness: Readiness, until: Instant) {
        let Some(registered) = self.registered_mut(token) else { return };
        let source = Arc::clone(&registered.source);
        match fail_on_panic(&source, || source.clone().on_event(readiness, until)) {
            NextStep::Keep => {}
            NextStep::RunAgain => {
                if let Some(registered) = self.registered_mut(token) {
                    registered.ready = Some(Readiness::UNKNOWN);
                    self.ready_queue.add_unfinished(token);
                }
            }
            NextStep::RunLater => self.schedule_run_later(token),
            NextStep::UpdateInterest | NextStep::ErrorsOnly => {
                self.reregister_if_changed(&source, token)
            }
        }
    }

    fn schedule_run_later(&mut self, token: Token) {
        if let Some(registered) = self.registered_mut(token) {
            if !std::mem::replace(&mut registered.run_scheduled, true) {
                self.timers.set(clock::now() + IDLE_DELAY, token);
            }
        }
    }
}
