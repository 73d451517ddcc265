//! The addresses on which the program itself listens.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::local::{canonical, is_always_local};

/// The listeners of the program; none is IPv4-mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OwnListeners(Vec<SocketAddr>);

impl OwnListeners {
    pub(super) fn add(&mut self, address: SocketAddr) {
        self.0.push(canonical(address));
    }

    /// Removes an address once.
    pub(super) fn remove(&mut self, address: SocketAddr) {
        let address = canonical(address);
        if let Some(index) = self.0.iter().position(|own| *own == address) {
            self.0.swap_remove(index);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the system must be asked if an address belongs to this machine.
    pub(super) fn need_local_check(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|own| own.ip().is_unspecified() && own.port() == address.port())
    }

    /// Returns whether an address certainly leads to a listener, without asking the system.
    pub(super) fn contain(&self, address: SocketAddr) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let address = canonical(address);
        self.0.iter().filter(|own| own.port() == address.port()).any(|own| {
            if own.ip().is_unspecified() {
                return is_always_local(address.ip());
            }
            match (own, address) {
                (SocketAddr::V4(own), SocketAddr::V4(address)) => {
                    *own.ip() == loopback_if_unspecified_v4(*address.ip())
                }
                (SocketAddr::V6(own), SocketAddr::V6(address)) => {
                    let scopes = [own.scope_id(), address.scope_id()];
                    *own.ip() == loopback_if_unspecified_v6(*address.ip())
                        && (scopes.contains(&0) || scopes[0] == scopes[1])
                }
                (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => {
                    false
                }
            }
        })
    }
}

/// Returns the address that a packet reaches: Linux treats the unspecified address as loopback.
fn loopback_if_unspecified_v4(ip: Ipv4Addr) -> Ipv4Addr {
    if ip.is_unspecified() { Ipv4Addr::LOCALHOST } else { ip }
}

/// Same as [`loopback_if_unspecified_v4`], for IPv6.
fn loopback_if_unspecified_v6(ip: Ipv6Addr) -> Ipv6Addr {
    if ip.is_unspecified() { Ipv6Addr::LOCALHOST } else { ip }
}
