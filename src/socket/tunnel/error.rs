//! The error of a tunnel.

use std::fmt;

use crate::error::Error;

/// Reason why a [`tunnel`](crate::tunnel()) failed, with the side that failed, and the bytes copied until then.
#[derive(Clone, Debug)]
pub struct TunnelError {
    error: Error,
    side: Option<TunnelSide>,
    copied: (u64, u64),
}

/// One of the two sockets of a [`tunnel`](crate::tunnel()).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TunnelSide {
    /// The first argument.
    A,
    /// The second argument.
    B,
}

impl TunnelSide {
    pub(super) fn other(self) -> Self {
        match self {
            TunnelSide::A => TunnelSide::B,
            TunnelSide::B => TunnelSide::A,
        }
    }
}

impl TunnelError {
    pub(super) fn new(error: Error, side: Option<TunnelSide>, copied: (u64, u64)) -> Self {
        TunnelError { error, side, copied }
    }

    /// Creates the error of a tunnel that did not begin.
    pub(super) fn before(error: Error) -> Self {
        TunnelError::new(error, None, (0, 0))
    }

    /// Returns the error of the socket that failed.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Returns the side that failed. `None` if the idle limit passed, or if the tunnel did not begin.
    #[must_use]
    pub fn side(&self) -> Option<TunnelSide> {
        self.side
    }

    /// Returns the numbers of bytes copied from `a` to `b`, and from `b` to `a`.
    #[must_use]
    pub fn copied(&self) -> (u64, u64) {
        self.copied
    }
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (there, back) = self.copied;
        match self.side {
            Some(TunnelSide::A) => f.write_str("side a of the tunnel failed")?,
            Some(TunnelSide::B) => f.write_str("side b of the tunnel failed")?,
            None => f.write_str("the tunnel failed")?,
        }
        write!(f, " after {there} bytes to b and {back} bytes to a: {}", self.error)
    }
}

impl std::error::Error for TunnelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The message has the text of the error, so the chain continues with the cause of that one.
        std::error::Error::source(&self.error)
    }
}

/// Returns [`TunnelError::error`].
impl From<TunnelError> for Error {
    fn from(error: TunnelError) -> Error {
        error.error
    }
}
