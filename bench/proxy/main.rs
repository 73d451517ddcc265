//! Round trips over a connection through a proxy and over a direct one, in turns.
//!
//! ```text
//! cargo bench -p sockeye-bench --bench proxy                 41 rounds
//! cargo bench -p sockeye-bench --bench proxy -- 101          another number of rounds
//! ```
//!
//! The proxy answers a CONNECT and then echoes by itself, so both connections have the same peer, and only the dialogue
//! differs. Client and peer share one CPU. After the dialogue, a connection through a proxy should cost nothing more.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use sockeye::{Connector, Proxy, Socket};
use sockeye_bench::{Figures, pin};

/// The bytes of one round trip.
const SIZE: usize = 64;
/// The length of one turn.
const TURN: Duration = Duration::from_millis(100);
/// The number of rounds without an argument.
const ROUNDS: usize = 41;

fn main() -> Result<(), Box<dyn Error>> {
    let rounds = std::env::args().skip(1).find(|arg| arg != "--bench");
    let rounds = rounds.map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    pin()?;
    let address = serve()?;
    let tunnelled = Connector::builder().proxy(Proxy::http(address)?).build()?;
    let pairs = [
        ("http", tunnelled.connect("target.example:1")?, sockeye::connect(address)?),
        // The noise of this measurement.
        ("none", sockeye::connect(address)?, sockeye::connect(address)?),
    ];
    for (name, subject, direct) in &pairs {
        turn(subject)?;
        turn(direct)?;
        let (mut subject_rates, mut direct_rates) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let (of_subject, of_direct) = if round % 2 == 0 {
                let first = turn(subject)?;
                (first, turn(direct)?)
            } else {
                let first = turn(direct)?;
                (turn(subject)?, first)
            };
            subject_rates.push(of_subject);
            direct_rates.push(of_direct);
        }
        let ratios = Figures::ratios(&subject_rates, &direct_rates);
        let [first, third] = ratios.quartiles();
        println!(
            "proxy {name}: {:.3} of a direct connection (quartiles {first:.3} to {third:.3} in {rounds} rounds), \
             which makes {:.0} round trips a second; aim 1 within the noise",
            ratios.median(),
            Figures::new(direct_rates).median(),
        );
    }
    Ok(())
}

/// Returns the round trips a second.
fn turn(socket: &Socket) -> io::Result<f64> {
    let (mut reader, mut writer) = (socket.reader(), socket.writer());
    let (mut buf, mut trips) = ([7; SIZE], 0_u32);
    let begun = Instant::now();
    while begun.elapsed() < TURN {
        for _ in 0..50 {
            writer.write_all(&buf)?;
            reader.read_exact(&mut buf)?;
        }
        trips += 50;
    }
    Ok(f64::from(trips) / begun.elapsed().as_secs_f64())
}

/// Starts the peer: a server that echoes, and a proxy that answers a CONNECT first.
fn serve() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || drop(echo(stream)));
        }
    });
    Ok(address)
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buf = [0; 4096];
    loop {
        let length = stream.read(&mut buf)?;
        match &buf[..length] {
            [] => return Ok(()),
            head if head.starts_with(b"CONNECT ") => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            }
            data => stream.write_all(data)?,
        }
    }
}
