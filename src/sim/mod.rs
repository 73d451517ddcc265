//! The state machine in a world without time, chance and sockets: whole lives of it, each of which can be
//! repeated, and rules that hold in every one.
//!
//! A [`Scenario`] is who takes part and what happens, step by step. It is decoded from bytes, which a
//! [seed](Scenario::from_seed) stands for or a [fuzzer](Scenario::from_bytes) finds: both decode to the same steps.
//! [`run`] leads that life and checks the rules after each step. Time is virtual, the wire splits, joins,
//! holds back, changes, cuts and resets what is sent, names answer in parts or never, addresses refuse or
//! are silent, and the peer is a script, over TLS a server of rustls whose random numbers come from the plan:
//! so the same plan gives the same [`Trace`], byte for byte.
//!
//! Among the rules are that what is read is what was written, in order, and all of it where the end is clean;
//! that phases only advance; that every waiter is told, and told once; that FIN follows what was accepted;
//! that no address is dialled that is denied; that no deadline is left over; that nothing which came in
//! plaintext is taken for secure; and that a life ends when the program closes. The messages of [`Violation`]
//! name them.
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
//! The driver, threads and sockets are not in here: those are tested against real peers.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod inputs;
mod model;
mod names;
mod net;
mod peer;
mod plan;
mod reading;
mod records;
mod side;
mod tls;
mod trace;
mod wire;
mod world;
mod writing;

use std::fmt;

use self::inputs::ArbitraryInputs;
use self::plan::ByteSource;
pub use self::plan::{Scenario, ScenarioKind};
use self::records::RecordsScenario;
pub use self::trace::Trace;
use self::world::World;

/// Leads the life that `plan` describes, to its end.
///
/// # Errors
/// The first rule that was broken, where one was.
///
/// # Panics
/// Where the machine does, and in lives with TLS where there is no cryptography: neither a feature nor a
/// provider that is installed.
pub fn run(scenario: &Scenario) -> Result<Trace, Violation> {
    let mut world = World::new(scenario);
    match world.run(scenario) {
        Ok(()) => Ok(world.net.trace),
        Err(rule) => {
            Err(Violation { rule, context: format!("{scenario:?}"), trace: world.net.trace })
        }
    }
}

/// Gives one machine any inputs in any order, as `bytes` say, whatever a wire and a driver would make of
/// them, and checks its rules after each.
///
/// ```
/// sockeye::sim::inputs(b"any bytes").expect("every rule holds");
/// ```
///
/// # Errors
/// The first rule that was broken, where one was.
///
/// # Panics
/// As [`run`].
pub fn inputs(bytes: &[u8]) -> Result<Trace, Violation> {
    let mut source = ByteSource(bytes);
    let mut inputs = ArbitraryInputs::new(&mut source);
    match inputs.run(source) {
        Ok(()) => Ok(inputs.trace),
        Err(rule) => Err(Violation { rule, context: format!("{bytes:?}"), trace: inputs.trace }),
    }
}

/// Has a server send over TLS, in a handshake or after it, changes that as `bytes` say, and gives it to a
/// client in one piece, byte by byte, and in other pieces: each has to come to the same end.
///
/// ```
/// sockeye::sim::records(b"any bytes").expect("every client comes to the same end");
/// ```
///
/// # Errors
/// The rule that was broken, where one was.
///
/// # Panics
/// As [`run`].
pub fn records(bytes: &[u8]) -> Result<(), Violation> {
    let mut source = ByteSource(bytes);
    let records = RecordsScenario::new(&mut source);
    records.run(source).map_err(|rule| {
        let (context, trace) = (format!("{bytes:?}"), Trace::default());
        Violation { rule, context, trace }
    })
}

/// A rule was broken.
#[derive(Clone)]
pub struct Violation {
    rule: &'static str,
    /// What was to happen.
    context: String,
    trace: Trace,
}

impl Violation {
    /// The rule, in words: what should have been.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.rule
    }

    /// What had happened until then.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }
}

impl fmt::Display for Violation {
    /// With the plan and the trace, which are long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken: {}\n{}\n{}broken: {}", self.rule, self.context, self.trace, self.rule)
    }
}

impl fmt::Debug for Violation {
    /// As it is displayed, for who unwraps a result.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Violation {}
