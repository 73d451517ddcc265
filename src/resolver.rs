//! Turning names into addresses, as a user may provide it.

use std::io;
use std::net::IpAddr;

/// Turns a name into addresses, best first. Called on a worker thread; may block, fail or panic.
///
/// Attempts follow its order with the families interleaved (RFC 8305, section 4): the next one begins
/// 250 ms after the last, or at once when one fails. Duplicates are dialled once, and of a longer answer
/// the first [64 addresses](crate::machine::MAX_ADDRESSES). Those that the egress rules refuse do not count
/// towards these; of an answer without end 8,192 addresses are looked at. A host that is a numeric address is never
/// asked for.
///
/// Of one connector, [`max_lookups`](crate::ConnectorBuilder::max_lookups) run at once, and others wait within the
/// connect timeout. They never wait for names that the system looks up. A resolver may connect by name through this
/// crate and wait for that on its own thread, with any connector, this one included. Such lookups wait for none.
/// Up to 64 of them run at once in the process, and a further one fails at once with
/// [`Resolve`](crate::ErrorKind::Resolve). A resolver that waits for *other* threads to connect by name should have
/// them use another connector than the one it belongs to.
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
    /// Any error. The socket fails with [`Resolve`](crate::ErrorKind::Resolve), of which this is the source. Its
    /// kind decides what the program hears:
    ///
    /// | kind | means |
    /// |---|---|
    /// | `NotFound` | there is no such name, or no address of it |
    /// | `Interrupted`, `TimedOut`, `WouldBlock`, `ResourceBusy`, `HostUnreachable`, `NetworkUnreachable`, `NetworkDown`, `BrokenPipe`, `UnexpectedEof`, `NotConnected`, `ConnectionRefused`, `ConnectionReset`, `ConnectionAborted` | a failure that passes: the error [is transient](crate::Error::is_transient) |
    /// | any other | neither is known |
    ///
    /// An error of the operating system that says that descriptors or memory are short, itself or as a source, makes
    /// the socket fail with [`Io`](crate::ErrorKind::Io) instead. A code of the operating system for a file that
    /// does not exist is not `NotFound` here.
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

/// What a resolver said. It is the program's, so what is needed of it is taken where its code can do no harm.
#[derive(Debug)]
pub(crate) struct Unresolved {
    /// Whether another lookup may succeed.
    pub(crate) passing: bool,
    pub(crate) error: io::Error,
}

impl Unresolved {
    pub(crate) fn new(error: io::Error) -> Self {
        Unresolved { passing: passes(&error), error }
    }
}

fn passes(error: &io::Error) -> bool {
    // One of this crate, through which the resolver asked for another name.
    let inner = crate::Error::from_io(error)
        .is_some_and(|error| error.is_transient() || error.is_retryable());
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
