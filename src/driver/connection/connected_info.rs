//! A connection's addresses and timings, stored compactly because there may be thousands of idle sockets.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use crate::info::{Endpoints, Timings};

#[derive(Clone, Debug)]
pub(crate) struct ConnectedInfo {
    endpoints: CompactEndpoints,
    resolve_micros: u32,
    connect_micros: u32,
}

#[derive(Clone, Debug)]
enum CompactEndpoints {
    V4 { remote: SocketAddrV4, local: SocketAddrV4 },
    Other(Box<Endpoints>),
}

impl ConnectedInfo {
    pub(crate) fn new(endpoints: Endpoints, timings: Timings) -> Self {
        let ends = match endpoints {
            Endpoints {
                remote: Some(SocketAddr::V4(remote)),
                local: Some(SocketAddr::V4(local)),
            } => CompactEndpoints::V4 { remote, local },
            other => CompactEndpoints::Other(Box::new(other)),
        };
        ConnectedInfo {
            endpoints: ends,
            resolve_micros: saturating_micros(timings.resolve),
            connect_micros: saturating_micros(timings.connect),
        }
    }

    pub(crate) fn endpoints(&self) -> Endpoints {
        match &self.endpoints {
            CompactEndpoints::V4 { remote, local } => {
                Endpoints::new(SocketAddr::from(*remote), SocketAddr::from(*local))
            }
            CompactEndpoints::Other(endpoints) => **endpoints,
        }
    }

    pub(crate) fn timings(&self) -> Timings {
        Timings {
            resolve: Duration::from_micros(self.resolve_micros.into()),
            connect: Duration::from_micros(self.connect_micros.into()),
            handshake: Duration::ZERO,
        }
    }
}

/// Converts to microseconds. Rounds up, so that a nonzero duration stays nonzero, and saturates at about 71 minutes.
fn saturating_micros(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1000)).unwrap_or(u32::MAX)
}
