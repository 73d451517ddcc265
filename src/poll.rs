//! What a poller watches for and reports.

use std::fmt;
use std::ops::BitOr;

/// The events that a [`Poller`](crate::Poller) reports for one key, combined with `|`. One-shot by default: the first
/// event disarms the key. A combination is [level-triggered](Self::level) if one of its parts is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interest(u8);

const LEVEL: u8 = 1 << 7;

impl Interest {
    /// A read would not wait: application data, a clean end, or a failure is there. TLS records without data are
    /// processed and not reported. Data that is decrypted already is. For a listener, an `accept` would not wait: a client
    /// is there that the rules allow, and a slot is free.
    pub const READABLE: Interest = Interest(1);
    /// A write would accept at least one byte, or fail at once.
    pub const WRITABLE: Interest = Interest(2);
    /// [`opened`](crate::Socket::opened) has settled.
    pub const OPENED: Interest = Interest(4);
    /// [`closed`](crate::Socket::closed) has settled. Reported once, whatever the interest is, and even if the key is
    /// disarmed. Later events of the key, for another reason, say so too. While no key of the socket waits for
    /// `READABLE`, an end that no thread reads is noticed up to 200 ms late.
    pub const CLOSED: Interest = Interest(8);

    /// Makes it level-triggered: every `wait` reports what is still true, without
    /// [`modify`](crate::Poller::modify).
    #[must_use]
    pub const fn level(self) -> Self {
        Interest(self.0 | LEVEL)
    }

    /// Makes it one-shot, which is the default.
    #[must_use]
    pub const fn oneshot(self) -> Self {
        Interest(self.0 & !LEVEL)
    }

    pub(crate) const fn is_level(self) -> bool {
        self.0 & LEVEL != 0
    }

    /// Returns whether it has any of the events of `other`.
    pub(crate) const fn has(self, other: Interest) -> bool {
        self.0 & other.0 & !LEVEL != 0
    }

    pub(crate) const fn events(self) -> Ready {
        Ready(self.0 & !LEVEL)
    }
}

/// Level-triggered if one of them is.
impl BitOr for Interest {
    type Output = Interest;

    fn bitor(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }
}

/// Shows the names of the events.
impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (interest, name) in [
            (Interest::READABLE, "READABLE"),
            (Interest::WRITABLE, "WRITABLE"),
            (Interest::OPENED, "OPENED"),
            (Interest::CLOSED, "CLOSED"),
        ] {
            if self.has(interest) {
                write!(f, "{separator}{name}")?;
                separator = " | ";
            }
        }
        if self.is_level() { f.write_str(" (level)") } else { Ok(()) }
    }
}

/// The events that are true of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ready(u8);

impl Ready {
    pub(crate) const NOTHING: Ready = Ready(0);
    pub(crate) const READABLE: Ready = Interest::READABLE.events();
    pub(crate) const WRITABLE: Ready = Interest::WRITABLE.events();
    pub(crate) const OPENED: Ready = Interest::OPENED.events();
    pub(crate) const CLOSED: Ready = Interest::CLOSED.events();

    pub(crate) const fn and(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }

    pub(crate) const fn only(self, other: Ready) -> Ready {
        Ready(self.0 & other.0)
    }

    pub(crate) const fn without(self, other: Ready) -> Ready {
        Ready(self.0 & !other.0)
    }

    /// Returns `self` if `is_so`, and otherwise nothing.
    pub(crate) const fn when(self, is_so: bool) -> Ready {
        if is_so { self } else { Ready::NOTHING }
    }

    pub(crate) const fn has(self, other: Ready) -> bool {
        self.0 & other.0 != 0
    }

    /// The events as the low four bits.
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u8) -> Ready {
        Ready(bits)
    }

    pub(crate) const fn is_nothing(self) -> bool {
        self.0 == 0
    }
}

/// What was true of a source when it was checked. Another thread may have read or written since.
///
/// A flag is set only if the [`Interest`] of the key asks for it, except `closed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The key that the program chose.
    pub key: u64,
    /// [`Interest::READABLE`]
    pub readable: bool,
    /// [`Interest::WRITABLE`]
    pub writable: bool,
    /// [`Interest::OPENED`]
    pub opened: bool,
    /// [`Interest::CLOSED`]
    pub closed: bool,
}

impl Event {
    pub(crate) fn new(key: u64, ready: Ready) -> Self {
        Event {
            key,
            readable: ready.has(Ready::READABLE),
            writable: ready.has(Ready::WRITABLE),
            opened: ready.has(Ready::OPENED),
            closed: ready.has(Ready::CLOSED),
        }
    }
}

/// A reusable buffer for the events of one [`wait`](crate::Poller::wait).
#[derive(Debug)]
pub struct Events {
    events: Vec<Event>,
    capacity: usize,
}

impl Events {
    /// Creates a buffer for at most this number of events.
    ///
    /// # Panics
    /// If `capacity` is zero.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        assert!(capacity > 0, "a buffer for events has room for at least one");
        // A large capacity takes memory only if there are that many events.
        Events { events: Vec::with_capacity(capacity.min(1024)), capacity }
    }

    /// Returns the events, in the order in which they are to be handled.
    pub fn iter(&self) -> impl Iterator<Item = Event> {
        self.events.iter().copied()
    }

    /// Returns the number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn clear(&mut self) {
        self.events.clear();
    }

    pub(crate) fn push(&mut self, event: Event) {
        debug_assert!(self.events.len() < self.capacity, "a wait reports at most the capacity");
        self.events.push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interests_combine_and_name_their_events() {
        let both = Interest::READABLE | Interest::WRITABLE;
        assert!(both.has(Interest::READABLE) && both.has(Interest::WRITABLE));
        assert!(!both.has(Interest::OPENED) && !both.is_level());
        assert_eq!(format!("{both:?}"), "READABLE | WRITABLE");
        let level = Interest::CLOSED.level() | Interest::OPENED;
        assert!(level.is_level());
        assert_eq!(format!("{level:?}"), "OPENED | CLOSED (level)");
        assert_eq!(level.oneshot(), Interest::OPENED | Interest::CLOSED);
    }

    #[test]
    fn an_event_has_what_is_ready() {
        let ready = Ready::READABLE.and(Ready::CLOSED.when(true)).and(Ready::OPENED.when(false));
        let event = Event::new(7, ready);
        let expected =
            Event { key: 7, readable: true, writable: false, opened: false, closed: true };
        assert_eq!(event, expected);
        assert!(Event::new(7, ready.without(ready)) != expected);
        assert!(ready.only(Interest::READABLE.level().events()) == Ready::READABLE);
    }

    #[test]
    #[should_panic(expected = "at least one")]
    fn a_buffer_without_room_is_a_mistake() {
        let _ = Events::with_capacity(0);
    }
}
