//! Threads for what is not this crate's code and has nobody's own thread to run on: it must not run on the
//! loop, which it would stop for all sockets.
//!
//! Threads are started by need, up to a bound, and end when idle. Code that never returns keeps its thread; with
//! as many of these as there may be threads, the handshakes of other sockets with such code wait, each for as
//! long as it may, unless a thread that waits for one makes it itself.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::errno::os_code;
use super::shared::Connection;
use super::sync::{Condvar, Mutex, MutexGuard, thread};
use super::{LoopHandle, catch_panic, event_loop, log_debug};
use crate::error::Fault;

/// The most threads.
const MAX_THREADS: usize = 64;
/// The most threads that are started only to drop something. Drops are short, and come by thousands when many sockets
/// end at once.
const MAX_DROP_THREADS: usize = 2;
/// How long a thread without work stays.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Its lock guards the queue and the counts, for moments only. It may be taken under a socket's state lock, and none
/// is taken under it.
#[derive(Debug)]
pub(super) struct Workers {
    queue: Mutex<WorkQueue>,
    work_available: Condvar,
}

#[derive(Debug)]
struct WorkQueue {
    /// Of sockets each is here once at most.
    waiting: VecDeque<Work>,
    threads: usize,
    /// Of these, those that have nothing to do, or have not begun.
    idle: usize,
    /// The last one that was to be started was not.
    spawn_failed: bool,
}

/// What a worker does.
pub(super) enum Work {
    /// Begins the handshake of a socket, or takes in what came for it.
    DriveRecv(Arc<Connection>),
    /// Drops what is the program's.
    Drop(Box<dyn Any + Send>),
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Work::DriveRecv(_) => "Attend",
            Work::Drop(_) => "Drop",
        })
    }
}

impl Workers {
    pub(super) const fn new() -> Self {
        let queue =
            WorkQueue { waiting: VecDeque::new(), threads: 0, idle: 0, spawn_failed: false };
        Workers { queue: Mutex::new(queue), work_available: Condvar::new() }
    }

    /// Has it done. Where there is no thread for it, and none can be started, the socket fails.
    pub(super) fn submit(&'static self, work: Work) {
        let max = match work {
            Work::DriveRecv(_) => MAX_THREADS,
            Work::Drop(_) => MAX_DROP_THREADS,
        };
        let mut queue = self.lock();
        queue.waiting.push_back(work);
        if queue.idle >= queue.waiting.len() || queue.threads >= max {
            drop(queue);
            self.work_available.notify_one();
            return;
        }
        queue.threads += 1;
        queue.idle += 1;
        drop(queue);
        let started = thread::Builder::new()
            .name("sockeye-worker".to_owned())
            .spawn(move || self.run_worker());
        let mut queue = self.lock();
        queue.spawn_failed = started.is_err();
        let Err(error) = started else { return };
        queue.threads -= 1;
        queue.idle -= 1;
        if queue.threads > 0 {
            return;
        }
        let (failed, kept) = std::mem::take(&mut queue.waiting)
            .into_iter()
            .partition(|work| matches!(work, Work::DriveRecv(_)));
        // What is only to be dropped goes with whatever comes next.
        queue.waiting = kept;
        drop(queue);
        log_debug(format_args!("no thread could be started for a TLS handshake: {error}"));
        for work in failed {
            if let Work::DriveRecv(socket) = work {
                socket.on_worker_failed(Fault::Io(os_code(&error)));
            }
        }
    }

    /// Whether what is handed in now would wait for a thread.
    pub(super) fn is_busy(&self) -> bool {
        let queue = self.lock();
        let full = queue.spawn_failed || queue.threads >= MAX_THREADS;
        full && queue.idle <= queue.waiting.len()
    }

    /// Waits until there is nothing left to do, and nobody to do it.
    #[cfg(sockeye_shuttle)]
    pub(super) fn wait_idle(&self) {
        let mut queue = self.lock();
        while queue.threads > 0 || !queue.waiting.is_empty() {
            queue = self.work_available.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run_worker(&self) {
        let mut queue = self.lock();
        queue.idle -= 1;
        loop {
            while let Some(work) = queue.waiting.pop_front() {
                drop(queue);
                let again = catch_panic(|| work.run()).flatten();
                queue = self.lock();
                // Behind the others.
                queue.waiting.extend(again);
            }
            // There a run ends when nothing is left to do, and waits for no thread to be idle for long.
            if cfg!(sockeye_shuttle) {
                queue.threads -= 1;
                drop(queue);
                return self.work_available.notify_all();
            }
            queue.idle += 1;
            let (back, timeout) = self
                .work_available
                .wait_timeout(queue, IDLE_TIMEOUT)
                .unwrap_or_else(PoisonError::into_inner);
            queue = back;
            queue.idle -= 1;
            if timeout.timed_out() && queue.waiting.is_empty() {
                queue.threads -= 1;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, WorkQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    /// Gives back what is not done yet.
    fn run(self) -> Option<Work> {
        match self {
            Work::DriveRecv(socket) => {
                let more = socket.fail_on_panic(|| socket.run_worker_task());
                more.then_some(Work::DriveRecv(socket))
            }
            Work::Drop(value) => {
                drop(value);
                None
            }
        }
    }
}

/// Drops what may be the program's, or hold something that is: here, unless this is the loop.
pub(super) fn drop_off_loop<T: Send + 'static>(value: T) {
    if !event_loop::is_loop_thread() {
        catch_panic(|| drop(value));
        return;
    }
    match LoopHandle::get() {
        // What finds no thread waits for one.
        Ok(loop_handle) => loop_handle.workers().submit(Work::Drop(Box::new(value))),
        // Without a driver there is no loop either.
        Err(_) => drop(value),
    }
}
