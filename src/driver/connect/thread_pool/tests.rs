//! Tests of the thread pool: fair quotas, starting and stopping threads, and written-off tasks.

use std::sync::Condvar;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

const WATCHDOG: Duration = Duration::from_secs(10);

/// A task that reports its name when it starts and then waits for its gate.
struct TestTask {
    name: &'static str,
    begun: StdMutex<Sender<&'static str>>,
    gate: Arc<Gate>,
    wanted: AtomicBool,
}

#[derive(Default)]
struct Gate {
    open: StdMutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

impl Task for TestTask {
    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    fn run(self: Arc<Self>) {
        if !self.is_wanted() {
            return;
        }
        self.begun.lock().unwrap().send(self.name).unwrap();
        let mut open = self.gate.open.lock().unwrap();
        while !*open {
            open = self.gate.changed.wait(open).unwrap();
        }
    }
}

/// A pool, the gate of its tasks, and the names of started tasks.
struct PoolTest {
    pool: &'static ThreadPool,
    gate: Arc<Gate>,
    begin: Sender<&'static str>,
    begun: Receiver<&'static str>,
    tasks: Vec<Arc<TestTask>>,
    /// The time at which tasks are submitted. It is fixed, so that a slow machine does not matter.
    now: Instant,
}

impl PoolTest {
    fn new(limits: Limits) -> Self {
        let (begin, begun) = channel();
        let pool = Box::leak(Box::new(ThreadPool::new(limits)));
        PoolTest {
            pool,
            gate: Arc::default(),
            begin,
            begun,
            tasks: Vec::new(),
            now: Instant::now(),
        }
    }

    fn task(&mut self, name: &'static str) -> Weak<TestTask> {
        let begun = StdMutex::new(self.begin.clone());
        let gate = Arc::clone(&self.gate);
        let task = Arc::new(TestTask { name, begun, gate, wanted: AtomicBool::new(true) });
        self.tasks.push(Arc::clone(&task));
        Arc::downgrade(&task)
    }

    fn submit(&mut self, quota: &Arc<LookupQuota>, name: &'static str) -> SubmitResult {
        let task = self.task(name);
        self.pool.submit(quota, task, self.now)
    }

    /// Checks that these tasks start, in any order.
    #[track_caller]
    fn assert_started(&self, names: &[&str]) {
        let mut begun: Vec<_> = names
            .iter()
            .map(|_| self.begun.recv_timeout(WATCHDOG).expect("another task starts"))
            .collect();
        begun.sort_unstable();
        assert_eq!(begun, names);
    }

    /// Checks that no other task starts, even if the event loop polls the pool.
    #[track_caller]
    fn assert_idle(&self) {
        for _ in 0..3 {
            self.pool.spawn_if_stalled(later(SPAWN_DELAY));
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(self.begun.try_recv().ok(), None);
    }
}

fn later(by: Duration) -> Instant {
    Instant::now() + by
}

fn quota(max: usize) -> Arc<LookupQuota> {
    Arc::new(LookupQuota::new(max))
}

#[test]
fn quotas_take_turns() {
    let mut test = PoolTest::new(Limits::threads(1));
    let (a, b, c) = (quota(9), quota(9), quota(9));
    assert_eq!(test.submit(&a, "a1"), SubmitResult::Started);
    test.assert_started(&["a1"]);
    for name in ["a2", "a3", "a4"] {
        assert_eq!(test.submit(&a, name), SubmitResult::Queued);
    }
    test.submit(&b, "b1");
    test.submit(&b, "b2");
    test.submit(&c, "c1");
    test.assert_idle();
    test.gate.open();
    for name in ["a2", "b1", "c1", "a3", "b2", "a4"] {
        test.assert_started(&[name]);
    }
}

#[test]
fn hanging_tasks_of_one_quota_do_not_delay_another_quota() {
    let mut test = PoolTest::new(Limits::threads(16));
    let (hung, other) = (quota(3), quota(3));
    for name in ["h1", "h2", "h3", "h4", "h5"] {
        test.submit(&hung, name);
    }
    test.assert_started(&["h1", "h2"]);
    assert!(test.pool.spawn_if_stalled(later(SPAWN_DELAY)));
    test.assert_started(&["h3"]);
    test.assert_idle();
    // Every thread runs a task that has run for SPAWN_DELAY.
    let task = test.task("o1");
    assert_eq!(test.pool.submit(&other, task, later(SPAWN_DELAY)), SubmitResult::Started);
    test.assert_started(&["o1"]);
    test.gate.open();
    test.assert_started(&["h4", "h5"]);
}

#[test]
fn further_threads_start_only_if_the_others_hang() {
    let mut test = PoolTest::new(Limits::threads(16));
    let quota = quota(16);
    assert_eq!(test.submit(&quota, "1"), SubmitResult::Started);
    assert_eq!(test.submit(&quota, "2"), SubmitResult::Started);
    assert_eq!(test.submit(&quota, "3"), SubmitResult::Queued);
    test.assert_started(&["1", "2"]);
    assert_eq!(test.pool.lock().threads, CORE_THREADS);
    assert!(!test.pool.spawn_if_stalled(later(SPAWN_DELAY)) || test.pool.lock().threads == 3);
    test.assert_started(&["3"]);
    test.gate.open();
}

#[test]
fn unwanted_tasks_are_neither_started_nor_kept() {
    let mut test = PoolTest::new(Limits::threads(1));
    let quota = quota(1);
    test.submit(&quota, "1");
    test.assert_started(&["1"]);
    for name in ["2", "3", "4"] {
        test.submit(&quota, name);
    }
    test.tasks[1].wanted.store(false, Ordering::SeqCst);
    test.tasks.remove(2);
    assert!(test.pool.spawn_if_stalled(later(SPAWN_DELAY)));
    assert_eq!(test.pool.lock().quotas[&key(&quota)].waiting.len(), 1);
    test.tasks[2].wanted.store(false, Ordering::SeqCst);
    test.gate.open();
    test.assert_idle();
    assert!(test.pool.lock().quotas.is_empty(), "the pool must forget a quota without tasks");
}

#[test]
fn an_unwanted_task_that_hangs_is_written_off() {
    let mut test = PoolTest::new(Limits::threads(16));
    let quota = quota(1);
    test.submit(&quota, "1");
    test.assert_started(&["1"]);
    test.submit(&quota, "2");
    test.pool.spawn_if_stalled(later(WRITE_OFF_AFTER));
    test.assert_idle();
    test.tasks[0].wanted.store(false, Ordering::SeqCst);
    test.pool.spawn_if_stalled(later(WRITE_OFF_AFTER - Duration::from_secs(1)));
    test.assert_idle();
    test.pool.spawn_if_stalled(later(WRITE_OFF_AFTER));
    test.assert_started(&["2"]);
    // A task that is submitted later does not wait for the event loop.
    test.tasks[1].wanted.store(false, Ordering::SeqCst);
    let task = test.task("3");
    assert_eq!(test.pool.submit(&quota, task, later(WRITE_OFF_AFTER)), SubmitResult::Started);
    test.assert_started(&["3"]);
    assert_eq!(test.pool.lock().written_off, 2);
    test.gate.open();
    while !test.pool.lock().running.is_empty() {
        thread::yield_now();
    }
    let queue = test.pool.lock();
    assert_eq!((queue.written_off, queue.quotas.len()), (0, 0));
}

#[test]
fn one_quota_never_takes_the_whole_pool() {
    let mut test = PoolTest::new(Limits { core_threads: 8, ..Limits::threads(8) });
    let (greedy, other) = (quota(100), quota(100));
    for _ in 0..20 {
        test.submit(&greedy, "g");
    }
    test.assert_started(&["g"; 6]);
    test.assert_idle();
    // At most half of the threads are written off.
    for task in &test.tasks {
        task.wanted.store(false, Ordering::SeqCst);
    }
    test.pool.spawn_if_stalled(later(WRITE_OFF_AFTER));
    assert_eq!(test.pool.lock().written_off, 4);
    test.assert_idle();
    assert_eq!(test.submit(&other, "o"), SubmitResult::Started);
    test.assert_started(&["o"]);
    test.submit(&other, "o");
    test.assert_idle();
    test.gate.open();
}

#[test]
fn submit_now_returns_the_task_if_all_threads_are_busy() {
    let mut test =
        PoolTest::new(Limits { threads: 4, reserved: 0, per_quota: Some(4), core_threads: 4 });
    let one = quota(1);
    for quota in [&one, &one, &one, &quota(1)] {
        let task = test.task("n");
        let submitted = test.pool.submit_now(quota, task, Instant::now());
        assert_eq!(submitted.ok(), Some(SubmitResult::Started));
    }
    test.assert_started(&["n"; 4]);
    let task = test.task("too many");
    assert!(test.pool.submit_now(&quota(1), task, Instant::now()).is_err());
    test.gate.open();
}
