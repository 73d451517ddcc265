//! How long the steps of connecting took, for a connection and for an error.

use std::time::Duration;

/// Durations of the steps of connecting. Zero for a step that was not needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// Duration of the name lookup.
    pub resolve: Duration,
    /// Duration of the connection attempts, until one succeeded.
    pub connect: Duration,
    /// Duration of the TLS handshake.
    pub handshake: Duration,
}
