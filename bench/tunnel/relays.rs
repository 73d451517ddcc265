//! The comparison, and its relays.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

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

/// What one turn took, in ms.
#[derive(Clone, Copy)]
struct Turn {
    processor: f64,
    wall: f64,
}

fn compare(rounds: usize) -> Result<(), Box<dyn Error>> {
    let sink = TcpListener::bind("127.0.0.1:0")?;
    let target = sink.local_addr()?;
    let mut relays = vec![
        Relay::start("loop", target)?,
        Relay::start("tunnel", target)?,
        Relay::start("loop", target)?,
    ];
    if Socat::is_installed() {
        relays.push(Relay::Socat(target));
    } else {
        println!("skipped: socat is not installed, or this is not Linux");
    }
    let mut turns = vec![Vec::new(); relays.len()];
    // The first round warms up.
    for round in 0..=rounds {
        for offset in 0..relays.len() {
            let index = (round + offset) % relays.len();
            let turn = relays[index].turn(&sink)?;
            if round > 0 {
                turns[index].push(turn);
            }
        }
    }
    let processor = |index: usize| turns[index].iter().map(|turn: &Turn| turn.processor).collect();
    let rate = |index: usize| turns[index].iter().map(|turn| 1.0 / turn.wall).collect();
    let (reference, own, control): (Vec<_>, Vec<_>, Vec<_>) =
        (processor(0), processor(1), processor(2));
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
    if turns.len() > 3 {
        let times = Figures::ratios(&own, &processor(3));
        let (own, socat): (Vec<_>, Vec<_>) = (rate(1), rate(3));
        let rates = Figures::ratios(&own, &socat);
        println!(
            "tunnel: {:.3} of the processor time of socat ({:.3} to {:.3}), and {:.3} of its throughput ({:.3} to {:.3}); \
             aims 0.5 and 0.95",
            times.median(),
            times.lowest(),
            times.highest(),
            rates.median(),
            rates.lowest(),
            rates.highest(),
        );
    }
    Ok(())
}

/// A relay in a process of its own.
enum Relay {
    Own(OwnRelay),
    /// A socat to this target, started for each turn.
    Socat(SocketAddr),
}

/// A relay of this benchmark, which reports the processor time of each connection.
struct OwnRelay {
    child: Child,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

/// A socat, which relays one connection.
struct Socat {
    child: Child,
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
        Ok(Relay::Own(OwnRelay { child, output, address: line.trim().parse()? }))
    }

    /// Sends a gibibyte through the relay.
    fn turn(&mut self, sink: &TcpListener) -> Result<Turn, Box<dyn Error>> {
        match self {
            Relay::Own(relay) => {
                let wall = transfer(relay.address, sink)?;
                let mut line = String::new();
                relay.output.read_line(&mut line)?;
                Ok(Turn { processor: line.trim().parse()?, wall })
            }
            Relay::Socat(target) => {
                let mut socat = Socat::start(*target)?;
                let wall = transfer(socat.address, sink)?;
                Ok(Turn { processor: socat.end()?, wall })
            }
        }
    }
}

/// Sends a gibibyte through a relay. Returns the time that it took, in ms.
fn transfer(relay: SocketAddr, sink: &TcpListener) -> Result<f64, Box<dyn Error>> {
    let mut source = connect(relay)?;
    let begun = Instant::now();
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
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

/// Connects to a relay that may just start.
fn connect(relay: SocketAddr) -> io::Result<TcpStream> {
    let mut tries = 0;
    loop {
        match TcpStream::connect(relay) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && tries < 200 => {
                tries += 1;
                thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

impl Socat {
    fn is_installed() -> bool {
        // Its time is read there.
        if !std::path::Path::new("/proc/self/stat").exists() {
            return false;
        }
        let mut command = Command::new("socat");
        command.arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    fn start(target: SocketAddr) -> io::Result<Self> {
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = Command::new("socat")
            .arg(format!("-b{BUFFER}"))
            .arg(format!("TCP-LISTEN:{},bind={},reuseaddr", address.port(), address.ip()))
            .arg(format!("TCP:{target}"))
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Socat { child, address })
    }

    /// Waits until it has ended by itself. Returns its processor time in ms.
    fn end(&mut self) -> Result<f64, Box<dyn Error>> {
        let path = format!("/proc/{}/stat", self.child.id());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            let stat = std::fs::read_to_string(&path)?;
            // The fields behind the name, from the third one.
            let fields: Vec<&str> =
                stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
            // The process is a zombie until this one has waited for it.
            if let ["Z", ..] = fields[..] {
                self.child.wait()?;
                let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
                return Ok(ticks * 1e3 / rustix::param::clock_ticks_per_second() as f64);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err("socat has not ended".into())
    }
}

impl Drop for Socat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for OwnRelay {
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
