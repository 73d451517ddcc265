//! The comparison, and its relays.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sockeye_bench::{Figures, exit_with_parent};

/// The bytes of one turn.
const SIZE: usize = 1 << 30;
/// The size of the buffers of the source, of the sink, and of a relay by reads and writes.
const BUFFER: usize = 64 * 1024;
/// The number of rounds without an argument.
const ROUNDS: usize = 9;
/// The most that is acceptable.
const AIM: f64 = 0.6;

pub fn run(mut args: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    match args.next().as_deref() {
        Some("relay") => {
            let name = args.next().ok_or("a relay is missing")?;
            let target = args.next().ok_or("a target is missing")?.parse()?;
            exit_with_parent();
            if name == "loop" { by_loop(target) } else { by_tunnel(target) }
        }
        Some(rounds) => compare(rounds.parse()?),
        None => compare(ROUNDS),
    }
}

fn compare(rounds: usize) -> Result<(), Box<dyn Error>> {
    let sink = TcpListener::bind("127.0.0.1:0")?;
    let target = sink.local_addr()?;
    let mut relays = [
        Relay::start("loop", target)?,
        Relay::start("tunnel", target)?,
        Relay::start("loop", target)?,
    ];
    let mut times = [const { Vec::new() }; 3];
    // The first round warms up.
    for round in 0..=rounds {
        for offset in 0..relays.len() {
            let index = (round + offset) % relays.len();
            let time = relays[index].turn(&sink)?;
            if round > 0 {
                times[index].push(time);
            }
        }
    }
    let [reference, own, control] = times;
    let ratios = Figures::ratios(&own, &reference);
    println!(
        "tunnel: {:.3} of the processor time of a loop ({:.3} to {:.3} in {rounds} rounds; a loop to itself {:.3}), which \
         takes {:.0} ms for a gibibyte; aim {AIM}",
        ratios.median(),
        ratios.lowest(),
        ratios.highest(),
        Figures::ratios(&control, &reference).median(),
        Figures::new(reference).median(),
    );
    Ok(())
}

/// A relay in a process of its own.
struct Relay {
    child: Child,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Relay {
    fn start(name: &str, target: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["relay", name, &target.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = BufReader::new(child.stdout.take().ok_or("the output is piped")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        Ok(Relay { child, output, address: line.trim().parse()? })
    }

    /// Sends a gibibyte through the relay. Returns the processor time that it took, in ms.
    fn turn(&mut self, sink: &TcpListener) -> Result<f64, Box<dyn Error>> {
        let mut source = TcpStream::connect(self.address)?;
        let (mut drained, _) = sink.accept()?;
        let received = thread::scope(|scope| {
            let draining = scope.spawn(move || -> io::Result<usize> {
                let (mut buf, mut all) = (vec![0; BUFFER], 0);
                loop {
                    match drained.read(&mut buf)? {
                        0 => return Ok(all),
                        bytes => all += bytes,
                    }
                }
            });
            let buf = vec![7; BUFFER];
            for _ in 0..SIZE / BUFFER {
                source.write_all(&buf)?;
            }
            source.shutdown(Shutdown::Write)?;
            draining.join().unwrap_or_else(|_| Err(io::Error::other("the sink panicked")))
        })?;
        if received != SIZE {
            return Err(format!("only {received} bytes arrived").into());
        }
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().parse()?)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn by_tunnel(target: SocketAddr) -> Result<(), Box<dyn Error>> {
    let listener = sockeye::listen("127.0.0.1:0")?;
    announce(listener.local_address().ok_or("it has an address")?)?;
    loop {
        let client = listener.accept()?;
        let begun = processor_time();
        let server =
            sockeye::connect_with(target, sockeye::SocketOptions::new().allow_half_open(true))?;
        sockeye::tunnel(&client, &server, Duration::from_secs(60))?;
        report(begun)?;
    }
}

fn by_loop(target: SocketAddr) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    announce(listener.local_addr()?)?;
    loop {
        let (client, _) = listener.accept()?;
        let begun = processor_time();
        let server = TcpStream::connect(target)?;
        thread::scope(|scope| {
            let back = scope.spawn(|| copy(&server, &client));
            copy(&client, &server)?;
            back.join().unwrap_or_else(|_| Err(io::Error::other("a direction panicked")))
        })?;
        report(begun)?;
    }
}

/// Copies until the end, and passes it on. `std::io::copy` would use splice(2).
fn copy(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let mut buf = vec![0; BUFFER];
    loop {
        match from.read(&mut buf)? {
            0 => return to.shutdown(Shutdown::Write),
            bytes => to.write_all(&buf[..bytes])?,
        }
    }
}

fn announce(address: SocketAddr) -> io::Result<()> {
    println!("{address}");
    io::stdout().flush()
}

fn report(begun: Duration) -> io::Result<()> {
    println!("{}", (processor_time() - begun).as_secs_f64() * 1e3);
    io::stdout().flush()
}

/// Returns the processor time of this process.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
