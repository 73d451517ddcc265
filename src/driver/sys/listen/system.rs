//! socket(2), bind(2) and listen(2) of the system, and the check of an adopted listener.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::BindOptions;
use crate::driver::sys::connecting::apply_options;
use crate::driver::sys::errno::os_code;
use crate::driver::sys::socket::{describe_other, is_listening};
use crate::driver::sys::sync::mio::net::TcpListener;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::options::TcpOptions;

pub(super) fn bind(address: SocketAddr, options: &BindOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A port whose old connections are in TIME_WAIT can be bound at once. On Windows the option would let others take
    // the port over.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        share_port(&socket)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(options.only_v6)?;
    }
    // Buffer sizes must be set before listen(2), so that the window can scale (RFC 7323, section 2.2).
    apply_options(&socket, &options.tcp)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(TcpListener::from_std(socket.into()))
}

#[cfg(target_os = "freebsd")]
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port_lb(true)
}

#[cfg(all(unix, not(any(target_os = "freebsd", target_os = "solaris", target_os = "illumos"))))]
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(all(unix, not(any(target_os = "solaris", target_os = "illumos")))))]
fn share_port(_socket: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn shrink_backlog(listener: &TcpListener) {
    // The old backlog stays if the system refuses. Then more connections are complete when the listener is closed.
    let _ = SockRef::from(listener).listen(0);
}

/// Ends the queue at once, and resets what is in it. Other systems do so when the last descriptor is closed.
pub(super) fn stop(listener: &TcpListener) {
    if cfg!(target_os = "linux") {
        let _ = SockRef::from(listener).shutdown(std::net::Shutdown::Read);
    }
}

pub(super) fn adopt(listener: std::net::TcpListener, tcp: &TcpOptions) -> Result<TcpListener> {
    let failed = |error: io::Error| Error::from_fault(Fault::Io(os_code(&error)));
    let socket = SockRef::from(&listener);
    let other = match describe_other(&socket).map_err(failed)? {
        None if is_listening(&socket) == Some(false) => {
            Some("a socket that does not listen".to_owned())
        }
        other => other,
    };
    if let Some(other) = other {
        let message = format!("cannot adopt the descriptor: it is {other}, not a TCP listener");
        return Err(Error::with_message(ErrorKind::InvalidState, message));
    }
    let set = || -> io::Result<()> {
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(tcp.nodelay)?;
        apply_options(&socket, tcp)
    };
    set().map_err(failed)?;
    Ok(TcpListener::from_std(listener))
}
