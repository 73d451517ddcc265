//! Busy polling: a read that finds nothing retries for a while before it waits.
//!
//! Spinning helps only if the data comes while it lasts. So after some unsuccessful spins in a row the socket stands down:
//! it waits as others do, until data comes within the limit. On a machine with fewer processors than spinning threads
//! that is so for every wait, because the peer runs only then. So each further stand-down lasts twice as long.

use std::time::Duration;

/// The state of busy polling of one socket. The default is off.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BusyPoll {
    /// The time that one spin may take, in microseconds. 0 turns it off.
    limit: u16,
    /// Number of unsuccessful spins in a row.
    failed: u8,
    /// Whether a spin has received a record, which may have no data.
    is_undecided: bool,
    /// Number of short waits until the next try, while standing down.
    waits_left: u16,
    /// The number of short waits of the last stand-down.
    backoff: u16,
}

/// The number of unsuccessful spins in a row after which a socket stands down.
const MAX_FAILED: u8 = 8;
/// The maximum number of short waits of a stand-down.
const MAX_BACKOFF: u16 = 4096;

impl BusyPoll {
    /// `limit` is at most 10 ms.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        let limit = limit.map_or(0, |limit| limit.as_micros());
        BusyPoll { limit: u16::try_from(limit).unwrap_or(u16::MAX), ..BusyPoll::default() }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// Returns the time that the next spin may take. `None` if the socket waits without spinning.
    pub(crate) fn spin_limit(&self) -> Option<Duration> {
        (self.is_on() && self.failed < MAX_FAILED).then(|| self.limit())
    }

    fn limit(&self) -> Duration {
        Duration::from_micros(self.limit.into())
    }

    /// Records the end of a spin.
    pub(crate) fn on_spin(&mut self, found: bool) {
        if found {
            (self.failed, self.backoff) = (0, 0);
            return;
        }
        self.failed = (self.failed + 1).min(MAX_FAILED);
        if self.failed == MAX_FAILED {
            self.backoff = (self.backoff * 2).clamp(1, MAX_BACKOFF);
            self.waits_left = self.backoff;
        }
    }

    /// Records a spin that received a record. It was successful if the record has data.
    pub(crate) fn on_record(&mut self) {
        self.is_undecided = true;
    }

    /// Records that a record was decrypted.
    pub(crate) fn on_decrypted(&mut self, has_data: bool) {
        if std::mem::take(&mut self.is_undecided) {
            self.on_spin(has_data);
        }
    }

    /// Records a wait that brought data. If that was within the limit, spins again after enough such waits.
    pub(crate) fn on_waited(&mut self, wait: Duration) {
        if !self.is_on() || self.failed < MAX_FAILED {
            return;
        }
        if wait > self.limit() {
            self.waits_left = self.backoff;
            return;
        }
        self.waits_left = self.waits_left.saturating_sub(1);
        if self.waits_left == 0 {
            // One more failure, and it stands down again.
            self.failed = MAX_FAILED - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(50);
    const LONG: Duration = Duration::from_micros(51);

    #[test]
    fn a_socket_stands_down_after_eight_failures_until_data_comes_in_time() {
        let mut busy_poll = BusyPoll::new(Some(LIMIT));
        for _ in 0..100 {
            (1..MAX_FAILED).for_each(|_| busy_poll.on_spin(false));
            assert_eq!(busy_poll.spin_limit(), Some(LIMIT));
            busy_poll.on_spin(true);
        }
        (0..MAX_FAILED).for_each(|_| busy_poll.on_spin(false));
        assert_eq!(busy_poll.spin_limit(), None);
        busy_poll.on_waited(LONG);
        assert_eq!(busy_poll.spin_limit(), None);
        busy_poll.on_waited(LIMIT);
        assert_eq!(busy_poll.spin_limit(), Some(LIMIT));
        busy_poll.on_spin(true);
        (1..MAX_FAILED).for_each(|_| busy_poll.on_spin(false));
        assert_eq!(busy_poll.spin_limit(), Some(LIMIT));
    }

    /// As with one processor: every spin fails, and every wait is short.
    #[test]
    fn spins_that_always_fail_become_rare() {
        let mut busy_poll = BusyPoll::new(Some(LIMIT));
        let mut spins = 0;
        for _ in 0..100_000 {
            if busy_poll.spin_limit().is_some() {
                spins += 1;
                busy_poll.on_spin(false);
            }
            busy_poll.on_waited(Duration::from_micros(20));
        }
        assert!(spins < 60, "{spins}");
    }

    /// A peer must not keep a processor busy with records that have no data.
    #[test]
    fn a_spin_that_finds_no_data_is_unsuccessful() {
        let mut busy_poll = BusyPoll::new(Some(LIMIT));
        busy_poll.on_decrypted(false);
        for _ in 0..MAX_FAILED {
            assert_eq!(busy_poll.spin_limit(), Some(LIMIT));
            busy_poll.on_record();
            busy_poll.on_decrypted(false);
            busy_poll.on_decrypted(true);
        }
        assert_eq!(busy_poll.spin_limit(), None);
        let mut busy_poll = BusyPoll::new(Some(LIMIT));
        (1..MAX_FAILED).for_each(|_| busy_poll.on_spin(false));
        busy_poll.on_record();
        busy_poll.on_decrypted(true);
        (1..MAX_FAILED).for_each(|_| busy_poll.on_spin(false));
        assert_eq!(busy_poll.spin_limit(), Some(LIMIT));
    }

    #[test]
    fn without_a_limit_it_is_off() {
        let mut off = BusyPoll::new(None);
        off.on_waited(Duration::ZERO);
        assert!(!off.is_on() && off.spin_limit().is_none());
    }
}
