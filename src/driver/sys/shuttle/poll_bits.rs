//! The event flags of the model.

/// The event flags of poll(2) and epoll(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PollBits(pub(super) u8);

impl PollBits {
    pub(super) const NOTHING: PollBits = PollBits(0);
    pub(super) const IN: PollBits = PollBits(1);
    pub(super) const OUT: PollBits = PollBits(2);
    pub(super) const ERR: PollBits = PollBits(4);
    pub(super) const HUP: PollBits = PollBits(8);
    /// The peer has ended.
    pub(super) const RDHUP: PollBits = PollBits(16);
    pub(super) const ANYTHING: PollBits = PollBits(31);

    pub(super) fn contains(self, other: PollBits) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn with(self, other: PollBits, on: bool) -> Self {
        if on { PollBits(self.0 | other.0) } else { self }
    }

    /// Returns the flags that are reported for an interest. Errors and hang-ups are always reported, and the peer's end with
    /// data.
    pub(super) fn reported(self, interest: PollBits) -> Self {
        let reads = interest.contains(PollBits::IN);
        let interest = interest.with(PollBits::ERR, true).with(PollBits::HUP, true);
        PollBits(self.0 & interest.with(PollBits::RDHUP, reads).0)
    }
}
