//! A scope: sockets that are closed when a piece of work ends.

use std::net::{SocketAddr, TcpStream};

use super::{Connector, Socket};
use crate::address::SocketAddress;
use crate::driver::ScopeId;
use crate::error::{Error, Result};
use crate::options::SocketOptions;

/// Opens sockets that are closed when the scope ends. See [`Connector::scope`].
#[derive(Debug)]
pub struct Scope<'a> {
    pub(super) connector: &'a Connector,
    pub(super) id: ScopeId,
}

impl<'a> Scope<'a> {
    pub(super) fn new(connector: &'a Connector, id: ScopeId) -> Self {
        Scope { connector, id }
    }

    /// Connects like [`Connector::connect`], within the scope.
    ///
    /// # Errors
    /// Those of [`Connector::connect`].
    pub fn connect<A>(&self, address: A) -> Result<Socket>
    where
        A: TryInto<SocketAddress>,
        Error: From<A::Error>,
    {
        self.connect_with(address, SocketOptions::new())
    }

    /// Connects like [`Connector::connect_with`], within the scope.
    ///
    /// # Errors
    /// Those of [`Connector::connect_with`].
    pub fn connect_with<A>(&self, address: A, options: SocketOptions) -> Result<Socket>
    where
        A: TryInto<SocketAddress>,
        Error: From<A::Error>,
    {
        let address = address.try_into().map_err(Error::from)?;
        self.connector.connect_in(address, options, Some(self.id))
    }

    /// Connects like [`Connector::connect_addrs`], within the scope.
    ///
    /// # Errors
    /// Those of [`Connector::connect_addrs`].
    pub fn connect_addrs(
        &self,
        addresses: &[SocketAddr],
        options: SocketOptions,
    ) -> Result<Socket> {
        self.connector.connect_any_in(addresses, options, Some(self.id))
    }

    /// Adopts a stream like [`Connector::adopt`], within the scope.
    ///
    /// # Errors
    /// Those of [`Connector::adopt`].
    pub fn adopt(&self, stream: TcpStream, options: SocketOptions) -> Result<Socket> {
        self.connector.adopt_in(stream, options, Some(self.id))
    }
}

/// Ends the scope, also if the work panics.
impl Drop for Scope<'_> {
    fn drop(&mut self) {
        self.connector.registry().end_scope(self.id);
    }
}
