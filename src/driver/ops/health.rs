//! Checks whether an idle socket, such as one in a pool, is still usable.
//!
//! The check looks at the wire itself, because the event loop may not have done so since the last read. It waits for
//! no other thread. If one is at the wire, the state and a poll(2) with a zero timeout decide. Only for a TLS
//! connection whose poll shows an event does it wait briefly, for that thread to find the cause.

use std::sync::Arc;

use crate::driver::connection::Turn;
use crate::driver::connection::eof::{Observer, is_reset};
use crate::driver::connection::{Connection, ConnectionState, Monitor, StateGuard};
use crate::driver::event_loop::{self, Command, LoopHandle, Urgency};
use crate::driver::sys::clock;
use crate::driver::sys::errno::{Failure, classify};
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::{EofKind, PollStatus, Wire};
use crate::error::{Error, Fault};
use crate::info::{Health, Phase};
use crate::machine::{Background, Input, ReadStep, RecvEvent};

impl Connection {
    pub(crate) fn health(self: &Arc<Self>) -> Health {
        if let Err(error) = self.check_process() {
            return Health::Failed(error);
        }
        let mut state = self.state_soon();
        if let Some(health) = state.health_from_state() {
            return health;
        }
        let Some(wire) = state.wire.cloned() else { return Health::Ended };
        let mut status = WireStatus::Quiet;
        if state.machine.has_unread() {
            drop(state);
            // Like a sender, it does not wait for the thread that is sending.
            state = self.check_failure(&wire, Observer::Sender(None));
        } else if state.recv.turn_held || state.machine.recv_in_flight() {
            // Incoming data belongs to the thread at the wire.
            drop(state);
            status = wire.poll_status().into();
            state = self.state();
            let may_wait = !event_loop::is_loop_thread();
            if may_wait && state.machine.is_tls() && !matches!(status, WireStatus::Quiet) {
                // The thread at the wire is about to decrypt and report the event.
                state = self.wait_for_cause(state, Side::Read, None);
            }
        } else if state.machine.is_tls() {
            drop(state);
            // Like a sender, it does not wait for the thread that is sending.
            self.ingest_available(&wire, Observer::Sender(None));
            state = self.state();
        } else {
            (state, status) = self.peek_idle(state, &wire);
        }
        let state = self.drop_wire_if_last(state, wire);
        if let Some(health) = state.health_from_state() {
            return health;
        }
        match status {
            WireStatus::Error(fault) if state.machine.is_write_open() => {
                Health::Failed(Error::from_fault(fault))
            }
            WireStatus::Error(_) | WireStatus::Eof => Health::Ended,
            WireStatus::Data => Health::Unread,
            WireStatus::Quiet if state.machine.has_unread() => Health::Unread,
            WireStatus::Quiet if state.machine.phase() == Phase::HalfClosed => Health::Ended,
            WireStatus::Quiet => Health::Idle,
        }
    }

    /// Peeks at the wire, leaving any data there, and reports an EOF or a failure to the machine.
    fn peek_idle<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        wire: &Arc<Wire>,
    ) -> (StateGuard<'a>, WireStatus) {
        let ReadStep::Recv(permit) = state.machine.read() else {
            return (state, WireStatus::Quiet);
        };
        let mut turn = Turn::take(self, state, Side::Read);
        turn.unlock();
        let peeked = wire.peek(&mut [0]);
        let end = if matches!(peeked, Ok(0)) { wire.classify_eof() } else { EofKind::Fin };
        // The kernel does not report an error behind unread bytes otherwise.
        let unread = matches!(peeked, Ok(bytes) if bytes > 0);
        let failure = if unread { wire.take_error() } else { None };
        turn.lock();
        let mut status = if unread { WireStatus::Data } else { WireStatus::Quiet };
        let what = match peeked {
            // The kernel has reported the cause to the writer, which is about to record it.
            Ok(0) if is_reset(end, turn.machine.is_write_open()) && turn.send.turn_held => {
                status = WireStatus::Error(Fault::Reset(None));
                RecvEvent::Cancelled
            }
            Ok(0) => turn.judge_eof(end),
            Ok(_) => RecvEvent::Cancelled,
            Err(error) => match classify(&error) {
                Failure::WouldBlock | Failure::Interrupted | Failure::Call(_) => {
                    RecvEvent::Cancelled
                }
                Failure::Connection(fault) => RecvEvent::Failed(fault),
            },
        };
        let mut state = turn.release_unused();
        let actions = state.machine.handle_recv_event(permit, what, clock::now());
        state = self.apply(state, actions);
        if let Some(fault) = failure {
            state = self.handle_input(state, Input::WireFailed(fault));
        }
        // A reader may have started to wait. The event loop may have seen an event and left it to this thread.
        self.notify_waiters(&state);
        if state.monitor == Monitor::Off && state.needs_monitor() {
            if let Ok(loop_handle) = LoopHandle::get() {
                if self.queue_for_monitoring(&mut state, loop_handle) {
                    drop(state);
                    loop_handle.post(Command::ScanIdle, Urgency::Soon);
                    state = self.state();
                }
            }
        }
        (state, status)
    }
}

impl ConnectionState {
    /// Returns the health if the state alone decides it.
    fn health_from_state(&self) -> Option<Health> {
        match (self.machine.opened(), self.machine.outcome()) {
            (Some(Err(fault)), _) | (_, Some(Err(fault))) => {
                Some(Health::Failed(self.error_for(fault)))
            }
            (_, Some(Ok(()))) => Some(Health::Ended),
            (None, None) => Some(Health::Opening),
            (Some(Ok(())), None) if self.machine.is_upgrade_pending() => Some(Health::Opening),
            (Some(Ok(())), None) => match self.machine.background() {
                Background::WatchEof | Background::WatchErrors if self.machine.can_recv() => None,
                Background::WatchEof
                | Background::WatchErrors
                | Background::Nothing
                | Background::Discard
                | Background::Ingest => Some(Health::Ended),
            },
        }
    }
}

/// Condition of the wire that the socket does not know of yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WireStatus {
    Quiet,
    Data,
    Eof,
    Error(Fault),
}

impl From<PollStatus> for WireStatus {
    fn from(standing: PollStatus) -> Self {
        match standing {
            PollStatus::Quiet => WireStatus::Quiet,
            PollStatus::Fin => WireStatus::Eof,
            PollStatus::Error => WireStatus::Error(Fault::Reset(None)),
        }
    }
}
