//! Connect and close, over and over: the server accepts and closes, over TLS after a handshake and once the
//! client has. The connections go around several
//! addresses, so that local ports which still remember an earlier one do not run out.

use std::io;
use std::time::Instant;

use super::Turn;
use crate::args::Task;
use crate::contender::Wire;

pub fn start<W: Wire>(task: &Task) -> io::Result<Turn> {
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
