//! How long the steps of connecting took, for a connection and for an error.

use std::time::Duration;

/// Durations of the steps of connecting. Zero for a step that was not needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// Duration of the name lookup; through a proxy, that of the proxy's name, and that of the target's name if it is
    /// [resolved locally](crate::Proxy::resolve_locally).
    pub resolve: Duration,
    /// Duration of the connection attempts, until one succeeded; through a proxy, those to the proxy.
    pub connect: Duration,
    /// Duration of the dialogue with a proxy, and of the TLS handshake with an `https` proxy; for an accepted socket, of
    /// the wait for its PROXY header.
    pub proxy: Duration,
    /// Duration of the TLS handshake with the peer.
    pub handshake: Duration,
}

impl Timings {
    /// Returns the sums of both.
    pub(crate) fn plus(self, other: Timings) -> Timings {
        Timings {
            resolve: self.resolve + other.resolve,
            connect: self.connect + other.connect,
            proxy: self.proxy + other.proxy,
            handshake: self.handshake + other.handshake,
        }
    }
}
