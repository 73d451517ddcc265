//! What `connect` and `adopt` do: they check the arguments against the connector's rules, and start the connection.

use std::net::{SocketAddr, TcpStream};

use super::Socket;
use super::connector::{Connector, ConnectorInner};
use super::handle::Handle;
use crate::address::SocketAddress;
use crate::driver::{AdoptedStream, ConnectContext, Connection, Origin, ScopeId};
use crate::egress::EgressRules;
use crate::error::{Error, ErrorKind, Result};
use crate::options::{SecureTransport, SocketOptions};
use crate::proxy::Proxy;
use crate::unix::Requested;

impl Connector {
    pub(super) fn adopt_in(
        &self,
        stream: TcpStream,
        mut options: SocketOptions,
        scope: Option<ScopeId>,
    ) -> Result<Socket> {
        options.check()?;
        if options.tcp.rare().multipath {
            let message = "multipath applies only to dialling: this connection exists already";
            return Err(Error::invalid_options(message));
        }
        if options.tcp.bind.is_some() {
            let message =
                "a local address to bind applies only to dialling: this connection exists already";
            return Err(Error::invalid_options(message));
        }
        let (adopted, remote) = AdoptedStream::new(stream, &options.tcp)?;
        self.apply_defaults(&mut options);
        let context = self.inner.context(None, None, scope);
        let connection = Connection::connect(
            Requested::Address(remote.into()),
            options,
            Origin::Adopted(adopted),
            context,
        )?;
        Ok(Socket { handle: Handle::new(connection) })
    }

    fn proxy_for(&self, target: &SocketAddress, options: &SocketOptions) -> Option<&Proxy> {
        let rules = self.inner.proxies.as_ref().filter(|_| !options.bypass_proxy)?;
        rules.proxy_for(target, options.secure_transport)
    }

    /// Returns the proxy for the first of several addresses to answer. It has to be the same for all: otherwise this
    /// choice would lead some past the proxy, or others to it.
    fn proxy_for_all(
        &self,
        addresses: &[SocketAddr],
        options: &SocketOptions,
    ) -> Result<Option<&Proxy>> {
        let mut chosen = addresses.iter().map(|&address| {
            let proxy = self.proxy_for(&address.into(), options);
            (address, proxy)
        });
        let Some((first, proxy)) = chosen.next() else { return Ok(None) };
        match chosen.find(|(_, other)| other.is_some() != proxy.is_some()) {
            None => Ok(proxy),
            Some((other, _)) => {
                let (behind, direct) =
                    if proxy.is_some() { (first, other) } else { (other, first) };
                let message = format!(
                    "the proxy rules send {behind} to a proxy and except {direct}: connect to either kind alone, or \
                     set bypass_proxy"
                );
                Err(Error::invalid_options(message))
            }
        }
    }

    pub(super) fn apply_defaults(&self, options: &mut SocketOptions) {
        if options.tls.is_none() && options.secure_transport != SecureTransport::Off {
            options.tls.clone_from(&self.inner.tls);
        }
    }

    pub(super) fn connect_in(
        &self,
        address: SocketAddress,
        options: SocketOptions,
        scope: Option<ScopeId>,
    ) -> Result<Socket> {
        let proxy = self.proxy_for(&address, &options);
        self.dial(address, options, scope, proxy)
    }

    /// Connects through this proxy instead of the connector's own ones, if the rules can judge its addresses.
    #[cfg(feature = "ureq-3")]
    pub(crate) fn connect_through(
        &self,
        proxy: &Proxy,
        address: SocketAddress,
        options: SocketOptions,
    ) -> Result<Socket> {
        if let Some(egress) = &self.inner.egress {
            proxy.check_judged(egress)?;
        }
        self.dial(address, options, None, Some(proxy))
    }

    fn dial(
        &self,
        address: SocketAddress,
        mut options: SocketOptions,
        scope: Option<ScopeId>,
        proxy: Option<&Proxy>,
    ) -> Result<Socket> {
        address.check_port()?;
        options.check()?;
        self.apply_defaults(&mut options);
        let ConnectorInner { resolver, egress, .. } = &*self.inner;
        let registry = self.inner.registry();
        if let Some(egress) = egress {
            let checked = egress.check_name(&address).and_then(|()| {
                match address.as_socket_addr().and_then(|literal| egress.denied_by(literal)) {
                    Some(denial) => Err(Error::from_denial(&denial.text(), &address)),
                    None => Ok(()),
                }
            });
            checked.inspect_err(|error| registry.count_denied(error))?;
        }
        let resolver = resolver.as_ref();
        let context = self.inner.context(resolver, egress.as_ref(), scope);
        let context = ConnectContext { proxy, ..context };
        let connection = Connection::connect(address.into(), options, Origin::Dial, context)?;
        Ok(Socket { handle: Handle::new(connection) })
    }

    pub(super) fn connect_any_in(
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
        self.apply_defaults(&mut options);
        let egress = &self.inner.egress;
        let registry = self.inner.registry();
        let allowed = match egress {
            Some(egress) => {
                let checked = allowed_hosts(egress, addresses);
                checked.inspect_err(|error| registry.count_denied(error))?
            }
            None => addresses.to_vec(),
        };
        let first = SocketAddress::from(first);
        let proxy = self.proxy_for_all(&allowed, &options)?;
        // For the proxy's name.
        let resolver = proxy.and(self.inner.resolver.as_ref());
        let context = self.inner.context(resolver, egress.as_ref(), scope);
        let context = ConnectContext { proxy, ..context };
        let connection =
            Connection::connect(first.into(), options, Origin::Addresses(allowed), context)?;
        Ok(Socket { handle: Handle::new(connection) })
    }
}

/// Returns the addresses that the rules about hosts and ports allow. The rules about addresses are checked before
/// each one is dialled.
fn allowed_hosts(egress: &EgressRules, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>> {
    let mut allowed = Vec::new();
    let mut denied = None;
    for &address in addresses {
        match egress.check_name(&address.into()) {
            Ok(()) => allowed.push(address),
            Err(error) => denied = denied.or(Some(error)),
        }
    }
    match denied {
        Some(error) if allowed.is_empty() => Err(error),
        Some(_) | None => Ok(allowed),
    }
}
