//! One TCP stream: its descriptor, and what is done to it apart from reading and writing.

use std::io::{self, Read};
use std::sync::Arc;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::error::Fault;

/// A stream in non-blocking mode. The descriptor is closed when the last call on it has left.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
}

/// What came of dropping what had come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// There is nothing now.
    Empty,
    /// So many bytes were dropped, and there may be more.
    More,
    /// The peer has ended.
    End,
    /// The wire is broken.
    Failed(Fault),
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Wire { stream }
    }

    /// For receiving and sending.
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends FIN. A connection that is broken by then has nothing to send it on.
    pub(super) fn shutdown_write(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Whether bytes or the end wait: as a receive of one byte that takes nothing.
    pub(super) fn peek(&self) -> io::Result<usize> {
        self.stream.peek(&mut [0])
    }

    /// The failure that the system has latched, which tells it once.
    pub(super) fn take_failure(&self) -> Option<Fault> {
        match self.stream.take_error() {
            Ok(None) => None,
            Ok(Some(error)) | Err(error) => Some(fault(&error)),
        }
    }

    /// Receives and drops at most about `most` bytes; says how many are left of them.
    pub(super) fn drain(&self, most: &mut usize) -> Drained {
        let mut scratch = [0; 16 * 1024];
        while *most > 0 {
            match (&self.stream).read(&mut scratch) {
                Ok(0) => return Drained::End,
                Ok(bytes) => *most = most.saturating_sub(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Drained::Empty,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Drained::Failed(fault(&error)),
            }
        }
        Drained::More
    }

    /// Tells a receive of nothing from a reset that another call was told of: after a plain FIN the
    /// write side still stands, after a reset neither side does. To be believed only where this side
    /// has not ended.
    pub(super) fn is_hung_up(&self) -> bool {
        hung_up(&self.stream)
    }

    /// Sends a reset, at once where the system can do that while others are at the descriptor, when
    /// the last of them has left elsewhere.
    pub(super) fn reset(&self) {
        #[cfg(target_os = "linux")]
        if rustix::net::connect_unspec(&self.stream).is_ok() {
            return;
        }
        let linger = Some(std::time::Duration::ZERO);
        let _ = socket2::SockRef::from(&self.stream).set_linger(linger);
    }

    /// Reports the present state as the first event, and then every change.
    #[cfg(unix)]
    pub(super) fn register(
        self: &mut Arc<Self>,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let descriptor = self.stream.as_raw_fd();
        let mut source = mio::unix::SourceFd(&descriptor);
        match source.register(registry, token, interest) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                source.reregister(registry, token, interest)
            }
            result => result,
        }
    }

    #[cfg(unix)]
    pub(super) fn deregister(&self, registry: &Registry) {
        use std::os::fd::AsRawFd;
        let descriptor = self.stream.as_raw_fd();
        let _ = mio::unix::SourceFd(&descriptor).deregister(registry);
    }

    /// Where registering takes the stream for itself it is done once, before anyone shares it, for
    /// both directions; a call that would block arms it again.
    #[cfg(not(unix))]
    pub(super) fn register(
        self: &mut Arc<Self>,
        registry: &Registry,
        token: Token,
        _interest: Interest,
    ) -> io::Result<()> {
        match Arc::get_mut(self) {
            Some(wire) => {
                let both = Interest::READABLE | Interest::WRITABLE;
                wire.stream.register(registry, token, both)
            }
            None => Ok(()),
        }
    }

    /// The system does it when the descriptor is closed.
    #[cfg(not(unix))]
    pub(super) fn deregister(&self, _registry: &Registry) {}
}

#[cfg(target_os = "linux")]
fn hung_up(stream: &TcpStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut descriptors = [PollFd::new(stream, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut descriptors, Some(&at_once)) {
        Ok(_) => descriptors[0].revents().contains(PollFlags::HUP),
        Err(_) => false,
    }
}

/// Other systems raise it for a plain FIN too.
#[cfg(not(target_os = "linux"))]
fn hung_up(_stream: &TcpStream) -> bool {
    false
}

/// What the failure of a call on an established connection means.
pub(super) fn fault(error: &io::Error) -> Fault {
    let code = code(error);
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Fault::Reset(Some(code)),
        io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => Fault::Lost(code),
        _ => Fault::Io(code),
    }
}

/// The system's number of an error that came from a system call.
pub(super) fn code(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or_default()
}
