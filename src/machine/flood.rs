//! What a peer may have a TLS connection process without sending data: bounded in records and in bytes.
//!
//! TLS lets a server send records that carry no data: session tickets, new keys, padding, alerts. Each costs
//! this side work, and none of them ends a call. rustls bounds most sorts (32 key updates or empty records in a
//! row, 4 warnings), but not tickets, nor a mixture. So everything that is received counts here, until data comes.
//!
//! The bound is far from what servers do. They send one to four tickets when a connection begins, and a key update
//! once in many gigabytes. A handshake takes ten to twenty records and less than 20 KiB, and some 200 KiB at the
//! very most that rustls takes. A connection may be idle for years, with a ticket or a key update now and then, and
//! has done nothing wrong. Therefore a count that has taken more than [`WINDOW`] to get from half the bound to the
//! bound begins again.

use std::time::{Duration, Instant};

/// The most records without data, and tickets.
const MAX_RECORDS: u32 = 1024;
/// The most bytes without data, headers and padding included.
const MAX_BYTES: u32 = 1024 * 1024;
/// The time in which half the bound is a flood.
const WINDOW: Duration = Duration::from_secs(60 * 60);

/// How many bytes the header of a record has.
const HEADER: u8 = 5;

/// Counts what was received since the last data.
#[derive(Debug, Default)]
pub(super) struct FloodGuard {
    records: u32,
    bytes: u32,
    /// When half the bound was passed.
    half_at: Option<Instant>,
    cursor: Cursor,
    /// All tickets of the connection.
    tickets: u32,
}

/// Where the next received byte stands in its record.
#[derive(Debug, Default)]
struct Cursor {
    /// How much of the header has come, or all of it while the body comes.
    header: u8,
    /// What of the body is to come, as far as the header has told.
    body: u16,
}

impl FloodGuard {
    /// Counts what was received.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        self.records = self.records.saturating_add(self.cursor.advance(bytes));
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.bytes = self.bytes.saturating_add(count);
    }

    /// Counts tickets as records of their own: hundreds fit in one, and each of them takes work. There were this
    /// many since the connection began.
    pub(super) fn tickets(&mut self, total: u32) {
        self.records = self.records.saturating_add(total.saturating_sub(self.tickets));
        self.tickets = total;
    }

    /// Data came, or the handshake ended: what was received before is no flood.
    pub(super) fn reset(&mut self) {
        self.records = 0;
        self.bytes = 0;
        self.half_at = None;
    }

    /// Whether [`is_flood`](Self::is_flood) has to be asked.
    pub(super) fn is_suspicious(&self) -> bool {
        self.records > MAX_RECORDS / 2 || self.bytes > MAX_BYTES / 2
    }

    /// Whether it is more than any peer has to send. Asked with every receive while it is suspicious.
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
    /// Goes over what was received, and returns how many records begin in it.
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
            // It is no more than what was left of it.
            self.body -= u16::try_from(body).unwrap_or(self.body);
            if self.body > 0 {
                return records;
            }
            self.header = 0;
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a life has to begin at some instant")]
mod tests {
    use super::*;

    /// A record with a body of this length.
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
    fn records_are_counted_however_they_are_cut() {
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
    fn tickets_count_like_records_however_many_are_in_one() {
        let now = Instant::now();
        let mut guard = FloodGuard::default();
        guard.tickets(1024);
        assert!(!guard.is_flood(now));
        guard.tickets(1024);
        assert!(!guard.is_flood(now), "they have been counted");
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
    fn data_begins_the_count_again() {
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
    fn a_record_an_hour_for_ten_years_is_no_flood() {
        let mut now = Instant::now();
        let mut guard = FloodGuard::default();
        for _ in 0..10 * 365 * 24 {
            now += Duration::from_secs(3600);
            guard.received(&record(300));
            assert!(!guard.is_suspicious() || !guard.is_flood(now));
        }
    }

    #[test]
    fn a_slow_flood_is_one_where_it_takes_less_than_an_hour() {
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
    fn a_clock_that_goes_back_is_no_panic() {
        let now = Instant::now() + Duration::from_secs(10);
        let mut guard = FloodGuard::default();
        guard.received(&records(600, 17));
        assert!(!guard.is_flood(now));
        assert!(!guard.is_flood(now - Duration::from_secs(5)));
    }
}
