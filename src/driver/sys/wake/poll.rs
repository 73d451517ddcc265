//! The handle of a thread that waits in poll(2).

use std::cell::RefCell;

#[cfg(not(sockeye_shuttle))]
use mio::net::TcpStream;
#[cfg(not(sockeye_shuttle))]
use rustix::event::{PollFd, PollFlags, Timespec, poll};

#[cfg(all(any(target_os = "linux", target_os = "android"), not(sockeye_shuttle)))]
use super::eventfd::WakeFd;
#[cfg(not(any(target_os = "linux", target_os = "android", sockeye_shuttle)))]
use super::socket_pair::WakeFd;
use super::{Arc, Duration, PollResult, Side, Wire, io};
#[cfg(sockeye_shuttle)]
use crate::driver::sys::shuttle::{WakeFd, poll_two};
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
