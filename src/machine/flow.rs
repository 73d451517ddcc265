//! The steps of reading and writing, and the permits that let a party make system calls.

use super::Fault;

/// What a party that wants to receive has to do.
#[derive(Debug)]
#[must_use]
pub enum ReadStep {
    /// Receive, straight into its own buffer, and end the permit with what came of it.
    Recv(RecvPermit),
    /// Over TLS: receive into an [`RecvBuf`](super::RecvBuf), and end the permit by
    /// [`Machine::ingest`](super::Machine::ingest).
    Ingest(RecvPermit),
    /// Over TLS: data is here already. End the permit by [`Machine::take_plaintext`](super::Machine::take_plaintext).
    TakePlaintext(RecvPermit),
    /// Wait for [`Action::Readable`](super::Action::Readable), then ask again: the connection is
    /// still being made, or the permit is out.
    Wait,
    /// Nothing more: the clean end.
    Eof,
    /// Fail.
    Fail(Fault),
}

/// What a party that wants to send has to do.
#[derive(Debug)]
#[must_use]
pub enum WriteStep {
    /// Send, straight out of its own buffer, and end the permit with what came of it.
    Send(SendPermit),
    /// Over TLS: end the permit by [`Machine::seal`](super::Machine::seal), when there
    /// [is room](super::Machine::can_seal).
    Seal(SendPermit),
    /// Wait for [`Action::Writable`](super::Action::Writable), then ask again: the connection is
    /// still being made, or the permit is out.
    Wait,
    /// Fail.
    Fail(Fault),
}

/// Leave to receive from the wire. It has to be given back.
#[derive(Debug)]
#[must_use = "a permit that is not given back blocks its direction"]
pub struct RecvPermit(pub(super) Holder);

/// Who has a receive permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// One who asked to read.
    Reader,
    /// One who receives while nobody reads.
    Background,
}

/// Leave to send on the wire. It has to be given back: what closes the write side waits for it.
#[derive(Debug)]
#[must_use = "a permit that is not given back blocks its direction"]
pub struct SendPermit(pub(super) ());

/// What came of a receive permit that took no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvEvent {
    /// Nothing: it gave up, or the permit was withdrawn.
    Cancelled,
    /// The peer's end.
    Eof,
    /// A failure: nothing more can be received.
    Failed(Fault),
}

/// What came of a send permit that took no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendEvent {
    /// Nothing: it gave up, or the permit was withdrawn.
    Cancelled,
    /// A failure: nothing more can be sent.
    Failed(Fault),
}
