//! The handle of a thread that waits on a condition variable: there is none.

use super::{Arc, Duration, PollResult, Side, Wire, io};
use crate::driver::sys::listen::ListenSocket;

/// A handle that never exists.
#[derive(Debug)]
pub(crate) enum WakeHandle {}

impl WakeHandle {
    pub(crate) fn current() -> Option<Arc<Self>> {
        None
    }

    pub(crate) fn wake(&self) {
        match *self {}
    }

    pub(crate) fn wait(
        &self,
        _wire: &Wire,
        _side: Side,
        _limit: Option<Duration>,
    ) -> io::Result<PollResult> {
        match *self {}
    }

    pub(crate) fn wait_for_connection(
        &self,
        _listener: &ListenSocket,
        _limit: Option<Duration>,
    ) -> io::Result<PollResult> {
        match *self {}
    }
}
