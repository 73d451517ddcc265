//! The free functions that connect.

use super::{Connector, Socket};
use crate::address::SocketAddress;
use crate::error::{Error, Result};
use crate::options::SocketOptions;

/// Starts a connection with default options and returns its socket at once, still connecting.
///
/// The address is `"host:port"`, a `(host, port)` pair, a [`std::net::SocketAddr`] or a [`SocketAddress`]. The host
/// of a pair is a name or an IP address; an IP address may also be a type of `std::net` or four bytes.
///
/// # Errors
/// Reports only errors that are found before anything is sent:
/// - [`InvalidAddress`](crate::ErrorKind::InvalidAddress), also for port 0.
/// - [`Io`](crate::ErrorKind::Io) if the process could not install the handler that detects a fork.
///
/// [`Socket::opened`] reports every other error.
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

/// Connects like [`connect`], with options.
///
/// # Errors
/// Those of [`connect`], and [`InvalidOptions`](crate::ErrorKind::InvalidOptions), which is checked after the
/// address.
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
