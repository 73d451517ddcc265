//! The steps of reading and writing, and the passes that let a party make system calls.

use super::Fault;

/// What a party that wants to receive has to do.
#[derive(Debug)]
#[must_use]
pub enum ReadStep {
    /// Receive, straight into its own buffer, and end the pass with what came of it.
    Receive(RecvPass),
    /// Over TLS: receive into an [`Intake`](super::Intake), and end the pass by
    /// [`Machine::ingest`](super::Machine::ingest).
    Ingest(RecvPass),
    /// Over TLS: data is here already. End the pass by [`Machine::take`](super::Machine::take).
    Take(RecvPass),
    /// Wait for [`Output::Readable`](super::Output::Readable), then ask again: the connection is
    /// still being made, or the pass is out.
    Wait,
    /// Nothing more: the clean end.
    End,
    /// Fail.
    Fail(Fault),
}

/// What a party that wants to send has to do.
#[derive(Debug)]
#[must_use]
pub enum WriteStep {
    /// Send, straight out of its own buffer, and end the pass with what came of it.
    Send(SendPass),
    /// Over TLS: end the pass by [`Machine::seal`](super::Machine::seal), when there
    /// [is room](super::Machine::has_room).
    Seal(SendPass),
    /// Wait for [`Output::Writable`](super::Output::Writable), then ask again: the connection is
    /// still being made, or the pass is out.
    Wait,
    /// Fail.
    Fail(Fault),
}

/// Leave to receive from the wire. It has to be given back.
#[derive(Debug)]
#[must_use = "a pass that is not given back blocks its direction"]
pub struct RecvPass(pub(super) Holder);

/// Who has a receive pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// One who asked to read.
    Reader,
    /// One who receives while nobody reads.
    Attendant,
}

/// Leave to send on the wire. It has to be given back: what closes the write side waits for it.
#[derive(Debug)]
#[must_use = "a pass that is not given back blocks its direction"]
pub struct SendPass(pub(super) ());

/// What came of a receive pass that took no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing: it gave up, or the pass was withdrawn.
    Nothing,
    /// The peer's end.
    Eof,
    /// A failure: nothing more can be received.
    Failed(Fault),
}

/// What came of a send pass that took no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing: it gave up, or the pass was withdrawn.
    Nothing,
    /// A failure: nothing more can be sent.
    Failed(Fault),
}
