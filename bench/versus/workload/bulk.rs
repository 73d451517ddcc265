//! Bulk: as many bytes as fit into a turn, in calls of 64 KiB, in one direction. The figure is the CPU time per byte
//! of the client's process with all its threads.

use std::io;
use std::time::{Duration, Instant};

use super::ping_pong::BETWEEN_LOOKS;
use crate::api::{BenchStream, Slice, Task};
use crate::system;

pub const CHUNK: usize = 64 * 1024;
pub const CHUNKS_TO_WARM_UP: u32 = 256;
pub const GIB: f64 = (1024 * 1024 * 1024) as f64;
pub const MIB: f64 = (1024 * 1024) as f64;

pub fn write<W: BenchStream>(task: &Task) -> io::Result<Slice> {
    let buf = vec![0x5a; CHUNK];
    stream(task, W::open(task.servers[0])?, move |wire| {
        wire.write_all(&buf)?;
        Ok(buf.len())
    })
}

pub fn read<W: BenchStream>(task: &Task) -> io::Result<Slice> {
    let mut buf = vec![0; CHUNK];
    stream(task, W::open(task.servers[0])?, move |wire| match wire.read(&mut buf)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        more => Ok(more),
    })
}

/// Moves a chunk at a time over `line` with `step`, which returns the number of bytes that it moved.
pub fn stream<L: 'static>(
    task: &Task,
    mut line: L,
    mut step: impl FnMut(&mut L) -> io::Result<usize> + 'static,
) -> io::Result<Slice> {
    let turn = task.workload.plan.in_mode(task.mode).turn;
    Ok(Box::new(move || {
        for _ in 0..CHUNKS_TO_WARM_UP {
            step(&mut line)?;
        }
        let begun = Instant::now();
        let spent_before = system::cpu_time()?;
        let mut moved = 0;
        while begun.elapsed() < turn {
            for _ in 0..BETWEEN_LOOKS {
                moved += step(&mut line)?;
            }
        }
        let passed = begun.elapsed();
        Ok(figures(moved, system::cpu_time()? - spent_before, passed))
    }))
}

/// Returns the CPU time per GiB in milliseconds, and the throughput in MiB per second.
pub fn figures(moved: usize, spent: Duration, passed: Duration) -> Vec<f64> {
    let moved = moved as f64;
    vec![spent.as_secs_f64() * 1e3 / (moved / GIB), moved / MIB / passed.as_secs_f64()]
}
