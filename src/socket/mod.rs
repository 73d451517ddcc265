//! The public handles of a socket, and the connector that creates them.

mod connect;
mod connector;
mod handle;
mod io;
mod limits;
mod listen_options;
mod listener;
mod open;
mod poller;
mod reader;
mod scope;
mod try_io;
mod tunnel;
mod unix;
mod unwind;
mod upgrade;
mod writer;

use std::fmt;
use std::time::Duration;

use self::handle::Handle;
use crate::driver::Descriptor;
use crate::error::{Error, Result, Step};
use crate::info::{Endpoints, Health, Phase, SocketInfo, Stats};
use crate::machine::Input;
use crate::options::{SecureTransport, SocketOptions};

pub use self::connect::{connect, connect_with};
pub use self::connector::{Connector, ConnectorBuilder};
pub use self::listen_options::ListenOptions;
pub use self::listener::{Incoming, ListenScope, Listener, listen, listen_with};
pub use self::poller::{Pollable, Poller, wait_any};
pub use self::reader::Reader;
pub use self::scope::Scope;
pub use self::tunnel::{TunnelError, TunnelSide, tunnel};
#[cfg(unix)]
pub use self::unix::{connect_unix, listen_unix};
pub use self::writer::Writer;

/// A shared handle to one connection: cheap to clone, `Send + Sync`, every method takes `&self`.
///
/// One thread may block in a read while another writes, over TLS as well. Several readers take turns, and so do
/// several writers. [`reader`](Self::reader) and [`writer`](Self::writer) return handles of one side.
///
/// Dropping the last handle, readers and writers included, closes gracefully in the background. A process that exits
/// does not wait for that. To be sure of delivery, call [`close`](Self::close), or [`Connector::shutdown`] at the
/// end.
///
/// ```
/// use std::io::{Read, Write};
///
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let port = listener.local_addr()?.port();
/// # let peer = std::thread::spawn(move || -> std::io::Result<()> {
/// #     let (mut stream, _) = listener.accept()?;
/// #     std::io::copy(&mut stream.try_clone()?, &mut stream)?;
/// #     Ok(())
/// # });
/// let socket = sockeye::connect(("127.0.0.1", port))?;
/// socket.writer().write_all(b"hello")?;
/// socket.writer().close()?;
///
/// let mut echo = String::new();
/// socket.reader().read_to_string(&mut echo)?;
/// assert_eq!(echo, "hello");
/// socket.closed()?;
/// # peer.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias("TcpStream", "Conn"))]
pub struct Socket {
    handle: Handle,
}

impl Socket {
    /// Waits until the connection is established; with TLS, until its handshake is done.
    ///
    /// May be called any number of times, from any thread, with the same answer.
    ///
    /// # Errors
    /// The reason why the socket did not connect:
    /// - [`Resolve`](crate::ErrorKind::Resolve) or [`Connect`](crate::ErrorKind::Connect).
    /// - [`TimedOut`](crate::ErrorKind::TimedOut) if the connect timeout or deadline passed.
    /// - [`Denied`](crate::ErrorKind::Denied) or [`Loop`](crate::ErrorKind::Loop) if the [egress
    ///   rules](crate::EgressRules) deny the addresses of the name; `Denied` also if the [ingress
    ///   rules](crate::IngressRules) deny the client that a PROXY header names.
    /// - [`Tls`](crate::ErrorKind::Tls) or [`Reset`](crate::ErrorKind::Reset) during a handshake.
    /// - [`Proxy`](crate::ErrorKind::Proxy) if a [proxy](crate::Proxy) refused, or a PROXY header is wrong.
    /// - [`UnreadPlaintext`](crate::ErrorKind::UnreadPlaintext) if plaintext followed a proxy's answer before a
    ///   handshake.
    /// - [`Closed`](crate::ErrorKind::Closed) if this side closed or aborted first.
    /// - [`Io`](crate::ErrorKind::Io) if the operating system lacked a resource.
    ///
    /// ```
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let port = listener.local_addr()?.port();
    /// let socket = sockeye::connect(("127.0.0.1", port))?;
    /// println!("connected from {:?}", socket.opened()?.local_address());
    /// # Ok::<(), sockeye::Error>(())
    /// # .map_err(Box::<dyn std::error::Error>::from)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn opened(&self) -> Result<SocketInfo> {
        self.handle.call(|connection| connection.opened(None))
    }

    /// Waits like [`opened`](Self::opened), for at most `limit`. Zero checks without waiting.
    ///
    /// # Errors
    /// Those of `opened`, and a [retryable](crate::Error::is_retryable) [`TimedOut`](crate::ErrorKind::TimedOut) if
    /// `limit` passes. The attempt continues.
    pub fn opened_timeout(&self, limit: Duration) -> Result<SocketInfo> {
        self.handle.call(|connection| connection.opened(Some(limit)))
    }

    /// Waits until the socket is closed. Returns `Ok` after a clean end, and the cause otherwise.
    ///
    /// Settles even if no thread reads:
    /// - when the peer has ended or reset, and nothing is unread; with
    ///   [`allow_half_open`](crate::SocketOptions::allow_half_open) the peer's end alone does not settle it;
    /// - when both directions have ended.
    ///
    /// If bytes are unread, the peer's end settles it only after they are read. Over TLS the socket may take up to
    /// one record ahead to learn of the end. A reset settles at once. Bytes that arrived before it stay readable if
    /// the kernel keeps them.
    ///
    /// The first outcome stays:
    /// - `Ok` after a [`close`](Self::close) that handed everything over or cancelled an attempt;
    /// - [`TimedOut`](crate::ErrorKind::TimedOut) after a `close` that had to reset;
    /// - [`Closed`](crate::ErrorKind::Closed) after [`abort`](Self::abort) or [`Writer::abort`];
    /// - the cause, if the connection failed before.
    ///
    /// After a failed connection attempt, reads, writes and `closed` return the cause that [`opened`](Self::opened)
    /// returned.
    ///
    /// # Errors
    /// The cause of an end that was not clean.
    pub fn closed(&self) -> Result<()> {
        self.handle.call(|connection| connection.closed(None))
    }

    /// Waits like [`closed`](Self::closed), for at most `limit`. Zero checks without waiting.
    ///
    /// # Errors
    /// Those of `closed`, and a [retryable](crate::Error::is_retryable) [`TimedOut`](crate::ErrorKind::TimedOut) if
    /// `limit` passes. The socket lives on.
    pub fn closed_timeout(&self, limit: Duration) -> Result<()> {
        self.handle.call(|connection| connection.closed(Some(limit)))
    }

    /// Closes both directions.
    ///
    /// Cancels a connection attempt or handshake at once; [`opened`](Self::opened) then returns
    /// [`Closed`](crate::ErrorKind::Closed). Otherwise hands all written data to the kernel, sends close_notify over
    /// TLS, then sends FIN.
    ///
    /// Before it returns, it drops unread data that the kernel already holds. Data that the peer still sends is
    /// dropped in the background, for at most 2 s and 1 MiB. So the peer sees FIN and no reset. This needs the
    /// process to stay alive.
    ///
    /// Blocked and later reads and writes fail with [`Closed`](crate::ErrorKind::Closed). A blocked write first
    /// returns the number of bytes that it accepted, and exactly those are delivered.
    ///
    /// Concurrent and later calls wait for the same hand-over and return the same result. Returns `Ok` also on a
    /// socket that had failed or ended before; [`closed`](Self::closed) returns the cause.
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut) if the [`close_timeout`](crate::SocketOptions::close_timeout) passes
    /// before the hand-over; the connection is then reset.
    ///
    /// ```
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let port = listener.local_addr()?.port();
    /// let socket = sockeye::connect(("127.0.0.1", port))?;
    /// let canceller = socket.clone();
    /// let reading = std::thread::spawn(move || std::io::Read::read(&mut &socket, &mut [0; 64]));
    /// canceller.close()?;
    /// assert!(reading.join().unwrap().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("shutdown", "destroy"))]
    pub fn close(&self) -> Result<()> {
        self.handle.call(|connection| connection.close()).map_err(|error| error.during(Step::Close))
    }

    /// Closes at once: unsent data is dropped, and the peer sees a reset. Blocked and later reads and writes, and
    /// [`closed`](Self::closed), fail with [`Closed`](crate::ErrorKind::Closed). A connection attempt is cancelled.
    /// Does nothing on a socket that has ended.
    ///
    /// While the program holds a [`Descriptor`](crate::Descriptor) or a duplicate of it, only Linux and Android send
    /// the reset at once. On other systems the peer sees nothing until the last of them is dropped, and then the reset.
    #[doc(alias("resetAndDestroy", "SetLinger"))]
    pub fn abort(&self) {
        self.handle.call(|connection| connection.abort(Input::Abort));
    }

    /// Returns the mode that the socket was opened with; [`On`](crate::SecureTransport::On) for a socket that
    /// [`start_tls`](Self::start_tls) returned.
    #[must_use]
    #[doc(alias("secureTransport"))]
    pub fn secure_transport(&self) -> SecureTransport {
        self.handle.call(|connection| connection.mode())
    }

    /// Returns the readable side.
    #[must_use]
    #[doc(alias("readable"))]
    pub fn reader(&self) -> Reader {
        Reader::new(self.handle.clone())
    }

    /// Returns the writable side.
    #[must_use]
    #[doc(alias("writable"))]
    pub fn writer(&self) -> Writer {
        Writer::new(self.handle.clone())
    }

    /// Returns the socket's current phase.
    #[must_use]
    #[doc(alias("readyState"))]
    pub fn phase(&self) -> Phase {
        self.handle.call(|connection| connection.phase())
    }

    /// Returns the operating system's handle of the connection, for queries; see [`Descriptor`] for its limits.
    /// Returns `None` while connecting, after the connection was released, and after an upgrade passed it to another
    /// socket.
    ///
    /// A socket does not implement `AsFd` itself. Another thread may close it at any time, and a borrowed number
    /// would then be closed, or belong to another file. The returned value keeps the descriptor open for as long as
    /// it lives.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use std::os::fd::AsFd;
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?;
    /// let socket = sockeye::connect(address)?;
    /// let local = socket.opened()?.local_address();
    /// let descriptor = socket.descriptor().expect("the socket is open");
    /// socket.abort();
    /// let seen = socket2::SockRef::from(&descriptor.as_fd()).local_addr()?;
    /// assert_eq!(seen.as_socket().map(|seen| seen.port()), local.map(|local| local.port()));
    /// assert!(socket.descriptor().is_none());
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[doc(alias("as_fd", "AsFd", "as_raw_fd", "as_socket", "SyscallConn"))]
    pub fn descriptor(&self) -> Option<Descriptor> {
        self.handle.call(|connection| connection.descriptor())
    }

    /// Returns the addresses of an accepted socket as soon as they are known.
    pub(crate) fn accepted_endpoints(&self) -> Option<Endpoints> {
        self.handle.call(|connection| connection.accepted_endpoints())
    }

    /// Sets `TCP_NODELAY`, which sends small segments at once. Does not wait. The initial value is that of
    /// [`TcpOptions::nodelay`](crate::TcpOptions::nodelay), `true` by default.
    ///
    /// # Errors
    /// - [`InvalidState`](crate::ErrorKind::InvalidState) while connecting, and after the connection was released or
    ///   an upgrade passed it to another socket.
    /// - [`Io`](crate::ErrorKind::Io) if the operating system refuses.
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?;
    /// let socket = sockeye::connect(address)?;
    /// socket.opened()?;
    /// // Many small writes may wait for each other now.
    /// socket.set_nodelay(false)?;
    /// for number in 0..100 {
    ///     writeln!(socket.writer(), "{number}")?;
    /// }
    /// socket.set_nodelay(true)?;
    /// assert!(socket.nodelay()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("TCP_NODELAY", "setNoDelay", "SetNoDelay"))]
    pub fn set_nodelay(&self, on: bool) -> Result<()> {
        self.handle.call(|connection| connection.set_nodelay(on))
    }

    /// Returns whether `TCP_NODELAY` is set.
    ///
    /// # Errors
    /// Those of [`set_nodelay`](Self::set_nodelay).
    pub fn nodelay(&self) -> Result<bool> {
        self.handle.call(|connection| connection.nodelay())
    }

    /// Detaches the connection as a blocking `std` stream without timeouts, with all unread data still in it. Options
    /// such as no-delay stay as they were set.
    ///
    /// This socket has then ended. [`closed`](Self::closed) returns `Ok`, its slot among the [open
    /// sockets](crate::ConnectorBuilder::max_open_sockets) is free, and every later call on any handle fails with
    /// [`Upgraded`](crate::ErrorKind::Upgraded).
    ///
    /// This is for programs that connect with this crate's rules and timeouts, and pass the connection to code that
    /// knows only [`std::net::TcpStream`]. [`Connector::adopt`] is the other direction.
    ///
    /// # Errors
    /// Nothing changes if the call fails:
    /// - [`InvalidState`](crate::ErrorKind::InvalidState) unless the socket is open in both directions, in plaintext,
    ///   and no other thread is reading, writing or upgrading.
    /// - The cause, if the socket failed.
    /// - [`Io`](crate::ErrorKind::Io) if no descriptor is left.
    ///
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?;
    /// let socket = sockeye::connect(address)?;
    /// socket.opened()?;
    /// let mut stream: std::net::TcpStream = socket.detach()?;
    /// stream.write_all(b"hello")?;
    /// assert_eq!(sockeye::Phase::Closed, socket.phase());
    /// # let mut greeting = [0; 5];
    /// # listener.accept()?.0.read_exact(&mut greeting)?;
    /// # assert_eq!(greeting, *b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("into_std", "into_raw_fd", "IntoRawFd"))]
    pub fn detach(&self) -> Result<std::net::TcpStream> {
        self.handle.call(|connection| connection.detach())
    }

    /// Checks whether an idle connection, such as one in a pool, is still usable. Looks at the wire itself, because
    /// [`phase`](Self::phase) may lag behind until the next read.
    ///
    /// Never waits for the peer and consumes no application data: data that it finds stays for the next read. Over
    /// TLS it processes the records that have arrived, so that session tickets and key updates are neither data nor
    /// an end. If another thread is processing the end of the connection, the call waits up to 10 ms for the result.
    /// An end or a failure that it finds applies to the socket, as if a read had found it.
    ///
    /// While another thread reads, incoming data belongs to that read, and the socket counts as
    /// [`Idle`](Health::Idle). On Linux the call still sees an end or a failure then; on other systems only the read
    /// does. No check can see data that has not arrived. So a request on an idle connection may still find that the
    /// peer has just closed it.
    ///
    /// A pool that lends only usable connections:
    ///
    /// ```
    /// use std::sync::Mutex;
    /// use sockeye::{Health, Result, Socket, SocketAddress};
    ///
    /// struct Pool {
    ///     address: SocketAddress,
    ///     idle: Mutex<Vec<Socket>>,
    /// }
    ///
    /// impl Pool {
    ///     fn take(&self) -> Result<Socket> {
    ///         // The most recently used first. A socket that is not idle is closed in the background.
    ///         while let Some(socket) = self.idle.lock().unwrap().pop() {
    ///             if socket.health().is_idle() {
    ///                 return Ok(socket);
    ///             }
    ///         }
    ///         sockeye::connect(self.address.clone())
    ///     }
    ///
    ///     fn give_back(&self, socket: Socket) {
    ///         self.idle.lock().unwrap().push(socket);
    ///     }
    /// }
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?.into();
    /// let pool = Pool { address, idle: Mutex::default() };
    /// let socket = pool.take()?;
    /// let first = socket.opened()?.local_address();
    /// pool.give_back(socket);
    /// let socket = pool.take()?;
    /// assert_eq!(socket.opened()?.local_address(), first, "the pool lent it again");
    ///
    /// drop(listener.accept()?);
    /// # while socket.health().is_idle() {} // On loopback this takes no time, but a loopback may be emulated.
    /// assert!(matches!(socket.health(), Health::Ended));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[doc(alias("is_alive", "isAlive", "is_closed", "connCheck"))]
    pub fn health(&self) -> Health {
        self.handle.call(|connection| connection.health())
    }

    /// Returns the bytes of application data in both directions, counted as they are accepted and delivered. The
    /// socket that [`start_tls`](Self::start_tls) returns starts at zero.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.call(|connection| connection.stats())
    }
}

/// Adopts the stream with the [default connector](Connector::global) and default options; see [`Connector::adopt`].
impl TryFrom<std::net::TcpStream> for Socket {
    type Error = Error;

    fn try_from(stream: std::net::TcpStream) -> Result<Self> {
        Connector::global().adopt(stream, SocketOptions::new())
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.describe(f, "Socket")
    }
}
