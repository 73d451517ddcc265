//! Ping-pong in a task, and its cost apart from time.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout_at};

use super::runtime::ClientRuntime;
use super::wire::AsyncWire;
use crate::api::{Slice, Task};
use crate::system;
use crate::workload::counts::{allocations_so_far, wake_up_figures};
use crate::workload::ping_pong::{BETWEEN_LOOKS, PING, WARM_UP};

/// Measures round trips per second.
pub fn for_a_while<W: AsyncWire>(
    task: &Task,
    stage: ClientRuntime,
    limit: Option<Duration>,
) -> io::Result<Slice> {
    let table = stage.run(OpenConnection::<W>::set(task.servers[0], limit))?;
    let turn = task.workload.plan.in_mode(task.mode).turn;
    Ok(stage.turns(table, move |mut table| async move {
        table.play(WARM_UP).await?;
        let begun = Instant::now();
        let mut played = 0;
        loop {
            table.play(BETWEEN_LOOKS).await?;
            played += BETWEEN_LOOKS;
            let passed = begun.elapsed();
            if passed >= turn {
                return Ok((table, vec![f64::from(played) / passed.as_secs_f64()]));
            }
        }
    }))
}

/// Makes round trips only, for strace. The figure is their number.
pub fn a_number<W: AsyncWire>(
    task: &Task,
    stage: ClientRuntime,
    limit: Option<Duration>,
) -> io::Result<Slice> {
    let table = stage.run(OpenConnection::<W>::set(task.servers[0], limit))?;
    let count = task.workload.plan.in_mode(task.mode).count;
    Ok(stage.turns(table, move |mut table| async move {
        table.play(count).await?;
        Ok((table, vec![f64::from(count)]))
    }))
}

/// Allocations and reallocations per write and per read, in steady state.
pub fn allocations<W: AsyncWire>(task: &Task, stage: ClientRuntime) -> io::Result<Slice> {
    let count = task.workload.plan.in_mode(task.mode).count;
    let table = stage.run(OpenConnection::<W>::set(task.servers[0], None))?;
    Ok(stage.turns(table, move |mut table| async move {
        table.play(count.div_ceil(10)).await?;
        let mut back = [0; PING.len()];
        let (mut in_writes, mut in_reads) = (0, 0);
        let mut before = allocations_so_far();
        for _ in 0..count {
            table.wire.write_all(&PING).await?;
            let between = allocations_so_far();
            table.wire.read_exact(&mut back).await?;
            let after = allocations_so_far();
            in_writes += between - before;
            in_reads += after - between;
            before = after;
        }
        let per = |allocations: usize| allocations as f64 / f64::from(count);
        Ok((table, vec![per(in_writes), per(in_reads)]))
    }))
}

/// Measures wake-ups of all threads per round trip, of all but the busiest thread per round trip, and of all threads
/// per second at rest.
pub fn wake_ups<W: AsyncWire>(task: &Task, stage: ClientRuntime) -> io::Result<Slice> {
    let plan = task.workload.plan.in_mode(task.mode);
    let table = stage.run(OpenConnection::<W>::set(task.servers[0], None))?;
    Ok(stage.turns(table, move |mut table| async move {
        table.play(plan.count.div_ceil(10)).await?;
        let before = system::wake_ups()?;
        table.play(plan.count).await?;
        let played = system::wake_ups()?;

        let begun = Instant::now();
        sleep(plan.turn).await;
        let rested = system::wake_ups()?;
        let figures = wake_up_figures([&before, &played, &rested], plan.count, begun.elapsed());
        Ok((table, figures))
    }))
}

/// A connection for ping-pong.
pub struct OpenConnection<W> {
    pub wire: W,
    /// The instant at which reads time out.
    deadline: Option<tokio::time::Instant>,
}

impl<W: AsyncWire> OpenConnection<W> {
    /// Connects, and checks that the server echoes.
    async fn set(address: SocketAddr, limit: Option<Duration>) -> io::Result<Self> {
        let mut table = Self::open(address).await?;
        table.deadline = limit.map(|limit| tokio::time::Instant::now() + limit);
        let mut back = [0; PING.len()];
        table.wire.write_all(&PING).await?;
        table.wire.read_exact(&mut back).await?;
        if back != PING {
            return Err(io::Error::other("the echo differs from what was sent"));
        }
        table.play(WARM_UP).await?;
        Ok(table)
    }

    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { wire: W::open(address).await?, deadline: None })
    }

    pub async fn play(&mut self, round_trips: u32) -> io::Result<()> {
        let mut back = [0; PING.len()];
        for _ in 0..round_trips {
            self.wire.write_all(&PING).await?;
            // In plaintext this does nothing. Over TLS it sends what the kernel did not accept at once.
            self.wire.flush().await?;
            let read = self.wire.read_exact(&mut back);
            match self.deadline {
                Some(deadline) => timeout_at(deadline, read).await??,
                None => read.await?,
            };
        }
        Ok(())
    }
}
