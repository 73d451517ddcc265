//! Connectors: how many sockets there may be, which end together, and how all of them end.

mod addrs;
mod egress;
mod limits;
mod scopes;
mod shutdown;
mod stats;
mod tls;

use sockeye::{Connector, Error, Socket};

use crate::support::peer::Server;

/// At most so many sockets; the next one fails.
fn limited(most: usize) -> Connector {
    Connector::builder().max_open_sockets(most).build().expect("it can be")
}

/// At most so many sockets; the next ones wait.
fn patient(most: usize) -> Connector {
    let builder = Connector::builder().max_open_sockets(most).wait_at_limit(true);
    builder.build().expect("it can be")
}

/// Keeps what it accepts, and reads it to its end.
fn holds() -> Server {
    Server::echoes()
}

#[track_caller]
fn open(connector: &Connector, server: &Server) -> Socket {
    let socket = connector.connect(server.address()).expect("there is room for it");
    socket.opened().expect("the peer listens");
    socket
}

/// Its attempts to connect and how they failed.
fn refusal(result: Result<Socket, Error>) -> Error {
    result.expect_err("there is no room for it")
}
