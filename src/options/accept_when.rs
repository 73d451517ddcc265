//! When a listener returns a connection.

/// When a listener returns a connection from [`accept`](crate::Listener::accept).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AcceptWhen {
    /// As soon as it is accepted. The socket may still be [`Connecting`](crate::Phase::Connecting). The thread that first
    /// waits in `opened`, a read or a write makes the handshake, or else the event loop does. A failed handshake is an
    /// error of that socket alone.
    #[default]
    Connected,
    /// Once it is open: its TLS handshake is done. The event loop makes the handshake. Sockets are returned in the order
    /// in which they open. A failed handshake is counted and logged, and not returned.
    Opened,
}
