//! Checks whether an idle socket, such as one in a pool, is still usable.
//!
//! The check looks at the wire itself, because the event loop may not have done so since the last read. It waits for
//! no other thread. If one is at the wire, the state and a poll(2) with a zero timeout decide. Only for a TLS
//! connection whose poll shows an event does it wait briefly, for that thread to find the cause. So it does if the peer of
//! a Unix-domain socket has closed, because poll(2) shows the same after a clean end and after a failure.

use std::sync::Arc;

use crate::driver::connection::Turn;
use crate::driver::connection::eof::{Observer, may_be_known};
use crate::driver::connection::{Connection, ConnectionState, StateGuard};
use crate::driver::event_loop;
use crate::driver::sys::clock;
use crate::driver::sys::errno::{Failure, classify};
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::{EofKind, Incoming, PollStatus, Wire};
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
        } else if state.recv.turn.is_held() || state.machine.recv_in_flight() {
            // Incoming data belongs to the thread at the wire.
            (state, status) = self.poll_busy(state, &wire);
            let may_wait = !event_loop::is_loop_thread();
            if may_wait && state.machine.is_tls() && !matches!(status, WireStatus::Quiet) {
                // The thread at the wire is about to decrypt and report the event.
                state = self.wait_for_cause(state, Side::Read, None);
            }
        } else if state.machine.is_tls() {
            drop(state);
            // Like a sender, it does not wait for the thread that is sending.
            self.ingest_available(&wire, Observer::Sender(None), None);
            state = self.state();
        } else {
            (state, status) = self.look_at_idle(state, &wire);
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

    /// Polls a wire that another thread is using.
    fn poll_busy<'a>(&'a self, state: StateGuard<'a>, wire: &Wire) -> (StateGuard<'a>, WireStatus) {
        drop(state);
        let status = wire.poll_status().into();
        let is_closed = wire.has_unix_peer_closed();
        let mut state = self.state();
        if is_closed && !event_loop::is_loop_thread() {
            // Each of them may have taken the failure, and be about to record it.
            for side in [Side::Read, Side::Write] {
                state = self.wait_for_cause(state, side, None);
            }
        }
        (state, status)
    }

    /// Looks at the wire, leaving any data there, and reports an EOF or a failure to the machine.
    fn look_at_idle<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        wire: &Arc<Wire>,
    ) -> (StateGuard<'a>, WireStatus) {
        drop(state);
        match wire.incoming() {
            Incoming::Nothing => (self.state(), WireStatus::Quiet),
            Incoming::Data => {
                // The kernel does not report an error behind unread bytes otherwise.
                let failure = wire.take_error();
                let state = self.state();
                let state = match failure {
                    Some(fault) => self.handle_input(state, Input::WireFailed(fault)),
                    None => state,
                };
                (state, WireStatus::Data)
            }
            Incoming::End => self.peek_at_idle(wire),
        }
    }

    /// Peeks at a wire that has probably ended.
    fn peek_at_idle<'a>(self: &'a Arc<Self>, wire: &Arc<Wire>) -> (StateGuard<'a>, WireStatus) {
        let mut state = self.state();
        if state.recv.turn.is_held() {
            // The thread at the wire reports it.
            return self.poll_busy(state, wire);
        }
        let ReadStep::Recv(permit) = state.machine.read() else {
            return (state, WireStatus::Quiet);
        };
        let mut turn = Turn::take(self, state, Side::Read);
        turn.unlock();
        let peeked = wire.peek(&mut [0]);
        let end = if matches!(peeked, Ok(0)) { wire.classify_eof() } else { EofKind::Fin };
        turn.lock();
        let mut status = WireStatus::Quiet;
        let what = match peeked {
            // The kernel has reported the cause to the writer, which is about to record it.
            Ok(0)
                if may_be_known(end, turn.machine.is_write_open())
                    && turn.send.turn.is_held()
                    && (end != EofKind::PeerClosed || event_loop::is_loop_thread()) =>
            {
                status = match end {
                    EofKind::PeerClosed => WireStatus::Eof,
                    _ => WireStatus::Error(Fault::Reset(None)),
                };
                RecvEvent::Cancelled
            }
            Ok(0) => turn.judge_eof(end),
            Ok(_) => {
                status = WireStatus::Data;
                RecvEvent::Cancelled
            }
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
        // A reader may have started to wait. The event loop may have seen an event and left it to this thread.
        self.notify_waiters(&state);
        (self.resume_monitoring(state), status)
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
                | Background::Ingest
                | Background::Preamble => Some(Health::Ended),
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
