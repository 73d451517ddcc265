//! The socket as a pure state machine: connecting, upgrading, open, half-closed, closed.
//!
//! [`Machine`] decides and does nothing: it has no clock, thread, lock or socket. What happened goes
//! in as an [`Input`] (or as the report of a permit, below), what has to be done comes out as
//! [`Actions`], and time is an argument. So the same machine runs under the crate's event loop, under a
//! simulator and under a fuzzer.
//!
//! # Permits
//!
//! In plaintext application data never enters the machine. A party that wants to receive asks [`Machine::read`];
//! [`ReadStep::Recv`] gives it a [`RecvPermit`], with which it makes the system call itself, straight
//! into its own buffer, as often as that would block. Then it gives the permit back with what came of it:
//! [`handle_recv`](Machine::handle_recv) or [`handle_recv_event`](Machine::handle_recv_event). Sending goes the same way with
//! [`Machine::write`], [`SendPermit`], [`handle_send`](Machine::handle_send) and [`handle_send_event`](Machine::handle_send_event). There
//! is at most one permit a direction. A command may withdraw a permit that is out:
//! [`Action::Readable`] or [`Action::Writable`] then tells its holder to look, and
//! [`permits_recv`](Machine::permits_recv) or [`permits_send`](Machine::permits_send) is false. What a
//! call took before its holder noticed still counts.
//!
//! # TLS
//!
//! Over TLS what is received is ciphertext: [`ReadStep::Ingest`] asks for it, in an [`RecvBuf`], by
//! [`ingest`](Machine::ingest); [`ReadStep::TakePlaintext`] then says that there is data to
//! [`take`](Machine::take_plaintext). A write is [sealed](Machine::seal); the ciphertext leaves in [`Transmit`]s, which
//! [`Action::Transmit`] or the return of the call asks to be sent: lent by [`transmit`](Machine::next_transmit),
//! given back by [`transmitted`](Machine::transmit_done). [`Action::DriveRecv`] asks somebody to receive where no
//! reader does, with a permit from [`attend`](Machine::begin_background_recv).
//!
//! A session whose configuration may run foreign code, such as a certificate verifier of the program, can be
//! [lent](Machine::lend) for that time: the machine then goes on, and what it is [restored](Machine::restore) to
//! may be closed.
//!
//! # Driving one by hand
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::{Duration, Instant};
//! use sockeye::machine::{
//!     Endpoints, Input, Machine, Output, Plan, ReadStep, Received, Release, Target, WriteStep,
//! };
//! use sockeye::Phase;
//!
//! let now = Instant::now();
//! let peer: SocketAddr = "192.0.2.1:70".parse().unwrap();
//! let mut machine = Machine::new(Plan::new(Target::Address(peer)), now);
//!
//! // It wants its one address dialled. Say that this worked.
//! let [Output::Attempt { id, address }] = machine.start(now).collect::<Vec<_>>()[..] else { panic!() };
//! assert_eq!(address, peer);
//! let endpoints = Endpoints { remote: peer, local: None };
//! let actions: Vec<_> = machine.handle(Input::Attempted { id, result: Ok(endpoints) }, now).collect();
//! assert!(matches!(actions[..], [Output::Adopt { .. }, Output::Opened, ..]));
//! assert_eq!(machine.phase(), Phase::Open);
//!
//! // A write: the permit is leave to send; the system took 6 bytes.
//! let WriteStep::Send(pass) = machine.write() else { panic!() };
//! assert_eq!(machine.accepted(pass, 6).count(), 0);
//!
//! // A read: the peer has ended. By default that closes our side too.
//! let ReadStep::Receive(pass) = machine.read() else { panic!() };
//! let actions: Vec<_> = machine.received(pass, Received::Eof, now).collect();
//! assert_eq!(actions[..2], [Output::ShutdownWrite, Output::Release(Release::Done)]);
//! assert_eq!(machine.phase(), Phase::Closed);
//! assert_eq!(machine.outcome(), Some(Ok(())));
//! assert!(matches!(machine.read(), ReadStep::End));
//! ```

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod flood;
mod flow;
mod intake;
mod loan;
mod outbox;
mod race;
mod secure;
mod state;
#[cfg(test)]
mod tests;
mod tls;

use std::any::Any;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::egress::EgressRules;
use crate::error::Step;
pub use crate::error::{FailedAttempt, Fault, TimerKind};
pub use crate::info::Endpoints;
use crate::info::{Phase, Stats, Timings};
pub use crate::tls::TlsSetup;

use self::flow::Holder;
pub use self::flow::{ReadStep, RecvEvent, RecvPermit, SendEvent, SendPermit, WriteStep};
pub use self::intake::RecvBuf;
pub use self::loan::Loan;
pub use self::outbox::Transmit;
pub use self::race::{ATTEMPT_DELAY, AttemptId, MAX_ADDRESSES, MAX_IN_FLIGHT, RESOLUTION_DELAY};
use self::state::State;
pub use self::tls::Discarded;

/// What a machine is made for.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to connect to.
    pub target: Target,
    /// The local address, where one is prescribed: addresses of the other family are not dialled.
    pub bind: Option<SocketAddr>,
    /// Which addresses may be dialled. Every one where there are none.
    pub egress: Option<Arc<EgressRules>>,
    /// For TLS from the start.
    pub tls: Option<TlsSetup>,
    /// Whether the write side stays open when the peer has ended.
    pub allow_half_open: bool,
    /// The most that lookup, attempts and the TLS handshake may take together.
    pub connect_timeout: Option<Duration>,
    /// When connecting has failed at the latest; the earlier of this and the timeout counts.
    pub connect_deadline: Option<Instant>,
    /// The most that a close may wait for what is being written.
    pub close_timeout: Duration,
}

impl Config {
    /// A plan with the defaults of [`SocketOptions`](crate::SocketOptions).
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

/// What a machine connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One numeric address: nothing is looked up.
    Address(SocketAddr),
    /// A name, which whoever drives the machine knows and looks up on [`Action::Resolve`].
    Host,
}

/// What happened, or what the user wants.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A part of the answer to a lookup came: addresses, best first. More may follow.
    PartialResolved(&'a [SocketAddr]),
    /// The lookup ended: the (other) addresses, best first, or why there are none.
    Resolved(Result<&'a [SocketAddr], Fault>),
    /// A connection attempt ended.
    Attempted {
        /// Which attempt, as [`Action::Attempt`] named it.
        id: AttemptId,
        /// Both ends of the connection, or why there is none.
        result: Result<Endpoints, Fault>,
    },
    /// The instant of [`Machine::next_timer`] may have come.
    TimerExpired,
    /// The peer's end was seen by who holds no permit: by who discards what comes in, or who looked at the
    /// wire before an upgrade.
    WireEof,
    /// The wire was found broken by who held no permit.
    WireFailed(Fault),
    /// Close both directions, gracefully.
    Close,
    /// Close both directions at once, by a reset.
    Abort,
    /// As [`Abort`](Self::Abort), but without effect once the write side has ended well.
    AbortWrite,
    /// Half-close: end the write side. Without effect while a send permit is out.
    CloseWrite,
    /// End the read side: what comes in is dropped.
    CancelRead,
    /// Upgrade to TLS: from now on nobody may read or write. Without effect where
    /// [`upgrade_error`](Machine::upgrade_error) says why, or while a send permit is out.
    StartTls,
    /// No receive permit is out any more, and nothing of the peer was on the wire: another machine, one of
    /// [`Machine::upgrade`], has it from now on.
    UpgradeReady,
    /// Something of the peer was on the wire.
    UnexpectedPlaintext,
}

/// What has to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Look the name up; answer with [`Input::Resolved`].
    Resolve,
    /// Dial this address; answer with [`Input::Attempted`].
    Attempt {
        /// What to name this attempt in the answer.
        id: AttemptId,
        /// The address to dial.
        address: SocketAddr,
    },
    /// This attempt's connection is the socket's wire from now on.
    Attach {
        /// Which attempt.
        id: AttemptId,
        /// How long connecting took.
        timings: Timings,
    },
    /// Give up this attempt, and close its descriptor: no answer is wanted any more.
    CancelAttempt {
        /// Which attempt.
        id: AttemptId,
    },
    /// Give up the lookup and all attempts that were not adopted: no answer is wanted any more.
    CancelAttempts,
    /// Send FIN: all that was accepted is with the system already.
    ShutdownWrite,
    /// Nobody reads now: receive what comes, as [`Machine::background`] says.
    DriveRecv,
    /// Send what [`Machine::next_transmit`] lends, until it lends nothing more; at the very end of a
    /// connection, with [`Action::Release`], what [`Machine::take_final_records`] gives, as far as that goes at
    /// once.
    Transmit,
    /// Let go of the wire: nothing is wanted of it any more.
    Release(Release),
    /// Tell who waits for the connection: [`Machine::opened`] has settled.
    Opened,
    /// Tell readers to look again.
    Readable,
    /// Tell writers to look again.
    Writable,
    /// Tell who waits for the end: [`Machine::outcome`] has settled.
    Closed,
    /// A TLS handshake that may run foreign code is about to begin: [borrow the
    /// session](Machine::lend_to_begin) for that.
    BeginHandshake,
}

/// How to let go of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Both directions have ended, or the wire is broken: close the descriptor.
    Close,
    /// The peer has not ended: drop what it still sends, within a bound of time and bytes, so that it
    /// sees FIN rather than a reset, then close the descriptor.
    Linger,
    /// Send a reset.
    Reset,
}

/// What the driver of a machine should watch the wire for while nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// For nothing.
    Nothing,
    /// For whatever comes, which is received and dropped; then say [`Input::WireEof`] or
    /// [`Input::WireFailed`].
    Discard,
    /// For whatever comes, which is [ingested](Machine::ingest).
    Ingest,
    /// For a failure only.
    WatchErrors,
    /// For a failure, and for the peer's end with nothing unread before it. To look takes a
    /// [`RecvPermit`]; over TLS what is there is [ingested](Machine::ingest) until something is unread.
    WatchEof,
}

/// Why a connection can't be upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeError {
    /// It is TLS already.
    AlreadyTls,
    /// It was upgraded, or is about to be.
    Upgraded,
    /// This side has ended its writing.
    HalfClosed,
    /// Reading was cancelled.
    ReadCancelled,
    /// This side has closed or aborted it.
    Closed,
    /// The peer has ended.
    PeerEnded,
    /// It failed.
    Failed(Fault),
}

/// One socket's state and rules. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct Machine {
    state: State,
    policy: Policy,
    stats: Stats,
}

/// What transitions need to know of the options.
#[derive(Clone, Copy, Debug)]
struct Policy {
    allow_half_open: bool,
    close_timeout: CompactDuration,
    /// So many transitions on there is a panic; 0 for none.
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

/// A time limit in little room: in milliseconds, rounded up, 49 days at most.
#[derive(Clone, Copy, Debug)]
struct CompactDuration(u32);

impl CompactDuration {
    fn new(time: Duration) -> Self {
        let millis = time.as_nanos().div_ceil(1_000_000);
        CompactDuration(u32::try_from(millis).unwrap_or(u32::MAX))
    }

    /// The instant when it has passed.
    fn after(self, now: Instant) -> Instant {
        now + Duration::from_millis(self.0.into())
    }
}

impl Machine {
    /// A machine that is about to connect; [`start`](Self::start) gives its first actions. Until then it
    /// waits, for a place among the sockets that may be open, and its connect timeout runs.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        Machine {
            policy: Policy::new(&config),
            state: State::connecting(config, now),
            stats: Stats::default(),
        }
    }

    /// The machine of a connection that another one has [handed over](Input::UpgradeReady), about to begin its
    /// TLS handshake; [`start`](Self::start) gives its first actions. Of the plan counts what is left to
    /// do.
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

    /// One of which nothing is wanted any more.
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

    /// The first actions. A second call gives none.
    pub fn start(&mut self, now: Instant) -> Actions<'_> {
        let mut actions = Actions::none();
        self.transition(&mut actions, |state, _, actions| state.start(now, actions));
        actions
    }

    /// Takes notice of `input`.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) -> Actions<'_> {
        let mut actions = Actions::none();
        self.transition(&mut actions, |state, policy, actions| {
            state.handle(input, policy, now, actions)
        });
        actions
    }

    /// Replaces the state by what `next` makes of it. If that panics the state is poisoned: half a transition
    /// reads as nothing else, least of all as a clean end.
    fn transition(
        &mut self,
        actions: &mut Actions<'_>,
        next: impl FnOnce(State, Policy, &mut Actions<'_>) -> State,
    ) {
        let state = std::mem::replace(&mut self.state, State::Poisoned);
        #[cfg(test)]
        self.panic_if_due();
        self.state = next(state, self.policy, actions);
    }

    /// Says that a panic interrupted whoever drives the machine, so that what it knows of the connection may
    /// be wrong: every query answers with [`Fault::Internal`] from now on. Returns what the machine had, which
    /// may hold objects of the program's, to be dropped where their code may run.
    pub(crate) fn poison(&mut self) -> Box<dyn Any + Send> {
        Box::new(std::mem::replace(&mut self.state, State::Poisoned))
    }

    /// Has the transition panic that is the next but so many.
    #[cfg(test)]
    pub(crate) fn panic_after(&mut self, transitions: u8) {
        self.policy.panics_in = transitions + 1;
    }

    #[cfg(test)]
    fn panic_if_due(&mut self) {
        let is_due = self.policy.panics_in == 1;
        self.policy.panics_in = self.policy.panics_in.saturating_sub(1);
        if is_due {
            // Prints nothing.
            std::panic::resume_unwind(Box::new("a panic for a test"));
        }
    }

    /// What a party that wants to receive has to do.
    #[inline]
    pub fn read(&mut self) -> ReadStep {
        self.state.read()
    }

    /// What a party that wants to send has to do.
    #[inline]
    pub fn write(&mut self) -> WriteStep {
        self.state.write()
    }

    /// Why a read that begins now would fail.
    #[must_use]
    pub fn read_error(&self) -> Option<Fault> {
        self.state.read_error()
    }

    /// Why a write that begins now would fail, although one that began before may go on.
    #[must_use]
    pub fn write_error(&self) -> Option<Fault> {
        self.state.write_error()
    }

    /// Whether the end of this attempt is waited for: it is under way, and was not given up.
    #[must_use]
    pub fn is_attempt_pending(&self, id: AttemptId) -> bool {
        self.state.is_attempt_pending(id)
    }

    /// Why an upgrade can't begin, now or ever.
    #[must_use]
    pub fn upgrade_error(&self) -> Option<UpgradeError> {
        self.state.upgrade_error()
    }

    /// Ends a receive permit that took `bytes` bytes, more than none. They count as read, unless
    /// [`read_error`](Self::read_error) says otherwise then: bytes that come when an upgrade has
    /// begun end the connection.
    #[inline]
    pub fn handle_recv(&mut self, permit: RecvPermit, bytes: usize) -> Actions<'_> {
        if self.state.return_recv_if_open() {
            self.stats.bytes_read += bytes as u64;
            return Actions::none();
        }
        self.handle_recv_slow(permit, bytes)
    }

    fn handle_recv_slow(&mut self, permit: RecvPermit, bytes: usize) -> Actions<'_> {
        let mut actions = Actions::none();
        self.state.return_recv(permit, &mut actions);
        if self.state.is_upgrade_pending() && !planted!(TrustsPlaintext) {
            self.transition(&mut actions, |state, _, actions| state.reject_plaintext(actions));
        } else {
            self.stats.bytes_read += bytes as u64;
        }
        actions
    }

    /// Ends a receive permit that took nothing.
    pub fn handle_recv_event(
        &mut self,
        permit: RecvPermit,
        what: RecvEvent,
        now: Instant,
    ) -> Actions<'_> {
        let mut actions = Actions::none();
        self.state.return_recv(permit, &mut actions);
        if what != RecvEvent::Cancelled {
            self.transition(&mut actions, |state, policy, actions| {
                state.handle_recv_event(what, policy, now, actions)
            });
        }
        actions
    }

    /// Ends a send permit that took `bytes` bytes.
    #[inline]
    pub fn handle_send(&mut self, permit: SendPermit, bytes: usize) -> Actions<'_> {
        self.stats.bytes_written += bytes as u64;
        if self.state.return_send_if_open() {
            return Actions::none();
        }
        self.handle_send_event(permit, SendEvent::Cancelled)
    }

    /// Ends a send permit that took nothing.
    pub fn handle_send_event(&mut self, permit: SendPermit, what: SendEvent) -> Actions<'_> {
        let mut actions = Actions::none();
        if self.state.return_send(permit) || what != SendEvent::Cancelled {
            self.transition(&mut actions, |state, _, actions| {
                state.handle_send_event(what, actions)
            });
        }
        actions
    }

    /// Whether a receive permit that is out still stands. If not, its holder makes no more calls and
    /// gives it back.
    #[must_use]
    pub fn permits_recv(&self, permit: &RecvPermit) -> bool {
        self.state.can_recv_as(permit.0)
    }

    /// Whether a reader's receive permit that may be out would still stand.
    #[must_use]
    pub fn can_recv(&self) -> bool {
        self.state.can_recv_as(Holder::Reader)
    }

    /// Whether a send permit that is out still stands. If not, its holder makes no more calls and gives
    /// it back.
    #[must_use]
    pub fn permits_send(&self, _pass: &SendPermit) -> bool {
        self.state.can_send()
    }

    /// When to say [`Input::TimerExpired`], and what passes then.
    #[must_use]
    pub fn next_timer(&self) -> Option<(Instant, TimerKind)> {
        self.state.next_timer()
    }

    /// Where the socket is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.state.phase()
    }

    /// Whether the connection was established: `None` while that is open. A later failure changes
    /// nothing of it.
    #[must_use]
    pub fn opened(&self) -> Option<Result<(), Fault>> {
        self.state.opened()
    }

    /// How the socket ended: `None` while it lives. It never changes again.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<(), Fault>> {
        self.state.outcome()
    }

    /// What to watch the wire for while nobody reads.
    #[must_use]
    pub fn background(&self) -> Background {
        self.state.background()
    }

    /// Whether this side can still send: neither closed, nor half-closed, nor broken.
    #[must_use]
    pub fn is_write_open(&self) -> bool {
        self.state.is_write_open()
    }

    /// Whether a receive permit is out.
    #[must_use]
    pub fn recv_in_flight(&self) -> bool {
        self.state.recv_in_flight()
    }

    /// Returns the step of connecting or closing that it is in, or that failed.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        self.state.step()
    }

    /// Returns how long each step took, of a connection that never came to be. If its handshake failed, the
    /// other steps are zero here: [`Action::Attach`] has told how long they took.
    #[must_use]
    pub fn timings(&self) -> Option<Timings> {
        self.state.timings()
    }

    /// Every attempt that failed, in order, of a connection that never came to be.
    #[must_use]
    pub fn attempts(&self) -> &[FailedAttempt] {
        self.state.attempts()
    }

    /// Application bytes that passed.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }
}

/// What has to be done after an input, in order. To be drained before the machine is used again.
///
/// Mostly there is nothing, which costs nothing.
#[derive(Debug)]
#[must_use = "what has to be done is lost when it is not drained"]
pub struct Actions<'a> {
    items: Vec<Action>,
    taken: usize,
    machine: PhantomData<&'a mut Machine>,
}

/// No input has more consequences than this.
const MAX_ACTIONS: usize = 8;

impl Actions<'_> {
    fn none() -> Self {
        Actions { items: Vec::new(), taken: 0, machine: PhantomData }
    }

    fn push(&mut self, action: Action) {
        if self.items.capacity() == 0 {
            self.items = Vec::with_capacity(MAX_ACTIONS);
        }
        self.items.push(action);
    }

    /// What has not been taken, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Action] {
        &self.items[self.taken..]
    }

    /// Whether nothing has to be done (any more).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken == self.items.len()
    }
}

impl Iterator for Actions<'_> {
    type Item = Action;

    fn next(&mut self) -> Option<Action> {
        let action = self.items.get(self.taken).copied()?;
        self.taken += 1;
        Some(action)
    }
}
