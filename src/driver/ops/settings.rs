//! Settings that the user can read back or change while the socket lives.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::driver::connection::{CallLimit, Connection};
use crate::driver::sys::errno::os_code;
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::Wire;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::info::Phase;

impl Connection {
    pub(crate) fn timeout(&self, side: Side) -> Option<Duration> {
        self.present_call_limit(side).timeout
    }

    pub(crate) fn deadline(&self, side: Side) -> Option<Instant> {
        self.present_call_limit(side).deadline
    }

    fn present_call_limit(&self, side: Side) -> CallLimit {
        self.try_state().map_or_else(CallLimit::default, |state| state.call_limit(side))
    }

    pub(crate) fn set_nodelay(&self, on: bool) -> Result<()> {
        self.with_wire(|wire| wire.set_nodelay(on))
    }

    pub(crate) fn nodelay(&self) -> Result<bool> {
        self.with_wire(Wire::nodelay)
    }

    /// Makes a system call on the wire, without the lock.
    fn with_wire<R>(&self, call: impl FnOnce(&Wire) -> io::Result<R>) -> Result<R> {
        self.check_process()?;
        let wire = self.established_wire()?;
        call(&wire).map_err(|error| Error::from_fault(Fault::Io(os_code(&error))))
    }

    fn established_wire(&self) -> Result<Arc<Wire>> {
        let state = self.state_soon();
        let message = if state.machine.phase() == Phase::Connecting {
            "the socket is still connecting"
        } else if let Some(wire) = state.wire.cloned() {
            return Ok(wire);
        } else {
            "the socket has no connection any more"
        };
        Err(Error::with_message(ErrorKind::InvalidState, message))
    }
}
