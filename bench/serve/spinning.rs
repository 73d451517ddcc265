//! Busy polling: dialogues of 64 bytes between two threads, on two cores and on one.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use sockeye::{ListenOptions, Socket, SocketOptions, TcpOptions};
use sockeye_bench::{Figures, exit_with_parent, pin, unpin};

use crate::{Failure, SIZE, Server, announce};

/// The time of one spin.
const LIMIT: Duration = Duration::from_micros(200);
/// The length of one turn.
const TURN: Duration = Duration::from_millis(400);
/// Both ends of a dialogue.
const CONTENDERS: [&str; 3] = ["std", "sockeye", "spinning"];

pub fn compare(rounds: usize) -> Result<(), Failure> {
    for (name, is_pinned) in [("busy-poll/two-cores", false), ("busy-poll/one-core", true)] {
        if is_pinned {
            pin()?;
        }
        let mut rates = [const { Vec::new() }; 3];
        for round in 0..rounds {
            for offset in 0..CONTENDERS.len() {
                let index = (round + offset) % CONTENDERS.len();
                rates[index].push(turn(CONTENDERS[index])?);
            }
        }
        let [std, own, spinning] = rates.map(|rates| Figures::new(rates).median());
        println!(
            "{name}: std {std:.0} round trips a second; sockeye {:.3} of that, spinning {:.3}, which is {:.3} of sockeye",
            own / std,
            spinning / std,
            spinning / own,
        );
        if is_pinned {
            unpin()?;
        }
    }
    println!("busy-poll: aims: spinning 2.0 of std on two cores; 0.97 of sockeye on one");
    Ok(())
}

fn turn(contender: &str) -> Result<f64, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    let server = Server::spawn(command.args(["spin-part", contender]))?;
    match contender {
        "std" => {
            let stream = TcpStream::connect(server.address)?;
            stream.set_nodelay(true)?;
            talk(stream)
        }
        _ => talk(connect(server.address, contender)?),
    }
}

fn options(contender: &str) -> SocketOptions {
    match contender {
        "spinning" => SocketOptions::new().tcp(TcpOptions::new().busy_poll(LIMIT)),
        _ => SocketOptions::new(),
    }
}

fn connect(address: SocketAddr, contender: &str) -> sockeye::Result<Socket> {
    let socket = sockeye::connect_with(address, options(contender))?;
    socket.opened()?;
    Ok(socket)
}

/// Talks for one turn. Returns the number of round trips per second.
fn talk(mut stream: impl Read + Write) -> Result<f64, Failure> {
    let mut message = [7; SIZE];
    let mut count = 0_u64;
    let mut begun = Instant::now();
    let mut is_warm = false;
    loop {
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        count += 1;
        if count % 64 == 0 && begun.elapsed() >= TURN {
            if is_warm {
                return Ok(count as f64 / begun.elapsed().as_secs_f64());
            }
            is_warm = true;
            (begun, count) = (Instant::now(), 0);
        }
    }
}

pub fn serve(args: &[String]) -> Result<(), Failure> {
    let [contender] = args else { return Err("one argument is wanted".into()) };
    exit_with_parent();
    let result = match contender.as_str() {
        "std" => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            announce(listener.local_addr()?)?;
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            echo(stream)
        }
        _ => {
            let options = ListenOptions::new().socket(options(contender));
            let listener = sockeye::listen_with("127.0.0.1:0", options)?;
            announce(listener.local_address().ok_or("it has an address")?)?;
            echo(listener.accept()?)
        }
    };
    // The client ends the dialogue.
    drop(result);
    Ok(())
}

fn echo(mut stream: impl Read + Write) -> io::Result<()> {
    let mut message = [0; SIZE];
    loop {
        stream.read_exact(&mut message)?;
        stream.write_all(&message)?;
    }
}
