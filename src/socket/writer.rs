//! The writable side.

use std::fmt;

use super::Handle;
use crate::error::{Result, Step};
use crate::machine::Input;

/// The writable side of a [`Socket`](crate::Socket): [`Write`](std::io::Write), also by reference;
/// clones share the side.
///
/// Writing waits for the connection to open, and returns once some of the bytes are accepted, with
/// their number: in plaintext what the kernel took, over TLS at most 64 KiB beyond it, then writes wait.
/// [`flush`](std::io::Write::flush) waits until the kernel has all that was accepted.
/// After a clean end writes fail with [`Closed`](crate::ErrorKind::Closed); after a failure every
/// call gives that failure.
#[derive(Clone)]
pub struct Writer {
    pub(super) handle: Handle,
}

impl Writer {
    pub(super) fn new(handle: Handle) -> Self {
        Writer { handle }
    }

    /// Half-close: sends FIN after all that was accepted, over TLS after close_notify. Reading goes on.
    ///
    /// Waits for the connection where it is still being made, and for writes of other threads that
    /// began before; bounded by the write timeout and deadline. Idempotent; `Ok` also where the side
    /// was closed on EOF.
    ///
    /// # Errors
    /// Why there is no connection, or why it failed; a [retryable](crate::Error::is_retryable)
    /// [`TimedOut`](crate::ErrorKind::TimedOut) when the write timeout or deadline passed first: the
    /// side is then still open.
    #[doc(alias("shutdown", "CloseWrite", "end"))]
    pub fn close(&self) -> Result<()> {
        self.handle
            .call(|connection| connection.close_write())
            .map_err(|error| error.during(Step::Close))
    }

    /// Gives up without flushing: the peer sees a reset, so reading ends too
    /// ([`Closed`](crate::ErrorKind::Closed)). While connecting it cancels the attempt; after a
    /// finished [`close`](Self::close) it does nothing.
    pub fn abort(&self) {
        self.handle.call(|connection| connection.abort(Input::AbortWrite));
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.describe(f, "Writer")
    }
}
