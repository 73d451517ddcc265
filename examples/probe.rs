//! A probe of many targets from one thread: connects to each, waits for its first bytes, and tells how long that took.
//!
//! ```text
//! cargo run --example probe                                  500 targets of its own, and ends
//! cargo run --example probe -- HOST:PORT...                  these targets
//! cargo run --example probe -- - <FILE                       one target in each line of the input
//! ```
//!
//! At most 100 sockets are open at once, and all of it ends within 3 seconds. A `Poller` waits for all of them. A line on
//! the standard error shows the progress.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Events, Interest, Poller, Socket, SocketOptions, connect_with};

/// The maximum number of sockets that are open at once.
const MAX_OPEN: usize = 100;
/// The limit for one target, from its connect to its first bytes.
const LIMIT: Duration = Duration::from_millis(500);
/// The limit for all of them.
const TOTAL: Duration = Duration::from_secs(3);
/// The interval of the progress line.
const PROGRESS: Duration = Duration::from_millis(100);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => demonstrate(),
        [only] if only == "-" => {
            let lines = io::stdin().lock().lines().collect::<io::Result<Vec<_>>>()?;
            let targets: Vec<_> = lines.iter().map(|line| line.trim()).collect();
            let targets = targets.into_iter().filter(|line| !line.is_empty());
            show(&probe(&targets.map(str::to_owned).collect::<Vec<_>>())?);
            Ok(())
        }
        targets => {
            show(&probe(targets)?);
            Ok(())
        }
    }
}

/// A target that is being probed.
struct Running {
    socket: Socket,
    begun: Instant,
}

/// What became of a target.
struct Outcome {
    target: String,
    reason: String,
    took: Duration,
}

/// Probes the targets in order, at most [`MAX_OPEN`] at once. The results are in the order in which they came.
fn probe(targets: &[String]) -> sockeye::Result<Vec<Outcome>> {
    let begun = Instant::now();
    let poller = Poller::new()?;
    let mut events = Events::with_capacity(MAX_OPEN);
    let mut running: BTreeMap<u64, Running> = BTreeMap::new();
    let mut outcomes = Vec::with_capacity(targets.len());
    let mut waiting = (0..).zip(targets);
    let mut progress = Progress::new(targets.len());
    let target = |key: u64| targets[usize::try_from(key).expect("the keys are indices")].clone();
    loop {
        while running.len() < MAX_OPEN {
            let Some((key, target)) = waiting.next() else { break };
            match start(target, begun + TOTAL) {
                Ok(socket) => {
                    // A socket is returned at once. The event says that it is open, or has failed to.
                    poller.add(&socket, key, Interest::OPENED)?;
                    running.insert(key, Running { socket, begun: Instant::now() });
                }
                Err(error) => {
                    let reason = reason(&error);
                    let took = Duration::ZERO;
                    outcomes.push(Outcome { target: target.clone(), reason, took });
                }
            }
        }
        progress.show(outcomes.len(), running.len());
        // All have the same limit, so the first one to start is the first one to end.
        let Some(next) = running.values().map(|it| it.begun + LIMIT).min() else { break };
        poller.wait_until(&mut events, next.min(Instant::now() + PROGRESS))?;
        let mut ended = Vec::new();
        for event in events.iter() {
            let Some(Running { socket, .. }) = running.get(&event.key) else { continue };
            match look(socket, event.opened) {
                Some(reason) => ended.push((event.key, reason)),
                None => poller.modify(event.key, Interest::READABLE)?,
            }
        }
        let now = Instant::now();
        let is_late = |it: &&u64| now >= running[it].begun + LIMIT;
        ended.extend(running.keys().filter(is_late).map(|key| (*key, "silent".to_owned())));
        for (key, reason) in ended {
            // One that answered at the last moment is in the list twice.
            let Some(Running { socket, begun }) = running.remove(&key) else { continue };
            // Its key goes with its last handle.
            socket.abort();
            outcomes.push(Outcome { target: target(key), reason, took: begun.elapsed() });
        }
    }
    progress.end(begun.elapsed());
    Ok(outcomes)
}

fn start(target: &str, deadline: Instant) -> sockeye::Result<Socket> {
    connect_with(target, SocketOptions::new().connect_timeout(LIMIT).connect_deadline(deadline))
}

/// Returns what became of a target for which there was an event, or `None` if it is to be waited for.
fn look(socket: &Socket, has_opened: bool) -> Option<String> {
    if has_opened {
        // It does not wait: the result is there.
        return socket.opened_timeout(Duration::ZERO).err().map(|error| reason(&error));
    }
    match socket.try_read(&mut [0; 1024]) {
        Ok(0) => Some("ended without a word".to_owned()),
        Ok(_) => Some("answered".to_owned()),
        // No other thread reads, so this does not happen.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => Some(reason(&error.into())),
    }
}

fn reason(error: &sockeye::Error) -> String {
    match error.kind() {
        ErrorKind::Connect => "not reachable".to_owned(),
        ErrorKind::Resolve => "unknown name".to_owned(),
        ErrorKind::TimedOut => "timed out".to_owned(),
        ErrorKind::Reset => "reset".to_owned(),
        _ => error.to_string(),
    }
}

/// A line that is written again and again, if a person reads it.
struct Progress {
    total: usize,
    is_shown: bool,
}

impl Progress {
    fn new(total: usize) -> Self {
        Progress { total, is_shown: io::stderr().is_terminal() }
    }

    fn show(&mut self, ended: usize, open: usize) {
        if self.is_shown {
            eprint!("\r{ended} of {} ended, {open} open ", self.total);
            let _ = io::stderr().flush();
        }
    }

    fn end(&self, took: Duration) {
        let start = if self.is_shown { "\r" } else { "" };
        eprintln!("{start}{} targets in {:.2} s               ", self.total, took.as_secs_f64());
    }
}

/// Prints a row for each reason: how many targets there were, and how long they took.
fn show(outcomes: &[Outcome]) {
    let mut rows: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes {
        rows.entry(&outcome.reason).or_default().push(outcome);
    }
    println!("{:<22} {:>7} {:>12} {:>12}  such as", "reason", "targets", "median", "longest");
    for (reason, mut row) in rows {
        row.sort_by_key(|outcome| outcome.took);
        let millis = |outcome: &Outcome| format!("{:.1} ms", outcome.took.as_secs_f64() * 1e3);
        let (median, longest) = (row[row.len() / 2], row[row.len() - 1]);
        println!(
            "{reason:<22} {:>7} {:>12} {:>12}  {}",
            row.len(),
            millis(median),
            millis(longest),
            row[0].target
        );
    }
}

/// Probes 500 targets of its own: some answer, some refuse, some reset, and some say nothing.
fn demonstrate() -> Result<(), Box<dyn Error>> {
    let answering = serve(|mut stream| {
        let _ = stream.write_all(b"220 ready\r\n");
        Some(stream)
    })?;
    let silent = serve(Some)?;
    let ending = serve(|_| None)?;
    let refusing = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let kinds = [answering, silent, ending, refusing, answering].map(|it| it.to_string());
    let targets: Vec<String> = (0..500).map(|number| kinds[number % 5].clone()).collect();
    let begun = Instant::now();
    let outcomes = probe(&targets)?;
    let took = begun.elapsed();
    show(&outcomes);
    let count = |reason: &str| outcomes.iter().filter(|outcome| outcome.reason == reason).count();
    let counts = ["answered", "silent", "ended without a word", "not reachable"].map(count);
    if counts != [200, 100, 100, 100] {
        return Err(format!("unexpected results: {counts:?}").into());
    }
    if took > TOTAL {
        return Err(format!("it took {took:?}").into());
    }
    Ok(())
}

/// Accepts clients in a thread. A stream that `greet` returns stays open.
fn serve(
    greet: impl Fn(std::net::TcpStream) -> Option<std::net::TcpStream> + Send + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming().flatten() {
            open.extend(greet(stream));
        }
    });
    Ok(address)
}
