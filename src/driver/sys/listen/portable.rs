//! A listener that is registered once. A call that would block rearms the registration.

use std::io;
use std::sync::PoisonError;

use crate::driver::sys::lock_order::{RankedGuard, RankedMutex, rank};
use crate::driver::sys::sync::mio::event::Source;
use crate::driver::sys::sync::mio::net::TcpListener;
use crate::driver::sys::sync::mio::{self, Interest, Token};

/// The listener, which mio registers through a unique reference.
///
/// The lock guards the listener. It is held during calls that do not block.
#[derive(Debug)]
pub(super) struct Listening {
    registering: RankedMutex<Registering, { rank::ALONE }>,
    /// A second handle, to lend.
    #[cfg(windows)]
    lent: socket2::Socket,
}

#[derive(Debug)]
struct Registering {
    listener: TcpListener,
    is_registered: bool,
}

impl Listening {
    pub(super) fn new(listener: TcpListener) -> io::Result<Self> {
        Ok(Listening {
            #[cfg(windows)]
            lent: socket2::SockRef::from(&listener).try_clone()?,
            registering: RankedMutex::new(Registering { listener, is_registered: false }),
        })
    }

    #[cfg(windows)]
    pub(super) fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        std::os::windows::io::AsSocket::as_socket(&self.lent)
    }

    pub(super) fn with<R>(&self, call: impl FnOnce(&TcpListener) -> R) -> R {
        call(&self.lock().listener)
    }

    pub(super) fn register(&self, registry: &mio::Registry, token: Token) -> io::Result<()> {
        let mut this = self.lock();
        if !std::mem::replace(&mut this.is_registered, true) {
            this.listener.register(registry, token, Interest::READABLE)?;
        }
        Ok(())
    }

    /// Does nothing: closing the descriptor removes the registration.
    #[expect(clippy::unused_self, reason = "the same signature as on Unix")]
    pub(super) fn deregister(&self, _registry: &mio::Registry) {}

    fn lock(&self) -> RankedGuard<'_, Registering, { rank::ALONE }> {
        self.registering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
