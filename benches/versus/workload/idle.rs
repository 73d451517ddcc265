//! Many open connections on which nothing happens: how much more memory is resident for each, when the
//! last is open and a while later.

use std::io;
use std::thread;

use super::Turn;
use crate::args::Task;
use crate::contender::Wire;
use crate::system;

/// Opened before the first look: what a process needs once is not counted.
const FIRST: usize = 16;

/// Files beside the connections: streams, wake handles and the like.
const SPARE_FILES: u64 = 100;

pub fn start<W: Wire>(task: &Task) -> io::Result<Turn> {
    let server = task.servers[0];
    let plan = task.workload.plan.in_mode(task.mode);
    let most = system::most_files();
    if most < u64::from(plan.count) + SPARE_FILES {
        let text = format!("{} sockets are more than the {most} files allowed", plan.count);
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    let mut held = Vec::<W>::with_capacity(FIRST + plan.count as usize);
    for _ in 0..FIRST {
        held.push(W::open(server)?);
    }
    Ok(Box::new(move || {
        let before = system::resident_bytes()?;
        for _ in 0..plan.count {
            held.push(W::open(server)?);
        }
        let at_once = system::resident_bytes()?;
        thread::sleep(plan.turn);
        let later = system::resident_bytes()?;
        let per_socket = |after: u64| (after as f64 - before as f64) / f64::from(plan.count);
        Ok(vec![per_socket(at_once), per_socket(later)])
    }))
}
