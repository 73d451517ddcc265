//! Connections that end: repeated connects and closes, and a read that another task ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::time::sleep;

use super::play::OpenConnection;
use super::runtime::ClientRuntime;
use super::wire::AsyncWire;
use crate::api::{Slice, Task};
use crate::workload::ended::{self, Before};

/// Connects and closes.
pub fn churn<W: AsyncWire>(task: &Task, stage: ClientRuntime) -> io::Result<Slice> {
    let servers = Arc::new(task.servers.clone());
    let count = task.workload.plan.in_mode(task.mode).count;
    Ok(stage.turns((), move |()| {
        let servers = Arc::clone(&servers);
        async move {
            for &server in servers.iter() {
                W::connect_and_close(server).await?;
            }
            let begun = Instant::now();
            for &server in servers.iter().cycle().take(count as usize) {
                W::connect_and_close(server).await?;
            }
            Ok(((), vec![f64::from(count) / begun.elapsed().as_secs_f64()]))
        }
    }))
}

/// Ends a read and closes its connection by aborting the reading task. The latency is the time until the task that
/// awaits it resumes.
pub fn by_abort<W: AsyncWire>(
    task: &Task,
    stage: ClientRuntime,
    before: Before,
) -> io::Result<Slice> {
    let server = task.servers[0];
    let count = task.workload.plan.in_mode(task.mode).count;
    Ok(stage.turns((), move |()| async move {
        let mut latencies = Vec::new();
        for _ in 0..count {
            latencies.push(one::<W>(server, before).await?);
        }
        Ok(((), ended::figures(latencies)))
    }))
}

async fn one<W: AsyncWire>(server: SocketAddr, before: Before) -> io::Result<Duration> {
    let mut table = OpenConnection::<W>::open(server).await?;
    let reader = tokio::spawn(async move {
        table.play(before.round_trips).await.expect("a round trip before the end");
        table.wire.read(&mut [0; 64]).await
    });
    // A task cannot report that it waits. The readers of the others are blocked after this time, and this task has
    // finished its round trips by then.
    sleep(before.settled * 2 + ROUND_TRIP * before.round_trips).await;
    let begun = Instant::now();
    reader.abort();
    match reader.await {
        Err(end) if end.is_cancelled() => Ok(begun.elapsed()),
        Err(_) => panic!("a panic ends this process at once"),
        Ok(Ok(_)) => Err(io::Error::other("the read ended by itself")),
        Ok(Err(error)) => Err(error),
    }
}

/// The most that a round trip over loopback takes, as a mean of a thousand.
const ROUND_TRIP: Duration = Duration::from_micros(60);
