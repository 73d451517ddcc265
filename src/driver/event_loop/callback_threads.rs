//! Threads for callbacks of the program that have no caller's thread to run on. On the event loop, a callback could block
//! all sockets.
//!
//! Threads start on demand, up to a bound, and exit when idle. Code that never returns keeps its thread. If such code
//! occupies all threads, the handshakes of other sockets that run foreign code wait, each up to its own limit. A caller
//! that waits for such a handshake drives it itself.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::driver::sys;
use crate::driver::sys::errno::os_code;
use crate::driver::sys::lock_order::{RankedCondvar, RankedGuard, RankedMutex, rank};
use crate::driver::sys::log::log_debug;
use crate::driver::sys::sync::thread;
use crate::error::Fault;
use crate::panic::catch_panic;

/// The maximum number of threads.
const MAX_THREADS: usize = 64;
/// The maximum number of threads that are started for drops. Drops are short, and come by the thousands if many sockets
/// end at once.
const MAX_DROP_THREADS: usize = 2;
/// The time after which an idle thread exits.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A task that may run callbacks of the program.
pub(crate) trait CallbackTask: Send + Sync {
    /// Runs the task. Returns whether there is more to do.
    fn run(self: Arc<Self>) -> bool;
    /// Fails, because no thread could be started.
    fn on_spawn_failed(self: Arc<Self>, fault: Fault);
}

/// The threads and their queue.
///
/// The lock guards the queue and the counts, and is held briefly. It may be taken under a socket's state lock, and no
/// lock is taken under it.
#[derive(Debug)]
pub(crate) struct CallbackThreads {
    queue: RankedMutex<WorkQueue, { rank::UNDER_STATE }>,
    work_available: RankedCondvar,
}

#[derive(Debug)]
struct WorkQueue {
    /// Work that waits for a thread. Each task is in here at most once.
    waiting: VecDeque<Work>,
    threads: usize,
    /// The number of these threads that have no work or have not begun.
    idle: usize,
    /// Whether the last attempt to start a thread failed.
    spawn_failed: bool,
}

/// Work for one of the threads.
pub(crate) enum Work {
    Task(Arc<dyn CallbackTask>),
    /// Drops a value of the program's.
    Drop(Box<dyn Any + Send>),
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Work::Task(_) => "Task",
            Work::Drop(_) => "Drop",
        })
    }
}

impl CallbackThreads {
    pub(crate) const fn new() -> Self {
        let queue =
            WorkQueue { waiting: VecDeque::new(), threads: 0, idle: 0, spawn_failed: false };
        CallbackThreads { queue: RankedMutex::new(queue), work_available: RankedCondvar::new() }
    }

    /// Queues work. If there is no thread for it, and none can be started, the task fails.
    pub(crate) fn submit(&'static self, work: Work) {
        let max = match work {
            Work::Task(_) => MAX_THREADS,
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
            .partition(|work| matches!(work, Work::Task(_)));
        // Values to drop stay queued until a later submission starts a thread.
        queue.waiting = kept;
        drop(queue);
        log_debug(format_args!("cannot start a thread for a TLS handshake: {error}"));
        for work in failed {
            if let Work::Task(task) = work {
                task.on_spawn_failed(Fault::Io(os_code(&error)));
            }
        }
    }

    /// Returns whether work that is submitted now would wait for a thread.
    pub(crate) fn is_busy(&self) -> bool {
        let queue = self.lock();
        let full = queue.spawn_failed || queue.threads >= MAX_THREADS;
        full && queue.idle <= queue.waiting.len()
    }

    /// Waits until the queue is empty and all threads have exited.
    pub(crate) fn wait_idle(&self) {
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
                // Unfinished work goes to the end of the queue.
                queue.waiting.extend(again);
            }
            // A model run ends when no work is left, so its threads exit at once.
            if sys::IS_MODEL {
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

    fn lock(&self) -> RankedGuard<'_, WorkQueue, { rank::UNDER_STATE }> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    /// Runs the work. Returns it if it is not finished.
    fn run(self) -> Option<Work> {
        match self {
            Work::Task(task) => Arc::clone(&task).run().then_some(Work::Task(task)),
            Work::Drop(value) => {
                drop(value);
                None
            }
        }
    }
}
