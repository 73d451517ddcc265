//! Unix-domain sockets, as data: addresses, and what is known of a peer.
//!
//! The types exist on every system, so that the driver has one form. Only Unix systems can create the addresses.

mod address;
mod credentials;
mod requested;

use std::sync::Arc;

pub use self::address::UnixAddress;
pub use self::credentials::PeerCredentials;
pub(crate) use self::requested::Requested;

/// The other end of a Unix-domain connection, when it was made.
#[derive(Debug, Default)]
pub(crate) struct UnixPeer {
    /// `None` if it is not bound.
    pub(crate) address: Option<UnixAddress>,
    /// `None` if the system does not report them.
    pub(crate) credentials: Option<PeerCredentials>,
}

/// The peer of an open connection; `None` if that is not a Unix-domain socket.
pub(crate) type SharedPeer = Option<Arc<UnixPeer>>;
