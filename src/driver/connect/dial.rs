//! One connection attempt: creates a socket, sets its options and calls connect(2).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::driver::event_loop::REGISTRATION_IS_PERMANENT;
use crate::driver::sys::errno::{fault_from_connect as fault, is_in_progress};
use crate::driver::sys::sync::mio::net::TcpStream;
use crate::driver::sys::wire::Wire;
use crate::error::Fault;
use crate::info::Endpoints;
use crate::options::TcpOptions;

/// Whether every attempt is treated as pending. On loopback connect(2) finishes at once, and to other machines it never
/// does. With this cfg, tests on loopback cover the event loop's part in a pending attempt.
pub(crate) const ALWAYS_PENDING: bool = cfg!(sockeye_pending);

/// The result of starting an attempt.
#[derive(Debug)]
pub(crate) enum DialResult {
    /// The attempt succeeded at once, as on loopback.
    Connected(Arc<Wire>),
    /// The attempt is in progress. The kernel makes the wire writable when it ends.
    Pending(Arc<Wire>),
}

/// Starts an attempt.
pub(crate) fn dial(address: SocketAddr, options: &TcpOptions) -> Result<DialResult, Fault> {
    #[cfg(sockeye_shuttle)]
    return crate::driver::sys::shuttle::dial(address, options);
    #[cfg(not(sockeye_shuttle))]
    start_connect(address, options).map_err(|error| fault(&error))
}

/// Returns the result of an attempt that was pending, or `None` if it still is.
pub(crate) fn finish_connect(wire: &Wire, address: SocketAddr) -> Option<Result<Endpoints, Fault>> {
    // The stream was connected before. A later failure is reported to readers, after the data before it.
    if wire.was_adopted() {
        return Some(Ok(endpoints(wire, address)));
    }
    match wire.stream().take_error() {
        Ok(None) => {}
        Ok(Some(error)) | Err(error) => return Some(Err(fault(&error))),
    }
    match wire.stream().peer_addr() {
        Ok(_) => Some(Ok(endpoints(wire, address))),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
        Err(error) => Some(Err(fault(&error))),
    }
}

pub(crate) fn endpoints(wire: &Wire, dialled: SocketAddr) -> Endpoints {
    let stream = wire.stream();
    // A connect to the unspecified address reaches another address.
    let reached = dialled.ip().to_canonical().is_unspecified().then(|| stream.peer_addr().ok());
    Endpoints { remote: reached.flatten().unwrap_or(dialled), local: stream.local_addr().ok() }
}

#[cfg_attr(sockeye_shuttle, allow(dead_code, reason = "the model has its own dial"))]
fn start_connect(address: SocketAddr, options: &TcpOptions) -> io::Result<DialResult> {
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
    Ok(into_dial_result(Wire::new(TcpStream::from_std(socket.into())), pending))
}

/// Wraps a wire in a result. If registrations are permanent, every wire is pending, because the event loop must
/// register it before it is shared.
pub(crate) fn into_dial_result(wire: Wire, pending: bool) -> DialResult {
    let wire = Arc::new(wire);
    let pending = pending || REGISTRATION_IS_PERMANENT || ALWAYS_PENDING;
    if pending { DialResult::Pending(wire) } else { DialResult::Connected(wire) }
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

pub(crate) fn apply_options(socket: &Socket, options: &TcpOptions) -> io::Result<()> {
    // TCP_NODELAY is off by default.
    if options.nodelay {
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(keepalive) = options.keepalive {
        socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(secs_rounded_up(keepalive.idle))
                .with_interval(secs_rounded_up(keepalive.interval))
                .with_retries(keepalive.retries),
        )?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(limit) = options.user_timeout {
        socket.set_tcp_user_timeout(Some(limit))?;
    }
    if let Some(bytes) = options.recv_buffer_size {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.send_buffer_size {
        socket.set_send_buffer_size(bytes)?;
    }
    Ok(())
}

fn secs_rounded_up(time: std::time::Duration) -> std::time::Duration {
    let up = u64::from(time.subsec_nanos() > 0);
    std::time::Duration::from_secs(time.as_secs() + up)
}
