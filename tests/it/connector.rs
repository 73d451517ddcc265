//! Connectors: the limit on open sockets, scopes, and shutdown.

mod addrs;
mod egress;
mod limits;
mod scopes;
mod shutdown;
mod stats;
mod tls;

use sockeye::{Connector, Error, Socket};

use crate::support::peer::Server;

/// Allows at most `most` open sockets; a further one fails.
fn limited(most: usize) -> Connector {
    Connector::builder().max_open_sockets(most).build().expect("the settings are valid")
}

/// Allows at most `most` open sockets; further ones wait.
fn patient(most: usize) -> Connector {
    let builder = Connector::builder().max_open_sockets(most).wait_at_limit(true);
    builder.build().expect("the settings are valid")
}

/// Accepts connections, keeps them and reads each to its end.
fn holds() -> Server {
    Server::echoes()
}

#[track_caller]
fn open(connector: &Connector, server: &Server) -> Socket {
    let socket = connector.connect(server.address()).expect("a slot is free");
    socket.opened().expect("the peer listens");
    socket
}

/// Returns the error of a connect that the limit refuses.
fn refusal(result: Result<Socket, Error>) -> Error {
    result.expect_err("the limit is reached")
}
