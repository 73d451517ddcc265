//! The peer in another language: the Go program in the folder `go`. The harness builds it if `go` is installed. It
//! speaks the protocol of [`client`](crate::client), in place of this program.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::api::{Service, Slice, Task};
use crate::process::{Failure, Running};

/// The time limit of a build, which includes the standard library.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Builds the program. Without a `go` it only removes an earlier one.
pub fn build() -> Result<(), Failure> {
    let program = program();
    if version().is_none() {
        return match std::fs::remove_file(program) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure(format!("an earlier Go program is in the way: {error}")))
            }
            Ok(()) | Err(_) => Ok(()),
        };
    }
    let mut compiler = Command::new("go");
    compiler
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("versus/go"))
        // Uses only the installed compiler, and writes only to Cargo's target folder.
        .envs([("CGO_ENABLED", "0"), ("GOFLAGS", ""), ("GOTOOLCHAIN", "local"), ("GOWORK", "off")])
        .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache"));
    Running::start("go build".to_owned(), compiler)?.finish(WATCHDOG).map(drop)
}

/// Returns a version such as `go1.24.1 linux/amd64`, or `None` without a `go`.
pub fn version() -> Option<String> {
    let mut compiler = Command::new("go");
    compiler.arg("version");
    let mut running = Running::start("go version".to_owned(), compiler).ok()?;
    let line = running.line(WATCHDOG).ok()?;
    Some(line.trim_start_matches("go version ").to_owned())
}

/// Replaces this process with the Go program, which keeps this process's CPU affinity and limits.
pub fn start(task: &Task) -> io::Result<Slice> {
    let program = program();
    if !program.exists() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "no go"));
    }
    let plan = task.workload.plan.in_mode(task.mode);
    let wire = match task.workload.service {
        Service::Secure(_) => "tls",
        Service::Echo
        | Service::LateEcho
        | Service::OpenEcho
        | Service::Sink
        | Service::Source
        | Service::Close
        | Service::Hold
        | Service::EchoAndHold => "tcp",
    };
    let mut command = Command::new(program);
    command
        .arg(format!("{:?}", task.workload.client))
        .arg(wire)
        .arg(plan.turn.as_nanos().to_string())
        .arg(plan.count.to_string())
        .args(task.servers.iter().map(ToString::to_string));
    become_it(&mut command)
}

#[cfg(unix)]
fn become_it(command: &mut Command) -> io::Result<Slice> {
    Err(std::os::unix::process::CommandExt::exec(command))
}

#[cfg(not(unix))]
fn become_it(_command: &mut Command) -> io::Result<Slice> {
    let text = "a process can't become another program here";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

fn program() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("versus-go{}", std::env::consts::EXE_SUFFIX))
}
