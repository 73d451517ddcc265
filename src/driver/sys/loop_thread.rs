//! Marks the event loop's thread, which must never wait for another thread.

use std::cell::RefCell;

use super::sync::thread_local;
use crate::error::{Error, ErrorKind, Result};
use crate::process::ForkMark;

thread_local! {
    /// The process that started this thread, if this is the event loop's thread.
    static IS_LOOP_THREAD: RefCell<Option<ForkMark>> = const { RefCell::new(None) };
}

/// Marks the calling thread as the event loop's.
pub(crate) fn mark_loop_thread(mark: ForkMark) {
    IS_LOOP_THREAD.with(|own| *own.borrow_mut() = Some(mark));
}

/// Returns whether the calling thread is the event loop.
pub(crate) fn is_loop_thread() -> bool {
    // In a forked child, the copy of the loop thread is an ordinary thread.
    IS_LOOP_THREAD
        .try_with(|own| own.borrow().as_ref().is_some_and(|mark| !mark.is_forked()))
        .unwrap_or(false)
}

/// Runs `work` as if the calling thread were the event loop.
#[cfg(test)]
pub(crate) fn run_as_loop_thread<R>(work: impl FnOnce() -> R) -> R {
    IS_LOOP_THREAD.set(ForkMark::new().ok());
    let result = work();
    IS_LOOP_THREAD.set(None);
    result
}

/// Fails with `InvalidState` on the event loop's thread. A call that waits there would deadlock.
pub(crate) fn check_may_block() -> Result<()> {
    if is_loop_thread() { Err(would_block_error()) } else { Ok(()) }
}

/// The error of a call that would have to wait on the event loop's thread.
#[cold]
pub(crate) fn would_block_error() -> Error {
    Error::with_message(ErrorKind::InvalidState, "this call would block the event loop")
}
