//! The cost of a ping-pong apart from time: allocations and wake-ups of all threads.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::ping_pong::{OpenConnection, PING};
use crate::allocator::ALLOCATOR;
use crate::api::{BenchStream, Slice, Task};
use crate::system::{self, ThreadId};

/// Allocations and reallocations per write and per read, in steady state.
pub fn allocations<W: BenchStream>(task: &Task) -> io::Result<Slice> {
    let table = OpenConnection::<W>::set(task, None)?;
    let count = task.workload.plan.in_mode(task.mode).count;
    table.play(count.div_ceil(10))?;
    Ok(Box::new(move || {
        let mut back = [0; PING.len()];
        let (mut in_writes, mut in_reads) = (0, 0);
        let mut before = allocations_so_far();
        for _ in 0..count {
            table.wire.write_all(&PING)?;
            let between = allocations_so_far();
            table.wire.read_exact(&mut back)?;
            let after = allocations_so_far();
            in_writes += between - before;
            in_reads += after - between;
            before = after;
        }
        let per = |allocations: usize| allocations as f64 / f64::from(count);
        Ok(vec![per(in_writes), per(in_reads)])
    }))
}

/// Returns the number of allocations of all threads of this process.
pub fn allocations_so_far() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

/// Measures wake-ups of all threads per round trip, of all but the busiest thread per round trip, and of all threads
/// per second at rest.
pub fn wake_ups<W: BenchStream>(task: &Task) -> io::Result<Slice> {
    let table = OpenConnection::<W>::set(task, None)?;
    let plan = task.workload.plan.in_mode(task.mode);
    Ok(Box::new(move || {
        table.play(plan.count.div_ceil(10))?;
        let before = system::wake_ups()?;
        table.play(plan.count)?;
        let played = system::wake_ups()?;

        let begun = Instant::now();
        thread::sleep(plan.turn);
        let rested = system::wake_ups()?;
        Ok(wake_up_figures([&before, &played, &rested], plan.count, begun.elapsed()))
    }))
}

/// The number of wake-ups of each thread so far.
pub type WakeUps = BTreeMap<ThreadId, u64>;

/// Computes the figures from the counts before the round trips, after them, and after a rest.
pub fn wake_up_figures(
    [before, played, rested]: [&WakeUps; 3],
    round_trips: u32,
    resting: Duration,
) -> Vec<f64> {
    let in_play = Increase::between(before, played);
    let at_rest = Increase::between(played, rested);
    let per_round_trip = |count: u64| count as f64 / f64::from(round_trips);
    // The end of the rest wakes the thread that sleeps through it.
    let of_rest = at_rest.in_all.saturating_sub(1) as f64;
    vec![
        per_round_trip(in_play.in_all),
        per_round_trip(in_play.in_all - in_play.of_the_busiest),
        of_rest / resting.as_secs_f64(),
    ]
}

/// Wake-ups between two counts.
struct Increase {
    in_all: u64,
    of_the_busiest: u64,
}

impl Increase {
    fn between(before: &WakeUps, after: &WakeUps) -> Self {
        let more = after.iter();
        let more = more.map(|(thread, count)| count - before.get(thread).copied().unwrap_or(0));
        let more: Vec<u64> = more.collect();
        let of_the_busiest = more.iter().copied().max().unwrap_or(0);
        Self { in_all: more.iter().sum(), of_the_busiest }
    }
}
