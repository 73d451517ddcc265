//! Runs the examples as programs.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use super::{WATCHDOG, skip};

/// Runs an example to its end with this input. Returns `None` if the example is not built.
pub fn run(test: &str, example: &str, args: &[&str], input: &str) -> Option<Output> {
    // Test binaries are in target/PROFILE/deps.
    let mut path = std::env::current_exe().expect("this runs from a file");
    path.pop();
    path.pop();
    path.extend(["examples", example]);
    if !path.exists() {
        let reason = "the example is not built: `cargo test` and `cargo build --examples` do that";
        skip(test, reason);
        return None;
    }
    let mut child = Command::new(path)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example starts");
    // The write fails if the example has already ended.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    let pid = Pid::from_child(&child);
    let (tell, ended) = mpsc::channel();
    thread::spawn(move || tell.send(child.wait_with_output()));
    match ended.recv_timeout(WATCHDOG) {
        Ok(output) => Some(output.expect("its output can be read")),
        Err(_) => {
            // The process has not been reaped yet, as far as this thread can know.
            let _ = kill_process(pid, Signal::KILL);
            panic!("{example} {args:?} still runs");
        }
    }
}

/// Returns the text on standard error.
pub fn stderr_text(output: &Output) -> &str {
    text(&output.stderr)
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("examples speak UTF-8")
}
