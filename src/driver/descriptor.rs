//! The system's own handle of a connection, for who wants to ask the system about it.

use std::fmt;
use std::sync::Arc;

use super::shared::Connection;
use super::wire::Wire;

/// Keeps the descriptor of a connection, and lends it by `AsFd`, on Windows `AsSocket`:
/// [`Socket::descriptor`](crate::Socket::descriptor).
///
/// It is for what is asked of the system or told to it about a connection, such as `TCP_INFO`, `SO_MARK` or
/// `SO_INCOMING_CPU`. To receive, send, shut down or close by it takes bytes, or the end, from those who read
/// and write the socket, and breaks TLS. Whether calls on it block is not for it to say: the
/// crate changes that as it needs. It belongs in no event queue but that of an own duplicate, and even there it
/// tells of readiness that a read of the socket may just have used up.
///
/// The descriptor is closed when the socket is done with it and this is dropped, so not before: its number is
/// nobody else's meanwhile. A socket that ends ends all the same, and the peer sees that.
#[derive(Clone)]
pub struct Descriptor {
    #[cfg_attr(sockeye_shuttle, expect(dead_code, reason = "the model has no descriptors"))]
    wire: Arc<Wire>,
}

impl Connection {
    pub(crate) fn descriptor(&self) -> Option<Descriptor> {
        let state = self.try_state()?;
        let wire = state.wire.cloned()?;
        Some(Descriptor { wire })
    }
}

#[cfg(all(unix, not(sockeye_shuttle)))]
impl std::os::fd::AsFd for Descriptor {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.wire.stream().as_fd()
    }
}

#[cfg(windows)]
impl std::os::windows::io::AsSocket for Descriptor {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        self.wire.stream().as_socket()
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Descriptor").finish_non_exhaustive()
    }
}
