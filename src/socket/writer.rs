//! The writable side of a socket.

use std::fmt;

use super::handle::Handle;
use crate::error::{Result, Step};
use crate::machine::Input;

/// The writable side of a [`Socket`](crate::Socket). Implements [`Write`](std::io::Write), also by reference; clones
/// share the side.
///
/// A write waits for the connection to open. It returns once some of the bytes are accepted, with their number. In
/// plaintext, these are the bytes that the kernel took. Over TLS, at most 64 KiB more than that are accepted; then
/// writes wait. [`flush`](std::io::Write::flush) waits until the kernel has all accepted bytes.
///
/// After a clean end writes fail with [`Closed`](crate::ErrorKind::Closed). After a failure every call returns that
/// failure.
#[derive(Clone)]
pub struct Writer {
    pub(super) handle: Handle,
}

impl Writer {
    pub(super) fn new(handle: Handle) -> Self {
        Writer { handle }
    }

    /// Half-closes: flushes, sends close_notify over TLS, then sends FIN. Reading continues.
    ///
    /// Waits for the connection if it is not yet established, and for writes of other threads that began earlier. The
    /// write timeout and deadline bound the call. Idempotent. Returns `Ok` also if the side was closed on EOF.
    ///
    /// # Errors
    /// - The cause, if the socket did not connect or has failed.
    /// - A [retryable](crate::Error::is_retryable) [`TimedOut`](crate::ErrorKind::TimedOut) if the write timeout or
    ///   deadline passes first. The side then stays open.
    #[doc(alias("shutdown", "CloseWrite", "end"))]
    pub fn close(&self) -> Result<()> {
        self.handle
            .call(|connection| connection.close_write())
            .map_err(|error| error.during(Step::Close))
    }

    /// Gives up without flushing. The peer sees a reset, so reading ends too ([`Closed`](crate::ErrorKind::Closed)).
    /// While connecting, cancels the attempt. After a finished [`close`](Self::close), does nothing.
    pub fn abort(&self) {
        self.handle.call(|connection| connection.abort(Input::AbortWrite));
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.describe(f, "Writer")
    }
}
