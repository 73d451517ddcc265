//! What the loop has to log goes to a thread of its own, as a logger is the program's: it may wait, and use sockets.
//!
//! Other threads log on their own, unless records of the loop still wait: then theirs are queued behind them. So the
//! records of a socket are logged in the order of its events.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::PoisonError;
use std::time::Duration;

use log::Level;

use super::sync::{Condvar, Mutex, MutexGuard, thread};
use super::{Driver, event_loop, harmless};

/// The most records that wait. What is logged beyond that is counted and lost.
const RECORDS_MOST: usize = 1024;
/// How long a thread without records stays.
const IDLE: Duration = Duration::from_secs(5);

/// Its lock guards the records, and nothing else is taken under it.
#[derive(Debug)]
pub(super) struct Logs {
    records: Mutex<Records>,
    more: Condvar,
}

#[derive(Debug)]
struct Records {
    waiting: VecDeque<(Level, String)>,
    lost: usize,
    /// There is a thread that logs them.
    attended: bool,
    /// It logs one now, which is no longer in the queue.
    logging: bool,
}

impl Records {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.logging
    }
}

thread_local! {
    /// This is the thread that logs. What its logger logs of sockets is not queued, as it would wait for itself.
    static LOGS: Cell<bool> = const { Cell::new(false) };
}

/// Logs, under no lock, and not on the loop.
pub(super) fn say(level: Level, text: fmt::Arguments<'_>) {
    if level > log::max_level() {
        return;
    }
    let on_loop = event_loop::is_this_thread();
    let queued = match Driver::if_running() {
        Some(driver) if !LOGS.get() => driver.logs().add(level, text, on_loop),
        Some(_) | None => false,
    };
    if !queued && !on_loop {
        write(level, text);
    }
}

fn write(level: Level, text: fmt::Arguments<'_>) {
    harmless(|| log::log!(target: "sockeye::driver", level, "{text}"));
}

impl Logs {
    pub(super) const fn new() -> Self {
        let records =
            Records { waiting: VecDeque::new(), lost: 0, attended: false, logging: false };
        Logs { records: Mutex::new(records), more: Condvar::new() }
    }

    /// Queues a record of the event loop, or of another thread if some wait already. Whether it did.
    fn add(&'static self, level: Level, text: fmt::Arguments<'_>, on_loop: bool) -> bool {
        let mut records = self.lock();
        if !on_loop && records.is_idle() {
            return false;
        }
        if records.waiting.len() >= RECORDS_MOST {
            records.lost += 1;
            return true;
        }
        records.waiting.push_back((level, text.to_string()));
        if std::mem::replace(&mut records.attended, true) {
            drop(records);
            self.more.notify_one();
            return true;
        }
        drop(records);
        let thread = thread::Builder::new().name("sockeye-log".to_owned());
        if thread.spawn(move || self.work()).is_err() {
            // The next record tries again.
            self.lock().attended = false;
        }
        true
    }

    fn work(&self) {
        LOGS.set(true);
        let mut records = self.lock();
        loop {
            while let Some((level, text)) = records.waiting.pop_front() {
                let lost = std::mem::take(&mut records.lost);
                records.logging = true;
                drop(records);
                write(level, format_args!("{text}"));
                if lost > 0 {
                    write(
                        Level::Debug,
                        format_args!("{lost} records were lost: the logger was too slow"),
                    );
                }
                records = self.lock();
                records.logging = false;
            }
            let (back, timeout) =
                self.more.wait_timeout(records, IDLE).unwrap_or_else(PoisonError::into_inner);
            records = back;
            if timeout.timed_out() && records.waiting.is_empty() {
                records.attended = false;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
