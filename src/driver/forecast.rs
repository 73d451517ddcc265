//! What the next call in one direction will probably meet, by what the last ones did.

use std::time::Duration;

/// Two guesses, of which a wrong one costs a system call and no more.
///
/// Whether the call would block: then a useless one is saved by waiting first. And whether what it waits
/// for comes quickly, as in a dialogue: then on Linux the receive itself does the waiting, one system call
/// in place of two. That wait ends by itself after some milliseconds, but no other thread can
/// end it sooner, so it is for a direction that has proved to be brisk.
#[derive(Debug, Default)]
pub(super) struct Forecast {
    /// The last call took all there was.
    dry: bool,
    /// So many calls wait first before one tries again.
    waits: u8,
    /// How many that were the last time: twice as many every time that the try was in vain.
    streak: u8,
    /// So many waits in a row were short.
    short: u8,
}

/// A wait that is this short is over before a brisk one would give up.
const SHORT: Duration = Duration::from_millis(2);
/// So many short waits in a row make a direction brisk.
const BRISK: u8 = 16;
/// The most calls that wait first before one tries again.
const STREAK_MOST: u8 = 32;

impl Forecast {
    /// Whether the next call would block.
    pub(super) fn waits(&mut self) -> bool {
        if self.waits > 0 {
            self.waits -= 1;
            return true;
        }
        self.dry
    }

    /// A call that did not wait first would have blocked.
    pub(super) fn missed(&mut self) {
        self.streak = (self.streak * 2).clamp(1, STREAK_MOST);
        self.waits = self.streak;
    }

    /// A call took something, all there was or not.
    pub(super) fn took(&mut self, all: bool, waited: bool) {
        self.dry = all;
        if !waited {
            self.streak = 0;
        }
    }

    /// Whether what is waited for comes quickly.
    pub(super) fn is_brisk(&self) -> bool {
        self.short >= BRISK
    }

    /// A wait took so long.
    pub(super) fn waited(&mut self, time: Duration) {
        self.short = if time < SHORT { self.short.saturating_add(1) } else { 0 };
    }

    /// A brisk wait came to nothing.
    pub(super) fn dragged(&mut self) {
        self.short = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_that_blocks_again_and_again_is_tried_more_and_more_rarely() {
        let mut forecast = Forecast::default();
        let mut tries = 0;
        for _ in 0..1000 {
            if !forecast.waits() {
                tries += 1;
                forecast.missed();
            }
            forecast.took(false, true);
        }
        assert!((30..50).contains(&tries), "{tries}");
        // One that never blocks is never waited for.
        let mut forecast = Forecast::default();
        assert!((0..1000).all(|_| {
            let tried = !forecast.waits();
            forecast.took(false, false);
            tried
        }));
    }

    #[test]
    fn a_direction_is_brisk_after_many_short_waits_until_one_drags() {
        let mut forecast = Forecast::default();
        for _ in 0..BRISK {
            assert!(!forecast.is_brisk());
            forecast.waited(SHORT / 2);
        }
        assert!(forecast.is_brisk());
        forecast.dragged();
        assert!(!forecast.is_brisk());
        (1..BRISK).for_each(|_| forecast.waited(SHORT / 2));
        forecast.waited(SHORT);
        forecast.waited(SHORT / 2);
        assert!(!forecast.is_brisk());
    }
}
