//! Duplex: over one connection, one thread reads what comes without end while another writes, in calls of
//! 64 KiB. What both move counts together.

use std::io;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::Turn;
use super::bulk::{CHUNK, CHUNKS_TO_WARM_UP, GIB, MIB};
use crate::args::Task;
use crate::contender::Shared;
use crate::system;

pub fn start<W: Shared>(task: &Task) -> io::Result<Turn> {
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
                    result => result.expect("a read beside a write"),
                })
            });
            let spent_before = system::cpu_time()?;
            let up = run(&gate, turn, || {
                wire.write_all(&written).expect("a write beside a read");
                written.len()
            });
            let down = reader.join().expect("a panic ends this process at once");
            let spent = system::cpu_time()? - spent_before;
            Ok(figures(&up, &down, spent))
        })
    }))
}

/// The MiB that went in a second, both ways together, and the CPU time that a GiB costs, in milliseconds.
pub fn figures(up: &Moved, down: &Moved, spent: Duration) -> Vec<f64> {
    vec![
        up.per_second() / MIB + down.per_second() / MIB,
        spent.as_secs_f64() * 1e3 / ((up.in_all + down.in_all) as f64 / GIB),
    ]
}

/// Moves a chunk at a time with `step`, which tells how many bytes it moved, in step with the other
/// direction from the end of the warm-up. A `step` that fails panics, which ends the process: nobody waits
/// at the gate for it.
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

/// What went one way in a turn.
pub struct Moved {
    /// The warm-up included.
    pub in_all: usize,
    pub counted: usize,
    pub within: Duration,
}

impl Moved {
    fn per_second(&self) -> f64 {
        self.counted as f64 / self.within.as_secs_f64()
    }
}
