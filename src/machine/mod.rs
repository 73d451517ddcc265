//! The state machine of a socket, without I/O: connecting, upgrading, open, half-closed, closed.
//!
//! [`Machine`] only decides: it has no clock, thread, lock or socket. Its driver reports events as an [`Input`], or by
//! returning a permit (see below). The machine returns [`Actions`] for the driver to execute. Time is an argument. So
//! the same machine runs under the crate's event loop, under a simulator and under a fuzzer.
//!
//! This module may change in any 0.x release, also where the rest of the crate stays compatible.
//!
//! # Permits
//!
//! In plaintext, application data never enters the machine. To receive, the driver calls [`Machine::read`]. If it
//! returns [`ReadStep::Recv`] with a [`RecvPermit`], the driver makes the system call, straight into the caller's
//! buffer, and repeats it while it would block. Then it returns the permit with the result, by
//! [`handle_recv`](Machine::handle_recv) or [`handle_recv_event`](Machine::handle_recv_event). Sending works the same
//! way with [`Machine::write`], [`SendPermit`], [`handle_send`](Machine::handle_send) and
//! [`handle_send_event`](Machine::handle_send_event).
//!
//! There is at most one permit per direction. An input can revoke a permit that is in use. Then [`Wake`] wakes its
//! holder, and [`permits_recv`](Machine::permits_recv) or [`permits_send`](Machine::permits_send) returns `false`.
//! Bytes that the holder moved before it noticed still count.
//!
//! # TLS
//!
//! Over TLS, the driver receives ciphertext: [`ReadStep::Ingest`] requests it, and [`ingest`](Machine::ingest) passes
//! it in with a [`RecvBuf`]. [`ReadStep::TakePlaintext`] means that decrypted data is available for
//! [`take_plaintext`](Machine::take_plaintext).
//!
//! A write is [sealed](Machine::seal), and its ciphertext leaves in a [`Transmit`]. [`Actions::transmit`], or the
//! return of `seal`, asks the driver to send it. [`next_transmit`](Machine::next_transmit) lends the bytes, and
//! [`transmit_done`](Machine::transmit_done) returns them. [`Actions::drive_recv`] asks the driver to receive although
//! no caller reads, with a permit from [`begin_background_recv`](Machine::begin_background_recv).
//!
//! A TLS configuration may run the program's code, such as a certificate verifier. The driver can
//! [borrow](Machine::lend) such a session while that code runs. The machine keeps working without it, and may be closed
//! when the driver [restores](Machine::restore) the session.
//!
//! # Example
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::Instant;
//! use sockeye::machine::{
//!     Config, Endpoints, Input, Machine, ReadStep, RecvEvent, Release, Target, WriteStep,
//! };
//! use sockeye::Phase;
//!
//! let now = Instant::now();
//! let peer: SocketAddr = "192.0.2.1:70".parse().unwrap();
//! let mut machine = Machine::new(Config::new(Target::Address(peer)), now);
//!
//! // The machine asks for an attempt to connect to its only address. Report that it succeeded.
//! let attempt = machine.start(now).attempt.unwrap();
//! assert_eq!(attempt.address, peer);
//! let endpoints = Endpoints::new(peer, None);
//! let actions = machine.handle(Input::Attempted { id: attempt.id, result: Ok(endpoints) }, now);
//! assert!(actions.attach.is_some() && actions.wake.opened);
//! assert_eq!(machine.phase(), Phase::Open);
//!
//! // A write: with this permit, the driver sends. Report that the kernel accepted 6 bytes.
//! let WriteStep::Send(permit) = machine.write() else { panic!() };
//! assert!(machine.handle_send(permit, 6).is_empty());
//!
//! // A read: report EOF. By default, this also closes the write side.
//! let ReadStep::Recv(permit) = machine.read() else { panic!() };
//! let actions = machine.handle_recv_event(permit, RecvEvent::Eof, now);
//! assert!(actions.shutdown_write && actions.wake.closed);
//! assert_eq!(actions.release, Some(Release::Close));
//! assert_eq!(machine.phase(), Phase::Closed);
//! assert_eq!(machine.outcome(), Some(Ok(())));
//! assert!(matches!(machine.read(), ReadStep::Eof));
//! ```

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod actions;
mod flood;
mod happy_eyeballs;
mod io_step;
mod recv_queue;
mod send_queue;
mod session_loan;
mod state;
#[cfg(test)]
mod tests;
mod tls;
mod tls_io;

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::egress::EgressRules;
use crate::error::Step;
pub use crate::error::{FailedAttempt, Fault, TimerKind};
pub use crate::info::Endpoints;
use crate::info::{Phase, Stats, Timings};
pub use crate::tls::TlsSetup;

pub use self::actions::{Actions, Attach, Attempt, Release, Wake};
pub use self::happy_eyeballs::{
    ATTEMPT_DELAY, AttemptId, MAX_ADDRESSES, MAX_IN_FLIGHT, RESOLUTION_DELAY,
};
use self::io_step::Holder;
pub use self::io_step::{ReadStep, RecvEvent, RecvPermit, SendEvent, SendPermit, WriteStep};
pub use self::recv_queue::RecvBuf;
pub use self::send_queue::Transmit;
pub use self::session_loan::Loan;
use self::state::State;
pub use self::tls::Discarded;

/// The configuration of a machine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The address or host to connect to.
    pub target: Target,
    /// The local address to bind to, if any. Addresses of the other family are not dialled.
    pub bind: Option<SocketAddr>,
    /// The rules that addresses must pass before they are dialled. `None` allows every address.
    pub egress: Option<Arc<EgressRules>>,
    /// The setup for TLS from the start, or `None` for plaintext.
    pub tls: Option<TlsSetup>,
    /// Whether the write side stays open after the peer's EOF.
    pub allow_half_open: bool,
    /// The limit for waiting for a slot, lookup, attempts and TLS handshake together. Default: 30 seconds.
    pub connect_timeout: Option<Duration>,
    /// The absolute limit for connecting; the earlier of this and the timeout applies. Default: none.
    pub connect_deadline: Option<Instant>,
    /// The limit for a close that waits for accepted data to be handed to the kernel. Default: 5 seconds.
    pub close_timeout: Duration,
}

impl Config {
    /// Creates a configuration with the defaults of [`SocketOptions`](crate::SocketOptions).
    #[must_use]
    pub fn new(target: Target) -> Self {
        Config {
            target,
            bind: None,
            egress: None,
            tls: None,
            allow_half_open: false,
            connect_timeout: Some(Duration::from_secs(30)),
            connect_deadline: None,
            close_timeout: Duration::from_secs(5),
        }
    }
}

/// The address or host that a machine connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// One numeric address, without a lookup.
    Address(SocketAddr),
    /// A host name. The driver knows it and resolves it on [`Actions::resolve`].
    Host,
}

/// An event, or a request of the user, that the driver reports to the machine.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// The resolver returned some addresses, best first. More may follow.
    PartialResolved(&'a [SocketAddr]),
    /// The lookup is complete: the remaining addresses, best first, or the reason why it failed.
    Resolved(Result<&'a [SocketAddr], Fault>),
    /// A connection attempt is complete.
    Attempted {
        /// The attempt's identifier from [`Actions::attempt`].
        id: AttemptId,
        /// Both addresses of the connection, or the reason why the attempt failed.
        result: Result<Endpoints, Fault>,
    },
    /// The instant of [`Machine::next_timer`] may have passed.
    TimerExpired,
    /// The driver saw the peer's EOF without a permit: while it discarded data, or when it polled the wire before
    /// an upgrade.
    WireEof,
    /// The driver saw a failure of the wire without a permit.
    WireFailed(Fault),
    /// Closes both directions gracefully.
    Close,
    /// Closes both directions at once, with a reset.
    Abort,
    /// Same as [`Abort`](Self::Abort), but has no effect after the write side has ended cleanly.
    AbortWrite,
    /// Closes the write side (half-close). Has no effect while a send permit is in use.
    CloseWrite,
    /// Closes the read side. Further data from the peer is discarded.
    CancelRead,
    /// Begins an upgrade to TLS and revokes a receive permit in use. Has no effect if
    /// [`upgrade_error`](Machine::upgrade_error) returns an error, or while a send permit is in use.
    StartTls,
    /// Completes the upgrade: no receive permit is in use, and no data of the peer was on the wire. From now on,
    /// the wire belongs to another machine, made by [`Machine::upgrade`].
    UpgradeReady,
    /// The driver found data of the peer on the wire before the upgrade.
    UnexpectedPlaintext,
    /// Ends the socket without its connection: from now on, the wire belongs to the program. Has no effect unless the
    /// connection is open in plaintext and no permit is in use.
    Detach,
}

/// The events that the driver monitors the wire for while no caller reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Background {
    /// None.
    Nothing,
    /// Incoming data, to receive and drop it. The driver reports EOF as [`Input::WireEof`], and a failure as
    /// [`Input::WireFailed`].
    Discard,
    /// Incoming data, to [ingest](Machine::ingest) it.
    Ingest,
    /// Failures only.
    WatchErrors,
    /// Failures, and an EOF with no unread data before it. To check for it, the driver needs a [`RecvPermit`]. Over
    /// TLS, the driver [ingests](Machine::ingest) incoming data until some is unread.
    WatchEof,
}

/// The reason why a connection can't be upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The connection uses TLS already.
    AlreadyTls,
    /// The connection was upgraded, or an upgrade has begun.
    Upgraded,
    /// The connection was detached.
    Detached,
    /// This side closed its write side.
    HalfClosed,
    /// Reading was cancelled.
    ReadCancelled,
    /// This side closed or aborted the connection.
    Closed,
    /// The peer sent EOF.
    PeerEnded,
    /// The connection failed.
    Failed(Fault),
}

/// The state machine of one socket. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct Machine {
    state: State,
    policy: Policy,
    stats: Stats,
}

/// The options that transitions depend on.
#[derive(Clone, Copy, Debug)]
struct Policy {
    allow_half_open: bool,
    close_timeout: CompactDuration,
    /// The number of transitions until a test panic; 0 for none.
    #[cfg(test)]
    panics_in: u8,
}

impl Policy {
    fn new(config: &Config) -> Self {
        Policy {
            allow_half_open: config.allow_half_open,
            close_timeout: CompactDuration::new(config.close_timeout),
            #[cfg(test)]
            panics_in: 0,
        }
    }
}

/// A time limit in 4 bytes: milliseconds, rounded up, at most 49 days.
#[derive(Clone, Copy, Debug)]
struct CompactDuration(u32);

impl CompactDuration {
    fn new(time: Duration) -> Self {
        let millis = time.as_nanos().div_ceil(1_000_000);
        CompactDuration(u32::try_from(millis).unwrap_or(u32::MAX))
    }

    /// Returns the instant at which the limit expires.
    fn after(self, now: Instant) -> Instant {
        now + Duration::from_millis(self.0.into())
    }
}

impl Machine {
    /// Creates a machine that is about to connect; [`start`](Self::start) returns its first actions. Until then it
    /// waits for a free socket slot, and its connect timeout runs.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        Machine {
            policy: Policy::new(&config),
            state: State::connecting(config, now),
            stats: Stats::default(),
        }
    }

    /// Creates the machine for a connection after an [upgrade](Input::UpgradeReady) of another machine. It is about to
    /// begin its TLS handshake; [`start`](Self::start) returns its first actions. It ignores the parts of `config` that
    /// concern connecting.
    #[must_use]
    pub fn upgrade(
        config: &Config,
        setup: &TlsSetup,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Self {
        Machine {
            policy: Policy::new(config),
            state: State::upgrading(setup, deadline, now),
            stats: Stats::default(),
        }
    }

    /// Creates a poisoned machine, as a placeholder.
    pub(crate) fn inert() -> Self {
        Machine {
            state: State::Poisoned,
            policy: Policy {
                allow_half_open: false,
                close_timeout: CompactDuration(0),
                #[cfg(test)]
                panics_in: 0,
            },
            stats: Stats::default(),
        }
    }

    /// Returns the first actions. A second call returns none.
    pub fn start(&mut self, now: Instant) -> Actions {
        let mut actions = Actions::default();
        self.transition(&mut actions, |state, _, actions| state.start(now, actions));
        actions
    }

    /// Processes an input.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) -> Actions {
        let mut actions = Actions::default();
        self.transition(&mut actions, |state, policy, actions| {
            state.handle(input, policy, now, actions)
        });
        actions
    }

    /// Applies `next` to the state. If `next` panics, the state stays poisoned, so that a partial transition never
    /// looks like a clean end.
    fn transition(
        &mut self,
        actions: &mut Actions,
        next: impl FnOnce(State, Policy, &mut Actions) -> State,
    ) {
        let state = std::mem::replace(&mut self.state, State::Poisoned);
        #[cfg(test)]
        self.panic_if_due();
        self.state = next(state, self.policy, actions);
    }

    /// Poisons the machine after a panic of its driver, because its state may be wrong. From now on, every query
    /// returns [`Fault::Internal`]. Returns the old state, which may own objects of the program; the caller drops it
    /// where their code may run.
    pub(crate) fn poison(&mut self) -> Box<dyn Any + Send> {
        Box::new(std::mem::replace(&mut self.state, State::Poisoned))
    }

    /// Makes the transition after the next `transitions` ones panic.
    #[cfg(test)]
    pub(crate) fn panic_after(&mut self, transitions: u8) {
        self.policy.panics_in = transitions + 1;
    }

    #[cfg(test)]
    fn panic_if_due(&mut self) {
        let is_due = self.policy.panics_in == 1;
        self.policy.panics_in = self.policy.panics_in.saturating_sub(1);
        if is_due {
            // Unlike panic!, this prints nothing.
            std::panic::resume_unwind(Box::new("a panic for a test"));
        }
    }

    /// Returns the next step of a reader.
    #[inline]
    pub fn read(&mut self) -> ReadStep {
        self.state.read()
    }

    /// Returns the next step of a writer.
    #[inline]
    pub fn write(&mut self) -> WriteStep {
        self.state.write()
    }

    /// Returns the error of a read that begins now, if it would fail.
    #[must_use]
    pub fn read_error(&self) -> Option<Fault> {
        self.state.read_error()
    }

    /// Returns the error of a write that begins now, if it would fail. A write that began before may continue.
    #[must_use]
    pub fn write_error(&self) -> Option<Fault> {
        self.state.write_error()
    }

    /// Returns whether this attempt is in progress and was not cancelled.
    #[must_use]
    pub fn is_attempt_pending(&self, id: AttemptId) -> bool {
        self.state.is_attempt_pending(id)
    }

    /// Returns the reason why an upgrade can't begin, now or later.
    #[must_use]
    pub fn upgrade_error(&self) -> Option<UpgradeError> {
        self.state.upgrade_error()
    }

    /// Returns a receive permit after a receive of `bytes` bytes, at least one. The bytes count as read, unless
    /// [`read_error`](Self::read_error) then returns an error: bytes that arrive after an upgrade has begun end the
    /// connection.
    pub fn handle_recv(&mut self, permit: RecvPermit, bytes: usize) -> Actions {
        let mut actions = Actions::default();
        self.state.return_recv(permit, &mut actions);
        if self.state.is_upgrade_pending() && !planted!(TrustsPlaintext) {
            self.transition(&mut actions, |state, _, actions| state.reject_plaintext(actions));
        } else {
            self.stats.bytes_read += bytes as u64;
        }
        actions
    }

    /// Like [`handle_recv`](Self::handle_recv), if the connection is open and so no action follows. Otherwise returns
    /// the permit, and nothing changes. A caller of this needs no [`Actions`] for nearly every read.
    #[inline(always)]
    pub(crate) fn handle_recv_if_open(
        &mut self,
        permit: RecvPermit,
        bytes: usize,
    ) -> Result<(), RecvPermit> {
        if !self.state.return_recv_if_open() {
            return Err(permit);
        }
        self.stats.bytes_read += bytes as u64;
        Ok(())
    }

    /// Returns a receive permit after a receive of no bytes.
    pub fn handle_recv_event(
        &mut self,
        permit: RecvPermit,
        what: RecvEvent,
        now: Instant,
    ) -> Actions {
        let mut actions = Actions::default();
        self.state.return_recv(permit, &mut actions);
        if what != RecvEvent::Cancelled {
            self.transition(&mut actions, |state, policy, actions| {
                state.handle_recv_event(what, policy, now, actions)
            });
        }
        actions
    }

    /// Returns a send permit after the kernel accepted `bytes` bytes.
    pub fn handle_send(&mut self, permit: SendPermit, bytes: usize) -> Actions {
        self.stats.bytes_written += bytes as u64;
        self.handle_send_event(permit, SendEvent::Cancelled)
    }

    /// Like [`handle_send`](Self::handle_send), if the connection is open and so no action follows. Otherwise returns
    /// the permit, and nothing changes.
    #[inline(always)]
    pub(crate) fn handle_send_if_open(
        &mut self,
        permit: SendPermit,
        bytes: usize,
    ) -> Result<(), SendPermit> {
        if !self.state.return_send_if_open() {
            return Err(permit);
        }
        self.stats.bytes_written += bytes as u64;
        Ok(())
    }

    /// Returns a send permit after the kernel accepted nothing.
    pub fn handle_send_event(&mut self, permit: SendPermit, what: SendEvent) -> Actions {
        let mut actions = Actions::default();
        if self.state.return_send(permit) || what != SendEvent::Cancelled {
            self.transition(&mut actions, |state, _, actions| {
                state.handle_send_event(what, actions)
            });
        }
        actions
    }

    /// Returns whether a receive permit is still valid. If not, its holder makes no more system calls and returns it.
    #[must_use]
    pub fn permits_recv(&self, permit: &RecvPermit) -> bool {
        self.state.can_recv_as(permit.0)
    }

    /// Returns whether a reader's receive permit would be valid.
    #[must_use]
    pub fn can_recv(&self) -> bool {
        self.state.can_recv_as(Holder::Reader)
    }

    /// Returns whether a send permit is still valid. If not, its holder makes no more system calls and returns it.
    #[must_use]
    pub fn permits_send(&self, _permit: &SendPermit) -> bool {
        self.state.can_send()
    }

    /// Returns the instant at which to report [`Input::TimerExpired`], and the limit that expires then.
    #[must_use]
    pub fn next_timer(&self) -> Option<(Instant, TimerKind)> {
        self.state.next_timer()
    }

    /// Returns the socket's phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.state.phase()
    }

    /// Returns whether the connection was established: `None` while that is undecided. A later failure does not change
    /// it.
    #[must_use]
    pub fn opened(&self) -> Option<Result<(), Fault>> {
        self.state.opened()
    }

    /// Returns how the socket ended: `None` until it has. The outcome never changes.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<(), Fault>> {
        self.state.outcome()
    }

    /// Returns the events to monitor the wire for while no caller reads.
    #[must_use]
    pub fn background(&self) -> Background {
        self.state.background()
    }

    /// Returns whether the write side is open: neither closed nor failed.
    #[must_use]
    pub fn is_write_open(&self) -> bool {
        self.state.is_write_open()
    }

    /// Returns whether a receive permit is in use.
    #[must_use]
    pub fn recv_in_flight(&self) -> bool {
        self.state.recv_in_flight()
    }

    /// Returns the current step of connecting or closing, or the one that failed.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        self.state.step()
    }

    /// Returns the duration of each step of a failed connect. If the handshake failed, the other steps are zero here,
    /// because [`Actions::attach`] reported them.
    #[must_use]
    pub fn timings(&self) -> Option<Timings> {
        self.state.timings()
    }

    /// Returns all attempts of a failed connect, in order.
    #[must_use]
    pub fn attempts(&self) -> &[FailedAttempt] {
        self.state.attempts()
    }

    /// Returns the number of application bytes read and written.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }
}
