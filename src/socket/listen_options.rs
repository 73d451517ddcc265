//! The options of a listener.

use std::sync::Arc;
use std::time::Duration;

use super::Connector;
use crate::driver::{
    AcceptedOptions, BindOptions, ListenConfig, ListenSettings, SUPPORTS_REUSE_PORT,
};
use crate::egress::IngressRules;
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
    handshake_timeout: Option<Duration>,
    accept_when: AcceptWhen,
    max_pending: Option<usize>,
    max_open_sockets: Option<usize>,
    refuses_at_limit: bool,
    connector: Option<Connector>,
    backlog: Option<u32>,
    reuse_port: bool,
    only_v6: bool,
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
    ///   they are set on each of them too.
    /// - [`TcpOptions::bind`](crate::TcpOptions::bind) is [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
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

    /// Bounds the time from accept(2) until a socket is open: the TLS handshake. For an upgrade it counts from
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

    /// Refuses invalid values before anything is bound.
    pub(super) fn check(&self) -> Result<()> {
        self.socket.check()?;
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
            ("recv_buffer_size", self.socket.tcp.recv_buffer_size.is_some()),
            ("send_buffer_size", self.socket.tcp.send_buffer_size.is_some()),
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
            },
            settings: ListenSettings {
                accepted: AcceptedOptions {
                    socket: self.socket,
                    handshake_timeout: self.handshake_timeout.unwrap_or(HANDSHAKE_TIMEOUT),
                },
                ingress: self.ingress,
                when_opened: self.accept_when == AcceptWhen::Opened,
                max_pending: self.max_pending.unwrap_or(MAX_PENDING),
                wait_at_limit: !self.refuses_at_limit,
            },
            max_open_sockets: self.max_open_sockets,
            shared: self.connector.map(|connector| Arc::clone(connector.inner.registry())),
        }
    }
}
