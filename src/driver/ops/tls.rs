//! Reads and writes over TLS, on the caller's own thread. The machine decrypts the received bytes and encrypts the
//! written ones.
//!
//! A write succeeds as soon as its data is encrypted. The caller's thread hands the ciphertext to the kernel as far
//! as the send buffer allows. The event loop sends the rest when the wire becomes writable. So only one thread sends
//! at a time, and few callers wait for it: a writer that finds the queue full, `flush`, and a close.

use std::sync::Arc;
use std::time::Duration;

use super::read::RecvResult;
use super::retry::CallStep;
use super::transmit::{TransmitResult, UnknownCause};
use super::wait::WaitResult;
use crate::driver::connection::buffers;
use crate::driver::connection::call_timer::{CallTimer, Elapsed};
use crate::driver::connection::eof::Observer;
use crate::driver::connection::{Connection, ConnectionState, StateGuard, Turn, WorkerTask};
use crate::driver::event_loop::idle_list::IDLE_DELAY;
use crate::driver::event_loop::{self, Command, LoopHandle, Urgency};
use crate::driver::sys::clock;
use crate::driver::sys::io_bufs::{RecvBufs, SendBufs};
use crate::driver::sys::wake::{PollResult, Side, WakeHandle};
use crate::driver::sys::wire::REGISTRATION_IS_PERMANENT;
use crate::error::Result;
use crate::machine::{Input, RecvEvent, RecvPermit, SendPermit};

impl Turn<'_> {
    /// Receives ciphertext, using up the permit.
    pub(crate) fn recv_tls(&mut self, permit: RecvPermit, timer: &mut CallTimer) -> CallStep {
        let mut buffers = buffers::borrow();
        let recv_buf = &mut buffers.get().recv;
        match self.recv_with(permit, &mut RecvBufs::One(recv_buf.spare_mut()), timer) {
            RecvResult::Bytes { permit, bytes, wire } => {
                recv_buf.advance(bytes);
                self.lend(|connection, state| {
                    let (state, actions) = connection.ingest(state, permit, recv_buf);
                    connection.apply(state, actions)
                });
                self.count_decrypted();
                self.checkin_wire(wire);
                CallStep::AskAgain
            }
            RecvResult::Ended(next) => next,
        }
    }

    /// Moves decrypted data into the buffer, as much as fits.
    pub(crate) fn read_plaintext(
        mut self,
        permit: RecvPermit,
        bufs: &mut RecvBufs<'_, '_>,
    ) -> Result<usize> {
        let (bytes, actions) =
            self.machine.take_plaintext(permit, bufs.first_nonempty(), clock::now);
        self.apply(actions);
        self.release();
        Ok(bytes)
    }

    /// Waits for a change, or drives the handshake, until the call's limit passes.
    pub(crate) fn wait_or_handshake(&mut self, timer: &mut CallTimer) -> Result<()> {
        let side = self.side();
        match timer.left(self.call_limit(side)) {
            Ok(left) => {
                self.lend(|connection, state| connection.wait_or_handshake(state, left));
                Ok(())
            }
            Err(Elapsed) => Err(side.timeout_error()),
        }
    }

    /// Encrypts data once the queue has room, using up the permit, and sends what the kernel accepts at once.
    pub(crate) fn write_tls(
        &mut self,
        permit: SendPermit,
        bufs: &SendBufs<'_, '_>,
        timer: &mut CallTimer,
    ) -> CallStep {
        if self.machine.permits_send(&permit) && !self.machine.can_seal() {
            let enough = |state: &ConnectionState| {
                !state.machine.permits_send(&permit) || state.machine.can_seal()
            };
            if let Err(error) = self.send_queued_until(timer, enough) {
                self.cancel_send(permit);
                return CallStep::Return(Err(error));
            }
        }
        self.seal_and_send(permit, bufs, UnknownCause::Wait)
    }

    /// Encrypts data into the room that the queue has, using up the permit, and sends what the kernel accepts at once.
    pub(crate) fn seal_and_send(
        &mut self,
        permit: SendPermit,
        bufs: &SendBufs<'_, '_>,
        unknown: UnknownCause,
    ) -> CallStep {
        let mut buffers = buffers::borrow();
        let transmit = &mut buffers.get().transmit;
        let (bytes, actions) = self.machine.seal(permit, &bufs.coalesce(), transmit, clock::now);
        let mut blocked = false;
        if !transmit.is_empty() {
            self.lend(|connection, state| {
                match connection.send_transmit(state, transmit, unknown) {
                    TransmitResult::WouldBlock(state) => {
                        blocked = !state.send.ready;
                        state
                    }
                    TransmitResult::Progress(state)
                    | TransmitResult::Elsewhere(state)
                    | TransmitResult::Unable(state) => state,
                }
            });
        }
        self.apply(actions);
        if self.machine.has_unsent() {
            self.lend(|connection, state| match blocked {
                true => connection.defer_to_loop(state),
                false => connection.transmit_locked(state, unknown),
            });
        }
        // If nothing was accepted, the machine reports the reason when it is asked again.
        match bytes {
            0 => CallStep::AskAgain,
            bytes => CallStep::Return(Ok(bytes)),
        }
    }

    /// Waits until the kernel has all accepted data. Fails if the call's limit passes.
    pub(crate) fn wait_flushed(&mut self, timer: &mut CallTimer) -> Result<()> {
        self.send_queued_until(timer, |state| !state.machine.has_unsent())
    }

    /// Sends queued ciphertext until `enough` returns true. Fails if the call's limit passes. The calling thread does
    /// the sending itself, and leaves the rest to the event loop only when its limit passes.
    fn send_queued_until(
        &mut self,
        timer: &mut CallTimer,
        enough: impl Fn(&ConnectionState) -> bool,
    ) -> Result<()> {
        loop {
            let mut pause = None;
            self.lend(|connection, state| {
                match connection.send_queued(state, UnknownCause::Wait) {
                    // A lent session comes back whether the wire is writable or not.
                    TransmitResult::Progress(state) | TransmitResult::WouldBlock(state)
                        if state.machine.is_lent() && !planted!(LentSessionSpins) =>
                    {
                        pause = Some(Duration::MAX);
                        state
                    }
                    TransmitResult::Progress(state) | TransmitResult::WouldBlock(state) => state,
                    TransmitResult::Elsewhere(state) => {
                        pause = Some(Duration::MAX);
                        state
                    }
                    TransmitResult::Unable(state) => {
                        pause = Some(IDLE_DELAY);
                        state
                    }
                }
            });
            if enough(self) {
                return Ok(());
            }
            let waited = match pause {
                None => self.wait_send_room(timer),
                // The wire may be writable. Waiting for that would spin until the other thread has finished, or the
                // kernel is able to send.
                Some(pause) => match timer.left(self.call_limit(Side::Write)) {
                    Ok(None) if pause == Duration::MAX => {
                        self.wait_changed(None);
                        Ok(())
                    }
                    Ok(left) => {
                        let left = left.map_or(pause, |left| left.min(pause));
                        self.wait_changed(Some(left));
                        Ok(())
                    }
                    Err(Elapsed) => Err(Elapsed),
                },
            };
            if waited == Err(Elapsed) {
                if self.machine.has_unsent() {
                    self.lend(Connection::defer_to_loop);
                }
                return Err(Side::Write.timeout_error());
            }
        }
    }

    /// Waits until the wire accepts more or the state changes.
    fn wait_send_room(&mut self, timer: &mut CallTimer) -> Result<(), Elapsed> {
        let Some(wire) = self.wire.cloned() else {
            let left = timer.left(self.call_limit(Side::Write))?;
            self.wait_changed(left);
            return Ok(());
        };
        match self.wait_ready(&wire, timer) {
            WaitResult::Ready => {
                self.lock();
                self.send.parked = false;
            }
            WaitResult::Recheck => self.handle_close_timer(),
            // No other thread waits for it.
            WaitResult::Failed(fault) => self.handle_input(Input::WireFailed(fault)),
            WaitResult::Elapsed => return Err(Elapsed),
        }
        self.lend(|connection, state| connection.drop_wire_if_last(state, wire));
        Ok(())
    }
}

impl Connection {
    // ------------------------------------------------------------- the handshake

    /// Waits for a change, for at most `limit`. During a handshake that no other thread drives, this thread drives it
    /// while it waits. That avoids waking the event loop and being woken by it.
    pub(crate) fn wait_or_handshake<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        limit: Option<Duration>,
    ) -> StateGuard<'a> {
        let handshaking = state.is_opening() && state.machine.background().drives_opening();
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
        // No other thread is at the wire in either direction. A wake-up for either one ends this wait.
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
                false => drop(self.ingest_available(&wire, Observer::Reader, None)),
            }
            state = self.state();
        }
        // Another thread may continue.
        self.notify_waiters(&state);
        if state.is_opening() && state.token.get().is_none() {
            // The caller may not return, so the event loop takes over.
            let gives_up = limit.is_some() && !matches!(waited, Ok(PollResult::Ready));
            if let (true, Ok(loop_handle)) = (gives_up || waited.is_err(), LoopHandle::get()) {
                drop(state);
                loop_handle.post(Command::UpdateInterest(self.loop_source()), Urgency::Soon);
                state = self.state();
            }
        }
        self.drop_wire_if_last(state, wire)
    }

    /// Has some thread drive the handshake: one that waits for it already, or soon the event loop.
    pub(crate) fn schedule_handshake(self: &Arc<Self>, loop_handle: &LoopHandle) {
        let mut state = self.state();
        let registered =
            REGISTRATION_IS_PERMANENT || state.token.get().is_some() || state.is_watched();
        if registered || !state.is_opening() || event_loop::is_loop_thread() {
            drop(state);
            loop_handle.post(Command::UpdateInterest(self.loop_source()), Urgency::Now);
        } else if self.queue_for_monitoring(&mut state, loop_handle) {
            drop(state);
            loop_handle.post(Command::ScanIdle, Urgency::Soon);
        }
    }
}

impl ConnectionState {
    /// Checks whether a thread that finds the wire readable may receive. While another thread receives, or sends data
    /// that must go first, the wire stays readable. Waiting for readability would then spin.
    fn can_drive_recv(&mut self) -> bool {
        let Some(permit) = self.machine.begin_background_recv() else { return false };
        drop(self.machine.handle_recv_event(permit, RecvEvent::Cancelled, clock::now()));
        true
    }
}
