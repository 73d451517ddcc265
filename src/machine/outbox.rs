//! Ciphertext on its way to the wire: bounded, and lent to whoever makes the system call.

/// The most application data that is sealed and not yet with the system, in bytes.
pub(super) const ROOM: usize = 64 * 1024;

/// What is sealed and waits for the wire.
///
/// Its bytes leave as a [`Parcel`], one at a time; what is sealed meanwhile queues behind it.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// So many bytes are out in a parcel.
    lent: usize,
}

impl Outbox {
    /// How much more application data may be sealed.
    pub(super) fn room(&self) -> usize {
        ROOM.saturating_sub(self.bytes.len() + self.lent)
    }

    /// Whether everything is with the system.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.lent == 0
    }

    /// Bytes to the end of which something may be sealed, outside of a parcel.
    pub(super) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Notes that `bytes` bytes were sealed straight into a parcel.
    pub(super) fn lend(&mut self, bytes: usize) {
        debug_assert!(self.is_empty(), "what waits comes first");
        self.lent = bytes;
    }

    /// Lends all that waits.
    pub(super) fn take(&mut self) -> Option<Parcel> {
        if self.bytes.is_empty() || self.lent > 0 {
            return None;
        }
        self.lent = self.bytes.len();
        Some(Parcel { end: self.bytes.len(), bytes: std::mem::take(&mut self.bytes), start: 0 })
    }

    /// Takes a parcel back, of which what was not sent comes first again.
    pub(super) fn give_back(&mut self, parcel: &mut Parcel) {
        self.lent = 0;
        if !parcel.is_empty() {
            self.bytes.splice(..0, parcel.bytes().iter().copied());
            parcel.clear();
        }
    }

    /// All that waits, for the last time.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        // The middle of a parcel is no place to begin.
        if self.lent > 0 { Vec::new() } else { self.bytes }
    }
}

/// Ciphertext to be sent, in order and once. It is given back with what was not.
#[derive(Debug, Default)]
pub struct Parcel {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Parcel {
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

    /// Room for `bytes` bytes behind what is there already.
    pub(super) fn spare(&mut self, bytes: usize) -> &mut [u8] {
        if self.bytes.len() < self.end + bytes {
            self.bytes.resize(self.end + bytes, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes of the spare room hold something now.
    pub(super) fn extend(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// Makes it empty, to be filled again.
    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_sent_comes_before_what_was_sealed_meanwhile() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.room(), ROOM);
        outbox.bytes_mut().extend_from_slice(b"abcdef");
        let mut parcel = outbox.take().expect("something waits");
        assert!(outbox.take().is_none(), "one parcel at a time");
        outbox.bytes_mut().extend_from_slice(b"gh");
        assert_eq!(outbox.room(), ROOM - 8);
        parcel.sent(4);
        outbox.give_back(&mut parcel);
        assert!(parcel.is_empty());
        assert_eq!(outbox.take().expect("the rest waits").bytes(), b"efgh");
    }

    #[test]
    fn it_is_empty_only_when_nothing_is_lent_either() {
        let mut outbox = Outbox::default();
        outbox.bytes_mut().push(1);
        let mut parcel = outbox.take().expect("something waits");
        assert!(!outbox.is_empty());
        parcel.sent(1);
        outbox.give_back(&mut parcel);
        assert!(outbox.is_empty());
    }

    #[test]
    fn nothing_goes_out_behind_a_parcel_that_may_be_sent_in_part() {
        let mut outbox = Outbox::default();
        outbox.bytes_mut().push(1);
        let _parcel = outbox.take();
        outbox.bytes_mut().push(2);
        assert_eq!(outbox.into_bytes(), b"");
    }
}
