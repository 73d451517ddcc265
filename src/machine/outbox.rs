//! Ciphertext on its way to the wire: bounded, and lent to whoever makes the system call.

use std::fmt;

/// The most application data that is sealed and not yet with the system, in bytes.
pub(super) const MAX_SEND_QUEUE: usize = 64 * 1024;

/// What is sealed and waits for the wire.
///
/// Its bytes leave as a [`Transmit`], one at a time; what is sealed meanwhile queues behind it.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    bytes: Vec<u8>,
    /// So many bytes are out in a transmit buffer.
    in_flight: usize,
    /// Nothing is sent any more.
    is_discarding: bool,
}

impl SendQueue {
    /// How much more application data may be sealed.
    pub(super) fn available(&self) -> usize {
        MAX_SEND_QUEUE.saturating_sub(self.bytes.len() + self.in_flight)
    }

    /// Whether everything is with the system.
    pub(super) fn is_empty(&self) -> bool {
        self.is_discarding || self.len() == 0
    }

    /// Whether a transmit buffer is out.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// How many bytes are not with the system.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.in_flight
    }

    /// Drops all that waits, and what comes back: the wire has failed.
    pub(super) fn discard_all(&mut self) {
        *self = SendQueue { is_discarding: true, ..SendQueue::default() };
    }

    /// Appends what `fill` writes, which is given about `available` bytes: see [`FillResult`]. How much that was; none
    /// where it could not.
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

    /// Appends what was sealed elsewhere.
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

    /// Notes that `bytes` bytes were sealed straight into a transmit buffer.
    pub(super) fn lend(&mut self, bytes: usize) {
        debug_assert!(self.is_empty(), "what waits comes first");
        self.in_flight = bytes;
    }

    /// Lends all that waits.
    pub(super) fn next(&mut self) -> Option<Transmit> {
        if self.bytes.is_empty() || self.in_flight > 0 || self.is_discarding {
            return None;
        }
        self.in_flight = self.bytes.len();
        Some(Transmit { end: self.bytes.len(), bytes: std::mem::take(&mut self.bytes), start: 0 })
    }

    /// Takes a transmit buffer back, of which what was not sent comes first again.
    pub(super) fn return_unsent(&mut self, transmit: &mut Transmit) {
        self.in_flight = 0;
        if !transmit.is_empty() && !self.is_discarding {
            self.bytes.splice(..0, transmit.bytes().iter().copied());
        }
        transmit.clear();
    }

    /// All that waits, for the last time.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        // The middle of a transmit buffer is no place to begin.
        if self.in_flight > 0 || self.is_discarding { Vec::new() } else { self.bytes }
    }
}

/// Ciphertext to be sent, in order and once. It is given back with what was not.
#[derive(Default)]
pub struct Transmit {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Transmit {
    /// What is to be sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether nothing is left to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes off what the wire took.
    pub fn sent(&mut self, bytes: usize) {
        self.start = self.end.min(self.start + bytes);
    }

    /// Is filled anew, as [`SendQueue::append`]. Its memory stays.
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

    /// Makes it empty, to be filled again.
    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

impl fmt::Debug for Transmit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel").field("len", &self.bytes().len()).finish_non_exhaustive()
    }
}

/// How much was written, or how much room that takes, or that it can't be.
pub(super) type FillResult = Result<usize, Option<usize>>;

/// Has `fill` write behind the first `before` bytes.
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
    fn what_was_not_sent_comes_before_what_was_sealed_meanwhile() {
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
        assert_eq!(send_queue.next().expect("the rest waits").bytes(), b"efgh");
    }

    #[test]
    fn it_is_empty_only_when_nothing_is_lent_either() {
        let mut send_queue = SendQueue::default();
        add(&mut send_queue, &[1]);
        let mut transmit = send_queue.next().expect("something waits");
        assert!(!send_queue.is_empty());
        transmit.sent(1);
        send_queue.return_unsent(&mut transmit);
        assert!(send_queue.is_empty());
    }

    #[test]
    fn nothing_goes_out_behind_a_parcel_that_may_be_sent_in_part() {
        let mut send_queue = SendQueue::default();
        add(&mut send_queue, &[1]);
        let _parcel = send_queue.next();
        add(&mut send_queue, &[2]);
        assert_eq!(send_queue.into_bytes(), b"");
    }

    #[test]
    fn when_the_wire_has_failed_nothing_waits_any_more() {
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
