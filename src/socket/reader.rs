//! The readable side.

use std::fmt;

use super::Handle;

/// The readable side of a [`Socket`](crate::Socket): [`Read`](std::io::Read), also by reference;
/// clones share the side.
///
/// Reading waits for the connection to open. `Ok(0)` is the peer's clean end; after a failure every
/// read gives that failure.
#[derive(Clone)]
pub struct Reader {
    pub(super) handle: Handle,
}

impl Reader {
    pub(super) fn new(handle: Handle) -> Self {
        Reader { handle }
    }

    /// Ends this side for good: what comes in is dropped and not counted, reads, blocked ones too,
    /// give `Ok(0)`; writing goes on. Counts as the end of reading for
    /// [`closed`](crate::Socket::closed). Works while connecting.
    pub fn cancel(&self) {
        self.handle.call(|connection| connection.cancel_read());
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.describe(f, "Reader")
    }
}
