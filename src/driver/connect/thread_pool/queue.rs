//! The queue of a thread pool: waiting and running tasks, by quota.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::{LookupQuota, SPAWN_DELAY, Task};
use crate::driver::sys::sync::HashMap;

#[derive(Debug, Default)]
pub(super) struct TaskQueue {
    /// The quotas that have waiting or running tasks, keyed by the address of the `LookupQuota`. The `Arc` in the value
    /// keeps that address in use.
    pub(super) quotas: HashMap<usize, QuotaQueue>,
    /// The quotas that have waiting tasks. The first quota is served next.
    pub(super) rotation: VecDeque<usize>,
    pub(super) running: Vec<RunningTask>,
    /// The id of the task that started last.
    pub(super) last_id: u64,
    pub(super) threads: usize,
    /// The number of threads that have been spawned and have not yet looked for work.
    pub(super) starting: usize,
    pub(super) idle: usize,
    /// The number of tasks in `running` that are written off.
    pub(super) written_off: usize,
    pub(super) swept_at: Option<Instant>,
}

/// The tasks of one quota.
#[derive(Debug)]
pub(super) struct QuotaQueue {
    pub(super) quota: Arc<LookupQuota>,
    /// Tasks in order of arrival. The number of connecting sockets bounds this queue, and unwanted tasks are swept out.
    pub(super) waiting: VecDeque<(Instant, QueuedTask)>,
    /// The number of running tasks that are not written off.
    pub(super) counted: usize,
    /// The number of running tasks.
    pub(super) running: usize,
}

pub(super) struct QueuedTask(pub(super) Weak<dyn Task>);

#[derive(Debug)]
pub(super) struct RunningTask {
    pub(super) id: u64,
    pub(super) quota: usize,
    pub(super) since: Instant,
    pub(super) task: QueuedTask,
    pub(super) written_off: bool,
}

impl TaskQueue {
    pub(super) fn push(&mut self, quota: &Arc<LookupQuota>, task: Weak<dyn Task>, now: Instant) {
        let quota_queue = self.quotas.entry(key(quota)).or_insert_with(|| QuotaQueue {
            quota: Arc::clone(quota),
            waiting: VecDeque::new(),
            counted: 0,
            running: 0,
        });
        if quota_queue.waiting.is_empty() {
            self.rotation.push_back(key(quota));
        }
        quota_queue.waiting.push_back((now, QueuedTask(task)));
    }

    /// Removes the task that was pushed last.
    pub(super) fn pop_last(&mut self, quota: &Arc<LookupQuota>) {
        if let Some(quota_queue) = self.quotas.get_mut(&key(quota)) {
            quota_queue.waiting.pop_back();
        }
        self.remove_empty();
    }

    pub(super) fn task_done(&mut self, id: u64) {
        let Some(index) = self.running.iter().position(|one| one.id == id) else { return };
        let RunningTask { quota, written_off, .. } = self.running.swap_remove(index);
        self.written_off -= usize::from(written_off);
        if let Some(quota_queue) = self.quotas.get_mut(&quota) {
            quota_queue.running -= 1;
            quota_queue.counted -= usize::from(!written_off);
            if quota_queue.running == 0 && quota_queue.waiting.is_empty() {
                self.quotas.remove(&quota);
            }
        }
    }

    /// Removes waiting tasks that are no longer wanted.
    pub(super) fn sweep(&mut self, held: &mut Vec<Arc<dyn Task>>) {
        for quota in &self.rotation {
            if let Some(quota_queue) = self.quotas.get_mut(quota) {
                quota_queue.waiting.retain(|(_, task)| task.is_wanted(held));
            }
        }
        self.remove_empty();
    }

    /// Removes quotas that have no waiting and no running task.
    pub(super) fn remove_empty(&mut self) {
        let quotas = &self.quotas;
        self.rotation.retain(|quota| !quotas[quota].waiting.is_empty());
        self.quotas
            .retain(|_, quota_queue| quota_queue.running > 0 || !quota_queue.waiting.is_empty());
    }

    /// Returns whether no thread is likely to become free soon: none is starting, and every running task has run for
    /// [`SPAWN_DELAY`].
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        let old = |one: &RunningTask| now.saturating_duration_since(one.since) >= SPAWN_DELAY;
        self.starting == 0 && self.running.iter().all(old)
    }
}

impl QueuedTask {
    /// Returns whether the task is wanted. Pushes the upgraded reference to `held`, because only a caller without the
    /// lock may drop it.
    pub(super) fn is_wanted(&self, held: &mut Vec<Arc<dyn Task>>) -> bool {
        let Some(task) = self.0.upgrade() else { return false };
        let wanted = task.is_wanted();
        held.push(task);
        wanted
    }
}

impl fmt::Debug for QueuedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueuedTask")
    }
}

pub(super) fn key(quota: &Arc<LookupQuota>) -> usize {
    Arc::as_ptr(quota).addr()
}
