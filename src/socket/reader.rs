//! The readable side of a socket.

use std::fmt;

use super::handle::Handle;

/// The readable side of a [`Socket`](crate::Socket). Implements [`Read`](std::io::Read), also by reference; clones
/// share the side.
///
/// Reading waits for the connection to open. `Ok(0)` is the peer's clean end. After a failure every read returns that
/// failure.
#[derive(Clone)]
pub struct Reader {
    pub(super) handle: Handle,
}

impl Reader {
    pub(super) fn new(handle: Handle) -> Self {
        Reader { handle }
    }

    /// Ends this side for good. Incoming data is dropped and not counted, and reads, including blocked ones, return
    /// `Ok(0)`. Writing continues. For [`closed`](crate::Socket::closed), reading has then ended. Works while
    /// connecting.
    ///
    /// Over TLS, records are still processed, and errors and truncation are reported.
    pub fn cancel(&self) {
        self.handle.call(|connection| connection.cancel_read());
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.describe(f, "Reader")
    }
}
