//! The start of one connection attempt.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::driver::sys::connecting::{ALWAYS_PENDING, start_connect};
use crate::driver::sys::errno::fault_from_connect as fault;
use crate::driver::sys::unix_domain;
use crate::driver::sys::wire::{REGISTRATION_IS_PERMANENT, Wire};
use crate::error::Fault;
use crate::options::TcpOptions;
use crate::unix::UnixAddress;

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
    match start_connect(address, options) {
        Ok((stream, pending)) => Ok(into_dial_result(Wire::new(stream), pending)),
        Err(error) => Err(fault(&error)),
    }
}

/// Starts an attempt at a Unix-domain address.
pub(crate) fn dial_unix(address: &UnixAddress, options: &TcpOptions) -> Result<DialResult, Fault> {
    let (wire, pending) = unix_domain::start_connect(address, options)?;
    Ok(into_dial_result(wire, pending))
}

/// Wraps a wire in a result. If registrations are permanent, every wire is pending, because the event loop must
/// register it before it is shared.
pub(crate) fn into_dial_result(wire: Wire, pending: bool) -> DialResult {
    let wire = Arc::new(wire);
    let pending = pending || REGISTRATION_IS_PERMANENT || ALWAYS_PENDING;
    if pending { DialResult::Pending(wire) } else { DialResult::Connected(wire) }
}
