//! The bounded queue of ciphertext to send, and the buffer in which the driver takes a part of it.

use std::fmt;

/// The maximum amount of sealed application data that the kernel has not accepted, in bytes.
pub(super) const MAX_SEND_QUEUE: usize = 64 * 1024;

/// The queue of ciphertext that waits for the wire.
///
/// The bytes leave in a [`Transmit`], one at a time. Ciphertext that is sealed while one is lent queues after it.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    bytes: Vec<u8>,
    /// The number of bytes in the lent transmit buffer.
    in_flight: usize,
    /// Whether everything is dropped, because the wire has failed.
    is_discarding: bool,
}

impl SendQueue {
    /// Returns how many more bytes of application data may be sealed.
    pub(super) fn available(&self) -> usize {
        MAX_SEND_QUEUE.saturating_sub(self.bytes.len() + self.in_flight)
    }

    /// Returns whether the kernel has accepted everything.
    pub(super) fn is_empty(&self) -> bool {
        self.is_discarding || self.len() == 0
    }

    /// Returns whether a transmit buffer is lent.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// Returns the number of bytes that the kernel has not accepted.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.in_flight
    }

    /// Drops the queue, and everything that is returned or appended later, because the wire has failed.
    pub(super) fn discard_all(&mut self) {
        *self = SendQueue { is_discarding: true, ..SendQueue::default() };
    }

    /// Appends the bytes that `fill` writes into a buffer of `room` bytes, or more if it asks for that: see
    /// [`FillResult`]. Returns their number, or `None` if `fill` failed.
    pub(super) fn append(
        &mut self,
        room: usize,
        mut fill: impl FnMut(&mut [u8]) -> FillResult,
    ) -> Option<usize> {
        let before = self.bytes.len();
        let written = fill_growing(&mut self.bytes, before, room, &mut fill);
        self.bytes.truncate(before + written.unwrap_or(0));
        if self.is_discarding {
            self.bytes.clear();
        }
        written
    }

    /// Appends plaintext that precedes all ciphertext.
    pub(super) fn push(&mut self, preface: &[u8]) {
        self.bytes.extend_from_slice(preface);
    }

    /// Appends the ciphertext of another queue.
    pub(super) fn extend(&mut self, later: SendQueue) {
        if self.bytes.is_empty() {
            self.bytes = later.bytes;
        } else {
            self.bytes.extend_from_slice(&later.bytes);
        }
        if self.is_discarding {
            self.bytes.clear();
        }
    }

    /// Records that `bytes` bytes were sealed straight into a transmit buffer.
    pub(super) fn lend(&mut self, bytes: usize) {
        debug_assert!(self.is_empty(), "queued bytes come first");
        self.in_flight = bytes;
    }

    /// Lends the whole queue.
    pub(super) fn next(&mut self) -> Option<Transmit> {
        if self.bytes.is_empty() || self.in_flight > 0 || self.is_discarding {
            return None;
        }
        self.in_flight = self.bytes.len();
        Some(Transmit { end: self.bytes.len(), bytes: std::mem::take(&mut self.bytes), start: 0 })
    }

    /// Takes a transmit buffer back, and puts its unsent bytes at the front of the queue.
    pub(super) fn return_unsent(&mut self, transmit: &mut Transmit) {
        self.in_flight = 0;
        if !transmit.is_empty() && !self.is_discarding {
            self.bytes.splice(..0, transmit.bytes().iter().copied());
        }
        transmit.clear();
    }

    /// Returns the queued bytes, when the connection ends.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        // A lent transmit buffer may have been sent in part, so nothing can follow it.
        if self.in_flight > 0 || self.is_discarding { Vec::new() } else { self.bytes }
    }
}

/// Ciphertext to send, in order and once. The sender returns it with the bytes that it could not send.
#[derive(Default)]
pub struct Transmit {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Transmit {
    /// Returns the bytes to send.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Returns whether no bytes are left to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Removes the first `bytes` bytes, which the kernel accepted.
    pub fn sent(&mut self, bytes: usize) {
        self.start = self.end.min(self.start + bytes);
    }

    /// Replaces the contents like [`SendQueue::append`], and reuses the memory.
    pub(super) fn fill(
        &mut self,
        room: usize,
        mut fill: impl FnMut(&mut [u8]) -> FillResult,
    ) -> Option<usize> {
        self.clear();
        let written = fill_growing(&mut self.bytes, 0, room, &mut fill)?;
        self.end = written;
        Some(written)
    }

    /// Empties the buffer and keeps its memory.
    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

impl fmt::Debug for Transmit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transmit").field("len", &self.bytes().len()).finish_non_exhaustive()
    }
}

/// The number of bytes written; or the required size of the buffer; or `Err(None)` if it is impossible.
pub(super) type FillResult = Result<usize, Option<usize>>;

/// Calls `fill` with the space after the first `before` bytes, and grows it if `fill` asks for more.
fn fill_growing(
    bytes: &mut Vec<u8>,
    before: usize,
    mut room: usize,
    fill: &mut dyn FnMut(&mut [u8]) -> FillResult,
) -> Option<usize> {
    loop {
        if bytes.len() < before + room {
            bytes.resize(before + room, 0);
        }
        match fill(&mut bytes[before..]) {
            Ok(written) => return Some(written),
            Err(Some(required_size)) => room = required_size,
            Err(None) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsent_bytes_come_before_bytes_sealed_later() {
        let mut send_queue = SendQueue::default();
        assert_eq!(send_queue.available(), MAX_SEND_QUEUE);
        add(&mut send_queue, b"abcdef");
        let mut transmit = send_queue.next().expect("something waits");
        assert!(send_queue.next().is_none(), "one transmit buffer at a time");
        add(&mut send_queue, b"gh");
        assert_eq!(send_queue.available(), MAX_SEND_QUEUE - 8);
        transmit.sent(4);
        send_queue.return_unsent(&mut transmit);
        assert!(transmit.is_empty());
        assert_eq!(send_queue.next().expect("the rest is queued").bytes(), b"efgh");
    }

    #[test]
    fn a_queue_with_a_lent_buffer_is_not_empty() {
        let mut send_queue = SendQueue::default();
        add(&mut send_queue, &[1]);
        let mut transmit = send_queue.next().expect("something waits");
        assert!(!send_queue.is_empty());
        transmit.sent(1);
        send_queue.return_unsent(&mut transmit);
        assert!(send_queue.is_empty());
    }

    #[test]
    fn nothing_follows_a_transmit_that_may_be_sent_in_part() {
        let mut send_queue = SendQueue::default();
        add(&mut send_queue, &[1]);
        let _parcel = send_queue.next();
        add(&mut send_queue, &[2]);
        assert_eq!(send_queue.into_bytes(), b"");
    }

    #[test]
    fn a_failed_wire_empties_the_queue() {
        let mut send_queue = SendQueue::default();
        add(&mut send_queue, b"abc");
        let mut transmit = send_queue.next().expect("something waits");
        send_queue.discard_all();
        send_queue.return_unsent(&mut transmit);
        add(&mut send_queue, b"d");
        assert!(send_queue.is_empty() && send_queue.next().is_none() && transmit.is_empty());
    }

    fn add(send_queue: &mut SendQueue, bytes: &[u8]) {
        let written = send_queue.append(1, |room| {
            let room = room.get_mut(..bytes.len()).ok_or(Some(bytes.len()))?;
            room.copy_from_slice(bytes);
            Ok(bytes.len())
        });
        assert_eq!(written, Some(bytes.len()));
    }
}
