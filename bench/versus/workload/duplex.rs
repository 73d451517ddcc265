//! Duplex: over one connection, one thread reads an endless stream while another writes, in calls of 64 KiB. The
//! figures are for both directions together.

use std::io;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::bulk::{CHUNK, CHUNKS_TO_WARM_UP, GIB, MIB};
use crate::api::{SharedStream, Slice, Task};
use crate::system;

pub fn start<W: SharedStream>(task: &Task) -> io::Result<Slice> {
    let wire = W::open(task.servers[0])?;
    let turn = task.workload.plan.in_mode(task.mode).turn;
    let written = vec![0x5a; CHUNK];
    let mut read = vec![0; CHUNK];
    Ok(Box::new(move || {
        let gate = Barrier::new(2);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                run(&gate, turn, || match wire.read(&mut read) {
                    Ok(0) => panic!("the server ended"),
                    result => result.expect("a read during a write"),
                })
            });
            let spent_before = system::cpu_time()?;
            let up = run(&gate, turn, || {
                wire.write_all(&written).expect("a write during a read");
                written.len()
            });
            let down = reader.join().expect("a panic ends this process at once");
            let spent = system::cpu_time()? - spent_before;
            Ok(figures(&up, &down, spent))
        })
    }))
}

/// Returns the throughput of both directions in MiB per second, and the CPU time per GiB in milliseconds.
pub fn figures(up: &Moved, down: &Moved, spent: Duration) -> Vec<f64> {
    vec![
        up.per_second() / MIB + down.per_second() / MIB,
        spent.as_secs_f64() * 1e3 / ((up.in_all + down.in_all) as f64 / GIB),
    ]
}

/// Moves a chunk at a time with `step`, which returns the number of bytes that it moved. Both directions wait for each
/// other after the warm-up. If `step` fails, it panics and ends the process, so the other thread does not wait
/// forever.
fn run(gate: &Barrier, turn: Duration, mut step: impl FnMut() -> usize) -> Moved {
    let mut warming = 0;
    for _ in 0..CHUNKS_TO_WARM_UP {
        warming += step();
    }
    gate.wait();
    let begun = Instant::now();
    let mut moved = 0;
    while begun.elapsed() < turn {
        for _ in 0..16 {
            moved += step();
        }
    }
    Moved { in_all: warming + moved, counted: moved, within: begun.elapsed() }
}

/// The bytes that one direction moved in a turn.
pub struct Moved {
    /// Includes the warm-up.
    pub in_all: usize,
    pub counted: usize,
    pub within: Duration,
}

impl Moved {
    fn per_second(&self) -> f64 {
        self.counted as f64 / self.within.as_secs_f64()
    }
}
