//! The trace of a scenario: every step, the machine's actions, and the bytes on the wire.

use std::fmt;
use std::time::Duration;

use super::scenario::{EndId, Step, checksum};
use crate::machine::{AcceptorActions, AcceptorInput, Actions};

/// The events of a scenario, in order. Two runs of the same scenario have equal traces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    /// A step, and its time since the start.
    Step(Duration, Step),
    Actions(EndId, Actions),
    Acceptor(AcceptorInput, AcceptorActions),
    Note(EndId, &'static str, usize),
    Sent {
        who: EndId,
        bytes: usize,
        sum: u64,
    },
}

impl Trace {
    /// Returns the number of events.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a trace is never empty")]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn step(&mut self, at: Duration, step: Step) {
        self.events.push(Event::Step(at, step));
    }

    pub(super) fn actions(&mut self, who: EndId, actions: &Actions) {
        if !actions.is_empty() {
            self.events.push(Event::Actions(who, actions.clone()));
        }
    }

    pub(super) fn acceptor(&mut self, input: AcceptorInput, actions: AcceptorActions) {
        self.events.push(Event::Acceptor(input, actions));
    }

    pub(super) fn note(&mut self, who: EndId, what: &'static str, bytes: usize) {
        self.events.push(Event::Note(who, what, bytes));
    }

    pub(super) fn sent(&mut self, who: EndId, bytes: &[u8]) {
        // The checksum covers at most the first and last 64 bytes, for speed.
        let ends = [&bytes[..bytes.len().min(64)], &bytes[bytes.len().saturating_sub(64)..]];
        let sum = checksum(&ends.concat());
        self.events.push(Event::Sent { who, bytes: bytes.len(), sum });
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.events.iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Step(at, step) => write!(f, "{at:?} {step:?}"),
            Event::Actions(who, actions) => write!(f, "    {who} -> {actions:?}"),
            Event::Acceptor(input, actions) => write!(f, "{input:?} -> {actions:?}"),
            Event::Note(who, what, 0) => write!(f, "    {who} {what}"),
            Event::Note(who, what, bytes) => write!(f, "    {who} {what} {bytes}"),
            Event::Sent { who, bytes, sum } => write!(f, "    {who} sends {bytes} ({sum:016x})"),
        }
    }
}
