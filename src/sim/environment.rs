//! State that both endpoints of a running scenario share: wire, virtual time, scheduled events and trace.

use std::time::{Duration, Instant};

use super::https_proxy::HttpsProxy;
use super::proxied::ProxySetup;
use super::scenario::EndId;
use super::trace::Trace;
use super::wire::{SimSend, SimWire};
use crate::machine::{AttemptId, Endpoints, Fault};

#[derive(Debug)]
pub(super) struct Network {
    pub(super) wire: SimWire,
    /// The proxy between the wire and the scripted peer, if there is one.
    pub(super) proxy: Option<Box<HttpsProxy>>,
    pub(super) now: Instant,
    pub(super) started_at: Instant,
    pub(super) trace: Trace,
    /// Whether the peer or the wire did something that a correct one does not do.
    pub(super) corrupted: bool,
    /// Whether the wire ended a stream before its sender did.
    pub(super) cut: bool,
    /// Whether plaintext was injected into TLS, or ciphertext was corrupted.
    pub(super) corrupted_bytes: bool,
    pending: Vec<(Instant, EndId, NetworkEvent)>,
}

/// A scheduled event.
#[derive(Clone, Copy, Debug)]
pub(super) enum NetworkEvent {
    /// A part of the answer arrives.
    PartialResolved(usize),
    /// The lookup ends; `true` if it succeeded.
    Resolved(bool),
    Attempted(AttemptId, Result<Endpoints, Fault>),
}

impl Network {
    #[expect(clippy::disallowed_methods, reason = "the start of virtual time")]
    pub(super) fn new(proxy: Option<ProxySetup>) -> Self {
        let now = Instant::now();
        Network {
            wire: SimWire::new(),
            proxy: proxy.map(|setup| Box::new(HttpsProxy::new(setup, 0))),
            now,
            started_at: now,
            trace: Trace::default(),
            corrupted: false,
            cut: false,
            corrupted_bytes: false,
            pending: Vec::new(),
        }
    }

    /// Sends bytes on the wire, and records them in the trace.
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

    /// Returns the time of the next scheduled event.
    pub(super) fn next(&self) -> Option<Instant> {
        self.pending.iter().map(|&(at, ..)| at).min()
    }

    /// Takes the earliest event that is due.
    pub(super) fn take_due(&mut self) -> Option<(EndId, NetworkEvent)> {
        let now = self.now;
        let due = self.pending.iter().enumerate().filter(|(_, (at, ..))| *at <= now);
        let (place, _) = due.min_by_key(|(place, (at, ..))| (*at, *place))?;
        let (_, who, event) = self.pending.remove(place);
        Some((who, event))
    }
}
