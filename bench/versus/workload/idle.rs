//! Many open but idle connections. The figures are the additional resident memory per connection, when the last is
//! open and 1 s later. In a variant each connection has exchanged a few bytes before.

use std::io;
use std::net::SocketAddr;
use std::thread;

use super::ping_pong::OpenConnection;
use crate::api::{BenchStream, Slice, Task};
use crate::system;

/// The number of sockets opened before the first measurement, so that one-time costs are not included.
pub const FIRST: usize = 16;

/// Files besides the connections, such as standard streams and wake handles.
const SPARE_FILES: u64 = 100;

/// Opens the connections and nothing more.
pub fn from_the_first<W: BenchStream>(task: &Task) -> io::Result<Slice> {
    start(task, |server| W::open(server))
}

/// Exchanges 64 bytes in each direction first, so that lazily allocated memory is included.
pub fn after_an_exchange<W: BenchStream>(task: &Task) -> io::Result<Slice> {
    start(task, |server| {
        let table = OpenConnection::over(W::open(server)?);
        table.play(1)?;
        Ok(table.wire)
    })
}

fn start<W: BenchStream>(
    task: &Task,
    open: impl Fn(SocketAddr) -> io::Result<W> + 'static,
) -> io::Result<Slice> {
    let plan = task.workload.plan.in_mode(task.mode);
    enough_files(plan.count)?;
    let mut held = Vec::<W>::with_capacity(FIRST + plan.count as usize);
    let mut servers = task.servers.clone().into_iter().cycle();
    for server in servers.by_ref().take(FIRST) {
        held.push(open(server)?);
    }
    Ok(Box::new(move || {
        let before = system::resident_bytes()?;
        for server in servers.by_ref().take(plan.count as usize) {
            held.push(open(server)?);
        }
        let at_once = system::resident_bytes()?;
        thread::sleep(plan.turn);
        let later = system::resident_bytes()?;
        Ok(figures([before, at_once, later], plan.count))
    }))
}

/// Returns the bytes per socket, at once and later, from the resident memory before, at once and later.
pub fn figures([before, at_once, later]: [u64; 3], count: u32) -> Vec<f64> {
    let per_socket = |after: u64| (after as f64 - before as f64) / f64::from(count);
    vec![per_socket(at_once), per_socket(later)]
}

/// Checks if this process may open this number of sockets.
pub fn enough_files(sockets: u32) -> io::Result<()> {
    let most = system::most_files();
    if most < u64::from(sockets) + SPARE_FILES {
        let text = format!("{sockets} sockets are more than the {most} files allowed");
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(())
}
