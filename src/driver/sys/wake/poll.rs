//! The handle of a thread that waits in poll(2).

use std::cell::RefCell;

#[cfg(not(sockeye_shuttle))]
use rustix::event::{PollFd, PollFlags, Timespec, poll};
#[cfg(not(sockeye_shuttle))]
use rustix::fd::AsFd;

#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(sockeye_bsd, sockeye_shuttle))
))]
use super::eventfd::WakeFd;
#[cfg(all(
    any(sockeye_bsd, not(any(target_os = "linux", target_os = "android"))),
    not(sockeye_shuttle)
))]
use super::socket_pair::WakeFd;
use super::{Arc, Duration, PollResult, Side, Wire, io};
#[cfg(not(sockeye_shuttle))]
use crate::driver::sys::clock::MAX_WAIT;
use crate::driver::sys::listen::ListenSocket;
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
        self.wait_result(poll_two(wire.stream(), side, &self.fd, limit))
    }

    /// [Waits](Self::wait) until a connection can be accepted.
    pub(crate) fn wait_for_connection(
        &self,
        listener: &ListenSocket,
        limit: Option<Duration>,
    ) -> io::Result<PollResult> {
        self.wait_result(poll_two(listener.listener(), Side::Read, &self.fd, limit))
    }

    fn wait_result(&self, polled: io::Result<[bool; 2]>) -> io::Result<PollResult> {
        match polled {
            Ok([_, true]) => {
                self.fd.clear();
                Ok(PollResult::Recheck)
            }
            Ok([true, false]) => Ok(PollResult::Ready),
            Ok([false, false]) => Ok(PollResult::Recheck),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(PollResult::Recheck),
            // Such as EAGAIN, which some systems return if memory is short. Polling again at once would spin.
            Err(error) => Err(error),
        }
    }
}

/// Polls a socket and the wake descriptor. Returns which of them is ready.
#[cfg(not(sockeye_shuttle))]
#[inline]
fn poll_two(
    socket: &impl AsFd,
    side: Side,
    fd: &WakeFd,
    limit: Option<Duration>,
) -> io::Result<[bool; 2]> {
    let wanted = match side {
        Side::Read => PollFlags::IN,
        Side::Write => PollFlags::OUT,
    };
    let mut descriptors =
        [PollFd::new(socket, wanted), PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    let limit = limit.map(poll_limit);
    poll(&mut descriptors, limit.as_ref())?;
    Ok(descriptors.map(|descriptor| !descriptor.revents().is_empty()))
}

#[cfg(not(sockeye_shuttle))]
fn poll_limit(limit: Duration) -> Timespec {
    Timespec::try_from(limit.min(MAX_WAIT)).expect("a day fits")
}

#[cfg(all(test, not(sockeye_shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_limit_never_exceeds_what_every_system_polls_for() {
        let longest = Duration::from_millis(i32::MAX.unsigned_abs().into());
        for limit in [longest, longest + Duration::from_millis(1), Duration::MAX] {
            let limit = poll_limit(limit);
            assert_eq!(Duration::try_from(limit).ok(), Some(MAX_WAIT));
            assert!(MAX_WAIT < longest);
        }
        let short = Duration::new(1, 7);
        assert_eq!(Duration::try_from(poll_limit(short)).ok(), Some(short));
    }
}
