//! How another thread ends a caller's wait by poll(2).

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use super::system::{Happened, TcpStream};
use super::time::Timer;
use super::{preempt, wait};
use crate::driver::wait::Side;

/// Stands for an eventfd(2).
#[derive(Debug)]
pub(crate) struct Bell(Mutex<Rope>);

#[derive(Debug, Default)]
struct Rope {
    pulled: bool,
    listener: Option<Waker>,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Bell(Mutex::default()))
    }

    pub(crate) fn ring(&self) {
        preempt();
        let mut rope = self.rope();
        rope.pulled = true;
        if let Some(listener) = rope.listener.take() {
            listener.wake();
        }
    }

    pub(crate) fn hush(&self) {
        preempt();
        self.rope().pulled = false;
    }

    fn rope(&self) -> MutexGuard<'_, Rope> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands for poll(2): whether the stream is ready, and whether the bell rang.
pub(crate) fn either(
    stream: &TcpStream,
    side: Side,
    bell: &Bell,
    limit: Option<Duration>,
) -> io::Result<[bool; 2]> {
    let wanted = match side {
        Side::Read => Happened::IN,
        Side::Write => Happened::OUT,
    };
    let timer = Timer::after(limit);
    Ok(wait(|world, waker| {
        let connection = world.system.connection(stream.0);
        let ready = connection.look().told(wanted) != Happened::NOTHING;
        let mut rope = bell.rope();
        let late = timer.is_due(&mut world.time, waker);
        if ready || rope.pulled || late {
            return Some([ready, rope.pulled]);
        }
        rope.listener = Some(waker.clone());
        world.system.connection(stream.0).watchers.push(waker.clone());
        None
    }))
}
