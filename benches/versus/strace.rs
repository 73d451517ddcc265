//! System calls per operation, told by `strace -c`: what a process called in all, so that the difference
//! between a longer and a shorter run is what the additional turns called.

use std::process::{Command, Stdio};

/// Why there is nothing to be told, if so.
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

/// `program` under strace. The counts come on stderr, when it has ended.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-U", "calls,name"]).arg(program);
    command
}

/// How often a process called the system, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    pub receive: u64,
    pub send: u64,
    pub wait: u64,
    pub other: u64,
}

impl Calls {
    /// From the table of `strace -c -U calls,name`.
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

    /// What each of `operations` cost that this run made beyond `shorter`: in all, then by purpose.
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
