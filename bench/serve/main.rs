//! Servers that answer many dialogues of 64 bytes on one or two threads, in turns: by `sockeye::Poller`, by mio, by tokio
//! and by Go. And what a poller costs while nothing happens, and what busy polling brings.
//!
//! ```text
//! cargo bench -p sockeye-bench --bench serve                 everything, 5 rounds
//! cargo bench -p sockeye-bench --bench serve -- 15 tls/ idle another number of rounds, and only these workloads
//! ```
//!
//! Each server is a process of its own. The client is one thread with epoll(7), which keeps one message of each active
//! dialogue on its way. The servers read with buffers that are larger than a message. Every figure of a server is a ratio
//! to mio's in the same round.

mod client;
mod go;
#[path = "../accept/identity.rs"]
mod identity;
mod idle;
mod servers;
mod spinning;

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};

use sockeye_bench::{Figures, exit_with_parent, pin, unpin};

use self::client::Dialogues;

/// The bytes of one message.
const SIZE: usize = 64;
/// The number of rounds without an argument.
const ROUNDS: usize = 5;

type Failure = Box<dyn Error + Send + Sync>;

/// The servers. The first is the reference.
const CONTENDERS: [&str; 4] = ["mio", "sockeye", "tokio", "go"];

#[derive(Clone, Copy)]
struct Workload {
    name: &'static str,
    dialogues: usize,
    /// How many of them are active.
    active: usize,
    threads: usize,
    is_tls: bool,
    /// Whether server and client share one CPU.
    is_pinned: bool,
}

const fn serve_many(
    name: &'static str,
    dialogues: usize,
    threads: usize,
    is_tls: bool,
) -> Workload {
    Workload { name, dialogues, active: dialogues, threads, is_tls, is_pinned: false }
}

const WORKLOADS: [Workload; 9] = [
    Workload {
        name: "100-of-10000/one-core",
        dialogues: 10_000,
        active: 100,
        threads: 1,
        is_tls: false,
        is_pinned: true,
    },
    serve_many("1000/one-thread", 1_000, 1, false),
    serve_many("1000/two-threads", 1_000, 2, false),
    serve_many("10000/one-thread", 10_000, 1, false),
    serve_many("10000/two-threads", 10_000, 2, false),
    serve_many("tls/1000/one-thread", 1_000, 1, true),
    serve_many("tls/1000/two-threads", 1_000, 2, true),
    serve_many("tls/10000/one-thread", 10_000, 1, true),
    serve_many("tls/10000/two-threads", 10_000, 2, true),
];

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.first().map(String::as_str) {
        Some("serve") => return serve(&args[1..]),
        Some("idle-part") => return idle::measure(),
        Some("spin-part") => return spinning::serve(&args[1..]),
        Some(_) | None => {}
    }
    let (numbers, words): (Vec<_>, Vec<_>) =
        args.iter().partition(|arg| arg.parse::<usize>().is_ok());
    let rounds = numbers.first().map_or(Ok(ROUNDS), |number| number.parse())?;
    let is_wanted =
        |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    raise_descriptor_limit()?;
    let has_go = go::build()?;
    let identity = identity::Identity::make().map_err(|error| error.to_string())?;
    for workload in WORKLOADS.iter().filter(|workload| is_wanted(workload.name)) {
        compare(workload, rounds, has_go, &identity)?;
    }
    if is_wanted("idle") {
        idle::report()?;
    }
    if is_wanted("busy-poll") {
        spinning::compare(rounds)?;
    }
    Ok(())
}

fn compare(
    workload: &Workload,
    rounds: usize,
    has_go: bool,
    identity: &identity::Identity,
) -> Result<(), Failure> {
    if workload.is_pinned {
        pin()?;
    }
    let config = match workload.is_tls {
        true => Some(identity.client().map_err(|error| error.to_string())?),
        false => None,
    };
    let mut contenders = Vec::new();
    for name in CONTENDERS.into_iter().filter(|name| *name != "go" || has_go) {
        contenders.push((name, Server::start(name, workload, identity)?, Vec::new()));
    }
    for round in 0..rounds {
        let count = contenders.len();
        for offset in 0..count {
            let (_, server, rates) = &mut contenders[(round + offset) % count];
            // The descriptors suffice for one server's dialogues at a time.
            let mut dialogues =
                Dialogues::connect(server.address, workload.dialogues, config.as_ref())?;
            // Warm up.
            dialogues.turn(workload.active)?;
            rates.push(dialogues.turn(workload.active)?);
        }
    }
    let reference = contenders[0].2.clone();
    for (name, _, rates) in &contenders {
        let ratios = Figures::ratios(rates, &reference);
        println!(
            "{}: {name}: {:.0} round trips a second, {:.3} of mio ({:.3} to {:.3} in {rounds} rounds)",
            workload.name,
            Figures::new(rates.clone()).median(),
            ratios.median(),
            ratios.lowest(),
            ratios.highest(),
        );
    }
    drop(contenders);
    if workload.is_pinned {
        unpin()?;
    }
    Ok(())
}

/// A server in a process of its own, which ends when its input does.
struct Server {
    child: Child,
    _input: Option<ChildStdin>,
    address: SocketAddr,
}

impl Server {
    fn start(
        name: &str,
        workload: &Workload,
        identity: &identity::Identity,
    ) -> Result<Self, Failure> {
        let mut command = match name {
            "go" => Command::new(go::program()),
            _ => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["serve", name]);
                command
            }
        };
        let wire = if workload.is_tls { "tls" } else { "plain" };
        command.args([&workload.threads.to_string(), wire]);
        Server::spawn(command.envs(identity.variables()))
    }

    fn spawn(command: &mut Command) -> Result<Self, Failure> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or("the output is piped")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| format!("{command:?} did not start"))?;
        Ok(Server { _input: child.stdin.take(), child, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(args: &[String]) -> Result<(), Failure> {
    let [name, threads, wire] = args else { return Err("three arguments are wanted".into()) };
    raise_descriptor_limit()?;
    exit_with_parent();
    let threads = threads.parse()?;
    let identity = match wire.as_str() {
        "tls" => Some(identity::Identity::inherited()?),
        _ => None,
    };
    match name.as_str() {
        "sockeye" => servers::sockeye(threads, identity.as_ref()),
        "mio" => servers::mio(threads, identity.as_ref()),
        "tokio" => servers::tokio(threads, identity.as_ref()),
        _ => Err(format!("there is no server {name}").into()),
    }
}

fn announce(address: SocketAddr) -> io::Result<()> {
    println!("{address}");
    io::stdout().flush()
}

fn raise_descriptor_limit() -> io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
