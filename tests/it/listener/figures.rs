//! Figures that only a quiet machine shows. They are measured by
//! `cargo test --release --test it -- --ignored --test-threads=1 --nocapture listener::figures`.

use std::time::Duration;

use super::{closing, secured, waiting};
use crate::support::subprocess::in_subprocess;
use crate::support::with_limit;

const LONG: Duration = Duration::from_secs(1800);

/// Half of the threads that wait learn of a close within 100 us.
#[test]
#[ignore = "needs a quiet machine"]
fn close_ends_64_blocked_accepts_within_100_microseconds() {
    with_limit(LONG, || {
        let mut medians: Vec<_> = (0..50).map(|_| waiting::delays_of_a_close(64)[32]).collect();
        medians.sort();
        println!("the median of 64 accepts: {:?} to {:?}", medians[0], medians[49]);
        println!("the median of 50 such medians: {:?}", medians[25]);
        assert!(medians[25] <= Duration::from_micros(100), "{medians:?}");
    });
}

/// Of 1,000 clients beside as many that stall in their ClientHello, 99 % open within 10 ms.
#[test]
#[ignore = "needs a quiet machine"]
fn a_good_client_opens_within_10_ms_beside_stalled_ones() {
    with_limit(LONG, || {
        for (way, times) in
            ["Connected", "Opened"].iter().zip(secured::times_beside_stalled_clients(1_000))
        {
            println!("{way}: opened within {:?} (p99), {:?} (median)", times[989], times[500]);
            assert!(times[989] <= Duration::from_millis(10), "{way}: {:?}", times[989]);
        }
    });
}

/// A close among 10,000 connects a second, 100 times: no client is accepted and dropped.
#[test]
#[ignore = "needs a quiet machine"]
fn a_close_under_10_000_connects_a_second_loses_no_client() {
    with_limit(LONG, || {
        let rate = closing::flood(100, 2_000);
        assert!(rate >= 10_000.0, "only {rate:.0} connects a second");
    });
}

/// Descriptors, threads and memory stay as they are after the first 20,000.
#[test]
#[ignore = "takes minutes"]
fn a_million_accepts_and_closes_do_not_drift() {
    const NAME: &str = "listener::figures::a_million_accepts_and_closes_do_not_drift";
    in_subprocess(NAME, LONG, || closing::drift(20_000, 1_000_000, 8 << 20));
}

/// At most 1 % of a processor and 20 accepts a second. Accepting again within 50 ms after a close.
#[test]
#[ignore = "part of every run under its own name"]
fn ten_seconds_without_descriptors() {
    const NAME: &str = "listener::figures::ten_seconds_without_descriptors";
    in_subprocess(NAME, LONG, super::starved::run_out_of_descriptors);
}
