//! A connection's addresses and timings, stored compactly because there may be thousands of idle sockets.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use crate::info::{Endpoints, Timings};
use crate::unix::SharedPeer;

#[derive(Clone, Debug)]
pub(crate) struct ConnectedInfo {
    endpoints: CompactEndpoints,
    resolve_micros: u32,
    connect_micros: u32,
}

#[derive(Clone, Debug)]
enum CompactEndpoints {
    V4 {
        remote: SocketAddrV4,
        local: SocketAddrV4,
    },
    Other(Box<Endpoints>),
    Proxied(Box<Proxied>),
    /// A Unix-domain socket, which has no addresses of this kind.
    Unix(SharedPeer),
}

/// A connection through a proxy, or from one that sent a PROXY header.
#[derive(Clone, Debug)]
struct Proxied {
    proxy: Option<SocketAddr>,
    /// The client that a PROXY header named.
    remote: Option<SocketAddr>,
    local: Option<SocketAddr>,
    took: Duration,
}

impl ConnectedInfo {
    /// Creates the info of a connection. `unix` is the peer of a Unix-domain socket.
    pub(crate) fn new(endpoints: Endpoints, unix: &SharedPeer, timings: Timings) -> Self {
        let ends = match endpoints {
            Endpoints {
                remote: Some(SocketAddr::V4(remote)),
                local: Some(SocketAddr::V4(local)),
            } => CompactEndpoints::V4 { remote, local },
            Endpoints { remote: None, local: None } if unix.is_some() => {
                CompactEndpoints::Unix(unix.clone())
            }
            other => CompactEndpoints::Other(Box::new(other)),
        };
        ConnectedInfo {
            endpoints: ends,
            resolve_micros: saturating_micros(timings.resolve),
            connect_micros: saturating_micros(timings.connect),
        }
    }

    /// Creates the information of a connection to a proxy, whose endpoints these are.
    pub(crate) fn to_proxy(endpoints: Endpoints, timings: Timings) -> Self {
        let Endpoints { remote: proxy, local } = endpoints;
        let proxied = Proxied { proxy, remote: None, local, took: timings.proxy };
        let endpoints = CompactEndpoints::Proxied(Box::new(proxied));
        ConnectedInfo {
            endpoints,
            ..ConnectedInfo::new(Endpoints::new(None, None), &None, timings)
        }
    }

    /// Records the end of the dialogue with the proxy, or of its PROXY header, which named this client.
    pub(crate) fn end_preamble(&mut self, took: Duration, client: Option<SocketAddr>) {
        if let CompactEndpoints::Proxied(proxied) = &mut self.endpoints {
            proxied.took = took;
            return;
        }
        let Endpoints { remote: proxy, local } = self.endpoints();
        let remote = client.or(proxy);
        self.endpoints =
            CompactEndpoints::Proxied(Box::new(Proxied { proxy, remote, local, took }));
    }

    /// Returns the address of the proxy.
    pub(crate) fn proxy(&self) -> Option<SocketAddr> {
        match &self.endpoints {
            CompactEndpoints::Proxied(proxied) => proxied.proxy,
            CompactEndpoints::V4 { .. }
            | CompactEndpoints::Other(_)
            | CompactEndpoints::Unix(_) => None,
        }
    }

    pub(crate) fn endpoints(&self) -> Endpoints {
        match &self.endpoints {
            CompactEndpoints::V4 { remote, local } => {
                Endpoints::new(SocketAddr::from(*remote), SocketAddr::from(*local))
            }
            CompactEndpoints::Other(endpoints) => **endpoints,
            // A proxy that was dialled does not reveal the peer's address.
            CompactEndpoints::Proxied(proxied) => Endpoints::new(proxied.remote, proxied.local),
            CompactEndpoints::Unix(_) => Endpoints::new(None, None),
        }
    }

    /// Returns the peer of a Unix-domain socket.
    pub(crate) fn unix_peer(&self) -> SharedPeer {
        match &self.endpoints {
            CompactEndpoints::Unix(peer) => peer.clone(),
            CompactEndpoints::V4 { .. }
            | CompactEndpoints::Other(_)
            | CompactEndpoints::Proxied(_) => None,
        }
    }

    pub(crate) fn timings(&self) -> Timings {
        Timings {
            resolve: Duration::from_micros(self.resolve_micros.into()),
            connect: Duration::from_micros(self.connect_micros.into()),
            proxy: match &self.endpoints {
                CompactEndpoints::Proxied(proxied) => proxied.took,
                CompactEndpoints::V4 { .. }
                | CompactEndpoints::Other(_)
                | CompactEndpoints::Unix(_) => Duration::ZERO,
            },
            handshake: Duration::ZERO,
        }
    }
}

/// Converts to microseconds. Rounds up, so that a nonzero duration stays nonzero, and saturates at about 71 minutes.
fn saturating_micros(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1000)).unwrap_or(u32::MAX)
}
