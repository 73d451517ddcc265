//! Shared by scenarios: peers at given addresses, and tests that need a network for themselves.

use std::net::IpAddr;

use crate::support::net::TcpListener;
use crate::support::{Peer, skip};

/// Starts a peer at this address that only reads. Returns `None` if the machine does not have the address.
pub fn peer_at(id: &str, ip: IpAddr) -> Option<Peer> {
    match TcpListener::bind((ip, 0)) {
        Ok(listener) => Some(Peer::scripted_on(listener, |_| ())),
        Err(error) => {
            skip(id, &format!("this machine cannot listen at {ip}: {error}"));
            None
        }
    }
}

// -------------------------------------------------------------------- a separate network

/// Runs a test in a process and a network of its own. Every port is free there, and the shell commands of `setup` may
/// add addresses and routes.
#[cfg(target_os = "linux")]
pub fn in_own_network(id: &str, setup: &[&str], tell: impl FnOnce()) {
    use std::process::{Command, Stdio};

    use crate::support::WATCHDOG;
    use crate::support::subprocess::{TestProcess, child_part, run_part, this_binary};

    if child_part().is_some() {
        return run_part(tell);
    }
    let setup = [&["ip link set lo up"], setup].concat().join(" && ");
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rn", "sh", "-c", script, "sh"]);
        command
    };
    let able = unshared(&setup).stdin(Stdio::null()).stderr(Stdio::null()).status();
    if !able.is_ok_and(|status| status.success()) {
        return skip(id, "this machine cannot create a network namespace");
    }
    let mut command = unshared(&format!("{setup} && exec \"$@\""));
    command.arg(this_binary());
    let test = id.replace('.', "::").replace('-', "_");
    TestProcess::start(&format!("conformance::{test}"), "alone", command).expect_success(WATCHDOG);
}

#[cfg(not(target_os = "linux"))]
pub fn in_own_network(id: &str, _setup: &[&str], _tell: impl FnOnce()) {
    skip(id, "this machine cannot create a network namespace");
}
