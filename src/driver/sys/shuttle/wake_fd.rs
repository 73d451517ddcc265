//! The model of eventfd(2) and poll(2), with which one thread wakes another.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use super::poll_bits::PollBits;
use super::time::Timer;
use super::{wait, yield_point};
use crate::driver::sys::wake::Side;

/// A model of an eventfd(2).
#[derive(Debug)]
pub(crate) struct WakeFd(Mutex<WakeEvent>);

#[derive(Debug, Default)]
struct WakeEvent {
    is_set: bool,
    listener: Option<Waker>,
}

impl WakeFd {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(WakeFd(Mutex::default()))
    }

    pub(crate) fn notify(&self) {
        yield_point();
        let mut event = self.event();
        event.is_set = true;
        if let Some(listener) = event.listener.take() {
            listener.wake();
        }
    }

    pub(crate) fn clear(&self) {
        yield_point();
        self.event().is_set = false;
    }

    fn event(&self) -> MutexGuard<'_, WakeEvent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Models poll(2) on a socket and a wake descriptor. Returns which of them is ready.
pub(crate) fn poll_two(
    socket: &impl AsRawFd,
    side: Side,
    fd: &WakeFd,
    limit: Option<Duration>,
) -> io::Result<[bool; 2]> {
    let wanted = match side {
        Side::Read => PollBits::IN,
        Side::Write => PollBits::OUT,
    };
    let timer = Timer::after(limit);
    let descriptor = socket.as_raw_fd();
    Ok(wait(|world, waker| {
        let socket = world.system.socket(descriptor);
        let ready = socket.poll_bits().reported(wanted) != PollBits::NOTHING;
        let mut event = fd.event();
        let late = timer.is_due(&mut world.time, waker);
        if ready || event.is_set || late {
            return Some([ready, event.is_set]);
        }
        event.listener = Some(waker.clone());
        world.system.socket(descriptor).wakers.push(waker.clone());
        None
    }))
}
