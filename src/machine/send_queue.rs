//! The bounded queue of ciphertext to send, and the buffer in which the driver takes a part of it.

use std::fmt;

/// The maximum amount of sealed application data that the kernel has not accepted, in bytes.
pub(super) const MAX_SEND_QUEUE: usize = 64 * 1024;

/// The queue of ciphertext that waits for the wire.
///
/// The bytes leave in a [`Transmit`], one at a time. Ciphertext that is sealed while one is lent queues after it.
#[derive(Default)]
pub(super) struct SendQueue {
    bytes: Vec<u8>,
    /// The number of bytes in the lent transmit buffer.
    in_flight: usize,
    /// The number of bytes at the end that are records of TLS itself, after the last data of the program.
    own_tail: usize,
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

    /// Returns whether data of the program is in the queue.
    pub(super) fn has_data(&self) -> bool {
        !self.is_empty() && self.len() > self.own_tail
    }

    /// Drops the queued bytes, which are no data. What is appended later is sent.
    pub(super) fn discard(&mut self) {
        self.bytes.clear();
        self.own_tail = self.in_flight;
    }

    /// Drops the queue, and everything that is returned or appended later, because the wire has failed.
    pub(super) fn discard_all(&mut self) {
        *self = SendQueue { is_discarding: true, ..SendQueue::default() };
    }

    /// Appends the bytes that `fill` writes into a buffer of `room` bytes, or more if it asks for that: see
    /// [`FillResult`]. Returns their number, or `None` if `fill` failed.
    pub(super) fn append(
        &mut self,
        content: Content,
        room: usize,
        mut fill: impl FnMut(&mut [u8]) -> FillResult,
    ) -> Option<usize> {
        let before = self.bytes.len();
        let written = fill_growing(&mut self.bytes, before, room, &mut fill);
        self.bytes.truncate(before + written.unwrap_or(0));
        self.own_tail = match (content, written) {
            (Content::Data, Some(1..)) => 0,
            (Content::Own, Some(written)) => self.own_tail + written,
            (Content::Data, _) | (Content::Own, None) => self.own_tail,
        };
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
        self.own_tail = match later.has_data() {
            true => later.own_tail,
            false => self.own_tail + later.own_tail,
        };
        if self.bytes.is_empty() {
            self.bytes = later.bytes;
        } else {
            self.bytes.extend_from_slice(&later.bytes);
        }
        if self.is_discarding {
            self.bytes.clear();
        }
    }

    /// Records that `bytes` bytes of sealed data went straight into a transmit buffer.
    pub(super) fn lend(&mut self, bytes: usize) {
        debug_assert!(self.is_empty(), "queued bytes come first");
        self.in_flight = bytes;
        self.own_tail = 0;
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
        self.own_tail = self.own_tail.min(self.bytes.len());
        transmit.clear();
    }

    /// Returns the queued bytes, when the connection ends.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        // A lent transmit buffer may have been sent in part, so nothing can follow it.
        if self.in_flight > 0 || self.is_discarding { Vec::new() } else { self.bytes }
    }
}

/// What is appended to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Data of the program.
    Data,
    /// Records of TLS itself, such as a session ticket or close_notify.
    Own,
}

/// Shows lengths only: in a dialogue with a proxy, the bytes are credentials.
impl fmt::Debug for SendQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendQueue")
            .field("queued", &self.bytes.len())
            .field("in_flight", &self.in_flight)
            .field("own_tail", &self.own_tail)
            .field("is_discarding", &self.is_discarding)
            .finish()
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

    type Part = (Content, &'static [u8]);

    #[test]
    fn data_is_undelivered_until_only_records_of_tls_are_left() {
        use Content::{Data, Own};
        // The contents, of which the kernel accepts some bytes, and whether data is left.
        #[rustfmt::skip]
        let cases: &[(&[Part], usize, bool)] = &[
            (&[], 0, false),
            (&[(Own, b"ticket")], 0, false),
            (&[(Own, b"ticket"), (Own, b"end")], 3, false),
            (&[(Data, b"data")], 3, true),
            (&[(Data, b"data")], 4, false),
            (&[(Own, b"ticket"), (Data, b"data")], 6, true),
            (&[(Data, b"data"), (Own, b"end")], 3, true),
            (&[(Data, b"data"), (Own, b"end")], 4, false),
            (&[(Data, b"data"), (Own, b"end")], 7, false),
            // Nothing was sealed.
            (&[(Own, b"ticket"), (Data, b"")], 0, false),
        ];
        for (contents, accepted, is_left) in cases {
            let mut send_queue = SendQueue::default();
            for (content, bytes) in *contents {
                append(&mut send_queue, *content, bytes);
            }
            let is_data = |(content, bytes): &Part| *content == Data && !bytes.is_empty();
            assert_eq!(send_queue.has_data(), contents.iter().any(is_data));
            if let Some(mut transmit) = send_queue.next() {
                transmit.sent(*accepted);
                send_queue.return_unsent(&mut transmit);
            }
            assert_eq!(send_queue.has_data(), *is_left, "{contents:?}, {accepted}");
            append(&mut send_queue, Own, b"end");
            assert_eq!(send_queue.has_data(), *is_left, "{contents:?}, {accepted}, end");
            send_queue.discard();
            assert!(send_queue.is_empty() && !send_queue.has_data());
            append(&mut send_queue, Data, b"more");
            assert!(send_queue.has_data(), "what is appended later counts");
        }
    }

    #[test]
    fn a_queue_that_is_appended_keeps_what_is_data() {
        use Content::{Data, Own};
        for (first, later, own_tail) in
            [(Data, Data, 0), (Data, Own, 3), (Own, Data, 0), (Own, Own, 6)]
        {
            let mut send_queue = SendQueue::default();
            append(&mut send_queue, first, b"abc");
            let mut other = SendQueue::default();
            append(&mut other, later, b"def");
            send_queue.extend(other);
            assert_eq!(send_queue.own_tail, own_tail, "{first:?}, {later:?}");
        }
    }

    #[test]
    fn data_that_was_sealed_into_a_transmit_buffer_is_undelivered() {
        let mut send_queue = SendQueue::default();
        send_queue.lend(4);
        assert!(send_queue.has_data());
        append(&mut send_queue, Content::Own, b"end");
        assert!(send_queue.has_data());
        send_queue.return_unsent(&mut Transmit::default());
        assert!(!send_queue.has_data(), "all of it was sent");
    }

    fn add(send_queue: &mut SendQueue, bytes: &[u8]) {
        append(send_queue, Content::Data, bytes);
    }

    fn append(send_queue: &mut SendQueue, content: Content, bytes: &[u8]) {
        let written = send_queue.append(content, 1, |room| {
            let room = room.get_mut(..bytes.len()).ok_or(Some(bytes.len()))?;
            room.copy_from_slice(bytes);
            Ok(bytes.len())
        });
        assert_eq!(written, Some(bytes.len()));
    }
}
