//! The address that a socket was asked for, as messages show it.

use std::fmt;

use super::UnixAddress;
use crate::address::SocketAddress;

/// The address that a socket was opened with.
#[derive(Clone, Debug)]
pub(crate) enum Requested {
    Address(SocketAddress),
    /// A Unix-domain address.
    Unix(Box<UnixRequest>),
}

/// A Unix-domain address, and the one that stands for it.
#[derive(Clone, Debug)]
pub(crate) struct UnixRequest {
    /// `None` if the peer of an accepted socket is not bound.
    address: Option<UnixAddress>,
    /// `localhost` with port 0, which no connect accepts.
    stand_in: SocketAddress,
}

impl Requested {
    pub(crate) fn unix(address: Option<UnixAddress>) -> Self {
        let stand_in = SocketAddress::unreachable_localhost();
        Requested::Unix(Box::new(UnixRequest { address, stand_in }))
    }

    pub(crate) fn is_unix(&self) -> bool {
        matches!(self, Requested::Unix(_))
    }

    /// Returns the address as the program sees it.
    pub(crate) fn as_socket_address(&self) -> &SocketAddress {
        match self {
            Requested::Address(address) => address,
            Requested::Unix(request) => &request.stand_in,
        }
    }
}

impl From<SocketAddress> for Requested {
    fn from(address: SocketAddress) -> Self {
        Requested::Address(address)
    }
}

impl fmt::Display for Requested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Requested::Address(address) => address.fmt(f),
            Requested::Unix(request) => match &request.address {
                Some(address) => address.text().fmt(f),
                None => f.write_str("unix:unnamed"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each idle socket has one.
    #[test]
    fn it_is_as_small_as_an_address() {
        assert_eq!(size_of::<Requested>(), size_of::<SocketAddress>());
    }
}
