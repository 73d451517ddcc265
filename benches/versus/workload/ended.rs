//! One thread is blocked in a read for which nothing comes; another ends that read, by closing the
//! connection or by a deadline that is over. How long until the read returns, from just before the call
//! that ends it?
//!
//! Twice: with a reader that has been blocked from the first, and with one that was in the midst of a
//! dialogue until just now. What a contender has learned of a connection that answers quickly must not
//! make it deaf when the answer stays away.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::Turn;
use super::ping_pong::Table;
use crate::args::Task;
use crate::contender::Shared;
use crate::system::{self, ThreadId};

/// What goes before the end.
#[derive(Clone, Copy)]
pub struct Before {
    pub round_trips: u32,
    /// A reader that has slept for so long is blocked.
    pub settled: Duration,
}

/// The reader reads once, and nothing comes.
pub const AT_REST: Before = Before { round_trips: 0, settled: Duration::from_millis(2) };

/// The reader has had many quick answers, and waits for the next.
pub const IN_DIALOGUE: Before = Before { round_trips: 1_000, settled: Duration::from_micros(200) };

/// The connection is closed.
pub fn by_close<W: Shared>(task: &Task, before: Before) -> io::Result<Turn> {
    start::<W>(task, before, |wire| wire.interrupt(), |_| true)
}

/// The read's time is over; the connection lives on.
pub fn by_deadline<W: Shared>(task: &Task, before: Before) -> io::Result<Turn> {
    let timed_out = |result: &io::Result<usize>| {
        let kind = result.as_ref().map_err(io::Error::kind);
        matches!(kind, Err(io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock))
    };
    start::<W>(task, before, |wire| wire.expire(), timed_out)
}

/// Of several: the median, and the worst, in microseconds.
pub fn figures(mut latencies: Vec<Duration>) -> Vec<f64> {
    latencies.sort_unstable();
    let median = latencies[latencies.len() / 2];
    let worst = latencies[latencies.len() - 1];
    vec![median.as_secs_f64() * 1e6, worst.as_secs_f64() * 1e6]
}

/// How a read may end, beside what is wrong with every one: to get bytes that nobody sent.
type Proper = fn(&io::Result<usize>) -> bool;

fn start<W: Shared>(
    task: &Task,
    before: Before,
    end: fn(&W) -> io::Result<()>,
    proper: Proper,
) -> io::Result<Turn> {
    let server = task.servers[0];
    let count = task.workload.plan.in_mode(task.mode).count;
    Ok(Box::new(move || {
        let latencies = (0..count).map(|_| one::<W>(server, before, end, proper));
        Ok(figures(latencies.collect::<io::Result<_>>()?))
    }))
}

fn one<W: Shared>(
    server: SocketAddr,
    before: Before,
    end: fn(&W) -> io::Result<()>,
    proper: Proper,
) -> io::Result<Duration> {
    let table = Arc::new(Table::over(W::open(server)?));
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn({
        let table = Arc::clone(&table);
        move || {
            table.play(before.round_trips).expect("a round trip before the end");
            sender.send(system::this_thread()).expect("who ends it waits for this");
            let result = table.wire.read(&mut [0; 64]);
            (Instant::now(), result)
        }
    });
    let thread = receiver.recv().expect("the reader says so before it reads");
    wait_until_blocked(thread, before.settled)?;

    let begun = Instant::now();
    end(&table.wire)?;
    let (ended, result) = reader.join().expect("a panic ends this process at once");
    match result {
        Ok(1..) => Err(io::Error::other("the read got bytes that nobody sent")),
        Ok(0) | Err(_) if proper(&result) => Ok(ended - begun),
        Ok(_) => Err(io::Error::other("the read ended as at the peer's end")),
        Err(error) => Err(error),
    }
}

/// Waits until the thread sleeps and has not stirred for a while: it has nothing else to sleep for than
/// its read.
fn wait_until_blocked(thread: ThreadId, settled: Duration) -> io::Result<()> {
    let until = Instant::now() + Duration::from_secs(5);
    let mut before = system::is_asleep(thread)?;
    while Instant::now() < until {
        thread::sleep(settled);
        let now = system::is_asleep(thread)?;
        if now == before && matches!(now, (true, _)) {
            return Ok(());
        }
        before = now;
    }
    Err(io::Error::other("the reader does not block"))
}
