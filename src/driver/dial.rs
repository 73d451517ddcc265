//! One connection attempt: a descriptor, its options, connect(2).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use super::errno::{fault_of_attempt as fault, is_pending};
use super::event_loop::REGISTERED_ONCE;
use super::sync::mio::net::TcpStream;
use super::wire::Wire;
use crate::error::Fault;
use crate::info::Endpoints;
use crate::options::TcpOptions;

/// On loopback connect(2) is over at once, to other machines never: with this, tests on loopback see what
/// the loop does for an attempt that is pending.
pub(super) const ALWAYS_PENDING: bool = cfg!(sockeye_pending);

/// How an attempt goes on.
#[derive(Debug)]
pub(super) enum Dialled {
    /// It succeeded at once, as on loopback.
    Open(Arc<Wire>),
    /// The system tells by making the wire writable.
    Pending(Arc<Wire>),
}

/// Starts an attempt.
pub(super) fn dial(address: SocketAddr, options: &TcpOptions) -> Result<Dialled, Fault> {
    #[cfg(sockeye_shuttle)]
    return super::model::dial(address, options);
    #[cfg(not(sockeye_shuttle))]
    open(address, options).map_err(|error| fault(&error))
}

/// Judges an attempt that was pending: `None` while it still is.
pub(super) fn verdict(wire: &Wire, address: SocketAddr) -> Option<Result<Endpoints, Fault>> {
    // A failure since then is for readers, after what came before it.
    if wire.was_given() {
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

pub(super) fn endpoints(wire: &Wire, dialled: SocketAddr) -> Endpoints {
    let stream = wire.stream();
    // Who dials the unspecified address has reached another.
    let reached = dialled.ip().to_canonical().is_unspecified().then(|| stream.peer_addr().ok());
    Endpoints { remote: reached.flatten().unwrap_or(dialled), local: stream.local_addr().ok() }
}

#[cfg_attr(sockeye_shuttle, allow(dead_code, reason = "the model dials"))]
fn open(address: SocketAddr, options: &TcpOptions) -> io::Result<Dialled> {
    let socket = nonblocking(Domain::for_address(address))?;
    set(&socket, options)?;
    if let Some(local) = options.bind {
        // An address that an earlier connection left in TIME_WAIT may be dialled from again.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        if local.port() == 0 {
            choose_port_late(&socket);
        }
        socket.bind(&SockAddr::from(local))?;
    }
    let pending = match socket.connect(&SockAddr::from(address)) {
        Ok(()) => false,
        Err(error) if is_pending(&error) => ALWAYS_PENDING || is_still_pending(&socket, address)?,
        Err(error) => return Err(error),
    };
    Ok(made(Wire::new(TcpStream::from_std(socket.into())), pending))
}

/// Where only the loop can register a wire, that has to be before anyone shares it.
pub(super) fn made(wire: Wire, pending: bool) -> Dialled {
    let wire = Arc::new(wire);
    let pending = pending || REGISTERED_ONCE || ALWAYS_PENDING;
    if pending { Dialled::Pending(wire) } else { Dialled::Open(wire) }
}

/// On Linux the answer of a peer on the same machine has come already, but was not looked at: the call
/// itself held the socket. To call again says how it went.
#[cfg(target_os = "linux")]
fn is_still_pending(socket: &Socket, address: SocketAddr) -> io::Result<bool> {
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
fn is_still_pending(_socket: &Socket, _address: SocketAddr) -> io::Result<bool> {
    Ok(true)
}

/// Has the system choose the port when it connects: until then it does not know that another peer could
/// have the same one. Where it can't, the port is chosen now.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn choose_port_late(socket: &Socket) {
    use nix::sys::socket::{setsockopt, sockopt};
    let _ = setsockopt(socket, sockopt::IpBindAddressNoPort, &true);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn choose_port_late(_socket: &Socket) {}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn nonblocking(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn nonblocking(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

pub(super) fn set(socket: &Socket, options: &TcpOptions) -> io::Result<()> {
    // Off is how a socket begins.
    if options.nodelay {
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(keepalive) = options.keepalive {
        socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(whole_seconds(keepalive.idle))
                .with_interval(whole_seconds(keepalive.interval))
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

fn whole_seconds(time: std::time::Duration) -> std::time::Duration {
    let up = u64::from(time.subsec_nanos() > 0);
    std::time::Duration::from_secs(time.as_secs() + up)
}
