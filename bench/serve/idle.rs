//! What a poller with 10,000 idle sockets costs: memory for each key, and wake-ups.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use sockeye::{Events, Interest, Poller, Socket};

use crate::Failure;

/// The number of sockets. Both ends of each connection are in the poller. One descriptor short of many systems' limit.
const SOCKETS: usize = 9_900;
/// The time during which nothing happens.
const QUIET: Duration = Duration::from_secs(10);

/// Measures in a process of its own, so that nothing else takes memory.
pub fn report() -> Result<(), Failure> {
    let mut child =
        Command::new(std::env::current_exe()?).arg("idle-part").stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or("the output is piped")?;
    for line in BufReader::new(output).lines() {
        println!("{}", line?);
    }
    if child.wait()?.success() { Ok(()) } else { Err("the idle process failed".into()) }
}

pub fn measure() -> Result<(), Failure> {
    crate::raise_descriptor_limit()?;
    let listener = sockeye::listen("127.0.0.1:0")?;
    let address = listener.local_address().ok_or("it has an address")?;
    let mut sockets: Vec<Socket> = Vec::new();
    while sockets.len() < SOCKETS {
        sockets.push(sockeye::connect(address)?);
        sockets.push(listener.accept()?);
    }
    for socket in &sockets {
        socket.opened()?;
    }
    let poller = Poller::new()?;
    let mut events = Events::with_capacity(16);
    // The event loop registers the idle sockets.
    poller.wait(&mut events, Duration::from_secs(1))?;
    let before = own_memory()?;
    for (socket, key) in sockets.iter().zip(0..) {
        poller.add(socket, key, Interest::READABLE)?;
    }
    let took = own_memory()? - before;
    println!(
        "idle: {:.1} bytes for each of {} keys; aim 96",
        took as f64 / poller.len() as f64,
        poller.len()
    );
    thread::scope(|scope| {
        let waiting = scope.spawn(|| poller.wait(&mut Events::with_capacity(16), None));
        thread::sleep(Duration::from_secs(1));
        let before = wake_ups()?;
        thread::sleep(QUIET);
        // This thread was woken once.
        let count = wake_ups()? - before - 1;
        println!("idle: {count} wake-ups of all threads in {QUIET:?}; aim 0");
        poller.wake();
        waiting.join().map_err(|_| "the thread that waits panicked")??;
        Ok(())
    })
}

fn own_memory() -> Result<u64, Failure> {
    Ok(1024 * number_of("/proc/self/status", "RssAnon:")?)
}

/// Returns how often the threads of this process have slept.
fn wake_ups() -> Result<u64, Failure> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let status = task?.path().join("status");
        sum += number_of(&status.to_string_lossy(), "voluntary_ctxt_switches:")?;
    }
    Ok(sum)
}

fn number_of(file: &str, field: &str) -> Result<u64, Failure> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).ok_or("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
