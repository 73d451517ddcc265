//! What the figures were taken on: they mean nothing without it.

use std::fs;
use std::process::Command;

/// Lines of `name: value`.
pub fn describe() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    [
        format!("cpu: {} ({cpus} usable)", cpu_model()),
        format!("kernel: {} {}", std::env::consts::OS, kernel()),
        format!("rustc: {}", compiler()),
        format!("command: {}", command()),
        format!("load before: {}", load()),
    ]
    .join("\n")
}

/// The system's load averages over 1, 5 and 15 minutes.
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
        return "cargo bench".to_owned();
    }
    format!("cargo bench -- {}", words.join(" "))
}

fn known(text: &str) -> String {
    match text.trim() {
        "" => "unknown".to_owned(),
        text => text.to_owned(),
    }
}
