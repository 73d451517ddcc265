//! What scenarios share: peers at given addresses, and stories that need a network for themselves.

use std::net::{IpAddr, TcpListener};

use crate::support::{Peer, skip};

/// A peer at this address that only reads; `None` where the machine doesn't have the address.
pub fn peer_at(id: &str, ip: IpAddr) -> Option<Peer> {
    match TcpListener::bind((ip, 0)) {
        Ok(listener) => Some(Peer::on(listener, |_| ())),
        Err(error) => {
            skip(id, &format!("nobody can listen at {ip} here: {error}"));
            None
        }
    }
}

// -------------------------------------------------------------------- a network of one's own

/// Tells a story in a process and a network of its own, where every port is free and `setup` may add
/// addresses and routes: commands of the shell.
#[cfg(target_os = "linux")]
pub fn in_own_network(id: &str, setup: &[&str], tell: impl FnOnce()) {
    use std::process::{Command, Stdio};

    use crate::support::PATIENCE;
    use crate::support::alone::{Actor, part, play, this_binary};

    if part().is_some() {
        return play(tell);
    }
    let setup = [&["ip link set lo up"], setup].concat().join(" && ");
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rn", "sh", "-c", script, "sh"]);
        command
    };
    let able = unshared(&setup).stdin(Stdio::null()).stderr(Stdio::null()).status();
    if !able.is_ok_and(|status| status.success()) {
        return skip(id, "no network of its own can be made here");
    }
    let mut command = unshared(&format!("{setup} && exec \"$@\""));
    command.arg(this_binary());
    let test = id.replace('.', "::").replace('-', "_");
    Actor::start(&format!("conformance::{test}"), "alone", command).finishes(PATIENCE);
}

#[cfg(not(target_os = "linux"))]
pub fn in_own_network(id: &str, _setup: &[&str], _tell: impl FnOnce()) {
    skip(id, "no network of its own can be made here");
}
