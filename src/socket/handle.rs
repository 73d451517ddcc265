//! The reference that every handle has, and that counts them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::driver::Connection;

/// A counted reference to a connection. Dropping the last one closes the socket.
pub(super) struct Handle {
    connection: Arc<Connection>,
}

impl Handle {
    /// Wraps the handle that a new connection already counts.
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Handle { connection }
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Calls the driver. A panic there, which is a bug, fails the socket.
    #[inline(always)]
    pub(super) fn call<R>(&self, call: impl FnOnce(&Arc<Connection>) -> R) -> R {
        self.connection.fail_on_panic(|| call(&self.connection))
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        let stats = self.connection.stats();
        f.debug_struct(name)
            .field("address", &format_args!("{}", self.connection.requested()))
            .field("remote", &format_args!("{}", OrNone(self.connection.remote_address())))
            .field("phase", &self.connection.phase())
            .field("secure_transport", &self.connection.mode())
            .field("bytes_read", &stats.bytes_read)
            .field("bytes_written", &stats.bytes_written)
            .finish_non_exhaustive()
    }
}

/// Displays an address that may be unknown.
struct OrNone(Option<SocketAddr>);

impl fmt::Display for OrNone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f, "Handle")
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        self.connection.add_handle();
        Handle { connection: Arc::clone(&self.connection) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.call(|connection| connection.drop_handle());
    }
}
