//! The handle of a listener.

mod incoming;
mod serve;

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Socket;
use super::handle::Handle;
use super::listen_options::ListenOptions;
use crate::driver::{AcceptLimit, Descriptor, ListenAddress, ListenerInner, PollSource, ScopeId};
use crate::error::{Error, ErrorKind, Result};
use crate::info::ListenerStats;
use crate::tls::ServerTlsOptions;

pub use self::incoming::{Incoming, ListenScope};

/// Listens for TCP connections with default options.
///
/// Of several addresses, the first that can be bound is used. Port 0 picks a free port. `[::]` also takes IPv4 clients
/// if the system supports that, unless [`ListenOptions::only_v6`] is set. A port whose old connections are in TIME_WAIT
/// can be bound at once (`SO_REUSEADDR` on Unix). On Windows another process that sets `SO_REUSEADDR` may be able to take
/// the port over.
///
/// # Errors
/// - [`Resolve`](crate::ErrorKind::Resolve) if the address is not valid, or its name does not resolve.
/// - [`Io`](crate::ErrorKind::Io) if the system refuses, for example because the address is in use. The message names
///   the address.
/// - [`InvalidState`](crate::ErrorKind::InvalidState) in a child that was forked from a process that used this crate.
///   Bind before the fork, and [adopt](Listener::adopt) the listener in the child.
///
/// ```
/// use std::io::{Read, Write};
///
/// let listener = sockeye::listen("127.0.0.1:0")?;
/// let address = listener.local_address().unwrap();
/// let server = std::thread::spawn(move || -> std::io::Result<()> {
///     let socket = listener.accept()?;
///     let mut request = String::new();
///     socket.reader().read_to_string(&mut request)?;
///     socket.writer().write_all(request.to_uppercase().as_bytes())?;
///     socket.close()?;
///     Ok(())
/// });
///
/// let client = sockeye::connect(address)?;
/// client.writer().write_all(b"hello")?;
/// client.writer().close()?;
/// let mut answer = String::new();
/// client.reader().read_to_string(&mut answer)?;
/// assert_eq!(answer, "HELLO");
/// server.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("bind"))]
pub fn listen(address: impl ToSocketAddrs) -> Result<Listener> {
    listen_with(address, ListenOptions::new())
}

/// Listens like [`listen`], with options.
///
/// # Errors
/// Those of [`listen`], and [`InvalidOptions`](crate::ErrorKind::InvalidOptions), which is checked before anything is
/// bound. [`Closed`](crate::ErrorKind::Closed) if the [shared connector](ListenOptions::connector) was shut down.
///
/// ```
/// use sockeye::{ErrorKind, ListenOptions, listen_with};
///
/// let listener = listen_with("127.0.0.1:0", ListenOptions::new().backlog(16))?;
/// let taken = listener.local_address().unwrap();
/// let error = listen_with(taken, ListenOptions::new()).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Io);
/// # Ok::<(), sockeye::Error>(())
/// ```
pub fn listen_with(address: impl ToSocketAddrs, options: ListenOptions) -> Result<Listener> {
    options.check_tcp()?;
    let unresolved = |reason: String| {
        let message = format!("cannot listen: the address does not resolve: {reason}");
        Error::with_message(ErrorKind::Resolve, message)
    };
    let addresses: Vec<SocketAddr> =
        address.to_socket_addrs().map_err(|error| unresolved(error.to_string()))?.collect();
    if addresses.is_empty() {
        return Err(unresolved("there is none".to_owned()));
    }
    Ok(Listener { inner: ListenerInner::listen(&addresses, options.into_config())? })
}

/// Accepts connections. A shared handle: cheap to clone, `Send + Sync`, every method takes `&self`.
///
/// No thread in [`accept`](Self::accept) waits for one particular client. With [`AcceptWhen::Opened`], up to
/// [`max_pending`](ListenOptions::max_pending) slow clients delay no other client. Beyond that, new clients wait in the
/// system's queue, for at most the [`handshake_timeout`](ListenOptions::handshake_timeout). Several threads may accept,
/// and one connection wakes one of them.
///
/// Dropping the last handle closes the listener. Accepted sockets live on. Connections that no thread can accept any
/// more are reset.
///
/// [`AcceptWhen::Opened`]: crate::AcceptWhen::Opened
#[doc(alias("TcpListener", "Server"))]
pub struct Listener {
    pub(super) inner: Arc<ListenerInner>,
}

impl Listener {
    /// Waits for a connection.
    ///
    /// A client's fault is no error here: if a connection is gone before it can be taken, the next one is tried. So
    /// `ECONNABORTED`, `EPROTO` and the network errors that accept(2) lists end nothing. They are counted as
    /// [`lost`](crate::ListenerStats::lost). After 64 in a row it pauses for 1 ms, doubled each time up to 10 ms.
    ///
    /// If descriptors or memory run out (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`), it first closes closed connections that
    /// are still drained in the background. Then it retries after 10 ms, doubled each time up to 1 s, or as soon as this
    /// crate closes a descriptor. It neither spins nor fails. Each time is counted as
    /// [`starved`](crate::ListenerStats::starved), and logged at most once a minute.
    ///
    /// # Errors
    /// - [`Closed`](crate::ErrorKind::Closed) after [`close`](Self::close), [`abort`](Self::abort) or
    ///   [`shutdown`](Self::shutdown), once the connections that were complete are returned.
    /// - A [retryable](crate::Error::is_retryable) [`TimedOut`](crate::ErrorKind::TimedOut) if the
    ///   [accept deadline](Self::set_accept_deadline) passed. It wins over a connection that is ready.
    /// - [`Io`](crate::ErrorKind::Io), from then on always, if the system ended the listener.
    /// - [`InvalidState`](crate::ErrorKind::InvalidState) in a forked child.
    pub fn accept(&self) -> Result<Socket> {
        self.accept_in(AcceptLimit::default(), None)
    }

    /// Accepts like [`accept`](Self::accept), for at most `limit`. Zero does not wait.
    ///
    /// # Errors
    /// Those of `accept`, and a [retryable](crate::Error::is_retryable) [`TimedOut`](crate::ErrorKind::TimedOut) if
    /// `limit` passes.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let listener = sockeye::listen("127.0.0.1:0")?;
    /// let error = listener.accept_timeout(Duration::from_millis(10)).unwrap_err();
    /// assert!(error.is_retryable());
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    pub fn accept_timeout(&self, limit: Duration) -> Result<Socket> {
        let limit = AcceptLimit { timeout: Some(limit), ..AcceptLimit::default() };
        self.accept_in(limit, None)
    }

    /// Sets the instant after which [`accept`](Self::accept) times out. Applies to a blocked `accept` too. `None`, the
    /// default, removes it. Has no effect in a forked child.
    #[doc(alias("SetDeadline"))]
    pub fn set_accept_deadline(&self, at: Option<Instant>) {
        self.inner.set_deadline(at);
    }

    /// Returns the accept deadline.
    #[must_use]
    pub fn accept_deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }

    /// Returns an iterator over connections. It ends when the listener is closed, for every thread that iterates. It
    /// yields sockets, not results: no client can end it. [`closed`](Self::closed) returns why it ended. It ignores the
    /// accept deadline.
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// let listener = sockeye::listen("127.0.0.1:0")?;
    /// let client = sockeye::connect(listener.local_address().unwrap())?;
    /// client.opened()?;
    /// listener.close();
    /// for socket in &listener {
    ///     socket.writer().write_all(b"welcome")?;
    /// }
    /// listener.closed()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming::new(self, None)
    }

    /// Returns the bound address, with the port that the system chose. `None` for a Unix-domain listener.
    #[must_use]
    #[doc(alias("local_addr"))]
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self.inner.local_address() {
            ListenAddress::Ip(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        }
    }

    /// Returns the number of accepted sockets that are opening, open or closing. Zero in a forked child.
    #[must_use]
    pub fn open_sockets(&self) -> usize {
        self.inner.registry().open_sockets()
    }

    /// Returns counts of its sockets, for metrics. The call asks every live socket, so its time grows with their number.
    /// In a forked child every count is zero.
    #[must_use]
    #[doc(alias("metrics"))]
    pub fn stats(&self) -> ListenerStats {
        self.inner.stats()
    }

    /// Stops listening, without waiting.
    ///
    /// Connections that are complete by then are still returned, at most as many as the
    /// [`backlog`](ListenOptions::backlog). After them, `accept` fails with [`Closed`](crate::ErrorKind::Closed), also for
    /// threads that are blocked in it. If [`max_open_sockets`](ListenOptions::max_open_sockets) is reached, they wait for
    /// slots, for at most the [`close_timeout`](crate::SocketOptions::close_timeout) of the socket options, and are then
    /// reset. Accepted sockets live on. A second call has no effect.
    ///
    /// With [`AcceptWhen::Opened`](crate::AcceptWhen::Opened), connections whose handshake has begun are returned if it
    /// succeeds. The handshakes of the connections that are complete begin at once, all of them:
    /// [`max_pending`](ListenOptions::max_pending) does not limit their number here.
    ///
    /// A client whose TCP handshake completes at the very end is reset, which no system can avoid. To restart without
    /// loss, share the port ([`reuse_port`](ListenOptions::reuse_port)), or [adopt](Self::adopt) a listener that outlives
    /// the process.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Stops listening, and resets connections that no thread has accepted. Accepted sockets live on.
    pub fn abort(&self) {
        self.inner.abort_listening();
    }

    /// Waits until the listener is closed and nothing is left to return. Then its address can be bound again.
    ///
    /// # Errors
    /// The cause, if the system ended the listener. [`InvalidState`](crate::ErrorKind::InvalidState) in a forked child.
    pub fn closed(&self) -> Result<()> {
        self.inner.closed(None)
    }

    /// Waits like [`closed`](Self::closed), for at most `limit`. Zero checks without waiting.
    ///
    /// # Errors
    /// Those of `closed`, and a [retryable](crate::Error::is_retryable) [`TimedOut`](crate::ErrorKind::TimedOut) if
    /// `limit` passes.
    pub fn closed_timeout(&self, limit: Duration) -> Result<()> {
        self.inner.closed(Some(limit))
    }

    /// Closes the listener, resets connections that no thread has accepted, closes every socket that it accepted
    /// gracefully for at most `limit`, and then aborts the rest.
    ///
    /// Returns the number of sockets that had to be aborted while accepted data was not yet with the kernel, as
    /// [`Connector::shutdown`](crate::Connector::shutdown) does.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let listener = sockeye::listen("127.0.0.1:0")?;
    /// let client = sockeye::connect(listener.local_address().unwrap())?;
    /// let socket = listener.accept()?;
    /// assert_eq!(listener.shutdown(Duration::from_secs(1)), 0);
    /// assert_eq!(socket.phase(), sockeye::Phase::Closed);
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    #[must_use = "the number says whether accepted data was lost"]
    pub fn shutdown(&self, limit: Duration) -> usize {
        self.inner.shutdown(limit)
    }

    /// Runs `work`, then closes the sockets that were accepted through the scope, as
    /// [`Connector::scope`](crate::Connector::scope) does.
    ///
    /// ```
    /// use sockeye::Phase;
    ///
    /// let listener = sockeye::listen("127.0.0.1:0")?;
    /// let client = sockeye::connect(listener.local_address().unwrap())?;
    /// let kept = listener.scope(|scope| scope.accept())?;
    /// assert_eq!(kept.phase(), Phase::Closed);
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    pub fn scope<R>(&self, work: impl FnOnce(&ListenScope<'_>) -> R) -> R {
        let scope = ListenScope::new(self, self.inner.registry().begin_scope());
        work(&scope)
    }

    /// Replaces the TLS settings of connections that are accepted from now on. To change certificates only, change the
    /// [`Identities`](crate::Identities) of the present settings.
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions), also if the mode is [`Off`](crate::SecureTransport::Off) or
    /// the accepted sockets are TLS clients. Nothing changes then. [`InvalidState`](crate::ErrorKind::InvalidState) in a
    /// forked child.
    pub fn set_server_tls(&self, tls: ServerTlsOptions) -> Result<()> {
        self.inner.set_server_tls(tls)
    }

    /// Takes over a listener of `std`, such as one that a service manager passed (`LISTEN_FDS`, through the crate
    /// `listenfd`), or one with special options.
    ///
    /// The descriptor becomes non-blocking, also for other processes that share it. Its queue may belong to a successor.
    /// So [`close`](Self::close) only drops the descriptor. Connections in the queue stay there. With
    /// [`AcceptWhen::Opened`](crate::AcceptWhen::Opened), those that were taken before are still returned.
    ///
    /// # Errors
    /// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions), also for options that apply before binding: `backlog`,
    ///   `reuse_port`, `only_v6`, [`multipath`](crate::TcpOptions::multipath) and buffer sizes.
    /// - [`InvalidState`](crate::ErrorKind::InvalidState) if the socket does not listen, or is no TCP socket.
    /// - [`Io`](crate::ErrorKind::Io) if the operating system refuses an option.
    ///
    /// ```
    /// use sockeye::{ListenOptions, Listener};
    ///
    /// let bound = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let listener = Listener::adopt(bound, ListenOptions::new())?;
    /// let client = sockeye::connect(listener.local_address().unwrap())?;
    /// listener.accept()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("from_std", "from_raw_fd", "LISTEN_FDS", "socket activation"))]
    pub fn adopt(listener: std::net::TcpListener, options: ListenOptions) -> Result<Self> {
        options.check_tcp()?;
        options.check_adoptable()?;
        Ok(Listener { inner: ListenerInner::adopt(listener, options.into_config())? })
    }

    /// Returns the operating system's handle of the listener, for queries; see [`Descriptor`] for its limits. Returns
    /// `None` once the listener is closed.
    #[must_use]
    #[doc(alias("as_fd", "AsFd", "as_raw_fd"))]
    pub fn descriptor(&self) -> Option<Descriptor> {
        self.inner.descriptor()
    }

    pub(super) fn poll_source(&self) -> Arc<dyn PollSource> {
        Arc::clone(&self.inner) as _
    }

    /// Returns whether connections are returned once they are open, and not before.
    pub(crate) fn accepts_when_opened(&self) -> bool {
        self.inner.accepts_when_opened()
    }

    fn accept_in(&self, limit: AcceptLimit, scope: Option<ScopeId>) -> Result<Socket> {
        let connection = self.inner.accept(limit, scope)?;
        Ok(Socket { handle: Handle::new(connection) })
    }
}

/// Same as [`Listener::adopt`] with default options.
impl TryFrom<std::net::TcpListener> for Listener {
    type Error = Error;

    fn try_from(listener: std::net::TcpListener) -> Result<Self> {
        Listener::adopt(listener, ListenOptions::new())
    }
}

impl Clone for Listener {
    fn clone(&self) -> Self {
        self.inner.add_handle();
        Listener { inner: Arc::clone(&self.inner) }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.inner.drop_handle();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("local_address", &format_args!("{}", self.inner.local_address()))
            .field("is_closed", &self.inner.is_closing())
            .field("open_sockets", &self.open_sockets())
            .finish_non_exhaustive()
    }
}
