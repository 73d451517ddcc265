//! The handles: what a program holds of a socket.

mod connect;
mod connector;
mod reader;
mod scope;
mod writer;

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::driver::{Connection, Descriptor, RecvBufs, SendBufs, Side};
use crate::error::{Error, Result, Step};
use crate::info::{Health, Phase, SocketInfo, Stats};
use crate::machine::Input;
use crate::options::{SecureTransport, SocketOptions, check_limit};
use crate::tls::TlsOptions;

pub use self::connect::{connect, connect_with};
pub use self::connector::{Connector, ConnectorBuilder};
pub use self::reader::Reader;
pub use self::scope::Scope;
pub use self::writer::Writer;

/// A shared handle to one connection: cheap to clone, `Send + Sync`, every method takes `&self`.
///
/// One thread may block in a read while another writes; several readers, or several writers, take
/// turns. [`reader`](Self::reader) and [`writer`](Self::writer) give handles of one side.
///
/// Dropping the last handle (readers and writers counted) closes gracefully in the background. A
/// process that exits does not wait for that: to be sure of delivery call [`close`](Self::close), or
/// [`Connector::shutdown`] at the end.
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
    /// Waits until the connection is established.
    ///
    /// May be called any number of times, from any thread, with the same answer.
    ///
    /// # Errors
    /// Why there is no connection: [`Resolve`](crate::ErrorKind::Resolve),
    /// [`Connect`](crate::ErrorKind::Connect), [`TimedOut`](crate::ErrorKind::TimedOut) when the
    /// connect timeout passed, [`Denied`](crate::ErrorKind::Denied) and [`Loop`](crate::ErrorKind::Loop)
    /// where the [egress rules](crate::EgressRules) refuse what the name resolves to,
    /// [`Tls`](crate::ErrorKind::Tls) and [`Reset`](crate::ErrorKind::Reset) in a handshake,
    /// [`Closed`](crate::ErrorKind::Closed) when this side closed or aborted first,
    /// [`Io`](crate::ErrorKind::Io) when the system lacked something.
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

    /// [`opened`](Self::opened) for at most `limit`; zero only looks.
    ///
    /// # Errors
    /// As `opened`, and a [retryable](crate::Error::is_retryable)
    /// [`TimedOut`](crate::ErrorKind::TimedOut) when `limit` passed; the attempt goes on.
    pub fn opened_timeout(&self, limit: Duration) -> Result<SocketInfo> {
        self.handle.call(|connection| connection.opened(Some(limit)))
    }

    /// Waits until the socket is closed: `Ok` after a clean end, the cause otherwise.
    ///
    /// Settles without anyone reading when the peer has ended (or reset) and nothing is unread, and
    /// when both directions have ended; with
    /// [`allow_half_open`](crate::SocketOptions::allow_half_open) a peer's end alone does not settle it.
    /// While bytes are unread, a peer's end waits for them; a reset settles at once, and bytes that
    /// came before it stay readable where the system keeps them.
    ///
    /// The first outcome stays: `Ok` after a [`close`](Self::close) that handed everything over or
    /// cancelled an attempt, [`TimedOut`](crate::ErrorKind::TimedOut) if it had to reset,
    /// [`Closed`](crate::ErrorKind::Closed) after [`abort`](Self::abort) or [`Writer::abort`], the
    /// cause if the connection failed before. After a failed connection attempt it is the cause that
    /// [`opened`](Self::opened) gave.
    ///
    /// # Errors
    /// The cause of any end that was not clean.
    pub fn closed(&self) -> Result<()> {
        self.handle.call(|connection| connection.closed(None))
    }

    /// [`closed`](Self::closed) for at most `limit`; zero only looks.
    ///
    /// # Errors
    /// As `closed`, and a [retryable](crate::Error::is_retryable)
    /// [`TimedOut`](crate::ErrorKind::TimedOut) when `limit` passed; the socket lives on.
    pub fn closed_timeout(&self, limit: Duration) -> Result<()> {
        self.handle.call(|connection| connection.closed(Some(limit)))
    }

    /// Closes both directions: cancels a connection attempt at once ([`opened`](Self::opened) is then
    /// [`Closed`](crate::ErrorKind::Closed)); otherwise hands what was written to the kernel, then
    /// sends FIN.
    ///
    /// Before it returns it drops what the kernel already holds unread; what the peer still sends is
    /// dropped in the background, for at most 2 s and 1 MiB, so that it sees FIN and no reset. That
    /// needs the process to live. Blocked and later reads and writes fail with
    /// [`Closed`](crate::ErrorKind::Closed); a blocked write first tells what it took, and exactly that
    /// is delivered. Concurrent and later calls wait for the same hand-over and give the same result;
    /// `Ok` also on a socket that had failed or ended before (the cause is in
    /// [`closed`](Self::closed)).
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut) where the
    /// [`close_timeout`](crate::SocketOptions::close_timeout) passed before the hand-over: the
    /// connection is then reset.
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

    /// Closes at once: what is not yet sent is dropped and the peer sees a reset. Blocked and later
    /// reads and writes, and [`closed`](Self::closed), give [`Closed`](crate::ErrorKind::Closed). A
    /// connection attempt is cancelled. Does nothing on a socket that has ended.
    #[doc(alias("resetAndDestroy", "SetLinger"))]
    pub fn abort(&self) {
        self.handle.call(|connection| connection.abort(Input::Abort));
    }

    /// Upgrades to TLS and returns the new socket, still in its handshake: its
    /// [`opened`](Self::opened) waits for that.
    ///
    /// Waits for the connection where it is still being made, and for writes that began before: they end
    /// first, and all that they took precedes the handshake. That wait counts in the upgrade's
    /// [`connect_timeout`](crate::SocketOptions::connect_timeout), which begins with this call;
    /// [`close`](Self::close) and [`abort`](Self::abort) end it. The new socket inherits options, timeouts
    /// and deadlines. This one is [`upgraded`](Self::upgraded) then, its [`closed`](Self::closed) is `Ok`,
    /// its reads (blocked ones too) and its later writes fail with
    /// [`Upgraded`](crate::ErrorKind::Upgraded). A handshake that fails closes the connection: nothing ever
    /// falls back to plaintext.
    ///
    /// Before it sends anything it looks whether the peer has said more than the program has read. Such
    /// bytes, which an attacker may have put there for the program to take them for an answer that came
    /// over TLS, end the connection. What a [`BufReader`](std::io::BufReader) has read ahead it can't see:
    /// look at its [`buffer`](std::io::BufReader::buffer) before this call, and drop it.
    ///
    /// # Errors
    /// - [`InvalidState`](crate::ErrorKind::InvalidState), and nothing is changed: unless the mode is
    ///   [`StartTls`](crate::SecureTransport::StartTls), on a second call, after [`Reader::cancel`], and
    ///   after this side closed, half-closed or aborted.
    /// - [`TimedOut`](crate::ErrorKind::TimedOut), [retryable](crate::Error::is_retryable), and nothing is
    ///   changed: the wait above took too long.
    /// - [`UnreadPlaintext`](crate::ErrorKind::UnreadPlaintext): bytes from the peer are unread. Not one
    ///   byte is sent, the connection is closed, `closed` gives the same.
    /// - [`Closed`](crate::ErrorKind::Closed): the peer has ended, or this side closed meanwhile. On a
    ///   socket that failed its cause.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use sockeye::{SecureTransport, SocketOptions, connect_with};
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let port = listener.local_addr()?.port();
    /// # let peer = std::thread::spawn(move || -> std::io::Result<()> {
    /// #     let (mut stream, _) = listener.accept()?;
    /// #     stream.read_exact(&mut [0; 6])?;
    /// #     stream.write_all(b"+OK\r\n")?;
    /// #     stream.read(&mut [0; 5])?;
    /// #     Ok(())
    /// # });
    /// let options = SocketOptions::new().secure_transport(SecureTransport::StartTls);
    /// let socket = connect_with(("127.0.0.1", port), options)?; // such as ("pop.example.com", 110)
    /// socket.writer().write_all(b"STLS\r\n")?;
    /// let mut answer = [0; 5];
    /// socket.reader().read_exact(&mut answer)?;
    /// if answer == *b"+OK\r\n" {
    ///     let secure = socket.start_tls()?;
    ///     let info = secure.opened();
    /// #   assert!(info.is_err(), "this peer can't");
    /// }
    /// # peer.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("startTls"))]
    pub fn start_tls(&self) -> Result<Socket> {
        Ok(Socket { handle: Handle::first(self.handle.connection().start_tls(None)?) })
    }

    /// [`start_tls`](Self::start_tls) with these in place of the options' TLS settings.
    ///
    /// # Errors
    /// As `start_tls`, and [`InvalidOptions`](crate::ErrorKind::InvalidOptions), where nothing is changed.
    pub fn start_tls_with(&self, tls: TlsOptions) -> Result<Socket> {
        Ok(Socket { handle: Handle::first(self.handle.connection().start_tls(Some(&tls))?) })
    }

    /// Whether [`start_tls`](Self::start_tls) has given the connection to another socket.
    #[must_use]
    pub fn upgraded(&self) -> bool {
        self.handle.call(|connection| connection.is_upgraded())
    }

    /// The mode it was opened with; [`On`](crate::SecureTransport::On) for the socket that
    /// [`start_tls`](Self::start_tls) returned.
    #[must_use]
    #[doc(alias("secureTransport"))]
    pub fn secure_transport(&self) -> SecureTransport {
        self.handle.call(|connection| connection.mode())
    }

    /// The readable side.
    #[must_use]
    #[doc(alias("readable"))]
    pub fn reader(&self) -> Reader {
        Reader::new(self.handle.clone())
    }

    /// The writable side.
    #[must_use]
    #[doc(alias("writable"))]
    pub fn writer(&self) -> Writer {
        Writer::new(self.handle.clone())
    }

    /// Where the socket is in its life, now.
    #[must_use]
    #[doc(alias("readyState"))]
    pub fn phase(&self) -> Phase {
        self.handle.call(|connection| connection.phase())
    }

    /// The system's handle of the connection, to ask the system about it; see [`Descriptor`] for what it is not
    /// for. `None` while it is connecting, when it has let go of it, and where another socket has it after an
    /// upgrade.
    ///
    /// A socket is no `AsFd` itself: another thread may end it at any time, and then a number that was borrowed
    /// would be closed, or another file's. What this returns keeps the descriptor for as long as it lives.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use std::os::fd::AsFd;
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?;
    /// let socket = sockeye::connect(address)?;
    /// let local = socket.opened()?.local_address();
    /// let descriptor = socket.descriptor().expect("it is open");
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

    /// Gives the connection away, as a stream of `std` that blocks and has no time-outs, with everything unread
    /// still in it. This socket has ended then: [`closed`](Self::closed) gives `Ok`, its place among the
    /// [open sockets](crate::ConnectorBuilder::max_open_sockets) is free, and every later call on any handle fails with
    /// [`Upgraded`](crate::ErrorKind::Upgraded). Options such as no-delay stay as they were set.
    ///
    /// For programs that let this crate connect, under its rules and time-outs, and hand the connection to what
    /// knows only [`std::net::TcpStream`]. The other way is [`Connector::adopt`].
    ///
    /// # Errors
    /// [`InvalidState`](crate::ErrorKind::InvalidState) unless the socket is open both ways, in plaintext, and no
    /// other thread is in a read, a write or an upgrade; what has failed it, where something has;
    /// [`Io`](crate::ErrorKind::Io) where there is no descriptor left. Nothing has changed then.
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
    #[cfg(all(unix, not(sockeye_shuttle)))]
    #[doc(alias("into_std", "into_raw_fd", "IntoRawFd"))]
    pub fn detach(&self) -> Result<std::net::TcpStream> {
        self.handle.call(|connection| connection.detach())
    }

    /// Whether it is still good, for who keeps it for later: looks at the wire, where a
    /// [`phase`](Self::phase) may be behind by as long as nobody has read.
    ///
    /// Never waits for the peer, and takes no application data: what is found stays for the next read. Over TLS it
    /// takes in the records that have come, so that session tickets and new keys are neither data nor an end; where
    /// another thread is just doing so at the end of the connection, that one has up to 10 ms to say what end it
    /// was. An end or a failure that it finds is the socket's from then on, as if a read had found it.
    ///
    /// While another thread is in a read, what comes is that read's, and the socket counts as
    /// [`Idle`](Health::Idle) until it is seen to have ended or failed (without the read telling: on Linux only).
    /// What the peer has sent that has not arrived, nobody can see: a request that is sent
    /// on an idle connection may still find it ended, and be it by a peer that closed a moment before.
    ///
    /// A pool that lends a connection only while that is of any use:
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
    ///         // The youngest first. One that is not idle is closed in the background.
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
    /// assert_eq!(socket.opened()?.local_address(), first, "it was lent again");
    ///
    /// drop(listener.accept()?);
    /// # while socket.health().is_idle() {} // On loopback that takes no time, but whose loopback is this?
    /// assert!(matches!(socket.health(), Health::Ended));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[doc(alias("is_alive", "isAlive", "is_closed", "connCheck"))]
    pub fn health(&self) -> Health {
        self.handle.call(|connection| connection.health())
    }

    /// Bytes of application data that passed, both ways, counted as they are accepted and delivered.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.call(|connection| connection.stats())
    }

    /// The most that one read may wait, from its beginning; `None`, the default, waits as long as it
    /// takes. Counts for calls that wait now, too. A read that timed out took nothing and can be
    /// repeated.
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) for zero.
    #[doc(alias("setTimeout"))]
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> Result<()> {
        check_limit("read_timeout", limit)?;
        self.handle.call(|connection| connection.set_timeout(Side::Read, limit))
    }

    /// The most that one write may wait, from its beginning; `None`, the default, waits as long as it
    /// takes. Counts for calls that wait now, too. A write that timed out accepted nothing and can be
    /// repeated (`write_all` loses the count: loop over `write`).
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) for zero.
    pub fn set_write_timeout(&self, limit: Option<Duration>) -> Result<()> {
        check_limit("write_timeout", limit)?;
        self.handle.call(|connection| connection.set_timeout(Side::Write, limit))
    }

    /// The instant after which reads time out; it also ends a read blocked now, and one in the past
    /// wins over data that is ready. `None`, the default, lifts it. The earlier of timeout and deadline
    /// counts.
    ///
    /// ```
    /// use std::io::Read;
    /// use std::time::{Duration, Instant};
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let port = listener.local_addr()?.port();
    /// let mut socket = sockeye::connect(("127.0.0.1", port))?;
    /// // However many reads it takes, the answer is there in time or not at all.
    /// socket.set_read_deadline(Some(Instant::now() + Duration::from_millis(20)));
    /// let error = socket.read_to_end(&mut Vec::new()).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("SetReadDeadline"))]
    pub fn set_read_deadline(&self, at: Option<Instant>) {
        self.handle.call(|connection| connection.set_deadline(&[Side::Read], at));
    }

    /// The instant after which writes time out; it also ends a write blocked now, and one in the past
    /// wins over room that there is. `None`, the default, lifts it. The earlier of timeout and deadline
    /// counts.
    #[doc(alias("SetWriteDeadline"))]
    pub fn set_write_deadline(&self, at: Option<Instant>) {
        self.handle.call(|connection| connection.set_deadline(&[Side::Write], at));
    }

    /// [`set_read_deadline`](Self::set_read_deadline) and
    /// [`set_write_deadline`](Self::set_write_deadline) together.
    #[doc(alias("SetDeadline"))]
    pub fn set_deadline(&self, at: Option<Instant>) {
        self.handle.call(|connection| connection.set_deadline(&[Side::Read, Side::Write], at));
    }
}

/// By the [default connector](Connector::global), with default options; see [`Connector::adopt`].
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

/// Reads and writes of a handle type, by value and by reference; each takes its side of the socket.
macro_rules! io_by_value_and_reference {
    ($trait:ident for $handle:ty, $($call:tt)*) => {
        impl $trait for $handle { $($call)* }
        impl $trait for &$handle { $($call)* }
    };
}

macro_rules! impl_read {
    ($handle:ty) => {
        io_by_value_and_reference!(Read for $handle,
            /// Waits for the connection to open and for bytes to come. `Ok(0)` is the peer's clean end.
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.handle.call(|connection| connection.read(&mut RecvBufs::One(buf))).map_err(read_failed)
            }

            fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.handle.call(|connection| connection.read(&mut RecvBufs::Many(bufs))).map_err(read_failed)
            }
        );
    };
}

macro_rules! impl_write {
    ($handle:ty) => {
        io_by_value_and_reference!(Write for $handle,
            /// Waits for the connection to open and for the system to take some of the bytes.
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.handle.call(|connection| connection.write(&SendBufs::One(buf))).map_err(write_failed)
            }

            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                self.handle.call(|connection| connection.write(&SendBufs::Many(bufs))).map_err(write_failed)
            }

            /// Waits until the system has all that was accepted, which in plaintext it always has; fails
            /// where the socket has failed.
            fn flush(&mut self) -> io::Result<()> {
                self.handle.call(|connection| connection.flush()).map_err(write_failed)
            }
        );
    };
}

#[cold]
fn read_failed(error: Error) -> io::Error {
    error.during(Step::Read).into()
}

#[cold]
fn write_failed(error: Error) -> io::Error {
    error.during(Step::Write).into()
}

impl_read!(Socket);
impl_write!(Socket);
impl_read!(Reader);
impl_write!(Writer);

/// One of the handles of a socket, of which the last closes it.
struct Handle {
    connection: Arc<Connection>,
}

impl Handle {
    /// The first handle, which the socket was made with.
    fn first(connection: Arc<Connection>) -> Self {
        Handle { connection }
    }

    fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Calls the driver. A panic there, which is a bug, fails the socket.
    #[inline(always)]
    fn call<R>(&self, call: impl FnOnce(&Arc<Connection>) -> R) -> R {
        self.connection.fail_on_panic(|| call(&self.connection))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        let stats = self.connection.stats();
        f.debug_struct(name)
            .field("address", &format_args!("{}", self.connection.requested()))
            .field("remote", &format_args!("{}", Shown(self.connection.remote_address())))
            .field("phase", &self.connection.phase())
            .field("secure_transport", &self.connection.mode())
            .field("bytes_read", &stats.bytes_read)
            .field("bytes_written", &stats.bytes_written)
            .finish_non_exhaustive()
    }
}

/// An address that may not be known.
struct Shown(Option<SocketAddr>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        self.connection.add_handle();
        Handle { connection: Arc::clone(&self.connection) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.call(|connection| connection.drop_handle());
    }
}
