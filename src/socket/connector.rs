//! The connector: creates sockets under common rules.

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use once_cell::race::OnceBox;

use super::Socket;
use super::scope::Scope;
use crate::address::SocketAddress;
use crate::driver::{ConnectContext, LookupQuota, ScopeId, SocketLimit, SocketRegistry};
use crate::egress::EgressRules;
use crate::error::{Error, Result};
use crate::info::ConnectorStats;
use crate::options::SocketOptions;
use crate::process::PerProcess;
#[cfg(doc)]
use crate::proxy::Proxy;
use crate::proxy::ProxyRules;
use crate::resolver::Resolver;
use crate::tls::TlsOptions;

/// Connects under common rules: egress, resolver, TLS settings, limits. Cheap to clone; clones share their rules and
/// sockets. The free functions use a [default connector](Self::global). Dropping the last clone does not end its
/// sockets; [`shutdown`](Self::shutdown) does.
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
    pub(super) inner: Arc<ConnectorInner>,
}

pub(super) struct ConnectorInner {
    /// Resolver; `None` means that of the operating system.
    pub(super) resolver: Option<Arc<dyn Resolver>>,
    /// Egress rules; `None` allows everything.
    pub(super) egress: Option<Arc<EgressRules>>,
    /// TLS settings for sockets whose options have none.
    pub(super) tls: Option<TlsOptions>,
    pub(super) proxies: Option<ProxyRules>,
    limit: SocketLimit,
    lookup_quota: Arc<LookupQuota>,
    registry: PerProcess<Arc<SocketRegistry>>,
}

impl ConnectorInner {
    pub(super) fn context<'a>(
        &'a self,
        resolver: Option<&'a Arc<dyn Resolver>>,
        egress: Option<&'a Arc<EgressRules>>,
        scope: Option<ScopeId>,
    ) -> ConnectContext<'a> {
        let (registry, lookup_quota) = (self.registry(), &self.lookup_quota);
        ConnectContext { resolver, egress, registry, lookup_quota, scope, proxy: None }
    }

    pub(super) fn registry(&self) -> &Arc<SocketRegistry> {
        self.registry.get(|parents| {
            Arc::new(match parents {
                Some(parents) => parents.in_child(),
                None => SocketRegistry::new(self.limit),
            })
        })
    }
}

impl Connector {
    /// Returns a builder for a connector with its own rules.
    #[must_use]
    pub fn builder() -> ConnectorBuilder {
        ConnectorBuilder::default()
    }

    /// Returns the connector that the free functions use.
    #[must_use]
    pub fn global() -> &'static Connector {
        // A lock might be held during a fork, and would then stay locked in the child.
        static GLOBAL: OnceBox<Connector> = OnceBox::new();
        GLOBAL.get_or_init(|| {
            Box::new(Connector { inner: Arc::new(ConnectorBuilder::default().into_inner()) })
        })
    }

    /// Starts a connection with default options and returns its socket at once, still connecting.
    ///
    /// # Errors
    /// Those of [`connect_with`](Self::connect_with).
    pub fn connect<A>(&self, address: A) -> Result<Socket>
    where
        A: TryInto<SocketAddress>,
        Error: From<A::Error>,
    {
        self.connect_with(address, SocketOptions::new())
    }

    /// Connects like [`connect`](Self::connect), with options.
    ///
    /// # Errors
    /// Those of [`connect_with`](crate::connect_with), and:
    /// - [`Denied`](crate::ErrorKind::Denied) if the [egress rules](ConnectorBuilder::egress) deny the host or the
    ///   port, or the address if the host is an IP literal. Addresses of a name are checked before they are dialled,
    ///   and [`Socket::opened`] reports the error.
    /// - [`InvalidAddress`](crate::ErrorKind::InvalidAddress) for an IPv6 address with a scope and a
    ///   [proxy](ConnectorBuilder::proxy), which cannot get it.
    /// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions) for an address that the protocol of the proxy cannot
    ///   express: see [`Proxy::socks4a`].
    /// - [`Limit`](crate::ErrorKind::Limit) if the maximum number of [open sockets](ConnectorBuilder::max_open_sockets)
    ///   is reached.
    /// - [`Closed`](crate::ErrorKind::Closed) after [`shutdown`](Self::shutdown).
    pub fn connect_with<A>(&self, address: A, options: SocketOptions) -> Result<Socket>
    where
        A: TryInto<SocketAddress>,
        Error: From<A::Error>,
    {
        self.connect_in(address.try_into().map_err(Error::from)?, options, None)
    }

    /// Connects to the address that answers first, as if a name had resolved to the given addresses in this order.
    /// Returns the socket at once, still connecting. This is for programs that know several addresses of one service,
    /// or resolve names themselves.
    ///
    /// The [resolver](ConnectorBuilder::resolver) is not asked. The [egress rules](ConnectorBuilder::egress) check
    /// each address as [`connect_with`](Self::connect_with) does, including the rules about hosts. Only the allowed
    /// addresses are dialled; through a proxy, at most 4 of them, as [`resolve_locally`](crate::Proxy::resolve_locally) says.
    /// [`requested`](crate::SocketInfo::requested) returns the first address. With TLS, the peer needs a certificate for
    /// the IP address of the first one, whichever answers, unless [`server_name`](crate::TlsOptions::server_name) is set.
    ///
    /// # Errors
    /// Those of [`connect_with`](Self::connect_with), and:
    /// - [`InvalidAddress`](crate::ErrorKind::InvalidAddress) if the list is empty or a port is 0.
    /// - [`Denied`](crate::ErrorKind::Denied) if the rules about hosts and ports allow none of the addresses.
    /// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if the [proxy rules](ConnectorBuilder::proxy) send some of
    ///   the allowed addresses to a proxy, and except others.
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
        self.connect_any_in(addresses, options, None)
    }

    /// Runs `work`, then closes the sockets that it opened through the scope.
    ///
    /// When `work` returns or panics, every socket opened through the scope is closed as by [`Socket::close`], all at
    /// once, including upgraded ones. It does not matter which handles still exist, so the work cannot leave a
    /// connection behind. Returns when that is done, after the longest
    /// [`close_timeout`](SocketOptions::close_timeout) at most.
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
        let scope = Scope::new(self, self.inner.registry().begin_scope());
        work(&scope)
    }

    /// Returns the number of sockets that are connecting, open or closing. Sockets that wait at the
    /// [limit](ConnectorBuilder::max_open_sockets) and closed sockets are not counted.
    #[must_use]
    pub fn open_sockets(&self) -> usize {
        self.inner.registry().open_sockets()
    }

    /// Returns counts of its sockets since it was built, and the current number of sockets, for metrics. A socket's
    /// counts are added when it ends, which costs its reads and writes nothing. The call asks every live socket, so
    /// its time grows with their number.
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
        self.inner.registry().stats()
    }

    /// Closes every socket gracefully, for at most `limit`, then aborts the rest. Later connects fail with
    /// [`Closed`](crate::ErrorKind::Closed). Call it at the end of a program: a process that exits does not wait for
    /// sockets that close in the background.
    ///
    /// Returns the number of sockets that had to be aborted while accepted data was not yet with the kernel. The
    /// reason is that `limit` passed, or their own [`close_timeout`](SocketOptions::close_timeout) if that is
    /// shorter. In plaintext, accepted data is always with the kernel. Only the peer knows what it has received.
    #[must_use = "the number says whether accepted data was lost"]
    pub fn shutdown(&self, limit: Duration) -> usize {
        self.inner.registry().shutdown(limit)
    }

    /// Takes over an established connection, such as one that was accepted or that a proxy opened.
    ///
    /// It is treated like a dialled connection: the connector's limits and TLS settings apply, and so do all options
    /// except [`TcpOptions::bind`](crate::TcpOptions::bind), `multipath` and those about names. The egress rules and the
    /// proxy rules do not apply, because nothing is dialled.
    ///
    /// The options choose the role in TLS, not the side that dialled: [`server_tls`](SocketOptions::server_tls) makes
    /// this side the server, and [`tls`](SocketOptions::tls) the client, which is the default. With
    /// [`On`](crate::SecureTransport::On) the handshake begins at once. A client verifies [`TlsOptions::server_name`],
    /// or else the peer's IP address.
    ///
    /// The stream should have no other handle. Reads through another handle take bytes away. If another handle makes
    /// the stream blocking again, calls here may wait longer than they should.
    ///
    /// # Errors
    /// Those of [`connect_with`](Self::connect_with), and:
    /// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if a local address to bind, or
    ///   [`multipath`](crate::TcpOptions::multipath), is set.
    /// - [`InvalidState`](crate::ErrorKind::InvalidState) if the descriptor is not a TCP connection but, for example, a
    ///   listening socket.
    /// - [`Connect`](crate::ErrorKind::Connect) if the stream is not connected: not yet, or no longer.
    /// - [`Io`](crate::ErrorKind::Io) if the operating system refuses an option.
    ///
    /// A connection that has ended or was reset is adopted if it has data to read. It then has no
    /// [`remote_address`](crate::SocketInfo::remote_address), and [`requested`](crate::SocketInfo::requested) is the
    /// unspecified address.
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
        self.adopt_in(stream, options, None)
    }

    pub(super) fn registry(&self) -> &SocketRegistry {
        self.inner.registry()
    }
}

impl fmt::Debug for ConnectorInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resolver = if self.resolver.is_some() { "own" } else { "system" };
        f.debug_struct("Rules")
            .field("resolver", &resolver)
            .field("egress", &self.egress)
            .field("tls", &self.tls)
            .field("proxies", &self.proxies)
            .field("limit", &self.limit)
            .finish()
    }
}

/// Builder of a [`Connector`].
#[derive(Default)]
pub struct ConnectorBuilder {
    egress: EgressRules,
    resolver: Option<Arc<dyn Resolver>>,
    tls: Option<TlsOptions>,
    proxies: Option<ProxyRules>,
    max_open_sockets: Option<usize>,
    wait_at_limit: bool,
    max_lookups: Option<usize>,
}

/// Default of [`ConnectorBuilder::max_lookups`].
const MAX_LOOKUPS: usize = 16;

impl ConnectorBuilder {
    /// Sets the egress rules. Default [`EgressRules::allow_all`].
    #[must_use]
    pub fn egress(mut self, rules: EgressRules) -> Self {
        self.egress = rules;
        self
    }

    /// Sets the TLS settings for sockets whose [options](SocketOptions::tls) have none. Default [`TlsOptions::new`].
    /// They apply to sockets that are TLS clients or may be upgraded to one, and have no effect on others.
    #[must_use]
    pub fn tls(mut self, tls: TlsOptions) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Connects through a proxy, or through the one of several that matches. Default none; nothing is read from the
    /// environment.
    ///
    /// Host and port rules of the [egress rules](Self::egress) judge the target. Net rules judge every address that this
    /// side dials directly or passes to the proxy. An address that the proxy looks up cannot be judged here. So with
    /// rules that restrict nets, each proxy must set [`Proxy::resolve_locally`] or [`Proxy::trust_proxy_filtering`];
    /// otherwise [`build`](Self::build) fails. The proxy's own address is the program's choice: it is checked against own
    /// listeners only. Nothing checks whether a name that the proxy resolves leads to an own listener.
    ///
    /// Adopted sockets never use a proxy.
    ///
    /// ```
    /// use sockeye::{Connector, EgressRules, Proxy};
    ///
    /// let proxy = Proxy::http("proxy.corp.example:3128")?.credentials("alice", "secret")?;
    /// let connector = Connector::builder().proxy(proxy.clone()).build()?;
    ///
    /// // Nothing could judge the addresses of names.
    /// let strict = || Connector::builder().egress(EgressRules::public_only());
    /// assert!(strict().proxy(proxy.clone()).build().is_err());
    /// assert!(strict().proxy(proxy.resolve_locally()).build().is_ok());
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    #[must_use]
    #[doc(alias("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SOCKS"))]
    pub fn proxy(mut self, rules: impl Into<ProxyRules>) -> Self {
        self.proxies = Some(rules.into());
        self
    }

    /// Sets the resolver. Default: the operating system's, on a bounded pool of threads.
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolver) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// Limits the number of sockets at once, including those that are connecting or closing. The next connect fails
    /// with [`Limit`](crate::ErrorKind::Limit), or [waits](Self::wait_at_limit). Minimum 1; default none.
    ///
    /// A socket has one slot until its [`closed`](Socket::closed) settles, and keeps it through an upgrade. A closed
    /// connection that is still drained in the background does not count.
    #[must_use]
    #[doc(alias("MaxConns", "maxSockets"))]
    pub fn max_open_sockets(mut self, max: usize) -> Self {
        self.max_open_sockets = Some(max);
        self
    }

    /// Sets whether a connect at the limit waits for a free slot, in order of arrival, instead of failing. `connect`
    /// returns at once, and the wait counts towards the [connect timeout](SocketOptions::connect_timeout). If that
    /// passes, [`opened`](Socket::opened) fails with [`TimedOut`](crate::ErrorKind::TimedOut). Default `false`.
    #[must_use]
    pub fn wait_at_limit(mut self, wait: bool) -> Self {
        self.wait_at_limit = wait;
        self
    }

    /// Limits the number of name lookups of this connector that run at once. Further lookups wait, and the wait is
    /// part of the [connect timeout](SocketOptions::connect_timeout). Minimum 1; default 16.
    ///
    /// Each connector has its own limit, so names that hang delay only sockets of the same connector. A lookup cannot
    /// be stopped. If its socket is gone, it no longer counts once it has run for 5 s. Names that need no server
    /// (`localhost`, names below it, and those of the hosts file) never wait for names that do.
    ///
    /// All connectors of a process together have at most 256 threads for lookups:
    /// - 112 for names that the operating system asks a server for;
    /// - 64 for the program's [resolvers](Self::resolver);
    /// - 64 for the lookups that such resolvers make themselves;
    /// - 16 for names that need no server.
    ///
    /// Within each group, connectors take turns. The last quarter of a group is reserved for connectors that have no
    /// thread of it.
    ///
    /// ```
    /// use sockeye::{Connector, EgressRules, ErrorKind};
    ///
    /// // Untrusted users choose these names. Names may hang, but never more than four at once.
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

    /// Builds the connector.
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if the TLS settings are invalid, for
    /// `max_open_sockets(0)` or `max_lookups(0)`, if a [proxy](Self::proxy) would undo the egress rules, and if the TLS
    /// settings of an `https` proxy cannot be used.
    pub fn build(self) -> Result<Connector> {
        if self.max_lookups == Some(0) {
            let message = "max_lookups is zero: no lookup could run";
            return Err(Error::invalid_options(message));
        }
        if self.max_open_sockets == Some(0) {
            let message = "max_open_sockets is zero: no connect could succeed";
            return Err(Error::invalid_options(message));
        }
        if let Some(tls) = &self.tls {
            tls.check()?;
        }
        if let Some(rules) = &self.proxies {
            for proxy in rules.proxies() {
                proxy.check_judged(&self.egress)?;
                proxy.check_tls()?;
            }
        }
        Ok(Connector { inner: Arc::new(self.into_inner()) })
    }

    fn into_inner(self) -> ConnectorInner {
        let limit = SocketLimit { max: self.max_open_sockets, wait: self.wait_at_limit };
        let restricts = !self.egress.is_unrestricted();
        ConnectorInner {
            resolver: self.resolver,
            egress: restricts.then(|| Arc::new(self.egress)),
            tls: self.tls,
            proxies: self.proxies,
            limit,
            lookup_quota: Arc::new(LookupQuota::new(self.max_lookups.unwrap_or(MAX_LOOKUPS))),
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
            .field("proxies", &self.proxies)
            .field("max_open_sockets", &self.max_open_sockets)
            .field("wait_at_limit", &self.wait_at_limit)
            .field("max_lookups", &self.max_lookups)
            .finish()
    }
}
