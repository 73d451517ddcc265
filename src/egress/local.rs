//! Asks the system whether an address belongs to this machine. The rules use it to detect connections to the program's
//! own listener.
//!
//! The result decides whether a connection is a loop, so only a definite answer is used: if the system does not answer,
//! the function returns an error and the caller refuses. The sockets for the query are not kept, because the next
//! thread may be in another network namespace.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod route;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::options::TcpOptions;

/// Returns whether a connection to this address, with these options, would stay on this machine. Nothing is sent to the
/// network.
///
/// Routing rules may depend on the options. The address is local if it is with them or without them.
///
/// # Errors
/// The system's error, if it did not answer.
pub(crate) fn is_local(address: SocketAddr, options: &TcpOptions) -> io::Result<bool> {
    let address = canonical(address);
    if is_always_local(address.ip()) {
        return Ok(true);
    }
    ask(address, options)
}

/// Converts an IPv4-mapped address to the IPv4 address that a connection to it uses.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

/// Returns whether the address is local on every machine. Linux treats the unspecified addresses as loopback.
pub(super) fn is_always_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

/// Queries the routing tables, first without a source address and then with the connection's. Routing rules may depend
/// on the source.
///
/// User-space kernels, such as gVisor, may report every route as one to another machine. There the source address
/// decides: a socket that is connected to an address of its own machine gets that same address as its source.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn ask(address: SocketAddr, options: &TcpOptions) -> io::Result<bool> {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use route::{Leads, Via, interface, leads};

    let mut source =
        options.bind.map(|bind| bind.ip().to_canonical()).filter(|ip| !ip.is_unspecified());
    match leads(address, None, Via::default())? {
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
    let source = source.filter(|source| source.is_ipv4() == address.is_ipv4());
    if source.is_some() && leads(address, source, Via::default())? == Leads::Here {
        return Ok(true);
    }
    let interface = options.rare().bind_device.as_deref().map(interface).transpose()?;
    let via = Via { mark: options.rare().mark, interface };
    Ok(via != Via::default() && leads(address, source, via)? == Leads::Here)
}

/// Tries to bind to the address. On systems other than Linux, this succeeds exactly if it belongs to this machine.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn ask(mut address: SocketAddr, _options: &TcpOptions) -> io::Result<bool> {
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
    fn loopback_and_unspecified_addresses_are_local() {
        for ip in ["127.0.0.1", "127.255.255.254", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"] {
            assert!(
                is_local((ip.parse::<IpAddr>().unwrap(), 80).into(), &TcpOptions::new()).unwrap(),
                "{ip}"
            );
        }
    }

    #[test]
    fn unassigned_addresses_are_not_local() {
        for ip in
            ["198.51.100.7", "255.255.255.255", "240.0.0.1", "2001:db8::7", "::ffff:240.0.0.1"]
        {
            assert!(
                !is_local((ip.parse::<IpAddr>().unwrap(), 80).into(), &TcpOptions::new()).unwrap(),
                "{ip}"
            );
        }
    }
}
