//! Logging from the driver. The event loop's records are logged on a separate thread, because a logger is the program's
//! code: it may block and use sockets.
//!
//! Other threads log directly, unless records of the event loop are still queued. In that case their records are queued
//! too. So the records of a socket are logged in the order of its events.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::PoisonError;
use std::time::Duration;

use log::Level;

use super::lock_order::{RankedCondvar, RankedGuard, RankedMutex, rank};
use super::loop_thread::is_loop_thread;
use super::sync::thread;
use crate::panic::catch_panic;
#[cfg(not(sockeye_shuttle))]
use crate::process::PerProcess;

/// The maximum number of queued records. Further records are counted and dropped.
const MAX_RECORDS: usize = 1024;
/// The time after which the idle log thread exits.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// The queue of log records.
///
/// The lock guards the records, and no other lock is taken under it.
#[derive(Debug)]
struct LogQueue {
    records: RankedMutex<Records, { rank::ALONE }>,
    record_added: RankedCondvar,
}

#[derive(Debug)]
struct Records {
    waiting: VecDeque<(Level, String)>,
    dropped: usize,
    /// Whether the log thread runs.
    has_thread: bool,
    /// Whether the log thread is logging a record, which is no longer in the queue.
    logging: bool,
}

impl Records {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.logging
    }
}

thread_local! {
    /// Whether this is the log thread. Records that its logger causes are not queued, because it would wait for itself.
    static IS_LOG_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Logs a record. Must be called under no lock. On the event loop's thread the record is always queued.
pub(crate) fn log_at(level: Level, text: fmt::Arguments<'_>) {
    if level > log::max_level() {
        return;
    }
    let on_loop = is_loop_thread();
    let queued = !IS_LOG_THREAD.get() && LogQueue::get().push(level, text, on_loop);
    if !queued && !on_loop {
        emit(level, text);
    }
}

fn emit(level: Level, text: fmt::Arguments<'_>) {
    catch_panic(|| log::log!(target: "sockeye::driver", level, "{text}"));
}

impl LogQueue {
    /// Returns the queue of this process.
    #[cfg(not(sockeye_shuttle))]
    fn get() -> &'static LogQueue {
        static QUEUE: PerProcess<LogQueue> = PerProcess::new();
        QUEUE.get(|_| LogQueue::new())
    }

    /// Returns the queue of this model run.
    #[cfg(sockeye_shuttle)]
    fn get() -> &'static LogQueue {
        shuttle::lazy_static! {
            static ref QUEUE: LogQueue = LogQueue::new();
        }
        &QUEUE
    }

    const fn new() -> Self {
        let records =
            Records { waiting: VecDeque::new(), dropped: 0, has_thread: false, logging: false };
        LogQueue { records: RankedMutex::new(records), record_added: RankedCondvar::new() }
    }

    /// Queues a record of the event loop, or of another thread if records are already queued. Returns whether it did.
    fn push(&'static self, level: Level, text: fmt::Arguments<'_>, on_loop: bool) -> bool {
        let mut records = self.lock();
        if !on_loop && records.is_idle() {
            return false;
        }
        if records.waiting.len() >= MAX_RECORDS {
            records.dropped += 1;
            return true;
        }
        records.waiting.push_back((level, text.to_string()));
        if std::mem::replace(&mut records.has_thread, true) {
            drop(records);
            self.record_added.notify_one();
            return true;
        }
        drop(records);
        let thread = thread::Builder::new().name("sockeye-log".to_owned());
        if thread.spawn(move || self.run_thread()).is_err() {
            // The next record tries to start the thread again.
            self.lock().has_thread = false;
        }
        true
    }

    fn run_thread(&self) {
        IS_LOG_THREAD.set(true);
        let mut records = self.lock();
        loop {
            while let Some((level, text)) = records.waiting.pop_front() {
                let lost = std::mem::take(&mut records.dropped);
                records.logging = true;
                drop(records);
                emit(level, format_args!("{text}"));
                if lost > 0 {
                    emit(
                        Level::Debug,
                        format_args!("{lost} records were lost: the logger was too slow"),
                    );
                }
                records = self.lock();
                records.logging = false;
            }
            let (back, timeout) = self
                .record_added
                .wait_timeout(records, IDLE_TIMEOUT)
                .unwrap_or_else(PoisonError::into_inner);
            records = back;
            if timeout.timed_out() && records.waiting.is_empty() {
                records.has_thread = false;
                return;
            }
        }
    }

    fn lock(&self) -> RankedGuard<'_, Records, { rank::ALONE }> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs at error level. Must be called under no lock.
pub(crate) fn log_error(text: fmt::Arguments<'_>) {
    log_at(Level::Error, text);
}

/// Logs at debug level. Must be called under no lock, because the logger is the user's code and may use a socket
/// itself.
pub(crate) fn log_debug(text: fmt::Arguments<'_>) {
    log_at(Level::Debug, text);
}
