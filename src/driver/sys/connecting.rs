//! The start and the result of a connection attempt, and the options of a socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Socket, TcpKeepalive};

use super::ALWAYS_UNIX;
use super::errno::{UnsetOption, fault_from_connect as fault};
use super::wire::Wire;
use crate::error::{Fault, TcpOption};
use crate::info::Endpoints;
use crate::options::TcpOptions;

#[cfg(not(sockeye_shuttle))]
mod system;

#[cfg(not(sockeye_shuttle))]
pub(crate) use self::system::start_connect;
#[cfg(sockeye_shuttle)]
pub(crate) use super::shuttle::start_connect;

/// Whether every attempt is treated as pending. On loopback connect(2) finishes at once, and to other machines it never
/// does. With this cfg, tests on loopback cover the event loop's part in a pending attempt.
pub(crate) const ALWAYS_PENDING: bool = cfg!(sockeye_pending);

impl Wire {
    /// Returns the result of an attempt that was pending, or `None` if it still is.
    pub(crate) fn finish_connect(
        &self,
        address: Option<SocketAddr>,
    ) -> Option<Result<Endpoints, Fault>> {
        // The stream was connected before. A later failure is reported to readers, after the data before it.
        if self.was_adopted() {
            return Some(Ok(self.endpoints(address)));
        }
        match self.stream().take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Some(Err(fault(&error))),
        }
        if self.unix_peer().is_some() {
            // The stand-in for TCP leaves an attempt at a full queue pending.
            let is_unfinished = ALWAYS_UNIX
                && self
                    .stream()
                    .peer_addr()
                    .is_err_and(|error| error.kind() == io::ErrorKind::NotConnected);
            return (!is_unfinished).then(|| Ok(self.endpoints(address)));
        }
        match self.stream().peer_addr() {
            Ok(_) => Some(Ok(self.endpoints(address))),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
            Err(error) => Some(Err(fault(&error))),
        }
    }

    /// Returns the addresses of an established connection. A Unix-domain socket has none of its own.
    pub(crate) fn endpoints(&self, dialled: Option<SocketAddr>) -> Endpoints {
        match dialled {
            Some(dialled) if self.unix_peer().is_none() => self.ip_endpoints(dialled),
            dialled => {
                // In place of TCP every client seems to come from port 9.
                let is_client = dialled.is_none_or(|remote| remote.port() != 9);
                let port = if is_client { 9 } else { 8 };
                let local = ALWAYS_UNIX.then(|| (Ipv4Addr::LOCALHOST, port).into());
                Endpoints::new(dialled, local)
            }
        }
    }

    fn ip_endpoints(&self, dialled: SocketAddr) -> Endpoints {
        let stream = self.stream();
        // A connect to the unspecified address reaches another address.
        let reached = dialled.ip().to_canonical().is_unspecified().then(|| stream.peer_addr().ok());
        // An adopted stream whose peer the kernel did not report has port 0.
        let is_mapped = is_ipv4_mapped(dialled.ip());
        let dialled = Some(dialled).filter(|dialled| dialled.port() != 0);
        // An IPv4-mapped address is dialled over IPv4. Both ends are reported in the form that was dialled.
        let form = |address: SocketAddr| if is_mapped { to_mapped(address) } else { address };
        let reached = reached.flatten().or(dialled).map(form);
        let local = stream.local_addr().ok().map(|local| match local.ip().to_canonical() {
            // A dual-stack listener accepted it.
            ip if dialled.is_some_and(|dialled| dialled.is_ipv4()) => {
                SocketAddr::new(ip, local.port())
            }
            _ => form(local),
        });
        Endpoints::new(reached, local)
    }
}

fn is_ipv4_mapped(ip: IpAddr) -> bool {
    ip.is_ipv6() && ip.to_canonical().is_ipv4()
}

fn to_mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => (ip.to_ipv6_mapped(), address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

/// Makes a socket by Multipath TCP if the options ask for it, and otherwise, or if that fails, by TCP. Multipath TCP
/// fails if it is turned off, or if the kernel's version of it lacks an option.
#[cfg(not(sockeye_shuttle))]
pub(crate) fn with_protocol<R>(
    options: &TcpOptions,
    make: impl Fn(socket2::Protocol) -> io::Result<R>,
) -> io::Result<R> {
    #[cfg(target_os = "linux")]
    if options.rare().multipath {
        if let Ok(made) = make(socket2::Protocol::MPTCP) {
            return Ok(made);
        }
    }
    let _ = options;
    make(socket2::Protocol::TCP)
}

/// Sets the options that a Unix-domain socket has too.
///
/// # Errors
/// One that contains [`UnsetOption`](super::errno::UnsetOption).
pub(crate) fn apply_buffer_sizes(socket: &Socket, options: &TcpOptions) -> io::Result<()> {
    if let Some(bytes) = options.rare().recv_buffer_size {
        set(TcpOption::RecvBufferSize, socket.set_recv_buffer_size(bytes))?;
    }
    if let Some(bytes) = options.rare().send_buffer_size {
        set(TcpOption::SendBufferSize, socket.set_send_buffer_size(bytes))?;
    }
    Ok(())
}

fn set(option: TcpOption, result: io::Result<()>) -> io::Result<()> {
    result.map_err(|error| io::Error::new(error.kind(), UnsetOption { option, error }))
}

/// Sets the options that the program asked for.
///
/// # Errors
/// One that contains [`UnsetOption`](super::errno::UnsetOption).
pub(crate) fn apply_options(socket: &Socket, options: &TcpOptions) -> io::Result<()> {
    if ALWAYS_UNIX {
        return apply_buffer_sizes(socket, options);
    }
    // TCP_NODELAY is off by default.
    if options.sets_nodelay() {
        set(TcpOption::Nodelay, socket.set_tcp_nodelay(true))?;
    }
    if let Some(keepalive) = options.rare().keepalive {
        let keepalive = TcpKeepalive::new()
            .with_time(secs_rounded_up(keepalive.idle))
            .with_interval(secs_rounded_up(keepalive.interval))
            .with_retries(keepalive.retries);
        set(TcpOption::Keepalive, socket.set_tcp_keepalive(&keepalive))?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(limit) = options.rare().user_timeout {
        set(TcpOption::UserTimeout, socket.set_tcp_user_timeout(Some(limit)))?;
    }
    apply_buffer_sizes(socket, options)?;
    if let Some(name) = &options.rare().bind_device {
        set(TcpOption::BindDevice, bind_device(socket, name))?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(mark) = options.rare().mark {
        set(TcpOption::Mark, socket.set_mark(mark))?;
    }
    if let Some(dscp) = options.rare().dscp {
        set(TcpOption::Dscp, set_dscp(socket, dscp))?;
    }
    Ok(())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn bind_device(socket: &Socket, name: &str) -> io::Result<()> {
    socket.bind_device(Some(name.as_bytes()))
}

#[cfg(target_vendor = "apple")]
fn bind_device(socket: &Socket, name: &str) -> io::Result<()> {
    let index = std::num::NonZeroU32::new(nix::net::if_::if_nametoindex(name)?);
    match socket.local_addr()?.is_ipv6() {
        true => socket.bind_device_by_index_v6(index),
        false => socket.bind_device_by_index_v4(index),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn bind_device(_socket: &Socket, _name: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sets the upper six bits of the byte in which the lower two are for congestion notification (RFC 3168).
#[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
fn set_dscp(socket: &Socket, dscp: u8) -> io::Result<()> {
    let byte = u32::from(dscp) << 2;
    if !socket.local_addr()?.is_ipv6() {
        return socket.set_tos_v4(byte);
    }
    socket.set_tclass_v6(byte)?;
    // For the IPv4 clients of a listener. Other systems refuse the option on an IPv6 socket.
    if cfg!(any(target_os = "linux", target_os = "android")) {
        socket.set_tos_v4(byte)?;
    }
    Ok(())
}

#[cfg(not(all(unix, not(any(target_os = "solaris", target_os = "illumos")))))]
fn set_dscp(_socket: &Socket, _dscp: u8) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn secs_rounded_up(time: std::time::Duration) -> std::time::Duration {
    let up = u64::from(time.subsec_nanos() > 0);
    std::time::Duration::from_secs(time.as_secs() + up)
}
