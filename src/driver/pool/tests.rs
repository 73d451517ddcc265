use std::sync::Condvar;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// A task that says its name when it begins and then waits for its gate.
struct Job {
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

impl Task for Job {
    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    fn run(self: Arc<Self>) {
        self.begun.lock().unwrap().send(self.name).unwrap();
        let mut open = self.gate.open.lock().unwrap();
        while !*open {
            open = self.gate.changed.wait(open).unwrap();
        }
    }
}

/// A pool, the gate of its tasks, and the names of those that have begun.
struct Stage {
    pool: &'static Pool,
    gate: Arc<Gate>,
    begin: Sender<&'static str>,
    begun: Receiver<&'static str>,
    jobs: Vec<Arc<Job>>,
    /// When tasks are handed in, however slow the machine is.
    now: Instant,
}

impl Stage {
    fn new(limits: Limits) -> Self {
        let (begin, begun) = channel();
        let pool = Box::leak(Box::new(Pool::new(limits)));
        Stage { pool, gate: Arc::default(), begin, begun, jobs: Vec::new(), now: Instant::now() }
    }

    fn job(&mut self, name: &'static str) -> Weak<Job> {
        let begun = StdMutex::new(self.begin.clone());
        let gate = Arc::clone(&self.gate);
        let job = Arc::new(Job { name, begun, gate, wanted: AtomicBool::new(true) });
        self.jobs.push(Arc::clone(&job));
        Arc::downgrade(&job)
    }

    fn submit(&mut self, share: &Arc<Share>, name: &'static str) -> Submitted {
        let job = self.job(name);
        self.pool.submit(share, job, self.now)
    }

    /// These begin, in any order.
    #[track_caller]
    fn begins(&self, names: &[&str]) {
        let mut begun: Vec<_> =
            names.iter().map(|_| self.begun.recv_timeout(SOON).expect("another begins")).collect();
        begun.sort_unstable();
        assert_eq!(begun, names);
    }

    /// Nothing more begins, however often the loop looks after the pool.
    #[track_caller]
    fn rests(&self) {
        for _ in 0..3 {
            self.pool.tend(later(PATIENCE));
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(self.begun.try_recv().ok(), None);
    }
}

fn later(by: Duration) -> Instant {
    Instant::now() + by
}

fn share(most: usize) -> Arc<Share> {
    Arc::new(Share::new(most))
}

#[test]
fn shares_take_turns() {
    let mut stage = Stage::new(Limits::threads(1));
    let (a, b, c) = (share(9), share(9), share(9));
    assert_eq!(stage.submit(&a, "a1"), Submitted::Taken);
    stage.begins(&["a1"]);
    for name in ["a2", "a3", "a4"] {
        assert_eq!(stage.submit(&a, name), Submitted::Waits);
    }
    stage.submit(&b, "b1");
    stage.submit(&b, "b2");
    stage.submit(&c, "c1");
    stage.rests();
    stage.gate.open();
    for name in ["a2", "b1", "c1", "a3", "b2", "a4"] {
        stage.begins(&[name]);
    }
}

#[test]
fn a_share_whose_tasks_hang_keeps_none_of_another_waiting() {
    let mut stage = Stage::new(Limits::threads(16));
    let (hung, other) = (share(3), share(3));
    for name in ["h1", "h2", "h3", "h4", "h5"] {
        stage.submit(&hung, name);
    }
    stage.begins(&["h1", "h2"]);
    assert!(stage.pool.tend(later(PATIENCE)));
    stage.begins(&["h3"]);
    stage.rests();
    // Every thread is taken by what has run for long.
    let job = stage.job("o1");
    assert_eq!(stage.pool.submit(&other, job, later(PATIENCE)), Submitted::Taken);
    stage.begins(&["o1"]);
    stage.gate.open();
    stage.begins(&["h4", "h5"]);
}

#[test]
fn threads_are_started_only_when_the_others_hang() {
    let mut stage = Stage::new(Limits::threads(16));
    let share = share(16);
    assert_eq!(stage.submit(&share, "1"), Submitted::Taken);
    assert_eq!(stage.submit(&share, "2"), Submitted::Taken);
    assert_eq!(stage.submit(&share, "3"), Submitted::Waits);
    stage.begins(&["1", "2"]);
    assert_eq!(stage.pool.lock().threads, THREADS_AT_ONCE);
    assert!(!stage.pool.tend(later(PATIENCE)) || stage.pool.lock().threads == 3);
    stage.begins(&["3"]);
    stage.gate.open();
}

#[test]
fn what_nobody_wants_is_neither_begun_nor_kept() {
    let mut stage = Stage::new(Limits::threads(1));
    let share = share(1);
    stage.submit(&share, "1");
    stage.begins(&["1"]);
    for name in ["2", "3", "4"] {
        stage.submit(&share, name);
    }
    stage.jobs[1].wanted.store(false, Ordering::SeqCst);
    stage.jobs.remove(2);
    assert!(stage.pool.tend(later(PATIENCE)));
    assert_eq!(stage.pool.lock().lines[&key(&share)].waiting.len(), 1);
    stage.jobs[2].wanted.store(false, Ordering::SeqCst);
    stage.gate.open();
    stage.rests();
    assert!(stage.pool.lock().lines.is_empty(), "nothing is kept of a share without tasks");
}

#[test]
fn an_unwanted_task_that_hangs_stops_counting_after_a_while() {
    let mut stage = Stage::new(Limits::threads(16));
    let share = share(1);
    stage.submit(&share, "1");
    stage.begins(&["1"]);
    stage.submit(&share, "2");
    stage.pool.tend(later(FORGIVEN_AFTER));
    stage.rests();
    stage.jobs[0].wanted.store(false, Ordering::SeqCst);
    stage.pool.tend(later(FORGIVEN_AFTER - Duration::from_secs(1)));
    stage.rests();
    stage.pool.tend(later(FORGIVEN_AFTER));
    stage.begins(&["2"]);
    // One that is handed in later need not wait for the loop.
    stage.jobs[1].wanted.store(false, Ordering::SeqCst);
    let job = stage.job("3");
    assert_eq!(stage.pool.submit(&share, job, later(FORGIVEN_AFTER)), Submitted::Taken);
    stage.begins(&["3"]);
    assert_eq!(stage.pool.lock().forgiven, 2);
    stage.gate.open();
    while !stage.pool.lock().running.is_empty() {
        thread::yield_now();
    }
    let queue = stage.pool.lock();
    assert_eq!((queue.forgiven, queue.lines.len()), (0, 0));
}

#[test]
fn one_share_never_has_the_whole_pool() {
    let mut stage = Stage::new(Limits { at_once: 8, ..Limits::threads(8) });
    let (greedy, other) = (share(100), share(100));
    for _ in 0..20 {
        stage.submit(&greedy, "g");
    }
    stage.begins(&["g"; 6]);
    stage.rests();
    // Half of the threads at most are written off.
    for job in &stage.jobs {
        job.wanted.store(false, Ordering::SeqCst);
    }
    stage.pool.tend(later(FORGIVEN_AFTER));
    assert_eq!(stage.pool.lock().forgiven, 4);
    stage.rests();
    assert_eq!(stage.submit(&other, "o"), Submitted::Taken);
    stage.begins(&["o"]);
    stage.submit(&other, "o");
    stage.rests();
    stage.gate.open();
}

#[test]
fn what_must_not_wait_is_given_back_when_all_threads_are_taken() {
    let mut stage = Stage::new(Limits { threads: 4, reserved: 0, per_share: Some(4), at_once: 4 });
    let one = share(1);
    for share in [&one, &one, &one, &share(1)] {
        let job = stage.job("n");
        let submitted = stage.pool.submit_now(share, job, Instant::now());
        assert_eq!(submitted.ok(), Some(Submitted::Taken));
    }
    stage.begins(&["n"; 4]);
    let job = stage.job("too many");
    assert!(stage.pool.submit_now(&share(1), job, Instant::now()).is_err());
    stage.gate.open();
}
