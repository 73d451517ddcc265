//! Servers that accept, echo 64 bytes and close, with `sockeye` and with `std::net`, in turns.
//!
//! ```text
//! cargo bench -p sockeye-bench --bench accept                 all workloads, 9 rounds
//! cargo bench -p sockeye-bench --bench accept -- 21           another number of rounds
//! cargo bench -p sockeye-bench --bench accept -- 9 floor      another contender in the place of `sockeye`
//! ```
//!
//! `floor`, for `one-core`, is `std::net` with the system calls that `sockeye` makes, and with its lingering closes and its second thread.
//! The rest of the difference is `sockeye`'s own code.
//!
//! `one-core`: one thread accepts and serves; server and client share one CPU. `64-threads`: 64 threads accept and serve
//! each, and 16 threads connect. `handshakes`: as `one-core`, over TLS 1.3; the reference is `rustls::StreamOwned`.
//! The client resets each connection after the server's end, so that no port stays in TIME_WAIT. The servers are
//! processes of their own, and the workloads alternate between them.

#[cfg(unix)]
mod floor;
mod identity;
mod tls;

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sockeye_bench::{Figures, exit_with_parent, pin, unpin};

/// The bytes of one echo.
const SIZE: usize = 64;
/// The length of one turn.
const TURN: Duration = Duration::from_millis(400);
/// The number of rounds without an argument.
const ROUNDS: usize = 9;

#[derive(Clone, Copy)]
struct Workload {
    name: &'static str,
    server_threads: usize,
    client_threads: usize,
    is_pinned: bool,
    is_tls: bool,
    aim: f64,
}

const WORKLOADS: [Workload; 3] = [
    Workload {
        name: "one-core",
        server_threads: 1,
        client_threads: 1,
        is_pinned: true,
        is_tls: false,
        aim: 0.92,
    },
    Workload {
        name: "64-threads",
        server_threads: 64,
        client_threads: 16,
        is_pinned: false,
        is_tls: false,
        aim: 0.95,
    },
    Workload {
        name: "handshakes",
        server_threads: 1,
        client_threads: 1,
        is_pinned: true,
        is_tls: true,
        aim: 0.95,
    },
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match args.next().as_deref() {
        Some("serve") => {
            let contender = args.next().ok_or("a contender is missing")?;
            let name = args.next().ok_or("a workload is missing")?;
            let workload = WORKLOADS.iter().find(|workload| workload.name == name);
            serve(&contender, workload.ok_or("there is no such workload")?)
        }
        Some(rounds) => compare(rounds.parse()?, args.next().as_deref().unwrap_or("sockeye")),
        None => compare(ROUNDS, "sockeye"),
    }
}

fn compare(rounds: usize, contender: &str) -> Result<(), Box<dyn Error>> {
    let identity = identity::Identity::make()?;
    let client = identity.client()?;
    for workload in &WORKLOADS {
        // With many threads, each connection would wake all that poll.
        if contender == "floor" && (workload.is_tls || workload.server_threads > 1) {
            continue;
        }
        if workload.is_pinned {
            pin()?;
        }
        let servers = ["std", contender].map(|name| Server::start(name, workload, &identity));
        let [std, own] = servers;
        let (std, own) = (std?, own?);
        // Warm up.
        turn(std.address, workload, &client)?;
        turn(own.address, workload, &client)?;
        let (mut own_rates, mut std_rates) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let order = if round % 2 == 0 { [&std, &own] } else { [&own, &std] };
            let mut results = [0.0; 2];
            for server in order {
                results[usize::from(std::ptr::eq(server, &own))] =
                    turn(server.address, workload, &client)?;
            }
            own_rates.push(results[1]);
            std_rates.push(results[0]);
        }
        let (ratios, rates) = (Figures::ratios(&own_rates, &std_rates), Figures::new(std_rates));
        println!(
            "{}: {contender} {:.3} of std ({:.3} to {:.3} in {rounds} rounds), which serves {:.0} a second; aim {}",
            workload.name,
            ratios.median(),
            ratios.lowest(),
            ratios.highest(),
            rates.median(),
            workload.aim,
        );
        if workload.is_pinned {
            unpin()?;
        }
    }
    Ok(())
}

/// A server in a process of its own.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(
        contender: &str,
        workload: &Workload,
        identity: &identity::Identity,
    ) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", contender, workload.name])
            .envs(identity.variables())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("the output is piped")?;
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(Server { address: line.trim().parse()?, child })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(contender: &str, workload: &Workload) -> Result<(), Box<dyn Error>> {
    exit_with_parent();
    let identity = if workload.is_tls { Some(identity::Identity::inherited()?) } else { None };
    match contender {
        "std" => {
            let config = identity.map(|identity| identity.server()).transpose()?;
            let listener = TcpListener::bind("127.0.0.1:0")?;
            announce(listener.local_addr()?);
            in_threads(workload.server_threads, || {
                while let Ok((mut stream, _)) = listener.accept() {
                    let _ = stream.set_nodelay(true);
                    // A client that fails ends its own connection only.
                    let _ = match &config {
                        Some(config) => tls::echo(stream, config),
                        None => echo(&mut stream),
                    };
                }
            });
        }
        #[cfg(unix)]
        "floor" => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            announce(listener.local_addr()?);
            floor::start_thread();
            in_threads(workload.server_threads, || {
                let _ = floor::serve(&listener);
            });
        }
        _ => {
            let options = identity.map(|identity| identity.listen_options()).transpose()?;
            let listener = sockeye::listen_with("127.0.0.1:0", options.unwrap_or_default())?;
            announce(listener.local_address().ok_or("it has an address")?);
            in_threads(workload.server_threads, || {
                for mut socket in &listener {
                    let _ = echo(&mut socket);
                    let _ = socket.close();
                }
            });
        }
    }
    Ok(())
}

fn echo(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let mut buf = [0; SIZE];
    stream.read_exact(&mut buf)?;
    stream.write_all(&buf)
}

fn announce(address: SocketAddr) {
    println!("{address}");
    let _ = io::stdout().flush();
}

fn in_threads(threads: usize, work: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(&work);
        }
    });
}

/// Connects for one turn. Returns the number of connections served per second.
fn turn(
    address: SocketAddr,
    workload: &Workload,
    client: &Arc<rustls::ClientConfig>,
) -> io::Result<f64> {
    let (count, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let begun = Instant::now();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..workload.client_threads)
            .map(|_| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        ask(address, workload.is_tls.then_some(client))?;
                        count.fetch_add(1, Ordering::Relaxed);
                        if begun.elapsed() >= TURN {
                            is_over.store(true, Ordering::Relaxed);
                        }
                    }
                    io::Result::Ok(())
                })
            })
            .collect();
        clients.into_iter().try_for_each(|client| {
            client.join().unwrap_or_else(|_| Err(io::Error::other("a client panicked")))
        })
    })?;
    Ok(count.into_inner() as f64 / begun.elapsed().as_secs_f64())
}

fn ask(address: SocketAddr, tls: Option<&Arc<rustls::ClientConfig>>) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    match tls {
        Some(config) => dialogue(&mut tls::connect(&stream, config)?)?,
        None => dialogue(&mut stream)?,
    }
    reset(&stream)
}

fn dialogue(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let mut buf = [7; SIZE];
    stream.write_all(&buf)?;
    stream.read_exact(&mut buf)?;
    if stream.read(&mut buf)? != 0 {
        return Err(io::Error::other("the server sent more than it got"));
    }
    Ok(())
}

#[cfg(unix)]
fn reset(stream: &TcpStream) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?)
}

#[cfg(not(unix))]
fn reset(_stream: &TcpStream) -> io::Result<()> {
    Ok(())
}
