//! HTTP with [ureq] 3 through a [`Connector`]: its egress rules, names, TLS and limits (feature `ureq-3`).
//!
//! A program that fetches URLs from untrusted users will at some time get one for a service that only it can reach.
//! Examples are services on loopback and the cloud's metadata service. Checking the URL does not help. A redirect
//! leads elsewhere, and a name may resolve to one address for the check and to another for the connection. Here the
//! connector dials every connection of an agent, including those of redirects. It checks each numeric address, and
//! dials exactly that one.
//!
//! ```no_run
//! use sockeye::{Connector, EgressRules};
//!
//! let connector = Connector::builder().egress(EgressRules::public_only()).build()?;
//! let agent = sockeye::ureq::agent(ureq::config::Config::default(), connector);
//! let page = agent.get("https://example.com/").call()?.body_mut().read_to_string()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Division of work
//!
//! - **Names**: only the connector looks them up, once for each connection. [`NoLookup`] replaces ureq's own resolver
//!   and looks nothing up.
//! - **TLS** comes from the connector and the [options](UreqConnector::options). ureq's `tls_config` has no effect,
//!   neither its roots nor its switch to disable verification. ureq's own features for TLS are not needed. `ip_family`
//!   and `no_delay` have no effect either.
//! - **Time**: each timeout of ureq is an absolute deadline here, which a peer that trickles bytes cannot extend.
//!   `timeout_connect` bounds lookup, attempts and handshake together. So does [`SocketOptions::connect_timeout`], if
//!   it is shorter. `timeout_resolve` has no effect.
//! - **Pool**: ureq's. Before it reuses a connection, it checks [`Socket::health`], and drops one that has ended, has
//!   failed, or has unsolicited data. Idle connections count towards
//!   [`max_open_sockets`](crate::ConnectorBuilder::max_open_sockets).
//! - **Proxies**: one that ureq is configured with becomes a [`Proxy`] of the connector, for the requests that ureq sends
//!   through it. It gets a name, or an address if ureq's `resolve_target` is set. The rules judge as
//!   [`ConnectorBuilder::proxy`](crate::ConnectorBuilder::proxy) says: if they restrict nets and the proxy resolves
//!   names, the request fails with [`InvalidOptions`](ErrorKind::InvalidOptions). TLS with an `https` proxy has the
//!   default [options](crate::TlsOptions); for others, give the connector a [`Proxy::https`].
//!   [`SocketOptions::bypass_proxy`] does not concern this proxy. Other
//!   requests use the connector's own proxies. So do all requests if ureq has taken its proxy from the environment: it
//!   reads `HTTP_PROXY`, which a CGI request can set ([httpoxy](https://httpoxy.org)). A program that wants proxies of
//!   the environment gives the connector [`ProxyRules::from_env`](crate::ProxyRules::from_env).
//!
//! # Errors
//!
//! An error of the connector or a socket is in `ureq::Error::Io`, and [`Error::from_io`] returns it. The exception is
//! a timeout of ureq, which is `ureq::Error::Timeout`.
//!
//! ```
//! use sockeye::{Connector, EgressRules, Error, ErrorKind};
//!
//! let connector = Connector::builder().egress(EgressRules::public_only()).build()?;
//! let agent = sockeye::ureq::agent(ureq::config::Config::default(), connector);
//! let ureq::Error::Io(error) = agent.get("http://169.254.169.254/").call().unwrap_err() else { panic!() };
//! assert_eq!(Error::from_io(&error).unwrap().kind(), ErrorKind::Denied);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Versions
//!
//! ureq does not apply semantic versioning to the traits that this module implements: they may change in any minor
//! version. So this version of the crate supports one minor version of ureq, 3.5. A later one needs a later version
//! of this crate.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ::ureq::config::Config;
use ::ureq::http::Uri;
use ::ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ::ureq::unversioned::transport::{
    self, Buffers, ConnectionDetails, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};
use ::ureq::{Agent, Error as UreqError, ProxyProtocol};

use crate::address::SocketAddress;
use crate::error::{Error, ErrorKind};
use crate::options::{SecureTransport, SocketOptions};
use crate::proxy::Proxy;
use crate::socket::{Connector, Socket};
use crate::tls::TlsOptions;

/// Creates an agent whose connections the connector makes, with default options.
#[must_use]
pub fn agent(config: Config, connector: Connector) -> Agent {
    Agent::with_parts(config, UreqConnector::new(connector), NoLookup)
}

/// Makes the connections of an agent. Implements ureq's `Connector`, for `ureq::Agent::with_parts` together with
/// [`NoLookup`].
///
/// ```
/// use sockeye::ureq::{UreqConnector, NoLookup};
/// use sockeye::{Connector, SocketOptions, TlsOptions};
/// use ureq::config::Config;
///
/// let tls = TlsOptions::new().alpn(["http/1.1"]);
/// let connector = UreqConnector::new(Connector::builder().build()?).options(SocketOptions::new().tls(tls));
/// let agent = ureq::Agent::with_parts(Config::default(), connector, NoLookup);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct UreqConnector {
    connector: Connector,
    options: SocketOptions,
}

impl UreqConnector {
    /// Creates a dialler with default options.
    #[must_use]
    pub fn new(connector: Connector) -> Self {
        UreqConnector { connector, options: SocketOptions::new() }
    }

    /// Sets the options of every socket. The URL decides the mode, so theirs has no effect. For an `http:` URL,
    /// neither have their TLS settings.
    #[must_use]
    pub fn options(mut self, options: SocketOptions) -> Self {
        self.options = options;
        self
    }

    fn dial(&self, details: &ConnectionDetails<'_>) -> crate::Result<Socket> {
        let uri = details.uri;
        let proxy = match details.config.proxy() {
            // A CGI request can set HTTP_PROXY, which ureq reads.
            Some(proxy) if proxy.is_from_env() => None,
            Some(proxy) if !proxy.is_no_proxy(uri) => Some(convert_proxy(proxy)?),
            Some(_) | None => None,
        };
        let mut options = self.options.clone();
        // An HTTP client is never the TLS server.
        options.server_tls = None;
        let default_port = if details.needs_tls() {
            options.secure_transport = SecureTransport::On;
            443
        } else {
            options.secure_transport = SecureTransport::Off;
            options.tls = None;
            80
        };
        if let Some(limit) = remaining(details.timeout) {
            options.connect_timeout =
                Some(options.connect_timeout.map_or(limit, |own| own.min(limit)));
        }
        let port = uri.port_u16().unwrap_or(default_port);
        let address = format!("{}:{port}", uri.host().unwrap_or_default());
        match proxy {
            Some(proxy) => self.connector.connect_through(&proxy, address.parse()?, options),
            None => self.connector.connect_with(address, options),
        }
    }
}

/// Converts ureq's proxy into the connector's.
fn convert_proxy(proxy: &::ureq::Proxy) -> crate::Result<Proxy> {
    // Brackets of an IPv6 address are allowed.
    let address = SocketAddress::new(proxy.host(), proxy.port())?;
    let converted = match proxy.protocol() {
        ProxyProtocol::Http => Proxy::http(address)?,
        ProxyProtocol::Https => Proxy::https(address, TlsOptions::new())?,
        ProxyProtocol::Socks5 | ProxyProtocol::Socks5h => Proxy::socks5(address)?,
        ProxyProtocol::Socks4 | ProxyProtocol::Socks4A => Proxy::socks4a(address)?,
        other => {
            let message = format!("the connector supports no proxy of the kind {other:?}");
            return Err(Error::invalid_options(message));
        }
    };
    let converted = if proxy.resolve_target() { converted.resolve_locally() } else { converted };
    match (proxy.username(), proxy.password()) {
        (None, None) => Ok(converted),
        (username, password) => {
            converted.credentials(username.unwrap_or_default(), password.unwrap_or_default())
        }
    }
}

impl transport::Connector for UreqConnector {
    type Out = UreqTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<UreqTransport>, UreqError> {
        if details.timeout.after.is_zero() {
            return Err(UreqError::Timeout(details.timeout.reason));
        }
        let started_at = Instant::now();
        let is_ureqs = |error: &Error| {
            error.kind() == ErrorKind::TimedOut
                && remaining(details.timeout).is_some_and(|limit| started_at.elapsed() >= limit)
        };
        let to_ureq_error = |error: Error| match is_ureqs(&error) {
            true => UreqError::Timeout(details.timeout.reason),
            false => UreqError::Io(error.into()),
        };
        let socket = self.dial(details).map_err(to_ureq_error)?;
        let state = Arc::new(LineState(socket));
        let handle: Weak<dyn ShutdownHandle> = Arc::downgrade(&state) as _;
        (details.register_shutdown)(handle)?;
        state.0.opened().map_err(to_ureq_error)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(UreqTransport { state, buffers, is_tls: details.needs_tls() }))
    }
}

/// Resolves nothing, so that the connector gets each name unchanged. Implements ureq's `Resolver`, for use with a
/// [`UreqConnector`].
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLookup;

impl Resolver for NoLookup {
    fn resolve(
        &self,
        _uri: &Uri,
        _config: &Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, UreqError> {
        Ok(self.empty())
    }
}

/// A connection of an agent. Implements ureq's `Transport`.
pub struct UreqTransport {
    state: Arc<LineState>,
    buffers: LazyBuffers,
    is_tls: bool,
}

/// The socket that `ureq::Agent::shutdown` aborts.
struct LineState(Socket);

impl ShutdownHandle for LineState {
    fn shutdown(&self) {
        self.0.abort();
    }
}

impl Transport for UreqTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), UreqError> {
        let timeout = timeout.for_write();
        let until = deadline(timeout)?;
        let mut socket = &self.state.0;
        socket.set_write_deadline(until);
        let written = socket.write_all(&self.buffers.output()[..amount]);
        written.map_err(|error| to_ureq_error(error, timeout, until))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, UreqError> {
        let timeout = timeout.for_read();
        let until = deadline(timeout)?;
        let mut socket = &self.state.0;
        socket.set_read_deadline(until);
        let read = socket.read(self.buffers.input_append_buf());
        let bytes = read.map_err(|error| to_ureq_error(error, timeout, until))?;
        self.buffers.input_appended(bytes);
        Ok(bytes > 0)
    }

    fn is_open(&mut self) -> bool {
        self.state.0.health().is_idle()
    }

    fn is_tls(&self) -> bool {
        self.is_tls
    }
}

impl fmt::Debug for UreqTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("socket", &self.state.0).finish_non_exhaustive()
    }
}

/// Returns the time left, or `None` if there is no limit.
fn remaining(timeout: NextTimeout) -> Option<Duration> {
    if timeout.after.is_not_happening() { None } else { Some(*timeout.after) }
}

/// Returns the deadline. `None` if there is no limit, or if it is too far away to be an instant.
fn deadline(timeout: NextTimeout) -> Result<Option<Instant>, UreqError> {
    match remaining(timeout) {
        Some(Duration::ZERO) => Err(UreqError::Timeout(timeout.reason)),
        Some(limit) => Ok(Instant::now().checked_add(limit)),
        None => Ok(None),
    }
}

/// Converts an error. A timeout of the socket's own options is not one of ureq's.
fn to_ureq_error(error: io::Error, timeout: NextTimeout, until: Option<Instant>) -> UreqError {
    let timed_out = error.kind() == io::ErrorKind::TimedOut;
    if timed_out && until.is_some_and(|at| at <= Instant::now()) {
        UreqError::Timeout(timeout.reason)
    } else {
        UreqError::Io(error)
    }
}
