//! The comparison, and its server.

use std::error::Error;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sockeye::{SocketOptions, UnixAddress};
use sockeye_bench::{Figures, exit_with_parent, pin};

/// The bytes of one message.
const SIZE: usize = 64;
/// The length of one turn.
const TURN: Duration = Duration::from_millis(100);
/// The number of round trips between two readings of the clock.
const BETWEEN_LOOKS: u32 = 16;
/// Round trips that refill the caches after the other contender's turn.
const WARM_UP: u32 = 100;
/// The number of rounds without an argument.
const ROUNDS: usize = 31;
/// The least that is acceptable.
const AIM: f64 = 0.98;

pub fn run(mut args: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    match args.next().as_deref() {
        Some("serve") => serve(Path::new(&args.next().ok_or("a path is missing")?)),
        Some(rounds) => compare(rounds.parse()?),
        None => compare(ROUNDS),
    }
}

fn compare(rounds: usize) -> Result<(), Box<dyn Error>> {
    pin()?;
    let server = Server::start()?;
    let std = UnixStream::connect(&server.path)?;
    let address = UnixAddress::from_pathname(&server.path)?;
    let own = sockeye::connect_unix(address, SocketOptions::new())?;
    own.opened()?;
    // The null run: the same contender against itself tells the noise.
    let other = UnixStream::connect(&server.path)?;
    let (mut own_rates, mut null_rates, mut std_rates) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut order = [0, 1, 2];
        order.rotate_left(round % 3);
        for contender in order {
            match contender {
                0 => std_rates.push(turn(&std, &std)?),
                1 => own_rates.push(turn(&own, &own)?),
                _ => null_rates.push(turn(&other, &other)?),
            }
        }
    }
    let ratios = Figures::ratios(&own_rates, &std_rates);
    let null = Figures::ratios(&null_rates, &std_rates);
    println!(
        "ping-pong: {:.3} of UnixStream ({:.3} to {:.3} in {rounds} rounds; UnixStream to itself {:.3}), \
         which makes {:.0} round trips a second; aim {AIM}",
        ratios.median(),
        ratios.lowest(),
        ratios.highest(),
        null.median(),
        Figures::new(std_rates).median(),
    );
    Ok(())
}

/// Makes round trips for one turn. Returns their number per second.
fn turn(reader: impl Read + Copy, writer: impl Write + Copy) -> io::Result<f64> {
    play(reader, writer, WARM_UP)?;
    let begun = Instant::now();
    let mut played = 0;
    loop {
        play(reader, writer, BETWEEN_LOOKS)?;
        played += BETWEEN_LOOKS;
        let passed = begun.elapsed();
        if passed >= TURN {
            return Ok(f64::from(played) / passed.as_secs_f64());
        }
    }
}

fn play(mut reader: impl Read, mut writer: impl Write, round_trips: u32) -> io::Result<()> {
    let mut buf = [7; SIZE];
    for _ in 0..round_trips {
        writer.write_all(&buf)?;
        reader.read_exact(&mut buf)?;
    }
    Ok(())
}

/// An echo server in a process of its own.
struct Server {
    child: Child,
    path: PathBuf,
}

impl Server {
    fn start() -> Result<Self, Box<dyn Error>> {
        let path = std::env::temp_dir().join(format!("sockeye-bench-{}", std::process::id()));
        let mut command = Command::new(std::env::current_exe()?);
        let child = command.arg("serve").arg(&path).stdin(Stdio::piped()).spawn()?;
        let server = Server { child, path };
        let until = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(&server.path).is_err() {
            if Instant::now() > until {
                return Err("the server does not start".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve(path: &Path) -> Result<(), Box<dyn Error>> {
    exit_with_parent();
    let listener = UnixListener::bind(path)?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        std::thread::spawn(move || {
            let mut buf = [0; SIZE];
            while stream.read_exact(&mut buf).and_then(|()| stream.write_all(&buf)).is_ok() {}
        });
    }
    Ok(())
}
