//! Connecting under common rules.

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use once_cell::race::OnceBox;

use super::scope::Scope;
use super::{Handle, Socket};
use crate::address::SocketAddress;
use crate::driver::{
    AdoptedStream, ConnectContext, Connection, LookupShare, Origin, Registry, ScopeId, SocketLimit,
};
use crate::egress::EgressRules;
use crate::error::{Error, ErrorKind, Result};
use crate::info::ConnectorStats;
use crate::options::{SecureTransport, SocketOptions};
use crate::process::PerProcess;
use crate::resolver::Resolver;
use crate::tls::TlsOptions;

/// Connects under common rules: egress, resolver, TLS settings, limits. Cheap to clone; clones share their rules
/// and their sockets. The free functions use a [default one](Self::global). Dropping the last clone does
/// not end its sockets; [`shutdown`](Self::shutdown) does.
///
/// ```
/// use std::time::Duration;
/// use sockeye::{Connector, ErrorKind};
///
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let address = listener.local_addr()?;
/// let connector = Connector::builder().max_open_sockets(1).build()?;
/// let socket = connector.connect(address)?;
/// assert_eq!(connector.connect(address).unwrap_err().kind(), ErrorKind::Limit);
/// socket.close()?;
/// connector.connect(address)?.opened()?;
/// assert_eq!(connector.shutdown(Duration::from_secs(1)), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias("Dialer", "Agent"))]
pub struct Connector {
    rules: Arc<Rules>,
}

struct Rules {
    /// The operating system's where there is none.
    resolver: Option<Arc<dyn Resolver>>,
    /// Nothing is refused where there are none.
    egress: Option<Arc<EgressRules>>,
    /// For sockets whose options name none.
    tls: Option<TlsOptions>,
    limit: SocketLimit,
    max_lookups: usize,
    registry: PerProcess<Arc<Registry>>,
}

impl Rules {
    fn registry(&self) -> &Arc<Registry> {
        self.registry.get(|parents| {
            Arc::new(match parents {
                Some(parents) => parents.in_child(),
                None => Registry::new(self.limit, LookupShare::new(self.max_lookups)),
            })
        })
    }
}

impl Connector {
    /// A connector with other rules than the default one.
    #[must_use]
    pub fn builder() -> ConnectorBuilder {
        ConnectorBuilder::default()
    }

    /// The one that the free functions use.
    #[must_use]
    pub fn global() -> &'static Connector {
        // Not even here a fork may find a lock that is held.
        static GLOBAL: OnceBox<Connector> = OnceBox::new();
        GLOBAL.get_or_init(|| {
            Box::new(Connector { rules: Arc::new(ConnectorBuilder::default().rules()) })
        })
    }

    /// Starts a connection with default options and returns its socket at once, still connecting.
    ///
    /// # Errors
    /// As [`connect_with`](Self::connect_with).
    pub fn connect<A>(&self, address: A) -> Result<Socket>
    where
        A: TryInto<SocketAddress>,
        Error: From<A::Error>,
    {
        self.connect_with(address, SocketOptions::new())
    }

    /// [`connect`](Self::connect) with options.
    ///
    /// # Errors
    /// As [`connect_with`](crate::connect_with), and [`Denied`](ErrorKind::Denied) where the
    /// [egress rules](ConnectorBuilder::egress) refuse the host or the port, or the address where the host is
    /// an IP literal; what a name resolves to is judged before it is dialled, and told by
    /// [`Socket::opened`]. [`Limit`](ErrorKind::Limit) where as many sockets are
    /// open as [may be](ConnectorBuilder::max_open_sockets), [`Closed`](ErrorKind::Closed) after
    /// [`shutdown`](Self::shutdown).
    pub fn connect_with<A>(&self, address: A, options: SocketOptions) -> Result<Socket>
    where
        A: TryInto<SocketAddress>,
        Error: From<A::Error>,
    {
        self.open(address.try_into().map_err(Error::from)?, options, None)
    }

    /// Connects to whichever of these addresses answers first, as if a name had resolved to them in this
    /// order. Returns the socket at once, still connecting. For programs that know several addresses of one
    /// service, or resolve names by themselves.
    ///
    /// The [resolver](ConnectorBuilder::resolver) is not asked. The [egress rules](ConnectorBuilder::egress)
    /// check each address as [`connect_with`](Self::connect_with) does, also those rules about hosts; of several
    /// only the allowed ones are dialled. [`requested`](crate::SocketInfo::requested) gives the first address.
    /// With TLS the peer has to have a certificate for the IP address of the first one, whichever answers, unless
    /// [`server_name`](crate::TlsOptions::server_name) says otherwise.
    ///
    /// # Errors
    /// As [`connect_with`](Self::connect_with), and [`InvalidAddress`](ErrorKind::InvalidAddress) for an empty
    /// list, or if a port is 0. [`Denied`](ErrorKind::Denied) if the rules about hosts and ports allow none of the
    /// addresses.
    ///
    /// ```
    /// use sockeye::{Connector, SocketOptions};
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let primary = listener.local_addr()?;
    /// # let gone = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    /// let servers = [gone, primary];
    /// let socket = Connector::global().connect_addrs(&servers, SocketOptions::new())?;
    /// let info = socket.opened()?;
    /// assert_eq!(info.remote_address(), Some(primary));
    /// assert_eq!(info.requested().to_string(), gone.to_string());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("ToSocketAddrs", "happy_eyeballs", "failover"))]
    pub fn connect_addrs(
        &self,
        addresses: &[SocketAddr],
        options: SocketOptions,
    ) -> Result<Socket> {
        self.open_any(addresses, options, None)
    }

    /// Runs `work`, then closes the sockets that it opened through the scope.
    ///
    /// When `work` returns or panics, every socket that was opened through the scope is closed as by
    /// [`Socket::close`], all at once, those that they were upgraded to too, and the scope returns when that
    /// is done: after the longest [`close_timeout`](SocketOptions::close_timeout) at most. It does not
    /// matter who has their handles by then. So a handler can't leave a connection behind.
    ///
    /// ```
    /// use std::io::Write;
    /// use sockeye::{Connector, Phase};
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?;
    /// let kept = Connector::global().scope(|scope| {
    ///     let socket = scope.connect(address)?;
    ///     socket.writer().write_all(b"hello")?;
    ///     Ok::<_, std::io::Error>(socket)
    /// })?;
    /// assert_eq!(kept.phase(), Phase::Closed);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn scope<R>(&self, work: impl FnOnce(&Scope<'_>) -> R) -> R {
        let scope = Scope::new(self, self.rules.registry().begin_scope());
        work(&scope)
    }

    /// How many of its sockets are connecting, open or closing. One that waits for a place at the
    /// [limit](ConnectorBuilder::max_open_sockets) is not yet one of them; one whose
    /// [`closed`](Socket::closed) has settled is none any more.
    #[must_use]
    pub fn open_sockets(&self) -> usize {
        self.rules.registry().open_sockets()
    }

    /// What became of its sockets since it was built, and how many there are now: for who has to know how a
    /// program is doing. A socket is counted when it ends, which costs its reads and writes nothing; those that
    /// live are asked one after another, so that this takes longer the more there are.
    ///
    /// ```
    /// use std::io::Write;
    /// use sockeye::{Connector, EgressRules};
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?;
    /// let rules = EgressRules::public_only().allow_net("127.0.0.1")?;
    /// let connector = Connector::builder().egress(rules).build()?;
    /// let socket = connector.connect(address)?;
    /// socket.writer().write_all(b"hello")?;
    /// connector.connect(("10.0.0.1", 80)).unwrap_err();
    ///
    /// let stats = connector.stats();
    /// assert_eq!((stats.opened, stats.denied, stats.open), (1, 1, 1));
    /// assert_eq!(stats.bytes_written, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[doc(alias("metrics", "Stats"))]
    pub fn stats(&self) -> ConnectorStats {
        self.rules.registry().stats()
    }

    /// Closes every socket gracefully, for at most `limit`, then aborts the rest; later connects fail with
    /// [`Closed`](ErrorKind::Closed). For the end of a program: a process that exits does not wait for
    /// sockets that close in the background.
    ///
    /// Returns the number of sockets that were reset because what they had accepted was not yet with the
    /// kernel: by the end of `limit`, or of their own [`close_timeout`](SocketOptions::close_timeout) where
    /// that is shorter. In plaintext what was accepted always is with the kernel. What the peer has
    /// received, nobody knows but the peer.
    pub fn shutdown(&self, limit: Duration) -> usize {
        self.rules.registry().shutdown(limit)
    }

    /// Takes over an established connection, such as one that was accepted or that a proxy gave.
    ///
    /// It counts, ends and is secured as one that was dialled: by this connector's limits and TLS settings, and by
    /// all of the options but [`TcpOptions::bind`](crate::TcpOptions::bind) and what concerns names.
    /// [`SecureTransport::On`] makes a handshake, as the client; its name is
    /// [`TlsOptions::server_name`], or else the peer's IP address. The egress rules are not asked: nothing is
    /// dialled.
    ///
    /// The stream should have no other handle. One that goes on reading takes bytes away, and one that makes
    /// it blocking again can have calls here wait for longer than they should.
    ///
    /// # Errors
    /// As [`connect_with`](Self::connect_with), [`InvalidOptions`](ErrorKind::InvalidOptions) for a local address
    /// to bind, [`InvalidState`](ErrorKind::InvalidState) if the descriptor is no TCP connection but, for example, a
    /// listening socket, [`Connect`](ErrorKind::Connect) if it is not connected, not yet or not any more, and
    /// [`Io`](ErrorKind::Io) where the system refuses an option.
    ///
    /// A connection that has ended or was reset is adopted if there is something to read. Then it has no
    /// [`remote_address`](crate::SocketInfo::remote_address), and
    /// [`requested`](crate::SocketInfo::requested) is the unspecified address.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use sockeye::{Connector, SocketOptions};
    ///
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let client = sockeye::connect(listener.local_addr()?)?;
    /// let (stream, _) = listener.accept()?;
    /// let server = Connector::global().adopt(stream, SocketOptions::new())?;
    /// client.writer().write_all(b"hello")?;
    /// let mut greeting = [0; 5];
    /// server.reader().read_exact(&mut greeting)?;
    /// assert_eq!(greeting, *b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("from_std", "from_raw_fd"))]
    pub fn adopt(&self, stream: TcpStream, options: SocketOptions) -> Result<Socket> {
        self.take(stream, options, None)
    }

    pub(super) fn take(
        &self,
        stream: TcpStream,
        mut options: SocketOptions,
        scope: Option<ScopeId>,
    ) -> Result<Socket> {
        options.check()?;
        if options.tcp.bind.is_some() {
            let message =
                "a local address to bind is for dialling: the connection is there already";
            return Err(Error::with_message(ErrorKind::InvalidOptions, message));
        }
        let (adopted, remote) = AdoptedStream::new(stream, &options.tcp)?;
        self.fill_in(&mut options);
        let context =
            ConnectContext { resolver: None, egress: None, registry: self.rules.registry(), scope };
        let connection =
            Connection::connect(remote.into(), options, Origin::Adopted(adopted), context)?;
        Ok(Socket { handle: Handle::first(connection) })
    }

    fn fill_in(&self, options: &mut SocketOptions) {
        if options.tls.is_none() && options.secure_transport != SecureTransport::Off {
            options.tls.clone_from(&self.rules.tls);
        }
    }

    pub(super) fn open(
        &self,
        address: SocketAddress,
        mut options: SocketOptions,
        scope: Option<ScopeId>,
    ) -> Result<Socket> {
        address.check_port()?;
        options.check()?;
        self.fill_in(&mut options);
        let Rules { resolver, egress, .. } = &*self.rules;
        let registry = self.rules.registry();
        if let Some(egress) = egress {
            let judged = egress.judge_name(&address).and_then(|()| {
                match address.literal().and_then(|literal| egress.denial(literal)) {
                    Some(denial) => {
                        Err(Error::from_denial(&denial.reason(), denial.page(), &address))
                    }
                    None => Ok(()),
                }
            });
            judged.inspect_err(|error| registry.count_denied(error))?;
        }
        let resolver = resolver.as_ref();
        let context = ConnectContext { resolver, egress: egress.as_ref(), registry, scope };
        let connection = Connection::connect(address, options, Origin::Dial, context)?;
        Ok(Socket { handle: Handle::first(connection) })
    }

    pub(super) fn open_any(
        &self,
        addresses: &[SocketAddr],
        mut options: SocketOptions,
        scope: Option<ScopeId>,
    ) -> Result<Socket> {
        let Some(&first) = addresses.first() else {
            let message = "the list of addresses to connect to is empty";
            return Err(Error::with_message(ErrorKind::InvalidAddress, message));
        };
        for &address in addresses {
            SocketAddress::from(address).check_port()?;
        }
        options.check()?;
        self.fill_in(&mut options);
        let egress = &self.rules.egress;
        let registry = self.rules.registry();
        let allowed = match egress {
            Some(egress) => {
                let judged = allowed_hosts(egress, addresses);
                judged.inspect_err(|error| registry.count_denied(error))?
            }
            None => addresses.to_vec(),
        };
        let context = ConnectContext { resolver: None, egress: egress.as_ref(), registry, scope };
        let connection =
            Connection::connect(first.into(), options, Origin::Addresses(allowed), context)?;
        Ok(Socket { handle: Handle::first(connection) })
    }

    pub(super) fn registry(&self) -> &Registry {
        self.rules.registry()
    }
}

/// Those that the rules about hosts and ports allow: the rules about addresses are asked before each is
/// dialled.
fn allowed_hosts(egress: &EgressRules, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>> {
    let mut allowed = Vec::new();
    let mut denied = None;
    for &address in addresses {
        match egress.judge_name(&address.into()) {
            Ok(()) => allowed.push(address),
            Err(error) => denied = denied.or(Some(error)),
        }
    }
    match denied {
        Some(error) if allowed.is_empty() => Err(error),
        Some(_) | None => Ok(allowed),
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resolver = if self.resolver.is_some() { "own" } else { "system" };
        f.debug_struct("Rules")
            .field("resolver", &resolver)
            .field("egress", &self.egress)
            .field("tls", &self.tls)
            .field("quota", &self.limit)
            .finish()
    }
}

/// Builds a [`Connector`].
#[derive(Default)]
pub struct ConnectorBuilder {
    egress: EgressRules,
    resolver: Option<Arc<dyn Resolver>>,
    tls: Option<TlsOptions>,
    max_open_sockets: Option<usize>,
    wait_at_limit: bool,
    max_lookups: Option<usize>,
}

/// The default of [`ConnectorBuilder::max_lookups`].
const MAX_LOOKUPS: usize = 16;

impl ConnectorBuilder {
    /// Which peers may be dialled. Default: [`EgressRules::allow_all`].
    #[must_use]
    pub fn egress(mut self, rules: EgressRules) -> Self {
        self.egress = rules;
        self
    }

    /// TLS settings for sockets whose [options](SocketOptions::tls) name none. Default:
    /// [`TlsOptions::new`]. They count for sockets that are TLS or may become it; to others they say
    /// nothing.
    #[must_use]
    pub fn tls(mut self, tls: TlsOptions) -> Self {
        self.tls = Some(tls);
        self
    }

    /// What turns names into addresses. Default: the operating system's, on a bounded pool of threads.
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolver) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// At most this many sockets at once, those that are connecting or closing counted: the next connect
    /// fails with [`Limit`](ErrorKind::Limit), or [waits](Self::wait_at_limit). From 1 on; default none.
    ///
    /// A socket has one place, also through an upgrade, until its [`closed`](Socket::closed) settles. What
    /// is dropped then in the background, so that the peer sees no reset, does not count.
    #[must_use]
    #[doc(alias("MaxConns", "maxSockets"))]
    pub fn max_open_sockets(mut self, most: usize) -> Self {
        self.max_open_sockets = Some(most);
        self
    }

    /// At the limit, wait for a free place, in order of arrival, instead of failing: `connect` returns at
    /// once, and the wait counts towards the [connect timeout](SocketOptions::connect_timeout), which
    /// otherwise gives [`TimedOut`](ErrorKind::TimedOut) from [`opened`](Socket::opened). Default `false`.
    #[must_use]
    pub fn wait_at_limit(mut self, wait: bool) -> Self {
        self.wait_at_limit = wait;
        self
    }

    /// Limits the name lookups of this connector that run at once. Further ones wait, and the wait is part of the
    /// [connect timeout](SocketOptions::connect_timeout). Default 16.
    ///
    /// Each connector has a limit of its own, so names that hang delay only sockets of the same connector. A lookup
    /// cannot be stopped. If its socket is gone, it no longer counts once it has run for 5 s. Names that need no
    /// server (`localhost`, names below it, and those of the hosts file) never wait for names that do.
    ///
    /// All connectors of a process together have at most 256 threads for lookups: 112 for names that the system asks
    /// a server for, 64 for [resolvers](Self::resolver) of the program, 64 for the lookups that such resolvers make
    /// themselves, and 16 for names that need no server. Within each of these groups connectors take turns. The last
    /// quarter of a group is kept for connectors that have no thread of it.
    ///
    /// ```
    /// use sockeye::{Connector, EgressRules, ErrorKind};
    ///
    /// // For addresses that strangers name: their names may hang, but never more than four at once.
    /// let strangers =
    ///     Connector::builder().egress(EgressRules::public_only()).max_lookups(4).build()?;
    ///
    /// let error = Connector::builder().max_lookups(0).build().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    #[must_use]
    #[doc(alias("dns"))]
    pub fn max_lookups(mut self, max: usize) -> Self {
        self.max_lookups = Some(max);
        self
    }

    /// The connector.
    ///
    /// # Errors
    /// [`InvalidOptions`](ErrorKind::InvalidOptions) for TLS settings that can't be, and for
    /// `max_open_sockets(0)` and `max_lookups(0)`.
    pub fn build(self) -> Result<Connector> {
        if self.max_lookups == Some(0) {
            let message = "max_lookups is zero: no name could be looked up";
            return Err(Error::with_message(ErrorKind::InvalidOptions, message));
        }
        if self.max_open_sockets == Some(0) {
            let message = "max_open_sockets is zero: no connect could succeed";
            return Err(Error::with_message(ErrorKind::InvalidOptions, message));
        }
        if let Some(tls) = &self.tls {
            tls.check()?;
        }
        Ok(Connector { rules: Arc::new(self.rules()) })
    }

    fn rules(self) -> Rules {
        let limit = SocketLimit { max: self.max_open_sockets, wait: self.wait_at_limit };
        let restricts = !self.egress.is_unrestricted();
        Rules {
            resolver: self.resolver,
            egress: restricts.then(|| Arc::new(self.egress)),
            tls: self.tls,
            limit,
            max_lookups: self.max_lookups.unwrap_or(MAX_LOOKUPS),
            registry: PerProcess::new(),
        }
    }
}

impl fmt::Debug for ConnectorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resolver = if self.resolver.is_some() { "own" } else { "system" };
        f.debug_struct("ConnectorBuilder")
            .field("egress", &self.egress)
            .field("resolver", &resolver)
            .field("tls", &self.tls)
            .field("max_open_sockets", &self.max_open_sockets)
            .field("wait_at_limit", &self.wait_at_limit)
            .field("max_lookups", &self.max_lookups)
            .finish()
    }
}
