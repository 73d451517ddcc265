//! Child processes with a time limit, each in its own process group, which is killed at the end.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// A program's output and its exit status.
pub struct ChildOutput {
    pub output: String,
    pub errors: String,
    /// `None` if it was killed because its time was up.
    pub status: Option<ExitStatus>,
    pub took: Duration,
}

/// A running program.
pub struct ChildProcess {
    begun: Instant,
    group: Pid,
    input: Option<ChildStdin>,
    output: JoinHandle<String>,
    errors: JoinHandle<String>,
    ended: Receiver<()>,
    waiting: JoinHandle<io::Result<ExitStatus>>,
}

impl ChildProcess {
    pub fn start(mut command: Command, input: Stdio) -> io::Result<ChildProcess> {
        let begun = Instant::now();
        let mut child = command
            .process_group(0)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let id = i32::try_from(child.id()).expect("a process id");
        let (over, ended) = mpsc::channel();
        Ok(ChildProcess {
            begun,
            group: Pid::from_raw(id).expect("no process has the number zero"),
            input: child.stdin.take(),
            output: collect(child.stdout.take().expect("it is piped")),
            errors: collect(child.stderr.take().expect("it is piped")),
            ended,
            waiting: thread::spawn(move || {
                let status = child.wait();
                // If the time is up, the receiver is gone.
                let _ = over.send(());
                status
            }),
        })
    }

    pub fn pid(&self) -> Pid {
        self.group
    }

    pub fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it is piped");
        // If the program has ended, its status says why.
        let _ = writeln!(input, "{line}");
    }

    /// Waits until the program ends or the limit passes, and kills what is left of its group.
    pub fn finish(self, limit: Duration) -> io::Result<ChildOutput> {
        let in_time = self.ended.recv_timeout(limit) != Err(RecvTimeoutError::Timeout);
        let took = self.begun.elapsed();
        // The group keeps its number while any process is in it.
        let _ = kill_process_group(self.group, Signal::KILL);
        let status = self.waiting.join().expect("it only waits")?;
        Ok(ChildOutput {
            output: self.output.join().expect("it only reads"),
            errors: self.errors.join().expect("it only reads"),
            status: in_time.then_some(status),
            took,
        })
    }
}

/// Runs a program until it ends or the limit passes.
pub fn run(command: Command, limit: Duration) -> io::Result<ChildOutput> {
    ChildProcess::start(command, Stdio::null())?.finish(limit)
}

/// Returns the number of cases that run in parallel.
pub fn jobs() -> usize {
    number("FAULTS_JOBS", 2).max(1)
}

/// Returns the number in an environment variable.
pub fn number(variable: &str, default: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text:?}")),
        Err(_) => default,
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // If reading fails, the bytes up to there are the output.
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
