//! Child processes that answer in lines. Every wait is bounded, and every exit path kills and reaps them.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// A child process. Dropping it kills it.
pub struct Running {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Running {
    /// Starts `command`; `name` is for messages. Must be called on the main thread: on Linux a child dies with the
    /// thread that started it.
    pub fn start(name: String, mut command: Command) -> Result<Self, Failure> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Err(Failure(format!("{name}: {error}"))),
        };
        let input = child.stdin.take();
        let output = child.stdout.take().expect("stdout is piped");
        let mut complaints = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let (message, errors) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            complaints.read_to_string(&mut text).ok();
            message.send(text).ok();
        });
        Ok(Self { name, child, input, lines, errors })
    }

    /// Sends a line. If the child is gone, the next [`line`](Self::line) reports that.
    pub fn tell(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            writeln!(input, "{line}").ok();
        }
    }

    /// Returns the next line that the child prints.
    pub fn line(&mut self, limit: Duration) -> Result<String, Failure> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                self.child.kill().ok();
                let late = format!("no answer within {limit:?}");
                Err(self.failure(&late))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let end = self.end(limit)?;
                Err(self.failure(&end))
            }
        }
    }

    /// Closes the child's input, waits for its end, and returns its standard error.
    pub fn finish(mut self, limit: Duration) -> Result<String, Failure> {
        self.input = None;
        let end = self.end(limit)?;
        let text = self.complaints();
        match self.child.try_wait() {
            Ok(Some(status)) if status.success() => Ok(text),
            _ => Err(Failure(format!("{}: {end}: {}", self.name, head(&text)))),
        }
    }

    /// Waits until the process ends, for at most `limit`, and returns how it ended.
    fn end(&mut self, limit: Duration) -> Result<String, Failure> {
        let until = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(format!("ended early, {status}")),
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(1)),
                Ok(None) => {
                    self.child.kill().ok();
                    return Err(self.failure(&format!("does not end within {limit:?}")));
                }
                Err(error) => return Err(Failure(format!("{}: {error}", self.name))),
            }
        }
    }

    fn failure(&mut self, what: &str) -> Failure {
        let complaints = self.complaints();
        Failure(format!("{}: {what}: {}", self.name, head(&complaints)))
    }

    /// Returns the child's standard error. The child must have ended or been killed.
    fn complaints(&mut self) -> String {
        // A grandchild may still have the pipe open.
        self.errors.recv_timeout(Duration::from_secs(5)).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Returns the first lines of standard error, which have the panic or the error.
fn head(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.take(3).collect::<Vec<_>>().join(" / ")
}

/// Why a run has no figures.
#[derive(Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_end_matches([':', ' ']))
    }
}
