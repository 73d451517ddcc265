//! Ping-pong: 64 bytes in each direction, in a loop.

use std::io;
use std::time::{Duration, Instant};

use crate::api::{BenchStream, Slice, Task};

/// Measures round trips per second.
pub fn for_a_while<W: BenchStream>(task: &Task, limit: Option<Duration>) -> io::Result<Slice> {
    let table = OpenConnection::<W>::set(task, limit)?;
    let turn = task.workload.plan.in_mode(task.mode).turn;
    Ok(Box::new(move || {
        table.play(WARM_UP)?;
        let begun = Instant::now();
        let mut played = 0;
        loop {
            table.play(BETWEEN_LOOKS)?;
            played += BETWEEN_LOOKS;
            let passed = begun.elapsed();
            if passed >= turn {
                return Ok(vec![f64::from(played) / passed.as_secs_f64()]);
            }
        }
    }))
}

/// Makes round trips only, for strace. The figure is their number.
pub fn a_number<W: BenchStream>(task: &Task, limit: Option<Duration>) -> io::Result<Slice> {
    let table = OpenConnection::<W>::set(task, limit)?;
    let count = task.workload.plan.in_mode(task.mode).count;
    Ok(Box::new(move || {
        table.play(count)?;
        Ok(vec![f64::from(count)])
    }))
}

/// A connection for ping-pong.
pub struct OpenConnection<W> {
    pub wire: W,
}

impl<W: BenchStream> OpenConnection<W> {
    /// Connects, and checks that the server echoes.
    pub fn set(task: &Task, limit: Option<Duration>) -> io::Result<Self> {
        let wire = W::open(task.servers[0])?;
        if let Some(limit) = limit {
            wire.limit_reads(limit)?;
        }
        let mut back = [0; PING.len()];
        wire.write_all(&PING)?;
        wire.read_exact(&mut back)?;
        if back != PING {
            return Err(io::Error::other("the echo differs from what was sent"));
        }
        let table = Self::over(wire);
        table.play(WARM_UP)?;
        Ok(table)
    }

    /// Wraps an established connection without checking it.
    pub fn over(wire: W) -> Self {
        Self { wire }
    }

    pub fn play(&self, round_trips: u32) -> io::Result<()> {
        let mut back = [0; PING.len()];
        for _ in 0..round_trips {
            self.wire.write_all(&PING)?;
            self.wire.read_exact(&mut back)?;
        }
        Ok(())
    }
}

pub const PING: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = at as u8;
        at += 1;
    }
    bytes
};

/// Round trips that refill the caches after the other contenders' turns.
pub const WARM_UP: u32 = 100;

/// The number of round trips between two readings of the clock.
pub const BETWEEN_LOOKS: u32 = 16;

/// A limit that no read reaches.
pub const LIMIT: Duration = Duration::from_secs(600);
