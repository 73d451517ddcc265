//! What the loop has to log goes to a thread of its own, as a logger is the program's: it may wait, and use sockets.
//!
//! The records of the loop keep their order. Other threads log themselves, so that between theirs and the loop's the
//! order is not kept.

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
}

/// Logs, under no lock, and not on the loop.
pub(super) fn say(level: Level, text: fmt::Arguments<'_>) {
    if level > log::max_level() {
        return;
    }
    if !event_loop::is_this_thread() {
        return write(level, text);
    }
    if let Ok(driver) = Driver::running() {
        driver.logs().add(level, text.to_string());
    }
}

fn write(level: Level, text: fmt::Arguments<'_>) {
    harmless(|| log::log!(target: "sockeye::driver", level, "{text}"));
}

impl Logs {
    pub(super) const fn new() -> Self {
        let records = Records { waiting: VecDeque::new(), lost: 0, attended: false };
        Logs { records: Mutex::new(records), more: Condvar::new() }
    }

    fn add(&'static self, level: Level, text: String) {
        let mut records = self.lock();
        if records.waiting.len() >= RECORDS_MOST {
            records.lost += 1;
            return;
        }
        records.waiting.push_back((level, text));
        if std::mem::replace(&mut records.attended, true) {
            drop(records);
            self.more.notify_one();
            return;
        }
        drop(records);
        let thread = thread::Builder::new().name("sockeye-log".to_owned());
        if thread.spawn(move || self.work()).is_err() {
            // The next record tries again.
            self.lock().attended = false;
        }
    }

    fn work(&self) {
        let mut records = self.lock();
        loop {
            while let Some((level, text)) = records.waiting.pop_front() {
                let lost = std::mem::take(&mut records.lost);
                drop(records);
                write(level, format_args!("{text}"));
                if lost > 0 {
                    write(Level::Debug, format_args!("{lost} records of the event loop were lost"));
                }
                records = self.lock();
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
