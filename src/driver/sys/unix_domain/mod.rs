//! Unix-domain sockets: connect(2), bind(2), accept(2), the credentials of a peer, and the files of paths.
//!
//! Their streams and listeners have the types of TCP, because recv(2), send(2), poll(2), shutdown(2) and `SO_ERROR` do
//! not depend on the family. Only addresses do.

#[cfg(all(unix, not(sockeye_shuttle)))]
mod credentials;
#[cfg(all(unix, not(sockeye_shuttle)))]
mod path;
#[cfg(sockeye_unix)]
pub(crate) mod stand_in;
#[cfg(all(unix, not(sockeye_shuttle)))]
mod system;
#[cfg(not(all(unix, not(sockeye_shuttle))))]
mod unsupported;

#[cfg(all(unix, not(sockeye_shuttle)))]
pub(crate) use self::path::{BoundPath, file_of};
#[cfg(all(unix, not(sockeye_shuttle)))]
pub(crate) use self::system::{
    StdListener, StdStream, accept, adopt_listener, adopt_stream, bind, empty_queue, start_connect,
};
#[cfg(not(all(unix, not(sockeye_shuttle))))]
pub(crate) use self::unsupported::{
    BoundPath, StdListener, StdStream, accept, adopt_listener, adopt_stream, bind, empty_queue,
    file_of, start_connect,
};
use super::sync::mio::net::TcpListener;
use crate::egress::FileId;
use crate::unix::UnixAddress;

/// Whether the system reports the credentials of a peer.
pub(crate) const REPORTS_CREDENTIALS: bool = cfg!(any(
    target_vendor = "apple",
    target_os = "android",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "linux",
    target_os = "netbsd",
    target_os = "openbsd",
));

/// A listening socket with a Unix-domain address.
#[derive(Debug)]
pub(crate) struct UnixListening {
    pub(crate) listener: TcpListener,
    /// `None` for an adopted listener without an address.
    pub(crate) address: Option<UnixAddress>,
    /// The path to remove at the end.
    pub(crate) bound: Option<BoundPath>,
    /// The file of a path.
    pub(crate) file: Option<FileId>,
}
