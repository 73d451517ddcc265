//! Predicts, per direction, how the next call will behave from how the last ones did.

use std::time::Duration;

/// Two predictions. A wrong one costs no more than a system call.
///
/// The first is whether the call would block. If so, waiting first saves a useless call.
///
/// The second is whether the wait will be short, as in a dialogue. If so, on Linux the receive itself does the
/// waiting, with one system call instead of two. No other thread can end that wait; it ends on its own after some
/// milliseconds. So only a direction whose waits have proved short uses it, of a socket that one thread
/// [uses](super::users::Users).
#[derive(Debug, Default)]
pub(crate) struct BlockPredictor {
    left: Left,
    /// Number of calls that still wait first before one tries again.
    skip_tries: u8,
    /// The previous value of `skip_tries`, which doubles with every failed try.
    backoff: u8,
    /// Number of short waits in a row.
    short_waits: u8,
}

/// What the last call has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Left {
    #[default]
    Something,
    /// It took everything that was available.
    Nothing,
    /// The same, but a poller has reported something since.
    Reported,
}

/// A wait shorter than this ends before a blocking receive would time out.
const SHORT_WAIT: Duration = Duration::from_millis(2);
/// Number of short waits in a row after which receives block.
const BLOCKING_AFTER: u8 = 16;
/// Maximum number of calls that wait first before one tries again.
const MAX_BACKOFF: u8 = 32;

impl BlockPredictor {
    /// Predicts whether the next call would block.
    pub(crate) fn predicts_block(&mut self) -> bool {
        if self.skip_tries > 0 {
            self.skip_tries -= 1;
            return true;
        }
        self.left != Left::Something
    }

    /// Records that a call that did not wait first would have blocked.
    pub(crate) fn on_would_block(&mut self) {
        self.backoff = (self.backoff * 2).clamp(1, MAX_BACKOFF);
        self.skip_tries = self.backoff;
    }

    /// Records that a call moved bytes; `all` if these were all that were available.
    pub(crate) fn on_progress(&mut self, all: bool, waited: bool) {
        self.left = if all { Left::Nothing } else { Left::Something };
        if !waited {
            self.backoff = 0;
        }
    }

    /// Records that a call that never waits would have blocked.
    pub(crate) fn on_refused(&mut self) {
        self.left = Left::Nothing;
    }

    /// Returns whether the last call probably left something for the next one.
    pub(crate) fn has_left_some(&self) -> bool {
        self.left == Left::Something
    }

    /// Returns whether the last call found the wire unable to take more.
    pub(crate) fn was_blocked(&self) -> bool {
        self.left != Left::Something || self.skip_tries > 0
    }

    /// Records that a poller reports something.
    pub(crate) fn on_reported(&mut self) {
        if self.left == Left::Nothing {
            self.left = Left::Reported;
        }
    }

    /// Returns whether the last call took everything, and nothing was reported since. The kernel reports what comes later.
    pub(crate) fn has_drained(&self) -> bool {
        self.left == Left::Nothing
    }

    /// Predicts whether the wait for data will be short.
    pub(crate) fn prefers_blocking_recv(&self) -> bool {
        self.short_waits >= BLOCKING_AFTER
    }

    /// Records how long a wait took.
    pub(crate) fn on_waited(&mut self, time: Duration) {
        self.short_waits = if time < SHORT_WAIT { self.short_waits.saturating_add(1) } else { 0 };
    }

    /// Records that a blocking receive timed out.
    pub(crate) fn on_blocking_timeout(&mut self) {
        self.short_waits = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_that_keeps_blocking_is_tried_less_and_less_often() {
        let mut predictor = BlockPredictor::default();
        let mut tries = 0;
        for _ in 0..1000 {
            if !predictor.predicts_block() {
                tries += 1;
                predictor.on_would_block();
            }
            predictor.on_progress(false, true);
        }
        assert!((30..50).contains(&tries), "{tries}");
        // A direction that never blocks is always tried first.
        let mut predictor = BlockPredictor::default();
        assert!((0..1000).all(|_| {
            let tried = !predictor.predicts_block();
            predictor.on_progress(false, false);
            tried
        }));
    }

    #[test]
    fn a_direction_is_drained_until_something_is_reported() {
        let mut predictor = BlockPredictor::default();
        assert!(!predictor.has_drained() && predictor.has_left_some());
        predictor.on_reported();
        assert!(predictor.has_left_some(), "nothing was known");
        for drain in
            [BlockPredictor::on_refused, |it: &mut BlockPredictor| it.on_progress(true, false)]
        {
            drain(&mut predictor);
            assert!(predictor.has_drained() && predictor.predicts_block());
            predictor.on_reported();
            assert!(!predictor.has_drained() && predictor.predicts_block());
        }
        predictor.on_progress(false, false);
        assert!(!predictor.has_drained() && predictor.has_left_some());
    }

    #[test]
    fn many_short_waits_in_a_row_make_receives_block_until_one_is_long() {
        let mut predictor = BlockPredictor::default();
        for _ in 0..BLOCKING_AFTER {
            assert!(!predictor.prefers_blocking_recv());
            predictor.on_waited(SHORT_WAIT / 2);
        }
        assert!(predictor.prefers_blocking_recv());
        predictor.on_blocking_timeout();
        assert!(!predictor.prefers_blocking_recv());
        (1..BLOCKING_AFTER).for_each(|_| predictor.on_waited(SHORT_WAIT / 2));
        predictor.on_waited(SHORT_WAIT);
        predictor.on_waited(SHORT_WAIT / 2);
        assert!(!predictor.prefers_blocking_recv());
    }
}
