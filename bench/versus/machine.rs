//! The machine and versions on which the figures were taken.

use std::fs;
use std::process::Command;

use crate::go;

/// Returns lines of `name: value`.
pub fn describe() -> String {
    [
        format!("cpu: {} ({} usable)", cpu_model(), cpus()),
        format!("kernel: {} {}", std::env::consts::OS, kernel()),
        format!("rustc: {}", compiler()),
        format!("versions: {}", versions()),
        format!("command: {}", command()),
        format!("load before: {}", load()),
    ]
    .join("\n")
}

/// Returns the same as a sentence, for BENCHMARKING.md.
pub fn sentence() -> String {
    format!(
        "By `{}`, on {} CPUs of {}, {} {}, {}, with {}.",
        command(),
        cpus(),
        cpu_model(),
        std::env::consts::OS,
        kernel(),
        compiler(),
        versions(),
    )
}

/// Returns the contenders' versions.
fn versions() -> String {
    let mut versions: Vec<String> = ["sockeye", "rustls", "tokio", "tokio-rustls"]
        .into_iter()
        .map(|name| format!("{name} {}", locked_version(name)))
        .collect();
    versions.extend(go::version());
    versions.join(", ")
}

/// Returns a crate's version in the lock file.
fn locked_version(name: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let after_name = lock.split_once(&format!("\nname = \"{name}\"\nversion = \""));
    after_name.and_then(|(_, rest)| rest.split('"').next()).unwrap_or("unknown")
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

/// Returns the load averages over 1, 5 and 15 minutes.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = text.split_whitespace().take(3).collect();
    known(&load.join(" "))
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(':'));
    known(model.map_or("", |(_, model)| model))
}

fn kernel() -> String {
    known(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default())
}

fn compiler() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(rustc).arg("--version").output();
    known(&output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    ))
}

fn command() -> String {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.is_empty() {
        return COMMAND.to_owned();
    }
    format!("{COMMAND} -- {}", words.join(" "))
}

const COMMAND: &str = "cargo bench -p sockeye-bench";

fn known(text: &str) -> String {
    match text.trim() {
        "" => "unknown".to_owned(),
        text => text.to_owned(),
    }
}
