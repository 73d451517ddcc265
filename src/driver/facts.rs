//! What was found when a connection was made, kept in little room: there may be thousands of idle
//! sockets.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use crate::info::{Endpoints, Timings};

#[derive(Clone, Debug)]
pub(super) struct Facts {
    ends: Ends,
    resolve_micros: u32,
    connect_micros: u32,
}

#[derive(Clone, Debug)]
enum Ends {
    V4 { remote: SocketAddrV4, local: SocketAddrV4 },
    Other(Box<Endpoints>),
}

impl Facts {
    pub(super) fn new(endpoints: Endpoints, timings: Timings) -> Self {
        let ends = match endpoints {
            Endpoints { remote: SocketAddr::V4(remote), local: Some(SocketAddr::V4(local)) } => {
                Ends::V4 { remote, local }
            }
            other => Ends::Other(Box::new(other)),
        };
        Facts {
            ends,
            resolve_micros: micros(timings.resolve),
            connect_micros: micros(timings.connect),
        }
    }

    pub(super) fn endpoints(&self) -> Endpoints {
        match &self.ends {
            Ends::V4 { remote, local } => {
                Endpoints { remote: (*remote).into(), local: Some((*local).into()) }
            }
            Ends::Other(endpoints) => **endpoints,
        }
    }

    pub(super) fn timings(&self) -> Timings {
        Timings {
            resolve: Duration::from_micros(self.resolve_micros.into()),
            connect: Duration::from_micros(self.connect_micros.into()),
            handshake: Duration::ZERO,
        }
    }
}

/// Rounded up, so that what took time is not nothing; an hour and more is as long as it gets.
fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1000)).unwrap_or(u32::MAX)
}
