//! Programs that are run and watched: in a group of their own, which goes when the time is up.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// What a program said, and how it ended.
pub struct Ran {
    pub output: String,
    pub errors: String,
    /// `None` where it had to be ended.
    pub status: Option<ExitStatus>,
    pub took: Duration,
}

/// A program at work.
pub struct Running {
    begun: Instant,
    group: Pid,
    input: Option<ChildStdin>,
    output: JoinHandle<String>,
    errors: JoinHandle<String>,
    ended: Receiver<()>,
    waiting: JoinHandle<io::Result<ExitStatus>>,
}

impl Running {
    pub fn start(mut command: Command, input: Stdio) -> io::Result<Running> {
        let begun = Instant::now();
        let mut child = command
            .process_group(0)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let id = i32::try_from(child.id()).expect("a process id");
        let (over, ended) = mpsc::channel();
        Ok(Running {
            begun,
            group: Pid::from_raw(id).expect("no process has the number zero"),
            input: child.stdin.take(),
            output: collect(child.stdout.take().expect("it is piped")),
            errors: collect(child.stderr.take().expect("it is piped")),
            ended,
            waiting: thread::spawn(move || {
                let status = child.wait();
                // Nobody listens any more where the time was up.
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
        // Where it has ended already, its status says why.
        let _ = writeln!(input, "{line}");
    }

    /// Waits for its end, or for that of the limit. What it leaves behind goes with it.
    pub fn finish(self, limit: Duration) -> io::Result<Ran> {
        let in_time = self.ended.recv_timeout(limit) != Err(RecvTimeoutError::Timeout);
        let took = self.begun.elapsed();
        // Its number stays the group's while any process is left in there.
        let _ = kill_process_group(self.group, Signal::KILL);
        let status = self.waiting.join().expect("it only waits")?;
        Ok(Ran {
            output: self.output.join().expect("it only reads"),
            errors: self.errors.join().expect("it only reads"),
            status: in_time.then_some(status),
            took,
        })
    }
}

/// Runs a program to its end, or to that of the limit.
pub fn run(command: Command, limit: Duration) -> io::Result<Ran> {
    Running::start(command, Stdio::null())?.finish(limit)
}

/// How many run side by side.
pub fn jobs() -> usize {
    number("FAULTS_JOBS", 2).max(1)
}

/// A number by the environment.
pub fn number(variable: &str, default: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text:?}")),
        Err(_) => default,
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before a failure is what there is.
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
