//! Looks at the wire of a watched socket, on the event loop or on the thread that waits for a poller.
//!
//! In plaintext a look takes nothing, and no turn, so that a thread which tries to read finds the data at the same time.
//! Only if the wire has probably ended, a receive has to tell how, with the turn and a permit. Over TLS a look ingests
//! records up to the first data.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::eof::{Observer, may_be_known};
use super::monitor::IngestResult;
use super::watched::{Readiness, post_monitoring};
use super::{Connection, ConnectionState, Monitor, StateGuard, Turn};
use crate::driver::event_loop::source::NextStep;
use crate::driver::event_loop::{Command, LoopHandle};
use crate::driver::poller::{PollerInner, Reported, WatchId};
use crate::driver::sys::clock;
use crate::driver::sys::errno::{Failure, classify};
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::{EofKind, Incoming, Wire};
use crate::machine::{Background, Input, ReadStep, RecvEvent};
use crate::poll::Ready;

/// The time after which a look ingests no further records. The event loop continues.
const MAX_LOOK: Duration = Duration::from_millis(1);

impl ConnectionState {
    /// Records that a look at the wire was skipped, because another thread was there.
    /// From then on the event loop reports what happens, until a watch is armed again.
    pub(crate) fn note_missed(&mut self) {
        self.missed = true;
        if !planted!(PollerHidesMissed) {
            self.deregister_from_pollers();
        }
    }

    /// Returns whether a look was skipped, and clears the record.
    pub(crate) fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.missed)
    }

    /// Returns whether no data is there but what the kernel reports to the poller of a watch. Over a Unix-domain socket that
    /// is not known, because a receive stops at a passed descriptor.
    pub(super) fn has_nothing_unreported(&mut self, poller: &PollerInner, id: WatchId) -> bool {
        let is_drained = self.recv.predictor.has_drained() || planted!(PollerSkipsLook);
        let may_stop_early = self.wire.is_unix();
        let watches = self.extras.watches_mut();
        is_drained && !may_stop_early && watches.is_some_and(|it| it.is_told_of_data(poller, id))
    }

    /// Records what the kernel has reported of a watch. `wire` has the events for which a look would decide.
    pub(super) fn note_reported(
        &mut self,
        poller: &PollerInner,
        id: WatchId,
        reported: Reported,
        wire: Ready,
    ) {
        let is_decisive = wire.has(Ready::READABLE) && !self.machine.is_tls();
        let Some(watches) = self.extras.watches_mut() else { return };
        match reported {
            Reported::Data(poll) if is_decisive => watches.believe(poller, id, poll),
            Reported::Urgent => watches.note_urgent(poller, id),
            Reported::Data(_) | Reported::Something => {}
        }
    }

    /// Follows unread data, of which the event loop needs no further events, unless other parties need them.
    fn on_unread(&mut self) -> NextStep {
        if self.reports_readiness || self.awaits_data() {
            return NextStep::Keep;
        }
        self.monitor = Monitor::ErrorsOnly;
        NextStep::ErrorsOnly
    }

    /// Returns whether to assume that the send buffer has room, where the system does not tell: unless the last send
    /// found none, and no event came since. A send that finds none then makes the system report the next room.
    fn is_assumed_writable(&self) -> bool {
        self.send.ready || !self.send.predictor.was_blocked()
    }
}

impl Connection {
    /// Looks at the wire for the events that some watch waits for, and reports what it finds. `event` says for which events
    /// there is a reason to look.
    pub(crate) fn look<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        event: Ready,
    ) -> StateGuard<'a> {
        let wanted = state.awaited().only(event);
        let Readiness { wire: decided, busy, .. } = state.readiness();
        if wanted.has(busy) {
            state.note_missed();
        }
        let wanted = wanted.only(decided);
        let Some(wire) = state.wire.cloned().filter(|_| !wanted.is_nothing()) else {
            return self.report(state, Ready::NOTHING);
        };
        let mut found = Ready::NOTHING;
        if wanted.has(Ready::WRITABLE) {
            drop(state);
            let is_writable = wire.is_writable();
            state = self.state();
            let is_writable = is_writable.unwrap_or_else(|| state.is_assumed_writable());
            found = Ready::WRITABLE.when(is_writable);
        }
        if wanted.has(Ready::READABLE) {
            if state.machine.is_tls() {
                let is_foreign = state.machine.runs_foreign_code();
                drop(state);
                if is_foreign {
                    self.defer_to_workers();
                } else {
                    // Like a check of the health, it does not wait for a thread that sends.
                    let until = clock::now() + MAX_LOOK;
                    self.ingest_available(&wire, Observer::Sender(None), Some(until));
                }
                state = self.state();
            } else {
                let is_readable;
                (state, is_readable) = self.look_for_data(state, &wire);
                found = found.and(Ready::READABLE.when(is_readable));
            }
        }
        let state = self.report(state, found);
        self.drop_wire_if_last(state, wire)
    }

    /// Looks for data, in plaintext. Returns whether a read would not wait. Data is found without the turn, so that a
    /// thread which tries to read finds it at the same time.
    fn look_for_data<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        wire: &Arc<Wire>,
    ) -> (StateGuard<'a>, bool) {
        if state.recv.turn.is_held() {
            state.note_missed();
            return (state, false);
        }
        let reads_done = state.reads_done;
        drop(state);
        let incoming = wire.incoming();
        let mut state = self.state();
        if !state.wire.is(wire) || !state.machine.can_recv() {
            return (state, false);
        }
        if state.was_read_since(reads_done) {
            state.note_missed();
            return (self.resume_monitoring(state), false);
        }
        match incoming {
            Incoming::Nothing if state.failure().is_none() => (state, false),
            Incoming::Data => (state, true),
            // No data is left before a failure that is known.
            Incoming::Nothing | Incoming::End => self.peek_at_end(state, wire),
        }
    }

    /// Peeks at a plaintext wire that has probably ended. Returns whether it has data after all.
    fn peek_at_end<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        wire: &Wire,
    ) -> (StateGuard<'a>, bool) {
        let ReadStep::Recv(permit) = state.machine.read() else { return (state, false) };
        let mut turn = Turn::take(self, state, Side::Read);
        let (peeked, end) = loop {
            let failed_before = turn.failure().is_some();
            turn.unlock();
            let peeked = wire.peek(&mut [0]);
            let end = if matches!(peeked, Ok(0)) { wire.classify_eof() } else { EofKind::Fin };
            turn.lock();
            // Data may have come between the peek and the failure.
            let found_nothing =
                matches!(&peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
            if failed_before || turn.failure().is_none() || !found_nothing {
                break (peeked, end);
            }
        };
        let mut is_readable = false;
        let what = match peeked {
            // The writer has the cause, and is about to record it.
            Ok(0)
                if may_be_known(end, turn.machine.is_write_open())
                    && turn.may_have_cause(Side::Write) =>
            {
                // The kernel may not report the end again.
                turn.note_missed();
                RecvEvent::Cancelled
            }
            Ok(0) => {
                let mut event = RecvEvent::Eof;
                turn.lend(|connection, state| {
                    let judged = connection.judge_eof(state, end, Observer::Sender(None));
                    event = judged.1;
                    judged.0
                });
                event
            }
            Ok(_) => {
                is_readable = turn.machine.permits_recv(&permit);
                RecvEvent::Cancelled
            }
            Err(error) => match (classify(&error), turn.failure()) {
                (Failure::Connection(fault), _) => RecvEvent::Failed(fault),
                // No data is left before the failure.
                (Failure::WouldBlock, Some(fault)) if turn.machine.permits_recv(&permit) => {
                    RecvEvent::Failed(fault)
                }
                (Failure::WouldBlock | Failure::Interrupted, _) => RecvEvent::Cancelled,
                // The kernel does not report when it is able. The event loop tries again.
                (Failure::Call(_), _) => {
                    turn.note_missed();
                    RecvEvent::Cancelled
                }
            },
        };
        let mut state = turn.release_unused();
        let actions = state.machine.handle_recv_event(permit, what, clock::now());
        state = self.apply(state, actions);
        // A caller may have started to wait for the turn, or the event loop may have left an event to this thread.
        self.notify_waiters(&state);
        (self.resume_monitoring(state), is_readable)
    }

    /// Looks at a plaintext wire that no thread reads. Data is found without the turn, so that a thread which tries to
    /// read finds it at the same time.
    pub(super) fn look_on_loop(
        self: &Arc<Self>,
        state: StateGuard<'_>,
        wire: &Arc<Wire>,
        failed: bool,
    ) -> NextStep {
        let reads_done = state.reads_done;
        drop(state);
        let incoming = wire.incoming();
        let mut state = self.state();
        if state.was_read_since(reads_done)
            || state.machine.background() != Background::WatchEof
            || !state.wire.is(wire)
        {
            return NextStep::RunAgain;
        }
        match incoming {
            Incoming::Nothing => NextStep::Keep,
            Incoming::Data => {
                let next_step = state.on_unread();
                let mut state = self.report_from_loop(state, Ready::READABLE);
                if failed {
                    // No receive sees the failure before the data is read.
                    state.error_probe = true;
                    drop(state);
                    let failure = wire.take_error();
                    state = self.state();
                    state.error_probe = false;
                    self.notify_waiters(&state);
                    if let Some(fault) = failure {
                        drop(self.handle_input(state, Input::WireFailed(fault)));
                    }
                }
                next_step
            }
            Incoming::End => self.peek_on_loop(state, wire, failed),
        }
    }

    /// Peeks at a plaintext wire that has probably ended.
    fn peek_on_loop(
        self: &Arc<Self>,
        mut state: StateGuard<'_>,
        wire: &Wire,
        failed: bool,
    ) -> NextStep {
        let ReadStep::Recv(permit) = state.machine.read() else { return NextStep::RunAgain };
        let mut turn = Turn::take(self, state, Side::Read);
        turn.unlock();
        let peeked = wire.peek(&mut [0]);
        let unread = matches!(peeked, Ok(bytes) if bytes > 0);
        let end = if matches!(peeked, Ok(0)) { wire.classify_eof() } else { EofKind::Fin };
        let failure = match peeked {
            Ok(0) => None,
            Ok(_) | Err(_) if failed => wire.take_error(),
            Ok(_) | Err(_) => None,
        };
        turn.lock();
        let (what, next_step) = match (peeked, failure) {
            (Ok(0), _) => (turn.judge_eof(end), NextStep::Keep),
            (Ok(_), _) => (RecvEvent::Cancelled, turn.on_unread()),
            (Err(error), failure) => match (classify(&error), failure) {
                (Failure::Connection(fault), _) => (RecvEvent::Failed(fault), NextStep::Keep),
                (_, Some(fault)) => (RecvEvent::Failed(fault), NextStep::Keep),
                (Failure::WouldBlock, None) => (RecvEvent::Cancelled, NextStep::Keep),
                // The call saw nothing, and no other event will follow.
                (Failure::Interrupted, None) => (RecvEvent::Cancelled, NextStep::RunAgain),
                (Failure::Call(_), None) => (RecvEvent::Cancelled, NextStep::RunLater),
            },
        };
        let mut state = turn.release_unused();
        let actions = state.machine.handle_recv_event(permit, what, clock::now());
        state = self.apply(state, actions);
        if let (true, Some(fault)) = (unread, failure) {
            state = self.handle_input(state, Input::WireFailed(fault));
        }
        if unread {
            state = self.report_from_loop(state, Ready::READABLE);
        }
        // A caller may have started to wait for the turn.
        self.notify_waiters(&state);
        next_step
    }

    /// Has the event loop monitor the socket again, after a turn during which it may have left an event to this thread.
    pub(crate) fn resume_monitoring<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
    ) -> StateGuard<'a> {
        if state.recv.turn.is_held() {
            // Its end does the same.
            return state;
        }
        let is_off = state.monitor == Monitor::Off && state.needs_monitor();
        let Ok(loop_handle) = LoopHandle::get() else { return state };
        if state.wire.is_none() || !(state.take_missed() || is_off) {
            return state;
        }
        let command = match is_off || state.needs_monitor_now() {
            true => self.start_monitoring(&mut state, loop_handle),
            false => None,
        };
        // Registering again makes the kernel report what is so now.
        let command = match (command, is_off) {
            (None, false) => Some(Command::UpdateInterest(self.loop_source())),
            (command, _) => command,
        };
        if command.is_none() {
            return state;
        }
        drop(state);
        post_monitoring(command);
        self.state()
    }

    /// Has the event loop look again after an ingestion on the caller's thread, if the event loop has left an event to
    /// this thread, or if records that a poller waits for may be left.
    pub(crate) fn resume_after_ingesting(self: &Arc<Self>, result: IngestResult) {
        let mut state = self.state();
        if result != IngestResult::All && state.is_watched() {
            state.note_missed();
        }
        let missed = state.take_missed() && !planted!(IngestionForgetsMissed);
        if !missed || state.wire.is_none() {
            return;
        }
        if let (true, Ok(loop_handle)) = (state.needs_monitor_now(), LoopHandle::get()) {
            drop(self.start_monitoring(&mut state, loop_handle));
        }
        drop(state);
        // Registering again makes the kernel report what is so now.
        post_monitoring(Some(Command::UpdateInterest(self.loop_source())));
    }
}
