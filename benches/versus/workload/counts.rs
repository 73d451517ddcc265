//! What a ping-pong costs beside time: allocations of any thread, and wake-ups of threads other than the
//! one that plays.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::Instant;

use super::Turn;
use super::ping_pong::{PING, Table};
use crate::args::Task;
use crate::contender::Wire;
use crate::system::{self, ThreadId};

/// Allocations and reallocations per write and per read, in steady state.
pub fn allocations<W: Wire>(task: &Task) -> io::Result<Turn> {
    let table = Table::<W>::set(task, None)?;
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

fn allocations_so_far() -> usize {
    let stats = crate::ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

/// Wake-ups of the other threads per round trip and per second, then per second while nobody plays.
pub fn wake_ups<W: Wire>(task: &Task) -> io::Result<Turn> {
    let table = Table::<W>::set(task, None)?;
    let plan = task.workload.plan.in_mode(task.mode);
    Ok(Box::new(move || {
        table.play(plan.count.div_ceil(10))?;
        let begun = Instant::now();
        let before = system::wake_ups_of_others()?;
        table.play(plan.count)?;
        let played = system::wake_ups_of_others()?;
        let playing = begun.elapsed().as_secs_f64();

        let begun = Instant::now();
        thread::sleep(plan.turn);
        let rested = system::wake_ups_of_others()?;
        let resting = begun.elapsed().as_secs_f64();

        let in_play = increase(&before, &played);
        Ok(vec![
            in_play / f64::from(plan.count),
            in_play / playing,
            increase(&played, &rested) / resting,
        ])
    }))
}

fn increase(before: &BTreeMap<ThreadId, u64>, after: &BTreeMap<ThreadId, u64>) -> f64 {
    let more = after.iter().map(|(thread, count)| count - before.get(thread).copied().unwrap_or(0));
    more.sum::<u64>() as f64
}
