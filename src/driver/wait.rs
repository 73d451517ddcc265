//! How a thread waits for its wire, and how another ends that wait.
//!
//! Where poll(2) is, the caller's thread waits with it on two descriptors: the wire, and a wake
//! handle that belongs to the thread. Elsewhere, and where no handle can be had, there is
//! [none](WakeHandle::of_this_thread), and the caller waits on the socket's condition variable while
//! the loop watches the wire for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::wire::Wire;

/// What a thread waits to be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Read,
    Write,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(all(unix, not(sockeye_condvar))),
    expect(dead_code, reason = "a handle that can't be had can't wait")
)]
pub(super) enum Waited {
    /// The wire is ready.
    Ready,
    /// The wire may not be: another thread woke this one, or the time is over, or neither.
    Look,
}

#[cfg(not(all(unix, not(sockeye_condvar))))]
pub(super) use self::by_condvar::WakeHandle;
#[cfg(all(unix, not(sockeye_condvar)))]
pub(super) use self::by_poll::WakeHandle;

#[cfg(all(unix, not(sockeye_condvar)))]
mod by_poll {
    use std::cell::RefCell;

    #[cfg(not(sockeye_shuttle))]
    use mio::net::TcpStream;
    #[cfg(not(sockeye_shuttle))]
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use self::bell::Bell;
    use super::{Arc, Duration, Side, Waited, Wire, io};
    use crate::driver::sync::thread_local;
    use crate::process::ForkMark;

    /// Ends the waits of the thread that it belongs to. Whoever wakes keeps it alive while doing so,
    /// as its descriptor's number is another's when it is closed.
    #[derive(Debug)]
    pub(in super::super) struct WakeHandle {
        bell: Bell,
        /// The parent of a forked child has the descriptor too, and would hear what is meant for the child.
        mark: ForkMark,
    }

    thread_local! {
        static OWN: RefCell<Option<Arc<WakeHandle>>> = const { RefCell::new(None) };
    }

    impl WakeHandle {
        /// None where there are no descriptors left, or the thread is ending.
        pub(in super::super) fn of_this_thread() -> Option<Arc<Self>> {
            OWN.try_with(|own| {
                let mut own = own.borrow_mut();
                if let Some(handle) = own.as_ref().filter(|handle| !handle.mark.is_forked()) {
                    return Some(Arc::clone(handle));
                }
                let (bell, mark) = (Bell::new().ok()?, ForkMark::new().ok()?);
                Some(Arc::clone(own.insert(Arc::new(WakeHandle { bell, mark }))))
            })
            .ok()
            .flatten()
        }

        pub(in super::super) fn wake(&self) {
            self.bell.ring();
        }

        /// Waits, called by the thread that the handle belongs to. A wake-up that came before it
        /// ends it at once.
        pub(in super::super) fn wait(
            &self,
            wire: &Wire,
            side: Side,
            limit: Option<Duration>,
        ) -> io::Result<Waited> {
            match either(wire.stream(), side, &self.bell, limit) {
                Ok([_, true]) => {
                    self.bell.hush();
                    Ok(Waited::Look)
                }
                Ok([true, false]) => Ok(Waited::Ready),
                Ok([false, false]) => Ok(Waited::Look),
                // Some systems say the second where memory is short for a moment.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                    ) =>
                {
                    Ok(Waited::Look)
                }
                Err(error) => Err(error),
            }
        }
    }

    #[cfg(sockeye_shuttle)]
    use crate::driver::model::{self as bell, either};

    /// Waits for the stream and for the bell, and says which of them has something.
    #[cfg(not(sockeye_shuttle))]
    #[inline]
    fn either(
        stream: &TcpStream,
        side: Side,
        bell: &Bell,
        limit: Option<Duration>,
    ) -> io::Result<[bool; 2]> {
        let wanted = match side {
            Side::Read => PollFlags::IN,
            Side::Write => PollFlags::OUT,
        };
        let mut descriptors =
            [PollFd::new(stream, wanted), PollFd::from_borrowed_fd(bell.heard_at(), PollFlags::IN)];
        // A limit that the system can't count to is none.
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        poll(&mut descriptors, limit.as_ref())?;
        Ok(descriptors.map(|descriptor| !descriptor.revents().is_empty()))
    }

    #[cfg(all(any(target_os = "linux", target_os = "android"), not(sockeye_shuttle)))]
    mod bell {
        use rustix::event::{EventfdFlags, eventfd};
        use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

        #[derive(Debug)]
        pub(super) struct Bell(OwnedFd);

        impl Bell {
            pub(super) fn new() -> rustix::io::Result<Self> {
                eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Bell)
            }

            pub(super) fn ring(&self) {
                let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
            }

            pub(super) fn hush(&self) {
                let _ = rustix::io::read(&self.0, &mut [0; 8]);
            }

            pub(super) fn heard_at(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", sockeye_shuttle)))]
    mod bell {
        use std::io::{Read, Write};
        use std::os::fd::{AsFd, BorrowedFd};
        use std::os::unix::net::UnixStream;

        #[derive(Debug)]
        pub(super) struct Bell {
            near: UnixStream,
            far: UnixStream,
        }

        impl Bell {
            pub(super) fn new() -> std::io::Result<Self> {
                let (near, far) = UnixStream::pair()?;
                near.set_nonblocking(true)?;
                far.set_nonblocking(true)?;
                Ok(Bell { near, far })
            }

            /// A full buffer rings loud enough.
            pub(super) fn ring(&self) {
                let _ = (&self.far).write(&[1]);
            }

            pub(super) fn hush(&self) {
                while matches!((&self.near).read(&mut [0; 64]), Ok(64)) {}
            }

            pub(super) fn heard_at(&self) -> BorrowedFd<'_> {
                self.near.as_fd()
            }
        }
    }
}

#[cfg(not(all(unix, not(sockeye_condvar))))]
mod by_condvar {
    use super::{Arc, Duration, Side, Waited, Wire, io};

    /// There is none.
    #[derive(Debug)]
    pub(in super::super) enum WakeHandle {}

    impl WakeHandle {
        pub(in super::super) fn of_this_thread() -> Option<Arc<Self>> {
            None
        }

        pub(in super::super) fn wake(&self) {
            match *self {}
        }

        pub(in super::super) fn wait(
            &self,
            _wire: &Wire,
            _side: Side,
            _limit: Option<Duration>,
        ) -> io::Result<Waited> {
            match *self {}
        }
    }
}
