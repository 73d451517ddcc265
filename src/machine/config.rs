//! The configuration of a machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::route::Route;
use crate::egress::{EgressRules, IngressRules};
use crate::tls::TlsSetup;

/// The configuration of a machine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The address or host to connect to, which with a [route](Self::route) is the proxy's.
    pub target: Target,
    /// The proxy, and the target behind it. `None` connects directly.
    pub route: Option<Route>,
    /// The local address to bind to, if any. Addresses of the other family are not dialled.
    pub bind: Option<SocketAddr>,
    /// The rules that addresses must pass before they are dialled. `None` allows every address.
    pub egress: Option<Arc<EgressRules>>,
    /// The rules that judge the client in a PROXY header, which the peer sends first. `None` if it sends none.
    pub header_rules: Option<Arc<IngressRules>>,
    /// The setup for TLS from the start, or `None` for plaintext.
    pub tls: Option<TlsSetup>,
    /// Whether the write side stays open after the peer's EOF.
    pub allow_half_open: bool,
    /// The limit for waiting for a slot, lookup, attempts and TLS handshake together. Default: 30 seconds.
    pub connect_timeout: Option<Duration>,
    /// The absolute limit for connecting; the earlier of this and the timeout applies. Default: none.
    pub connect_deadline: Option<Instant>,
    /// The limit for a close that waits for accepted data to be handed to the kernel. Default: 5 seconds.
    pub close_timeout: Duration,
}

impl Config {
    /// Creates a configuration with the defaults of [`SocketOptions`](crate::SocketOptions).
    #[must_use]
    pub fn new(target: Target) -> Self {
        Config {
            target,
            route: None,
            bind: None,
            egress: None,
            header_rules: None,
            tls: None,
            allow_half_open: false,
            connect_timeout: Some(Duration::from_secs(30)),
            connect_deadline: None,
            close_timeout: Duration::from_secs(5),
        }
    }
}

/// The address or host that a machine connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// One numeric address, without a lookup.
    Address(SocketAddr),
    /// A host name. The driver knows it and resolves it on [`Actions::resolve`](super::Actions::resolve).
    Host,
    /// A Unix-domain address. The driver knows it, and checks it before it creates the machine: a machine with
    /// [egress rules](Config::egress) denies it.
    Unix,
}

/// The options that transitions depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub(super) allow_half_open: bool,
    pub(super) close_timeout: CompactDuration,
    /// The number of transitions until a test panic; 0 for none.
    #[cfg(test)]
    pub(super) panics_in: u8,
}

impl Policy {
    pub(super) fn new(config: &Config) -> Self {
        Policy {
            allow_half_open: config.allow_half_open,
            close_timeout: CompactDuration::new(config.close_timeout),
            #[cfg(test)]
            panics_in: 0,
        }
    }
}

/// A time limit in 4 bytes: milliseconds, rounded up, at most 49 days.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompactDuration(pub(super) u32);

impl CompactDuration {
    fn new(time: Duration) -> Self {
        let millis = time.as_nanos().div_ceil(1_000_000);
        CompactDuration(u32::try_from(millis).unwrap_or(u32::MAX))
    }

    /// Returns the instant at which the limit expires.
    pub(super) fn after(self, now: Instant) -> Instant {
        now + Duration::from_millis(self.0.into())
    }
}
