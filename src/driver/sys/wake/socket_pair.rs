//! The descriptor of a wake handle: a pair of connected sockets.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

#[derive(Debug)]
pub(super) struct WakeFd {
    receiver: UnixStream,
    sender: UnixStream,
}

impl WakeFd {
    pub(super) fn new() -> std::io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        sender.set_nonblocking(true)?;
        Ok(WakeFd { receiver, sender })
    }

    /// Wakes the thread. A full buffer is fine, because it also makes the receiver readable.
    pub(super) fn notify(&self) {
        let _ = (&self.sender).write(&[1]);
    }

    pub(super) fn clear(&self) {
        while matches!((&self.receiver).read(&mut [0; 64]), Ok(64)) {}
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}
