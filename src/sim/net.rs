//! What the ends of a life share: the wire, the time, what is on its way to happen, and the record of it.

use std::time::{Duration, Instant};

use super::plan::Who;
use super::trace::Trace;
use super::wire::{Went, Wire};
use crate::machine::{AttemptId, Endpoints, Fault};

#[derive(Debug)]
pub(super) struct Net {
    pub(super) wire: Wire,
    pub(super) now: Instant,
    pub(super) begun: Instant,
    pub(super) trace: Trace,
    /// Something was done to the connection that no peer and no wire of good will does.
    pub(super) harmed: bool,
    /// The wire ended a stream before its sender did.
    pub(super) cut: bool,
    /// Whether plaintext was sent where TLS was spoken, or ciphertext changed.
    pub(super) mangled: bool,
    pending: Vec<(Instant, Who, Happening)>,
}

/// What happens by itself when it is time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happening {
    /// A part of the answer comes.
    Answered(usize),
    /// The lookup ends, well or not.
    Resolved(bool),
    Attempted(AttemptId, Result<Endpoints, Fault>),
}

impl Net {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one instant that all others are counted from"
    )]
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Net {
            wire: Wire::new(),
            now,
            begun: now,
            trace: Trace::default(),
            harmed: false,
            cut: false,
            mangled: false,
            pending: Vec::new(),
        }
    }

    /// Has the wire take what it takes, for the record as well.
    pub(super) fn send(&mut self, who: Who, bytes: &[u8]) -> Went {
        let went = self.wire.send(who, bytes);
        if let Went::Bytes(sent) = went {
            self.trace.sent(who, &bytes[..sent]);
        }
        went
    }

    pub(super) fn later(&mut self, after: Duration, who: Who, happening: Happening) {
        self.pending.push((self.now + after, who, happening));
    }

    /// When the next thing happens by itself.
    pub(super) fn next(&self) -> Option<Instant> {
        self.pending.iter().map(|&(at, ..)| at).min()
    }

    /// What is to happen now, in the order of its time.
    pub(super) fn take_due(&mut self) -> Option<(Who, Happening)> {
        let now = self.now;
        let due = self.pending.iter().enumerate().filter(|(_, (at, ..))| *at <= now);
        let (place, _) = due.min_by_key(|(place, (at, ..))| (*at, *place))?;
        let (_, who, happening) = self.pending.remove(place);
        Some((who, happening))
    }
}
