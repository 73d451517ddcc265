//! The run: rounds and turns of every workload, child processes and their time limits.

use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::args::{Post, Settings, Task};
use crate::client::{GO, READY, SKIPPED};
use crate::contender::Contender;
use crate::process::{Failure, Running};
use crate::report::{self, Outcome, Samples};
use crate::strace::{self, Calls};
use crate::tls::Identity;
use crate::workload::{self, Mode, Workload};
use crate::{go, machine, system};

/// The time limit of a child to become ready, to take a turn, or to end.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(settings: &Settings) -> ExitCode {
    let wanted = |workload: &&Workload| {
        let words = &settings.words;
        words.is_empty() || words.iter().any(|word| workload.name.contains(word))
    };
    let workloads: Vec<_> = workload::ALL.iter().filter(wanted).collect();
    if settings.mode > Mode::Smoke {
        println!("{}\n", machine::describe());
    }
    let identity = match Identity::make() {
        Ok(identity) => identity,
        Err(error) => {
            eprintln!("no certificate for the servers over TLS: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(failure) = go::build() {
        eprintln!("the client in Go: {failure}");
        return ExitCode::FAILURE;
    }
    let mut outcomes = Vec::new();
    for workload in workloads {
        eprint!("{} ", workload.name);
        let outcome = measure(workload, settings, &identity).unwrap_or_else(Outcome::from);
        eprintln!("{}", outcome.verdict());
        outcomes.push((workload, outcome));
    }
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
    let some_failed = outcomes.iter().any(|(_, outcome)| failed(outcome));
    if settings.mode > Mode::Smoke {
        // Incomplete results are not published.
        let publishes = settings.publishes && !some_failed;
        match report::publish(settings, publishes, &outcomes) {
            Ok(folder) => println!("\ntable and chart: {}", folder.display()),
            Err(error) => {
                eprintln!("cannot write the results: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    if some_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Why a workload has no figures: it was skipped, or it failed.
enum NoFigures {
    Skipped(String),
    Failed(Failure),
}

impl From<Failure> for NoFigures {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<NoFigures> for Outcome {
    fn from(none: NoFigures) -> Self {
        match none {
            NoFigures::Skipped(reason) => Self::Skipped(reason),
            NoFigures::Failed(failure) => Self::Failed(failure.to_string()),
        }
    }
}

fn measure(
    workload: &'static Workload,
    settings: &Settings,
    identity: &Identity,
) -> Result<Outcome, NoFigures> {
    let contenders = settings.line_up(workload);
    let plan = workload.plan.in_mode(settings.mode);
    let cpus = workload.place.cpus(&system::cpus()).map_err(NoFigures::Skipped)?;
    if let Some(reason) = strace::missing().filter(|_| plan.traced) {
        return Err(NoFigures::Skipped(reason));
    }
    let rounds = settings.rounds.unwrap_or(settings.mode.rounds()).min(plan.most_rounds);
    let mut samples = Samples::new(contenders.len(), workload.figures.len());
    for round in 0..rounds {
        let mut seats: Vec<usize> = (0..contenders.len()).collect();
        seats.rotate_left(round as usize % contenders.len());
        let cast = |seat: usize| Cast {
            contender: contenders[seat],
            workload,
            mode: settings.mode,
            cpus: &cpus,
            identity,
        };
        // With a single turn the contenders run one after another, so that the idle sockets of one do not disturb the
        // next.
        if plan.turns == 1 {
            for seat in seats {
                let figures = if plan.traced { traced(&cast(seat)) } else { single(&cast(seat)) };
                present(seat, figures, &mut samples)?.inspect(|figures| samples.add(seat, figures));
            }
        } else {
            let mut pairs = Vec::new();
            for seat in seats {
                let pair = Pair::start(&cast(seat), Command::new);
                pairs.extend(present(seat, pair, &mut samples)?.map(|pair| (seat, pair)));
            }
            for _ in 0..plan.turns {
                for (seat, pair) in &mut pairs {
                    let figures = pair.turn();
                    present(*seat, figures, &mut samples)?
                        .inspect(|figures| samples.add(*seat, figures));
                }
                pairs.retain(|(seat, _)| samples.absent(*seat).is_none());
            }
            for (_, pair) in pairs {
                pair.client.finish(PATIENCE)?;
            }
        }
        if let Some(reason) = samples.all_absent() {
            return Err(NoFigures::Skipped(reason.to_owned()));
        }
        eprint!(".");
        io::stderr().flush().ok();
    }
    Ok(Outcome::Measured(samples))
}

/// Returns a contender's result. If the contender cannot do this workload, notes that and returns `None`.
fn present<T>(
    seat: usize,
    result: Result<T, NoFigures>,
    samples: &mut Samples,
) -> Result<Option<T>, Failure> {
    match result {
        Ok(figures) => Ok(Some(figures)),
        Err(NoFigures::Skipped(reason)) => {
            samples.set_absent(seat, reason);
            Ok(None)
        }
        Err(NoFigures::Failed(failure)) => Err(failure),
    }
}

/// Runs a client for a single turn.
fn single(cast: &Cast<'_>) -> Result<Vec<f64>, NoFigures> {
    let mut pair = Pair::start(cast, Command::new)?;
    let figures = pair.turn()?;
    pair.client.finish(PATIENCE)?;
    Ok(figures)
}

/// Returns the system calls per operation that the additional turns of a longer run made.
fn traced(cast: &Cast<'_>) -> Result<Vec<f64>, NoFigures> {
    const MORE: u32 = 2;
    let mut calls = [Calls::default(); 2];
    for (calls, turns) in calls.iter_mut().zip([1, 1 + MORE]) {
        let mut pair = Pair::start(cast, strace::command)?;
        for _ in 0..turns {
            pair.turn()?;
        }
        *calls = Calls::parse(&pair.client.finish(PATIENCE)?);
    }
    let [shorter, longer] = calls;
    if longer == shorter {
        return Err(Failure("strace counted nothing".to_owned()).into());
    }
    let operations = cast.workload.plan.in_mode(cast.mode).count;
    Ok(longer.per_operation(shorter, MORE * operations))
}

/// The contender, the workload, and where their processes run.
struct Cast<'a> {
    contender: &'static Contender,
    workload: &'static Workload,
    mode: Mode,
    cpus: &'a [Vec<usize>; 2],
    identity: &'a Identity,
}

/// A client and its own server.
struct Pair {
    client: Running,
    figures: usize,
    _server: Running,
}

impl Pair {
    /// Starts both processes. `command` makes the client's command line from the program's path.
    fn start(
        cast: &Cast<'_>,
        command: impl Fn(std::path::PathBuf) -> Command,
    ) -> Result<Self, NoFigures> {
        let program = std::env::current_exe()
            .map_err(|error| Failure(format!("the path of this program: {error}")))?;
        let name = format!("{} of {}", cast.contender.name, cast.workload.name);
        let [client_cpus, server_cpus] = cast.cpus.clone();

        let post = Post { service: cast.workload.service, cpus: server_cpus };
        let mut server = Command::new(&program);
        server.args(post.words());
        cast.identity.leave_to(&mut server);
        let mut server = Running::start(format!("server for {name}"), server)?;
        let addresses = server.line(PATIENCE)?;
        let servers = addresses.split(' ').map(str::parse).collect::<Result<_, _>>();

        let task = Task {
            contender: cast.contender,
            workload: cast.workload,
            mode: cast.mode,
            cpus: client_cpus,
            servers: servers
                .map_err(|_| Failure(format!("{addresses}: not a list of addresses")))?,
        };
        let mut client = command(program);
        client.args(task.words());
        cast.identity.leave_to(&mut client);
        let mut client = Running::start(name, client)?;
        let answer = client.line(PATIENCE)?;
        if let Some(reason) = answer.strip_prefix(SKIPPED) {
            return Err(NoFigures::Skipped(reason.trim().to_owned()));
        }
        if answer != READY {
            return Err(Failure(format!("{}: {answer}", cast.workload.name)).into());
        }
        Ok(Self {
            client,
            // A traced client prints its number of operations; strace has the figures.
            figures: if cast.workload.plan.traced { 1 } else { cast.workload.figures.len() },
            _server: server,
        })
    }

    fn turn(&mut self) -> Result<Vec<f64>, NoFigures> {
        self.client.tell(GO);
        let answer = self.client.line(PATIENCE)?;
        if let Some(reason) = answer.strip_prefix(SKIPPED) {
            return Err(NoFigures::Skipped(reason.trim().to_owned()));
        }
        let figures: Result<Vec<f64>, _> = answer.split(' ').map(str::parse).collect();
        match figures {
            Ok(figures) if figures.len() == self.figures => Ok(figures),
            Ok(_) | Err(_) => Err(Failure(format!("{answer}: not the expected figures")).into()),
        }
    }
}
