//! What a receive of nothing means: the peer's FIN, or a failure whose error another call has taken.
//!
//! The kernel reports a reset once, to the first of recv(2), send(2), a peek or `SO_ERROR`. Later receives return 0, as
//! after FIN. So a 0 is a clean EOF only if the wire has not hung up. If it has, and this side did not end it, the
//! connection failed. Then the thread at the wire in the other direction may know the cause. Every 0 is judged here.
//!
//! A Unix-domain socket hangs up whenever its peer closes. There a 0 is a clean EOF too, unless a sender has taken the
//! error of a peer that closed before it had read everything.

use std::sync::Arc;
use std::time::Duration;

use super::{Connection, ConnectionState, StateGuard, Turn};
use crate::driver::sys::clock;
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::{EofKind, Wire};
use crate::error::Fault;
use crate::machine::{Input, RecvEvent};

/// Maximum time for which a thread at the wire waits for a cause that the kernel may have reported to another thread.
/// The other thread normally needs far less.
const CAUSE_GRACE: Duration = Duration::from_millis(10);

/// The party that received nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observer {
    /// A reader, or a party in its place, such as the event loop. It waits for the cause that a sender may know.
    Reader,
    /// A party that does not wait for a sender: the sender itself, with the fault that it knows, or a check of the
    /// socket's health.
    Sender(Option<Fault>),
    /// An upgrade. No other thread is at the wire.
    Upgrade,
}

impl Connection {
    /// Judges a receive of nothing, of which the wire says `end`. Waits for the cause of a failure if another thread
    /// may know it.
    pub(crate) fn judge_eof<'a>(
        &'a self,
        mut state: StateGuard<'a>,
        end: EofKind,
        observer: Observer,
    ) -> (StateGuard<'a>, RecvEvent) {
        // A write side that is closed during the wait does not make the reset a clean end.
        let is_write_open = state.machine.is_write_open();
        if observer == Observer::Reader && may_be_known(end, is_write_open) {
            state = self.wait_for_cause(state, Side::Write, Some(Side::Read));
        }
        let event = event(end, is_write_open, observer);
        (state, event)
    }

    /// Like [`judge_eof`](Self::judge_eof), for a party without a receive permit.
    pub(crate) fn judge_eof_as_input<'a>(
        &'a self,
        state: StateGuard<'a>,
        end: EofKind,
        observer: Observer,
    ) -> (StateGuard<'a>, Input<'static>) {
        match self.judge_eof(state, end, observer) {
            (state, RecvEvent::Failed(fault)) => (state, Input::WireFailed(fault)),
            (state, _) => (state, Input::WireEof),
        }
    }

    /// Checks for a failure behind unread data, where no receive sees it.
    pub(crate) fn check_failure<'a>(
        self: &'a Arc<Self>,
        wire: &Wire,
        observer: Observer,
    ) -> StateGuard<'a> {
        let failure = wire.take_error();
        let end = wire.classify_eof();
        let mut state = self.state();
        if observer == Observer::Reader {
            state.error_probe = false;
            self.notify_waiters(&state);
        }
        let input;
        (state, input) = match failure {
            Some(fault) => (state, Input::WireFailed(fault)),
            None => self.judge_eof_as_input(state, end, observer),
        };
        match input {
            Input::WireFailed(_) => self.handle_input(state, input),
            // The data before the EOF is unread.
            _ => state,
        }
    }

    /// Waits for the cause of a failure that the kernel may have reported to the thread at the wire in the direction
    /// `other`. The kernel reports the cause only once; the failure itself also wakes the other thread. A caller that
    /// knows of the failure but not of its cause passes its own direction as `own`. Then no other thread waits for
    /// this one, so two threads never wait for each other.
    pub(crate) fn wait_for_cause<'a>(
        &'a self,
        mut state: StateGuard<'a>,
        other: Side,
        own: Option<Side>,
    ) -> StateGuard<'a> {
        let until = clock::now() + CAUSE_GRACE;
        if let Some(own) = own {
            state.direction(own).cause_unknown = true;
            self.notify_waiters(&state);
        }
        while state.may_have_cause(other) && state.machine.outcome().is_none() {
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                break;
            }
            state = self.wait_changed(state, Some(left));
        }
        if let Some(own) = own {
            state.direction(own).cause_unknown = false;
        }
        state
    }
}

impl Turn<'_> {
    /// Judges a receive of nothing by the holder of the turn.
    pub(crate) fn judge_eof(&mut self, end: EofKind) -> RecvEvent {
        let mut event = RecvEvent::Eof;
        self.lend(|connection, state| {
            let judged = connection.judge_eof(state, end, Observer::Reader);
            event = judged.1;
            judged.0
        });
        event
    }
}

impl ConnectionState {
    /// Checks whether another thread is or was at the wire in this direction and may know the cause of a failure.
    pub(crate) fn may_have_cause(&mut self, side: Side) -> bool {
        let at_work = match side {
            Side::Read => self.error_probe || self.machine.recv_in_flight(),
            Side::Write => self.machine.transmit_in_flight(),
        };
        let direction = self.direction(side);
        (direction.turn.is_held() || at_work) && !direction.cause_unknown
    }
}

/// Returns whether the end is a reset of which the wire does not tell the cause.
fn is_reset(end: EofKind, is_write_open: bool) -> bool {
    end == EofKind::HangUp && is_write_open
}

/// Returns whether a thread at the wire in the other direction may know more about an end.
pub(crate) fn may_be_known(end: EofKind, is_write_open: bool) -> bool {
    is_reset(end, is_write_open)
        || end == EofKind::PeerClosed && is_write_open && !planted!(TrustsUnixHangUp)
}

fn event(end: EofKind, is_write_open: bool, observer: Observer) -> RecvEvent {
    match end {
        EofKind::PeerClosed => match observer {
            Observer::Sender(Some(known)) if is_write_open => RecvEvent::Failed(known),
            Observer::Sender(_) | Observer::Reader | Observer::Upgrade => RecvEvent::Eof,
        },
        EofKind::Error(fault) => RecvEvent::Failed(fault),
        EofKind::HangUp if is_write_open || observer == Observer::Upgrade => {
            let known = match observer {
                Observer::Sender(known) => known,
                Observer::Reader | Observer::Upgrade => None,
            };
            RecvEvent::Failed(known.unwrap_or(Fault::Reset(None)))
        }
        EofKind::HangUp | EofKind::Fin => RecvEvent::Eof,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESET: Fault = Fault::Reset(Some(104));
    const PATH: Fault = Fault::Lost(113);

    /// A row for each combination: whether poll(2) shows a hang-up, the pending error, whether both sides had ended
    /// when the stream was adopted, whether the write side is open, the observer, and the event.
    #[test]
    #[rustfmt::skip]
    fn an_error_never_looks_like_an_end() {
        use Observer::{Reader, Sender, Upgrade};
        use RecvEvent::{Eof, Failed};
        let unknown = Fault::Reset(None);
        let late = Fault::ResetAfterEnd(32);
        for (hung_up, error, both_ended, is_write_open, observer, expected) in [
            // A plain FIN leaves the write direction open.
            (false, None,        false, true,  Reader,             Eof),
            (false, None,        false, false, Reader,             Eof),
            (false, None,        false, true,  Sender(Some(PATH)), Eof),
            (false, None,        false, true,  Upgrade,            Eof),
            // Nothing asks for the pending error without a hang-up.
            (false, Some(RESET), false, true,  Reader,             Eof),
            // Both directions have ended, and this side sent its FIN.
            (true,  None,        false, false, Reader,             Eof),
            (true,  None,        false, false, Sender(Some(PATH)), Eof),
            // Both directions have ended, and this side did not end its own: another call took the error.
            (true,  None,        false, true,  Reader,             Failed(unknown)),
            (true,  None,        false, true,  Sender(None),       Failed(unknown)),
            (true,  None,        false, true,  Sender(Some(PATH)), Failed(PATH)),
            (true,  None,        false, true,  Upgrade,            Failed(unknown)),
            (true,  None,        false, false, Upgrade,            Failed(unknown)),
            // The error is still pending, so it is the cause.
            (true,  Some(RESET), false, true,  Reader,             Failed(RESET)),
            (true,  Some(RESET), false, false, Reader,             Failed(RESET)),
            (true,  Some(RESET), false, true,  Sender(Some(PATH)), Failed(RESET)),
            (true,  Some(PATH),  false, true,  Upgrade,            Failed(PATH)),
            // A reset after the peer's FIN: the data was complete.
            (true,  Some(late),  false, true,  Reader,             Eof),
            (true,  Some(late),  false, false, Reader,             Eof),
            (true,  Some(late),  false, true,  Upgrade,            Eof),
            // The program had ended its side before it gave the stream to this crate.
            (true,  None,        true,  true,  Reader,             Eof),
            (true,  Some(RESET), true,  true,  Reader,             Failed(RESET)),
        ] {
            let end = EofKind::new(hung_up, || error, both_ended);
            assert_eq!(
                event(end, is_write_open, observer), expected,
                "{hung_up}, {error:?}, {both_ended}, {is_write_open}, {observer:?}"
            );
        }
    }

    /// The same for a Unix-domain socket, where a hang-up alone is the peer's close.
    #[test]
    #[rustfmt::skip]
    fn a_closed_unix_domain_peer_is_an_end_unless_an_error_is_known() {
        use Observer::{Reader, Sender, Upgrade};
        use RecvEvent::{Eof, Failed};
        for (hung_up, error, is_write_open, observer, expected) in [
            // The peer has closed its write side.
            (false, None,        true,  Reader,              Eof),
            (false, None,        false, Reader,              Eof),
            (false, None,        true,  Sender(Some(RESET)), Eof),
            // It has closed, and had read everything.
            (true,  None,        true,  Reader,              Eof),
            (true,  None,        false, Reader,              Eof),
            (true,  None,        true,  Sender(None),        Eof),
            (true,  None,        true,  Upgrade,             Eof),
            // It had not, and the sender has taken the error.
            (true,  None,        true,  Sender(Some(RESET)), Failed(RESET)),
            // It had not, and the error is pending.
            (true,  Some(RESET), true,  Reader,              Failed(RESET)),
            (true,  Some(RESET), false, Reader,              Failed(RESET)),
            (true,  Some(RESET), true,  Upgrade,             Failed(RESET)),
        ] {
            let end = EofKind::of_unix(hung_up, || error);
            assert_eq!(
                event(end, is_write_open, observer), expected,
                "{hung_up}, {error:?}, {is_write_open}, {observer:?}"
            );
        }
    }
}
