//! A listener as the event loop sees it, and as its sockets and other parts of the driver do.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::take::{AcceptResult, discard};
use super::{ListenerInner, ListenerState, StateGuard};
use crate::driver::connection::call_timer::WaitLimit;
use crate::driver::connection::{Acceptance, Connection};
use crate::driver::event_loop::ready_queue::Readiness;
use crate::driver::event_loop::source::{
    AttemptResult, IdleSlot, LoopSource, LoopTicket, NextStep, Registration,
};
use crate::driver::event_loop::{Command, LoopHandle, Urgency};
use crate::driver::registry::Member;
use crate::driver::sys::clock;
use crate::driver::sys::listen::Registrable;
use crate::driver::sys::log::log_debug;
use crate::driver::sys::starvation::Starved;
use crate::driver::sys::sync::mio::{Interest, Token};
use crate::error::Fault;
use crate::machine::{AcceptorInput, AttemptId};
use crate::poll::Ready;

/// The maximum number of connections that the event loop accepts in one turn.
const MAX_ACCEPTS: usize = 64;

impl ListenerInner {
    pub(super) fn source(self: &Arc<Self>) -> Arc<dyn LoopSource> {
        Arc::clone(self) as Arc<dyn LoopSource>
    }

    pub(super) fn starved(self: &Arc<Self>) -> Weak<dyn Starved> {
        let weak: Weak<ListenerInner> = Arc::downgrade(self);
        weak
    }

    /// Has the event loop accept, because there is room again.
    pub(super) fn resume_on_loop(self: &Arc<Self>) {
        if let Ok(loop_handle) = LoopHandle::get() {
            let source: Weak<dyn LoopSource> = Arc::downgrade(&self.source());
            loop_handle.post(Command::Start(source), Urgency::Now);
        }
    }

    /// Accepts connections on the event loop, and has them opened. Returns whether there may be more.
    fn accept_on_loop(self: &Arc<Self>) -> bool {
        let mut state = self.state();
        for _ in 0..MAX_ACCEPTS {
            if state.acceptor.is_closing() || !state.acceptor.may_accept() {
                return false;
            }
            if state.pending() >= self.settings.max_pending {
                let Some(oldest) = state.opening.displace(clock::now()) else { return false };
                let reset_use = self.use_socket(&mut state);
                drop(state);
                self.reset_displaced(&oldest);
                drop(reset_use);
                state = self.state();
                continue;
            }
            let (back, result) = self.try_accept(state);
            state = back;
            match result {
                AcceptResult::Connection(taken) => {
                    drop(state);
                    state = self.keep(taken);
                }
                AcceptResult::TryAgain => {}
                AcceptResult::WouldBlock | AcceptResult::NotNow => return false,
            }
        }
        true
    }

    /// Resets a connection that was opening, to make room for others.
    pub(super) fn reset_displaced(&self, oldest: &Arc<Connection>) {
        log_debug(format_args!(
            "{}: reset while opening, because max_pending is reached",
            oldest.requested()
        ));
        discard(oldest);
        // The registry counts one that opened or failed in the meantime.
        let displaced = oldest.totals().opened == Some(Err(Fault::Aborted));
        self.state().counters.displaced += u64::from(displaced);
    }

    /// Runs whatever the event loop does for the listener.
    fn run_on_loop(self: &Arc<Self>) -> NextStep {
        let mut state = self.state();
        let closing = state.acceptor.is_closing();
        let registers = state.acceptor.may_accept() && !closing;
        let registers = registers && std::mem::take(&mut state.lacks_registration);
        drop(state);
        if let (true, Ok(loop_handle)) = (registers, LoopHandle::get()) {
            loop_handle.post(Command::UpdateInterest(self.source()), Urgency::Now);
        }
        let more = if closing {
            self.drain();
            false
        } else {
            self.settings.when_opened && self.accept_on_loop()
        };
        drop(self.update_timer(self.state()));
        if more { NextStep::RunAgain } else { NextStep::Keep }
    }

    /// Sets the event loop's timer to the next instant at which it is needed.
    pub(super) fn update_timer<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
    ) -> StateGuard<'a> {
        let Some(at) = self.next_timer(&state) else { return state };
        if state.timer == Some(at) || state.socket.is_none() {
            return state;
        }
        let Ok(loop_handle) = LoopHandle::get() else { return state };
        let ticket = *state.ticket.get_or_insert_with(|| loop_handle.new_ticket());
        state.timer = Some(at);
        drop(state);
        let source = self.source();
        loop_handle.post(Command::SetTimer { source, ticket, at }, Urgency::Now);
        let state = self.state();
        if state.ticket == Some(ticket) {
            return state;
        }
        // The listener was closed in the meantime.
        drop(state);
        loop_handle.post(Command::Forget(ticket), Urgency::Soon);
        self.state()
    }

    fn next_timer(&self, state: &ListenerState) -> Option<Instant> {
        let is_unattended = self.settings.when_opened || state.watches.is_some();
        let on_loop = is_unattended || state.acceptor.is_closing();
        let acceptor = state.acceptor.next_timer().filter(|_| on_loop);
        let is_full = self.settings.when_opened
            && state.pending() >= self.settings.max_pending
            && state.acceptor.may_accept();
        let displaces = state.opening.displaces_at().filter(|_| is_full);
        acceptor.into_iter().chain(displaces).min()
    }
}

impl LoopSource for ListenerInner {
    /// The event loop uses the listening socket until [`on_wire_dropped`](LoopSource::on_wire_dropped).
    fn registration(&self) -> Option<Registration> {
        let mut state = self.state();
        let socket = state.socket.clone()?;
        state.uses += 1;
        let wanted =
            self.settings.when_opened || state.reports_readiness || state.watches.is_some();
        let interest = wanted.then_some(Interest::READABLE);
        let wire = Registrable::Listener(socket);
        Some(Registration { wire, token: state.token, interest })
    }

    fn on_wire_dropped(&self) {
        let mut state = self.state();
        state.uses -= 1;
        self.notify_end(&state);
    }

    fn on_registered(&self, token: Token) -> bool {
        let mut state = self.state();
        if state.socket.is_none() {
            return false;
        }
        state.token = Some(token);
        true
    }

    fn take_token(&self) -> Option<Token> {
        self.state().token.take()
    }

    /// Tries again as if descriptors had run out, because only a lack of memory or of places makes it fail.
    fn on_register_failed(self: Arc<Self>, fault: Fault) {
        let mut state = self.state();
        state.token = None;
        // The thread that waits for it tries to accept, and then asks for another registration.
        state.reports_readiness = false;
        self.changed.notify_all();
        if state.acceptor.is_closing() {
            return;
        }
        // No thread that accepts asks for it.
        state.lacks_registration = self.settings.when_opened || state.watches.is_some();
        state.counters.starved += 1;
        let state = self.log_starved(state, fault);
        drop(self.update_timer(self.input(state, AcceptorInput::Exhausted)));
    }

    fn on_event(self: Arc<Self>, _: Readiness, _: Instant) -> NextStep {
        if !self.settings.when_opened {
            let mut state = self.state();
            state.is_readable = true;
            self.changed.notify_all();
            if !planted!(PollerMissesClients) {
                state.touch_watches(Ready::READABLE);
            }
            return NextStep::Keep;
        }
        self.run_on_loop()
    }

    fn on_idle(self: Arc<Self>, _: IdleSlot, _: u32) -> bool {
        false
    }

    fn on_timer(self: Arc<Self>) {
        let mut state = self.state();
        state.timer = None;
        drop(self.input(state, AcceptorInput::TimerExpired));
        self.run_until_done();
    }

    /// A slot is free, or there is room for further connections.
    fn on_start(self: Arc<Self>) {
        let state = self.state();
        let has_slot = state.reservation.is_some_and(|slot| self.registry.has_slot(slot));
        if has_slot && !planted!(SlotWakesNoListener) {
            let state = self.input(state, AcceptorInput::SlotFreed);
            drop(self.return_reservation(state));
        } else {
            drop(state);
        }
        self.run_until_done();
    }

    fn accept_attempt(&self, _: AttemptId) -> Option<LoopTicket> {
        None
    }

    fn on_attempt(self: Arc<Self>, _: AttemptId, _: AttemptResult, _: Option<Token>) -> bool {
        false
    }

    fn on_panic(&self) {
        self.fail();
    }
}

impl ListenerInner {
    /// Runs the loop's part without an event. If a turn was too short, the next one continues.
    fn run_until_done(self: &Arc<Self>) {
        if self.run_on_loop() == NextStep::RunAgain {
            self.resume_on_loop();
        }
    }
}

impl Acceptance for ListenerInner {
    fn loop_source(self: Arc<Self>) -> Arc<dyn LoopSource> {
        self
    }

    fn on_opened(self: Arc<Self>, connection: &Connection) {
        let is_open = connection.has_opened();
        let mut state = self.state();
        if state.is_aborted() {
            // The thread that aborts the listener resets it.
            return;
        }
        // In one step, so that the end of a closing listener is not seen between them.
        let is_it = |opening: &Arc<Connection>| std::ptr::eq(Arc::as_ptr(opening), connection);
        let Some(opened) = state.opening.take(is_it) else {
            return;
        };
        if is_open {
            state = self.add_ready(state, opened);
        } else {
            drop(state);
            opened.drop_handle();
            state = self.state();
        }
        // The end of a closing listener may have waited for this connection.
        self.notify_end(&state);
        let resume = !is_open && state.pending() + 1 >= self.settings.max_pending;
        drop(state);
        if resume {
            self.resume_on_loop();
        }
    }

    fn abort(self: Arc<Self>, until: WaitLimit) {
        self.abort_before_shutdown(until);
    }
}

impl Starved for ListenerInner {
    fn on_descriptor_freed(self: Arc<Self>) {
        let mut state = self.state();
        state.descriptor_freed = true;
        if state.acceptor.is_starved() {
            drop(self.input(state, AcceptorInput::SlotFreed));
            if self.settings.when_opened {
                self.resume_on_loop();
            }
        }
    }
}
