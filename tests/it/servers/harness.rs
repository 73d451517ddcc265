//! How servers and the example are started, watched and ended.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The most that anything here may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(20);

pub fn skip(test: &str, reason: &str) {
    crate::support::skip(&format!("servers::{test}"), reason);
}

/// A server that runs until this is dropped.
pub struct Server {
    addresses: Vec<SocketAddr>,
    // Dropped in this order: the processes, then their files.
    group: Group,
    files: Scratch,
}

impl Server {
    /// With this signal it ends at once and leaves nothing behind; otherwise that is SIGTERM.
    pub fn stopped_by(mut self, signal: Signal) -> Self {
        self.group.stop = signal;
        self
    }

    /// Its first address, or its only one.
    pub fn address(&self) -> SocketAddr {
        self.at(0)
    }

    pub fn at(&self, number: usize) -> SocketAddr {
        self.addresses[number]
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> String {
        self.files.0.join(name).display().to_string()
    }

    /// Waits until it logs a line with this in it.
    #[track_caller]
    pub fn await_log(&self, part: &str) {
        self.await_line(part, |line| line.contains(part));
    }

    /// Waits until it logs just this line.
    #[track_caller]
    pub fn await_log_line(&self, whole: &str) {
        self.await_line(whole, |line| line == whole);
    }

    #[track_caller]
    fn await_line(&self, expected: &str, is_it: impl Fn(&str) -> bool) {
        let mut others = String::new();
        let until = Instant::now() + LIMIT;
        while let Ok(line) = self.group.lines.recv_timeout(remaining(until)) {
            if is_it(&line) {
                return;
            }
            others.push_str(&line);
            others.push('\n');
        }
        panic!("the server has not logged {expected:?}, but:\n{others}");
    }
}

/// Starts a server on free ports and waits until it prints a line with `ready` in it.
pub fn start<const N: usize>(
    files: Scratch,
    ready: &str,
    command: impl Fn(&Path, [u16; N]) -> Command,
) -> Server {
    let mut said = String::new();
    for _ in 0..TRIES {
        // Free now; another process may take one first, then the server ends and the next are tried.
        let free = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let addresses = free.each_ref().map(|listener| listener.local_addr().unwrap());
        drop(free);
        let group = Group::new(command(&files.0, addresses.map(|address| address.port())));
        while let Ok(line) = group.lines.recv_timeout(LIMIT) {
            if line.contains(ready) {
                return Server { addresses: addresses.to_vec(), group, files };
            }
            said.push_str(&line);
            said.push('\n');
        }
    }
    panic!("the server did not start on any of {TRIES} ports: {said}");
}

/// How often other ports are tried for a server.
const TRIES: usize = 5;

/// Where a program is; `None`, and told, where it isn't installed.
pub fn installed(test: &str, program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers live where only root's PATH looks, or nobody's.
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|at| at.path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    let others = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(others)
        .chain(versions.into_iter().rev())
        .map(|at| at.join(program))
        .find(|at| at.is_file());
    if found.is_none() {
        skip(test, &format!("{program} is not installed"));
    }
    found
}

/// Whether one of these folders has all of these files; told if not. A program can be installed without a part of it
/// that is in a package of its own.
pub fn has_parts(test: &str, folders: &[PathBuf], parts: &[&str]) -> bool {
    let missing = |folder: &PathBuf| parts.iter().find(|part| !folder.join(part).is_file());
    let whole = folders.iter().any(|folder| missing(folder).is_none());
    if !whole {
        skip(test, &format!("no folder has all of {}", parts.join(", ")));
    }
    whole
}

/// Whether what a program prints when it is asked in this way says that it can do something; told if not.
pub fn says_that_it_can(test: &str, program: &Path, ask: &[&str], ability: &str) -> bool {
    let output = Command::new(program).args(ask).stdin(Stdio::null()).output().unwrap();
    let can = [&output.stdout, &output.stderr]
        .iter()
        .any(|printed| String::from_utf8_lossy(printed).contains(ability));
    if !can {
        skip(test, &format!("{} was built without {ability}", program.display()));
    }
    can
}

/// Whether a program has the name of a setting in it; told if not. Not all can be asked what they were built with.
pub fn knows_setting(test: &str, program: &Path, setting: &str) -> bool {
    let code = fs::read(program).unwrap();
    let knows = code.windows(setting.len()).any(|part| part == setting.as_bytes());
    if !knows {
        skip(test, &format!("{} was built without {setting}", program.display()));
    }
    knows
}

/// A command that ends after a while even if nobody is left to kill it.
pub fn bounded(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120"]).arg(program);
    command
}

/// Runs a command to its end; it has to succeed.
pub fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The user and group numbers of `nobody`, for servers that refuse to run as root.
pub fn nobody() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let fields = users.lines().find_map(|line| line.strip_prefix("nobody:"))?;
    let mut fields = fields.split(':').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// A process group and what it prints, ended with this.
struct Group {
    leader: Child,
    lines: Receiver<String>,
    stop: Signal,
}

impl Group {
    fn new(mut command: Command) -> Self {
        let mut leader = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, lines) = mpsc::channel();
        forward(leader.stdout.take().unwrap(), tell.clone());
        forward(leader.stderr.take().unwrap(), tell);
        Group { leader, lines, stop: Signal::TERM }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Not reaped yet, so the number is still its own.
        let group = Pid::from_child(&self.leader);
        let _ = kill_process_group(group, self.stop);
        // Until no process of it is left that could print.
        let until = Instant::now() + STOP;
        while Instant::now() < until && self.lines.recv_timeout(remaining(until)).is_ok() {}
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.leader.wait();
    }
}

/// For an example that needs none.
pub const NO_SECRET: (&str, &str) = ("SECRET", "");

/// How long a server may take to end before it is killed.
const STOP: Duration = Duration::from_secs(5);

/// Reads on after nobody listens, so that the server can always write.
fn forward(printed: impl Read + Send + 'static, lines: mpsc::Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(printed).split(b'\n').map_while(Result::ok) {
            let _ = lines.send(String::from_utf8_lossy(&line).into_owned());
        }
    });
}

fn remaining(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// A directory that other users can read, removed with this.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sockeye-servers-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Scratch(path)
    }

    /// Writes a file that only its owner can read: this one, or whom the test runs as.
    pub fn write_private(&self, name: &str, contents: &str, owner: Option<(u32, u32)>) {
        let path = self.0.join(name);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, contents).unwrap();
        self.give(name, owner);
    }

    /// Makes a directory that belongs to this user, or to whom the test runs as.
    pub fn create_dir(&self, name: &str, owner: Option<(u32, u32)>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir(&path).unwrap();
        self.give(name, owner);
        path
    }

    fn give(&self, name: &str, owner: Option<(u32, u32)>) {
        if let Some((user, group)) = owner {
            chown(self.0.join(name), Some(user), Some(group)).unwrap();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs the example `connect` to its end, with this input; `None` where it is not built.
pub fn example(test: &str, args: &[&str], input: &str) -> Option<Output> {
    finished(Running::new(test, args)?, input)
}

/// Runs any example to its end, with this secret, a variable and its value, in its environment.
pub fn example_of(
    test: &str,
    name: &str,
    args: &[&str],
    secret: (&str, &str),
    input: &str,
) -> Option<Output> {
    finished(Running::of(test, name, args, secret)?, input)
}

fn finished(mut running: Running, input: &str) -> Option<Output> {
    // An example that ended early has no use for its input.
    let _ = running.child.stdin.take().unwrap().write_all(input.as_bytes());
    Some(running.output())
}

/// An example while it runs: killed when it takes too long, and with this.
pub struct Running {
    pub child: Child,
    watchdog: Option<Watchdog>,
}

/// Kills a process that is not done in time. Stopped before the process is reaped: until then its number
/// is its own.
struct Watchdog {
    done: mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Running {
    pub fn new(test: &str, args: &[&str]) -> Option<Running> {
        Running::of(test, "connect", args, NO_SECRET)
    }

    pub fn of(test: &str, name: &str, args: &[&str], secret: (&str, &str)) -> Option<Running> {
        // Tests are in target/PROFILE/deps.
        let mut path = std::env::current_exe().unwrap();
        path.pop();
        path.pop();
        path.extend(["examples", name]);
        if !path.exists() {
            skip(
                test,
                "the example is not built: `cargo test` and `cargo build --examples` do that",
            );
            return None;
        }
        let child = Command::new(path)
            .args(args)
            .env(secret.0, secret.1)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let (done, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            if stopped.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        Some(Running { child, watchdog: Some(Watchdog { done, thread }) })
    }

    /// What it still prints, and how it ends.
    pub fn output(mut self) -> Output {
        drop(self.child.stdin.take());
        let mut errors = self.child.stderr.take().unwrap();
        let errors = thread::spawn(move || {
            let mut told = Vec::new();
            errors.read_to_end(&mut told).unwrap();
            told
        });
        let mut stdout = Vec::new();
        if let Some(mut printed) = self.child.stdout.take() {
            printed.read_to_end(&mut stdout).unwrap();
        }
        let stderr = errors.join().unwrap();
        self.stop_watchdog();
        Output { status: self.child.wait().unwrap(), stdout, stderr }
    }

    fn stop_watchdog(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            drop(watchdog.done);
            let _ = watchdog.thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop_watchdog();
        // Does nothing where it was reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
