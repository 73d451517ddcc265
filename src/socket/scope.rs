//! Sockets that end with a piece of work.

use std::net::{SocketAddr, TcpStream};

use super::{Connector, Socket};
use crate::address::SocketAddress;
use crate::driver::ScopeId;
use crate::error::{Error, Result};
use crate::options::SocketOptions;

/// Opens sockets that end with a piece of work. See [`Connector::scope`].
#[derive(Debug)]
pub struct Scope<'a> {
    connector: &'a Connector,
    id: ScopeId,
}

impl<'a> Scope<'a> {
    pub(super) fn new(connector: &'a Connector, id: ScopeId) -> Self {
        Scope { connector, id }
    }

    /// [`Connector::connect`], for as long as the scope lasts.
    ///
    /// # Errors
    /// As that.
    pub fn connect<A>(&self, address: A) -> Result<Socket>
    where
        A: TryInto<SocketAddress>,
        Error: From<A::Error>,
    {
        self.connect_with(address, SocketOptions::new())
    }

    /// [`Connector::connect_with`], for as long as the scope lasts.
    ///
    /// # Errors
    /// As that.
    pub fn connect_with<A>(&self, address: A, options: SocketOptions) -> Result<Socket>
    where
        A: TryInto<SocketAddress>,
        Error: From<A::Error>,
    {
        let address = address.try_into().map_err(Error::from)?;
        self.connector.open(address, options, Some(self.id))
    }

    /// [`Connector::connect_addrs`], for as long as the scope lasts.
    ///
    /// # Errors
    /// As that.
    pub fn connect_addrs(
        &self,
        addresses: &[SocketAddr],
        options: SocketOptions,
    ) -> Result<Socket> {
        self.connector.open_any(addresses, options, Some(self.id))
    }

    /// [`Connector::adopt`], for as long as the scope lasts.
    ///
    /// # Errors
    /// As that.
    pub fn adopt(&self, stream: TcpStream, options: SocketOptions) -> Result<Socket> {
        self.connector.take(stream, options, Some(self.id))
    }
}

/// The end of the work, by a panic too.
impl Drop for Scope<'_> {
    fn drop(&mut self) {
        self.connector.registry().end_scope(self.id);
    }
}
