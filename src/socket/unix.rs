//! Connecting to, listening on and adopting Unix-domain sockets.

#![cfg_attr(
    not(unix),
    allow(
        dead_code,
        unused_imports,
        reason = "only Unix systems have public functions that use this"
    )
)]

use super::handle::Handle;
use super::listener::Listener;
use super::{Connector, ListenOptions, Scope, Socket};
use crate::driver::{
    AdoptedStream, Connection, ListenAddress, ListenerInner, Origin, ScopeId, StdListener,
    StdStream, file_of,
};
use crate::error::Result;
use crate::options::SocketOptions;
use crate::unix::{Requested, UnixAddress};

/// Connects to a Unix-domain socket. Returns the socket at once.
///
/// The [`Socket`] keeps all its promises, except for differences of the system:
///
/// - If the server's queue is full, it tries again after 1 ms, 2 ms, 4 ms and so on, at most 50 ms, within the
///   [`connect_timeout`](SocketOptions::connect_timeout). That is so on Linux; other systems refuse the connection. Each
///   attempt looks the path up, the first in this call and the others on the event loop. So the path must not be on a
///   file system that may hang.
/// - There is no reset: after [`abort`](Socket::abort) the peer may see a clean end, over TLS
///   [`Truncated`](crate::ErrorKind::Truncated). On Linux it sees `ECONNRESET` if its data was not read and
///   [nothing else](crate::guide::unix_sockets#what-differs-from-tcp) may have the descriptor.
/// - If the peer has closed, a write fails at once with [`Reset`](crate::ErrorKind::Reset) (`EPIPE`). What the peer sent
///   before stays readable, and ends as the peer ended it.
/// - [`TcpOptions`](crate::TcpOptions) other than buffer sizes and `busy_poll` are
///   [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if they are set.
///   [`set_nodelay`](Socket::set_nodelay), [`nodelay`](Socket::nodelay) and [`detach`](Socket::detach) are
///   [`InvalidState`](crate::ErrorKind::InvalidState).
/// - [`requested`](crate::SocketInfo::requested) is `localhost` with port 0.
///   [`remote_address`](crate::SocketInfo::remote_address) and [`local_address`](crate::SocketInfo::local_address) are
///   `None`, and [`unix_address`](crate::SocketInfo::unix_address) has the path. Messages say `unix:/run/x.sock`.
/// - No [proxy](crate::ConnectorBuilder::proxy) is used.
///
/// # Errors
/// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions), also for a TLS client without a
///   [`server_name`](crate::TlsOptions::server_name): a path has no name that a certificate could have.
/// - [`Io`](crate::ErrorKind::Io) if the process could not install the handler that detects a fork.
///
/// [`Socket::opened`] reports every other error. If the path does not exist, nothing listens on it, or its permissions
/// forbid it, that is [`Connect`](crate::ErrorKind::Connect).
///
/// ```
/// use std::io::{Read, Write};
/// use sockeye::{SocketOptions, UnixAddress, connect_unix};
///
/// # let path = std::env::temp_dir().join(format!("sockeye-doc-connect-{}", std::process::id()));
/// # let listener = std::os::unix::net::UnixListener::bind(&path)?;
/// let server = UnixAddress::from_pathname(&path)?; // such as "/run/redis/redis.sock"
/// let socket = connect_unix(server, SocketOptions::new())?;
/// socket.writer().write_all(b"PING\r\n")?;
/// # let (mut peer, _) = listener.accept()?;
/// # std::fs::remove_file(path)?;
/// # peer.write_all(b"+PONG\r\n")?;
/// let mut answer = [0; 7];
/// socket.reader().read_exact(&mut answer)?;
/// assert_eq!(answer, *b"+PONG\r\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(unix)]
#[doc(alias("UnixStream", "AF_UNIX", "AF_LOCAL", "DialUnix"))]
pub fn connect_unix(address: UnixAddress, options: SocketOptions) -> Result<Socket> {
    Connector::global().connect_unix(address, options)
}

/// Listens on a Unix-domain socket.
///
/// A path must not exist, unless [`ListenOptions::replace_stale`] is set. The permissions are those of
/// [`ListenOptions::unix_mode`], or of the umask. A [`close`](Listener::close) removes the path before it accepts the
/// rest of the queue, if the path is still the socket that was bound, by device and inode. The check and the removal are
/// not atomic, so others must not be able to write to the folder. A process that ends without a close leaves the path
/// behind, even if it exits normally.
///
/// Accepted sockets differ from those of TCP as [`connect_unix`] describes.
///
/// # Errors
/// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions), also for options that only TCP has:
///   [`reuse_port`](ListenOptions::reuse_port), [`only_v6`](ListenOptions::only_v6),
///   [`proxy_protocol_from`](ListenOptions::proxy_protocol_from),
///   [`ingress`](ListenOptions::ingress) rules other than `allow_all`, and [`TcpOptions`](crate::TcpOptions) other than
///   buffer sizes and `busy_poll`. Nothing is bound then.
/// - [`Io`](crate::ErrorKind::Io) if the system refuses, for example because the path exists. The message names the
///   path.
/// - [`InvalidState`](crate::ErrorKind::InvalidState) in a child that was forked from a process that used this crate.
/// - [`Closed`](crate::ErrorKind::Closed) if the [shared connector](ListenOptions::connector) was shut down.
///
/// ```
/// use std::io::{Read, Write};
/// use sockeye::{ListenOptions, SocketOptions, UnixAddress, connect_unix, listen_unix};
///
/// # let path = std::env::temp_dir().join(format!("sockeye-doc-listen-{}", std::process::id()));
/// let address = UnixAddress::from_pathname(path)?; // such as "/run/service.sock"
/// let listener = listen_unix(address.clone(), ListenOptions::new())?;
/// let client = connect_unix(address, SocketOptions::new())?;
/// let socket = listener.accept()?;
/// if let Some(client) = socket.opened()?.peer_credentials() {
///     println!("a process of user {}", client.uid);
/// }
/// socket.writer().write_all(b"welcome")?;
/// socket.close()?;
/// let mut greeting = String::new();
/// client.reader().read_to_string(&mut greeting)?;
/// assert_eq!(greeting, "welcome");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(unix)]
#[doc(alias("UnixListener", "bind", "ListenUnix"))]
pub fn listen_unix(address: UnixAddress, options: ListenOptions) -> Result<Listener> {
    Listener::listen_unix(&address, options)
}

#[cfg(unix)]
impl Connector {
    /// Connects like [`connect_unix`](crate::connect_unix), under the rules of this connector.
    ///
    /// # Errors
    /// Those of [`connect_unix`](crate::connect_unix), and:
    /// - [`Denied`](crate::ErrorKind::Denied) if the [egress rules](crate::ConnectorBuilder::egress) restrict anything,
    ///   and no [`allow_unix`](crate::EgressRules::allow_unix) allows the address.
    /// - [`Limit`](crate::ErrorKind::Limit) if the maximum number of
    ///   [open sockets](crate::ConnectorBuilder::max_open_sockets) is reached.
    /// - [`Closed`](crate::ErrorKind::Closed) after [`shutdown`](Self::shutdown).
    pub fn connect_unix(&self, address: UnixAddress, options: SocketOptions) -> Result<Socket> {
        self.connect_unix_in(address, options, None)
    }

    /// Takes over an established Unix-domain connection, as [`adopt`](Self::adopt) does for TCP.
    ///
    /// The options choose the role in TLS. The egress rules do not apply, because nothing is dialled.
    ///
    /// # Errors
    /// Those of [`connect_unix`](Self::connect_unix) except `Denied`, and:
    /// - [`InvalidState`](crate::ErrorKind::InvalidState) if the descriptor is not a Unix-domain stream but, for example,
    ///   a listening socket.
    /// - [`Connect`](crate::ErrorKind::Connect) if the stream is not connected.
    /// - [`Io`](crate::ErrorKind::Io) if the operating system refuses an option.
    ///
    /// ```
    /// use std::io::Write;
    /// use std::os::unix::net::UnixStream;
    /// use sockeye::{Connector, SocketOptions};
    ///
    /// let (ours, mut theirs) = UnixStream::pair()?;
    /// let socket = Connector::global().adopt_unix(ours, SocketOptions::new())?;
    /// theirs.write_all(b"hello")?;
    /// let mut greeting = [0; 5];
    /// std::io::Read::read_exact(&mut socket.reader(), &mut greeting)?;
    /// assert_eq!(greeting, *b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("from_std", "from_raw_fd", "socketpair"))]
    pub fn adopt_unix(
        &self,
        stream: std::os::unix::net::UnixStream,
        options: SocketOptions,
    ) -> Result<Socket> {
        self.adopt_unix_in(stream, options, None)
    }
}

#[cfg(unix)]
impl Scope<'_> {
    /// Connects like [`Connector::connect_unix`], within the scope.
    ///
    /// # Errors
    /// Those of [`Connector::connect_unix`].
    pub fn connect_unix(&self, address: UnixAddress, options: SocketOptions) -> Result<Socket> {
        self.connector.connect_unix_in(address, options, Some(self.id))
    }

    /// Adopts a stream like [`Connector::adopt_unix`], within the scope.
    ///
    /// # Errors
    /// Those of [`Connector::adopt_unix`].
    pub fn adopt_unix(
        &self,
        stream: std::os::unix::net::UnixStream,
        options: SocketOptions,
    ) -> Result<Socket> {
        self.connector.adopt_unix_in(stream, options, Some(self.id))
    }
}

#[cfg(unix)]
impl Listener {
    /// Returns the address of a Unix-domain listener. `None` for TCP, and for an adopted listener without an address.
    #[must_use]
    #[doc(alias("local_addr"))]
    pub fn unix_address(&self) -> Option<UnixAddress> {
        match self.inner.local_address() {
            ListenAddress::Unix(address) => address.clone(),
            ListenAddress::Ip(_) => None,
        }
    }

    /// Takes over a Unix-domain listener of `std`, as [`adopt`](Self::adopt) does for TCP. [`close`](Self::close) leaves
    /// its path alone.
    ///
    /// # Errors
    /// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions), also for options that apply before binding: `backlog`,
    ///   `replace_stale`, `unix_mode` and buffer sizes.
    /// - [`InvalidState`](crate::ErrorKind::InvalidState) if the socket does not listen, or is no Unix-domain stream
    ///   socket.
    /// - [`Io`](crate::ErrorKind::Io) if the operating system refuses an option.
    ///
    /// ```
    /// use std::os::unix::net::{UnixListener, UnixStream};
    /// use sockeye::{ListenOptions, Listener};
    ///
    /// # let path = std::env::temp_dir().join(format!("sockeye-doc-adopt-{}", std::process::id()));
    /// let bound = UnixListener::bind(&path)?;
    /// let listener = Listener::adopt_unix(bound, ListenOptions::new())?;
    /// let client = UnixStream::connect(&path)?;
    /// listener.accept()?;
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("from_std", "from_raw_fd", "LISTEN_FDS", "socket activation"))]
    pub fn adopt_unix(
        listener: std::os::unix::net::UnixListener,
        options: ListenOptions,
    ) -> Result<Self> {
        Listener::adopt_std_unix(listener, options)
    }
}

impl Connector {
    fn connect_unix_in(
        &self,
        address: UnixAddress,
        mut options: SocketOptions,
        scope: Option<ScopeId>,
    ) -> Result<Socket> {
        self.prepare_unix(&mut options)?;
        if let Some(egress) = &self.inner.egress {
            let registry = self.inner.registry();
            let checked = egress.check_unix(&address, file_of);
            checked.inspect_err(|error| registry.count_denied(error))?;
        }
        let context = self.inner.context(None, self.inner.egress.as_ref(), scope);
        let requested = Requested::unix(Some(address.clone()));
        let connection = Connection::connect(requested, options, Origin::Unix(address), context)?;
        Ok(Socket { handle: Handle::new(connection) })
    }

    fn adopt_unix_in(
        &self,
        stream: StdStream,
        mut options: SocketOptions,
        scope: Option<ScopeId>,
    ) -> Result<Socket> {
        self.prepare_unix(&mut options)?;
        let (adopted, requested) = AdoptedStream::unix(stream, &options.tcp)?;
        let context = self.inner.context(None, None, scope);
        let connection =
            Connection::connect(requested, options, Origin::Adopted(adopted), context)?;
        Ok(Socket { handle: Handle::new(connection) })
    }

    fn prepare_unix(&self, options: &mut SocketOptions) -> Result<()> {
        options.check()?;
        self.apply_defaults(options);
        options.check_unix()
    }
}

impl Listener {
    fn listen_unix(address: &UnixAddress, options: ListenOptions) -> Result<Self> {
        options.check_unix(address.path_bytes().is_some())?;
        Ok(Listener { inner: ListenerInner::listen_unix(address, options.into_config())? })
    }

    fn adopt_std_unix(listener: StdListener, options: ListenOptions) -> Result<Self> {
        options.check_unix(false)?;
        options.check_adoptable()?;
        Ok(Listener { inner: ListenerInner::adopt_unix(listener, options.into_config())? })
    }
}
