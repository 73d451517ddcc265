//! Many connections: one ping-pong task each, idle ones, or a few that talk among silent ones.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::play::OpenConnection;
use super::runtime::ClientRuntime;
use super::wire::AsyncWire;
use crate::api::{Slice, Task};
use crate::system;
use crate::workload::crowd::{self, SIZES, SLICES, TALKERS};
use crate::workload::idle::{self, FIRST};
use crate::workload::ping_pong::BETWEEN_LOOKS;
use crate::workload::threads::WARM_UP_OF_EACH;

/// Tasks in place of threads.
pub fn threads<W: AsyncWire>(task: &Task, stage: ClientRuntime) -> io::Result<Slice> {
    let plan = task.workload.plan.in_mode(task.mode);
    let server = task.servers[0];
    let tables = stage.run(async move {
        let mut tables = Vec::new();
        for _ in 0..plan.count {
            let mut table = OpenConnection::<W>::open(server).await?;
            table.play(WARM_UP_OF_EACH).await?;
            tables.push(table);
        }
        Ok(tables)
    })?;
    Ok(stage.turns(tables, move |tables| async move {
        let over = Arc::new(AtomicBool::new(false));
        let begun = Instant::now();
        let players = tables.into_iter().map(|mut table| {
            let over = Arc::clone(&over);
            tokio::spawn(async move {
                let mut played = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    table.play(1).await.expect("a round trip of one player");
                    played += 1;
                }
                (table, played)
            })
        });
        let players: Vec<_> = players.collect();
        sleep(plan.turn).await;
        over.store(true, Ordering::Relaxed);
        let mut tables = Vec::new();
        let mut in_all = 0;
        for player in players {
            let (table, played) = player.await.expect("a panic ends this process at once");
            tables.push(table);
            in_all += played;
        }
        Ok((tables, vec![in_all as f64 / begun.elapsed().as_secs_f64()]))
    }))
}

/// Connections that have made this many round trips and are idle now.
pub fn idle<W: AsyncWire>(
    task: &Task,
    stage: ClientRuntime,
    round_trips: u32,
) -> io::Result<Slice> {
    let plan = task.workload.plan.in_mode(task.mode);
    idle::enough_files(plan.count)?;
    let mut servers = task.servers.clone().into_iter().cycle();
    let first: Vec<SocketAddr> = servers.by_ref().take(FIRST).collect();
    let others: Vec<SocketAddr> = servers.take(plan.count as usize).collect();
    let mut held = Vec::with_capacity(FIRST + plan.count as usize);
    let held = stage.run(async move {
        open_all::<W>(&mut held, &first, round_trips).await?;
        Ok(held)
    })?;
    let others = Arc::new(others);
    Ok(stage.turns(held, move |mut held| {
        let others = Arc::clone(&others);
        async move {
            let before = system::resident_bytes()?;
            open_all::<W>(&mut held, &others, round_trips).await?;
            let at_once = system::resident_bytes()?;
            sleep(plan.turn).await;
            let later = system::resident_bytes()?;
            Ok((held, idle::figures([before, at_once, later], plan.count)))
        }
    }))
}

async fn open_all<W: AsyncWire>(
    held: &mut Vec<W>,
    servers: &[SocketAddr],
    round_trips: u32,
) -> io::Result<()> {
    for &server in servers {
        let mut table = OpenConnection::open(server).await?;
        table.play(round_trips).await?;
        held.push(table.wire);
    }
    Ok(())
}

/// Measures a few connections that talk among more and more silent ones.
pub fn crowd<W: AsyncWire>(task: &Task, stage: ClientRuntime) -> io::Result<Slice> {
    let plan = task.workload.plan.in_mode(task.mode);
    idle::enough_files(plan.count)?;
    let servers = Arc::new(task.servers.clone());
    Ok(stage.turns((), move |()| {
        let servers = Arc::clone(&servers);
        async move {
            let mut talkers = Vec::new();
            for _ in 0..TALKERS {
                talkers.push(OpenConnection::<W>::open(servers[0]).await?);
            }
            let last = plan.count as usize;
            let mut silent = Vec::<W>::with_capacity(last);
            let mut others = servers[1..].iter().cycle();
            let mut costs = Vec::new();
            let mut opening = Duration::ZERO;
            for size in SIZES.into_iter().chain([last]) {
                let begun = Instant::now();
                while TALKERS + silent.len() < size.min(last) {
                    let server = *others.next().expect("they go round");
                    silent.push(W::open(server).await?);
                }
                opening = begun.elapsed();
                costs.push(cost(&mut talkers, plan.turn).await?);
            }
            Ok(((), crowd::figures(&costs, opening, plan.count)))
        }
    }))
}

/// Returns the CPU time of a round trip in seconds.
async fn cost<W: AsyncWire>(
    talkers: &mut [OpenConnection<W>],
    within: Duration,
) -> io::Result<f64> {
    for table in &mut *talkers {
        table.play(BETWEEN_LOOKS).await?;
    }
    let mut costs = Vec::new();
    for _ in 0..SLICES {
        let begun = Instant::now();
        let spent_before = system::cpu_time()?;
        let mut played = 0;
        while begun.elapsed() < within / SLICES {
            for table in &mut *talkers {
                table.play(1).await?;
                played += 1;
            }
        }
        let spent = system::cpu_time()? - spent_before;
        costs.push(spent.as_secs_f64() / f64::from(played));
    }
    Ok(crowd::median(costs))
}
