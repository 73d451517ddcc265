//! Lookups by std, whose errors have a text and no kind.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// Looks up a name.
pub(crate) fn lookup(hostname: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (hostname, port).to_socket_addrs().map(Iterator::collect)
}
