//! The states of a socket, and all transitions between them.
//!
//! ```text
//!              attempt won                         one direction ends
//!   Connecting ------------------------------> Open ------------------> HalfClosed
//!       |    \                             _/  |  \                       |
//!       |     \ TLS from the start       _/    |   \ start_tls           |
//!       |      v                   _____/      |    v                      |
//!       |    Handshaking _________/            |   UpgradePending          |
//!       |      |  ^   handshake done           |    |                      |
//!       |      |  `--- a machine that          |    | the wire is another  |
//!       |      |       start_tls made          |    | machine's            |
//!       |      |                               |    |                      |
//!       | lost, late, close, abort             |    |                      |
//!       v      v                               v    v                      v
//!     Closed(ConnectFailed)    Closed(Flushing | Ended | Upgraded | Detached) <'
//!                       (Flushing, while accepted data is yet to be sent)
//!
//!              attempt won                        accepted, or a header is complete
//!   Connecting --------------------> Preamble -----------------> Open | Handshaking
//!             <--------------------     |
//!               unreachable: the next   | refused, late, malformed, ended, close, abort
//!               address of the target   v
//!                              Closed(ConnectFailed)
//! ```
//!
//! A variant owns only the data that is valid in it, and a transition consumes the old state and returns the new one.
//! The transitions are in `connecting`, `preamble`, `handshaking`, `open` and `closed`, by their initial state. `failing`
//! has the failures of an established connection, `routing` the addresses of a target behind a proxy, and `opening` what
//! all states before `Open` share. `permits` has what concerns the callers at the wire, `queries` the answers to queries,
//! and `tls_access` finds the TLS session of a state.

use std::time::Instant;

mod closed;
mod connecting;
mod failing;
mod handshaking;
mod new_session;
mod open;
mod opening;
mod permits;
mod preamble;
mod queries;
mod routing;
mod tls_access;
#[cfg(test)]
mod transition_table;

use self::connecting::Connecting;
use self::handshaking::Handshaking;
use self::opening::ProxyAgain;
pub(super) use self::preamble::Preamble;
use super::tls::{Session, SessionState, Summary};
use super::{
    Actions, AttemptId, Config, FailedAttempt, Fault, Input, Policy, RecvEvent, Release, SendEvent,
    Step,
};
use crate::info::Timings;
use crate::tls::TlsSetup;

#[derive(Debug)]
pub(super) enum State {
    /// The lookup or attempts are in progress.
    Connecting(Box<Connecting>),
    /// The connection to a proxy is established, and its answer or its PROXY header is outstanding.
    Preamble(Box<Preamble>),
    /// The connection is established, and the TLS handshake is in progress.
    Handshaking(Box<Handshaking>),
    Open(Pipe),
    /// A plaintext connection that is about to be upgraded: no thread may read or write. [`Unread`] says whether a byte
    /// from the peer ends it.
    UpgradePending(Pipe, Unread),
    HalfClosed(Pipe, Half),
    Closed(Closed),
    /// A panic interrupted a transition or the driver, so the state is unknown.
    Poisoned,
}

/// What bytes that are unread before an upgrade may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Nothing that the peer may send: it has to wait for this side.
    Refused,
    /// The peer's ClientHello, if the first byte allows it.
    ClientHello,
}

/// An established connection: the permits in use, and its TLS session.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    receiving: bool,
    sending: bool,
    fin: Fin,
    tls: Option<Box<Session>>,
}

/// Whether this side has sent FIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fin {
    #[default]
    Pending,
    Sent,
}

/// The direction that still works.
#[derive(Clone, Copy, Debug)]
pub(super) enum Half {
    /// This side closed its write side.
    ReadOnly,
    /// The peer sent EOF.
    WriteOnly,
    /// Reading was cancelled, and the peer has not sent EOF.
    Discarding,
    /// The peer sent EOF while a write was in progress. That write may finish until this instant; no other begins.
    Finishing(Instant),
}

#[derive(Debug)]
pub(super) enum Closed {
    /// This side closed while a send permit was in use or ciphertext was queued; these go before the FIN.
    Flushing(Box<Flushing>),
    /// An established connection that is over.
    Ended { read_end: ReadEnd, outcome: Result<(), Fault>, summary: Option<Box<Summary>> },
    /// The connection belongs to another machine.
    Upgraded,
    /// The connection belongs to the program.
    Detached,
    /// The connection was not established.
    ConnectFailed(Box<ConnectFailed>),
}

#[derive(Debug)]
pub(super) struct Flushing {
    pipe: Pipe,
    timer: Instant,
    /// The way to release the wire afterwards.
    release: Release,
    /// The result of reads.
    read_end: ReadEnd,
}

#[derive(Debug)]
pub(super) struct ConnectFailed {
    fault: Fault,
    outcome: Result<(), Fault>,
    /// The step that failed.
    step: Option<Step>,
    /// The duration of each step, except those that [`Actions::attach`] reported.
    timings: Timings,
    attempts: Vec<FailedAttempt>,
    /// The remains of a failed handshake.
    summary: Option<Box<Summary>>,
    /// The part of a proxy in the failure.
    proxy: ProxyPart,
    /// Whether the actions have reported the failure. If a handshake fails at its creation, `start` reports it.
    announced: bool,
}

/// The part that a proxy has in a failure.
#[derive(Debug)]
enum ProxyPart {
    None,
    /// It could not be reached.
    Unreachable,
    /// It answered, in words that follow its name.
    Answered(Box<str>),
}

/// The result of reads on a closed socket.
#[derive(Debug)]
pub(super) enum ReadEnd {
    /// Data that the kernel still holds from before the failure.
    Undrained(Box<Pipe>),
    /// Data that the session still holds from before a TLS failure.
    Buffered(Box<Pipe>),
    /// A clean EOF.
    Eof(EndedBy),
    /// A failure.
    Fail(Fault),
}

/// The side that caused a clean end of both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndedBy {
    /// The peer: this side followed its EOF.
    Peer,
    /// This side: it closed a direction itself.
    Local,
}

impl State {
    pub(super) fn connecting(config: Config, now: Instant) -> Self {
        State::Connecting(Box::new(Connecting::new(config, now)))
    }

    fn connecting_again(again: ProxyAgain, now: Instant, actions: &mut Actions) -> Self {
        Connecting::again(again, now, actions)
    }

    pub(super) fn upgrading(
        setup: &TlsSetup,
        preface: &[u8],
        outer: Option<Box<Session>>,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Self {
        Handshaking::upgrade(setup, preface, outer, deadline, now)
    }

    pub(super) fn established(mut config: Config, now: Instant) -> Self {
        match config.header_rules.take() {
            Some(rules) => Preamble::established(rules, config, now),
            None => Handshaking::established(config, now),
        }
    }

    pub(super) fn start(self, policy: Policy, now: Instant, actions: &mut Actions) -> State {
        match self {
            State::Connecting(connecting) => connecting.start(now, actions),
            State::Preamble(preamble) => preamble.start(actions),
            State::Handshaking(handshaking) => handshaking.start(policy, now, actions),
            // A handshake that could not begin.
            State::Closed(Closed::ConnectFailed(mut failed)) if !failed.announced => {
                let summary = failed.summary.as_ref();
                // Those of the session with a proxy.
                actions.transmit = summary.is_some_and(|it| !it.final_records.is_empty());
                actions.release_wire(Release::Close);
                actions.wake.opened = true;
                actions.wake_all_at_end();
                failed.announced = true;
                State::Closed(Closed::ConnectFailed(failed))
            }
            state @ (State::Open(_)
            | State::UpgradePending(..)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned) => state,
        }
    }

    pub(super) fn handle(
        self,
        input: Input<'_>,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match self {
            State::Connecting(connecting) => connecting.handle(input, now, actions),
            State::Preamble(preamble) => preamble.handle(input, now, actions),
            State::Handshaking(handshaking) => handshaking.handle(input, policy, now, actions),
            State::Open(pipe) => pipe.handle(input, policy, now, actions),
            State::UpgradePending(pipe, unread) => {
                pipe.handle_upgrade_pending(unread, input, policy, now, actions)
            }
            State::HalfClosed(pipe, half) => half.handle(pipe, input, policy, now, actions),
            State::Closed(closed) => State::Closed(closed.handle(input, now, actions)),
            State::Poisoned => State::Poisoned,
        }
    }

    /// Denies the address that a proxy is to get by an attempt that has not started.
    pub(super) fn deny_destination(
        self,
        id: AttemptId,
        fault: Fault,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match self {
            State::Connecting(connecting) => connecting.deny_destination(id, fault, now, actions),
            state @ (State::Preamble(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::UpgradePending(..)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned) => state,
        }
    }

    /// Handles the return of a receive permit without bytes.
    pub(super) fn handle_recv_event(
        self,
        what: RecvEvent,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        let what = self.with_kept_fault(what);
        match (self, what) {
            (state, RecvEvent::Cancelled) => state,
            (State::Preamble(preamble), RecvEvent::Eof) => preamble.end(now, actions),
            (State::Preamble(preamble), RecvEvent::Failed(fault)) => {
                preamble.fail(fault, now, actions)
            }
            (State::Handshaking(handshaking), what) => {
                handshaking.handle_recv_event(what, policy, now, actions)
            }
            (State::Open(pipe), RecvEvent::Eof) if pipe.tls.is_none() => {
                pipe.on_peer_eof(policy, now, actions)
            }
            (State::UpgradePending(pipe, _), RecvEvent::Eof) if pipe.tls.is_none() => {
                pipe.peer_ended_before_upgrade(policy, now, actions)
            }
            (State::Open(pipe) | State::UpgradePending(pipe, _), RecvEvent::Failed(fault)) => {
                pipe.fail(fault, actions)
            }
            // In plaintext, the driver discards from now on and will see the event itself.
            (state @ State::HalfClosed(Pipe { tls: None, .. }, Half::Discarding), _) => state,
            (State::HalfClosed(pipe, Half::ReadOnly), RecvEvent::Eof) if pipe.tls.is_none() => {
                end(pipe, EndedBy::Local, Release::Close, actions)
            }
            (
                State::HalfClosed(pipe, Half::ReadOnly | Half::Discarding),
                RecvEvent::Failed(fault),
            ) => pipe.fail(fault, actions),
            (
                State::Closed(Closed::Ended {
                    read_end: ReadEnd::Undrained(pipe), outcome, ..
                }),
                RecvEvent::Eof | RecvEvent::Failed(_),
            ) => closed::undrained_done(*pipe, what, outcome, actions),
            (
                mut state @ (State::Open(_)
                | State::UpgradePending(..)
                | State::HalfClosed(_, Half::ReadOnly | Half::Discarding)),
                RecvEvent::Eof,
            ) => {
                if let Some(tls) = state.tls_mut() {
                    tls.eof();
                }
                state.on_session_progress(policy, now, actions)
            }
            (
                state @ (State::Connecting(_)
                | State::HalfClosed(_, Half::WriteOnly | Half::Finishing(_))
                | State::Closed(_)
                | State::Poisoned),
                RecvEvent::Eof | RecvEvent::Failed(_),
            ) => state,
        }
    }

    /// Returns whether the connection is open and its session has neither ended nor failed.
    pub(super) fn is_fully_open(&self) -> bool {
        let State::Open(pipe) = self else { return false };
        matches!(pipe.session_state(), SessionState::Handshaking | SessionState::Established)
    }

    /// Handles a change of the session: new input, or data that was read.
    pub(super) fn on_session_progress(
        self,
        policy: Policy,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match self {
            State::Handshaking(handshaking) => {
                handshaking.on_session_progress(policy, now, actions)
            }
            State::Preamble(preamble) => preamble.on_session_progress(policy, now, actions),
            State::UpgradePending(pipe, unread) => match pipe.session_state() {
                SessionState::Ended => pipe.peer_ended_before_upgrade(policy, now, actions),
                SessionState::Truncated => pipe.fail(Fault::Truncated, actions),
                SessionState::Failed => pipe.fail_tls(actions),
                SessionState::Handshaking | SessionState::Established => {
                    State::UpgradePending(pipe, unread)
                }
            },
            State::Open(pipe) => match pipe.session_state() {
                SessionState::Ended => pipe.on_peer_eof(policy, now, actions),
                SessionState::Truncated => pipe.fail(Fault::Truncated, actions),
                SessionState::Failed => pipe.fail_tls(actions),
                SessionState::Handshaking | SessionState::Established => State::Open(pipe),
            },
            State::HalfClosed(pipe, half) => half.on_session_progress(pipe, policy, now, actions),
            State::Closed(closed) => State::Closed(closed.on_session_progress(actions)),
            state @ (State::Connecting(_) | State::Poisoned) => state,
        }
    }

    /// Returns whether the end of a transmit can change the state.
    pub(super) fn can_end_on_send(&self) -> bool {
        matches!(self, State::HalfClosed(..) | State::Closed(_))
    }

    /// Handles the return of a send permit or a transmit buffer.
    pub(super) fn handle_send_event(self, what: SendEvent, actions: &mut Actions) -> State {
        match (self, what) {
            (State::Open(mut pipe), SendEvent::Failed(fault)) if pipe.loses_nothing(fault) => {
                pipe.discard_own_records(actions);
                State::Open(pipe)
            }
            (State::Open(pipe) | State::UpgradePending(pipe, _), SendEvent::Failed(fault)) => {
                pipe.fail_undrained(fault, actions)
            }
            (State::HalfClosed(pipe, half), what) => half.handle_send_event(pipe, what, actions),
            (State::Closed(closed @ Closed::Flushing(_)), what) => {
                State::Closed(closed.handle_send_event(what, actions))
            }
            (
                state @ (State::Connecting(_)
                | State::Preamble(_)
                | State::Handshaking(_)
                | State::Open(_)
                | State::UpgradePending(..)
                | State::Closed(
                    Closed::Ended { .. }
                    | Closed::Upgraded
                    | Closed::Detached
                    | Closed::ConnectFailed(_),
                )
                | State::Poisoned),
                SendEvent::Cancelled | SendEvent::Failed(_),
            ) => state,
        }
    }

    /// Handles a transmit buffer that could not be sent.
    pub(super) fn transmit_failed(
        self,
        fault: Fault,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match self {
            State::Preamble(preamble) => preamble.fail(fault, now, actions),
            State::Handshaking(handshaking) => handshaking.fail(fault, now, actions),
            state @ (State::Connecting(_)
            | State::Open(_)
            | State::UpgradePending(..)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned) => state.handle_send_event(SendEvent::Failed(fault), actions),
        }
    }

    /// Fails an upgrade because plaintext arrived.
    pub(super) fn reject_plaintext(self, actions: &mut Actions) -> State {
        match self {
            State::UpgradePending(pipe, _) => pipe.reject_plaintext(actions),
            state @ (State::Connecting(_)
            | State::Preamble(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::HalfClosed(..)
            | State::Closed(_)
            | State::Poisoned) => state,
        }
    }
}

/// Ends the connection after both directions ended cleanly.
fn end(pipe: Pipe, ended_by: EndedBy, release: Release, actions: &mut Actions) -> State {
    actions.release_wire(release);
    actions.wake_all_at_end();
    State::Closed(ended(pipe, ReadEnd::Eof(ended_by), Ok(())))
}

fn abort(pipe: Pipe, actions: &mut Actions) -> State {
    actions.release_wire(Release::Reset);
    actions.wake_all_at_end();
    State::Closed(ended(pipe, ReadEnd::Fail(Fault::Aborted), Err(Fault::Aborted)))
}

/// Creates the final state of a connection, and drops its session.
fn ended(pipe: Pipe, read_end: ReadEnd, outcome: Result<(), Fault>) -> Closed {
    let summary = pipe.tls.map(|tls| Box::new(tls.into_summary()));
    Closed::Ended { read_end, outcome, summary }
}
