//! One attempt of a connection.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::Error;

/// One connection attempt: its address and its error.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub(super) address: SocketAddr,
    pub(super) error: Error,
    pub(super) elapsed: Duration,
}

impl Attempt {
    /// Returns the address that was dialled.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the error of this attempt.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Returns how long the attempt lasted: from its beginning until it failed, or until the whole connection did.
    /// Zero for an address that was not dialled.
    ///
    /// ```no_run
    /// let socket = sockeye::connect("example.com:443")?;
    /// if let Err(error) = socket.opened() {
    ///     for attempt in error.attempts() {
    ///         eprintln!("{attempt}, after {:?}", attempt.elapsed());
    ///     }
    /// }
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.error)
    }
}
