//! The client process: it plays the situations that the runner orders, and measures its own memory and CPU time.
//!
//! No server runs in this process, so its memory and CPU time are the client's alone.

use std::fmt::Display;
use std::io::{BufRead, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use sockeye::{
    Connector, Error, ErrorKind, Phase, SecureTransport, Socket, SocketOptions, TlsOptions,
    connect_with,
};

use crate::behaviour::Situation;
use crate::pattern;
use crate::report::{Order, Report};

/// The limit of every situation.
pub const LIMIT: Duration = Duration::from_secs(1);
/// The limit of a handshake that is expected to succeed.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// The pause between two writes, unless the server floods.
const PAUSE: Duration = Duration::from_millis(2);
/// The time for which the client waits for the end of a socket that may stay open.
const SHORT: Duration = Duration::from_millis(50);
/// The time after a situation for which the CPU time is measured.
const AFTERWARDS: Duration = Duration::from_millis(60);

/// Plays the orders of standard input, one per line. First come the trusted root in PEM and an empty line.
pub fn main() {
    let mut lines = std::io::stdin().lock().lines().map(|line| line.expect("it is text"));
    let pem: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let pem = pem.join("\n");
    for line in lines {
        let order = Order::parse(&line);
        let report = play(&order, &pem);
        say(report);
    }
}

fn say(line: impl Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the runner listens");
}

fn play(order: &Order, pem: &str) -> Report {
    let memory = Memory::now();
    let cpu = cpu();
    let options = options(order, pem);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, order.port));
    let mut begun = Instant::now();
    let mut socket = connect_with(address, options).expect("the address and the options are fine");
    let mut report = Report::default();
    if order.situation == Situation::Upgrading {
        match socket.opened().and_then(|_| socket.start_tls()) {
            Ok(secured) => socket = secured,
            Err(error) => {
                report.why = error.to_string();
                report.outcome = outcome(Err(error));
                report.took = begun.elapsed();
                report.settled = settled(&socket, LIMIT);
                socket.abort();
                return report;
            }
        }
    }
    if order.opens {
        if let Err(error) = socket.opened() {
            report.outcome = outcome(Err(error));
            report.why = String::from("the handshake must succeed");
            return report;
        }
        begun = Instant::now();
    }
    say("ready");
    match order.situation {
        Situation::Idle => idle(&socket, &mut report),
        Situation::Reading => read(&socket, begun, &mut report),
        Situation::Writing => write(&socket, begun, order.floods, &mut report),
        Situation::Opening | Situation::Upgrading => open(&socket, order.opens, &mut report),
    }
    report.took = begun.elapsed();
    report.cpu = self::cpu() - cpu;
    let (before, watched) = (self::cpu(), Instant::now());
    let stays_open = [String::from("Open"), format!("Fails({:?})", ErrorKind::TimedOut)];
    let limit = if stays_open.contains(&report.outcome) { SHORT } else { LIMIT };
    report.settled = settled(&socket, limit);
    thread::sleep(AFTERWARDS.saturating_sub(watched.elapsed()));
    report.afterwards = self::cpu() - before;
    report.grown = memory.grown();
    socket.abort();
    drop(socket);
    report.left = Connector::global().open_sockets();
    report
}

fn options(order: &Order, pem: &str) -> SocketOptions {
    let tls = TlsOptions::new()
        .only_added_roots()
        .add_root_pem(pem)
        .expect("it is PEM")
        .server_name("localhost")
        .require_close_notify(!order.lenient);
    let mode = match order.situation {
        Situation::Upgrading => SecureTransport::StartTls,
        Situation::Idle | Situation::Reading | Situation::Writing | Situation::Opening => {
            SecureTransport::On
        }
    };
    SocketOptions::new().secure_transport(mode).tls(tls).connect_timeout(if order.opens {
        HANDSHAKE_LIMIT
    } else {
        LIMIT
    })
}

// -------------------------------------------------------------------- the situations

fn idle(socket: &Socket, report: &mut Report) {
    // If the handshake is not done, its own limit must end it.
    let limit = if socket.phase() == Phase::Open { LIMIT } else { LIMIT + LIMIT / 2 };
    let result = socket.closed_timeout(limit);
    note(&result, report);
    report.outcome = match result {
        Err(error) if is_of_the_call(socket, &error) => String::from("Open"),
        result => outcome(result),
    };
}

fn read(socket: &Socket, begun: Instant, report: &mut Report) {
    socket.set_read_deadline(Some(begun + LIMIT));
    let mut buf = vec![0; 16 * 1024];
    let mut socket = socket;
    report.outcome = loop {
        match socket.read(&mut buf) {
            Ok(0) => break String::from("Clean"),
            Ok(len) => {
                let begin = report.bytes;
                let expected = (begin..).map(pattern::at);
                if buf[..len].iter().copied().zip(expected).any(|(one, other)| one != other) {
                    break String::from("Invented");
                }
                report.bytes += len as u64;
            }
            Err(error) => {
                report.why = error.to_string();
                break failure(error.into_crate());
            }
        }
    };
}

fn write(socket: &Socket, begun: Instant, floods: bool, report: &mut Report) {
    socket.set_write_deadline(Some(begun + LIMIT));
    let mut socket = socket;
    let bytes = pattern::bytes(0, 16 * 1024);
    report.outcome = loop {
        match socket.write(&bytes) {
            Ok(0) => break String::from("Nothing"),
            Ok(_) if floods => {}
            // Leaves CPU time to the other clients.
            Ok(_) => thread::sleep(PAUSE),
            Err(error) => {
                report.why = error.to_string();
                break failure(error.into_crate());
            }
        }
    };
}

fn open(socket: &Socket, opens: bool, report: &mut Report) {
    if opens {
        // Closes in the middle of the misbehaviour.
        thread::sleep(Duration::from_millis(50));
    }
    let result = socket.opened().map(|_| ()).and_then(|()| socket.close());
    note(&result, report);
    report.outcome = match result {
        Ok(()) => String::from("Open"),
        Err(error) => failure(Some(error)),
    };
}

// -------------------------------------------------------------------- outcomes

/// Checks if the limit of the call ended the wait, and not a limit of the socket.
fn is_of_the_call(socket: &Socket, error: &Error) -> bool {
    error.kind() == ErrorKind::TimedOut && socket.phase() != Phase::Closed
}

fn settled(socket: &Socket, limit: Duration) -> String {
    match socket.closed_timeout(limit) {
        Err(error) if is_of_the_call(socket, &error) => String::from("Open"),
        result => outcome(result),
    }
}

fn note(result: &Result<(), Error>, report: &mut Report) {
    if let Err(error) = result {
        report.why = error.to_string();
    }
}

fn outcome(result: Result<(), Error>) -> String {
    match result {
        Ok(()) => String::from("Clean"),
        Err(error) => failure(Some(error)),
    }
}

fn failure(error: Option<Error>) -> String {
    match error {
        Some(error) => format!("Fails({:?})", error.kind()),
        None => String::from("Foreign"),
    }
}

trait IntoCrate {
    fn into_crate(self) -> Option<Error>;
}

impl IntoCrate for std::io::Error {
    fn into_crate(self) -> Option<Error> {
        self.into_inner()?.downcast().ok().map(|error| *error)
    }
}

// -------------------------------------------------------------------- measurements

/// Returns the CPU time of all threads of this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).expect("it is not negative");
    let nanos = u64::try_from(time.tv_nsec).expect("it is not negative");
    Duration::from_secs(seconds) + Duration::from_nanos(nanos)
}

/// The resident memory at the start of the measurement.
struct Memory(u64);

impl Memory {
    fn now() -> Memory {
        // If the peak cannot be reset, no growth is reported.
        match reset_peak() {
            Ok(()) => Memory(status("VmRSS:")),
            Err(_) => Memory(u64::MAX),
        }
    }

    /// Returns how far the peak was above the start, in bytes.
    fn grown(&self) -> u64 {
        status("VmHWM:").saturating_sub(self.0)
    }
}

/// Resets the peak of this process's resident memory.
pub fn reset_peak() -> std::io::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5")
}

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("there is /proc");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("it is there");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
    kib * 1024
}
