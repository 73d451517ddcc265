//! System calls on sockets that are no wires: before a stream is adopted, and after it was detached.

use std::io;
use std::net::TcpStream;

#[cfg(all(unix, not(sockeye_shuttle)))]
use rustix::process::{Resource, getrlimit};
use socket2::{SockRef, Type};

use super::errno::is_not_a_socket;
#[cfg(all(unix, not(sockeye_shuttle)))]
use crate::panic::catch_panic;

/// Creates a stream socket that does not block.
#[cfg(all(
    any(target_os = "linux", target_os = "android", target_os = "freebsd"),
    not(sockeye_shuttle)
))]
pub(crate) fn nonblocking_socket(
    domain: socket2::Domain,
    protocol: Option<socket2::Protocol>,
) -> io::Result<socket2::Socket> {
    socket2::Socket::new(domain, Type::STREAM.nonblocking(), protocol)
}

/// Creates a stream socket that does not block.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    sockeye_shuttle
)))]
pub(crate) fn nonblocking_socket(
    domain: socket2::Domain,
    protocol: Option<socket2::Protocol>,
) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(domain, Type::STREAM, protocol)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Prevents SIGPIPE on Apple's systems, where that is a socket option and not a flag of each call. Sockets that the
/// crate opens already have the option set.
pub(crate) fn forbid_signals(socket: &SockRef<'_>) -> io::Result<()> {
    #[cfg(target_vendor = "apple")]
    socket.set_nosigpipe(true)?;
    let _ = socket;
    Ok(())
}

/// Describes a descriptor that is not a TCP socket. Returns `None` for a TCP socket, connected, listening or neither.
pub(crate) fn describe_other(socket: &SockRef<'_>) -> io::Result<Option<String>> {
    let socket_type = match socket.r#type() {
        Ok(socket_type) => socket_type,
        Err(error) if is_not_a_socket(&error) => return Ok(Some("not a socket".to_owned())),
        Err(error) => return Err(error),
    };
    let local = socket.local_addr()?;
    let of_ip = local.is_ipv4() || local.is_ipv6();
    Ok(if local.is_unix() {
        Some("a Unix-domain socket".to_owned())
    } else if !of_ip {
        Some(format!("a socket of address family {}", local.family()))
    } else if socket_type == Type::DGRAM {
        Some("a UDP socket".to_owned())
    } else if socket_type != Type::STREAM {
        Some("a socket of another type than a stream".to_owned())
    } else {
        None
    })
}

/// Returns whether a socket is a listener. `None` if the system does not report it.
pub(crate) fn is_listening(socket: &SockRef<'_>) -> Option<bool> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    return socket.is_listener().ok();
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    {
        let _ = socket;
        None
    }
}

/// Returns whether a connection that is over has a pending error, without consuming it.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(sockeye_bsd)))]
pub(crate) fn has_pending_error(stream: &TcpStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut descriptors = [PollFd::new(stream, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let polled = poll(&mut descriptors, Some(&at_once));
    polled.is_err() || descriptors[0].revents().contains(PollFlags::ERR)
}

/// Returns `false`: the receive after the last byte reports the error.
#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(sockeye_bsd))))]
pub(crate) fn has_pending_error(_stream: &TcpStream) -> bool {
    false
}

/// Returns whether a connection has failed although the system still knows its peer. Only Windows keeps the peer's address
/// after a reset. There a peek fails after a reset, and otherwise consumes nothing.
#[cfg(not(unix))]
pub(crate) fn has_failed(stream: &TcpStream) -> bool {
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    peeked.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
}

#[cfg(unix)]
pub(crate) fn has_failed(_stream: &TcpStream) -> bool {
    false
}

/// Puts a detached stream into the mode of a new one of std: blocking, and without a timeout.
pub(crate) fn make_blocking(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    // Blocking receives leave a timeout behind. They need it until nothing can fail any more.
    if cfg!(all(any(target_os = "linux", target_os = "android"), not(sockeye_bsd))) {
        stream.set_read_timeout(None)?;
    }
    Ok(())
}

/// Returns the maximum number of descriptors of this process, if the system has one and tells it.
pub(crate) fn max_descriptors() -> Option<u64> {
    #[cfg(all(unix, not(sockeye_shuttle)))]
    return match std::fs::read_to_string("/proc/self/limits") {
        Ok(limits) => max_descriptors_in(&limits),
        // rustix panics if the call fails. A filter of system calls can deny it, and those of systemd services often do.
        Err(_) => catch_panic(|| getrlimit(Resource::Nofile).current).flatten(),
    };
    #[cfg(not(all(unix, not(sockeye_shuttle))))]
    None
}

/// Returns the soft limit of descriptors in the text of `/proc/self/limits`.
#[cfg(all(unix, not(sockeye_shuttle)))]
fn max_descriptors_in(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(all(test, unix, not(sockeye_shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_descriptors_is_found() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             95851                95851                processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(max_descriptors_in(limits), Some(1024));
        assert_eq!(
            max_descriptors_in("Max open files            unlimited  unlimited files"),
            None
        );
        assert_eq!(max_descriptors_in(""), None);
        assert_eq!(max_descriptors(), getrlimit(Resource::Nofile).current);
    }
}
