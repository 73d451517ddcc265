//! The trait that lets a program supply its own name resolver.

use std::io;
use std::net::IpAddr;

use crate::error::{Error, LookupError};

/// Resolves a name to addresses, best first. Runs on a worker thread; may block, fail or panic.
///
/// Connection attempts follow this order, with the address families interleaved (RFC 8305, section 4). The next
/// attempt starts 250 ms after the last, or at once when one fails. Duplicates are dialled once. Of a longer answer,
/// the first [64 addresses](crate::machine::MAX_ADDRESSES) are dialled. Addresses that the egress rules deny do not
/// count towards these. At most 8,192 addresses of an endless answer are examined. A host that is an IP literal is
/// never resolved.
///
/// Each connector runs at most [`max_lookups`](crate::ConnectorBuilder::max_lookups) lookups at once. Others wait,
/// within the connect timeout. They never wait for names that the operating system resolves.
///
/// A resolver may connect by name through this crate, also through the same connector, and wait for that on its own
/// thread. Such nested lookups wait for no others. Up to 64 of them run at once in the process; a further one fails
/// at once with [`Resolve`](crate::ErrorKind::Resolve). A nested connection through a proxy that
/// [resolves locally](crate::Proxy::resolve_locally) counts twice: for the target's name and for the proxy's. If a
/// resolver waits for *other* threads that connect by name, they should use a different connector.
///
/// Any function of the same shape is a resolver:
///
/// ```
/// use std::net::IpAddr;
/// use sockeye::Connector;
///
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let port = listener.local_addr()?.port();
/// let hosts = |name: &str| match name {
///     "db.test" => Ok(vec![IpAddr::from([127, 0, 0, 1])]),
///     _ => Err(std::io::ErrorKind::NotFound.into()),
/// };
/// let connector = Connector::builder().resolver(hosts).build()?;
/// connector.connect(("db.test", port))?.opened()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Resolver: Send + Sync + 'static {
    /// Returns the addresses of `hostname`, which is passed as it was written: in any case, perhaps with a trailing
    /// dot.
    ///
    /// # Errors
    /// Any error. The socket fails with [`Resolve`](crate::ErrorKind::Resolve), and this error is its source. The
    /// kind of this error decides how the failure is reported:
    ///
    /// - `NotFound`: the name does not exist, or has no address.
    /// - `Interrupted`, `TimedOut`, `WouldBlock`, `ResourceBusy`, `HostUnreachable`, `NetworkUnreachable`,
    ///   `NetworkDown`, `BrokenPipe`, `UnexpectedEof`, `NotConnected`, `ConnectionRefused`, `ConnectionReset`,
    ///   `ConnectionAborted`: a transient failure, and the error [is transient](crate::Error::is_transient).
    /// - Any other kind: neither is known.
    ///
    /// The error, or one of its sources, may be that of the operating system for a shortage of descriptors or memory.
    /// The socket then fails with [`Io`](crate::ErrorKind::Io) instead. An operating system error for a missing file
    /// does not count as `NotFound` here.
    fn resolve(&self, hostname: &str) -> io::Result<Vec<IpAddr>>;
}

impl<F> Resolver for F
where
    F: Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
{
    fn resolve(&self, hostname: &str) -> io::Result<Vec<IpAddr>> {
        self(hostname)
    }
}

impl LookupError {
    /// Classifies the error as [`Resolver::resolve`] documents.
    pub(crate) fn new(error: io::Error) -> Self {
        LookupError { is_transient: is_transient(&error), error }
    }
}

fn is_transient(error: &io::Error) -> bool {
    // An error of this crate, if the resolver looked up another name through it.
    let inner =
        Error::from_io(error).is_some_and(|error| error.is_transient() || error.is_retryable());
    inner
        || matches!(
            error.kind(),
            io::ErrorKind::Interrupted
                | io::ErrorKind::TimedOut
                | io::ErrorKind::WouldBlock
                | io::ErrorKind::ResourceBusy
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::NotConnected
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
        )
}
