//! Reading and writing over TLS, by the caller's own thread: what is received is decrypted by the machine,
//! and what the machine has sealed is sent.
//!
//! A write that was sealed is accepted. The caller's thread hands it to the system as far as that goes at
//! once, and leaves the rest to the loop, which sends it when there is room. So no more than one thread
//! sends at a time, and nobody waits for another to do so but who has to: the writer who finds too much
//! waiting already, `flush`, and a close.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::attend::CallResult;
use super::buffers;
use super::clock;
use super::deeds::ActionSet;
use super::errno::{Failure, classify};
use super::event_loop::{self, REGISTRATION_IS_PERMANENT};
use super::patience::{CallTimer, Elapsed};
use super::readiness::WaitResult;
use super::reading::RecvResult;
use super::shared::{Connection, ConnectionState, StateGuard, WorkerTask};
use super::slices::{RecvBufs, SendBufs};
use super::wait::{PollResult, Side, WakeHandle};
use super::watch::IDLE_DELAY;
use super::wire::Wire;
use super::{Command, LoopHandle, Urgency};
use crate::error::{Fault, Result};
use crate::machine::{Input, Parcel, Received, RecvPass, SendPass, Watch};

/// What came of an attempt to send.
enum TransmitResult<'a> {
    /// There may be room for more.
    Progress(StateGuard<'a>),
    /// There is no room now.
    WouldBlock(StateGuard<'a>),
    /// The system can't send now, and does not tell when it can.
    Unable(StateGuard<'a>),
    /// Another thread is sending.
    Elsewhere(StateGuard<'a>),
}

impl Connection {
    // ------------------------------------------------------------- reading

    /// Receives ciphertext with a pass, which it ends.
    pub(super) fn recv_tls<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        permit: RecvPass,
        timer: &mut CallTimer,
    ) -> CallResult<'a> {
        let mut buffers = buffers::borrow();
        let recv_buf = &mut buffers.get().recv;
        match self.recv_with(state, permit, &mut RecvBufs::One(recv_buf.space()), timer) {
            RecvResult::Bytes { mut state, permit, bytes, wire } => {
                recv_buf.filled(bytes);
                let (back, actions) = self.ingest(state, permit, recv_buf);
                state = self.apply(back, actions);
                CallResult::Retry(self.checkin_wire(state, Side::Read, wire))
            }
            RecvResult::Ended(called) => called,
        }
    }

    /// Moves data that is here already, as much as fits.
    pub(super) fn read_plaintext<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        permit: RecvPass,
        bufs: &mut RecvBufs<'_, '_>,
    ) -> Result<usize> {
        let (bytes, outputs) = state.machine.take(permit, bufs.first_nonempty(), clock::now);
        let actions = ActionSet::collect(outputs);
        state = self.apply(state, actions);
        self.release_turn(state, Side::Read, Ok(bytes))
    }

    // ------------------------------------------------------------- the handshake

    /// Waits for a change, at most for `limit`. Where that is the end of a handshake, and nobody else is at
    /// it, this thread makes it meanwhile: that saves waking the loop, and being woken by it.
    pub(super) fn wait_or_handshake<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        limit: Option<Duration>,
    ) -> StateGuard<'a> {
        let handshaking = state.is_opening() && state.machine.watch() == Watch::Ingest;
        if !handshaking || (state.worker_task != WorkerTask::None && self.runs_on_workers(&state)) {
            return self.wait_changed(state, limit);
        }
        if let Some(loan) = state.machine.lend_to_begin() {
            drop(state);
            return self.begin_handshake(loan);
        }
        let can_drive = planted!(HandshakeSpins) || state.can_drive_recv();
        if state.reports_readiness || state.recv.parked || !can_drive {
            return self.wait_changed(state, limit);
        }
        let (Some(handle), Some(wire)) = (WakeHandle::current(), state.wire.cloned()) else {
            return self.wait_changed(state, limit);
        };
        // Nobody is at the wire by a lane of their own; whatever ends the wait wakes one of them.
        for side in [Side::Read, Side::Write] {
            let direction = state.direction(side);
            direction.parked = true;
            direction.parker = Arc::downgrade(&handle);
        }
        drop(state);
        let waited = handle.wait(&wire, Side::Read, limit);
        let mut state = self.state();
        state.recv.parked = false;
        state.send.parked = false;
        if matches!(waited, Ok(PollResult::Ready)) {
            let elsewhere = self.runs_on_workers(&state);
            drop(state);
            match elsewhere {
                true => self.defer_to_workers(),
                false => drop(self.ingest_available(&wire, None, None)),
            }
            state = self.state();
        }
        // Another may go on with it.
        self.notify_waiters(&state);
        if state.is_opening() && state.token.get().is_none() {
            // It may not come back.
            let gives_up = limit.is_some() && !matches!(waited, Ok(PollResult::Ready));
            if let (true, Ok(loop_handle)) = (gives_up || waited.is_err(), LoopHandle::get()) {
                drop(state);
                loop_handle.post(Command::UpdateInterest(Arc::clone(self)), Urgency::Soon);
                state = self.state();
            }
        }
        self.drop_wire_if_last(state, wire)
    }

    /// Has somebody make the handshake: a thread that waits for it anyway, or else the loop, soon.
    pub(super) fn schedule_handshake(self: &Arc<Self>, loop_handle: &LoopHandle) {
        let mut state = self.state();
        let registered = REGISTRATION_IS_PERMANENT || state.token.get().is_some();
        if registered || !state.is_opening() || event_loop::is_loop_thread() {
            drop(state);
            loop_handle.post(Command::UpdateInterest(Arc::clone(self)), Urgency::Now);
        } else if self.queue_for_monitoring(&mut state, loop_handle) {
            drop(state);
            loop_handle.post(Command::ScanIdle, Urgency::Soon);
        }
    }

    // ------------------------------------------------------------- writing

    /// Seals with a pass, which it ends, when there is room, and sends as far as that goes at once.
    pub(super) fn write_tls<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        permit: SendPass,
        bufs: &SendBufs<'_, '_>,
        timer: &mut CallTimer,
    ) -> CallResult<'a> {
        if state.machine.still_sends(&permit) && !state.machine.has_room() {
            let enough = |state: &ConnectionState| {
                !state.machine.still_sends(&permit) || state.machine.has_room()
            };
            state = match self.send_queued_until(state, timer, enough) {
                Ok(state) => state,
                Err(state) => return CallResult::Done(self.fail_send_timed_out(state, permit)),
            };
        }
        let mut buffers = buffers::borrow();
        let transmit = &mut buffers.get().transmit;
        let (bytes, outputs) = state.machine.seal(permit, &bufs.coalesce(), transmit, clock::now);
        let actions = ActionSet::collect(outputs);
        let mut blocked = false;
        if !transmit.is_empty() {
            state = match self.send_transmit(state, transmit) {
                TransmitResult::WouldBlock(state) => {
                    blocked = !state.send.ready;
                    state
                }
                TransmitResult::Progress(state)
                | TransmitResult::Elsewhere(state)
                | TransmitResult::Unable(state) => state,
            };
        }
        state = self.apply(state, actions);
        if state.machine.has_unsent() {
            state = match blocked {
                true => self.defer_to_loop(state),
                false => self.transmit_locked(state),
            };
        }
        // Where nothing was accepted the machine says why when it is asked again.
        match bytes {
            0 => CallResult::Retry(state),
            bytes => CallResult::Done(self.release_turn(state, Side::Write, Ok(bytes))),
        }
    }

    /// Sends what waits, as far as that goes at once, and leaves the rest to the loop.
    pub(super) fn transmit(self: &Arc<Self>) {
        let state = self.transmit_locked(self.state());
        self.notify_send_room(state);
    }

    /// The same, on the loop; says whether to come back for it without an event.
    pub(super) fn transmit_on_loop(self: &Arc<Self>) -> bool {
        let (state, unable) = match self.send_queued(self.state()) {
            TransmitResult::Progress(state) | TransmitResult::Elsewhere(state) => (state, false),
            TransmitResult::WouldBlock(state) => (self.defer_to_loop(state), false),
            TransmitResult::Unable(state) => (state, true),
        };
        self.notify_send_room(state);
        unable
    }

    /// Somebody may wait for just that.
    fn notify_send_room(&self, state: StateGuard<'_>) {
        if planted!(LoopSendsSilently) {
            return;
        }
        let wake = state.send.parker_to_wake();
        self.notify_waiters(&state);
        drop(state);
        if let Some(handle) = wake {
            handle.wake();
        }
    }

    pub(super) fn transmit_locked<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
    ) -> StateGuard<'a> {
        match self.send_queued(state) {
            TransmitResult::Progress(state) | TransmitResult::Elsewhere(state) => state,
            TransmitResult::WouldBlock(state) => self.defer_to_loop(state),
            TransmitResult::Unable(mut state) => {
                // It may have been told before, and has to look again.
                state.want_writable = false;
                self.defer_to_loop(state)
            }
        }
    }

    /// Sends what waits, as far as that goes at once.
    fn send_queued<'a>(self: &'a Arc<Self>, mut state: StateGuard<'a>) -> TransmitResult<'a> {
        while state.wire.is_some() {
            let Some(mut transmit) = state.machine.transmit() else {
                let elsewhere = state.machine.has_unsent();
                return if elsewhere {
                    TransmitResult::Elsewhere(state)
                } else {
                    TransmitResult::Progress(state)
                };
            };
            state = match self.send_transmit(state, &mut transmit) {
                TransmitResult::WouldBlock(state) if !state.send.ready => {
                    return TransmitResult::WouldBlock(state);
                }
                TransmitResult::Unable(state) => return TransmitResult::Unable(state),
                TransmitResult::Progress(state)
                | TransmitResult::WouldBlock(state)
                | TransmitResult::Elsewhere(state) => state,
            };
        }
        TransmitResult::Progress(state)
    }

    /// Sends what waits until it is enough; an error where the call's limit passed. Who waits here sends by
    /// itself, and leaves the rest to the loop only where it goes.
    fn send_queued_until<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        timer: &mut CallTimer,
        enough: impl Fn(&ConnectionState) -> bool,
    ) -> Result<StateGuard<'a>, StateGuard<'a>> {
        loop {
            let progress = self.send_queued(state);
            let (back, pause) = match progress {
                // A session that is lent comes back, whether there is room or not.
                TransmitResult::Progress(state) | TransmitResult::WouldBlock(state)
                    if state.machine.is_lent() && !planted!(LentSessionSpins) =>
                {
                    (state, Some(Duration::MAX))
                }
                TransmitResult::Progress(state) | TransmitResult::WouldBlock(state) => {
                    (state, None)
                }
                TransmitResult::Elsewhere(state) => (state, Some(Duration::MAX)),
                TransmitResult::Unable(state) => (state, Some(IDLE_DELAY)),
            };
            state = back;
            if enough(&state) {
                return Ok(state);
            }
            let waited = match pause {
                None => self.wait_send_room(state, timer),
                // There is room, and to wait for that would be to spin until the other is done, or the system is
                // able to send.
                Some(pause) => match timer.left(state.call_limit(Side::Write)) {
                    Ok(None) if pause == Duration::MAX => Ok(self.wait_changed(state, None)),
                    Ok(left) => {
                        let left = left.map_or(pause, |left| left.min(pause));
                        Ok(self.wait_changed(state, Some(left)))
                    }
                    Err(Elapsed) => Err(state),
                },
            };
            state = match waited {
                Ok(state) => state,
                Err(state) if state.machine.has_unsent() => return Err(self.defer_to_loop(state)),
                Err(state) => return Err(state),
            };
        }
    }

    /// Sends a parcel and gives it back.
    fn send_transmit<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        transmit: &mut Parcel,
    ) -> TransmitResult<'a> {
        let Some(wire) = state.wire.checkout(Side::Write) else {
            // It was let go of; the machine knows why.
            drop(state.machine.transmitted(transmit));
            return TransmitResult::Progress(state);
        };
        state.send.ready = false;
        drop(state);
        let result = wire.send(&SendBufs::One(transmit.bytes()));
        state = self.state();
        let mut progress: fn(StateGuard<'a>) -> TransmitResult<'a> = TransmitResult::Progress;
        let actions = match result {
            Ok(bytes) => {
                transmit.sent(bytes);
                ActionSet::collect(state.machine.transmitted(transmit))
            }
            Err(error) => match classify(&error) {
                Failure::Connection(fault) => {
                    // A broken pipe is all that it says to those whom it does not tell why.
                    let known = (error.kind() != io::ErrorKind::BrokenPipe).then_some(fault);
                    state = self.drain_after_send_error(state, &wire, known);
                    ActionSet::collect(state.machine.not_transmitted(transmit, fault, clock::now()))
                }
                failure => {
                    progress = match failure {
                        Failure::WouldBlock => TransmitResult::WouldBlock,
                        Failure::Call(_) => TransmitResult::Unable,
                        _ => TransmitResult::Progress,
                    };
                    ActionSet::collect(state.machine.transmitted(transmit))
                }
            },
        };
        state = self.apply(state, actions);
        state = self.checkin_wire(state, Side::Write, wire);
        if state.want_writable && !state.machine.has_unsent() {
            state = self.reclaim_from_loop(state);
        }
        progress(state)
    }

    /// The wire failed while something was sent. What the peer said before, such as an alert, tells more
    /// than that.
    fn drain_after_send_error<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        wire: &Arc<Wire>,
        known: Option<Fault>,
    ) -> StateGuard<'a> {
        if state.machine.runs_foreign_code() {
            // Whoever closes it does not wait for that.
            let mut state = state;
            state.error_probe = true;
            drop(state);
            self.defer_to_workers();
        } else {
            drop(state);
            self.ingest_available(wire, Some(Side::Write), known);
        }
        let own = known.is_none().then_some(Side::Write);
        self.wait_for_cause(self.state(), Side::Read, own)
    }

    /// Has the loop send the rest when there is room.
    fn defer_to_loop<'a>(self: &'a Arc<Self>, mut state: StateGuard<'a>) -> StateGuard<'a> {
        if state.want_writable || state.wire.is_none() {
            return state;
        }
        state.want_writable = true;
        drop(state);
        match LoopHandle::get() {
            Ok(loop_handle) => {
                loop_handle.post(Command::UpdateInterest(Arc::clone(self)), Urgency::Now)
            }
            Err(fault) => drop(self.handle_input(self.state(), Input::WireFailed(fault))),
        }
        self.state()
    }

    /// Nothing waits for room any more, and the loop is not to be woken by it.
    #[cold]
    fn reclaim_from_loop<'a>(self: &'a Arc<Self>, mut state: StateGuard<'a>) -> StateGuard<'a> {
        state.want_writable = false;
        drop(state);
        if let Ok(loop_handle) = LoopHandle::get() {
            loop_handle.post(Command::UpdateInterest(Arc::clone(self)), Urgency::Soon);
        }
        self.state()
    }

    /// Waits until more can be sent, or something has changed. An error where the call's limit passed.
    pub(super) fn wait_send_room<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        timer: &mut CallTimer,
    ) -> Result<StateGuard<'a>, StateGuard<'a>> {
        let Some(wire) = state.wire.cloned() else {
            return match timer.left(state.call_limit(Side::Write)) {
                Ok(left) => Ok(self.wait_changed(state, left)),
                Err(_) => Err(state),
            };
        };
        let state = match self.wait_ready(state, &wire, Side::Write, timer) {
            WaitResult::Ready => {
                let mut state = self.state();
                state.send.parked = false;
                state
            }
            WaitResult::Recheck(state) => self.handle_close_timer(state),
            // Nobody else would wait for it.
            WaitResult::Failed(state, fault) => self.handle_input(state, Input::WireFailed(fault)),
            WaitResult::Elapsed(state) => return Err(state),
        };
        Ok(self.drop_wire_if_last(state, wire))
    }

    /// Waits until the system has all that was accepted; an error where the call's limit passed.
    pub(super) fn wait_flushed<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        timer: &mut CallTimer,
    ) -> Result<StateGuard<'a>, StateGuard<'a>> {
        self.send_queued_until(state, timer, |state| !state.machine.has_unsent())
    }

    /// Gives back the wire that a call was lent.
    #[inline(always)]
    fn checkin_wire<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        side: Side,
        wire: Arc<Wire>,
    ) -> StateGuard<'a> {
        match state.wire.checkin(side, wire) {
            None => state,
            Some(wire) => self.drop_wire_unlocked(state, wire),
        }
    }

    /// Lets go of a wire outside the lock, where that may close its descriptor.
    pub(super) fn drop_wire_if_last<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        wire: Arc<Wire>,
    ) -> StateGuard<'a> {
        if state.wire.is_some() {
            drop(wire);
            return state;
        }
        self.drop_wire_unlocked(state, wire)
    }

    #[cold]
    fn drop_wire_unlocked<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        wire: Arc<Wire>,
    ) -> StateGuard<'a> {
        drop(state);
        drop(wire);
        self.state()
    }
}

impl ConnectionState {
    /// Whether who finds the wire ready may receive. While another does, or sends what has to go first, it stays
    /// ready, and to wait for that would be to spin.
    fn can_drive_recv(&mut self) -> bool {
        let Some(permit) = self.machine.attend() else { return false };
        drop(self.machine.received(permit, Received::Nothing, clock::now()));
        true
    }
}
