//! The start and the result of a connection attempt, and the options of a socket.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Socket, TcpKeepalive};

use super::errno::fault_from_connect as fault;
use super::wire::Wire;
use crate::error::Fault;
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
    pub(crate) fn finish_connect(&self, address: SocketAddr) -> Option<Result<Endpoints, Fault>> {
        // The stream was connected before. A later failure is reported to readers, after the data before it.
        if self.was_adopted() {
            return Some(Ok(self.endpoints(address)));
        }
        match self.stream().take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Some(Err(fault(&error))),
        }
        match self.stream().peer_addr() {
            Ok(_) => Some(Ok(self.endpoints(address))),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
            Err(error) => Some(Err(fault(&error))),
        }
    }

    /// Returns the addresses of an established connection.
    pub(crate) fn endpoints(&self, dialled: SocketAddr) -> Endpoints {
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

/// Sets the options that the program asked for.
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
