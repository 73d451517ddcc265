//! Sends ciphertext that is queued: on the thread that has queued it, as far as the kernel accepts it at once, and the rest
//! on the event loop.

use std::io;
use std::sync::Arc;

use crate::driver::connection::eof::Observer;
use crate::driver::connection::{Connection, StateGuard};
use crate::driver::event_loop::{Command, LoopHandle, Urgency};
use crate::driver::sys::clock;
use crate::driver::sys::errno::Failure;
use crate::driver::sys::io_bufs::SendBufs;
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::Wire;
use crate::error::Fault;
use crate::machine::{Input, Transmit};
use crate::poll::Ready;

/// Result of sending queued ciphertext.
pub(crate) enum TransmitResult<'a> {
    /// The wire may accept more.
    Progress(StateGuard<'a>),
    /// The wire accepts nothing now.
    WouldBlock(StateGuard<'a>),
    /// The kernel is unable to send now, and will not report when it is able. Or this thread leaves a failure to the event
    /// loop.
    Unable(StateGuard<'a>),
    /// Another thread is sending.
    Elsewhere(StateGuard<'a>),
}

/// What a thread does if a send fails and another thread may know the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnknownCause {
    /// Waits for it for a short time.
    Wait,
    /// Leaves the send to the event loop.
    Defer,
}

impl Connection {
    /// Sends queued ciphertext as far as the kernel accepts it at once, and leaves the rest to the event loop. Does not
    /// wait.
    pub(crate) fn transmit(self: &Arc<Self>) {
        let state = self.transmit_locked(self.state(), UnknownCause::Defer);
        self.notify_send_room(state);
    }

    /// Like [`transmit`](Self::transmit), but on the event loop. Returns whether to run again without an event.
    pub(crate) fn transmit_on_loop(self: &Arc<Self>) -> bool {
        let (state, unable) = match self.send_queued(self.state(), UnknownCause::Wait) {
            TransmitResult::Progress(state) | TransmitResult::Elsewhere(state) => (state, false),
            TransmitResult::WouldBlock(state) => (self.defer_to_loop(state), false),
            TransmitResult::Unable(state) => (state, true),
        };
        self.notify_send_room(state);
        unable
    }

    /// Wakes the threads that may wait for room in the send queue.
    fn notify_send_room(&self, mut state: StateGuard<'_>) {
        if planted!(LoopSendsSilently) {
            return;
        }
        let wake = state.send.parker_to_wake();
        self.notify_waiters(&state);
        let notify = state.report(Ready::NOTHING);
        drop(state);
        if let Some(handle) = wake {
            handle.wake();
        }
        notify.notify();
    }

    pub(crate) fn transmit_locked<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        unknown: UnknownCause,
    ) -> StateGuard<'a> {
        match self.send_queued(state, unknown) {
            TransmitResult::Progress(state) | TransmitResult::Elsewhere(state) => state,
            TransmitResult::WouldBlock(state) => self.defer_to_loop(state),
            TransmitResult::Unable(mut state) => {
                // The event loop may have been asked before, and has to try again.
                state.want_writable = false;
                self.defer_to_loop(state)
            }
        }
    }

    /// Sends queued ciphertext as far as the kernel accepts it at once.
    pub(super) fn send_queued<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        unknown: UnknownCause,
    ) -> TransmitResult<'a> {
        while state.wire.is_some() {
            let Some(mut transmit) = state.machine.next_transmit() else {
                let elsewhere = state.machine.has_unsent();
                return if elsewhere {
                    TransmitResult::Elsewhere(state)
                } else {
                    TransmitResult::Progress(state)
                };
            };
            state = match self.send_transmit(state, &mut transmit, unknown) {
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

    /// Sends one chunk and returns it to the machine.
    pub(super) fn send_transmit<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        transmit: &mut Transmit,
        unknown: UnknownCause,
    ) -> TransmitResult<'a> {
        let Some(wire) = state.wire.checkout(Side::Write) else {
            // The wire was released; the machine knows why.
            drop(state.machine.transmit_done(transmit));
            return TransmitResult::Progress(state);
        };
        state.send.ready = false;
        drop(state);
        let result = wire.send(&SendBufs::One(transmit.bytes()));
        self.finish_transmit(self.state(), wire, transmit, result, unknown)
    }

    /// Returns a chunk to the machine after the system call that sent it.
    pub(crate) fn finish_transmit<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        wire: Arc<Wire>,
        transmit: &mut Transmit,
        result: io::Result<usize>,
        unknown: UnknownCause,
    ) -> TransmitResult<'a> {
        if !state.wire.is(&wire) {
            return self.forget_transmit(state, wire, transmit);
        }
        let mut progress: fn(StateGuard<'a>) -> TransmitResult<'a> = TransmitResult::Progress;
        let actions = match result {
            Ok(bytes) => {
                transmit.sent(bytes);
                state.machine.transmit_done(transmit)
            }
            Err(error) => match wire.classify_send(&error) {
                Failure::Connection(_)
                    if unknown == UnknownCause::Defer
                        && (state.may_have_cause(Side::Read)
                            || state.machine.runs_foreign_code()) =>
                {
                    progress = TransmitResult::Unable;
                    state.machine.transmit_done(transmit)
                }
                Failure::Connection(fault) => {
                    // EPIPE names no cause.
                    let known = (error.kind() != io::ErrorKind::BrokenPipe).then_some(fault);
                    state = self.drain_after_send_error(state, &wire, known, unknown);
                    if !state.wire.is(&wire) {
                        return self.forget_transmit(state, wire, transmit);
                    }
                    state.machine.transmit_failed(transmit, fault, clock::now())
                }
                failure => {
                    progress = match failure {
                        Failure::WouldBlock => TransmitResult::WouldBlock,
                        Failure::Call(_) => TransmitResult::Unable,
                        _ => TransmitResult::Progress,
                    };
                    state.machine.transmit_done(transmit)
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

    /// Drops a chunk of a wire that the machine has released, because it has forgotten the chunk as well. A proxy may have
    /// been dialled again, and the new wire has nothing to do with it.
    #[cold]
    fn forget_transmit<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        wire: Arc<Wire>,
        transmit: &mut Transmit,
    ) -> TransmitResult<'a> {
        transmit.sent(usize::MAX);
        TransmitResult::Progress(self.checkin_wire(state, Side::Write, wire))
    }

    /// Receives what the peer sent before the wire failed during a send. An alert, for example, tells more than the
    /// send error.
    fn drain_after_send_error<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        wire: &Arc<Wire>,
        known: Option<Fault>,
        unknown: UnknownCause,
    ) -> StateGuard<'a> {
        // A proxy may refuse before it has read the request.
        state.machine.cut_off_preamble();
        if state.machine.runs_foreign_code() {
            // A thread that closes the socket does not wait for this.
            state.error_probe = true;
            drop(state);
            self.defer_to_workers();
        } else {
            drop(state);
            self.ingest_available(wire, Observer::Sender(known), None);
        }
        if unknown == UnknownCause::Defer {
            return self.state();
        }
        let own = known.is_none().then_some(Side::Write);
        self.wait_for_cause(self.state(), Side::Read, own)
    }

    /// Has the event loop send the rest when the wire becomes writable.
    pub(super) fn defer_to_loop<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
    ) -> StateGuard<'a> {
        if state.want_writable || state.wire.is_none() {
            return state;
        }
        state.want_writable = true;
        drop(state);
        match LoopHandle::get() {
            Ok(loop_handle) => {
                loop_handle.post(Command::UpdateInterest(self.loop_source()), Urgency::Now)
            }
            Err(fault) => drop(self.handle_input(self.state(), Input::WireFailed(fault))),
        }
        self.state()
    }

    /// Stops the event loop from watching for writability, because nothing is queued any more.
    #[cold]
    fn reclaim_from_loop<'a>(self: &'a Arc<Self>, mut state: StateGuard<'a>) -> StateGuard<'a> {
        state.want_writable = false;
        drop(state);
        if let Ok(loop_handle) = LoopHandle::get() {
            loop_handle.post(Command::UpdateInterest(self.loop_source()), Urgency::Soon);
        }
        self.state()
    }

    /// Returns a borrowed wire.
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

    /// Drops a wire. Does so outside the lock if that may close its descriptor.
    pub(crate) fn drop_wire_if_last<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        wire: Arc<Wire>,
    ) -> StateGuard<'a> {
        if state.wire.is(&wire) {
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
