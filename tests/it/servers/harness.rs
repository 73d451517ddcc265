//! How servers and the example are started, watched and ended.

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The most that anything here may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(20);

pub fn skip(test: &str, reason: &str) {
    // The harness shows this where it would swallow `eprintln!`.
    let _ = writeln!(io::stderr(), "skipped: servers::{test}: {reason}");
}

/// A server that runs until this is dropped.
pub struct Server {
    pub address: SocketAddr,
    // Dropped in this order: the processes, then their files.
    pub _group: Group,
    pub _files: Scratch,
}

impl Server {
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

/// Where a program is; `None`, and told, where it isn't installed.
pub fn installed(test: &str, program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers live where only root's PATH looks.
    let others = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(others)
        .map(|at| at.join(program))
        .find(|at| at.is_file());
    if found.is_none() {
        skip(test, &format!("{program} is not installed"));
    }
    found
}

/// A command that ends after a while even if nobody is left to kill it.
pub fn bounded(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.arg("120").arg(program);
    command
}

/// Starts a server on a free port and waits until a line of its standard error has `ready` in it.
pub fn start(command: impl Fn(u16) -> Command, ready: &str) -> (Group, SocketAddr) {
    let mut said = String::new();
    for _ in 0..TRIES {
        // Free now; another process may take it first, then the server ends and the next port is tried.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let child = command(free.port())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut group = Group(child);
        let errors = BufReader::new(group.0.stderr.take().unwrap());
        let (tell, lines) = mpsc::channel();
        // Reads on after nobody listens, so that the server can always write.
        thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        while let Ok(line) = lines.recv_timeout(LIMIT) {
            if line.contains(ready) {
                return (group, free);
            }
            said.push_str(&line);
            said.push('\n');
        }
    }
    panic!("the server did not start on any of {TRIES} ports: {said}");
}

/// How many ports are tried for a server.
const TRIES: usize = 5;

/// A process group, killed with this.
pub struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Not reaped yet, so the number is still its own.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
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
    let mut running = Running::new(test, args)?;
    // An example that ended early has no use for its input.
    let _ = running.child.stdin.take().unwrap().write_all(input.as_bytes());
    Some(running.output())
}

/// The example `connect` while it runs: killed when it takes too long, and with this.
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
        // Tests are in target/PROFILE/deps.
        let mut path = std::env::current_exe().unwrap();
        path.pop();
        path.pop();
        path.extend(["examples", "connect"]);
        if !path.exists() {
            skip(
                test,
                "the example is not built: `cargo test` and `cargo build --examples` do that",
            );
            return None;
        }
        let child = Command::new(path)
            .args(args)
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
