//! The steps of a read or write, and the permits that allow a thread to make system calls on the wire.

use super::Fault;

/// The next step of a reader.
#[derive(Debug)]
#[non_exhaustive]
#[must_use]
pub enum ReadStep {
    /// Receive straight into the caller's buffer, and return the permit with the result.
    Recv(RecvPermit),
    /// Over TLS: receive into a [`RecvBuf`](super::RecvBuf), and return the permit to
    /// [`Machine::ingest`](super::Machine::ingest).
    Ingest(RecvPermit),
    /// Over TLS: decrypted data is available. Return the permit to
    /// [`Machine::take_plaintext`](super::Machine::take_plaintext).
    TakePlaintext(RecvPermit),
    /// Wait for [`Wake::readable`](super::Wake::readable), then ask again: the connection is not yet
    /// established, or another reader holds the permit.
    Wait,
    /// Return a clean EOF.
    Eof,
    /// Fail with this fault.
    Fail(Fault),
}

/// The next step of a writer.
#[derive(Debug)]
#[non_exhaustive]
#[must_use]
pub enum WriteStep {
    /// Send straight from the caller's buffer, and return the permit with the result.
    Send(SendPermit),
    /// Over TLS: return the permit to [`Machine::seal`](super::Machine::seal) when it
    /// [can seal](super::Machine::can_seal).
    Seal(SendPermit),
    /// Wait for [`Wake::writable`](super::Wake::writable), then ask again: the connection is not yet
    /// established, or another writer holds the permit.
    Wait,
    /// Fail with this fault.
    Fail(Fault),
}

/// A permit to receive from the wire. Its holder must return it to the machine.
#[derive(Debug)]
#[must_use = "a permit that is not returned blocks its direction"]
pub struct RecvPermit(pub(super) Holder);

/// The holder of a receive permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A caller that reads.
    Reader,
    /// The driver, which receives while no caller reads.
    Background,
}

/// A permit to send on the wire. Its holder must return it to the machine: a close of the write side waits for it.
#[derive(Debug)]
#[must_use = "a permit that is not returned blocks its direction"]
pub struct SendPermit(pub(super) ());

/// The result of a receive permit without bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvEvent {
    /// Nothing: the holder gave up, or the permit was revoked.
    Cancelled,
    /// The peer's EOF.
    Eof,
    /// A failure: nothing more can be received.
    Failed(Fault),
}

/// The result of a send permit without bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendEvent {
    /// Nothing: the holder gave up, or the permit was revoked.
    Cancelled,
    /// A failure: nothing more can be sent.
    Failed(Fault),
}
