//! Creates pollers.

use std::sync::Arc;

use crate::driver::event_loop::{self, LoopHandle};
use crate::driver::poller::PollerInner;
use crate::error::{Error, ErrorKind, Result};

/// Creates a poller, and starts the event loop, which reports to it.
///
/// # Errors
/// `InvalidState` in a child that was forked from a process that used this crate; `Io`.
pub(crate) fn new_poller() -> Result<Arc<PollerInner>> {
    if event_loop::is_forked_child() {
        let message = "cannot create a poller in a forked child";
        return Err(Error::with_message(ErrorKind::InvalidState, message));
    }
    LoopHandle::get().map_err(Error::from_fault)?;
    PollerInner::new()
}
