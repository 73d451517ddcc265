//! connect(2) of the system.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{ALWAYS_PENDING, apply_options};
use crate::driver::sys::errno::is_in_progress;
use crate::driver::sys::sync::mio::net::TcpStream;
use crate::options::TcpOptions;

/// Creates a socket and starts to connect it. Returns whether the attempt is still in progress.
pub(crate) fn start_connect(
    address: SocketAddr,
    options: &TcpOptions,
) -> io::Result<(TcpStream, bool)> {
    let socket = nonblocking_socket(Domain::for_address(address))?;
    apply_options(&socket, options)?;
    if let Some(local) = options.bind {
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

/// Returns whether the attempt is still unfinished. On Linux a peer on the same machine has already answered. The
/// kernel could not process the answer while the first connect(2) held the socket. A second connect(2) returns the
/// result.
#[cfg(target_os = "linux")]
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

#[cfg(not(target_os = "linux"))]
fn is_unfinished(_socket: &Socket, _address: SocketAddr) -> io::Result<bool> {
    Ok(true)
}

/// Lets the kernel choose the source port at connect time, when it knows the destination. At bind time it must assume
/// that the port is needed for every destination. If the option is not supported, bind(2) chooses the port.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn choose_port_late(socket: &Socket) {
    use nix::sys::socket::{setsockopt, sockopt};
    let _ = setsockopt(socket, sockopt::IpBindAddressNoPort, &true);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn choose_port_late(_socket: &Socket) {}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn nonblocking_socket(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn nonblocking_socket(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
