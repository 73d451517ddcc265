//! Where ciphertext is received into, on its way from the wire to a session.

use std::fmt;

/// The most that is received at a time.
const LARGE: usize = 64 * 1024;
/// What is received at a time until that was too little.
const SMALL: usize = 4 * 1024;
/// The most that may be left of what came before: a record that is not complete (RFC 8446, section 5.2,
/// and RFC 5246, section 6.2.3).
const HEADROOM: usize = 5 + 16 * 1024 + 2048;

/// A buffer for whoever receives. It may serve many sessions, one after another: between two receives it
/// holds nothing.
#[derive(Default)]
pub struct Intake {
    bytes: Vec<u8>,
    /// Where what is received begins: before it there is room for what is left of the receive before.
    head: usize,
    filled: usize,
    /// Small ones were filled.
    large: bool,
}

impl Intake {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Intake::default()
    }

    /// The room to receive into.
    pub fn space(&mut self) -> &mut [u8] {
        let (head, space) = if self.large { (HEADROOM, LARGE) } else { (0, SMALL) };
        if self.bytes.len() < head + space {
            self.bytes.resize(head + space, 0);
        }
        self.head = head;
        self.filled = 0;
        &mut self.bytes[head..]
    }

    /// So many bytes of the room were filled.
    pub fn filled(&mut self, bytes: usize) {
        let room = self.bytes.len() - self.head;
        self.filled = bytes.min(room);
        self.large |= bytes >= room;
    }

    /// What was received.
    pub(super) fn received(&self) -> &[u8] {
        &self.bytes[self.head..self.head + self.filled]
    }
}

/// What was decrypted in it may still be there, and is not shown.
impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("filled", &self.filled).finish_non_exhaustive()
    }
}

/// What was received and is not yet processed.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// Takes over what was received, behind what is left.
    #[inline]
    pub(super) fn append(&mut self, intake: &mut Intake) {
        let rest = self.start..self.end;
        if rest.len() <= intake.head || rest.is_empty() {
            // What is left is mostly less than what comes, so that it moves to it.
            let start = intake.head - rest.len();
            intake.bytes[start..intake.head].copy_from_slice(&self.bytes[rest]);
            std::mem::swap(&mut self.bytes, &mut intake.bytes);
            self.start = start;
            self.end = intake.head + intake.filled;
        } else {
            self.bytes.truncate(self.end);
            self.bytes.drain(..self.start);
            let received = intake.head..intake.head + intake.filled;
            self.bytes.extend_from_slice(&intake.bytes[received]);
            self.start = 0;
            self.end = self.bytes.len();
        }
        intake.filled = 0;
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
    pub(super) fn release(&mut self, intake: &mut Intake) {
        if self.start < self.end {
            return;
        }
        let bytes = std::mem::take(&mut self.bytes);
        (self.start, self.end) = (0, 0);
        if intake.bytes.len() < bytes.len() {
            intake.bytes = bytes;
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Inbox::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_in_order_whatever_is_left_when_more_comes() {
        let mut intake = Intake::new();
        let mut inbox = Inbox::default();
        let mut sent = 0_u8;
        let mut seen = 0_u8;
        for round in 0..200_usize {
            let space = intake.space();
            let bytes = (round * 7_919) % (space.len() + 1);
            for byte in &mut space[..bytes] {
                *byte = sent;
                sent = sent.wrapping_add(1);
            }
            intake.filled(bytes);
            let before = inbox.len();
            inbox.append(&mut intake);
            assert_eq!(inbox.len(), before + bytes);
            // Now and then much is left, as of a long handshake message.
            let keep = if round % 10 == 9 { 0 } else { (round * 104_729) % 30_000 };
            while inbox.len() > keep {
                assert_eq!(inbox.bytes_mut()[0], seen);
                seen = seen.wrapping_add(1);
                inbox.discard(1);
            }
            inbox.release(&mut intake);
        }
    }

    #[test]
    fn an_inbox_that_is_empty_holds_no_memory() {
        let mut intake = Intake::new();
        let mut inbox = Inbox::default();
        intake.space();
        intake.filled(10);
        inbox.append(&mut intake);
        inbox.release(&mut intake);
        assert_eq!(inbox.bytes.capacity(), SMALL, "something is left");
        inbox.discard(10);
        inbox.release(&mut intake);
        assert_eq!(inbox.bytes.capacity(), 0);
    }
}
