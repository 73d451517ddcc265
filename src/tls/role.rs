//! The TLS role of one end of a connection.

/// The TLS role of one end. The options decide it, whichever end dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Client,
    Server,
}

impl Role {
    /// Returns the role of the other end.
    pub(crate) fn peer(self) -> Role {
        match self {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        }
    }

    /// Returns the role for a message, with its article.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Client => "the client",
            Role::Server => "the server",
        }
    }
}
