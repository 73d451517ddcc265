//! Many short connections, one after another, to see if descriptors, threads or memory grow.
//!
//! If possible, they run in their own network namespace, so that a million connections in TIME_WAIT disturb no other
//! program.

use std::io::{Read, Write};
use std::process::{Command, ExitCode};
use std::time::Instant;

use sockeye::{Error, SecureTransport, Socket, SocketOptions};

use crate::child::number;
use crate::server::{Server, Site};
use crate::space;
use crate::support::WATCHDOG;
use crate::support::process::{memory, settled_descriptors, threads};
use crate::support::subprocess::this_binary;
use crate::support::tls::{ASK, GO};

/// The most that memory may grow after the warm-up. The allocator alone causes that much, for any number of
/// connections.
const MAX_GROWTH: usize = 1024 * 1024;
/// The number of lines that report progress.
const STRETCHES: usize = 10;

pub fn run() -> ExitCode {
    let mut command = match space::missing() {
        None => space::command(),
        Some(reason) => {
            println!("not in a separate network namespace: {reason}");
            Command::new(this_binary())
        }
    };
    let status = command.arg("soak-client").status();
    ExitCode::from(u8::from(!status.expect("it can be started").success()))
}

/// Runs the client process; the server has a process of its own.
pub fn client() -> ExitCode {
    if space::is_own() {
        space::here("ip link set lo up");
    }
    let server = Server::start();
    let plain = number("FAULTS_PLAIN", 20_000);
    let secured = number("FAULTS_TLS", 2_000);
    let all_steady = [
        lives("plain", plain, &server.site, SecureTransport::Off),
        lives("tls", secured, &server.site, SecureTransport::On),
        lives("upgraded", secured / 10, &server.site, SecureTransport::StartTls),
    ];
    ExitCode::from(u8::from(all_steady.contains(&false)))
}

/// Counts of descriptors and threads, and the memory in use.
#[derive(Clone, Copy)]
struct Figures {
    descriptors: usize,
    threads: usize,
    memory: usize,
}

impl Figures {
    fn now() -> Figures {
        Figures { descriptors: settled_descriptors(), threads: threads(), memory: memory() }
    }

    fn print(self, lives: usize) {
        let kibibytes = self.memory / 1024;
        println!(
            "  {lives:>9} lives  {:>3} descriptors  {} threads  {kibibytes:>6} KiB",
            self.descriptors, self.threads
        );
    }
}

/// Checks that the connections leave nothing behind that the first tenth of them has not left.
fn lives(name: &str, count: usize, site: &Site, mode: SecureTransport) -> bool {
    let options = site.options(mode);
    let begun = Instant::now();
    println!("{name}: {count} lives, after a warm-up of a tenth of them");
    let warm_up = count / 10;
    (0..warm_up).for_each(|life| live(life, site, &options, mode));
    let before = Figures::now();
    before.print(0);
    let mut last = before;
    for stretch in 1..=STRETCHES {
        let (from, to) = (count * (stretch - 1) / STRETCHES, count * stretch / STRETCHES);
        (from..to).for_each(|life| live(life, site, &options, mode));
        last = Figures::now();
        last.print(to);
    }
    let grown = last.memory.saturating_sub(before.memory);
    let steady = last.descriptors <= before.descriptors
        && last.threads <= before.threads
        && grown <= MAX_GROWTH;
    let verdict = if steady { "steady" } else { "DRIFTS" };
    println!("{verdict}: {name}, {} KiB more, {:.0?}\n", grown / 1024, begun.elapsed());
    steady
}

/// Runs a short connection of one kind or another, with some bytes in each direction.
fn live(number: usize, site: &Site, options: &SocketOptions, mode: SecureTransport) {
    let port = match mode {
        SecureTransport::Off => site.plain,
        SecureTransport::On => site.secured,
        _ => site.upgraded,
    };
    try_live(number, Site::address(port, number), options, mode)
        .unwrap_or_else(|error| panic!("life {number}: {error:?}"));
}

fn try_live(
    number: usize,
    address: std::net::SocketAddr,
    options: &SocketOptions,
    mode: SecureTransport,
) -> Result<(), Error> {
    let mut socket = sockeye::connect_with(address, options.clone())?;
    if mode == SecureTransport::StartTls {
        exchange(&socket, ASK, GO);
        socket = socket.start_tls()?;
    }
    exchange(&socket, b"a few bytes", b"a few bytes");
    // Each address gets each way to end in turn.
    match number / 8 % 4 {
        0 => socket.close(),
        1 => {
            socket.writer().close()?;
            assert_eq!(socket.read(&mut [0]).expect("a clean end"), 0);
            socket.closed_timeout(WATCHDOG)
        }
        2 => {
            socket.abort();
            Ok(())
        }
        _ => {
            drop(socket);
            Ok(())
        }
    }
}

fn exchange(mut socket: &Socket, ask: &[u8], answer: &[u8]) {
    socket.write_all(ask).expect("the server reads");
    let mut back = vec![0; answer.len()];
    socket.read_exact(&mut back).expect("the server answers");
    assert_eq!(back, answer);
}
