//! Threads for work that blocks and that cannot be stopped, such as a lookup by the system's resolver.
//!
//! A pool serves shares, one for each connector. A share has a limit of its own, and waiting tasks are taken in
//! turn by share. So the tasks of one share wait for each other, and never for those of another share, until the
//! pool has no thread left.
//!
//! Threads are started on demand and end when idle. Two start at once. A further one starts if every thread
//! has been busy for [`PATIENCE`], or if a task has waited that long.
//!
//! A task that nobody wants any more is not begun. One that has begun cannot be stopped. Its thread stays busy,
//! but after [`FORGIVEN_AFTER`] it no longer counts towards the limit of its share. At most half of a pool's
//! threads are written off like this, and the last of them serve only shares that have no thread. So a
//! share whose tasks all hang cannot take the whole pool.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::clock;
use super::errno::code;
use super::say;
use super::sync::{Condvar, HashMap, Mutex, MutexGuard, thread, thread_local};
use crate::error::Fault;
use crate::process::ForkMark;

/// The threads that start without delay.
const THREADS_AT_ONCE: usize = 2;
/// How long a task waits before another thread is started for it.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(5);
/// After how long an unwanted task no longer counts towards its share's limit.
const FORGIVEN_AFTER: Duration = Duration::from_secs(5);
/// How often tasks that nobody wants any more are taken out of the queues.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

thread_local! {
    /// In a thread of a pool, the process whose pool it is.
    static IS_WORKER: OnceCell<ForkMark> = const { OnceCell::new() };
}

/// Returns whether the calling thread belongs to a pool.
pub(super) fn is_worker() -> bool {
    // The copy of one in a forked child is an ordinary thread.
    IS_WORKER.try_with(|own| own.get().is_some_and(|mark| !mark.is_forked())).unwrap_or(false)
}

/// A piece of work for a pool.
pub(super) trait Task: Send + Sync {
    /// Returns whether anybody waits for it. May be called under the pool's lock.
    fn is_wanted(&self) -> bool;
    /// Does it. A panic must not leave this.
    fn run(self: Arc<Self>);
}

/// The part of the pools that one connector may use.
#[derive(Debug)]
pub(crate) struct Share {
    most: usize,
}

impl Share {
    /// A share that runs at most this many tasks at once, in each pool.
    pub(crate) fn new(most: usize) -> Self {
        Share { most }
    }

    /// The same share in a forked child, where nothing of it runs.
    pub(super) fn renewed(&self) -> Self {
        Share { most: self.most }
    }
}

/// The limits of one pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The most threads.
    pub(super) threads: usize,
    /// The threads that serve only shares that have none.
    pub(super) reserved: usize,
    /// The most tasks of one share at once, if not by the share's own limit.
    pub(super) per_share: Option<usize>,
    /// The threads that are started without waiting for a busy one.
    pub(super) at_once: usize,
}

impl Limits {
    pub(super) const fn threads(threads: usize) -> Self {
        Limits { threads, reserved: threads / 4, per_share: None, at_once: THREADS_AT_ONCE }
    }
}

/// Its lock guards the queue and the counts. Under it only [`Task::is_wanted`] takes another lock, the state lock of
/// a socket.
#[derive(Debug)]
pub(super) struct Pool {
    limits: Limits,
    queue: Mutex<Queue>,
    /// With `queue`: there is work.
    more: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// The shares with tasks that wait or run, by the address of the share, which the line keeps.
    lines: HashMap<usize, Line>,
    /// The shares with tasks that wait. The first is served next.
    turns: VecDeque<usize>,
    running: Vec<Running>,
    /// Names the next task that runs.
    serial: u64,
    threads: usize,
    /// Threads that have not looked for work yet.
    starting: usize,
    idle: usize,
    /// Tasks of `running` that no longer count.
    forgiven: usize,
    swept_at: Option<Instant>,
}

/// The tasks of one share.
#[derive(Debug)]
struct Line {
    share: Arc<Share>,
    /// Bounded by the number of sockets that connect. What is unwanted is swept out.
    waiting: VecDeque<(Instant, Queued)>,
    /// Tasks that run and count.
    counted: usize,
    /// Tasks that run.
    running: usize,
}

struct Queued(Weak<dyn Task>);

#[derive(Debug)]
struct Running {
    serial: u64,
    share: usize,
    since: Instant,
    task: Queued,
    forgiven: bool,
}

/// What became of a task that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Submitted {
    /// A thread takes it at once.
    Taken,
    /// It waits. The loop has to [tend](Pool::tend) the pool.
    Waits,
    /// There is no thread, and none can be started.
    Failed(Fault),
}

/// How a task gets a thread at once.
enum Room {
    Idle,
    Start,
}

impl Pool {
    pub(super) fn new(limits: Limits) -> Self {
        Pool { limits, queue: Mutex::new(Queue::default()), more: Condvar::new() }
    }

    /// Takes a task in, to run as soon as its share's limit and the pool allow it.
    pub(super) fn submit(
        &'static self,
        share: &Arc<Share>,
        task: Weak<dyn Task>,
        now: Instant,
    ) -> Submitted {
        let mut held = Vec::new();
        let mut queue = self.lock();
        let room = self.room(&mut queue, share, now, &mut held);
        let submitted = self.add(&mut queue, share, task, now, room);
        drop(queue);
        drop(held);
        submitted
    }

    /// Takes a task in if it need not wait; otherwise gives it back.
    pub(super) fn submit_now(
        &'static self,
        share: &Arc<Share>,
        task: Weak<dyn Task>,
        now: Instant,
    ) -> Result<Submitted, Weak<dyn Task>> {
        let mut held = Vec::new();
        let mut queue = self.lock();
        let submitted = match self.room(&mut queue, share, now, &mut held) {
            Some(room) => Ok(self.add(&mut queue, share, task, now, Some(room))),
            None => Err(task),
        };
        drop(queue);
        drop(held);
        submitted
    }

    /// Starts threads for tasks that have waited long, and writes off those that hang for nobody. Returns whether any
    /// task waits.
    pub(super) fn tend(&'static self, now: Instant) -> bool {
        let mut queue = self.lock();
        if queue.turns.is_empty() {
            return false;
        }
        // Dropped once the lock is released: the last reference to a socket may be among them.
        let mut held = Vec::new();
        self.forgive(&mut queue, now, &mut held);
        if queue.swept_at.is_none_or(|at| at + SWEEP_EVERY <= now) {
            queue.swept_at = Some(now);
            queue.sweep(&mut held);
        }
        let late = queue.turns.iter().filter(|share| {
            let line = &queue.lines[*share];
            let since = line.waiting.front().map(|(since, _)| *since);
            self.free(&queue, line) > 0
                && since.is_some_and(|at| now.saturating_duration_since(at) >= PATIENCE)
        });
        let spare = queue.idle + queue.starting;
        let wanted = late.count().min(self.ready(&queue).saturating_sub(spare));
        let room = self.limits.threads.saturating_sub(queue.threads);
        let mut started = Ok(());
        for _ in 0..wanted.min(room) {
            started = self.start_thread(&mut queue);
            if started.is_err() {
                break;
            }
        }
        if self.ready(&queue) > 0 {
            // Threads that are idle may not have heard of what became free.
            self.more.notify_all();
        }
        let waits = !queue.turns.is_empty();
        drop(queue);
        drop(held);
        if let Err(error) = started {
            say(format_args!("no further thread for name lookups: {error}"));
        }
        waits
    }

    fn add(
        &'static self,
        queue: &mut Queue,
        share: &Arc<Share>,
        task: Weak<dyn Task>,
        now: Instant,
        room: Option<Room>,
    ) -> Submitted {
        queue.push(share, task, now);
        match room {
            Some(Room::Idle) => {
                self.more.notify_one();
                Submitted::Taken
            }
            Some(Room::Start) => match self.start_thread(queue) {
                Ok(()) => Submitted::Taken,
                Err(_) if queue.threads > 0 => Submitted::Waits,
                Err(error) => {
                    queue.take_back(share);
                    Submitted::Failed(Fault::Io(code(&error)))
                }
            },
            None => Submitted::Waits,
        }
    }

    /// How another task of this share could run at once.
    fn room(
        &self,
        queue: &mut Queue,
        share: &Arc<Share>,
        now: Instant,
        held: &mut Vec<Arc<dyn Task>>,
    ) -> Option<Room> {
        if !self.is_allowed(queue, share) {
            self.forgive(queue, now, held);
            if !self.is_allowed(queue, share) {
                return None;
            }
        }
        let ready = self.ready(queue);
        if queue.idle + queue.starting > ready {
            return Some(Room::Idle);
        }
        let prompt = queue.threads < self.limits.at_once || queue.is_stuck(now);
        (prompt && queue.threads < self.limits.threads).then_some(Room::Start)
    }

    /// Whether the limits allow another task of this share to run now.
    fn is_allowed(&self, queue: &Queue, share: &Arc<Share>) -> bool {
        match queue.lines.get(&key(share)) {
            Some(line) => self.free(queue, line) > line.waiting.len(),
            None => self.most(share) > 0,
        }
    }

    /// How many more tasks of this line may run now.
    fn free(&self, queue: &Queue, line: &Line) -> usize {
        let crowded = queue.running.len() >= self.limits.threads - self.limits.reserved;
        if crowded && line.running > 0 {
            return 0;
        }
        self.most(&line.share).saturating_sub(line.counted)
    }

    /// How many of the tasks that wait may run now.
    fn ready(&self, queue: &Queue) -> usize {
        let lines = queue.turns.iter().map(|share| &queue.lines[share]);
        lines.map(|line| line.waiting.len().min(self.free(queue, line))).sum()
    }

    fn most(&self, share: &Share) -> usize {
        self.limits.per_share.unwrap_or(share.most)
    }

    /// Stops counting tasks that nobody wants and that have run for long.
    fn forgive(&self, queue: &mut Queue, now: Instant, held: &mut Vec<Arc<dyn Task>>) {
        let Queue { running, lines, forgiven, .. } = queue;
        for one in running.iter_mut().filter(|one| !one.forgiven) {
            if *forgiven >= self.limits.threads / 2 {
                return;
            }
            let long = now.saturating_duration_since(one.since) >= FORGIVEN_AFTER;
            if long && !one.task.is_wanted(held) {
                one.forgiven = true;
                *forgiven += 1;
                if let Some(line) = lines.get_mut(&one.share) {
                    line.counted -= 1;
                }
            }
        }
    }

    fn start_thread(&'static self, queue: &mut Queue) -> io::Result<()> {
        thread::Builder::new().name("sockeye-names".to_owned()).spawn(move || self.work())?;
        queue.threads += 1;
        queue.starting += 1;
        Ok(())
    }

    fn work(&self) {
        if let Ok(mark) = ForkMark::new() {
            let _ = IS_WORKER.with(|own| own.set(mark));
        }
        let mut queue = self.lock();
        queue.starting -= 1;
        loop {
            while let Some((serial, task)) = self.next(&mut queue) {
                drop(queue);
                if let Some(task) = task.0.upgrade() {
                    if task.is_wanted() {
                        task.run();
                        if !is_worker() {
                            // A resolver has forked, and its child returned here: the queue is the parent's.
                            return;
                        }
                    }
                }
                queue = self.lock();
                queue.finished(serial);
            }
            queue.idle += 1;
            let (back, timeout) =
                self.more.wait_timeout(queue, IDLE).unwrap_or_else(PoisonError::into_inner);
            queue = back;
            queue.idle -= 1;
            if timeout.timed_out() && self.ready(&queue) == 0 {
                queue.threads -= 1;
                return;
            }
        }
    }

    /// Takes the next task, in turn by share.
    fn next(&self, queue: &mut Queue) -> Option<(u64, Queued)> {
        let place =
            queue.turns.iter().position(|share| self.free(queue, &queue.lines[share]) > 0)?;
        let share = queue.turns.remove(place)?;
        let line = queue.lines.get_mut(&share)?;
        let (_, task) = line.waiting.pop_front()?;
        line.counted += 1;
        line.running += 1;
        if !line.waiting.is_empty() {
            queue.turns.push_back(share);
        }
        queue.serial += 1;
        let serial = queue.serial;
        let running = Queued(Weak::clone(&task.0));
        queue.running.push(Running {
            serial,
            share,
            since: clock::now(),
            task: running,
            forgiven: false,
        });
        Some((serial, task))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, share: &Arc<Share>, task: Weak<dyn Task>, now: Instant) {
        let line = self.lines.entry(key(share)).or_insert_with(|| Line {
            share: Arc::clone(share),
            waiting: VecDeque::new(),
            counted: 0,
            running: 0,
        });
        if line.waiting.is_empty() {
            self.turns.push_back(key(share));
        }
        line.waiting.push_back((now, Queued(task)));
    }

    /// Removes the task that was pushed last.
    fn take_back(&mut self, share: &Arc<Share>) {
        if let Some(line) = self.lines.get_mut(&key(share)) {
            line.waiting.pop_back();
        }
        self.tidy();
    }

    fn finished(&mut self, serial: u64) {
        let Some(place) = self.running.iter().position(|one| one.serial == serial) else { return };
        let Running { share, forgiven, .. } = self.running.swap_remove(place);
        self.forgiven -= usize::from(forgiven);
        if let Some(line) = self.lines.get_mut(&share) {
            line.running -= 1;
            line.counted -= usize::from(!forgiven);
            if line.running == 0 && line.waiting.is_empty() {
                self.lines.remove(&share);
            }
        }
    }

    /// Takes out the tasks that nobody wants any more.
    fn sweep(&mut self, held: &mut Vec<Arc<dyn Task>>) {
        for share in &self.turns {
            if let Some(line) = self.lines.get_mut(share) {
                line.waiting.retain(|(_, task)| task.is_wanted(held));
            }
        }
        self.tidy();
    }

    /// Forgets the shares of which nothing waits or runs.
    fn tidy(&mut self) {
        let lines = &self.lines;
        self.turns.retain(|share| !lines[share].waiting.is_empty());
        self.lines.retain(|_, line| line.running > 0 || !line.waiting.is_empty());
    }

    /// Whether no thread will soon be free.
    fn is_stuck(&self, now: Instant) -> bool {
        let old = |one: &Running| now.saturating_duration_since(one.since) >= PATIENCE;
        self.starting == 0 && self.running.iter().all(old)
    }
}

impl Queued {
    /// What it has to hold for the answer goes to `held`, to be dropped without the lock.
    fn is_wanted(&self, held: &mut Vec<Arc<dyn Task>>) -> bool {
        let Some(task) = self.0.upgrade() else { return false };
        let wanted = task.is_wanted();
        held.push(task);
        wanted
    }
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queued")
    }
}

fn key(share: &Arc<Share>) -> usize {
    Arc::as_ptr(share).addr()
}

#[cfg(all(test, not(sockeye_shuttle)))]
mod tests;
