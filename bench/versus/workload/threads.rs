//! Many threads play ping-pong at the same time, each over its own connection. State that the library shares between
//! sockets would slow this down.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

use super::ping_pong::OpenConnection;
use crate::api::{BenchStream, Slice, Task};

pub fn start<W: BenchStream>(task: &Task) -> io::Result<Slice> {
    let plan = task.workload.plan.in_mode(task.mode);
    let players = plan.count as usize;
    let hall = Arc::new(ThreadPool {
        gate: Barrier::new(players + 1),
        over: AtomicBool::new(false),
        played: AtomicU64::new(0),
    });
    for _ in 0..players {
        let table = OpenConnection::over(W::open(task.servers[0])?);
        table.play(WARM_UP_OF_EACH)?;
        let hall = Arc::clone(&hall);
        // A panic in a player ends the process at once, so no thread waits for it at the gate.
        thread::spawn(move || {
            loop {
                hall.gate.wait();
                let mut played = 0;
                while !hall.over.load(Ordering::Relaxed) {
                    table.play(1).expect("a round trip of one player");
                    played += 1;
                }
                hall.played.fetch_add(played, Ordering::Relaxed);
                hall.gate.wait();
            }
        });
    }
    Ok(Box::new(move || {
        hall.over.store(false, Ordering::Relaxed);
        hall.played.store(0, Ordering::Relaxed);
        hall.gate.wait();
        let begun = Instant::now();
        thread::sleep(plan.turn);
        hall.over.store(true, Ordering::Relaxed);
        hall.gate.wait();
        let passed = begun.elapsed();
        let played = hall.played.load(Ordering::Relaxed);
        Ok(vec![played as f64 / passed.as_secs_f64()])
    }))
}

/// Round trips of each player before all of them play at once.
pub const WARM_UP_OF_EACH: u32 = 5;

/// The state that the players share.
struct ThreadPool {
    gate: Barrier,
    over: AtomicBool,
    played: AtomicU64,
}
