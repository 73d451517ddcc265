//! Whether an address is one of this machine's.
//!
//! The question decides whether a connection is a loop, so only a definite answer is one: whatever keeps the
//! system from answering is an error, and the caller refuses. Sockets are made for the question and not kept:
//! a thread may be in another network namespace than the one before it.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod route;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Whether a connection to this address would stay on this machine. `bind` is the local address that it is
/// bound to, if it is. Nothing is sent.
///
/// # Errors
/// The system's, if it did not tell.
pub(crate) fn is_local(address: SocketAddr, bind: Option<SocketAddr>) -> io::Result<bool> {
    let address = super::unmapped(address);
    if is_certainly_local(address.ip()) {
        return Ok(true);
    }
    ask(address, bind)
}

/// Whether it is local on every machine. Linux takes the unspecified addresses for the loopback ones.
pub(super) fn is_certainly_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

/// Asks the routes, first as for any source and then from the one that the connection would have: rules may
/// route by source.
///
/// Kernels in user space, such as gVisor's, may take every route for one to another machine. They tell by the
/// source: a socket that is connected to an address of its own machine gets that very address.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn ask(address: SocketAddr, bind: Option<SocketAddr>) -> io::Result<bool> {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use route::{Leads, leads};

    let mut source = bind.map(|bind| bind.ip().to_canonical()).filter(|ip| !ip.is_unspecified());
    match leads(address, None)? {
        Leads::Here => return Ok(true),
        Leads::Nowhere => {}
        Leads::ToAnother => {
            let unspecified: IpAddr = match address {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((unspecified, 0))?;
            socket.connect(address)?;
            let chosen = socket.local_addr()?.ip();
            if chosen == address.ip() {
                return Ok(true);
            }
            source.get_or_insert(chosen);
        }
    }
    match source {
        Some(source) if source.is_ipv4() == address.is_ipv4() => {
            Ok(leads(address, Some(source))? == Leads::Here)
        }
        Some(_) | None => Ok(false),
    }
}

/// Elsewhere an address can be bound to exactly if it is one of this machine.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn ask(mut address: SocketAddr, _bind: Option<SocketAddr>) -> io::Result<bool> {
    address.set_port(0);
    match UdpSocket::bind(address) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_unspecified_addresses_are_of_this_machine() {
        for ip in ["127.0.0.1", "127.255.255.254", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"] {
            assert!(is_local((ip.parse::<IpAddr>().unwrap(), 80).into(), None).unwrap(), "{ip}");
        }
    }

    #[test]
    fn addresses_that_are_nobodys_are_not_of_this_machine() {
        for ip in
            ["198.51.100.7", "255.255.255.255", "240.0.0.1", "2001:db8::7", "::ffff:240.0.0.1"]
        {
            assert!(!is_local((ip.parse::<IpAddr>().unwrap(), 80).into(), None).unwrap(), "{ip}");
        }
    }
}
