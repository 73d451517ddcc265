//! A deterministic simulator: it runs the state machine in a virtual world and checks rules that must always hold.
//!
//! A [`Scenario`] lists the participants and the events, step by step. It is decoded from bytes, which come from a
//! [seed](Scenario::from_seed) or from a [fuzzer](Scenario::from_bytes). [`run`] executes the scenario, and checks the
//! rules after each step.
//!
//! Time is virtual. The wire splits, joins, delays, corrupts, cuts and resets the streams. Lookups answer in parts or
//! never, and addresses refuse or stay silent. The peer follows a script; over TLS, it is a rustls server whose random
//! numbers come from the scenario. So the same scenario gives the same [`Trace`], byte for byte.
//!
//! Some of the rules:
//!
//! - A reader gets the written bytes in order, and all of them if the end is clean.
//! - Phases only advance.
//! - Every waiter is woken, once.
//! - FIN follows all accepted data.
//! - Denied addresses are not dialled.
//! - No expired timer is left.
//! - Data that arrived in plaintext is never returned as secure.
//! - A scenario ends when the program closes the socket.
//!
//! The message of a [`Violation`] names the violated rule.
//!
//! ```
//! use sockeye::sim::{self, Scenario};
//!
//! for seed in 0..20 {
//!     let scenario = Scenario::from_seed(seed);
//!     let trace = sim::run(&scenario).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
//!     assert_eq!(sim::run(&scenario).unwrap(), trace);
//! }
//! ```
//!
//! A fuzz target is one line:
//!
//! ```
//! # let data = b"any bytes";
//! sockeye::sim::run(&sockeye::sim::Scenario::from_bytes(data)).expect("every rule holds");
//! ```
//!
//! The simulator does not cover the driver, threads and sockets: other tests run those against real peers.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod acceptor;
mod arbitrary_inputs;
mod corrupt_records;
mod ending;
mod endpoint;
mod environment;
mod https_proxy;
mod peer;
mod preamble;
mod proxied;
mod reading;
mod rules;
mod scenario;
mod targets;
mod tls;
mod trace;
mod unix_attempts;
mod upgrading;
mod wire;
mod world;
mod writing;

use std::fmt;

use self::acceptor::AcceptorScenario;
use self::arbitrary_inputs::ArbitraryInputs;
use self::corrupt_records::RecordsScenario;
use self::preamble::PreambleScenario;
use self::scenario::ByteSource;
pub use self::scenario::{Scenario, ScenarioKind};
pub use self::trace::Trace;
use self::unix_attempts::UnixAttempts;
use self::world::World;

/// Runs a scenario to its end.
///
/// # Errors
/// The first violated rule, if any.
///
/// # Panics
/// If the machine panics. Also for scenarios with TLS if there is no crypto provider: neither a feature nor an
/// installed one.
pub fn run(scenario: &Scenario) -> Result<Trace, Violation> {
    let mut world = World::new(scenario);
    match world.run(scenario) {
        Ok(()) => Ok(world.net.trace),
        Err(rule) => {
            Err(Violation { rule, context: format!("{scenario:?}"), trace: world.net.trace })
        }
    }
}

/// Applies arbitrary inputs in arbitrary order to one machine, and checks its rules after each. The inputs are decoded
/// from `bytes`; no wire or driver restricts them.
///
/// ```
/// sockeye::sim::inputs(b"any bytes").expect("every rule holds");
/// ```
///
/// # Errors
/// The first violated rule, if any.
///
/// # Panics
/// Same as for [`run`].
pub fn inputs(bytes: &[u8]) -> Result<Trace, Violation> {
    let mut source = ByteSource(bytes);
    let mut inputs = ArbitraryInputs::new(&mut source);
    match inputs.run(source) {
        Ok(()) => Ok(inputs.trace),
        Err(rule) => Err(Violation { rule, context: format!("{bytes:?}"), trace: inputs.trace }),
    }
}

/// Runs the acceptor of a listener in a world of clients, slots and descriptors that come and go, decoded from `bytes`.
///
/// ```
/// sockeye::sim::acceptor(b"any bytes").expect("every rule holds");
/// ```
///
/// # Errors
/// The first violated rule, if any.
pub fn acceptor(bytes: &[u8]) -> Result<Trace, Violation> {
    let mut source = ByteSource(bytes);
    let mut scenario = AcceptorScenario::new(&mut source);
    match scenario.run(source) {
        Ok(()) => Ok(scenario.trace),
        Err(rule) => Err(Violation { rule, context: format!("{bytes:?}"), trace: scenario.trace }),
    }
}

/// Plays a proxy whose answer or PROXY header `bytes` describe, in one piece, byte by byte, and in other pieces. All must have the same
/// result, and consume exactly the same bytes.
///
/// ```
/// sockeye::sim::preamble(b"any bytes").expect("every client has the same result");
/// ```
///
/// # Errors
/// The violated rule, if any.
pub fn preamble(bytes: &[u8]) -> Result<(), Violation> {
    let mut source = ByteSource(bytes);
    let scenario = PreambleScenario::new(&mut source);
    scenario.run(source).map_err(|rule| {
        let (context, trace) = (format!("{bytes:?}"), Trace::default());
        Violation { rule, context, trace }
    })
}

/// Runs a machine that connects to a Unix-domain listener, whose queue is full when `bytes` say so.
///
/// ```
/// sockeye::sim::unix_attempts(b"any bytes").expect("every rule holds");
/// ```
///
/// # Errors
/// The first violated rule, if any.
pub fn unix_attempts(bytes: &[u8]) -> Result<Trace, Violation> {
    let mut source = ByteSource(bytes);
    let mut attempts = UnixAttempts::new(&mut source);
    match attempts.run(source) {
        Ok(()) => Ok(attempts.trace),
        Err(rule) => Err(Violation { rule, context: format!("{bytes:?}"), trace: attempts.trace }),
    }
}

/// Corrupts a TLS server's output, during or after the handshake, as `bytes` say. Delivers it to a client in one piece,
/// byte by byte, and in other pieces. All must have the same result.
///
/// ```
/// sockeye::sim::records(b"any bytes").expect("every client has the same result");
/// ```
///
/// # Errors
/// The violated rule, if any.
///
/// # Panics
/// Same as for [`run`].
pub fn records(bytes: &[u8]) -> Result<(), Violation> {
    let mut source = ByteSource(bytes);
    let records = RecordsScenario::new(&mut source);
    records.run(source).map_err(|rule| {
        let (context, trace) = (format!("{bytes:?}"), Trace::default());
        Violation { rule, context, trace }
    })
}

/// A violated rule.
#[derive(Clone)]
pub struct Violation {
    rule: &'static str,
    /// The scenario or the bytes.
    context: String,
    trace: Trace,
}

impl Violation {
    /// Returns the rule, as a sentence that should be true.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.rule
    }

    /// Returns the trace up to the violation.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }
}

impl fmt::Display for Violation {
    /// Includes the scenario and the trace, which are long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "violated: {}\n{}\n{}violated: {}",
            self.rule, self.context, self.trace, self.rule
        )
    }
}

impl fmt::Debug for Violation {
    /// Same as `Display`, for callers that unwrap a result.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Violation {}
