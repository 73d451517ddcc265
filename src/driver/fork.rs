//! What a socket is in a forked child.
//!
//! A child has the parent's descriptors but not the parent's loop thread, and what it did on a
//! connection would be done to the parent's. So it does nothing, and says so.

use super::shared::Connection;
use crate::error::{Error, ErrorKind, Result};

impl Connection {
    /// Fails in a forked child of the process that opened the socket.
    #[inline]
    pub(super) fn check_process(&self) -> Result<()> {
        if self.is_forked() { Err(forked_error()) } else { Ok(()) }
    }
}

#[cold]
fn forked_error() -> Error {
    Error::with_message(
        ErrorKind::InvalidState,
        "the socket belongs to the process that this one was forked from: open one of its own here",
    )
}
