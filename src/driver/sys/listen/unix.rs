//! A listener that is registered by its descriptor, and again for each period in which the event loop watches it.

use std::io;
use std::os::fd::AsRawFd;

use crate::driver::sys::sync::mio::event::Source;
use crate::driver::sys::sync::mio::net::TcpListener;
use crate::driver::sys::sync::mio::{self, Interest, Token};

#[derive(Debug)]
pub(super) struct Listening(TcpListener);

impl Listening {
    #[expect(clippy::unnecessary_wraps, reason = "the same signature as on other systems")]
    pub(super) fn new(listener: TcpListener) -> io::Result<Self> {
        Ok(Listening(listener))
    }

    #[inline]
    pub(super) fn with<R>(&self, call: impl FnOnce(&TcpListener) -> R) -> R {
        call(&self.0)
    }

    #[cfg(not(all(sockeye_shuttle, sockeye_condvar)))]
    pub(super) fn listener(&self) -> &TcpListener {
        &self.0
    }

    pub(super) fn register(&self, registry: &mio::Registry, token: Token) -> io::Result<()> {
        let descriptor = self.0.as_raw_fd();
        let mut source = mio::unix::SourceFd(&descriptor);
        match source.register(registry, token, Interest::READABLE) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                source.reregister(registry, token, Interest::READABLE)
            }
            result => result,
        }
    }

    pub(super) fn deregister(&self, registry: &mio::Registry) {
        let descriptor = self.0.as_raw_fd();
        let _ = mio::unix::SourceFd(&descriptor).deregister(registry);
    }
}
