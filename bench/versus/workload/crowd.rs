//! A few connections talk while more and more silent ones are open. The first figure is the cost of a round trip at 10
//! connections in total, over all threads of the client's process. The others are the growth of this cost with more
//! connections.

use std::io;
use std::time::{Duration, Instant};

use super::idle;
use super::ping_pong::{BETWEEN_LOOKS, OpenConnection};
use crate::api::{BenchStream, Slice, Task};
use crate::system;

/// The number of connections that talk, one after another.
pub const TALKERS: usize = 10;

/// The total numbers of connections, step by step. The last step is the plan's count.
pub const SIZES: [usize; 3] = [TALKERS, 100, 1_000];

/// The cost at each size is the median of this many measurements.
pub const SLICES: u32 = 9;

pub fn start<W: BenchStream>(task: &Task) -> io::Result<Slice> {
    let plan = task.workload.plan.in_mode(task.mode);
    idle::enough_files(plan.count)?;
    let servers = task.servers.clone();
    Ok(Box::new(move || {
        let talkers: Vec<OpenConnection<W>> = (0..TALKERS)
            .map(|_| Ok(OpenConnection::over(W::open(servers[0])?)))
            .collect::<io::Result<_>>()?;
        let mut silent = Vec::<W>::with_capacity(plan.count as usize);
        let mut others = servers[1..].iter().cycle();
        let mut costs = Vec::new();
        let mut opening = Duration::ZERO;
        let last = plan.count as usize;
        for size in SIZES.into_iter().chain([last]) {
            let begun = Instant::now();
            while TALKERS + silent.len() < size.min(last) {
                silent.push(W::open(*others.next().expect("they go round"))?);
            }
            opening = begun.elapsed();
            costs.push(cost(&talkers, plan.turn)?);
        }
        Ok(figures(&costs, opening, plan.count))
    }))
}

/// Computes the figures from the cost of a round trip at every size, and from the time to open the sockets of the last
/// step.
pub fn figures(costs: &[f64], opening: Duration, count: u32) -> Vec<f64> {
    let first = costs[0];
    let mut figures = vec![first * 1e6];
    figures.extend(costs[1..].iter().map(|cost| cost / first));
    let opened = f64::from(count) - SIZES[SIZES.len() - 1] as f64;
    // A smoke test opens none.
    figures.push(if opened > 0.0 { opening.as_secs_f64() * 1e6 / opened } else { 0.0 });
    figures
}

/// Returns the CPU time of a round trip in seconds.
fn cost<W: BenchStream>(talkers: &[OpenConnection<W>], within: Duration) -> io::Result<f64> {
    for table in talkers {
        table.play(BETWEEN_LOOKS)?;
    }
    let mut costs = Vec::new();
    for _ in 0..SLICES {
        let begun = Instant::now();
        let spent_before = system::cpu_time()?;
        let mut played = 0;
        while begun.elapsed() < within / SLICES {
            for table in talkers {
                table.play(1)?;
                played += 1;
            }
        }
        let spent = system::cpu_time()? - spent_before;
        costs.push(spent.as_secs_f64() / f64::from(played));
    }
    Ok(median(costs))
}

pub fn median(mut costs: Vec<f64>) -> f64 {
    costs.sort_unstable_by(f64::total_cmp);
    costs[costs.len() / 2]
}
