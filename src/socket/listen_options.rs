//! The options of a listener.

use std::sync::Arc;
use std::time::Duration;

use super::Connector;
use crate::driver::{
    AcceptedOptions, BindOptions, ListenConfig, ListenSettings, PathOptions, REPORTS_CREDENTIALS,
    SUPPORTS_REUSE_PORT,
};
use crate::egress::{IngressRules, Net};
use crate::error::{Error, Result};
use crate::options::{AcceptWhen, SecureTransport, SocketOptions, check_limit};

/// Default of [`ListenOptions::backlog`].
const BACKLOG: u32 = 4096;
/// Default of [`ListenOptions::handshake_timeout`].
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Default of [`ListenOptions::max_pending`].
const MAX_PENDING: usize = 256;

/// Options of a listener and of the sockets that it accepts. Each setter takes and returns `self`.
///
/// ```
/// use std::time::Duration;
/// use sockeye::{IngressRules, ListenOptions, SocketOptions, listen_with};
///
/// let options = ListenOptions::new()
///     .max_open_sockets(1000)
///     .ingress(IngressRules::allow_all().max_per_client(20))
///     .socket(SocketOptions::new().read_timeout(Duration::from_secs(60)));
/// let listener = listen_with("127.0.0.1:0", options)?;
/// # Ok::<(), sockeye::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ListenOptions {
    socket: SocketOptions,
    ingress: IngressRules,
    header_nets: Vec<Net>,
    handshake_timeout: Option<Duration>,
    accept_when: AcceptWhen,
    max_pending: Option<usize>,
    max_open_sockets: Option<usize>,
    refuses_at_limit: bool,
    connector: Option<Connector>,
    backlog: Option<u32>,
    reuse_port: bool,
    only_v6: bool,
    replace_stale: bool,
    unix_mode: Option<u32>,
    allow_uids: Option<Arc<[u32]>>,
}

impl ListenOptions {
    /// Returns the defaults.
    #[must_use]
    pub fn new() -> Self {
        ListenOptions::default()
    }

    /// Sets the options of every accepted socket. Default [`SocketOptions::new`], with these differences:
    ///
    /// - [`allow_half_open`](SocketOptions::allow_half_open) is `true` unless it is set: a client may half-close before it
    ///   gets its answer.
    /// - The connect timeout and the connect deadline have no effect;
    ///   [`handshake_timeout`](Self::handshake_timeout) applies, also to upgrades.
    /// - With [`On`](SecureTransport::On) or [`StartTls`](SecureTransport::StartTls) the role must be chosen, by
    ///   [`server_tls`](SocketOptions::server_tls) or [`tls`](SocketOptions::tls).
    /// - The options of [`TcpOptions`](crate::TcpOptions) are set on the listening socket. So buffer sizes are known when
    ///   the window scale is negotiated (RFC 7323, section 2.2). Accepted sockets inherit them on Linux; on other systems
    ///   they are set on each of them too. Buffer sizes of a Unix-domain listener are set only on each accepted socket,
    ///   because none inherits them.
    /// - [`TcpOptions::bind`](crate::TcpOptions::bind) and [`SocketOptions::bypass_proxy`] are
    ///   [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    #[must_use]
    pub fn socket(mut self, options: SocketOptions) -> Self {
        self.socket = options;
        self
    }

    /// Sets which clients may connect. Default [`IngressRules::allow_all`].
    #[must_use]
    pub fn ingress(mut self, rules: IngressRules) -> Self {
        self.ingress = rules;
        self
    }

    /// Bounds the time from accept(2) until a socket is open: PROXY header and TLS handshake together. For an upgrade it counts from
    /// [`start_tls`](crate::Socket::start_tls). When it passes, the connection is closed with
    /// [`TimedOut`](crate::ErrorKind::TimedOut). Default 10 s. Zero is
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions); it cannot be disabled.
    #[must_use]
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = Some(limit);
        self
    }

    /// Sets when `accept` returns a socket. Default [`AcceptWhen::Connected`].
    #[must_use]
    pub fn accept_when(mut self, when: AcceptWhen) -> Self {
        self.accept_when = when;
        self
    }

    /// Limits the number of connections that are opening, or that wait for an `accept`, with [`AcceptWhen::Opened`].
    /// Further ones stay in the system's queue. Minimum 1; default 256. Has no effect with `Connected`.
    ///
    /// While the limit is reached, the connection that has been opening the longest is reset once it is older than 1 s,
    /// whether or not others wait. So silent clients cannot keep others out. A [`close`](crate::Listener::close) opens
    /// the rest of the queue beyond this limit.
    #[must_use]
    pub fn max_pending(mut self, max: usize) -> Self {
        self.max_pending = Some(max);
        self
    }

    /// Limits the number of accepted sockets that are open at once. Minimum 1; default none.
    ///
    /// A socket has one slot until its [`closed`](crate::Socket::closed) settles, and keeps it through an upgrade. A
    /// closed connection that is still drained in the background does not count.
    #[must_use]
    #[doc(alias("maxConnections", "LimitListener"))]
    pub fn max_open_sockets(mut self, max: usize) -> Self {
        self.max_open_sockets = Some(max);
        self
    }

    /// Sets what happens at the limit of open sockets. With `true`, the default, connections wait in the system's queue
    /// until a slot is free. With `false` they are accepted and reset, and counted as `over_limit`.
    #[must_use]
    pub fn wait_at_limit(mut self, wait: bool) -> Self {
        self.refuses_at_limit = !wait;
        self
    }

    /// Registers accepted sockets with `connector`, instead of with the listener alone.
    ///
    /// They count towards its [`max_open_sockets`](crate::ConnectorBuilder::max_open_sockets), its
    /// [`open_sockets`](Connector::open_sockets) and its [`stats`](Connector::stats). Connects and connections that wait
    /// for a slot share one queue, in order of arrival. [`Connector::shutdown`] closes this listener first. The
    /// connector's egress rules, resolver and TLS settings have no effect. With
    /// [`max_open_sockets`](Self::max_open_sockets) here: [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    #[must_use]
    pub fn connector(mut self, connector: &Connector) -> Self {
        self.connector = Some(connector.clone());
        self
    }

    /// Sets the number of connections that the system completes ahead of `accept`. Minimum 1; default 4096. The system
    /// may use a lower number (`net.core.somaxconn` on Linux).
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = Some(connections);
        self
    }

    /// Sets whether several listeners may share a port (`SO_REUSEPORT`; on FreeBSD `SO_REUSEPORT_LB`). Linux and FreeBSD
    /// distribute clients among them; other systems may pass all clients to one. Default `false`. On a system without it, [`listen_with`](crate::listen_with) fails
    /// with [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    #[must_use]
    #[doc(alias("SO_REUSEPORT"))]
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.reuse_port = on;
        self
    }

    /// Sets whether `[::]` takes IPv6 clients only. Default `false`, whatever the system's default is.
    #[must_use]
    #[doc(alias("IPV6_V6ONLY"))]
    pub fn only_v6(mut self, on: bool) -> Self {
        self.only_v6 = on;
        self
    }

    /// Expects a PROXY header (the HAProxy PROXY protocol), version 1 or 2, from every client in `net`, such as
    /// `10.0.0.0/8` or a single address. May be called several times; the nets add up. Default none.
    ///
    /// The header comes before anything else, also before TLS. Exactly the header is consumed. Clients outside these
    /// nets are denied, because the specification forbids to guess whether there is a header. Every address inside them can
    /// choose the client that the program sees, so they should contain proxies only that always send a header.
    ///
    /// The source in the header becomes [`remote_address`](crate::SocketInfo::remote_address), and the
    /// [ingress rules](Self::ingress) judge and count it. They do not judge the proxy. A denied socket that `accept` has
    /// returned before the header was complete fails with [`Denied`](crate::ErrorKind::Denied).
    /// [`proxy_address`](crate::SocketInfo::proxy_address) is the proxy's own address. A header that names no source of TCP
    /// (`UNKNOWN`, `LOCAL`, or a Unix-domain socket) keeps the proxy's address, and is exempt from the ingress rules.
    ///
    /// A header that is malformed, cut short, or longer than 107 bytes (version 1) or 4 KiB (version 2) fails the socket
    /// with [`Proxy`](crate::ErrorKind::Proxy). [`handshake_timeout`](Self::handshake_timeout) bounds the wait for it.
    ///
    /// ```
    /// use sockeye::{ListenOptions, listen_with};
    ///
    /// let options = ListenOptions::new().proxy_protocol_from("10.0.0.0/8")?;
    /// let listener = listen_with("127.0.0.1:0", options)?;
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if the text is not a net, as in
    /// [`IngressRules::allow_net`].
    #[doc(alias("accept-proxy", "proxy_protocol", "send-proxy", "X-Forwarded-For"))]
    pub fn proxy_protocol_from(mut self, net: &str) -> Result<Self> {
        self.header_nets.push(Net::parse(net)?);
        Ok(self)
    }

    /// Sets whether to replace a stale path: a socket that refuses connections, as one does that a killed server has left.
    /// Default `false`. Only for paths, with [`listen_unix`](crate::listen_unix).
    ///
    /// To find out, it connects to the path, which a server that is alive sees as a client that leaves at once. The
    /// check and the replacement are not atomic, so two servers must not start on one path at the same moment, and others
    /// must not be able to write to the folder.
    ///
    /// On systems other than Linux and Android, a server whose queue is full refuses connections too. There the socket
    /// is stale if it refuses 5 connections within 200 ms. A server that accepts nothing in this time loses its path.
    #[cfg(unix)]
    #[must_use]
    #[doc(alias("unlink", "SO_REUSEADDR"))]
    pub fn replace_stale(mut self, on: bool) -> Self {
        self.replace_stale = on;
        self
    }

    /// Sets the permissions of the path, from 0 to 0o777, before anyone can connect. Default: by the umask. Only for
    /// paths, with [`listen_unix`](crate::listen_unix).
    ///
    /// To connect, Linux requires write permission for the path and search permission for its folders. Some systems
    /// ignore the permissions of the path, so put it into a folder that only the right users can search. The folder must
    /// not be writable by others.
    ///
    /// ```
    /// use std::os::unix::fs::PermissionsExt;
    /// use sockeye::{ListenOptions, UnixAddress, listen_unix};
    ///
    /// # let folder = std::env::temp_dir().join(format!("sockeye-doc-mode-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// let path = folder.join("service.sock"); // such as /run/service/service.sock
    /// let options = ListenOptions::new().replace_stale(true).unix_mode(0o660);
    /// let listener = listen_unix(UnixAddress::from_pathname(&path)?, options)?;
    /// assert_eq!(path.metadata()?.permissions().mode() & 0o777, 0o660);
    /// listener.close();
    /// listener.closed()?;
    /// assert!(!path.exists());
    /// # std::fs::remove_dir(folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(unix)]
    #[must_use]
    #[doc(alias("chmod", "umask", "permissions"))]
    pub fn unix_mode(mut self, mode: u32) -> Self {
        self.unix_mode = Some(mode);
        self
    }

    /// Allows only clients whose process had one of these user IDs when it connected, according to
    /// [`PeerCredentials`](crate::PeerCredentials). Others are disconnected before anything is read from them, and
    /// counted as [`denied`](crate::ListenerStats::denied). Default: everyone who can open the path. Only for
    /// [`listen_unix`](crate::listen_unix) and [`Listener::adopt_unix`](crate::Listener::adopt_unix).
    ///
    /// On illumos and Solaris: [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    #[cfg(unix)]
    #[must_use]
    #[doc(alias("SO_PEERCRED", "LOCAL_PEERCRED"))]
    pub fn allow_uids(mut self, uids: impl IntoIterator<Item = u32>) -> Self {
        self.allow_uids = Some(uids.into_iter().collect());
        self
    }

    /// Refuses invalid values for a TCP listener.
    pub(super) fn check_tcp(&self) -> Result<()> {
        match self.first_of_unix() {
            Some(name) => Err(Error::invalid_options(format!(
                "{name} applies only to a Unix-domain listener: use listen_unix"
            ))),
            None => self.check(),
        }
    }

    /// Refuses invalid values for a Unix-domain listener, on a path or on an abstract name.
    pub(super) fn check_unix(&self, has_path: bool) -> Result<()> {
        self.check()?;
        self.socket.check_unix()?;
        let set = [
            ("reuse_port", self.reuse_port),
            ("only_v6", self.only_v6),
            ("ingress", self.ingress != IngressRules::allow_all()),
            ("proxy_protocol_from", !self.header_nets.is_empty()),
        ];
        if let Some((name, _)) = set.into_iter().find(|(_, is_set)| *is_set) {
            return Err(Error::invalid_options(format!(
                "{name} is set, which a Unix-domain listener does not have"
            )));
        }
        if self.unix_mode.is_some_and(|mode| mode > 0o777) {
            return Err(Error::invalid_options("unix_mode is not in 0 to 0o777"));
        }
        if !has_path && (self.replace_stale || self.unix_mode.is_some()) {
            return Err(Error::invalid_options(
                "replace_stale and unix_mode apply only to a path that is to be bound",
            ));
        }
        if self.allow_uids.is_some() && !REPORTS_CREDENTIALS {
            return Err(Error::invalid_options(
                "this operating system does not support allow_uids",
            ));
        }
        Ok(())
    }

    /// Returns the name of an option that only a Unix-domain listener has, if one is set.
    fn first_of_unix(&self) -> Option<&'static str> {
        let set = [
            ("replace_stale", self.replace_stale),
            ("unix_mode", self.unix_mode.is_some()),
            ("allow_uids", self.allow_uids.is_some()),
        ];
        set.into_iter().find(|(_, is_set)| *is_set).map(|(name, _)| name)
    }

    /// Refuses invalid values before anything is bound.
    fn check(&self) -> Result<()> {
        self.socket.check()?;
        if self.socket.bypass_proxy {
            let message = "bypass_proxy applies only to dialling: a listener uses no proxy";
            return Err(Error::invalid_options(message));
        }
        if self.socket.tcp.bind.is_some() {
            return Err(Error::invalid_options(
                "a local address to bind applies only to dialling: the listener has its own",
            ));
        }
        let uses_tls = self.socket.secure_transport != SecureTransport::Off;
        if uses_tls && self.socket.tls.is_none() && self.socket.server_tls.is_none() {
            return Err(Error::invalid_options(
                "secure_transport is set without TLS settings, which choose the role of accepted sockets",
            ));
        }
        self.ingress.check()?;
        check_limit("handshake_timeout", self.handshake_timeout)?;
        let zero = |name, what| Error::invalid_options(format!("{name} is zero: {what}"));
        if self.max_pending == Some(0) {
            return Err(zero("max_pending", "no connection could open"));
        }
        if self.max_open_sockets == Some(0) {
            return Err(zero("max_open_sockets", "no connection could be accepted"));
        }
        if self.backlog == Some(0) {
            return Err(zero("backlog", "no connection could be completed"));
        }
        if self.connector.is_some() && self.max_open_sockets.is_some() {
            return Err(Error::invalid_options(
                "max_open_sockets is set, but the limit of the shared connector applies",
            ));
        }
        if self.reuse_port && !SUPPORTS_REUSE_PORT {
            return Err(Error::invalid_options(
                "this operating system does not support reuse_port",
            ));
        }
        Ok(())
    }

    /// Refuses options that apply only before binding.
    pub(super) fn check_adoptable(&self) -> Result<()> {
        let set = [
            ("backlog", self.backlog.is_some()),
            ("reuse_port", self.reuse_port),
            ("only_v6", self.only_v6),
            ("multipath", self.socket.tcp.rare().multipath),
            ("recv_buffer_size", self.socket.tcp.rare().recv_buffer_size.is_some()),
            ("send_buffer_size", self.socket.tcp.rare().send_buffer_size.is_some()),
        ];
        match set.into_iter().find(|(_, is_set)| *is_set) {
            Some((name, _)) => Err(Error::invalid_options(format!(
                "{name} applies only before binding: this listener is bound already"
            ))),
            None => Ok(()),
        }
    }

    pub(super) fn into_config(self) -> ListenConfig {
        ListenConfig {
            bind: BindOptions {
                backlog: self.backlog.unwrap_or(BACKLOG),
                reuse_port: self.reuse_port,
                only_v6: self.only_v6,
                tcp: self.socket.tcp.clone(),
                path: PathOptions { replace_stale: self.replace_stale, mode: self.unix_mode },
            },
            settings: ListenSettings {
                accepted: AcceptedOptions {
                    socket: self.socket,
                    handshake_timeout: self.handshake_timeout.unwrap_or(HANDSHAKE_TIMEOUT),
                },
                ingress: Arc::new(self.ingress),
                header_nets: self.header_nets,
                allowed_uids: self.allow_uids,
                when_opened: self.accept_when == AcceptWhen::Opened,
                max_pending: self.max_pending.unwrap_or(MAX_PENDING),
                wait_at_limit: !self.refuses_at_limit,
            },
            max_open_sockets: self.max_open_sockets,
            shared: self.connector.map(|connector| Arc::clone(connector.inner.registry())),
        }
    }
}
