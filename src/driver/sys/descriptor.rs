//! The descriptor of a connection, for options and queries that the crate does not offer.

#[cfg(not(sockeye_shuttle))]
mod options;
#[cfg(sockeye_shuttle)]
mod options_of_model;

use std::fmt;
use std::sync::Arc;

use super::listen::ListenSocket;
use super::wire::Wire;

/// The descriptor of a connection or a listener, which it lends through `AsFd`, or through `AsSocket` on Windows.
/// [`Socket::descriptor`](crate::Socket::descriptor) and [`Listener::descriptor`](crate::Listener::descriptor) return it.
///
/// Use it to query or set socket options such as `TCP_INFO`, `SO_MARK` or `SO_INCOMING_CPU`. Do not receive, send, shut
/// down or close through it: that takes data or EOF from the socket's readers and writers, and it breaks TLS. Do not
/// rely on its blocking mode, which the crate changes as needed. Do not register it with an event queue. A duplicate
/// may be registered, but a read of the socket may just have consumed the readiness that it reports.
///
/// The descriptor is closed when both the socket and this value have released it. Until then its number is not reused.
/// The socket still ends the connection at its own time, and the peer sees its FIN. A reset, as after
/// [`abort`](crate::Socket::abort), is sent at once on Linux and Android. Other systems send it when the descriptor is
/// closed.
#[derive(Clone)]
pub struct Descriptor {
    #[cfg_attr(sockeye_shuttle, expect(dead_code, reason = "the model has no descriptors"))]
    owner: Owner,
}

#[derive(Clone)]
#[cfg_attr(sockeye_shuttle, expect(dead_code, reason = "the model has no descriptors"))]
enum Owner {
    Wire(Arc<Wire>),
    Listener(Arc<ListenSocket>),
}

impl Descriptor {
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        wire.note_shared();
        Descriptor { owner: Owner::Wire(wire) }
    }

    pub(crate) fn of_listener(socket: Arc<ListenSocket>) -> Self {
        Descriptor { owner: Owner::Listener(socket) }
    }
}

#[cfg(all(unix, not(sockeye_shuttle)))]
impl std::os::fd::AsFd for Descriptor {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match &self.owner {
            Owner::Wire(wire) => wire.stream().as_fd(),
            Owner::Listener(socket) => socket.as_fd(),
        }
    }
}

#[cfg(windows)]
impl std::os::windows::io::AsSocket for Descriptor {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        match &self.owner {
            Owner::Wire(wire) => wire.stream().as_socket(),
            Owner::Listener(socket) => socket.as_socket(),
        }
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Descriptor").finish_non_exhaustive()
    }
}
