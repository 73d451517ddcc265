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
//! # Proxies
//!
//! With a [`Route`], the machine is in the preamble after it has connected to the proxy: it sends its request, as over
//! TLS in a [`Transmit`], and waits for the answer. [`Background::Preamble`] asks the driver to look at the wire with
//! `MSG_PEEK`. [`preamble_len`](Machine::preamble_len) says how many of the bytes in sight are the proxy's. The driver
//! receives exactly these, and reports them by [`handle_preamble`](Machine::handle_preamble). What follows stays on the
//! wire.
//!
//! To an `https` proxy, the machine uses TLS. It is then driven like a machine over TLS, from the handshake with the proxy
//! to the end, whether TLS with the target follows or not: [`is_tls`](Machine::is_tls) says so.
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
//! assert_eq!(attempt.address, Some(peer));
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

mod acceptor;
mod actions;
mod config;
mod dialogue;
mod flood;
mod happy_eyeballs;
mod input;
mod io_step;
mod permits;
mod preamble;
mod queries;
mod race;
mod recv_queue;
mod route;
mod send_queue;
mod session_loan;
mod state;
#[cfg(test)]
mod tests;
mod tls;
mod tls_io;
mod unix_attempt;

use std::any::Any;
use std::time::Instant;

pub use crate::error::{FailedAttempt, Fault, TcpOption, TimerKind};
use crate::error::{ProxyReply, Step};
pub use crate::info::Endpoints;
use crate::info::Stats;
pub use crate::tls::TlsSetup;

pub use self::acceptor::{Acceptor, AcceptorActions, AcceptorConfig, AcceptorInput};
pub use self::actions::{Actions, Attach, Attempt, AttemptId, PreambleDone, Release, Wake};
use self::config::{CompactDuration, Policy};
pub use self::config::{Config, Target};
pub use self::happy_eyeballs::{ATTEMPT_DELAY, MAX_ADDRESSES, MAX_IN_FLIGHT, RESOLUTION_DELAY};
pub use self::input::{Background, Input, UpgradeError};
pub use self::io_step::{ReadStep, RecvEvent, RecvPermit, SendEvent, SendPermit, WriteStep};
pub use self::recv_queue::RecvBuf;
pub use self::route::Route;
pub use self::send_queue::Transmit;
pub use self::session_loan::Loan;
use self::state::State;
pub use self::tls::{Discarded, ProxySession};
pub use self::unix_attempt::{MAX_RETRY_DELAY, MIN_RETRY_DELAY};

/// The state machine of one socket. See the [module](self) for how to drive it.
///
/// Its methods have four families. The driver reports events and requests of the user by [`start`](Self::start) and
/// [`handle`](Self::handle). Callers receive and send between [`read`](Self::read) or [`write`](Self::write) and the
/// return of a permit. Over TLS, [`ingest`](Self::ingest) and [`seal`](Self::seal) move ciphertext, and a session can
/// be [lent](Self::lend). Queries such as [`phase`](Self::phase) and [`next_timer`](Self::next_timer) change nothing.
#[derive(Debug)]
pub struct Machine {
    state: State,
    policy: Policy,
    stats: Stats,
}

/// The life of a machine, and its inputs.
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
    ///
    /// `preface` is sent first: the last plaintext of this side. It does not count as written. `proxy` is what
    /// [`take_proxy_session`](Self::take_proxy_session) of the other machine returned.
    #[must_use]
    pub fn upgraded(
        config: &Config,
        setup: &TlsSetup,
        preface: &[u8],
        proxy: Option<ProxySession>,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Self {
        let outer = proxy.map(|ProxySession(session)| session);
        Machine {
            policy: Policy::new(config),
            state: State::upgrading(setup, preface, outer, deadline, now),
            stats: Stats::default(),
        }
    }

    /// Creates the machine for a connection that exists already, such as an accepted one. It is open, or about to begin
    /// its TLS handshake; [`start`](Self::start) returns its first actions. It ignores the parts of `config` that
    /// concern dialling. The connect timeout and the connect deadline bound the handshake.
    ///
    /// ```
    /// use std::time::Instant;
    /// use sockeye::Phase;
    /// use sockeye::machine::{Config, Machine, Target};
    ///
    /// let now = Instant::now();
    /// let mut machine = Machine::established(Config::new(Target::Host), now);
    /// assert!(machine.start(now).wake.opened);
    /// assert_eq!(machine.phase(), Phase::Open);
    /// ```
    #[must_use]
    pub fn established(config: Config, now: Instant) -> Self {
        Machine {
            policy: Policy::new(&config),
            state: State::established(config, now),
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
        self.transition(&mut actions, |state, policy, actions| state.start(policy, now, actions));
        actions
    }

    /// Processes an input.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) -> Actions {
        let mut actions = Actions::default();
        if matches!(input, Input::AllowHalfOpen) {
            self.policy.allow_half_open = true;
        }
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
}
