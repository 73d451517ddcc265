//! A network namespace for this process and one for its peer, with a veth pair between them. Both end with their
//! processes, so that nothing is left behind.

use std::net::IpAddr;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use rustix::process::{Pid, getpid, getppid};

use crate::remote::Remote;
use crate::support::subprocess::this_binary;

/// The peer's addresses.
pub const V4: &str = "10.99.0.2";
pub const V6: &str = "fd99::2";

pub struct Space {
    peer: Pid,
}

/// Returns a command that runs this program in its own network namespace. The caller adds the arguments.
pub fn command() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--net").arg(this_binary());
    command
}

/// Returns the reason if namespaces are not available.
pub fn missing() -> Option<String> {
    let probe = "ip link set lo up && nft add table inet probe && nsenter --version";
    run("unshare", &["--net", "sh", "-ec", probe]).err()
}

impl Space {
    /// Sets the networks up, and starts the peer in its own. [`command`] must have started this process.
    pub fn with_peer() -> (Space, Remote) {
        let peer = Remote::start_by(command()).at(ip(V4));
        let space = Space { peer: peer.pid() };
        let pid = peer.pid().as_raw_nonzero();
        here(&format!("ip link add cable type veth peer name cable netns {pid}"));
        here("ip addr add 10.99.0.1/24 dev cable && ip addr add fd99::1/64 dev cable nodad");
        here("ip link set cable up");
        space.there("ip link set lo up");
        space.there(&format!("ip addr add {V4}/24 dev cable"));
        space.there(&format!("ip addr add {V6}/64 dev cable nodad && ip link set cable up"));
        space.there("nft add table inet filter");
        space.there("nft 'add chain inet filter input { type filter hook input priority 0; }'");
        (space, peer)
    }

    /// Runs a shell command in the peer's network, and returns the time before that.
    pub fn there(&self, command: &str) -> Instant {
        let pid = self.peer.as_raw_nonzero().to_string();
        let begun = Instant::now();
        must("nsenter", &["--target", &pid, "--net", "sh", "-ec", command]);
        begun
    }

    pub fn rule(&self, rule: &str) -> Instant {
        self.there(&format!("nft 'add rule inet filter input {rule}'"))
    }

    pub fn no_rules(&self) {
        self.there("nft flush chain inet filter input");
    }
}

/// Runs a shell command in this process's own network, and returns the time before that.
pub fn here(command: &str) -> Instant {
    assert!(is_own(), "this would change the machine's own network");
    let begun = Instant::now();
    must("sh", &["-ec", command]);
    begun
}

/// Checks if this process has another network namespace than its parent.
pub fn is_own() -> bool {
    let parent = getppid().expect("this process has a parent");
    network(getpid()) != network(parent)
}

fn network(process: Pid) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{}/ns/net", process.as_raw_nonzero())).ok()
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn must(program: &str, arguments: &[&str]) {
    if let Err(reason) = run(program, arguments) {
        panic!("{reason}");
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(Output { stderr, .. }) => {
            let text = String::from_utf8_lossy(&stderr);
            let text = text.lines().next().unwrap_or_default();
            Err(format!("{program} {}: {text}", arguments.join(" ")))
        }
        Err(error) => Err(format!("{program}: {error}")),
    }
}
