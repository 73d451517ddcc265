//! Turning names into addresses, as a user may provide it.

use std::io;
use std::net::IpAddr;

/// Turns a name into addresses, best first. Called on a worker thread; may block, fail or panic.
///
/// Attempts follow its order with the families interleaved (RFC 8305, section 4): the next one begins
/// 250 ms after the last, or at once when one fails. Duplicates are dialled once, and of a longer answer
/// the first [64 addresses](crate::machine::ADDRESSES_MOST). A host that is a numeric address is never
/// asked for. At most 16 look-ups run at a time; others wait, within the connect timeout.
///
/// Any function of the same shape is one:
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
    /// The addresses of `hostname`, which is as it was written: in any case, perhaps with a dot at its
    /// end.
    ///
    /// # Errors
    /// Whatever hinders it. The socket fails with [`Resolve`](crate::ErrorKind::Resolve), of which this
    /// is the source.
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
