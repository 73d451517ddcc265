//! connect(2) of the system.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Domain, SockAddr, Socket};

use super::{ALWAYS_PENDING, apply_options, with_protocol};
use crate::driver::sys::errno::is_in_progress;
use crate::driver::sys::socket::nonblocking_socket;
use crate::driver::sys::sync::mio::net::TcpStream;
use crate::options::TcpOptions;

/// Creates a socket and starts to connect it. Returns whether the attempt is still in progress.
pub(crate) fn start_connect(
    address: SocketAddr,
    options: &TcpOptions,
) -> io::Result<(TcpStream, bool)> {
    #[cfg(sockeye_unix)]
    if crate::driver::sys::ALWAYS_UNIX {
        return crate::driver::sys::unix_domain::stand_in::start_connect(address, options);
    }
    let (address, bind) = unmapped(address, options.bind);
    let domain = Domain::for_address(address);
    let socket = with_protocol(options, |protocol| {
        let socket = nonblocking_socket(domain, Some(protocol))?;
        apply_options(&socket, options)?;
        Ok(socket)
    })?;
    if let Some(local) = bind {
        // Allows the local address even if an earlier connection left it in TIME_WAIT.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        if local.port() == 0 {
            choose_port_late(&socket);
        }
        socket.bind(&SockAddr::from(local))?;
    }
    let pending = match socket.connect(&SockAddr::from(address)) {
        Ok(()) => false,
        Err(error) if is_in_progress(&error) => ALWAYS_PENDING || is_unfinished(&socket, address)?,
        Err(error) => return Err(error),
    };
    Ok((TcpStream::from_std(socket.into()), pending))
}

/// Converts an IPv4-mapped address, and the local address with it, to IPv4. Windows and most BSDs reach such an address
/// only over an IPv4 socket, because their IPv6 sockets are `IPV6_V6ONLY` by default. A local address that is not
/// IPv4-mapped reaches no IPv4 address, so the attempt keeps both and fails as the system says.
fn unmapped(address: SocketAddr, bind: Option<SocketAddr>) -> (SocketAddr, Option<SocketAddr>) {
    let IpAddr::V4(ip) = address.ip().to_canonical() else { return (address, bind) };
    let local = match bind.map(|local| (local.ip().to_canonical(), local.port())) {
        None => None,
        Some((IpAddr::V4(ip), port)) => Some((ip, port).into()),
        // The wildcard of both families.
        Some((IpAddr::V6(ip), port)) if ip.is_unspecified() => {
            Some((Ipv4Addr::UNSPECIFIED, port).into())
        }
        Some((IpAddr::V6(_), _)) => return (address, bind),
    };
    ((ip, address.port()).into(), local)
}

/// Returns whether the attempt is still unfinished. On Linux a peer on the same machine has already answered. The
/// kernel could not process the answer while the first connect(2) held the socket. A second connect(2) returns the
/// result.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(sockeye_bsd)))]
fn is_unfinished(socket: &Socket, address: SocketAddr) -> io::Result<bool> {
    use rustix::io::Errno;
    match socket.connect(&SockAddr::from(address)) {
        Ok(()) => Ok(false),
        Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::ALREADY | Errno::INPROGRESS | Errno::INTR) => Ok(true),
            Some(Errno::ISCONN) => Ok(false),
            Some(_) | None => Err(error),
        },
    }
}

#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(sockeye_bsd))))]
fn is_unfinished(_socket: &Socket, _address: SocketAddr) -> io::Result<bool> {
    Ok(true)
}

/// Lets the kernel choose the source port at connect time, when it knows the destination. At bind time it must assume
/// that the port is needed for every destination. If the option is not supported, bind(2) chooses the port.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(sockeye_bsd)))]
fn choose_port_late(socket: &Socket) {
    use nix::sys::socket::{setsockopt, sockopt};
    let _ = setsockopt(socket, sockopt::IpBindAddressNoPort, &true);
}

#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(sockeye_bsd))))]
fn choose_port_late(_socket: &Socket) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_mapped_address_is_dialled_over_ipv4() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (address, bind, expected) in [
            ("192.0.2.1:7", None, ("192.0.2.1:7", None)),
            ("[2001:db8::1]:7", None, ("[2001:db8::1]:7", None)),
            ("[::ffff:192.0.2.1]:7", None, ("192.0.2.1:7", None)),
            ("[::ffff:192.0.2.1]:7", Some("[::]:9"), ("192.0.2.1:7", Some("0.0.0.0:9"))),
            (
                "[::ffff:192.0.2.1]:7",
                Some("[::ffff:192.0.2.2]:9"),
                ("192.0.2.1:7", Some("192.0.2.2:9")),
            ),
            (
                "[::ffff:192.0.2.1]:7",
                Some("[2001:db8::2]:9"),
                ("[::ffff:192.0.2.1]:7", Some("[2001:db8::2]:9")),
            ),
            ("[2001:db8::1]:7", Some("[::]:9"), ("[2001:db8::1]:7", Some("[::]:9"))),
        ] {
            let expected = (parse(expected.0), expected.1.map(parse));
            assert_eq!(unmapped(parse(address), bind.map(parse)), expected, "{address}, {bind:?}");
        }
    }
}
