//! What `connect` and `adopt` do: they check the arguments against the connector's rules, and start the connection.

use std::net::{SocketAddr, TcpStream};

use super::Socket;
use super::connector::{Connector, ConnectorInner};
use super::handle::Handle;
use crate::address::SocketAddress;
use crate::driver::{AdoptedStream, Connection, Origin, ScopeId};
use crate::egress::EgressRules;
use crate::error::{Error, ErrorKind, Result};
use crate::options::{SecureTransport, SocketOptions};

impl Connector {
    pub(super) fn adopt_in(
        &self,
        stream: TcpStream,
        mut options: SocketOptions,
        scope: Option<ScopeId>,
    ) -> Result<Socket> {
        options.check()?;
        if options.tcp.bind.is_some() {
            let message =
                "a local address to bind applies only to dialling: this connection exists already";
            return Err(Error::invalid_options(message));
        }
        let (adopted, remote) = AdoptedStream::new(stream, &options.tcp)?;
        self.apply_defaults(&mut options);
        let context = self.inner.context(None, None, scope);
        let connection =
            Connection::connect(remote.into(), options, Origin::Adopted(adopted), context)?;
        Ok(Socket { handle: Handle::new(connection) })
    }

    fn apply_defaults(&self, options: &mut SocketOptions) {
        if options.tls.is_none() && options.secure_transport != SecureTransport::Off {
            options.tls.clone_from(&self.inner.tls);
        }
    }

    pub(super) fn connect_in(
        &self,
        address: SocketAddress,
        mut options: SocketOptions,
        scope: Option<ScopeId>,
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
        let connection = Connection::connect(address, options, Origin::Dial, context)?;
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
        let context = self.inner.context(None, egress.as_ref(), scope);
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
