//! The receive buffer and the queue that carry ciphertext from the wire to a TLS session.

use std::fmt;

/// The maximum size of a receive, in bytes.
const LARGE_RECV: usize = 64 * 1024;
/// The size of receives until one fills the buffer, in bytes.
const SMALL_RECV: usize = 4 * 1024;
/// The maximum size of an incomplete record that an earlier receive left (RFC 8446, section 5.2, and RFC 5246,
/// section 6.2.3).
const MAX_PARTIAL_RECORD: usize = 5 + 16 * 1024 + 2048;

/// A buffer to receive ciphertext into. It is empty between two receives, so it can serve many sessions in turn.
#[derive(Default)]
pub struct RecvBuf {
    bytes: Vec<u8>,
    /// The offset of the received bytes. The space before it is for the rest of earlier receives.
    head: usize,
    filled: usize,
    /// Whether a small receive has filled the buffer.
    large: bool,
}

impl RecvBuf {
    /// Creates an empty buffer.
    #[must_use]
    pub fn new() -> Self {
        RecvBuf::default()
    }

    /// Returns the space to receive into.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let (head, spare) =
            if self.large { (MAX_PARTIAL_RECORD, LARGE_RECV) } else { (0, SMALL_RECV) };
        if self.bytes.len() < head + spare {
            self.bytes.resize(head + spare, 0);
        }
        self.head = head;
        self.filled = 0;
        &mut self.bytes[head..]
    }

    /// Marks the first `bytes` bytes of the space as received.
    pub fn advance(&mut self, bytes: usize) {
        let room = self.bytes.len() - self.head;
        self.filled = bytes.min(room);
        self.large |= bytes >= room;
    }

    /// Returns the received bytes.
    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[self.head..self.head + self.filled]
    }
}

/// Omits the contents: the buffer may still hold decrypted data.
impl fmt::Debug for RecvBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvBuf").field("filled", &self.filled).finish_non_exhaustive()
    }
}

/// Received ciphertext that the session has not processed yet.
#[derive(Default)]
pub(super) struct RecvQueue {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl RecvQueue {
    /// Moves the received bytes to the end of the queue.
    #[inline]
    pub(super) fn append(&mut self, recv_buf: &mut RecvBuf) {
        let rest = self.start..self.end;
        if rest.len() <= recv_buf.head || rest.is_empty() {
            // The rest is usually smaller than the new bytes, so it is copied in front of them.
            let start = recv_buf.head - rest.len();
            recv_buf.bytes[start..recv_buf.head].copy_from_slice(&self.bytes[rest]);
            std::mem::swap(&mut self.bytes, &mut recv_buf.bytes);
            self.start = start;
            self.end = recv_buf.head + recv_buf.filled;
        } else {
            self.bytes.truncate(self.end);
            self.bytes.drain(..self.start);
            let received = recv_buf.head..recv_buf.head + recv_buf.filled;
            self.bytes.extend_from_slice(&recv_buf.bytes[received]);
            self.start = 0;
            self.end = self.bytes.len();
        }
        recv_buf.filled = 0;
    }

    /// Appends bytes that have a buffer of their own.
    pub(super) fn extend(&mut self, later: Vec<u8>) {
        if self.start == self.end {
            (self.start, self.end) = (0, later.len());
            self.bytes = later;
            return;
        }
        self.bytes.truncate(self.end);
        self.bytes.drain(..self.start);
        self.bytes.extend_from_slice(&later);
        (self.start, self.end) = (0, self.bytes.len());
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn discard(&mut self, bytes: usize) {
        self.start = self.end.min(self.start + bytes);
    }

    /// Returns the memory to the buffer if the queue is empty.
    pub(super) fn release(&mut self, recv_buf: &mut RecvBuf) {
        if self.start < self.end {
            return;
        }
        let bytes = std::mem::take(&mut self.bytes);
        (self.start, self.end) = (0, 0);
        if recv_buf.bytes.len() < bytes.len() {
            recv_buf.bytes = bytes;
        }
    }

    /// Moves the queued bytes to memory of their size, and returns the larger memory to the buffer.
    pub(super) fn compact(&mut self, recv_buf: &mut RecvBuf) {
        if self.start == self.end || self.bytes.len() < 2 * self.len() {
            return;
        }
        let bytes = self.bytes[self.start..self.end].to_vec();
        (self.start, self.end) = (0, bytes.len());
        let bytes = std::mem::replace(&mut self.bytes, bytes);
        if recv_buf.bytes.len() < bytes.len() {
            recv_buf.bytes = bytes;
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = RecvQueue::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_in_order_whatever_the_queue_holds() {
        let mut recv_buf = RecvBuf::new();
        let mut recv_queue = RecvQueue::default();
        let mut sent = 0_u8;
        let mut seen = 0_u8;
        for round in 0..200_usize {
            let spare = recv_buf.spare_mut();
            let bytes = (round * 7_919) % (spare.len() + 1);
            for byte in &mut spare[..bytes] {
                *byte = sent;
                sent = sent.wrapping_add(1);
            }
            recv_buf.advance(bytes);
            let before = recv_queue.len();
            recv_queue.append(&mut recv_buf);
            assert_eq!(recv_queue.len(), before + bytes);
            // Sometimes a long rest stays, as with a long handshake message.
            let keep = if round % 10 == 9 { 0 } else { (round * 104_729) % 30_000 };
            while recv_queue.len() > keep {
                assert_eq!(recv_queue.bytes_mut()[0], seen);
                seen = seen.wrapping_add(1);
                recv_queue.discard(1);
            }
            recv_queue.release(&mut recv_buf);
        }
    }

    #[test]
    fn a_compact_queue_holds_only_the_memory_that_it_needs() {
        let mut recv_buf = RecvBuf::new();
        let mut recv_queue = RecvQueue::default();
        for (round, byte) in (1_usize..).zip(b"stalled") {
            recv_buf.spare_mut()[0] = *byte;
            recv_buf.advance(1);
            recv_queue.append(&mut recv_buf);
            recv_queue.compact(&mut recv_buf);
            let held = recv_queue.bytes.capacity();
            assert!(held <= 2 * round.max(8), "{held} bytes for {round}");
            assert_eq!(recv_buf.bytes.len(), SMALL_RECV, "the buffer has its memory back");
        }
        assert_eq!(recv_queue.bytes_mut(), b"stalled");
    }

    #[test]
    fn an_empty_queue_holds_no_memory() {
        let mut recv_buf = RecvBuf::new();
        let mut recv_queue = RecvQueue::default();
        recv_buf.spare_mut();
        recv_buf.advance(10);
        recv_queue.append(&mut recv_buf);
        recv_queue.release(&mut recv_buf);
        assert_eq!(recv_queue.bytes.capacity(), SMALL_RECV, "the queue is not empty");
        recv_queue.discard(10);
        recv_queue.release(&mut recv_buf);
        assert_eq!(recv_queue.bytes.capacity(), 0);
    }
}
