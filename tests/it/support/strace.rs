//! Runs a test under strace, in a process of its own.

use std::process::{Command, Stdio};

use super::subprocess::{TestProcess, child_part, run_part, this_binary};
use super::{WATCHDOG, skip};

/// Runs `body` of the test `name` under strace with these arguments. Returns the log, or `None` in the process under
/// strace and if there is no strace.
pub fn run(name: &str, args: &[&str], body: impl FnOnce()) -> Option<String> {
    if child_part().is_some() {
        run_part(body);
        return None;
    }
    let found = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        skip(name, "there is no strace");
        return None;
    }
    let id = std::process::id();
    let log = format!("{}/strace-{}-{id}", env!("CARGO_TARGET_TMPDIR"), name.replace(':', "-"));
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", &log]).args(args).arg(this_binary());
    TestProcess::start(name, "alone", command).expect_success(WATCHDOG);
    let text = std::fs::read_to_string(&log).expect("strace has written it");
    std::fs::remove_file(&log).expect("it is there");
    Some(text)
}
