//! Endless streams: one way in large and small pieces, and both ways at once.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter, split};
use tokio::sync::Barrier;

use super::runtime::ClientRuntime;
use super::wire::AsyncWire;
use crate::api::{Slice, Task};
use crate::system;
use crate::workload::bulk::{self, CHUNK, CHUNKS_TO_WARM_UP};
use crate::workload::duplex::{self, Moved};
use crate::workload::ping_pong::BETWEEN_LOOKS;
use crate::workload::small::SMALL;

pub fn write<W: AsyncWire>(task: &Task, stage: ClientRuntime) -> io::Result<Slice> {
    let wire = stage.run(W::open(task.servers[0]))?;
    Ok(one_way(task, stage, Upwards { line: wire, piece: CHUNK }))
}

pub fn read<W: AsyncWire>(task: &Task, stage: ClientRuntime) -> io::Result<Slice> {
    let wire = stage.run(W::open(task.servers[0]))?;
    Ok(one_way(task, stage, Downwards { line: wire, buf: vec![0; CHUNK] }))
}

pub fn small<W: AsyncWire>(task: &Task, stage: ClientRuntime) -> io::Result<Slice> {
    let wire = stage.run(W::open(task.servers[0]))?;
    Ok(one_way(task, stage, Upwards { line: wire, piece: SMALL }))
}

pub fn small_buffered<W: AsyncWire>(task: &Task, stage: ClientRuntime) -> io::Result<Slice> {
    let wire = stage.run(W::open(task.servers[0]))?;
    Ok(one_way(task, stage, Upwards { line: BufWriter::new(wire), piece: SMALL }))
}

fn one_way<F: Flow>(task: &Task, stage: ClientRuntime, flow: F) -> Slice {
    let turn = task.workload.plan.in_mode(task.mode).turn;
    stage.turns(flow, move |mut flow| async move {
        for _ in 0..CHUNKS_TO_WARM_UP {
            flow.step().await?;
        }
        let begun = Instant::now();
        let spent_before = system::cpu_time()?;
        let moved = move_for(&mut flow, turn).await?;
        let passed = begun.elapsed();
        Ok((flow, bulk::figures(moved, system::cpu_time()? - spent_before, passed)))
    })
}

/// Reads in one task while another writes, each with its half.
pub fn duplex<W: AsyncWire>(task: &Task, stage: ClientRuntime) -> io::Result<Slice> {
    let wire = stage.run(W::open(task.servers[0]))?;
    let turn = task.workload.plan.in_mode(task.mode).turn;
    let (down, up) = split(wire);
    let down = Downwards { line: down, buf: vec![0; CHUNK] };
    let up = Upwards { line: up, piece: CHUNK };
    Ok(stage.turns((up, down), move |(mut up, mut down)| async move {
        let gate = Arc::new(Barrier::new(2));
        let reader = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move {
                let moved = run(&gate, turn, &mut down).await;
                (down, moved.expect("a read during a write"))
            }
        });
        let spent_before = system::cpu_time()?;
        let moved_up = run(&gate, turn, &mut up).await?;
        let (down, moved_down) = reader.await.expect("a panic ends this process at once");
        let spent = system::cpu_time()? - spent_before;
        Ok(((up, down), duplex::figures(&moved_up, &moved_down, spent)))
    }))
}

/// Moves pieces. Both directions wait for each other after the warm-up.
async fn run(gate: &Barrier, turn: Duration, flow: &mut impl Flow) -> io::Result<Moved> {
    let mut warming = 0;
    for _ in 0..CHUNKS_TO_WARM_UP {
        warming += flow.step().await?;
    }
    gate.wait().await;
    let begun = Instant::now();
    let moved = move_for(flow, turn).await?;
    Ok(Moved { in_all: warming + moved, counted: moved, within: begun.elapsed() })
}

async fn move_for(flow: &mut impl Flow, turn: Duration) -> io::Result<usize> {
    let begun = Instant::now();
    let mut moved = 0;
    while begun.elapsed() < turn {
        for _ in 0..BETWEEN_LOOKS {
            moved += flow.step().await?;
        }
    }
    Ok(moved)
}

/// A direction that moves a piece at a time.
trait Flow: Send + 'static {
    /// Moves a piece, and returns its number of bytes.
    fn step(&mut self) -> impl Future<Output = io::Result<usize>> + Send;
}

struct Upwards<L> {
    line: L,
    piece: usize,
}

impl<L: AsyncWrite + Unpin + Send + 'static> Flow for Upwards<L> {
    async fn step(&mut self) -> io::Result<usize> {
        self.line.write_all(&BYTES[..self.piece]).await?;
        Ok(self.piece)
    }
}

static BYTES: [u8; CHUNK] = [0x5a; CHUNK];

struct Downwards<L> {
    line: L,
    buf: Vec<u8>,
}

impl<L: AsyncRead + Unpin + Send + 'static> Flow for Downwards<L> {
    async fn step(&mut self) -> io::Result<usize> {
        match self.line.read(&mut self.buf).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            more => Ok(more),
        }
    }
}
