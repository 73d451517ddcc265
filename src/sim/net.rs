//! What the ends of a life share: the wire, the time, what is on its way to happen, and the record of it.

use std::time::{Duration, Instant};

use super::plan::EndId;
use super::trace::Trace;
use super::wire::{SimSend, SimWire};
use crate::machine::{AttemptId, Endpoints, Fault};

#[derive(Debug)]
pub(super) struct Network {
    pub(super) wire: SimWire,
    pub(super) now: Instant,
    pub(super) started_at: Instant,
    pub(super) trace: Trace,
    /// Something was done to the connection that no peer and no wire of good will does.
    pub(super) corrupted: bool,
    /// The wire ended a stream before its sender did.
    pub(super) cut: bool,
    /// Whether plaintext was sent where TLS was spoken, or ciphertext changed.
    pub(super) corrupted_bytes: bool,
    pending: Vec<(Instant, EndId, NetworkEvent)>,
}

/// What happens by itself when it is time.
#[derive(Clone, Copy, Debug)]
pub(super) enum NetworkEvent {
    /// A part of the answer comes.
    PartialResolved(usize),
    /// The lookup ends, well or not.
    Resolved(bool),
    Attempted(AttemptId, Result<Endpoints, Fault>),
}

impl Network {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one instant that all others are counted from"
    )]
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Network {
            wire: SimWire::new(),
            now,
            started_at: now,
            trace: Trace::default(),
            corrupted: false,
            cut: false,
            corrupted_bytes: false,
            pending: Vec::new(),
        }
    }

    /// Has the wire take what it takes, for the record as well.
    pub(super) fn send(&mut self, who: EndId, bytes: &[u8]) -> SimSend {
        let went = self.wire.send(who, bytes);
        if let SimSend::Bytes(sent) = went {
            self.trace.sent(who, &bytes[..sent]);
        }
        went
    }

    pub(super) fn schedule(&mut self, after: Duration, who: EndId, event: NetworkEvent) {
        self.pending.push((self.now + after, who, event));
    }

    /// When the next thing happens by itself.
    pub(super) fn next(&self) -> Option<Instant> {
        self.pending.iter().map(|&(at, ..)| at).min()
    }

    /// What is to happen now, in the order of its time.
    pub(super) fn take_due(&mut self) -> Option<(EndId, NetworkEvent)> {
        let now = self.now;
        let due = self.pending.iter().enumerate().filter(|(_, (at, ..))| *at <= now);
        let (place, _) = due.min_by_key(|(place, (at, ..))| (*at, *place))?;
        let (_, who, event) = self.pending.remove(place);
        Some((who, event))
    }
}
