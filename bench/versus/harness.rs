//! The run: rounds and turns of every workload, child processes and their time limits.

use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::api::{Contender, Mode, Task, Workload};
use crate::args::{ClientArgs, ServerArgs, Settings};
use crate::client::{GO, READY, SKIPPED};
use crate::process::{Failure, Running};
use crate::report;
use crate::report::samples::{Outcome, Samples};
use crate::strace::{self, Calls};
use crate::tls::Identity;
use crate::{go, machine, system, workloads};

/// The time limit of a child to become ready, to take a turn, or to end.
const WATCHDOG: Duration = Duration::from_secs(120);

pub fn run(settings: &Settings) -> ExitCode {
    let wanted = |workload: &&Workload| {
        let words = &settings.words;
        words.is_empty() || words.iter().any(|word| workload.name.contains(word))
    };
    let workloads: Vec<_> = workloads::ALL.iter().filter(wanted).collect();
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
            Ok(folder) => println!("\ntables: {}", folder.display()),
            Err(error) => {
                eprintln!("cannot write the results: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    if some_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Why a workload has no figures: it was skipped, or it failed.
enum NotMeasured {
    Skipped(String),
    Failed(Failure),
}

impl From<Failure> for NotMeasured {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<NotMeasured> for Outcome {
    fn from(none: NotMeasured) -> Self {
        match none {
            NotMeasured::Skipped(reason) => Self::Skipped(reason),
            NotMeasured::Failed(failure) => Self::Failed(failure.to_string()),
        }
    }
}

fn measure(
    workload: &'static Workload,
    settings: &Settings,
    identity: &Identity,
) -> Result<Outcome, NotMeasured> {
    let contenders = settings.line_up(workload);
    let plan = workload.plan.in_mode(settings.mode);
    let cpus = workload.place.cpus(&system::cpus()).map_err(NotMeasured::Skipped)?;
    if let Some(reason) = strace::missing().filter(|_| plan.traced) {
        return Err(NotMeasured::Skipped(reason));
    }
    let rounds = settings.rounds.unwrap_or(settings.mode.rounds()).min(plan.most_rounds);
    let mut samples = Samples::new(contenders.len(), workload.figures.len());
    for round in 0..rounds {
        let mut seats: Vec<usize> = (0..contenders.len()).collect();
        seats.rotate_left(round as usize % contenders.len());
        let assignment = |seat: usize| Assignment {
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
                let figures =
                    if plan.traced { traced(&assignment(seat)) } else { single(&assignment(seat)) };
                present(seat, figures, &mut samples)?.inspect(|figures| samples.add(seat, figures));
            }
        } else {
            let mut pairs = Vec::new();
            for seat in seats {
                let pair = Pair::start(&assignment(seat), Command::new);
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
                pair.client.finish(WATCHDOG)?;
            }
        }
        if let Some(reason) = samples.all_absent() {
            return Err(NotMeasured::Skipped(reason.to_owned()));
        }
        eprint!(".");
        io::stderr().flush().ok();
    }
    Ok(Outcome::Measured(samples))
}

/// Returns a contender's result. If the contender cannot do this workload, notes that and returns `None`.
fn present<T>(
    seat: usize,
    result: Result<T, NotMeasured>,
    samples: &mut Samples,
) -> Result<Option<T>, Failure> {
    match result {
        Ok(figures) => Ok(Some(figures)),
        Err(NotMeasured::Skipped(reason)) => {
            samples.set_absent(seat, reason);
            Ok(None)
        }
        Err(NotMeasured::Failed(failure)) => Err(failure),
    }
}

/// Runs a client for a single turn.
fn single(assignment: &Assignment<'_>) -> Result<Vec<f64>, NotMeasured> {
    let mut pair = Pair::start(assignment, Command::new)?;
    let figures = pair.turn()?;
    pair.client.finish(WATCHDOG)?;
    Ok(figures)
}

/// Returns the system calls per operation that the additional turns of a longer run made.
fn traced(assignment: &Assignment<'_>) -> Result<Vec<f64>, NotMeasured> {
    const MORE: u32 = 2;
    let mut calls = [Calls::default(); 2];
    for (calls, turns) in calls.iter_mut().zip([1, 1 + MORE]) {
        let mut pair = Pair::start(assignment, strace::command)?;
        for _ in 0..turns {
            pair.turn()?;
        }
        *calls = Calls::parse(&pair.client.finish(WATCHDOG)?);
    }
    let [shorter, longer] = calls;
    if longer == shorter {
        return Err(Failure("strace counted nothing".to_owned()).into());
    }
    let operations = assignment.workload.plan.in_mode(assignment.mode).count;
    Ok(longer.per_operation(shorter, MORE * operations))
}

/// The contender, the workload, and where their processes run.
struct Assignment<'a> {
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
        assignment: &Assignment<'_>,
        command: impl Fn(std::path::PathBuf) -> Command,
    ) -> Result<Self, NotMeasured> {
        let program = std::env::current_exe()
            .map_err(|error| Failure(format!("the path of this program: {error}")))?;
        let name = format!("{} of {}", assignment.contender.name, assignment.workload.name);
        let [client_cpus, server_cpus] = assignment.cpus.clone();

        let server_args = ServerArgs { service: assignment.workload.service, cpus: server_cpus };
        let mut server = Command::new(&program);
        server.args(server_args.words());
        assignment.identity.leave_to(&mut server);
        let mut server = Running::start(format!("server for {name}"), server)?;
        let addresses = server.line(WATCHDOG)?;
        let servers = addresses.split(' ').map(str::parse).collect::<Result<_, _>>();

        let client_args = ClientArgs {
            contender: assignment.contender,
            task: Task {
                workload: assignment.workload,
                mode: assignment.mode,
                servers: servers
                    .map_err(|_| Failure(format!("{addresses}: not a list of addresses")))?,
            },
            cpus: client_cpus,
        };
        let mut client = command(program);
        client.args(client_args.words());
        assignment.identity.leave_to(&mut client);
        let mut client = Running::start(name, client)?;
        let answer = client.line(WATCHDOG)?;
        if let Some(reason) = answer.strip_prefix(SKIPPED) {
            return Err(NotMeasured::Skipped(reason.trim().to_owned()));
        }
        if answer != READY {
            return Err(Failure(format!("{}: {answer}", assignment.workload.name)).into());
        }
        Ok(Self {
            client,
            // A traced client prints its number of operations; strace has the figures.
            figures: if assignment.workload.plan.traced {
                1
            } else {
                assignment.workload.figures.len()
            },
            _server: server,
        })
    }

    fn turn(&mut self) -> Result<Vec<f64>, NotMeasured> {
        self.client.tell(GO);
        let answer = self.client.line(WATCHDOG)?;
        if let Some(reason) = answer.strip_prefix(SKIPPED) {
            return Err(NotMeasured::Skipped(reason.trim().to_owned()));
        }
        let figures: Result<Vec<f64>, _> = answer.split(' ').map(str::parse).collect();
        match figures {
            Ok(figures) if figures.len() == self.figures => Ok(figures),
            Ok(_) | Err(_) => Err(Failure(format!("{answer}: not the expected figures")).into()),
        }
    }
}
