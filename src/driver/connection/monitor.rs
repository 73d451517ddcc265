//! The event loop's monitoring of wires that no caller uses. It detects the peer's EOF and failures, and drops
//! incoming data if reading was cancelled.
//!
//! Monitoring starts when the reading turn has been free for a while. So a socket in use costs the event loop only an
//! occasional scan. Starting always means registering the wire, which reports the wire's present state.

use std::sync::Arc;
use std::time::Instant;

use super::buffers;
use super::eof::Observer;
use super::{Connection, ConnectionState, Monitor};
use crate::driver::event_loop::LoopHandle;
use crate::driver::event_loop::ready_queue::Readiness;
use crate::driver::event_loop::source::IdleSlot;
use crate::driver::event_loop::source::NextStep;
use crate::driver::sys::clock;
use crate::driver::sys::errno::{Failure, classify};
use crate::driver::sys::io_bufs::RecvBufs;
use crate::driver::sys::sync::mio::Interest;
use crate::driver::sys::wire::{
    DrainResult, ERRORS_ONLY, EofKind, REGISTRATION_IS_PERMANENT, Wire,
};
use crate::machine::{Background, Input, RecvEvent};
use crate::poll::Ready;

/// Maximum number of bytes that one call drops for one socket.
const DISCARD_BUDGET: usize = 64 * 1024;

/// Maximum number of receives that one call makes for one socket.
const MAX_INGESTS: usize = 8;

/// Maximum number of bytes that the event loop ingests between two reads of the clock. Decrypting that many bytes
/// takes about a millisecond if they are records without data.
const INGEST_PIECE: usize = 8 * 1024;

/// Extent to which the available data was ingested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IngestResult {
    /// All of it, or the rest is not wanted.
    All,
    /// There may be more.
    Some,
    /// The kernel is unable now, and will not report when it is able.
    Unable,
}

impl Connection {
    /// Queues the socket for monitoring once it is idle, unless it is queued already. Returns whether the caller has
    /// to post `Command::ScanIdle`.
    pub(crate) fn queue_for_monitoring(
        self: &Arc<Self>,
        state: &mut ConnectionState,
        loop_handle: &LoopHandle,
    ) -> bool {
        if matches!(state.monitor, Monitor::Queued(_)) {
            return false;
        }
        let source = Arc::downgrade(self);
        let (idle_slot, scan_idle) = loop_handle.idle_list().add(source, state.reads_done.into());
        state.monitor = Monitor::Queued(idle_slot);
        scan_idle
    }

    /// Queues a socket for monitoring if it needs that, is not monitored yet, and has no reader, who would queue it
    /// on releasing the turn. Any transition may create that need: the end of a handshake does, on whichever thread
    /// it happens. Returns whether the caller has to post `Command::ScanIdle`.
    pub(crate) fn queue_if_unmonitored(self: &Arc<Self>, state: &mut ConnectionState) -> bool {
        let is_handled = state.recv.turn.is_held() || state.is_watched();
        if state.monitor != Monitor::Off || is_handled || !state.needs_monitor() {
            return false;
        }
        match LoopHandle::get() {
            Ok(loop_handle) => {
                state.wire.is_some() && self.queue_for_monitoring(state, loop_handle)
            }
            Err(_) => false,
        }
    }

    /// Checks whether to register a socket that was queued when `reads_done` reading turns had ended.
    pub(crate) fn poll_idle(self: &Arc<Self>, idle_slot: IdleSlot, reads_done: u32) -> bool {
        let Ok(loop_handle) = LoopHandle::get() else { return false };
        let mut state = self.state();
        if state.monitor != Monitor::Queued(idle_slot) {
            // The socket was queued again elsewhere, or not at all.
            return false;
        }
        state.monitor = Monitor::Off;
        let handshaking = state.machine.background().drives_opening();
        let wanted = state.needs_monitor();
        if wanted && u32::from(state.reads_done) != reads_done && !state.awaits_data() {
            self.queue_for_monitoring(&mut state, loop_handle);
            return false;
        }
        // A reader queues the socket on releasing the turn.
        let register = handshaking || wanted && !state.recv.turn.is_held();
        if register {
            state.monitor = Monitor::FULL;
        }
        if handshaking {
            // From now on the event loop keeps the handshake's timer.
            drop(self.update_timer(state));
        }
        register
    }

    fn wire(&self) -> Option<Arc<Wire>> {
        self.state().wire.cloned()
    }

    /// Handles an event: brings the socket up to date with the wire, until about `until`.
    pub(crate) fn handle_event(self: &Arc<Self>, readiness: Readiness, until: Instant) -> NextStep {
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
            // A thread that is sending now checks this flag after a would-block, and tries again.
            state.send.ready = true;
            if state.machine.has_unsent() {
                drop(state);
                if self.transmit_on_loop() {
                    return NextStep::RunLater;
                }
                state = self.state();
            }
        }
        if writable && state.awaits_room() {
            state = self.look(state, Ready::WRITABLE);
        }
        let kept = if state.reports_readiness { NextStep::Keep } else { NextStep::UpdateInterest };
        match state.machine.background() {
            Background::Nothing => return kept,
            Background::Discard => {
                drop(state);
                return self.discard();
            }
            Background::Ingest | Background::Preamble => {
                drop(state);
                return self.ingest_in_background(until);
            }
            Background::WatchErrors => {
                drop(state);
                return if failed { self.probe_error() } else { NextStep::Keep };
            }
            Background::WatchEof if state.recv.turn.is_held() && state.awaits_data() => {
                // The end of the turn makes the event loop look again.
                state.note_missed();
                return NextStep::Keep;
            }
            Background::WatchEof if state.recv.turn.is_held() => {
                // The reader queues the socket on releasing the turn.
                state.stop_monitor();
                return kept;
            }
            Background::WatchEof => match state.monitor {
                Monitor::Full { .. } => {}
                Monitor::ErrorsOnly if failed => {}
                // Such as urgent data, which stays pending.
                Monitor::ErrorsOnly => return NextStep::Keep,
                Monitor::Off | Monitor::Queued(_) => return kept,
            },
        }
        if state.machine.is_tls() {
            drop(state);
            let next_step = self.ingest_in_background(until);
            // If the event reported data and a failure, no other event reports the failure. A wire that is
            // registered again, for failures only, reports it itself.
            let unread = failed && self.state().machine.background() == Background::WatchErrors;
            return if unread && next_step == NextStep::Keep {
                self.probe_error()
            } else {
                next_step
            };
        }
        match state.wire.cloned() {
            Some(wire) if state.machine.can_recv() => self.look_on_loop(state, &wire, failed),
            Some(_) | None => kept,
        }
    }

    fn probe_error(self: &Arc<Self>) -> NextStep {
        let mut state = self.state();
        let Some(wire) = state.wire.cloned() else { return NextStep::UpdateInterest };
        state.error_probe = true;
        drop(state);
        drop(self.check_failure(&wire, Observer::Reader));
        NextStep::Keep
    }

    /// Drops incoming data of a socket whose reading was cancelled.
    fn discard(self: &Arc<Self>) -> NextStep {
        let Some(wire) = self.wire() else { return NextStep::UpdateInterest };
        let drained = wire.drain(&mut { DISCARD_BUDGET });
        let end = if drained == DrainResult::Eof { wire.classify_eof() } else { EofKind::Fin };
        let (state, input) = match drained {
            DrainResult::Empty => return NextStep::Keep,
            DrainResult::More => return NextStep::RunAgain,
            DrainResult::Unable => return NextStep::RunLater,
            DrainResult::Eof => self.judge_eof_as_input(self.state(), end, Observer::Reader),
            DrainResult::Failed(fault) => (self.state(), Input::WireFailed(fault)),
        };
        drop(self.handle_input(state, input));
        NextStep::Keep
    }

    /// Ingests TLS records in the background, because only decryption shows whether they carry data. Stops when data
    /// is unread, as for plaintext, or when nothing more is available.
    fn ingest_in_background(self: &Arc<Self>, until: Instant) -> NextStep {
        if self.state().machine.runs_foreign_code() {
            self.defer_to_workers();
            return NextStep::Keep;
        }
        self.ingest_unattended(Some(until))
    }

    /// Ingests available records while no caller waits for them; on the event loop, until about `until`.
    pub(crate) fn ingest_unattended(self: &Arc<Self>, until: Option<Instant>) -> NextStep {
        let Some(wire) = self.wire() else { return NextStep::UpdateInterest };
        let opening = self.state().is_opening();
        let result = self.ingest_until(&wire, Observer::Reader, until);
        let mut state = self.state();
        if state.wire.is_none() {
            return NextStep::UpdateInterest;
        }
        if opening && !state.is_opening() {
            if state.is_watched() {
                // Data may have come with the end of the handshake.
                return NextStep::RunAgain;
            }
            // The handshake is complete; callers do the rest.
            return if state.reports_readiness { NextStep::Keep } else { NextStep::UpdateInterest };
        }
        match result {
            IngestResult::All => {}
            IngestResult::Some => return NextStep::RunAgain,
            IngestResult::Unable => return NextStep::RunLater,
        }
        let is_needed = state.reports_readiness || state.awaits_data();
        if state.machine.has_unread() && !is_needed && state.monitor.is_full() {
            state.monitor = Monitor::ErrorsOnly;
            return NextStep::ErrorsOnly;
        }
        NextStep::Keep
    }

    /// [Ingests](Self::ingest_until) available records on the caller's thread, with a time limit if it only looks.
    pub(crate) fn ingest_available(
        self: &Arc<Self>,
        wire: &Arc<Wire>,
        observer: Observer,
        until: Option<Instant>,
    ) -> IngestResult {
        let result = self.ingest_until(wire, observer, until);
        self.resume_after_ingesting(result);
        result
    }

    /// Ingests available records unless a reader is at the wire. Bounded by [`MAX_INGESTS`], and with `until` also by
    /// time, in pieces of [`INGEST_PIECE`] bytes.
    fn ingest_until(
        self: &Arc<Self>,
        wire: &Arc<Wire>,
        observer: Observer,
        until: Option<Instant>,
    ) -> IngestResult {
        let mut buffers = buffers::borrow();
        let recv_buf = &mut buffers.get().recv;
        let state = self.state();
        let opening = state.is_opening();
        let began_in_preamble = state.machine.background() == Background::Preamble;
        let began_foreign = state.machine.runs_foreign_code();
        drop(state);
        for _ in 0..MAX_INGESTS {
            self.yield_to_waiters();
            let mut state = self.state();
            if !state.wire.is(wire) {
                // The connection has ended, or a proxy was dialled again and these bytes are none of the new wire.
                return IngestResult::All;
            }
            if opening && !state.is_opening() {
                // Callers do the rest.
                return IngestResult::All;
            }
            if state.machine.background() == Background::Preamble {
                drop(state);
                match self.advance_preamble(wire, recv_buf, observer) {
                    None => continue,
                    Some(result) => return result,
                }
            }
            if began_in_preamble || (!began_foreign && state.machine.runs_foreign_code()) {
                // A handshake may run the program's code elsewhere.
                return IngestResult::Some;
            }
            if let Some(loan) = state.machine.lend_to_begin() {
                drop(state);
                drop(self.begin_handshake(loan));
                continue;
            }
            let Some(permit) = state.machine.begin_background_recv() else {
                if observer == Observer::Reader && state.machine.recv_in_flight() {
                    // The other thread may have found nothing before the event.
                    state.note_missed();
                }
                return IngestResult::All;
            };
            drop(state);
            let space = recv_buf.spare_mut();
            let max = if until.is_some() { space.len().min(INGEST_PIECE) } else { space.len() };
            let result = wire.recv(&mut RecvBufs::One(&mut space[..max]));
            let end = if matches!(result, Ok(0)) { wire.classify_eof() } else { EofKind::Fin };
            let mut state = self.state();
            let mut over = None;
            let actions = match result {
                Ok(0) => {
                    let what;
                    (state, what) = self.judge_eof(state, end, observer);
                    state.machine.handle_recv_event(permit, what, clock::now())
                }
                Ok(bytes) => {
                    state.recv.predictor.on_progress(bytes < max, true);
                    recv_buf.advance(bytes);
                    let (back, actions) = self.ingest(state, permit, recv_buf);
                    state = back;
                    actions
                }
                Err(error) => {
                    let what = match classify(&error) {
                        Failure::Connection(fault) => RecvEvent::Failed(fault),
                        failure => {
                            over = match failure {
                                Failure::WouldBlock => {
                                    state.recv.predictor.on_refused();
                                    Some(IngestResult::All)
                                }
                                Failure::Call(_) => Some(IngestResult::Unable),
                                _ => None,
                            };
                            RecvEvent::Cancelled
                        }
                    };
                    state.machine.handle_recv_event(permit, what, clock::now())
                }
            };
            state = self.apply(state, actions);
            state = self.report(state, Ready::NOTHING);
            // A reader may have started to wait.
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
}

impl ConnectionState {
    /// Ends monitoring. A queued socket stays queued, and the event loop starts again later.
    pub(crate) fn stop_monitor(&mut self) {
        match self.monitor {
            Monitor::Full { .. } | Monitor::ErrorsOnly => self.monitor = Monitor::Off,
            Monitor::Off | Monitor::Queued(_) => {}
        }
    }

    /// Stops readiness reports if no thread waits on the condition variable any more. Returns whether it did.
    fn stop_reporting_readiness(&mut self) -> bool {
        let over = self.reports_readiness
            && !REGISTRATION_IS_PERMANENT
            && !self.recv.turn.is_held()
            && !self.send.turn.is_held();
        self.reports_readiness &= !over;
        over
    }

    /// Returns the interest to register the wire with.
    pub(crate) fn interest(&self) -> Option<Interest> {
        if self.reports_readiness {
            return Some(Interest::READABLE | Interest::WRITABLE);
        }
        let reading = match (self.machine.background(), self.monitor) {
            (Background::Discard | Background::Ingest | Background::Preamble, _) => {
                Some(Interest::READABLE)
            }
            (Background::Nothing, _) => None,
            (Background::WatchEof | Background::WatchErrors, Monitor::Full { .. }) => {
                Some(Interest::READABLE)
            }
            (Background::WatchEof | Background::WatchErrors, Monitor::ErrorsOnly) => {
                Some(ERRORS_ONLY)
            }
            (Background::WatchEof | Background::WatchErrors, Monitor::Off | Monitor::Queued(_)) => {
                None
            }
        };
        match (reading, self.want_writable || self.awaits_room()) {
            (Some(reading), true) => Some(reading | Interest::WRITABLE),
            (None, true) => Some(Interest::WRITABLE),
            (reading, false) => reading,
        }
    }
}
