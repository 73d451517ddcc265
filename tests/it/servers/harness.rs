//! Starts, watches and ends servers and examples.

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

/// The longest time that a step may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(20);

pub fn skip(test: &str, reason: &str) {
    crate::support::skip(&format!("servers::{test}"), reason);
}

/// A server that runs until this value is dropped.
pub struct Server {
    addresses: Vec<SocketAddr>,
    // The fields are dropped in this order: the processes, then their files.
    group: Group,
    files: Scratch,
}

impl Server {
    /// Sets the signal that ends the server at once and without leftovers; the default is SIGTERM.
    pub fn stopped_by(mut self, signal: Signal) -> Self {
        self.group.stop = signal;
        self
    }

    /// Returns the first or only address.
    pub fn address(&self) -> SocketAddr {
        self.at(0)
    }

    pub fn at(&self, number: usize) -> SocketAddr {
        self.addresses[number]
    }

    /// Returns the path of one of its files.
    pub fn file(&self, name: &str) -> String {
        self.files.0.join(name).display().to_string()
    }

    /// Waits until the server logs a line that contains `part`.
    #[track_caller]
    pub fn await_log(&self, part: &str) {
        self.await_line(part, |line| line.contains(part));
    }

    /// Waits until the server logs exactly this line.
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

/// Starts a server on free ports and waits until it prints a line that contains `ready`.
pub fn start<const N: usize>(
    files: Scratch,
    ready: &str,
    command: impl Fn(&Path, [u16; N]) -> Command,
) -> Server {
    let mut said = String::new();
    for _ in 0..TRIES {
        // Another process may take one of these ports first; then the server exits and the next ports are tried.
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

/// The number of tries with other ports.
const TRIES: usize = 5;

/// Returns the path of a program, or records a skip and returns `None` if it is not installed.
pub fn installed(test: &str, program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers may be in directories that only root's PATH contains, or no PATH at all.
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

/// Checks that one of these folders has all of these files, and records a skip otherwise. Some parts of a program are
/// in packages of their own.
pub fn has_parts(test: &str, folders: &[PathBuf], parts: &[&str]) -> bool {
    let missing = |folder: &PathBuf| parts.iter().find(|part| !folder.join(part).is_file());
    let whole = folders.iter().any(|folder| missing(folder).is_none());
    if !whole {
        skip(test, &format!("no folder has all of {}", parts.join(", ")));
    }
    whole
}

/// Checks that the output of a program, run with `ask`, contains this ability, and records a skip otherwise.
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

/// Checks that a program's binary contains the name of a setting, and records a skip otherwise. Not every program
/// reports its build options.
pub fn knows_setting(test: &str, program: &Path, setting: &str) -> bool {
    let code = fs::read(program).unwrap();
    let knows = code.windows(setting.len()).any(|part| part == setting.as_bytes());
    if !knows {
        skip(test, &format!("{} was built without {setting}", program.display()));
    }
    knows
}

/// Returns a command that ends after a while even if no process is left to kill it.
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

/// Returns the user and group ids of an unprivileged user, for servers that refuse to run as root.
pub fn unprivileged_user() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let fields = users.lines().find_map(|line| line.strip_prefix("nobody:"))?; // prose: quoted
    let mut fields = fields.split(':').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// A process group and its output, ended when the value is dropped.
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
        // The leader has not been reaped yet, so its id is still valid.
        let group = Pid::from_child(&self.leader);
        let _ = kill_process_group(group, self.stop);
        // Waits until no process of the group is left that could print.
        let until = Instant::now() + STOP;
        while Instant::now() < until && self.lines.recv_timeout(remaining(until)).is_ok() {}
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.leader.wait();
    }
}

/// The environment of an example that needs no secret.
pub const NO_SECRET: (&str, &str) = ("SECRET", "");

/// The time that a server may take to end before it is killed.
const STOP: Duration = Duration::from_secs(5);

/// Reads until the end, even without a receiver, so that the server can always write.
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

/// A directory that other users can read, removed when the value is dropped.
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

    /// Writes a file that only its owner can read: this user, or the user of the test.
    pub fn write_private(&self, name: &str, contents: &str, owner: Option<(u32, u32)>) {
        let path = self.0.join(name);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, contents).unwrap();
        self.give(name, owner);
    }

    /// Makes a directory that belongs to this user, or to the user of the test.
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

/// Runs the example `connect` to its end with this input. Returns `None` if it is not built.
pub fn example(test: &str, args: &[&str], input: &str) -> Option<Output> {
    finished(Running::new(test, args)?, input)
}

/// Runs any example to its end, with this environment variable as its secret.
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
    // The write fails if the example has already ended.
    let _ = running.child.stdin.take().unwrap().write_all(input.as_bytes());
    Some(running.output())
}

/// Returns the address on which an example says that it listens. Takes its standard error up to that line.
pub fn listening(running: &mut Running) -> SocketAddr {
    let messages = running.child.stderr.as_mut().expect("it is piped");
    // Byte by byte, because the rest is for `output`.
    let mut said = Vec::new();
    while !said.ends_with(b"\n") || !text(&said).contains("listening on ") {
        let mut byte = [0];
        messages.read_exact(&mut byte).expect("the example listens");
        said.push(byte[0]);
    }
    let (_, after) = text(&said).rsplit_once("listening on ").expect("it was found");
    let address = after.split_whitespace().next().expect("the address follows");
    address.parse().expect("it is an address")
}

/// A running example, killed after too long or when the value is dropped.
pub struct Running {
    pub child: Child,
    watchdog: Option<Watchdog>,
}

/// A thread that kills a process after the time limit. It is stopped before the process is reaped, because the process
/// id is valid only until then.
struct Watchdog {
    done: mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Running {
    pub fn new(test: &str, args: &[&str]) -> Option<Running> {
        Running::of(test, "connect", args, NO_SECRET)
    }

    pub fn of(test: &str, name: &str, args: &[&str], secret: (&str, &str)) -> Option<Running> {
        // Test binaries are in target/PROFILE/deps.
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

    /// Returns the remaining output and the exit status.
    pub fn output(mut self) -> Output {
        drop(self.child.stdin.take());
        let mut errors = self.child.stderr.take().unwrap();
        let errors = thread::spawn(move || {
            let mut message = Vec::new();
            errors.read_to_end(&mut message).unwrap();
            message
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
        // Does nothing if the process was reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
