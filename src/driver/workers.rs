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

use super::errno::code;
use super::shared::Shared;
use super::sync::{Condvar, Mutex, MutexGuard, thread};
use super::{Driver, event_loop, harmless, say};
use crate::error::Fault;

/// The most threads.
const THREADS_MOST: usize = 64;
/// The most threads that are started only to drop something. Drops are short, and come by thousands when many sockets
/// end at once.
const DROPPING_MOST: usize = 2;
/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(5);

/// Its lock guards the queue and the counts, for moments only. It may be taken under a socket's state lock, and none
/// is taken under it.
#[derive(Debug)]
pub(super) struct Workers {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Debug)]
struct Queue {
    /// Of sockets each is here once at most.
    waiting: VecDeque<Work>,
    threads: usize,
    /// Of these, those that have nothing to do, or have not begun.
    idle: usize,
    /// The last one that was to be started was not.
    short: bool,
}

/// What a worker does.
pub(super) enum Work {
    /// Begins the handshake of a socket, or takes in what came for it.
    Attend(Arc<Shared>),
    /// Drops what is the program's.
    Drop(Box<dyn Any + Send>),
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Work::Attend(_) => "Attend",
            Work::Drop(_) => "Drop",
        })
    }
}

impl Workers {
    pub(super) const fn new() -> Self {
        let queue = Queue { waiting: VecDeque::new(), threads: 0, idle: 0, short: false };
        Workers { queue: Mutex::new(queue), more: Condvar::new() }
    }

    /// Has it done. Where there is no thread for it, and none can be started, the socket fails.
    pub(super) fn submit(&'static self, work: Work) {
        let most = match work {
            Work::Attend(_) => THREADS_MOST,
            Work::Drop(_) => DROPPING_MOST,
        };
        let mut queue = self.lock();
        queue.waiting.push_back(work);
        if queue.idle >= queue.waiting.len() || queue.threads >= most {
            drop(queue);
            self.more.notify_one();
            return;
        }
        queue.threads += 1;
        queue.idle += 1;
        drop(queue);
        let started =
            thread::Builder::new().name("sockeye-worker".to_owned()).spawn(move || self.work());
        let mut queue = self.lock();
        queue.short = started.is_err();
        let Err(error) = started else { return };
        queue.threads -= 1;
        queue.idle -= 1;
        if queue.threads > 0 {
            return;
        }
        let (failed, kept) = std::mem::take(&mut queue.waiting)
            .into_iter()
            .partition(|work| matches!(work, Work::Attend(_)));
        // What is only to be dropped goes with whatever comes next.
        queue.waiting = kept;
        drop(queue);
        say(format_args!("no thread could be started for a TLS handshake: {error}"));
        for work in failed {
            if let Work::Attend(socket) = work {
                socket.not_worked(Fault::Io(code(&error)));
            }
        }
    }

    /// Whether what is handed in now would wait for a thread.
    pub(super) fn is_busy(&self) -> bool {
        let queue = self.lock();
        let full = queue.short || queue.threads >= THREADS_MOST;
        full && queue.idle <= queue.waiting.len()
    }

    /// Waits until there is nothing left to do, and nobody to do it.
    #[cfg(sockeye_shuttle)]
    pub(super) fn await_end(&self) {
        let mut queue = self.lock();
        while queue.threads > 0 || !queue.waiting.is_empty() {
            queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self) {
        let mut queue = self.lock();
        queue.idle -= 1;
        loop {
            while let Some(work) = queue.waiting.pop_front() {
                drop(queue);
                let again = harmless(|| work.carry_out()).flatten();
                queue = self.lock();
                // Behind the others.
                queue.waiting.extend(again);
            }
            // There a run ends when nothing is left to do, and waits for no thread to be idle for long.
            if cfg!(sockeye_shuttle) {
                queue.threads -= 1;
                drop(queue);
                return self.more.notify_all();
            }
            queue.idle += 1;
            let (back, timeout) =
                self.more.wait_timeout(queue, IDLE).unwrap_or_else(PoisonError::into_inner);
            queue = back;
            queue.idle -= 1;
            if timeout.timed_out() && queue.waiting.is_empty() {
                queue.threads -= 1;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    /// Gives back what is not done yet.
    fn carry_out(self) -> Option<Work> {
        match self {
            Work::Attend(socket) => {
                let more = socket.fail_on_panic(|| socket.work());
                more.then_some(Work::Attend(socket))
            }
            Work::Drop(value) => {
                drop(value);
                None
            }
        }
    }
}

/// Drops what may be the program's, or hold something that is: here, unless this is the loop.
pub(super) fn discard<T: Send + 'static>(value: T) {
    if !event_loop::is_this_thread() {
        harmless(|| drop(value));
        return;
    }
    match Driver::running() {
        // What finds no thread waits for one.
        Ok(driver) => driver.workers().submit(Work::Drop(Box::new(value))),
        // Without a driver there is no loop either.
        Err(_) => drop(value),
    }
}
