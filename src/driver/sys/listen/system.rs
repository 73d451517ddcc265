//! socket(2), bind(2) and listen(2) of the system, and the check of an adopted listener.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::driver::sys::ALWAYS_UNIX;
use crate::driver::sys::bind_options::BindOptions;
use crate::driver::sys::connecting::{apply_options, with_protocol};
use crate::driver::sys::errno::{fault_from_setup, os_code};
use crate::driver::sys::socket::{describe_other, is_listening};
use crate::driver::sys::sync::mio::net::TcpListener;
#[cfg(not(sockeye_unix))]
use crate::driver::sys::sync::mio::net::TcpStream;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::options::TcpOptions;

pub(super) fn bind(address: SocketAddr, options: &BindOptions) -> io::Result<TcpListener> {
    #[cfg(sockeye_unix)]
    if ALWAYS_UNIX {
        return crate::driver::sys::unix_domain::stand_in::bind(address, options);
    }
    let domain = Domain::for_address(address);
    let socket = with_protocol(&options.tcp, |protocol| {
        let socket = Socket::new(domain, Type::STREAM, Some(protocol))?;
        // Buffer sizes must be set before listen(2), so that the window can scale (RFC 7323, section 2.2).
        apply_options(&socket, &options.tcp)?;
        Ok(socket)
    })?;
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

#[cfg(not(sockeye_unix))]
pub(super) fn local_addr(listener: &TcpListener) -> io::Result<SocketAddr> {
    listener.local_addr()
}

#[cfg(not(sockeye_unix))]
#[inline]
pub(super) fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    listener.accept()
}

#[cfg(sockeye_unix)]
pub(super) use crate::driver::sys::unix_domain::stand_in::{accept, local_addr};

pub(super) fn shrink_backlog(listener: &TcpListener) {
    // The old backlog stays if the system refuses. Then more connections are complete when the listener is closed.
    let _ = SockRef::from(listener).listen(0);
}

/// Ends the queue at once, and over TCP resets what is in it. Other systems do so when the last descriptor is closed.
pub(super) fn stop(listener: &TcpListener) {
    if cfg!(target_os = "linux") {
        let _ = SockRef::from(listener).shutdown(std::net::Shutdown::Read);
    }
}

pub(super) fn adopt(listener: std::net::TcpListener, tcp: &TcpOptions) -> Result<TcpListener> {
    let failed = |error: io::Error| Error::from_fault(Fault::Io(os_code(&error)));
    let socket = SockRef::from(&listener);
    if ALWAYS_UNIX {
        socket.set_nonblocking(true).map_err(failed)?;
        return Ok(TcpListener::from_std(listener));
    }
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
        socket.set_tcp_nodelay(tcp.sets_nodelay())?;
        apply_options(&socket, tcp)
    };
    set().map_err(|error| Error::from_fault(fault_from_setup(&error)))?;
    Ok(TcpListener::from_std(listener))
}

#[cfg(unix)]
pub(super) fn has_connection(listener: &TcpListener) -> Option<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut descriptors = [PollFd::new(listener, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut descriptors, Some(&at_once)).ok()?;
    Some(!descriptors[0].revents().is_empty())
}

#[cfg(not(unix))]
pub(super) fn has_connection(_listener: &TcpListener) -> Option<bool> {
    None
}
