//! The socket as a pure state machine: connecting, upgrading, open, half-closed, closed.
//!
//! [`Machine`] decides and does nothing: it has no clock, thread, lock or socket. What happened goes
//! in as an [`Input`] (or as the report of a pass, below), what has to be done comes out as
//! [`Outputs`], and time is an argument. So the same machine runs under the crate's event loop, under a
//! simulator and under a fuzzer.
//!
//! # Passes
//!
//! In plaintext application data never enters the machine. A party that wants to receive asks [`Machine::read`];
//! [`ReadStep::Receive`] gives it a [`RecvPass`], with which it makes the system call itself, straight
//! into its own buffer, as often as that would block. Then it gives the pass back with what came of it:
//! [`delivered`](Machine::delivered) or [`received`](Machine::received). Sending goes the same way with
//! [`Machine::write`], [`SendPass`], [`accepted`](Machine::accepted) and [`sent`](Machine::sent). There
//! is at most one pass a direction. A command may withdraw a pass that is out:
//! [`Output::Readable`] or [`Output::Writable`] then tells its holder to look, and
//! [`still_receives`](Machine::still_receives) or [`still_sends`](Machine::still_sends) is false. What a
//! call took before its holder noticed still counts.
//!
//! # TLS
//!
//! Over TLS what is received is ciphertext: [`ReadStep::Ingest`] asks for it, in an [`Intake`], by
//! [`ingest`](Machine::ingest); [`ReadStep::Take`] then says that there is data to
//! [`take`](Machine::take). A write is [sealed](Machine::seal); the ciphertext leaves in [`Parcel`]s, which
//! [`Output::Transmit`] or the return of the call asks to be sent: lent by [`transmit`](Machine::transmit),
//! given back by [`transmitted`](Machine::transmitted). [`Output::Attend`] asks somebody to receive where no
//! reader does, with a pass from [`attend`](Machine::attend).
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
//! let outputs: Vec<_> = machine.handle(Input::Attempted { id, result: Ok(endpoints) }, now).collect();
//! assert!(matches!(outputs[..], [Output::Adopt { .. }, Output::Opened, ..]));
//! assert_eq!(machine.phase(), Phase::Open);
//!
//! // A write: the pass is leave to send; the system took 6 bytes.
//! let WriteStep::Send(pass) = machine.write() else { panic!() };
//! assert_eq!(machine.accepted(pass, 6).count(), 0);
//!
//! // A read: the peer has ended. By default that closes our side too.
//! let ReadStep::Receive(pass) = machine.read() else { panic!() };
//! let outputs: Vec<_> = machine.received(pass, Received::Eof, now).collect();
//! assert_eq!(outputs[..2], [Output::ShutdownWrite, Output::Release(Release::Done)]);
//! assert_eq!(machine.phase(), Phase::Closed);
//! assert_eq!(machine.outcome(), Some(Ok(())));
//! assert!(matches!(machine.read(), ReadStep::End));
//! ```

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod flow;
mod intake;
mod outbox;
mod race;
mod state;
#[cfg(test)]
mod tests;
mod tls;

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use crate::error::{Deadline, Fault};
pub use crate::info::Endpoints;
use crate::info::{Agreed, Phase, Stats, Timings};
use crate::tls::Failure;
pub use crate::tls::TlsSetup;

pub use self::flow::{ReadStep, Received, RecvPass, SendPass, Sent, WriteStep};
pub use self::intake::Intake;
pub use self::outbox::Parcel;
pub use self::race::{ADDRESSES_MOST, ATTEMPT_DELAY, AttemptId, RESOLUTION_DELAY};
use self::state::State;

/// What a machine is made for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to connect to.
    pub target: Target,
    /// The local address, where one is prescribed: addresses of the other family are not dialled.
    pub bind: Option<SocketAddr>,
    /// For TLS from the start.
    pub tls: Option<TlsSetup>,
    /// Whether the write side stays open when the peer has ended.
    pub allow_half_open: bool,
    /// The most that look-up, attempts and the TLS handshake may take together.
    pub connect_timeout: Option<Duration>,
    /// The most that a close may wait for what is being written.
    pub close_timeout: Duration,
}

impl Plan {
    /// A plan with the defaults of [`SocketOptions`](crate::SocketOptions).
    #[must_use]
    pub fn new(target: Target) -> Self {
        Plan {
            target,
            bind: None,
            tls: None,
            allow_half_open: false,
            connect_timeout: Some(Duration::from_secs(30)),
            close_timeout: Duration::from_secs(5),
        }
    }
}

/// What a machine connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One numeric address: nothing is looked up.
    Address(SocketAddr),
    /// A name, which whoever drives the machine knows and looks up on [`Output::Resolve`].
    Name,
}

/// What happened, or what the user wants.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A part of the answer to a look-up came: addresses, best first. More may follow.
    Answered(&'a [SocketAddr]),
    /// The look-up ended: the (other) addresses, best first, or why there are none.
    Resolved(Result<&'a [SocketAddr], Fault>),
    /// A connection attempt ended.
    Attempted {
        /// Which attempt, as [`Output::Attempt`] named it.
        id: AttemptId,
        /// Both ends of the connection, or why there is none.
        result: Result<Endpoints, Fault>,
    },
    /// The instant of [`Machine::deadline`] may have come.
    Deadline,
    /// The peer's end was seen by who holds no pass: by who discards what comes in, or who looked at the
    /// wire before an upgrade.
    WireEof,
    /// The wire was found broken by who held no pass.
    WireFailed(Fault),
    /// Close both directions, gracefully.
    Close,
    /// Close both directions at once, by a reset.
    Abort,
    /// As [`Abort`](Self::Abort), but without effect once the write side has ended well.
    AbortWriting,
    /// Half-close: end the write side. Without effect while a send pass is out.
    FinishWriting,
    /// End the read side: what comes in is dropped.
    CancelReading,
    /// Upgrade to TLS: from now on nobody may read or write. Without effect where
    /// [`refuses_upgrade`](Machine::refuses_upgrade) says why, or while a send pass is out.
    StartTls,
    /// No receive pass is out any more, and nothing of the peer was on the wire: another machine, one of
    /// [`Machine::upgrade`], has it from now on.
    HandOver,
    /// Something of the peer was on the wire.
    Unread,
}

/// What has to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
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
    Adopt {
        /// Which attempt.
        id: AttemptId,
        /// How long connecting took.
        timings: Timings,
    },
    /// Give up the look-up and all attempts that were not adopted: no answer is wanted any more.
    Abandon,
    /// Send FIN: all that was accepted is with the system already.
    ShutdownWrite,
    /// Nobody reads now: receive what comes, as [`Machine::watch`] says.
    Attend,
    /// Send what [`Machine::transmit`] lends, until it lends nothing more; at the very end of a
    /// connection, with [`Output::Release`], what [`Machine::take_farewell`] gives, as far as that goes at
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
}

/// How to let go of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Both directions have ended, or the wire is broken: close the descriptor.
    Done,
    /// The peer has not ended: drop what it still sends, within a bound of time and bytes, so that it
    /// sees FIN rather than a reset, then close the descriptor.
    Linger,
    /// Send a reset.
    Reset,
}

/// What the driver of a machine should watch the wire for while nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// For nothing.
    Nothing,
    /// For whatever comes, which is received and dropped; then say [`Input::WireEof`] or
    /// [`Input::WireFailed`].
    Discard,
    /// For whatever comes, which is [ingested](Machine::ingest).
    Ingest,
    /// For a failure only.
    Failure,
    /// For a failure, and for the peer's end with nothing unread before it. To look takes a
    /// [`RecvPass`]; over TLS what is there is [ingested](Machine::ingest) until something is unread.
    End,
}

/// Why a connection can't be upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is TLS already.
    Secure,
    /// It was upgraded, or is about to be.
    Upgraded,
    /// This side has ended its writing.
    HalfClosed,
    /// Reading was cancelled.
    Cancelled,
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
    rules: Rules,
    stats: Stats,
}

/// What transitions need to know of the options.
#[derive(Clone, Copy, Debug)]
struct Rules {
    allow_half_open: bool,
    close_timeout: Limit,
}

impl Rules {
    fn new(plan: &Plan) -> Self {
        Rules {
            allow_half_open: plan.allow_half_open,
            close_timeout: Limit::new(plan.close_timeout),
        }
    }
}

/// A time limit in little room: in milliseconds, rounded up, 49 days at most.
#[derive(Clone, Copy, Debug)]
struct Limit(u32);

impl Limit {
    fn new(time: Duration) -> Self {
        let millis = time.as_nanos().div_ceil(1_000_000);
        Limit(u32::try_from(millis).unwrap_or(u32::MAX))
    }

    /// The instant when it has passed.
    fn after(self, now: Instant) -> Instant {
        now + Duration::from_millis(self.0.into())
    }
}

impl Machine {
    /// A machine that is about to connect; [`start`](Self::start) gives its first outputs.
    #[must_use]
    pub fn new(plan: Plan, now: Instant) -> Self {
        Machine {
            rules: Rules::new(&plan),
            state: State::connecting(plan, now),
            stats: Stats::default(),
        }
    }

    /// The machine of a connection that another one has [handed over](Input::HandOver), about to begin its
    /// TLS handshake; [`start`](Self::start) gives its first outputs. Of the plan counts what is left to
    /// do.
    #[must_use]
    pub fn upgrade(plan: &Plan, setup: &TlsSetup, deadline: Option<Instant>, now: Instant) -> Self {
        Machine {
            rules: Rules::new(plan),
            state: State::upgrading(setup, deadline, now),
            stats: Stats::default(),
        }
    }

    /// The first outputs. A second call gives none.
    pub fn start(&mut self, now: Instant) -> Outputs<'_> {
        let mut outputs = Outputs::none();
        self.state.start(now, &mut outputs);
        outputs
    }

    /// Takes notice of `input`.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) -> Outputs<'_> {
        let mut outputs = Outputs::none();
        let state = std::mem::replace(&mut self.state, State::moved());
        self.state = state.handle(input, self.rules, now, &mut outputs);
        outputs
    }

    /// What a party that wants to receive has to do.
    pub fn read(&mut self) -> ReadStep {
        self.state.read()
    }

    /// What a party that wants to send has to do.
    pub fn write(&mut self) -> WriteStep {
        self.state.write()
    }

    /// Why a read that begins now would fail.
    #[must_use]
    pub fn refuses_read(&self) -> Option<Fault> {
        self.state.refuses_read()
    }

    /// Why a write that begins now would fail, although one that began before may go on.
    #[must_use]
    pub fn refuses_write(&self) -> Option<Fault> {
        self.state.refuses_write()
    }

    /// Why an upgrade can't begin, now or ever.
    #[must_use]
    pub fn refuses_upgrade(&self) -> Option<Refusal> {
        self.state.refuses_upgrade()
    }

    /// Ends a receive pass that took `bytes` bytes, more than none. They count as read, unless
    /// [`refuses_read`](Self::refuses_read) says otherwise then: bytes that come when an upgrade has
    /// begun end the connection.
    pub fn delivered(&mut self, pass: RecvPass, bytes: usize) -> Outputs<'_> {
        let mut outputs = Outputs::none();
        self.state.give_back_recv(pass, &mut outputs);
        if self.state.is_yielding() {
            let state = std::mem::replace(&mut self.state, State::moved());
            self.state = state.unread(&mut outputs);
        } else {
            self.stats.bytes_read += bytes as u64;
        }
        outputs
    }

    /// Ends a receive pass that took ciphertext.
    pub fn ingest(&mut self, pass: RecvPass, intake: &mut Intake, now: Instant) -> Outputs<'_> {
        let mut outputs = Outputs::none();
        self.state.give_back_recv(pass, &mut outputs);
        if let Some(tls) = self.state.tls_mut() {
            if tls.feed(intake) {
                outputs.push(Output::Transmit);
            }
            let state = std::mem::replace(&mut self.state, State::moved());
            self.state = state.progressed(self.rules, now, &mut outputs);
        }
        outputs
    }

    /// Ends a receive pass by moving unread data to `buf`: so many bytes.
    pub fn take(&mut self, pass: RecvPass, buf: &mut [u8], now: Instant) -> (usize, Outputs<'_>) {
        let mut outputs = Outputs::none();
        self.state.give_back_recv(pass, &mut outputs);
        let Some(tls) = self.state.tls_mut() else { return (0, outputs) };
        let bytes = tls.take(buf);
        self.stats.bytes_read += bytes as u64;
        if !tls.has_unread() {
            let state = std::mem::replace(&mut self.state, State::moved());
            self.state = state.progressed(self.rules, now, &mut outputs);
        }
        (bytes, outputs)
    }

    /// Over TLS, whether something can be [sealed](Self::seal). If not, [`transmit`](Self::transmit) what
    /// waits, or wait for [`Output::Writable`] where another does that.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.state.tls().is_none_or(|tls| tls.has_room())
    }

    /// Over TLS, ends a send pass by accepting as much of `load` as there is room for: so many bytes. Their
    /// ciphertext is in `parcel`, to be sent and given back by [`transmitted`](Self::transmitted); where
    /// other ciphertext waits it is behind that, and the parcel stays empty. None are accepted where TLS
    /// has failed.
    pub fn seal(
        &mut self,
        pass: SendPass,
        load: &[u8],
        parcel: &mut Parcel,
        now: Instant,
    ) -> (usize, Outputs<'_>) {
        let mut outputs = Outputs::none();
        parcel.clear();
        let mut bytes = 0;
        if let (true, Some(tls)) = (self.state.may_send(), self.state.tls_mut()) {
            bytes = tls.seal(load, parcel);
            self.stats.bytes_written += bytes as u64;
        }
        let awaited = self.state.give_back_send(pass);
        if bytes == 0 && !load.is_empty() {
            let state = std::mem::replace(&mut self.state, State::moved());
            self.state = state.progressed(self.rules, now, &mut outputs);
        }
        if awaited {
            let state = std::mem::replace(&mut self.state, State::moved());
            self.state = state.sent(Sent::Nothing, &mut outputs);
        }
        (bytes, outputs)
    }

    /// Lends ciphertext to be sent, where some waits and none is lent.
    #[must_use]
    pub fn transmit(&mut self) -> Option<Parcel> {
        self.state.tls_mut()?.drain()
    }

    /// Takes a parcel back. What of it was not [sent](Parcel::sent) is lent again.
    pub fn transmitted(&mut self, parcel: &mut Parcel) -> Outputs<'_> {
        let mut outputs = Outputs::none();
        if let Some(tls) = self.state.tls_mut() {
            let full = !tls.has_room();
            tls.give_back(parcel);
            let awaited = full && tls.has_room();
            if tls.has_put_off() {
                outputs.push(Output::Attend);
            }
            if awaited && self.state.is_sent_to() {
                outputs.push(Output::Writable);
            }
            let state = std::mem::replace(&mut self.state, State::moved());
            self.state = state.sent(Sent::Nothing, &mut outputs);
        }
        parcel.clear();
        outputs
    }

    /// Takes a parcel back that could not be sent, for the failure of the wire.
    pub fn not_transmitted(&mut self, parcel: &mut Parcel, fault: Fault) -> Outputs<'_> {
        let mut outputs = Outputs::none();
        if let Some(tls) = self.state.tls_mut() {
            tls.give_back(parcel);
            let state = std::mem::replace(&mut self.state, State::moved());
            self.state = state.sent(Sent::Failed(fault), &mut outputs);
        }
        parcel.clear();
        outputs
    }

    /// Over TLS, leave to receive where no reader does; it ends as one of [`ReadStep::Ingest`]. None
    /// where nothing is wanted, something is unread, or somebody else has it.
    #[must_use]
    pub fn attend(&mut self) -> Option<RecvPass> {
        self.state.attend()
    }

    /// What is to be sent at the very end, as far as that goes at once.
    #[must_use]
    pub fn take_farewell(&mut self) -> Vec<u8> {
        self.state.take_farewell()
    }

    /// Ends a receive pass that took nothing.
    pub fn received(&mut self, pass: RecvPass, what: Received, now: Instant) -> Outputs<'_> {
        let mut outputs = Outputs::none();
        self.state.give_back_recv(pass, &mut outputs);
        if what != Received::Nothing {
            let state = std::mem::replace(&mut self.state, State::moved());
            self.state = state.received(what, self.rules, now, &mut outputs);
        }
        outputs
    }

    /// Ends a send pass that took `bytes` bytes.
    pub fn accepted(&mut self, pass: SendPass, bytes: usize) -> Outputs<'_> {
        self.stats.bytes_written += bytes as u64;
        self.sent(pass, Sent::Nothing)
    }

    /// Ends a send pass that took nothing.
    pub fn sent(&mut self, pass: SendPass, what: Sent) -> Outputs<'_> {
        let mut outputs = Outputs::none();
        if self.state.give_back_send(pass) || what != Sent::Nothing {
            let state = std::mem::replace(&mut self.state, State::moved());
            self.state = state.sent(what, &mut outputs);
        }
        outputs
    }

    /// Whether a receive pass that is out still stands. If not, its holder makes no more calls and
    /// gives it back.
    #[must_use]
    pub fn still_receives(&self, _pass: &RecvPass) -> bool {
        self.state.may_receive()
    }

    /// Whether a send pass that is out still stands. If not, its holder makes no more calls and gives
    /// it back.
    #[must_use]
    pub fn still_sends(&self, _pass: &SendPass) -> bool {
        self.state.may_send()
    }

    /// When to say [`Input::Deadline`], and what passes then.
    #[must_use]
    pub fn deadline(&self) -> Option<(Instant, Deadline)> {
        self.state.deadline()
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
    pub fn watch(&self) -> Watch {
        self.state.watch()
    }

    /// Whether this side can still send: neither closed, nor half-closed, nor broken.
    #[must_use]
    pub fn sends(&self) -> bool {
        self.state.sends()
    }

    /// Over TLS, whether ciphertext waits that is not with the system.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.state.tls().is_some_and(|tls| !tls.is_drained())
    }

    /// Whether a receive pass is out.
    #[must_use]
    pub fn is_received_from(&self) -> bool {
        self.state.is_received_from()
    }

    /// Over TLS, whether data is here that nobody has taken.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.state.tls().is_some_and(|tls| tls.has_unread())
    }

    /// Whether the connection is TLS, in its handshake or after it.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.state.tls().is_some()
    }

    /// Whether an upgrade has begun that has not yet taken place.
    #[must_use]
    pub fn is_yielding(&self) -> bool {
        self.state.is_yielding()
    }

    /// Whether nobody is at the wire any more before an upgrade: time to look at it, and to say
    /// [`Input::HandOver`], [`Input::Unread`] or what else is found.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.state.is_quiet()
    }

    /// What the TLS handshake led to.
    pub(crate) fn agreed(&self) -> Option<Agreed> {
        self.state.agreed()
    }

    /// What [`Fault::Tls`] means here, in words.
    #[must_use]
    pub fn tls_failure(&self) -> Option<&str> {
        self.state.failure().map(Failure::message)
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.state.failure()
    }

    /// Every attempt that failed, in order, of a connection that never came to be.
    #[must_use]
    pub fn attempts(&self) -> &[(SocketAddr, Fault)] {
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
pub struct Outputs<'a> {
    items: Vec<Output>,
    taken: usize,
    machine: PhantomData<&'a mut Machine>,
}

/// No input has more consequences than this.
const OUTPUTS_MOST: usize = 8;

impl Outputs<'_> {
    fn none() -> Self {
        Outputs { items: Vec::new(), taken: 0, machine: PhantomData }
    }

    fn push(&mut self, output: Output) {
        if self.items.capacity() == 0 {
            self.items = Vec::with_capacity(OUTPUTS_MOST);
        }
        self.items.push(output);
    }

    /// Whether nothing has to be done (any more).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken == self.items.len()
    }
}

impl Iterator for Outputs<'_> {
    type Item = Output;

    fn next(&mut self) -> Option<Output> {
        let output = self.items.get(self.taken).copied()?;
        self.taken += 1;
        Some(output)
    }
}
