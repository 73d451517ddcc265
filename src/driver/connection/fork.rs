//! Refuses to use a socket in a forked child.
//!
//! A child has the parent's descriptors but not its event loop thread. Whatever it did on a connection would affect the
//! parent. So every call fails.

use super::Connection;
use crate::error::{Error, ErrorKind, Result};

impl Connection {
    /// Fails in a forked child of the process that opened the socket.
    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.is_forked() { Err(forked_error()) } else { Ok(()) }
    }
}

#[cold]
fn forked_error() -> Error {
    Error::with_message(
        ErrorKind::InvalidState,
        "the socket belongs to the parent of this forked process: open a new socket here",
    )
}
