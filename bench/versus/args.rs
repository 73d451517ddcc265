//! The command line: options for users, and the arguments of the harness's own child processes.

use std::num::NonZeroU32;

use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt;

use crate::api::{Contender, Mode, Service, Task, Workload};
use crate::{contenders, workloads};

pub const USAGE: &str = "\
usage: cargo bench -p sockeye-bench [-- [OPTIONS] [WORDS]]

WORDS           only workloads whose names contain one of them
--full          more rounds, longer turns, more idle sockets
--rounds N      this many rounds (also --pairs): in each, fresh processes for every contender
--no-peers      the reference and sockeye alone
--floor         adds the least possible cost of a wait that another thread can end (Linux)
--publish       also writes the tables to BENCHMARKING.md
--null          the reference compared to itself
--list          the workloads and their goals";

/// The first argument of a child process. No workload has such a name.
const CLIENT: &str = "@client";
const SERVER: &str = "@server";

pub enum Command {
    Measure(Settings),
    Client(ClientArgs),
    Serve(ServerArgs),
    List,
    Help,
}

/// The workloads to measure, and how thoroughly.
pub struct Settings {
    pub mode: Mode,
    pub rounds: Option<u32>,
    /// The contenders in plaintext; [`Contender::over_tls`] has their counterparts.
    pub contenders: Vec<&'static Contender>,
    pub words: Vec<String>,
    /// Writes the results to BENCHMARKING.md.
    pub publishes: bool,
}

impl Settings {
    /// Returns the contenders that take part in `workload`.
    pub fn line_up(&self, workload: &Workload) -> Vec<&'static Contender> {
        match workload.service {
            Service::Secure(_) => {
                let contenders = self.contenders.iter();
                contenders.filter_map(|contender| contender.over_tls).collect()
            }
            Service::Echo
            | Service::LateEcho
            | Service::OpenEcho
            | Service::Sink
            | Service::Source
            | Service::Close
            | Service::Hold
            | Service::EchoAndHold => self.contenders.clone(),
        }
    }
}

/// The arguments of a client process.
pub struct ClientArgs {
    pub contender: &'static Contender,
    pub task: Task,
    pub cpus: Vec<usize>,
}

impl ClientArgs {
    /// Returns the words from which [`parse`] makes the same arguments.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![
            CLIENT.to_owned(),
            self.contender.name.to_owned(),
            self.task.workload.name.to_owned(),
            self.task.mode.name().to_owned(),
            cpu_list(&self.cpus),
        ];
        words.extend(self.task.servers.iter().map(ToString::to_string));
        words
    }
}

/// The arguments of a server process.
pub struct ServerArgs {
    pub service: Service,
    pub cpus: Vec<usize>,
}

impl ServerArgs {
    /// Returns the words from which [`parse`] makes the same arguments.
    pub fn words(&self) -> Vec<String> {
        vec![SERVER.to_owned(), self.service.name().to_owned(), cpu_list(&self.cpus)]
    }
}

pub fn parse(words: impl Iterator<Item = String>) -> Result<Command, String> {
    let words: Vec<String> = words.collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [CLIENT, contender, workload, mode, cpus, servers @ ..] => {
            Ok(Command::Client(ClientArgs {
                contender: contenders::named(contender).ok_or("no such contender")?,
                task: Task {
                    workload: workloads::named(workload).ok_or("no such workload")?,
                    mode: Mode::named(mode).ok_or("no such mode")?,
                    servers: servers
                        .iter()
                        .map(|text| text.parse().map_err(|_| format!("{text} is not an address")))
                        .collect::<Result<_, _>>()?,
                },
                cpus: cpus_of(cpus)?,
            }))
        }
        [SERVER, service, cpus] => Ok(Command::Serve(ServerArgs {
            service: Service::named(service).ok_or("no such service")?,
            cpus: cpus_of(cpus)?,
        })),
        _ => wishes(&words).map_err(|error| error.to_string()),
    }
}

fn wishes(words: &[&str]) -> Result<Command, lexopt::Error> {
    // Cargo passes `--bench` for `cargo bench` and nothing for `cargo test`.
    let mut mode = Mode::Smoke;
    let mut rounds = None;
    let mut contenders = contenders::ALL.to_vec();
    let mut publishes = false;
    let mut filter = Vec::new();
    let mut parser = lexopt::Parser::from_args(words);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("full") => mode = Mode::Full,
            Long("bench") => mode = mode.max(Mode::Quick),
            Long("rounds" | "pairs") => {
                rounds = Some(parser.value()?.parse::<NonZeroU32>()?.get());
                mode = mode.max(Mode::Quick);
            }
            Long("no-peers") => {
                contenders = contenders::WITHOUT_PEERS.to_vec();
                mode = mode.max(Mode::Quick);
            }
            Long("publish") => {
                publishes = true;
                mode = mode.max(Mode::Quick);
            }
            Long("null") => {
                contenders = vec![contenders::REFERENCE; 2];
                mode = mode.max(Mode::Quick);
            }
            Long("floor") => {
                contenders.push(&contenders::FLOOR);
                mode = mode.max(Mode::Quick);
            }
            Long("list") => return Ok(Command::List),
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("test") => mode = Mode::Smoke,
            // Flags of the standard test harness, which Cargo passes to every target.
            Long("nocapture" | "quiet") | Short('q') => {}
            Value(word) => filter.push(word.string()?),
            Long(_) | Short(_) => return Err(argument.unexpected()),
        }
    }
    if publishes && !filter.is_empty() {
        return Err("--publish measures every workload and takes no words".into());
    }
    Ok(Command::Measure(Settings { mode, rounds, contenders, words: filter, publishes }))
}

/// Formats a list such as `0,1`, or `any` if the process is not to be pinned.
fn cpu_list(cpus: &[usize]) -> String {
    if cpus.is_empty() {
        return "any".to_owned();
    }
    let cpus: Vec<String> = cpus.iter().map(ToString::to_string).collect();
    cpus.join(",")
}

fn cpus_of(text: &str) -> Result<Vec<usize>, String> {
    if text == "any" {
        return Ok(Vec::new());
    }
    text.split(',').map(|cpu| cpu.parse().map_err(|_| format!("{cpu} is not a CPU"))).collect()
}
