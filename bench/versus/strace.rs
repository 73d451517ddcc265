//! System calls per operation from `strace -c`. It counts all calls of a process, so a shorter run is subtracted from
//! a longer one.

use std::process::{Command, Stdio};

/// Returns the reason if strace is not available.
pub fn missing() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("strace is a tool of Linux".to_owned());
    }
    let probe = Command::new("strace").args(["-f", "-c", "true"]).stdin(Stdio::null()).output();
    match probe {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "strace does not work here: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Some(format!("strace: {error}")),
    }
}

/// Returns a command that runs `program` under strace, which writes the counts to standard error at the end.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-U", "calls,name"]).arg(program);
    command
}

/// Numbers of a process's system calls, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    pub receive: u64,
    pub send: u64,
    pub wait: u64,
    pub other: u64,
}

impl Calls {
    /// Parses the table of `strace -c -U calls,name`.
    pub fn parse(table: &str) -> Self {
        let mut calls = Self::default();
        for line in table.lines() {
            let Some((count, name)) = line.trim().split_once(char::is_whitespace) else {
                continue;
            };
            let Ok(count) = count.parse::<u64>() else {
                continue;
            };
            match name.trim() {
                "total" => {}
                "read" | "readv" | "recvfrom" | "recvmsg" => calls.receive += count,
                "write" | "writev" | "sendto" | "sendmsg" => calls.send += count,
                "poll" | "ppoll" | "select" | "pselect6" | "epoll_wait" | "epoll_pwait"
                | "futex" => {
                    calls.wait += count;
                }
                _ => calls.other += count,
            }
        }
        calls
    }

    /// Returns the calls per operation of the `operations` that this run made beyond `shorter`: the total, then by
    /// purpose.
    pub fn per_operation(self, shorter: Self, operations: u32) -> Vec<f64> {
        let per = |long: u64, short: u64| (long as f64 - short as f64) / f64::from(operations);
        let by_purpose = [
            per(self.receive, shorter.receive),
            per(self.send, shorter.send),
            per(self.wait, shorter.wait),
            per(self.other, shorter.other),
        ];
        let mut figures = vec![by_purpose.iter().sum()];
        figures.extend(by_purpose);
        figures
    }
}
