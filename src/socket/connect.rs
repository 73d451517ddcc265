//! The way in.

use super::{Connector, Socket};
use crate::address::SocketAddress;
use crate::error::{Error, Result};
use crate::options::SocketOptions;

/// Starts a connection with default options and returns its socket at once, still connecting.
///
/// The address is `"host:port"`, a `(host, port)` pair, a [`std::net::SocketAddr`] or a
/// [`SocketAddress`]. The host of a pair is a name or an IP address, also one of `std::net` or four bytes.
///
/// # Errors
/// Only for what is wrong before anything is sent:
/// [`InvalidAddress`](crate::ErrorKind::InvalidAddress), also for port 0, and
/// [`InvalidState`](crate::ErrorKind::InvalidState) in a forked child. All else is reported by
/// [`Socket::opened`].
///
/// ```
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let address = listener.local_addr()?;
/// let socket = sockeye::connect(address)?;
/// let info = socket.opened()?;
/// assert_eq!(info.remote_address(), Some(address));
///
/// let error = sockeye::connect("example.com").unwrap_err();
/// assert_eq!(error.kind(), sockeye::ErrorKind::InvalidAddress);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn connect<A>(address: A) -> Result<Socket>
where
    A: TryInto<SocketAddress>,
    Error: From<A::Error>,
{
    connect_with(address, SocketOptions::new())
}

/// [`connect`] with options.
///
/// # Errors
/// As [`connect`], and [`InvalidOptions`](crate::ErrorKind::InvalidOptions), judged after the address.
///
/// ```
/// use std::time::Duration;
/// use sockeye::{SocketOptions, connect_with};
///
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let port = listener.local_addr()?.port();
/// let options = SocketOptions::new().connect_timeout(Duration::from_secs(2));
/// let socket = connect_with(("127.0.0.1", port), options)?;
/// socket.opened()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn connect_with<A>(address: A, options: SocketOptions) -> Result<Socket>
where
    A: TryInto<SocketAddress>,
    Error: From<A::Error>,
{
    Connector::global().connect_with(address, options)
}
