//! The handle with which one thread ends another thread's wait in poll(2), and the sides of a socket.
//!
//! On Unix the caller's thread polls two descriptors: the wire, and a wake handle that belongs to the thread. On other
//! systems, or if no handle can be created, [`WakeHandle::current`] returns `None`. The caller then waits on the
//! socket's condition variable, and the event loop monitors the wire for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::wire::Wire;

/// The direction for which a thread waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Read,
    Write,
}

/// The reason why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(all(unix, not(sockeye_condvar))),
    expect(dead_code, reason = "without a wake handle no thread polls")
)]
pub(crate) enum PollResult {
    /// The wire is ready.
    Ready,
    /// The wire may not be ready: another thread woke this one, the time limit passed, or the wake-up was spurious.
    Recheck,
}

#[cfg(not(all(unix, not(sockeye_condvar))))]
pub(crate) use self::none::WakeHandle;
#[cfg(all(unix, not(sockeye_condvar)))]
pub(crate) use self::poll::WakeHandle;

#[cfg(all(unix, not(sockeye_condvar)))]
mod poll {
    use std::cell::RefCell;

    #[cfg(not(sockeye_shuttle))]
    use mio::net::TcpStream;
    #[cfg(not(sockeye_shuttle))]
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use self::wake_fd::WakeFd;
    use super::{Arc, Duration, PollResult, Side, Wire, io};
    use crate::driver::sys::sync::thread_local;
    use crate::process::ForkMark;

    /// Ends the waits of the thread that owns it. A waking thread must hold a reference, because the descriptor's
    /// number is reused after it is closed.
    #[derive(Debug)]
    pub(crate) struct WakeHandle {
        fd: WakeFd,
        /// The process that created the descriptor. After a fork the parent has it too, and would receive wake-ups for
        /// the child.
        mark: ForkMark,
    }

    thread_local! {
        static CURRENT: RefCell<Option<Arc<WakeHandle>>> = const { RefCell::new(None) };
    }

    impl WakeHandle {
        /// Returns the calling thread's handle. `None` if no descriptor is left or the thread is exiting.
        pub(crate) fn current() -> Option<Arc<Self>> {
            CURRENT
                .try_with(|own| {
                    let mut own = own.borrow_mut();
                    if let Some(handle) = own.as_ref().filter(|handle| !handle.mark.is_forked()) {
                        return Some(Arc::clone(handle));
                    }
                    let (fd, mark) = (WakeFd::new().ok()?, ForkMark::new().ok()?);
                    Some(Arc::clone(own.insert(Arc::new(WakeHandle { fd, mark }))))
                })
                .ok()
                .flatten()
        }

        pub(crate) fn wake(&self) {
            self.fd.notify();
        }

        /// Waits until the wire is ready, `wake` is called or `limit` passes. Only the owning thread may call this. An
        /// earlier wake-up ends the wait at once.
        pub(crate) fn wait(
            &self,
            wire: &Wire,
            side: Side,
            limit: Option<Duration>,
        ) -> io::Result<PollResult> {
            match poll_two(wire.stream(), side, &self.fd, limit) {
                Ok([_, true]) => {
                    self.fd.clear();
                    Ok(PollResult::Recheck)
                }
                Ok([true, false]) => Ok(PollResult::Ready),
                Ok([false, false]) => Ok(PollResult::Recheck),
                // Some systems return EAGAIN if memory is short for a moment.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                    ) =>
                {
                    Ok(PollResult::Recheck)
                }
                Err(error) => Err(error),
            }
        }
    }

    #[cfg(sockeye_shuttle)]
    use crate::driver::sys::shuttle::{self as wake_fd, poll_two};

    /// Polls the stream and the wake descriptor. Returns which of them is ready.
    #[cfg(not(sockeye_shuttle))]
    #[inline]
    fn poll_two(
        stream: &TcpStream,
        side: Side,
        fd: &WakeFd,
        limit: Option<Duration>,
    ) -> io::Result<[bool; 2]> {
        let wanted = match side {
            Side::Read => PollFlags::IN,
            Side::Write => PollFlags::OUT,
        };
        let mut descriptors =
            [PollFd::new(stream, wanted), PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
        // A limit that does not fit a `timespec` is treated as none.
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        poll(&mut descriptors, limit.as_ref())?;
        Ok(descriptors.map(|descriptor| !descriptor.revents().is_empty()))
    }

    #[cfg(all(any(target_os = "linux", target_os = "android"), not(sockeye_shuttle)))]
    mod wake_fd {
        use rustix::event::{EventfdFlags, eventfd};
        use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

        #[derive(Debug)]
        pub(super) struct WakeFd(OwnedFd);

        impl WakeFd {
            pub(super) fn new() -> rustix::io::Result<Self> {
                eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(WakeFd)
            }

            pub(super) fn notify(&self) {
                let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
            }

            pub(super) fn clear(&self) {
                let _ = rustix::io::read(&self.0, &mut [0; 8]);
            }

            pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", sockeye_shuttle)))]
    mod wake_fd {
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
    }
}

#[cfg(not(all(unix, not(sockeye_condvar))))]
mod none {
    use super::{Arc, Duration, PollResult, Side, Wire, io};

    /// A handle that never exists.
    #[derive(Debug)]
    pub(crate) enum WakeHandle {}

    impl WakeHandle {
        pub(crate) fn current() -> Option<Arc<Self>> {
            None
        }

        pub(crate) fn wake(&self) {
            match *self {}
        }

        pub(crate) fn wait(
            &self,
            _wire: &Wire,
            _side: Side,
            _limit: Option<Duration>,
        ) -> io::Result<PollResult> {
            match *self {}
        }
    }
}
