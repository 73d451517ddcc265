//! Lookups by `getaddrinfo`, with its error codes. std discards the codes, and its error texts depend on the program's
//! locale.

use std::io;
use std::net::SocketAddr;

use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};

use crate::driver::sys::errno::is_resource_exhaustion;

/// Looks up a name.
pub(crate) fn lookup(hostname: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    // The same hints as std's.
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    let answer = getaddrinfo(Some(hostname), None, Some(hints)).map_err(to_io_error)?;
    // The answer may include families other than IP.
    let addresses = answer.filter_map(|one| Some(one.ok()?.sockaddr));
    Ok(addresses
        .map(|mut address| {
            address.set_port(port);
            address
        })
        .collect())
}

/// Maps a lookup error to an error kind: `NotFound` if the name or its addresses do not exist, `WouldBlock` if the
/// failure is temporary, otherwise as std maps it.
fn to_io_error(error: LookupError) -> io::Error {
    match error.kind() {
        LookupErrorKind::System => return system_to_io_error(error),
        LookupErrorKind::Memory => return out_of_memory(error),
        _ => {}
    }
    if let Some(exhaustion) = descriptor_exhaustion() {
        return exhaustion;
    }
    match error.kind() {
        LookupErrorKind::NoName | LookupErrorKind::NoData => {
            io::Error::new(io::ErrorKind::NotFound, error)
        }
        LookupErrorKind::Again => io::Error::new(io::ErrorKind::WouldBlock, error),
        _ => error.into(),
    }
}

fn system_to_io_error(error: LookupError) -> io::Error {
    let error = io::Error::from(error);
    // A file was not found, not a name.
    if error.kind() == io::ErrorKind::NotFound { io::Error::other(error) } else { error }
}

#[cfg(unix)]
fn out_of_memory(_: LookupError) -> io::Error {
    rustix::io::Errno::NOMEM.into()
}

/// Keeps the error, which already has a system error code.
#[cfg(not(unix))]
fn out_of_memory(error: LookupError) -> io::Error {
    error.into()
}

/// Returns an error if this process or the system is out of descriptors. The resolver then opens neither the hosts
/// file nor a socket. Its error may say that no server answers or that there is no such name, depending on the
/// system.
fn descriptor_exhaustion() -> Option<io::Error> {
    let root = if cfg!(unix) { std::fs::File::open("/") } else { return None };
    root.err().filter(|error| error.raw_os_error().is_some_and(is_resource_exhaustion))
}
