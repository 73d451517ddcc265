//! What the loop does for a socket at whose wire no caller is: it looks for the peer's end and for
//! failures, and drops what comes in where reading was cancelled.
//!
//! It begins to look when the reading turn has been free for a while, so that a socket that is being
//! read costs it nothing but a glance now and then. To begin is always to register the wire, which
//! reports the present state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::buffers;
use super::clock;
use super::deeds::ActionSet;
use super::errno::{Failure, classify};
use super::event_loop::REGISTRATION_IS_PERMANENT;
use super::ready::Readiness;
use super::shared::{Connection, ConnectionState, Monitor};
use super::slices::RecvBufs;
use super::sync::mio::{Interest, Token};
use super::wait::Side;
use super::wire::{DrainResult, EofKind, Wire};
use super::young::IdleSlot;
use super::{Command, LoopHandle, Urgency};
use crate::error::Fault;
use crate::machine::{Input, ReadStep, Received, Watch};

/// How long the reading turn is free before the loop looks.
pub(super) const IDLE_DELAY: Duration = Duration::from_millis(100);

/// The most that is dropped of one socket in one go.
const DISCARD_BUDGET: usize = 64 * 1024;

/// The most receives for one socket in one go.
const MAX_INGESTS: usize = 8;

/// The most that the loop takes in between two looks at the time. What it may hold of records that carry no
/// data takes about a millisecond.
const INGEST_PIECE: usize = 8 * 1024;

/// What is reported where something is unread, and more of that is no news: failures, where the system can
/// leave the rest out.
#[cfg(any(target_os = "linux", target_os = "android"))]
const ERRORS_ONLY: Interest = Interest::PRIORITY;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const ERRORS_ONLY: Interest = Interest::READABLE;

/// What to do with a registered socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Nothing.
    Keep,
    /// Come back without waiting for an event: there is more to do.
    RunAgain,
    /// Come back in a while without an event: the system was not able to do it now.
    RunLater,
    /// Report failures only: something is unread.
    ErrorsOnly,
    /// It may be registered for what is not wanted any more.
    UpdateInterest,
}

/// How much of what was there was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IngestResult {
    /// All, or nobody wants the rest.
    All,
    /// There may be more.
    Some,
    /// The system can't do it now, and does not tell when it can.
    Unable,
}

impl Connection {
    /// Lists the socket to be watched when it has been quiet, unless it is listed already; says whether
    /// the loop has to be told to look.
    pub(super) fn queue_for_monitoring(
        self: &Arc<Self>,
        state: &mut ConnectionState,
        loop_handle: &LoopHandle,
    ) -> bool {
        if matches!(state.monitor, Monitor::Queued(_)) {
            return false;
        }
        let (idle_slot, scan_idle) =
            loop_handle.idle_list().add(Arc::downgrade(self), state.reads_done);
        state.monitor = Monitor::Queued(idle_slot);
        scan_idle
    }

    /// Lists a socket that wants to be watched and that neither the loop watches nor a reader is at, who would
    /// list it on leaving. Any transition may have led there: the end of a handshake is one, whichever thread
    /// brings it about. Returns whether the loop has to be told to look.
    pub(super) fn queue_if_unmonitored(self: &Arc<Self>, state: &mut ConnectionState) -> bool {
        if state.monitor != Monitor::Off || state.recv.turn_held || !state.needs_monitor() {
            return false;
        }
        match LoopHandle::get() {
            Ok(loop_handle) => {
                state.wire.is_some() && self.queue_for_monitoring(state, loop_handle)
            }
            Err(_) => false,
        }
    }

    /// Whether to register a socket now that was listed here when `turns` reading turns had ended.
    pub(super) fn poll_idle(
        self: &Arc<Self>,
        idle_slot: IdleSlot,
        reads_done: u32,
        loop_handle: &LoopHandle,
    ) -> bool {
        let mut state = self.state();
        if state.monitor != Monitor::Queued(idle_slot) {
            // This is not how the socket is listed now, if it is.
            return false;
        }
        state.monitor = Monitor::Off;
        let handshaking = state.machine.watch() == Watch::Ingest;
        let wanted = state.needs_monitor();
        if wanted && state.reads_done != reads_done {
            self.queue_for_monitoring(&mut state, loop_handle);
            return false;
        }
        // Whoever is reading will list it when they leave.
        let register = handshaking || wanted && !state.recv.turn_held;
        if register {
            state.monitor = Monitor::Full;
        }
        if handshaking {
            // From now on the loop keeps its time.
            drop(self.update_timer(state));
        }
        register
    }

    /// The wire, where there is one, and for what the loop is to register it, if for anything.
    pub(super) fn wire_and_interest(&self) -> Option<(Arc<Wire>, Option<Interest>)> {
        let state = self.state();
        Some((state.wire.cloned()?, state.interest()))
    }

    /// Takes back the registration of a wire of which nothing is wanted. Whoever wants something by now posts
    /// that, or will find the registration where it is.
    pub(super) fn take_token(&self) -> Option<Token> {
        let mut state = self.state();
        if state.interest().is_some() {
            return None;
        }
        state.stop_monitor();
        state.token.take()
    }

    fn wire(&self) -> Option<Arc<Wire>> {
        self.state().wire.cloned()
    }

    /// Looks at the wire, of which this is known, until about then.
    pub(super) fn on_event(self: &Arc<Self>, readiness: Readiness, until: Instant) -> NextStep {
        match self.run_monitor(readiness, until) {
            NextStep::Keep if self.state().stop_reporting_readiness() => NextStep::UpdateInterest,
            next_step => next_step,
        }
    }

    fn run_monitor(self: &Arc<Self>, readiness: Readiness, until: Instant) -> NextStep {
        let Readiness { failed, writable } = readiness;
        let mut state = self.state();
        if state.reports_readiness {
            state.recv.ready = true;
            state.send.ready = true;
            self.notify_waiters(&state);
        }
        if writable && state.want_writable {
            // Who is sending now looks again when that came to nothing.
            state.send.ready = true;
            if state.machine.has_unsent() {
                drop(state);
                if self.transmit_on_loop() {
                    return NextStep::RunLater;
                }
                state = self.state();
            }
        }
        let kept = if state.reports_readiness { NextStep::Keep } else { NextStep::UpdateInterest };
        match state.machine.watch() {
            Watch::Nothing => return kept,
            Watch::Discard => {
                drop(state);
                return self.discard();
            }
            Watch::Ingest => {
                drop(state);
                return self.ingest_in_background(until);
            }
            Watch::Failure => {
                drop(state);
                return if failed { self.probe_error() } else { NextStep::Keep };
            }
            Watch::End if state.recv.turn_held => {
                // Whoever is reading will list it when they leave.
                state.stop_monitor();
                return kept;
            }
            Watch::End => match state.monitor {
                Monitor::Full => {}
                Monitor::ErrorsOnly if failed => {}
                // Such as urgent data, which stays pending.
                Monitor::ErrorsOnly => return NextStep::Keep,
                Monitor::Off | Monitor::Queued(_) => return kept,
            },
        }
        if state.machine.is_secure() {
            drop(state);
            let next_step = self.ingest_in_background(until);
            // If the event reported data and a failure, no other event reports the failure. A wire that is
            // registered again, for failures only, reports it itself.
            let unread = failed && self.state().machine.watch() == Watch::Failure;
            return if unread && next_step == NextStep::Keep {
                self.probe_error()
            } else {
                next_step
            };
        }
        let ReadStep::Receive(permit) = state.machine.read() else { return kept };
        let Some(wire) = state.wire.cloned() else { return kept };
        state.recv.turn_held = true;
        drop(state);
        let peeked = wire.peek();
        let unread = matches!(peeked, Ok(bytes) if bytes > 0);
        let end = if matches!(peeked, Ok(0)) { wire.classify_eof() } else { EofKind::Fin };
        let failure = match peeked {
            Ok(0) => None,
            Ok(_) | Err(_) if failed => wire.take_error(),
            Ok(_) | Err(_) => None,
        };
        let mut state = self.state();
        if end == EofKind::HangUp && state.machine.sends() {
            state = self.wait_for_cause(state, Side::Write, Some(Side::Read));
        }
        let (what, next_step) = match (peeked, failure) {
            (Ok(0), _) => match end {
                EofKind::Error(fault) => (Received::Failed(fault), NextStep::Keep),
                EofKind::HangUp if state.machine.sends() => {
                    (Received::Failed(Fault::Reset(None)), NextStep::Keep)
                }
                EofKind::HangUp | EofKind::Fin => (Received::Eof, NextStep::Keep),
            },
            (Ok(_), _) if state.reports_readiness => (Received::Nothing, NextStep::Keep),
            (Ok(_), _) => {
                state.monitor = Monitor::ErrorsOnly;
                (Received::Nothing, NextStep::ErrorsOnly)
            }
            (Err(error), failure) => match (classify(&error), failure) {
                (Failure::Connection(fault), _) => (Received::Failed(fault), NextStep::Keep),
                (_, Some(fault)) => (Received::Failed(fault), NextStep::Keep),
                (Failure::WouldBlock, None) => (Received::Nothing, NextStep::Keep),
                // It has seen nothing, and there will be no other event.
                (Failure::Interrupted, None) => (Received::Nothing, NextStep::RunAgain),
                (Failure::Call(_), None) => (Received::Nothing, NextStep::RunLater),
            },
        };
        state.recv.turn_held = false;
        let actions = ActionSet::collect(state.machine.received(permit, what, clock::now()));
        state = self.apply(state, actions);
        if let (true, Some(fault)) = (unread, failure) {
            state = self.handle_input(state, Input::WireFailed(fault));
        }
        // Somebody may have waited for the turn meanwhile.
        self.notify_waiters(&state);
        next_step
    }

    fn probe_error(self: &Arc<Self>) -> NextStep {
        let mut state = self.state();
        let Some(wire) = state.wire.cloned() else { return NextStep::UpdateInterest };
        state.error_probe = true;
        drop(state);
        let failure = wire.take_error();
        let end = wire.classify_eof();
        let mut state = self.state();
        state.error_probe = false;
        let hung_up = end == EofKind::HangUp && state.machine.sends();
        if failure.is_none() && hung_up {
            state = self.wait_for_cause(state, Side::Write, Some(Side::Read));
        }
        let failure = failure.or(hung_up.then_some(Fault::Reset(None)));
        if let Some(fault) = failure {
            drop(self.handle_input(state, Input::WireFailed(fault)));
        }
        NextStep::Keep
    }

    /// Drops what came in on a socket whose reading was cancelled.
    fn discard(self: &Arc<Self>) -> NextStep {
        let Some(wire) = self.wire() else { return NextStep::UpdateInterest };
        let drained = wire.drain(&mut { DISCARD_BUDGET });
        let end = if drained == DrainResult::Eof { wire.classify_eof() } else { EofKind::Fin };
        let state = self.state();
        let input = match drained {
            DrainResult::Empty => return NextStep::Keep,
            DrainResult::More => return NextStep::RunAgain,
            DrainResult::Unable => return NextStep::RunLater,
            DrainResult::Eof => match end {
                EofKind::Error(fault) => Input::WireFailed(fault),
                EofKind::HangUp if state.machine.sends() => Input::WireFailed(Fault::Reset(None)),
                EofKind::HangUp | EofKind::Fin => Input::WireEof,
            },
            DrainResult::Failed(fault) => Input::WireFailed(fault),
        };
        drop(self.handle_input(state, input));
        NextStep::Keep
    }

    /// Over TLS what comes has to be decrypted before anyone knows what it is: does so until something is
    /// unread, which is then as in plaintext, or nothing more is there.
    fn ingest_in_background(self: &Arc<Self>, until: Instant) -> NextStep {
        if self.state().machine.runs_foreign_code() {
            self.defer_to_workers();
            return NextStep::Keep;
        }
        self.ingest_unattended(Some(until))
    }

    /// Takes in what is there, where nobody waits for it; on the loop until about then.
    pub(super) fn ingest_unattended(self: &Arc<Self>, until: Option<Instant>) -> NextStep {
        let Some(wire) = self.wire() else { return NextStep::UpdateInterest };
        let opening = self.state().is_opening();
        let result = self.ingest_until(&wire, (None, None), until);
        let mut state = self.state();
        if state.wire.is_none() {
            return NextStep::UpdateInterest;
        }
        if opening && !state.is_opening() {
            // The handshake is over, and callers do the rest.
            return if state.reports_readiness { NextStep::Keep } else { NextStep::UpdateInterest };
        }
        match result {
            IngestResult::All => {}
            IngestResult::Some => return NextStep::RunAgain,
            IngestResult::Unable => return NextStep::RunLater,
        }
        if state.machine.has_unread() && !state.reports_readiness && state.monitor == Monitor::Full
        {
            state.monitor = Monitor::ErrorsOnly;
            return NextStep::ErrorsOnly;
        }
        NextStep::Keep
    }

    /// [Takes in](Self::ingest_until) what is there, as whoever has the time.
    pub(super) fn ingest_available(
        self: &Arc<Self>,
        wire: &Arc<Wire>,
        other: Option<Side>,
        known: Option<Fault>,
    ) -> IngestResult {
        self.ingest_until(wire, (other, known), None)
    }

    /// Takes in what is there, within a budget, and only in small pieces where there is an end to the time. Only where no reader is at
    /// it. Whose thread it is may be at the wire in another direction, and know by what it has failed.
    fn ingest_until(
        self: &Arc<Self>,
        wire: &Arc<Wire>,
        (other, known): (Option<Side>, Option<Fault>),
        until: Option<Instant>,
    ) -> IngestResult {
        let mut buffers = buffers::borrow();
        let recv_buf = &mut buffers.get().recv;
        let opening = self.state().is_opening();
        for _ in 0..MAX_INGESTS {
            self.yield_to_waiters();
            let mut state = self.state();
            if opening && !state.is_opening() {
                // Callers do the rest.
                return IngestResult::All;
            }
            if let Some(loan) = state.machine.lend_to_begin() {
                drop(state);
                drop(self.begin_handshake(loan));
                continue;
            }
            let Some(permit) = state.machine.attend() else { return IngestResult::All };
            drop(state);
            let space = recv_buf.space();
            let max = if until.is_some() { space.len().min(INGEST_PIECE) } else { space.len() };
            let result = wire.recv(&mut RecvBufs::One(&mut space[..max]));
            let end = if matches!(result, Ok(0)) { wire.classify_eof() } else { EofKind::Fin };
            let mut state = self.state();
            if end == EofKind::HangUp && state.machine.sends() && other != Some(Side::Write) {
                state = self.wait_for_cause(state, Side::Write, Some(Side::Read));
            }
            let mut over = None;
            let actions = match result {
                Ok(0) => {
                    let what = match end {
                        EofKind::Error(fault) => Received::Failed(fault),
                        EofKind::HangUp if state.machine.sends() => {
                            Received::Failed(known.unwrap_or(Fault::Reset(None)))
                        }
                        EofKind::HangUp | EofKind::Fin => Received::Eof,
                    };
                    ActionSet::collect(state.machine.received(permit, what, clock::now()))
                }
                Ok(bytes) => {
                    recv_buf.filled(bytes);
                    let (back, actions) = self.ingest(state, permit, recv_buf);
                    state = back;
                    actions
                }
                Err(error) => {
                    let what = match classify(&error) {
                        Failure::Connection(fault) => Received::Failed(fault),
                        failure => {
                            over = match failure {
                                Failure::WouldBlock => Some(IngestResult::All),
                                Failure::Call(_) => Some(IngestResult::Unable),
                                _ => None,
                            };
                            Received::Nothing
                        }
                    };
                    let outputs = state.machine.received(permit, what, clock::now());
                    if over.is_some() { None } else { ActionSet::collect(outputs) }
                }
            };
            state = self.apply(state, actions);
            // A reader may have come meanwhile.
            self.notify_waiters(&state);
            if let Some(over) = over {
                return over;
            }
            if until.is_some_and(|until| clock::now() >= until) {
                break;
            }
        }
        IngestResult::Some
    }

    /// The loop could not register the wire, so nobody would learn of its end: tries it again later where that
    /// is all.
    pub(super) fn on_register_failed(self: &Arc<Self>, fault: Fault) {
        let mut state = self.state();
        state.stop_monitor();
        state.token.take();
        if state.reports_readiness || state.want_writable || state.machine.watch() == Watch::Ingest
        {
            // Who waits for the loop would wait for ever.
            drop(self.handle_input(state, Input::WireFailed(fault)));
        } else if let (true, Ok(loop_handle)) = (state.needs_monitor(), LoopHandle::get()) {
            if self.queue_for_monitoring(&mut state, loop_handle) {
                drop(state);
                loop_handle.post(Command::ScanIdle, Urgency::Soon);
            }
        }
    }
}

impl ConnectionState {
    /// The loop does not watch any more. Where it is listed it stays so, and the loop begins again.
    fn stop_monitor(&mut self) {
        match self.monitor {
            Monitor::Full | Monitor::ErrorsOnly => self.monitor = Monitor::Off,
            Monitor::Off | Monitor::Queued(_) => {}
        }
    }

    /// Whether the loop was to report for who waits by the condition variable, and nobody does any more.
    fn stop_reporting_readiness(&mut self) -> bool {
        let over = self.reports_readiness
            && !REGISTRATION_IS_PERMANENT
            && !self.recv.turn_held
            && !self.send.turn_held;
        self.reports_readiness &= !over;
        over
    }

    /// What the loop is to be told of the wire.
    fn interest(&self) -> Option<Interest> {
        if self.reports_readiness {
            return Some(Interest::READABLE | Interest::WRITABLE);
        }
        let reading = match (self.machine.watch(), self.monitor) {
            (Watch::Discard | Watch::Ingest, _) => Some(Interest::READABLE),
            (Watch::Nothing, _) => None,
            (Watch::End | Watch::Failure, Monitor::Full) => Some(Interest::READABLE),
            (Watch::End | Watch::Failure, Monitor::ErrorsOnly) => Some(ERRORS_ONLY),
            (Watch::End | Watch::Failure, Monitor::Off | Monitor::Queued(_)) => None,
        };
        match (reading, self.want_writable) {
            (Some(reading), true) => Some(reading | Interest::WRITABLE),
            (None, true) => Some(Interest::WRITABLE),
            (reading, false) => reading,
        }
    }
}
