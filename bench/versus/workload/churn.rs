//! Connects and closes in a loop. The server accepts and closes; over TLS it closes after a handshake and the client's
//! close. The connections rotate through several addresses, so that ports in TIME_WAIT do not run out.

use std::io;
use std::time::Instant;

use crate::api::{BenchStream, Slice, Task};

pub fn start<W: BenchStream>(task: &Task) -> io::Result<Slice> {
    let servers = task.servers.clone();
    let count = task.workload.plan.in_mode(task.mode).count;
    Ok(Box::new(move || {
        for &server in &servers {
            W::connect_and_close(server)?;
        }
        let begun = Instant::now();
        for &server in servers.iter().cycle().take(count as usize) {
            W::connect_and_close(server)?;
        }
        Ok(vec![f64::from(count) / begun.elapsed().as_secs_f64()])
    }))
}
