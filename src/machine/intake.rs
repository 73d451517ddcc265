//! Where ciphertext is received into, on its way from the wire to a session.

use std::fmt;

/// The most that is received at a time.
const LARGE_RECV: usize = 64 * 1024;
/// What is received at a time until that was too little.
const SMALL_RECV: usize = 4 * 1024;
/// The most that may be left of what came before: a record that is not complete (RFC 8446, section 5.2,
/// and RFC 5246, section 6.2.3).
const MAX_PARTIAL_RECORD: usize = 5 + 16 * 1024 + 2048;

/// A buffer for whoever receives. It may serve many sessions, one after another: between two receives it
/// holds nothing.
#[derive(Default)]
pub struct RecvBuf {
    bytes: Vec<u8>,
    /// Where what is received begins: before it there is room for what is left of the receive before.
    head: usize,
    filled: usize,
    /// Small ones were filled.
    large: bool,
}

impl RecvBuf {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        RecvBuf::default()
    }

    /// The room to receive into.
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

    /// So many bytes of the room were filled.
    pub fn advance(&mut self, bytes: usize) {
        let room = self.bytes.len() - self.head;
        self.filled = bytes.min(room);
        self.large |= bytes >= room;
    }

    /// What was received.
    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[self.head..self.head + self.filled]
    }
}

/// What was decrypted in it may still be there, and is not shown.
impl fmt::Debug for RecvBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("filled", &self.filled).finish_non_exhaustive()
    }
}

/// What was received and is not yet processed.
#[derive(Default)]
pub(super) struct RecvQueue {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl RecvQueue {
    /// Takes over what was received, behind what is left.
    #[inline]
    pub(super) fn append(&mut self, recv_buf: &mut RecvBuf) {
        let rest = self.start..self.end;
        if rest.len() <= recv_buf.head || rest.is_empty() {
            // What is left is mostly less than what comes, so that it moves to it.
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

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn discard(&mut self, bytes: usize) {
        self.start = self.end.min(self.start + bytes);
    }

    /// Gives the memory away where nothing is left.
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

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = RecvQueue::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_in_order_whatever_is_left_when_more_comes() {
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
            // Now and then much is left, as of a long handshake message.
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
    fn an_inbox_that_is_empty_holds_no_memory() {
        let mut recv_buf = RecvBuf::new();
        let mut recv_queue = RecvQueue::default();
        recv_buf.spare_mut();
        recv_buf.advance(10);
        recv_queue.append(&mut recv_buf);
        recv_queue.release(&mut recv_buf);
        assert_eq!(recv_queue.bytes.capacity(), SMALL_RECV, "something is left");
        recv_queue.discard(10);
        recv_queue.release(&mut recv_buf);
        assert_eq!(recv_queue.bytes.capacity(), 0);
    }
}
