//! One thread is blocked in a read, and the server sends nothing. Another thread ends that read by closing the
//! connection or by a deadline in the past. The figure is the time from just before the call that ends the read until
//! the read returns.
//!
//! There are two cases: a reader that has been blocked from the start, and one that has just been in a fast dialogue.
//! An optimisation for fast replies must not delay the end of a read without one.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::ping_pong::OpenConnection;
use crate::api::{SharedStream, Slice, Task};
use crate::system::{self, ThreadId};

/// The exchange before the end.
#[derive(Clone, Copy)]
pub struct Before {
    pub round_trips: u32,
    /// A reader that has slept for this long is taken to be blocked.
    pub settled: Duration,
}

/// The reader makes its first read, and no data arrives.
pub const AT_REST: Before = Before { round_trips: 0, settled: Duration::from_millis(2) };

/// The reader has received many fast replies and waits for the next.
pub const IN_DIALOGUE: Before = Before { round_trips: 1_000, settled: Duration::from_micros(200) };

/// Ends the read by closing the connection.
pub fn by_close<W: SharedStream>(task: &Task, before: Before) -> io::Result<Slice> {
    start::<W>(task, before, |wire| wire.interrupt(), |_| true)
}

/// Ends the read by a deadline; the connection stays open.
pub fn by_deadline<W: SharedStream>(task: &Task, before: Before) -> io::Result<Slice> {
    let timed_out = |result: &io::Result<usize>| {
        let kind = result.as_ref().map_err(io::Error::kind);
        matches!(kind, Err(io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock))
    };
    start::<W>(task, before, |wire| wire.expire(), timed_out)
}

/// Returns the median and the worst latency in microseconds.
pub fn figures(mut latencies: Vec<Duration>) -> Vec<f64> {
    latencies.sort_unstable();
    let median = latencies[latencies.len() / 2];
    let worst = latencies[latencies.len() - 1];
    vec![median.as_secs_f64() * 1e6, worst.as_secs_f64() * 1e6]
}

/// Checks if a read ended as it should. A read that returns bytes is always wrong.
type Proper = fn(&io::Result<usize>) -> bool;

fn start<W: SharedStream>(
    task: &Task,
    before: Before,
    end: fn(&W) -> io::Result<()>,
    proper: Proper,
) -> io::Result<Slice> {
    let server = task.servers[0];
    let count = task.workload.plan.in_mode(task.mode).count;
    Ok(Box::new(move || {
        let latencies = (0..count).map(|_| one::<W>(server, before, end, proper));
        Ok(figures(latencies.collect::<io::Result<_>>()?))
    }))
}

fn one<W: SharedStream>(
    server: SocketAddr,
    before: Before,
    end: fn(&W) -> io::Result<()>,
    proper: Proper,
) -> io::Result<Duration> {
    let table = Arc::new(OpenConnection::over(W::open(server)?));
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn({
        let table = Arc::clone(&table);
        move || {
            table.play(before.round_trips).expect("a round trip before the end");
            sender.send(system::this_thread()).expect("the other thread waits for this");
            let result = table.wire.read(&mut [0; 64]);
            (Instant::now(), result)
        }
    });
    let thread = receiver.recv().expect("the reader sends its id before it reads");
    wait_until_blocked(thread, before.settled)?;

    let begun = Instant::now();
    end(&table.wire)?;
    let (ended, result) = reader.join().expect("a panic ends this process at once");
    match result {
        Ok(1..) => Err(io::Error::other("the read returned bytes that the server did not send")),
        Ok(0) | Err(_) if proper(&result) => Ok(ended - begun),
        Ok(_) => Err(io::Error::other("the read returned EOF")),
        Err(error) => Err(error),
    }
}

/// Waits until the thread has slept for a while without interruption. It sleeps only in its read.
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
