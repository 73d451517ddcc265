//! Limits how many TLS records without application data a peer may send in a row.
//!
//! TLS lets a server send records that carry no data: session tickets, key updates, padding, alerts. Each costs work
//! on this side, and none of them ends a call. rustls bounds most kinds (32 key updates or empty records in a row, 4
//! warnings), but neither tickets nor a mixture. So the guard counts everything that is received until data arrives.
//!
//! Real servers stay far below the bound. They send one to four tickets after the handshake, and a key update once in
//! many gigabytes. A handshake takes ten to twenty records and less than 20 KiB; rustls accepts at most about 200 KiB.
//! A legitimate connection may be idle for years, with an occasional ticket or key update. So if the count takes more
//! than [`WINDOW`] to rise from half the bound to the bound, it starts again.

use std::time::{Duration, Instant};

/// The maximum number of records and tickets without data.
const MAX_RECORDS: u32 = 1024;
/// The maximum number of bytes without data, including headers and padding.
const MAX_BYTES: u32 = 1024 * 1024;
/// The time within which half the bound counts as a flood.
const WINDOW: Duration = Duration::from_secs(60 * 60);

/// The size of a record header, in bytes.
const HEADER: u8 = 5;

/// The count of records and bytes since the last data.
#[derive(Debug, Default)]
pub(super) struct FloodGuard {
    records: u32,
    bytes: u32,
    /// The time at which the count passed half the bound.
    half_at: Option<Instant>,
    cursor: Cursor,
    /// The number of tickets of the connection so far.
    tickets: u32,
}

/// The position of the next received byte in its record.
#[derive(Debug, Default)]
struct Cursor {
    /// The number of header bytes received; [`HEADER`] while the body is being received.
    header: u8,
    /// The number of body bytes to come, as far as the header is known.
    body: u16,
}

impl FloodGuard {
    /// Counts received bytes and the records that begin in them.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        self.records = self.records.saturating_add(self.cursor.advance(bytes));
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.bytes = self.bytes.saturating_add(count);
    }

    /// Counts each new ticket like a record, because hundreds fit in one record and each costs work. `total` is the
    /// number of tickets since the connection began.
    pub(super) fn tickets(&mut self, total: u32) {
        self.records = self.records.saturating_add(total.saturating_sub(self.tickets));
        self.tickets = total;
    }

    /// Resets the count, because data arrived or the handshake ended.
    pub(super) fn reset(&mut self) {
        self.records = 0;
        self.bytes = 0;
        self.half_at = None;
    }

    /// Returns whether the caller has to check [`is_flood`](Self::is_flood).
    pub(super) fn is_suspicious(&self) -> bool {
        self.records > MAX_RECORDS / 2 || self.bytes > MAX_BYTES / 2
    }

    /// Returns whether the count exceeds the bound. The caller checks this with every receive while the count is
    /// suspicious.
    pub(super) fn is_flood(&mut self, now: Instant) -> bool {
        let half_at = *self.half_at.get_or_insert(now);
        if now.saturating_duration_since(half_at) >= WINDOW {
            self.reset();
            return false;
        }
        self.records > MAX_RECORDS || self.bytes > MAX_BYTES
    }
}

impl Cursor {
    /// Advances over received bytes, and returns the number of records that begin in them.
    fn advance(&mut self, mut bytes: &[u8]) -> u32 {
        let mut records = 0;
        loop {
            while self.header < HEADER {
                let [byte, rest @ ..] = bytes else { return records };
                match self.header {
                    0 => records += 1,
                    3 => self.body = u16::from(*byte) << 8,
                    4 => self.body |= u16::from(*byte),
                    _ => {}
                }
                self.header += 1;
                bytes = rest;
            }
            let body = bytes.len().min(usize::from(self.body));
            bytes = &bytes[body..];
            // `body` is at most `self.body`, so the conversion can't fail.
            self.body -= u16::try_from(body).unwrap_or(self.body);
            if self.body > 0 {
                return records;
            }
            self.header = 0;
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests need a start time")]
mod tests {
    use super::*;

    /// Creates a record with a body of this length.
    fn record(body: u16) -> Vec<u8> {
        let [high, low] = body.to_be_bytes();
        let mut record = vec![23, 3, 3, high, low];
        record.resize(5 + usize::from(body), 23);
        record
    }

    fn records(count: usize, body: u16) -> Vec<u8> {
        record(body).repeat(count)
    }

    #[test]
    fn records_are_counted_wherever_receives_split_them() {
        let bodies = [0, 1, 17, 255, 256, 1000, 16_401, 0, 0, 3];
        let stream: Vec<u8> = bodies.into_iter().flat_map(record).collect();
        for step in [1, 2, 3, 4, 5, 6, 7, 22, 1000, 4096, stream.len()] {
            let mut guard = FloodGuard::default();
            for part in stream.chunks(step) {
                guard.received(part);
            }
            assert_eq!(guard.records, 10, "in steps of {step}");
            assert_eq!(guard.bytes as usize, stream.len());
        }
    }

    #[test]
    fn more_records_than_the_bound_are_a_flood() {
        let now = Instant::now();
        let mut guard = FloodGuard::default();
        guard.received(&records(512, 17));
        assert!(!guard.is_suspicious());
        guard.received(&records(512, 17));
        assert!(guard.is_suspicious() && !guard.is_flood(now));
        guard.received(&record(17));
        assert!(guard.is_flood(now));
    }

    #[test]
    fn each_ticket_counts_like_a_record() {
        let now = Instant::now();
        let mut guard = FloodGuard::default();
        guard.tickets(1024);
        assert!(!guard.is_flood(now));
        guard.tickets(1024);
        assert!(!guard.is_flood(now), "a ticket is counted once");
        guard.tickets(1025);
        assert!(guard.is_flood(now));
        guard.reset();
        guard.tickets(1030);
        assert!(!guard.is_suspicious());
    }

    #[test]
    fn more_bytes_than_the_bound_are_a_flood() {
        let now = Instant::now();
        let mut guard = FloodGuard::default();
        while guard.bytes + 16_389 <= MAX_BYTES {
            guard.received(&record(16_384));
            assert!(!guard.is_suspicious() || !guard.is_flood(now));
        }
        guard.received(&record(16_384));
        assert!(guard.is_flood(now));
    }

    #[test]
    fn data_resets_the_count() {
        let now = Instant::now();
        let mut guard = FloodGuard::default();
        for _ in 0..100 {
            guard.received(&records(1000, 17));
            assert!(guard.is_suspicious() && !guard.is_flood(now));
            guard.reset();
            assert!(!guard.is_suspicious());
        }
    }

    #[test]
    fn one_record_per_hour_for_ten_years_is_not_a_flood() {
        let mut now = Instant::now();
        let mut guard = FloodGuard::default();
        for _ in 0..10 * 365 * 24 {
            now += Duration::from_secs(3600);
            guard.received(&record(300));
            assert!(!guard.is_suspicious() || !guard.is_flood(now));
        }
    }

    #[test]
    fn a_slow_flood_is_detected_if_it_takes_less_than_an_hour() {
        for (pause, flood) in [(Duration::from_secs(6), true), (Duration::from_secs(8), false)] {
            let mut now = Instant::now();
            let mut guard = FloodGuard::default();
            let mut ended = false;
            for _ in 0..10_000 {
                now += pause;
                guard.received(&record(17));
                ended |= guard.is_suspicious() && guard.is_flood(now);
            }
            assert_eq!(ended, flood, "{pause:?}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_does_not_panic() {
        let now = Instant::now() + Duration::from_secs(10);
        let mut guard = FloodGuard::default();
        guard.received(&records(600, 17));
        assert!(!guard.is_flood(now));
        assert!(!guard.is_flood(now - Duration::from_secs(5)));
    }
}
