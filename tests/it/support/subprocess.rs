//! Tests that need a process for themselves. The test binary runs itself again for one test, and an environment
//! variable tells the copy which part to run.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::with_limit;

const PART: &str = "SOCKEYE_IT_PART";
const DONE: &str = "part played to its end";

/// Returns the part that this process has in a test, or `None` in the process that the user started.
pub fn child_part() -> Option<String> {
    env::var(PART).ok()
}

/// Runs `body` of the test `name` (with its module) in a process of its own.
#[track_caller]
pub fn in_subprocess(name: &str, limit: Duration, body: impl FnOnce()) {
    match child_part() {
        Some(_) => run_part(body),
        None => TestProcess::new(name, "alone").expect_success(limit),
    }
}

/// Does the same as another user than root, whose threads can be limited.
#[cfg(target_os = "linux")]
#[track_caller]
pub fn in_unprivileged_subprocess(name: &str, limit: Duration, body: impl FnOnce()) {
    use std::os::unix::process::CommandExt;

    const UNPRIVILEGED: u32 = 65_534;
    if child_part().is_some() {
        return run_part(body);
    }
    let mut command = Command::new(this_binary());
    if rustix::process::getuid().is_root() {
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
        let mut listing = Command::new(this_binary());
        let able = listing.arg("--list").uid(UNPRIVILEGED).gid(UNPRIVILEGED).output();
        if !able.is_ok_and(|output| output.status.success()) {
            return super::skip(name, "user 65534 may not run the test binary");
        }
    }
    TestProcess::start(name, "alone", command).expect_success(limit);
}

/// Runs this process's part and prints a line at its end. Without the line, a filter that matches no test would pass as
/// well.
pub fn run_part(body: impl FnOnce()) {
    body();
    println!("\n{DONE}");
}

/// A copy of the test binary that runs one part of a test.
pub struct TestProcess {
    child: Child,
    lines: BufReader<ChildStdout>,
    /// The process's standard error, such as expected panics. It is shown only if the test fails.
    stderr: Option<JoinHandle<String>>,
    input: Option<ChildStdin>,
    name: String,
}

impl TestProcess {
    pub fn new(name: &str, part: &str) -> TestProcess {
        TestProcess::start(name, part, Command::new(this_binary()))
    }

    /// Starts the process with `command`, to which it adds the binary's arguments.
    pub fn start(name: &str, part: &str, mut command: Command) -> TestProcess {
        let mut child = command
            .args([name, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the test binary can be started");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        let stderr = child.stderr.take().map(|stderr| thread::spawn(move || keep(stderr)));
        let input = child.stdin.take();
        TestProcess { child, lines, stderr, input, name: name.to_owned() }
    }

    /// Waits for a line that begins with `word` and returns the rest of it.
    #[track_caller]
    pub fn expect_line(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            let count = self.lines.read_line(&mut line).expect("its output is text");
            if count == 0 {
                let stderr = self.stderr.take().map(JoinHandle::join);
                panic!("{} ended without a line {word:?}\n{stderr:?}", self.name);
            }
            if let Some(rest) = line.trim_end().strip_prefix(word) {
                return rest.trim_start().to_owned();
            }
        }
    }

    pub fn send_line(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it is piped");
        writeln!(input, "{line}").expect("the other process reads its input");
    }

    /// Waits until the process has completed its part.
    #[track_caller]
    pub fn expect_success(mut self, limit: Duration) {
        drop(self.input.take());
        let name = self.name.clone();
        let id = self.child.id();
        let watched = within_or_kill(limit, id, move || {
            let mut output = String::new();
            self.lines.read_to_string(&mut output).expect("its output is text");
            let status = self.child.wait().expect("wait accepts a child of this process");
            let stderr = self.stderr.take().expect("it is read once");
            (status, output, stderr.join().expect("it only reads"))
        });
        let (status, output, stderr) = watched;
        assert!(
            status.success() && output.contains(DONE),
            "{name} in its own process: {status}\n{output}\n{stderr}"
        );
        // Such as measurements.
        println!("{output}");
    }
}

/// Reads to the end. Lines about skipped tests are printed at once.
fn keep(stderr: ChildStderr) -> String {
    let mut kept = String::new();
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if line.starts_with("skipped: ") {
            eprintln!("{line}");
        }
        kept.push_str(&line);
        kept.push('\n');
    }
    kept
}

/// Like [`within`], but kills the process at the limit.
#[track_caller]
fn within_or_kill<T: Send + 'static>(
    limit: Duration,
    id: u32,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    use rustix::process::{Pid, Signal, kill_process};
    let (over, watch) = std::sync::mpsc::channel::<()>();
    let killer = thread::spawn(move || {
        if watch
            .recv_timeout(limit)
            .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            let pid =
                Pid::from_raw(i32::try_from(id).expect("a process id fits")).expect("not zero");
            // The process may have ended at the same moment.
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    let value = with_limit(limit + Duration::from_secs(5), work);
    drop(over);
    killer.join().expect("it only waits");
    value
}

pub fn this_binary() -> std::path::PathBuf {
    env::current_exe().expect("the system reports the path")
}

/// Returns the next line that the parent process sends, or `None` at its end.
pub fn next_line() -> Option<String> {
    let mut line = String::new();
    let count = std::io::stdin().lock().read_line(&mut line).expect("the input is text");
    (count > 0).then(|| line.trim_end().to_owned())
}

/// Prints a line for the parent process.
pub fn say(line: &str) {
    println!("\n{line}");
}
