//! What the next call in one direction will probably meet, by what the last ones did.

use std::time::Duration;

/// Two guesses, of which a wrong one costs a system call and no more.
///
/// Whether the call would block: then a useless one is saved by waiting first. And whether what it waits
/// for comes quickly, as in a dialogue: then on Linux the receive itself does the waiting, one system call
/// in place of two. That wait ends by itself after some milliseconds, but no other thread can
/// end it sooner, so it is for a direction that has proved to be brisk.
#[derive(Debug, Default)]
pub(super) struct BlockPredictor {
    /// The last call took all there was.
    emptied: bool,
    /// So many calls wait first before one tries again.
    skip_tries: u8,
    /// How many that were the last time: twice as many every time that the try was in vain.
    backoff: u8,
    /// So many waits in a row were short.
    short_waits: u8,
}

/// A wait that is this short is over before a brisk one would give up.
const SHORT_WAIT: Duration = Duration::from_millis(2);
/// So many short waits in a row make a direction brisk.
const BLOCKING_AFTER: u8 = 16;
/// The most calls that wait first before one tries again.
const MAX_BACKOFF: u8 = 32;

impl BlockPredictor {
    /// Whether the next call would block.
    pub(super) fn predicts_block(&mut self) -> bool {
        if self.skip_tries > 0 {
            self.skip_tries -= 1;
            return true;
        }
        self.emptied
    }

    /// A call that did not wait first would have blocked.
    pub(super) fn on_would_block(&mut self) {
        self.backoff = (self.backoff * 2).clamp(1, MAX_BACKOFF);
        self.skip_tries = self.backoff;
    }

    /// A call took something, all there was or not.
    pub(super) fn on_progress(&mut self, all: bool, waited: bool) {
        self.emptied = all;
        if !waited {
            self.backoff = 0;
        }
    }

    /// Whether what is waited for comes quickly.
    pub(super) fn prefers_blocking_recv(&self) -> bool {
        self.short_waits >= BLOCKING_AFTER
    }

    /// A wait took so long.
    pub(super) fn on_waited(&mut self, time: Duration) {
        self.short_waits = if time < SHORT_WAIT { self.short_waits.saturating_add(1) } else { 0 };
    }

    /// A brisk wait came to nothing.
    pub(super) fn on_blocking_timeout(&mut self) {
        self.short_waits = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_that_blocks_again_and_again_is_tried_more_and_more_rarely() {
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
        // One that never blocks is never waited for.
        let mut predictor = BlockPredictor::default();
        assert!((0..1000).all(|_| {
            let tried = !predictor.predicts_block();
            predictor.on_progress(false, false);
            tried
        }));
    }

    #[test]
    fn a_direction_is_brisk_after_many_short_waits_until_one_drags() {
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
