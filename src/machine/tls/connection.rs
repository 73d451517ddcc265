//! The rustls connection of a session, in either role.

use std::ops::Deref;
use std::sync::Arc;

use rustls::CommonState;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::UnbufferedStatus;

use super::catch_panic;
use crate::tls::{Failure, Handshake, Stage, TlsSetup};

/// A rustls connection. A match on it calls a function that is generic over its [`Records`], so that both roles have
/// one implementation.
pub(super) enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// The processing of records, which rustls has once for each role.
pub(super) trait Records {
    type Data;

    /// Returns the queries that both roles share.
    fn common(&self) -> &CommonState;

    /// Processes records until rustls reaches a new state.
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Connection {
    /// Creates the connection of a setup. May run the program's code.
    pub(super) fn new(setup: &TlsSetup) -> Result<Self, Failure> {
        let connection = catch_panic(|| match setup.handshake() {
            Handshake::Client { config, server_name } => {
                UnbufferedClientConnection::new(Arc::clone(config), server_name.clone())
                    .map(Connection::Client)
            }
            Handshake::Server { config, .. } => {
                UnbufferedServerConnection::new(Arc::clone(config)).map(Connection::Server)
            }
        })?;
        connection.map_err(|error| Failure::new(error, setup.role().peer(), Stage::Handshake))
    }

    /// Returns the number of session tickets that the peer has sent over TLS 1.3.
    pub(super) fn tickets_received(&self) -> u32 {
        match self {
            Connection::Client(client) => client.tls13_tickets_received(),
            Connection::Server(_) => 0,
        }
    }
}

impl Deref for Connection {
    type Target = CommonState;

    fn deref(&self) -> &CommonState {
        match self {
            Connection::Client(client) => client,
            Connection::Server(server) => server,
        }
    }
}

impl Records for UnbufferedClientConnection {
    type Data = rustls::client::ClientConnectionData;

    fn common(&self) -> &CommonState {
        self
    }

    #[inline]
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}

impl Records for UnbufferedServerConnection {
    type Data = rustls::server::ServerConnectionData;

    fn common(&self) -> &CommonState {
        self
    }

    #[inline]
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}
