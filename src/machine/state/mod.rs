//! Where a socket is in its life, and every way from there.
//!
//! ```text
//!              attempt won                         one direction ends
//!   Connecting ------------------------------> Open ------------------> HalfClosed
//!       |    \                             _/  |  \                       |
//!       |     \ TLS from the start       _/    |   \ start_tls           |
//!       |      v                   _____/      |    v                      |
//!       |    Securing ____________/            |   Yielding                |
//!       |      |  ^   handshake done           |    |                      |
//!       |      |  `--- a machine that          |    | the wire is another  |
//!       |      |       start_tls made          |    | machine's            |
//!       |      |                               |    |                      |
//!       | lost, late, close, abort             |    |                      |
//!       v      v                               v    v                      v
//!     Closed(Never)            Closed(Draining | Ended | Upgraded) <-------'
//!                       (Draining, while something is yet to be sent)
//! ```
//!
//! A variant owns the data that make sense in it and nothing else, and a transition consumes the old
//! state and returns the new one. The transitions themselves are in `connecting`, `open` and `closed`, by
//! the state that they begin in; `sessions` finds the TLS of a state.

use std::time::Instant;

mod closed;
mod connecting;
mod open;
mod sessions;
#[cfg(test)]
mod table;

use self::connecting::{Connecting, Securing};
use super::flow::Holder;
use super::tls::{Progress, Remains, Session};
use super::{
    AttemptId, Deadline, FailedAttempt, Fault, Input, Output, Outputs, Plan, ReadStep, Received,
    RecvPass, Refusal, Release, Rules, SendPass, Sent, Step, Watch, WriteStep,
};
use crate::info::{Phase, Timings};
use crate::tls::TlsSetup;

#[derive(Debug)]
pub(super) enum State {
    /// The name is looked up, or addresses are dialled.
    Connecting(Box<Connecting>),
    /// The connection is made, and the TLS handshake on it is not.
    Securing(Box<Securing>),
    Open(Pipe),
    /// In plaintext, and about to be upgraded: nobody may read or write any more, and a byte that the
    /// peer sends now ends it.
    Yielding(Pipe),
    HalfClosed(Pipe, Half),
    Closed(Closed),
    /// A panic interrupted a transition, or whoever drives the machine: nothing is known any more.
    Poisoned,
}

/// An established connection: which passes are out, and its TLS.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    receiving: bool,
    sending: bool,
    fin: Fin,
    tls: Option<Box<Session>>,
}

/// This side's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fin {
    #[default]
    ToCome,
    Sent,
}

/// Which direction still works.
#[derive(Clone, Copy, Debug)]
pub(super) enum Half {
    /// The write side was closed.
    ReadOnly,
    /// The peer has ended.
    WriteOnly,
    /// The read side was cancelled; the peer has not ended.
    Discarding,
    /// The peer has ended, and the write that was being made may end too, for so long. No other
    /// begins.
    Finishing(Instant),
}

#[derive(Debug)]
pub(super) enum Closed {
    /// This side closed while a send pass was out, or ciphertext waited, which precedes the FIN.
    Draining(Box<Draining>),
    /// An established connection that is over.
    Ended { reads: Reads, outcome: Result<(), Fault>, remains: Option<Box<Remains>> },
    /// Another machine has the connection.
    Upgraded,
    /// A connection that never came to be.
    Never(Box<Never>),
}

#[derive(Debug)]
pub(super) struct Draining {
    pipe: Pipe,
    deadline: Instant,
    /// How to let go of the wire then.
    release: Release,
    /// What reads give.
    reads: Reads,
}

#[derive(Debug)]
pub(super) struct Never {
    fault: Fault,
    outcome: Result<(), Fault>,
    /// The step that failed.
    step: Option<Step>,
    /// How long each step took, but those that [`Output::Adopt`] has told.
    timings: Timings,
    attempts: Vec<FailedAttempt>,
    /// Of a handshake that failed.
    remains: Option<Box<Remains>>,
    /// Whether the outputs have said so: not before the start of one that was made so.
    told: bool,
}

/// What reads of a closed socket give.
#[derive(Debug)]
pub(super) enum Reads {
    /// What came before the failure and is still with the system.
    Residue(Box<Pipe>),
    /// What came before a failure of TLS and is still in the session.
    Decrypted(Box<Pipe>),
    /// The clean end.
    End(Ender),
    /// The failure.
    Fail(Fault),
}

/// Who brought about a clean end of both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ender {
    /// The peer, whose end this side followed.
    Peer,
    /// This side, which ended one direction itself.
    This,
}

impl State {
    pub(super) fn connecting(plan: Plan, now: Instant) -> Self {
        State::Connecting(Box::new(Connecting::new(plan, now)))
    }

    pub(super) fn upgrading(setup: &TlsSetup, deadline: Option<Instant>, now: Instant) -> Self {
        Securing::upgrade(setup, deadline, now)
    }

    pub(super) fn start(self, now: Instant, outputs: &mut Outputs<'_>) -> State {
        match self {
            State::Connecting(connecting) => connecting.start(now, outputs),
            State::Securing(mut securing) => {
                securing.start(outputs);
                State::Securing(securing)
            }
            // One that could not even begin its handshake.
            State::Closed(Closed::Never(mut never)) if !never.told => {
                outputs.push(Output::Release(Release::Done));
                outputs.push(Output::Opened);
                tell_end(outputs);
                never.told = true;
                State::Closed(Closed::Never(never))
            }
            state @ (State::Open(_)
            | State::Yielding(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned) => state,
        }
    }

    pub(super) fn handle(
        self,
        input: Input<'_>,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        match self {
            State::Connecting(connecting) => connecting.handle(input, now, outputs),
            State::Securing(securing) => securing.handle(input, rules, now, outputs),
            State::Open(pipe) => pipe.handle(input, rules, now, outputs),
            State::Yielding(pipe) => pipe.handle_yielding(input, rules, now, outputs),
            State::HalfClosed(pipe, half) => half.handle(pipe, input, rules, now, outputs),
            State::Closed(closed) => State::Closed(closed.handle(input, now, outputs)),
            State::Poisoned => State::Poisoned,
        }
    }

    /// A receive pass came back without bytes.
    pub(super) fn received(
        self,
        what: Received,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        match (self, what) {
            (state, Received::Nothing) => state,
            (State::Securing(securing), what) => securing.received(what, rules, now, outputs),
            (State::Open(pipe), Received::Eof) if pipe.tls.is_none() => {
                pipe.peer_ended(rules, now, outputs)
            }
            (State::Yielding(pipe), Received::Eof) => pipe.peer_ended_yielding(rules, now, outputs),
            (State::Open(pipe) | State::Yielding(pipe), Received::Failed(fault)) => {
                pipe.broken(fault, outputs)
            }
            // In plaintext who discards from here on finds it too.
            (state @ State::HalfClosed(Pipe { tls: None, .. }, Half::Discarding), _) => state,
            (State::HalfClosed(pipe, Half::ReadOnly), Received::Eof) if pipe.tls.is_none() => {
                end(pipe, Ender::This, Release::Done, outputs)
            }
            (
                State::HalfClosed(pipe, Half::ReadOnly | Half::Discarding),
                Received::Failed(fault),
            ) => pipe.broken(fault, outputs),
            (
                State::Closed(Closed::Ended { reads: Reads::Residue(pipe), outcome, .. }),
                Received::Eof | Received::Failed(_),
            ) => closed::residue_over(*pipe, what, outcome, outputs),
            (
                mut state @ (State::Open(_)
                | State::HalfClosed(_, Half::ReadOnly | Half::Discarding)),
                Received::Eof,
            ) => {
                if let Some(tls) = state.tls_mut() {
                    tls.eof();
                }
                state.progressed(rules, now, outputs)
            }
            (
                state @ (State::Connecting(_)
                | State::HalfClosed(_, Half::WriteOnly | Half::Finishing(_))
                | State::Closed(_)
                | State::Poisoned),
                Received::Eof | Received::Failed(_),
            ) => state,
        }
    }

    /// Whether it is open, and nothing of its session ends that.
    pub(super) fn is_open_on_both_sides(&self) -> bool {
        let State::Open(pipe) = self else { return false };
        matches!(pipe.progress(), Progress::Handshaking | Progress::Established)
    }

    /// Something of a session has changed: what it received, or what of that is unread.
    pub(super) fn progressed(self, rules: Rules, now: Instant, outputs: &mut Outputs<'_>) -> State {
        match self {
            State::Securing(securing) => securing.progressed(rules, now, outputs),
            State::Open(pipe) => match pipe.progress() {
                Progress::Ended => pipe.peer_ended(rules, now, outputs),
                Progress::Truncated => pipe.broken(Fault::Truncated, outputs),
                Progress::Failed => pipe.tls_failed(outputs),
                Progress::Handshaking | Progress::Established => State::Open(pipe),
            },
            State::HalfClosed(pipe, half) => half.progressed(pipe, rules, now, outputs),
            State::Closed(closed) => State::Closed(closed.progressed(outputs)),
            state @ (State::Connecting(_) | State::Yielding(_) | State::Poisoned) => state,
        }
    }

    /// Whether it makes a difference that a parcel was sent.
    pub(super) fn may_end_by_sending(&self) -> bool {
        matches!(self, State::HalfClosed(..) | State::Closed(_))
    }

    /// A send pass or a parcel came back.
    pub(super) fn sent(self, what: Sent, outputs: &mut Outputs<'_>) -> State {
        match (self, what) {
            (State::Open(pipe), Sent::Failed(fault)) => pipe.failed_with_residue(fault, outputs),
            (State::HalfClosed(pipe, half), what) => half.sent(pipe, what, outputs),
            (State::Closed(closed @ Closed::Draining(_)), what) => {
                State::Closed(closed.sent(what, outputs))
            }
            (
                state @ (State::Connecting(_)
                | State::Securing(_)
                | State::Open(_)
                | State::Yielding(_)
                | State::Closed(Closed::Ended { .. } | Closed::Upgraded | Closed::Never(_))
                | State::Poisoned),
                Sent::Nothing | Sent::Failed(_),
            ) => state,
        }
    }

    /// A parcel could not be sent.
    pub(super) fn not_transmitted(
        self,
        fault: Fault,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        match self {
            State::Securing(securing) => securing.failed(fault, now, outputs),
            state @ (State::Connecting(_)
            | State::Open(_)
            | State::Yielding(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned) => state.sent(Sent::Failed(fault), outputs),
        }
    }

    #[inline]
    pub(super) fn read(&mut self) -> ReadStep {
        match self {
            State::Open(pipe) => pipe.read(),
            other => other.read_when_not_open(),
        }
    }

    fn read_when_not_open(&mut self) -> ReadStep {
        if let Some(fault) = self.refuses_read() {
            return ReadStep::Fail(fault);
        }
        match self {
            State::Connecting(connecting) => connecting.read(),
            State::Securing(securing) => securing.read(),
            State::Yielding(_) => ReadStep::Wait,
            State::Open(pipe) | State::HalfClosed(pipe, Half::ReadOnly) => pipe.read(),
            State::Closed(Closed::Ended {
                reads: Reads::Residue(pipe) | Reads::Decrypted(pipe),
                ..
            }) => pipe.read(),
            State::HalfClosed(_, Half::WriteOnly | Half::Discarding | Half::Finishing(_))
            | State::Closed(_) => ReadStep::End,
            State::Poisoned => ReadStep::Fail(Fault::Internal),
        }
    }

    #[inline]
    pub(super) fn write(&mut self) -> WriteStep {
        match self {
            State::Open(pipe) => pipe.write(),
            other => other.write_when_not_open(),
        }
    }

    fn write_when_not_open(&mut self) -> WriteStep {
        if let Some(fault) = self.refuses_write() {
            return WriteStep::Fail(fault);
        }
        match self {
            State::Open(pipe) | State::HalfClosed(pipe, _) => pipe.write(),
            State::Connecting(_) | State::Securing(_) | State::Yielding(_) | State::Closed(_) => {
                WriteStep::Wait
            }
            State::Poisoned => WriteStep::Fail(Fault::Internal),
        }
    }

    /// Why a read that begins now fails.
    pub(super) fn refuses_read(&self) -> Option<Fault> {
        match self {
            State::Connecting(_)
            | State::Securing(_)
            | State::Open(_)
            | State::Yielding(_)
            | State::HalfClosed(..)
            | State::Closed(Closed::Ended {
                reads: Reads::End(_) | Reads::Residue(_) | Reads::Decrypted(_),
                ..
            }) => None,
            State::Closed(Closed::Draining(draining)) => match draining.reads {
                Reads::End(_) => None,
                Reads::Fail(fault) => Some(fault),
                Reads::Residue(_) | Reads::Decrypted(_) => Some(Fault::Closed),
            },
            State::Closed(Closed::Ended { reads: Reads::Fail(fault), .. }) => Some(*fault),
            State::Closed(Closed::Upgraded) => Some(Fault::Upgraded),
            State::Closed(Closed::Never(never)) => Some(never.fault),
            State::Poisoned => Some(Fault::Internal),
        }
    }

    /// Why a write that begins now fails.
    pub(super) fn refuses_write(&self) -> Option<Fault> {
        match self {
            State::Connecting(_)
            | State::Securing(_)
            | State::Open(_)
            | State::Yielding(_)
            | State::HalfClosed(_, Half::WriteOnly | Half::Discarding) => None,
            State::HalfClosed(_, Half::Finishing(_)) => Some(Fault::PeerEnded),
            State::HalfClosed(_, Half::ReadOnly) => Some(Fault::Closed),
            State::Closed(Closed::Draining(draining)) => Some(draining.reads.refuses_write()),
            State::Closed(Closed::Ended { reads, outcome: Ok(()), .. }) => {
                Some(reads.refuses_write())
            }
            // Even where that could not hand everything over.
            State::Closed(Closed::Ended { reads: Reads::Fail(Fault::Closed), .. }) => {
                Some(Fault::Closed)
            }
            State::Closed(Closed::Ended { outcome: Err(fault), .. }) => Some(*fault),
            State::Closed(Closed::Upgraded) => Some(Fault::Upgraded),
            State::Closed(Closed::Never(never)) => Some(never.fault),
            State::Poisoned => Some(Fault::Internal),
        }
    }

    /// Why an upgrade can't begin, now or ever.
    pub(super) fn refuses_upgrade(&self) -> Option<Refusal> {
        match self {
            State::Connecting(connecting) => connecting.refuses_upgrade(),
            State::Open(Pipe { tls: None, .. }) => None,
            State::Securing(_) | State::Open(_) => Some(Refusal::Secure),
            State::Yielding(_) if planted!(UpgradesTwice) => None,
            State::Yielding(_) => Some(Refusal::Upgraded),
            State::HalfClosed(_, Half::ReadOnly) => Some(Refusal::HalfClosed),
            State::HalfClosed(_, Half::Discarding) => Some(Refusal::Cancelled),
            State::HalfClosed(_, Half::WriteOnly | Half::Finishing(_)) => Some(Refusal::PeerEnded),
            State::Closed(closed) => Some(closed.refuses_upgrade()),
            State::Poisoned => Some(Refusal::Failed(Fault::Internal)),
        }
    }

    /// Notes that the receive pass is back where that is all there is to do: where it is open.
    #[inline]
    pub(super) fn takes_back_recv(&mut self) -> bool {
        match self {
            State::Open(pipe) => {
                pipe.receiving = false;
                true
            }
            _ => false,
        }
    }

    /// Notes that the send pass is back where that is all there is to do: where it is open.
    #[inline]
    pub(super) fn takes_back_send(&mut self) -> bool {
        match self {
            State::Open(pipe) => {
                pipe.sending = false;
                true
            }
            _ => false,
        }
    }

    /// Notes that the receive pass is back.
    pub(super) fn give_back_recv(&mut self, RecvPass(holder): RecvPass, outputs: &mut Outputs<'_>) {
        match self {
            State::HalfClosed(pipe, Half::Discarding) => {
                pipe.receiving = false;
                if holder == Holder::Reader {
                    // Nobody else is at the wire any more.
                    outputs.push(Output::Attend);
                }
            }
            State::Yielding(pipe) => {
                pipe.receiving = false;
                // Who upgrades waits for it.
                outputs.push(Output::Readable);
            }
            State::Open(pipe)
            | State::HalfClosed(pipe, Half::ReadOnly | Half::WriteOnly | Half::Finishing(_)) => {
                pipe.receiving = false;
            }
            State::Closed(Closed::Ended {
                reads: Reads::Residue(pipe) | Reads::Decrypted(pipe),
                ..
            }) => {
                pipe.receiving = false;
            }
            State::Closed(Closed::Draining(draining)) => draining.pipe.receiving = false,
            State::Securing(securing) => securing.pipe_mut().receiving = false,
            State::Connecting(_)
            | State::Closed(Closed::Ended { .. } | Closed::Upgraded | Closed::Never(_))
            | State::Poisoned => {}
        }
    }

    /// Notes that the send pass is back, and says whether something waited for that.
    pub(super) fn give_back_send(&mut self, SendPass(()): SendPass) -> bool {
        match self {
            State::Open(pipe) | State::Yielding(pipe) | State::HalfClosed(pipe, _) => {
                pipe.sending = false;
            }
            State::Closed(Closed::Draining(draining)) => draining.pipe.sending = false,
            State::Connecting(_)
            | State::Securing(_)
            | State::Closed(Closed::Ended { .. } | Closed::Upgraded | Closed::Never(_))
            | State::Poisoned => {}
        }
        matches!(
            self,
            State::HalfClosed(_, Half::Finishing(_)) | State::Closed(Closed::Draining(_))
        )
    }

    /// Whether a send pass is out.
    pub(super) fn is_sent_to(&self) -> bool {
        match self {
            State::Open(pipe) | State::HalfClosed(pipe, _) => pipe.sending,
            State::Connecting(_)
            | State::Securing(_)
            | State::Yielding(_)
            | State::Closed(_)
            | State::Poisoned => false,
        }
    }

    pub(super) fn is_received_from(&self) -> bool {
        match self {
            State::Securing(securing) => securing.pipe().receiving,
            State::Open(pipe) | State::Yielding(pipe) | State::HalfClosed(pipe, _) => {
                pipe.receiving
            }
            State::Closed(Closed::Ended {
                reads: Reads::Residue(pipe) | Reads::Decrypted(pipe),
                ..
            }) => pipe.receiving,
            State::Connecting(_) | State::Closed(_) | State::Poisoned => false,
        }
    }

    pub(super) fn is_yielding(&self) -> bool {
        matches!(self, State::Yielding(_))
    }

    pub(super) fn is_quiet(&self) -> bool {
        matches!(self, State::Yielding(Pipe { receiving: false, .. }))
    }

    /// Bytes came in an upgrade that were to be read before it.
    pub(super) fn unread(self, outputs: &mut Outputs<'_>) -> State {
        match self {
            State::Yielding(pipe) => pipe.unread(outputs),
            state @ (State::Connecting(_)
            | State::Securing(_)
            | State::Open(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned) => state,
        }
    }

    /// Whether a pass of this holder stands.
    pub(super) fn may_receive(&self, holder: Holder) -> bool {
        match self {
            // Readers are called off; who attends drops what comes.
            State::HalfClosed(_, Half::Discarding) => holder == Holder::Attendant,
            State::Securing(_)
            | State::Open(_)
            | State::HalfClosed(_, Half::ReadOnly)
            | State::Closed(Closed::Ended {
                reads: Reads::Residue(_) | Reads::Decrypted(_), ..
            }) => true,
            State::Connecting(_)
            | State::Yielding(_)
            | State::HalfClosed(_, Half::WriteOnly | Half::Finishing(_))
            | State::Closed(_)
            | State::Poisoned => false,
        }
    }

    pub(super) fn may_send(&self) -> bool {
        match self {
            State::Open(_)
            | State::HalfClosed(_, Half::WriteOnly | Half::Discarding | Half::Finishing(_)) => true,
            State::Connecting(_)
            | State::Securing(_)
            | State::Yielding(_)
            | State::HalfClosed(_, Half::ReadOnly)
            | State::Closed(_)
            | State::Poisoned => false,
        }
    }

    /// Whether this side has not sent its FIN.
    pub(super) fn sends(&self) -> bool {
        match self {
            State::Securing(_) | State::Yielding(_) => true,
            State::HalfClosed(pipe, Half::ReadOnly) => pipe.is_sending(),
            State::Connecting(_)
            | State::Open(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned => self.may_send(),
        }
    }

    // ------------------------------------------------------------- what there is to tell

    pub(super) fn deadline(&self) -> Option<(Instant, Deadline)> {
        match self {
            State::Connecting(connecting) => connecting.deadline(),
            State::Securing(securing) => securing.deadline(),
            State::HalfClosed(_, Half::Finishing(at)) => Some((*at, Deadline::Close)),
            State::Closed(Closed::Draining(draining)) => Some((draining.deadline, Deadline::Close)),
            State::Open(_)
            | State::Yielding(_)
            | State::HalfClosed(_, Half::ReadOnly | Half::WriteOnly | Half::Discarding)
            | State::Closed(Closed::Ended { .. } | Closed::Upgraded | Closed::Never(_))
            | State::Poisoned => None,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self {
            State::Connecting(_) => Phase::Connecting,
            State::Securing(securing) => securing.phase(),
            State::Open(_) | State::Yielding(_) => Phase::Open,
            // A close that is still handing over has not settled.
            State::HalfClosed(..) | State::Closed(Closed::Draining(_)) => Phase::HalfClosed,
            State::Closed(Closed::Ended { .. } | Closed::Upgraded | Closed::Never(_))
            | State::Poisoned => Phase::Closed,
        }
    }

    pub(super) fn opened(&self) -> Option<Result<(), Fault>> {
        match self {
            State::Connecting(_) | State::Securing(_) => None,
            State::Open(_)
            | State::Yielding(_)
            | State::HalfClosed(..)
            | State::Closed(Closed::Draining(_) | Closed::Ended { .. } | Closed::Upgraded) => {
                Some(Ok(()))
            }
            State::Closed(Closed::Never(never)) => Some(Err(never.fault)),
            State::Poisoned => Some(Err(Fault::Internal)),
        }
    }

    pub(super) fn outcome(&self) -> Option<Result<(), Fault>> {
        match self {
            State::Connecting(_)
            | State::Securing(_)
            | State::Open(_)
            | State::Yielding(_)
            | State::HalfClosed(..)
            | State::Closed(Closed::Draining(_)) => None,
            State::Closed(Closed::Ended { outcome, .. }) => Some(*outcome),
            State::Closed(Closed::Upgraded) => Some(Ok(())),
            State::Closed(Closed::Never(never)) => Some(never.outcome),
            State::Poisoned => Some(Err(Fault::Internal)),
        }
    }

    pub(super) fn watch(&self) -> Watch {
        match self {
            State::Securing(_) => Watch::Ingest,
            State::Open(pipe) | State::HalfClosed(pipe, Half::ReadOnly) => match &pipe.tls {
                Some(tls) if tls.has_unread() => Watch::Failure,
                Some(_) | None => Watch::End,
            },
            State::HalfClosed(_, Half::WriteOnly | Half::Finishing(_)) => Watch::Failure,
            State::HalfClosed(pipe, Half::Discarding) if !pipe.receiving => match &pipe.tls {
                Some(_) => Watch::Ingest,
                None => Watch::Discard,
            },
            State::Connecting(_)
            | State::Yielding(_)
            | State::HalfClosed(_, Half::Discarding)
            | State::Closed(_)
            | State::Poisoned => Watch::Nothing,
        }
    }

    /// The step of connecting or closing that it is in, or that failed.
    pub(super) fn step(&self) -> Option<Step> {
        match self {
            State::Connecting(connecting) => connecting.step(),
            State::Securing(_) => Some(Step::Handshake),
            State::HalfClosed(_, Half::Finishing(_)) | State::Closed(Closed::Draining(_)) => {
                Some(Step::Close)
            }
            State::Closed(Closed::Never(never)) => never.step,
            State::Open(_)
            | State::Yielding(_)
            | State::HalfClosed(_, Half::ReadOnly | Half::WriteOnly | Half::Discarding)
            | State::Closed(Closed::Ended { .. } | Closed::Upgraded)
            | State::Poisoned => None,
        }
    }

    /// The connection that never came to be.
    fn never(&self) -> Option<&Never> {
        match self {
            State::Closed(Closed::Never(never)) => Some(never),
            State::Connecting(_)
            | State::Securing(_)
            | State::Open(_)
            | State::Yielding(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned => None,
        }
    }

    pub(super) fn timings(&self) -> Option<Timings> {
        self.never().map(|never| never.timings)
    }

    pub(super) fn awaits(&self, id: AttemptId) -> bool {
        matches!(self, State::Connecting(connecting) if connecting.awaits(id))
    }

    pub(super) fn attempts(&self) -> &[FailedAttempt] {
        self.never().map_or(&[], |never| &never.attempts)
    }
}

/// Both directions ended well.
fn end(pipe: Pipe, ender: Ender, release: Release, outputs: &mut Outputs<'_>) -> State {
    outputs.push(Output::Release(release));
    tell_end(outputs);
    State::Closed(ended(pipe, Reads::End(ender), Ok(())))
}

fn abort(pipe: Pipe, outputs: &mut Outputs<'_>) -> State {
    outputs.push(Output::Release(Release::Reset));
    tell_end(outputs);
    State::Closed(ended(pipe, Reads::Fail(Fault::Aborted), Err(Fault::Aborted)))
}

/// The end of a connection of which nothing more is wanted.
fn ended(pipe: Pipe, reads: Reads, outcome: Result<(), Fault>) -> Closed {
    let remains = pipe.tls.map(|tls| Box::new(tls.into_remains()));
    Closed::Ended { reads, outcome, remains }
}

fn tell_end(outputs: &mut Outputs<'_>) {
    outputs.push(Output::Readable);
    outputs.push(Output::Writable);
    outputs.push(Output::Closed);
}
