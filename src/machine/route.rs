//! The route to a target through a proxy.

use std::net::{Ipv4Addr, SocketAddr};

use super::dialogue::{Destination, Dialogue};
use crate::address::SocketAddress;
use crate::error::{Error, ErrorKind, Result};
use crate::proxy::{Protocol, Proxy};
use crate::tls::TlsSetup;

/// The proxy through which a machine connects, and the target that the proxy gets.
/// [`Config::target`](super::Config::target) is then the proxy's address.
#[derive(Clone, Debug)]
pub struct Route {
    proxy: Proxy,
    target: SocketAddress,
    target_lookup: bool,
    /// The setup for TLS with the proxy.
    proxy_setup: Option<TlsSetup>,
}

impl Route {
    /// Creates the route through `proxy` to `target`.
    ///
    /// # Errors
    /// - [`InvalidAddress`](crate::ErrorKind::InvalidAddress) for an IPv6 address with a scope, which no proxy can get.
    /// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions) for SOCKS 4 and an address that it cannot express: IPv6,
    ///   and 0.0.0.1 to 0.0.0.255. For an `https` proxy, if there is no crypto provider or the TLS options are invalid.
    pub fn new(proxy: &Proxy, target: &SocketAddress) -> Result<Self> {
        let literal = target.as_socket_addr();
        if let Some(address) = literal {
            check_expressible(proxy, address)?;
        }
        Ok(Route {
            proxy: proxy.clone(),
            target: target.clone(),
            target_lookup: proxy.resolves_locally() && literal.is_none(),
            proxy_setup: proxy.tls_setup()?,
        })
    }

    /// Creates the route through `proxy` to one of several addresses. The driver passes them on
    /// [`Actions::resolve`](super::Actions::resolve), as if `target` were a name that is resolved locally.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), for any of the addresses.
    pub fn to_any(proxy: &Proxy, target: &SocketAddress, addresses: &[SocketAddr]) -> Result<Self> {
        for address in addresses {
            check_expressible(proxy, *address)?;
        }
        Ok(Route {
            proxy: proxy.clone(),
            target: target.clone(),
            target_lookup: true,
            proxy_setup: proxy.tls_setup()?,
        })
    }

    /// Uses TLS with the proxy, with a setup from the simulator.
    #[cfg(feature = "sim")]
    pub(crate) fn secured(self, setup: TlsSetup) -> Self {
        Route { proxy_setup: Some(setup), ..self }
    }

    /// Returns whether the target is looked up before the proxy is dialled.
    #[must_use]
    pub fn has_lookup(&self) -> bool {
        self.target_lookup
    }

    /// Returns the setup for TLS with the proxy.
    pub(super) fn proxy_setup(&self) -> Option<&TlsSetup> {
        self.proxy_setup.as_ref()
    }

    /// Returns whether a proxy can get this address.
    pub(super) fn supports(&self, address: SocketAddr) -> bool {
        check_expressible(&self.proxy, address).is_ok()
    }

    /// Returns the target if it is an IP literal.
    pub(super) fn literal(&self) -> Option<SocketAddr> {
        self.target.as_socket_addr()
    }

    /// Begins the dialogue. `address` replaces the target's name.
    pub(super) fn dialogue(&self, address: Option<SocketAddr>) -> (Dialogue, Vec<u8>) {
        let destination = match address.or(self.literal()) {
            Some(address) => Destination::Address(address),
            None => Destination::Name(self.target.hostname(), self.target.port()),
        };
        Dialogue::new(&self.proxy, destination)
    }
}

fn check_expressible(proxy: &Proxy, address: SocketAddr) -> Result<()> {
    match (address, proxy.protocol()) {
        (SocketAddr::V6(v6), _) if v6.scope_id() != 0 => {
            let message =
                format!("invalid address \"{address}\": a proxy cannot get an IPv6 scope");
            Err(Error::with_message(ErrorKind::InvalidAddress, message))
        }
        (SocketAddr::V6(_), Protocol::Socks4) => {
            let message = format!("SOCKS 4 cannot connect to {address}: it supports IPv4 only");
            Err(Error::invalid_options(message))
        }
        (SocketAddr::V4(v4), Protocol::Socks4) if has_name_mark(*v4.ip()) => {
            let message =
                format!("SOCKS 4 cannot connect to {address}: 0.0.0.x stands for a name there");
            Err(Error::invalid_options(message))
        }
        (
            SocketAddr::V4(_) | SocketAddr::V6(_),
            Protocol::Http | Protocol::Socks4 | Protocol::Socks5,
        ) => Ok(()),
    }
}

/// Returns whether SOCKS 4a takes an address for the mark that a name follows. It would then wait for the name.
fn has_name_mark(ip: Ipv4Addr) -> bool {
    matches!(ip.octets(), [0, 0, 0, last] if last > 0)
}
