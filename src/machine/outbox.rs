//! Ciphertext on its way to the wire: bounded, and lent to whoever makes the system call.

use std::fmt;

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
    /// Nothing is sent any more.
    shut: bool,
}

impl Outbox {
    /// How much more application data may be sealed.
    pub(super) fn room(&self) -> usize {
        ROOM.saturating_sub(self.bytes.len() + self.lent)
    }

    /// Whether everything is with the system.
    pub(super) fn is_empty(&self) -> bool {
        self.shut || self.len() == 0
    }

    /// Whether a parcel is out.
    pub(super) fn is_lent(&self) -> bool {
        self.lent > 0
    }

    /// How many bytes are not with the system.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.lent
    }

    /// Drops all that waits, and what comes back: the wire has failed.
    pub(super) fn shut(&mut self) {
        *self = Outbox { shut: true, ..Outbox::default() };
    }

    /// Appends what `fill` writes, which is given about `room` bytes: see [`Fill`]. How much that was; none
    /// where it could not.
    pub(super) fn append(
        &mut self,
        room: usize,
        mut fill: impl FnMut(&mut [u8]) -> Fill,
    ) -> Option<usize> {
        let before = self.bytes.len();
        let written = grow(&mut self.bytes, before, room, &mut fill);
        self.bytes.truncate(before + written.unwrap_or(0));
        if self.shut {
            self.bytes.clear();
        }
        written
    }

    /// Appends what was sealed elsewhere.
    pub(super) fn extend(&mut self, later: Outbox) {
        if self.bytes.is_empty() {
            self.bytes = later.bytes;
        } else {
            self.bytes.extend_from_slice(&later.bytes);
        }
        if self.shut {
            self.bytes.clear();
        }
    }

    /// Notes that `bytes` bytes were sealed straight into a parcel.
    pub(super) fn lend(&mut self, bytes: usize) {
        debug_assert!(self.is_empty(), "what waits comes first");
        self.lent = bytes;
    }

    /// Lends all that waits.
    pub(super) fn take(&mut self) -> Option<Parcel> {
        if self.bytes.is_empty() || self.lent > 0 || self.shut {
            return None;
        }
        self.lent = self.bytes.len();
        Some(Parcel { end: self.bytes.len(), bytes: std::mem::take(&mut self.bytes), start: 0 })
    }

    /// Takes a parcel back, of which what was not sent comes first again.
    pub(super) fn give_back(&mut self, parcel: &mut Parcel) {
        self.lent = 0;
        if !parcel.is_empty() && !self.shut {
            self.bytes.splice(..0, parcel.bytes().iter().copied());
        }
        parcel.clear();
    }

    /// All that waits, for the last time.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        // The middle of a parcel is no place to begin.
        if self.lent > 0 || self.shut { Vec::new() } else { self.bytes }
    }
}

/// Ciphertext to be sent, in order and once. It is given back with what was not.
#[derive(Default)]
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

    /// Is filled anew, as [`Outbox::append`]. Its memory stays.
    pub(super) fn fill(
        &mut self,
        room: usize,
        mut fill: impl FnMut(&mut [u8]) -> Fill,
    ) -> Option<usize> {
        self.clear();
        let written = grow(&mut self.bytes, 0, room, &mut fill)?;
        self.end = written;
        Some(written)
    }

    /// Makes it empty, to be filled again.
    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel").field("len", &self.bytes().len()).finish_non_exhaustive()
    }
}

/// How much was written, or how much room that takes, or that it can't be.
pub(super) type Fill = Result<usize, Option<usize>>;

/// Has `fill` write behind the first `before` bytes.
fn grow(
    bytes: &mut Vec<u8>,
    before: usize,
    mut room: usize,
    fill: &mut dyn FnMut(&mut [u8]) -> Fill,
) -> Option<usize> {
    loop {
        if bytes.len() < before + room {
            bytes.resize(before + room, 0);
        }
        match fill(&mut bytes[before..]) {
            Ok(written) => return Some(written),
            Err(Some(needed)) => room = needed,
            Err(None) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_sent_comes_before_what_was_sealed_meanwhile() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.room(), ROOM);
        add(&mut outbox, b"abcdef");
        let mut parcel = outbox.take().expect("something waits");
        assert!(outbox.take().is_none(), "one parcel at a time");
        add(&mut outbox, b"gh");
        assert_eq!(outbox.room(), ROOM - 8);
        parcel.sent(4);
        outbox.give_back(&mut parcel);
        assert!(parcel.is_empty());
        assert_eq!(outbox.take().expect("the rest waits").bytes(), b"efgh");
    }

    #[test]
    fn it_is_empty_only_when_nothing_is_lent_either() {
        let mut outbox = Outbox::default();
        add(&mut outbox, &[1]);
        let mut parcel = outbox.take().expect("something waits");
        assert!(!outbox.is_empty());
        parcel.sent(1);
        outbox.give_back(&mut parcel);
        assert!(outbox.is_empty());
    }

    #[test]
    fn nothing_goes_out_behind_a_parcel_that_may_be_sent_in_part() {
        let mut outbox = Outbox::default();
        add(&mut outbox, &[1]);
        let _parcel = outbox.take();
        add(&mut outbox, &[2]);
        assert_eq!(outbox.into_bytes(), b"");
    }

    #[test]
    fn when_the_wire_has_failed_nothing_waits_any_more() {
        let mut outbox = Outbox::default();
        add(&mut outbox, b"abc");
        let mut parcel = outbox.take().expect("something waits");
        outbox.shut();
        outbox.give_back(&mut parcel);
        add(&mut outbox, b"d");
        assert!(outbox.is_empty() && outbox.take().is_none() && parcel.is_empty());
    }

    fn add(outbox: &mut Outbox, bytes: &[u8]) {
        let written = outbox.append(1, |room| {
            let room = room.get_mut(..bytes.len()).ok_or(Some(bytes.len()))?;
            room.copy_from_slice(bytes);
            Ok(bytes.len())
        });
        assert_eq!(written, Some(bytes.len()));
    }
}
