//! One connection attempt, from its start to its result.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::driver::sys::connecting::{ALWAYS_PENDING, start_connect};
use crate::driver::sys::errno::fault_from_connect as fault;
use crate::driver::sys::wire::{REGISTRATION_IS_PERMANENT, Wire};
use crate::error::Fault;
use crate::info::Endpoints;
use crate::options::TcpOptions;

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
    // An adopted stream whose peer the kernel did not report has port 0.
    let dialled = Some(dialled).filter(|dialled| dialled.port() != 0);
    Endpoints::new(reached.flatten().or(dialled), stream.local_addr().ok())
}

/// Wraps a wire in a result. If registrations are permanent, every wire is pending, because the event loop must
/// register it before it is shared.
pub(crate) fn into_dial_result(wire: Wire, pending: bool) -> DialResult {
    let wire = Arc::new(wire);
    let pending = pending || REGISTRATION_IS_PERMANENT || ALWAYS_PENDING;
    if pending { DialResult::Pending(wire) } else { DialResult::Connected(wire) }
}
