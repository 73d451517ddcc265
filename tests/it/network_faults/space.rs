//! Two network namespaces connected by a virtual cable. Changes of routes, links and filters stay inside, and are
//! removed with the value.

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::getuid;

use crate::support::skip;
use crate::support::subprocess::{TestProcess, this_binary};

/// The peer's addresses, at the other end of the cable.
pub const V4: &str = "10.99.0.2";
pub const OTHER_V4: &str = "10.99.0.3";
pub const V6: &str = "fd99::2";

const CLIENT: [&str; 2] = ["10.99.0.1", "fd99::1"];

pub struct Space {
    client: String,
    peer: String,
}

impl Space {
    /// Returns `None` and prints the reason if the machine or the user cannot create them.
    pub fn for_test(name: &str) -> Option<Space> {
        match Space::make() {
            Ok(space) => Some(space),
            Err(reason) => {
                skip(name, &reason);
                None
            }
        }
    }

    fn make() -> Result<Space, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        if !getuid().is_root() {
            return Err("only root can create network namespaces".to_owned());
        }
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("sockeye-{}-{number}", std::process::id());
        // From here on a drop removes the parts that exist, even if the rest fails.
        let space = Space { client: format!("{name}-c"), peer: format!("{name}-p") };
        for space in [&space.client, &space.peer] {
            run("ip", &["netns", "add", space])?;
        }
        space.at_client("ip link set lo up")?;
        space.at_peer("ip link set lo up")?;
        space.at_client(&format!(
            "ip link add cable type veth peer name cable netns {}",
            space.peer
        ))?;
        for address in CLIENT {
            space.at_client(&add_address(address))?;
        }
        for address in [V4, OTHER_V4, V6] {
            space.at_peer(&add_address(address))?;
        }
        space.at_client("ip link set cable up")?;
        space.at_peer("ip link set cable up")?;
        space.at_peer("nft add table inet filter")?;
        space
            .at_peer("nft 'add chain inet filter input { type filter hook input priority 0; }'")?;
        Ok(space)
    }

    /// Runs a shell command in the client's network.
    pub fn at_client(&self, command: &str) -> Result<(), String> {
        in_space(&self.client, command)
    }

    /// Runs a shell command in the peer's network.
    pub fn at_peer(&self, command: &str) -> Result<(), String> {
        in_space(&self.peer, command)
    }

    pub fn client(&self, test: &str) -> TestProcess {
        TestProcess::start(test, "client", binary_in(&self.client))
    }

    /// Starts the peer's process and returns it with the port that it listens on.
    pub fn peer(&self, test: &str) -> (TestProcess, u16) {
        let mut peer = TestProcess::start(test, "peer", binary_in(&self.peer));
        let port = peer.expect_line("listens").parse().expect("a port");
        (peer, port)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        for space in [&self.client, &self.peer] {
            // The command fails if the namespace was not created.
            let _ = run("ip", &["netns", "del", space]);
        }
    }
}

/// Returns a command that adds an address without duplicate address detection, which takes a second.
fn add_address(address: &str) -> String {
    if address.contains(':') {
        format!("ip addr add {address}/64 dev cable nodad")
    } else {
        format!("ip addr add {address}/24 dev cable")
    }
}

fn binary_in(space: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", space]).arg(this_binary());
    command
}

fn in_space(space: &str, command: &str) -> Result<(), String> {
    run("ip", &["netns", "exec", space, "sh", "-ec", command])
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    match output {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(Output { stderr, .. }) => {
            let text = String::from_utf8_lossy(&stderr);
            let text = text.lines().next().unwrap_or_default();
            Err(format!("{} {}: {text}", program, arguments.join(" ")))
        }
        Err(error) => Err(format!("{program}: {error}")),
    }
}
