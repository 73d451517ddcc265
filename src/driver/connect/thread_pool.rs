//! A thread pool for work that blocks and cannot be stopped, such as a lookup by the system's resolver.
//!
//! Every connector has a quota, which limits how many of its tasks run at once. The pool takes waiting tasks from the
//! quotas in turn. So tasks wait only for tasks of the same quota, until the pool has no thread left.
//!
//! The pool starts threads on demand, and idle threads exit. Two threads start without delay. Another one starts if
//! every thread has been busy for [`SPAWN_DELAY`], or if a task has waited that long.
//!
//! A waiting task that is no longer wanted is never started. A running task cannot be stopped, so it keeps its thread.
//! After [`WRITE_OFF_AFTER`] an unwanted running task is written off: it no longer uses up the limit of its quota. At
//! most half of a pool's threads are written off. Some threads are reserved for quotas that have no running task. So a
//! quota whose tasks all hang cannot take the whole pool.

mod queue;

use std::cell::OnceCell;
use std::io;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use self::queue::{QueuedTask, QuotaQueue, RunningTask, TaskQueue, key};
use crate::driver::sys::clock;
use crate::driver::sys::errno::os_code;
use crate::driver::sys::lock_order::{RankedCondvar, RankedGuard, RankedMutex, rank};
use crate::driver::sys::log::log_debug;
use crate::driver::sys::sync::{thread, thread_local};
use crate::error::Fault;
use crate::process::ForkMark;

/// The number of threads that start without delay.
const CORE_THREADS: usize = 2;
/// The time for which a task waits before another thread is started for it.
const SPAWN_DELAY: Duration = Duration::from_millis(50);
/// The time after which an idle thread exits.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// The running time after which an unwanted task is written off.
const WRITE_OFF_AFTER: Duration = Duration::from_secs(5);
/// The interval at which unwanted tasks are removed from the queues.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

thread_local! {
    /// The process that started this thread, if this is a pool thread.
    static IS_WORKER: OnceCell<ForkMark> = const { OnceCell::new() };
}

/// Returns whether the calling thread belongs to a pool.
pub(crate) fn is_worker() -> bool {
    // In a forked child, the copy of a pool thread is an ordinary thread.
    IS_WORKER.try_with(|own| own.get().is_some_and(|mark| !mark.is_forked())).unwrap_or(false)
}

/// A piece of work for a pool.
pub(crate) trait Task: Send + Sync {
    /// Returns whether a caller still waits for the result. The pool may call this under its lock.
    fn is_wanted(&self) -> bool;
    /// Runs the task, unless no caller waits for the result. Must not panic.
    fn run(self: Arc<Self>);
}

/// The number of threads of each pool that one connector may use.
#[derive(Debug)]
pub(crate) struct LookupQuota {
    max: usize,
}

impl LookupQuota {
    /// Creates a quota that runs at most `max` tasks at once in each pool.
    pub(crate) fn new(max: usize) -> Self {
        LookupQuota { max }
    }
}

/// The limits of one pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The maximum number of threads.
    pub(crate) threads: usize,
    /// The number of threads that are reserved for quotas with no running task.
    pub(crate) reserved: usize,
    /// The maximum number of tasks that one quota runs at once. `None` means the quota's own limit.
    pub(crate) per_quota: Option<usize>,
    /// The number of threads that start without delay.
    pub(crate) core_threads: usize,
}

impl Limits {
    pub(crate) const fn threads(threads: usize) -> Self {
        Limits { threads, reserved: threads / 4, per_quota: None, core_threads: CORE_THREADS }
    }
}

/// A set of threads and the queue that they serve.
///
/// The lock guards the queue and the counts. The only lock that may be taken under it is the state lock of a socket, by
/// [`Task::is_wanted`].
#[derive(Debug)]
pub(crate) struct ThreadPool {
    limits: Limits,
    queue: RankedMutex<TaskQueue, { rank::LOOKUPS }>,
    /// Signals that a task may be runnable. Its lock is `queue`.
    work_available: RankedCondvar,
}

/// The result of submitting a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubmitResult {
    /// A thread takes the task at once.
    Started,
    /// The task waits. The event loop must call [`spawn_if_stalled`](ThreadPool::spawn_if_stalled).
    Queued,
    /// There is no thread, and none could be started.
    Failed(Fault),
}

/// The source of a thread that can take a task at once.
enum ThreadSource {
    Idle,
    Spawn,
}

impl ThreadPool {
    pub(crate) fn new(limits: Limits) -> Self {
        ThreadPool {
            limits,
            queue: RankedMutex::new(TaskQueue::default()),
            work_available: RankedCondvar::new(),
        }
    }

    /// Queues a task, which runs as soon as the limits of its quota and of the pool allow it.
    pub(crate) fn submit(
        &'static self,
        quota: &Arc<LookupQuota>,
        task: Weak<dyn Task>,
        now: Instant,
    ) -> SubmitResult {
        let mut held = Vec::new();
        let mut queue = self.lock();
        let source = self.find_thread(&mut queue, quota, now, &mut held);
        let submitted = self.add(&mut queue, quota, task, now, source);
        drop(queue);
        drop(held);
        submitted
    }

    /// Queues a task only if a thread can take it at once. Otherwise returns the task.
    pub(crate) fn submit_now(
        &'static self,
        quota: &Arc<LookupQuota>,
        task: Weak<dyn Task>,
        now: Instant,
    ) -> Result<SubmitResult, Weak<dyn Task>> {
        let mut held = Vec::new();
        let mut queue = self.lock();
        let submitted = match self.find_thread(&mut queue, quota, now, &mut held) {
            Some(source) => Ok(self.add(&mut queue, quota, task, now, Some(source))),
            None => Err(task),
        };
        drop(queue);
        drop(held);
        submitted
    }

    /// Starts threads for tasks that have waited for [`SPAWN_DELAY`], and writes off unwanted tasks that hang. Returns
    /// whether any task waits.
    pub(crate) fn spawn_if_stalled(&'static self, now: Instant) -> bool {
        let mut queue = self.lock();
        if queue.rotation.is_empty() {
            return false;
        }
        // Dropped after the lock is released, because these may be the last references to sockets.
        let mut held = Vec::new();
        self.write_off(&mut queue, now, &mut held);
        if queue.swept_at.is_none_or(|at| at + SWEEP_INTERVAL <= now) {
            queue.swept_at = Some(now);
            queue.sweep(&mut held);
        }
        let late = queue.rotation.iter().filter(|quota| {
            let quota_queue = &queue.quotas[*quota];
            let since = quota_queue.waiting.front().map(|(since, _)| *since);
            self.free_threads(&queue, quota_queue) > 0
                && since.is_some_and(|at| now.saturating_duration_since(at) >= SPAWN_DELAY)
        });
        let spare = queue.idle + queue.starting;
        let wanted = late.count().min(self.runnable(&queue).saturating_sub(spare));
        let capacity = self.limits.threads.saturating_sub(queue.threads);
        let mut started = Ok(());
        for _ in 0..wanted.min(capacity) {
            started = self.spawn_worker(&mut queue);
            if started.is_err() {
                break;
            }
        }
        if self.runnable(&queue) > 0 {
            // Idle threads may have missed that a quota is below its limit again.
            self.work_available.notify_all();
        }
        let waits = !queue.rotation.is_empty();
        drop(queue);
        drop(held);
        if let Err(error) = started {
            log_debug(format_args!("cannot start another thread for name lookups: {error}"));
        }
        waits
    }

    fn add(
        &'static self,
        queue: &mut TaskQueue,
        quota: &Arc<LookupQuota>,
        task: Weak<dyn Task>,
        now: Instant,
        source: Option<ThreadSource>,
    ) -> SubmitResult {
        queue.push(quota, task, now);
        match source {
            Some(ThreadSource::Idle) => {
                self.work_available.notify_one();
                SubmitResult::Started
            }
            Some(ThreadSource::Spawn) => match self.spawn_worker(queue) {
                Ok(()) => SubmitResult::Started,
                Err(_) if queue.threads > 0 => SubmitResult::Queued,
                Err(error) => {
                    queue.pop_last(quota);
                    SubmitResult::Failed(Fault::Io(os_code(&error)))
                }
            },
            None => SubmitResult::Queued,
        }
    }

    /// Returns the thread that could run another task of this quota at once, if there is one.
    fn find_thread(
        &self,
        queue: &mut TaskQueue,
        quota: &Arc<LookupQuota>,
        now: Instant,
        held: &mut Vec<Arc<dyn Task>>,
    ) -> Option<ThreadSource> {
        if !self.is_allowed(queue, quota) {
            self.write_off(queue, now, held);
            if !self.is_allowed(queue, quota) {
                return None;
            }
        }
        let ready = self.runnable(queue);
        if queue.idle + queue.starting > ready {
            return Some(ThreadSource::Idle);
        }
        let prompt = queue.threads < self.limits.core_threads || queue.is_stalled(now);
        (prompt && queue.threads < self.limits.threads).then_some(ThreadSource::Spawn)
    }

    /// Returns whether the limits allow another task of this quota to run now.
    fn is_allowed(&self, queue: &TaskQueue, quota: &Arc<LookupQuota>) -> bool {
        match queue.quotas.get(&key(quota)) {
            Some(quota_queue) => self.free_threads(queue, quota_queue) > quota_queue.waiting.len(),
            None => self.max_running(quota) > 0,
        }
    }

    /// Returns how many more tasks of this quota may run now.
    fn free_threads(&self, queue: &TaskQueue, quota_queue: &QuotaQueue) -> usize {
        let crowded = queue.running.len() >= self.limits.threads - self.limits.reserved;
        if crowded && quota_queue.running > 0 {
            return 0;
        }
        self.max_running(&quota_queue.quota).saturating_sub(quota_queue.counted)
    }

    /// Returns how many of the waiting tasks may run now.
    fn runnable(&self, queue: &TaskQueue) -> usize {
        let quotas = queue.rotation.iter().map(|quota| &queue.quotas[quota]);
        quotas
            .map(|quota_queue| quota_queue.waiting.len().min(self.free_threads(queue, quota_queue)))
            .sum()
    }

    fn max_running(&self, quota: &LookupQuota) -> usize {
        self.limits.per_quota.unwrap_or(quota.max)
    }

    /// Writes off unwanted tasks that have run for [`WRITE_OFF_AFTER`].
    fn write_off(&self, queue: &mut TaskQueue, now: Instant, held: &mut Vec<Arc<dyn Task>>) {
        let TaskQueue { running, quotas, written_off, .. } = queue;
        for one in running.iter_mut().filter(|one| !one.written_off) {
            if *written_off >= self.limits.threads / 2 {
                return;
            }
            let long = now.saturating_duration_since(one.since) >= WRITE_OFF_AFTER;
            if long && !one.task.is_wanted(held) {
                one.written_off = true;
                *written_off += 1;
                if let Some(quota_queue) = quotas.get_mut(&one.quota) {
                    quota_queue.counted -= 1;
                }
            }
        }
    }

    fn spawn_worker(&'static self, queue: &mut TaskQueue) -> io::Result<()> {
        thread::Builder::new().name("sockeye-names".to_owned()).spawn(move || self.run_worker())?;
        queue.threads += 1;
        queue.starting += 1;
        Ok(())
    }

    fn run_worker(&self) {
        if let Ok(mark) = ForkMark::new() {
            let _ = IS_WORKER.with(|own| own.set(mark));
        }
        let mut queue = self.lock();
        queue.starting -= 1;
        loop {
            while let Some((id, task)) = self.next(&mut queue) {
                drop(queue);
                if let Some(task) = task.0.upgrade() {
                    task.run();
                    if !is_worker() {
                        // A resolver forked, and its child returned here. The queue belongs to the parent.
                        return;
                    }
                }
                queue = self.lock();
                queue.task_done(id);
            }
            queue.idle += 1;
            let (back, timeout) = self
                .work_available
                .wait_timeout(queue, IDLE_TIMEOUT)
                .unwrap_or_else(PoisonError::into_inner);
            queue = back;
            queue.idle -= 1;
            if timeout.timed_out() && self.runnable(&queue) == 0 {
                queue.threads -= 1;
                return;
            }
        }
    }

    /// Takes the next runnable task, from the quotas in turn.
    fn next(&self, queue: &mut TaskQueue) -> Option<(u64, QueuedTask)> {
        let index = queue
            .rotation
            .iter()
            .position(|quota| self.free_threads(queue, &queue.quotas[quota]) > 0)?;
        let quota = queue.rotation.remove(index)?;
        let quota_queue = queue.quotas.get_mut(&quota)?;
        let (_, task) = quota_queue.waiting.pop_front()?;
        quota_queue.counted += 1;
        quota_queue.running += 1;
        if !quota_queue.waiting.is_empty() {
            queue.rotation.push_back(quota);
        }
        queue.last_id += 1;
        let id = queue.last_id;
        let running = QueuedTask(Weak::clone(&task.0));
        queue.running.push(RunningTask {
            id,
            quota,
            since: clock::now(),
            task: running,
            written_off: false,
        });
        Some((id, task))
    }

    fn lock(&self) -> RankedGuard<'_, TaskQueue, { rank::LOOKUPS }> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
